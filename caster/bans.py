"""Bans: who floods, guesses or sends garbage is kept out for a while, and is told why and until when.

Strategy: offences are counted in memory for each origin (an IPv4 address, or the /64 of an IPv6 address, which one
client can fill by itself) in windows of time. Who reaches the limit of an offence is banned, each time for twice as
long; the limit is multiplied by the sessions that the origin has open, since many rovers may stand behind one address.
Bans are rows of the database: they survive a restart, `dipper ban` changes them, and a running service looks at them
every `refresh_s`. Looking an address up costs a dictionary access for each length of prefix in use.

Trusted networks and proxies are never banned. A banned client is told the reason once a second at most; all others of
its kind are closed without a word, which costs nothing.
"""

import asyncio
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv6Address, ip_address, ip_network
from typing import Final

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from sqlalchemy import func, select

from caster.config import BansConfig
from caster.database import Database
from caster.errors import ConfigError, DipperError
from caster.schema import BANS

__all__ = ["Ban", "BanStore", "Bans", "Offence", "network_of", "origin_of"]

_log = structlog.get_logger(__name__)

_EXPLAIN_GAP_S: Final = 1.0
_FORGET_PERIOD_S: Final = 3600.0
_ROWS_AT_ONCE: Final = 200
_BANS_MAX: Final = 10_000  # of the newest ones that are in force in memory
_REASON_MAX: Final = 200


class Offence(StrEnum):
    """What is counted, in the words of the reason for a ban; the key of `[bans]` that limits it."""

    PASSWORD = "wrong passwords"
    REQUEST = "bad requests"
    FLOOD = "idle or excess connections"

    @property
    def key(self) -> str:
        """The configuration's name for its limit."""
        return _KEYS[self]


_KEYS: Final = {Offence.PASSWORD: "wrong_passwords", Offence.REQUEST: "bad_requests", Offence.FLOOD: "floods"}


@dataclass(frozen=True, slots=True)
class Ban:
    """A network that is kept out.

    Attributes:
        network: As `192.0.2.0/24`.
        reason: For the client and the operator.
        created: UTC.
        until: Its end, UTC; None: none.
        automatic: The service made it, not an operator.
        count: How many times in a row the service has banned the network.
    """

    network: str
    reason: str
    created: datetime
    until: datetime | None = None
    automatic: bool = False
    count: int = 1

    def is_in_force(self, now: datetime) -> bool:
        """It has not ended."""
        return self.until is None or now < self.until

    def __str__(self) -> str:
        """What the client is told."""
        end = f"until {self.until:%Y-%m-%d %H:%M:%S} UTC" if self.until else "for good"
        return f"{self.network} is banned {end}: {self.reason}"


@lru_cache(maxsize=16_384)
def origin_of(address: str) -> str:
    """Whom an address is counted with: itself, or for IPv6 all of its /64."""
    if ":" not in address:
        return address
    try:
        return str(ip_network((int(IPv6Address(address.partition("%")[0])) >> 64 << 64, 64)))
    except ValueError:
        return address


def network_of(text: str) -> str:
    """The network that an operator means by an address or a network; a lone IPv6 address means its /64.

    Raises:
        ConfigError: It is neither.
    """
    bare = text.removeprefix("::ffff:") if "." in text else text
    try:
        if ":" in bare and "/" not in bare:
            bare = origin_of(str(ip_address(bare)))
        return str(ip_network(bare, strict=False))
    except ValueError:
        raise ConfigError(f"{text!r} is neither an address nor a network such as 192.0.2.0/24") from None


class BanStore:
    """The bans in the database.

    Args:
        database: Opened by its owner.
    """

    def __init__(self, database: Database) -> None:
        self.errors = database.errors
        self._database = database

    async def put(self, *bans: Ban) -> None:
        """Keep bans; one on the same network gives way."""
        rows = [{name: getattr(ban, name) for name in BANS.columns.keys()} for ban in bans]
        async with self._database.begin() as connection:
            await connection.execute(self._database.replace(BANS), rows)

    async def all(self) -> list[Ban]:
        """All bans, ended ones that are still remembered included; the newest first."""
        query = select(BANS).order_by(BANS.c.created.desc()).limit(_BANS_MAX)
        bans: list[Ban] = []
        async with self._database.connect() as connection:
            async for rows in (await connection.stream(query)).partitions(_ROWS_AT_ONCE):
                bans += [Ban(**row._mapping) for row in rows]
        return bans

    async def stamp(self) -> object:
        """Something that differs once bans have been changed."""
        query = select(func.count(), func.max(BANS.c.created), func.max(BANS.c.until))
        async with self._database.connect() as connection:
            return tuple((await connection.execute(query)).one())

    async def remove(self, network: str) -> None:
        """Lift a ban.

        Raises:
            DipperError: There is none on this very network.
        """
        async with self._database.begin() as connection:
            result = await connection.execute(BANS.delete().where(BANS.c.network == network))
        if not result.rowcount:
            raise DipperError(f"there is no ban on {network}")

    async def forget(self, ended_before: datetime) -> None:
        """Remove bans that ended long ago."""
        async with self._database.begin() as connection:
            await connection.execute(BANS.delete().where(BANS.c.until < ended_before))


class _Table:
    """Bans by network, for a quick look at an address."""

    def __init__(self) -> None:
        self._by_length: dict[tuple[int, int], dict[int, Ban]] = {}

    def put(self, ban: Ban) -> None:
        network = ip_network(ban.network)
        shift = network.max_prefixlen - network.prefixlen
        group = self._by_length.setdefault((network.version, shift), {})
        group[int(network.network_address) >> shift] = ban

    def find(self, address: str) -> Iterator[Ban]:
        """The bans on networks that an address is in."""
        if not self._by_length:
            return
        try:
            parsed = ip_address(address)
        except ValueError:
            return
        value = int(parsed)
        for (version, shift), group in self._by_length.items():
            if version == parsed.version and (ban := group.get(value >> shift)) is not None:
                yield ban


class Bans:
    """Counts offences and keeps offenders out; belongs to one event loop.

    Args:
        config: The limits.
        store: Where bans are kept.
        is_exempt: Tells the addresses that are never banned.
        clock: Monotonic seconds.
        now: The present, UTC.

    Attributes:
        on_command: Called once new bans by an operator have been read.
        offences: Counted since the start.
    """

    def __init__(
        self,
        config: BansConfig,
        store: BanStore,
        is_exempt: Callable[[str], bool],
        clock: Callable[[], float],
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self.on_command: list[Callable[[], object]] = []
        self.offences: Counter[Offence] = Counter()
        self._config = config
        self._store = store
        self._is_exempt = is_exempt
        self._clock = clock
        self._now = now
        self._table = _Table()
        self._by_operator: set[str] = set()
        self._stamp: object = None
        self._unwritten: list[Ban] = []
        self._counts: OrderedDict[tuple[str, Offence], tuple[float, int]] = OrderedDict()
        self._explained_s: OrderedDict[str, float] = OrderedDict()
        self._forgot_s = clock()
        self._is_failing = False

    def reload(self, config: BansConfig) -> None:
        """Take new limits."""
        self._config = config

    def find(self, address: str, *, by_operator: bool = False) -> Ban | None:
        """The ban, or the operator's ban, that keeps an address out, or None."""
        for ban in self._table.find(address):
            if by_operator and ban.automatic:
                continue
            if ban.is_in_force(self._now()) and not self._is_exempt(address):
                return ban
        return None

    def explains(self, ban: Ban) -> bool:
        """The next client that this ban keeps out may be told so."""
        if self.is_told(ban):
            return False
        self._explained_s[ban.network] = self._clock()
        self._explained_s.move_to_end(ban.network)
        if len(self._explained_s) > self._config.origins:
            self._explained_s.popitem(last=False)
        return True

    def is_told(self, ban: Ban) -> bool:
        """A client that this ban keeps out has just been told so."""
        return self._clock() < self._explained_s.get(ban.network, float("-inf")) + _EXPLAIN_GAP_S

    def offend(self, address: str, offence: Offence, sessions: Callable[[], int]) -> None:
        """Count an offence, and ban where it is one too many.

        Args:
            address: Whose.
            offence: Its kind.
            sessions: Counts the sessions that are open from there.
        """
        limit = getattr(self._config, offence.key)
        self.offences[offence] += 1
        if not limit or not address or self._is_exempt(address):
            return
        key = (origin_of(address), offence)
        started_s, count = self._counted(key)
        count += 1
        self._counts[key] = (started_s, count)
        self._counts.move_to_end(key)
        if len(self._counts) > self._config.origins:
            self._counts.popitem(last=False)
        if count % limit == 0 and count >= limit * (1 + sessions()):
            del self._counts[key]
            self._ban(key[0], f"{count} {offence} within {self._config.window_s:g} s")

    def count(self, address: str, offence: Offence) -> int:
        """Offences of an address in the present window."""
        return self._counted((origin_of(address), offence))[1]

    async def load(self) -> None:
        """Read all bans."""
        self._stamp = await self._store.stamp()
        bans, table = list(reversed(await self._store.all())), _Table()
        for number, ban in enumerate(bans):
            table.put(ban)
            if number % _ROWS_AT_ONCE == 0:  # thousands of them must not hold up the streams
                await asyncio.sleep(0)
        for ban in self._unwritten:
            table.put(ban)
        self._table = table
        known, self._by_operator = self._by_operator, {ban.network for ban in bans if not ban.automatic}
        if self._by_operator - known:
            for callback in self.on_command:
                callback()

    async def run(self) -> None:
        """Write what is new, and look for what others changed, until cancelled."""
        while True:
            await asyncio.sleep(self._config.refresh_s)
            try:
                await self.exchange()
                self._is_failing = False
            except self._store.errors as error:
                if not self._is_failing:
                    _log.error("the bans cannot be read or written", error=str(error).partition("\n")[0])
                self._is_failing = True

    async def exchange(self) -> None:
        """Write what is new, read what others changed, and forget what ended long ago."""
        if self._unwritten:
            writing = tuple(self._unwritten)
            await self._store.put(*writing)
            del self._unwritten[: len(writing)]
        if self._clock() - self._forgot_s > _FORGET_PERIOD_S:
            self._forgot_s = self._clock()
            await self._store.forget(self._now() - timedelta(seconds=self._config.ban_max_s))
        if await self._store.stamp() != self._stamp:
            await self.load()

    def metrics(self) -> Iterator[Metric]:
        """For Prometheus."""
        family = CounterMetricFamily("dipper_offences", "Offences, by kind.", labels=["offence"])
        for offence in Offence:
            family.add_metric([offence.key], self.offences[offence])
        yield family
        waiting = len(self._unwritten)
        yield GaugeMetricFamily("dipper_bans_unwritten", "Bans that wait for the database.", value=waiting)

    def _counted(self, key: tuple[str, Offence]) -> tuple[float, int]:
        now_s = self._clock()
        started_s, count = self._counts.get(key, (now_s, 0))
        return (started_s, count) if now_s - started_s <= self._config.window_s else (now_s, 0)

    def _ban(self, origin: str, reason: str) -> None:
        network, now = network_of(origin), self._now()
        before = next((ban for ban in self._table.find(origin.partition("/")[0]) if ban.network == network), None)
        count = before.count + 1 if before else 1
        seconds = min(self._config.ban_s * 2.0 ** min(count - 1, 30), self._config.ban_max_s)
        ban = Ban(network, reason[:_REASON_MAX], now, now + timedelta(seconds=seconds), automatic=True, count=count)
        self._table.put(ban)
        if len(self._unwritten) < _BANS_MAX:
            self._unwritten.append(ban)
        _log.warning("banned", network=network, reason=reason, seconds=round(seconds))
