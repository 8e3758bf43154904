"""Satellite positions, velocities and clocks from broadcast ephemerides.

A state is a row of eight: position (m) and velocity (m/s) in the Earth-fixed frame of the instant asked for, satellite
clock error (s, relativistic term included, group delay not) and its drift (s/s).

Sources: IS-GPS-200N tables 20-IV and 30-II, Galileo OS SIS ICD 2.1 section 5.1.1, BDS-SIS-ICD-B1I-3.0 table 5-11,
GLONASS ICD 5.1 appendix A.3.1.2 (fourth-order Runge-Kutta), RTCA DO-229 A.4.4.11 (SBAS).
"""

import math

import numpy as np

from solver.constants import (
    BEIDOU_GM_M3_S2,
    BEIDOU_OMEGA_E_RAD_S,
    GALILEO_GM_M3_S2,
    GLONASS_A_M,
    GLONASS_GM_M3_S2,
    GLONASS_J2,
    GLONASS_OMEGA_E_RAD_S,
    GPS_GM_M3_S2,
    GPS_OMEGA_E_RAD_S,
    SPEED_OF_LIGHT_MPS,
)
from solver.jit import kernel, part
from solver.kernels import Float64Array, Int16Array, Int32Array, Records
from solver.signals import BEIDOU, GALILEO, GLONASS, QZSS, SBAS

__all__ = [
    "AGE_LIMIT_S",
    "NO_EPHEMERIS",
    "UNHEALTHY",
    "ephemeris_variance",
    "glonass_state",
    "is_beidou_geo",
    "kepler_state",
    "satellite_states",
    "select_ephemerides",
    "travel",
]

NO_EPHEMERIS = -1
"""`select_ephemerides`: no ephemeris of the satellite is in its time of validity."""
UNHEALTHY = -2
"""`select_ephemerides`: the satellite says itself that it is not to be used."""

AGE_LIMIT_S = np.array([7200.0, 1830.0, 10800.0, 360.0, 7200.0, 21600.0, 7200.0])
"""Longest |t - toe| by system. GPS, QZSS: half the curve fit of 4 h; GLONASS: half of its hour, and the leap seconds;
Galileo: 3 h (of the OS SDD's 4 h: at its end orbits are 100 m off); BeiDou: 6 h, since stations relay it
rarely and it decays slowly."""
_MESSAGE_RANK = np.array([0, 1, 2, 0, 1, 0, 0, 1, 2, 3])
"""By `NavMessage`: LNAV before CNAV, I/NAV before F/NAV, D1/D2 before the B-CNAV family: what most signals refer to."""
_UNHEALTHY_MASK = np.array([0x3F, 0x4, 0x1, 0b111000111, 0b000111000, 0x1, 0x1, 0x3, 0x3, 0x3])
"""By `NavMessage`: the bits of the health word that speak of the message's own signals. Galileo's word is RINEX's:
I/NAV answers for E1 and E5b, F/NAV for E5a. CNAV flags L2 and L5 while they are pre-operational: L1 alone counts."""
_QZSS_HEALTH_MASK = 0x3E
"""QZSS sets the lowest LNAV bit for L6 or L1C/B, which says nothing about the other signals (IS-QZSS-PNT 4.1.2.3)."""
_GLONASS_HEALTH_MASK = 0xFFFD
"""l_n (bit 1) does not count beside B_n: a Trimble NETR9's 1020 has it set for sound satellites, as RTKLIB and other
receivers of the same minute show."""
_ACCURACY_LIMIT_M = 100.0
"""URA beyond which a satellite is as good as unhealthy (URA index 10 and up)."""
_SIN_GEO, _COS_GEO = math.sin(math.radians(-5.0)), math.cos(math.radians(-5.0))
_RK4_STEP_S = 60.0


@part
def is_beidou_geo(sqrt_a: float, i0: float) -> bool:
    """Whether a BeiDou ephemeris is a geostationary one: high as an IGSO's, but with an inclination near zero.

    The number of the satellite does not tell: PRNs were re-used (C59 to C62 are GEOs, C01 to C05 may change).
    """
    return sqrt_a > 6000.0 and abs(i0) < 0.3


@part
def kepler_state(eph: Records, row: int, time_ns: int, offset_s: float, out: Float64Array) -> None:
    """Write the state (8,) at `time_ns + offset_s` (GPST) from a Keplerian ephemeris; velocity by the closed form."""
    system = eph[row].sat // 64
    mu = GPS_GM_M3_S2
    omega_e = GPS_OMEGA_E_RAD_S
    if system == GALILEO:
        mu = GALILEO_GM_M3_S2
    elif system == BEIDOU:
        mu = BEIDOU_GM_M3_S2
        omega_e = BEIDOU_OMEGA_E_RAD_S
    tk = (time_ns - eph[row].toe_ns) * 1e-9 + offset_s
    e = eph[row].e
    a0 = eph[row].sqrt_a * eph[row].sqrt_a
    a = a0 + eph[row].a_dot * tk
    mean_motion = math.sqrt(mu / (a0 * a0 * a0)) + eph[row].delta_n + 0.5 * eph[row].delta_n_dot * tk
    mean_anomaly = eph[row].m0 + mean_motion * tk
    ecc = mean_anomaly
    for _ in range(20):
        step = (mean_anomaly - ecc + e * math.sin(ecc)) / (1.0 - e * math.cos(ecc))
        ecc += step
        if abs(step) < 1e-14:
            break
    sin_ecc, cos_ecc = math.sin(ecc), math.cos(ecc)
    ecc_rate = (mean_motion + 0.5 * eph[row].delta_n_dot * tk) / (1.0 - e * cos_ecc)
    root = math.sqrt(1.0 - e * e)
    phi = math.atan2(root * sin_ecc, cos_ecc - e) + eph[row].omega
    phi_rate = root * ecc_rate / (1.0 - e * cos_ecc)
    sin_2phi, cos_2phi = math.sin(2.0 * phi), math.cos(2.0 * phi)
    u = phi + eph[row].cus * sin_2phi + eph[row].cuc * cos_2phi
    u_rate = phi_rate * (1.0 + 2.0 * (eph[row].cus * cos_2phi - eph[row].cuc * sin_2phi))
    r = a * (1.0 - e * cos_ecc) + eph[row].crs * sin_2phi + eph[row].crc * cos_2phi
    r_rate = (
        eph[row].a_dot * (1.0 - e * cos_ecc)
        + a * e * sin_ecc * ecc_rate
        + 2.0 * phi_rate * (eph[row].crs * cos_2phi - eph[row].crc * sin_2phi)
    )
    i = eph[row].i0 + eph[row].i_dot * tk + eph[row].cis * sin_2phi + eph[row].cic * cos_2phi
    i_rate = eph[row].i_dot + 2.0 * phi_rate * (eph[row].cis * cos_2phi - eph[row].cic * sin_2phi)
    geo = system == BEIDOU and is_beidou_geo(eph[row].sqrt_a, eph[row].i0)
    node_rate = eph[row].omega_dot if geo else eph[row].omega_dot - omega_e
    node = eph[row].omega0 + node_rate * tk - omega_e * eph[row].toe_s
    _rotate_orbit(r, r_rate, u, u_rate, i, i_rate, node, node_rate, out)
    if geo:
        _rotate_geo(omega_e, tk, out)
    _kepler_clock(eph, row, time_ns, offset_s, out)
    relativistic = -2.0 * math.sqrt(mu * a) * e / (SPEED_OF_LIGHT_MPS * SPEED_OF_LIGHT_MPS)
    out[6] += relativistic * sin_ecc
    out[7] += relativistic * cos_ecc * ecc_rate


@part
def _rotate_orbit(
    r: float, r_rate: float, u: float, u_rate: float, i: float, i_rate: float, node: float, node_rate: float,
    out: Float64Array,
) -> None:  # fmt: skip
    """Turn argument of latitude, inclination and node, with their rates, into position and velocity."""
    sin_u, cos_u = math.sin(u), math.cos(u)
    sin_i, cos_i = math.sin(i), math.cos(i)
    sin_n, cos_n = math.sin(node), math.cos(node)
    x, y = r * cos_u, r * sin_u
    x_rate, y_rate = r_rate * cos_u - y * u_rate, r_rate * sin_u + x * u_rate
    out[0] = x * cos_n - y * cos_i * sin_n
    out[1] = x * sin_n + y * cos_i * cos_n
    out[2] = y * sin_i
    across = y_rate * cos_i - y * sin_i * i_rate
    out[3] = x_rate * cos_n - across * sin_n - out[1] * node_rate
    out[4] = x_rate * sin_n + across * cos_n + out[0] * node_rate
    out[5] = y_rate * sin_i + y * cos_i * i_rate


@part
def _rotate_geo(omega_e: float, tk: float, out: Float64Array) -> None:
    """Apply R_z(omega_e tk) R_x(-5 deg) of BDS-SIS-ICD-B1I table 5-11 to position and velocity."""
    sin_z, cos_z = math.sin(omega_e * tk), math.cos(omega_e * tk)
    for first in (0, 3):
        x = out[first]
        y = out[first + 1] * _COS_GEO + out[first + 2] * _SIN_GEO
        z = -out[first + 1] * _SIN_GEO + out[first + 2] * _COS_GEO
        out[first] = x * cos_z + y * sin_z
        out[first + 1] = -x * sin_z + y * cos_z
        out[first + 2] = z
    out[3] += omega_e * out[1]
    out[4] -= omega_e * out[0]


@part
def _kepler_clock(eph: Records, row: int, time_ns: int, offset_s: float, out: Float64Array) -> None:
    """Write the clock polynomial and its rate, without relativity."""
    dt = (time_ns - eph[row].toc_ns) * 1e-9 + offset_s
    out[6] = eph[row].af0 + dt * (eph[row].af1 + dt * eph[row].af2)
    out[7] = eph[row].af1 + 2.0 * dt * eph[row].af2


@part
def glonass_state(eph: Records, row: int, time_ns: int, offset_s: float, out: Float64Array) -> None:
    """Write the state (8,) at `time_ns + offset_s` (GPST) from a state vector.

    GLONASS: Runge-Kutta steps of at most 60 s from toe. SBAS: the parabola that its message stands for.
    """
    dt = (time_ns - eph[row].toe_ns) * 1e-9 + offset_s
    acceleration = eph[row].acceleration_mps2
    for axis in range(3):
        out[axis] = eph[row].position_m[axis]
        out[3 + axis] = eph[row].velocity_mps[axis]
    out[6] = eph[row].clock_bias_s + eph[row].clock_drift * dt
    out[7] = eph[row].clock_drift
    if eph[row].sat // 64 == SBAS:
        for axis in range(3):
            out[axis] += dt * (out[3 + axis] + 0.5 * dt * acceleration[axis])
            out[3 + axis] += dt * acceleration[axis]
        return
    steps = math.ceil(abs(dt) / _RK4_STEP_S)
    for _ in range(steps):
        _runge_kutta_step(out, acceleration, dt / steps)


@part
def _runge_kutta_step(state: Float64Array, acceleration: Float64Array, h: float) -> None:
    """Advance position and velocity by one classical fourth-order Runge-Kutta step of h seconds."""
    trial = np.empty(6)
    slope = np.empty(6)
    total = np.zeros(6)
    for stage in range(4):
        reach = 0.0 if stage == 0 else (h if stage == 3 else 0.5 * h)
        share = h / 3.0 if stage in (1, 2) else h / 6.0
        for k in range(6):
            trial[k] = state[k] + (reach * slope[k] if stage > 0 else 0.0)
        _glonass_motion(trial, acceleration, slope)
        for k in range(6):
            total[k] += share * slope[k]
    for k in range(6):
        state[k] += total[k]


@part
def _glonass_motion(state: Float64Array, luni_solar: Float64Array, rate: Float64Array) -> None:
    """Right-hand side of the equations of motion in PZ-90, GLONASS ICD 5.1 appendix A.3.1.2 (Earth-fixed axes)."""
    x, y, z = state[0], state[1], state[2]
    r2 = x * x + y * y + z * z
    central = GLONASS_GM_M3_S2 / (r2 * math.sqrt(r2))
    j2 = 1.5 * GLONASS_J2 * central * GLONASS_A_M * GLONASS_A_M / r2
    z2 = 5.0 * z * z / r2
    omega = GLONASS_OMEGA_E_RAD_S
    horizontal = -central - j2 * (1.0 - z2) + omega * omega
    for axis in range(3):
        rate[axis] = state[3 + axis]
    rate[3] = horizontal * x + 2.0 * omega * state[4] + luni_solar[0]
    rate[4] = horizontal * y - 2.0 * omega * state[3] + luni_solar[1]
    rate[5] = (-central - j2 * (3.0 - z2)) * z + luni_solar[2]


@kernel
def select_ephemerides(kepler: Records, glonass: Records, time_ns: int, sat: Int16Array, index: Int32Array) -> None:
    """Choose for each satellite the ephemeris that fits an instant best.

    Args:
        kepler: Records of `KEPLER`, ordered by satellite, then toe.
        glonass: Records of `GLONASS_STATE`, ordered alike.
        time_ns: The instant, GPST.
        sat: (n,) satellites.
        index: (n,) written: row of `kepler`, or of `glonass` for the systems R and S; `NO_EPHEMERIS` or `UNHEALTHY`.
    """
    for k in range(len(sat)):
        system = sat[k] // 64
        if system == GLONASS or system == SBAS:
            index[k] = _nearest_vector(glonass, time_ns, sat[k])
        else:
            index[k] = _nearest_kepler(kepler, time_ns, sat[k])


@part
def _lower_bound(eph: Records, sat: int, toe_ns: int) -> int:
    """First row that is not before (sat, toe)."""
    low, high = 0, len(eph)
    while low < high:
        middle = (low + high) // 2
        if eph[middle].sat < sat or (eph[middle].sat == sat and eph[middle].toe_ns < toe_ns):
            low = middle + 1
        else:
            high = middle
    return low


@part
def _nearest_kepler(eph: Records, time_ns: int, sat: int) -> int:
    """Row of the preferred message nearest in time; among equals the one that came last."""
    system = sat // 64
    limit_ns = int(AGE_LIMIT_S[system] * 1e9)
    best, best_rank, best_age = NO_EPHEMERIS, 99, limit_ns
    row = _lower_bound(eph, sat, time_ns - limit_ns)
    while row < len(eph) and eph[row].sat == sat and eph[row].toe_ns <= time_ns + limit_ns:
        age = abs(time_ns - eph[row].toe_ns)
        rank = _MESSAGE_RANK[eph[row].message]
        if rank < best_rank or (rank == best_rank and age <= best_age):
            best, best_rank, best_age = row, rank, age
        row += 1
    if best >= 0:
        mask = _QZSS_HEALTH_MASK if system == QZSS and eph[best].message == 0 else _UNHEALTHY_MASK[eph[best].message]
        if eph[best].health & mask or eph[best].accuracy_m > _ACCURACY_LIMIT_M:
            return UNHEALTHY
    return best


@part
def _nearest_vector(eph: Records, time_ns: int, sat: int) -> int:
    """Row of the state vector nearest in time; among equals the one that came last."""
    limit_ns = int(AGE_LIMIT_S[sat // 64] * 1e9)
    best, best_age = NO_EPHEMERIS, limit_ns
    row = _lower_bound(eph, sat, time_ns - limit_ns)
    while row < len(eph) and eph[row].sat == sat and eph[row].toe_ns <= time_ns + limit_ns:
        age = abs(time_ns - eph[row].toe_ns)
        if age <= best_age:
            best, best_age = row, age
        row += 1
    if best >= 0 and (eph[best].health & _GLONASS_HEALTH_MASK or eph[best].accuracy_m > _ACCURACY_LIMIT_M):
        return UNHEALTHY
    return best


@kernel
def satellite_states(
    kepler: Records, glonass: Records, time_ns: int, sat: Int16Array, index: Int32Array, pseudorange_m: Float64Array,
    states: Float64Array,
) -> None:  # fmt: skip
    """Write the state of each satellite at the instant it emitted what a receiver measured.

    A pseudorange tells the satellite's own clock at emission exactly, whatever the receiver's clock error:
    t_emission = time tag - pseudorange / c - satellite clock error (IS-GPS-200N section 20.3.3.3.3.1).

    Args:
        kepler: Records of `KEPLER`.
        glonass: Records of `GLONASS_STATE`.
        time_ns: Receiver's time tag, GPST.
        sat: (n,) satellites.
        index: (n,) rows as `select_ephemerides` chose them; negative: the state is NaN.
        pseudorange_m: (n,) any pseudorange of each satellite; NaN: the state is NaN.
        states: (n, 8) written, in the Earth-fixed frame of the emission.
    """
    for k in range(len(sat)):
        if index[k] < 0 or math.isnan(pseudorange_m[k]):
            states[k, :] = np.nan
            continue
        row = index[k]
        offset_s = -pseudorange_m[k] / SPEED_OF_LIGHT_MPS
        system = sat[k] // 64
        if system == GLONASS or system == SBAS:
            dt = (time_ns - glonass[row].toe_ns) * 1e-9 + offset_s
            clock = glonass[row].clock_bias_s + glonass[row].clock_drift * dt
            glonass_state(glonass, row, time_ns, offset_s - clock, states[k])
        else:
            _kepler_clock(kepler, row, time_ns, offset_s, states[k])
            kepler_state(kepler, row, time_ns, offset_s - states[k, 6], states[k])


@kernel
def travel(state: Float64Array, x_m: float, y_m: float, z_m: float) -> tuple[float, float, float, float]:
    """Range and unit vector from a receiver to a satellite, the Earth's turn during the flight (Sagnac) included.

    Args:
        state: (8,) satellite in the frame of emission.
        x_m: Receiver in the frame of reception, ECEF.
        y_m: The same.
        z_m: The same.

    Returns:
        Range (m), and the unit vector towards the satellite in the frame of reception.
    """
    sx, sy = state[0], state[1]
    dz = state[2] - z_m
    distance = math.sqrt((sx - x_m) ** 2 + (sy - y_m) ** 2 + dz * dz)
    for _ in range(2):
        angle = GPS_OMEGA_E_RAD_S * distance / SPEED_OF_LIGHT_MPS
        sin_a, cos_a = math.sin(angle), math.cos(angle)
        dx = sx * cos_a + sy * sin_a - x_m
        dy = sy * cos_a - sx * sin_a - y_m
        distance = math.sqrt(dx * dx + dy * dy + dz * dz)
    return distance, dx / distance, dy / distance, dz / distance


_RANGE_ERROR_M = np.array([0.6, 2.0, 0.3, 2.0, 0.7, 0.8, 1.0])
"""Error of a range by broadcast orbit and clock as satellites have it by system, RMS (Montenbruck et al. 2018, GPS
Solutions 22:20, table 3; BeiDou: BDS-3's with a margin for BDS-2; SBAS, NavIC: not known so well)."""
_GEO_ERROR_M = 2.0
_USUAL_PROMISE_M = np.array([2.8, 5.0, 3.12, 4.0, 4.0, 2.0, 2.8])
"""Accuracy that the system's healthy satellites promise: URA index 1, Galileo's one SISA, BeiDou's URAI 0."""


@kernel
def ephemeris_variance(kepler: Records, glonass: Records, time_ns: int, sat: int, row: int) -> float:
    """Variance (m^2) of a range due to the broadcast orbit and clock.

    What a system promises bounds its error by ten times or by two, as the system likes, so it only tells that a
    satellite is worse than usual: its constellation's own error grows in proportion. Past half of its validity an orbit
    decays with the square of time, to about 10 m at the limit.
    """
    system = sat // 64
    if system == GLONASS or system == SBAS:
        promised, age = glonass[row].accuracy_m, abs(time_ns - glonass[row].toe_ns) * 1e-9
        usual = _RANGE_ERROR_M[system]
    else:
        promised, age = kepler[row].accuracy_m, abs(time_ns - kepler[row].toe_ns) * 1e-9
        is_geo = system == BEIDOU and is_beidou_geo(kepler[row].sqrt_a, kepler[row].i0)
        usual = _GEO_ERROR_M if is_geo else _RANGE_ERROR_M[system]
    if promised > _USUAL_PROMISE_M[system]:  # not so where none is promised, which is NaN
        usual *= promised / _USUAL_PROMISE_M[system]
    late = 10.0 * max(0.0, 2.0 * age / AGE_LIMIT_S[system] - 1.0) ** 2
    return float(usual * usual + late * late)
