"""When a filter is not to be believed any more, so that it starts anew.

What once went wrong in it, an integer held through a turn of its carrier or a start by codes full of reflections, stays
for minutes, and covariances know nothing of it. Two things tell: integers that are called sure beside those that are
held, and the positions of codes.
"""

from typing import Final

import numpy as np

from solver.jit import part
from solver.kernels.fixing import COUNT, FAR_S, NORM, WHOLE_MIN
from solver.kernels.learning import BANDS_MIN
from solver.kernels.linalg import cholesky, cholesky_solve
from solver.kernels.rover import Filter, Record, Work

__all__ = ["BELIED", "starts_anew"]

BELIED: Final = 10.0
"""Mean square of how far the best integers lie off, in units of the float solution's variances, that belies an epoch.
More than that lasted for two epochs at most beside right positions of a walk and of a car between high houses."""
ALLOWED: Final = 5.0
"""An epoch adds to the sum what it has beyond this (Page 1954). Wrong integers leave 6 to 50 for minutes."""
BELIED_SUM: Final = 3.0 * (BELIED - ALLOWED)
"""Three epochs that are belied, or more of those that almost are."""
BELIED_ALONE: Final = 20.0
SURE_M: Final = 0.1
"""What belies an epoch of one band, where none is held and the float position is called sure to half a wavelength: what
was right before something passed over the antenna has slipped unseen. Right starts, sure to no better than 0.5 m,
come to 18."""
ASTRAY: Final = 16.0
"""Mean square in half a minute of how far the codes' positions lie off, in their sigmas. Multipath came to 9 in a walk
and to 12 in a car, wrong ambiguities of a car in a city to 30 and more."""
ASTRAY_S: Final = 30.0


@part
def starts_anew(is_fixed: bool, left: int, taken: int, known: Record, now: Record, filter_: Filter, work: Work) -> bool:
    """Whether the filter has been belied for so long that it is to start anew.

    Args:
        is_fixed: This epoch's position is, by integers that are held or by its own.
        left: Number of ambiguities that are not held.
        taken: Number of held ones.
        known: Of `KNOWN`; what has been seen so far is followed.
        now: The epoch; its misfit is written.
        filter_: Updated with it.
        work: With the position of its codes, and the report on its integers.
    """
    close = now.dt_s <= FAR_S  # antennas in a valley belie their filters in each of those further apart
    now.misfit = _misfit(left, taken, now, filter_, work) if close else 0.0
    known.belied = max(known.belied + min(now.misfit, BELIED) - ALLOWED, 0.0)
    square = _square_to_codes(now, filter_, work) if close else 0.0
    known.astray += min(now.dt_s / ASTRAY_S, 1.0) * (square - known.astray)
    return bool(known.belied >= BELIED_SUM or (known.astray > ASTRAY and not is_fixed))


@part
def _misfit(left: int, taken: int, now: Record, filter_: Filter, work: Work) -> float:
    """Mean square of how far the best integers lie off; 0 where it says nothing of those held or of the float solution.

    Few integers, each of which may have slipped, tell only where those that are held are the minority. One band alone
    takes long to start anew, so that more is asked of it.
    """
    tried, dual = work.report[COUNT], now.bands >= BANDS_MIN
    if tried >= WHOLE_MIN > taken and now.bands <= 1.0:
        belied = work.report[NORM] > BELIED_ALONE * tried and _spread_m2(filter_) < SURE_M**2
        return BELIED if belied else 0.0
    if (tried >= WHOLE_MIN and taken >= WHOLE_MIN) or (dual and (tried >= WHOLE_MIN or left > taken)):
        return float(work.report[NORM] / max(tried, WHOLE_MIN))
    return 0.0


@part
def _spread_m2(filter_: Filter) -> float:
    """Variance of the float position, all axes together."""
    return float(filter_.p[0, 0] + filter_.p[1, 1] + filter_.p[2, 2])


@part
def _square_to_codes(now: Record, filter_: Filter, work: Work) -> float:
    """Mean square of how far the filter's position lies from that of this epoch's codes, in their sigmas.

    Codes tell a filter little once it has ambiguities, as their errors last; yet each epoch's stand by themselves.
    """
    covariance, away, solved = np.empty((3, 3)), np.empty(3), np.empty(3)
    for axis in range(3):
        solved[axis] = away[axis] = filter_.x[axis] - work.position[axis]
        for other in range(3):
            covariance[axis, other] = work.position_m2[axis, other] * now.code_scale
    if not cholesky(covariance, 3):
        return 0.0
    cholesky_solve(covariance, solved, 3)
    square = 0.0
    for axis in range(3):
        square += solved[axis] * away[axis]
    return square / 3.0
