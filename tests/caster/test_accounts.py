"""Accounts in the database: kept as they were given, on every kind of database."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from caster.accounts import Account, AccountStore, Group, GroupStore
from caster.app import Caster
from caster.database import Database
from caster.errors import DipperError
from tests.caster.conftest import quick_hash, service_config


async def test_an_account_comes_back_as_it_was_given(database: Database) -> None:
    store = AccountStore(database)
    expires, created = datetime(2031, 1, 31, 23, 59, 59, tzinfo=UTC), datetime(2026, 5, 4, 3, 2, 1, 999, tzinfo=UTC)
    account = Account("Zoë 你好", "station", quick_hash("p"), "AB*,C", 3, expires, created=created)
    await store.add(account)
    assert await store.get(account.name) == account
    await store.change(account.name, disabled=True, expires=None)
    changed = await store.get(account.name)
    assert changed is not None and changed.disabled and changed.expires is None
    await store.remove(account.name)
    assert await store.all() == []


async def test_accounts_that_are_not_there_or_there_already_are_named(database: Database) -> None:
    store = AccountStore(database)
    await store.add(Account("a", "rover", ""))
    with pytest.raises(DipperError, match="there is an account a already"):
        await store.add(Account("a", "rover", ""))
    for change in (store.remove("b"), store.change("b", disabled=True)):
        with pytest.raises(DipperError, match="there is no account b"):
            await change
    assert await store.get("b") is None


async def test_two_processes_share_the_database(database: Database, database_url: str) -> None:
    other = Database(database_url)
    await other.open()
    await AccountStore(other).add(Account("u", "operator", quick_hash("p")))
    assert [account.name for account in await AccountStore(database).all()] == ["u"]
    assert [account.name for account in await AccountStore(database).stations()] == ["u"]
    await other.close()


def test_roles_and_patterns() -> None:
    station = Account("s", "station", "", "AB?,C*")
    assert [station.may_feed(name) for name in ("AB1", "AB12", "CX", "D")] == [True, False, True, False]
    assert not Account("r", "rover", "").may_feed("AB1")
    assert Account("o", "operator", "", "X").may_feed("anything")


async def test_members_of_a_group_come_with_its_quotas(database: Database) -> None:
    store, groups = AccountStore(database), GroupStore(database)
    group = Group("surveyors", 5, 10**12, 3 * 10**13)
    await groups.put(group)
    await store.add(Account("a", "rover", "", group=group))
    assert (await store.all())[0].group == group
    await groups.put(Group("surveyors", 6))
    changed = await store.get("a")
    assert changed is not None and changed.group == Group("surveyors", 6)
    await groups.remove("surveyors")
    left = await store.get("a")
    assert left is not None and left.group is None and await groups.all() == []
    for change in (groups.get("surveyors"), groups.remove("surveyors")):
        with pytest.raises(DipperError, match="there is no group surveyors"):
            await change


async def test_a_service_without_an_operator_makes_one_once_whoever_was_there_before(tmp_path: Path) -> None:
    config = service_config(tmp_path)
    database = Database(config.database_url)
    await database.open()
    await AccountStore(database).add(Account("base", "station", quick_hash("p")))
    await database.close()
    async with Caster(config) as caster:
        assert caster.first_password
    async with Caster(config) as caster:
        assert caster.first_password == ""
        await caster.store.change("operator", role="rover")
    async with Caster(config) as caster:
        assert caster.first_password == ""
