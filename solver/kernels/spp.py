"""Rows of the single point solution: pseudoranges and Doppler against broadcast orbits, clocks and delays.

The unknowns of a position are x, y, z, the clock of the reference system, and then, each with a prior, the offsets of
the other systems' clocks and the receiver's bias of every signal but the first of its system.
"""

import math

import numpy as np

from solver.constants import GPS_OMEGA_E_RAD_S, SPEED_OF_LIGHT_MPS
from solver.jit import kernel
from solver.kernels import Bools, Float32Array, Float64Array, Int16Array, Int32Array, Records
from solver.kernels.atmosphere import L1_HZ, niell_mapping, slant_ionosphere, zenith_troposphere
from solver.kernels.code_bias import beidou2_code_bias, group_delay
from solver.kernels.geodesy import azimuth_elevation, enu_axes, geodetic_from_ecef
from solver.kernels.linalg import cholesky, cholesky_inverse
from solver.kernels.orbit import ephemeris_variance, travel
from solver.signals import PRN_PER_SYSTEM, SIGNALS_PER_SYSTEM

__all__ = [
    "assign_columns",
    "code_sigma",
    "doppler_sigma",
    "expect",
    "judge",
    "point_rows",
    "range_rows",
    "rate_rows",
]

GROUND_M = 6.2e6
_HUMIDITY = 0.5
_COUNTS = 0.3
"""A satellite is in a solution by a row that has more than this of its weight left."""


@kernel
def code_sigma(cn0_dbhz: float, elevation: float) -> float:
    """Standard deviation (m) of a pseudorange: multipath by elevation, noise by C/N0 (Hartinger & Brunner 1999).

    0.25 m at the zenith and 0.25 m at 48 dB-Hz are those of a common receiver under open sky; what a given receiver
    really does is told by its own residuals, which scale this.
    """
    strength = min(max(cn0_dbhz if cn0_dbhz > 0.0 else 42.0, 15.0), 55.0)
    sine = max(math.sin(elevation), 0.1)
    return 0.25 * math.sqrt(1.0 / (sine * sine) + 10.0 ** ((48.0 - strength) / 10.0))


@kernel
def doppler_sigma(cn0_dbhz: float, elevation: float) -> float:
    """Standard deviation (m/s) of a range rate from Doppler."""
    return 0.2 * code_sigma(cn0_dbhz, elevation)


@kernel
def assign_columns(
    sat: Int16Array, signal: Int16Array, first: Int32Array, index: Int32Array, clock: Int32Array, bias: Int32Array,
    columns: Int32Array,
) -> int:  # fmt: skip
    """Give each system's clock and each signal's bias its place among the unknowns.

    Args:
        sat: (g,) satellites.
        signal: (m,) signal of each row.
        first: (g + 1,) first row of each satellite.
        index: (g,) row of each satellite's ephemeris; negative: it may not be used.
        clock: (7,) written: column of the system's clock offset; 3 for the reference system; -1: not observed.
        bias: (SIGNAL_COUNT,) written: column of the signal's bias; -1: the first of its system, or not observed.
        columns: (g + m,) written: column of each satellite's clock, then of each row's bias; -1: none.

    Returns:
        Number of unknowns.
    """
    satellites = np.zeros(len(clock), np.int32)
    seen = np.zeros(len(bias), np.int32)
    for g in range(len(sat)):
        if index[g] < 0:
            continue
        satellites[sat[g] // PRN_PER_SYSTEM] += 1
        for row in range(first[g], first[g + 1]):
            seen[signal[row]] += 1
    clock[:] = -1
    bias[:] = -1
    reference = int(np.argmax(satellites))
    n = 4
    for k in range(len(clock)):
        if satellites[k] == 0:
            continue
        clock[k] = 3 if k == reference else n
        n += 0 if k == reference else 1
    for k in range(len(clock)):
        group = seen[k * SIGNALS_PER_SYSTEM : (k + 1) * SIGNALS_PER_SYSTEM]
        main = int(np.argmax(group))
        for slot in range(SIGNALS_PER_SYSTEM):
            if group[slot] > 0 and slot != main:
                bias[k * SIGNALS_PER_SYSTEM + slot] = n
                n += 1
    for g in range(len(sat)):
        columns[g] = clock[sat[g] // PRN_PER_SYSTEM]
    for row in range(len(signal)):
        columns[len(sat) + row] = bias[signal[row]]
    return n


@kernel
def expect(
    clock: Int32Array, bias: Int32Array, clock_m: Float64Array, sigmas: Float64Array, expected: Float64Array
) -> None:
    """Write the prior value and standard deviation of each unknown.

    Args:
        clock: (7,) as of `assign_columns`.
        bias: (SIGNAL_COUNT,) likewise.
        clock_m: (7,) the systems' clocks in a recent fix; NaN: not known.
        sigmas: Of an offset between systems, of one that was solved for before, and of a signal's bias, m.
        expected: (n, 2) written; inf: nothing known.
    """
    reference = 0
    for k in range(len(clock)):
        if clock[k] == 3:
            reference = k
    expected[:4, 0], expected[:4, 1] = 0.0, np.inf
    for k in range(len(clock)):
        if clock[k] > 3:
            offset_m = clock_m[k] - clock_m[reference]
            kept = math.isfinite(offset_m)
            expected[clock[k], 0], expected[clock[k], 1] = offset_m if kept else 0.0, sigmas[1] if kept else sigmas[0]
    for k in range(len(bias)):
        if bias[k] >= 0:
            expected[bias[k], 0], expected[bias[k], 1] = 0.0, sigmas[2]


@kernel
def point_rows(
    kepler: Records, glonass: Records, time_ns: int, sat: Int16Array, index: Int32Array, first: Int32Array,
    signal: Int16Array, pseudorange_m: Float64Array, frequency_hz: Float64Array, cn0_dbhz: Float32Array,
    rows: Float64Array, variance: Float64Array,
) -> None:  # fmt: skip
    """Write what `range_rows` needs of each row (m, 4) and the variance (m^2) of each satellite's orbit and clock.

    A row is pseudorange (m; NaN: not to be used), carrier frequency (Hz), C/N0 (dB-Hz) and group delay (m).
    """
    for g in range(len(sat)):
        used = index[g] >= 0
        variance[g] = ephemeris_variance(kepler, glonass, time_ns, sat[g], index[g]) if used else 1.0
        for row in range(first[g], first[g + 1]):
            rows[row, 0] = pseudorange_m[row] if used else np.nan
            rows[row, 1], rows[row, 2], rows[row, 3] = frequency_hz[row], cn0_dbhz[row], 0.0
            if used:
                rows[row, 3] = SPEED_OF_LIGHT_MPS * group_delay(kepler, glonass, index[g], signal[row])


@kernel
def range_rows(
    time_ns: int, first: Int32Array, signal: Int16Array, sat: Int16Array, orbit: Float64Array, states: Float64Array,
    variance: Float64Array, rows: Float64Array, columns: Int32Array, klobuchar: Float64Array, options: Float64Array,
    x: Float64Array, a: Float64Array, y: Float64Array, sigma: Float64Array, mu: Float64Array, common: Float64Array,
    sky: Float64Array,
) -> None:  # fmt: skip
    """Write design, misclosure and noise of each pseudorange at the position x.

    Args:
        time_ns: Time tag, GPST.
        first: (g + 1,) first row of each satellite.
        signal: (m,) signal of each row.
        sat: (g,) satellites.
        orbit: (g, 2) sqrt_a and i0 of a BeiDou satellite without B1C and B2a, else 0.
        states: (g, 8) satellites at emission.
        variance: (g,) of orbit and clock, m^2.
        rows: (m, 4) of `point_rows`.
        columns: (g + m,) of `assign_columns`.
        klobuchar: (2, 8) parameters of GPS and BeiDou, NaN where not known.
        options: Elevation mask (rad), scale of the code's standard deviation, relative error of the ionosphere model.
        x: (n,) the unknowns so far.
        a: (m, n) and so on: what `robust_solve` takes; written.
        y: (m,).
        sigma: (m,).
        mu: (m,).
        common: (g, 2).
        sky: (g, 5) written: azimuth, elevation and unit vector of each satellite.
    """
    lat, lon, height = geodetic_from_ecef(x[0], x[1], x[2])
    grounded = x[0] ** 2 + x[1] ** 2 + x[2] ** 2 > GROUND_M**2
    axes = np.empty((3, 3))
    enu_axes(lat, lon, axes)
    dry, wet = zenith_troposphere(lat, height, _HUMIDITY)
    a[:, :] = 0.0
    for g in range(len(sat)):
        distance, ex, ey, ez = travel(states[g], x[0], x[1], x[2])
        azimuth, elevation = azimuth_elevation(axes, ex, ey, ez)
        sky[g, 0], sky[g, 1], sky[g, 2], sky[g, 3], sky[g, 4] = azimuth, elevation, ex, ey, ez
        ionosphere, troposphere = 0.0, 0.0
        common[g, 0], common[g, 1] = math.sqrt(variance[g]), 10.0
        usable = elevation >= options[0] or (not grounded and not math.isnan(distance))
        if grounded and usable:
            ionosphere = slant_ionosphere(time_ns, lat, lon, azimuth, elevation, klobuchar[0], klobuchar[1])
            dry_map, wet_map = niell_mapping(time_ns, lat, max(height, 0.0), elevation)
            troposphere = dry * dry_map + wet * wet_map
            common[g, 0] = math.sqrt(variance[g] + (0.3 * wet * wet_map + 0.02) ** 2)
            common[g, 1] = options[2] * ionosphere + 0.3
        for row in range(first[g], first[g + 1]):
            sigma[row] = 0.0
            if not usable or math.isnan(rows[row, 0]):
                continue
            mu[row] = (L1_HZ / rows[row, 1]) ** 2
            a[row, 0], a[row, 1], a[row, 2], a[row, 3] = -ex, -ey, -ez, 1.0
            modelled = distance + troposphere + mu[row] * ionosphere + x[3]
            for column in (columns[g], columns[len(sat) + row]):
                if column > 3:
                    a[row, column] = 1.0
                    modelled += x[column]
            measured = rows[row, 0] - rows[row, 3]
            if orbit[g, 0] > 0.0:
                measured += beidou2_code_bias(sat[g], orbit[g, 0], orbit[g, 1], signal[row], time_ns, elevation)
            y[row] = measured + SPEED_OF_LIGHT_MPS * states[g, 6] - modelled
            sigma[row] = options[1] * code_sigma(rows[row, 2], elevation) if grounded else 10.0


@kernel
def rate_rows(
    position_m: Float64Array, first: Int32Array, states: Float64Array, sky: Float64Array, doppler_hz: Float64Array,
    frequency_hz: Float64Array, cn0_dbhz: Float32Array, elevation_mask: float, a: Float64Array, y: Float64Array,
    sigma: Float64Array, common: Float64Array,
) -> None:  # fmt: skip
    """Write design, misclosure and noise of each Doppler; the unknowns are ECEF velocity and clock drift (m/s).

    Args:
        position_m: (3,) receiver.
        first: (g + 1,) first row of each satellite.
        states: (g, 8) satellites at emission.
        sky: (g, 5) of `range_rows`.
        doppler_hz: (m,).
        frequency_hz: (m,) of the carrier.
        cn0_dbhz: (m,).
        elevation_mask: Radians.
        a: (m, 4) and so on: what `robust_solve` takes; written.
        y: (m,).
        sigma: (m,).
        common: (g, 2).
    """
    for g in range(len(states)):
        common[g, 0], common[g, 1] = 0.02, 0.02
        for row in range(first[g], first[g + 1]):
            y[row], sigma[row] = np.nan, 0.0
        if math.isnan(states[g, 0]) or sky[g, 1] < elevation_mask:
            continue
        ex, ey, ez = sky[g, 2], sky[g, 3], sky[g, 4]
        rate = range_rate(position_m, states[g], ex, ey, ez) - SPEED_OF_LIGHT_MPS * states[g, 7]
        for row in range(first[g], first[g + 1]):
            if math.isnan(doppler_hz[row]) or math.isnan(frequency_hz[row]):
                continue
            a[row, 0], a[row, 1], a[row, 2], a[row, 3] = -ex, -ey, -ez, 1.0
            y[row] = -doppler_hz[row] * SPEED_OF_LIGHT_MPS / frequency_hz[row] - rate
            sigma[row] = doppler_sigma(np.float64(cn0_dbhz[row]), sky[g, 1])


@kernel
def range_rate(position_m: Float64Array, state: Float64Array, ex: float, ey: float, ez: float) -> float:
    """Rate (m/s) of the range from a receiver at rest to a satellite, the Earth's turn included.

    The unit vector is that of the frame of reception, so the velocity is turned into it too: by w range / c.
    """
    omega = GPS_OMEGA_E_RAD_S
    distance = math.sqrt(
        (state[0] - position_m[0]) ** 2 + (state[1] - position_m[1]) ** 2 + (state[2] - position_m[2]) ** 2
    )
    angle = omega * distance / SPEED_OF_LIGHT_MPS
    vx = state[3] + angle * state[4]
    vy = state[4] - angle * state[3]
    rate = ex * vx + ey * vy + ez * state[5]
    # The flight time changes by rate / c each second, and the frame turns by that much more.
    return float(rate + omega * rate / SPEED_OF_LIGHT_MPS * (ex * state[1] - ey * state[0]))


@kernel
def judge(
    position_m: Float64Array, first: Int32Array, weight: Float64Array, sky: Float64Array, used: Bools, dop: Float64Array
) -> float:
    """Write which satellites a position is of and their dilutions of precision; return its ellipsoidal height (m).

    Args:
        position_m: (3,) ECEF.
        first: (g + 1,) first row of each satellite.
        weight: (m,) what is left of each row's weight.
        sky: (g, 5) of `range_rows`.
        used: (g,) written: whether a satellite has a row that counts.
        dop: (4,) written: GDOP, PDOP, HDOP, VDOP of the satellites used, for one common clock; NaN: too few.
    """
    axes = np.empty((3, 3))
    lat, lon, height = geodetic_from_ecef(position_m[0], position_m[1], position_m[2])
    enu_axes(lat, lon, axes)
    normal, inverse = np.zeros((4, 4)), np.empty((4, 4))
    row = np.ones(4)
    for g in range(len(used)):
        used[g] = False
        for k in range(first[g], first[g + 1]):
            used[g] |= weight[k] > _COUNTS
        if not used[g]:
            continue
        for i in range(3):
            row[i] = axes[i, 0] * sky[g, 2] + axes[i, 1] * sky[g, 3] + axes[i, 2] * sky[g, 4]
        for i in range(4):
            for j in range(4):
                normal[i, j] += row[i] * row[j]
    dop[:] = np.nan
    if cholesky(normal, 4):
        cholesky_inverse(normal, inverse, 4)
        horizontal = inverse[0, 0] + inverse[1, 1]
        dop[0] = math.sqrt(horizontal + inverse[2, 2] + inverse[3, 3])
        dop[1] = math.sqrt(horizontal + inverse[2, 2])
        dop[2], dop[3] = math.sqrt(horizontal), math.sqrt(inverse[2, 2])
    return height
