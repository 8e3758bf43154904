"""The `fix` service: raw observations in, NMEA positions out.

A rover sends RTCM 3 observations on the connection that it opened with GET (as `str2str -b` does), and gets its own
NMEA on it; or a source pushes observations to a mountpoint of this kind, and everybody who follows it gets that NMEA.
Either way a `Track` cuts the bytes into frames and epochs on the loop, and hands each epoch to the solver's threads,
together with the latest epoch of the nearest healthy station.

A rover is differential where a station within reach has an epoch at most `AGE_MAX_S` older; otherwise it is positioned
alone, which needs no station, only ephemerides from any stream. Per rover there are a frame reader, an epoch assembler
and the solver's state; ephemerides and base epochs are shared.
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
from caster.stationinfo import BaseEpoch
from solver import dgnss
from solver.model import Ephemerides, Epoch, Fix, Quality
from solver.timescale import from_unix

__all__ = ["AGE_MAX_S", "FixMountpoint", "Track", "TrackCounters"]

AGE_MAX_S: Final = 30.0
"""Oldest corrections used: they drift by centimetres in this time."""
OPTIONS: Final = dgnss.DgnssOptions(age_max_s=AGE_MAX_S)
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
    """

    frames: int = 0
    epochs: int = 0
    fixes: Counter[Quality] = field(default_factory=Counter)


class Track:
    """One receiver's observations on their way to positions.

    Args:
        engine: Its stations, ephemerides and threads.
        name: For logs, and for people.
        send: Takes the sentences of each epoch.

    Attributes:
        fix: The last solution; None before the first epoch.
        base: The station whose corrections it is to use; None: none.
        latency_s: From the arrival of the last epoch's last byte to its sentences.
        counters: What became of its bytes.
    """

    def __init__(self, engine: Engine, name: str, send: Callable[[bytes], object]) -> None:
        self.name = name
        self.fix: Fix | None = None
        self.base: str | None = None
        self.latency_s = float("nan")
        self.counters = TrackCounters()
        self._engine = engine
        self._send = send
        self._reader = FrameReader()
        self._stream = Stream(engine, engine.rover_pool)
        self._state: dgnss.DgnssState | None = None
        self._foreign = b""
        self._is_closed = False
        engine.on_tick.append(self._tick)

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
        self._use_base(None)

    def _tick(self, now_ns: int) -> None:
        for epoch in self._stream.expire(now_ns):
            self._submit(epoch)

    def _submit(self, epoch: Epoch) -> None:
        """Hand an epoch to the solver's threads, with the corrections that there are for it."""
        self.counters.epochs += 1
        base = self._engine.stations[self.base].info.epoch_for(epoch.time_ns, AGE_MAX_S) if self.base else None
        ephemerides = self._engine.ephemerides.snapshot()
        work = partial(self._solve, epoch, base, ephemerides)
        self._engine.workers.submit(self, work, partial(self._take_fix, self._engine.now_s()))

    def _solve(self, epoch: Epoch, base: BaseEpoch | None, ephemerides: Ephemerides) -> tuple[Fix, bytes]:
        """Position one epoch; runs in a thread, one epoch of a track at a time, which alone touches the state."""
        corrected = base.corrections(ephemerides) if base is not None else None
        self._state, fix = dgnss.advance(self._state, epoch, corrected, ephemerides, OPTIONS)
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

    def __init__(self, engine: Engine, config: MountConfig, mountpoints: Mountpoints) -> None:
        super().__init__(config, mountpoints)
        self.mount = Mount(config.name, raw=True)
        self.tracks: dict[int, Track] = {}
        self.source_track: Track | None = None
        self._engine = engine

    def on_uplink(self, rover: Rover, data: bytes) -> None:
        """A rover sends observations (or GGA, which is of no use here): from now on it gets its own positions."""
        track = self.tracks.get(rover.number)
        if track is None:
            rover.follow(None)
            name = f"{self.name} {rover.account or rover.address}"
            send = partial(self._answer, rover, rover.send)
            track = self.tracks[rover.number] = Track(self._engine, name, send)
        track.receive(data, time.time_ns())

    def on_leave(self, rover: Rover) -> None:
        """A rover has gone."""
        track = self.tracks.pop(rover.number, None)
        if track is not None:
            track.close()

    def on_source(self, source: Source) -> None:
        """A receiver pushes its observations."""
        name = f"{self.name} {source.account or source.address}"
        self.source_track = Track(self._engine, name, partial(self._answer, source, self._publish))

    def on_source_data(self, source: Source, data: bytes, received_unix_ns: int) -> None:
        """Its bytes."""
        if self.source_track is not None:
            self.source_track.receive(data, received_unix_ns)

    def on_source_gone(self, source: Source) -> None:
        """It has gone; its followers wait for it."""
        if self.source_track is not None:
            self.source_track.close()
            self.source_track = None

    def close(self) -> None:
        """The service ends."""
        for track in [*self.tracks.values(), *filter(None, [self.source_track])]:
            track.close()
        self.tracks.clear()
        self.source_track = None

    def _answer(self, session: Rover | Source, send: Callable[[bytes], object], text: bytes) -> None:
        """Send an epoch's sentences; what was told is what is logged."""
        send(text)
        if self.mountpoints.on_position and (gga := parse_gga(text.partition(b"\r\n")[0])) is not None:
            self.mountpoints.tell_position("fix", self, session, gga)

    def _publish(self, text: bytes) -> None:
        self.mount.publish((text,), time.time_ns())
