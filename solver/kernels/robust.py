"""Three coordinates and one free offset for each group, by robust least squares.

Position from code differences, velocity from Doppler, displacement from time differences of the carrier and position
from carriers with known ambiguities are all this one problem: y = -unit . x + offset(group) + noise.

The offsets are eliminated exactly by taking weighted means out of every group. Weights come from the given variances,
times those of IGG III (Yang 1994: 1 up to k0 sigma, falling, 0 beyond k1), iterated from Huber's, with the scale from
the median of the residuals, never below the given variances' own.
"""

import math

import numpy as np

from solver.jit import kernel, part
from solver.kernels import Float64Array, Int16Array
from solver.kernels.linalg import cholesky, cholesky_inverse, cholesky_solve

__all__ = ["ITERATIONS", "median", "robust_coordinates"]

K0 = 1.5
K1 = 5.0
ITERATIONS = 12
GENTLE = 3
"""Iterations with Huber's weights before those of IGG III."""
SETTLED = 0.01


@kernel
def robust_coordinates(
    count: int, unit: Float64Array, y: Float64Array, variance: Float64Array, group: Int16Array, solution: Float64Array,
    covariance: Float64Array, weight: Float64Array, residual: Float64Array, iterations: int,
) -> tuple[int, float]:  # fmt: skip
    """Solve y = -unit . x + offset(group) robustly.

    Args:
        count: Number of observations.
        unit: (>= count, 3) unit vectors.
        y: (>= count,) observations; NaN: left out.
        variance: (>= count,).
        group: (>= count,) numbers from 0 on.
        solution: (3,) out.
        covariance: (3, 3) out, for the given variances and final weights.
        weight: (>= count,) out, robust weights 0..1; 0 for what was left out.
        residual: (>= count,) out, y less its estimate; NaN for what was left out.
        iterations: At most; 1 gives plain least squares.

    Returns:
        Redundancy (below 0: no solution), and the variance factor: the weighted mean square of the residuals over the
        redundancy; 1 without redundancy.
    """
    normal, scaled, sigma, groups = np.empty((3, 3)), np.empty(count), np.empty(count), 0
    for k in range(count):
        weight[k] = 0.0 if math.isnan(y[k]) else 1.0
        sigma[k] = math.sqrt(variance[k])
        groups = max(groups, group[k] + 1)
    offsets = np.empty((groups, 5))  # weight, three means of the unit vector, mean of y
    redundancy, factor, iteration = -1, 1.0, 0
    while True:
        redundancy = _solve_once(count, unit, y, variance, group, weight, offsets, normal, solution)
        if redundancy < 0:
            return redundancy, 1.0
        scale, used, square = 0.0, 0, 0.0
        for k in range(count):
            residual[k], g = np.nan, group[k]
            if math.isnan(y[k]) or offsets[g, 0] <= 0.0:
                continue
            value = y[k] - offsets[g, 4]
            for axis in range(3):
                value += (unit[k, axis] - offsets[g, 1 + axis]) * solution[axis]
            residual[k] = value
            scaled[used] = abs(value) / sigma[k]
            square += weight[k] * value * value / variance[k]
            used += 1
        factor = square / redundancy if redundancy > 0 else 1.0
        if redundancy < 2 or iteration >= iterations - 1:
            break
        scale = max(1.0, median(used, scaled) / 0.6745 * math.sqrt(used / redundancy))
        change = _reweigh(count, residual, sigma, scale, iteration < GENTLE, weight)
        if iteration < GENTLE and change == 0.0:  # more of this would be the same again
            iteration, change = GENTLE, _reweigh(count, residual, sigma, scale, False, weight)
        if iteration >= GENTLE and change <= SETTLED:
            break
        iteration += 1
    cholesky_inverse(normal, covariance, 3)
    return redundancy, factor


@part
def median(count: int, values: Float64Array) -> float:
    """Median of the first `count` values, which get into another order: Hoare's selection.

    NumPy's takes seconds to compile.
    """
    half, low, high = count // 2, 0, count - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] < pivot:
                i += 1
            while values[j] > pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if half <= j:
            high = j
        elif half >= i:
            low = i
        else:
            break
    if count % 2 == 1:
        return float(values[half])
    below = values[0]
    for k in range(1, half):
        below = max(below, values[k])
    return float(0.5 * (below + values[half]))


@part
def _solve_once(
    count: int, unit: Float64Array, y: Float64Array, variance: Float64Array, group: Int16Array, weight: Float64Array,
    offsets: Float64Array, normal: Float64Array, solution: Float64Array,
) -> int:  # fmt: skip
    """One weighted solution with the groups' offsets eliminated; leaves the normal matrix factored."""
    offsets[:] = 0.0
    for k in range(count):
        if weight[k] > 0.0:
            w, g = weight[k] / variance[k], group[k]
            offsets[g, 0] += w
            for axis in range(3):
                offsets[g, 1 + axis] += w * unit[k, axis]
            offsets[g, 4] += w * y[k]
    groups = 0
    for g in range(len(offsets)):
        if offsets[g, 0] > 0.0:
            groups += 1
            for mean in range(1, 5):
                offsets[g, mean] /= offsets[g, 0]
    normal[:] = 0.0
    solution[:] = 0.0
    used = 0
    for k in range(count):
        if weight[k] > 0.0:
            used += 1
            w, g = weight[k] / variance[k], group[k]
            for a in range(3):
                along = offsets[g, 1 + a] - unit[k, a]
                solution[a] += w * along * (y[k] - offsets[g, 4])
                for b in range(a + 1):
                    normal[a, b] += w * along * (offsets[g, 1 + b] - unit[k, b])
    if used < groups + 3 or not cholesky(normal, 3):
        return -1
    cholesky_solve(normal, solution, 3)
    return used - groups - 3


@kernel
def _reweigh(
    count: int, residual: Float64Array, sigma: Float64Array, scale: float, gentle: bool, weight: Float64Array
) -> float:
    """Set Huber's weights (gentle) or those of IGG III; returns their largest change."""
    change = 0.0
    for k in range(count):
        if math.isnan(residual[k]):
            continue
        t = abs(residual[k]) / (scale * sigma[k])
        new = 1.0
        if t > K0:
            new = K0 / t
            if not gentle:
                new = 0.0 if t >= K1 else new * ((K1 - t) / (K1 - K0)) ** 2
        step = abs(new - weight[k])
        change = max(change, step * max(1.0, 0.1 * t))  # a hundredth of an error of thousands of km is not little
        weight[k] = new
    return change
