"""Rows of the code-differential filter: what a receiver should measure, and what it does beyond that."""

import math

import numpy as np

from solver.constants import SPEED_OF_LIGHT_MPS
from solver.jit import kernel, part
from solver.kernels import Bools, Float64Array, Int16Array, Int32Array, Int64Array
from solver.kernels.atmosphere import L1_HZ, niell_coefficients, niell_slant, zenith_troposphere
from solver.kernels.geodesy import elevation_of, enu_axes, geodetic_from_ecef
from solver.kernels.orbit import travel
from solver.kernels.spp import range_rate
from solver.signals import BAND, GLONASS, PRN_PER_SYSTEM, SIGNAL_COUNT

__all__ = ["advance_trail", "code_rows", "differences", "match_keys", "model_ranges", "motion_rows"]

RANGE, RATE, SIGHT, ELEVATION = 0, 1, 2, 5
"""Columns of `model_ranges`: range, range rate, unit vector (three), elevation."""
PSEUDORANGE_M, PHASE_CYCLES, DOPPLER_HZ, FREQUENCY_HZ, CN0_DBHZ, LOCKED_S = range(6)
"""Columns of what is observed; the lock time is -1 after a slip."""
CODE_M, PHASE_M, RATE_MPS, NOISE, MU, LOCK_S, BASE_LOCK_S = range(7)
"""Columns of `differences`."""
MOTION_UNKNOWNS, PHASE_DRIFT, DOPPLER_DRIFT = 5, 3, 4
"""Unknowns of the motion: velocity, clock drifts."""
CLOCK, CODE_BIASES = 3, 4
"""Unknowns of the codes: position, clock, biases."""
BASE_SIGMA_M = 0.15
GLONASS_SIGMA_M = 1.5
"""Delays of codes differ from channel to channel: by 1.4 m RMS of 19 satellites between two u-blox M8P. They stay."""
_HUMIDITY = 0.5
_ELEVATION_MIN = 0.1


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
    axes, mapping = np.empty((3, 3)), np.empty(6)
    enu_axes(lat, lon, axes)
    niell_coefficients(time_ns, lat, mapping)
    dry, wet = zenith_troposphere(lat, height, _HUMIDITY)
    for g in range(len(states)):
        out[g, :] = np.nan
        if math.isnan(states[g, 0]):
            continue
        distance, ex, ey, ez = travel(states[g], position_m[0], position_m[1], position_m[2])
        elevation = elevation_of(axes, ex, ey, ez)
        dry_map, wet_map = niell_slant(mapping, max(height, 0.0), elevation)
        out[g, 0] = distance + dry * dry_map + wet * wet_map - SPEED_OF_LIGHT_MPS * states[g, 6]
        out[g, 1] = range_rate(position_m, states[g], ex, ey, ez) - SPEED_OF_LIGHT_MPS * states[g, 7]
        out[g, 2], out[g, 3], out[g, 4], out[g, 5] = ex, ey, ez, elevation


@part
def match_keys(
    row_key: Int64Array, signal: Int16Array, key: Int64Array, same_band: bool, match: Int64Array
) -> None:  # fmt: skip
    """Write for each row the place of its satellite and signal among keys in order; -1: none.

    With `same_band`, a row that is not there takes the first signal of the same satellite and band.
    """
    low = 0
    for row in range(len(row_key)):
        of_satellite = row_key[row] - signal[row]
        while low < len(key) and key[low] < of_satellite:
            low += 1
        match[row] = -1
        near = -1
        place = low
        while place < len(key) and key[place] < of_satellite + SIGNAL_COUNT:
            other = key[place] - of_satellite
            if other == signal[row]:
                match[row] = place
                break
            if near < 0 and BAND[other] == BAND[signal[row]]:
                near = place
            place += 1
        if match[row] < 0 and same_band:
            match[row] = near


@part
def differences(
    first: Int32Array, match: Int64Array, model: Float64Array, base: Float64Array, observed: Float64Array,
    out: Float64Array,
) -> None:  # fmt: skip
    """Write what a rover's rows measure beyond the base's corrections and the model.

    Args:
        first: (g + 1,) first row of each satellite.
        match: (m,) place of each row's corrections; -1: none.
        model: (g, 6) of `model_ranges` at the rover.
        base: (k, 3) corrections of code and phase (m), lock time (s).
        observed: (m, 6) of what is observed.
        out: (m, 7) written: code less correction and range (m), phase less correction (m), range rate less the
            satellite's (m/s), noise by C/N0 (1 at 48 dB-Hz, Hartinger & Brunner 1999), the ionosphere's factor against
            L1, lock time (s; below zero after a slip), the base's. NaN where there is none.
    """
    for g in range(len(model)):
        for row in range(first[g], first[g + 1]):
            wavelength = SPEED_OF_LIGHT_MPS / observed[row, FREQUENCY_HZ]
            code, phase, lock = np.nan, np.nan, np.nan
            if match[row] >= 0:
                code, phase, lock = base[match[row], 0], base[match[row], 1], base[match[row], 2]
            out[row, CODE_M] = observed[row, PSEUDORANGE_M] - code - model[g, RANGE]
            out[row, PHASE_M] = observed[row, PHASE_CYCLES] * wavelength - phase
            out[row, RATE_MPS] = -observed[row, DOPPLER_HZ] * wavelength - model[g, RATE]
            told = observed[row, CN0_DBHZ]
            strength = min(max(told if told > 0.0 else 42.0, 15.0), 55.0)
            out[row, NOISE] = 10.0 ** ((48.0 - strength) / 20.0)
            out[row, MU] = (L1_HZ / observed[row, FREQUENCY_HZ]) ** 2
            out[row, LOCK_S] = observed[row, LOCKED_S]
            out[row, BASE_LOCK_S] = lock


@part
def motion_rows(
    first: Int32Array, model: Float64Array, rows: Float64Array, usable: Bools, before: Int64Array, trail: Float64Array,
    velocity_mps: Float64Array, times: Float64Array, a: Float64Array, y: Float64Array, sigma: Float64Array,
    common: Float64Array,
) -> None:  # fmt: skip
    """Write the rows of the motion since the last epoch: time-differenced carriers, then Doppler.

    Args:
        first: (2 g + 1,) first row of each satellite, of the carriers and then of Doppler.
        model: (g, 6) of `model_ranges`.
        rows: (m, 7) of `differences`.
        usable: (m,).
        before: (m,) place of each row in the trail; -1: none.
        trail: (k, 2) phase and range rate of the last epoch, as `advance_trail` writes them.
        velocity_mps: (3,) that was expected.
        times: Seconds since the last epoch; least lock times of rover and base (s); acceleration (m/s^2, 1 sigma).
        a: (2 m, MOTION_UNKNOWNS) written.
        y: (2 m,) written.
        sigma: (2 m,) written; 0: not to be used.
        common: (2 g, 2) written.
    """
    dt, acceleration = times[0], times[3]
    m, g_count = len(rows), len(model)
    for g in range(g_count):
        common[g, 0], common[g, 1] = 0.005 + 0.001 * dt, 1e-3
        common[g_count + g, 0], common[g_count + g, 1] = 0.03, 1e-3
        for row in range(first[g], first[g + 1]):
            rate, old_rate = rows[row, RATE_MPS], np.nan
            if not model[g, ELEVATION] > _ELEVATION_MIN:
                rate = np.nan
            y[row] = np.nan
            if before[row] >= 0:
                old_rate = trail[before[row], 1]
                held = usable[row] and rows[row, LOCK_S] >= times[1] and rows[row, BASE_LOCK_S] >= times[2]
                if held:
                    y[row] = rows[row, PHASE_M] - trail[before[row], 0] - model[g, RANGE]
            lag = 0.5 * acceleration * dt
            if math.isfinite(old_rate) and math.isfinite(rate):
                rate, lag = 0.5 * (rate + old_rate), 0.1 * acceleration * dt
            y[m + row] = rate
            for axis in range(3):
                sight = -model[g, SIGHT + axis]
                a[row, axis], a[m + row, axis] = sight * dt, sight
                y[m + row] -= sight * velocity_mps[axis]
            a[row, PHASE_DRIFT], a[row, DOPPLER_DRIFT] = dt, 0.0
            a[m + row, PHASE_DRIFT], a[m + row, DOPPLER_DRIFT] = 0.0, 1.0
            sigma[row] = 0.0 if math.isnan(y[row]) else 0.012 * rows[row, NOISE] + 0.003 * dt
            sigma[m + row] = 0.0 if math.isnan(y[m + row]) else math.hypot(0.05 * rows[row, NOISE], lag)


@part
def code_rows(
    sat: Int16Array, first: Int32Array, model: Float64Array, rows: Float64Array, usable: Bools, place: Int64Array,
    bias_m: Float64Array, how: Float64Array, a: Float64Array, y: Float64Array, sigma: Float64Array,
    common: Float64Array,
) -> None:  # fmt: skip
    """Write the rows of the codes.

    Args:
        sat: (g,) satellites.
        first: (g + 1,) first row of each.
        model: (g, 6) of `model_ranges`.
        rows: (m, 7) of `differences`.
        usable: (m,).
        place: (m,) which bias is each row's; -1: none.
        bias_m: (b,) values that the biases' unknowns are corrections of.
        how: Age of the corrections (s), distance to the base (m), factor of the codes' standard deviation, and of what
            GLONASS's channels differ by.
        a: (m, CODE_BIASES + b) written where not zero.
        y: (m,) written.
        sigma: (m,) written; 0: not to be used.
        common: (g, 2) written.
    """
    for g in range(len(sat)):
        sine = math.sin(_ELEVATION_MIN)
        if model[g, ELEVATION] > _ELEVATION_MIN:
            sine = math.sin(model[g, ELEVATION])
        glonass = GLONASS_SIGMA_M * how[3] if sat[g] // PRN_PER_SYSTEM == GLONASS else 0.0
        common[g, 0] = math.hypot(0.15 / sine, 0.01 * how[0]) + glonass + 2e-6 * how[1]
        common[g, 1] = 1e-3 + 2e-6 * how[1]
        for row in range(first[g], first[g + 1]):
            for axis in range(3):
                a[row, axis] = -model[g, SIGHT + axis]
            a[row, CLOCK] = 1.0
            a[row, CODE_BIASES + max(place[row], 0)] = 1.0
            y[row] = rows[row, CODE_M] - (bias_m[place[row]] if place[row] >= 0 else 0.0)
            code = 0.3 * math.hypot(1.0 / sine, rows[row, NOISE]) * how[2]
            sigma[row] = math.hypot(code, BASE_SIGMA_M / sine) if usable[row] else 0.0


@part
def advance_trail(first: Int32Array, model: Float64Array, rows: Float64Array, trail: Float64Array) -> None:
    """Write what is kept of an epoch (m, 2) for the next: phase less the range to where the rover was, range rate."""
    for g in range(len(model)):
        for row in range(first[g], first[g + 1]):
            trail[row, 0], trail[row, 1] = rows[row, PHASE_M] - model[g, RANGE], rows[row, RATE_MPS]
