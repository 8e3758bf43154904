"""From station streams to epochs: the stations' registry, the pool of ephemerides, and the solver's threads.

The engine taps every station's fan-out. Of each frame it looks at the type alone; positions and ephemerides are decoded
as they come, since they are rare and a rover that connects must not wait a minute for them; observations are decoded
only while a service needs the station (`need`, `release`). All of this runs on the loop and returns at once; solutions
are computed by `workers`.

Rules: a stream that sends nonsense is counted under its own name and disturbs no other. An ephemeris that a rover sends
is taken only where stations have sent none as new: the public cannot replace what stations say. Streams date
themselves; one that cannot takes the date of the others' ephemerides, and the time of reception last of all.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any, Final

import numpy as np
import structlog
from numpy.typing import NDArray

from caster.codec.rtcm import message_type
from caster.epochs import EpochAssembler
from caster.hub import Mount
from caster.mountpoints import Mountpoint, Mountpoints, StationMountpoint
from caster.nearest import StationMap
from caster.stationinfo import EPOCHS_MAX, StationInfo
from caster.tracking import new_channels
from caster.workers import Workers
from solver import spp
from solver.ephemeris import EphemerisStore
from solver.model import Epoch, Fix
from solver.timescale import DAY_NS, NS, from_unix

__all__ = ["EPHEMERIS_TYPES", "POSITION_TYPES", "Engine", "Station", "Stream"]

POSITION_TYPES: Final = frozenset((1005, 1006))
EPHEMERIS_TYPES: Final = frozenset((1019, 1020, 1041, 1042, 1044, 1045, 1046))
DATING_TYPES: Final = EPHEMERIS_TYPES | {1013, 1029}
"""Messages that tell the date: they are read of every stream, needed or not."""
TICK_S: Final = 0.5
"""How often epochs whose last message never came are closed."""
LOOK_TICKS: Final = 4
"""In how many ticks each station's health is looked at: a station is silent after `FRAME_AGE_MAX_S`, 15 s."""
_TURNS: Final = 10
CHECK_INTERVAL_S: Final = 10.0
"""How often a needed station's own position is solved and compared with the one that it says."""
DATE_WAIT_NS: Final = 30 * NS
"""How long a stream may take to date itself before the time of reception is believed; ephemerides repeat sooner."""
STATION_LEAD_NS: Final = 2 * 3600 * NS
"""A rover's ephemeris is taken where it is newer than the stations' by this much: then they have stopped sending it."""
EPOCHS_TOTAL: Final = 60_000
"""Epochs kept of all needed stations together, some 10 kB each; one station alone keeps at most its own limit."""
EPOCHS_MIN: Final = 20
"""Each needed station keeps at least these: its rovers' streams may lag behind its own by some seconds."""
RECENT_FRAMES_MAX: Final = 4096
"""Ephemeris frames remembered, since the stations of a network send the same ones again and again."""

_log = structlog.get_logger(__name__)


class Pool(EphemerisStore):
    """Where one kind of sender's ephemerides go: into the engine's pool, if they may.

    Args:
        engine: Whose pool.
        trusted: The senders are stations.
    """

    def __init__(self, engine: "Engine", trusted: bool) -> None:
        super().__init__()
        self._engine = engine
        self._trusted = trusted

    def add(self, records: NDArray[Any]) -> int:
        """Hand records on."""
        return sum(self._engine.take_ephemeris(record, self._trusted) for record in np.atleast_1d(records))


class Stream:
    """One receiver's frames to epochs, dated as well as it can be.

    Args:
        engine: Its pool and its knowledge of the date.
        pool: Where the stream's ephemerides go.
    """

    def __init__(self, engine: "Engine", pool: EphemerisStore) -> None:
        self._engine = engine
        self._pool = pool
        self._first_ns: int | None = None
        self.assembler = EpochAssembler(ephemerides=pool, channels=engine.channels)

    @property
    def is_dated(self) -> bool:
        """The stream's date is known."""
        return self.assembler.time_ns is not None

    def push(self, frame: bytes, received_ns: int) -> list[Epoch]:
        """Take a frame; the epochs that it completes."""
        if not self.is_dated:
            self._first_ns = received_ns if self._first_ns is None else self._first_ns
            date_ns = self._engine.date_ns(received_ns)
            if date_ns is not None:
                self.assembler = EpochAssembler(date_ns, ephemerides=self._pool, channels=self._engine.channels)
            elif received_ns - self._first_ns < DATE_WAIT_NS:
                return self.assembler.push(frame)
        return self.assembler.push(frame, received_ns)

    def expire(self, now_ns: int) -> list[Epoch]:
        """Close an epoch whose last message has not come in time."""
        return self.assembler.expire(now_ns)


class Station:
    """A station's stream as the engine follows it.

    Attributes:
        info: What is known of it.
        stream: Its frames to epochs.
        needed: How many need its observations.
    """

    def __init__(self, mountpoint: Mountpoint, engine: "Engine") -> None:
        self.info = StationInfo(mountpoint.name)
        self.stream = Stream(engine, engine.station_pool)
        self.needed = 0
        self._checked_s = -np.inf
        self._engine = engine
        self._mount = mountpoint.mount
        self._mount.tap(self.on_frames)

    def on_frames(self, _: Mount, frames: Sequence[bytes], received_unix_ns: int) -> None:
        """Look at frames that the station has just published."""
        self.info.take_frame(self._engine.now_s())
        received_ns = from_unix(received_unix_ns)
        for frame in frames:
            kind = message_type(frame)
            if kind in EPHEMERIS_TYPES and self.stream.is_dated and self._engine.is_repeated(frame):
                continue
            if self.needed or kind in POSITION_TYPES or kind in DATING_TYPES:
                self._take_epochs(self.stream.push(frame, received_ns))
            if kind in POSITION_TYPES:
                self._take_position()

    def need(self) -> None:
        """Somebody needs the observations from now on."""
        self.needed += 1
        self._engine.share_epochs(self.needed == 1)

    def release(self) -> None:
        """Somebody needs them no more; with nobody left, nothing is decoded."""
        self.needed -= 1
        if not self.needed:
            self.info.forget_epochs()
            self._engine.share_epochs(-1)

    def tick(self, now_ns: int, now_s: float) -> None:
        """Close what waits too long, and now and then compare the station's place with its observations.

        Only a station that somebody needs ticks.
        """
        self._take_epochs(self.stream.expire(now_ns))
        epoch = self.info.last_epoch()
        if epoch is None or now_s - self._checked_s < CHECK_INTERVAL_S:
            return
        self._checked_s = now_s
        ephemerides = self._engine.ephemerides.snapshot()
        self._engine.workers.submit(("check", self.info.name), lambda: spp.solve(epoch, ephemerides), self._compare)

    def close(self) -> None:
        """Stop following the stream."""
        self._mount.untap(self.on_frames)

    def _take_epochs(self, epochs: list[Epoch]) -> None:
        if self.needed:
            for epoch in epochs:
                self.info.take_epoch(epoch, self._engine.ephemerides.snapshot(), self._engine.epochs_max)

    def _take_position(self) -> None:
        info, said, before = self.info, self.stream.assembler.station, self.info.position_ecef_m
        refused = info.positions_refused
        if info.take_position(said.position_ecef_m, said.station):
            if before is not None:
                moved_m = round(float(np.linalg.norm(said.position_ecef_m - before)), 3)
                _log.warning("station moved", station=info.name, metres=moved_m, moves=info.moves)
            self._engine.refresh([info.name], moved=True)
        if info.positions_refused == refused + 1 == 1:
            _log.warning("station position refused", station=info.name, ecef_m=said.position_ecef_m.tolist())

    def _compare(self, fix: Fix) -> None:
        if fix.quality and not self.info.take_own_position(fix.position_ecef_m):
            _log.warning(
                "station stands elsewhere", station=self.info.name, solved_m=fix.position_ecef_m.round(1).tolist()
            )


class Engine:
    """The registry of stations, the ephemerides and the solver's threads.

    Args:
        threads: Of the solver; by default one for each core.

    Attributes:
        ephemerides: The pool that streams feed and every solver reads.
        channels: GLONASS frequency channels by slot, as every stream tells them.
        station_pool, rover_pool: Ways into the pool.
        workers: The solver's threads.
        stations: By name of their mountpoint.
        stations_map: The healthy ones and where they are; replaced, never changed.
        epochs_max: Epochs that each needed station may keep.
        on_map: Called when `stations_map` was replaced.
        on_tick: Called with the time (ns of GPST) at each tick.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.ephemerides = EphemerisStore()
        self.channels = new_channels()
        self.station_pool = Pool(self, trusted=True)
        self.rover_pool = Pool(self, trusted=False)
        self.workers = Workers(threads)
        self.stations: dict[str, Station] = {}
        self.stations_map = StationMap()
        self.on_map: list[Callable[[], None]] = []
        self.on_tick: list[Callable[[int], None]] = []
        self.epochs_max = EPOCHS_MAX
        self._needed = 0
        self._faults: dict[str, str] = {}
        self._recent: dict[bytes, None] = {}
        self._station_toe_ns: dict[int, int] = {}
        self._date: tuple[int, int | None] = (-1, None)
        self._ticker: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin; called on the loop that it is to live on."""
        self.workers.start()
        self._ticker = asyncio.create_task(self._run(), name="engine")

    def close(self) -> None:
        """End the threads and let go of the stations."""
        if self._ticker is not None:
            self._ticker.cancel()
        for station in self.stations.values():
            station.close()
        self.workers.close()

    def attach(self, mountpoints: Mountpoints) -> None:
        """Follow the stations among all mountpoints, those to come included."""
        for mountpoint in mountpoints:
            self._watch(mountpoint)
        mountpoints.on_new.append(self._watch)

    def now_s(self) -> float:
        """The time that asyncio's loops keep, without asking for the running loop (a system call) at every frame."""
        return time.monotonic()

    def fault(self, name: str) -> str:
        """Why a station cannot serve rovers, as of the last look; empty where it can."""
        return self._faults.get(name, "unknown")

    def share_epochs(self, change: int) -> None:
        """Share the epochs that may be kept among more or fewer needed stations."""
        self._needed += change
        self.epochs_max = min(EPOCHS_MAX, max(EPOCHS_MIN, EPOCHS_TOTAL // max(1, self._needed)))

    def take_ephemeris(self, record: NDArray[Any], trusted: bool) -> int:
        """Take one record into the pool, if it may be; how many were new."""
        sat, toe_ns = int(record["sat"]), int(record["toe_ns"])
        newest_ns = self._station_toe_ns.get(sat)
        if trusted:
            self._station_toe_ns[sat] = toe_ns if newest_ns is None else max(toe_ns, newest_ns)
        elif newest_ns is not None and toe_ns < newest_ns + STATION_LEAD_NS:
            return 0
        return self.ephemerides.add(record)

    def is_repeated(self, frame: bytes) -> bool:
        """Whether the same ephemeris frame has come before, lately, from any station."""
        if frame in self._recent:
            return True
        self._recent[frame] = None
        if len(self._recent) > RECENT_FRAMES_MAX:
            del self._recent[next(iter(self._recent))]
        return False

    def date_ns(self, received_ns: int) -> int | None:
        """The date for a stream that does not tell it: the time of reception, unless the ephemerides are of another.

        Recordings are replayed years later: their ephemerides tell when they were made. None: there are none yet.
        """
        if self._date[0] != self.ephemerides.revision:
            held = self.ephemerides.snapshot()
            toes_ns = np.concatenate([held.kepler["toe_ns"], held.glonass["toe_ns"]])
            self._date = self.ephemerides.revision, int(np.median(toes_ns)) if len(toes_ns) else None
        pool_ns = self._date[1]
        if pool_ns is not None and abs(pool_ns - received_ns) < DAY_NS:
            return received_ns
        return pool_ns

    def refresh(self, names: Sequence[str], *, moved: bool = False) -> None:
        """Look at some stations' health, and replace the map where it changed, or where one of them has moved."""
        now_s = self.now_s()
        for name in names:
            before, fault = self._faults.get(name), self.stations[name].info.fault(now_s)
            if fault == before:
                continue
            if fault != "silent" or before is not None:  # a station that has just appeared is silent
                _log.info("station health", station=name, fault=fault or "none")
            moved |= not fault or before == ""
            self._faults[name] = fault
        if moved:
            self._draw_map()

    def _draw_map(self) -> None:
        healthy = sorted(name for name, fault in self._faults.items() if not fault)
        places = np.array([self.stations[name].info.position_ecef_m for name in healthy]).reshape(-1, 3)
        if not self.stations_map.equals(healthy, places):
            self.stations_map = StationMap(healthy, places)
            for callback in self.on_map:
                callback()

    def _watch(self, mountpoint: Mountpoint) -> None:
        if isinstance(mountpoint, StationMountpoint) and not mountpoint.config.raw:
            self.stations[mountpoint.name] = Station(mountpoint, self)

    async def _run(self) -> None:
        """Tick, and look at every station's health once in so many ticks, at a few in each turn of the loop."""
        while True:
            names = list(self.stations)
            size = max(1, -(-len(names) // (LOOK_TICKS * _TURNS)))
            for turn in range(LOOK_TICKS * _TURNS):
                try:
                    self.refresh(names[turn * size : (turn + 1) * size])
                    if turn % _TURNS == 0:
                        self._tick()
                except Exception:  # one bad station must not end the others' health
                    _log.exception("engine tick failed")
                await asyncio.sleep(TICK_S / _TURNS)

    def _tick(self) -> None:
        now_ns, now_s = from_unix(time.time_ns()), self.now_s()
        for station in [station for station in self.stations.values() if station.needed]:
            station.tick(now_ns, now_s)
        for callback in self.on_tick:
            callback(now_ns)
