"""The `fix` service: raw observations in, NMEA positions out.

A rover sends RTCM 3 observations on the connection that it opened with GET (as `str2str -b` does), and gets its own
NMEA on it; or a source pushes observations to a mountpoint of this kind, and everybody who follows it gets that NMEA.
Either way a `Track` cuts the bytes into frames and epochs on the loop, and hands each epoch to the solver's threads,
together with the latest epoch of the nearest healthy station.

How good a position is to be is the mountpoint's (`accuracy`): centimetres by carriers (`caster.solving`) as far as a
station is near enough and there is time (`caster.shedding`), or sub-metre by codes. A rover is differential where a
station within reach has an epoch at most `AGE_MAX_S` older; otherwise it is positioned alone, which needs no station,
only ephemerides from any stream. Per rover there are a frame reader, an epoch assembler and the solver's state;
ephemerides and base epochs are shared.
"""

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Final

import structlog

from caster.codec import nmea
from caster.codec.ntrip import parse_gga
from caster.codec.rtcm import FrameReader
from caster.config import MountConfig
from caster.engine import Engine, Stream
from caster.hub import Mount
from caster.mountpoints import Mountpoint, Mountpoints, Rover, Source
from caster.shedding import LATE_S, Shedding
from caster.solving import AGE_MAX_S, Carriers, Effort, RoverSolver
from caster.stationinfo import BaseEpoch
from solver.model import Ephemerides, Epoch, Fix, Quality
from solver.timescale import from_unix

__all__ = ["FixMountpoint", "Means", "Track", "TrackCounters"]

FOREIGN_BYTES_MAX: Final = 2048
"""So many bytes without a frame are not RTCM 3, and the rover is told."""
_FOREIGN: Final = {b"\xb5b": "UBX", b"$@": "SBF", b"$G": "NMEA without observations"}

_log = structlog.get_logger(__name__)


@dataclass(slots=True)
class TrackCounters:
    """What became of a rover's bytes.

    Attributes:
        frames: Whole frames.
        epochs: Assembled.
        fixes: Epochs answered, by quality; `Quality.NONE` counts those without a position.
        hasty: Those of them whose carriers there was no time for.
    """

    frames: int = 0
    epochs: int = 0
    fixes: Counter[Quality] = field(default_factory=Counter)
    hasty: int = 0

    def add(self, other: "TrackCounters") -> None:
        """Count another's as well."""
        self.frames += other.frames
        self.epochs += other.epochs
        self.fixes.update(other.fixes)
        self.hasty += other.hasty


@dataclass(frozen=True, slots=True)
class Means:
    """What all rovers of the service share.

    Attributes:
        engine: Stations, ephemerides and threads.
        carriers: What carriers are followed with.
        shedding: Which rovers' carriers there is time for.
    """

    engine: Engine
    carriers: Carriers
    shedding: Shedding


class Track:
    """One receiver's observations on their way to positions.

    Args:
        means: Of the service.
        name: For logs, and for people.
        send: Takes the sentences of each epoch.
        by_carriers: It is to get centimetres where it can.

    Attributes:
        fix: The last solution; None before the first epoch.
        base: The station whose corrections it is to use; None: none.
        latency_s: From the arrival of the last epoch's last byte to its sentences.
        counters: What became of its bytes.
    """

    def __init__(self, means: Means, name: str, send: Callable[[bytes], object], by_carriers: bool) -> None:
        self.name = name
        self.fix: Fix | None = None
        self.base: str | None = None
        self.latency_s = float("nan")
        self.counters = TrackCounters()
        self._engine = means.engine
        self._carriers = means.carriers
        self._shedding = means.shedding
        self._send = send
        self._by_carriers = by_carriers
        self._reader = FrameReader()
        self._stream = Stream(self._engine, self._engine.rover_pool)
        self._solver = RoverSolver(means.carriers)
        self._submitted_ns = -1
        self._foreign = b""
        self._is_closed = False
        self._engine.on_tick.append(self._tick)
        if by_carriers:
            self._shedding.join(self)

    @property
    def bad_frames(self) -> int:
        """Damaged frames, and whole ones that are not what their type says."""
        return self._reader.counters.bad_crc + self._stream.assembler.counters.faulty

    def receive(self, data: bytes, received_unix_ns: int) -> None:
        """Take bytes in any split."""
        received_ns = from_unix(received_unix_ns)
        frames = self._reader.feed(data)
        self.counters.frames += len(frames)
        if not self.counters.frames:
            self._look_at_foreign(data)
        for frame in frames:
            for epoch in self._stream.push(frame, received_ns):
                self._submit(epoch)

    def close(self) -> None:
        """The receiver has gone."""
        self._is_closed = True
        self._engine.on_tick.remove(self._tick)
        self._engine.workers.cancel(self)
        self._shedding.leave(self)
        self._use_base(None)

    def _tick(self, now_ns: int) -> None:
        for epoch in self._stream.expire(now_ns):
            self._submit(epoch)

    def _submit(self, epoch: Epoch) -> None:
        """Hand an epoch to the solver's threads, with the corrections that there are for it."""
        self.counters.epochs += 1
        base = self._engine.stations[self.base].info.epoch_for(epoch.time_ns, AGE_MAX_S) if self.base else None
        now_s, before_ns, self._submitted_ns = self._engine.now_s(), self._submitted_ns, epoch.time_ns
        work = partial(self._solve, epoch, before_ns, base, self._engine.ephemerides.snapshot(), self._effort(), now_s)
        self._engine.workers.submit(self, work, partial(self._take_fix, now_s))

    def _effort(self) -> Effort:
        """What is to be made of the next epoch."""
        if not self._by_carriers or not self._carriers.are_ready():
            return Effort.CODES
        return Effort.HASTE if self in self._shedding.shed else Effort.CARRIERS

    def _solve(
        self, epoch: Epoch, before_ns: int, base: BaseEpoch | None, ephemerides: Ephemerides, effort: Effort,
        submitted_s: float,
    ) -> tuple[Fix, bytes]:  # fmt: skip
        """Position one epoch; runs in a thread, one epoch of a track at a time, which alone touches the solver."""
        waited_s = self._engine.now_s() - submitted_s
        self._shedding.note(waited_s)
        if effort is Effort.CARRIERS and waited_s > LATE_S:
            effort = Effort.HASTE
        self.counters.hasty += effort is Effort.HASTE
        fix = self._solver.solve(epoch, before_ns, base, ephemerides, effort)
        return fix, nmea.sentences(fix, base.station_id if base is not None else None)

    def _take_fix(self, submitted_s: float, result: tuple[Fix, bytes]) -> None:
        """Send an epoch's sentences, and look for the station of the next one."""
        if self._is_closed:
            return
        self.fix, text = result
        self.counters.fixes[self.fix.quality] += 1
        self.latency_s = self._engine.now_s() - submitted_s
        self._send(text)
        if self.fix.quality is not Quality.NONE:
            self._use_base(self._engine.stations_map.choose(self.fix.position_ecef_m, self.base))

    def _use_base(self, name: str | None) -> None:
        """Let the engine decode another station's observations for this receiver."""
        if name == self.base:
            return
        if self.base is not None:
            self._engine.stations[self.base].release()
        if name is not None:
            self._engine.stations[name].need()
        self.base = name

    def _look_at_foreign(self, data: bytes) -> None:
        """Tell a receiver that sends something else than RTCM 3 what it sends, once."""
        if len(self._foreign) >= FOREIGN_BYTES_MAX:
            return
        self._foreign += data[: FOREIGN_BYTES_MAX - len(self._foreign)]
        if len(self._foreign) >= FOREIGN_BYTES_MAX:
            kind = next((name for mark, name in _FOREIGN.items() if mark in self._foreign), "no known format")
            _log.warning("no RTCM 3 in what a rover sends", rover=self.name, looks_like=kind)
            self._send(nmea.text(f"send observations as RTCM 3 MSM; this looks like {kind}"))


class FixMountpoint(Mountpoint):
    """A mountpoint whose rovers send observations and get positions.

    Attributes:
        tracks: Of the rovers that have sent something, by session number.
        source_track: Of the source that feeds the mountpoint, whose positions everybody gets; None: there is none.
    """

    takes_sources = True

    def __init__(self, means: Means, config: MountConfig, mountpoints: Mountpoints) -> None:
        super().__init__(config, mountpoints)
        self.mount = Mount(config.name, raw=True)
        self.tracks: dict[int, Track] = {}
        self.source_track: Track | None = None
        self._means = means
        self._gone = TrackCounters()

    @property
    def answers(self) -> Counter[Quality]:
        """Epochs answered so far, by quality."""
        return self._total().fixes

    @property
    def hasty(self) -> int:
        """Those of them whose carriers there was no time for."""
        return self._total().hasty

    @property
    def shed(self) -> int:
        """Rovers that are to have centimetres, and for which there is no time now."""
        return sum(track in self._means.shedding.shed for track in self._open())

    def on_uplink(self, rover: Rover, data: bytes) -> None:
        """A rover sends observations (or GGA, which is of no use here): from now on it gets its own positions."""
        track = self.tracks.get(rover.number)
        if track is None:
            rover.follow(None)
            name = f"{self.name} {rover.account or rover.address}"
            send = partial(self._answer, rover, rover.send)
            track = self.tracks[rover.number] = self._track(name, send)
        track.receive(data, time.time_ns())

    def on_leave(self, rover: Rover) -> None:
        """A rover has gone."""
        track = self.tracks.pop(rover.number, None)
        if track is not None:
            self._end(track)

    def on_source(self, source: Source) -> None:
        """A receiver pushes its observations."""
        name = f"{self.name} {source.account or source.address}"
        self.source_track = self._track(name, partial(self._answer, source, self._publish))

    def on_source_data(self, source: Source, data: bytes, received_unix_ns: int) -> None:
        """Its bytes."""
        if self.source_track is not None:
            self.source_track.receive(data, received_unix_ns)

    def on_source_gone(self, source: Source) -> None:
        """It has gone; its followers wait for it."""
        if self.source_track is not None:
            self._end(self.source_track)
            self.source_track = None

    def close(self) -> None:
        """The service ends."""
        for track in self._open():
            self._end(track)
        self.tracks.clear()
        self.source_track = None

    def _open(self) -> list[Track]:
        return [*self.tracks.values(), *filter(None, [self.source_track])]

    def _end(self, track: Track) -> None:
        track.close()
        self._gone.add(track.counters)

    def _total(self) -> TrackCounters:
        total = TrackCounters()
        for counters in (self._gone, *(track.counters for track in self._open())):
            total.add(counters)
        return total

    def _track(self, name: str, send: Callable[[bytes], object]) -> Track:
        return Track(self._means, name, send, self.config.accuracy == "centimetres")

    def _answer(self, session: Rover | Source, send: Callable[[bytes], object], text: bytes) -> None:
        """Send an epoch's sentences; what was told is what is logged."""
        send(text)
        if self.mountpoints.on_position and (gga := parse_gga(text.partition(b"\r\n")[0])) is not None:
            self.mountpoints.tell_position("fix", self, session, gga)

    def _publish(self, text: bytes) -> None:
        self.mount.publish((text,), time.time_ns())
