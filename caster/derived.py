"""Streams made of a station's stream: some message types left out, observations converted, epochs thinned out.

A `DerivedMountpoint` is a tap on the mount of a station (or a relay): what the station publishes together is converted
once, and published to all rovers of the derived mountpoint. The station's rovers are not concerned, and its sourcetable
row says what is really sent, since it is made from the derived traffic.

* What is dropped by type is dropped before anything is converted.
* Epochs are thinned out by the time of observation, so that all streams of a network keep the same seconds.
* Where the last observation message of an epoch is left out, the one before it becomes the last: a receiver that goes
  by the multiple message bit would wait for more otherwise.
* A message that cannot be converted is counted and left out; the others go on.
"""

from collections.abc import Callable, Sequence
from typing import Final

import structlog

from caster.codec.ntrip import Record
from caster.codec.rtcm.convert import LegacyEncoder, lower_msm, without_multiple
from caster.config import MountConfig
from caster.errors import DipperError, LocalProtocolError
from caster.health import epoch_tod_ms
from caster.hub import Mount
from caster.mountpoints import Mountpoint, Mountpoints, StationMountpoint
from caster.traffic import ends_epoch, frame_type, msm_system
from solver.timescale import from_unix, leap_seconds

__all__ = ["Derivation", "DerivedMountpoint"]

_log = structlog.get_logger(__name__)

_TIME_TOLERANCE_MS: Final = 10
"""Receivers stamp their epochs some milliseconds off the second where their clock is not steered."""
_DAY_MS: Final = 86_400_000
_GLONASS_EPHEMERIS: Final = 1020


class Derivation:
    """What becomes of one station's frames.

    Args:
        config: What to keep, drop, convert to, and how often.

    Attributes:
        faulty: Messages that could not be converted.
    """

    def __init__(self, config: MountConfig) -> None:
        self.faulty = 0
        self._wanted: dict[int, bool] = {}
        self._keep, self._drop = config.keep, config.drop
        self._interval_ms = round(config.interval_s * 1000)
        self._legacy = LegacyEncoder() if config.convert == "legacy" else None
        self._convert = self._converter(config.convert)

    def _converter(self, name: str) -> Callable[[bytes], bytes | None]:
        if self._legacy is not None:
            return self._legacy.convert
        if not name:
            return lambda frame: frame
        kind = int(name.removeprefix("msm"))
        return lambda frame: lower_msm(frame, kind)

    def take(self, frames: Sequence[bytes], leap_s: int) -> list[bytes]:
        """The frames to send for some that came together.

        Args:
            frames: In order.
            leap_s: GPST less UTC, for the time of GLONASS.
        """
        sent: list[bytes] = []
        last: int | None = None  # where in `sent` the open epoch's latest observations are
        for frame in frames:
            ends = ends_epoch(frame)
            made = self._frame(frame, ends is not None, leap_s)
            if made is not None:
                last = last if ends is None else len(sent)
                sent.append(made)
            if ends:
                if last is not None and not ends_epoch(sent[last]):
                    sent[last] = without_multiple(sent[last])
                last = None
        return sent

    def _frame(self, frame: bytes, observes: bool, leap_s: int) -> bytes | None:
        kind = frame_type(frame)
        try:
            if self._legacy is not None and kind == _GLONASS_EPHEMERIS:
                self._legacy.learn(frame)
            if not self._wants(kind) or (observes and not self._is_due(frame, kind, leap_s)):
                return None
            return self._convert(frame) if msm_system(kind) else frame
        except (DipperError, LocalProtocolError, ValueError):  # values that no field of the other form can hold
            self.faulty += 1
            return None

    def _wants(self, kind: int) -> bool:
        """Whether a message type is sent on; there are 4096 at most, and each is looked up once."""
        known = self._wanted.get(kind)
        if known is None:
            known = self._wanted[kind] = self._look_up(kind)
        return known

    def _look_up(self, kind: int) -> bool:
        kept = not self._keep or any(first <= kind <= last for first, last in self._keep)
        return kept and not any(first <= kind <= last for first, last in self._drop)

    def _is_due(self, frame: bytes, kind: int, leap_s: int) -> bool:
        """The epoch is of a whole interval of the GPST day."""
        if not self._interval_ms or len(frame) < 13:
            return True
        off_ms = (epoch_tod_ms(frame, kind, leap_s) + _TIME_TOLERANCE_MS) % _DAY_MS % self._interval_ms
        return off_ms <= 2 * _TIME_TOLERANCE_MS


class DerivedMountpoint(Mountpoint):
    """A mountpoint whose stream is made of a station's."""

    def __init__(self, config: MountConfig, mountpoints: Mountpoints) -> None:
        super().__init__(config, mountpoints)
        self.derivation = Derivation(config)
        self._station: StationMountpoint | None = None
        mountpoints.on_new.append(self._see)
        self._find()

    @property
    def is_live(self) -> bool:
        """The station is live."""
        return self._station is not None and self._station.is_live

    @property
    def is_idle(self) -> bool:
        """The station is idle."""
        return self._station is not None and self._station.is_idle

    def on_config(self, config: MountConfig) -> None:
        """Take another way of making the stream, or another station."""
        if config != self.config:
            super().on_config(config)
            self.derivation = Derivation(config)
            self._let_go()
            self.mount.forget()
            self._find()

    def close(self) -> None:
        """Let go of the station."""
        self._let_go()
        self.mountpoints.on_new.remove(self._see)

    def record(self) -> Record:
        """What is really sent, where the station is, under this mountpoint's name and rights."""
        own = super().record()
        if self._station is None:
            return own
        theirs = self._station.record()
        fill = ("network", "country", "latitude", "longitude")
        values = {name: own[name] or theirs[name] for name in fill}
        form = "RTCM 3.1" if self.config.convert == "legacy" else own["format"]
        return own.replaced(**values, identifier=self.config.identifier or theirs["identifier"], format=form)

    def _find(self) -> None:
        station = self.mountpoints.get(self.config.source)
        if station is not None:
            self._see(station)

    def _see(self, mountpoint: Mountpoint) -> None:
        """A mountpoint has appeared: it may be the station, which may have been another object before."""
        if mountpoint.name != self.config.source:
            return
        self._let_go()
        if not isinstance(mountpoint, StationMountpoint) or mountpoint.config.raw:
            reason = "a stream can be made of RTCM 3 of a station or a relay alone"
            _log.warning("no derived stream", mount=self.name, source=mountpoint.name, reason=reason)
            return
        self._station = mountpoint
        mountpoint.mount.tap(self._take)
        mountpoint.mount.derived.append(self.mount)
        self.mount.on_demand = mountpoint.mount.want

    def _let_go(self) -> None:
        if self._station is not None:
            self._station.mount.untap(self._take)
            self._station.mount.derived.remove(self.mount)
            self._station, self.mount.on_demand = None, None

    def _take(self, mount: Mount, frames: Sequence[bytes], received_unix_ns: int) -> None:
        leap_s = leap_seconds(from_unix(received_unix_ns))
        self.mount.publish(self.derivation.take(frames, leap_s), received_unix_ns)
