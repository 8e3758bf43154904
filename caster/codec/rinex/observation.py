"""RINEX observation files of versions 2, 3 and 4 to `Epoch` values.

The header is parsed in Python, the body by `scan.read_body` in blocks of some thousand epochs; header records between
epochs (event flags 3 and 4) take effect from there on. Damage is collected in `warnings` with its line number and the
rest is read. Time tags become GPST by the header's time system.
"""

from collections.abc import Iterator, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

from caster.codec.rinex import scan
from caster.codec.rinex.header import parse_header, read_records
from caster.codec.rinex.types import layout_of
from caster.errors import FormatError
from solver import signals
from solver.model import Epoch
from solver.timescale import BDT_OFFSET_S, NS, from_utc

__all__ = ["ObservationFile"]

WARNINGS_MAX: Final = 100
_EPOCHS_PER_BLOCK: Final = 4096
_ROWS_PER_BLOCK: Final = 1 << 17
_DEFAULT_TIME_SYSTEM: Final = {"R": "GLO", "E": "GAL", "C": "BDT"}
_PROBLEM: Final = {
    scan.NOT_AN_EPOCH: "not an epoch line; skipped to the next one",
    scan.CUT_SHORT: "the epoch has fewer satellites than it says",
    scan.NO_SATELLITE: "no such satellite",
    scan.NO_VALUE: "not a number",
    scan.DUPLICATE: "the satellite was already there in this epoch",
}


class ObservationFile:
    """A RINEX observation file in memory.

    Attributes:
        header: The header, as at the beginning or, after `epochs`, with the records that were met in the body.
        warnings: The first `WARNINGS_MAX` pieces of damage, each with its line number, and unknown types.
        problems: How many pieces of damage there were.
    """

    def __init__(self, data: bytes) -> None:
        """Read the header of an uncompressed file.

        Raises:
            FormatError: this is no RINEX observation file.
        """
        self.header = parse_header(data)
        if self.header.kind != "O":
            raise FormatError(f"line 1: not an observation file (type {self.header.kind!r})")
        if not 2 <= self.header.version < 5:
            raise FormatError(f"line 1: RINEX version {self.header.version} is not known")
        if not any(self.header.observation_types.values()):
            raise FormatError("the RINEX header declares no observation types")
        self.warnings = list(self.header.warnings)
        self.problems = len(self.warnings)
        self._data = data

    def epochs(self, glonass_channel: Mapping[int, int] | None = None) -> Iterator[Epoch]:
        """The file's epochs in order.

        Args:
            glonass_channel: Frequency channel by slot number, for slots that the header does not name.
        """
        text = np.frombuffer(self._data, np.uint8)
        cursor = np.zeros(scan.CURSOR_SIZE, np.int64)
        cursor[scan.OFFSET] = self.header.end
        memory = _new_memory()
        channel = _channels({**(glonass_channel or {}), **self.header.glonass_channel})
        layout, unknown = layout_of(self.header)
        self.warnings += [f"header: no such signal: {name}" for name in unknown]
        stop = scan.FULL
        while stop != scan.DONE:
            table = _new_table()
            cursor[scan.EPOCHS] = cursor[scan.ROWS] = cursor[scan.PROBLEMS] = 0
            stop = scan.read_body(text, cursor, self.header.version < 3, layout, channel, memory, table)
            self._collect(table, int(cursor[scan.PROBLEMS]))
            yield from self._epochs(table, int(cursor[scan.EPOCHS]))
            if stop == scan.EVENT:
                self._special_records(cursor)
                layout, _ = layout_of(self.header)

    def _epochs(self, table: scan.Table, count: int) -> Iterator[Epoch]:
        times = self._to_gpst(table.time_ns[:count])
        first = table.first_row[: count + 1].tolist()
        for time_ns, start, stop in zip(times, first, first[1:], strict=False):
            rows = slice(start, stop)
            yield Epoch(
                time_ns,
                table.sat[rows],
                table.signal[rows],
                table.frequency_hz[rows],
                table.pseudorange_m[rows],
                table.phase_cycles[rows],
                table.doppler_hz[rows],
                table.cn0_dbhz[rows],
                table.lock_s[rows],
                table.flags[rows],
            )

    def _to_gpst(self, times: NDArray[np.int64]) -> list[int]:
        system = self.header.time_system or _DEFAULT_TIME_SYSTEM.get(self.header.system, "GPS")
        if system in ("GLO", "UTC"):
            return [from_utc(time_ns) for time_ns in times.tolist()]
        return [time_ns + (BDT_OFFSET_S * NS if system == "BDT" else 0) for time_ns in times.tolist()]

    def _special_records(self, cursor: NDArray[np.int64]) -> None:
        """Take the header lines between two epochs; those of other events are skipped."""
        start, count = int(cursor[scan.OFFSET]), int(cursor[scan.EVENT_COUNT])
        for _, (_, line, end) in zip(range(count), read_records(self._data, start, len(self._data)), strict=False):
            if line[:1] == ">":
                break
            self.header.take(line, 0)
            cursor[scan.OFFSET] = end

    def _collect(self, table: scan.Table, problems: int) -> None:
        self.problems += problems
        room = WARNINGS_MAX - len(self.warnings)
        for offset, kind in table.problem[: max(0, min(room, problems))].tolist():
            line = self._data.count(b"\n", 0, offset) + 1
            self.warnings.append(f"line {line}: {_PROBLEM[kind]}")


def _channels(by_slot: Mapping[int, int]) -> NDArray[np.float64]:
    channel = np.full(signals.SATELLITE_COUNT, np.nan)
    for slot, value in by_slot.items():
        if 1 <= slot <= signals.PRN_PER_SYSTEM:
            channel[signals.satellite(signals.GLONASS, slot)] = value
    return channel


def _new_memory() -> scan.Memory:
    shape = (signals.SATELLITE_COUNT, signals.SIGNALS_PER_SYSTEM)
    return scan.Memory(np.full(shape, -1, np.int64), np.zeros(shape, np.int64), np.zeros(shape, np.uint8))


def _new_table() -> scan.Table:
    """Room for a block of epochs; made anew for each block, since epochs are views of it."""
    rows = _ROWS_PER_BLOCK
    return scan.Table(
        time_ns=np.empty(_EPOCHS_PER_BLOCK, np.int64),
        first_row=np.zeros(_EPOCHS_PER_BLOCK + 1, np.int64),
        sat=np.empty(rows, np.int16),
        signal=np.empty(rows, np.int16),
        frequency_hz=np.empty(rows),
        pseudorange_m=np.empty(rows),
        phase_cycles=np.empty(rows),
        doppler_hz=np.empty(rows),
        cn0_dbhz=np.empty(rows, np.float32),
        lock_s=np.empty(rows, np.float32),
        flags=np.empty(rows, np.uint8),
        problem=np.empty((WARNINGS_MAX, 2), np.int64),
    )
