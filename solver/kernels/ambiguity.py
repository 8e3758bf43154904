"""Integer least squares for carrier-phase ambiguities: decorrelation, search, success rate and acceptance.

Strategy: factor Q = Lᵀ D L, reduce it by integer Gauss transformations and exchanges (LAMBDA, Teunissen 1995) with the
symmetric pivoting of Chang, Yang and Zhou 2005 and only those Gauss transformations that an exchange needs (partial
LLL: Xie, Chang and Al Borno 2011; the search does not profit from the others), then enumerate integer vectors depth
first with a shrinking ellipsoid (MLAMBDA, Chang, Yang and Zhou 2005).

Matrices are kept transposed, `u = Lᵀ` (unit upper triangular), so that every inner loop runs along a row. Ambiguity
n - 1 is the first to be fixed: d[i] is the variance of ambiguity i given i + 1 ... n - 1, and after the reduction the
variances grow towards small i. So "the best k ambiguities" are always the last k, and partial resolution
(Teunissen, Joosten and Tiberius 1999) fixes the rows `first` ... n - 1.
"""

import math

import numpy as np
from numpy.typing import NDArray

from solver.jit import part

__all__ = [
    "bootstrapped_failure_rate",
    "critical_ratio",
    "decorrelate",
    "first_of_reliable_subset",
    "search",
]

Floats = NDArray[np.float64]

EXCHANGE_GAIN = 1e-6
"""Relative gain in d[j + 1] below which an exchange is not worth it: keeps rounding errors from cycling for ever."""

SIZE_LIMIT = 1.0
"""Off-diagonal factor beyond which a Gauss transformation is made though no exchange needs it: bounds the integers."""


@part
def factor(n: int, q: Floats, u: Floats, d: Floats, zt: Floats) -> bool:
    """Factor a covariance into u D uᵀ with symmetric pivoting: the smallest conditional variance comes last.

    Chang, Yang and Zhou 2005, section 4.1: the order alone saves most of the later exchanges.

    Args:
        n: Size.
        q: (>= n, >= n) symmetric; overwritten.
        u: (>= n, >= n) out, unit upper triangular.
        d: (>= n,) out, conditional variances.
        zt: (>= n, >= n) out, the permutation.

    Returns:
        Whether q is positive definite.
    """
    order = np.arange(n)
    for i in range(n - 1, -1, -1):
        pivot = i
        for j in range(i):
            if q[j, j] < q[pivot, pivot]:
                pivot = j
        if pivot != i:
            exchange_symmetric(i, pivot, n, q, u)
            order[i], order[pivot] = order[pivot], order[i]
        d[i] = q[i, i]
        if not d[i] > 0.0:
            return False
        u[i, i] = 1.0
        for j in range(i):
            u[i, j] = 0.0
            u[j, i] = q[i, j] / d[i]
        for j in range(i):
            for k in range(j + 1):
                q[j, k] -= q[i, j] * u[k, i]
    zt[:n, :n] = 0.0
    for i in range(n):
        zt[i, order[i]] = 1.0
    return True


@part
def exchange_symmetric(i: int, pivot: int, n: int, q: Floats, u: Floats) -> None:
    """Exchange ambiguities pivot < i in the lower triangle of q that is left (rows <= i) and in the rows of u."""
    for k in range(pivot):
        q[i, k], q[pivot, k] = q[pivot, k], q[i, k]
    for k in range(pivot + 1, i):
        q[i, k], q[k, pivot] = q[k, pivot], q[i, k]
    q[i, i], q[pivot, pivot] = q[pivot, pivot], q[i, i]
    for k in range(i + 1, n):
        u[i, k], u[pivot, k] = u[pivot, k], u[i, k]


@part
def subtract_row(n: int, i: int, j: int, multiple: float, u: Floats, zt: Floats) -> None:
    """Integer Gauss transformation: take a multiple of ambiguity i from ambiguity j (j < i)."""
    if multiple != 0.0:
        for k in range(i, n):
            u[j, k] -= multiple * u[i, k]
        for k in range(n):
            zt[j, k] -= multiple * zt[i, k]


@part
def exchange(n: int, j: int, variance: float, u: Floats, d: Floats, zt: Floats) -> None:
    """Exchange ambiguities j and j + 1, whose new conditional variance of j + 1 is `variance`."""
    eta = d[j] / variance
    lam = d[j + 1] * u[j, j + 1] / variance
    d[j] = eta * d[j + 1]
    d[j + 1] = variance
    above = u[j, j + 1]
    for row in range(j):
        a, b = u[row, j], u[row, j + 1]
        u[row, j] = b - above * a
        u[row, j + 1] = eta * a + lam * b
    u[j, j + 1] = lam
    for k in range(j + 2, n):
        u[j, k], u[j + 1, k] = u[j + 1, k], u[j, k]
    for k in range(n):
        zt[j, k], zt[j + 1, k] = zt[j + 1, k], zt[j, k]


@part
def decorrelate(n: int, q: Floats, u: Floats, d: Floats, zt: Floats) -> bool:
    """Find integer combinations z = zt a of n ambiguities that are as little correlated as can be.

    Args:
        n: Number of ambiguities.
        q: (>= n, >= n) their covariance, cycles²; overwritten.
        u: (>= n, >= n) out: covariance of z is u D uᵀ.
        d: (>= n,) out, conditional variances of z, cycles².
        zt: (>= n, >= n) out, unimodular integers.

    Returns:
        Whether q is positive definite; if not, the outputs are undefined.
    """
    if not factor(n, q, u, d, zt):
        return False
    j = n - 2
    while j >= 0:
        multiple = float(round(u[j, j + 1]))
        remainder = u[j, j + 1] - multiple
        variance = d[j] + remainder * remainder * d[j + 1]
        if variance < d[j + 1] * (1.0 - EXCHANGE_GAIN):
            subtract_row(n, j + 1, j, multiple, u, zt)
            for i in range(j + 2, n):
                if abs(u[j, i]) > SIZE_LIMIT:
                    subtract_row(n, i, j, float(round(u[j, i])), u, zt)
            exchange(n, j, variance, u, d, zt)
            j = min(j + 1, n - 2)
        else:
            j -= 1
    return True


@part
def bootstrapped_failure_rate(n: int, first: int, d: Floats) -> float:
    """Failure rate of integer bootstrapping over ambiguities first ... n - 1 (Teunissen 1998, equation 22).

    It bounds that of integer least squares from above, tightly after decorrelation.
    """
    log_success = 0.0
    for i in range(first, n):
        log_success += math.log1p(-math.erfc(0.5 / math.sqrt(2.0 * d[i])))
    return -math.expm1(log_success)


@part
def first_of_reliable_subset(n: int, d: Floats, failure_rate: float) -> int:
    """The smallest `first` for which bootstrapping first ... n - 1 fails at most this often; n if none does."""
    log_success, limit = 0.0, math.log1p(-failure_rate)
    for i in range(n - 1, -1, -1):
        log_success += math.log1p(-math.erfc(0.5 / math.sqrt(2.0 * d[i])))
        if log_success < limit:
            return i + 1
    return 0


@part
def search(
    n: int, first: int, u: Floats, d: Floats, z_float: Floats, best: Floats, norms: Floats, node_limit: int
) -> bool:
    """The two integer vectors nearest to z_float in the metric of its covariance, over ambiguities first ... n - 1.

    Args:
        n: Number of ambiguities.
        first: First ambiguity to fix.
        u: (>= n, >= n) from `decorrelate`.
        d: (>= n,) from `decorrelate`.
        z_float: (>= n,) float ambiguities, cycles.
        best: (2, >= n) out, nearest and second nearest integers.
        norms: (2,) out, their squared distances.
        node_limit: Most nodes to visit.

    Returns:
        Whether the search was complete, so that `best` is proven.
    """
    partial = np.zeros((n + 1, n))  # partial[k, i]: shift of ambiguity i by those fixed at k ... n - 1
    z = np.empty(n)
    centre = np.empty(n)
    step = np.empty(n)
    distance = np.zeros(n + 1)  # distance[k]: squared norm over k ... n - 1
    norms[:] = np.inf
    k = n - 1
    centre[k] = z_float[k]
    z[k] = float(round(centre[k]))
    step[k] = 1.0 if centre[k] >= z[k] else -1.0
    for _ in range(node_limit):
        residual = centre[k] - z[k]
        reached = distance[k + 1] + residual * residual / d[k]
        if reached < norms[1]:
            if k > first:  # go down: condition the next ambiguity on those above it
                for i in range(first, k):
                    partial[k, i] = partial[k + 1, i] - residual * u[i, k]
                distance[k] = reached
                k -= 1
                centre[k] = z_float[k] + partial[k + 1, k]
                z[k] = float(round(centre[k]))
                step[k] = 1.0 if centre[k] >= z[k] else -1.0
                continue
            if reached < norms[0]:
                norms[1] = norms[0]
                norms[0] = reached
                for i in range(first, n):
                    best[1, i], best[0, i] = best[0, i], z[i]
            else:
                norms[1] = reached
                for i in range(first, n):
                    best[1, i] = z[i]
        else:  # nothing nearer on this level or below: go up
            if k == n - 1:
                return True
            k += 1
        z[k] += step[k]  # next nearest integer, alternating about the centre
        step[k] = -step[k] - (1.0 if step[k] > 0.0 else -1.0)
    return False


# The ratio of the second to the first squared norm above which at most one solution in a thousand is wrong, by number
# of ambiguities and failure rate of integer least squares: the fixed failure rate ratio test of Verhagen and Teunissen
# (2013, GPS Solutions 17:535), who found that those two numbers all but decide it. The values were simulated anew, with
# 125,000 or more samples each, for spherical covariances (`tests/solver/kernels/test_ambiguity.py` repeats one).
FFRT_COUNTS = np.array([1.0, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0])
FFRT_ILS_FAILURE_RATES = np.array([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.3])
FFRT_RATIOS = np.array(
    [
        [1.00, 1.31, 2.04, 3.04, 5.68, 26.97, 580.9, 22610.0, 149467.0],
        [1.00, 1.26, 1.74, 2.42, 3.54, 8.19, 20.87, 105.4, 295.2],
        [1.00, 1.24, 1.64, 2.12, 2.97, 5.13, 9.54, 21.42, 43.17],
        [1.00, 1.19, 1.53, 1.96, 2.52, 4.01, 6.28, 10.92, 15.75],
        [1.00, 1.13, 1.43, 1.75, 2.11, 2.94, 3.77, 5.27, 6.35],
        [1.00, 1.13, 1.36, 1.59, 1.87, 2.39, 2.97, 3.65, 4.22],
        [1.00, 1.12, 1.27, 1.44, 1.64, 1.96, 2.20, 2.47, 2.59],
        [1.00, 1.10, 1.24, 1.35, 1.51, 1.72, 1.87, 1.97, 2.03],
        [1.00, 1.07, 1.18, 1.25, 1.34, 1.46, 1.54, 1.59, 1.59],
        [1.00, 1.06, 1.13, 1.21, 1.27, 1.34, 1.40, 1.40, 1.41],
        [1.00, 1.04, 1.10, 1.14, 1.19, 1.23, 1.25, 1.26, 1.26],
        [1.00, 1.03, 1.08, 1.11, 1.14, 1.17, 1.18, 1.18, 1.18],
    ]
)


@part
def critical_ratio(count: int, ils_failure_rate: float) -> float:
    """The least ratio of squared norms at which a solution fails at most once in a thousand (table above).

    Interpolated linearly in the table's axes; infinite beyond its last failure rate, 1 below its first.
    """
    rates, counts = FFRT_ILS_FAILURE_RATES, FFRT_COUNTS
    if ils_failure_rate <= rates[0]:
        return 1.0
    if not ils_failure_rate < rates[-1]:
        return math.inf
    row, column = 0, 0
    while row < len(counts) - 2 and counts[row + 1] <= count:
        row += 1
    while rates[column + 1] <= ils_failure_rate:
        column += 1
    along = (ils_failure_rate - rates[column]) / (rates[column + 1] - rates[column])
    down = min(max((count - counts[row]) / (counts[row + 1] - counts[row]), 0.0), 1.0)
    upper = FFRT_RATIOS[row, column] * (1.0 - along) + FFRT_RATIOS[row, column + 1] * along
    lower = FFRT_RATIOS[row + 1, column] * (1.0 - along) + FFRT_RATIOS[row + 1, column + 1] * along
    return float(upper * (1.0 - down) + lower * down)
