"""One epoch of relative positioning, in the steps that `solver.rtk` strings together."""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from solver.jit import part
from solver.kernels import Float64Array, Int32Array, Records
from solver.kernels.differencing import rover_signal
from solver.kernels.kalman import (
    BASE_STATES,
    GRADIENT,
    ZENITH,
    add_state,
    apply_gain,
    decay_states,
    find_state,
    ionosphere_key,
    is_ionosphere,
    mirror,
    observe_coordinate,
    remove_states,
    reset_state,
    scratch,
    stray_key,
    update_group,
)
from solver.kernels.linalg import cholesky
from solver.kernels.robust import ITERATIONS, median, robust_coordinates
from solver.kernels.rover import Record
from solver.model import HALF_CYCLE

__all__ = [
    "CARRIED_MIN",
    "NOTE",
    "WHITE_FACTOR_MAX",
    "WHITE_PRIOR",
    "choose_references",
    "count_carried",
    "find_ambiguities",
    "instantaneous_differences",
    "ionosphere_factor",
    "keep_links",
    "observe_links",
    "remember_phases",
    "solve_codes",
    "solve_rates",
    "sort_links",
    "synchronise_states",
    "time_differences",
    "weigh_fresh",
]

Int64Array = NDArray[np.int64]
Bools = NDArray[np.bool_]

FADE_FREE_DB: Final = 4.0
"""Changes of C/N0 that mean nothing: noise, antenna patterns, satellites of another power."""
FADE_SLIP_DB: Final = 14.0
"""A reflection of four fifths of the direct signal; one that is stronger for a moment costs a whole cycle."""
FADE_FORGET_DB_S: Final = 0.005
COVERED_DB: Final = 8.0
COVERED_MIN: Final = 5
"""What half of so many carriers or more lost by so much is not due to reflections: something covers the antenna."""
WHITE_PRIOR: Final = 4.0
"""Epochs that the noise law counts for before a filter's innovations tell."""
WHITE_MEMORY: Final = 20.0
STEP_PRIOR: Final = 6.0
"""Redundancy that the expected noise of a time difference counts for, beside what an epoch shows."""
IONOSPHERE_STEP_S: Final = 30.0
"""What so short a time adds of news of the ionosphere is one small step. A car's multipath looked like a storm within a
minute where each second was one."""
WHITE_FACTOR_MAX: Final = 9.0
"""Carriers that are noisier than that are not believed to be: a filter that thinks so forgets what it knows."""
CARRIED_MIN: Final = 4
"""Ambiguities known from before from which on an epoch's codes tell little that is new."""
FRESH_CYCLES: Final = 0.1
"""Noise of a carrier just after a slip, while the loop that follows it is settling: 0.12 to 0.2 cycles (median) in its
first epoch, 0.06 to 0.09 in the next, for a walk and two cars; 0.02 to 0.04 usually."""
SETTLING_S: Final = 1.0
SETTLED_S: Final = 3.0 * SETTLING_S
MISFITS_MAX: Final = 3
"""Epochs after which a carrier that contradicts all others is taken for slipped."""

NOTE: Final = np.dtype(
    [
        ("phase_m", np.float64),  # of the last epoch, less the model at the position that was found
        ("seen_ns", np.int64),
        ("locked", np.int32),  # epochs since the ambiguity was last reset
        ("agreed", np.int32),  # epochs for which the integer has been accepted without a break
        ("misfits", np.int32),  # epochs running in which the carrier has contradicted all others
        ("half", np.uint8),  # HALF_CYCLE where its polarity was not known when it was last seen
        ("cn0_dbhz", np.float64, (2,)),  # strongest lately, of rover and base
        ("integer", np.float64),  # the latest accepted, up to the group's datum; NaN: none
    ]
)
"""What is remembered of a state of the filter beside its value."""


@part
def keep_links(
    count: int,
    elevation_min: float,
    cn0_min_dbhz: float,
    baseline_delay: float,
    clock_m: float,
    noise_factor: Float64Array,
    signal_factor: Float64Array,
    links: Records,
) -> int:
    """Drop links without orbit, below the mask or too weak; scale and complete the variances of the others.

    Args:
        count: Number of links.
        elevation_min: Elevation mask, rad.
        cn0_min_dbhz: Least C/N0.
        baseline_delay: Standard deviation of the differential zenith ionosphere, for the codes, m at L1.
        clock_m: Standard deviation of what the satellites' clocks do between base's and rover's epoch.
        noise_factor: (2,) variance factors of code and phase.
        signal_factor: (SIGNAL_COUNT,) of the phase by signal of the rover, beside that of all.
        links: (count,) compacted in place.

    Returns:
        Number of links left.
    """
    left = 0
    for k in range(count):
        weak = links[k].cn0_dbhz[0] < cn0_min_dbhz or links[k].cn0_dbhz[1] < cn0_min_dbhz
        if not links[k].elevation >= elevation_min or weak or math.isnan(links[k].code_m):
            continue
        delay = baseline_delay * links[k].slant * links[k].ionosphere
        links[left] = links[k]
        links[left].code_m2 = links[k].code_m2 * noise_factor[0] + delay * delay
        factor = noise_factor[1] * signal_factor[rover_signal(links[k])]
        links[left].phase_m2 = links[k].phase_m2 * factor + clock_m * clock_m
        left += 1
    return left


@part
def find_ambiguities(count: int, links: Records, n: int, keys: Int32Array, ambiguity: Int32Array) -> int:
    """Write the places of the links' ambiguities among n states, -1 where there is none; returns how many there are."""
    found = 0
    for k in range(count):
        ambiguity[k] = find_state(n, keys, links[k].key)
        if ambiguity[k] >= 0:
            found += 1
    return found


@part
def sort_links(count: int, links: Records, order: Int64Array) -> None:
    """Write the links' numbers in order of growing phase variance (insertion sort: they come almost in order)."""
    for k in range(count):
        j = k
        while j > 0 and links[order[j - 1]].phase_m2 > links[k].phase_m2:
            order[j] = order[j - 1]
            j -= 1
        order[j] = k


@part
def solve_codes(
    count: int, links: Records, iterations: int, solution: Float64Array, covariance: Float64Array, weight: Float64Array
) -> tuple[int, float]:
    """Robust position from code differences; see `robust_coordinates`."""
    unit, y, variance = np.empty((count, 3)), np.empty(count), np.empty(count)
    group, residual = np.empty(count, np.int16), np.empty(count)
    for k in range(count):
        for axis in range(3):
            unit[k, axis] = links[k].unit[axis]
        y[k], variance[k], group[k] = links[k].code_m, links[k].code_m2, links[k].group
    return robust_coordinates(count, unit, y, variance, group, solution, covariance, weight, residual, iterations)


@part
def solve_rates(
    count: int, links: Records, noise_mps: float, solution: Float64Array, covariance: Float64Array
) -> tuple[int, float]:
    """Robust velocity of the rover from Doppler; the one offset is the receiver's clock drift."""
    unit, y, variance = np.empty((count, 3)), np.empty(count), np.empty(count)
    group, weight, residual = np.zeros(count, np.int16), np.empty(count), np.empty(count)
    for k in range(count):
        for axis in range(3):
            unit[k, axis] = links[k].unit[axis]
        y[k] = links[k].rate_mps
        variance[k] = noise_mps * noise_mps * links[k].phase_m2 / 9e-6
    return robust_coordinates(count, unit, y, variance, group, solution, covariance, weight, residual, ITERATIONS)


@part
def time_differences(
    count: int, links: Records, time_ns: int, previous_ns: int, ambiguity: Int32Array, notes: Records, slip_m: float,
    x: Float64Array, slipped: Bools, solution: Float64Array, covariance: Float64Array,
) -> float:  # fmt: skip
    """Find cycle slips by the time differences of all carriers, which but one displacement should explain.

    A carrier whose polarity has become known may have turned by half a cycle, whatever its lock time says: where the
    differences tell so, its ambiguity turns as well; where they do not tell, it counts as slipped.

    Args:
        count: Number of links.
        links: (count,).
        time_ns: This epoch.
        previous_ns: The epoch that the filter's notes are of.
        ambiguity: (count,) places of the links' ambiguities; -1: there is none yet.
        notes: Of `NOTE`, by place.
        slip_m: Residual beyond noise from which on it is a slip.
        x: State; ambiguities are turned.
        slipped: (count,) set where a carrier slipped; left alone elsewhere.
        solution: (3,) out, displacement from the approximate position.
        covariance: (3, 3) out.

    Returns:
        Variance factor of the differences, nearer to 1 the less redundant they are; 1 where nothing could be said.
    """
    unit, y, variance = np.empty((count, 3)), np.full(count, np.nan), np.empty(count)
    group, weight, residual = np.empty(count, np.int16), np.empty(count), np.empty(count)
    turned = np.zeros(count, np.bool_)
    drift = 1e-3 * (time_ns - previous_ns) * 1e-9
    for k in range(count):
        for axis in range(3):
            unit[k, axis] = links[k].unit[axis]
        group[k] = links[k].group
        variance[k] = 2.0 * links[k].phase_m2 + drift * drift
        place = ambiguity[k]
        if place >= 0 and not slipped[k] and notes[place].seen_ns == previous_ns:
            y[k] = links[k].phase_m - notes[place].phase_m
        turned[k] = place >= 0 and notes[place].half > links[k].flags & HALF_CYCLE
    redundancy, factor = robust_coordinates(
        count, unit, y, variance, group, solution, covariance, weight, residual, ITERATIONS
    )
    for k in range(count):
        if redundancy >= 3 and not math.isnan(y[k]):
            limit_m = min(slip_m + 4.0 * math.sqrt(variance[k]), 0.06 + 4.0 * drift)
            half_m = 0.5 * links[k].wavelength_m
            if turned[k] and abs(abs(residual[k]) - half_m) < min(limit_m, 0.25 * half_m):
                turn = math.copysign(0.5, residual[k])
                x[ambiguity[k]] += turn
                notes[ambiguity[k]].integer += turn
            else:
                slipped[k] |= abs(residual[k]) > limit_m
        else:
            slipped[k] |= turned[k]
    return (STEP_PRIOR + redundancy * factor) / (STEP_PRIOR + redundancy) if redundancy >= 3 else 1.0


@part
def weigh_fades(count: int, links: Records, dt_s: float, ambiguity: Int32Array, notes: Records, slipped: Bools) -> None:
    """Raise the variances of carriers that fade, and take those that nearly vanish for slipped.

    A reflection of relative amplitude a lowers the sum by up to -20 log10(1 - a) dB and turns its phase by up to
    asin(a) (Georgiadou and Kleusberg 1988); SIGMA-Delta weights (Brunner, Hartinger and Troyer 1999) compare C/N0 with
    what it should be in the same way. Where the reflection wins, the phase goes round by whole cycles, and the receiver
    does not notice. What C/N0 should be: the strongest lately, less what covers the antenna, or what satellites have
    that are no higher.

    Args:
        count: Number of links.
        links: (count,); phase_m2 is raised.
        dt_s: Time since the last epoch.
        ambiguity: (count,) places of the links' ambiguities; -1: there is none yet.
        notes: Of `NOTE`, by place; their C/N0 is brought up to date.
        slipped: (count,) set where a carrier nearly vanished.
    """
    lost = np.zeros((count, 2))
    for end in range(2):
        for k in range(count):
            if ambiguity[k] >= 0:
                note, now_dbhz = notes[ambiguity[k]], links[k].cn0_dbhz[end]
                note.cn0_dbhz[end] = max(note.cn0_dbhz[end] - FADE_FORGET_DB_S * dt_s, now_dbhz)
                lost[k, end] = note.cn0_dbhz[end] - now_dbhz
        lost[:, end] -= _covered(count, lost[:, end], ambiguity)
    for k in range(count):
        fade = 0.0
        for end in range(2):
            fade = max(fade, lost[k, end], _usual_cn0(k, end, count, links) - links[k].cn0_dbhz[end])
        if fade > FADE_FREE_DB:
            turn = math.asin(1.0 - 10.0 ** (-0.05 * (fade - FADE_FREE_DB))) * links[k].wavelength_m / (2.0 * math.pi)
            links[k].phase_m2 += turn * turn
        if fade > FADE_SLIP_DB or (ambiguity[k] >= 0 and notes[ambiguity[k]].misfits >= MISFITS_MAX):
            slipped[k] = True


@part
def _covered(count: int, lost_db: Float64Array, ambiguity: Int32Array) -> float:
    """What covers a receiver's antenna takes from all carriers: the median of what those seen before have lost, dB."""
    seen, values = 0, np.empty(count)
    for k in range(count):
        if ambiguity[k] >= 0:
            values[seen] = lost_db[k]
            seen += 1
    common_db = median(seen, values) if seen >= COVERED_MIN else 0.0
    return common_db if common_db >= COVERED_DB else 0.0


@part
def _usual_cn0(k: int, end: int, count: int, links: Records) -> float:
    """Mean C/N0 of a receiver's other carriers of the group that are no higher in the sky; 0 where they are few."""
    total, others = 0.0, 0
    for j in range(count):
        if j != k and links[j].group == links[k].group and links[j].elevation <= links[k].elevation:
            total += links[j].cn0_dbhz[end]
            others += 1
    return total / others if others >= 3 else 0.0


@part
def synchronise_states(
    count: int, links: Records, time_ns: int, previous_ns: int, slipped: Bools, start_m: float, ionosphere_m: float,
    stray_m: Float64Array, keep: float, wander: float, memory_ns: int, n: int, x: Float64Array, p: Float64Array,
    keys: Int32Array, notes: Records, ambiguity: Int32Array, ionosphere: Int32Array, stray: Int32Array,
) -> int:  # fmt: skip
    """Make the filter's states those of this epoch's links.

    A new or slipped carrier gets a new ambiguity; one that was away keeps its own if its lock time spans the gap.
    States not seen for long are dropped.

    Args:
        count: Number of links.
        links: (count,).
        time_ns: This epoch.
        previous_ns: The last one.
        slipped: (count,).
        start_m: Standard deviation of a new ambiguity.
        ionosphere_m: Standard deviation of a new zenith ionosphere state; 0: there are no such states.
        stray_m: (count,) standard deviations of the satellites' stray delays; 0: there are no such states.
        keep: What is left of a stray delay since the last epoch.
        wander: Variance that an old ambiguity gains, in units of its carrier's.
        memory_ns: How long an unseen state is kept.
        n: Number of states.
        x: State.
        p: Its covariance.
        keys: (n,).
        notes: (n,).
        ambiguity: (count,) in, place of each link's ambiguity before; out, place now; -1: none.
        ionosphere: (count,) out, place of the satellite's ionosphere; -1: none.
        stray: (count,) out, place of its stray delay; -1: none.

    Returns:
        The new number of states.
    """
    moved = np.zeros(n, np.int64)
    for k in range(BASE_STATES, n):
        if notes[k].seen_ns < time_ns - memory_ns:
            moved[k] = -1
    left = remove_states(n, x, p, keys, moved)
    if left < n:
        for k in range(BASE_STATES, n):
            if moved[k] >= 0:
                notes[moved[k]] = notes[k]
        n = left
    for k in range(count):
        place = moved[ambiguity[k]] if ambiguity[k] >= 0 else -1
        ambiguity[k] = ionosphere[k] = stray[k] = -1
        if ionosphere_m > 0.0:
            key, sigma_m = ionosphere_key(links[k].sat), ionosphere_m * links[k].slant
            ionosphere[k], n = _delay_state(key, sigma_m, 1.0, time_ns, n, x, p, keys, notes)
        if stray_m[k] > 0.0:
            stray[k], n = _delay_state(stray_key(links[k].sat), stray_m[k], keep, time_ns, n, x, p, keys, notes)
        if math.isnan(links[k].phase_m):
            continue
        value = (links[k].phase_m - links[k].code_m) / links[k].wavelength_m
        variance = (start_m / links[k].wavelength_m) ** 2
        if place < 0:
            place = n
            n = add_state(n, x, p, keys, links[k].key, value, variance)
            if n == place:
                continue
            _new_note(notes, place)
            notes[place].cn0_dbhz[0], notes[place].cn0_dbhz[1] = links[k].cn0_dbhz[0], links[k].cn0_dbhz[1]
        elif slipped[k] or (
            notes[place].seen_ns < previous_ns and not links[k].lock_s > (time_ns - notes[place].seen_ns) * 1e-9
        ):
            reset_state(n, x, p, place, value, variance)
            _new_note(notes, place)
        if wander > 0.0:
            p[place, place] += wander * links[k].phase_m2 / links[k].wavelength_m ** 2
        notes[place].seen_ns = time_ns
        notes[place].half = links[k].flags & HALF_CYCLE
        notes[place].locked += 1
        ambiguity[k] = place
    return n


@part
def count_carried(count: int, ambiguity: Int32Array, notes: Records) -> int:
    """Number of the links whose ambiguities are known from before; what is out of view carries no position."""
    carried = 0
    for k in range(count):
        if ambiguity[k] >= 0 and notes[ambiguity[k]].locked > 1:
            carried += 1
    return carried


@part
def weigh_fresh(count: int, links: Records, dt_s: float, ambiguity: Int32Array, notes: Records) -> None:
    """Raise the variances of carriers that have just been found (again), where enough others go on."""
    settled, age_s = 0, np.empty(count)
    for k in range(count):
        age_s[k] = (notes[ambiguity[k]].locked - 1) * dt_s if ambiguity[k] >= 0 else 0.0
        if age_s[k] >= SETTLED_S:
            settled += 1
    for k in range(count):
        if settled >= CARRIED_MIN and age_s[k] < SETTLED_S:
            links[k].phase_m2 += (FRESH_CYCLES * links[k].wavelength_m * math.exp(-age_s[k] / SETTLING_S)) ** 2


@part
def _new_note(notes: Records, place: int) -> None:
    """An ambiguity of which nothing is known."""
    notes[place].locked = 0
    notes[place].agreed = 0
    notes[place].misfits = 0
    notes[place].integer = np.nan
    notes[place].phase_m = np.nan


@part
def _delay_state(
    key: int, sigma_m: float, keep: float, time_ns: int, n: int, x: Float64Array, p: Float64Array, keys: Int32Array,
    notes: Records,
) -> tuple[int, int]:  # fmt: skip
    """Place of a satellite's delay (made where there is none, else a Gauss-Markov step on) and the number of states."""
    place = find_state(n, keys, key)
    if place < 0:
        place = n
        n = add_state(n, x, p, keys, key, 0.0, sigma_m * sigma_m)
        if n == place:
            return -1, n
    elif keep < 1.0 and notes[place].seen_ns < time_ns:  # once for all of its links
        decay_states(n, place, place + 1, keep, sigma_m * sigma_m, x, p)
    notes[place].seen_ns = time_ns
    return place, n


@part
def decay_atmosphere(
    n: int, dt_s: float, ionosphere_m: float, before_m: float, ionosphere_s: float, zenith_m: float, gradient_m: float,
    zenith_s: float, x: Float64Array, p: Float64Array, keys: Int32Array,
) -> None:  # fmt: skip
    """Gauss-Markov steps of the atmosphere's states towards what is normal for the baseline.

    Where more is expected of the ionosphere than before, its states were thought too small all the time; where less is,
    too large, which is as if they had been seen to be zero.
    """
    keep = math.exp(-dt_s / zenith_s)
    if zenith_m > 0.0:
        decay_states(n, ZENITH, ZENITH + 2, keep, zenith_m * zenith_m, x, p)
    if gradient_m > 0.0:
        decay_states(n, GRADIENT, GRADIENT + 2, keep, gradient_m * gradient_m, x, p)
    if ionosphere_m > 0.0:
        keep = math.exp(-dt_s / ionosphere_s)
        more = 2.0 * (ionosphere_m * ionosphere_m - before_m * before_m)  # twice, for slants
        for k in range(BASE_STATES, n):
            if is_ionosphere(keys[k]):
                decay_states(n, k, k + 1, keep, ionosphere_m * ionosphere_m, x, p)
                if more < 0.0:
                    zero_m2 = (2.0 * ionosphere_m * before_m) ** 2 / -more
                    apply_gain(n, p[k].copy(), -x[k], p[k, k] + zero_m2, x, p)
                else:
                    p[k, k] += more


@part
def observe_links(
    n: int, count: int, links: Records, order: Int64Array, code_weight: Float64Array, code_scale: float,
    code_inflation: float, phase_inflation: float, ambiguity: Int32Array, ionosphere: Int32Array, stray: Int32Array,
    notes: Records, limit: float, x: Float64Array, p: Float64Array, innovations: Float64Array,
) -> None:  # fmt: skip
    """Update the filter with all codes, then all phases; note how long carriers have contradicted the others.

    Code errors are mostly multipath and last: after the first epoch, each tells but 1 / code_inflation of its weight.
    Phases have such errors too, if smaller: after its first epoch, each tells but 1 / phase_inflation.
    """
    code_m2, phase_m2 = np.empty(count), np.empty(count)
    for k in range(count):
        code_m2[k] = links[k].code_m2 * code_inflation / max(code_weight[k] / code_scale, 1e-9)
        phase_m2[k] = links[k].phase_m2
        if ambiguity[k] >= 0 and notes[ambiguity[k]].locked > 1:
            phase_m2[k] *= phase_inflation
        if code_weight[k] <= 0.0:
            code_m2[k] = np.nan
    groups, lasting, on = 0, 1.0 - 1.0 / phase_inflation, scratch(n)
    for k in range(count):  # they are numbered in order of appearance, before links were dropped
        groups = max(groups, links[k].group + 1)
    for turn in range(2 * groups):
        is_phase = turn >= groups
        group, variance = (turn - groups, phase_m2) if is_phase else (turn, code_m2)
        update_group(
            n, count, group, is_phase, order, links, ambiguity, ionosphere, stray, variance,
            lasting if is_phase else 0.0, limit, x, p, innovations, on,
        )  # fmt: skip
    mirror(n, p)
    for k in range(count):
        if ambiguity[k] >= 0:
            fits = abs(innovations[k]) < limit
            notes[ambiguity[k]].misfits = 0 if fits else notes[ambiguity[k]].misfits + 1


@part
def noise_factor(
    count: int, innovations: Float64Array, ambiguity: Int32Array, notes: Records, scale: float, known: Record
) -> None:
    """Follow the variance factor of the carriers by the median of their innovations, normalised with `scale`.

    Slow errors hide in the ambiguities and do not show, hence the lower limit. At first each epoch tells as much as the
    law does; later it is one of the last twenty.
    """
    sizes = np.empty(count)
    used = 0
    for k in range(count):
        if ambiguity[k] >= 0 and innovations[k] != 0.0 and notes[ambiguity[k]].locked > 5:
            sizes[used] = abs(innovations[k])
            used += 1
    if used < 4:
        return
    square = (median(used, sizes) / 0.6745) ** 2
    step = math.log(max(square, 1e-3) * scale / known.white_factor)
    step = min(max(step, -1.0), 1.0)  # bounded alike on both sides: follows the usual epoch
    known.white_epochs = min(known.white_epochs + 1.0, WHITE_MEMORY)
    known.white_factor = min(max(known.white_factor * math.exp(step / known.white_epochs), 0.5), WHITE_FACTOR_MAX)


@part
def ionosphere_factor(
    n: int, dt_s: float, x: Float64Array, p: Float64Array, keys: Int32Array, sigma_m: float, factor: float
) -> float:
    """Follow the variance factor of the differential ionosphere by how large its estimated states are.

    The estimates' expected square is the states' own variance (zenith, times two for the slant) less what is not known.
    An ionosphere that integers have told to be quiet (`learning.learn_quiet`) is left alone.
    """
    square, expected = 0.0, 0.0
    for k in range(BASE_STATES, n):
        if is_ionosphere(keys[k]):
            square += x[k] * x[k]
            expected += max(2.0 * sigma_m * sigma_m - p[k, k], 0.1 * sigma_m * sigma_m)
    if expected == 0.0 or factor < 1.0:
        return factor
    step = min(max(math.log(max(square / expected, 1e-3)), -1.0), 1.0)
    return min(max(factor * math.exp(0.1 * min(dt_s / IONOSPHERE_STEP_S, 1.0) * step), 1.0), 100.0)


@part
def choose_references(
    count: int, links: Records, order: Int64Array, usable: Bools, held: Bools, reference: Int32Array
) -> None:
    """Choose each group's reference: the best usable link, one with a held integer before all others."""
    reference[:] = -1
    for which in range(count):
        k = order[which]
        group = links[k].group
        if usable[k] and (reference[group] < 0 or (held[k] and not held[reference[group]])):
            reference[group] = k


@part
def instantaneous_differences(
    count: int, links: Records, reference: Int32Array, usable: Bools, atmosphere: Float64Array, position: Float64Array,
    position_m2: Float64Array, member: Int32Array, a: Float64Array, q: Float64Array, b: Float64Array, qba: Float64Array,
    qb: Float64Array,
) -> int:  # fmt: skip
    """The joint distribution of one epoch alone: positions from code, ambiguities as carriers less ranges.

    Arguments as of `fixing.double_differences`, with a position offset and its covariance in place of a filter, and the
    standard deviations of what the filter has states for: each satellite's zenith ionosphere (m at L1; common to all of
    its bands), either end's wet zenith delay, and the zenith ionosphere that both ends share.
    """
    m = 0
    for k in range(count):
        if usable[k] and reference[links[k].group] >= 0 and reference[links[k].group] != k:
            member[m] = k
            m += 1
    design, spread, shared = np.empty((m, 3)), np.empty((m, 3)), np.empty((m, 3))
    for i in range(m):
        k, r = member[i], reference[links[member[i]].group]
        a[i] = links[k].phase_m - links[r].phase_m
        for axis in range(3):
            design[i, axis] = (links[r].unit[axis] - links[k].unit[axis]) / links[k].wavelength_m
        a[i] /= links[k].wavelength_m
        for axis in range(3):
            a[i] -= design[i, axis] * position[axis]
            spread[i, axis] = (
                design[i, 0] * position_m2[0, axis] + design[i, 1] * position_m2[1, axis]
                + design[i, 2] * position_m2[2, axis]
            )  # fmt: skip
            qba[axis, i] = -spread[i, axis]
        shared[i, 0] = atmosphere[1] * (links[k].wet_rover - links[r].wet_rover) / links[k].wavelength_m
        shared[i, 1] = atmosphere[1] * (links[k].wet_base - links[r].wet_base) / links[k].wavelength_m
        bend = links[k].slant - links[k].slant_base - links[r].slant + links[r].slant_base
        shared[i, 2] = atmosphere[2] * links[k].ionosphere * bend / links[k].wavelength_m
        common = links[r].phase_m2 / (links[k].wavelength_m * links[k].wavelength_m)
        for j in range(i + 1):
            value = spread[i, 0] * design[j, 0] + spread[i, 1] * design[j, 1] + spread[i, 2] * design[j, 2]
            value += shared[i, 0] * shared[j, 0] + shared[i, 1] * shared[j, 1] + shared[i, 2] * shared[j, 2]
            if links[member[j]].group == links[k].group:
                value += common
            if atmosphere[0] > 0.0:
                other = member[j]
                base = reference[links[other].group]
                delay = _common_delay(links, k, other) - _common_delay(links, k, base)
                delay += _common_delay(links, r, base) - _common_delay(links, r, other)
                value += atmosphere[0] ** 2 * delay / (links[k].wavelength_m * links[other].wavelength_m)
            q[i, j] = value
        q[i, i] += links[k].phase_m2 / (links[k].wavelength_m * links[k].wavelength_m)
        for j in range(i):
            q[j, i] = q[i, j]
    for i in range(3):
        b[i] = position[i]
        for j in range(3):
            qb[i, j] = position_m2[i, j]
    return m


@part
def _common_delay(links: Records, k: int, other: int) -> float:
    """Covariance of two links' ionosphere for unit variance at the zenith: links of other satellites share none."""
    if links[k].sat != links[other].sat:
        return 0.0
    return float(links[k].slant * links[other].slant * links[k].ionosphere * links[other].ionosphere)


@part
def observe_vector(
    n: int, first: int, value: Float64Array, covariance: Float64Array, x: Float64Array, p: Float64Array
) -> float:
    """Update three states with a correlated measurement of all three; returns the mean squared innovation."""
    factor, inverse, direction = covariance.copy(), np.empty((3, 3)), np.zeros(3)
    if not cholesky(factor, 3):
        return -1.0
    total = 0.0
    inverse[:] = 0.0
    for row in range(3):  # rows of the inverse factor whiten the measurement
        for column in range(row + 1):
            sum_ = 1.0 if row == column else 0.0
            for k in range(column, row):
                sum_ -= factor[row, k] * inverse[k, column]
            inverse[row, column] = sum_ / factor[row, row]
    for row in range(3):
        whitened = 0.0
        for k in range(3):
            direction[k] = inverse[row, k]
            whitened += inverse[row, k] * value[k]
        total += observe_coordinate(n, first, direction, whitened, 1.0, x, p)
    return total / 3.0


@part
def remember_phases(count: int, links: Records, ambiguity: Int32Array, offset: Float64Array, notes: Records) -> None:
    """Note each carrier less the model at the position that was found, for the next epoch's time differences."""
    for k in range(count):
        if ambiguity[k] >= 0:
            value = links[k].phase_m
            for axis in range(3):
                value += links[k].unit[axis] * offset[axis]
            notes[ambiguity[k]].phase_m = value
