"""A whole recording of RTCM 3 to epochs at once: what `caster.epochs` makes of a stream, several times faster.

Frames are found, multiple signal messages decoded and the epochs' columns written by a few kernel calls for megabytes.
In between the assembler sees the messages' headings alone, in order, and says which of them make an epoch, so that its
rules hold unchanged. One thing is better than in a stream: the GLONASS channels that a piece of the recording tells
hold for all of its epochs, those before the telling included.
"""

from collections.abc import Iterator
from itertools import groupby
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caster.codec.rtcm import msm_kernels as rows
from caster.codec.rtcm.bits import padded
from caster.codec.rtcm.framing import FRAME_OVERHEAD, HEADER_SIZE, frame_spans
from caster.codec.rtcm.layouts import EPHEMERIS_TYPES
from caster.codec.rtcm.msm import MsmBatch, decode_msm_batch, is_msm
from caster.epochs import EpochAssembler, Heading
from caster.tracking import Part, by_rank, has_slipped, write_columns
from solver.jit import kernel
from solver.kernels import Bools, Float64Array, Int32Array
from solver.model import Epoch
from solver.signals import GLONASS, PRN_PER_SYSTEM, SATELLITE_COUNT, SIGNALS_PER_SYSTEM

__all__ = ["RecordingAssembler"]

PIECE_BYTES: Final = 8 << 20
"""Decoded at once; the tables of a piece take about twelve times its size."""
_KNOWN_MAX: Final = 100_000
"""Ephemeris frames that are remembered, so that one which is sent again is not decoded again."""
_NEVER: Final = -1


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


class _Draft(NamedTuple):
    """What makes an epoch: messages of one table, those first that go before; `anew`: the stream had begun again."""

    time_ns: int
    spans: list[_Span]
    anew: bool


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
        self._drafts: list[_Draft] = []
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
        headings = _headings(batch)
        faulty = set((batch.faulty[:, 0] + start).tolist())
        for kind, observes, (first, stop) in zip(number.tolist(), is_observation.tolist(), spans.tolist(), strict=True):
            if observes and first not in faulty:
                self.push_heading(next(headings))
            elif kind not in EPHEMERIS_TYPES or self._is_new(array[first:stop].tobytes()):
                self.push(array[first:stop].tobytes())

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
        else:
            spans.sort(key=lambda span: -span.rank)
        self._drafts.append(_Draft(time_ns, spans, self._tracking is not self._drafted_with))
        self._drafted_with = self._tracking
        return []

    def _write(self) -> list[Epoch]:
        """The epochs of all that was noted."""
        drafts, self._drafts = self._drafts, []
        epochs: list[Epoch] = []
        for _, group in groupby(drafts, key=lambda draft: id(draft.spans[0].table)):
            epochs += self._write_group(list(group))
        return epochs

    def _write_group(self, drafts: list[_Draft]) -> list[Epoch]:
        """The epochs of drafts over one table."""
        table = drafts[0].spans[0].table
        time_ns = np.array([draft.time_ns for draft in drafts])
        anew = np.array([draft.anew for draft in drafts])
        cells = np.array([(span.first, span.stop) for draft in drafts for span in draft.spans], np.int64)
        first_span = np.concatenate([[0], np.cumsum([len(draft.spans) for draft in drafts])])
        room = int((cells[:, 1] - cells[:, 0]).sum())
        columns, slip = np.empty(room, np.int64), np.empty(room, np.uint8)
        first_row = np.zeros(len(drafts) + 1, np.int64)
        tracks = self._tracks
        _order_rows(
            *table, cells, first_span, time_ns, anew, tracks.seen_ns, tracks.lock_ms, columns, first_row, slip
        )  # fmt: skip
        written = write_columns(*table, columns[: first_row[-1]], self.channels)
        bounds = first_row.tolist()
        return [
            written.epoch(draft.time_ns, slice(first, stop), slip)
            for draft, first, stop in zip(drafts, bounds, bounds[1:], strict=False)
        ]


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


def _headings(batch: MsmBatch) -> Iterator[Heading]:
    """The heading of each message of a batch."""
    table = _Table(batch.raw, batch.values)
    wanted = (rows.TYPE, rows.EPOCH, rows.MULTIPLE, rows.FIRST_CELL, rows.CELL_COUNT)
    for number, epoch, multiple, first, count in batch.header[wanted, :].T.tolist():
        span = _Span(number % 10, table, first, first + count)
        yield Heading((number - 1071) // 10, epoch, bool(multiple), span)


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
