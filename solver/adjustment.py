"""Least squares of a small network: stations with coordinates that are known so well, and baselines between them.

Known coordinates are observations like the baselines, with their own covariance, so a base that is off shows in the
residuals rather than in the result. Each baseline is tested for an error of its vector alone
(Baarda 1968, for correlated observations): with u = Q⁻¹ v and S = Q⁻¹ Q_vv Q⁻¹, T = uᵀ S⁻¹ u over its three rows is
chi-squared with three degrees of freedom. The worst is left out while T exceeds what one in a thousand good ones does,
and something is left to test by.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Adjusted", "Baseline", "Known", "adjust"]

Floats = NDArray[np.float64]

CHI2_3_001: Final = 16.266
"""Quantile 0.999 of chi-squared with three degrees of freedom."""
SHARED: Final = 0.5
"""Correlation of two baselines of one session that end in the same station: its errors are half of each."""
_SINGULAR: Final = 1e-9


@dataclass(frozen=True, slots=True)
class Known:
    """Coordinates of a station that are known.

    Attributes:
        station: Its number.
        position_ecef_m: (3,).
        covariance_m2: (3, 3).
    """

    station: int
    position_ecef_m: Floats
    covariance_m2: Floats


@dataclass(frozen=True, slots=True)
class Baseline:
    """A vector between two stations.

    Attributes:
        start: Number of the station that it begins at.
        end: Of that which it ends at.
        vector_m: (3,) ECEF.
        covariance_m2: (3, 3).
    """

    start: int
    end: int
    vector_m: Floats
    covariance_m2: Floats


@dataclass(frozen=True, slots=True)
class Adjusted:
    """The stations' coordinates.

    Attributes:
        position_ecef_m: (n, 3).
        covariance_m2: (3 n, 3 n), scaled up by the variance factor where that is above 1.
        residual_m: (b, 3) observed less adjusted baselines, those left out included.
        test: (b,) T of each baseline in the solution that it was last in; NaN where it cannot be tested.
        used: (b,) bool, baselines that were not left out.
        variance_factor: Weighted square sum of the residuals over the redundancy; 1 without redundancy.
        redundancy: Of the final solution.
    """

    position_ecef_m: Floats
    covariance_m2: Floats
    residual_m: Floats
    test: Floats
    used: NDArray[np.bool_]
    variance_factor: float
    redundancy: int


def adjust(stations: int, known: Sequence[Known], baselines: Sequence[Baseline]) -> Adjusted:
    """Adjust a network.

    Args:
        stations: How many there are; they are numbered from 0.
        known: Coordinates that are known, one at least.
        baselines: Vectors; those that end in the same station are taken for one session's.

    Raises:
        ValueError: a station hangs on nothing.
    """
    used = np.ones(len(baselines), np.bool_)
    test = np.full(len(baselines), np.nan)
    while True:
        chosen = [line for line, kept in zip(baselines, used, strict=True) if kept]
        design, y, q = _observations(stations, known, chosen)
        x, covariance, v, q_vv = _solve(design, y, q)
        redundancy = len(y) - 3 * stations
        blocks = [slice(k, k + 3) for k in range(3 * len(known), len(y), 3)]
        u = np.asarray(np.linalg.solve(q, v), np.float64)
        s = np.asarray(np.linalg.solve(q, np.linalg.solve(q, q_vv).T), np.float64)
        test[used] = [_test(u[at], s[at, at], q[at, at]) for at in blocks]
        worst = int(np.argmax(np.where(used, np.nan_to_num(test), -1.0))) if used.any() else -1
        if redundancy <= 3 or worst < 0 or not test[worst] > CHI2_3_001:
            break
        used[worst] = False
    factor = float(v @ np.linalg.solve(q, v)) / redundancy if redundancy > 0 else 1.0
    places = x.reshape(-1, 3)
    residual = np.array([line.vector_m - places[line.end] + places[line.start] for line in baselines]).reshape(-1, 3)
    return Adjusted(places, covariance * max(1.0, factor), residual, test, used, factor, redundancy)


def _observations(
    stations: int, known: Sequence[Known], baselines: Sequence[Baseline]
) -> tuple[Floats, Floats, Floats]:
    """Design, observations and their covariance: the known coordinates, then the baselines."""
    rows = 3 * (len(known) + len(baselines))
    design, y, q = np.zeros((rows, 3 * stations)), np.zeros(rows), np.zeros((rows, rows))
    for i, place in enumerate(known):
        at = slice(3 * i, 3 * i + 3)
        design[at, 3 * place.station : 3 * place.station + 3] = np.eye(3)
        y[at], q[at, at] = place.position_ecef_m, place.covariance_m2
    roots = [np.linalg.cholesky(line.covariance_m2) for line in baselines]
    for i, line in enumerate(baselines):
        at = slice(3 * (len(known) + i), 3 * (len(known) + i) + 3)
        design[at, 3 * line.end : 3 * line.end + 3] += np.eye(3)
        design[at, 3 * line.start : 3 * line.start + 3] -= np.eye(3)
        y[at] = line.vector_m
        for j, other in enumerate(baselines):
            if i == j or line.end == other.end:
                across = slice(3 * (len(known) + j), 3 * (len(known) + j) + 3)
                q[at, across] = roots[i] @ roots[j].T * (1.0 if i == j else SHARED)
    return design, y, q


def _solve(design: Floats, y: Floats, q: Floats) -> tuple[Floats, Floats, Floats, Floats]:
    """Unknowns, their covariance, residuals and theirs."""
    weighted = np.linalg.solve(q, design)
    normal = design.T @ weighted
    scale = 1.0 / np.sqrt(np.maximum(np.diag(normal), 1e-30))
    scaled = normal * np.outer(scale, scale)
    if np.linalg.matrix_rank(scaled, tol=_SINGULAR) < len(normal):
        raise ValueError("a station hangs on nothing: no known coordinates and no baseline to one that has them")
    covariance = np.linalg.inv(scaled) * np.outer(scale, scale)
    start = np.linalg.lstsq(design, y, rcond=None)[0]  # small residuals keep the digits of large coordinates
    x = start + covariance @ (weighted.T @ (y - design @ start))
    return x, covariance, y - design @ x, q - design @ covariance @ design.T


def _test(u: Floats, s: Floats, q: Floats) -> float:
    """uᵀ S⁻¹ u; NaN where S vanishes beside the vector's own weight: nothing else tells of it."""
    values, vectors = np.linalg.eigh(s)
    if values[0] * np.trace(q) <= _SINGULAR:
        return float("nan")
    return float(((vectors.T @ u) ** 2 / values).sum())
