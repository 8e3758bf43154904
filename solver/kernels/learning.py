"""What epochs tell of how noisy codes and carriers are, how far these wander, and how quiet the ionosphere is.

All of it is followed slowly in a rover's record of `KNOWN`, so that choke rings and patch antennas, quiet nights and
stormy days weigh their data by themselves.
"""

import math
from typing import Final

import numpy as np

from solver.jit import part
from solver.kernels import Float64Array, Int64Array
from solver.kernels.components import variance_components
from solver.kernels.fixing import COUNT, NORM, WHOLE_MIN
from solver.kernels.rover import Record, Work
from solver.signals import GLONASS, PRN_PER_SYSTEM

__all__ = [
    "ALONE_FACTOR_MAX",
    "BANDS_MIN",
    "IONOSPHERE_S",
    "QUIET_FACTOR",
    "REDUNDANCY_MEMORY",
    "learn_alone",
    "learn_code_noise",
    "learn_fixed",
    "learn_quiet",
    "learn_storm",
    "learn_wander",
    "norm_of",
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
IONOSPHERE_MOST: Final = 100.0
"""Variance factors of 0.1 and 5 mm/km: a calm night's and a storm's."""
LEARNING_GAIN: Final = 0.1
STORM_GAIN: Final = 0.3
"""Three times the steps by which states that stay small lower the expectation again."""
STORM_MOST: Final = 4.0
"""1 mm/km. Other things than an ionosphere belie a filter; its states tell, once they may, whether it was that."""
QUIET_LEAST: Final = 0.2
"""0.2 mm/km, a night's at the minimum of the solar cycle."""
SHARE_MIN: Final = 3.0
"""Least redundancy of a square that tells anything."""
FIXED_GAIN: Final = 0.05
FIXED_FACTOR_MAX: Final = 25.0
"""Antennas between hills show up to 20."""
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
def norm_of(work: Work) -> float:
    """Squared norm of the best integers for each of them, some 1 where the covariance is true; 0 where they are few."""
    return float(work.report[NORM] / work.report[COUNT]) if work.report[COUNT] >= WHOLE_MIN else 0.0


@part
def note_norm(known: Record, now: Record, work: Work) -> None:
    """Note what all integers of an epoch by itself show, accepted or not, and learn how noisy its carriers are.

    Where the ionosphere may be to blame, carriers wait for integers that are known (`learn_alone`).
    """
    now.shown = max(now.shown, now.quiet * now.quiet * norm_of(work))
    if now.ionosphere_m == 0.0 and now.shown > 0.0:
        known.phase_factor = _alone_factor(known.phase_factor * _step(now.shown))


@part
def learn_alone(accepted: bool, known: Record, now: Record, work: Work) -> bool:
    """Learn from an epoch's integers how quiet ionosphere and carriers are; returns whether they are to be believed.

    An ionosphere that is quieter than expected is believed only where the integers then fit as well as it says. What
    none were found for tells nothing but that it may be worse; without news the expectation is that of the distance.
    Where too few integers are known to tell noise from ionosphere, the norm stands for both.
    """
    accepted &= now.quiet == 1.0 or norm_of(work) < 1.0
    if now.ionosphere_m > 0.0 and (accepted or now.quiet < 1.0):
        shown = max(now.shown, 1.0)
        if accepted:
            squares = np.empty((2, 2))
            variance_components(now.count, work.links, work.known, now.quiet * now.ionosphere_m, squares)
            noise, delay = _ratio(squares[0], norm_of(work)), _ratio(squares[1], norm_of(work))
            known.phase_factor = _alone_factor(known.phase_factor * _step(noise))
            shown = now.quiet * now.quiet * delay
        factor = known.ionosphere_factor ** math.exp(-min(now.dt_s / IONOSPHERE_S, 1.0)) * _step(shown)
        known.ionosphere_factor = min(max(factor, IONOSPHERE_LEAST), IONOSPHERE_MOST)
    return accepted


@part
def _alone_factor(factor: float) -> float:
    """A variance factor of the carriers within its limits."""
    return min(max(factor, QUIET_FACTOR), ALONE_FACTOR_MAX)


@part
def _ratio(square: Float64Array, otherwise: float) -> float:
    """What is found of a square in units of what is expected; something else where that is too little to tell."""
    return float(square[0] / square[1]) if square[1] > SHARE_MIN else otherwise


@part
def learn_fixed(how: Record, known: Record, now: Record, work: Work) -> None:
    """Follow how noisy fixed carriers are, apart from the ionosphere."""
    if how.instantaneous:
        return
    squares = np.empty((2, 2))
    variance_components(now.count, work.links, work.known, now.ionosphere_m, squares)
    if squares[0, 1] > SHARE_MIN:
        step = squares[0, 0] / squares[0, 1] * now.phase_scale / known.fixed_factor - 1.0
        known.fixed_factor = known.fixed_factor * math.exp(FIXED_GAIN * min(step, 1.0))
        known.fixed_factor = min(known.fixed_factor, FIXED_FACTOR_MAX)


@part
def learn_wander(left: int, known: Record, now: Record, work: Work) -> None:
    """Follow how far carriers' errors wander, by how far the best integers lie from the float solution.

    Slow errors do not show in innovations: ambiguities take them over, and a filter that thinks them constant is soon
    sure of values that are no integers. Where the whole set is called sure and yet belied, they wander more than that;
    where it is not sure, less. One band alone needs its memory, belied or not: its single epochs are too weak.
    """
    norm, fixable = work.report[NORM], work.report[COUNT]
    if left < LEARNING_MIN or norm <= 0.0 or now.bands < BANDS_MIN:
        return
    step = -0.3
    if fixable < left:
        step = -1.0
    elif norm > CONTRADICTION * fixable:
        step = 1.0
    known.wander = min(max(known.wander * math.exp(WANDER_STEP * step), WANDER_LIMITS[0]), WANDER_LIMITS[1])


@part
def learn_storm(size: int, chosen: Int64Array, known: Record, now: Record, work: Work) -> None:
    """Expect more of the ionosphere where integers that are called sure belie the filter, though not all are sure.

    States that are held near zero cannot show how large they are, and ambiguities take it up: what tells of it first is
    that the best integers, of wide lanes mostly, lie further off than a quiet ionosphere lets them. GLONASS's channel
    biases belie a filter as well. It is expected less again by what its states show (`rtk.ionosphere_factor`).

    Args:
        size: Number of ambiguities that were tried.
        chosen: (>= size,) which of those that are free.
        known: The factor is changed.
        now: The epoch.
        work: With the report on them.
    """
    norm, fixable = work.report[NORM], work.report[COUNT]
    belied = LEARNING_MIN <= fixable < size and norm > CONTRADICTION * fixable
    for i in range(size):
        belied &= work.links[work.free[chosen[i]]].sat // PRN_PER_SYSTEM != GLONASS
    if now.ionosphere_m > 0.0 and belied:
        raised = min(known.ionosphere_factor * math.exp(STORM_GAIN), STORM_MOST)
        known.ionosphere_factor = max(known.ionosphere_factor, raised)


@part
def learn_quiet(known: Record, now: Record, work: Work) -> None:
    """Expect less of the ionosphere where integers that were accepted fit better than the filter lets them.

    That is how a rover far away gets its first fix within minutes. It is so until integers are held: the states know
    the ionosphere then, and would be slow to see it rise.
    """
    norm, fixable = work.report[NORM], work.report[COUNT]
    if now.ionosphere_m > 0.0 and fixable >= LEARNING_MIN and norm < fixable:
        quieter = max(known.ionosphere_factor * _step(norm / fixable), QUIET_LEAST)
        known.ionosphere_factor = min(known.ionosphere_factor, quieter)


@part
def _step(shown: float) -> float:
    """Step of a variance factor towards what an epoch shows: it follows the usual one."""
    return math.exp(LEARNING_GAIN * min(max(math.log(max(shown, 1e-3)), -1.0), 1.0))
