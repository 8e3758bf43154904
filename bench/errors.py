"""Errors of positions against truth, and whether a solution tells the truth about itself."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from solver.kernels.geodesy import enu_axes, geodetic_from_ecef
from solver.model import Fix
from solver.timescale import NS

__all__ = ["UNKNOWN", "Honesty", "Truth", "errors_of", "honesty_of"]

_SECOND_MS: Final = 1000
_OFF_SECOND_MAX_MS: Final = 20
_STEP_MAX_S: Final = 1.5
"""Over more, a turn is not the mean of the velocities at its ends."""

Truth = dict[int, NDArray[np.float64]]
"""ECEF (3,) by milliseconds of GPST; key -1: an antenna at rest."""


@dataclass(frozen=True, slots=True)
class Honesty:
    """How well a solution knows its own errors.

    Attributes:
        bounded_percent: Fixes whose horizontal error lies within their protection level.
        error_per_sigma: RMS of the horizontal errors in units of their covariance (a component of a 2-D normal error
            has 1); errors of metres in a few epochs of many weigh as they are.
        ellipse_percent: Horizontal errors that lie within the ellipse that should have 95 per cent of them.
        height_per_sigma: RMS of the heights' errors in units of their sigmas.
        known: Errors that these are of.
        step_95_m: 95 per cent of the steps between epochs differ by less from the way by Doppler.
        step_50_m: Half of them do.
    """

    bounded_percent: float
    error_per_sigma: float
    ellipse_percent: float
    height_per_sigma: float
    known: int
    step_95_m: float
    step_50_m: float


_NOTHING: Final = float("nan")
UNKNOWN: Final = Honesty(_NOTHING, _NOTHING, _NOTHING, _NOTHING, 0, _NOTHING, _NOTHING)
_ELLIPSE_95: Final = 5.991
"""Square of a horizontal error in units of its covariance that 95 per cent stay below: chi-square, two degrees."""


def honesty_of(fixes: Sequence[Fix], truth: Truth) -> Honesty:
    """What a solution's protection levels, covariances and velocities are worth."""
    inside, squares, heights = [], [], []
    for fix in fixes:
        error = errors_of([(fix.time_ns, fix.position_ecef_m)], truth)
        if len(error):
            inside.append(bool(np.hypot(error[0, 0], error[0, 1]) <= fix.hpl_m))
            covariance = _local(fix)
            squares.append(float(error[0, :2] @ np.linalg.solve(covariance[:2, :2], error[0, :2])))
            heights.append(float(error[0, 2] ** 2 / covariance[2, 2]))
    steps = _steps_m(fixes)
    return Honesty(
        bounded_percent=100.0 * float(np.mean(inside)) if inside else _NOTHING,
        error_per_sigma=float(np.sqrt(np.mean(squares) / 2.0)) if squares else _NOTHING,
        ellipse_percent=100.0 * float(np.mean(np.array(squares) < _ELLIPSE_95)) if squares else _NOTHING,
        height_per_sigma=float(np.sqrt(np.mean(heights))) if heights else _NOTHING,
        known=len(squares),
        step_95_m=float(np.percentile(steps, 95)) if len(steps) else _NOTHING,
        step_50_m=float(np.median(steps)) if len(steps) else _NOTHING,
    )


def _local(fix: Fix) -> NDArray[np.float64]:
    """Covariance (3, 3) of a position by east, north and up."""
    axes = np.empty((3, 3))
    latitude, longitude, _ = geodetic_from_ecef(*fix.position_ecef_m.tolist())
    enu_axes(latitude, longitude, axes)
    return axes @ fix.position_covariance_m2 @ axes.T


def _steps_m(fixes: Sequence[Fix]) -> NDArray[np.float64]:
    """Each step between epochs less the way by the velocities at its ends (trapezoidal rule), m."""
    steps = []
    for last, fix in pairwise(fixes):
        elapsed_s = (fix.time_ns - last.time_ns) / NS
        if elapsed_s <= _STEP_MAX_S:
            way = elapsed_s * (last.velocity_ecef_mps + fix.velocity_ecef_mps) / 2.0
            steps.append(float(np.linalg.norm(fix.position_ecef_m - last.position_ecef_m - way)))
    return np.array([step for step in steps if np.isfinite(step)])


def errors_of(fixes: Sequence[tuple[int, NDArray[np.float64]]], truth: Truth) -> NDArray[np.float64]:
    """East, north, up (n, 3) of the fixes whose truth is known."""
    rows = []
    axes = np.empty((3, 3))
    for time_ns, position in fixes:
        place = _place(truth, round(time_ns / 1e6))
        if place is not None:
            lat, lon, _ = geodetic_from_ecef(place[0], place[1], place[2])
            enu_axes(lat, lon, axes)
            rows.append(axes @ (position - place))
    return np.array(rows).reshape(-1, 3)


def _place(truth: Truth, time_ms: int) -> NDArray[np.float64] | None:
    """Where the antenna was.

    Receivers that do not steer their clock tag epochs some milliseconds off the second of their own positions.
    """
    second_ms = round(time_ms / _SECOND_MS) * _SECOND_MS
    nearest_ms = second_ms if abs(time_ms - second_ms) <= _OFF_SECOND_MAX_MS else time_ms
    return truth.get(-1, truth.get(time_ms, truth.get(nearest_ms)))
