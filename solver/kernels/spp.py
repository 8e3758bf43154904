"""Single point solutions, epoch after epoch: pseudoranges and Doppler against broadcast orbits, clocks and delays.

The unknowns of a position are x, y, z, the clock of the reference system, and then, each with a prior, the offsets of
the other systems' clocks, the receiver's bias of every signal but the first of its system, and by how much the
ionosphere differs from the broadcast model's: its vertical delay and its slopes to the north and to the east, in units
of the model's vertical delay. What of it is left, and orbit and clock, are errors of each satellite's own.
"""

import math

import numpy as np

from solver.constants import GPS_OMEGA_E_RAD_S, SPEED_OF_LIGHT_MPS
from solver.jit import kernel, part
from solver.kernels import Bools, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, Record, Records
from solver.kernels.atmosphere import (
    L1_HZ,
    ionosphere_mapping,
    niell_coefficients,
    niell_slant,
    pierce_angle,
    slant_ionosphere,
    zenith_troposphere,
)
from solver.kernels.code_bias import beidou2_code_bias, delay_sigma, group_delay
from solver.kernels.dilution import dilute
from solver.kernels.geodesy import azimuth_elevation, enu_axes, geodetic_from_ecef
from solver.kernels.least_squares import robust_solve
from solver.kernels.observed import choose_rows, old_beidou
from solver.kernels.orbit import ephemeris_variance, satellite_states, select_ephemerides, travel
from solver.quality import protection_levels
from solver.signals import PRN_PER_SYSTEM, SIGNAL_COUNT, SIGNALS_PER_SYSTEM, SYSTEMS

__all__ = [
    "DIVERGED",
    "FEW_LEFT",
    "HEIGHT",
    "POINT",
    "SINGULAR",
    "SOLVED",
    "TOO_FEW",
    "WIDE",
    "solve_points",
]

POINT = np.dtype(
    [
        ("status", np.int8),  # SOLVED, or why there is no position
        ("count", np.int16),  # satellites: of the position, or that could be used
        ("detail", np.float64),  # TOO_FEW: satellites without an ephemeris; WIDE, HEIGHT: metres
        ("position_ecef_m", np.float64, (3,)),
        ("position_covariance_m2", np.float64, (3, 3)),
        ("velocity_ecef_mps", np.float64, (3,)),
        ("velocity_covariance_m2s2", np.float64, (3, 3)),
        ("clock_m", np.float64, (7,)),
        ("clock_drift_mps", np.float64),
        ("dop", np.float64, (4,)),
        ("hpl_m", np.float64),
        ("vpl_m", np.float64),
    ]
)
"""A single position; fields as of `solver.model.Fix`, NaN where not known."""
SOLVED, TOO_FEW, SINGULAR, DIVERGED, FEW_LEFT, WIDE, HEIGHT = range(7)

GROUND_M = 6.2e6
_HUMIDITY = 0.5
_COUNTS = 0.3
"""A satellite is in a solution by a row that has more than this of its weight left."""
_SYSTEM_OFFSET_M = 300.0
"""Prior of one system's clock against another's: broadcast time scales agree to 1 us, receivers within less."""
_KEPT_OFFSET_M = 2.0
"""The same for a receiver whose offsets were solved for a moment ago."""
_KEEP_NS = 60_000_000_000
_SIGNAL_BIAS_M = 5.0
_IONOSPHERE = np.array([0.5, 1.5, 1.0])
"""Prior of the ionosphere's vertical delay and of its slopes (per radian of arc), against the broadcast model's delay.

The model halves the error (Klobuchar 1987). Middle latitudes slope by 3 per cent of the delay a degree to the north,
the day by a quarter an hour at most, so 2 and 1 per radian, more near the equator: the model misses most of that.
"""
_IRREGULAR, _IRREGULAR_M = 0.2, 0.1
"""What no plane takes of the ionosphere, by satellite: a share of the delay, and of a quiet night, metres."""
_SHARE_MIN = 0.2
_ROUNDS_MAX = 14
_SETTLED_M = 1.0
"""A step as short as this leaves 2e-8 m of the ranges' curvature and less than 2 mm of the troposphere's change."""
_LINEAR_M = 3e3
RANGE_M, FREQUENCY_HZ, CN0_DBHZ, DELAY_M, DELAY_SIGMA_M, DOPPLER_HZ = range(6)
"""Columns of `point_rows`."""
MASK, SIGMA_SCALE, IONOSPHERE_ERROR, HEIGHT_MIN_M, HEIGHT_MAX_M, SIGMA_MAX_M = range(6)
"""Options: radians, factor, factor of the broadcast ionosphere's error, and what is believed of a position."""
_SYSTEMS = len(SYSTEMS)


@kernel
def solve_points(
    time_ns: Int64Array, first_row: Int64Array, sat: Int16Array, signal: Int16Array,
    frequency_hz: Float64Array, pseudorange_m: Float64Array, doppler_hz: Float64Array, cn0_dbhz: Float32Array,
    kepler: Records, glonass: Records, klobuchar: Float64Array, satellites: Bools, signals: Bools,
    index_of: Int32Array, options: Float64Array, before_ns: int, before: Records, points: Records, used: Bools,
) -> None:  # fmt: skip
    """Solve epochs of one receiver one after the other, each from where the last position was.

    Args:
        time_ns: (e,) time tags, GPST.
        first_row: (e + 1,) first row of each epoch.
        sat: (m,) and so on: columns of the epochs.
        signal: (m,).
        frequency_hz: (m,).
        pseudorange_m: (m,).
        doppler_hz: (m,).
        cn0_dbhz: (m,).
        kepler: Broadcast orbits, `KEPLER`.
        glonass: The same, `GLONASS_STATE`.
        klobuchar: (2, 8) parameters of GPS and BeiDou, NaN where not known.
        satellites: (SATELLITE_COUNT,) whether each is wanted.
        signals: (SIGNAL_COUNT,) likewise.
        index_of: (SATELLITE_COUNT,) ephemeris to use by satellite; empty: choose.
        options: `MASK` and so on.
        before_ns: Time of a position before the first epoch.
        before: (1,) `POINT`, that position; its status says whether there is one.
        points: (e,) `POINT`, written.
        used: (e, SATELLITE_COUNT) written: satellites of each position.
    """
    last, last_ns, last_row = before, before_ns, len(before) - 1  # a literal would compile all of it once more
    for k in range(len(time_ns)):
        a, b = first_row[k], first_row[k + 1]
        _solve_point(
            time_ns[k], sat[a:b], signal[a:b], frequency_hz[a:b], pseudorange_m[a:b], doppler_hz[a:b], cn0_dbhz[a:b],
            kepler, glonass, klobuchar, satellites, signals, index_of, options,
            last[last_row].status == SOLVED and abs(time_ns[k] - last_ns) < _KEEP_NS, last, last_row, points, k,
            used[k],
        )  # fmt: skip
        if points[k].status == SOLVED:
            last, last_ns, last_row = points, time_ns[k], k


@kernel
def _solve_point(
    time_ns: int, row_sat: Int16Array, row_signal: Int16Array, frequency_hz: Float64Array, pseudorange_m: Float64Array,
    doppler_hz: Float64Array, cn0_dbhz: Float32Array, kepler: Records, glonass: Records, klobuchar: Float64Array,
    satellites: Bools, signals: Bools, index_of: Int32Array, options: Float64Array, is_recent: bool, last: Records,
    last_row: int, points: Records, k: int, used: Bools,
) -> None:  # fmt: skip
    """Solve one epoch: write row k of points and the satellites used; see `solve_points`."""
    point = points[k]
    blank_point(point)
    used[:] = False
    size = len(row_sat)
    kept, sat, first = np.empty(size, np.bool_), np.empty(size, np.int16), np.zeros(size + 1, np.int32)
    nearest_m, modern = np.empty(size), np.empty(size, np.bool_)
    g = choose_rows(
        row_sat, row_signal, pseudorange_m, frequency_hz, satellites, signals, kept, sat, first, nearest_m, modern
    )  # fmt: skip
    sat, first, nearest_m = sat[:g], first[: g + 1], nearest_m[:g]
    m = first[g]
    index, states, orbit = np.empty(g, np.int32), np.empty((g, 8)), np.empty((g, 2))
    if len(index_of):
        for j in range(g):
            index[j] = index_of[sat[j]]
    else:
        select_ephemerides(kepler, glonass, time_ns, sat, index)
    for j in range(g):
        point.count += 1 if index[j] >= 0 else 0
    point.detail = g - point.count
    if point.count < 4:
        return
    satellite_states(kepler, glonass, time_ns, sat, index, nearest_m, states)
    old_beidou(kepler, sat, index, modern[:g], orbit)
    signal, rows, variance = np.empty(m, np.int16), np.empty((m, 6)), np.empty(g)
    _point_rows(
        kepler, glonass, time_ns, sat, index, first, kept, row_signal, pseudorange_m, frequency_hz, cn0_dbhz,
        doppler_hz, signal, rows, variance,
    )  # fmt: skip
    clock, columns = np.empty(_SYSTEMS, np.int32), np.empty(g + m, np.int32)
    bias = np.empty(SIGNAL_COUNT, np.int32)
    n = _assign_columns(sat, signal, first, index, clock, bias, columns)
    x, covariance, weight, sky = np.zeros(n), np.empty((n, n)), np.zeros(m), np.full((g, 5), np.nan)
    expected = np.empty((n, 2))
    _expect(clock, bias, is_recent, last, last_row, options[IONOSPHERE_ERROR], expected)
    share = -1.0
    for start in range(0 if is_recent else 1, 2):  # where the last fix was, then, if that leads nowhere, the centre
        x[:] = 0.0
        if start == 0:
            for axis in range(3):
                x[axis] = last[last_row].position_ecef_m[axis]
        point.status, share = _iterate(
            time_ns, first, signal, sat, orbit, states, variance, rows, columns, klobuchar, options, expected, x, sky,
            covariance, weight,
        )  # fmt: skip
        if point.status == SOLVED:
            break
    if point.status == SOLVED:
        _conclude(sat, first, states, rows, columns, clock, options, x, covariance, weight, sky, share, point, used)


@part
def blank_point(point: Record) -> None:
    """A point of which nothing is known."""
    point.status, point.count, point.detail = TOO_FEW, 0, 0.0
    point.clock_drift_mps, point.hpl_m, point.vpl_m = np.nan, np.nan, np.nan
    for i in range(3):
        point.position_ecef_m[i], point.velocity_ecef_mps[i] = np.nan, np.nan
        for j in range(3):
            point.position_covariance_m2[i, j], point.velocity_covariance_m2s2[i, j] = np.nan, np.nan
    for i in range(4):
        point.dop[i] = np.nan
    for i in range(_SYSTEMS):
        point.clock_m[i] = np.nan


@part
def _iterate(
    time_ns: int, first: Int32Array, signal: Int16Array, sat: Int16Array, orbit: Float64Array, states: Float64Array,
    variance: Float64Array, rows: Float64Array, columns: Int32Array, klobuchar: Float64Array, options: Float64Array,
    expected: Float64Array, x: Float64Array, sky: Float64Array, covariance: Float64Array, weight: Float64Array,
) -> tuple[int, float]:  # fmt: skip
    """Iterate x (n,) to the position that the pseudoranges mean, robustly once they are linear enough.

    The covariance is scaled up, never down, by the misfit, and by what outliers have taken of the weight: where many
    codes are reflections, some of those that agree are too.

    Returns:
        `SOLVED`, or why there is no position, and the share of the weight that is left.
    """
    g, m, n = len(sat), len(signal), len(x)
    a, y, sigma, mu, common = np.empty((m, n)), np.empty(m), np.empty(m), np.zeros(m), np.empty((g, 2))
    step, prior, prior_b = np.empty(n), np.zeros((n, n)), np.empty(n)
    for i in range(n):
        prior[i, i] = 1.0 / expected[i, 1] ** 2
    robust = math.isnan(x[0])  # no: but a literal would compile `robust_solve` once more
    for _ in range(_ROUNDS_MAX):
        _range_rows(
            time_ns, first, signal, sat, orbit, states, variance, rows, columns, klobuchar, options, x, a, y, sigma, mu,
            common, sky,
        )  # fmt: skip
        for i in range(n):
            prior_b[i] = prior[i, i] * (expected[i, 0] - x[i])
        chi2, freedom = robust_solve(a, y, sigma, mu, first, common, prior, prior_b, step, covariance, weight, robust)
        if chi2 < 0.0:
            return SINGULAR, 0.0
        for i in range(n):
            x[i] += step[i]
        moved_m = math.sqrt(step[0] ** 2 + step[1] ** 2 + step[2] ** 2)
        if robust and moved_m < _SETTLED_M:
            total, count = 0.0, 0
            for row in range(m):
                if sigma[row] > 0.0:
                    total, count = total + weight[row], count + 1
            share = max(total / count, _SHARE_MIN)
            scale = (max(1.0, chi2 / freedom) if freedom > 0.5 else 1.0) / (share * share)
            for i in range(n):
                for j in range(n):
                    covariance[i, j] *= scale
            return SOLVED, share
        robust = robust or moved_m < _LINEAR_M
    return DIVERGED, 0.0


@part
def _conclude(
    sat: Int16Array, first: Int32Array, states: Float64Array, rows: Float64Array, columns: Int32Array,
    clock: Int32Array, options: Float64Array, x: Float64Array, covariance: Float64Array, weight: Float64Array,
    sky: Float64Array, share: float, point: Record, used: Bools,
) -> None:  # fmt: skip
    """Write what a position is, if it is to be believed, and velocity and clock drift where there is Doppler."""
    counts = np.empty(len(sat), np.bool_)
    height_m = judge(x, first, weight, sky, counts, point.dop)
    point.count = 0
    for g in range(len(sat)):
        point.count += 1 if counts[g] else 0
    sigma_m = math.sqrt(max(covariance[0, 0] + covariance[1, 1] + covariance[2, 2], 0.0))
    if point.count < 4:
        point.status = FEW_LEFT
    elif not sigma_m < options[SIGMA_MAX_M]:
        point.status, point.detail = WIDE, sigma_m
    elif not options[HEIGHT_MIN_M] < height_m < options[HEIGHT_MAX_M]:
        point.status, point.detail = HEIGHT, height_m
    if point.status != SOLVED:
        return
    for i in range(3):
        point.position_ecef_m[i] = x[i]
        for j in range(3):
            point.position_covariance_m2[i, j] = covariance[i, j]
    for g in range(len(sat)):
        used[sat[g]] = counts[g]
    for k in range(_SYSTEMS):
        if clock[k] >= 0:
            point.clock_m[k] = x[3] + (x[clock[k]] if clock[k] > 3 else 0.0)
    point.hpl_m, point.vpl_m = protection_levels(point.position_ecef_m, point.position_covariance_m2)
    _solve_rate(first, states, rows, sky, options, point)


@part
def _solve_rate(
    first: Int32Array, states: Float64Array, rows: Float64Array, sky: Float64Array, options: Float64Array,
    point: Record,
) -> None:  # fmt: skip
    """Write velocity and clock drift where there is Doppler of four satellites."""
    g, m = len(states), len(rows)
    a, y, sigma, mu, common = np.empty((m, 4)), np.empty(m), np.empty(m), np.zeros(m), np.empty((g, 2))
    if _rate_rows(point.position_ecef_m, first, states, sky, rows, options[MASK], a, y, sigma, common) < 4:
        return
    x, covariance, weight, nothing = np.empty(4), np.empty((4, 4)), np.empty(m), np.zeros((4, 4))
    chi2, freedom = robust_solve(a, y, sigma, mu, first, common, nothing, nothing[0], x, covariance, weight, m > 0)
    if chi2 < 0.0:
        return
    scale = max(1.0, chi2 / freedom) if freedom > 0.5 else 1.0
    point.clock_drift_mps = x[3]
    for i in range(3):
        point.velocity_ecef_mps[i] = x[i]
        for j in range(3):
            point.velocity_covariance_m2s2[i, j] = covariance[i, j] * scale


@part
def code_sigma(cn0_dbhz: float, elevation: float) -> float:
    """Standard deviation (m) of a pseudorange: multipath by elevation, noise by C/N0 (Hartinger & Brunner 1999).

    0.25 m at the zenith and 0.25 m at 48 dB-Hz are those of a common receiver under open sky; what a given receiver
    really does is told by its own residuals, which scale this.
    """
    strength = min(max(cn0_dbhz if cn0_dbhz > 0.0 else 42.0, 15.0), 55.0)
    sine = max(math.sin(elevation), 0.1)
    return 0.25 * math.sqrt(1.0 / (sine * sine) + 10.0 ** ((48.0 - strength) / 10.0))


@part
def doppler_sigma(cn0_dbhz: float, elevation: float) -> float:
    """Standard deviation (m/s) of a range rate from Doppler."""
    return 0.2 * code_sigma(cn0_dbhz, elevation)


@part
def _assign_columns(
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
        Number of unknowns; the last are the ionosphere's.
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
    return n + len(_IONOSPHERE)


@part
def _expect(
    clock: Int32Array, bias: Int32Array, is_recent: bool, last: Records, last_row: int, ionosphere_error: float,
    expected: Float64Array,
) -> None:  # fmt: skip
    """Write the prior value and standard deviation of each unknown.

    Args:
        clock: (7,) as of `_assign_columns`.
        bias: (SIGNAL_COUNT,) likewise.
        is_recent: Whether the offsets between systems of the last position still hold.
        last: `POINT`.
        last_row: Row of the last position.
        ionosphere_error: Factor of the broadcast ionosphere's error.
        expected: (n, 2) written; inf: nothing known.
    """
    reference = 0
    for k in range(len(clock)):
        if clock[k] == 3:
            reference = k
    for i in range(len(expected)):
        expected[i, 0], expected[i, 1] = 0.0, np.inf if i < 4 else _SIGNAL_BIAS_M
    for k in range(len(clock)):
        if clock[k] > 3:
            offset_m = last[last_row].clock_m[k] - last[last_row].clock_m[reference]
            kept = is_recent and math.isfinite(offset_m)
            expected[clock[k], 0] = offset_m if kept else 0.0
            expected[clock[k], 1] = _KEPT_OFFSET_M if kept else _SYSTEM_OFFSET_M
    for k in range(len(_IONOSPHERE)):
        expected[len(expected) - len(_IONOSPHERE) + k, 1] = _IONOSPHERE[k] * ionosphere_error


@part
def _point_rows(
    kepler: Records, glonass: Records, time_ns: int, sat: Int16Array, index: Int32Array, first: Int32Array, kept: Bools,
    row_signal: Int16Array, pseudorange_m: Float64Array, frequency_hz: Float64Array, cn0_dbhz: Float32Array,
    doppler_hz: Float64Array, signal: Int16Array, rows: Float64Array, variance: Float64Array,
) -> None:  # fmt: skip
    """Write signal (m,) and measurements (m, 6) of the rows that are kept, and the satellites' variance (m^2).

    A row is pseudorange (m; NaN: not to be used), carrier frequency (Hz), C/N0 (dB-Hz), group delay and its standard
    deviation (m), Doppler (Hz).
    """
    source = -1
    for g in range(len(sat)):
        is_used = index[g] >= 0
        variance[g] = ephemeris_variance(kepler, glonass, time_ns, sat[g], index[g]) if is_used else 1.0
        for row in range(first[g], first[g + 1]):
            source += 1
            while not kept[source]:
                source += 1
            signal[row] = row_signal[source]
            rows[row, RANGE_M] = pseudorange_m[source] if is_used else np.nan
            rows[row, FREQUENCY_HZ], rows[row, CN0_DBHZ] = frequency_hz[source], cn0_dbhz[source]
            rows[row, DOPPLER_HZ] = doppler_hz[source]
            if is_used:
                rows[row, DELAY_M] = SPEED_OF_LIGHT_MPS * group_delay(kepler, glonass, index[g], signal[row])
                rows[row, DELAY_SIGMA_M] = delay_sigma(kepler, index[g], signal[row])


@part
def _range_rows(
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
        rows: (m, 6) of `_point_rows`.
        columns: (g + m,) of `_assign_columns`.
        klobuchar: (2, 8) parameters of GPS and BeiDou, NaN where not known.
        options: `MASK` and so on.
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
    axes, plane, tilt = np.empty((3, 3)), len(x) - len(_IONOSPHERE), np.zeros(3)
    mapping = np.empty(6)
    enu_axes(lat, lon, axes)
    niell_coefficients(time_ns, lat, mapping)
    dry, wet = zenith_troposphere(lat, height, _HUMIDITY)
    vertical = slant_ionosphere(time_ns, lat, lon, 0.0, 0.5 * math.pi, klobuchar[0], klobuchar[1])
    for row in range(len(signal)):
        sigma[row] = 0.0
        for i in range(len(x)):
            a[row, i] = 0.0
    for g in range(len(sat)):
        distance, ex, ey, ez = travel(states[g], x[0], x[1], x[2])
        azimuth, elevation = azimuth_elevation(axes, ex, ey, ez)
        sky[g, 0], sky[g, 1], sky[g, 2], sky[g, 3], sky[g, 4] = azimuth, elevation, ex, ey, ez
        ionosphere, troposphere = 0.0, 0.0
        common[g, 0], common[g, 1] = math.sqrt(variance[g]), 10.0
        if grounded and elevation >= options[MASK]:
            ionosphere = slant_ionosphere(time_ns, lat, lon, azimuth, elevation, klobuchar[0], klobuchar[1])
            common[g, 1] = _IRREGULAR * ionosphere + _IRREGULAR_M
            arc = pierce_angle(elevation)
            tilt[0] = vertical * ionosphere_mapping(elevation)
            tilt[1], tilt[2] = tilt[0] * arc * math.cos(azimuth), tilt[0] * arc * math.sin(azimuth)
            for k in range(3):
                ionosphere += tilt[k] * x[plane + k]
            dry_map, wet_map = niell_slant(mapping, max(height, 0.0), elevation)
            troposphere = dry * dry_map + wet * wet_map
            common[g, 0] = math.sqrt(variance[g] + (0.3 * wet * wet_map + 0.02) ** 2)
        elif grounded or math.isnan(distance):
            continue
        for row in range(first[g], first[g + 1]):
            if math.isnan(rows[row, RANGE_M]):
                continue
            mu[row] = (L1_HZ / rows[row, FREQUENCY_HZ]) ** 2
            a[row, 0], a[row, 1], a[row, 2], a[row, 3] = -ex, -ey, -ez, 1.0
            modelled = distance + troposphere + mu[row] * ionosphere + x[3]
            for column in (columns[g], columns[len(sat) + row]):
                if column > 3:
                    a[row, column] = 1.0
                    modelled += x[column]
            for k in range(3):
                a[row, plane + k] = mu[row] * tilt[k]
            measured = rows[row, RANGE_M] - rows[row, DELAY_M]
            if orbit[g, 0] > 0.0:
                measured += beidou2_code_bias(sat[g], orbit[g, 0], orbit[g, 1], signal[row], time_ns, elevation)
            y[row] = measured + SPEED_OF_LIGHT_MPS * states[g, 6] - modelled
            code = options[SIGMA_SCALE] * code_sigma(rows[row, CN0_DBHZ], elevation)
            sigma[row] = math.hypot(code, rows[row, DELAY_SIGMA_M]) if grounded else 10.0


@part
def _rate_rows(
    position_m: Float64Array, first: Int32Array, states: Float64Array, sky: Float64Array, rows: Float64Array,
    elevation_mask: float, a: Float64Array, y: Float64Array, sigma: Float64Array, common: Float64Array,
) -> int:  # fmt: skip
    """Write design, misclosure and noise of each Doppler; the unknowns are ECEF velocity and clock drift (m/s).

    Args:
        position_m: (3,) receiver.
        first: (g + 1,) first row of each satellite.
        states: (g, 8) satellites at emission.
        sky: (g, 5) of `_range_rows`.
        rows: (m, 6) of `_point_rows`.
        elevation_mask: Radians.
        a: (m, 4) and so on: what `robust_solve` takes; written.
        y: (m,).
        sigma: (m,).
        common: (g, 2).

    Returns:
        Number of satellites with Doppler.
    """
    satellites = 0
    for g in range(len(states)):
        common[g, 0], common[g, 1] = 0.02, 0.02
        count = 0
        ex, ey, ez = sky[g, 2], sky[g, 3], sky[g, 4]
        rate = range_rate(position_m, states[g], ex, ey, ez) - SPEED_OF_LIGHT_MPS * states[g, 7]
        for row in range(first[g], first[g + 1]):
            y[row], sigma[row] = np.nan, 0.0
            if math.isnan(rows[row, DOPPLER_HZ]) or math.isnan(rate) or sky[g, 1] < elevation_mask:
                continue
            count = 1
            a[row, 0], a[row, 1], a[row, 2], a[row, 3] = -ex, -ey, -ez, 1.0
            y[row] = -rows[row, DOPPLER_HZ] * SPEED_OF_LIGHT_MPS / rows[row, FREQUENCY_HZ] - rate
            sigma[row] = doppler_sigma(rows[row, CN0_DBHZ], sky[g, 1])
        satellites += count
    return satellites


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
        sky: (g, 5) of `_range_rows`.
        used: (g,) written: whether a satellite has a row that counts.
        dop: (4,) written: GDOP, PDOP, HDOP, VDOP of the satellites used, for one common clock; NaN: too few.
    """
    axes = np.empty((3, 3))
    lat, lon, height = geodetic_from_ecef(position_m[0], position_m[1], position_m[2])
    enu_axes(lat, lon, axes)
    normal, row = np.zeros((4, 4)), np.ones(4)
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
    dilute(normal, dop)
    return height
