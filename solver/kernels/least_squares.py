"""Robust least squares of rows that share an error of their satellite: the engine of every position we compute.

A row observes y = a . x + s + mu * i + e: x are the unknowns, s and i belong to one satellite (what its signals have in
common, as orbit and troposphere; and its ionosphere, scaled by mu) and have zero mean and known variance, e is the
signal's own noise. s and i are eliminated satellite by satellite (Schur complement), so that only x is solved for.

Outliers are weighed down by their standardized residual (Baarda 1968): Huber's function first, which always converges,
then IGG III (Yang 1999, Chinese Journal of Geodesy), which lets go of gross errors altogether.
"""

import math

import numpy as np

from solver.jit import kernel, part
from solver.kernels import Float64Array, Int32Array
from solver.kernels.linalg import cholesky, cholesky_inverse, cholesky_solve

__all__ = ["robust_solve"]

_HUBER_ROUNDS, _IGG_ROUNDS = 4, 5
_HUBER_K = 1.3
_IGG_K0, _IGG_K1 = 2.0, 4.5
_REDUNDANCY_MIN = 0.1
"""A row that the others control by less than this cannot be judged by its residual: it is judged as if at this."""
_SETTLED = 0.02


@kernel
def robust_solve(
    a: Float64Array,
    y: Float64Array,
    sigma: Float64Array,
    mu: Float64Array,
    first: Int32Array,
    common: Float64Array,
    prior: Float64Array,
    prior_b: Float64Array,
    x: Float64Array,
    covariance: Float64Array,
    weight: Float64Array,
    robust: bool,
) -> tuple[float, float]:
    """Solve for x (n,) with its covariance, from m rows of g satellites and what is known before.

    Args:
        a: (m, n) design.
        y: (m,) observed minus computed.
        sigma: (m,) standard deviation of e; 0 or NaN: the row is not used.
        mu: (m,) factor of the satellite's ionosphere.
        first: (g + 1,) first row of each satellite.
        common: (g, 2) standard deviations of s and of i.
        prior: (n, n) information before the epoch.
        prior_b: (n,) information times the value known before.
        x: (n,) written.
        covariance: (n, n) written.
        weight: (m,) written: 0..1, factor by which each row's own weight was lowered.
        robust: False: one plain weighted solution.

    Returns:
        Sum of squared standardized residuals and its degrees of freedom; (-1, 0) where the system is singular.
    """
    m, n = a.shape
    for row in range(m):
        weight[row] = 1.0 if sigma[row] > 0.0 and not math.isnan(y[row]) else 0.0
    active, actives = np.empty((len(first) - 1, n), np.int32), np.zeros(len(first) - 1, np.int32)
    dense = np.empty((m, n))
    _gather(a, first, active, actives, dense)
    factor, block = np.empty((n, n)), np.empty((n, n))
    nuisance = np.empty((len(first) - 1, 2 * n + 5))
    standardized = np.zeros(m)
    rounds = _HUBER_ROUNDS + _IGG_ROUNDS if robust else 0
    for step in range(rounds + 1):
        _assemble(
            dense, y, sigma, mu, first, active, actives, common, weight, prior, prior_b, factor, x, nuisance, block
        )  # fmt: skip
        if not cholesky(factor, n):
            return -1.0, 0.0
        cholesky_solve(factor, x, n)
        if step == rounds:
            break
        cholesky_inverse(factor, covariance, n)
        _standardize(
            dense, y, sigma, mu, first, active, actives, common, weight, nuisance, x, covariance, standardized, block
        )  # fmt: skip
        if not _reweigh(standardized, sigma, step < _HUBER_ROUNDS, weight) and step >= _HUBER_ROUNDS:
            break
    cholesky_inverse(factor, covariance, n)
    return _chi_square(a, y, sigma, mu, first, common, weight, prior, nuisance, active, actives, x, covariance)


@part
def _gather(a: Float64Array, first: Int32Array, active: Int32Array, actives: Int32Array, dense: Float64Array) -> None:
    """Write, and count, the columns in which a satellite's rows are not all zero, and its rows with those alone."""
    for g in range(len(first) - 1):
        for i in range(a.shape[1]):
            for row in range(first[g], first[g + 1]):
                if a[row, i] != 0.0:
                    active[g, actives[g]] = i
                    actives[g] += 1
                    break
        for row in range(first[g], first[g + 1]):
            for place in range(actives[g]):
                dense[row, place] = a[row, active[g, place]]


@part
def _assemble(
    dense: Float64Array, y: Float64Array, sigma: Float64Array, mu: Float64Array, first: Int32Array, active: Int32Array,
    actives: Int32Array, common: Float64Array, weight: Float64Array, prior: Float64Array, prior_b: Float64Array,
    normal: Float64Array, b: Float64Array, nuisance: Float64Array, block: Float64Array,
) -> None:  # fmt: skip
    """Write the reduced normal equations; keep per satellite the inverse 2 x 2 block and its couplings for later."""
    n = dense.shape[1]
    right = np.empty(n)
    for i in range(n):  # not normal[:, :] = prior: its check of shapes alone takes seconds to compile
        b[i] = prior_b[i]
        for j in range(n):
            normal[i, j] = prior[i, j]
    for g in range(len(first) - 1):
        k = actives[g]
        for i in range(k):
            right[i], nuisance[g, i], nuisance[g, n + i] = 0.0, 0.0, 0.0
            for j in range(i + 1):
                block[i, j] = 0.0
        s00, s01, s11 = 1.0 / common[g, 0] ** 2, 0.0, 1.0 / common[g, 1] ** 2
        d0, d1 = 0.0, 0.0
        for row in range(first[g], first[g + 1]):
            if weight[row] <= 0.0:
                continue
            w = weight[row] / (sigma[row] * sigma[row])
            wm = w * mu[row]
            s00, s01, s11 = s00 + w, s01 + wm, s11 + wm * mu[row]
            d0, d1 = d0 + w * y[row], d1 + wm * y[row]
            for i in range(k):
                scaled = w * dense[row, i]
                nuisance[g, i] += scaled
                nuisance[g, n + i] += wm * dense[row, i]
                right[i] += scaled * y[row]
                for j in range(i + 1):
                    block[i, j] += scaled * dense[row, j]
        determinant = s00 * s11 - s01 * s01
        q00, q01, q11 = s11 / determinant, -s01 / determinant, s00 / determinant
        nuisance[g, 2 * n], nuisance[g, 2 * n + 1], nuisance[g, 2 * n + 2] = q00, q01, q11
        nuisance[g, 2 * n + 3], nuisance[g, 2 * n + 4] = d0, d1
        for i in range(k):
            c0, c1 = nuisance[g, i], nuisance[g, n + i]
            k0, k1 = q00 * c0 + q01 * c1, q01 * c0 + q11 * c1
            at = active[g, i]
            b[at] += right[i] - k0 * d0 - k1 * d1
            for j in range(i + 1):
                normal[at, active[g, j]] += block[i, j] - k0 * nuisance[g, j] - k1 * nuisance[g, n + j]


@part
def _nuisance_values(nuisance: Float64Array, active: Int32Array, count: int, x: Float64Array) -> tuple[float, float]:
    """Estimates of s and i of one satellite, given x."""
    n = len(x)
    e0, e1 = nuisance[2 * n + 3], nuisance[2 * n + 4]
    for i in range(count):
        e0 -= nuisance[i] * x[active[i]]
        e1 -= nuisance[n + i] * x[active[i]]
    q00, q01, q11 = nuisance[2 * n], nuisance[2 * n + 1], nuisance[2 * n + 2]
    return q00 * e0 + q01 * e1, q01 * e0 + q11 * e1


@part
def _standardize(
    dense: Float64Array, y: Float64Array, sigma: Float64Array, mu: Float64Array, first: Int32Array, active: Int32Array,
    actives: Int32Array, common: Float64Array, weight: Float64Array, nuisance: Float64Array, x: Float64Array,
    covariance: Float64Array, standardized: Float64Array, block: Float64Array,
) -> None:  # fmt: skip
    """Write each residual over its own standard deviation: noise, less what the row itself pulled the fit by.

    A row counts by the worse of two residuals: against its satellite's other rows, and, lest a satellite that is wrong
    in all of its rows explains itself by s and i, against the other satellites.
    """
    n = dense.shape[1]
    t, own_x = np.empty(n), np.empty(n)
    for g in range(len(first) - 1):
        k = actives[g]
        for i in range(k):
            own_x[i] = x[active[g, i]]
            for j in range(i + 1):
                block[i, j] = covariance[active[g, i], active[g, j]]
        s, ion = _nuisance_values(nuisance[g], active[g], k, x)
        q00, q01, q11 = nuisance[g, 2 * n], nuisance[g, 2 * n + 1], nuisance[g, 2 * n + 2]
        for row in range(first[g], first[g + 1]):
            if sigma[row] <= 0.0 or math.isnan(y[row]):
                continue
            p0, p1 = q00 + mu[row] * q01, q01 + mu[row] * q11
            alone, nuisances = y[row], s + mu[row] * ion
            variance = p0 + mu[row] * p1
            shared = 0.0
            for i in range(k):
                t[i] = dense[row, i] - p0 * nuisance[g, i] - p1 * nuisance[g, n + i]
                alone -= dense[row, i] * own_x[i]
            for i in range(k):  # both quadratic forms of the symmetric block, from its lower triangle
                across, along = 0.0, 0.0
                for j in range(i):
                    across += block[i, j] * t[j]
                    along += block[i, j] * dense[row, j]
                variance += t[i] * (2.0 * across + block[i, i] * t[i])
                shared += dense[row, i] * (2.0 * along + block[i, i] * dense[row, i])
            own = sigma[row] * sigma[row]
            # A row that is in the fit pulls it; one that is not adds the fit's uncertainty to its own.
            spread = own - weight[row] * variance if weight[row] > 0.0 else own + variance
            standardized[row] = (alone - nuisances) / math.sqrt(max(spread, _REDUNDANCY_MIN * own))
            own += common[g, 0] ** 2 + (mu[row] * common[g, 1]) ** 2
            spread = own - shared if weight[row] > 0.0 else own + shared
            among_all = alone / math.sqrt(max(spread, _REDUNDANCY_MIN * own))
            if abs(among_all) > abs(standardized[row]):
                standardized[row] = among_all


@part
def _reweigh(standardized: Float64Array, sigma: Float64Array, gentle: bool, weight: Float64Array) -> bool:
    """Set each row's factor by Huber's function, or by IGG III; whether any changed notably."""
    changed = False
    for row in range(len(sigma)):
        if not sigma[row] > 0.0 or math.isnan(standardized[row]):
            continue
        size = abs(standardized[row])
        new = 1.0
        if gentle:
            new = min(1.0, _HUBER_K / size) if size > 0.0 else 1.0
        elif size > _IGG_K1:
            new = 0.0
        elif size > _IGG_K0:
            new = _IGG_K0 / size * ((_IGG_K1 - size) / (_IGG_K1 - _IGG_K0)) ** 2
        changed = changed or abs(new - weight[row]) > _SETTLED
        weight[row] = new
    return changed


@part
def _chi_square(
    a: Float64Array, y: Float64Array, sigma: Float64Array, mu: Float64Array, first: Int32Array, common: Float64Array,
    weight: Float64Array, prior: Float64Array, nuisance: Float64Array, active: Int32Array, actives: Int32Array,
    x: Float64Array, covariance: Float64Array,
) -> tuple[float, float]:  # fmt: skip
    """Weighted sum of squares and its redundancy: rows kept, less what of x the prior had left open."""
    n = a.shape[1]
    total, count = 0.0, 0.0
    for g in range(len(first) - 1):
        s, ion = _nuisance_values(nuisance[g], active[g], actives[g], x)
        total += (s / common[g, 0]) ** 2 + (ion / common[g, 1]) ** 2
        for row in range(first[g], first[g + 1]):
            if weight[row] <= 0.0:
                continue
            fitted = s + mu[row] * ion
            for i in range(n):
                fitted += a[row, i] * x[i]
            total += weight[row] * ((y[row] - fitted) / sigma[row]) ** 2
            count += weight[row]
    for i in range(n):
        known = 0.0
        for j in range(n):
            known += prior[i, j] * covariance[j, i]
        count -= 1.0 - known
    return total, count
