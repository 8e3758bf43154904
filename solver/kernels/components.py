"""What fixed carriers tell of their own noise and, apart from it, of the ionosphere between rover and base.

With the integers known, a carrier is c + u . x - f I + e: an offset of its group, the position, its satellite's
differential ionosphere scaled to its band, and noise. All bands of a satellite share I, which tells it from e. Both
variances are judged as MINQUE does (Rao 1971): with V = V_I + V_e, W its inverse, A the partial derivatives by position
and offsets and P = W - W A (A' W A)^-1 A' W, y' P V_i P y is compared with what it should be, tr(P V_i). Where there is
I, a zenith wet delay and the ionosphere that both ends share are in A as well, or I would take them up. Rows are scaled
to V_e = 1, so that for each satellite V is 1 + h h' and W is 1 - h h' / (1 + h' h).
"""

import math

import numpy as np

from solver.jit import part
from solver.kernels import Float64Array, Int16Array, Records
from solver.kernels.differencing import GROUPS_MAX
from solver.kernels.linalg import cholesky, cholesky_inverse

__all__ = ["variance_components"]


@part
def variance_components(
    count: int, links: Records, known: Float64Array, ionosphere_m: float, squares: Float64Array
) -> None:
    """Judge the variances of carriers whose integers are known; GLONASS is left out, for its channel biases.

    Args:
        count: Number of links.
        links: (count,) of `LINK`; those of a satellite come together.
        known: (count,) integers up to each group's datum, cycles; NaN: not known.
        ionosphere_m: Zenith ionosphere, 1 sigma, m at L1; 0: there is none.
        squares: (2, 2) out, square found and square expected of noise and ionosphere; both expected ones together are
            the redundancy. All 0 where there is none.
    """
    rows, delay = np.zeros((count, GROUPS_MAX + 6)), np.zeros(count)  # a row is y, then A
    sats, place = np.zeros(count, np.int16), np.full(GROUPS_MAX, -1)
    columns, used = 6 if ionosphere_m > 0.0 else 4, 0
    for k in range(count):
        if links[k].channel != 0.0 or math.isnan(known[k]) or math.isnan(links[k].phase_m):
            continue
        group = links[k].group
        if place[group] < 0:
            place[group] = columns
            columns += 1
        scale = 1.0 / math.sqrt(links[k].phase_m2)
        rows[used, 0] = scale * (links[k].phase_m - links[k].wavelength_m * known[k])
        for axis in range(3):
            rows[used, 1 + axis] = scale * links[k].unit[axis]
        if ionosphere_m > 0.0:
            rows[used, 4] = scale * links[k].wet_rover
            rows[used, 5] = scale * links[k].ionosphere * (links[k].slant - links[k].slant_base)
        rows[used, place[group]] = scale
        delay[used] = scale * ionosphere_m * links[k].slant * links[k].ionosphere
        sats[used] = links[k].sat
        used += 1
    squares[:] = 0.0
    if used >= columns:
        _compare(used, columns, sats, rows, delay, squares)


@part
def _compare(
    count: int, columns: int, sats: Int16Array, rows: Float64Array, delay: Float64Array, squares: Float64Array
) -> None:
    """Write what the rows show and what they should."""
    weighted = rows.copy()  # W y, W A
    normal, inverse = np.zeros((columns - 1, columns - 1)), np.zeros((columns - 1, columns - 1))
    ends, sizes = np.zeros(count, np.int64), np.zeros(count)
    first = 0
    while first < count:
        end, size = first, 1.0
        while end < count and sats[end] == sats[first]:
            size += delay[end] * delay[end]
            end += 1
        for i in range(columns):
            shared = 0.0
            for k in range(first, end):
                shared += delay[k] * rows[k, i]
            for k in range(first, end):
                weighted[k, i] -= delay[k] * shared / size
        ends[first], sizes[first] = end, size
        first = end
    for k in range(count):
        for i in range(1, columns):
            if rows[k, i] != 0.0:
                for j in range(1, columns):
                    normal[i - 1, j - 1] += rows[k, i] * weighted[k, j]
    if not cholesky(normal, columns - 1):
        return
    cholesky_inverse(normal, inverse, columns - 1)
    moment, solution, shared_row = np.zeros(columns), np.zeros(columns), np.zeros(columns)
    for k in range(count):
        for i in range(1, columns):
            moment[i] += weighted[k, i] * rows[k, 0]
    for i in range(1, columns):
        for j in range(1, columns):
            solution[i] += inverse[i - 1, j - 1] * moment[j]
    first = 0
    while first < count:
        end, size = ends[first], sizes[first]
        shared_row[:] = 0.0
        shared = 0.0
        for k in range(first, end):
            left = weighted[k, 0]
            for i in range(1, columns):
                left -= weighted[k, i] * solution[i]
                shared_row[i] += delay[k] * weighted[k, i]
            shared += delay[k] * left
            squares[0, 0] += left * left
            squares[0, 1] += 1.0 - delay[k] * delay[k] / size - _quadratic(columns, inverse, weighted[k])
        squares[1, 0] += shared * shared
        squares[1, 1] += (size - 1.0) / size - _quadratic(columns, inverse, shared_row)
        first = end


@part
def _quadratic(columns: int, inverse: Float64Array, row: Float64Array) -> float:
    """The form of columns 1 ... of a row in the inverse of the normal matrix."""
    total = 0.0
    for i in range(1, columns):
        if row[i] != 0.0:
            for j in range(1, columns):
                total += row[i] * row[j] * inverse[i - 1, j - 1]
    return total
