"""What epochs tell of how noisy codes and carriers are, how far these wander, and how quiet the ionosphere is.

All of it is followed slowly in a rover's record of `KNOWN`, so that choke rings and patch antennas, quiet nights and
stormy days weigh their data by themselves.
"""

import math
from typing import Final

from solver.jit import part
from solver.kernels.fixing import COUNT, NORM, WHOLE_MIN
from solver.kernels.rover import Record, Work
from solver.kernels.rtk import fixed_factor

__all__ = [
    "IONOSPHERE_S",
    "QUIET_FACTOR",
    "REDUNDANCY_MEMORY",
    "learn_alone",
    "learn_code_noise",
    "learn_fixed",
    "learn_wander",
    "note_norm",
]

CONTRADICTION: Final = 4.0
"""Mean square of how far the best integers lie off, in units of the float solution's variances, that belies them."""
LEARNING_MIN: Final = 6
"""Fewest ambiguities that tell whether the float solution is too sure of itself."""
BANDS_MIN: Final = 1.5
"""Mean number of bands from which on single epochs are strong enough that carriers' memory may be short."""
WANDER_STEP: Final = 0.2
WANDER_LIMITS: Final = (0.05, 30.0)
IONOSPHERE_LEAST: Final = 0.04
IONOSPHERE_MOST: Final = 4.0
"""Variance factors of 0.1 and 1 mm/km: a calm night's, and that of a day on which single epochs are hardly fixed."""
LEARNING_GAIN: Final = 0.1
FIXED_GAIN: Final = 0.05
FIXED_FACTOR_MAX: Final = 9.0
ALONE_FACTOR_MAX: Final = 4.0
"""Carriers that show more noise than that are not all noisy: some of them are wrong."""
REDUNDANCY_MEMORY: Final = 30.0
"""How many epochs' redundancy the variance factor of the codes remembers."""
QUIET_FACTOR: Final = 0.5
IONOSPHERE_S: Final = 1800.0


@part
def learn_code_noise(redundancy: int, factor: float, known: Record, now: Record) -> None:
    """Scale this epoch's codes: its own variance factor tells as much as its redundancy, that so far as much as 30."""
    now.code_scale = (REDUNDANCY_MEMORY + redundancy * factor) / (REDUNDANCY_MEMORY + redundancy)
    gain = redundancy / (known.code_redundancy + redundancy)
    known.code_factor = min(max(known.code_factor * (1.0 + gain * (min(factor, 4.0) - 1.0)), 0.25), 400.0)
    known.code_redundancy = min(known.code_redundancy + redundancy, REDUNDANCY_MEMORY * max(redundancy, 1))


@part
def _norm(work: Work) -> float:
    """Squared norm of the best integers for each of them, some 1 where the covariance is true; 0 where they are few."""
    return float(work.report[NORM] / work.report[COUNT]) if work.report[COUNT] >= WHOLE_MIN else 0.0


@part
def note_norm(known: Record, now: Record, work: Work) -> None:
    """Note what all integers of an epoch by itself show, accepted or not, and learn how noisy its carriers are."""
    now.shown = max(now.shown, now.quiet * now.quiet * _norm(work))
    if now.quiet == 1.0 and now.shown > 0.0:
        known.phase_factor = min(max(known.phase_factor * _step(now.shown), QUIET_FACTOR), ALONE_FACTOR_MAX)


@part
def learn_alone(accepted: bool, known: Record, now: Record, work: Work) -> bool:
    """Learn from an epoch's integers how quiet the ionosphere is; returns whether they are to be believed.

    An ionosphere that is quieter than expected is believed only where the integers then fit as well as it says. What
    none were found for tells nothing but that it may be worse; without news the expectation is that of the distance.
    """
    accepted &= now.quiet == 1.0 or _norm(work) < 1.0
    if now.ionosphere_m > 0.0 and (accepted or now.quiet < 1.0):
        shown = now.quiet * now.quiet * _norm(work) if accepted else max(now.shown, 1.0)
        factor = known.ionosphere_factor ** math.exp(-min(now.dt_s / IONOSPHERE_S, 1.0)) * _step(shown)
        known.ionosphere_factor = min(max(factor, IONOSPHERE_LEAST), IONOSPHERE_MOST)
    return accepted


@part
def learn_fixed(how: Record, known: Record, now: Record, work: Work) -> None:
    """Follow how noisy fixed carriers are; longer baselines leave the ionosphere in their residuals."""
    if how.instantaneous or now.ionosphere_m > 0.0:
        return
    factor = fixed_factor(now.count, work.links, work.known, work.b) * now.phase_scale
    if factor > 0.0:
        step = min(max(math.log(factor / known.fixed_factor), -1.0), 1.0)
        known.fixed_factor = min(known.fixed_factor * math.exp(FIXED_GAIN * step), FIXED_FACTOR_MAX)


@part
def learn_wander(left: int, known: Record, now: Record, work: Work) -> None:
    """Follow how far carriers' errors wander, by how far the best integers lie from the float solution.

    Slow errors do not show in innovations: ambiguities take them over, and a filter that thinks them constant is soon
    sure of values that are no integers. Where the whole set is called sure and yet belied, they wander more than that;
    where it is not sure, less. One band alone needs its memory, belied or not: its single epochs are too weak.
    """
    satellites = 0
    for k in range(now.count):
        if k == 0 or work.links[k - 1].sat != work.links[k].sat:
            satellites += 1
    norm, fixable = work.report[NORM], work.report[COUNT]
    if left < LEARNING_MIN or norm <= 0.0 or now.count < BANDS_MIN * satellites:
        return
    step = -0.3
    if fixable < left:
        step = -1.0
    elif norm > CONTRADICTION * fixable:
        step = 1.0
    known.wander = min(max(known.wander * math.exp(WANDER_STEP * step), WANDER_LIMITS[0]), WANDER_LIMITS[1])


@part
def _step(shown: float) -> float:
    """Step of a variance factor towards what an epoch shows: it follows the usual one."""
    return math.exp(LEARNING_GAIN * min(max(math.log(max(shown, 1e-3)), -1.0), 1.0))
