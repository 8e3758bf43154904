"""Columns of one epoch's messages to an `Epoch`: order, carrier frequencies, and whether the carrier lost lock.

Lock times come as indicators that promise a shortest time. The carrier is said to have slipped where that is shorter
than what was promised at the last sight of the signal, or shorter than the time since then (RTCM 10403.3 DF402, DF407,
DF013); a signal that was never seen counts from the receiver's previous epoch.
"""

from dataclasses import dataclass, field
from typing import Any, Final

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

__all__ = ["CHANNEL_UNKNOWN", "Part", "Tracking", "assemble", "carrier_hz", "new_channels"]

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
def _merge(
    time_ns: int,
    previous_ns: int,
    keys: Any,
    lock_ms: Any,
    old_keys: Any,
    old_ns: Any,
    old_lock: Any,
    new_keys: Any,
    new_ns: Any,
    new_lock: Any,
    slip: Any,
) -> int:
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
        bound_ns = lock_ms[row] * (1e6 + 1e6 / 32)  # DF407's steps are 1/32 of the time at most
        lost = last_ns >= 0 and (lock_ms[row] < last_lock or bound_ns < time_ns - last_ns)
        slip[row] = 1 if lost else 0
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
    modern = {system for part in parts if part.rank for system in part.systems()}
    parts = sorted((_without(part, modern) for part in parts), key=lambda part: -part.rank)
    raw = np.concatenate([part.raw for part in parts], axis=1)
    values = np.concatenate([part.values for part in parts], axis=1)
    seen = ~(np.isnan(values[rows.PSEUDORANGE_M]) & np.isnan(values[rows.PHASE_RANGE_M]))
    raw, values = raw[:, seen], values[:, seen]
    keys = raw[rows.CELL_SATELLITE].astype(np.int64) * SIGNALS_PER_SYSTEM + raw[rows.CELL_SIGNAL] % SIGNALS_PER_SYSTEM
    keys, order = np.unique(keys, return_index=True)  # the first of equals: parts come by rank
    raw, values = raw[:, order], values[:, order]
    sat, signal = raw[rows.CELL_SATELLITE], raw[rows.CELL_SIGNAL]
    frequency_hz = carrier_hz(sat, signal, channels)
    per_metre = frequency_hz / SPEED_OF_LIGHT_MPS
    slip = tracking.update(time_ns, keys, values[rows.LOCK_MS])
    return Epoch(
        time_ns=time_ns,
        sat=sat.astype(np.int16),
        signal=signal.astype(np.int16),
        frequency_hz=frequency_hz,
        pseudorange_m=values[rows.PSEUDORANGE_M],
        phase_cycles=values[rows.PHASE_RANGE_M] * per_metre,
        doppler_hz=-values[rows.RATE_MPS] * per_metre,
        cn0_dbhz=values[rows.CN0_DBHZ].astype(np.float32),
        lock_s=(values[rows.LOCK_MS] * 1e-3).astype(np.float32),
        flags=slip * np.uint8(SLIP) + (raw[rows.HALF_CYCLE] > 0) * np.uint8(HALF_CYCLE),
    )


def _without(part: Part, modern: set[int]) -> Part:
    """A legacy part without the systems that MSM carries; any other as it is."""
    if part.rank or not modern:
        return part
    keep = ~np.isin(part.raw[rows.CELL_SATELLITE] // PRN_PER_SYSTEM, list(modern))
    return Part(part.rank, part.raw[:, keep], part.values[:, keep])
