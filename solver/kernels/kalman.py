"""The float filter of relative positioning: a Kalman filter whose state grows and shrinks with the satellites.

State: thirteen places that are always there (`POSITION` as an offset from the epoch's approximate position, `VELOCITY`,
the wet zenith delays of rover and base, a phase bias for each GLONASS channel number in two bands, what the zenith
ionosphere over both has beyond the expected, by how much the wet delays' gradients differ, north and east), then one
for each single-differenced ambiguity (cycles) and, on longer baselines, two for each satellite: its differential slant
ionosphere (m at L1), and its stray delay (m), which is what its orbit's error and uneven water vapour add to all of
its links. Each of these has a key: the link's key, `ionosphere_key` or `stray_key`.

Measurements are taken one at a time. Every group has a free offset in every epoch (`differencing`): the group's first
measurement tells what it is, whatever the states are, and thereby tells nothing of the states; all others are compared
with it. That carries all that double differences carry, with no reference satellite, no correlated noise and no matrix
to invert.

A measurement's gain is formed from the covariance as it was and the gains since; these are taken out of the covariance
some at a time, so that it passes through the processor once for all of them, as in blocked factorizations.
"""

import math
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from solver.jit import kernel, part
from solver.kernels import Float64Array, Int32Array, Records

__all__ = [
    "BASE_STATES",
    "COMMON_IONOSPHERE",
    "GRADIENT",
    "POSITION",
    "VELOCITY",
    "ZENITH",
    "add_state",
    "apply_gain",
    "decay_states",
    "find_state",
    "ionosphere_key",
    "is_ionosphere",
    "mirror",
    "move",
    "observe_coordinate",
    "remove_states",
    "reset_state",
    "stray_key",
    "update_group",
]

POSITION: Final = 0
VELOCITY: Final = 3
ZENITH: Final = 6
CHANNEL_BIAS: Final = 8
COMMON_IONOSPHERE: Final = 10
GRADIENT: Final = 11
BASE_STATES: Final = 13
IONOSPHERE_KEYS: Final = -1000
STRAY_KEYS: Final = -2000
BLOCK: Final = 16
"""Gains that may wait: more of them cost more than a pass over the covariance saves."""

Int64Array = NDArray[np.int64]
Record = Any


class Scratch(NamedTuple):
    """What `update_group` writes on, made once for all groups of an epoch."""

    gains: Float64Array
    scaled: Float64Array
    spreads: Float64Array
    gain: Float64Array
    offset_gain: Float64Array
    row: Float64Array
    places: Int64Array
    factors: Float64Array
    along: Float64Array


@part
def scratch(n: int) -> Scratch:
    """That for so many states."""
    return Scratch(
        np.zeros((BLOCK, n)), np.zeros((BLOCK, n)), np.ones(BLOCK), np.empty(n), np.empty(n), np.zeros(BASE_STATES),
        np.zeros(3, np.int64), np.zeros(3), np.zeros(BLOCK),
    )  # fmt: skip


@part
def ionosphere_key(sat: int) -> int:
    """Key of the ionosphere state of a satellite; negative, so that it is never that of an ambiguity."""
    return IONOSPHERE_KEYS - sat


@part
def is_ionosphere(key: int) -> bool:
    """Whether a key is one of `ionosphere_key`."""
    return STRAY_KEYS < key <= IONOSPHERE_KEYS


@part
def stray_key(sat: int) -> int:
    """Key of the state of a satellite's stray delay; below those of the ionosphere."""
    return STRAY_KEYS - sat


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
    ionosphere: Int32Array, stray: Int32Array, variance: Float64Array, lasting: float, limit: float, x: Float64Array,
    p: Float64Array, innovations: Float64Array, on: Scratch,
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
        stray: (count,) places of the stray delays' states; negative: none.
        variance: (count,) of the measurements; NaN: left out.
        lasting: Share of the variances that stands for errors which last: innovations do not show it.
        limit: Normalised innovation from which on a measurement's variance is raised (Huber).
        x: (>= n,) state.
        p: (>= n, >= n) its covariance; of the rows from `BASE_STATES` on, what lies beyond the diagonal is neither read
            nor written (`mirror`).
        innovations: (count,) out for those used: normalised innovations; 0 for the first of the group.
        on: Written on.

    Returns:
        How many measurements were taken, the first included.
    """
    gains, scaled, spreads, gain, offset_gain, row, places, factors, along = on
    offset, offset_variance, total = 0.0, 0.0, 0.0
    taken, waiting = 0, 0
    for which in range(count):
        k = order[which]
        if links[k].group != group or math.isnan(variance[k]) or (is_phase and ambiguity[k] < 0):
            continue
        y = links[k].phase_m if is_phase else links[k].code_m
        if math.isnan(y):
            continue
        terms = _fill_row(links[k], is_phase, ambiguity[k], ionosphere[k], stray[k], row, places, factors)
        noise = variance[k]
        _project(n, row, terms, places, factors, waiting, gains, spreads, p, gain, along)
        innovation = y - offset - _along(row, terms, places, factors, x)
        innovations[k] = 0.0
        if taken == 0:  # it tells of the offset alone
            offset, offset_variance = innovation, _along(row, terms, places, factors, gain) + noise
            for i in range(n):
                offset_gain[i] = -gain[i]
        else:
            shared = _along(row, terms, places, factors, offset_gain) + offset_variance
            for i in range(n):
                gain[i] += offset_gain[i]
            spread = _along(row, terms, places, factors, gain) + shared + noise
            shown = spread - lasting * (noise + 1.0 / total)
            innovations[k] = innovation / math.sqrt(shown)
            if abs(innovations[k]) > limit:  # as much noise as makes the innovation one of `limit` sigma
                raised = innovation * innovation / (limit * limit) - shown
                noise += raised
                spread += raised
            for i in range(n):
                gains[waiting, i], scaled[waiting, i] = gain[i], gain[i] / spread
                x[i] += scaled[waiting, i] * innovation
                offset_gain[i] -= scaled[waiting, i] * shared
            offset += shared / spread * innovation
            offset_variance -= shared / spread * shared
            spreads[waiting] = spread
            waiting += 1
            if waiting == BLOCK:
                _take_out(n, waiting, gains, scaled, p)
                waiting = 0
        total += 1.0 / noise
        taken += 1
    while waiting % 4 != 0:
        for i in range(n):
            scaled[waiting, i] = 0.0
        waiting += 1
    _take_out(n, waiting, gains, scaled, p)
    return taken


@kernel
def _fill_row(
    link: Record, is_phase: bool, ambiguity: int, ionosphere: int, stray: int, row: Float64Array, places: Int64Array,
    factors: Float64Array,
) -> int:  # fmt: skip
    """Write partial derivatives by the states that are always there, and by up to three others; returns how many."""
    for axis in range(3):
        row[POSITION + axis] = -link.unit[axis]
    row[ZENITH] = link.wet_rover
    row[ZENITH + 1] = -link.wet_base
    row[CHANNEL_BIAS] = link.channel if is_phase and link.rank == 0 else 0.0
    row[CHANNEL_BIAS + 1] = link.channel if is_phase and link.rank == 1 else 0.0
    common = link.ionosphere * (link.slant - link.slant_base)
    row[COMMON_IONOSPHERE] = -common if is_phase else common
    row[GRADIENT], row[GRADIENT + 1] = link.tilt[0], link.tilt[1]
    terms = 0
    if is_phase:
        places[terms], factors[terms] = ambiguity, link.wavelength_m
        terms += 1
    if ionosphere >= 0:
        places[terms], factors[terms] = ionosphere, -link.ionosphere if is_phase else link.ionosphere
        terms += 1
    if stray >= 0:
        places[terms], factors[terms] = stray, 1.0
        terms += 1
    return terms


@kernel
def _along(row: Float64Array, terms: int, places: Int64Array, factors: Float64Array, vector: Float64Array) -> float:
    """Product of a measurement's partial derivatives and a vector of states."""
    total = 0.0
    for i in range(BASE_STATES):
        total += row[i] * vector[i]
    for t in range(terms):
        total += factors[t] * vector[places[t]]
    return total


@kernel
def _project(
    n: int, row: Float64Array, terms: int, places: Int64Array, factors: Float64Array, waiting: int, gains: Float64Array,
    spreads: Float64Array, p: Float64Array, gain: Float64Array, along: Float64Array,
) -> None:  # fmt: skip
    """Write covariance times a measurement's partial derivatives, less what waits to be taken out of the covariance."""
    for j in range(n):  # the velocity's derivatives are zero
        gain[j] = row[0] * p[0, j] + row[1] * p[1, j] + row[2] * p[2, j]
    for i in range(ZENITH, BASE_STATES):
        if row[i] != 0.0:
            for j in range(n):
                gain[j] += row[i] * p[i, j]
    for t in range(terms):
        place = places[t]
        for j in range(place + 1):
            gain[j] += factors[t] * p[place, j]
        for j in range(place + 1, n):
            gain[j] += factors[t] * p[j, place]
    for w in range(BLOCK):  # products of the derivatives and the gains that wait, of all of them at once
        along[w] = 0.0
    for i in range(BASE_STATES):
        if row[i] != 0.0:
            for w in range(waiting):
                along[w] += row[i] * gains[w, i]
    for t in range(terms):
        for w in range(waiting):
            along[w] += factors[t] * gains[w, places[t]]
    for w in range(0, waiting, 4):
        a, b = along[w] / spreads[w], along[w + 1] / spreads[w + 1]
        c, d = along[w + 2] / spreads[w + 2], along[w + 3] / spreads[w + 3]
        for j in range(n):
            gain[j] = (
                gain[j] - a * gains[w, j] - b * gains[w + 1, j] - c * gains[w + 2, j] - d * gains[w + 3, j]
            )  # fmt: skip


@kernel
def _take_out(n: int, waiting: int, gains: Float64Array, scaled: Float64Array, p: Float64Array) -> None:
    """Take the waiting gains out of the covariance, four in a pass, up to its diagonal but for the first rows.

    Scaled gains beyond those that wait, up to a multiple of four, are zero.
    """
    for i in range(n):
        columns = n if i < BASE_STATES else i + 1
        for w in range(0, waiting, 4):
            a, b, c, d = scaled[w, i], scaled[w + 1, i], scaled[w + 2, i], scaled[w + 3, i]
            for j in range(columns):
                p[i, j] -= a * gains[w, j] + b * gains[w + 1, j] + c * gains[w + 2, j] + d * gains[w + 3, j]


@part
def mirror(n: int, p: Float64Array) -> None:
    """Copy what lies before the diagonal to beyond it."""
    for i in range(n):
        for j in range(i):
            p[j, i] = p[i, j]
