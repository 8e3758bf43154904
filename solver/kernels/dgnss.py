"""Rows of the code-differential filter: what a receiver should measure, and what it does beyond that.

What is known of a rover is its position (three; m), the mean velocity since the last epoch (`VELOCITY`; m/s) and, from
`BIASES` on, a bias (m) for each signal. An update solves for those of them that its rows observe, and for clocks of
which nothing is known before: carriers and Doppler for the velocity and a drift each, codes for position, clock and
biases. The others follow by their covariance with these, exactly as if they had been solved for too.
"""

import math

import numpy as np
from numpy.typing import NDArray

from solver.constants import SPEED_OF_LIGHT_MPS
from solver.jit import kernel
from solver.kernels import Bools, Float32Array, Float64Array, Int16Array, Int32Array
from solver.kernels.atmosphere import L1_HZ, niell_mapping, zenith_troposphere
from solver.kernels.geodesy import azimuth_elevation, enu_axes, geodetic_from_ecef
from solver.kernels.linalg import cholesky, cholesky_inverse
from solver.kernels.orbit import travel
from solver.kernels.spp import range_rate
from solver.model import SLIP
from solver.signals import BAND, GLONASS, PRN_PER_SYSTEM, SIGNAL_COUNT

__all__ = [
    "RANGE",
    "RATE",
    "SIGHT",
    "absorb",
    "advance_trail",
    "code_rows",
    "correct",
    "differences",
    "inform",
    "match_keys",
    "model_ranges",
    "motion_rows",
    "predict",
    "rate_weights",
]

Int64Array = NDArray[np.int64]

RANGE, RATE, SIGHT, ELEVATION = 0, 1, 2, 5
"""Columns of `model_ranges`: range, range rate, unit vector (three), elevation."""
CODE_M, PHASE_M, RATE_MPS, NOISE, MU, LOCK_S, BASE_LOCK_S = range(7)
"""Columns of `differences`."""
VELOCITY, BIASES = 3, 6
"""Places in what is known; the position is the first three."""
MOTION_UNKNOWNS, PHASE_DRIFT, DOPPLER_DRIFT = 5, 3, 4
"""Unknowns of the motion: velocity, clock drifts."""
CLOCK, CODE_BIASES = 3, 4
"""Unknowns of the codes: position, clock, biases."""
BIAS_M, BIAS_DRIFT_M = 300.0, 0.01
"""A receiver's bias of one signal against another: what is known before, and how it wanders in a second."""
BASE_SIGMA_M = 0.15
_NOTHING = 1e12
"""Variance of a clock before an epoch."""
_HUMIDITY = 0.5
_ELEVATION_MIN = 0.1
_COUNTS = 0.3
"""A satellite is in a solution by a row that has more than this of its weight left."""


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


@kernel
def correct(
    sat: Int16Array, first: Int32Array, signal: Int16Array, model: Float64Array, elevation_mask: float,
    frequency_hz: Float64Array, pseudorange_m: Float64Array, phase_cycles: Float64Array, lock_s: Float32Array,
    flags: NDArray[np.uint8], key: Int64Array, rows: Float64Array,
) -> int:  # fmt: skip
    """Write key and corrections of a base's rows above a mask; their number is returned.

    Args:
        sat: (g,) satellites.
        first: (g + 1,) first row of each.
        signal: (m,) and so on: columns of the epoch.
        model: (g, 6) of `model_ranges` at the base.
        elevation_mask: Radians.
        frequency_hz: (m,).
        pseudorange_m: (m,).
        phase_cycles: (m,).
        lock_s: (m,).
        flags: (m,).
        key: (m,) written: satellite and signal as one number.
        rows: (m, 3) written: code and phase less the model (m), lock time (s; 0 after a slip).
    """
    count = 0
    for g in range(len(sat)):
        if not model[g, ELEVATION] > elevation_mask:
            continue
        for row in range(first[g], first[g + 1]):
            key[count] = np.int64(sat[g]) * SIGNAL_COUNT + signal[row]
            rows[count, 0] = pseudorange_m[row] - model[g, RANGE]
            rows[count, 1] = phase_cycles[row] * (SPEED_OF_LIGHT_MPS / frequency_hz[row]) - model[g, RANGE]
            rows[count, 2] = 0.0 if flags[row] & SLIP else np.float64(lock_s[row])
            count += 1
    return count


@kernel
def match_keys(sat: Int16Array, signal: Int16Array, key: Int64Array, same_band: bool, match: Int64Array) -> None:
    """Write for each row the place of its satellite and signal among keys in order; -1: none.

    With `same_band`, a row that is not there takes the first signal of the same satellite and band.
    """
    low = 0
    for row in range(len(sat)):
        of_satellite = np.int64(sat[row]) * SIGNAL_COUNT
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


@kernel
def differences(
    first: Int32Array, match: Int64Array, model: Float64Array, base: Float64Array, frequency_hz: Float64Array,
    pseudorange_m: Float64Array, phase_cycles: Float64Array, doppler_hz: Float64Array, cn0_dbhz: Float32Array,
    lock_s: Float32Array, flags: NDArray[np.uint8], out: Float64Array,
) -> None:  # fmt: skip
    """Write what a rover's rows measure beyond the base's corrections and the model.

    Args:
        first: (g + 1,) first row of each satellite.
        match: (m,) place of each row's corrections; -1: none.
        model: (g, 6) of `model_ranges` at the rover.
        base: (k, 3) corrections of code and phase (m), lock time (s).
        frequency_hz: (m,) and so on: columns of the epoch.
        pseudorange_m: (m,).
        phase_cycles: (m,).
        doppler_hz: (m,).
        cn0_dbhz: (m,).
        lock_s: (m,).
        flags: (m,).
        out: (m, 7) written: code less correction and range (m), phase less correction (m), range rate less the
            satellite's (m/s), noise by C/N0 (1 at 48 dB-Hz, Hartinger & Brunner 1999), the ionosphere's factor against
            L1, lock time (s; below zero after a slip), the base's. NaN where there is none.
    """
    for g in range(len(model)):
        for row in range(first[g], first[g + 1]):
            wavelength = SPEED_OF_LIGHT_MPS / frequency_hz[row]
            code, phase, lock = np.nan, np.nan, np.nan
            if match[row] >= 0:
                code, phase, lock = base[match[row], 0], base[match[row], 1], base[match[row], 2]
            out[row, CODE_M] = pseudorange_m[row] - code - model[g, RANGE]
            out[row, PHASE_M] = phase_cycles[row] * wavelength - phase
            out[row, RATE_MPS] = -doppler_hz[row] * wavelength - model[g, RATE]
            told = np.float64(cn0_dbhz[row])
            strength = min(max(told if told > 0.0 else 42.0, 15.0), 55.0)
            out[row, NOISE] = 10.0 ** ((48.0 - strength) / 20.0)
            out[row, MU] = (L1_HZ / frequency_hz[row]) ** 2
            out[row, LOCK_S] = -1.0 if flags[row] & SLIP else np.float64(lock_s[row])
            out[row, BASE_LOCK_S] = lock


@kernel
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


@kernel
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
        how: Age of the corrections (s), distance to the base (m), factor of the codes' standard deviation.
        a: (m, CODE_BIASES + b) written where not zero.
        y: (m,) written.
        sigma: (m,) written; 0: not to be used.
        common: (g, 2) written.
    """
    for g in range(len(sat)):
        sine = math.sin(_ELEVATION_MIN)
        if model[g, ELEVATION] > _ELEVATION_MIN:
            sine = math.sin(model[g, ELEVATION])
        glonass = 0.5 if sat[g] // PRN_PER_SYSTEM == GLONASS else 0.0
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


@kernel
def predict(
    old: Float64Array, dt_s: float, acceleration_mps2: float, known: bool, fresh: bool, covariance: Float64Array
) -> None:
    """Write the covariance (n, n) of what is known before an epoch.

    Args:
        old: (k, k) the same after the last epoch, with the biases of that time, at least one.
        dt_s: Since the last epoch.
        acceleration_mps2: Standard deviation of the change of velocity in a second.
        known: Whether there was a last epoch.
        fresh: Whether the position is to be found anew; biases are kept.
        covariance: Written.
    """
    for i in range(len(covariance)):
        for j in range(len(covariance)):
            covariance[i, j] = 0.0
        covariance[i, i] = 1e6 if i < VELOCITY else 50.0**2 if i < BIASES else BIAS_M * BIAS_M
    covariance[BIASES, BIASES] = 1e-6  # the reference signal's
    if not known:
        return
    for i in range(len(old)):
        for j in range(len(old)):
            if fresh and (i < BIASES or j < BIASES):
                continue
            value = old[i, j]
            if i < 3:
                value += dt_s * old[i + VELOCITY, j]
            if j < 3:
                value += dt_s * old[i, j + VELOCITY]
            if i < 3 and j < 3:
                value += dt_s * dt_s * old[i + VELOCITY, j + VELOCITY]
            covariance[i, j] = value
    for k in range(BIASES, len(old)):
        covariance[k, k] += BIAS_DRIFT_M * BIAS_DRIFT_M * dt_s
    if fresh:
        return
    noise = (acceleration_mps2 * dt_s) ** 2
    for axis in range(3):
        covariance[VELOCITY + axis, VELOCITY + axis] += noise
        covariance[axis, VELOCITY + axis] += dt_s * noise
        covariance[VELOCITY + axis, axis] += dt_s * noise
        covariance[axis, axis] += dt_s * dt_s * noise


@kernel
def inform(
    covariance: Float64Array,
    x: Float64Array,
    place: Int64Array,
    slow: float,
    prior: Float64Array,
    prior_b: Float64Array,
) -> bool:
    """Write what is known of the unknowns of an update as `robust_solve` takes it; False where it is singular.

    Args:
        covariance: (n, n) of what is known.
        x: (n,) correction of what was predicted.
        place: (u,) place of each unknown among what is known; -1: nothing is known of it before.
        slow: So many rows in a row count as one, so what was known before weighs that much more.
        prior: (u, u) written: information.
        prior_b: (u,) written: information times value.
    """
    u = len(place)
    factor = np.empty((u, u))
    for i in range(u):
        for j in range(u):
            factor[i, j] = 0.0 if i != j else _NOTHING
            if place[i] >= 0 and place[j] >= 0:
                factor[i, j] = covariance[place[i], place[j]]
    if not cholesky(factor, u):
        return False
    cholesky_inverse(factor, prior, u)
    for i in range(u):
        prior_b[i] = 0.0
        for j in range(u):
            prior[i, j] *= slow
            if place[j] >= 0:
                prior_b[i] += prior[i, j] * x[place[j]]
    return True


@kernel
def absorb(
    place: Int64Array, slow: float, prior: Float64Array, found: Float64Array, after: Float64Array, x: Float64Array,
    covariance: Float64Array,
) -> None:  # fmt: skip
    """Let all that is known follow what was found of some of it.

    With the gain K = C_au C_uu^-1: x_a += K step, C += K change K^T (the unknowns themselves have K = 1).

    Args:
        place: (u,) as of `inform`.
        slow: Likewise.
        prior: (u, u) likewise.
        found: (u,) the unknowns; overwritten by their step.
        after: (u, u) their covariance; overwritten by its change.
        x: (n,) changed.
        covariance: (n, n) changed.
    """
    for i in range(len(place)):
        for j in range(len(place)):
            after[i, j] *= slow
            if place[i] >= 0 and place[j] >= 0:
                after[i, j] -= covariance[place[i], place[j]]
        if place[i] >= 0:
            found[i] -= x[place[i]]
    n, u = len(x), len(place)
    gain, half = np.zeros((n, u)), np.zeros((n, u))
    for i in range(n):
        for k in range(u):
            if place[k] >= 0:
                for j in range(u):
                    gain[i, j] += covariance[i, place[k]] * prior[k, j] / slow
    for i in range(n):
        for j in range(u):
            if place[j] >= 0:
                x[i] += gain[i, j] * found[j]
                for k in range(u):
                    half[i, k] += gain[i, j] * after[j, k]
    for i in range(n):
        for j in range(n):
            for k in range(u):
                if place[k] >= 0:
                    covariance[i, j] += half[i, k] * gain[j, k]


@kernel
def rate_weights(first: Int32Array, weight: Float64Array, usable: Bools, used: Bools) -> float:
    """Write which satellites count in a solution (g,), and return the mean weight that usable rows have left."""
    total, count = 0.0, 0
    for g in range(len(used)):
        used[g] = False
        for row in range(first[g], first[g + 1]):
            used[g] |= weight[row] > _COUNTS
            if usable[row]:
                total += weight[row]
                count += 1
    return total / count if count else 1.0


@kernel
def advance_trail(first: Int32Array, model: Float64Array, rows: Float64Array, trail: Float64Array) -> None:
    """Write what is kept of an epoch (m, 2) for the next: phase less the range to where the rover was, range rate."""
    for g in range(len(model)):
        for row in range(first[g], first[g + 1]):
            trail[row, 0], trail[row, 1] = rows[row, PHASE_M] - model[g, RANGE], rows[row, RATE_MPS]
