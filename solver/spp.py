"""Single point positioning: where a receiver was, how fast, and what time it was, from one epoch and broadcast data.

Every signal of every satellite counts. One clock per system; receiver biases of the further signals and each
satellite's ionosphere are unknowns with a prior (Klobuchar's delay and its usual error), which lies between the
single-frequency and the ionosphere-free solution as the noise demands, and becomes either at its limits.
Outliers are weighed down or left out (`kernels.least_squares`); the covariance is scaled up, never down, by the misfit.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from solver.kernels.least_squares import robust_solve
from solver.kernels.spp import GROUND_M, assign_columns, expect, judge, point_rows, range_rows, rate_rows
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
_ROUNDS_MAX: Final = 14
_SETTLED_M: Final = 1.0
"""A step as short as this leaves 2e-8 m of the ranges' curvature and less than 2 mm of the troposphere's change."""
_LINEAR_M: Final = 3e3
_SIGMAS_M: Final = np.array((_SYSTEM_OFFSET_M, _KEPT_OFFSET_M, _SIGNAL_BIAS_M))
_NO_CLOCKS: Final = np.full(len(SYSTEMS), np.nan)
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
    epoch, g, m = observed.epoch, len(observed.sat), len(observed.epoch)
    sky, weight = np.full((g, 5), np.nan), np.zeros(m)

    def failed(reason: str) -> Solution:
        return Solution(Fix(epoch.time_ns, Quality.NONE, reason), observed, sky, weight)

    count = int(np.count_nonzero(observed.index >= 0))
    if count < 4:
        lacking = g - count
        return failed(f"{count} satellites" + (f", {lacking} without a healthy ephemeris" if lacking else ""))
    clock, bias = np.empty(len(SYSTEMS), np.int32), np.empty(SIGNAL_COUNT, np.int32)
    columns = np.empty(g + m, np.int32)
    n = assign_columns(observed.sat, epoch.signal, observed.first, observed.index, clock, bias, columns)
    rows, variance = np.empty((m, 4)), np.empty(g)
    point_rows(
        ephemerides.kepler, ephemerides.glonass, epoch.time_ns, observed.sat, observed.index, observed.first,
        epoch.signal, epoch.pseudorange_m, epoch.frequency_hz, epoch.cn0_dbhz, rows, variance,
    )  # fmt: skip
    recent = previous if previous and abs(epoch.time_ns - previous.time_ns) < _KEEP_NS and previous.quality else None
    expected, x, covariance = np.empty((n, 2)), np.zeros(n), np.empty((n, n))
    expect(clock, bias, recent.clock_m if recent else _NO_CLOCKS, _SIGMAS_M, expected)
    if recent:
        x[:3] = recent.position_ecef_m
    klobuchar = np.array((ephemerides.klobuchar_gps, ephemerides.klobuchar_beidou))
    error = _CLIMATE_ERROR if all(map(math.isnan, klobuchar[:, 0].tolist())) else _KLOBUCHAR_ERROR
    how = np.array((options.selection.elevation_mask, options.sigma_scale, error))

    def rows_at(x: NDArray[np.float64], system: "_System") -> None:
        range_rows(
            epoch.time_ns, observed.first, epoch.signal, observed.sat, observed.old_beidou, observed.states, variance,
            rows, columns, klobuchar, how, x, *system, sky,
        )  # fmt: skip

    for start in (x, np.zeros(n)):  # where the last fix was, then, if that leads nowhere, the centre of the Earth
        x = start
        trouble, chi2, freedom = _iterate(rows_at, observed.first, expected, x, covariance, weight)
        if not trouble or recent is None:
            break
    if trouble:
        return failed(trouble)
    covariance *= max(1.0, chi2 / freedom) if freedom > 0.5 else 1.0
    used, dop = np.empty(g, np.bool_), np.empty(4)
    height_m = judge(x, observed.first, weight, sky, used, dop)
    satellites = observed.sat[used]
    if reason := _implausible(height_m, covariance, len(satellites), options):
        return failed(reason)
    clock_m = [x[3] + (x[column] if column > 3 else 0.0) if column >= 0 else np.nan for column in clock.tolist()]
    position = Fix(
        epoch.time_ns, Quality.SINGLE, position_ecef_m=x[:3].copy(), position_covariance_m2=covariance[:3, :3].copy(),
        clock_m=np.array(clock_m), satellites=satellites, dop=dop,
    )  # fmt: skip
    return Solution(_completed(position, observed, sky, options), observed, sky, weight)


class _System(NamedTuple):
    """What `robust_solve` takes: design (m, n), misclosure, noise, ionosphere's factor (m,), common errors (g, 2)."""

    a: NDArray[np.float64]
    y: NDArray[np.float64]
    sigma: NDArray[np.float64]
    mu: NDArray[np.float64]
    common: NDArray[np.float64]


def _empty_system(m: int, n: int, g: int) -> _System:
    return _System(np.empty((m, n)), np.empty(m), np.empty(m), np.zeros(m), np.empty((g, 2)))


def _iterate(
    rows_at: Callable[[NDArray[np.float64], _System], None], first: NDArray[np.int32], expected: NDArray[np.float64],
    x: NDArray[np.float64], covariance: NDArray[np.float64], weight: NDArray[np.float64],
) -> tuple[str, float, float]:  # fmt: skip
    """Iterate x (n,) to the position that the pseudoranges mean; robustly once they are linear enough.

    Returns:
        Why there is none, empty where there is one; sum of squares of the residuals, and its degrees of freedom.
    """
    system, step = _empty_system(len(weight), len(x), len(first) - 1), np.empty(len(x))
    information = 1.0 / expected[:, 1] ** 2
    prior = np.diag(information)
    robust = math.hypot(x[0], x[1], x[2]) > GROUND_M
    for _ in range(_ROUNDS_MAX):
        rows_at(x, system)
        prior_b = information * (expected[:, 0] - x)
        chi2, freedom = robust_solve(
            system.a, system.y, system.sigma, system.mu, first, system.common, prior, prior_b, step, covariance, weight,
            robust,
        )  # fmt: skip
        if chi2 < 0.0:
            return "the geometry is singular", 0.0, 0.0
        x += step
        moved_m = math.hypot(step[0], step[1], step[2])
        if robust and moved_m < _SETTLED_M:
            return "", chi2, freedom
        robust = robust or moved_m < _LINEAR_M
    return "the iteration does not converge", 0.0, 0.0


def _implausible(height_m: float, covariance: NDArray[np.float64], satellites: int, options: SppOptions) -> str:
    """Why a solution is not to be believed; empty where it is."""
    sigma_m = math.sqrt(max(covariance[0, 0] + covariance[1, 1] + covariance[2, 2], 0.0))
    if satellites < 4:
        return f"{satellites} satellites left after outliers"
    if not sigma_m < options.sigma_max_m:
        return f"{satellites} satellites, of a geometry that leaves {sigma_m:.0f} m"
    if not options.height_min_m < height_m < options.height_max_m:
        return f"a height of {height_m:.0f} m"
    return ""


def _completed(fix: Fix, observed: Observed, sky: NDArray[np.float64], options: SppOptions) -> Fix:
    """Add protection levels and, where there is Doppler of four satellites, velocity and clock drift."""
    epoch = observed.epoch
    hpl_m, vpl_m = protection_levels(fix.position_ecef_m, fix.position_covariance_m2)
    x, covariance, weight = np.empty(4), np.empty((4, 4)), np.empty(len(epoch))
    system = _empty_system(len(epoch), 4, len(observed.sat))
    a, y, sigma, mu, common = system
    rate_rows(
        fix.position_ecef_m, observed.first, observed.states, sky, epoch.doppler_hz, epoch.frequency_hz,
        epoch.cn0_dbhz, options.selection.elevation_mask, a, y, sigma, common,
    )  # fmt: skip
    nothing = np.zeros((4, 4))
    chi2, freedom = robust_solve(
        a, y, sigma, mu, observed.first, common, nothing, nothing[0], x, covariance, weight, True
    )  # fmt: skip
    if chi2 < 0.0:
        return replace(fix, hpl_m=hpl_m, vpl_m=vpl_m)
    scale = max(1.0, chi2 / freedom) if freedom > 0.5 else 1.0
    return replace(
        fix,
        hpl_m=hpl_m,
        vpl_m=vpl_m,
        velocity_ecef_mps=x[:3].copy(),
        velocity_covariance_m2s2=covariance[:3, :3] * scale,
        clock_drift_mps=float(x[3]),
    )
