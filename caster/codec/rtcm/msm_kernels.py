"""Kernels of the multiple signal messages: bits to columns and back (RTCM 10403.3 section 3.5.16).

A message is a header, a block of satellite data and a block of signal data ("cells"), each block field by field. The
kernels move it to and from three tables, with a row for each field named here and a column for each message,
satellite or cell: `HEADER_ROWS` int64, `SATELLITE_ROWS` int32 and `RAW_ROWS` int32 hold the integers of the wire, and
`VALUE_ROWS` float64 what they mean. Messages of a batch lie one after the other in the same tables.
"""

from typing import Any, Final

import numpy as np

from caster.codec.rtcm.bits import read_unsigned, write_bits
from solver.constants import SPEED_OF_LIGHT_MPS
from solver.jit import kernel

__all__ = [
    "CELLS_MAX",
    "CELL_BITS",
    "HEADER_ROWS",
    "LOCK_LEGACY",
    "LOCK_LONG",
    "LOCK_SHORT",
    "RAW_ROWS",
    "SATELLITES_MAX",
    "SATELLITE_BITS",
    "SATELLITE_ROWS",
    "VALUE_ROWS",
    "lock_time_ms",
    "ones",
    "pack",
    "unpack",
    "unpack_all",
]

CELLS_MAX: Final = 64
"""The cell mask has at most 64 bits (DF396)."""
SATELLITES_MAX: Final = 64
PAYLOAD_BITS_MAX: Final = 1023 * 8

# Header rows. The masks keep their bits in wire order; FIRST_* and *_COUNT say where the message's
# columns are; SIZE is that of the payload in bytes, since some receivers (u-blox) append zeros.
TYPE, STATION, EPOCH, MULTIPLE, IODS, RESERVED, STEERING, EXTERNAL, SMOOTHED, SMOOTHING = range(10)
SATELLITE_MASK, SIGNAL_MASK, CELL_MASK = 10, 11, 12
FIRST_SATELLITE, SATELLITE_COUNT, FIRST_CELL, CELL_COUNT, STATUS, SIZE = 13, 14, 15, 16, 17, 18
HEADER_ROWS: Final = 19
HEADER_BITS: Final = 169
_HEAD_WIDTHS: Final = np.array([12, 12, 30, 1, 3, 7, 2, 2, 1, 3])
"""Bits of the rows TYPE to SMOOTHING (table 3.5-78)."""

# Satellite rows: the satellite, DF397 whole ms, extended information, DF398 ms / 1024, DF399 m/s; -1 if not sent.
SATELLITE, WHOLE_MS, EXTENDED, PART_MS, ROUGH_RATE = range(5)
SATELLITE_ROWS: Final = 5
WHOLE_MS_INVALID: Final = 255
ROUGH_RATE_INVALID: Final = -8192

# Raw cell rows: satellite's column, satellite, signal, then DF400/405, DF401/406, DF402/407, DF420, DF403/408, DF404.
COLUMN, CELL_SATELLITE, CELL_SIGNAL, FINE_RANGE, FINE_PHASE, LOCK, HALF_CYCLE, CNR, FINE_RATE = range(9)
RAW_ROWS: Final = 9

# Value rows: metres, metres, m/s (grows with the range), dB-Hz, ms. NaN: invalid or not sent.
PSEUDORANGE_M, PHASE_RANGE_M, RATE_MPS, CN0_DBHZ, LOCK_MS = range(5)
VALUE_ROWS: Final = 5

OK, TOO_SHORT, TOO_MANY_CELLS, NOT_MSM = range(4)

_SATELLITE_WIDTHS: Final = np.array(
    [[0, 0, 10, 0]] * 3 + [[8, 0, 10, 0], [8, 4, 10, 14]] * 2,
)
"""Bits of WHOLE_MS to ROUGH_RATE by MSM kind 1 to 7 (tables 3.5-80 to 82)."""
_CELL_WIDTHS: Final = np.array(
    [
        [15, 0, 0, 0, 0, 0],
        [0, 22, 4, 1, 0, 0],
        [15, 22, 4, 1, 0, 0],
        [15, 22, 4, 1, 6, 0],
        [15, 22, 4, 1, 6, 15],
        [20, 24, 10, 1, 10, 0],
        [20, 24, 10, 1, 10, 15],
    ]
)
"""Bits of FINE_RANGE to FINE_RATE by MSM kind 1 to 7 (tables 3.5-83 to 89)."""
SATELLITE_BITS: Final = _SATELLITE_WIDTHS.sum(1)
CELL_BITS: Final = _CELL_WIDTHS.sum(1)

_MS_M: Final = SPEED_OF_LIGHT_MPS * 1e-3
_PHASE_UNIT_M: Final = _MS_M * 2.0**-31
_RANGE_UNIT_M: Final = _MS_M * 2.0**-29
_SHORT_FIELD_SCALE: Final = np.array([1 << 5, 1 << 2])
"""DF400 counts 2^-24 ms and DF401 2^-29 ms: their units in those of DF405 (2^-29 ms) and DF406 (2^-31 ms)."""
_RATE_UNIT_MPS: Final = 1e-4

LOCK_SHORT: Final = np.array([0] + [1 << (4 + i) for i in range(1, 16)], np.int64)
"""Shortest lock time, ms, by indicator DF402 (table 3.5-74)."""
LOCK_LONG: Final = np.array(
    [i if i < 64 else (i << (i // 32 - 1)) - ((i // 32 - 1) << (i // 32 + 4)) for i in range(705)], np.int64
)
"""Shortest lock time, ms, by indicator DF407 (table 3.5-75); larger indicators are reserved."""
_LEGACY_STEPS: Final = ((24, 1, 0), (48, 2, 24), (72, 4, 120), (96, 8, 408), (120, 16, 1176), (127, 32, 3096))
LOCK_LEGACY: Final = np.array(
    [next((a * i - b) * 1000 for top, a, b in _LEGACY_STEPS if i < top) for i in range(127)] + [937_000], np.int64
)
"""Shortest lock time, ms, by indicator DF013 of the messages 1001 to 1012 (table 3.4-2)."""


@kernel
def lock_time_ms(indicator: int, long: bool) -> int:
    """Shortest lock time of an indicator DF407 (`long`) or DF402; 0, which promises nothing, where it is reserved."""
    if not long:
        return int(LOCK_SHORT[indicator])
    return int(LOCK_LONG[indicator]) if indicator < len(LOCK_LONG) else 0


@kernel
def ones(mask: int) -> int:
    """How many bits of a mask are set."""
    count = 0
    bits = np.uint64(mask)
    while bits != np.uint64(0):
        bits &= bits - np.uint64(1)
        count += 1
    return count


@kernel
def _read_header(data: Any, position: int, size: int, header: Any) -> int:
    """Read the header and the masks into one column; return the status."""
    header[:] = 0
    header[SIZE] = size
    if size * 8 < HEADER_BITS:
        return TOO_SHORT
    for row in range(10):
        header[row] = read_unsigned(data, position, _HEAD_WIDTHS[row])
        position += _HEAD_WIDTHS[row]
    if not (1071 <= header[TYPE] <= 1137 and 1 <= header[TYPE] % 10 <= 7):
        return NOT_MSM
    header[SATELLITE_MASK] = (read_unsigned(data, position, 32) << 32) | read_unsigned(data, position + 32, 32)
    header[SIGNAL_MASK] = read_unsigned(data, position + 64, 32)
    satellites = ones(header[SATELLITE_MASK])
    places = satellites * ones(header[SIGNAL_MASK])
    if places > CELLS_MAX:
        return TOO_MANY_CELLS
    if size * 8 < HEADER_BITS + places:
        return TOO_SHORT
    first = min(places, 32)
    if first:
        header[CELL_MASK] = read_unsigned(data, position + 96, first)
    if places > first:
        rest = read_unsigned(data, position + 96 + first, places - first)
        header[CELL_MASK] = (header[CELL_MASK] << (places - first)) | rest
    header[SATELLITE_COUNT] = satellites
    header[CELL_COUNT] = ones(header[CELL_MASK])
    kind = header[TYPE] % 10 - 1
    need = HEADER_BITS + places + satellites * SATELLITE_BITS[kind] + header[CELL_COUNT] * CELL_BITS[kind]
    return TOO_SHORT if size * 8 < need else OK


@kernel
def _list_cells(header: Any, satellites: Any, raw: Any) -> int:
    """Write which satellite and signal each cell is of; return the bits of the cell mask."""
    system = (header[TYPE] - 1071) // 10
    signal_count = ones(header[SIGNAL_MASK])
    row = 0
    column = header[FIRST_SATELLITE]
    cell = header[FIRST_CELL]
    places: int = header[SATELLITE_COUNT] * signal_count
    for slot in range(64):
        if not (header[SATELLITE_MASK] >> (63 - slot)) & 1:
            continue
        satellites[SATELLITE, column] = system * 64 + slot
        for identity in range(32):
            if not (header[SIGNAL_MASK] >> (31 - identity)) & 1:
                continue
            if (header[CELL_MASK] >> (places - 1 - row)) & 1:
                raw[COLUMN, cell] = column - header[FIRST_SATELLITE]
                raw[CELL_SATELLITE, cell] = system * 64 + slot
                raw[CELL_SIGNAL, cell] = system * 32 + identity
                cell += 1
            row += 1
        column += 1
    return places


@kernel
def _read_block(data: Any, position: int, width: int, signed: bool, out: Any, row: int, count: int) -> int:
    """Read one field of all satellites or cells into a row; return the position behind it."""
    if width == 0:
        for index in range(count):
            out[row, index] = -1
        return position
    half = 1 << (width - 1) if signed else 1 << width
    mask = (1 << width) - 1
    place = position >> 3
    window = np.int64(data[place])  # its low `held` bits are the next of the message
    held = 8 - (position & 7)
    for index in range(count):
        while held < width:
            place += 1
            window = ((window & 0xFFFFFFFF) << 8) | np.int64(data[place])
            held += 8
        held -= width
        value = (window >> held) & mask
        out[row, index] = value - (mask + 1 if value >= half else 0)
    return position + count * width


@kernel
def _values(kind: int, satellites: Any, column: int, raw: Any, values: Any, cell: int) -> None:
    """Work out what the integers of one cell mean (sections 3.5.16.3 and 3.5.16.4)."""
    for row in range(VALUE_ROWS):
        values[row, cell] = np.nan
    long = kind >= 5
    rough_m = (max(satellites[WHOLE_MS, column], 0) + satellites[PART_MS, column] / 1024.0) * _MS_M
    known = satellites[WHOLE_MS, column] != WHOLE_MS_INVALID
    width = _CELL_WIDTHS[kind, 0]
    if known and width and raw[FINE_RANGE, cell] != -(1 << (width - 1)):
        units = raw[FINE_RANGE, cell] * (1 if long else _SHORT_FIELD_SCALE[0])
        values[PSEUDORANGE_M, cell] = rough_m + units * _RANGE_UNIT_M
    width = _CELL_WIDTHS[kind, 1]
    if width:
        values[LOCK_MS, cell] = lock_time_ms(raw[LOCK, cell], long)
        if known and raw[FINE_PHASE, cell] != -(1 << (width - 1)):
            units = raw[FINE_PHASE, cell] * (1 if long else _SHORT_FIELD_SCALE[1])
            values[PHASE_RANGE_M, cell] = rough_m + units * _PHASE_UNIT_M
    if raw[CNR, cell] > 0:
        values[CN0_DBHZ, cell] = raw[CNR, cell] * (0.0625 if long else 1.0)
    if (
        _CELL_WIDTHS[kind, 5]
        and raw[FINE_RATE, cell] != -16384
        and satellites[ROUGH_RATE, column] != ROUGH_RATE_INVALID
    ):
        values[RATE_MPS, cell] = satellites[ROUGH_RATE, column] + raw[FINE_RATE, cell] * _RATE_UNIT_MPS


@kernel
def unpack(data: Any, start: int, size: int, header: Any, satellites: Any, raw: Any, values: Any) -> int:
    """Decode the payload of `size` bytes at data[start:], after which `bits.PADDING` bytes must follow.

    Args:
        data: uint8.
        start: The payload's first byte in it.
        size: The payload's bytes.
        header: (HEADER_ROWS,) out; FIRST_SATELLITE and FIRST_CELL are left 0 for the caller to set.
        satellites: (SATELLITE_ROWS, 64 or more) out.
        raw: (RAW_ROWS, 64 or more) out.
        values: (VALUE_ROWS, 64 or more) out.

    Returns:
        The status, which is in the header too; where it is not OK, there are no satellites and no cells.
    """
    status = _read_header(data, start * 8, size, header)
    header[STATUS] = status
    if status != OK:
        header[SATELLITE_COUNT] = 0
        header[CELL_COUNT] = 0
        return status
    kind = header[TYPE] % 10 - 1
    position = start * 8 + HEADER_BITS + _list_cells(header, satellites, raw)
    count = header[SATELLITE_COUNT]
    for field in range(4):
        width = _SATELLITE_WIDTHS[kind, field]
        position = _read_block(data, position, width, field == 3, satellites, WHOLE_MS + field, count)
    count = header[CELL_COUNT]
    for field in range(6):
        signed = field == 0 or field == 1 or field == 5
        width = _CELL_WIDTHS[kind, field]
        position = _read_block(data, position, width, signed, raw, FINE_RANGE + field, count)
    for cell in range(count):
        _values(kind, satellites, raw[COLUMN, cell], raw, values, cell)
    return status


@kernel
def unpack_all(data: Any, spans: Any, header: Any, satellites: Any, raw: Any, values: Any) -> int:
    """Decode the frames at `spans` ((m, 2), start and stop) that are MSM into columns one after the other.

    Stops early where there is not room for one more message's 64 satellites and 64 cells.

    Returns:
        How many frames were looked at; header[TYPE] is 0 where one was not MSM.
    """
    satellite = 0
    cell = 0
    for index in range(len(spans)):
        if satellite + SATELLITES_MAX > satellites.shape[1] or cell + CELLS_MAX > raw.shape[1]:
            return index
        start = spans[index, 0] + 3
        column = header[:, index]
        unpack(
            data, start, spans[index, 1] - start - 3, column, satellites[:, satellite:], raw[:, cell:], values[:, cell:]
        )
        if column[STATUS] == NOT_MSM:
            column[TYPE] = 0
        column[FIRST_SATELLITE] = satellite
        column[FIRST_CELL] = cell
        satellite += column[SATELLITE_COUNT]
        cell += column[CELL_COUNT]
    return len(spans)


@kernel
def pack(header: Any, satellites: Any, raw: Any, out: Any) -> int:
    """Encode one message; the columns of its satellites and cells start at 0.

    Args:
        header: (HEADER_ROWS,) with the masks and counts set, and SIZE 0 or the payload's size with zeros at its end.
        satellites: (SATELLITE_ROWS, s).
        raw: (RAW_ROWS, n).
        out: uint8, zero, with room for the message and `bits.PADDING` more bytes.

    Returns:
        Size of the payload, bytes.
    """
    position = 0
    for row in range(10):
        write_bits(out, position, _HEAD_WIDTHS[row], header[row])
        position += _HEAD_WIDTHS[row]
    write_bits(out, position, 32, header[SATELLITE_MASK] >> 32)
    write_bits(out, position + 32, 32, header[SATELLITE_MASK])
    write_bits(out, position + 64, 32, header[SIGNAL_MASK])
    position += 96
    places = header[SATELLITE_COUNT] * ones(header[SIGNAL_MASK])
    for place in range(places):
        write_bits(out, position + place, 1, header[CELL_MASK] >> (places - 1 - place))
    position += places
    kind = header[TYPE] % 10 - 1
    for field in range(4):
        width = _SATELLITE_WIDTHS[kind, field]
        position = _write_block(out, position, width, satellites[WHOLE_MS + field, : header[SATELLITE_COUNT]])
    for field in range(6):
        width = _CELL_WIDTHS[kind, field]
        position = _write_block(out, position, width, raw[FINE_RANGE + field, : header[CELL_COUNT]])
    size: int = max((position + 7) // 8, header[SIZE])
    return size


@kernel
def _write_block(out: Any, position: int, width: int, values: Any) -> int:
    """Write one field of all satellites or cells; return the position behind it."""
    if width:
        for value in values:
            write_bits(out, position, width, value)
            position += width
    return position
