"""Geodetic coordinates, local east-north-up axes, azimuth and elevation on the WGS 84 ellipsoid."""

import math

from solver.constants import WGS84_A_M, WGS84_F
from solver.jit import kernel
from solver.kernels import Float64Array

__all__ = ["azimuth_elevation", "ecef_from_geodetic", "elevation_of", "enu_axes", "geodetic_from_ecef", "to_enu"]

_E2 = WGS84_F * (2.0 - WGS84_F)
_B_M = WGS84_A_M * (1.0 - WGS84_F)
_EP2 = _E2 / (1.0 - _E2)


@kernel
def geodetic_from_ecef(x_m: float, y_m: float, z_m: float) -> tuple[float, float, float]:
    """Latitude, longitude (rad) and ellipsoidal height (m); Bowring 1985, good to 1e-9 m from the ground to orbits."""
    p = math.hypot(x_m, y_m)
    if p < 1e-6:
        return math.copysign(math.pi / 2.0, z_m), 0.0, abs(z_m) - _B_M
    r = math.hypot(p, z_m)
    beta = math.atan2(_B_M * z_m * (1.0 + _EP2 * _B_M / r), WGS84_A_M * p)
    lat = 0.0
    for _ in range(2):
        lat = math.atan2(z_m + _EP2 * _B_M * math.sin(beta) ** 3, p - _E2 * WGS84_A_M * math.cos(beta) ** 3)
        beta = math.atan2((1.0 - WGS84_F) * math.sin(lat), math.cos(lat))
    sin_lat = math.sin(lat)
    height = p * math.cos(lat) + z_m * sin_lat - WGS84_A_M * math.sqrt(1.0 - _E2 * sin_lat * sin_lat)
    return lat, math.atan2(y_m, x_m), height


@kernel
def ecef_from_geodetic(lat: float, lon: float, height_m: float) -> tuple[float, float, float]:
    """ECEF coordinates (m) of a latitude, longitude (rad) and ellipsoidal height (m)."""
    normal = WGS84_A_M / math.sqrt(1.0 - _E2 * math.sin(lat) ** 2)
    p = (normal + height_m) * math.cos(lat)
    return p * math.cos(lon), p * math.sin(lon), (normal * (1.0 - _E2) + height_m) * math.sin(lat)


@kernel
def enu_axes(lat: float, lon: float, axes: Float64Array) -> None:
    """Write the unit vectors east, north and up in ECEF as the rows of `axes` (3, 3): enu = axes @ ecef."""
    sin_lat, cos_lat = math.sin(lat), math.cos(lat)
    sin_lon, cos_lon = math.sin(lon), math.cos(lon)
    axes[0, 0], axes[0, 1], axes[0, 2] = -sin_lon, cos_lon, 0.0
    axes[1, 0], axes[1, 1], axes[1, 2] = -sin_lat * cos_lon, -sin_lat * sin_lon, cos_lat
    axes[2, 0], axes[2, 1], axes[2, 2] = cos_lat * cos_lon, cos_lat * sin_lon, sin_lat


@kernel
def to_enu(axes: Float64Array, dx: float, dy: float, dz: float) -> tuple[float, float, float]:
    """Rotate an ECEF difference into east, north and up."""
    return (
        axes[0, 0] * dx + axes[0, 1] * dy + axes[0, 2] * dz,
        axes[1, 0] * dx + axes[1, 1] * dy + axes[1, 2] * dz,
        axes[2, 0] * dx + axes[2, 1] * dy + axes[2, 2] * dz,
    )


@kernel
def azimuth_elevation(axes: Float64Array, dx: float, dy: float, dz: float) -> tuple[float, float]:
    """Azimuth from north by east (0..2 pi) and elevation (rad) of an ECEF direction of any length."""
    east, north, up = to_enu(axes, dx, dy, dz)
    azimuth = math.atan2(east, north)
    if azimuth < 0.0:
        azimuth += 2.0 * math.pi
    return azimuth, math.atan2(up, math.hypot(east, north))


@kernel
def elevation_of(axes: Float64Array, dx: float, dy: float, dz: float) -> float:
    """Elevation (rad) alone, as of `azimuth_elevation`."""
    east, north, up = to_enu(axes, dx, dy, dz)
    return math.atan2(up, math.hypot(east, north))
