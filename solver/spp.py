"""Single point positioning: where a receiver was, how fast, and what time it was, from one epoch and broadcast data.

Every signal of every satellite counts. One clock per system; receiver biases of the further signals and each
satellite's ionosphere are unknowns with a prior (Klobuchar's delay and its usual error), which lies between the
single-frequency and the ionosphere-free solution as the noise demands, and becomes either at its limits.
Outliers are weighed down or left out (`kernels.least_squares`); the covariance is scaled up, never down, by the misfit.
"""

from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from solver.kernels.geodesy import enu_axes, geodetic_from_ecef
from solver.kernels.spp import (
    CONVERGED,
    SINGULAR,
    assign_columns,
    dilutions,
    point_solution,
    satellite_delays,
    velocity_solution,
)
from solver.model import Ephemerides, Epoch, Fix, Quality
from solver.observed import Observed, Selection, observe
from solver.quality import protection_levels
from solver.signals import SIGNAL_COUNT, SYSTEMS

__all__ = ["Solution", "SppOptions", "solve", "solve_observed"]

_SYSTEM_OFFSET_M: Final = 300.0
"""Prior of one system's clock against another's: broadcast time scales agree to 1 us, receivers within less."""
_KEPT_OFFSET_M: Final = 2.0
"""The same for a receiver whose offsets were solved for a moment ago."""
_SIGNAL_BIAS_M: Final = 5.0
_KEEP_NS: Final = 60_000_000_000
_KLOBUCHAR_ERROR, _CLIMATE_ERROR = 0.5, 1.0
"""Relative error of the ionosphere: the broadcast model halves it (Klobuchar 1987); a climate alone does not."""


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


@dataclass(frozen=True, slots=True)
class Solution:
    """A fix with what it was made of.

    Attributes:
        fix: The fix.
        observed: The rows that were looked at.
        sky: (g, 5) azimuth, elevation and unit vector of each satellite.
        weight: (m,) 0..1, how much of each row's weight was left.
    """

    fix: Fix
    observed: Observed
    sky: NDArray[np.float64]
    weight: NDArray[np.float64]


def solve(
    epoch: Epoch, ephemerides: Ephemerides, options: SppOptions | None = None, previous: Fix | None = None
) -> Fix:
    """Position, velocity and time of one epoch; a `Fix` with a reason where there is none.

    Args:
        epoch: Observations.
        ephemerides: Broadcast orbits, clocks and ionosphere.
        options: How to solve; None: the defaults.
        previous: A recent fix of the same receiver: where to start, and its offsets between systems.
    """
    chosen = options or SppOptions()
    return solve_observed(observe(epoch, ephemerides, chosen.selection), ephemerides, chosen, previous).fix


def solve_observed(
    observed: Observed, ephemerides: Ephemerides, options: SppOptions, previous: Fix | None = None
) -> Solution:
    """The same from rows that were chosen already, with what the fix was made of."""
    epoch = observed.epoch
    sky, weight = np.full((len(observed.sat), 5), np.nan), np.zeros(len(epoch))
    usable = np.repeat((observed.index >= 0).astype(np.float64), np.diff(observed.first))
    clock, bias = np.empty(len(SYSTEMS), np.int32), np.empty(SIGNAL_COUNT, np.int32)
    system = (observed.sat // 64).astype(np.int16)
    n = assign_columns(system, epoch.signal, observed.first, usable, clock, bias)

    def failed(reason: str) -> Solution:
        return Solution(Fix(epoch.time_ns, Quality.NONE, reason), observed, sky, weight)

    count = int((observed.index >= 0).sum())
    if count < 4:
        lacking = len(observed.sat) - count
        return failed(f"{count} satellites" + (f", {lacking} without a healthy ephemeris" if lacking else ""))
    rows = np.stack([epoch.pseudorange_m, epoch.frequency_hz, epoch.cn0_dbhz, np.zeros(len(epoch))], axis=1)
    variance, delay_m = np.ones(len(observed.sat)), np.zeros(len(epoch))
    satellite_delays(
        ephemerides.kepler, ephemerides.glonass, epoch.time_ns, observed.sat, observed.index, epoch.signal,
        observed.first, delay_m, variance,
    )  # fmt: skip
    rows[:, 3] = delay_m
    rows[usable == 0.0, 0] = np.nan
    recent = previous if previous and abs(epoch.time_ns - previous.time_ns) < _KEEP_NS and previous.quality else None
    x, covariance = np.zeros(n), np.empty((n, n))
    expected = _expected(clock, bias, n, recent)
    if recent:
        x[:3] = recent.position_ecef_m
    klobuchar = np.stack([ephemerides.klobuchar_gps, ephemerides.klobuchar_beidou])
    error = _CLIMATE_ERROR if np.isnan(klobuchar[:, 0]).all() else _KLOBUCHAR_ERROR
    for start in (x, np.zeros(n)):  # where the last fix was, then, if that leads nowhere, the centre of the Earth
        x = start
        status, chi2, freedom = point_solution(
            epoch.time_ns, observed.first, epoch.signal, observed.sat, observed.old_beidou, observed.states, variance,
            rows, np.concatenate([clock[system], bias[epoch.signal]]), klobuchar,
            np.array([options.selection.elevation_mask, options.sigma_scale, error]), expected, x, covariance, weight,
            sky,
        )  # fmt: skip
        if status == CONVERGED or recent is None:
            break
    if status != CONVERGED:
        return failed("the geometry is singular" if status == SINGULAR else "the iteration does not converge")
    used = np.add.reduceat(weight > 0.3, observed.first[:-1]) > 0
    covariance *= max(1.0, chi2 / freedom) if freedom > 0.5 else 1.0
    if reason := _implausible(x, covariance, int(used.sum()), options):
        return failed(reason)
    fix = _position_fix(epoch.time_ns, x, covariance, clock, observed.sat[used])
    return Solution(_with_velocity(_with_dilutions(fix, sky, used), observed, sky, options), observed, sky, weight)


def _expected(clock: NDArray[np.int32], bias: NDArray[np.int32], n: int, previous: Fix | None) -> NDArray[np.float64]:
    """Prior value and standard deviation of each unknown (n, 2)."""
    expected = np.zeros((n, 2))
    expected[:4, 1] = np.inf
    expected[bias[bias >= 0], 1] = _SIGNAL_BIAS_M
    reference = int(np.flatnonzero(clock == 3)[0]) if (clock == 3).any() else 0
    for system in np.flatnonzero(clock > 3):
        offset_m = previous.clock_m[system] - previous.clock_m[reference] if previous else np.nan
        kept = np.isfinite(offset_m)
        expected[clock[system]] = (offset_m, _KEPT_OFFSET_M) if kept else (0.0, _SYSTEM_OFFSET_M)
    return expected


def _implausible(x: NDArray[np.float64], covariance: NDArray[np.float64], satellites: int, options: SppOptions) -> str:
    """Why a solution is not to be believed; empty where it is."""
    height_m = geodetic_from_ecef(x[0], x[1], x[2])[2]
    sigma_m = float(np.sqrt(np.trace(covariance[:3, :3])))
    if satellites < 4:
        return f"{satellites} satellites left after outliers"
    if not sigma_m < options.sigma_max_m:
        return f"{satellites} satellites, of a geometry that leaves {sigma_m:.0f} m"
    if not options.height_min_m < height_m < options.height_max_m:
        return f"a height of {height_m:.0f} m"
    return ""


def _position_fix(
    time_ns: int, x: NDArray[np.float64], covariance: NDArray[np.float64], clock: NDArray[np.int32],
    satellites: NDArray[np.int16],
) -> Fix:  # fmt: skip
    """The fix of a position solution."""
    clock_m = np.full(len(SYSTEMS), np.nan)
    for system in np.flatnonzero(clock >= 0):
        clock_m[system] = x[3] + (x[clock[system]] if clock[system] > 3 else 0.0)
    position = x[:3].copy()
    hpl_m, vpl_m = protection_levels(position, covariance[:3, :3])
    return Fix(
        time_ns=time_ns,
        quality=Quality.SINGLE,
        position_ecef_m=position,
        position_covariance_m2=covariance[:3, :3].copy(),
        clock_m=clock_m,
        satellites=satellites,
        hpl_m=hpl_m,
        vpl_m=vpl_m,
    )


def _with_dilutions(fix: Fix, sky: NDArray[np.float64], used: NDArray[np.bool_]) -> Fix:
    """Add the dilutions of precision."""
    axes, dop = np.empty((3, 3)), np.empty(4)
    lat, lon, _ = geodetic_from_ecef(*fix.position_ecef_m)
    enu_axes(lat, lon, axes)
    dilutions(sky, used.astype(np.int32), axes, dop)
    return replace(fix, dop=dop)


def _with_velocity(fix: Fix, observed: Observed, sky: NDArray[np.float64], options: SppOptions) -> Fix:
    """Add velocity and clock drift, where there is Doppler of four satellites."""
    epoch = observed.epoch
    rows = np.stack([epoch.doppler_hz, epoch.frequency_hz, epoch.cn0_dbhz], axis=1)
    x, covariance = np.zeros(4), np.empty((4, 4))
    solved, chi2, freedom = velocity_solution(
        fix.position_ecef_m, observed.first, observed.states, sky, rows, options.selection.elevation_mask, x, covariance
    )
    if not solved:
        return fix
    scale = max(1.0, chi2 / freedom) if freedom > 0.5 else 1.0
    return replace(
        fix,
        velocity_ecef_mps=x[:3].copy(),
        velocity_covariance_m2s2=covariance[:3, :3] * scale,
        clock_drift_mps=float(x[3]),
    )
