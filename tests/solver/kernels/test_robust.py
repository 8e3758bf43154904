import numpy as np
import pytest

from solver.kernels.robust import ITERATIONS, median, robust_coordinates

TRUTH = np.array([3.0, -2.0, 1.0])


def problem(seed: int, n: int = 24, groups: int = 3):
    """Observations of three coordinates with an offset for each group."""
    rng = np.random.default_rng(seed)
    unit = rng.normal(size=(n, 3))
    unit /= np.linalg.norm(unit, axis=1)[:, None]
    group = (np.arange(n) % groups).astype(np.int16)
    variance = rng.uniform(0.5, 2.0, n) * 0.01
    y = -unit @ TRUTH + np.array([100.0, -50.0, 7.0])[group] + rng.normal(size=n) * np.sqrt(variance)
    return unit, y, variance, group


def solve(unit, y, variance, group, iterations=ITERATIONS):
    n = len(y)
    solution, covariance, weight, residual = np.empty(3), np.empty((3, 3)), np.empty(n), np.empty(n)
    redundancy, factor = robust_coordinates(
        n, unit, y, variance, group, solution, covariance, weight, residual, iterations
    )
    return redundancy, factor, solution, covariance, weight, residual


def test_it_is_least_squares_with_an_unknown_for_each_group():
    unit, y, variance, group = problem(1)
    _, _, solution, covariance, weight, residual = solve(unit, y, variance, group)
    design = np.hstack([-unit, np.eye(3)[group]])
    w = weight / variance
    normal = np.linalg.inv(design.T @ (w[:, None] * design))
    expected = normal @ design.T @ (w * y)
    assert solution == pytest.approx(expected[:3], abs=1e-9)
    assert covariance == pytest.approx(normal[:3, :3], rel=1e-9)
    assert residual == pytest.approx(y - design @ expected, abs=1e-9)


def test_one_iteration_is_plain_least_squares():
    unit, y, variance, group = problem(1)
    y[3] += 5.0
    _, _, solution, _, weight, _ = solve(unit, y, variance, group, iterations=1)
    root = np.sqrt(variance)
    design = np.hstack([-unit, np.eye(3)[group]]) / root[:, None]
    assert solution == pytest.approx(np.linalg.lstsq(design, y / root, rcond=None)[0][:3], abs=1e-9)
    assert (weight == 1.0).all()


def test_clean_data_keep_their_weights_and_variance():
    redundancy, factor, solution, _, weight, _ = solve(*problem(2, n=300))
    assert redundancy == 294
    assert factor == pytest.approx(1.0, abs=0.25)
    assert (weight > 0.3).mean() > 0.98
    assert solution == pytest.approx(TRUTH, abs=0.05)


@pytest.mark.parametrize("seed", range(5))
def test_a_fifth_of_gross_errors_is_left_out(seed):
    unit, y, variance, group = problem(seed, n=40)
    bad = np.random.default_rng(seed).choice(40, 8, replace=False)
    y[bad] += np.linspace(5.0, 60.0, 8)
    _, _, solution, _, weight, _ = solve(unit, y, variance, group)
    assert (weight[bad] == 0).all()
    assert solution == pytest.approx(TRUTH, abs=0.15)


@pytest.mark.parametrize("error", [1e4, 3e6, 1e9])
def test_an_error_of_thousands_of_kilometres_leaves_nothing_behind(error: float) -> None:
    unit, y, variance, group = problem(6)
    y[7] += error
    redundancy, factor, solution, _, weight, _ = solve(unit, y, variance, group)
    assert weight[7] == 0
    assert redundancy == 24 - 6 - 1
    assert factor < 3
    assert solution == pytest.approx(TRUTH, abs=0.3)


def test_missing_observations_are_left_out():
    unit, y, variance, group = problem(3)
    y[::5] = np.nan
    redundancy, _, solution, _, weight, residual = solve(unit, y, variance, group)
    assert redundancy == np.isfinite(y).sum() - 6
    assert (weight[::5] == 0).all()
    assert np.isnan(residual[::5]).all()
    assert solution == pytest.approx(TRUTH, abs=0.3)


def test_too_few_observations_are_no_solution():
    unit, y, variance, group = problem(4, n=5)
    assert solve(unit, y, variance, group)[0] < 0
    assert solve(unit[:3], y[:3], variance[:3], np.zeros(3, np.int16))[0] < 0


@pytest.mark.parametrize("count", [1, 2, 3, 10, 51, 256])
def test_the_median_is_numpys(count: int) -> None:
    values = np.random.default_rng(count).normal(size=300).round(1)  # with many equals
    expected = np.median(values[:count])
    assert median(count, values) == expected
