"""The kernels that read the body of a RINEX observation file, straight from its bytes to arrays.

One pass over the text: epoch line, then its satellites in rising order, then each value of 14 columns with its loss of
lock and strength digits. Damage is noted and skipped to the next line that can only be an epoch line, so the rest of
the file is read. RINEX 2.11 table A2 and 3.05 table A3 give the columns; version 4 is as 3.
"""

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caster.codec.rinex.types import Layout
from solver import signals
from solver.jit import kernel
from solver.model import HALF_CYCLE, SLIP

__all__ = [
    "CUT_SHORT",
    "DONE",
    "DUPLICATE",
    "EPOCHS",
    "EVENT",
    "EVENT_COUNT",
    "EVENT_FLAG",
    "FULL",
    "NOT_AN_EPOCH",
    "NO_SATELLITE",
    "NO_VALUE",
    "OFFSET",
    "PROBLEMS",
    "ROWS",
    "ROWS_PER_EPOCH_MAX",
    "Memory",
    "Table",
    "read_body",
]

# What `read_body` stops for.
DONE, EVENT, FULL = range(3)
# Places in the cursor that `read_body` takes and leaves.
OFFSET, EPOCHS, ROWS, PROBLEMS, EVENT_FLAG, EVENT_COUNT, CURSOR_SIZE = range(7)
# Kinds of damage.
NOT_AN_EPOCH, CUT_SHORT, NO_SATELLITE, NO_VALUE, DUPLICATE = range(5)

SATELLITES_MAX: Final = signals.SATELLITE_COUNT
ROWS_PER_EPOCH_MAX: Final = SATELLITES_MAX * signals.SIGNALS_PER_SYSTEM
LOCK_GAP_NS: Final = 60 * 10**9
"""A carrier that was away for longer is counted as newly locked: few receivers set the loss of lock digit then."""

_NEWLINE, _RETURN, _SPACE, _POINT, _MINUS, _PLUS, _ZERO, _NEXT = (ord(c) for c in "\n\r .-+0>")
_PER_SYSTEM: Final = signals.PRN_PER_SYSTEM
_SLOTS: Final = signals.SIGNALS_PER_SYSTEM
_SBAS: Final = signals.SBAS
_LETTERS: Final = np.array([ord(c) for c in signals.SYSTEMS], np.uint8)
_POWER: Final = 10.0 ** np.arange(15)
_RANGE, _PHASE, _DOPPLER, _STRENGTH = range(4)
_DAY_NS: Final = 86_400 * 10**9
_GPS_EPOCH_DAY: Final = 3657  # days from 1970-01-01 to 1980-01-06
_WIDTH: Final = 16  # columns of a value with its two digits
_PER_LINE_2: Final = 5  # values a line, RINEX 2
_SATELLITES_PER_LINE_2: Final = 12
_DIGITS_CN0_STEP: Final = 6.0  # dB-Hz per step of the strength digit, RINEX 3.05 section 5.7


class Memory(NamedTuple):
    """What is remembered of each satellite's signals between epochs; (448, 32) each."""

    locked_ns: NDArray[np.int64]  # since when the carrier is locked, -1: never seen
    seen_ns: NDArray[np.int64]  # when it was last seen
    slipped: NDArray[np.uint8]  # a slip was reported that no observation has shown yet


class Table(NamedTuple):
    """Room for epochs and their rows: `first_row` has one element more than `time_ns`; `problem` is (p, 2)."""

    time_ns: NDArray[np.int64]
    first_row: NDArray[np.int64]
    sat: NDArray[np.int16]
    signal: NDArray[np.int16]
    frequency_hz: NDArray[np.float64]
    pseudorange_m: NDArray[np.float64]
    phase_cycles: NDArray[np.float64]
    doppler_hz: NDArray[np.float64]
    cn0_dbhz: NDArray[np.float32]
    lock_s: NDArray[np.float32]
    flags: NDArray[np.uint8]
    problem: NDArray[np.int64]  # offset in the text, kind


@kernel
def _line_end(text: NDArray[np.uint8], start: int) -> int:
    """Offset of the line's end: its newline, or the end of the text."""
    while start < len(text) and text[start] != _NEWLINE:
        start += 1
    return start


@kernel
def _integer(text: NDArray[np.uint8], start: int, stop: int) -> int:
    """A right-justified whole number; -1: blank, -2: not a number or beyond the text."""
    if stop > len(text):
        return -2
    value = -1
    for place in range(start, stop):
        digit = int(text[place]) - _ZERO
        if 0 <= digit <= 9:
            value = max(value, 0) * 10 + digit
        elif text[place] != _SPACE or value >= 0:
            return -2
    return value


@kernel
def _count(text: NDArray[np.uint8], start: int, end: int) -> int:
    """Three columns of an epoch line that ends at `end`, as `_integer`; some writers begin them one column early."""
    stop = min(start + 3, end)
    while stop > start and text[stop - 1] <= _SPACE:
        stop -= 1
    return _integer(text, start, stop) if stop > start else -1


@kernel
def _decimal(text: NDArray[np.uint8], start: int, stop: int) -> float:
    """A right-justified number with a decimal point; NaN: blank, inf: damaged."""
    while start < stop and text[start] == _SPACE:
        start += 1
    if start == stop:
        return np.nan
    sign = 1.0
    if text[start] == _MINUS or text[start] == _PLUS:
        sign = -1.0 if text[start] == _MINUS else 1.0
        start += 1
    mantissa, decimals = 0, -1
    for place in range(start, stop):
        digit = int(text[place]) - _ZERO
        if 0 <= digit <= 9:
            mantissa = mantissa * 10 + digit
            decimals += decimals >= 0
        elif text[place] == _POINT and decimals < 0:
            decimals = 0
        else:
            return np.inf
    return sign * mantissa / _POWER[decimals] if decimals > 0 else np.inf


@kernel
def _days_from_civil(year: int, month: int, day: int) -> int:
    """Days since 1970-01-01 of a Gregorian date (Hinnant 2013, chrono-compatible date algorithms)."""
    year -= month <= 2
    era = year // 400
    of_era = year - era * 400
    of_year = (153 * (month + (-3 if month > 2 else 9)) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


@kernel
def _time_ns(text: NDArray[np.uint8], line: int, columns: NDArray[np.int64]) -> int:
    """Nanoseconds since 1980-01-06 of the date on an epoch line, in the file's time scale; -1: none."""
    if line + columns[11] > len(text):
        return -1
    year = _integer(text, line + columns[0], line + columns[1])
    month = _integer(text, line + columns[2], line + columns[3])
    day = _integer(text, line + columns[4], line + columns[5])
    hour = _integer(text, line + columns[6], line + columns[7])
    minute = _integer(text, line + columns[8], line + columns[9])
    second = _decimal(text, line + columns[10], line + columns[11])
    if columns[1] - columns[0] == 2 and year >= 0:
        year += 1900 if year >= 80 else 2000
    if year < 1980 or not (1 <= month <= 12 and 1 <= day <= 31 and 0 <= hour < 24 and 0 <= minute < 60):
        return -1
    if not 0.0 <= second < 61.0:
        return -1
    days = _days_from_civil(year, month, day) - _GPS_EPOCH_DAY
    return days * _DAY_NS + (hour * 60 + minute) * 60 * 10**9 + int(np.rint(second * 1e9))


_COLUMNS_2: Final = np.array([1, 3, 4, 6, 7, 9, 10, 12, 13, 15, 15, 26])
_COLUMNS_3: Final = np.array([2, 6, 7, 9, 10, 12, 13, 15, 16, 18, 18, 29])


@kernel
def _is_epoch_line(text: NDArray[np.uint8], line: int, old: bool) -> bool:
    """Whether a line can only be an epoch line: ">" in RINEX 3; the date's point where no value has one in RINEX 2."""
    if not old:
        return line < len(text) and text[line] == _NEXT
    return line + 32 <= len(text) and text[line + 18] == _POINT and _time_ns(text, line, _COLUMNS_2) >= 0


@kernel
def _satellite(text: NDArray[np.uint8], place: int, stop: int) -> int:
    """The satellite named in three columns, a blank letter being GPS; -1: none."""
    if place + 3 > stop:
        return -1
    system = 0 if text[place] == _SPACE else -1
    for candidate in range(len(_LETTERS)):
        if text[place] == _LETTERS[candidate]:
            system = candidate
    slot = _integer(text, place + 1, place + 3) - (20 if system == _SBAS else 1)
    return system * _PER_SYSTEM + slot if system >= 0 and 0 <= slot < _PER_SYSTEM else -1


@kernel
def _note(table: Table, cursor: NDArray[np.int64], offset: int, kind: int) -> None:
    """Note damage; when the list is full, only count it."""
    if cursor[PROBLEMS] < len(table.problem):
        table.problem[cursor[PROBLEMS], 0] = offset
        table.problem[cursor[PROBLEMS], 1] = kind
    cursor[PROBLEMS] += 1


@kernel
def _find_satellites_3(
    text: NDArray[np.uint8],
    cursor: NDArray[np.int64],
    count: int,
    found: NDArray[np.int64],
    table: Table,
) -> int:
    """Satellites (column 0) and the offsets of their values (column 1); moves the cursor behind them."""
    line, size = cursor[OFFSET], 0
    for _ in range(count):
        if line >= len(text) or text[line] == _NEXT:
            _note(table, cursor, line, CUT_SHORT)
            break
        end = _line_end(text, line)
        sat = _satellite(text, line, end)
        if sat < 0:
            _note(table, cursor, line, NO_SATELLITE)
        else:
            found[size, 0], found[size, 1] = sat, line + 3
            size += 1
        line = end + 1
    cursor[OFFSET] = line
    return size


@kernel
def _find_satellites_2(
    text: NDArray[np.uint8],
    cursor: NDArray[np.int64],
    count: int,
    lines_each: int,
    found: NDArray[np.int64],
    table: Table,
) -> int:
    """As `_find_satellites_3`; the cursor is at the epoch line, which lists the satellites, twelve a line."""
    line = cursor[OFFSET]
    for index in range(count):
        if index and index % _SATELLITES_PER_LINE_2 == 0:
            line = _line_end(text, line) + 1
        place = line + 32 + 3 * (index % _SATELLITES_PER_LINE_2)
        found[index, 0] = _satellite(text, place, _line_end(text, line))
        if found[index, 0] < 0:
            _note(table, cursor, line, NO_SATELLITE)
    line, size = _line_end(text, line) + 1, 0
    for index in range(count):
        start = line
        for _ in range(lines_each):
            if line >= len(text) or _is_epoch_line(text, line, True):
                _note(table, cursor, min(line, len(text)), CUT_SHORT)
                cursor[OFFSET] = line
                return size
            line = _line_end(text, line) + 1
        if found[index, 0] >= 0:
            found[size, 0], found[size, 1] = found[index, 0], start
            size += 1
    cursor[OFFSET] = line
    return size


@kernel
def _sort(found: NDArray[np.int64], size: int) -> None:
    """Bring satellites into rising order (insertion sort: files are nearly sorted and short)."""
    for index in range(1, size):
        sat, offset, place = found[index, 0], found[index, 1], index
        while place > 0 and found[place - 1, 0] > sat:
            found[place, 0], found[place, 1] = found[place - 1, 0], found[place - 1, 1]
            place -= 1
        found[place, 0], found[place, 1] = sat, offset


@kernel
def _read_values(
    text: NDArray[np.uint8],
    start: int,
    old: bool,
    layout: Layout,
    system: int,
    value: NDArray[np.float64],
    digit: NDArray[np.uint8],
) -> int:
    """One satellite's values into `value` (32, 4) and the phase's lock digit and the strength digit into `digit`.

    Returns the offset of the last damaged value, or -1.
    """
    damaged, place, end = -1, start, _line_end(text, start)
    value[: layout.slots[system]] = np.nan
    digit[: layout.slots[system]] = 0
    for column in range(layout.columns[system]):
        if old and column and column % _PER_LINE_2 == 0:
            place = end + 1
            end = _line_end(text, place)
        slot, quantity = layout.slot[system, column], layout.quantity[system, column]
        stop = end - 1 if end > place and text[end - 1] == _RETURN else end
        if slot >= 0 and place < stop:
            number = _decimal(text, place, min(place + 14, stop))
            if np.isinf(number) or (not np.isnan(number) and place + 14 > stop):
                damaged = place
            elif not np.isnan(number) and number != 0.0:
                value[slot, quantity] = number / layout.divisor[system, column]
                if quantity == _PHASE and place + 14 < stop and _ZERO < text[place + 14] <= _ZERO + 7:
                    digit[slot, 0] = text[place + 14] - _ZERO
                if quantity <= _PHASE and place + 15 < stop and _ZERO < text[place + 15] <= _ZERO + 9:
                    digit[slot, 1] = text[place + 15] - _ZERO
        place += _WIDTH
    if old:
        _move_to_codes(layout, system, value, digit)
    return damaged


@kernel
def _move_to_codes(layout: Layout, system: int, value: NDArray[np.float64], digit: NDArray[np.uint8]) -> None:
    """RINEX 2: give carriers whose own code this satellite lacks to the code of the band that it has.

    A header that declares P2 and C2 gives L2 to P2; GLONASS satellites and newer GPS ones may have C2 alone.
    """
    for slot in range(layout.slots[system]):
        if np.isnan(value[slot, _PHASE]) or not np.isnan(value[slot, _RANGE]):
            continue
        for other in range(layout.slots[system]):
            same_band = layout.base_hz[system, other] == layout.base_hz[system, slot]
            if same_band and np.isnan(value[other, _PHASE]) and not np.isnan(value[other, _RANGE]):
                for quantity in (_PHASE, _DOPPLER, _STRENGTH):
                    value[other, quantity], value[slot, quantity] = value[slot, quantity], np.nan
                digit[other, 0], digit[other, 1] = digit[slot, 0], digit[slot, 1]
                break


@kernel
def _lock(memory: Memory, sat: int, signal: int, time_ns: int, lost: int) -> tuple[float, int]:
    """Lock time in seconds and the slip flag of a carrier seen now, by its loss of lock digit and the past."""
    slot = signal % _SLOTS
    slip = (lost & 1) | memory.slipped[sat, slot]
    since, away_ns = memory.locked_ns[sat, slot], time_ns - memory.seen_ns[sat, slot]
    if slip or since < 0 or away_ns > LOCK_GAP_NS or away_ns < 0:
        since = time_ns
    memory.locked_ns[sat, slot], memory.seen_ns[sat, slot], memory.slipped[sat, slot] = since, time_ns, 0
    return (time_ns - since) * 1e-9, SLIP if slip else 0


@kernel
def _emit(
    table: Table,
    row: int,
    sat: int,
    layout: Layout,
    slot: int,
    channel: float,
    time_ns: int,
    value: NDArray[np.float64],
    digit: NDArray[np.uint8],
    memory: Memory,
) -> int:
    """Write a signal's row unless it has no observation; returns the next free row."""
    if np.isnan(value[slot, _RANGE]) and np.isnan(value[slot, _PHASE]) and np.isnan(value[slot, _DOPPLER]):
        return row
    system = sat // _PER_SYSTEM
    step_hz = layout.step_hz[system, slot]
    table.sat[row], table.signal[row] = sat, layout.signal[system, slot]
    table.frequency_hz[row] = layout.base_hz[system, slot] + (step_hz * channel if step_hz > 0.0 else 0.0)
    table.pseudorange_m[row] = value[slot, _RANGE]
    table.phase_cycles[row] = value[slot, _PHASE]
    table.doppler_hz[row] = value[slot, _DOPPLER]
    table.cn0_dbhz[row] = value[slot, _STRENGTH]
    if np.isnan(value[slot, _STRENGTH]) and digit[slot, 1] > 0:
        table.cn0_dbhz[row] = _DIGITS_CN0_STEP * digit[slot, 1] + 0.5 * _DIGITS_CN0_STEP
    table.lock_s[row], table.flags[row] = 0.0, 0
    if not np.isnan(value[slot, _PHASE]):
        lock_s, slip = _lock(memory, sat, layout.signal[system, slot], time_ns, digit[slot, 0])
        table.lock_s[row] = lock_s
        table.flags[row] = slip | (HALF_CYCLE if digit[slot, 0] & 2 else 0)
    return row + 1


@kernel
def _read_epoch(
    text: NDArray[np.uint8],
    cursor: NDArray[np.int64],
    old: bool,
    layout: Layout,
    channel: NDArray[np.float64],
    memory: Memory,
    table: Table,
    time_ns: int,
    slips_only: bool,
    found: NDArray[np.int64],
    size: int,
) -> None:
    """Read the values of the found satellites into the table; those of a cycle slip record into the memory."""
    value, digit = np.empty((_SLOTS, 4)), np.empty((_SLOTS, 2), np.uint8)
    first = row = cursor[ROWS]
    last = -1
    for index in range(size):
        sat = found[index, 0]
        if sat == last:
            _note(table, cursor, found[index, 1], DUPLICATE)
            continue
        last, system = sat, sat // _PER_SYSTEM
        damaged = _read_values(text, found[index, 1], old, layout, system, value, digit)
        if damaged >= 0:
            _note(table, cursor, damaged, NO_VALUE)
        for slot in range(layout.slots[system]):
            if slips_only:
                if not np.isnan(value[slot, _PHASE]):
                    memory.slipped[sat, layout.signal[system, slot] % _SLOTS] = 1
            else:
                row = _emit(table, row, sat, layout, slot, channel[sat], time_ns, value, digit, memory)
    if row > first:
        epoch = cursor[EPOCHS]
        table.time_ns[epoch], table.first_row[epoch], table.first_row[epoch + 1] = time_ns, first, row
        cursor[EPOCHS], cursor[ROWS] = epoch + 1, row


@kernel
def read_body(
    text: NDArray[np.uint8],
    cursor: NDArray[np.int64],
    old: bool,
    layout: Layout,
    channel: NDArray[np.float64],
    memory: Memory,
    table: Table,
) -> int:
    """Read epochs from the cursor on.

    Args:
        text: The whole file.
        cursor: (7,) int64, see `OFFSET` and its neighbours; moved on.
        old: The file is RINEX 2.
        layout: The file's columns.
        channel: (448,) GLONASS frequency channel by satellite, NaN: not known.
        memory: What is remembered between epochs.
        table: Where the epochs go.

    Returns:
        `DONE`: the text is read; `FULL`: the table has no room for another epoch; `EVENT`: special records follow, as
        many as cursor[EVENT_COUNT], of the kind cursor[EVENT_FLAG].
    """
    found = np.empty((SATELLITES_MAX, 2), np.int64)
    columns, flag_column = (_COLUMNS_2, 28) if old else (_COLUMNS_3, 31)
    lost = False
    while cursor[OFFSET] < len(text):
        line = cursor[OFFSET]
        end = _line_end(text, line)
        if end - line <= 1 or not _has_flag(text, line, end, old, flag_column):
            if end - line > 1 and not lost:
                _note(table, cursor, line, NOT_AN_EPOCH)
                lost = True
            cursor[OFFSET] = end + 1
            continue
        flag = max(0, _integer(text, line + flag_column, line + flag_column + 1))
        count = max(0, _count(text, line + flag_column + 1, end))
        lost = False
        if 2 <= flag <= 5:
            cursor[OFFSET], cursor[EVENT_FLAG], cursor[EVENT_COUNT] = end + 1, flag, count
            return EVENT
        if cursor[ROWS] + ROWS_PER_EPOCH_MAX > len(table.sat) or cursor[EPOCHS] >= len(table.time_ns):
            return FULL
        time_ns = _time_ns(text, line, columns)
        if time_ns < 0 or count > SATELLITES_MAX:
            _note(table, cursor, line, NOT_AN_EPOCH)
            lost = True
            cursor[OFFSET] = end + 1
            continue
        if flag == 1:
            memory.slipped[:] = 1
        if old:
            lines_each = (layout.columns[0] + _PER_LINE_2 - 1) // _PER_LINE_2
            size = _find_satellites_2(text, cursor, count, lines_each, found, table)
        else:
            cursor[OFFSET] = end + 1
            size = _find_satellites_3(text, cursor, count, found, table)
        _sort(found, size)
        _read_epoch(text, cursor, old, layout, channel, memory, table, time_ns, flag == 6, found, size)
    return DONE


@kernel
def _has_flag(text: NDArray[np.uint8], line: int, end: int, old: bool, flag_column: int) -> bool:
    """Whether a line has the shape of an epoch line: an event flag and a count, a date unless the flag is an event."""
    if end - line < flag_column + 2:
        return False
    flag = _integer(text, line + flag_column, line + flag_column + 1)
    count = _count(text, line + flag_column + 1, end)
    if flag < -1 or flag > 6 or count < -1:
        return False
    if 2 <= flag <= 5:
        return _blank_or_date(text, line, old)
    return count >= 0 and _is_epoch_line(text, line, old)


@kernel
def _blank_or_date(text: NDArray[np.uint8], line: int, old: bool) -> bool:
    """Whether an event's line carries a date or, as it may, none."""
    if not old:
        return _is_epoch_line(text, line, False)
    for place in range(line, line + 26):
        if text[place] != _SPACE:
            return _is_epoch_line(text, line, True)
    return True
