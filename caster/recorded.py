"""A whole recording of RTCM 3 to epochs at once: what `caster.epochs` makes of a stream, several times faster.

Frames are found, multiple signal messages decoded and the epochs' columns written by a few kernel calls for megabytes.
In between the assembler sees the messages' headings alone, in order, and says which of them make an epoch, so that its
rules hold unchanged. Where epoch follows epoch, which is nearly everywhere, a kernel says it in its place (`_gather`),
and frames that repeat what was said are passed over. One thing is better than in a stream: the GLONASS channels that a
piece of the recording tells hold for all of its epochs, those before the telling included.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from caster.codec.rtcm import msm_kernels as rows
from caster.codec.rtcm.bits import padded
from caster.codec.rtcm.framing import FRAME_OVERHEAD, HEADER_SIZE, frame_spans
from caster.codec.rtcm.layouts import EPHEMERIS_TYPES, LEGACY_TYPES
from caster.codec.rtcm.msm import MsmBatch, decode_msm_batch, is_msm
from caster.codec.rtcm.timing import EPOCH_WRAP_NS, GLONASS_OF_DAY, MS_NS, tow_ns
from caster.epochs import MULTIPLE_BIT_PROOFS, STATION_TYPES, WHOLE_RANGES_RANK, EpochAssembler, Heading
from caster.tracking import Part, by_rank, has_slipped, write_columns
from solver.jit import kernel, part
from solver.kernels import Bools, Float64Array, Int32Array
from solver.model import Epoch
from solver.signals import BEIDOU, GLONASS, PRN_PER_SYSTEM, SATELLITE_COUNT, SIGNALS_PER_SYSTEM
from solver.timescale import BDT_OFFSET_S, DAY_NS, GLONASST_UTC_S, NS, WEEK_NS, leap_seconds

__all__ = ["RecordingAssembler"]

PIECE_BYTES: Final = 8 << 20
"""Decoded at once; the tables of a piece take about twelve times its size."""
_KNOWN_MAX: Final = 100_000
"""Ephemeris frames that are remembered, so that one which is sent again is not decoded again."""
_TELLING: Final = frozenset({*LEGACY_TYPES, *EPHEMERIS_TYPES, *STATION_TYPES})
"""Messages beside the multiple signal ones that are of use once the date is known."""
_NEVER: Final = -1
NOW_NS, OPEN_NS, OPENED, ENDS, PROOFS, USUAL, CLOSED_NS, LEAD_NS = range(8)
"""Of an assembler, as `_gather` takes it: the present; the open epoch's time, its messages, and how many of them said
that they were the last; epochs in a row with one such; messages of the last epoch, its time, BDT's lead (-1: none)."""


class _Table(NamedTuple):
    """Cells of many messages, as in `msm.MsmBatch`."""

    raw: NDArray[np.int32]
    values: NDArray[np.float64]


class _Span(NamedTuple):
    """Cells of one message: columns of a table."""

    rank: int
    table: _Table
    first: int
    stop: int


class _Drafts(NamedTuple):
    """What makes epochs: messages of one table (e epochs, s messages).

    Attributes:
        table: The cells.
        time_ns: (e,).
        anew: (e,) whether the stream had begun again.
        size: (e,) messages of each epoch.
        rank: (s,) of two messages with the same signal the one of higher rank goes before.
        cells: (s, 2) first and last but one column of each message.
    """

    table: _Table
    time_ns: NDArray[np.int64]
    anew: NDArray[np.bool_]
    size: NDArray[np.int64]
    rank: NDArray[np.int64]
    cells: NDArray[np.int64]


class _Headings(NamedTuple):
    """Headings of many messages (m,), as of `caster.epochs.Heading`, and the cells of each (m, 2).

    When they were taken, a stream's own time, is written meanwhile.
    """

    table: _Table
    system: NDArray[np.int64]
    epoch: NDArray[np.int64]
    multiple: NDArray[np.int64]
    rank: NDArray[np.int64]
    cells: NDArray[np.int64]
    time_ns: NDArray[np.int64]

    @classmethod
    def of(cls, batch: MsmBatch) -> Self:
        """Those of a batch."""
        wanted = (rows.TYPE, rows.EPOCH, rows.MULTIPLE, rows.FIRST_CELL, rows.CELL_COUNT)
        number, epoch, multiple, first, count = batch.header[wanted, :]
        cells = np.stack([first, first + count], axis=1)
        system, rank, time_ns = (number - 1071) // 10, number % 10, np.zeros(len(number), np.int64)
        return cls(_Table(batch.raw, batch.values), system, epoch, multiple, rank, cells, time_ns)

    def span(self, k: int) -> _Span:
        """What stands for the observations of one."""
        first, stop = self.cells[k].tolist()
        return _Span(int(self.rank[k]), self.table, first, stop)

    def heading(self, k: int) -> Heading:
        """One of them."""
        return Heading(int(self.system[k]), int(self.epoch[k]), bool(self.multiple[k]), self.span(k))


class _Tracks:
    """When each signal was last seen, and with which lock time, as `caster.tracking.Tracking`, but a place for each.

    Attributes:
        seen_ns: (keys,) GPST; -1: never. The last one is the receiver's previous epoch.
        lock_ms: (keys,).
    """

    def __init__(self) -> None:
        keys = SATELLITE_COUNT * SIGNALS_PER_SYSTEM
        self.seen_ns, self.lock_ms = np.full(keys + 1, _NEVER, np.int64), np.zeros(keys)


class RecordingAssembler(EpochAssembler):
    """Assembles the epochs of recordings, each given as a whole."""

    def read(self, data: bytes) -> list[Epoch]:
        """All epochs of a recording, oldest first."""
        self._drafts: list[_Drafts] = []
        self._drafted_with = self._tracking
        self._tracks = _Tracks()
        self._known: set[bytes] = set()
        array = padded(data)
        spans, _ = frame_spans(array[: len(data)])
        epochs: list[Epoch] = []
        for piece in _pieces(spans):
            self._read_piece(array, piece)
            epochs += self._write()
        self.finish()
        return epochs + self._write()

    def _read_piece(self, array: NDArray[np.uint8], spans: NDArray[np.int64]) -> None:
        """Let the assembler see the headings of the observations and all of the other messages, in order."""
        number = _message_types(array, spans)
        is_observation = np.isin(number, _MSM_TYPES)
        start = int(spans[0, 0])
        batch = decode_msm_batch(array[start : int(spans[-1, 1])], spans[is_observation] - start)
        self._learn_channels(_channels(batch))
        headings = _Headings.of(batch)
        observes = is_observation & ~np.isin(spans[:, 0], batch.faulty[:, 0] + start)
        seen = np.concatenate([[0], np.cumsum(observes)])  # headings before each frame
        told, place = ~(observes | _is_repeated(array, spans, number)), 0
        later: list[tuple[bytes, int | None, int]] = []
        for frame in np.flatnonzero(told).tolist():
            kind, data = int(number[frame]), array[slice(*spans[frame].tolist())].tobytes()
            if data in self._known or (self._dated_by_stream and not is_msm(kind) and kind not in _TELLING):
                continue
            if self._dated_by_stream and kind in EPHEMERIS_TYPES and self._is_new(data):
                later.append((data, self._now_ns if seen[frame] == place else None, int(seen[frame]) - 1))
                continue
            self._take_headings(headings, place, place := int(seen[frame]))
            if kind not in EPHEMERIS_TYPES or self._is_new(data):
                self.push(data)
        self._take_headings(headings, place, int(seen[-1]))
        self._take_ephemerides(later, headings)

    def _take_ephemerides(self, frames: list[tuple[bytes, int | None, int]], headings: _Headings) -> None:
        """Take frames that say nothing of epochs, each as of an instant or, where that is not given, of a heading."""
        last_ns = self._now_ns
        for data, time_ns, place in frames:
            self._now_ns = int(headings.time_ns[place]) if time_ns is None else time_ns
            self.push(data)
        self._now_ns = last_ns

    def _take_headings(self, headings: _Headings, first: int, stop: int) -> None:
        """Take some headings, by the kernel as far as epoch follows epoch, else one by one."""
        while first < stop:
            first = self._gather(headings, first, stop)
            if first < stop:
                self.push_heading(headings.heading(first))
                headings.time_ns[first] = self._now_ns or 0
                first += 1

    def _gather(self, headings: _Headings, first: int, stop: int) -> int:
        """Let the kernel draft epochs; the heading that it came to, at which the assembler has to look, is returned."""
        now_ns = self._now_ns
        if now_ns is None or self._undated or self._day_is_open():
            return first
        leap_s = leap_seconds(now_ns - DAY_NS)
        if leap_s != leap_seconds(now_ns + 2 * DAY_NS):
            return first
        some = slice(first, stop)
        last_ns, lead_ns = self._closed_ns, self._lead_ns
        state = np.array(
            (
                now_ns, self._open_ns, len(self._open), self._ends, self._proofs, self._usual_count,
                _NEVER if last_ns is None else last_ns, _NEVER if lead_ns is None else lead_ns,
            )
        )  # fmt: skip
        closed = np.empty((stop - first + 1, 2), np.int64)
        count, done = _gather(
            headings.system[some], headings.epoch[some], headings.multiple[some], headings.rank[some],
            headings.time_ns[some], leap_s * NS, now_ns + DAY_NS, state, closed,
        )  # fmt: skip
        self._now_ns, self._open_ns, _, self._ends, self._proofs, self._usual_count, last_ns, lead_ns = state.tolist()
        self._closed_ns, self._lead_ns = (None if value < 0 else value for value in (last_ns, lead_ns))
        self.counters.epochs += count
        if len(telling := np.flatnonzero(headings.system[first : first + done] != GLONASS)):
            k = first + int(telling[-1])
            self._tow_ns = tow_ns(int(headings.system[k]), int(headings.epoch[k]))
        self._draft(headings, first, first + done, closed[:count])
        return first + done

    def _draft(self, headings: _Headings, first: int, stop: int, closed: NDArray[np.int64]) -> None:
        """Note the epochs of some headings; what comes after the last that was closed stays open.

        Args:
            headings: All of them.
            first: Which are meant.
            stop: And up to which.
            closed: (e, 2) time of each epoch that was closed, and the heading after its last, counted from the first.
        """
        if len(closed):
            bounds = first + closed[:, 1]
            if self._open:
                self._make(int(closed[0, 0]), [*self._open, *map(headings.span, range(first, int(bounds[0])))])
                self._open, closed, first = [], closed[1:], int(bounds[0])
                bounds = bounds[1:]
        if len(closed):
            size, last = bounds.copy(), int(bounds[-1])
            size[1:] -= bounds[:-1]
            size[0] -= first
            anew = np.zeros(len(closed), np.bool_)
            anew[0], self._drafted_with = self._tracking is not self._drafted_with, self._tracking
            ranks, cells = headings.rank[first:last], headings.cells[first:last]
            self._drafts.append(_Drafts(headings.table, closed[:, 0], anew, size, ranks, cells))
            first = last
        self._open += map(headings.span, range(first, stop))

    def _is_new(self, frame: bytes) -> bool:
        """Whether an ephemeris frame is to be decoded; one that came before the date is known tells it."""
        if self.time_ns is None:
            return True
        if frame in self._known:
            return False
        if len(self._known) < _KNOWN_MAX:
            self._known.add(frame)
        return True

    def _make(self, time_ns: int, parts: list[Part | _Span]) -> list[Epoch]:
        """Note what makes an epoch, to be written with many others."""
        spans = [part for part in parts if isinstance(part, _Span)]
        if len(spans) < len(parts) or any(span.table is not spans[0].table for span in spans):
            spans = _in_one_table(parts)
        rank, cells = np.array([span.rank for span in spans]), np.array([(span.first, span.stop) for span in spans])
        anew = np.array([self._tracking is not self._drafted_with])
        self._drafts.append(
            _Drafts(spans[0].table, np.array([time_ns]), anew, np.array([len(spans)]), rank, cells.reshape(-1, 2))
        )
        self._drafted_with = self._tracking
        return []

    def _write(self) -> list[Epoch]:
        """The epochs of all that was noted."""
        drafts, self._drafts = self._drafts, []
        epochs: list[Epoch] = []
        for _, group in groupby(drafts, key=lambda some: id(some.table)):
            epochs += self._write_group(list(group))
        return epochs

    def _write_group(self, drafts: list[_Drafts]) -> list[Epoch]:
        """The epochs of drafts over one table."""
        table = drafts[0].table
        time_ns, anew, size, rank, cells = (np.concatenate(column) for column in list(zip(*drafts, strict=True))[1:])
        first_span = np.concatenate([[0], np.cumsum(size)])
        cells = cells[np.lexsort((-rank, np.repeat(np.arange(len(size)), size)))]
        room = int((cells[:, 1] - cells[:, 0]).sum())
        columns, slip = np.empty(room, np.int64), np.empty(room, np.uint8)
        first_row = np.zeros(len(size) + 1, np.int64)
        tracks = self._tracks
        _order_rows(
            *table, cells, first_span, time_ns, anew, tracks.seen_ns, tracks.lock_ms, columns, first_row, slip
        )  # fmt: skip
        written = write_columns(*table, columns[: first_row[-1]], self.channels).slipped(slip[: first_row[-1]])
        return written.epochs(time_ns.tolist(), first_row.tolist())


_MSM_TYPES: Final = np.array([number for number in range(1071, 1138) if is_msm(number)])


def _pieces(spans: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Spans of consecutive frames, about `PIECE_BYTES` at a time."""
    piece = spans[:, 0] // PIECE_BYTES
    bounds = np.flatnonzero(np.diff(piece, prepend=-1, append=-1))
    for first, stop in zip(bounds.tolist(), bounds[1:].tolist(), strict=False):
        yield spans[first:stop]


def _message_types(array: NDArray[np.uint8], spans: NDArray[np.int64]) -> NDArray[np.int64]:
    """Message number of each frame; 0 where its payload is too short to hold one."""
    head = spans[:, 0] + HEADER_SIZE
    number = array[head].astype(np.int64) << 4 | array[head + 1] >> 4
    return np.where(spans[:, 1] - spans[:, 0] < FRAME_OVERHEAD + 2, 0, number)


def _is_repeated(array: NDArray[np.uint8], spans: NDArray[np.int64], number: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which frames say of the station what the one of their number before said, so that the assembler passes them."""
    repeated = np.zeros(len(spans), np.bool_)
    for kind in STATION_TYPES:
        _mark_repeated(array, spans, np.flatnonzero(number == kind), repeated)
    return repeated


def _channels(batch: MsmBatch) -> dict[int, int]:
    """GLONASS frequency channel by satellite, as MSM5 and MSM7 tell it."""
    sat, extended = batch.satellites[rows.SATELLITE], batch.satellites[rows.EXTENDED]
    telling = (sat // PRN_PER_SYSTEM == GLONASS) & (extended >= 0) & (extended <= 13)
    return {sat: code - 7 for sat, code in zip(sat[telling].tolist(), extended[telling].tolist(), strict=True)}


def _in_one_table(parts: list[Part | _Span]) -> list[_Span]:
    """An epoch's cells, which came from several tables, in one of their own."""
    wanted = by_rank([_part(part) for part in parts])
    raw = np.concatenate([part.raw for part in wanted], axis=1)
    return [_Span(0, _Table(raw, np.concatenate([part.values for part in wanted], axis=1)), 0, raw.shape[1])]


def _part(part: Part | _Span) -> Part:
    if isinstance(part, Part):
        return part
    columns = slice(part.first, part.stop)
    return Part(part.rank, part.table.raw[:, columns], part.table.values[:, columns])


@kernel
def _mark_repeated(
    array: NDArray[np.uint8], spans: NDArray[np.int64], frames: NDArray[np.int64], repeated: Bools
) -> None:
    """Mark those of some frames, by their places in `spans` (n, 2), that are the same as the one before."""
    for k in range(1, len(frames)):
        now, last = spans[frames[k]], spans[frames[k - 1]]
        size = now[1] - now[0]
        same = size == last[1] - last[0]
        offset = 0
        while same and offset < size:
            same = array[now[0] + offset] == array[last[0] + offset]
            offset += 1
        repeated[frames[k]] = same


@kernel
def _gather(
    system: NDArray[np.int64], epoch: NDArray[np.int64], multiple: NDArray[np.int64], rank: NDArray[np.int64],
    taken_ns: NDArray[np.int64], leap_ns: int, until_ns: int, state: NDArray[np.int64], closed: NDArray[np.int64],
) -> tuple[int, int]:  # fmt: skip
    """Find which messages make an epoch, by the rules of `EpochAssembler`, as long as epoch follows epoch.

    Args:
        system: (m,) of each message.
        epoch: (m,) its epoch as sent.
        multiple: (m,) whether more messages of that epoch follow.
        rank: (m,) 1 to 7.
        taken_ns: (m,) written: the instant of each.
        leap_ns: GPST - UTC.
        until_ns: Up to which instant that holds.
        state: (8,) of an assembler, changed: `NOW_NS` and so on.
        closed: (m + 1, 2) written: time of each epoch that is closed, and the number of messages seen by then.

    Returns:
        Epochs closed, and messages seen; the next one, if any, is an earlier one, or of no whole ranges.
    """
    count, k = 0, 0
    while k < len(system) and rank[k] >= WHOLE_RANGES_RANK and state[NOW_NS] < until_ns:
        is_started = state[OPENED] > 0 or state[CLOSED_NS] >= 0
        if system[k] == GLONASS and not is_started:
            break  # its day of week tells more
        time_ns = _instant(system[k], epoch[k], leap_ns, state[NOW_NS])
        if system[k] == BEIDOU:
            ahead_ns = time_ns - state[OPEN_NS]
            if state[LEAD_NS] < 0 and state[OPENED] > 0 and (ahead_ns == 0 or ahead_ns == BDT_OFFSET_S * NS):
                state[LEAD_NS] = ahead_ns
            time_ns -= max(state[LEAD_NS], 0)
        if is_started and (time_ns < state[OPEN_NS] if state[OPENED] > 0 else time_ns <= state[CLOSED_NS]):
            break
        if state[OPENED] > 0 and time_ns > state[OPEN_NS]:
            count = _close(k, state, count, closed)
        state[NOW_NS], state[OPEN_NS], taken_ns[k] = time_ns, time_ns, time_ns
        state[OPENED] += 1
        state[ENDS] += multiple[k] == 0
        k += 1
        if state[ENDS] > 0 and state[PROOFS] >= MULTIPLE_BIT_PROOFS and state[OPENED] >= state[USUAL]:
            count = _close(k, state, count, closed)
    return count, k


@part
def _instant(system: int, epoch: int, leap_ns: int, near_ns: int) -> int:
    """What `timing.epoch_gpst_ns` says of a message within a running stream."""
    if system == GLONASS:
        tow_ns, period_ns = (epoch & GLONASS_OF_DAY) * MS_NS - GLONASST_UTC_S * NS + leap_ns, DAY_NS
    else:
        tow_ns, period_ns = epoch * MS_NS, WEEK_NS
        tow_ns -= EPOCH_WRAP_NS if tow_ns >= WEEK_NS else 0
        tow_ns += BDT_OFFSET_S * NS if system == BEIDOU else 0
    return near_ns + (tow_ns - near_ns + period_ns // 2) % period_ns - period_ns // 2


@part
def _close(seen: int, state: NDArray[np.int64], count: int, closed: NDArray[np.int64]) -> int:
    """Close the open epoch after so many messages; how many are closed is returned."""
    closed[count, 0], closed[count, 1] = state[OPEN_NS], seen
    state[PROOFS] = state[PROOFS] + 1 if state[ENDS] == 1 else 0
    state[USUAL], state[CLOSED_NS] = state[OPENED], state[OPEN_NS]
    state[OPENED], state[ENDS] = 0, 0
    return count + 1


@kernel
def _order_rows(
    raw: Int32Array, values: Float64Array, cells: NDArray[np.int64], first_span: NDArray[np.int64],
    time_ns: NDArray[np.int64], anew: Bools, seen_ns: NDArray[np.int64], lock_ms: Float64Array,
    columns: NDArray[np.int64], first_row: NDArray[np.int64], slip: NDArray[np.uint8],
) -> None:  # fmt: skip
    """Put the cells of epochs in the order of satellite and signal, without those that hold no range, and find slips.

    Args:
        raw: (RAW_ROWS, n).
        values: (VALUE_ROWS, n).
        cells: (s, 2) first and last but one column of each message.
        first_span: (e + 1,) first message of each epoch.
        time_ns: (e,) of each epoch.
        anew: (e,) whether what was seen before is to be forgotten.
        seen_ns: (keys + 1,) of `_Tracks`, changed.
        lock_ms: (keys,) likewise.
        columns: written: the column of each row.
        first_row: (e + 1,) written: the first row of each epoch; [0] is where to begin.
        slip: written: 1 where a row's carrier has slipped.
    """
    keys = len(lock_ms)
    place = np.full(keys, -1, np.int64)
    row = first_row[0]
    for epoch in range(len(time_ns)):
        if anew[epoch]:
            seen_ns[:] = _NEVER
        low, high = keys, -1
        for span in range(first_span[epoch], first_span[epoch + 1]):
            for column in range(cells[span, 0], cells[span, 1]):
                if np.isnan(values[rows.PSEUDORANGE_M, column]) and np.isnan(values[rows.PHASE_RANGE_M, column]):
                    continue
                signal = raw[rows.CELL_SIGNAL, column] % SIGNALS_PER_SYSTEM
                key = raw[rows.CELL_SATELLITE, column] * SIGNALS_PER_SYSTEM + signal
                if place[key] < 0:
                    place[key] = column
                low, high = min(low, key), max(high, key)
        for key in range(low, high + 1):
            if place[key] < 0:
                continue
            columns[row], place[key] = place[key], -1
            lock = values[rows.LOCK_MS, columns[row]]
            last_ns, last_lock = seen_ns[keys], 0.0
            if seen_ns[key] >= 0:
                last_ns, last_lock = seen_ns[key], lock_ms[key]
            slip[row] = has_slipped(time_ns[epoch], lock, last_ns, last_lock)
            seen_ns[key], lock_ms[key] = time_ns[epoch], lock
            row += 1
        seen_ns[keys] = time_ns[epoch]
        first_row[epoch + 1] = row
