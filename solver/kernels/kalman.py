"""The float filter of relative positioning: a Kalman filter whose state grows and shrinks with the satellites.

State: ten places that are always there (`POSITION` as an offset from the epoch's approximate position, `VELOCITY`, the
wet zenith delays of rover and base, a phase bias for each GLONASS channel number in two bands), then one for each
single-differenced ambiguity (cycles) and, on longer baselines, one for the differential slant ionosphere of each
satellite (m at L1). Each of these has a key: the link's key, or `ionosphere_key`.

Measurements are taken one at a time. Every group has a free offset in every epoch (`differencing`); instead of states
for them, each measurement is compared with the weighted mean of those of its group before it: y_k - mean(y_1 ...).
These contrasts are uncorrelated with one another for uncorrelated measurements and carry all that double differences
carry, with no reference satellite, no correlated noise and no matrix to invert.
"""

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from solver.jit import part
from solver.kernels import Float64Array, Int32Array, Records

__all__ = [
    "BASE_STATES",
    "POSITION",
    "VELOCITY",
    "ZENITH",
    "add_state",
    "apply_gain",
    "decay_states",
    "find_state",
    "ionosphere_key",
    "move",
    "observe_coordinate",
    "remove_states",
    "reset_state",
    "update_group",
]

POSITION: Final = 0
VELOCITY: Final = 3
ZENITH: Final = 6
CHANNEL_BIAS: Final = 8
BASE_STATES: Final = 10
TERMS_MAX: Final = 400

Int64Array = NDArray[np.int64]


@part
def ionosphere_key(sat: int) -> int:
    """Key of the ionosphere state of a satellite; negative, so that it is never that of an ambiguity."""
    return -1000 - sat


@part
def find_state(n: int, keys: Int32Array, key: int) -> int:
    """Place of a key among n states; -1 where there is none."""
    for k in range(BASE_STATES, n):
        if keys[k] == key:
            return k
    return -1


@part
def add_state(
    n: int, x: Float64Array, p: Float64Array, keys: Int32Array, key: int, value: float, variance: float
) -> int:
    """Append an uncorrelated state; returns the new number of states, the same where the arrays are full."""
    if n == len(x):
        return n
    keys[n] = key
    x[n] = value
    p[n, : n + 1] = 0.0
    p[:n, n] = 0.0
    p[n, n] = variance
    return n + 1


@part
def reset_state(n: int, x: Float64Array, p: Float64Array, place: int, value: float, variance: float) -> None:
    """Forget all that is known of one state."""
    x[place] = value
    p[place, :n] = 0.0
    p[:n, place] = 0.0
    p[place, place] = variance


@part
def remove_states(n: int, x: Float64Array, p: Float64Array, keys: Int32Array, moved: Int64Array) -> int:
    """Drop the states whose place in `moved` is negative; `moved` becomes each state's new place.

    Returns:
        The number of states left.
    """
    left = 0
    for k in range(n):
        if moved[k] >= 0 or k < BASE_STATES:
            moved[k] = left
            left += 1
    if left == n:
        return n
    for i in range(n):
        if moved[i] < 0:
            continue
        a = moved[i]
        x[a], keys[a] = x[i], keys[i]
        for j in range(n):
            if moved[j] >= 0:
                p[a, moved[j]] = p[i, j]
    return left


@part
def move(n: int, dt_s: float, acceleration_mps2: float, x: Float64Array, p: Float64Array) -> None:
    """Advance position by velocity over dt_s, with white accelerations held constant over the step."""
    for axis in range(3):
        place = VELOCITY + axis
        x[axis] += dt_s * x[place]
        for k in range(n):
            p[axis, k] += dt_s * p[place, k]
        for k in range(n):
            p[k, axis] += dt_s * p[k, place]
        q = acceleration_mps2 * acceleration_mps2
        p[axis, axis] += 0.25 * q * dt_s**4
        p[axis, place] += 0.5 * q * dt_s**3
        p[place, axis] += 0.5 * q * dt_s**3
        p[place, place] += q * dt_s**2


@part
def decay_states(n: int, first: int, last: int, keep: float, variance: float, x: Float64Array, p: Float64Array) -> None:
    """Gauss-Markov step of the states first ... last - 1: keep part of each, add noise up to a stationary variance."""
    for place in range(first, last):
        x[place] *= keep
        for k in range(n):  # not p[place, :n] *= keep: its check of shapes alone takes seconds to compile
            p[place, k] *= keep
        for k in range(n):
            p[k, place] *= keep
        p[place, place] += (1.0 - keep * keep) * variance


@part
def observe_coordinate(
    n: int, first: int, direction: Float64Array, value: float, variance: float, x: Float64Array, p: Float64Array
) -> float:
    """Update with one measurement of direction . x[first : first + 3]; returns the squared normalised innovation."""
    gain = np.empty(n)
    expected, spread = 0.0, variance
    for k in range(n):
        gain[k] = p[first, k] * direction[0] + p[first + 1, k] * direction[1] + p[first + 2, k] * direction[2]
    for axis in range(3):
        expected += direction[axis] * x[first + axis]
        spread += direction[axis] * gain[first + axis]
    innovation = value - expected
    apply_gain(n, gain, innovation, spread, x, p)
    return innovation * innovation / spread


@part
def apply_gain(n: int, gain: Float64Array, innovation: float, spread: float, x: Float64Array, p: Float64Array) -> None:
    """Rank-one update with the unscaled gain P h', its innovation and the innovation's variance."""
    for i in range(n):
        scaled = gain[i] / spread
        if scaled == 0.0:
            continue
        x[i] += scaled * innovation
        for j in range(n):
            p[i, j] -= scaled * gain[j]


@part
def update_group(
    n: int, count: int, group: int, is_phase: bool, order: Int64Array, links: Records, ambiguity: Int32Array,
    ionosphere: Int32Array, variance: Float64Array, lasting: float, limit: float, x: Float64Array, p: Float64Array,
    innovations: Float64Array,
) -> int:  # fmt: skip
    """Update with the codes or the phases of one group, best links first.

    Args:
        n: Number of states.
        count: Number of links.
        group: The group.
        is_phase: Whether to take phases rather than codes.
        order: (count,) links in the order in which to take them.
        links: (count,) of `LINK`.
        ambiguity: (count,) places of the ambiguities; negative: the phase is not to be used.
        ionosphere: (count,) places of the ionosphere states; negative: none.
        variance: (count,) of the measurements; NaN: left out.
        lasting: Share of the variances that stands for errors which last: innovations do not show it.
        limit: Normalised innovation from which on a measurement's variance is raised (Huber).
        x: (>= n,) state.
        p: (>= n, >= n) its covariance.
        innovations: (count,) out for those used: normalised innovations; 0 for the first of the group.

    Returns:
        How many measurements were taken, the first included.
    """
    gain = np.empty(n)
    mean = np.zeros(TERMS_MAX)  # weighted sum of the rows taken so far, by term
    places = np.empty(TERMS_MAX, np.int64)
    for k in range(BASE_STATES):
        places[k] = k
    terms, total, mean_y, taken = BASE_STATES, 0.0, 0.0, 0
    row = np.zeros(BASE_STATES)
    for which in range(count):
        k = order[which]
        if links[k].group != group or math.isnan(variance[k]) or (is_phase and ambiguity[k] < 0):
            continue
        y = links[k].phase_m if is_phase else links[k].code_m
        if math.isnan(y) or terms + 2 > TERMS_MAX:
            continue
        _fill_row(k, links, is_phase, row)
        delay = -links[k].ionosphere if is_phase else links[k].ionosphere
        noise = variance[k]
        innovations[k] = 0.0
        if taken > 0:
            _contrast_gain(n, row, terms, mean, places, total, p, gain)
            at_amb, at_ion = ambiguity[k], ionosphere[k]
            if is_phase:
                for i in range(n):
                    gain[i] += links[k].wavelength_m * p[at_amb, i]
            if at_ion >= 0:
                for i in range(n):
                    gain[i] += delay * p[at_ion, i]
            expected, spread = mean_y / total, noise + 1.0 / total
            for i in range(BASE_STATES):
                expected += row[i] * x[i]
                spread += row[i] * gain[i]
            for t in range(terms):
                spread -= mean[t] / total * gain[places[t]]
                expected -= mean[t] / total * x[places[t]]
            if is_phase:
                expected += links[k].wavelength_m * x[at_amb]
                spread += links[k].wavelength_m * gain[at_amb]
            if at_ion >= 0:
                expected += delay * x[at_ion]
                spread += delay * gain[at_ion]
            innovation = y - expected
            shown = spread - lasting * (noise + 1.0 / total)
            normalised = innovation / math.sqrt(shown)
            innovations[k] = normalised
            if abs(normalised) > limit:  # as much noise as makes the innovation one of `limit` sigma
                raised = innovation * innovation / (limit * limit) - shown
                noise += raised
                spread += raised
            apply_gain(n, gain, innovation, spread, x, p)
        weight = 1.0 / noise
        total += weight
        mean_y += weight * y
        for i in range(BASE_STATES):
            mean[i] += weight * row[i]
        if is_phase:
            places[terms], mean[terms] = ambiguity[k], weight * links[k].wavelength_m
            terms += 1
        if ionosphere[k] >= 0:
            places[terms], mean[terms] = ionosphere[k], weight * delay
            terms += 1
        taken += 1
    return taken


@part
def _fill_row(k: int, links: Records, is_phase: bool, row: Float64Array) -> None:
    """Partial derivatives of link k by the states that are always there."""
    for axis in range(3):
        row[POSITION + axis] = -links[k].unit[axis]
    row[ZENITH] = links[k].wet_rover
    row[ZENITH + 1] = -links[k].wet_base
    row[CHANNEL_BIAS] = links[k].channel if is_phase and links[k].rank == 0 else 0.0
    row[CHANNEL_BIAS + 1] = links[k].channel if is_phase and links[k].rank == 1 else 0.0


@part
def _contrast_gain(
    n: int, row: Float64Array, terms: int, mean: Float64Array, places: Int64Array, total: float, p: Float64Array,
    gain: Float64Array,
) -> None:  # fmt: skip
    """P times (the always present part of a row, less the mean of the rows before it)."""
    gain[:] = 0.0
    for t in range(terms):
        value = -mean[t] / total
        if t < BASE_STATES:
            value += row[t]
        if value == 0.0:
            continue
        place = places[t]
        for i in range(n):
            gain[i] += value * p[place, i]
