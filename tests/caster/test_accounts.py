"""People and rights: logins are right, cheap when repeated, bounded, and take effect at once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from caster import accounts
from caster.accounts import Account, AccountStore, Authenticator
from caster.codec.ntrip import Credentials
from caster.config import AccountsConfig
from caster.errors import ConfigError, RefusedError
from tests.caster.conftest import quick_hash


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[AccountStore]:
    store = AccountStore(f"sqlite+aiosqlite:///{tmp_path / 'a.sqlite3'}")
    await store.open()
    yield store
    await store.close()


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that argon2 was asked about."""
    asked: list[str] = []
    verify = accounts._verify

    def counting(password_hash: str, password: str) -> bool:
        asked.append(password)
        return verify(password_hash, password)

    monkeypatch.setattr(accounts, "_verify", counting)
    return asked


def authenticator(store: AccountStore, clock: Clock | None = None, **config: object) -> Authenticator:
    return Authenticator(store, AccountsConfig(**config), clock or Clock())  # type: ignore[arg-type]


async def refused(attempt: object) -> int:
    with pytest.raises(RefusedError) as caught:
        await attempt  # type: ignore[misc]
    return caught.value.status


async def test_a_storm_of_reconnections_verifies_a_password_once(store: AccountStore, verified: list[str]) -> None:
    await store.add(Account("u", "rover", quick_hash("p:w")))
    logins = authenticator(store)
    await asyncio.gather(*(logins.login(Credentials("u", "p:w")) for _ in range(200)))
    for _ in range(200):
        assert (await logins.login(Credentials("u", "p:w"))).name == "u"
    assert verified == ["p:w"]
    await logins.close()


async def test_a_storm_of_wrong_passwords_is_remembered_for_a_while(store: AccountStore, verified: list[str]) -> None:
    await store.add(Account("u", "rover", quick_hash("right")))
    clock = Clock()
    logins = authenticator(store, clock)
    for _ in range(50):
        assert await refused(logins.login(Credentials("u", "wrong"))) == 401
    assert verified == ["wrong"]
    clock.now = 11.0
    await refused(logins.login(Credentials("u", "wrong")))
    assert verified == ["wrong"] * 2
    await logins.close()


async def test_an_unknown_name_costs_a_verification_too(store: AccountStore, verified: list[str]) -> None:
    logins = authenticator(store)
    assert await refused(logins.login(Credentials("nobody", "x"))) == 401
    assert verified == ["x"]
    assert await refused(logins.login(None)) == 401
    assert await refused(logins.login(Credentials("nobody", "x" * 1000))) == 401
    assert verified == ["x"]
    await logins.close()


async def test_a_change_by_the_command_counts_within_the_refresh_time(store: AccountStore) -> None:
    await store.add(Account("u", "rover", quick_hash("old")))
    clock = Clock()
    logins = authenticator(store, clock, refresh_s=2.0)
    await logins.login(Credentials("u", "old"))
    await store.change("u", password_hash=quick_hash("new"))
    clock.now = 2.5
    assert await refused(logins.login(Credentials("u", "old"))) == 401
    await logins.login(Credentials("u", "new"))
    await store.change("u", disabled=True)
    logins.forget()
    assert await refused(logins.login(Credentials("u", "new"))) == 403
    await store.change("u", disabled=False, expires=datetime.now(UTC) - timedelta(days=1))
    logins.forget()
    assert await refused(logins.login(Credentials("u", "new"))) == 403
    await logins.close()


async def test_what_is_remembered_is_bounded(store: AccountStore) -> None:
    logins = authenticator(store, verified_count=3)
    for n in range(10):
        await refused(logins.login(Credentials(f"n{n}", "x")))
    assert len(logins._known) <= 3 and len(logins._verified) <= 3
    await logins.close()


async def test_a_lone_password_is_compared_with_the_narrowest_patterns_first(
    store: AccountStore, verified: list[str]
) -> None:
    for name, mounts, password in (("all", "*", "a"), ("ab", "AB*", "b"), ("ab1", "X,AB1", "c"), ("no", "Z*", "d")):
        await store.add(Account(name, "station", quick_hash(password), mounts))
    await store.add(Account("rover", "rover", quick_hash("e")))
    logins = authenticator(store)
    assert (await logins.login_source("AB1", "c")).name == "ab1"
    assert verified == ["c"]
    assert (await logins.login_source("AB1", "a")).name == "all"
    for wrong in ("d", "e"):
        assert await refused(logins.login_source("AB1", wrong)) == 401
    assert (await logins.login_source("AB1", "ab:b")).name == "ab"
    await logins.close()


async def test_a_lone_password_costs_a_bounded_number_of_verifications(
    store: AccountStore, verified: list[str]
) -> None:
    for n in range(6):
        await store.add(Account(f"s{n}", "station", accounts.hash_password("right")))
    logins = authenticator(store, source_candidates=3)
    assert await refused(logins.login_source("M", "wrong")) == 401
    assert len(verified) == 3
    await logins.close()


async def test_two_processes_share_the_database(store: AccountStore) -> None:
    other = AccountStore(store._url)
    await other.open()
    await other.add(Account("u", "operator", quick_hash("p")))
    assert [account.name for account in await store.all()] == ["u"]
    await other.close()


@pytest.mark.parametrize("url", ["nonsense", "sqlite+aiosqlite:////no/such/folder/a.sqlite3", "oracle+none://x"])
async def test_a_database_that_cannot_be_opened_is_named(url: str) -> None:
    with pytest.raises(ConfigError):
        broken = AccountStore(url)
        try:
            await broken.open()
        finally:
            await broken.close()


def test_roles_and_patterns() -> None:
    station = Account("s", "station", "", "AB?,C*")
    assert [station.may_feed(name) for name in ("AB1", "AB12", "CX", "D")] == [True, False, True, False]
    assert not Account("r", "rover", "").may_feed("AB1")
    assert Account("o", "operator", "", "X").may_feed("anything")


async def test_a_thousand_logins_at_once_ask_for_an_account_once(tmp_path: Path) -> None:
    asked: list[str] = []

    class Counting(AccountStore):
        async def get(self, name: str) -> Account | None:
            asked.append(name)
            return await super().get(name)

        async def stations(self) -> list[Account]:
            asked.append("all stations")
            return await super().stations()

    store = Counting(f"sqlite+aiosqlite:///{tmp_path / 'accounts.sqlite3'}")
    await store.open()
    await store.add(Account("rover", "rover", quick_hash("one")))
    await store.add(Account("base", "station", quick_hash("two")))
    authenticator = Authenticator(store, AccountsConfig(), asyncio.get_running_loop().time)
    try:
        credentials = Credentials("rover", "one")
        rovers = await asyncio.gather(*(authenticator.login(credentials) for _ in range(1000)))
        bases = await asyncio.gather(*(authenticator.login_source("MOUNT", "two") for _ in range(1000)))
    finally:
        await authenticator.close()
        await store.close()
    assert {account.name for account in rovers} == {"rover"}
    assert {account.name for account in bases} == {"base"}
    assert asked == ["rover", "all stations"]


async def test_the_end_waits_for_what_the_database_has_been_asked(tmp_path: Path) -> None:
    """A question cut off leaves the driver's thread with an answer for a loop that is closed."""
    answering = asyncio.Event()
    answered = []

    class Slow(AccountStore):
        async def get(self, name: str) -> Account | None:
            await answering.wait()
            answered.append(name)
            return await super().get(name)

    store = Slow(f"sqlite+aiosqlite:///{tmp_path / 'accounts.sqlite3'}")
    await store.open()
    authenticator = Authenticator(store, AccountsConfig(), asyncio.get_running_loop().time)
    login = asyncio.create_task(authenticator.login(Credentials("rover", "one")))
    await asyncio.sleep(0)
    login.cancel()
    asyncio.get_running_loop().call_soon(answering.set)
    await authenticator.close()
    await store.close()
    assert answered == ["rover"] and login.cancelled()
