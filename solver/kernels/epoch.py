"""One epoch of relative positioning in a few kernels that `solver.rtk` strings together, for many epochs `follow`.

`locate` forms the links. `predict` and `update` run the float filter over them, or `stand_alone` takes the epoch by
itself; both end with a joint distribution of position and ambiguities. `fix` resolves these and writes the result.
`codes.settle` writes that of the codes instead, for who has no time for more. They are not one kernel since numba takes
ever longer for ever longer functions.

The steps are those of `docs/topics/ambiguity-resolution.md`. What is known of a rover passes from epoch to epoch in a
record of `KNOWN` and the arrays of `Filter`; what one epoch's steps pass on to each other is in a record of `NOW` and
the arrays of `Work` (`solver.kernels.rover`). Everything is written in place.
"""

import math
from typing import Final

import numpy as np

from solver.constants import SPEED_OF_LIGHT_MPS
from solver.jit import kernel, part
from solver.kernels import Bools, Float64Array, Int16Array, Int32Array, Records
from solver.kernels.atmosphere import overhead_ionosphere
from solver.kernels.checked import check
from solver.kernels.codes import forget_velocity, measure_rates
from solver.kernels.differencing import Columns, link_geometry, link_observations, pair_signals, rover_signal
from solver.kernels.dilution import dilute_links
from solver.kernels.doubt import BELIED, starts_anew
from solver.kernels.expected import expect_atmosphere, expect_strays
from solver.kernels.fixing import (
    COUNT,
    FAR_S,
    RATIO,
    WHOLE_MIN,
    condition_on_held,
    double_differences,
    held_after,
    hold_integers,
    let_go,
    record_integers,
    resolve,
)
from solver.kernels.kalman import (
    BASE_STATES,
    CHANNEL_BIAS,
    COMMON_IONOSPHERE,
    GRADIENT,
    VELOCITY,
    ZENITH,
    move,
    reset_state,
)
from solver.kernels.learning import (
    BANDS_MIN,
    IONOSPHERE_S,
    QUIET_FACTOR,
    learn_alone,
    learn_code_noise,
    learn_fixed,
    learn_quiet,
    learn_storm,
    learn_wander,
    norm_of,
    note_norm,
)
from solver.kernels.orbit import satellite_states, select_ephemerides
from solver.kernels.robust import ITERATIONS
from solver.kernels.rover import Filter, Int64Array, Record, Work
from solver.kernels.rtk import (
    CARRIED_MIN,
    WHITE_FACTOR_MAX,
    choose_references,
    count_carried,
    decay_atmosphere,
    find_ambiguities,
    instantaneous_differences,
    ionosphere_factor,
    keep_links,
    noise_factor,
    observe_links,
    observe_vector,
    remember_phases,
    solve_codes,
    sort_links,
    synchronise_states,
    time_differences,
    weigh_fades,
    weigh_fresh,
)
from solver.kernels.signal_noise import learn_signals
from solver.kernels.straying import note_integers, note_step, starts, widen
from solver.model import HALF_CYCLE, SLIP, Quality
from solver.signals import GLONASS, PRN_PER_SYSTEM

__all__ = [
    "RISK_MAX",
    "fix",
    "list_integers",
    "locate",
    "mark_usable",
    "own_up",
    "predict",
    "recall_channels",
    "stand_alone",
    "start",
    "update",
]

FIX, FLOAT, DGNSS = int(Quality.FIX), int(Quality.FLOAT), int(Quality.DGNSS)
INNOVATION_LIMIT: Final = 4.0
HOLD_CYCLES: Final = 0.1
HOLD_GATE: Final = 4.0
NOISE_DBHZ: Final = 36.0
"""C/N0 at which the noise law's variance is twice that of a strong signal."""
CLOCK_MPS: Final = 5e-12 * SPEED_OF_LIGHT_MPS
"""A satellite's clock may go wrong by so much beyond its broadcast drift: 5e-12, the stability that RTKLIB assumes."""
NEAR_M: Final = 100.0
"""Error of an approximate position that lines of sight and models do not mind."""
GAP_S: Final = 300.0
KNOWN_S: Final = 60.0
"""How long a position is a better start than the base's."""
NEVER_S: Final = 86_400.0
"""Stands for the time since the last epoch where there was none."""
FIXED_H_M: Final = 0.058
FIXED_V_M: Final = 2.0 * FIXED_H_M
"""A position that integers make no better than this, both axes together and in height, is called float. Of those at the
limit, 95 per cent lie within 10 cm horizontally; heights are half as good as that."""
SLIP_M: Final = 0.02
SHARES = (0.75, 0.55, 0.4, 0.3)
PART_MIN: Final = 5
RISK_MAX: Final = 0.3
PART_RISK_MAX: Final = 0.01
"""Failure rate beyond which a part is not fixed: several parts are tried, and each has its own chance to be wrong."""
START_M: Final = 20.0
MULTIPATH_S: Final = 5.0
PHASE_OF_CODE: Final = 0.25
"""Least variance factor of the carriers for that of the codes: slow multipath of an antenna at rest does not show in
its carriers' innovations, but codes tell of it. Geodetic antennas have code factors of 0.2 to 0.5, patch antennas of 4
to 10."""
PHASE_BY_CODE_MAX: Final = 2.0
STANDING_MPS: Final = 0.5
UNQUIET_FACTOR: Final = 1.0
"""Variance factor of the carriers that tells of multipath which matters."""
STANDING_RADS: Final = 1e-5
"""Slowest turn of the line of sight of an IGSO is 3e-5 rad/s, fastest of a GEO 3e-6: a GEO's multipath stands still,
does not average out in hours, and makes its ambiguity look like one that is no integer."""
STATIC_MEMORY_S: Final = 100.0
"""How long multipath of an antenna at rest lasts: its correlation falls to a half in two minutes."""
CHANNEL_KNOWN_M: Final = 0.002
REACH_M: Final = 30.0
"""How far a rover may have moved before its motion tells less of where it is than a code solution does."""
MEMORY_NS: Final = 120_000_000_000
QUIETER: Final = (1.0, 0.5)
"""Shares of the expected ionosphere that an epoch by itself tries."""
ZENITH_S: Final = 7200.0
STRAY_S: Final = 3600.0
"""Orbits err alike for hours; uneven water vapour drifts away with the wind within less than one."""


@kernel
def locate(
    time_ns: int, rover: Columns, base_time_ns: int, base: Columns, base_m: Float64Array, kepler: Records,
    glonass: Records, klobuchar_gps: Float64Array, klobuchar_beidou: Float64Array, signals: Bools, usage: Float64Array,
    options: Records, state: Records, filter_: Filter, work: Work,
) -> tuple[int, int, int]:  # fmt: skip
    """Pair rover and base, find an approximate position by the codes, and keep the links above the mask there.

    Args:
        time_ns: Rover's epoch.
        rover: Its rows.
        base_time_ns: Base's epoch.
        base: Its rows.
        base_m: (3,) the base's antenna.
        kepler: Broadcast orbits and clocks.
        glonass: The same as state vectors.
        klobuchar_gps: (8,) broadcast ionosphere; NaN: not known.
        klobuchar_beidou: (8,) the same of BeiDou.
        signals: (SIGNAL_COUNT,) signals of the rover that may be used.
        usage: Memory of `pair_signals`.
        options: (1,) of `OPTIONS`.
        state: (1,) of `KNOWN`.
        filter_: State and keys are read.
        work: Links, order, weight and position are what `solve` needs of it.

    Returns:
        Number of links in use, of their satellites, and of states that the filter will have at most; no links where the
        codes have no solution.
    """
    how, known, now = options[0], state[0], work.now[0]
    now.dt_s = (time_ns - known.time_ns) * 1e-9 if known.time_ns >= 0 else NEVER_S
    now.count = 0
    count, places = pair_signals(
        rover.sat, rover.signal, rover.pseudorange_m, base.sat, base.signal, base.pseudorange_m, signals, usage,
        known.paired, how.bands_max, work.links, work.sats, work.code_rows,
    )  # fmt: skip
    known.paired += 1
    sats, index = work.sats[:places], work.ephemeris
    select_ephemerides(kepler, glonass, time_ns, sats, index)
    for end in range(2):
        emitted = base.pseudorange_m if end else rover.pseudorange_m
        codes = np.empty(places)
        for k in range(places):
            codes[k] = emitted[work.code_rows[k, end]]
        satellite_states(
            kepler, glonass, base_time_ns if end else time_ns, sats, index, codes,
            work.base_states if end else work.rover_states,
        )  # fmt: skip
    follows = math.isfinite(known.origin_m[0]) and now.dt_s <= KNOWN_S
    for axis in range(3):
        now.origin_m[axis] = known.origin_m[axis] + now.dt_s * filter_.x[VELOCITY + axis] if follows else base_m[axis]
    now.thickness_m, now.thickness_sigma_m = overhead_ionosphere(
        time_ns, base_m[0], base_m[1], base_m[2], klobuchar_gps, klobuchar_beidou
    )
    noise, factors = np.empty(3), np.empty(2)  # not np.array of a list, which takes seconds to compile
    noise[0], noise[1], noise[2] = how.phase_noise_m, how.code_noise_m, NOISE_DBHZ
    for _ in range(5):
        link_geometry(
            time_ns, base_time_ns, count, places, now.origin_m, base_m, work.rover_states, work.base_states, work.links
        )
        link_observations(count, rover, base, noise, now.thickness_m, work.links)
        for iterations in (1, ITERATIONS):  # where no code is far off, plain least squares do
            redundancy, _ = solve_codes(count, work.links, iterations, work.position, work.position_m2, work.weight)
            if redundancy < 0:
                return 0, 0, 0
            is_near = _largest(work.position, 0) < NEAR_M
            if is_near:
                break
        if is_near:
            break
        for axis in range(3):
            now.origin_m[axis] += work.position[axis]
    expect_atmosphere(time_ns, base_m, how, known, now)
    factors[0], factors[1] = known.code_factor, known.phase_factor
    now.phase_scale = known.phase_factor
    clock_m = CLOCK_MPS * (time_ns - base_time_ns) * 1e-9
    count = keep_links(
        count, how.elevation_mask_rad, how.cn0_min_dbhz, now.delay_m, clock_m, factors, known.signal_factor, work.links
    )
    sort_links(count, work.links, work.order)
    redundancy, factor = solve_codes(count, work.links, ITERATIONS, work.position, work.position_m2, work.weight)
    if redundancy < 0:
        return 0, 0, 0
    learn_code_noise(redundancy, factor, known, now)
    now.count = count
    satellites = _list_satellites(count, work.links, work.sats)
    now.bands = count / max(satellites, 1)
    states = (known.count if known.count > 0 else BASE_STATES) + count
    states -= find_ambiguities(count, work.links, known.count, filter_.keys, work.ambiguity)
    if now.ionosphere_m > 0.0:
        states += 2 * satellites
    return count, satellites, states


@part
def _largest(vector: Float64Array, first: int) -> float:
    """Size of the largest of three coordinates."""
    return float(max(abs(vector[first]), max(abs(vector[first + 1]), abs(vector[first + 2]))))


@part
def _list_satellites(count: int, links: Records, sats: Int16Array) -> int:
    """Write the satellites of the links, which are in their order; returns how many there are."""
    found = 0
    for k in range(count):
        if found == 0 or sats[found - 1] != links[k].sat:
            sats[found] = links[k].sat
            found += 1
    return found


@kernel
def stand_alone(quiet: float, options: Records, state: Records, work: Work, result: Records) -> int:
    """Write the distribution of this epoch alone; the number of its ambiguities is returned.

    Args:
        quiet: Share of the expected ionosphere that is assumed; 1 comes first, and less only where that has failed.
        options: (1,) of `OPTIONS`.
        state: (1,) of `KNOWN`, changed.
        work: As `locate` left it.
        result: (1,) of `RESULT`, the velocity is written.
    """
    how, known, now, found = options[0], state[0], work.now[0], result[0]
    count = now.count
    if quiet == 1.0:
        now.shown = 0.0
        forget_velocity(found)
        measure_rates(how, now, work, found)
        for axis in range(3):
            known.origin_m[axis] = now.origin_m[axis] + work.position[axis]
            for other in range(3):
                work.position_m2[axis, other] *= now.code_scale
    now.quiet = quiet
    mark_usable(True, how, known, now, found.velocity_mps, work)
    for k in range(count):
        work.held[k] = False
        work.innovations[k] = 0.0
    choose_references(count, work.links, work.order, work.usable, work.held, work.reference)
    atmosphere = np.empty(3)
    atmosphere[0], atmosphere[1], atmosphere[2] = quiet * now.ionosphere_m, now.zenith_m, now.thickness_sigma_m
    left = instantaneous_differences(
        count, work.links, work.reference, work.usable, atmosphere, work.position, work.position_m2,
        work.member, work.a, work.q, work.b, work.qba, work.qb,
    )  # fmt: skip
    for i in range(left):
        work.free[i] = work.member[i]
    return left


@kernel
def fix(
    time_ns: int, left: int, taken: int, options: Records, state: Records, filter_: Filter, work: Work, result: Records
) -> None:
    """Resolve the ambiguities that are left, as far as they are sure, and write the position.

    Args:
        time_ns: Rover's epoch.
        left: Number of ambiguities in the distribution.
        taken: Number of held ones that it is already conditioned on.
        options: (1,) of `OPTIONS`.
        state: (1,) of `KNOWN`, changed.
        filter_: Told of integers that have been accepted for long.
        work: With the distribution.
        result: (1,) of `RESULT`, position and ratio are written.
    """
    how, known, now, found = options[0], state[0], work.now[0], result[0]
    holds = taken >= WHOLE_MIN
    accepted = _resolve(left, holds, how, known, now, work)
    if how.instantaneous:
        list_integers(left, now.count, work)
        accepted = learn_alone(accepted, known, now, work)
    is_sure = own_up(accepted and not holds and work.report[COUNT] < left, how, known, now, work)
    anew = not how.instantaneous and starts_anew(accepted or holds, left, taken, known, now, filter_, work)
    is_sure = is_sure and (accepted or now.misfit <= BELIED)
    offset, spread = work.position, work.position_m2
    if not how.instantaneous:
        offset, spread, patience = filter_.x, filter_.p, held_after(now.dt_s)
        record_integers(
            now.count, work.links, work.reference, work.place, filter_.notes, patience, left, work.free, work.fixed,
            work.known,
        )  # fmt: skip
        if now.dt_s <= FAR_S and not how.static:  # further apart integers have to prove themselves for longer anyhow
            is_sure = check(is_sure and (accepted or holds), patience, known, now, work)
        note_integers(known, work)
        if not (accepted or holds):
            let_go(now.count, work.place, filter_.notes)
        hold_integers(
            known.count, now.count, work.links, work.reference, work.place, filter_.notes, work.known, patience,
            HOLD_CYCLES**2, filter_.x, filter_.p,
        )  # fmt: skip
    if holds:
        known.ionosphere_factor = max(known.ionosphere_factor, 1.0)
    found.quality = DGNSS if how.instantaneous else FLOAT
    if (accepted or holds) and not anew:
        found.quality = FIX if is_sure else FLOAT
        offset, spread = work.b, work.qb
        if is_sure:
            learn_fixed(how, known, now, work)
            learn_signals(known, now, work)
    found.ratio = work.report[RATIO]
    for axis in range(3):
        found.position_m[axis] = now.origin_m[axis] + offset[axis]
        for other in range(3):
            found.position_m2[axis, other] = spread[axis, other]
    if found.quality == FLOAT:
        widen(known, found.position_m2)
    dilute_links(now.count, work.links, found.position_m, found.dop)
    known.time_ns = time_ns
    if not how.instantaneous:
        remember_phases(now.count, work.links, work.ambiguity, offset, filter_.notes)
        _rest(known, now, filter_)
    if anew:
        known.count, known.ionosphere_factor, known.astray, known.belied = 0, 1.0, 0.0, 0.0


@part
def own_up(partly: bool, how: Record, known: Record, now: Record, work: Work) -> bool:
    """Add the noise that no filter may believe in to a position with known integers; tell whether it is sure.

    Far away, where a part of the integers is accepted, and they lie further off than the filter says, they widen what
    they leave open: by the factor that the risk of accepting them was judged with. Up is along the radius, within 0.2
    degrees.
    """
    scale = 1.0 if how.instantaneous else max(known.fixed_factor / now.phase_scale, 1.0)
    if partly and not how.instantaneous and now.ionosphere_m > 0.0:
        scale = max(scale, norm_of(work))
    total, along, radius2 = 0.0, 0.0, 0.0
    for axis in range(3):
        radius2 += now.origin_m[axis] ** 2
        for other in range(3):
            work.qb[axis, other] *= scale
            along += now.origin_m[axis] * work.qb[axis, other] * now.origin_m[other]
        total += work.qb[axis, axis]
    return bool(total - along / radius2 < FIXED_H_M**2 and along / radius2 < FIXED_V_M**2)


@part
def list_integers(left: int, count: int, work: Work) -> None:
    """Write the integers of an epoch by itself by link, up to each group's datum."""
    for k in range(count):
        work.known[k] = np.nan
    for i in range(left):
        if not math.isnan(work.fixed[i]):
            work.known[work.free[i]] = work.fixed[i]
            work.known[work.reference[work.links[work.free[i]].group]] = 0.0


@part
def _rest(known: Record, now: Record, filter_: Filter) -> None:
    """Leave the filter for the next epoch: its position is an offset from where it is now."""
    for band in range(2):
        known.channel_m[band] = filter_.x[CHANNEL_BIAS + band]
        known.channel_m2[band] = filter_.p[CHANNEL_BIAS + band, CHANNEL_BIAS + band]
    for axis in range(3):
        known.origin_m[axis] = now.origin_m[axis] + filter_.x[axis]
        filter_.x[axis] = 0.0


@part
def mark_usable(
    alone: bool, how: Record, known: Record, now: Record, velocity: Float64Array, work: Work
) -> None:  # fmt: skip
    """Mark the links whose ambiguities may be fixed, in an epoch by itself or not."""
    fixes_glonass = not alone or how.channel_bias_m <= CHANNEL_KNOWN_M
    moves = _largest(velocity, 0) >= STANDING_MPS  # not where it is not known
    stands = known.phase_factor > UNQUIET_FACTOR and not moves
    for k in range(now.count):
        link = work.links[k]
        usable = math.isfinite(link.phase_m) and link.flags & HALF_CYCLE == 0
        usable &= fixes_glonass or link.sat // PRN_PER_SYSTEM != GLONASS
        work.usable[k] = usable and not (stands and link.turn_rads < STANDING_RADS)


@part
def _resolve(left: int, holds: bool, how: Record, known: Record, now: Record, work: Work) -> bool:
    """Fix all integers; else all but GLONASS's, whose channel biases may not be known; else ever fewer, the best ones.

    The noisiest of each signal go first: one bad carrier spoils a set. Where integers are held, single ones may join
    them.
    """
    a, q, qba = np.empty(left), np.empty((left, left)), np.empty((3, left))
    chosen, order, noise = np.empty(left, np.int64), np.empty(left, np.int64), np.empty(left)
    fixed, accepted = np.empty(left), False
    for i in range(left):
        work.fixed[i] = np.nan
        k = work.free[i]
        noise[i] = work.links[k].phase_m2 * (1.0 + work.innovations[k] ** 2)
        noise[i] /= known.signal_factor[rover_signal(work.links[k])]
        j = i
        while j > 0 and noise[order[j - 1]] > noise[i]:
            order[j] = order[j - 1]
            j -= 1
        order[j] = i
    for attempt in range(-2, len(SHARES)):
        size = _choose(attempt, left, order, work.free, work.links, chosen)
        least = 1 if holds else WHOLE_MIN
        if attempt > -2:
            least = 2 if holds else PART_MIN
            if size < least or (attempt == -1 and size == left):
                continue
        for i in range(size):
            a[i] = work.a[chosen[i]]
            for axis in range(3):
                qba[axis, i] = work.qba[axis, chosen[i]]
            for j in range(size):
                q[i, j] = work.q[chosen[i], chosen[j]]
        accepted = resolve(
            size, a, q, work.b, qba, work.qb, how.failure_rate, RISK_MAX if attempt == -2 else PART_RISK_MAX,
            how.ratio_floor, least, fixed, work.report,
        )  # fmt: skip
        if attempt == -2:
            if how.instantaneous:
                note_norm(known, now, work)
            else:
                learn_wander(left, known, now, work)
        if attempt < 0 and not holds and not how.instantaneous:
            learn_storm(size, chosen, known, now, work)
        if accepted:
            if not holds and not how.instantaneous:
                learn_quiet(known, now, work)
            for i in range(size):
                work.fixed[chosen[i]] = fixed[i]
            break
    return accepted


@part
def _choose(attempt: int, left: int, order: Int64Array, free: Int32Array, links: Records, chosen: Int64Array) -> int:
    """Write which ambiguities an attempt tries, in order; returns how many."""
    best = int(left * SHARES[attempt]) if attempt >= 0 else left
    for i in range(left):
        chosen[i] = 0
    for i in range(best):
        chosen[order[i]] = 1
    size = 0
    for i in range(left):
        wanted = chosen[i] == 1
        if attempt == -1 and links[free[i]].sat // PRN_PER_SYSTEM == GLONASS:
            wanted = False
        if wanted:
            chosen[size] = i
            size += 1
    return size


@kernel
def predict(time_ns: int, options: Records, state: Records, filter_: Filter, work: Work, result: Records) -> None:
    """Move the filter to this epoch and find the slips; it starts anew after a long gap.

    Args:
        time_ns: Rover's epoch.
        options: (1,) of `OPTIONS`.
        state: (1,) of `KNOWN`, changed.
        filter_: With room for a state of each link and satellite more; changed.
        work: As `locate` left it.
        result: (1,) of `RESULT`, the velocity is written.
    """
    how, known, now = options[0], state[0], work.now[0]
    x, p, keys, notes = filter_
    forget_velocity(result[0])
    count, dt_s, previous_ns = now.count, now.dt_s, known.time_ns
    if known.count == 0 or dt_s > GAP_S:
        start(how, known, now, work.position, x, p)
        dt_s = 0.0
        for k in range(count):
            work.ambiguity[k] = -1
    for k in range(count):
        work.slipped[k] = work.links[k].flags & SLIP != 0
    weigh_fades(count, work.links, dt_s, work.ambiguity, notes, work.slipped)
    near = how.static or 0.5 * how.acceleration_mps2 * dt_s**2 < REACH_M
    if near and not how.static:
        move(known.count, dt_s, how.acceleration_mps2, x, p)
    for axis in range(3):
        if near:
            x[axis] += known.origin_m[axis] - now.origin_m[axis]
        else:
            reset_state(known.count, x, p, axis, work.position[axis], REACH_M**2)
            reset_state(known.count, x, p, 3 + axis, 0.0, REACH_M**2)
    decay_atmosphere(
        known.count, dt_s, now.ionosphere_m, known.ionosphere_m, IONOSPHERE_S, now.zenith_m, now.gradient_m, ZENITH_S,
        x, p, keys,
    )  # fmt: skip
    known.ionosphere_m = now.ionosphere_m
    # What one epoch tells of it is not carried on: what the ionosphere differs by between both ends looks like it.
    reset_state(known.count, x, p, COMMON_IONOSPHERE, 0.0, now.thickness_sigma_m**2)
    shift, shift_m2 = np.empty(3), np.empty((3, 3))
    factor = time_differences(
        count, work.links, time_ns, previous_ns, work.ambiguity, notes, SLIP_M, x, work.slipped, shift, shift_m2
    )
    if not how.static:
        note_step(factor, shift_m2, how.code_memory_s, known, now)
    if not how.static and measure_rates(how, now, work, result[0]) and not how.moving_base:
        found = result[0]  # it is of the rover alone, the filter's relative to the base
        observe_vector(known.count, VELOCITY, found.velocity_mps, found.velocity_m2s2, x, p)
    expect_strays(count, work.links, now, work.stray_m)
    known.count = synchronise_states(
        count, work.links, time_ns, previous_ns, work.slipped, START_M, now.ionosphere_m, work.stray_m,
        math.exp(-dt_s / STRAY_S), _wander(how, known, now), MEMORY_NS, known.count, x, p, keys, notes, work.ambiguity,
        work.ionosphere, work.stray,
    )  # fmt: skip
    if dt_s <= FAR_S:
        weigh_fresh(count, work.links, dt_s, work.ambiguity, notes)
    sort_links(count, work.links, work.order)


@part
def start(how: Record, known: Record, now: Record, position: Float64Array, x: Float64Array, p: Float64Array) -> None:
    """A filter that knows nothing but what is normal."""
    known.count = BASE_STATES
    starts(known)
    for i in range(BASE_STATES):
        x[i] = 0.0
        for j in range(BASE_STATES):
            p[i, j] = 0.0
    for axis in range(3):
        known.origin_m[axis] = now.origin_m[axis]
        x[axis] = position[axis]
        p[axis, axis] = REACH_M**2
        p[3 + axis, 3 + axis] = 0.0 if how.static else REACH_M**2
    for end in range(2):
        p[ZENITH + end, ZENITH + end] = now.zenith_m**2
        p[GRADIENT + end, GRADIENT + end] = now.gradient_m**2
    recall_channels(known, how.channel_bias_m, x, p)


@part
def recall_channels(known: Record, sigma_m: float, x: Float64Array, p: Float64Array) -> None:
    """Let a new filter start from the GLONASS biases that the last one found: they belong to the receivers."""
    for band in range(2):
        place = CHANNEL_BIAS + band
        x[place] = known.channel_m[band]
        p[place, place] = min(4.0 * known.channel_m2[band] + CHANNEL_KNOWN_M**2, sigma_m**2)


@kernel
def update(options: Records, state: Records, filter_: Filter, work: Work) -> tuple[int, int]:
    """Update the filter with this epoch's codes and carriers, and write its distribution given the integers held.

    How noisy carriers and ionosphere are is learnt on the way.

    Returns:
        How many ambiguities are left, and how many are held.
    """
    how, known, now = options[0], state[0], work.now[0]
    x, p, keys, notes = filter_
    n = known.count
    carried = count_carried(now.count, work.ambiguity, notes)
    inflation = max(1.0, how.code_memory_s / now.dt_s) if carried >= CARRIED_MIN else 1.0
    observe_links(
        n, now.count, work.links, work.order, work.weight, now.code_scale, inflation, _lasting(how, known, now),
        work.ambiguity, work.ionosphere, work.stray, notes, INNOVATION_LIMIT, x, p, work.innovations,
    )  # fmt: skip
    noise_factor(now.count, work.innovations, work.ambiguity, notes, now.phase_scale, known)
    by_code = min(PHASE_BY_CODE_MAX, PHASE_OF_CODE * known.code_factor)
    known.phase_factor = max(known.white_factor, by_code, min(known.fixed_factor, WHITE_FACTOR_MAX))
    if now.ionosphere_m > 0.0:
        known.ionosphere_factor = ionosphere_factor(n, now.dt_s, x, p, keys, now.ionosphere_m, known.ionosphere_factor)
    return _hold(how, known, now, filter_, work)


@part
def _close(now: Record) -> float:
    """1 where epochs follow so closely that errors change little from one to the next, 0 where they do not."""
    return math.exp(-((now.dt_s / MULTIPATH_S) ** 2))


@part
def _unquiet(known: Record) -> float:
    """0 where the carriers show no multipath, 1 where they show much."""
    by_code = PHASE_OF_CODE * (known.code_factor - 1.0)
    return float(min(1.0, max(4.0 * (known.phase_factor - QUIET_FACTOR), by_code)))


@part
def _wander(how: Record, known: Record, now: Record) -> float:
    """Variance that an ambiguity gains in this epoch, in units of its carrier's: multipath is not white.

    Where carriers are no noisier than the noise law's best and integers agree, there is little multipath to take
    account of; errors at long intervals are independent anyhow.
    """
    if how.static:
        return 0.0
    return float(now.dt_s / how.phase_memory_s * _close(now) * max(_unquiet(known), known.wander))


@part
def _lasting(how: Record, known: Record, now: Record) -> float:
    """How much less than its own information a carrier's epoch tells, because errors of the last ones are in it.

    n epochs dt apart, with errors correlated by exp(-t / T), are worth n dt / (2 T + dt) independent ones.
    At short intervals an ambiguity that wanders stands for the same.
    """
    dt_s = max(now.dt_s, 0.05)
    memory_s, apart = how.phase_memory_s, (1.0 - _close(now)) ** 2
    if how.static:
        memory_s, apart = STATIC_MEMORY_S, 1.0
    return float(1.0 + 2.0 * memory_s / dt_s * math.exp(-dt_s / memory_s) * apart * _unquiet(known))


@part
def _lasting_share(how: Record, known: Record, now: Record) -> float:
    """Share of the carriers' variances that is in ambiguities, which are no integers by as much.

    Errors that last do not show in innovations, only once integers are known. One band alone needs its memory.
    """
    if how.static or now.bands < BANDS_MIN:
        return 0.0
    missed = max(known.fixed_factor - known.white_factor, 0.0) / now.phase_scale
    return float(_close(now) * min(missed, 1.0))


@part
def _hold(how: Record, known: Record, now: Record, filter_: Filter, work: Work) -> tuple[int, int]:
    """Condition the float solution on what is held; how many ambiguities are left and how many held is returned."""
    x, p, _, notes = filter_
    count, patience = now.count, held_after(now.dt_s)
    mark_usable(False, how, known, now, x[VELOCITY : VELOCITY + 3], work)
    for k in range(count):
        place = work.ambiguity[k]
        work.usable[k] = work.usable[k] and place >= 0 and abs(work.innovations[k]) < INNOVATION_LIMIT
        work.held[k] = work.usable[k] and notes[place].agreed >= patience
        work.place[k] = place if work.usable[k] else -1
        work.known[k] = np.nan
    choose_references(count, work.links, work.order, work.usable, work.held, work.reference)
    m = double_differences(
        count, work.links, work.place, work.reference, _lasting_share(how, known, now), x, p, work.member, work.a,
        work.q, work.b, work.qba, work.qb,
    )  # fmt: skip
    return condition_on_held(
        m, work.member, work.links, work.reference, work.place, notes, patience, HOLD_GATE, work.a, work.q, work.b,
        work.qba, work.qb, work.free, work.known,
    )  # fmt: skip
