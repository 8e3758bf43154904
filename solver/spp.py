"""Single point positioning: where a receiver was, how fast, and what time it was, from one epoch and broadcast data.

Every signal of every satellite counts. One clock per system; receiver biases of the further signals are unknowns with a
prior, and so is the ionosphere: how it differs from the broadcast model in all of the sky, and for each satellite. That
lies between the single-frequency and the ionosphere-free solution as the noise demands, and becomes either at its
limits. Outliers are weighed down or left out (`kernels.least_squares`); the covariance is scaled up, never down, by the
misfit. Live epochs and whole recordings take the same way (`kernels.spp`).
"""

import math
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from solver.kernels.spp import DIVERGED, FEW_LEFT, HEIGHT, POINT, SINGULAR, SOLVED, TOO_FEW, WIDE, solve_points
from solver.model import Ephemerides, Epoch, Fix, Quality
from solver.observed import Selection, wanted
from solver.signals import SATELLITE_COUNT
from solver.track import Track, track

__all__ = ["SppOptions", "solve", "solve_all"]

_KLOBUCHAR_ERROR, _CLIMATE_ERROR = 1.0, 1.5
"""Factor of the ionosphere's error: the broadcast model halves it (Klobuchar 1987); a climate alone does not."""
_WARM_UP: Final = 32
"""Epochs that a thread solves before its own, so that what it starts from is what one thread would have."""
_PART: Final = 512
"""Epochs that a thread takes at once."""
_CHOOSE: Final = np.empty(0, np.int32)
_REASONS: Final = {
    SINGULAR: "the geometry is singular",
    DIVERGED: "the iteration does not converge",
    FEW_LEFT: "{count} satellites left after outliers",
    WIDE: "{count} satellites, of a geometry that leaves {detail:.0f} m",
    HEIGHT: "a height of {detail:.0f} m",
}


@dataclass(frozen=True, slots=True)
class SppOptions:
    """How to solve.

    Attributes:
        selection: Which observations may be used.
        sigma_scale: Factor of the code's standard deviation.
        height_min_m: Lowest and highest ellipsoidal height that is believed.
        height_max_m: The same.
        sigma_max_m: A position whose standard deviation is larger than this is none.
    """

    selection: Selection = field(default_factory=Selection)
    sigma_scale: float = 1.0
    height_min_m: float = -1_000.0
    height_max_m: float = 100_000.0
    sigma_max_m: float = 100.0


def solve(
    epoch: Epoch,
    ephemerides: Ephemerides,
    options: SppOptions | None = None,
    previous: Fix | None = None,
    index_of: NDArray[np.int32] = _CHOOSE,
) -> Fix:
    """Position, velocity and time of one epoch; a `Fix` with a reason where there is none.

    Args:
        epoch: Observations.
        ephemerides: Broadcast orbits, clocks and ionosphere.
        options: How to solve; None: the defaults.
        previous: A recent fix of the same receiver: where to start, and its offsets between systems.
        index_of: (SATELLITE_COUNT,) ephemeris to use by satellite, so that base and rover share them; empty: choose.
    """
    points, used = _solve(track([epoch]), ephemerides, options or SppOptions(), previous, index_of)
    return _fix(epoch.time_ns, points[0], used[0])


def solve_all(epochs: Sequence[Epoch], ephemerides: Ephemerides, options: SppOptions) -> Iterator[Fix]:
    """The fixes of a recording, over all cores, as `solve` makes them from epoch to epoch."""
    if not epochs:
        return
    count = max(len(epochs) // _PART, 1)
    bounds = [len(epochs) * part // count for part in range(count + 1)]

    def part(place: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
        first, stop = bounds[place], bounds[place + 1]
        begin = max(first - _WARM_UP, 0)
        points, used = _solve(track(epochs[begin:stop]), ephemerides, options, None, _CHOOSE)
        return points[first - begin :], used[first - begin :]

    with ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="single") as pool:
        for place, (points, used) in enumerate(pool.map(part, range(count))):
            for row, epoch in enumerate(epochs[bounds[place] : bounds[place + 1]]):
                yield _fix(epoch.time_ns, points[row], used[row])


def _solve(
    table: Track, ephemerides: Ephemerides, options: SppOptions, previous: Fix | None, index_of: NDArray[np.int32]
) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Points of some epochs (n,) and their satellites (n, SATELLITE_COUNT)."""
    points, used = np.empty(len(table), POINT), np.empty((len(table), SATELLITE_COUNT), np.bool_)
    before, before_ns = np.zeros(1, POINT), 0
    before["status"] = TOO_FEW
    if previous is not None and previous.quality:
        before["status"], before_ns = SOLVED, previous.time_ns
        before["position_ecef_m"], before["clock_m"] = previous.position_ecef_m, previous.clock_m
    satellites, signals = wanted(options.selection)
    klobuchar = np.array((ephemerides.klobuchar_gps, ephemerides.klobuchar_beidou))
    error = _CLIMATE_ERROR if all(map(math.isnan, klobuchar[:, 0].tolist())) else _KLOBUCHAR_ERROR
    how = np.array(
        (
            options.selection.elevation_mask, options.sigma_scale, error, options.height_min_m, options.height_max_m,
            options.sigma_max_m,
        )
    )  # fmt: skip
    solve_points(
        table.time_ns, table.first_row, table.sat, table.signal, table.frequency_hz,
        table.pseudorange_m, table.doppler_hz, table.cn0_dbhz, ephemerides.kepler, ephemerides.glonass, klobuchar,
        satellites, signals, index_of, how, before_ns, before, points, used,
    )  # fmt: skip
    return points, used


def _fix(time_ns: int, point: Any, used: NDArray[np.bool_]) -> Fix:
    """The fix of a `POINT`."""
    if point["status"] != SOLVED:
        return Fix(time_ns, Quality.NONE, _reason(int(point["status"]), int(point["count"]), float(point["detail"])))
    return Fix(
        time_ns, Quality.SINGLE, position_ecef_m=point["position_ecef_m"],
        position_covariance_m2=point["position_covariance_m2"], velocity_ecef_mps=point["velocity_ecef_mps"],
        velocity_covariance_m2s2=point["velocity_covariance_m2s2"], clock_m=point["clock_m"],
        clock_drift_mps=float(point["clock_drift_mps"]), satellites=np.flatnonzero(used).astype(np.int16),
        hpl_m=float(point["hpl_m"]), vpl_m=float(point["vpl_m"]), dop=point["dop"],
    )  # fmt: skip


def _reason(status: int, count: int, detail: float) -> str:
    """Why there is no position."""
    if status == TOO_FEW:
        return f"{count} satellites" + (f", {detail:.0f} without a healthy ephemeris" if detail else "")
    return _REASONS[status].format(count=count, detail=detail)
