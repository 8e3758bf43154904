"""The vector between two receivers that both move: a heading, a tractor's implement, two drones.

The base is placed by its own point solution, metres off. That hardly matters to the vector: an error of 10 m turns the
line of sight to a satellite by half a microradian, half a millimetre on a kilometre. So `solver.rtk` follows the rover
relative to the base, with the base's errors moving both ends alike. Each receiver is modelled at its own time tag.
Where they differ, by seconds of a link or by milliseconds of clocks that are not steered, the base's Doppler velocity
carries it on, and what it may have accelerated since is added to the covariance. Where its Doppler is not to be
believed, its carriers' changes stand in: a u-blox M8P sends that of MSM7 with the sign turned.
"""

import math
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from solver.constants import SPEED_OF_LIGHT_MPS
from solver.model import SLIP, Ephemerides, Epoch, Fix, Quality
from solver.rtk import RtkOptions, RtkState, Workspace, process
from solver.signals import SIGNAL_COUNT
from solver.spp import SppOptions, solve
from solver.timescale import NS

__all__ = ["MovingBaseState", "process_moving"]

Floats = NDArray[np.float64]

_SPEED_MPS = 30.0
"""Of a base whose receiver measures no Doppler, 1 sigma."""
_CONTRADICTION_MPS = 50.0
"""Between Doppler and what a carrier has changed by, as its mean since the last epoch: no vehicle changes its speed by
that in a second, and satellites' range rates with their signs turned are off by some 800 m/s."""
_LAG_MAX_S = 3.0
"""Range rates of satellites change by 0.2 m/s in each second, so that the mean of a longer time is of little use."""
_SPEED_MAX_MPS = 600.0
"""Civil receivers stop at 515 m/s (1,000 knots): what is faster comes of Doppler with its sign turned."""
_FIXED_SIGMA_M = 0.1
"""Uncertainty of the base's motion since its epoch beyond which a vector is not called fixed."""


@dataclass(slots=True)
class MovingBaseState:
    """What is known of a pair.

    Attributes:
        rtk: Of the rover relative to the base.
        base: The base's own latest position.
        seen: The base's epoch that is of.
        lag_s: How long before it the velocity was what it says.
        trusts: Whether the base's Doppler agreed with its carriers when they last told.
    """

    rtk: RtkState = field(default_factory=RtkState)
    base: Fix = field(default_factory=lambda: Fix(-1, Quality.NONE))
    seen: Epoch = field(default_factory=lambda: Epoch.empty(-1))
    lag_s: float = 0.0
    trusts: bool = True


def process_moving(
    state: MovingBaseState, rover: Epoch, base: Epoch, ephemerides: Ephemerides, options: RtkOptions,
    alone: SppOptions | None = None, workspace: Workspace | None = None,
) -> Fix:  # fmt: skip
    """The vector from a moving base to a rover at one epoch.

    Args:
        state: What is known of the pair; changed.
        rover: The rover's epoch.
        base: The base's epoch, of the same instant (its time tag may be milliseconds later) or a little older.
        ephemerides: Broadcast orbits and clocks.
        options: How; `moving_base` is implied. The acceleration is that of either end.
        alone: How the base is placed.
        workspace: Scratch arrays to be used again.

    Returns:
        `baseline_ecef_m` at the rover's epoch, and its covariance; the position is the base's plus that, as good as
        the base's. `Quality.NONE` and a reason where there is none.
    """
    if state.base.time_ns != base.time_ns:
        _place(state, base, ephemerides, alone)
    origin = state.base
    if not origin.quality:
        return Fix(rover.time_ns, Quality.NONE, f"base: {origin.reason}")
    age_s = (rover.time_ns - base.time_ns) / NS
    travelled_m, spread_m2 = _travelled(origin, age_s, state.lag_s, options.acceleration_mps2)
    now_m = origin.position_ecef_m + travelled_m
    moving = options if options.moving_base else replace(options, moving_base=True)
    fix = process(state.rtk, rover, base, origin.position_ecef_m, ephemerides, moving, workspace, now_m)
    return _relative(fix, origin, now_m, spread_m2, age_s) if fix.quality else fix


def _place(state: MovingBaseState, base: Epoch, ephemerides: Ephemerides, alone: SppOptions | None) -> None:
    """Find where the base is at a new epoch, and how fast it moves; what it was lately counts where nothing tells."""
    rated, lag_s = _with_rates(state, base)
    fix, since_s = solve(rated, ephemerides, alone, state.base), (base.time_ns - state.base.time_ns) / NS
    if not np.linalg.norm(fix.velocity_ecef_mps) < _SPEED_MAX_MPS:  # nor where it is not known
        last = state.base if 0.0 < since_s <= _LAG_MAX_S - state.lag_s else Fix(-1, Quality.NONE)
        lag_s = state.lag_s + since_s
        fix = replace(
            fix, velocity_ecef_mps=last.velocity_ecef_mps, velocity_covariance_m2s2=last.velocity_covariance_m2s2
        )
    state.base, state.seen, state.lag_s = fix, base, lag_s


def _with_rates(state: MovingBaseState, epoch: Epoch) -> tuple[Epoch, float]:
    """An epoch with its carriers' changes as Doppler, where there is none or they contradict it; and their lag, s."""
    before = state.seen
    step_s = (epoch.time_ns - before.time_ns) / NS
    own, earlier = (rows.sat.astype(np.int64) * SIGNAL_COUNT + rows.signal for rows in (epoch, before))
    _, now, then = np.intersect1d(own, earlier, assume_unique=True, return_indices=True)
    now, then = (rows[epoch.flags[now] & SLIP == 0] for rows in (now, then))
    doppler_hz = np.full(len(epoch), np.nan)
    if 0.0 < step_s <= _LAG_MAX_S and len(now):
        doppler_hz[now] = (before.phase_cycles[then] - epoch.phase_cycles[now]) / step_s
        off_mps = np.abs(epoch.doppler_hz - doppler_hz) * SPEED_OF_LIGHT_MPS / epoch.frequency_hz
        off_mps = off_mps[np.isfinite(off_mps)]
        state.trusts = bool(len(off_mps) and np.median(off_mps) < _CONTRADICTION_MPS)
    return (epoch, 0.0) if state.trusts else (replace(epoch, doppler_hz=doppler_hz), 0.5 * step_s)


def _travelled(base: Fix, age_s: float, lag_s: float, acceleration_mps2: float) -> tuple[Floats, Floats]:
    """How far a base has come since its epoch (3,), and the covariance of that (3, 3)."""
    if not age_s:
        return np.zeros(3), np.zeros((3, 3))
    spread_m2 = np.eye(3) * (acceleration_mps2 * age_s * (0.5 * abs(age_s) + lag_s)) ** 2
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
