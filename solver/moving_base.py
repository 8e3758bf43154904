"""The vector between two receivers that both move: a heading, a tractor's implement, two drones.

The base is placed by its own point solution, metres off. That hardly matters to the vector: an error of 10 m turns the
line of sight to a satellite by half a microradian, half a millimetre on a kilometre. So `solver.rtk` follows the rover
relative to the base, with the base's errors moving both ends alike. Where the base's epoch is older than the rover's,
its Doppler velocity carries it on, and what it may have accelerated since is added to the covariance.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from solver.model import Ephemerides, Epoch, Fix, Quality
from solver.rtk import RtkOptions, RtkState, Workspace, process
from solver.spp import SppOptions, solve
from solver.timescale import NS

__all__ = ["MovingBaseState", "process_moving"]

Floats = NDArray[np.float64]

_SPEED_MPS = 30.0
"""Of a base whose receiver measures no Doppler, 1 sigma."""
_FIXED_SIGMA_M = 0.1
"""Uncertainty of the base's motion since its epoch beyond which a vector is not called fixed."""


@dataclass(slots=True)
class MovingBaseState:
    """What is known of a pair.

    Attributes:
        rtk: Of the rover relative to the base.
        base: The base's own latest position.
    """

    rtk: RtkState = field(default_factory=RtkState)
    base: Fix = field(default_factory=lambda: Fix(-1, Quality.NONE))


def process_moving(
    state: MovingBaseState, rover: Epoch, base: Epoch, ephemerides: Ephemerides, options: RtkOptions,
    alone: SppOptions | None = None, workspace: Workspace | None = None,
) -> Fix:  # fmt: skip
    """The vector from a moving base to a rover at one epoch.

    Args:
        state: What is known of the pair; changed.
        rover: The rover's epoch.
        base: The base's epoch, of the same instant or a little older.
        ephemerides: Broadcast orbits and clocks.
        options: How; `moving_base` is implied. The acceleration is that of either end.
        alone: How the base is placed.
        workspace: Scratch arrays to be used again.

    Returns:
        `baseline_ecef_m` at the rover's epoch, and its covariance; the position is the base's plus that, as good as
        the base's. `Quality.NONE` and a reason where there is none.
    """
    if state.base.time_ns != base.time_ns:
        state.base = solve(base, ephemerides, alone, state.base)
    origin = state.base
    if not origin.quality:
        return Fix(rover.time_ns, Quality.NONE, f"base: {origin.reason}")
    age_s = (rover.time_ns - base.time_ns) / NS
    travelled_m, spread_m2 = _travelled(origin, age_s, options.acceleration_mps2)
    now_m = origin.position_ecef_m + travelled_m
    moving = options if options.moving_base else replace(options, moving_base=True)
    fix = process(state.rtk, rover, base, origin.position_ecef_m, ephemerides, moving, workspace, now_m)
    return _relative(fix, origin, now_m, spread_m2, age_s) if fix.quality else fix


def _travelled(base: Fix, age_s: float, acceleration_mps2: float) -> tuple[Floats, Floats]:
    """How far a base has come since its epoch (3,), and the covariance of that (3, 3)."""
    if not age_s:
        return np.zeros(3), np.zeros((3, 3))
    spread_m2 = np.eye(3) * (0.5 * acceleration_mps2 * age_s**2) ** 2
    if not np.isfinite(base.velocity_ecef_mps).all():
        return np.zeros(3), spread_m2 + np.eye(3) * (_SPEED_MPS * age_s) ** 2
    return base.velocity_ecef_mps * age_s, spread_m2 + base.velocity_covariance_m2s2 * age_s**2


def _relative(fix: Fix, base: Fix, now_m: Floats, spread_m2: Floats, age_s: float) -> Fix:
    """A rover's position relative to where its base is by then."""
    baseline_m2 = fix.position_covariance_m2 + spread_m2
    sure = math.sqrt(np.trace(spread_m2)) < _FIXED_SIGMA_M
    return replace(
        fix,
        quality=Quality.FLOAT if fix.quality == Quality.FIX and not sure else fix.quality,
        reason=fix.reason if sure else f"the base has moved on for {age_s:.1f} s",
        position_covariance_m2=baseline_m2 + base.position_covariance_m2,
        baseline_ecef_m=fix.position_ecef_m - now_m,
        baseline_covariance_m2=baseline_m2,
    )
