"""A static baseline's normal equations, epoch by epoch, without the parameters that live for one epoch only.

Unknowns of the whole session: the rover's position, at knots in time the zenith wet delays and what the ionosphere over
both has beyond the expected, an ambiguity for each arc of a carrier. Those of one epoch are removed exactly rather than
solved for: each group's offset (clocks and biases) and each satellite's differential ionosphere, which has a prior.
With W the weights that are left when the ionosphere is taken for correlated noise, and B the rows' groups,
P = W - W B (Bᵀ W B)⁻¹ Bᵀ W is the weight matrix of the epoch, and the normal equations are the sum of Aᵀ P A (Schur
complement; Förstner and Wrobel 2016, section 4.2.6).
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from solver.jit import kernel
from solver.kernels import Float64Array, Int32Array, Records
from solver.kernels.linalg import cholesky, cholesky_solve

__all__ = ["DELAYS", "ROW", "ROWS_MAX", "accumulate", "arcs_of_phases", "bootstrap", "cut_slides", "residuals"]

Int64Array = NDArray[np.int64]
Bools = NDArray[np.bool_]

DELAYS: Final = 3
"""Unknowns at each knot: zenith wet delays of rover and base, zenith ionosphere over both."""
COLUMNS: Final = 3 + 2 * DELAYS
"""Unknowns of the session that a row depends on, beside its ambiguity."""
ROWS_MAX: Final = 256
"""Most links of an epoch."""

ROW: Final = np.dtype(
    [
        ("epoch", np.int32),
        ("sat", np.int16),
        ("group", np.int16),  # pair of signals, numbered over the whole session
        ("key", np.int32),  # satellite and both signals, likewise
        ("arc", np.int32),  # -1: the carrier is not used
        ("flags", np.uint8),
        ("wavelength_m", np.float64),
        ("ionosphere", np.float64),  # delay of the code for one metre of zenith ionosphere at L1
        ("common_ionosphere", np.float64),  # the same, rover less base, for one that is equally thick over both
        ("elevation", np.float64),
        ("unit", np.float64, (3,)),  # from the rover to the satellite
        ("wet_rover", np.float64),
        ("wet_base", np.float64),
        ("code_m", np.float64),  # observed less modelled
        ("phase_m", np.float64),
        ("code_w", np.float64),  # weights, 0: not used
        ("phase_w", np.float64),
        ("code_r", np.float64),  # redundancy: the part of an error that its residual shows
        ("phase_r", np.float64),
        ("code_v", np.float64),  # residuals
        ("phase_v", np.float64),
    ]
)
"""A link of `differencing.LINK` as part of a session, ordered by epoch, then satellite."""

_LEVEL_MIN: Final = 4
_STEP_MAX_M: Final = 0.06
"""A carrier whose phase steps further than that has slipped, be it by half a cycle: some 9 cm."""


@kernel
def arcs_of_phases(first: Int64Array, time_s: Float64Array, rows: Records, keys: int, gap_s: float) -> int:
    """Number the arcs without slips of all carriers; rows without a usable phase get -1.

    A receiver at rest moves all phases alike from epoch to epoch, but for its clock and a little atmosphere.

    Args:
        first: (epochs + 1,) first row of each epoch.
        time_s: (epochs,).
        rows: Of `ROW`; flags other than 0 break an arc; `arc` is written.
        keys: Number of different keys.
        gap_s: Longest gap that an arc may have.

    Returns:
        Number of arcs.
    """
    last_epoch, arc = np.full(keys, -1, np.int64), np.full(keys, -1, np.int32)
    last_phase = np.zeros(keys)
    clock = np.zeros(len(time_s))  # the common step of all phases, summed up
    steps = np.empty(ROWS_MAX)
    count = 0
    for epoch in range(len(time_s)):
        used, oldest = 0, epoch - 1
        clock[epoch] = clock[epoch - 1] if epoch > 0 else 0.0
        while used == 0 and oldest >= 0 and time_s[epoch] - time_s[oldest] <= gap_s:
            for k in range(first[epoch], first[epoch + 1]):
                key = rows[k].key
                if last_epoch[key] == oldest and not math.isnan(rows[k].phase_m) and rows[k].flags == 0:
                    steps[used] = rows[k].phase_m - last_phase[key]
                    used += 1
            if used > 0:
                clock[epoch] = clock[oldest] + np.median(steps[:used])
            oldest -= 1  # a link that loses messages leaves neighbours nothing in common
        for k in range(first[epoch], first[epoch + 1]):
            key = rows[k].key
            rows[k].arc = -1
            if math.isnan(rows[k].phase_m):
                continue
            before = last_epoch[key]
            goes_on = False
            if before >= 0 and used > 0 and rows[k].flags == 0:
                gap = time_s[epoch] - time_s[before]
                step = rows[k].phase_m - last_phase[key] - (clock[epoch] - clock[before])
                noise = 4.0 * math.sqrt(2.0 / rows[k].phase_w) if rows[k].phase_w > 0.0 else 0.0
                goes_on = gap <= gap_s and abs(step) < min(0.02 + noise + 1e-3 * gap, _STEP_MAX_M)
            if not goes_on:
                arc[key] = count
                count += 1
            rows[k].arc = arc[key]
            last_epoch[key], last_phase[key] = epoch, rows[k].phase_m
    return count


@kernel
def cut_slides(order: Int64Array, rows: Records, window: int, guard: int, cycles: float, arcs: int) -> int:
    """Cut arcs whose residuals stand at another level after some epochs than before: some receivers slip slowly.

    Args:
        order: Rows that have an arc, by arc, then epoch.
        rows: Of `ROW` with residuals; rows in between lose their arc, those after it get a new one.
        window: Most rows over which a level is averaged, on either side.
        guard: Rows in between.
        cycles: Least difference of levels, in wavelengths.
        arcs: Number of arcs so far.

    Returns:
        The new number of arcs.
    """
    start = 0
    while start < len(order):
        end = start + 1
        while end < len(order) and rows[order[end]].arc == rows[order[start]].arc:
            end += 1
        at, before = start + _LEVEL_MIN, start
        best, place = 0.0, -1
        while at + guard + _LEVEL_MIN <= end:
            step = _level(order, rows, at + guard, min(at + guard + window, end))
            step = abs(step - _level(order, rows, max(at - window, before), at)) / rows[order[start]].wavelength_m
            if step > max(cycles, best):
                best, place = step, at
            elif place >= 0 and at > place + guard:
                for k in range(place, place + guard):
                    rows[order[k]].arc = -1
                for k in range(place + guard, end):
                    rows[order[k]].arc = arcs
                arcs += 1
                before, at = place + guard, place + guard + _LEVEL_MIN - 1
                best, place = 0.0, -1
            at += 1
        if place >= 0:
            for k in range(place, place + guard):
                rows[order[k]].arc = -1
            for k in range(place + guard, end):
                rows[order[k]].arc = arcs
            arcs += 1
        start = end
    return arcs


@kernel
def _level(order: Int64Array, rows: Records, start: int, end: int) -> float:
    """Mean residual of some rows."""
    total = 0.0
    for k in range(start, end):
        total += rows[order[k]].phase_v
    return total / (end - start)


@kernel
def _weigh_epoch(
    rows: Records, ionosphere_m2: float, groups: int, local: Int32Array, w: Float64Array, k: Float64Array,
    spread: Float64Array, wb: Float64Array, normal: Float64Array,
) -> int:  # fmt: skip
    """Weights of one epoch's rows (codes, then phases), and what removes the groups' offsets.

    Args:
        rows: (n,) rows of the epoch.
        ionosphere_m2: Variance of a zenith ionosphere; 0: there is none.
        groups: Groups of the session.
        local: (groups,) out, the epoch's number of each group; -1: not there.
        w: (2 n,) out, weights.
        k: (2 n,) out, ionosphere coefficients.
        spread: (n,) out, at the first row of each satellite 1 / (1 / ionosphere_m2 + Σ w k²); 0 elsewhere.
        wb: (2 n, 2 * epoch's groups) out, W B.
        normal: (2 * epoch's groups) squared, out, Cholesky factor of Bᵀ W B.

    Returns:
        The number of groups of the epoch; 0 where nothing can be used.
    """
    n = len(rows)
    local[:groups] = -1
    count = 0
    for i in range(n):
        if local[rows[i].group] < 0:
            local[rows[i].group] = count
            count += 1
        w[i] = rows[i].code_w if not math.isnan(rows[i].code_m) else 0.0
        w[n + i] = rows[i].phase_w if rows[i].arc >= 0 else 0.0
        k[i], k[n + i] = rows[i].ionosphere, -rows[i].ionosphere
        spread[i] = 0.0
    size = 2 * count
    for i in range(2 * n):
        for h in range(size):
            wb[i, h] = 0.0
        half = 0 if i < n else count
        wb[i, half + local[rows[i % n].group]] = w[i]
    start = 0
    while start < n and ionosphere_m2 > 0.0:
        end = start + 1
        while end < n and rows[end].sat == rows[start].sat:
            end += 1
        total = 1.0 / ionosphere_m2
        for i in range(start, end):
            total += w[i] * k[i] * k[i] + w[n + i] * k[n + i] * k[n + i]
        spread[start] = 1.0 / total
        _correlate(start, end, n, count, rows, local, w, k, spread[start], wb)
        start = end
    for a in range(size):
        for b in range(size):
            normal[a, b] = 0.0
    for i in range(2 * n):
        at = local[rows[i % n].group] + (0 if i < n else count)
        for b in range(size):
            normal[at, b] += wb[i, b]
    for a in range(size):
        if normal[a, a] <= 0.0:
            normal[a, a] = 1.0
    return count if cholesky(normal, size) else 0


@kernel
def _correlate(
    start: int, end: int, n: int, count: int, rows: Records, local: Int32Array, w: Float64Array, k: Float64Array,
    spread: float, wb: Float64Array,
) -> None:  # fmt: skip
    """Take one satellite's part of the ionosphere out of W B: W = D - (D k) (D k)ᵀ spread."""
    for row in range(2 * (end - start)):
        i = start + row // 2 + (row % 2) * n
        scaled = w[i] * k[i] * spread
        if scaled == 0.0:
            continue
        for other in range(start, end):
            g = local[rows[other].group]
            wb[i, g] -= scaled * w[other] * k[other]
            wb[i, count + g] -= scaled * w[n + other] * k[n + other]


@kernel
def _project(
    n: int, size: int, rows: Records, w: Float64Array, k: Float64Array, spread: Float64Array, wb: Float64Array,
    normal: Float64Array, p: Float64Array,
) -> None:  # fmt: skip
    """Write P = W - W B (Bᵀ W B)⁻¹ Bᵀ W of one epoch; `wb` is overwritten by W B L⁻ᵀ."""
    for i in range(2 * n):
        for h in range(size):
            total = wb[i, h]
            for g in range(h):
                total -= normal[h, g] * wb[i, g]
            wb[i, h] = total / normal[h, h]
    for i in range(2 * n):
        for j in range(i + 1):
            total = 0.0
            for h in range(size):
                total -= wb[i, h] * wb[j, h]
            p[i, j] = total
        p[i, i] += w[i]
    start = 0
    for i in range(2 * n):
        if i % n == 0 or rows[i % n].sat != rows[i % n - 1].sat:
            start = i % n
        if spread[start] > 0.0:
            scaled = w[i] * k[i] * spread[start]
            for other in range(start, i % n + 1 if i < n else n):
                if rows[other].sat != rows[start].sat:
                    break
                p[i, other] -= scaled * w[other] * k[other]
                if i >= n and n + other <= i:
                    p[i, n + other] -= scaled * w[n + other] * k[n + other]
    for i in range(2 * n):
        for j in range(i):
            p[j, i] = p[i, j]


@kernel
def accumulate(
    first: Int64Array, place: Float64Array, rows: Records, groups: int, knots: int, ionosphere_m2: float,
    normal: Float64Array, rhs: Float64Array,
) -> None:  # fmt: skip
    """Add up the normal equations of a session.

    Unknowns: position (3), zenith delays of the rover at the knots, those of the base, the zenith ionosphere (m at L1)
    over both, ambiguities of the arcs.

    Args:
        first: (epochs + 1,) first row of each epoch.
        place: (epochs,) place of each epoch among the knots, 0 ... knots - 1, with a fraction.
        rows: Of `ROW`; `code_r` and `phase_r` are written.
        groups: Groups of the session.
        knots: Knots of each delay, two at least; between them it is linear.
        ionosphere_m2: Variance of a zenith ionosphere in one epoch; 0: there is none.
        normal: (unknowns, unknowns) added to.
        rhs: (unknowns,) added to.
    """
    local, spread = np.empty(groups, np.int32), np.empty(ROWS_MAX)
    w, k, y = np.empty(2 * ROWS_MAX), np.empty(2 * ROWS_MAX), np.empty(2 * ROWS_MAX)
    wb, p = np.empty((2 * ROWS_MAX, 2 * groups)), np.empty((2 * ROWS_MAX, 2 * ROWS_MAX))
    factor, a = np.empty((2 * groups, 2 * groups)), np.empty((2 * ROWS_MAX, COLUMNS))
    column, product = np.empty(COLUMNS, np.int64), np.empty(COLUMNS + 1)
    for epoch in range(len(place)):
        mine = rows[first[epoch] : first[epoch + 1]]
        n = len(mine)
        count = _weigh_epoch(mine, ionosphere_m2, groups, local, w, k, spread, wb, factor)
        if count == 0:
            continue
        _project(n, 2 * count, mine, w, k, spread, wb, factor, p)
        knot = min(int(place[epoch]), knots - 2)
        part = place[epoch] - knot
        for axis in range(3):
            column[axis] = axis
        for delay in range(DELAYS):
            column[3 + 2 * delay] = 3 + delay * knots + knot
            column[4 + 2 * delay] = 4 + delay * knots + knot
        for i in range(2 * n):
            row = mine[i % n]
            for axis in range(3):
                a[i, axis] = -row.unit[axis]
            a[i, 3], a[i, 4] = row.wet_rover * (1.0 - part), row.wet_rover * part
            a[i, 5], a[i, 6] = -row.wet_base * (1.0 - part), -row.wet_base * part
            common = row.common_ionosphere if i < n else -row.common_ionosphere
            a[i, 7], a[i, 8] = common * (1.0 - part), common * part
            y[i] = (row.code_m if i < n else row.phase_m) if w[i] > 0.0 else 0.0
        for i in range(n):
            mine[i].code_r = p[i, i] / w[i] if w[i] > 0.0 else 0.0
            mine[i].phase_r = p[n + i, n + i] / w[n + i] if w[n + i] > 0.0 else 0.0
        for i in range(2 * n):
            if w[i] == 0.0:
                continue
            product[:] = 0.0
            for j in range(2 * n):
                value = p[i, j]
                if value == 0.0:
                    continue
                for c in range(COLUMNS):
                    product[c] += value * a[j, c]
                product[COLUMNS] += value * y[j]
            for c in range(COLUMNS):
                rhs[column[c]] += a[i, c] * product[COLUMNS]
                for d in range(COLUMNS):
                    normal[column[c], column[d]] += a[i, c] * product[d]
            if i >= n:
                wavelength = mine[i - n].wavelength_m
                at = 3 + DELAYS * knots + mine[i - n].arc
                rhs[at] += wavelength * product[COLUMNS]
                for c in range(COLUMNS):
                    normal[at, column[c]] += wavelength * product[c]
                    normal[column[c], at] += wavelength * product[c]
                for j in range(n):
                    if w[n + j] > 0.0:
                        normal[at, 3 + DELAYS * knots + mine[j].arc] += wavelength * p[i, n + j] * mine[j].wavelength_m


@kernel
def residuals(
    first: Int64Array, place: Float64Array, rows: Records, groups: int, knots: int, ionosphere_m2: float,
    x: Float64Array,
) -> None:  # fmt: skip
    """Write the residuals of codes and phases for a solution; NaN where an observation is not used.

    Arguments as of `accumulate`, with the solution `x`; each epoch's own parameters are estimated on the way.
    """
    local, spread = np.empty(groups, np.int32), np.empty(ROWS_MAX)
    w, k, v = np.empty(2 * ROWS_MAX), np.empty(2 * ROWS_MAX), np.empty(2 * ROWS_MAX)
    wb, factor, offset = np.empty((2 * ROWS_MAX, 2 * groups)), np.empty((2 * groups, 2 * groups)), np.empty(2 * groups)
    for epoch in range(len(place)):
        mine = rows[first[epoch] : first[epoch + 1]]
        n = len(mine)
        count = _weigh_epoch(mine, ionosphere_m2, groups, local, w, k, spread, wb, factor)
        knot = min(int(place[epoch]), knots - 2)
        part = place[epoch] - knot
        rover = x[3 + knot] * (1.0 - part) + x[4 + knot] * part
        base = x[3 + knots + knot] * (1.0 - part) + x[4 + knots + knot] * part
        thickness = x[3 + 2 * knots + knot] * (1.0 - part) + x[4 + 2 * knots + knot] * part
        size = 2 * count
        offset[:size] = 0.0
        for i in range(2 * n):
            row = mine[i % n]
            v[i] = 0.0
            if w[i] == 0.0 or count == 0:
                continue
            v[i] = (row.code_m if i < n else row.phase_m) - row.wet_rover * rover + row.wet_base * base
            v[i] -= row.common_ionosphere * (thickness if i < n else -thickness)
            for axis in range(3):
                v[i] += row.unit[axis] * x[axis]
            if i >= n:
                v[i] -= row.wavelength_m * x[3 + DELAYS * knots + row.arc]
            for h in range(size):
                offset[h] += wb[i, h] * v[i]
        cholesky_solve(factor, offset, size)
        for i in range(2 * n):
            v[i] -= offset[local[mine[i % n].group] + (0 if i < n else count)] if count > 0 else 0.0
        _take_ionosphere(n, mine, w, k, spread, v)
        for i in range(n):
            mine[i].code_v = v[i] if w[i] > 0.0 and count > 0 else np.nan
            mine[i].phase_v = v[n + i] if w[n + i] > 0.0 and count > 0 else np.nan


@kernel
def _take_ionosphere(
    n: int, rows: Records, w: Float64Array, k: Float64Array, spread: Float64Array, v: Float64Array
) -> None:
    """Take each satellite's estimated ionosphere out of the residuals."""
    start = 0
    while start < n:
        end = start + 1
        delay = 0.0
        while end < n and rows[end].sat == rows[start].sat:
            end += 1
        for i in range(start, end):
            delay += spread[start] * (w[i] * k[i] * v[i] + w[n + i] * k[n + i] * v[n + i])
        for i in range(start, end):
            v[i] -= k[i] * delay
            v[n + i] -= k[n + i] * delay
        start = end


@kernel
def bootstrap(n: int, first: int, u: Float64Array, z_float: Float64Array, z: Float64Array, w: Float64Array) -> None:
    """Fix ambiguities n - 1 ... first one after the other, each given those before it (Teunissen 1998).

    Args:
        n: Number of ambiguities.
        first: Last one to be fixed.
        u: (n, n) unit upper triangular factor of their covariance, from `ambiguity.decorrelate`.
        z_float: (n,) float values.
        z: (n,) out, integers; only first ... n - 1 are written.
        w: (n,) out, how far each conditional value was from its integer, cycles.
    """
    shifted = z_float.copy()
    for k in range(n - 1, first - 1, -1):
        z[k] = float(round(shifted[k]))
        w[k] = shifted[k] - z[k]
        for i in range(k):
            shifted[i] -= u[i, k] * w[k]
