"""What accounts use: sessions, seconds and bytes, written in batches; and the quotas of groups.

Strategy: nothing is counted that sessions do not count anyway. Every `period_s` the recorder looks at all open
sessions, and at each one when it ends, takes what was added since it last looked, and writes two things in one
transaction: the row of each session (in its latest state) and sums by day and account, to which every process adds that
shares the database. A process that is killed loses what was added since its last look, nothing else. While the database
is away, rows wait in memory, bounded; the sums wait as long as it takes.

Quotas: what the members of a group have used of this day and month is read back after each look; what was added since
is counted on top, that of open sessions every ten seconds. Days and months are UTC. Seconds are of the monotonic clock,
so that a clock that jumps adds none.
"""

import asyncio
import secrets
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from typing import Any, Final, Protocol

import structlog
from sqlalchemy import Row, case, func, select

from caster.accounts import Account, Group
from caster.codec.ntrip import Gga
from caster.config import UsageConfig
from caster.database import Database
from caster.schema import ACCOUNTS, SESSIONS, USAGE_DAYS

__all__ = ["QUALITY_MAX", "SessionState", "UsageRecorder", "UsageStore"]

_log = structlog.get_logger(__name__)

_ROWS_AT_ONCE: Final = 100  # a millisecond or two of the event loop
_ENDED_PERIOD_S: Final = 10.0  # sessions that ended wait no longer
QUALITY_MAX: Final = 99
"""A sentence may say any number; what is above has no meaning, and might not fit into the database."""
_UNWRITTEN_MAX: Final = 50_000
_FORGET_PERIOD_S: Final = 3600.0
_SUMS: Final = ("sessions", "seconds", "sent_bytes", "received_bytes")
_QUOTA_PERIODS: Final = ("day", "month")


@dataclass(frozen=True, slots=True)
class SessionState:
    """A session as it stands.

    Attributes:
        number: Unique in this process.
        kind: `rover` or `source`.
        account: Who; None for a rover that needed no account.
        mount: The mountpoint.
        address: The peer's.
        agent: The client's name of itself.
        seconds: Its age.
        sent_bytes: To the peer.
        received_bytes: From the peer.
        dropped: Publishes that a slow rover lost.
        gga: The rover's last position, or None.
    """

    number: int
    kind: str
    account: Account | None
    mount: str
    address: str
    agent: str
    seconds: float
    sent_bytes: int
    received_bytes: int
    dropped: int
    gga: Gga | None

    @property
    def account_name(self) -> str:
        """The account's name, or an empty text."""
        return self.account.name if self.account else ""


class SessionHolder(Protocol):
    """A connection, as far as it is accounted for."""

    @property
    def reason(self) -> str:
        """Why it ended; empty before."""

    @property
    def holder(self) -> Account | None:
        """Whose session it is; None where it needed no account, and where it is none."""

    def state(self) -> SessionState | None:
        """Its session as it stands, if it has one."""

    def end(self, reason: str) -> None:
        """End it."""


class UsageStore:
    """Sessions and sums in the database.

    Args:
        database: Opened by its owner.
    """

    def __init__(self, database: Database) -> None:
        self.errors = database.errors
        self._database = database

    async def write(self, sessions: Sequence[dict[str, Any]], sums: Sequence[dict[str, Any]]) -> None:
        """Keep the latest state of sessions, and add to sums, all or nothing."""
        async with self._database.begin() as connection:
            for start in range(0, len(sessions), _ROWS_AT_ONCE):
                await connection.execute(self._database.replace(SESSIONS), sessions[start : start + _ROWS_AT_ONCE])
            for start in range(0, len(sums), _ROWS_AT_ONCE):
                statement = self._database.add_up(USAGE_DAYS, _SUMS)
                await connection.execute(statement, sums[start : start + _ROWS_AT_ONCE])

    async def spent(self, today: date) -> dict[str, tuple[int, int]]:
        """Bytes that the members of each group have used on a day and in its month."""
        used = USAGE_DAYS.c.sent_bytes + USAGE_DAYS.c.received_bytes
        query = (
            select(
                ACCOUNTS.c.group_name,
                func.sum(case((USAGE_DAYS.c.day == today, used), else_=0)),
                func.sum(used),
            )
            .join(USAGE_DAYS, USAGE_DAYS.c.account == ACCOUNTS.c.name)
            .where(ACCOUNTS.c.group_name.is_not(None), USAGE_DAYS.c.day >= today.replace(day=1))
            .group_by(ACCOUNTS.c.group_name)
        )
        async with self._database.connect() as connection:
            return {name: (int(day), int(month)) for name, day, month in await connection.execute(query)}

    async def days(self, account: str = "", since: date | None = None, until: date | None = None) -> Sequence[Row[Any]]:
        """Sums by day and account, the oldest first; of one account, from and to days where given."""
        query = select(USAGE_DAYS).order_by(USAGE_DAYS.c.day, USAGE_DAYS.c.account)
        if account:
            query = query.where(USAGE_DAYS.c.account == account)
        if since is not None:
            query = query.where(USAGE_DAYS.c.day >= since)
        if until is not None:
            query = query.where(USAGE_DAYS.c.day <= until)
        async with self._database.connect() as connection:
            return (await connection.execute(query)).all()

    async def sessions(self, account: str = "", count_max: int = 1000) -> Sequence[Row[Any]]:
        """The sessions that were seen last, the latest first; of one account where given."""
        query = select(SESSIONS).order_by(SESSIONS.c.updated.desc()).limit(count_max)
        if account:
            query = query.where(SESSIONS.c.account == account)
        async with self._database.connect() as connection:
            return (await connection.execute(query)).all()

    async def forget(self, sessions_before: datetime, days_before: date) -> None:
        """Remove what is older."""
        async with self._database.begin() as connection:
            await connection.execute(SESSIONS.delete().where(SESSIONS.c.updated < sessions_before))
            await connection.execute(USAGE_DAYS.delete().where(USAGE_DAYS.c.day < days_before))


@dataclass(slots=True)
class _Seen:
    """What of a session is in the sums already."""

    started: datetime
    seconds: float = 0.0
    sent_bytes: int = 0
    received_bytes: int = 0


@dataclass(slots=True)
class _Unwritten:
    """What waits for the database."""

    sessions: dict[str, dict[str, Any]] = field(default_factory=dict)
    sums: defaultdict[tuple[date, str], Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    by_group: Counter[str] = field(default_factory=Counter)

    def put_back(self, older: "_Unwritten") -> None:
        """What could not be written waits on, unless it is newer here; the oldest sessions give way."""
        self.sessions = {**older.sessions, **self.sessions}
        while len(self.sessions) > _UNWRITTEN_MAX:
            del self.sessions[next(iter(self.sessions))]
        for key, counts in older.sums.items():
            self.sums[key].update(counts)
        self.by_group.update(older.by_group)


class UsageRecorder:
    """Accounts for the sessions of one process; belongs to one event loop.

    Args:
        config: How often, and for how long it is kept.
        store: Where to.
        now: The present, UTC.
    """

    def __init__(
        self, config: UsageConfig, store: UsageStore, now: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._config = config
        self._store = store
        self._now = now
        self._process = secrets.token_hex(8)
        self._seen: dict[int, _Seen] = {}
        self._unwritten = _Unwritten()
        self._spent: dict[str, tuple[int, int]] = {}
        self._running: Counter[str] = Counter()
        self._forgotten: datetime | None = None
        self._writing: asyncio.Task[None] | None = None
        self._is_failing = False

    def reload(self, config: UsageConfig) -> None:
        """Take new settings."""
        self._config = config

    def why_spent(self, group: Group) -> str:
        """Why a group may use no more at present; empty where it may."""
        quotas = (group.day_bytes, group.month_bytes)
        spent = self._spent.get(group.name, (0, 0))
        for period, quota, written in zip(_QUOTA_PERIODS, quotas, spent, strict=True):
            if quota and written + self._unwritten.by_group[group.name] + self._running[group.name] >= quota:
                return f"the group {group.name} has used up its {quota} bytes of this {period}"
        return ""

    def take(self, connection: SessionHolder) -> None:
        """Account for what a session has added since the last time."""
        state = connection.state()
        if state is None:
            return
        now = self._now()
        seen = self._seen.get(state.number)
        is_new = seen is None
        if seen is None:
            seen = self._seen[state.number] = _Seen(now - timedelta(seconds=state.seconds))
        added = Counter(
            {
                "sessions": int(is_new),
                "seconds": state.seconds - seen.seconds,
                "sent_bytes": state.sent_bytes - seen.sent_bytes,
                "received_bytes": state.received_bytes - seen.received_bytes,
            }
        )
        self._unwritten.sums[now.date(), state.account_name].update(added)
        if state.account is not None and state.account.group is not None:
            name, count = state.account.group.name, added["sent_bytes"] + added["received_bytes"]
            self._unwritten.by_group[name] += count
            self._running[name] = max(0, self._running[name] - count)
        seen.seconds, seen.sent_bytes, seen.received_bytes = state.seconds, state.sent_bytes, state.received_bytes
        key = f"{self._process}-{state.number}"
        self._unwritten.sessions[key] = _session_row(key, state, seen.started, now, connection.reason)
        if connection.reason:
            del self._seen[state.number]

    async def run(self, connections: Callable[[], Iterable[SessionHolder]]) -> None:
        """Account for all open sessions once in a while, until cancelled."""
        loop = asyncio.get_running_loop()
        due_s = loop.time()
        while True:
            if loop.time() >= due_s:
                due_s = loop.time() + self._config.period_s
                await self.look(connections())
                await self.flush()
                await self.read_spent()
                await self._forget()
            elif self._unwritten.sessions:
                await self.flush()
            await self.hold(connections())
            await asyncio.sleep(min(self._config.period_s, _ENDED_PERIOD_S))

    async def hold(self, connections: Iterable[SessionHolder]) -> None:
        """Add up what members of groups with quotas have used since their last look; end them where it is too much."""
        members = list[tuple[SessionHolder, Group]]()
        self._running = running = Counter[str]()  # sessions that end meanwhile take their part out of it
        for number, connection in enumerate(list(connections)):
            if number % _ROWS_AT_ONCE == 0:
                await asyncio.sleep(0)
            group = connection.holder.group if connection.holder else None
            if group is None or not (group.day_bytes or group.month_bytes) or (state := connection.state()) is None:
                continue
            seen = self._seen.get(state.number, _Seen(self._now()))
            running[group.name] += state.sent_bytes + state.received_bytes - seen.sent_bytes - seen.received_bytes
            members.append((connection, group))
        for connection, group in members:
            if not connection.reason and self.why_spent(group):
                connection.end("quota used up")

    async def look(self, connections: Iterable[SessionHolder]) -> None:
        """Take the state of all sessions, and end those whose group has used up its quota."""
        for number, connection in enumerate(list(connections)):
            if number % _ROWS_AT_ONCE == 0:
                await asyncio.sleep(0)
            if connection.reason:
                continue
            self.take(connection)
            state = connection.state()
            group = state.account.group if state and state.account else None
            if group is not None and self.why_spent(group):
                connection.end("quota used up")

    async def flush(self) -> None:
        """Write what waits; where that fails, it waits on. Whoever is cancelled meanwhile cuts no transaction off."""
        if self._writing is not None:
            await asyncio.wait([self._writing])
        self._writing = asyncio.create_task(self._write(), name="write usage")
        await asyncio.shield(self._writing)

    async def _write(self) -> None:
        writing, self._unwritten = self._unwritten, _Unwritten()
        self._spend(writing, 1)  # now: a quota holds while the database takes its time
        sums = [{"day": day, "account": account, **counts} for (day, account), counts in writing.sums.items()]
        try:
            await self._store.write(list(writing.sessions.values()), sums)
        except self._store.errors as error:
            self._spend(writing, -1)
            self._unwritten.put_back(writing)
            self._tell(error)
            return
        self._tell(None)

    def _spend(self, unwritten: _Unwritten, sign: int) -> None:
        for name, count in unwritten.by_group.items():
            day, month = self._spent.get(name, (0, 0))
            self._spent[name] = (day + sign * count, month + sign * count)

    async def read_spent(self) -> None:
        """Read what groups have used, other processes' part included."""
        try:
            self._spent = await self._store.spent(self._now().date())
        except self._store.errors as error:
            self._tell(error)

    async def _forget(self) -> None:
        now = self._now()
        if self._forgotten is not None and abs(now - self._forgotten) < timedelta(seconds=_FORGET_PERIOD_S):
            return
        self._forgotten = now
        days_before = now.date() - timedelta(days=self._config.keep_totals_days)
        try:
            await self._store.forget(now - timedelta(days=self._config.keep_days), days_before)
        except self._store.errors as error:
            self._tell(error)

    def _tell(self, error: Exception | None) -> None:
        """Say once that the database is away, and once that it is back."""
        if error is not None and not self._is_failing:
            _log.error("usage cannot be written", error=str(error).partition("\n")[0])
        elif error is None and self._is_failing:
            _log.warning("usage is written again")
        self._is_failing = error is not None


def _session_row(key: str, state: SessionState, started: datetime, now: datetime, reason: str) -> dict[str, Any]:
    gga = state.gga
    return {
        "id": key,
        "kind": state.kind,
        "account": state.account_name,
        "mount": state.mount[:100],
        "address": state.address[:50],
        "agent": _clean(state.agent)[:80],
        "started": started,
        "updated": now,
        "seconds": round(state.seconds, 3),
        "sent_bytes": state.sent_bytes,
        "received_bytes": state.received_bytes,
        "dropped": state.dropped,
        "latitude_deg": gga.latitude_deg if gga else None,
        "longitude_deg": gga.longitude_deg if gga else None,
        "quality": min(gga.quality, QUALITY_MAX) if gga else None,
        "reason": _clean(reason)[:200],
    }


def _clean(text: str) -> str:
    """Text that every database takes: PostgreSQL keeps no NUL."""
    return text.replace("\0", "")
