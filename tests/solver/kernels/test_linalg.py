"""Small systems against numpy."""

import numpy as np
import pytest

from solver.kernels.linalg import cholesky, cholesky_inverse, cholesky_solve, normal_equations


@pytest.mark.parametrize("n", [1, 4, 25])
def test_solution_and_inverse_are_numpy_s(n):
    rng = np.random.default_rng(n)
    half = rng.normal(size=(n, n + 3))
    matrix = half @ half.T
    b = rng.normal(size=n)
    factor, x, inverse = matrix.copy(), b.copy(), np.empty((n, n))
    assert cholesky(factor, n)
    cholesky_solve(factor, x, n)
    cholesky_inverse(factor, inverse, n)
    assert x == pytest.approx(np.linalg.solve(matrix, b), rel=1e-8)
    assert inverse == pytest.approx(np.linalg.inv(matrix), rel=1e-7, abs=1e-9)


def test_a_singular_matrix_is_refused():
    row = np.array([[1.0, 2.0, 3.0]])
    assert not cholesky(row.T @ row, 3)
    assert not cholesky(np.full((2, 2), np.nan), 2)
    assert not cholesky(np.zeros((2, 2)), 2)


def test_normal_equations_leave_out_rows_of_no_weight():
    rng = np.random.default_rng(1)
    design, residual = rng.normal(size=(9, 4)), rng.normal(size=9)
    weight = np.array([1.0, 2.0, 0.0, 0.5, 1.0, 3.0, 0.0, 1.0, 9.0])
    residual[2] = np.nan
    normal, b = np.empty((4, 4)), np.empty(4)
    normal_equations(design, residual, weight, 8, 4, normal, b)
    used = [0, 1, 3, 4, 5, 7]
    scaled = design[used].T * weight[used]
    assert normal == pytest.approx(scaled @ design[used])
    assert b == pytest.approx(scaled @ residual[used])
