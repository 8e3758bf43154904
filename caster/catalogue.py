"""Other casters' streams under this caster's roof: their sourcetables, filtered, become mountpoints on demand.

One task per upstream caster fetches its table now and then. Each row that passes the filter becomes a relay on demand
(`caster.relay`), or, where the row says that rovers must send their position, a relay with a connection for each rover
(`caster.rover_relay`). Our sourcetable repeats the rows with our names and rights. A row that has gone takes its
mountpoint with it once nobody follows; while the upstream caster is away, everything stays.

Rules: a name that exists here already wins; no caster brings more than `mounts_max` mountpoints, and all together not
more than `limits.mounts`.
"""

import asyncio
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Final
from urllib.parse import quote, urlsplit

import structlog
from pydantic import ValidationError

from caster.backoff import Backoff
from caster.codec.ntrip import Record, parse_query
from caster.config import Config, MountConfig, UpstreamConfig
from caster.errors import DipperError
from caster.mountpoints import Mountpoint, Mountpoints
from caster.relay import RelayMountpoint
from caster.rover_relay import RoverRelayMountpoint
from caster.upstream import Upstream, fetch_table

__all__ = ["Catalogue", "ListedMountpoint"]

_log = structlog.get_logger(__name__)

_RETRY_MIN_S: Final = 5.0


class ListedMountpoint(Mountpoint):
    """A mountpoint that another caster's table lists.

    Attributes:
        listing: Its row there.
    """

    is_listed = True
    listing: Record

    def record(self) -> Record:
        """The row of the upstream caster under our name and rights; what is measured here where a stream flows."""
        own = super().record()
        seen = ("format_details", "nav_system", "carrier") if self.mount.traffic.frame_count else ()
        ours = ("mountpoint", "authentication", "nmea", *seen)
        return self.listing.replaced(**{name: own[name] for name in ours})


class _ListedRelay(ListedMountpoint, RelayMountpoint):
    """One stream for all rovers."""


class _ListedRoverRelay(ListedMountpoint, RoverRelayMountpoint):
    """A stream for each rover."""


class _Upstream:
    """One upstream caster and the mountpoints made of its table."""

    def __init__(self, config: UpstreamConfig, mountpoints: Mountpoints) -> None:
        self.config = config
        self._mountpoints = mountpoints
        self._upstream = Upstream.parse(config.address, needs_mount=False)
        self._names: set[str] = set()

    async def run(self) -> None:
        """Keep up with the table until cancelled."""
        backoff, told = Backoff(_RETRY_MIN_S, self.config.refresh_s), ""
        while True:
            try:
                self.merge(await fetch_table(self._upstream, self.config.ca_file))
                backoff.reset()
                told, wait_s = "", self.config.refresh_s
            except DipperError as error:
                wait_s = backoff.next_s()
                if str(error) != told:
                    told = str(error)
                    _log.warning("upstream table failed", reason=told)
            await asyncio.sleep(wait_s)

    def merge(self, records: Sequence[Record]) -> None:
        """Make the mountpoints that a table lists, and remove those that it lists no more."""
        chosen = self._choose(records)
        for name in self._names - chosen.keys():
            mountpoint = self._mountpoints.get(name)
            if mountpoint is None or not mountpoint.is_listed:
                self._names.discard(name)
            elif not mountpoint.rover_count:
                self._mountpoints.remove(name)
                self._names.discard(name)
        for name, record in chosen.items():
            self._offer(name, record)

    def remove(self) -> None:
        """The caster is no longer an upstream of ours."""
        self.merge([])

    def _choose(self, records: Sequence[Record]) -> dict[str, Record]:
        """The rows wanted, by the names that they get here."""
        config = self.config
        rows = [record for record in records if record.kind == "STR" and record["mountpoint"]]
        rows = [r for r in rows if any(fnmatchcase(r["mountpoint"], pattern) for pattern in config.mounts)]
        if config.filter:
            rows = parse_query(f"filter={config.filter}").select(rows)
        return {config.prefix + record["mountpoint"]: record for record in rows[: config.mounts_max]}

    def _offer(self, name: str, record: Record) -> None:
        mountpoint = self._mountpoints.get(name)
        if isinstance(mountpoint, ListedMountpoint) and name in self._names:
            mountpoint.listing = record
        elif mountpoint is None and len(list(self._mountpoints)) < self._mountpoints.config.limits.mounts:
            made = self._make(name, record)
            if made is not None:
                made.listing = record
                self._names.add(name)
                self._mountpoints.add(made)

    def _make(self, name: str, record: Record) -> ListedMountpoint | None:
        config, own_stream = self.config, record["nmea"] == "1"
        url = urlsplit(config.address)._replace(path="/" + quote(record["mountpoint"], safe="")).geturl()
        try:
            rule = MountConfig(
                name=name,
                kind="rover-relay" if own_stream else "relay",
                sources=(url,),
                open=config.open,
                on_demand=True,
                linger_s=config.linger_s,
                rovers_max=config.rovers_max,
                ca_file=config.ca_file,
                raw=not record["format"].upper().startswith("RTCM 3"),
            )
        except ValidationError:  # a name that we do not allow
            return None
        return (_ListedRoverRelay if own_stream else _ListedRelay)(rule, self._mountpoints)


class Catalogue:
    """All upstream casters.

    Args:
        config: Names them.
        mountpoints: Where their streams go.
    """

    def __init__(self, config: Config, mountpoints: Mountpoints) -> None:
        self._mountpoints = mountpoints
        self._upstreams: dict[UpstreamConfig, tuple[_Upstream, asyncio.Task[None]]] = {}
        self.reload(config)

    def reload(self, config: Config) -> None:
        """Take other upstream casters; those that stay are not touched."""
        for known in set(self._upstreams) - set(config.upstreams):
            upstream, task = self._upstreams.pop(known)
            task.cancel()
            upstream.remove()
        for new in config.upstreams:
            if new not in self._upstreams:
                upstream = _Upstream(new, self._mountpoints)
                task = asyncio.get_running_loop().create_task(upstream.run(), name="upstream table")
                self._upstreams[new] = upstream, task

    async def close(self) -> None:
        """End the tasks; the mountpoints are closed by `Mountpoints`."""
        tasks = [task for _, task in self._upstreams.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
