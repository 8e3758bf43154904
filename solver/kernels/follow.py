"""A rover's way through many epochs in one kernel call: the steps of `epoch`, strung together as `solver.rtk` does.

The steps are called by their addresses, so that they are compiled once, by themselves, and not again with their caller.
numba takes 0.1 ms to hand addresses over, which is nothing for many epochs, and too much for one.
"""

from typing import Final, NamedTuple, Self

from solver.jit import Address, kernel, part
from solver.kernels import Bools, Float64Array, Int16Array, Records
from solver.kernels.differencing import Columns
from solver.kernels.epoch import QUIETER
from solver.kernels.rover import Filter, Int64Array, Work
from solver.model import Quality
from solver.track import Track

__all__ = ["LINKS_MIN", "AloneSteps", "FilterSteps", "Given", "Known", "Seen", "follow", "follow_alone"]

NONE, FIX = int(Quality.NONE), int(Quality.FIX)
LINKS_MIN: Final = 4


class Seen(NamedTuple):
    """The epochs of a receiver, as of `solver.track.Track`."""

    time_ns: Int64Array
    first_row: Int64Array
    rows: Columns

    @classmethod
    def of(cls, track: Track) -> Self:
        """Those of a table."""
        return cls(track.time_ns, track.first_row, Columns.of(track))


class Given(NamedTuple):
    """What does not change: (1,) of `OPTIONS`; signals that may be used; the base's antenna; what is broadcast."""

    options: Records
    signals: Bools
    base_m: Float64Array
    kepler: Records
    glonass: Records
    klobuchar_gps: Float64Array
    klobuchar_beidou: Float64Array


class Known(NamedTuple):
    """What is known of a rover, and changed: memory of `pair_signals`; (1,) of `KNOWN`; the filter."""

    usage: Float64Array
    record: Records
    filter: Filter


class FilterSteps(NamedTuple):
    """What `follow` calls: kernels of `epoch`, and of `afresh`."""

    locate: Address
    predict: Address
    update: Address
    fix: Address
    look_afresh: Address


class AloneSteps(NamedTuple):
    """What `follow_alone` calls."""

    locate: Address
    stand_alone: Address
    fix: Address


@kernel
def follow(
    steps: FilterSteps, first: int, located: bool, rover: Seen, base_of: Int64Array, base: Seen, given: Given,
    known: Known, work: Work, found: Records, used: Int16Array,
) -> int:  # fmt: skip
    """Position a rover at its epochs, one after the other, by the filter.

    Args:
        steps: What to call.
        first: Epoch to begin with.
        located: Whether that one has been located before.
        rover: Its n epochs.
        base_of: (n,) which of the base's belongs to each; negative: none does.
        base: Epochs of the base.
        given: What does not change.
        known: Of the rover, changed.
        work: Written on.
        found: (n,) of `RESULT`, written; `Quality.NONE` where there is no position.
        used: (n, SATELLITES_MAX) written, satellites of each position.

    Returns:
        n; or an epoch that has been located, and needs a filter with room for more states, `found.states`.
    """
    options, record, filter_ = given.options, known.record, known.filter
    for k in range(first, len(base_of)):
        if (k > first or not located) and not _locate(
            steps.locate, k, rover, base_of[k], base, given, known, work, found, used
        ):
            continue
        if found[k].states > len(filter_.x):
            return k
        time_ns = rover.time_ns[k]
        steps.predict(time_ns, options, record, filter_, work, found[k : k + 1])
        left, held = steps.update(options, record, filter_, work)
        steps.fix(time_ns, left, held, options, record, filter_, work, found[k : k + 1])
        steps.look_afresh(options, record, filter_, work, found[k : k + 1])
    return len(base_of)


@kernel
def follow_alone(
    steps: AloneSteps, rover: Seen, base_of: Int64Array, base: Seen, given: Given, known: Known, work: Work,
    found: Records, used: Int16Array,
) -> None:  # fmt: skip
    """Position a rover at its epochs, each by itself; the arguments are those of `follow`.

    Where the ionosphere matters and integers are not sure, an epoch is taken once more with less of it.
    """
    options, record = given.options, known.record
    for k in range(len(base_of)):
        if not _locate(steps.locate, k, rover, base_of[k], base, given, known, work, found, used):
            continue
        for quiet in QUIETER:
            left = steps.stand_alone(quiet, options, record, work, found[k : k + 1])
            steps.fix(rover.time_ns[k], left, 0, options, record, known.filter, work, found[k : k + 1])
            if found[k].quality == FIX or work.now[0].ionosphere_m == 0.0:
                break


@part
def _locate(
    locate: Address, k: int, rover: Seen, of: int, base: Seen, given: Given, known: Known, work: Work, found: Records,
    used: Int16Array,
) -> bool:  # fmt: skip
    """Form the links of an epoch; whether there are enough of them."""
    found[k].quality, found[k].links = NONE, 0
    if of < 0 or abs((rover.time_ns[k] - base.time_ns[of]) / 1e9) > given.options[0].age_max_s:
        return False
    count, satellites, states = locate(
        rover.time_ns[k], _rows(rover, k), base.time_ns[of], _rows(base, of), given.base_m, given.kepler,
        given.glonass, given.klobuchar_gps, given.klobuchar_beidou, given.signals, known.usage, given.options,
        known.record, known.filter, work,
    )  # fmt: skip
    found[k].links, found[k].satellites, found[k].states = count, satellites, states
    for place in range(satellites):  # not a slice of it: its check of shapes takes seconds to compile
        used[k, place] = work.sats[place]
    return bool(count >= LINKS_MIN)


@part
def _rows(seen: Seen, k: int) -> Columns:
    """The rows of an epoch."""
    first, stop, rows = seen.first_row[k], seen.first_row[k + 1], seen.rows
    return Columns(
        rows.sat[first:stop], rows.signal[first:stop], rows.frequency_hz[first:stop], rows.pseudorange_m[first:stop],
        rows.phase_cycles[first:stop], rows.doppler_hz[first:stop], rows.cn0_dbhz[first:stop],
        rows.lock_s[first:stop], rows.flags[first:stop],
    )  # fmt: skip
