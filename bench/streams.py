"""A real base and a real rover as live streams: their recorded observations, encoded as RTCM 3 by the second.

The recording is moved by whole weeks into the present one, orbits and clocks included: satellites stand over the ground
as they did, and programs that date a stream by the clock of the machine (RTKLIB's) find their way.
"""

import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.accuracy import DATA, Set
from bench.errors import Truth
from bench.processes import BenchError
from solver.model import Ephemerides, Epoch
from solver.timescale import WEEK_NS, from_unix, nearest_week
from stations.encode import encode_epochs
from stations.recordings import Session

__all__ = ["Streams", "live_streams"]


@dataclass(frozen=True, slots=True)
class Streams:
    """What a base and a rover send, in step.

    Attributes:
        times_ns: GPST of the epochs.
        base: MSM7 of each epoch; position, equipment and ephemerides now and then.
        rover: MSM7 of each epoch, and nothing else.
        truth: Where the rover was.
    """

    times_ns: tuple[int, ...]
    base: tuple[bytes, ...]
    rover: tuple[bytes, ...]
    truth: Truth


def live_streams(item: Set) -> Streams:
    """The streams of a recording whose antennas stand.

    Raises:
        BenchError: The recording is not there.
    """
    folder = DATA / item.folder
    if not folder.is_dir():
        raise BenchError(f"no recording at {folder}")
    session = Session()
    for name in item.navigation:
        session.read_navigation(folder / name)
    base, rover = (session.read([folder / name]) for name in (item.base, item.rover))
    common = {epoch.time_ns for epoch in base.epochs} & {epoch.time_ns for epoch in rover.epochs}
    first_ns = min(common)
    weeks_ns = nearest_week(first_ns % WEEK_NS, from_unix(time.time_ns())) - first_ns
    ephemerides = _moved(session.ephemerides.snapshot(), weeks_ns)
    station = replace(base.station, position_ecef_m=np.array(item.base_ecef_m), antenna_height_m=0.0)
    rest = replace(rover.station, position_ecef_m=np.full(3, np.nan))
    none = Ephemerides(ephemerides.kepler[:0])

    def live(epochs: list[Epoch]) -> list[Epoch]:
        return [replace(epoch, time_ns=epoch.time_ns + weeks_ns) for epoch in epochs if epoch.time_ns in common]

    return Streams(
        times_ns=tuple(epoch.time_ns for epoch in live(base.epochs)),
        base=tuple(data for _, data in encode_epochs(live(base.epochs), station, ephemerides)),
        rover=tuple(data for _, data in encode_epochs(live(rover.epochs), rest, none)),
        truth=item.truth(folder),
    )


def _moved(ephemerides: Ephemerides, weeks_ns: int) -> Ephemerides:
    """The same orbits and clocks some weeks later."""
    return replace(
        ephemerides, kepler=_later(ephemerides.kepler, weeks_ns), glonass=_later(ephemerides.glonass, weeks_ns)
    )


def _later(records: NDArray[Any], weeks_ns: int) -> NDArray[Any]:
    moved = records.copy()
    for name in ("toe_ns", "toc_ns", "transmitted_ns"):
        if name in (records.dtype.names or ()):
            moved[name] += np.where(records[name] >= 0, weeks_ns, 0)
    return moved
