"""Logins are right, cheap when repeated, bounded, and take effect at once."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from caster import logins as logins_module
from caster.accounts import Account, AccountStore, hash_password
from caster.codec.ntrip import Credentials
from caster.config import AccountsConfig
from caster.database import Database
from caster.errors import RefusedError
from caster.logins import Authenticator
from tests.caster.conftest import quick_hash


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[AccountStore]:
    database = Database(f"sqlite:///{tmp_path / 'a.sqlite3'}")
    await database.open()
    yield AccountStore(database)
    await database.close()


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The passwords that argon2 was asked about."""
    asked: list[str] = []
    verify = logins_module.verify_password

    def counting(password_hash: str, password: str) -> bool:
        asked.append(password)
        return verify(password_hash, password)

    monkeypatch.setattr(logins_module, "verify_password", counting)
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
        await store.add(Account(f"s{n}", "station", hash_password("right")))
    logins = authenticator(store, source_candidates=3)
    assert await refused(logins.login_source("M", "wrong")) == 401
    assert len(verified) == 3
    await logins.close()


async def test_a_thousand_logins_at_once_ask_for_an_account_once(store: AccountStore) -> None:
    asked: list[str] = []

    class Counting(AccountStore):
        async def get(self, name: str) -> Account | None:
            asked.append(name)
            return await super().get(name)

        async def stations(self) -> list[Account]:
            asked.append("all stations")
            return await super().stations()

    counting = Counting(store._database)
    await store.add(Account("rover", "rover", quick_hash("one")))
    await store.add(Account("base", "station", quick_hash("two")))
    authenticator = Authenticator(counting, AccountsConfig(), asyncio.get_running_loop().time)
    try:
        credentials = Credentials("rover", "one")
        rovers = await asyncio.gather(*(authenticator.login(credentials) for _ in range(1000)))
        bases = await asyncio.gather(*(authenticator.login_source("MOUNT", "two") for _ in range(1000)))
    finally:
        await authenticator.close()
    assert {account.name for account in rovers} == {"rover"}
    assert {account.name for account in bases} == {"base"}
    assert asked == ["rover", "all stations"]


async def test_who_is_known_is_let_in_while_the_database_is_away(store: AccountStore) -> None:
    class Away(AccountStore):
        is_away = False

        async def get(self, name: str) -> Account | None:
            if self.is_away:
                raise OSError("no route to host")
            return await super().get(name)

        async def stations(self) -> list[Account]:
            if self.is_away:
                raise OSError("no route to host")
            return await super().stations()

    away, clock = Away(store._database), Clock()
    await store.add(Account("base", "station", quick_hash("p")))
    logins = authenticator(away, clock)
    await logins.login_source("M", "p")
    await logins.login(Credentials("base", "p"))
    away.is_away = True
    clock.now = 1000.0
    assert (await logins.login(Credentials("base", "p"))).name == "base"
    assert (await logins.login_source("M", "p")).name == "base"
    assert await refused(logins.login(Credentials("nobody", "p"))) == 503
    await logins.close()


async def test_the_end_waits_for_what_the_database_has_been_asked(store: AccountStore) -> None:
    """A question cut off leaves the driver's thread with an answer for a loop that is closed."""
    answering = asyncio.Event()
    answered = []

    class Slow(AccountStore):
        async def get(self, name: str) -> Account | None:
            await answering.wait()
            answered.append(name)
            return await super().get(name)

    authenticator = Authenticator(Slow(store._database), AccountsConfig(), asyncio.get_running_loop().time)
    login = asyncio.create_task(authenticator.login(Credentials("rover", "one")))
    await asyncio.sleep(0)
    login.cancel()
    asyncio.get_running_loop().call_soon(answering.set)
    await authenticator.close()
    assert answered == ["rover"] and login.cancelled()


async def test_a_name_that_no_account_can_have_is_refused_like_any_other(database: Database) -> None:
    logins = authenticator(AccountStore(database))
    for name in ("\0", "a\0b", "\x80" * 500, "x" * 300):
        assert await refused(logins.login(Credentials(name, "x"))) == 401
    await logins.close()
