"""The code-differential filter: corrections of bases, and a rover followed from epoch to epoch.

What is known of a rover is its position (three; m), the mean velocity since the last epoch (`VELOCITY`; m/s) and, from
`BIASES` on, a bias (m) for each signal. An update solves for those of them that its rows observe, and for clocks of
which nothing is known before: carriers and Doppler for the velocity and a drift each, codes for position, clock and
biases. The others follow by their covariance with these, exactly as if they had been solved for too.
"""

import math

import numpy as np
from numpy.typing import NDArray

from solver.constants import SPEED_OF_LIGHT_MPS
from solver.jit import kernel, part
from solver.kernels import Bools, Float32Array, Float64Array, Int16Array, Int32Array, Int64Array, Record, Records
from solver.kernels.dgnss_rows import (
    CLOCK,
    CN0_DBHZ,
    CODE_BIASES,
    DOPPLER_HZ,
    ELEVATION,
    FREQUENCY_HZ,
    LOCKED_S,
    MOTION_UNKNOWNS,
    MU,
    PHASE_CYCLES,
    PSEUDORANGE_M,
    RANGE,
    SIGHT,
    advance_trail,
    code_rows,
    differences,
    match_keys,
    model_ranges,
    motion_rows,
)
from solver.kernels.least_squares import robust_solve
from solver.kernels.linalg import cholesky, cholesky_inverse
from solver.kernels.observed import choose_rows
from solver.kernels.orbit import satellite_states, select_ephemerides
from solver.kernels.spp import SINGULAR, SOLVED, TOO_FEW, blank_point, judge
from solver.model import SLIP
from solver.quality import protection_levels
from solver.signals import SIGNAL_COUNT

__all__ = ["ANEW", "BIASES", "FILTER", "FOLLOW", "GAP_NS", "LOST_EPOCHS", "PERSIST", "correct_all", "follow"]

Flags = NDArray[np.uint8]

FILTER = np.dtype(
    [
        ("known", np.bool_),  # whether there was an epoch before
        ("time_ns", np.int64),
        ("position_ecef_m", np.float64, (3,)),
        ("velocity_mps", np.float64, (3,)),  # mean since the epoch before
        ("biases", np.int16),  # how many signals have a bias
        ("scale", np.float64),  # factor of the code's standard deviation, as its residuals have it
        ("share", np.float64),  # of the codes' weight that outlier rejection has left, of late
        ("lost", np.int16),  # epochs in a row whose codes disagreed with the position
        ("trail", np.int16),  # rows of the trail
        ("base_time_ns", np.int64),  # of the corrections of the last epoch
        ("rest_s", np.float64),  # for how long it has stood still
        ("since_s", np.float64),  # for how long its position has been followed
    ]
)
"""What is known of a rover, beside the biases, the covariance and the trail."""
FOLLOW, PERSIST, ANEW = range(3)
"""How an epoch is taken: from the one before; likewise though most codes disagree; at a start that is given."""
MASK, AGE_MAX_S, ACCELERATION_MPS2 = range(3)
"""Options: elevation (rad), age of corrections, standard deviation of the change of velocity in a second."""
VELOCITY, BIASES = 3, 6
"""Places in what is known; the position is the first three."""
BIAS_M, BIAS_DRIFT_M = 300.0, 0.01
"""A receiver's bias of one signal against another: what is known before, and how it wanders in a second."""
LOST_EPOCHS = 10
_LOST_SHARE = 0.4
"""Lost: fewer codes than this agree with the position, so long."""
GAP_NS = 120_000_000_000
_MULTIPATH_S_MAX, _MULTIPATH_S_MIN, _MULTIPATH_M = 20.0, 2.0, 10.0
"""Correlation of code multipath: the time of an antenna that stands, and the way of one that moves past reflectors."""
_REST_MPS, _REST_SHARE, _MULTIPATH_AT_REST_S = 0.1, 0.2, 300.0
"""Multipath of an antenna that stays at rest turns with the satellites: by a radian in 300 s if they rise by 7e-5 rad/s
and the reflector is 1 m below (Georgiadou & Kleusberg 1988). It is given this share of the time that the antenna has
stood, so that codes of five such times count: a car that stops would else keep the errors of its last metres."""
_SCALE_MEMORY, _SCALE_MIN, _SCALE_MAX = 0.95, 0.3, 6.0
_FIRST_SCALE = 3.0
"""One epoch does not show how much all of its codes err alike: its standard deviation is widened by this."""
_DRIFT_MPS, _REFLECTED_MPS = 0.01, 0.5
"""How far a position drifts in a second with good carriers, and with reflected ones."""
_SHARE_MEMORY, _SHARE_MIN = 0.7, 0.2
_LOCK_TOLERANCE_S = 0.05
_NOTHING = 1e12
"""Variance of a clock before an epoch."""
_OBSERVED_BY_MOTION = np.array([VELOCITY, VELOCITY + 1, VELOCITY + 2, -1, -1])


@kernel
def correct_all(
    time_ns: Int64Array, first_row: Int64Array, sat: Int16Array, signal: Int16Array, frequency_hz: Float64Array,
    pseudorange_m: Float64Array, phase_cycles: Float64Array, lock_s: Float32Array, flags: Flags, kepler: Records,
    glonass: Records, satellites: Bools, signals: Bools, position_m: Float64Array, elevation_mask: float,
    key: Int64Array, rows: Float64Array, count: Int64Array, index_of: Int32Array,
) -> None:  # fmt: skip
    """Write the corrections of a base's epochs.

    Args:
        time_ns: (c,) time tags, GPST.
        first_row: (c + 1,) first row of each epoch.
        sat: (m,) and so on: columns of the epochs.
        signal: (m,).
        frequency_hz: (m,).
        pseudorange_m: (m,).
        phase_cycles: (m,).
        lock_s: (m,).
        flags: (m,).
        kepler: Broadcast orbits, `KEPLER`.
        glonass: The same, `GLONASS_STATE`.
        satellites: (SATELLITE_COUNT,) whether each is wanted.
        signals: (SIGNAL_COUNT,) likewise.
        position_m: (3,) ECEF of the antenna.
        elevation_mask: Radians.
        key: (m,) written from each epoch's first row on: satellite and signal as one number, in order.
        rows: (m, 3) written likewise: code and phase less the model (m), lock time (s; 0 after a slip).
        count: (c,) written: corrections of each epoch.
        index_of: (c, SATELLITE_COUNT) written: ephemeris of each satellite; negative: none.
    """
    for k in range(len(time_ns)):
        a, b = first_row[k], first_row[k + 1]
        size = b - a
        kept, sats, first = np.empty(size, np.bool_), np.empty(size, np.int16), np.empty(size + 1, np.int32)
        nearest_m, modern = np.empty(size), np.empty(size, np.bool_)
        g = choose_rows(
            sat[a:b], signal[a:b], pseudorange_m[a:b], frequency_hz[a:b], satellites, signals, kept, sats, first,
            nearest_m, modern,
        )  # fmt: skip
        index, states, model = np.empty(g, np.int32), np.empty((g, 8)), np.empty((g, 6))
        select_ephemerides(kepler, glonass, time_ns[k], sats[:g], index)
        satellite_states(kepler, glonass, time_ns[k], sats[:g], index, nearest_m[:g], states)
        model_ranges(time_ns[k], position_m, states, model)
        index_of[k, :] = -1
        source, place = a - 1, a
        for j in range(g):
            index_of[k, sats[j]] = index[j]
            for _ in range(first[j], first[j + 1]):
                source += 1
                while not kept[source - a]:
                    source += 1
                if not model[j, ELEVATION] > elevation_mask:
                    continue
                key[place] = np.int64(sats[j]) * SIGNAL_COUNT + signal[source]
                rows[place, 0] = pseudorange_m[source] - model[j, RANGE]
                rows[place, 1] = phase_cycles[source] * (SPEED_OF_LIGHT_MPS / frequency_hz[source]) - model[j, RANGE]
                rows[place, 2] = 0.0 if flags[source] & SLIP else np.float64(lock_s[source])
                place += 1
        count[k] = place - a


@kernel
def follow(
    first_epoch: int, stop_epoch: int, how: int, time_ns: Int64Array, first_row: Int64Array, sat: Int16Array,
    signal: Int16Array, frequency_hz: Float64Array, pseudorange_m: Float64Array, phase_cycles: Float64Array,
    doppler_hz: Float64Array, cn0_dbhz: Float32Array, lock_s: Float32Array, flags: Flags, kepler: Records,
    glonass: Records, satellites: Bools, signals: Bools, base_of: Int64Array, base_time_ns: Int64Array,
    base_first: Int64Array, base_count: Int64Array, base_key: Int64Array, base_rows: Float64Array,
    base_index_of: Int32Array, base_position_m: Float64Array, options: Float64Array, start_m: Float64Array,
    state: Records, bias_signal: Int16Array, bias_m: Float64Array, covariance: Float64Array, trail_key: Int64Array,
    trail: Float64Array, points: Records, used: Bools,
) -> int:  # fmt: skip
    """Follow a rover through its epochs as far as that goes, and return the epoch that it went to, exclusive.

    It ends before an epoch without corrections, after a gap, at a rover that is lost or not known yet (unless a start
    is given), and where the epoch's position fails, for which its status then tells why.

    Args:
        first_epoch: Where to begin.
        stop_epoch: The last but one.
        how: `FOLLOW`, `PERSIST` or `ANEW`.
        time_ns: (e,) and so on: the rover's epochs, as of `correct_all`.
        first_row: (e + 1,).
        sat: (m,).
        signal: (m,).
        frequency_hz: (m,).
        pseudorange_m: (m,).
        phase_cycles: (m,).
        doppler_hz: (m,).
        cn0_dbhz: (m,).
        lock_s: (m,).
        flags: (m,).
        kepler: Broadcast orbits.
        glonass: The same.
        satellites: (SATELLITE_COUNT,) whether each is wanted.
        signals: (SIGNAL_COUNT,) likewise.
        base_of: (e,) which corrections are each epoch's; -1: none.
        base_time_ns: (c,) and so on: what `correct_all` wrote, each epoch's from its row `base_first` on.
        base_first: (c + 1,).
        base_count: (c,).
        base_key: (k,).
        base_rows: (k, 3).
        base_index_of: (c, SATELLITE_COUNT).
        base_position_m: (3,) ECEF.
        options: `MASK` and so on.
        start_m: (3,) ECEF, where to begin anew.
        state: (1,) `FILTER`, changed; so are the following.
        bias_signal: (b,) signals that have a bias, in the order of the unknowns; room for all that may come.
        bias_m: (b,) of these, against the first signal ever used.
        covariance: (6 + b, 6 + b) of position, velocity and biases.
        trail_key: (t,) satellite and signal of the last epoch's rows; room for the largest epoch.
        trail: (t, 2) their phases and range rates.
        points: (e,) `POINT`, written.
        used: (e, SATELLITE_COUNT) written: satellites of each position.
    """
    for k in range(first_epoch, stop_epoch):
        base = base_of[k]
        elapsed_ns = time_ns[k] - state[0].time_ns
        is_known = state[0].known and 0 < elapsed_ns < GAP_NS
        if base < 0 or not abs(time_ns[k] - base_time_ns[base]) <= options[AGE_MAX_S] * 1e9:
            return k
        if how != ANEW and (not is_known or (how == FOLLOW and state[0].lost >= LOST_EPOCHS)):
            return k
        a, b, c = first_row[k], first_row[k + 1], base_first[base]
        sats, first, signal_of, key, observed, states = _observe(
            time_ns[k], sat[a:b], signal[a:b], frequency_hz[a:b], pseudorange_m[a:b], phase_cycles[a:b],
            doppler_hz[a:b], cn0_dbhz[a:b], lock_s[a:b], flags[a:b], kepler, glonass, satellites, signals,
            base_index_of[base],
        )  # fmt: skip
        blank_point(points[k])
        used[k, :] = False
        _step(
            how == ANEW, is_known, time_ns[k], sats, first, signal_of, key, observed, states, base_time_ns[base],
            base_key[c : c + base_count[base]], base_rows[c : c + base_count[base]], base_position_m, options, start_m,
            state, bias_signal, bias_m, covariance, trail_key, trail, points[k], used[k],
        )  # fmt: skip
        if points[k].status != SOLVED:
            return k
    return stop_epoch


@part
def _observe(
    time_ns: int, row_sat: Int16Array, row_signal: Int16Array, frequency_hz: Float64Array, pseudorange_m: Float64Array,
    phase_cycles: Float64Array, doppler_hz: Float64Array, cn0_dbhz: Float32Array, lock_s: Float32Array, flags: Flags,
    kepler: Records, glonass: Records, satellites: Bools, signals: Bools, index_of: Int32Array,
) -> tuple[Int16Array, Int32Array, Int16Array, Int64Array, Float64Array, Float64Array]:  # fmt: skip
    """The rows of an epoch that can be used, grouped by satellite.

    Returns:
        Satellites (g,), first row of each (g + 1,), signal (m,), key (m,) and measurements (m, 6) of the rows, states
        of the satellites at emission (g, 8).
    """
    size = len(row_sat)
    kept, sat, first = np.empty(size, np.bool_), np.empty(size, np.int16), np.empty(size + 1, np.int32)
    nearest_m, modern = np.empty(size), np.empty(size, np.bool_)
    g = choose_rows(
        row_sat, row_signal, pseudorange_m, frequency_hz, satellites, signals, kept, sat, first, nearest_m, modern
    )  # fmt: skip
    sat, first = sat[:g], first[: g + 1]
    index, states = np.empty(g, np.int32), np.empty((g, 8))
    for j in range(g):
        index[j] = index_of[sat[j]]
    satellite_states(kepler, glonass, time_ns, sat, index, nearest_m[:g], states)
    signal, key, observed = np.empty(first[g], np.int16), np.empty(first[g], np.int64), np.empty((first[g], 6))
    _gather(
        sat, first, kept, row_signal, pseudorange_m, phase_cycles, doppler_hz, frequency_hz, cn0_dbhz, lock_s, flags,
        signal, key, observed,
    )  # fmt: skip
    return sat, first, signal, key, observed, states


@part
def _step(
    fresh: bool, is_known: bool, time_ns: int, sat: Int16Array, first: Int32Array, signal: Int16Array, key: Int64Array,
    observed: Float64Array, states: Float64Array, base_time_ns: int, base_key: Int64Array, base_rows: Float64Array,
    base_position_m: Float64Array, options: Float64Array, start_m: Float64Array, state: Records,
    bias_signal: Int16Array, bias_m: Float64Array, old: Float64Array, trail_key: Int64Array, trail: Float64Array,
    point: Record, used: Bools,
) -> None:  # fmt: skip
    """One epoch's work: matched rows, the motion from carriers and Doppler, then the position from codes."""
    g, m = len(sat), len(signal)
    match, before = np.empty(m, np.int64), np.full(m, -1, np.int64)
    match_keys(key, signal, base_key, m >= 0, match)
    dt_s = (time_ns - state[0].time_ns) * 1e-9 if is_known else 1.0
    base_step_s, biases = 0.0, state[0].biases if is_known else 0
    position_m, velocity_mps = np.empty(3), np.zeros(3)
    for axis in range(3):
        position_m[axis] = start_m[axis]
    if not fresh:
        match_keys(key, signal, trail_key[: state[0].trail], m < 0, before)
        base_step_s = abs(base_time_ns - state[0].base_time_ns) * 1e-9
        for axis in range(3):
            velocity_mps[axis] = state[0].velocity_mps[axis]
            position_m[axis] = state[0].position_ecef_m[axis] + velocity_mps[axis] * dt_s
    model, rows, usable = np.empty((g, 6)), np.empty((m, 7)), np.empty(m, np.bool_)
    weight, place = np.empty(m), np.empty(m, np.int64)
    locks = (np.float64(np.float32(dt_s - _LOCK_TOLERANCE_S)), np.float64(np.float32(base_step_s - _LOCK_TOLERANCE_S)))
    times = np.array((dt_s, locks[0], locks[1], options[ACCELERATION_MPS2]))
    conditions = np.array((abs(time_ns - base_time_ns) * 1e-9, 0.0, 1.0, 0.0, 0.0))
    if is_known:
        conditions[2], conditions[3], conditions[4] = state[0].scale, state[0].rest_s, state[0].since_s
    share = state[0].share if is_known and not fresh else 0.0
    # A first position is solved for twice, since the start may be off by more than is linear to a millimetre.
    for _ in range(2 if fresh else 1):
        model_ranges(time_ns, position_m, states, model)
        differences(first, match, model, base_rows, observed, rows)
        satellites = _use(first, match, model, options[MASK], usable)
        if fresh and satellites < 4:
            point.status, point.detail = TOO_FEW, satellites
            return
        count = _place_biases(signal, usable, bias_signal, biases, place)
        conditions[1] = math.sqrt(
            (position_m[0] - base_position_m[0]) ** 2
            + (position_m[1] - base_position_m[1]) ** 2
            + (position_m[2] - base_position_m[2]) ** 2
        )
        x, covariance = np.zeros(BIASES + count), np.empty((BIASES + count, BIASES + count))
        _predict(
            old[: BIASES + biases, : BIASES + biases], dt_s, options[ACCELERATION_MPS2], is_known, fresh, covariance
        )  # fmt: skip
        _motion(first, model, rows, usable, before, trail, velocity_mps, times, x, covariance)
        chi2, freedom = _codes(
            sat, first, model, rows, usable, place, bias_m[:biases], velocity_mps, conditions, dt_s, share, x,
            covariance, weight,
        )  # fmt: skip
        if chi2 < 0.0:
            point.status = SINGULAR
            return
        for axis in range(3):
            position_m[axis] += x[axis]
    agreeing = _share(weight, usable)
    misfit = math.sqrt(max(chi2, 0.0) / freedom) if freedom > 1.0 else 1.0
    if fresh:
        covariance *= (_FIRST_SCALE * max(1.0, misfit) / max(agreeing, _SHARE_MIN)) ** 2
    model_ranges(time_ns, position_m, states, model)
    _conclude(first, sat, model, weight, position_m, velocity_mps, x, covariance, point, used)
    _keep(key, first, model, rows, x, covariance, bias_m, old, trail_key, trail)
    _note(fresh, is_known, time_ns, base_time_ns, m, agreeing, misfit, freedom, len(x) - BIASES, point, state)


@part
def _use(first: Int32Array, match: Int64Array, model: Float64Array, elevation_mask: float, usable: Bools) -> int:
    """Mark the rows (m,) that the base has too, above the mask; the number of their satellites is returned."""
    satellites = 0
    for g in range(len(model)):
        is_used = 0
        for row in range(first[g], first[g + 1]):
            usable[row] = match[row] >= 0 and model[g, ELEVATION] > elevation_mask
            is_used = 1 if usable[row] else is_used
        satellites += is_used
    return satellites


@part
def _keep(
    key: Int64Array, first: Int32Array, model: Float64Array, rows: Float64Array, x: Float64Array,
    covariance: Float64Array, bias_m: Float64Array, old: Float64Array, trail_key: Int64Array, trail: Float64Array,
) -> None:  # fmt: skip
    """Keep biases, covariance and trail for the next epoch; biases that are new were 0."""
    for row in range(len(key)):
        trail_key[row] = key[row]
    advance_trail(first, model, rows, trail)
    for k in range(len(x) - BIASES):
        bias_m[k] += x[BIASES + k]
    for i in range(len(x)):
        for j in range(len(x)):
            old[i, j] = covariance[i, j]


@part
def _note(
    fresh: bool, is_known: bool, time_ns: int, base_time_ns: int, rows: int, agreeing: float, misfit: float,
    freedom: float, biases: int, point: Record, state: Records,
) -> None:  # fmt: skip
    """Note what else is known after an epoch."""
    elapsed_s = (time_ns - state[0].time_ns) * 1e-9
    scale, share = state[0].scale if is_known else 1.0, state[0].share if is_known else 1.0
    if freedom > 4.0:
        memory = _SCALE_MEMORY if is_known else 0.5
        scale = memory * scale + (1.0 - memory) * min(max(scale * misfit, _SCALE_MIN), _SCALE_MAX)
    memory = 0.0 if fresh or not is_known else _SHARE_MEMORY
    state[0].lost = 0 if agreeing > _LOST_SHARE or not is_known else state[0].lost + 1
    state[0].share = max(memory * share + (1.0 - memory) * agreeing, _SHARE_MIN)
    state[0].known, state[0].time_ns, state[0].base_time_ns = True, time_ns, base_time_ns
    state[0].biases, state[0].trail, state[0].scale = biases, rows, scale
    speed2 = 0.0
    for axis in range(3):
        state[0].position_ecef_m[axis] = point.position_ecef_m[axis]
        state[0].velocity_mps[axis] = point.velocity_ecef_mps[axis]
        speed2 += point.velocity_ecef_mps[axis] ** 2
    state[0].since_s = state[0].since_s + elapsed_s if is_known and not fresh else 0.0
    state[0].rest_s = state[0].rest_s + elapsed_s if is_known and not fresh and speed2 < _REST_MPS**2 else 0.0


@part
def _gather(
    sat: Int16Array, first: Int32Array, kept: Bools, row_signal: Int16Array, pseudorange_m: Float64Array,
    phase_cycles: Float64Array, doppler_hz: Float64Array, frequency_hz: Float64Array, cn0_dbhz: Float32Array,
    lock_s: Float32Array, flags: Flags, signal: Int16Array, key: Int64Array, observed: Float64Array,
) -> None:  # fmt: skip
    """Write signal (m,), key (m,) and measurements (m, 6) of the rows that are kept."""
    source = -1
    for g in range(len(sat)):
        for row in range(first[g], first[g + 1]):
            source += 1
            while not kept[source]:
                source += 1
            signal[row] = row_signal[source]
            key[row] = np.int64(sat[g]) * SIGNAL_COUNT + signal[row]
            observed[row, PSEUDORANGE_M], observed[row, PHASE_CYCLES] = pseudorange_m[source], phase_cycles[source]
            observed[row, DOPPLER_HZ], observed[row, FREQUENCY_HZ] = doppler_hz[source], frequency_hz[source]
            observed[row, CN0_DBHZ] = cn0_dbhz[source]
            observed[row, LOCKED_S] = -1.0 if flags[source] & SLIP else np.float64(lock_s[source])


@part
def _place_biases(signal: Int16Array, usable: Bools, bias_signal: Int16Array, known: int, place: Int64Array) -> int:
    """Give each signal in use its unknown, and write which is each row's (-1: none); how many there are is returned.

    The first signal ever used is the reference.
    """
    counts, where = np.zeros(SIGNAL_COUNT, np.int64), np.full(SIGNAL_COUNT, -1, np.int64)
    total = 0
    for row in range(len(signal)):
        counts[signal[row]] += 1 if usable[row] else 0
        total += 1 if usable[row] else 0
    count = known
    if count == 0 and total > 0:
        most = 0
        for k in range(SIGNAL_COUNT):
            most = k if counts[k] > counts[most] else most
        bias_signal[0], count = most, 1
    for k in range(count):
        where[bias_signal[k]] = k
    for k in range(SIGNAL_COUNT):
        if counts[k] > 0 and where[k] < 0:
            bias_signal[count], where[k] = k, count
            count += 1
    for row in range(len(signal)):
        place[row] = where[signal[row]]
    return count


@part
def _motion(
    first: Int32Array, model: Float64Array, rows: Float64Array, usable: Bools, before: Int64Array, trail: Float64Array,
    velocity_mps: Float64Array, times: Float64Array, x: Float64Array, covariance: Float64Array,
) -> None:  # fmt: skip
    """Update by time-differenced carrier and by Doppler."""
    m, g = len(rows), len(model)
    a, y, sigma, weight = np.empty((2 * m, MOTION_UNKNOWNS)), np.empty(2 * m), np.empty(2 * m), np.empty(2 * m)
    common, both = np.empty((2 * g, 2)), np.empty(2 * g + 1, np.int32)
    for j in range(g + 1):
        both[j], both[g + j] = first[j], m + first[j]
    both[g] = m
    motion_rows(both, model, rows, usable, before, trail, velocity_mps, times, a, y, sigma, common)
    _update(a, y, sigma, np.zeros(2 * m), both, common, 1.0, _OBSERVED_BY_MOTION, x, covariance, weight)
    left, carriers = 0.0, 0
    for row in range(m):
        if sigma[row] > 0.0:
            left, carriers = left + weight[row], carriers + 1
    rejected = 1.0 - left / carriers if carriers else 0.0
    # Where many carriers are reflections, some of those that agree are too, and agree with each other.
    drift_m = (_DRIFT_MPS + _REFLECTED_MPS * rejected) * math.sqrt(times[0])
    for axis in range(3):
        covariance[axis, axis] += drift_m * drift_m


@part
def _codes(
    sat: Int16Array, first: Int32Array, model: Float64Array, rows: Float64Array, usable: Bools, place: Int64Array,
    bias_m: Float64Array, velocity_mps: Float64Array, conditions: Float64Array, dt_s: float, share: float,
    x: Float64Array, covariance: Float64Array, weight: Float64Array,
) -> tuple[float, float]:  # fmt: skip
    """Update by the codes; figures as of `_update`.

    Multipath changes slowly, so that codes of a few seconds count as one; `share` is the weight that outliers had left
    in the last epochs, or 0 at a first epoch, which has no others that it repeats.
    """
    m, count = len(rows), len(x) - BIASES
    unknowns, biases, mu = np.empty(CODE_BIASES + count, np.int64), np.zeros(count), np.empty(m)
    for k in range(3):
        unknowns[k] = k
    unknowns[CLOCK] = -1
    for k in range(count):
        unknowns[CODE_BIASES + k] = BIASES + k
        biases[k] = bias_m[k] if k < len(bias_m) else 0.0
    for row in range(m):
        mu[row] = rows[row, MU]
    speed_mps = math.sqrt((velocity_mps[0] + x[3]) ** 2 + (velocity_mps[1] + x[4]) ** 2 + (velocity_mps[2] + x[5]) ** 2)
    memory_s = min(max(_MULTIPATH_M / max(speed_mps, _REST_MPS), _MULTIPATH_S_MIN), _MULTIPATH_S_MAX)
    if speed_mps < _REST_MPS:
        memory_s = max(memory_s, min(_REST_SHARE * conditions[3], _MULTIPATH_AT_REST_S))
    slow = (1.0 + 2.0 * memory_s / dt_s) / share if share > 0.0 else 1.0
    how = np.array((conditions[0], conditions[1], conditions[2], 1.0))
    if share > 0.0:  # what GLONASS's channels differ by stays, however often multipath has changed: it counts once
        how[3] = math.sqrt(max(1.0, 0.5 * conditions[4] / memory_s))
    a, y, sigma, common = np.zeros((m, len(unknowns))), np.empty(m), np.empty(m), np.empty((len(sat), 2))
    code_rows(sat, first, model, rows, usable, place, biases, how, a, y, sigma, common)
    return _update(a, y, sigma, mu, first, common, slow, unknowns, x, covariance, weight)


@kernel
def _update(
    a: Float64Array, y: Float64Array, sigma: Float64Array, mu: Float64Array, first: Int32Array, common: Float64Array,
    slow: float, place: Int64Array, x: Float64Array, covariance: Float64Array, weight: Float64Array,
) -> tuple[float, float]:  # fmt: skip
    """Update what is known robustly by rows as of `robust_solve`, whose figures are returned.

    Where the system is singular, (-1, 0) is returned and nothing is changed.
    """
    u = len(place)
    prior, prior_b, found, after = np.empty((u, u)), np.empty(u), np.empty(u), np.empty((u, u))
    if not _inform(covariance, x, place, slow, prior, prior_b):
        return -1.0, 0.0
    chi2, freedom = robust_solve(a, y, sigma, mu, first, common, prior, prior_b, found, after, weight, u > 0)
    if chi2 >= 0.0:
        _absorb(place, slow, prior, found, after, x, covariance)
    return chi2, freedom


@part
def _share(weight: Float64Array, usable: Bools) -> float:
    """Mean weight that usable rows have left."""
    total, count = 0.0, 0
    for row in range(len(weight)):
        if usable[row]:
            total, count = total + weight[row], count + 1
    return total / count if count else 1.0


@part
def _conclude(
    first: Int32Array, sat: Int16Array, model: Float64Array, weight: Float64Array, position_m: Float64Array,
    velocity_mps: Float64Array, x: Float64Array, covariance: Float64Array, point: Record, used: Bools,
) -> None:  # fmt: skip
    """Write the position."""
    sky, counts = np.empty((len(sat), 5)), np.empty(len(sat), np.bool_)
    for g in range(len(sat)):
        for axis in range(3):
            sky[g, 2 + axis] = model[g, SIGHT + axis]
    judge(position_m, first, weight, sky, counts, point.dop)
    point.status, point.count = SOLVED, 0
    for g in range(len(sat)):
        used[sat[g]] = counts[g]
        point.count += 1 if counts[g] else 0
    for i in range(3):
        point.position_ecef_m[i] = position_m[i]
        point.velocity_ecef_mps[i] = velocity_mps[i] + x[VELOCITY + i]
        for j in range(3):
            point.position_covariance_m2[i, j] = covariance[i, j]
            point.velocity_covariance_m2s2[i, j] = covariance[VELOCITY + i, VELOCITY + j]
    point.hpl_m, point.vpl_m = protection_levels(point.position_ecef_m, point.position_covariance_m2)


@part
def _predict(
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


@part
def _inform(
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


@part
def _absorb(
    place: Int64Array, slow: float, prior: Float64Array, found: Float64Array, after: Float64Array, x: Float64Array,
    covariance: Float64Array,
) -> None:  # fmt: skip
    """Let all that is known follow what was found of some of it.

    With the gain K = C_au C_uu^-1: x_a += K step, C += K change K^T (the unknowns themselves have K = 1).

    Args:
        place: (u,) as of `_inform`.
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
