"""Mountpoints: what a name means to rovers and base stations, and the sourcetable made from all of them.

A mountpoint has a kind. Its fan-out (`Mountpoint.mount`, a `caster.hub.Mount`) is the same for every kind; a kind
decides what a rover follows, what becomes of a rover's upstream bytes, and what becomes of a base station's bytes:

* `station`: the station's own frames, untouched; a rover's upstream bytes go nowhere.
* `alias`: another mountpoint under a second name.
* `relay` and `rover-relay` (`caster.relay`, `caster.rover_relay`): another caster's stream, one for all rovers or one
  for each; `derived` (`caster.derived`): another mountpoint's, filtered and converted.
* Services (`dgnss`, `fix` and those to come) subclass `Mountpoint` in their own modules; `caster.app` hands a table of
  kinds to `Mountpoints`.

The life of a rover on a mountpoint: its head is answered, then `on_subscribe`, then any number of `on_uplink` and
`on_gga` (a rover's bytes are handed on in order, and GGA sentences found in them, or in the `Ntrip-GGA` header, come
after the bytes that held them), then `on_leave`, once. The life of a base station: `on_source`, `on_source_data`,
`on_source_gone`. All of these are called from the event loop and must return at once: heavy work goes to a thread, and
its result comes back with `loop.call_soon_threadsafe`. An exception in them ends that one session, by name.
"""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol, TypeAlias

from caster.codec.ntrip import Gga, Record
from caster.codec.ntrip.sourcetable import MOUNT_NAME_MAX
from caster.codec.rtcm import FrameReader, ScanSpace
from caster.config import CasterInfo, Config, MountConfig
from caster.errors import ConfigError, RefusedError
from caster.hub import Mount, Turn
from caster.traffic import ends_epoch

__all__ = ["AliasMountpoint", "KindFactory", "Mountpoint", "Mountpoints", "Rover", "Source", "StationMountpoint"]

GENERATOR = "Big Dipper"
_NAME = re.compile(rf"[A-Za-z0-9_.-]{{1,{MOUNT_NAME_MAX}}}")
_JOIN_BYTES_MAX = 64 << 10
_SINGLE_STATION_KINDS = frozenset({"station", "alias", "relay", "derived"})


class Rover(Protocol):
    """A rover's session, as a mountpoint sees it."""

    @property
    def number(self) -> int:
        """Of the session, unique in this process."""

    @property
    def account(self) -> str:
        """The account's name; empty for a rover that needed none."""

    @property
    def address(self) -> str:
        """The peer's address."""

    @property
    def gga(self) -> Gga | None:
        """The last GGA sentence that it sent."""

    def send(self, data: bytes) -> bool:
        """Send whole frames or sentences to this rover alone; False where its backlog is full and they are lost."""

    def follow(self, mount: Mount | None) -> None:
        """Follow a mount's fan-out (its station messages come first) instead of the present one; None: none."""

    def close(self, reason: str) -> None:
        """End the session; the reason is logged and counted, so let it be one of few short names."""


class Source(Protocol):
    """A base station's session, as a mountpoint sees it."""

    @property
    def number(self) -> int:
        """Of the session, unique in this process."""

    @property
    def account(self) -> str:
        """The account's name."""

    @property
    def address(self) -> str:
        """The peer's address."""

    @property
    def agent(self) -> str:
        """The station software's name of itself."""

    def close(self, reason: str) -> None:
        """End the session."""


class Mountpoint:
    """A mountpoint; subclass it for a kind, and override what the kind does.

    Args:
        config: The mountpoint's settings.
        mountpoints: All mountpoints: a service finds its stations there.

    Attributes:
        config: The mountpoint's settings.
        mount: The fan-out that rovers of this mountpoint follow by default.
        source: The base station that feeds it now, or None.
        source_last_s: The loop's time when the source last sent something.
    """

    takes_sources = False
    """Base stations may push to it."""
    needs_gga = False
    """Rovers must send their position (the sourcetable's `nmea` field)."""
    is_listed = False
    """It was made from another caster's table (`caster.catalogue`), not from the configuration or by a base station."""

    def __init__(self, config: MountConfig, mountpoints: "Mountpoints") -> None:
        self.config = config
        self.mountpoints = mountpoints
        self.mount = Mount(config.name, raw=config.raw, send_ephemerides=config.send_ephemerides)
        self.source: Source | None = None
        self.source_last_s = 0.0

    @property
    def name(self) -> str:
        """The mountpoint's name."""
        return self.config.name

    @property
    def is_live(self) -> bool:
        """It can serve a rover now; services that compute for each rover are always live."""
        return True

    @property
    def rover_count(self) -> int:
        """Rovers that it has, served or waiting."""
        return self.mount.demand

    @property
    def refusal(self) -> str:
        """Why no rover can be let in now, in words that follow its name; empty where one can."""
        return "" if self.is_live else "is offline: no station feeds it now"

    @property
    def is_idle(self) -> bool:
        """No stream is expected now, so its absence is no fault."""
        return False

    def on_subscribe(self, rover: Rover) -> None:
        """A rover's head has been answered; the default lets it follow the mountpoint's own fan-out."""
        rover.follow(self.mount)

    def on_uplink(self, rover: Rover, data: bytes) -> None:
        """A rover sent bytes: any split of anything, GGA included; the default ignores them."""

    def on_gga(self, rover: Rover, gga: Gga) -> None:
        """A rover sent a GGA sentence; `rover.gga` is the same."""

    def on_leave(self, rover: Rover) -> None:
        """A rover has gone, or is about to be closed; nothing more can be sent to it."""

    def on_source(self, source: Source) -> None:
        """A base station's head has been answered; `self.source` is set."""

    def on_source_data(self, source: Source, data: bytes, received_unix_ns: int) -> None:
        """A base station sent bytes, without any transfer coding, in any split."""

    def on_source_gone(self, source: Source) -> None:
        """The base station has gone; `self.source` is still set to it."""

    def on_config(self, config: MountConfig) -> None:
        """The configuration was read again; the default takes the new settings."""
        self.config = config

    def close(self) -> None:
        """The mountpoint is removed or the service ends: let go of what is held."""

    def record(self) -> Record:
        """The mountpoint's row of the sourcetable, from what it carries and what its settings say."""
        config, traffic = self.config, self.mount.traffic
        position = traffic.position_deg()
        latitude = config.latitude if config.latitude is not None else position[0] if position else None
        longitude = config.longitude if config.longitude is not None else position[1] if position else None
        return Record.of(
            "STR",
            mountpoint=config.name,
            identifier=config.identifier or config.name,
            format="RAW" if config.raw else "RTCM 3.3",
            format_details=traffic.format_details(),
            carrier=traffic.carrier(),
            nav_system="+".join(traffic.systems()),
            network=config.network,
            country=config.country,
            latitude=latitude,
            longitude=longitude,
            nmea=self.needs_gga,
            solution=int(config.kind not in _SINGLE_STATION_KINDS),
            generator=GENERATOR,
            compr_encryp="none",
            authentication="N" if config.open else "B",
            fee="Y" if config.fee else "N",
            bitrate=traffic.bitrate(),
            misc=";".join(filter(None, [config.misc, "" if self.is_live else "offline"])) or "none",
        )


class StationMountpoint(Mountpoint):
    """A station's own stream, untouched: bytes are cut into frames, the frames of one epoch published together."""

    takes_sources = True

    def __init__(self, config: MountConfig, mountpoints: "Mountpoints") -> None:
        super().__init__(config, mountpoints)
        self._reader = FrameReader(mountpoints.scan_space)
        self._joined: list[bytes] = []
        self._joined_unix_ns = 0
        self._more_to_come = False
        self._flush_timer: asyncio.TimerHandle | None = None

    @property
    def is_live(self) -> bool:
        """A station feeds it."""
        return self.source is not None

    def on_source(self, source: Source) -> None:
        """A new connection begins in the middle of nothing: what the last one left unfinished is dropped."""
        self._reader = FrameReader(self.mountpoints.scan_space)

    def on_source_data(self, source: Source, data: bytes, received_unix_ns: int) -> None:
        """Publish the frames that end in these bytes."""
        if self.config.raw:
            self.mountpoints.turn.publish(self.mount, (data,), received_unix_ns)
            return
        self.mountpoints.turn.read(self._reader, data, self.mount, self.receive_frames, received_unix_ns)

    def receive_frames(self, frames: list[bytes], received_unix_ns: int) -> None:
        """Publish frames, an epoch's frames at once where they come within the joining time.

        One send per rover and epoch is what makes ten thousand rovers cheap, and a rover can do nothing with half an
        epoch; so while the last observation frame says that more of its epoch follow, frames are held, shortly.
        """
        for frame in frames:
            last = ends_epoch(frame)
            self._more_to_come = self._more_to_come if last is None else not last
        if not self._more_to_come and not self._joined:
            self.mountpoints.turn.publish(self.mount, frames, received_unix_ns)
            return
        if not self._joined:
            self._joined_unix_ns = received_unix_ns
        self._joined += frames
        wait_s = self.mountpoints.config.limits.epoch_join_s
        if not self._more_to_come or not wait_s or sum(map(len, self._joined)) > _JOIN_BYTES_MAX:
            self._flush()
        elif self._flush_timer is None:
            self._flush_timer = asyncio.get_running_loop().call_later(wait_s, self._flush)

    def _flush(self) -> None:
        if self._flush_timer is not None:
            self._flush_timer.cancel()
            self._flush_timer = None
        frames, self._joined = self._joined, []
        self._more_to_come = False
        if frames:
            self.mountpoints.turn.publish(self.mount, frames, self._joined_unix_ns)

    def on_source_gone(self, source: Source) -> None:
        """The last bytes may have ended in whole frames that waited for more."""
        self.mountpoints.turn.end()
        if not self.config.raw:
            self._joined += self._reader.finish()
        self._flush()
        self.mountpoints.turn.end()
        self.mount.forget()

    def close(self) -> None:
        """Publish what waits."""
        self._flush()


class AliasMountpoint(Mountpoint):
    """Another mountpoint under a second name."""

    @property
    def _target(self) -> Mountpoint | None:
        target = self.mountpoints.get(self.config.target)
        return None if isinstance(target, AliasMountpoint) else target

    @property
    def is_live(self) -> bool:
        """The mountpoint that it stands for is live."""
        return self._target is not None and self._target.is_live

    def on_subscribe(self, rover: Rover) -> None:
        """The rover is the other mountpoint's."""
        if self._target is not None:
            self._target.on_subscribe(rover)

    def on_uplink(self, rover: Rover, data: bytes) -> None:
        """The rover is the other mountpoint's."""
        if self._target is not None:
            self._target.on_uplink(rover, data)

    def on_gga(self, rover: Rover, gga: Gga) -> None:
        """The rover is the other mountpoint's."""
        if self._target is not None:
            self._target.on_gga(rover, gga)

    def on_leave(self, rover: Rover) -> None:
        """The rover is the other mountpoint's."""
        if self._target is not None:
            self._target.on_leave(rover)

    def record(self) -> Record:
        """The other mountpoint's row under this one's name and rights."""
        if self._target is None:
            return super().record()
        name, rights = self.config.identifier or self.name, "N" if self.config.open else "B"
        return self._target.record().replaced(mountpoint=self.name, identifier=name, authentication=rights)


KindFactory: TypeAlias = Callable[[MountConfig, "Mountpoints"], Mountpoint]
_OWN_KINDS: dict[str, KindFactory] = {"station": StationMountpoint, "alias": AliasMountpoint}


class Mountpoints:
    """All mountpoints by name.

    Args:
        config: The configuration.
        kinds: Factories of the services' kinds.

    Attributes:
        on_new: Called with each mountpoint when it appears: the archive and the engine attach themselves so.
        on_position: Called with each position that a rover sends (`gga`) or that is computed for it (`fix`).
        scan_space: For the frame readers of all base stations.
        turn: What base stations publish goes through it.
    """

    def __init__(self, config: Config, kinds: Mapping[str, KindFactory]) -> None:
        self.config = config
        self.on_new: list[Callable[[Mountpoint], Any]] = []
        self.on_position: list[Callable[[str, Mountpoint, Rover | Source, Gga], Any]] = []
        self.scan_space = ScanSpace()
        self.turn = Turn()
        self._kinds = {**_OWN_KINDS, **kinds}
        self._by_name: dict[str, Mountpoint] = {}

    def open(self) -> None:
        """Make the mountpoints that the configuration names.

        Raises:
            ConfigError: A mountpoint has a kind that there is not.
        """
        self.check()
        for rule in self.config.mounts:
            if not rule.is_pattern:
                self._add(rule)

    def check(self) -> None:
        """Look at what only those who know all kinds can tell.

        Raises:
            ConfigError: A mountpoint has a kind that there is not.
        """
        for number, rule in enumerate(self.config.mounts):
            if rule.kind not in self._kinds:
                known = ", ".join(sorted(self._kinds))
                raise ConfigError(f"mounts[{number}].kind: {rule.name}: kind {rule.kind!r} is none of {known}")

    def reload(self, config: Config) -> None:
        """Take a new configuration: settings change in place, new mountpoints appear, healthy sessions stay.

        Mountpoints that are no longer named stay until the next start where somebody uses them.
        """
        self.config = config
        named = {rule.name: rule for rule in config.mounts if not rule.is_pattern}
        for name, mountpoint in list(self._by_name.items()):
            if mountpoint.is_listed:
                if name in named:
                    self.remove(name)
                continue
            rule = named.pop(name, None) or config.mount_rule(name)
            if rule.kind == mountpoint.config.kind:
                mountpoint.on_config(rule)
            elif mountpoint.source is None and not len(mountpoint.mount):
                self.remove(name)
                named[name] = rule
        for rule in named.values():
            self._add(rule)

    def __iter__(self) -> Iterator[Mountpoint]:
        """The mountpoints, by name."""
        return iter([self._by_name[name] for name in sorted(self._by_name)])

    def get(self, name: str) -> Mountpoint | None:
        """The mountpoint of a name (case matters), or None."""
        return self._by_name.get(name)

    def for_source(self, name: str) -> Mountpoint:
        """The mountpoint that a base station pushes to; a new one where the configuration lets stations make them.

        Raises:
            RefusedError: There is none and none may be made (404), or it takes no base station (403).
        """
        mountpoint = self.get(name)
        if mountpoint is None:
            mountpoint = self._create(name)
        if not mountpoint.takes_sources:
            raise RefusedError(f"mountpoint {name} takes no base station", 403)
        return mountpoint

    def add(self, mountpoint: Mountpoint) -> None:
        """A mountpoint appears; its name is free."""
        self._by_name[mountpoint.name] = mountpoint
        for callback in self.on_new:
            callback(mountpoint)

    def remove(self, name: str) -> None:
        """A mountpoint disappears."""
        self._by_name.pop(name).close()

    def records(self, port: int) -> list[Record]:
        """The whole sourcetable of a caster that listens on a port."""
        config = self.config
        return [
            _caster_record(config.caster, port),
            *(Record.of("NET", **_net_fields(network.model_dump())) for network in config.networks),
            *(mountpoint.record() for mountpoint in self),
        ]

    def tell_position(self, kind: str, mountpoint: Mountpoint, session: Rover | Source, gga: Gga) -> None:
        """A rover has sent its position (`gga`), or one was computed for it (`fix`)."""
        for callback in self.on_position:
            callback(kind, mountpoint, session, gga)

    def close(self) -> None:
        """The service ends."""
        for mountpoint in self:
            mountpoint.close()

    def _create(self, name: str) -> Mountpoint:
        if not self.config.accounts.push_creates_mounts:
            raise RefusedError(f"there is no mountpoint {name}", 404)
        if not _NAME.fullmatch(name):
            raise RefusedError("a mountpoint's name has 1 to 100 of the characters A-Z a-z 0-9 _ . -", 404)
        if len(self._by_name) >= self.config.limits.mounts:
            raise RefusedError(f"there are {self.config.limits.mounts} mountpoints, the most that are allowed", 503)
        return self._add(self.config.mount_rule(name))

    def _add(self, config: MountConfig) -> Mountpoint:
        mountpoint = self._kinds[config.kind](config, self)
        self.add(mountpoint)
        return mountpoint


def _caster_record(caster: CasterInfo, port: int) -> Record:
    return Record.of(
        "CAS",
        host=caster.host or "0.0.0.0",
        port=port,
        identifier=caster.identifier,
        operator=caster.operator,
        nmea=True,
        country=caster.country,
        latitude=caster.latitude,
        longitude=caster.longitude,
        fallback_host=caster.fallback_host,
        fallback_port=caster.fallback_port,
        misc=caster.misc or "none",
    )


def _net_fields(fields: dict[str, Any]) -> dict[str, Any]:
    return {**fields, "authentication": "B", "fee": "Y" if fields["fee"] else "N", "misc": fields["misc"] or "none"}
