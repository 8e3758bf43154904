"""Epochs to multiple signal messages: what a station, a virtual one, or a file's replay sends.

MSM sends the carrier phase as a range that must lie within 1171 m (2^-8 ms) of the satellite's rough range, while a
receiver may begin to count cycles anywhere. `MsmEncoder` therefore adds whole cycles where a phase is farther off, the
same number until the carrier slips, and starts the lock time anew wherever that number changes, so that a receiver of
the stream never takes a step of ours for a measurement. Splits a system whose satellites times signals exceed 64
(RTCM 10403.3 section 3.5.16.2), and sets the multiple-message bit on all messages of an epoch but the last.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from caster.codec.rtcm import msm_kernels as rows
from caster.codec.rtcm.msm import Msm, encode_msm
from caster.codec.rtcm.msm_kernels import (
    CELL_COUNT,
    CELL_MASK,
    CELL_SATELLITE,
    CELL_SIGNAL,
    CELLS_MAX,
    COLUMN,
    EXTENDED,
    FINE_PHASE,
    FINE_RANGE,
    FINE_RATE,
    LOCK_MS,
    PART_MS,
    PHASE_RANGE_M,
    PSEUDORANGE_M,
    RATE_MPS,
    ROUGH_RATE,
    ROUGH_RATE_INVALID,
    SATELLITE,
    SATELLITE_COUNT,
    SATELLITE_MASK,
    SIGNAL_MASK,
    WHOLE_MS,
    WHOLE_MS_INVALID,
    ones,
)
from caster.errors import LocalProtocolError
from solver.constants import SPEED_OF_LIGHT_MPS
from solver.jit import kernel
from solver.model import HALF_CYCLE, SLIP, Epoch
from solver.signals import (
    BEIDOU,
    FREQUENCY_HZ,
    GLONASS,
    GLONASS_CHANNEL_STEP_HZ,
    PRN_PER_SYSTEM,
    RINEX_CODE,
    RINEX_ONLY,
    SIGNALS_PER_SYSTEM,
    SYSTEMS,
)
from solver.timescale import BDT_OFFSET_S, DAY_NS, GLONASST_UTC_S, NS, WEEK_NS, to_utc

__all__ = ["MsmEncoder", "epoch_to_msm", "msm_epoch"]

KINDS: Final = (4, 5, 6, 7)
"""MSM kinds that carry whole ranges; MSM1 to 3 carry them modulo a light millisecond."""
_MS_NS: Final = 1_000_000
_MS_M: Final = SPEED_OF_LIGHT_MPS * 1e-3
PHASE_ALIGN_M: Final = 1000.0
"""A phase farther than this from the pseudorange gets whole cycles; the field ends at 1171 m less the rough range's."""
_LOCK_MS_PER_S: Final = 1e3 * (1 + 1e-7)
"""A lock time in single precision must not fall below the indicator that it came from."""
EXTENDED_UNKNOWN: Final = 15
_L1: Final = GLONASS * SIGNALS_PER_SYSTEM + 1
_STEPS_HZ: Final = np.array([[FREQUENCY_HZ[_L1], GLONASS_CHANNEL_STEP_HZ["1"]], [1246e6, GLONASS_CHANNEL_STEP_HZ["2"]]])
_SENDABLE: Final = np.array([bool(code) and number not in RINEX_ONLY for number, code in enumerate(RINEX_CODE)])
_NO_START: Final = -1


def msm_epoch(system: int, time_ns: int) -> int:
    """The epoch field of a system's MSM at an instant of GPST (DF004, DF248, DF427, DF428, DF416 with DF034)."""
    if system == GLONASS:
        moscow_ns = (to_utc(time_ns) + GLONASST_UTC_S * NS) % WEEK_NS
        return moscow_ns // DAY_NS << 27 | moscow_ns % DAY_NS // _MS_NS
    return (time_ns - (BDT_OFFSET_S * NS if system == BEIDOU else 0)) % WEEK_NS // _MS_NS


class MsmEncoder:
    """Encodes one station's epochs, in the order of time.

    Rows without either range, of signals that MSM does not know, or farther than 254 light milliseconds, are left out.
    Epoch times are sent in whole milliseconds.
    """

    def __init__(self, station: int = 0, kind: int = 7, clock_steering: int = 0) -> None:
        """Start without a history.

        Args:
            station: Reference station id, 0 to 4095.
            kind: 4, 5, 6 or 7, as in MSM7.
            clock_steering: DF411, 0 to 3.

        Raises:
            LocalProtocolError: the kind or the id is none of these.
        """
        if kind not in KINDS or not 0 <= station <= 4095:
            raise LocalProtocolError(f"cannot encode MSM{kind} of station {station}")
        self._station = station
        self._kind = kind
        self._steering = clock_steering
        self._keys = np.empty(0, np.int64)
        self._cycles = np.empty(0)
        self._start_ns = np.empty(0, np.int64)

    def encode(self, epoch: Epoch, multiple: bool = False) -> list[bytes]:
        """Encode an epoch into whole frames.

        Args:
            epoch: Rows ordered by satellite, then signal.
            multiple: More messages of this epoch will follow from elsewhere, so none is to say that it is the last.
        """
        cells, values = self._columns(epoch)
        bounds = np.empty(len(cells[0]) + 2, np.int64)
        count = _split(cells, bounds)
        return [
            self._message(epoch.time_ns, cells[:, start:stop], values[:, start:stop], multiple or index < count - 1)
            for index, (start, stop) in enumerate(zip(bounds[:count].tolist(), bounds[1:].tolist(), strict=False))
        ]

    def _columns(self, epoch: Epoch) -> tuple[NDArray[np.int32], NDArray[np.float64]]:
        """The epoch's rows that can be sent, as raw cells (lock and C/N0 in their final form) and values."""
        keep = _SENDABLE[epoch.signal] & (np.isfinite(epoch.pseudorange_m) | np.isfinite(epoch.phase_cycles))
        keep &= ~np.isfinite(epoch.pseudorange_m) | (epoch.pseudorange_m > 0) & (epoch.pseudorange_m < 254 * _MS_M)
        wavelength_m = SPEED_OF_LIGHT_MPS / epoch.frequency_hz[keep]
        values = np.empty((rows.VALUE_ROWS, len(wavelength_m)))
        values[rows.PSEUDORANGE_M] = epoch.pseudorange_m[keep]
        values[rows.PHASE_RANGE_M] = epoch.phase_cycles[keep] * wavelength_m
        values[rows.RATE_MPS] = -epoch.doppler_hz[keep] * wavelength_m
        values[rows.CN0_DBHZ] = epoch.cn0_dbhz[keep]
        values[rows.LOCK_MS] = np.rint(epoch.lock_s[keep].astype(np.float64) * _LOCK_MS_PER_S)
        cells = np.zeros((rows.RAW_ROWS, len(wavelength_m)), np.int32)
        cells[rows.CELL_SATELLITE], cells[rows.CELL_SIGNAL] = epoch.sat[keep], epoch.signal[keep]
        cells[rows.HALF_CYCLE] = (epoch.flags[keep] & HALF_CYCLE) > 0
        cells[rows.COLUMN] = _extended(epoch.sat[keep], epoch.frequency_hz[keep])
        self._align(epoch.time_ns, cells, values, wavelength_m, (epoch.flags[keep] & SLIP) > 0)
        table, unit = (rows.LOCK_LONG, 16) if self._kind >= 6 else (rows.LOCK_SHORT, 1)
        cells[rows.LOCK] = np.searchsorted(table, np.nan_to_num(values[rows.LOCK_MS]), "right") - 1
        top = 1023 if self._kind >= 6 else 63
        cells[rows.CNR] = np.clip(np.rint(np.nan_to_num(values[rows.CN0_DBHZ]) * unit), 0, top)
        return cells, values

    def _align(
        self,
        time_ns: int,
        cells: NDArray[np.int32],
        values: NDArray[np.float64],
        wavelength_m: NDArray[np.float64],
        slip: NDArray[np.bool_],
    ) -> None:
        """Bring phases near their ranges by whole cycles and keep the lock times honest about it."""
        size = len(self._keys) + len(slip)
        keys, cycles, start_ns = np.empty(size, np.int64), np.empty(size), np.empty(size, np.int64)
        old = (self._keys, self._cycles, self._start_ns)
        count = _align_all(time_ns, cells, values, wavelength_m, slip, *old, keys, cycles, start_ns)
        self._keys, self._cycles, self._start_ns = keys[:count].copy(), cycles[:count].copy(), start_ns[:count].copy()

    def _message(self, time_ns: int, cells: NDArray[np.int32], values: NDArray[np.float64], multiple: bool) -> bytes:
        system = int(cells[rows.CELL_SATELLITE, 0]) // PRN_PER_SYSTEM
        number = 1070 + 10 * system + self._kind
        head = np.zeros(rows.HEADER_ROWS, np.int64)
        head[: rows.MULTIPLE + 1] = number, self._station, msm_epoch(system, time_ns), multiple
        head[rows.STEERING] = self._steering
        satellites = np.empty((rows.SATELLITE_ROWS, rows.SATELLITES_MAX), np.int32)
        given = np.ascontiguousarray(cells)
        raw = given.copy()
        _quantise(self._kind - 1, given, np.ascontiguousarray(values), head, satellites, raw)
        return encode_msm(Msm(number, self._station, int(head[rows.EPOCH]), multiple, head, satellites, raw, values))


def _extended(sat: NDArray[np.int16], frequency_hz: NDArray[np.float64]) -> NDArray[np.int32]:
    """Extended satellite information: GLONASS channel + 7, 15 where it is not known; 0 for other systems."""
    extended = np.zeros(len(sat), np.int32)
    glonass = sat // PRN_PER_SYSTEM == GLONASS
    if glonass.any():
        band = (frequency_hz[glonass] < 1400e6).astype(int)
        channel = np.rint((frequency_hz[glonass] - _STEPS_HZ[band, 0]) / _STEPS_HZ[band, 1])
        known = (channel >= -7) & (channel <= 6)
        extended[glonass] = np.where(known, np.nan_to_num(channel) + 7, EXTENDED_UNKNOWN)
    return extended


@kernel
def _split(cells: Any, bounds: Any) -> int:
    """Find the messages' first rows: a new one for each system, or when satellites times signals would exceed 64."""
    count = 0
    satellites = 0
    mask = 0
    row = 0
    size = cells.shape[1]
    while row < size:
        sat = cells[CELL_SATELLITE, row]
        stop = row
        own = 0
        while stop < size and cells[CELL_SATELLITE, stop] == sat:
            own |= 1 << int(cells[CELL_SIGNAL, stop] % 32)
            stop += 1
        new_system = row == 0 or sat // 64 != cells[CELL_SATELLITE, row - 1] // 64
        if new_system or (satellites + 1) * ones(mask | own) > CELLS_MAX:
            bounds[count] = row
            count += 1
            satellites = 0
            mask = 0
        satellites += 1
        mask |= own
        row = stop
    bounds[count] = size
    return count


@kernel
def _align_all(
    time_ns: int,
    cells: Any,
    values: Any,
    wavelength_m: Any,
    slip: Any,
    old_keys: Any,
    old_cycles: Any,
    old_start_ns: Any,
    keys: Any,
    cycles: Any,
    start_ns: Any,
) -> int:
    """Add whole cycles to phases in `values`, bound lock times there by the age of the cycles; return the new history.

    A history entry is a signal with a phase: its key, the cycles added, and the start of its lock where we count it
    ourselves (no lock time was given, or the cycles changed), else -1. Both histories are sorted by key.
    """
    old = 0
    count = 0
    for row in range(cells.shape[1]):
        phase_m = values[PHASE_RANGE_M, row]
        if np.isnan(phase_m):
            continue
        key = np.int64(cells[CELL_SATELLITE, row]) * 32 + cells[CELL_SIGNAL, row] % 32
        while old < len(old_keys) and old_keys[old] < key:
            old += 1
        known = old < len(old_keys) and old_keys[old] == key and not slip[row]
        added = old_cycles[old] if known else 0.0
        start = old_start_ns[old] if known else _NO_START
        off_m = phase_m + added * wavelength_m[row] - _reference_m(cells, values, row)
        if abs(off_m) > PHASE_ALIGN_M:
            added -= np.rint(off_m / wavelength_m[row])
            start = time_ns if known or np.isnan(values[LOCK_MS, row]) else _NO_START
        lock_ms = values[LOCK_MS, row]
        if np.isnan(lock_ms) and start == _NO_START:
            start = time_ns
        if start != _NO_START:
            own_ms = (time_ns - start) / 1e6
            lock_ms = own_ms if np.isnan(lock_ms) else min(lock_ms, own_ms)
        values[PHASE_RANGE_M, row] = phase_m + added * wavelength_m[row]
        values[LOCK_MS, row] = lock_ms
        keys[count], cycles[count], start_ns[count] = key, added, start
        count += 1
    return count


@kernel
def _reference_m(cells: Any, values: Any, row: int) -> float:
    """A range of a row's satellite: its own pseudorange, else that of another signal, else its own phase."""
    if not np.isnan(values[PSEUDORANGE_M, row]):
        return float(values[PSEUDORANGE_M, row])
    sat = cells[CELL_SATELLITE, row]
    for other in range(max(row - 31, 0), min(row + 32, cells.shape[1])):
        if cells[CELL_SATELLITE, other] == sat and not np.isnan(values[PSEUDORANGE_M, other]):
            return float(values[PSEUDORANGE_M, other])
    return float(values[PHASE_RANGE_M, row])


@kernel
def _quantise(kind: int, given: Any, values: Any, head: Any, satellites: Any, raw: Any) -> None:
    """Work out masks, satellite data and fine fields of one message (inverse of `msm_kernels.unpack`)."""
    size = given.shape[1]
    head[SATELLITE_MASK] = 0
    head[SIGNAL_MASK] = 0
    for row in range(size):
        head[SATELLITE_MASK] |= np.int64(1) << (63 - given[CELL_SATELLITE, row] % 64)
        head[SIGNAL_MASK] |= np.int64(1) << (31 - given[CELL_SIGNAL, row] % 32)
    column = -1
    for row in range(size):
        if row == 0 or given[CELL_SATELLITE, row] != given[CELL_SATELLITE, row - 1]:
            column += 1
            _quantise_satellite(row, given, values, satellites[:, column])
        raw[COLUMN, row] = column
        _quantise_cell(kind, row, values, satellites[:, column], raw[:, row])
    head[SATELLITE_COUNT] = column + 1
    head[CELL_COUNT] = size
    row = 0
    for column in range(head[SATELLITE_COUNT]):
        for slot in range(32):
            if (head[SIGNAL_MASK] >> (31 - slot)) & 1:
                present = row < size and raw[COLUMN, row] == column and given[CELL_SIGNAL, row] % 32 == slot
                head[CELL_MASK] = (head[CELL_MASK] << 1) | (1 if present else 0)
                row += 1 if present else 0


@kernel
def _quantise_satellite(row: int, given: Any, values: Any, satellite: Any) -> None:
    """Rough range (1/1024 ms) and rough rate (m/s) of the satellite whose first row is `row`."""
    reference_m = _reference_m(given, values, row)
    rate_mps = np.nan
    for other in range(row, given.shape[1]):
        if given[CELL_SATELLITE, other] == given[CELL_SATELLITE, row] and np.isnan(rate_mps):
            rate_mps = values[RATE_MPS, other]
    units = np.int64(np.rint(reference_m / _MS_M * 1024.0)) if 0.0 <= reference_m < 254 * _MS_M else 255 * 1024
    satellite[SATELLITE] = given[CELL_SATELLITE, row]
    satellite[WHOLE_MS] = units >> 10
    satellite[PART_MS] = units & 1023
    satellite[EXTENDED] = given[COLUMN, row]
    satellite[ROUGH_RATE] = np.int64(np.rint(rate_mps)) if abs(rate_mps) < 8191.0 else ROUGH_RATE_INVALID


@kernel
def _quantise_cell(kind: int, row: int, values: Any, satellite: Any, raw: Any) -> None:
    """Fine range, phase and rate of one cell; the smallest number of a field says that there is none."""
    rough_ms = satellite[WHOLE_MS] + satellite[PART_MS] / 1024.0
    long = kind >= 5
    known = satellite[WHOLE_MS] != WHOLE_MS_INVALID
    range_ms = values[PSEUDORANGE_M, row] / _MS_M - rough_ms if known else np.nan
    phase_ms = values[PHASE_RANGE_M, row] / _MS_M - rough_ms if known else np.nan
    raw[FINE_RANGE] = _fine(range_ms, 2.0**29 if long else 2.0**24, 20 if long else 15)
    raw[FINE_PHASE] = _fine(phase_ms, 2.0**31 if long else 2.0**29, 24 if long else 22)
    known = satellite[ROUGH_RATE] != ROUGH_RATE_INVALID
    raw[FINE_RATE] = _fine(values[RATE_MPS, row] - satellite[ROUGH_RATE] if known else np.nan, 1e4, 15)


@kernel
def _fine(value: float, per_unit: float, bits: int) -> int:
    """A signed field, or its smallest number where there is no value or it does not fit."""
    limit = 1 << (bits - 1)
    count = np.rint(value * per_unit)
    return int(count) if abs(count) < limit else -limit


def epoch_to_msm(epoch: Epoch, station: int = 0, msm: int = 7, systems: str = SYSTEMS) -> list[bytes]:
    """Encode one epoch by itself; a stream wants one `MsmEncoder`, which keeps phases continuous.

    Args:
        epoch: Rows ordered by satellite, then signal.
        station: Reference station id.
        msm: 4, 5, 6 or 7.
        systems: Letters of the systems to send.
    """
    wanted = np.isin(epoch.sat // PRN_PER_SYSTEM, [SYSTEMS.index(letter) for letter in systems])
    names = [name for name in Epoch.__slots__ if name != "time_ns"]
    part = Epoch(epoch.time_ns, **{name: getattr(epoch, name)[wanted] for name in names})
    return MsmEncoder(station, msm).encode(part)
