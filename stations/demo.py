"""A whole service on this computer, with real observations: what `dipper demo` runs.

The recordings are those of the PyPI package `gnss-benchmark`: a car with a multi-frequency receiver in Barcelona
(CARD), and a permanent station 15 km away (MARE), both with BeiDou. They are encoded to RTCM 3 on the fly and go over
real TCP connections: the station pushes to the caster, one rover uploads its raw observations to `FIX` and gets NMEA
back, another takes the corrections of `DGNSS`. The caster listens on the loopback alone and keeps its data in a
temporary folder.
"""

import asyncio
import contextlib
import csv
import importlib.util
import math
import secrets
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

import numpy as np
from numpy.typing import NDArray

from caster.accounts import Account, hash_password
from caster.app import Caster
from caster.codec.ntrip import Credentials, Gga, GgaExtractor
from caster.config import Config, load_config
from caster.errors import SourceError
from caster.positioning import FixMountpoint
from caster.services import PositioningService
from caster.warmup_steps import loop_steps
from solver.kernels.geodesy import ecef_from_geodetic, enu_axes, geodetic_from_ecef
from solver.timescale import leap_seconds
from stations.rover import Place, Rover
from stations.sources import open_source
from stations.uplink import Target, Uplink

__all__ = [
    "BASE",
    "DATASET",
    "PACKAGE",
    "Answers",
    "Demo",
    "Recordings",
    "compile_reading",
    "find_recordings",
    "warm_reading",
]

PACKAGE: Final = "gnss_benchmark"
DATASET: Final = "mosaicx5_multi_dynamic"
BASE: Final = "MARE"
_ROVER_FILE: Final = "CARD00ESP_R_20203341240_20M_01S_MO.rnx"
_BASE_FILE: Final = "MARE00ESP_R_20203341240_20M_01S_MO.rnx"
_NAVIGATION_FILE: Final = "CARD00ESP_R_20203340900_15H_MN.rnx"
_REFERENCE_FILE: Final = "reference_trajectory.csv"
_GPST_UTC_S: Final = leap_seconds(2134 * 604_800_000_000_000)
_DAY_S: Final = 86_400
_SINGLE: Final = 1
"""GGA's quality of a position without a station."""
_SOMEWHERE: Final = Place(41.6428, 2.3526, 251.5)
"""Where the second rover says that it is: where the car starts."""


@dataclass(frozen=True, slots=True)
class Recordings:
    """The files of the demonstration.

    Attributes:
        base, rover: Observations.
        navigation: Ephemerides of both.
        reference_ecef_m: (3,) place of the car by the GPST second of the day, good to some decimetres, in places to
            metres.
    """

    base: Path
    rover: Path
    navigation: Path
    reference_ecef_m: Mapping[int, NDArray[np.float64]]


def find_recordings() -> Recordings:
    """The recordings in the installed package.

    Raises:
        SourceError: it is not installed, or holds something else.
    """
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None or not spec.submodule_search_locations:
        raise SourceError(
            "the demonstration replays recordings of the package gnss-benchmark, which is not installed; install it "
            "without its dependencies: python -m pip install --no-deps gnss-benchmark==2.3.0"
        )
    folder = Path(next(iter(spec.submodule_search_locations))) / "datasets" / DATASET
    base, rover, navigation, reference = (
        folder / name for name in (_BASE_FILE, _ROVER_FILE, _NAVIGATION_FILE, _REFERENCE_FILE)
    )
    for file in (base, rover, navigation, reference):
        if not file.is_file():
            raise SourceError(f"{file} is missing: the demonstration needs version 2.3.0 of gnss-benchmark")
    return Recordings(base, rover, navigation, _read_reference(reference))


def compile_reading() -> "subprocess.Popen[bytes]":
    """Compile in another process what reads and encodes the recordings, into the cache that all processes share."""
    command = [sys.executable, "-c", "from stations.demo import warm_reading; warm_reading()"]
    return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def warm_reading() -> None:
    """Read and encode a recording and decode a stream, so that `start_peers` finds the kernels for it compiled."""
    files = find_recordings()

    async def read() -> None:
        source = open_source(str(files.base), navigation=[files.navigation])
        await anext(source)

    asyncio.run(read())
    for step in loop_steps().values():
        step()


def _read_reference(path: Path) -> dict[int, NDArray[np.float64]]:
    """Places by the second of the day, of lines "week, second of week, latitude, longitude (deg), height (m), ..."."""
    with path.open(newline="") as file:
        rows = [row for row in csv.reader(file) if row and not row[0].startswith("#")]
    places = {}
    for row in rows:
        latitude_rad, longitude_rad = np.radians([float(row[2]), float(row[3])]).tolist()
        place = np.array(ecef_from_geodetic(latitude_rad, longitude_rad, float(row[4])))
        places[round(float(row[1])) % _DAY_S] = place
    return places


@dataclass(slots=True)
class Answers:
    """What the uploading rover got back: a place where its NMEA is written to, as to a file.

    Attributes:
        reference_ecef_m: Where it really was, by the GPST second of the day.
        last: The latest GGA.
        qualities: GGA sentences by quality.
        distances_m: Horizontal distance of each position from the reference.
    """

    reference_ecef_m: Mapping[int, NDArray[np.float64]]
    last: Gga | None = None
    qualities: Counter[int] = field(default_factory=Counter)
    distances_m: list[float] = field(default_factory=list)
    _sentences: GgaExtractor = field(default_factory=GgaExtractor)

    def write(self, data: bytes) -> int:
        """Take a piece of the stream."""
        for gga in self._sentences.receive_data(data):
            self.last = gga
            self.qualities[gga.quality] += 1
            distance_m = self.distance_m(gga)
            if distance_m is not None:
                self.distances_m.append(distance_m)
        return len(data)

    @property
    def positions(self) -> int:
        """Sentences with a position."""
        return sum(count for quality, count in self.qualities.items() if quality)

    @property
    def quality(self) -> int:
        """Of the latest GGA; 0 before."""
        return self.last.quality if self.last is not None else 0

    @property
    def corrected(self) -> int:
        """Sentences with a position by a station: differential, float or fixed."""
        return sum(count for quality, count in self.qualities.items() if quality > _SINGLE)

    def distance_m(self, gga: Gga) -> float | None:
        """Horizontal distance of a position from the reference; None where either is not known."""
        if not gga.has_position or gga.latitude_deg is None or gga.longitude_deg is None or gga.utc_s is None:
            return None
        truth = self.reference_ecef_m.get(round(gga.utc_s + _GPST_UTC_S) % _DAY_S)
        if truth is None:
            return None
        axes = np.empty((3, 3))
        latitude_rad, longitude_rad, _ = geodetic_from_ecef(*truth.tolist())
        enu_axes(latitude_rad, longitude_rad, axes)
        latitude_rad, longitude_rad = np.radians([gga.latitude_deg, gga.longitude_deg]).tolist()
        east_m, north_m, _ = axes @ (ecef_from_geodetic(latitude_rad, longitude_rad, gga.height_m) - truth)
        return float(np.hypot(east_m, north_m))


class Demo:
    """The running service and its peers; an asynchronous context manager.

    Args:
        recordings: What to replay.
        port: To listen on; 0: any that is free.

    Attributes:
        caster: The service.
        service: Its solver.
        answers: What the uploading rover got.
        corrected: The rover that takes corrections.
    """

    def __init__(self, recordings: Recordings, port: int = 0) -> None:
        self.recordings = recordings
        self.service = PositioningService()
        self.answers = Answers(recordings.reference_ecef_m)
        self._port = port
        self._stack = contextlib.AsyncExitStack()
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Self:
        folder = self._stack.enter_context(tempfile.TemporaryDirectory(prefix="dipper-demo-"))
        self.caster = await self._stack.enter_async_context(Caster(_config(Path(folder), self._port), [self.service]))
        self.corrected = Rover(self._target("DGNSS"), 2, _utc_s, _tow_s, place=_SOMEWHERE)
        return self

    async def __aexit__(self, *exc: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    @property
    def address(self) -> str:
        """Where the caster is."""
        return f"127.0.0.1:{self.caster.port}"

    @property
    def fix_mountpoint(self) -> FixMountpoint:
        """The mountpoint that positions rovers."""
        mountpoint = self.caster.mountpoints.get("FIX")
        assert isinstance(mountpoint, FixMountpoint)
        return mountpoint

    async def start_peers(self) -> None:
        """Read the recordings, then let the station and the rovers begin together.

        Raises:
            DipperError: a recording cannot be read.
        """
        password = secrets.token_urlsafe(12)
        password_hash = await asyncio.to_thread(hash_password, password)
        await self.caster.store.add(Account(BASE, "station", password_hash))
        files = self.recordings
        base = open_source(str(files.base), loop=True, navigation=[files.navigation])
        rover = open_source(str(files.rover), loop=True, navigation=[files.navigation])
        base, rover = await asyncio.gather(_primed(base), _primed(rover))
        uplink = Uplink(self._target(BASE, Credentials(BASE, password)))
        uploading = Rover(self._target("FIX"), 1, _utc_s, _tow_s, output=self.answers)  # type: ignore[arg-type]
        self._start(uplink.run(base), "station")
        self._start(uploading.run(rover), "uploading rover")
        self._start(self._take_corrections(), "rover with corrections")

    def check_peers(self) -> None:
        """Raise what has ended a peer, if one has ended."""
        for task in self._tasks:
            if task.done():
                task.result()

    async def _take_corrections(self) -> None:
        """Follow `DGNSS` as soon as a station is healthy: before, the caster would refuse."""
        healthy = asyncio.Event()
        self.service.engine.on_map.append(healthy.set)
        await healthy.wait()
        await self.corrected.run()

    def _start(self, peer: Coroutine[None, None, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(peer, name=name))

    def _target(self, mount: str, credentials: Credentials | None = None) -> Target:
        return Target("127.0.0.1", self.caster.port, mount, credentials)


def _config(folder: Path, port: int) -> Config:
    mounts = [
        {"name": BASE, "open": True, "identifier": "Mataro", "country": "ESP"},
        {"name": "DGNSS", "kind": "dgnss", "open": True},
        {"name": "FIX", "kind": "fix", "open": True},
    ]
    listen = {"listen.hosts": ["127.0.0.1"], "listen.port": port}
    return load_config(None, data_dir=folder, mounts=mounts, **listen)


async def _primed(source: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """A source whose file has been read."""
    first = await anext(source)

    async def pieces() -> AsyncIterator[bytes]:
        yield first
        async for piece in source:
            yield piece

    return pieces()


def _utc_s() -> float:
    return time.time() % _DAY_S


def _tow_s() -> float:
    """Recordings are years old, so a latency against the clock means nothing."""
    return math.nan
