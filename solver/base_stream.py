"""A base's epochs as a lossy link delivers them: a system whose message was lost is carried on from an epoch before.

An RTCM base sends one message for each system. Where a link loses frames, most epochs lack some system, and a rover
that takes the latest epoch as it is sees its satellites come and go. A base stands still, so all that changes within
seconds is known: its ranges to the satellites, and its clock's drift, which the carriers tell of any system that came
twice. Rows of a lost system are moved to the present by these (a system's rows always come from one epoch).
"""

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from solver.constants import SPEED_OF_LIGHT_MPS
from solver.kernels.differencing import expected_ranges
from solver.kernels.orbit import satellite_states, select_ephemerides
from solver.model import SLIP, Ephemerides, Epoch
from solver.signals import PRN_PER_SYSTEM, SIGNAL_COUNT, SYSTEMS
from solver.timescale import NS

__all__ = ["BaseStream"]

_AGE_MAX_NS = 10 * NS
"""Beyond that, ionosphere and troposphere change by more than a carrier's noise."""
_DRIFT_MAX_MPS = 1e-5 * SPEED_OF_LIGHT_MPS
"""Quartz drifts by less (some 1e-6): the receiver has set its clock, and what it measured before is of no use."""
_LIGHT_TIME_STEPS = 2
_COLUMNS = (
    "sat", "signal", "frequency_hz", "pseudorange_m", "phase_cycles", "doppler_hz", "cn0_dbhz", "lock_s", "flags",
)  # fmt: skip


class BaseStream:
    """The epochs of one base at rest."""

    def __init__(self) -> None:
        self._latest: dict[int, Epoch] = {}
        self._drift_mps = math.nan

    def complete(self, epoch: Epoch, position_m: NDArray[np.float64], ephemerides: Ephemerides) -> Epoch:
        """Add the rows of systems that this epoch lacks and one of the last seconds had.

        Args:
            epoch: The base's newest epoch; call this once for each.
            position_m: (3,) of the base.
            ephemerides: Broadcast orbits and clocks.
        """
        present = set((epoch.sat // PRN_PER_SYSTEM).tolist())
        oldest_ns = epoch.time_ns - _AGE_MAX_NS
        self._latest = {system: held for system, held in self._latest.items() if held.time_ns >= oldest_ns}
        parts = [epoch]
        if lost := sorted(self._latest.keys() - present):
            self._look_at_clock(epoch, position_m, ephemerides)
            for system in lost if abs(self._drift_mps) < _DRIFT_MAX_MPS else ():
                held = _of_system(self._latest[system], system)
                parts.append(_carried(held, epoch.time_ns, position_m, ephemerides, self._drift_mps))
        self._latest |= dict.fromkeys(present, epoch)
        return _joined(parts) if len(parts) > 1 else epoch

    def complete_all(
        self, epochs: list[Epoch], position_m: NDArray[np.float64], ephemerides: Ephemerides
    ) -> list[Epoch]:
        """The epochs of a recording, each as `complete` makes it."""
        if not epochs:
            return []
        sats, of = [epoch.sat for epoch in epochs], np.arange(len(epochs))
        has = np.zeros((len(epochs), len(SYSTEMS)), np.bool_)
        has[np.repeat(of, list(map(len, sats))), np.concatenate(sats) // PRN_PER_SYSTEM] = True
        if (has == has[0]).all():  # nothing was lost
            return epochs
        return [self.complete(epoch, position_m, ephemerides) for epoch in epochs]

    def _look_at_clock(self, epoch: Epoch, position_m: NDArray[np.float64], ephemerides: Ephemerides) -> None:
        """Take the clock's drift from the latest earlier epoch that has a system of this one."""
        systems = [system for system in (epoch.sat // PRN_PER_SYSTEM).tolist() if system in self._latest]
        if not systems:
            return
        system = max(systems, key=lambda system: self._latest[system].time_ns)
        before, now = _of_system(self._latest[system], system), _of_system(epoch, system)
        moved = _carried(before, epoch.time_ns, position_m, ephemerides, 0.0)
        _, at, place = np.intersect1d(_keys(now), _keys(moved), assume_unique=True, return_indices=True)
        whole = np.where(now.flags[at] & SLIP, np.nan, now.phase_cycles[at])
        step_m = (whole - moved.phase_cycles[place]) * (SPEED_OF_LIGHT_MPS / now.frequency_hz[at])
        step_m = step_m[np.isfinite(step_m)]
        if len(step_m):
            self._drift_mps = float(np.median(step_m)) * NS / (epoch.time_ns - before.time_ns)


def _keys(epoch: Epoch) -> NDArray[np.int64]:
    return epoch.sat.astype(np.int64) * SIGNAL_COUNT + epoch.signal


def _of_system(epoch: Epoch, system: int) -> Epoch:
    return _rows(epoch, epoch.sat // PRN_PER_SYSTEM == system)


def _rows(epoch: Epoch, which: NDArray[np.bool_] | NDArray[np.intp]) -> Epoch:
    return Epoch(epoch.time_ns, *(getattr(epoch, name)[which] for name in _COLUMNS))


def _joined(parts: list[Epoch]) -> Epoch:
    """One epoch of several with the same time tag, rows in order."""
    whole = Epoch(parts[0].time_ns, *(np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS))
    return _rows(whole, np.lexsort((whole.signal, whole.sat)))


def _carried(
    epoch: Epoch, time_ns: int, position_m: NDArray[np.float64], ephemerides: Ephemerides, drift_mps: float
) -> Epoch:
    """An epoch moved to a later instant: ranges and carriers change as the geometry and the clock do."""
    sats, first, place = np.unique(epoch.sat, return_index=True, return_inverse=True)
    index = np.empty(len(sats), np.int32)
    select_ephemerides(ephemerides.kepler, ephemerides.glonass, time_ns, sats, index)
    code_m = epoch.pseudorange_m[first]
    before_m = _expected(epoch.time_ns, position_m, ephemerides, sats, index, code_m)
    change_m = np.zeros(len(sats))
    for _ in range(_LIGHT_TIME_STEPS):
        change_m = _expected(time_ns, position_m, ephemerides, sats, index, code_m + change_m) - before_m
    known = np.isfinite(change_m)[place]
    step_m = change_m[place] + drift_mps * (time_ns - epoch.time_ns) / NS
    moved = replace(
        epoch,
        time_ns=time_ns,
        pseudorange_m=epoch.pseudorange_m + step_m,
        phase_cycles=epoch.phase_cycles + step_m * epoch.frequency_hz / SPEED_OF_LIGHT_MPS,
        lock_s=(epoch.lock_s + (time_ns - epoch.time_ns) / NS).astype(np.float32),
        flags=epoch.flags & np.uint8(~SLIP & 0xFF),
    )
    return _rows(moved, known)


def _expected(
    time_ns: int, position_m: NDArray[np.float64], ephemerides: Ephemerides, sats: NDArray[np.int16],
    index: NDArray[np.int32], code_m: NDArray[np.float64],
) -> NDArray[np.float64]:  # fmt: skip
    """Ranges that a receiver expects, by satellite."""
    states, ranges = np.empty((len(sats), 8)), np.empty(len(sats))
    satellite_states(ephemerides.kepler, ephemerides.glonass, time_ns, sats, index, code_m, states)
    expected_ranges(time_ns, position_m, states, ranges)
    return ranges
