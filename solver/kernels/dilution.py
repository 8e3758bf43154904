"""Dilution of precision: what the geometry alone makes of errors of the ranges."""

import math

import numpy as np

from solver.jit import part
from solver.kernels import Float64Array, Records
from solver.kernels.geodesy import enu_axes, geodetic_from_ecef
from solver.kernels.linalg import cholesky, cholesky_inverse

__all__ = ["dilute", "dilute_links"]


@part
def dilute(normal: Float64Array, dop: Float64Array) -> None:
    """Write dilutions of precision (Langley 1999).

    Args:
        normal: (4, 4) normal equations of east, north, up and one common clock, of ranges of unit weight; changed.
        dop: (4,) written: GDOP, PDOP, HDOP, VDOP; NaN: too few satellites.
    """
    inverse = np.empty((4, 4))
    dop[:] = np.nan
    if cholesky(normal, 4):
        cholesky_inverse(normal, inverse, 4)
        horizontal = inverse[0, 0] + inverse[1, 1]
        dop[0] = math.sqrt(horizontal + inverse[2, 2] + inverse[3, 3])
        dop[1] = math.sqrt(horizontal + inverse[2, 2])
        dop[2], dop[3] = math.sqrt(horizontal), math.sqrt(inverse[2, 2])


@part
def dilute_links(count: int, links: Records, position_m: Float64Array, dop: Float64Array) -> None:
    """Write dilutions of precision of the satellites of some links (`differencing.LINK`).

    Args:
        count: How many links, ordered by satellite.
        links: (count,).
        position_m: (3,) of the rover.
        dop: (4,) written, as of `dilute`.
    """
    axes, normal, row = np.empty((3, 3)), np.zeros((4, 4)), np.ones(4)
    lat, lon, _ = geodetic_from_ecef(position_m[0], position_m[1], position_m[2])
    enu_axes(lat, lon, axes)
    for k in range(count):
        if k > 0 and links[k].sat == links[k - 1].sat:
            continue
        for i in range(3):
            row[i] = 0.0
            for axis in range(3):
                row[i] += axes[i, axis] * links[k].unit[axis]
        for i in range(4):
            for j in range(4):
                normal[i, j] += row[i] * row[j]
    dilute(normal, dop)
