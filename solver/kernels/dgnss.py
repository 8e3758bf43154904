"""What a receiver at a known place should measure: ranges, rates and directions, for differences between receivers."""

import math

import numpy as np

from solver.constants import SPEED_OF_LIGHT_MPS
from solver.jit import kernel
from solver.kernels import Float64Array
from solver.kernels.atmosphere import niell_mapping, zenith_troposphere
from solver.kernels.geodesy import azimuth_elevation, enu_axes, geodetic_from_ecef
from solver.kernels.orbit import travel
from solver.kernels.spp import range_rate

__all__ = ["RANGE", "RATE", "SIGHT", "model_ranges"]

RANGE, RATE, SIGHT, ELEVATION = 0, 1, 2, 5
"""Columns of `model_ranges`: range, range rate, unit vector (three), elevation."""
_HUMIDITY = 0.5


@kernel
def model_ranges(time_ns: int, position_m: Float64Array, states: Float64Array, out: Float64Array) -> None:
    """Write what satellites measure at a place at rest, but for the receiver's clock and the ionosphere.

    Args:
        time_ns: Time tag, GPST.
        position_m: (3,) ECEF.
        states: (g, 8) satellites at emission.
        out: (g, 6) written: range with troposphere less the satellite's clock (m), its rate (m/s), the unit vector to
            the satellite, its elevation (rad); NaN where there is no state.
    """
    lat, lon, height = geodetic_from_ecef(position_m[0], position_m[1], position_m[2])
    axes = np.empty((3, 3))
    enu_axes(lat, lon, axes)
    dry, wet = zenith_troposphere(lat, height, _HUMIDITY)
    for g in range(len(states)):
        out[g, :] = np.nan
        if math.isnan(states[g, 0]):
            continue
        distance, ex, ey, ez = travel(states[g], position_m[0], position_m[1], position_m[2])
        _, elevation = azimuth_elevation(axes, ex, ey, ez)
        dry_map, wet_map = niell_mapping(time_ns, lat, max(height, 0.0), elevation)
        out[g, 0] = distance + dry * dry_map + wet * wet_map - SPEED_OF_LIGHT_MPS * states[g, 6]
        out[g, 1] = range_rate(position_m, states[g], ex, ey, ez) - SPEED_OF_LIGHT_MPS * states[g, 7]
        out[g, 2], out[g, 3], out[g, 4], out[g, 5] = ex, ey, ez, elevation
