"""What an antenna adds to the ranges from its reference point, looked up in its calibration's tables."""

import math
from typing import NamedTuple

import numpy as np

from solver.jit import kernel, part
from solver.kernels import Float64Array, Int16Array, Records
from solver.kernels.geodesy import azimuth_elevation, enu_axes, geodetic_from_ecef
from solver.kernels.orbit import satellite_states, select_ephemerides, travel

__all__ = ["Pattern", "corrections", "corrections_along"]

_RANGE_M = 22e6
"""Stands for a range that was not measured: what a satellite moves by for that does not turn the line of sight."""


class Pattern(NamedTuple):
    """An antenna's calibrations: `of_signal` (SIGNAL_COUNT,) tells the row of the others that a signal takes.

    `offset_enu_m` (rows, 3); `variation_m` (rows, azimuths, zeniths), a single azimuth where there is no dependence;
    `zenith_rad` (2,) the first zenith angle and the step.
    """

    of_signal: Int16Array
    offset_enu_m: Float64Array
    variation_m: Float64Array
    zenith_rad: Float64Array


@part
def _correction_m(pattern: Pattern, signal: int, azimuth: float, elevation: float) -> float:
    """Bilinear in the table, less the offset along the line of sight."""
    band, table = pattern.of_signal[signal], pattern.variation_m
    azimuths, zeniths = table.shape[1], table.shape[2]
    column = (0.5 * math.pi - elevation - pattern.zenith_rad[0]) / pattern.zenith_rad[1]
    column = min(max(column, 0.0), zeniths - 1.0)
    row = azimuth % (2.0 * math.pi) / (2.0 * math.pi) * (azimuths - 1)
    i, j = min(int(row), max(azimuths - 2, 0)), min(int(column), zeniths - 2)
    below, down, along = min(i + 1, azimuths - 1), row - i, column - j
    upper = table[band, i, j] * (1.0 - along) + table[band, i, j + 1] * along
    lower = table[band, below, j] * (1.0 - along) + table[band, below, j + 1] * along
    level = math.cos(elevation)
    east, north = level * math.sin(azimuth), level * math.cos(azimuth)
    offset = pattern.offset_enu_m[band]
    projected = east * offset[0] + north * offset[1] + math.sin(elevation) * offset[2]
    return float(upper * (1.0 - down) + lower * down - projected)


@kernel
def corrections_along(
    pattern: Pattern, signal: Int16Array, azimuth: Float64Array, elevation: Float64Array, out_m: Float64Array
) -> None:
    """Write the corrections (n,) of signals along lines of sight, azimuth from north by east, rad."""
    for k in range(len(signal)):
        out_m[k] = _correction_m(pattern, signal[k], azimuth[k], elevation[k])


@kernel
def corrections(
    time_ns: int, sat: Int16Array, signal: Int16Array, pseudorange_m: Float64Array, place_m: Float64Array,
    kepler: Records, glonass: Records, pattern: Pattern, out_m: Float64Array,
) -> None:  # fmt: skip
    """Write the corrections of an epoch's rows; 0 where there is no ephemeris.

    Args:
        time_ns: Receiver's time tag, GPST.
        sat: (n,) satellites, in order.
        signal: (n,) signals.
        pseudorange_m: (n,) m; NaN: not measured.
        place_m: (3,) ECEF of the antenna, which is level and points north; 100 m do not matter.
        kepler: Records of `KEPLER`.
        glonass: Records of `GLONASS_STATE`.
        pattern: Of the antenna.
        out_m: (n,) written.
    """
    axes, states, code_m, index = np.empty((3, 3)), np.empty((1, 8)), np.empty(1), np.empty(1, np.int32)
    lat, lon, _ = geodetic_from_ecef(place_m[0], place_m[1], place_m[2])
    enu_axes(lat, lon, axes)
    azimuth, elevation = math.nan, math.nan
    for k in range(len(sat)):
        if k == 0 or sat[k] != sat[k - 1]:
            select_ephemerides(kepler, glonass, time_ns, sat[k : k + 1], index)
            code_m[0] = _RANGE_M if math.isnan(pseudorange_m[k]) else pseudorange_m[k]
            satellite_states(kepler, glonass, time_ns, sat[k : k + 1], index, code_m, states)
            _, x, y, z = travel(states[0], place_m[0], place_m[1], place_m[2])
            azimuth, elevation = azimuth_elevation(axes, x, y, z)
        out_m[k] = 0.0 if math.isnan(elevation) else _correction_m(pattern, signal[k], azimuth, elevation)
