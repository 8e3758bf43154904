"""How far a position can be off: protection levels from its covariance."""

import math
from typing import Final

import numpy as np

from solver.jit import kernel
from solver.kernels import Float64Array
from solver.kernels.geodesy import enu_axes, geodetic_from_ecef

__all__ = ["enu_covariance", "protection_levels"]

_K_HORIZONTAL: Final = 6.0
"""Of the semi-major axis, RTCA DO-229 J.1 for precision approach, where the miss is 1e-9 in one dimension."""
_K_VERTICAL: Final = 5.33
"""A miss of 1e-7, RTCA DO-229 J.1."""


@kernel
def enu_covariance(position_ecef_m: Float64Array, covariance_m2: Float64Array) -> Float64Array:
    """An ECEF covariance (3, 3) turned into east, north, up at a position."""
    axes, turned = np.empty((3, 3)), np.zeros((3, 3))
    lat, lon, _ = geodetic_from_ecef(position_ecef_m[0], position_ecef_m[1], position_ecef_m[2])
    enu_axes(lat, lon, axes)
    for i in range(3):
        for j in range(3):
            for k in range(3):
                for m in range(3):
                    turned[i, j] += axes[i, k] * covariance_m2[k, m] * axes[j, m]
    return turned


@kernel
def protection_levels(position_ecef_m: Float64Array, covariance_m2: Float64Array) -> tuple[float, float]:
    """Horizontal and vertical protection level (m): bounds of the error, as far as the covariance is honest."""
    enu = enu_covariance(position_ecef_m, covariance_m2)
    half_sum, half_difference = 0.5 * (enu[0, 0] + enu[1, 1]), 0.5 * (enu[0, 0] - enu[1, 1])
    major = math.sqrt(half_sum + math.hypot(half_difference, enu[0, 1]))
    return _K_HORIZONTAL * major, _K_VERTICAL * math.sqrt(enu[2, 2])
