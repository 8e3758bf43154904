"""How far a float position may be off beyond what its filter says.

In a city a filter is soon sure to centimetres of what reflections have moved by decimetres. Two things tell of it while
no integers do. Time differences of the carriers, which one displacement should explain, are noisier in some epochs than
carriers have been lately: by as much more the filter's position has moved at random. And the best integers lie further
off than its covariance lets them, though too few are sure to be accepted or to doubt it. Neither is told to the filter,
which finds right integers the sooner the more it believes.
"""

import math
from typing import Final

from solver.jit import part
from solver.kernels import Float64Array
from solver.kernels.fixing import COUNT, FAR_S, NORM
from solver.kernels.rover import Record, Work

__all__ = ["note_integers", "note_step", "starts", "widen"]

INTEGERS_GAIN: Final = 0.1
INTEGERS_MIN: Final = 2
"""Best integers that tell; a single one lies off by less than its spacing lets it."""


@part
def starts(known: Record) -> None:
    """A filter that starts has not strayed."""
    known.integers_off = 1.0
    for axis in range(3):
        for other in range(3):
            known.strayed_m2[axis, other] = 0.0


@part
def note_step(factor: float, shift_m2: Float64Array, memory_s: float, known: Record, now: Record) -> None:
    """Note by how much more than expected the filter's position may have moved at random since the last epoch.

    Args:
        factor: Variance factor of the carriers' time differences.
        shift_m2: (3, 3) covariance of the displacement that they tell, where it is 1.
        memory_s: How long errors of the codes last: by then these have told anew where the antenna is.
        known: Of `KNOWN`, changed.
        now: The epoch.
    """
    keep = math.exp(-now.dt_s / memory_s)
    surplus = max(factor - 1.0, 0.0) if now.dt_s <= FAR_S else 0.0
    for axis in range(3):
        for other in range(3):
            known.strayed_m2[axis, other] = keep * known.strayed_m2[axis, other] + surplus * shift_m2[axis, other]


@part
def note_integers(known: Record, work: Work) -> None:
    """Follow the squared norm of each epoch's best integers, for each of them: 1 where the covariance is true."""
    tried = work.report[COUNT]
    if tried >= INTEGERS_MIN:
        known.integers_off += INTEGERS_GAIN * (work.report[NORM] / tried - known.integers_off)


@part
def widen(known: Record, covariance_m2: Float64Array) -> None:
    """Add to the covariance (3, 3) of a float position what the filter does not know of."""
    scale = max(known.integers_off, 1.0)
    for axis in range(3):
        for other in range(3):
            covariance_m2[axis, other] = scale * covariance_m2[axis, other] + known.strayed_m2[axis, other]
