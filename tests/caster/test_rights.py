"""Open sessions end once their account may no longer have them, and only then."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from structlog.testing import capture_logs

from caster.accounts import Account, AccountStore, Group, GroupStore
from caster.codec.ntrip import Credentials, get_request
from caster.database import Database
from caster.rights import RightsWatch
from tests.caster.conftest import ROVER, Peer, Service, StartService

NOW = datetime(2026, 5, 15, 8, tzinfo=UTC)
GROUP = Group("surveyors", max_sessions=2, day_bytes=1000)


class Session:
    """A session as the watch sees it."""

    def __init__(self, account: Account, covers: bool = True) -> None:
        self.holder: Account | None = account
        self.reason = ""
        self._covers = covers

    def change_holder(self, account: Account) -> None:
        self.holder = account

    def may_go_on(self, account: Account) -> bool:
        return self._covers

    def end(self, reason: str) -> None:
        self.holder, self.reason = None, reason


class Time:
    moment = NOW

    def __call__(self) -> datetime:
        return self.moment


async def watched(database: Database, *names: str) -> tuple[AccountStore, list[Session], RightsWatch, Time]:
    """A watch over one session of each account, which has looked once."""
    store, time = AccountStore(database), Time()
    for name in names:
        await store.add(Account(name, "rover", "$hash"))
    sessions = [Session(account) for account in await store.all()]
    watch = RightsWatch(store, lambda: sessions, now=time)
    await watch.look()
    return store, sessions, watch, time


async def test_a_removed_and_a_disabled_account_lose_their_sessions_and_nobody_else(database: Database) -> None:
    store, sessions, watch, _ = await watched(database, "a", "b", "c")
    await store.remove("a")
    await store.change("b", disabled=True)
    await watch.look()
    assert [session.reason for session in sessions] == [
        "account closed: the account a was removed",
        "account closed: the account b is disabled",
        "",
    ]


async def test_an_account_expires_without_any_change(database: Database) -> None:
    store, sessions, watch, time = await watched(database, "a")
    await store.change("a", expires=datetime(2026, 5, 16, tzinfo=UTC))
    await watch.look()
    assert sessions[0].reason == ""
    time.moment = datetime(2026, 5, 16, tzinfo=UTC)
    await watch.look()
    assert sessions[0].reason == "account closed: the account a expired on 2026-05-16"


async def test_a_session_that_its_account_covers_no_longer_ends(database: Database) -> None:
    store, sessions, watch, _ = await watched(database, "a", "b")
    sessions[0]._covers = False
    for name in ("a", "b"):
        await store.change(name, mounts="OTHER*")
    await watch.look()
    assert [session.reason for session in sessions] == ["account closed: the account a covers this no longer", ""]


async def test_open_sessions_get_other_limits_and_keep_on_after_a_new_password(database: Database) -> None:
    store, sessions, watch, _ = await watched(database, "a")
    groups = GroupStore(database)
    await groups.put(GROUP)
    await store.change("a", group_name=GROUP.name, password_hash="$other")
    await watch.look()
    assert sessions[0].holder is not None and sessions[0].holder.group == GROUP and not sessions[0].reason
    await groups.put(replace(GROUP, day_bytes=5))
    await watch.look()
    assert sessions[0].holder.group == replace(GROUP, day_bytes=5)
    await groups.remove(GROUP.name)
    await watch.look()
    assert sessions[0].holder.group is None


async def test_accounts_are_read_only_after_a_change(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    store, _, watch, _ = await watched(database, "a")
    asked = list[Any]()
    some = store.some
    monkeypatch.setattr(store, "some", lambda names: asked.append(names) or some(names))
    await watch.look()
    assert asked == []
    await store.change("a", max_sessions=3)
    for _ in range(2):
        await watch.look()
    assert asked == [{"a"}]


async def test_more_accounts_than_one_question_takes_are_read(database: Database) -> None:
    store, sessions, watch, _ = await watched(database, *(f"a{number:03}" for number in range(450)))
    await store.change("a449", disabled=True)
    await watch.look()
    assert [session.reason for session in sessions if session.reason] == [
        "account closed: the account a449 is disabled"
    ]


async def test_everybody_stays_while_the_database_is_away(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    store, sessions, watch, _ = await watched(database, "a")
    looks, enough = list[int](), asyncio.Event()

    async def fail() -> int:
        looks.append(1)
        if len(looks) == 3:
            enough.set()
        raise OSError("the database is away")

    monkeypatch.setattr(store, "errors", (OSError,))
    monkeypatch.setattr(store, "changes", fail)
    with capture_logs() as logs:
        task = asyncio.create_task(watch.run(0.001))
        await asyncio.wait_for(enough.wait(), 10.0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert [log["event"] for log in logs] == ["changes of accounts cannot be read"]
    assert sessions[0].reason == ""


async def rover_of(service: Service, who: Credentials = ROVER) -> Peer:
    rover = await service.connect(get_request("M", "caster", version=1, credentials=who))
    assert await rover.until(b"\r\n\r\n") == b"ICY 200 OK\r\n\r\n"
    return rover


async def test_a_running_service_ends_the_sessions_of_an_account_that_is_disabled_or_removed(
    start: StartService,
) -> None:
    service = await start()
    source = await service.feed()
    rover = await rover_of(service)
    await service.caster.store.change("rover", disabled=True)
    assert await rover.all() == b""
    await service.ended("rover", "account closed")
    assert not service.caster.authenticator._sessions["rover"]
    await service.caster.store.remove("base")
    assert await source.all() == b""
    await service.ended("source", "account closed")


async def test_a_base_station_that_may_no_longer_feed_its_mountpoint_is_sent_away(start: StartService) -> None:
    service = await start()
    source = await service.feed()
    await service.caster.store.change("base", role="rover")
    assert await source.all() == b""
    await service.ended("source", "account closed")


async def test_a_group_that_is_joined_counts_the_sessions_that_are_open(start: StartService) -> None:
    service = await start()
    await service.feed()
    rover = await rover_of(service)
    await GroupStore(service.caster.database).put(Group("pair", max_sessions=1))
    await service.caster.store.change("rover", group_name="pair")
    await service.wait(lambda: service.caster.authenticator._sessions["group", "pair"] == 1)
    answer = await service.ask(get_request("M", "caster", version=2, credentials=ROVER))
    assert b"the group pair has 1 sessions, its limit" in answer
    await rover.close()
    await service.caster.store.change("rover", group_name=None)
    await service.wait(lambda: not service.caster.authenticator._sessions["group", "pair"])
