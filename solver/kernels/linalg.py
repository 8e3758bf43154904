"""Small symmetric systems as plain loops: at these sizes they beat LAPACK's call overhead, and need no SciPy.

A function that can fail returns False and leaves its outputs undefined, so that a caller can name the reason.
"""

import math

from solver.jit import kernel
from solver.kernels import Float64Array

__all__ = ["cholesky", "cholesky_inverse", "cholesky_solve", "normal_equations", "pack", "unpack"]

_RELATIVE_PIVOT_MIN = 1e-14
"""A pivot this small against its diagonal element has lost all its digits: the matrix is singular."""


@kernel
def cholesky(a: Float64Array, n: int) -> bool:
    """Replace the lower triangle of the leading n x n block of a symmetric matrix by its Cholesky factor.

    Returns:
        False where the matrix is not positive definite to working precision.
    """
    for j in range(n):
        diagonal = a[j, j]
        pivot = diagonal
        for k in range(j):
            pivot -= a[j, k] * a[j, k]
        if not pivot > _RELATIVE_PIVOT_MIN * diagonal:
            return False
        a[j, j] = math.sqrt(pivot)
        for i in range(j + 1, n):
            total = a[i, j]
            for k in range(j):
                total -= a[i, k] * a[j, k]
            a[i, j] = total / a[j, j]
    return True


@kernel
def cholesky_solve(factor: Float64Array, b: Float64Array, n: int) -> None:
    """Replace b (n,) by the solution of (L L') x = b."""
    for i in range(n):
        total = b[i]
        for k in range(i):
            total -= factor[i, k] * b[k]
        b[i] = total / factor[i, i]
    for i in range(n - 1, -1, -1):
        total = b[i]
        for k in range(i + 1, n):
            total -= factor[k, i] * b[k]
        b[i] = total / factor[i, i]


@kernel
def cholesky_inverse(factor: Float64Array, inverse: Float64Array, n: int) -> None:
    """Write the symmetric inverse of L L' into the leading n x n block of `inverse`."""
    for column in range(n):
        for i in range(n):
            inverse[i, column] = 1.0 if i == column else 0.0
        for i in range(column, n):
            total = inverse[i, column]
            for k in range(column, i):
                total -= factor[i, k] * inverse[k, column]
            inverse[i, column] = total / factor[i, i]
        for i in range(n - 1, -1, -1):
            total = inverse[i, column]
            for k in range(i + 1, n):
                total -= factor[k, i] * inverse[k, column]
            inverse[i, column] = total / factor[i, i]


@kernel
def normal_equations(
    design: Float64Array,
    residual: Float64Array,
    weight: Float64Array,
    m: int,
    n: int,
    normal: Float64Array,
    b: Float64Array,
) -> None:
    """Write A' W A and A' W r of the first m rows and n columns; rows of weight 0 cost nothing."""
    normal[:n, :n] = 0.0
    b[:n] = 0.0
    for row in range(m):
        if weight[row] <= 0.0:
            continue
        for i in range(n):
            scaled = weight[row] * design[row, i]
            if scaled == 0.0:
                continue
            b[i] += scaled * residual[row]
            for j in range(i + 1):
                normal[i, j] += scaled * design[row, j]
    for i in range(n):
        for j in range(i):
            normal[j, i] = normal[i, j]


@kernel
def pack(n: int, a: Float64Array, lower: Float64Array) -> None:
    """Write the lower triangle of the leading n x n block of a symmetric matrix, row by row (n (n + 1) / 2 numbers)."""
    place = 0
    for i in range(n):
        for j in range(i + 1):
            lower[place] = a[i, j]
            place += 1


@kernel
def unpack(n: int, lower: Float64Array, a: Float64Array) -> None:
    """Write the leading n x n block of a symmetric matrix from what `pack` has made of it."""
    place = 0
    for i in range(n):
        for j in range(i + 1):
            a[i, j] = a[j, i] = lower[place]
            place += 1
