"""The robust engine against plain algebra: with nuisances as ordinary unknowns, and against gross errors."""

import numpy as np
import pytest

from solver.kernels.least_squares import robust_solve

N, GROUPS, PER_GROUP = 4, 9, 3


def system(seed: int, noise: float = 0.3):
    rng = np.random.default_rng(seed)
    m = GROUPS * PER_GROUP
    truth = rng.normal(size=N) * 10.0
    a = np.repeat(np.c_[rng.normal(size=(GROUPS, N - 1)), np.ones(GROUPS)], PER_GROUP, axis=0)
    mu = np.tile([1.0, 1.647, 1.793], GROUPS)
    common = np.full((GROUPS, 2), (0.4, 2.0))
    s, ionosphere = rng.normal(size=GROUPS) * 0.4, rng.normal(size=GROUPS) * 2.0
    y = a @ truth + np.repeat(s, PER_GROUP) + mu * np.repeat(ionosphere, PER_GROUP) + rng.normal(size=m) * noise
    return truth, a, y, np.full(m, noise), mu, np.arange(0, m + 1, PER_GROUP, dtype=np.int32), common


def solve(a, y, sigma, mu, first, common, prior=None, prior_b=None, robust=True):
    x, covariance, weight = np.empty(N), np.empty((N, N)), np.empty(len(y))
    prior = np.zeros((N, N)) if prior is None else prior
    prior_b = np.zeros(N) if prior_b is None else prior_b
    chi2, freedom = robust_solve(a, y, sigma, mu, first, common, prior, prior_b, x, covariance, weight, robust)
    return x, covariance, weight, chi2, freedom


def dense(a, y, sigma, mu, common, prior, prior_b):
    """The same system with s and i of every group among the unknowns: the naive twin."""
    m = len(y)
    big = np.zeros((m, N + 2 * GROUPS))
    big[:, :N] = a
    rows = np.arange(m)
    big[rows, N + 2 * (rows // PER_GROUP)], big[rows, N + 2 * (rows // PER_GROUP) + 1] = 1.0, mu
    normal = (big.T / sigma**2) @ big
    normal[:N, :N] += prior
    normal[np.arange(N, N + 2 * GROUPS), np.arange(N, N + 2 * GROUPS)] += 1.0 / common.ravel() ** 2
    b = (big.T / sigma**2) @ y
    b[:N] += prior_b
    return np.linalg.solve(normal, b)[:N], np.linalg.inv(normal)[:N, :N]


@pytest.mark.parametrize("informed", [False, True])
def test_eliminated_nuisances_are_as_good_as_solved_ones(informed):
    _, a, y, sigma, mu, first, common = system(1)
    prior = np.diag([0.5, 0.1, 0.0, 2.0]) * informed
    prior_b = prior @ np.ones(N)
    x, covariance, *_ = solve(a, y, sigma, mu, first, common, prior, prior_b, robust=False)
    expected, expected_covariance = dense(a, y, sigma, mu, common, prior, prior_b)
    assert x == pytest.approx(expected, abs=1e-9)
    assert covariance == pytest.approx(expected_covariance, abs=1e-9)


def test_columns_that_are_zero_in_some_satellites_are_solved_like_others():
    """A bias of one signal is in few rows: the zeros are left out of the sums, and change nothing."""
    _, a, y, sigma, mu, first, common = system(2)
    a[:, 1] = 0.0
    a[1::PER_GROUP, 1] = 1.0
    a[: 4 * PER_GROUP, 2] = 0.0
    x, covariance, *_ = solve(a, y, sigma, mu, first, common, np.eye(N), np.ones(N), robust=False)
    expected, expected_covariance = dense(a, y, sigma, mu, common, np.eye(N), np.ones(N))
    assert x == pytest.approx(expected, abs=1e-9)
    assert covariance == pytest.approx(expected_covariance, abs=1e-9)


def test_good_data_are_kept_and_their_misfit_is_one():
    ratios = []
    for seed in range(40):
        truth, *rest = system(seed)
        x, covariance, weight, chi2, freedom = solve(*rest)
        assert weight.mean() > 0.8
        ratios.append(((x - truth) @ np.linalg.solve(covariance, x - truth) / N, chi2 / freedom))
    normalized, misfit = np.median(ratios, axis=0)
    assert 0.5 < normalized < 1.6
    assert 0.6 < misfit < 1.2


def test_gross_errors_are_let_go():
    truth, a, y, sigma, mu, first, common = system(3)
    y[[2, 9, 20]] += [30.0, -50.0, 1000.0]
    x, covariance, weight, *_ = solve(a, y, sigma, mu, first, common)
    assert weight[[2, 9, 20]].tolist() == [0.0, 0.0, 0.0]
    assert (x - truth) @ np.linalg.solve(covariance, x - truth) < 20.0


def test_rows_without_a_value_or_weight_are_nothing():
    _, a, y, sigma, mu, first, common = system(4)
    y[4], sigma[7] = np.nan, 0.0
    x = solve(a, y, sigma, mu, first, common, robust=False)[0]
    sigma[4] = 1e9
    y[4], sigma[7] = 0.0, 1e9
    assert x == pytest.approx(solve(a, y, sigma, mu, first, common, robust=False)[0], abs=1e-6)


def test_too_few_rows_are_singular():
    _, a, y, sigma, mu, first, common = system(5)
    sigma[6:] = 0.0
    assert solve(a, y, sigma, mu, first, common)[3] == -1.0
