"""Usage: what sessions did is written whole and once, quotas hold, and a database that is away loses nothing."""

from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from caster.accounts import Account, AccountStore, Group, GroupStore
from caster.codec.ntrip import get_request, parse_gga
from caster.config import UsageConfig
from caster.database import Database
from caster.usage import SessionState, UsageRecorder, UsageStore
from tests.caster.conftest import ROVER, Service, StartService, frame

GGA = b"$GPGGA,092725.00,4717.11399,N,00833.91590,E,4,08,1.01,499.6,M,48.0,M,,*5E\r\n"
START = datetime(2026, 5, 15, 23, 0, tzinfo=UTC)
SURVEYORS = Group("surveyors", day_bytes=1000, month_bytes=5000)


@dataclass
class Session:
    """A connection as the recorder sees it."""

    now: SessionState
    reason: str = ""

    @property
    def holder(self) -> Account | None:
        return None if self.reason else self.now.account

    def state(self) -> SessionState:
        return self.now

    def end(self, reason: str) -> None:
        self.reason = reason

    def go_on(self, seconds: float, sent_bytes: int = 0, received_bytes: int = 0) -> None:
        self.now = replace(
            self.now,
            seconds=self.now.seconds + seconds,
            sent_bytes=self.now.sent_bytes + sent_bytes,
            received_bytes=self.now.received_bytes + received_bytes,
        )


class Time:
    moment = START

    def __call__(self) -> datetime:
        return self.moment


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def recorder(database: Database, time: Time) -> UsageRecorder:
    return UsageRecorder(UsageConfig(), UsageStore(database), time)


def session(number: int = 1, account: str = "a", group: Group | None = None) -> Session:
    holder = Account(account, "rover", "", group=group) if account else None
    return Session(SessionState(number, "rover", holder, "M", "192.0.2.7", "NTRIP x", 0.0, 0, 0, 0, parse_gga(GGA)))


async def sums(database: Database) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await UsageStore(database).days()]


async def test_what_is_added_between_two_looks_is_written_once(
    recorder: UsageRecorder, database: Database, time: Time
) -> None:
    rover = session()
    for _ in range(3):
        rover.go_on(10.0, 100, 5)
        await recorder.look([rover])
        await recorder.flush()
    assert await sums(database) == [(date(2026, 5, 15), "a", 1, 30.0, 300, 15)]
    (row,) = await UsageStore(database).sessions()
    assert (row.seconds, row.sent_bytes, row.received_bytes, row.reason) == (30.0, 300, 15, "")
    assert (row.quality, round(row.latitude_deg, 4), row.mount) == (4, 47.2852, "M")
    rover.go_on(1.0, 1, 1)
    rover.end("closed by the client")
    recorder.take(rover)
    await recorder.flush()
    assert await sums(database) == [(date(2026, 5, 15), "a", 1, 31.0, 301, 16)]
    (row,) = await UsageStore(database).sessions("a")
    assert row.reason == "closed by the client" and row.started == START - timedelta(seconds=10)


async def test_a_day_gets_what_was_used_in_it(recorder: UsageRecorder, database: Database, time: Time) -> None:
    rover = session(account="")
    rover.go_on(10.0, 100)
    await recorder.look([rover])
    time.moment += timedelta(hours=2)
    rover.go_on(7200.0, 900)
    await recorder.look([rover])
    await recorder.flush()
    assert await sums(database) == [
        (date(2026, 5, 15), "", 1, 10.0, 100, 0),
        (date(2026, 5, 16), "", 0, 7200.0, 900, 0),
    ]


async def test_two_processes_add_to_the_same_sums(recorder: UsageRecorder, database: Database, time: Time) -> None:
    other = UsageRecorder(UsageConfig(), UsageStore(database), time)
    for each in (recorder, other):
        rover = session()
        rover.go_on(1.0, 50)
        await each.look([rover])
        await each.flush()
    assert await sums(database) == [(date(2026, 5, 15), "a", 2, 2.0, 100, 0)]
    assert len(await UsageStore(database).sessions()) == 2


async def test_nothing_is_lost_or_counted_twice_while_the_database_is_away(
    recorder: UsageRecorder, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    rover = session()
    rover.go_on(1.0, 50)

    async def fail(*_: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(recorder._store, "write", fail)
        for _ in range(3):
            await recorder.look([rover])
            await recorder.flush()
            rover.go_on(1.0, 50)
    await recorder.look([rover])
    await recorder.flush()
    assert await sums(database) == [(date(2026, 5, 15), "a", 1, 4.0, 200, 0)]


async def test_many_sessions_are_written_in_one_go(recorder: UsageRecorder, database: Database) -> None:
    rovers = [session(number, f"a{number % 7}") for number in range(1000)]
    for rover in rovers:
        rover.go_on(1.0, 10)
    await recorder.look(rovers)
    await recorder.flush()
    assert sum(row[2] for row in await sums(database)) == 1000
    assert len(await UsageStore(database).sessions("", 2000)) == 1000


async def test_what_a_client_sends_keeps_nobody_s_usage_from_being_written(
    recorder: UsageRecorder, database: Database
) -> None:
    rover, other = session(1), session(2)
    body = "GPGGA,092725.00,4717.1,N,00833.9,E,99999999999999999999,99999999999999999999,1,1,M,1,M,,"
    rover.now = replace(rover.now, agent="NTRIP \0" + "x" * 500, gga=parse_gga("$" + body))
    rover.end("bad stream: \0")
    recorder.take(rover)
    await recorder.look([other])
    await recorder.flush()
    rows = {row.reason: row for row in await UsageStore(database).sessions()}
    assert set(rows) == {"bad stream: ", ""} and rows["bad stream: "].quality == 99
    assert len(rows["bad stream: "].agent) == 80


async def test_a_group_s_quota_ends_its_sessions_and_no_others(
    recorder: UsageRecorder, database: Database, time: Time
) -> None:
    await GroupStore(database).put(SURVEYORS)
    for name in ("a", "b"):
        await AccountStore(database).add(Account(name, "rover", "", group=SURVEYORS))
    members, free = [session(1, "a", SURVEYORS), session(2, "b", SURVEYORS)], session(3, "c")
    for rover in (*members, free):
        rover.go_on(1.0, 499)
    await recorder.look([*members, free])
    assert recorder.why_spent(SURVEYORS) == ""
    members[0].go_on(1.0, 0, 2)
    await recorder.look([*members, free])
    assert recorder.why_spent(SURVEYORS) == "the group surveyors has used up its 1000 bytes of this day"
    assert [rover.reason for rover in (*members, free)] == ["quota used up", "quota used up", ""]
    await recorder.flush()
    assert "of this day" in recorder.why_spent(SURVEYORS)
    again = UsageRecorder(UsageConfig(), UsageStore(database), time)
    await again.read_spent()
    assert "of this day" in again.why_spent(SURVEYORS)
    time.moment += timedelta(days=1)
    await again.read_spent()
    assert again.why_spent(SURVEYORS) == ""
    assert "of this month" in again.why_spent(replace(SURVEYORS, month_bytes=1000))
    time.moment += timedelta(days=30)
    await again.read_spent()
    assert again.why_spent(replace(SURVEYORS, month_bytes=1000)) == ""


async def test_a_quota_ends_open_sessions_long_before_they_are_written(recorder: UsageRecorder) -> None:
    members, free = [session(1, "a", SURVEYORS), session(2, "b", SURVEYORS)], session(3, "c")
    rovers = [*members, free]
    await recorder.look(rovers)
    for rover in rovers:
        rover.go_on(1.0, 499)
    await recorder.hold(rovers)
    await recorder.hold(rovers)
    assert [rover.reason for rover in rovers] == ["", "", ""]
    members[0].end("gone")
    recorder.take(members[0])
    members[1].go_on(1.0, 1)
    await recorder.hold(rovers)
    assert recorder.why_spent(SURVEYORS) == ""
    members[1].go_on(1.0, 1)
    await recorder.hold(rovers)
    assert [rover.reason for rover in rovers] == ["gone", "quota used up", ""]


async def test_old_rows_are_forgotten(recorder: UsageRecorder, database: Database, time: Time) -> None:
    rover = session()
    rover.go_on(1.0, 10)
    rover.end("gone")
    recorder.take(rover)
    await recorder.flush()
    time.moment += timedelta(days=91)
    await recorder._forget()
    assert await UsageStore(database).sessions() == [] and len(await sums(database)) == 1
    time.moment += timedelta(days=800)
    await recorder._forget()
    assert await sums(database) == []


async def test_a_wall_clock_that_jumps_adds_no_time(recorder: UsageRecorder, database: Database, time: Time) -> None:
    rover = session()
    for jump in (-86_400, 2 * 86_400, -86_400):
        rover.go_on(10.0, 1)
        time.moment += timedelta(seconds=jump)
        await recorder.look([rover])
        await recorder.flush()
    assert sum(row[3] for row in await sums(database)) == 30.0


async def usage_of(service: Service) -> list[Any]:
    assert service.caster.usage is not None
    await service.caster.usage.flush()
    return list(await UsageStore(service.caster.database).sessions())


async def test_a_running_service_accounts_for_rovers_and_stations(service: Service) -> None:
    source = await service.feed()
    rover = await service.connect(get_request("M", "caster", version=1, credentials=ROVER) + GGA)
    await rover.until(b"\r\n\r\n")
    mountpoint = service.caster.mountpoints.get("M")
    assert mountpoint is not None
    await service.wait(lambda: len(mountpoint.mount) > 0)
    await source.send(frame(1077))
    await rover.until(b"\xd3")
    for connection in list(service.caster.server.connections):
        state = connection.state()
        if state is not None and state.kind == "rover":
            connection.end("sent away")
    await source.close()
    await service.ended("source", "ended by the source")
    by_kind = {row.kind: row for row in await usage_of(service)}
    assert by_kind["rover"].sent_bytes == len(frame(1077)) and by_kind["rover"].quality == 4
    assert by_kind["rover"].received_bytes == len(GGA) and by_kind["rover"].account == "rover"
    assert by_kind["source"].received_bytes == len(frame(1077)) and by_kind["source"].reason == "ended by the source"


async def test_a_group_s_sessions_are_limited_together(start: StartService) -> None:
    service = await start()
    group = Group("pair", max_sessions=2)
    await GroupStore(service.caster.database).put(group)
    await service.caster.store.change("rover", group_name="pair")
    await service.caster.store.change("base", group_name="pair")
    await service.feed()
    first = await service.connect(get_request("M", "caster", version=2, credentials=ROVER))
    assert (await first.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    answer = await service.ask(get_request("M", "caster", version=2, credentials=ROVER))
    assert answer.startswith(b"HTTP/1.1 403") and b"the group pair has 2 sessions, its limit" in answer


async def test_a_group_without_quota_left_is_refused_with_the_reason(start: StartService) -> None:
    service = await start(**{"usage.period_s": 0.05})
    await GroupStore(service.caster.database).put(Group("small", day_bytes=10))
    await service.caster.store.change("rover", group_name="small")
    source = await service.feed()
    rover = await service.connect(get_request("M", "caster", version=2, credentials=ROVER))
    assert (await rover.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
    mountpoint = service.caster.mountpoints.get("M")
    assert mountpoint is not None
    await service.wait(lambda: len(mountpoint.mount) > 0)
    await source.send(frame(1077))
    await service.ended("rover", "quota used up")
    answer = await service.ask(get_request("M", "caster", version=2, credentials=ROVER))
    assert b"the group small has used up its 10 bytes of this day" in answer
