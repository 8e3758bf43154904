"""Columns of one epoch's messages to an `Epoch`: order, carrier frequencies, and whether the carrier lost lock.

Lock times come as indicators that promise a shortest time. The carrier is said to have slipped where that is shorter
than what was promised at the last sight of the signal, or shorter than the time since then (RTCM 10403.3 DF402, DF407,
DF013); a signal that was never seen counts from the receiver's previous epoch.
"""

import math
from dataclasses import dataclass, field
from itertools import pairwise, starmap
from typing import Any, Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from caster.codec.rtcm import msm_kernels as rows
from solver.constants import SPEED_OF_LIGHT_MPS
from solver.jit import kernel
from solver.model import HALF_CYCLE, SLIP, Epoch
from solver.signals import (
    BAND,
    FREQUENCY_HZ,
    GLONASS,
    GLONASS_CHANNEL_STEP_HZ,
    PRN_PER_SYSTEM,
    SIGNALS_PER_SYSTEM,
)

__all__ = [
    "CHANNEL_UNKNOWN",
    "Columns",
    "Part",
    "Tracking",
    "assemble",
    "by_rank",
    "carrier_hz",
    "has_slipped",
    "new_channels",
    "write_columns",
]

CHANNEL_UNKNOWN: Final = -128
_NEVER: Final = -1
_STEP_HZ: Final = np.array([GLONASS_CHANNEL_STEP_HZ.get(str(band), 0.0) for band in BAND.tolist()])
_STEP_HZ[: GLONASS * SIGNALS_PER_SYSTEM] = 0.0
_STEP_HZ[(GLONASS + 1) * SIGNALS_PER_SYSTEM :] = 0.0


@dataclass(frozen=True, slots=True)
class Part:
    """The observations of one message, in the tables of `msm_kernels`.

    Attributes:
        rank: Which of two messages with the same signal is to be taken, the higher; 0 for a legacy message.
        raw: (RAW_ROWS, n).
        values: (VALUE_ROWS, n).
    """

    rank: int
    raw: NDArray[np.int32]
    values: NDArray[np.float64]

    def systems(self) -> set[int]:
        """Systems of its satellites."""
        return set((self.raw[rows.CELL_SATELLITE, :] // PRN_PER_SYSTEM).tolist())


@dataclass(slots=True)
class Tracking:
    """When each signal of a receiver was last seen, and with which lock time; sorted by satellite and signal.

    Attributes:
        keys: (k,) int64, satellite * 32 + place of the signal in its system.
        seen_ns: (k,) int64, GPST.
        lock_ms: (k,) float64.
        previous_ns: The receiver's previous epoch; -1: there was none.
    """

    keys: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    seen_ns: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    lock_ms: NDArray[np.float64] = field(default_factory=lambda: np.empty(0))
    previous_ns: int = _NEVER

    def update(self, time_ns: int, keys: NDArray[np.int64], lock_ms: NDArray[np.float64]) -> NDArray[np.uint8]:
        """Take an epoch's signals (sorted keys) and return (n,) uint8, 1 where the carrier has slipped."""
        size = len(self.keys) + len(keys)
        merged, slip = np.empty(size, np.int64), np.empty(len(keys), np.uint8)
        seen_ns, lock = np.empty(size, np.int64), np.empty(size)
        old = (self.keys, self.seen_ns, self.lock_ms)
        count = _merge(time_ns, self.previous_ns, keys, lock_ms, *old, merged, seen_ns, lock, slip)
        self.keys, self.seen_ns, self.lock_ms = merged[:count].copy(), seen_ns[:count].copy(), lock[:count].copy()
        self.previous_ns = time_ns
        return slip


@kernel
def has_slipped(time_ns: int, lock_ms: float, last_ns: int, last_lock_ms: float) -> bool:
    """Whether a carrier lost lock since it was last seen (before 0: never), by what its lock times promise."""
    bound_ns = lock_ms * (1e6 + 1e6 / 32)  # DF407's steps are 1/32 of the time at most
    return last_ns >= 0 and (lock_ms < last_lock_ms or bound_ns < time_ns - last_ns)


@kernel
def _merge(
    time_ns: int, previous_ns: int, keys: Any, lock_ms: Any, old_keys: Any, old_ns: Any, old_lock: Any, new_keys: Any,
    new_ns: Any, new_lock: Any, slip: Any,
) -> int:  # fmt: skip
    """Merge an epoch's signals with those that are known, both sorted; mark slips; return the number of the union."""
    count = 0
    old = 0
    for row in range(len(keys)):
        while old < len(old_keys) and old_keys[old] < keys[row]:
            new_keys[count], new_ns[count], new_lock[count] = old_keys[old], old_ns[old], old_lock[old]
            count += 1
            old += 1
        last_ns = previous_ns
        last_lock = 0.0
        if old < len(old_keys) and old_keys[old] == keys[row]:
            last_ns = old_ns[old]
            last_lock = old_lock[old]
            old += 1
        slip[row] = 1 if has_slipped(time_ns, lock_ms[row], last_ns, last_lock) else 0
        new_keys[count], new_ns[count], new_lock[count] = keys[row], time_ns, lock_ms[row]
        count += 1
    while old < len(old_keys):
        new_keys[count], new_ns[count], new_lock[count] = old_keys[old], old_ns[old], old_lock[old]
        count += 1
        old += 1
    return count


def new_channels() -> NDArray[np.int8]:
    """A table of GLONASS frequency channels by place in the system, all unknown; several streams may share one."""
    return np.full(PRN_PER_SYSTEM, CHANNEL_UNKNOWN, np.int8)


def carrier_hz(sat: NDArray[Any], signal: NDArray[Any], channels: NDArray[np.int8]) -> NDArray[np.float64]:
    """Carrier frequencies; NaN for a GLONASS FDMA signal of which the channel is not known."""
    frequency_hz: NDArray[np.float64] = FREQUENCY_HZ[signal]
    step_hz = _STEP_HZ[signal]
    if step_hz.any():
        channel = channels[sat % PRN_PER_SYSTEM].astype(float)
        channel[channel == CHANNEL_UNKNOWN] = np.nan
        frequency_hz = np.where(step_hz > 0, frequency_hz + channel * step_hz, frequency_hz)
    return frequency_hz


def assemble(time_ns: int, parts: list[Part], channels: NDArray[np.int8], tracking: Tracking) -> Epoch:
    """Make an epoch of its messages' parts, without cells that hold neither range.

    MSM goes before legacy where both carry a system.
    """
    parts = by_rank(parts)
    raw = np.concatenate([part.raw for part in parts], axis=1)
    values = np.concatenate([part.values for part in parts], axis=1)
    keys, columns = np.empty(raw.shape[1], np.int64), np.empty(raw.shape[1], np.int64)
    count, ordered = _find_cells(raw, values, keys, columns)
    keys, columns = keys[:count], columns[:count]
    if not ordered:
        keys, order = np.unique(keys, return_index=True)  # the first of equals: parts come by rank
        columns = columns[order]
    columns_of = write_columns(raw, values, columns, channels)
    slip = tracking.update(time_ns, keys, columns_of.real[4])
    (epoch,) = columns_of.slipped(slip).epochs([time_ns], [0, len(slip)])
    return epoch


class Columns(NamedTuple):
    """Columns of one epoch, or of many one after the other (m rows).

    Attributes:
        sat: (m,).
        signal: (m,).
        real: (5, m) frequency, pseudorange, phase (cycles), Doppler, lock time (ms).
        short: (2, m) C/N0, lock time (s).
        flags: (m,) half cycles and slips.
    """

    sat: NDArray[np.int16]
    signal: NDArray[np.int16]
    real: NDArray[np.float64]
    short: NDArray[np.float32]
    flags: NDArray[np.uint8]

    def slipped(self, slip: NDArray[np.uint8]) -> Self:
        """The same, of which those have slipped that `slip` (m,) marks by 1."""
        return self._replace(flags=self.flags | slip * np.uint8(SLIP))

    def epochs(self, time_ns: list[int], first: list[int]) -> list[Epoch]:
        """The epochs of some instants (e), their rows from each of `first` (e + 1) to the next."""
        columns = (self.sat, self.signal, *self.real[:4], *self.short, self.flags)
        rows = list(starmap(slice, pairwise(first)))
        return list(map(Epoch, time_ns, *(map(column.__getitem__, rows) for column in columns)))


def write_columns(
    raw: NDArray[np.int32], values: NDArray[np.float64], columns: NDArray[np.int64], channels: NDArray[np.int8]
) -> Columns:
    """The columns of an epoch from those of its messages.

    Args:
        raw: (RAW_ROWS, n).
        values: (VALUE_ROWS, n).
        columns: (m,) which of the n to take, in order.
        channels: (64,) GLONASS channels.
    """
    m = len(columns)
    out = Columns(
        np.empty(m, np.int16), np.empty(m, np.int16), np.empty((5, m)), np.empty((2, m), np.float32),
        np.empty(m, np.uint8),
    )  # fmt: skip
    _write_columns(raw, values, columns, channels, FREQUENCY_HZ, _STEP_HZ, *out)
    return out


@kernel
def _find_cells(raw: Any, values: Any, keys: Any, columns: Any) -> tuple[int, bool]:
    """Write key and column of each cell that holds a range; their number, and whether the keys grow throughout."""
    count = 0
    ordered = True
    for column in range(raw.shape[1]):
        if math.isnan(values[rows.PSEUDORANGE_M, column]) and math.isnan(values[rows.PHASE_RANGE_M, column]):
            continue
        place = raw[rows.CELL_SIGNAL, column] % SIGNALS_PER_SYSTEM
        keys[count] = np.int64(raw[rows.CELL_SATELLITE, column]) * SIGNALS_PER_SYSTEM + place
        columns[count] = column
        ordered = ordered and (count == 0 or keys[count - 1] < keys[count])
        count += 1
    return count, ordered


@kernel
def _write_columns(
    raw: Any, values: Any, columns: Any, channels: Any, carriers_hz: Any, steps_hz: Any, sat: Any, signal: Any,
    real: Any, short: Any, flags: Any,
) -> None:  # fmt: skip
    """Write an epoch's columns from those of its messages.

    Args:
        raw: (RAW_ROWS, n).
        values: (VALUE_ROWS, n).
        columns: (m,) which of the n to take, in order.
        channels: (64,) GLONASS channels.
        carriers_hz: (SIGNAL_COUNT,) carrier of each signal.
        steps_hz: (SIGNAL_COUNT,) its step from channel to channel.
        sat: (m,) written.
        signal: (m,) written.
        real: (5, m) written: frequency, pseudorange, phase (cycles), Doppler, lock time (ms).
        short: (2, m) written: C/N0, lock time (s).
        flags: (m,) written: half cycles.
    """
    for k in range(len(columns)):
        column = columns[k]
        sat[k], signal[k] = raw[rows.CELL_SATELLITE, column], raw[rows.CELL_SIGNAL, column]
        frequency_hz = carriers_hz[signal[k]]
        if steps_hz[signal[k]] > 0.0:
            channel = channels[sat[k] % PRN_PER_SYSTEM]
            frequency_hz += np.nan if channel == CHANNEL_UNKNOWN else channel * steps_hz[signal[k]]
        per_metre = frequency_hz / SPEED_OF_LIGHT_MPS
        real[0, k], real[1, k] = frequency_hz, values[rows.PSEUDORANGE_M, column]
        real[2, k] = values[rows.PHASE_RANGE_M, column] * per_metre
        real[3, k] = -values[rows.RATE_MPS, column] * per_metre
        real[4, k] = values[rows.LOCK_MS, column]
        short[0, k], short[1, k] = values[rows.CN0_DBHZ, column], real[4, k] * 1e-3
        flags[k] = HALF_CYCLE if raw[rows.HALF_CYCLE, column] > 0 else 0


def by_rank(parts: list[Part]) -> list[Part]:
    """The parts of an epoch, those first that go before; legacy ones without the systems that MSM carries."""
    if not all(part.rank for part in parts):
        modern = {system for part in parts if part.rank for system in part.systems()}
        parts = [_without(part, modern) for part in parts]
    return sorted(parts, key=lambda part: -part.rank)


def _without(part: Part, modern: set[int]) -> Part:
    """A legacy part without the systems that MSM carries; any other as it is."""
    if part.rank or not modern:
        return part
    keep = ~np.isin(part.raw[rows.CELL_SATELLITE] // PRN_PER_SYSTEM, list(modern))
    return Part(part.rank, part.raw[:, keep], part.values[:, keep])
