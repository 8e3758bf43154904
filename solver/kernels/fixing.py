"""From float ambiguities to a fixed position: double differences, held integers, partial resolution, acceptance.

All of it works on one small joint distribution: double-differenced ambiguities (cycles) and the position, with their
covariance. Knowing an integer means conditioning that distribution on it.
"""

import math
from typing import Final

import numpy as np

from solver.jit import part
from solver.kernels import Float64Array, Int32Array, Records
from solver.kernels.ambiguity import (
    bootstrapped_failure_rate,
    critical_ratio,
    decorrelate,
    first_of_reliable_subset,
    search,
)
from solver.kernels.kalman import apply_gain

__all__ = [
    "condition_on",
    "condition_on_held",
    "double_differences",
    "held_after",
    "hold_integers",
    "let_go",
    "record_integers",
    "resolve",
]

RATIO, FAILURE, NORM, COUNT, TOTAL = range(5)
"""Places of the figures that `resolve` reports."""
WHOLE_MIN: Final = 4
"""Fewest ambiguities that are fixed as a whole."""
NODES_MAX: Final = 20_000
FAR_S: Final = 5.0
"""Epochs further apart share little multipath."""
FAR_EPOCHS: Final = 10
HELD_S: Final = 1.0
"""Close epochs' integers are held after a second and two epochs: the few wrong ones that pass the test do not pass it
twice. Between epochs further apart a carrier may turn unnoticed, so integers have to prove themselves."""


@part
def held_after(dt_s: float) -> int:
    """For how many epochs running integers must have been accepted before they are held, where epochs are dt apart."""
    if dt_s > FAR_S:
        return FAR_EPOCHS
    epochs: int = round(HELD_S / max(dt_s, 0.05))
    return 1 + max(1, epochs)


@part
def double_differences(
    count: int, links: Records, place: Int32Array, reference: Int32Array, lasting: float, x: Float64Array,
    p: Float64Array, member: Int32Array, a: Float64Array, q: Float64Array, b: Float64Array, qba: Float64Array,
    qb: Float64Array,
) -> int:  # fmt: skip
    """Difference the single-differenced ambiguities within groups, against each group's reference.

    Args:
        count: Number of links.
        links: (count,) of `LINK`.
        place: (count,) places of the ambiguities in the state; negative: not to be fixed.
        reference: (GROUPS_MAX,) link that is the reference of each group; negative: none.
        lasting: Share of the carriers' variances that ambiguities have taken up, by which they are no integers.
        x: State.
        p: Its covariance.
        member: (>= count,) out, the link of each double difference.
        a: (>= count,) out, double differences.
        q: (>= count, >= count) out, their covariance.
        b: (3,) out, position.
        qba: (3, >= count) out, covariance of position with the ambiguities.
        qb: (3, 3) out, covariance of the position.

    Returns:
        Number of double differences.
    """
    m = 0
    for k in range(count):
        ref = reference[links[k].group]
        if place[k] >= 0 and ref >= 0 and ref != k:
            member[m] = k
            m += 1
    for i in range(m):
        k, ref = member[i], reference[links[member[i]].group]
        pi, ri = place[k], place[ref]
        a[i] = x[pi] - x[ri]
        share = lasting / links[k].wavelength_m ** 2
        for j in range(i + 1):
            pj = place[member[j]]
            rj = place[reference[links[member[j]].group]]
            q[i, j] = p[pi, pj] - p[ri, pj] - p[pi, rj] + p[ri, rj]
            if links[member[j]].group == links[k].group:
                q[i, j] += share * links[ref].phase_m2
            q[j, i] = q[i, j]
        q[i, i] += share * links[k].phase_m2
        for axis in range(3):
            qba[axis, i] = p[axis, pi] - p[axis, ri]
    for axis in range(3):
        b[axis] = x[axis]
        for other in range(3):
            qb[axis, other] = p[axis, other]
    return m


@part
def condition_on(
    i: int, integer: float, m: int, a: Float64Array, q: Float64Array, b: Float64Array, qba: Float64Array,
    qb: Float64Array, row: Float64Array,
) -> None:  # fmt: skip
    """Condition ambiguities and position on ambiguity i being this integer; q[i, i] becomes 0.

    Of q, the lower triangle is read and written; `row` (>= m,) is for the work.
    """
    variance = q[i, i]
    if not variance > 0.0:
        return
    step = (integer - a[i]) / variance
    for j in range(m):
        row[j] = q[i, j] if j <= i else q[j, i]
    for axis in range(3):
        along = qba[axis, i]
        b[axis] += along * step
        for other in range(3):
            qb[axis, other] -= along * qba[other, i] / variance
    for j in range(m):
        if row[j] == 0.0 or j == i:  # known before, as all are in the end
            continue
        a[j] += row[j] * step
        scaled = row[j] / variance
        for k in range(j + 1):
            q[j, k] -= scaled * row[k]
        for axis in range(3):
            qba[axis, j] -= scaled * qba[axis, i]
    a[i] = integer
    for j in range(i):
        q[i, j] = 0.0
    for j in range(i, m):
        q[j, i] = 0.0
    for axis in range(3):
        qba[axis, i] = 0.0


@part
def resolve(
    m: int, a: Float64Array, q: Float64Array, b: Float64Array, qba: Float64Array, qb: Float64Array,
    failure_rate: float, risk_max: float, ratio_floor: float, count_min: int, fixed: Float64Array, report: Float64Array,
) -> bool:  # fmt: skip
    """Fix the largest reliable set of combinations of m ambiguities, if the best integers pass the ratio test.

    Args:
        m: Number of ambiguities.
        a: (>= m,) float ambiguities; conditioned on what was fixed.
        q: (>= m, >= m) their covariance; conditioned alike.
        b: (3,) position; conditioned alike.
        qba: (3, >= m); conditioned alike.
        qb: (3, 3); conditioned alike.
        failure_rate: Of bootstrapping, that the fixed subset may have.
        risk_max: Failure rate beyond which no ratio helps, with the covariance scaled to what the integers show.
        ratio_floor: Least ratio of squared norms, whatever the fixed failure rate allows.
        count_min: Fewest combinations that are worth fixing.
        fixed: (>= m,) out, integers of those ambiguities that are now known; NaN for others.
        report: (5,) out, ratio, failure rate, squared norm of the best integers, how many combinations it fixed, m.

    Returns:
        Whether the integers were accepted; if not, the distribution is untouched.
    """
    fixed[:m] = np.nan
    report[:] = 0.0
    report[TOTAL] = m
    if m < count_min:
        return False
    u, zt, d, copy = np.empty((m, m)), np.empty((m, m)), np.empty(m), np.empty((m, m))
    for i in range(m):
        for j in range(m):
            copy[i, j] = q[i, j]
    if not decorrelate(m, copy, u, d, zt):
        return False
    first = first_of_reliable_subset(m, d, failure_rate)
    report[COUNT] = m - first
    if m - first < count_min:
        return False
    whole = np.empty(m)  # integers near the float values, which keep the products with zt small
    z = np.zeros(m)
    for i in range(m):
        whole[i] = float(round(a[i]))
    for i in range(m):
        for k in range(m):
            z[i] += zt[i, k] * (a[k] - whole[k])
    best, norms = np.empty((2, m)), np.empty(2)
    if not search(m, first, u, d, z, best, norms, NODES_MAX):
        return False
    # Integers further off than the covariance allows show that it is too small: the risk is that of a larger one.
    factor = max(1.0, norms[0] / (m - first))
    failure = bootstrapped_failure_rate(m, first, d * factor)
    report[RATIO] = min(norms[1] / max(norms[0], 1e-12), 999.9)
    report[FAILURE] = failure
    report[NORM] = norms[0]
    if failure > risk_max or report[RATIO] < max(critical_ratio(m - first, failure), ratio_floor):
        return False
    _condition_on_combinations(m, first, u, d, zt, z, best[0], a, q, b, qba, qb)
    for i in range(m):
        nearest = float(round(a[i]))
        if q[i, i] < 1e-6 and abs(a[i] - nearest) < 1e-3:
            fixed[i] = nearest
            a[i] = nearest
    return True


@part
def _condition_on_combinations(
    m: int, first: int, u: Float64Array, d: Float64Array, zt: Float64Array, z: Float64Array, integers: Float64Array,
    a: Float64Array, q: Float64Array, b: Float64Array, qba: Float64Array, qb: Float64Array,
) -> None:  # fmt: skip
    """Condition the distribution on combinations first ... m - 1 of the ambiguities.

    With cov z = u D uᵀ the components w = u⁻¹ (z - ẑ) are independent with variances D, and cov(y, w) = cov(y, z) u⁻ᵀ.
    So what is known of y is cov(y, a) Zᵀ u⁻ᵀ D⁻¹ w, and its covariance falls by cov(y, w) D⁻¹ cov(w, y).
    """
    width = 3 if first == 0 else m + 3  # with all of them known, nothing but the position is left to know
    shift, weight = np.zeros(m), np.zeros(m)
    joint = np.zeros((m, width))  # row k: covariance of component k with the position, then the ambiguities
    for k in range(m - 1, first - 1, -1):
        shift[k] = z[k] - integers[k]
        for i in range(m):
            t = zt[k, i]
            if t != 0.0:
                for axis in range(3):
                    joint[k, axis] += t * qba[axis, i]
                for j in range(3, width):
                    joint[k, j] += t * q[i, j - 3]
        for i in range(k + 1, m):
            shift[k] -= u[k, i] * shift[i]
            for j in range(width):
                joint[k, j] -= u[k, i] * joint[i, j]
    for k in range(first, m):  # weight = u⁻ᵀ D⁻¹ shift
        weight[k] += shift[k] / d[k]
        for i in range(k + 1, m):
            weight[i] -= u[k, i] * weight[k]
        for axis in range(3):
            for other in range(3):
                qb[axis, other] -= joint[k, axis] * joint[k, other] / d[k]
    for i in range(m):
        step = 0.0
        for k in range(first, m):
            step += zt[k, i] * weight[k]
        shift[i] = step
    for i in range(m):
        for axis in range(3):
            b[axis] -= qba[axis, i] * shift[i]
        for j in range(m):
            a[j] -= q[i, j] * shift[i]
    _forget_components(m, first, d, joint, q, qba)


@part
def _forget_components(
    m: int, first: int, d: Float64Array, joint: Float64Array, q: Float64Array, qba: Float64Array
) -> None:
    """Take what components first ... m - 1 told out of the covariances of the ambiguities."""
    if first == 0:
        q[:m, :m] = 0.0
        qba[:, :m] = 0.0
        return
    for i in range(m):
        for k in range(first, m):
            scaled = joint[k, 3 + i] / d[k]
            for axis in range(3):
                qba[axis, i] -= scaled * joint[k, axis]
            for j in range(m):
                q[i, j] -= scaled * joint[k, 3 + j]


@part
def condition_on_held(
    m: int, member: Int32Array, links: Records, reference: Int32Array, place: Int32Array, notes: Records,
    epochs_min: int, gate: float, a: Float64Array, q: Float64Array, b: Float64Array, qba: Float64Array,
    qb: Float64Array, free: Int32Array, integers: Float64Array,
) -> tuple[int, int]:  # fmt: skip
    """Condition the distribution on the integers that have been accepted often enough, and keep the rest of it.

    An integer that the float filter contradicts by more than `gate` sigma is let go.

    Args:
        m: Number of double differences.
        member: (m,) link of each.
        links: Of `LINK`.
        reference: Reference link of each group.
        place: Places of the links' ambiguities.
        notes: Of `NOTE`, by place; the integers of contradicted ambiguities become NaN.
        epochs_min: Epochs for which an integer must have been accepted.
        gate: Sigmas.
        a: (>= m,) and so on: the distribution; compacted to what is still unknown.
        q: The same.
        b: The same.
        qba: The same.
        qb: The same.
        free: (>= m,) out, link of each remaining ambiguity.
        integers: (links,) out, set for the links whose integers were taken, up to the group's datum.

    Returns:
        Number of the remaining ambiguities, and how many integers were taken.
    """
    known, row = np.zeros(m, np.bool_), np.empty(m)
    taken = 0
    for i in range(m):
        k = member[i]
        mine, other = place[k], place[reference[links[k].group]]
        if notes[mine].agreed < epochs_min or notes[other].agreed < epochs_min:
            continue
        integer = notes[mine].integer - notes[other].integer
        if abs(a[i] - integer) > gate * math.sqrt(q[i, i]) + 0.2:
            notes[mine].integer = np.nan
            notes[mine].agreed = 0
            continue
        condition_on(i, integer, m, a, q, b, qba, qb, row)
        known[i] = True
        integers[k] = notes[mine].integer
        integers[reference[links[k].group]] = notes[other].integer
        taken += 1
    left = 0
    for i in range(m):
        if known[i]:
            continue
        free[left] = member[i]
        a[left] = a[i]
        for axis in range(3):
            qba[axis, left] = qba[axis, i]
        column = 0
        for j in range(i + 1):
            if not known[j]:
                q[left, column] = q[column, left] = q[i, j]
                column += 1
        left += 1
    return left, taken


@part
def record_integers(
    count: int, links: Records, reference: Int32Array, place: Int32Array, notes: Records, epochs_min: int, left: int,
    free: Int32Array, fixed: Float64Array, known: Float64Array,
) -> None:  # fmt: skip
    """Note what was accepted, relative to each group's datum, and for how many epochs running.

    Args:
        count: Number of links.
        links: Of `LINK`.
        reference: Reference link of each group.
        place: Places of the links' ambiguities; negative: none.
        notes: Of `NOTE`, by place.
        epochs_min: Epochs after which an integer is held even while it is not fixed anew.
        left: Number of ambiguities that were not held.
        free: (left,) their links.
        fixed: (left,) their integers relative to the reference; NaN: not fixed.
        known: (count,) integers of the links known in this epoch, up to the group's datum, NaN for others; completed.
    """
    for i in range(left):  # give every group a datum before using it
        ref = reference[links[free[i]].group]
        if math.isnan(fixed[i]):
            continue
        if math.isnan(notes[place[ref]].integer):
            other = notes[place[free[i]]].integer
            notes[place[ref]].integer = 0.0 if math.isnan(other) else other - fixed[i]
            notes[place[ref]].agreed = 0
        known[ref] = notes[place[ref]].integer
    for i in range(left):
        if math.isnan(fixed[i]):
            continue
        mine = place[free[i]]
        integer = known[reference[links[free[i]].group]] + fixed[i]
        if notes[mine].integer != integer:
            notes[mine].integer = integer
            notes[mine].agreed = 0
        known[free[i]] = integer
    for k in range(count):
        if place[k] < 0:
            continue
        if not math.isnan(known[k]):
            notes[place[k]].agreed += 1
        elif notes[place[k]].agreed < epochs_min:
            notes[place[k]].agreed = 0


@part
def let_go(count: int, place: Int32Array, notes: Records) -> None:
    """Forget for how long integers have been accepted: no fix confirms those held that are too few for one."""
    for k in range(count):
        if place[k] >= 0:
            notes[place[k]].agreed = 0


@part
def hold_integers(
    n: int, count: int, links: Records, reference: Int32Array, place: Int32Array, notes: Records, known: Float64Array,
    epochs_min: int, variance: float, x: Float64Array, p: Float64Array,
) -> int:  # fmt: skip
    """Tell the filter of integers that have been accepted for long, softly, so that it can still forget them.

    Args:
        n: Number of states.
        count: Number of links.
        links: Of `LINK`.
        reference: Reference link of each group.
        place: Places of the links' ambiguities; negative: none.
        notes: Of `NOTE`, by place.
        known: (count,) integers of this epoch, up to the group's datum; NaN: none.
        epochs_min: Epochs for which an integer must have been accepted.
        variance: Of such a statement, cycles².
        x: State.
        p: Its covariance.

    Returns:
        How many were told: those that the filter does not know as well already are left out.
    """
    told = 0
    gain = np.empty(n)
    for k in range(count):
        ref = reference[links[k].group]
        if place[k] < 0 or ref < 0 or ref == k or math.isnan(known[k]) or math.isnan(known[ref]):
            continue
        mine, other = place[k], place[ref]
        if notes[mine].agreed < epochs_min or notes[other].agreed < epochs_min:
            continue
        for i in range(n):
            gain[i] = p[mine, i] - p[other, i]
        own = gain[mine] - gain[other]
        innovation = known[k] - known[ref] - (x[mine] - x[other])
        if own < 0.25 * variance and abs(innovation) < 0.25:
            continue
        apply_gain(n, gain, innovation, own + variance, x, p)
        told += 1
    return told
