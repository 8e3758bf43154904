"""A base's epochs as a lossy link delivers them: a system whose message was lost is carried on from an epoch before.

An RTCM base sends one message for each system. Where a link loses frames, most epochs lack some system, and a rover
that takes the latest epoch as it is sees its satellites come and go. A base stands still, so all that changes within
seconds is known: its ranges to the satellites. Rows of a lost system are moved to the present by that; the base's
clock at their own instant stays in them, which does no harm, since each pair of signals has a free offset (a system's
rows always come from one epoch).
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from solver.constants import SPEED_OF_LIGHT_MPS
from solver.kernels.differencing import expected_ranges
from solver.kernels.orbit import satellite_states, select_ephemerides
from solver.model import SLIP, Ephemerides, Epoch
from solver.signals import PRN_PER_SYSTEM, SYSTEMS
from solver.timescale import NS

__all__ = ["BaseStream"]

_AGE_MAX_NS = 10 * NS
"""Beyond that, ionosphere and troposphere change by more than a carrier's noise."""
_LIGHT_TIME_STEPS = 2
_COLUMNS = (
    "sat", "signal", "frequency_hz", "pseudorange_m", "phase_cycles", "doppler_hz", "cn0_dbhz", "lock_s", "flags",
)  # fmt: skip


class BaseStream:
    """The epochs of one base at rest."""

    def __init__(self) -> None:
        self._latest: dict[int, Epoch] = {}

    def complete(self, epoch: Epoch, position_m: NDArray[np.float64], ephemerides: Ephemerides) -> Epoch:
        """Add the rows of systems that this epoch lacks and one of the last seconds had.

        Args:
            epoch: The base's newest epoch; call this once for each.
            position_m: (3,) of the base.
            ephemerides: Broadcast orbits and clocks.
        """
        present = set((epoch.sat // PRN_PER_SYSTEM).tolist())
        parts = [epoch]
        for system in range(len(SYSTEMS)):
            if system in present:
                self._latest[system] = epoch
            elif system in self._latest and epoch.time_ns - self._latest[system].time_ns <= _AGE_MAX_NS:
                parts.append(_carried(_of_system(self._latest[system], system), epoch.time_ns, position_m, ephemerides))
            else:
                self._latest.pop(system, None)
        return _joined(parts) if len(parts) > 1 else epoch


def _of_system(epoch: Epoch, system: int) -> Epoch:
    return _rows(epoch, epoch.sat // PRN_PER_SYSTEM == system)


def _rows(epoch: Epoch, which: NDArray[np.bool_] | NDArray[np.intp]) -> Epoch:
    return Epoch(epoch.time_ns, *(getattr(epoch, name)[which] for name in _COLUMNS))


def _joined(parts: list[Epoch]) -> Epoch:
    """One epoch of several with the same time tag, rows in order."""
    whole = Epoch(parts[0].time_ns, *(np.concatenate([getattr(part, name) for part in parts]) for name in _COLUMNS))
    return _rows(whole, np.lexsort((whole.signal, whole.sat)))


def _carried(epoch: Epoch, time_ns: int, position_m: NDArray[np.float64], ephemerides: Ephemerides) -> Epoch:
    """An epoch moved to a later instant: ranges and carriers change as the geometry does."""
    sats, first, place = np.unique(epoch.sat, return_index=True, return_inverse=True)
    index = np.empty(len(sats), np.int32)
    select_ephemerides(ephemerides.kepler, ephemerides.glonass, time_ns, sats, index)
    code_m = epoch.pseudorange_m[first]
    before_m = _expected(epoch.time_ns, position_m, ephemerides, sats, index, code_m)
    change_m = np.zeros(len(sats))
    for _ in range(_LIGHT_TIME_STEPS):
        change_m = _expected(time_ns, position_m, ephemerides, sats, index, code_m + change_m) - before_m
    known = np.isfinite(change_m)[place]
    step_m = change_m[place]
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
