"""The position log: where rovers said that they were, and where the service put them; off unless configured.

Strategy: mountpoints tell of each position (`Mountpoints.on_position`); the log keeps one of each session and kind in
`interval_s`, and writes what it has every `flush_s` in one transaction. What waits is bounded: while the database is
away, the oldest positions give way, and are counted. Rows older than `keep_days` are removed, some at a time.
"""

import asyncio
import operator
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any, Final

import structlog
from prometheus_client.core import CounterMetricFamily, Metric
from sqlalchemy import Row, select

from caster.codec.ntrip import Gga
from caster.config import PositionsConfig
from caster.database import Database
from caster.mountpoints import Mountpoint, Rover, Source
from caster.schema import POSITIONS
from caster.usage import QUALITY_MAX

__all__ = ["KINDS", "PositionFilter", "PositionLog", "PositionStore"]

_log = structlog.get_logger(__name__)

KINDS: Final = ("gga", "fix")
"""What a rover sent, and what the service computed for it."""
_ROWS_AT_ONCE: Final = 500
_SATELLITES_MAX: Final = 999
_SESSIONS_MAX: Final = 100_000
_FORGET_PERIOD_S: Final = 3600.0


@dataclass(frozen=True, slots=True)
class PositionFilter:
    """Which positions; an empty or None attribute leaves all.

    Attributes:
        account: Of this account.
        mount: At this mountpoint.
        kind: One of `KINDS`.
        since: Received at this time (UTC) or later.
        until: Received before this time (UTC).
    """

    account: str = ""
    mount: str = ""
    kind: str = ""
    since: datetime | None = None
    until: datetime | None = None

    def conditions(self) -> list[Any]:
        """For a query."""
        wanted = [
            ("account", operator.eq, self.account),
            ("mount", operator.eq, self.mount),
            ("kind", operator.eq, self.kind),
            ("time", operator.ge, self.since),
            ("time", operator.lt, self.until),
        ]
        return [compare(POSITIONS.c[column], value) for column, compare, value in wanted if value]


class PositionStore:
    """The positions in the database.

    Args:
        database: Opened by its owner.
    """

    def __init__(self, database: Database) -> None:
        self.errors = database.errors
        self._database = database

    async def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Keep positions, all or none."""
        async with self._database.begin() as connection:
            for start in range(0, len(rows), _ROWS_AT_ONCE):
                await connection.execute(POSITIONS.insert(), rows[start : start + _ROWS_AT_ONCE])

    async def batches(self, wanted: PositionFilter) -> AsyncIterator[Sequence[Row[Any]]]:
        """Positions by their time, some hundred at a time, however many there are."""
        query = select(POSITIONS).where(*wanted.conditions()).order_by(POSITIONS.c.time, POSITIONS.c.id)
        async with self._database.connect() as connection:
            result = await connection.stream(query)
            async for rows in result.partitions(_ROWS_AT_ONCE):
                yield rows

    async def forget(self, before: datetime) -> int:
        """Remove some older positions; return how many."""
        some = select(POSITIONS.c.id).where(POSITIONS.c.time < before).limit(10 * _ROWS_AT_ONCE)
        async with self._database.begin() as connection:
            return int((await connection.execute(POSITIONS.delete().where(POSITIONS.c.id.in_(some)))).rowcount)


class PositionLog:
    """Keeps positions for one process; belongs to one event loop.

    Args:
        config: How often, and for how long.
        store: Where to.
        clock: Monotonic seconds.
        now: The present, UTC.

    Attributes:
        written: Positions in the database, since the start.
        dropped: Positions that had to give way, since the start.
    """

    def __init__(
        self,
        config: PositionsConfig,
        store: PositionStore,
        clock: Callable[[], float],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.written = 0
        self.dropped = 0
        self._config = config
        self._store = store
        self._clock = clock
        self._now = now
        self._last_s: OrderedDict[tuple[str, int], float] = OrderedDict()
        self._waiting: deque[dict[str, Any]] = deque()
        self._forgot_s = clock() - _FORGET_PERIOD_S
        self._is_failing = False

    def take(self, kind: str, mountpoint: Mountpoint, session: Rover | Source, gga: Gga) -> None:
        """A position was told."""
        key, now_s = (kind, session.number), self._clock()
        if not gga.has_position or now_s < self._last_s.get(key, float("-inf")) + self._config.interval_s:
            return
        self._last_s[key] = now_s
        self._last_s.move_to_end(key)
        if len(self._last_s) > _SESSIONS_MAX:
            self._last_s.popitem(last=False)
        self._waiting.append(_row(kind, mountpoint.name, session, gga, self._now()))
        if len(self._waiting) > self._config.queue:
            self._waiting.popleft()
            self.dropped += 1

    async def run(self) -> None:
        """Write once in a while, until cancelled."""
        while True:
            await asyncio.sleep(self._config.flush_s)
            await self.flush()
            if self._clock() - self._forgot_s >= _FORGET_PERIOD_S:
                self._forgot_s = self._clock()
                await self._forget()

    async def flush(self) -> None:
        """Write what waits; where that fails, it waits on."""
        while self._waiting:
            rows = list(islice(self._waiting, _ROWS_AT_ONCE))
            dropped = self.dropped
            try:
                await self._store.add(rows)
            except self._store.errors as error:
                self._tell(error)
                return
            self._tell(None)
            self.written += len(rows)
            for _ in range(len(rows) - (self.dropped - dropped)):  # those that gave way meanwhile have left
                self._waiting.popleft()

    def metrics(self) -> Iterator[Metric]:
        """For Prometheus."""
        yield CounterMetricFamily("dipper_positions_written", "Positions logged.", value=self.written)
        yield CounterMetricFamily("dipper_positions_dropped", "Positions that had to give way.", value=self.dropped)

    async def _forget(self) -> None:
        before = self._now() - timedelta(days=self._config.keep_days)
        try:
            while await self._store.forget(before):
                pass
        except self._store.errors as error:
            self._tell(error)

    def _tell(self, error: Exception | None) -> None:
        """Say once that the database is away, and once that it is back."""
        if error is not None and not self._is_failing:
            _log.error("positions cannot be written", error=str(error).partition("\n")[0])
        elif error is None and self._is_failing:
            _log.warning("positions are written again", dropped=self.dropped)
        self._is_failing = error is not None


def _row(kind: str, mount: str, session: Rover | Source, gga: Gga, now: datetime) -> dict[str, Any]:
    return {
        "time": now,
        "kind": kind,
        "account": session.account,
        "mount": mount,
        "session": session.number,
        "latitude_deg": gga.latitude_deg,
        "longitude_deg": gga.longitude_deg,
        "height_m": gga.height_m,
        "quality": min(gga.quality, QUALITY_MAX),
        "satellites": min(gga.satellites, _SATELLITES_MAX),
        "hdop": gga.hdop,
    }
