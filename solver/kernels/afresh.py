"""An epoch by itself beside a filter that gives no fix.

What once went wrong in a filter stays for a while, and carriers that it found noisy keep it from integers. An epoch by
itself knows nothing of that. Where its integers are accepted, all of them by the epoch's codes alone, and a satellite
checks them, the filter is told of that position, or starts anew from there if it contradicts it.
"""

import numpy as np

from solver.jit import kernel, part
from solver.kernels import Records
from solver.kernels.checked import CHECKING_MIN, check, checking
from solver.kernels.doubt import ASTRAY
from solver.kernels.epoch import RISK_MAX, list_integers, mark_usable, own_up, start
from solver.kernels.fixing import FAR_S, WHOLE_MIN, held_after, resolve
from solver.kernels.kalman import VELOCITY
from solver.kernels.learning import ALONE_FACTOR_MAX
from solver.kernels.linalg import cholesky, cholesky_solve
from solver.kernels.rover import Filter, Record, Work
from solver.kernels.rtk import choose_references, instantaneous_differences, observe_vector
from solver.model import Quality

__all__ = ["look_afresh"]

FIX, FLOAT = int(Quality.FIX), int(Quality.FLOAT)


@kernel
def look_afresh(options: Records, state: Records, filter_: Filter, work: Work, result: Records) -> None:
    """Take an epoch that the filter gives no fix by itself; where that gives one, write it, and tell the filter.

    Between epochs far apart filters have time to prove integers.

    Args:
        options: (1,) of `OPTIONS`.
        state: (1,) of `KNOWN`, changed.
        filter_: Told of a position whose integers are known, or started anew from it.
        work: As `epoch.fix` left it.
        result: (1,) of `RESULT`, changed.
    """
    how, known, now, found = options[0], state[0], work.now[0], result[0]
    moves = not (how.static or how.moving_base)
    if found.quality != FLOAT or not moves or now.dt_s > FAR_S:
        return
    if not _resolves(how, known, now, work, found):
        return
    known.checked = 0  # not by the filter
    for axis in range(3):
        filter_.x[axis] += known.origin_m[axis] - now.origin_m[axis]
    if known.count == 0 or _contradicts(filter_, work):
        start(how, known, now, work.b, filter_.x, filter_.p)
        _set_out(filter_, work, found)
    else:
        observe_vector(known.count, 0, work.b, work.qb, filter_.x, filter_.p)
    is_proven = check(True, held_after(now.dt_s), known, now, work)
    found.quality = FIX if is_proven else FLOAT
    for axis in range(3):
        known.origin_m[axis] = now.origin_m[axis] + filter_.x[axis]
        found.position_m[axis] = now.origin_m[axis] + work.b[axis]
        filter_.x[axis] = 0.0
        for other in range(3):
            found.position_m2[axis, other] = work.qb[axis, other] if is_proven else work.position_m2[axis, other]


@part
def _contradicts(filter_: Filter, work: Work) -> bool:
    """Whether the filter's position lies four of its sigmas from that of the epoch by itself."""
    covariance, away, solved = np.empty((3, 3)), np.empty(3), np.empty(3)
    for axis in range(3):
        solved[axis] = away[axis] = filter_.x[axis] - work.b[axis]
        for other in range(3):
            covariance[axis, other] = filter_.p[axis, other] + work.qb[axis, other]
    if not cholesky(covariance, 3):
        return True
    cholesky_solve(covariance, solved, 3)
    square = 0.0
    for axis in range(3):
        square += solved[axis] * away[axis]
    return bool(square / 3.0 > ASTRAY)


@part
def _set_out(filter_: Filter, work: Work, found: Record) -> None:
    """Give a new filter the position and the velocity of the epoch by itself."""
    for axis in range(3):
        for other in range(3):
            filter_.p[axis, other] = work.qb[axis, other]
    if not np.isnan(found.velocity_mps[0]):
        for axis in range(3):
            filter_.x[VELOCITY + axis] = found.velocity_mps[axis]
            for other in range(3):
                filter_.p[VELOCITY + axis, VELOCITY + other] = found.velocity_m2s2[axis, other]


@part
def _resolves(how: Record, known: Record, now: Record, work: Work, found: Record) -> bool:
    """Whether all integers of the epoch by itself are accepted, checked, and make a position that is called fixed."""
    ease = min(ALONE_FACTOR_MAX / now.phase_scale, 1.0)  # carriers that are noisier are not all noisy, but some wrong
    now.phase_scale *= ease
    for k in range(now.count):
        work.links[k].phase_m2 *= ease
        work.held[k] = False
    for axis in range(3):
        for other in range(3):
            work.position_m2[axis, other] *= now.code_scale
    mark_usable(True, how, known, now, found.velocity_mps, work)
    choose_references(now.count, work.links, work.order, work.usable, work.held, work.reference)
    atmosphere = np.empty(3)
    atmosphere[0], atmosphere[1], atmosphere[2] = now.ionosphere_m, now.zenith_m, now.thickness_sigma_m
    left = instantaneous_differences(
        now.count, work.links, work.reference, work.usable, atmosphere, work.position, work.position_m2,
        work.member, work.a, work.q, work.b, work.qba, work.qb,
    )  # fmt: skip
    for i in range(left):
        work.free[i] = work.member[i]
    if not resolve(
        left, work.a, work.q, work.b, work.qba, work.qb, how.failure_rate, RISK_MAX, how.ratio_floor, WHOLE_MIN,
        work.fixed, work.report,
    ):  # fmt: skip
        return False
    list_integers(left, now.count, work)
    return bool(own_up(False, how, known, now, work) and checking(now.count, work) >= CHECKING_MIN)
