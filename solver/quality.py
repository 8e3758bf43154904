"""How far a position can be off: protection levels from its covariance."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from solver.kernels.geodesy import enu_axes, geodetic_from_ecef

__all__ = ["enu_covariance", "protection_levels"]

_K_HORIZONTAL: Final = 6.0
"""Of the semi-major axis, RTCA DO-229 J.1 for precision approach, where the miss is 1e-9 in one dimension."""
_K_VERTICAL: Final = 5.33
"""A miss of 1e-7, RTCA DO-229 J.1."""


def enu_covariance(position_ecef_m: NDArray[np.float64], covariance_m2: NDArray[np.float64]) -> NDArray[np.float64]:
    """An ECEF covariance (3, 3) turned into east, north, up at a position."""
    axes = np.empty((3, 3))
    lat, lon, _ = geodetic_from_ecef(position_ecef_m[0], position_ecef_m[1], position_ecef_m[2])
    enu_axes(lat, lon, axes)
    turned: NDArray[np.float64] = axes @ covariance_m2 @ axes.T
    return turned


def protection_levels(position_ecef_m: NDArray[np.float64], covariance_m2: NDArray[np.float64]) -> tuple[float, float]:
    """Horizontal and vertical protection level (m): bounds of the error, as far as the covariance is honest."""
    enu = enu_covariance(position_ecef_m, covariance_m2)
    half_sum, half_difference = 0.5 * (enu[0, 0] + enu[1, 1]), 0.5 * (enu[0, 0] - enu[1, 1])
    major = np.sqrt(half_sum + np.hypot(half_difference, enu[0, 1]))
    return float(_K_HORIZONTAL * major), float(_K_VERTICAL * np.sqrt(enu[2, 2]))
