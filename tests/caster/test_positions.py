"""The position log: thinned, batched, bounded, forgotten in time, and only where somebody wants it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from caster.codec.ntrip import Gga, get_request
from caster.codec.ntrip.gga import gga_line, parse_gga
from caster.config import PositionsConfig
from caster.database import Database
from caster.positions import PositionFilter, PositionLog, PositionStore
from caster.services import PositioningService
from tests.caster.conftest import ROVER, Service, StartService

START = datetime(2026, 5, 15, 8, 0, tzinfo=UTC)


@dataclass
class Who:
    number: int = 1
    account: str = "rover"
    name: str = "M"


class Times:
    seconds = 0.0

    def clock(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds)


@pytest.fixture
def times() -> Times:
    return Times()


def place(latitude_deg: float = 47.0, quality: int = 4) -> Gga:
    gga = parse_gga(gga_line(latitude_deg, 8.5, 500.0, 0.0, quality))
    assert gga is not None
    return gga


def make(database: Database, times: Times, **config: float) -> PositionLog:
    return PositionLog(PositionsConfig(**config), PositionStore(database), times.clock, times.now)  # type: ignore[arg-type]


async def stored(database: Database, **wanted: Any) -> list[Any]:
    return [row async for rows in PositionStore(database).batches(PositionFilter(**wanted)) for row in rows]


def take(log: PositionLog, who: Who, gga: Gga, kind: str = "gga") -> None:
    log.take(kind, who, who, gga)  # type: ignore[arg-type]


async def test_a_session_s_positions_are_thinned_and_kinds_are_kept_apart(database: Database, times: Times) -> None:
    log = make(database, times)
    for k in range(31):
        times.seconds = k * 1.0
        take(log, Who(), place(47.0 + k * 1e-4))
        take(log, Who(), place(), "fix")
        take(log, Who(2), place(quality=0))
    await log.flush()
    rows = await stored(database, kind="gga")
    assert [(row.time - START).total_seconds() for row in rows] == [0.0, 10.0, 20.0, 30.0]
    assert [round(row.latitude_deg, 6) for row in rows] == [47.0, 47.001, 47.002, 47.003]
    assert len(await stored(database, kind="fix")) == 4 and log.written == 8


async def test_numbers_without_meaning_are_no_reason_to_lose_the_others(database: Database, times: Times) -> None:
    log = make(database, times)
    body = "GPGGA,092725.00,4717.1,N,00833.9,E,99999999999999999999,99999999999999999999,1,1,M,1,M,,"
    strange = parse_gga("$" + body)
    assert strange is not None
    take(log, Who(1), strange)
    take(log, Who(2), place())
    await log.flush()
    assert [(row.quality, row.satellites) for row in await stored(database)] == [(99, 999), (4, 12)]


async def test_positions_are_found_by_account_mount_and_time(database: Database, times: Times) -> None:
    log = make(database, times, interval_s=0)
    for k in range(1200):
        times.seconds = float(k)
        take(log, Who(k, f"a{k % 3}", f"M{k % 2}"), place())
    await log.flush()
    assert len(await stored(database)) == 1200
    assert len(await stored(database, account="a1")) == 400
    assert len(await stored(database, mount="M1", account="a1")) == 200
    span = {"since": START + timedelta(seconds=10), "until": START + timedelta(seconds=20)}
    assert len(await stored(database, **span)) == 10


async def test_while_the_database_is_away_the_oldest_positions_give_way(
    database: Database, times: Times, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = make(database, times, interval_s=0, queue=5)

    async def fail(rows: object) -> None:
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(log._store, "add", fail)
        for k in range(8):
            take(log, Who(k), place())
            await log.flush()
    assert log.dropped == 3
    await log.flush()
    assert [row.session for row in await stored(database)] == [3, 4, 5, 6, 7]


async def test_old_positions_are_forgotten(database: Database, times: Times) -> None:
    log = make(database, times, interval_s=0)
    for k in range(6000):
        take(log, Who(k), place())
    await log.flush()
    times.seconds = 31 * 86_400.0
    take(log, Who(), place())
    await log.flush()
    await log._forget()
    assert len(await stored(database)) == 1


async def rover_tells(service: Service) -> None:
    await service.feed()
    rover = await service.connect(get_request("M", "x", credentials=ROVER) + gga_line(47.0, 8.5, 500.0, 0.0, 5))
    await rover.until(b"\r\n\r\n")


async def test_a_running_service_logs_what_rovers_send(start: StartService) -> None:
    service = await start(**{"positions.enabled": True})
    log = service.caster.positions
    assert log is not None
    await rover_tells(service)
    await service.wait(lambda: len(log._waiting) == 1)
    await log.flush()
    (row,) = await stored(service.caster.database)
    assert (row.kind, row.account, row.mount, row.quality, row.height_m) == ("gga", "rover", "M", 5, 500.0)


async def test_nothing_is_logged_unless_it_is_configured(service: Service) -> None:
    await rover_tells(service)
    assert service.caster.positions is None and service.caster.mountpoints.on_position == []


@pytest.fixture
def positioning() -> Iterator[PositioningService]:
    yield PositioningService(1)


async def test_what_the_service_computes_is_logged_as_it_was_told(
    start: StartService, positioning: PositioningService
) -> None:
    service = await start(positioning, **{"positions.enabled": True, "mounts": [{"name": "FIX", "kind": "fix"}]})
    log, mountpoint = service.caster.positions, service.caster.mountpoints.get("FIX")
    assert log is not None and mountpoint is not None
    told: list[bytes] = []
    answer: Any = mountpoint._answer  # type: ignore[attr-defined]
    answer(Who(7, "car"), told.append, gga_line(31.2, 121.5, 10.0, 0.0, 2) + b"$GNRMC,...\r\n")
    answer(Who(8, "car"), told.append, b"$GNTXT,01,01,01,send observations*00\r\n")
    await log.flush()
    (row,) = await stored(service.caster.database)
    assert (row.kind, row.session, row.mount, row.quality) == ("fix", 7, "FIX", 2) and len(told) == 2
