import itertools
import math

import numpy as np
import pytest
from numpy.typing import NDArray

from solver.kernels import ambiguity

Floats = NDArray[np.float64]


def integer_least_squares(a: Floats, q: Floats, first: int = 0) -> tuple[bool, Floats, Floats]:
    """Decorrelate and search; returns completeness, the integers (2, n) in the original ambiguities and the norms."""
    n = len(a)
    u, zt, d = np.empty((n, n)), np.empty((n, n)), np.empty(n)
    best, norms = np.empty((2, n)), np.empty(2)
    assert ambiguity.decorrelate(n, q.copy(), u, d, zt)
    complete = ambiguity.search(n, first, u, d, zt @ a, best, norms, 100_000)
    return complete, np.rint(np.linalg.solve(zt, best.T).T), norms


def random_covariance(rng: np.random.Generator, n: int, scale: float) -> Floats:
    """A covariance as correlated as that of double differences: three coordinates shared by all, little noise."""
    geometry = rng.normal(size=(n, 3)) * scale
    return geometry @ geometry.T + np.eye(n) * 0.02**2 + 0.02**2


def two_frequency_covariance() -> Floats:
    one, cross, two = (
        np.where(np.eye(5), *pair) for pair in ((0.446320, 0.223160), (0.572775, 0.286388), (0.735063, 0.367531))
    )
    return np.block([[one, cross], [cross, two]])


def single_frequency_covariance() -> Floats:
    q = np.full((6, 6), 0.112202)
    np.fill_diagonal(q, 0.227134)
    q[5], q[:, 5], q[5, 5] = 0.103473, 0.103473, 0.434339
    return q


def test_published_single_frequency_case_of_rtklib() -> None:
    """Values of RTKLIB's test/utest/t_lambda.c, first case."""
    a = np.array([1585184.171, -6716599.430, 3915742.905, 7627233.455, 9565990.879, 989457273.200])
    complete, integers, norms = integer_least_squares(a, single_frequency_covariance())
    assert complete
    assert integers[0].tolist() == [1585184, -6716599, 3915743, 7627234, 9565991, 989457273]
    assert integers[1].tolist() == [1585184, -6716600, 3915743, 7627233, 9565991, 989457273]
    assert norms == pytest.approx([3.507984, 3.708456], abs=1e-4)


def test_published_dual_frequency_case_of_rtklib() -> None:
    """Values of RTKLIB's test/utest/t_lambda.c, second case: an almost singular covariance."""
    a = np.array([-13324172.755747, -10668894.713608, -7157225.010770, -6149367.974367, -7454133.571066,
                  -5969200.494550, 8336734.058423, 6186974.084502, -17549093.883655, -13970158.922370])  # fmt: skip
    complete, integers, norms = integer_least_squares(a, two_frequency_covariance())
    assert complete
    assert integers[0].tolist() == [-13324188, -10668901, -7157236, -6149379, -7454143,
                                    -5969220, 8336726, 6186960, -17549108, -13970171]  # fmt: skip
    assert integers[1].tolist() == [-13324188, -10668908, -7157236, -6149379, -7454143,
                                    -5969220, 8336717, 6186960, -17549108, -13970171]  # fmt: skip
    assert norms == pytest.approx([1506.435789, 1612.811795], abs=1e-4)


@pytest.mark.parametrize("seed", range(20))
def test_search_agrees_with_trying_all_integers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    q = random_covariance(rng, 4, 0.4)
    a = rng.uniform(-0.5, 0.5, 4)
    _, integers, norms = integer_least_squares(a, q)
    inverse = np.linalg.inv(q)
    box = np.array(list(itertools.product(range(-5, 6), repeat=4)), float)
    distances = np.einsum("ij,jk,ik->i", box - a, inverse, box - a)
    nearest = np.argsort(distances)[:2]
    assert norms == pytest.approx(distances[nearest], rel=1e-6)
    assert np.array_equal(integers[0], box[nearest[0]])


@pytest.mark.parametrize("n", [1, 2, 12, 60])
def test_decorrelation_is_unimodular_and_keeps_the_covariance(n: int) -> None:
    q = random_covariance(np.random.default_rng(n), n, 1.0)
    u, zt, d = np.empty((n, n)), np.empty((n, n)), np.empty(n)
    assert ambiguity.decorrelate(n, q.copy(), u, d, zt)
    covariance = zt @ q @ zt.T
    assert u @ np.diag(d) @ u.T == pytest.approx(covariance, abs=1e-9 * covariance.max())
    assert abs(round(float(np.linalg.det(zt)))) == 1
    assert np.array_equal(zt, np.round(zt))
    assert np.abs(zt).max() < 1000
    before, after = (np.linalg.slogdet(m / np.sqrt(np.outer(np.diag(m), np.diag(m))))[1] for m in (q, zt @ q @ zt.T))
    assert after >= before


def test_a_covariance_that_is_not_positive_definite_is_refused() -> None:
    n = 3
    u, zt, d = np.empty((n, n)), np.empty((n, n)), np.empty(n)
    assert not ambiguity.decorrelate(n, np.diag([1.0, -1.0, 1.0]), u, d, zt)
    assert not ambiguity.decorrelate(n, np.full((3, 3), np.nan), u, d, zt)


def test_an_exhausted_search_says_so() -> None:
    n = 6
    u, d = np.eye(n), np.full(n, 100.0)
    assert not ambiguity.search(n, 0, u, d, np.full(n, 0.3), np.empty((2, n)), np.empty(2), 5)


def test_partial_search_fixes_the_last_ambiguities_alone() -> None:
    rng = np.random.default_rng(7)
    q = random_covariance(rng, 8, 1.0)
    n, first = 8, 5
    u, zt, d = np.empty((n, n)), np.empty((n, n)), np.empty(n)
    ambiguity.decorrelate(n, q.copy(), u, d, zt)
    z = rng.normal(size=n)
    best, norms = np.full((2, n), np.nan), np.empty(2)
    assert ambiguity.search(n, first, u, d, z, best, norms, 10_000)
    assert np.isnan(best[:, :first]).all()
    marginal = np.linalg.inv((zt @ q @ zt.T)[first:, first:])
    residual = best[0, first:] - z[first:]
    assert norms[0] == pytest.approx(residual @ marginal @ residual)


def test_bootstrapped_failure_rate_is_what_simulation_finds() -> None:
    rng = np.random.default_rng(3)
    d = np.array([0.04, 0.03, 0.02])
    expected = 1 - math.prod(math.erf(0.5 / math.sqrt(2 * v)) for v in d)
    assert ambiguity.bootstrapped_failure_rate(3, 0, d) == pytest.approx(expected)
    wrong = (np.abs(rng.normal(size=(200_000, 3)) * np.sqrt(d)) > 0.5).any(axis=1).mean()
    assert wrong == pytest.approx(expected, abs=0.001)


def test_reliable_subset_is_the_largest_within_the_failure_rate() -> None:
    d = np.array([1.0, 0.05, 0.01, 0.005])
    first = ambiguity.first_of_reliable_subset(4, d, 1e-3)
    assert ambiguity.bootstrapped_failure_rate(4, first, d) <= 1e-3
    assert ambiguity.bootstrapped_failure_rate(4, first - 1, d) > 1e-3
    assert ambiguity.first_of_reliable_subset(4, np.full(4, 9.0), 1e-3) == 4


def test_critical_ratio_keeps_the_failure_rate_of_accepted_solutions() -> None:
    """Eight ambiguities that integer least squares gets wrong five times in a hundred: one in a thousand is left."""
    n, sigma = 8, 0.1834
    noise = np.random.default_rng(5).normal(size=(400_000, n)) * sigma
    integers = np.round(noise)
    wrong = (integers != 0).any(axis=1)
    assert wrong.mean() == pytest.approx(0.05, abs=0.003)
    residual = np.abs(noise - integers)
    nearest = (residual**2).sum(axis=1)
    ratio = 1 + (1 - 2 * residual).min(axis=1) / nearest
    accepted = ratio >= ambiguity.critical_ratio(n, float(wrong.mean()))
    assert (wrong & accepted).mean() == pytest.approx(1e-3, abs=3e-4)
    assert accepted.mean() > 0.5


def test_critical_ratio_has_sensible_limits() -> None:
    assert ambiguity.critical_ratio(5, 1e-9) == 1.0
    assert ambiguity.critical_ratio(5, 0.9) == math.inf
    assert ambiguity.critical_ratio(200, 0.05) == pytest.approx(1.17)
