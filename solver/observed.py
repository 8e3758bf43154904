"""An epoch beside the sky: its rows grouped by satellite, each with an ephemeris and the state at emission."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from solver.jit import kernel
from solver.kernels import Bools, Float64Array, Int16Array, Int32Array, Records
from solver.kernels.orbit import satellite_states, select_ephemerides
from solver.model import Ephemerides, Epoch
from solver.signals import BEIDOU, PRN_PER_SYSTEM, SIGNAL_COUNT, SYSTEMS, signal

__all__ = ["Observed", "Selection", "observe", "take"]

_RANGE_MIN_M, _RANGE_MAX_M = 1.0e7, 8.0e7
"""Pseudoranges outside of this are no satellite's: the nearest flies at 19,000 km, and a clock is off by < 0.1 s."""
_BEIDOU3_ONLY: Final = np.zeros(SIGNAL_COUNT, bool)
for _name in ("1D", "1P", "1X", "5D", "5P", "5X", "7D", "7P", "7Z"):
    _BEIDOU3_ONLY[signal("C" + _name)] = True


@dataclass(frozen=True, slots=True)
class Selection:
    """Which observations a solution may use.

    Attributes:
        systems: RINEX letters.
        signals: Names such as "C2I"; empty: all signals of the systems.
        elevation_mask: Radians.
        excluded: Satellites not to be used.
    """

    systems: str = "GREJC"
    signals: frozenset[str] = frozenset()
    elevation_mask: float = float(np.radians(10.0))
    excluded: frozenset[int] = frozenset()

    def mask(self, epoch: Epoch) -> NDArray[np.bool_]:
        """Which rows of an epoch are of a wanted system, signal and satellite."""
        satellites, signals = _wanted(self)
        return satellites[epoch.sat] & signals[epoch.signal]


@lru_cache(maxsize=64)
def _wanted(selection: Selection) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Whether each satellite (SATELLITE_COUNT,) and each signal (SIGNAL_COUNT,) is wanted."""
    satellites = np.repeat([letter in selection.systems for letter in SYSTEMS], PRN_PER_SYSTEM)
    satellites[list(selection.excluded)] = False
    signals = np.full(SIGNAL_COUNT, not selection.signals)
    signals[[signal(name) for name in selection.signals]] = True
    return satellites, signals


@dataclass(frozen=True, slots=True)
class Observed:
    """Rows of an epoch that can be used, grouped by satellite (m rows, g satellites).

    Attributes:
        epoch: The epoch, cut down to these rows.
        sat: (g,) int16.
        first: (g + 1,) int32, first row of each satellite.
        index: (g,) int32, row of its ephemeris (`solver.kernels.orbit.select_ephemerides`).
        states: (g, 8) satellites at emission (`solver.kernels.orbit`); NaN where there is no ephemeris.
        old_beidou: (g, 2) sqrt_a and i0 of BeiDou satellites that send none of BDS-3's signals; else 0.
    """

    epoch: Epoch
    sat: NDArray[np.int16]
    first: NDArray[np.int32]
    index: NDArray[np.int32]
    states: NDArray[np.float64]
    old_beidou: NDArray[np.float64]

    @property
    def group(self) -> NDArray[np.int64]:
        """(m,) place of each row's satellite."""
        return np.repeat(np.arange(len(self.sat)), np.diff(self.first))


def take(epoch: Epoch, rows: NDArray[np.bool_]) -> Epoch:
    """Some rows of an epoch."""
    if rows.all():
        return epoch
    names = (
        "sat",
        "signal",
        "frequency_hz",
        "pseudorange_m",
        "phase_cycles",
        "doppler_hz",
        "cn0_dbhz",
        "lock_s",
        "flags",
    )
    return replace(epoch, **{name: getattr(epoch, name)[rows] for name in names})


def observe(
    epoch: Epoch, ephemerides: Ephemerides, selection: Selection, index_of: NDArray[np.int32] | None = None
) -> Observed:
    """Choose rows and ephemerides of an epoch and compute the satellites' states.

    Args:
        epoch: Observations.
        ephemerides: Broadcast orbits and clocks.
        selection: What may be used.
        index_of: (SATELLITE_COUNT,) ephemeris to use by satellite, so that base and rover share them; None: choose.
    """
    satellites, signals = _wanted(selection)
    kept = np.empty(len(epoch), np.bool_)
    sat, first = np.empty(len(epoch), np.int16), np.zeros(len(epoch) + 1, np.int32)
    pseudorange_m, modern = np.empty(len(epoch)), np.zeros(len(epoch), np.bool_)
    count = _choose_rows(
        epoch.sat, epoch.signal, epoch.pseudorange_m, epoch.frequency_hz, satellites, signals, _BEIDOU3_ONLY, kept, sat,
        first, pseudorange_m, modern,
    )  # fmt: skip
    epoch = take(epoch, kept)
    sat, first = sat[:count], first[: count + 1]
    index = np.empty(count, np.int32)
    if index_of is None:
        select_ephemerides(ephemerides.kepler, ephemerides.glonass, epoch.time_ns, sat, index)
    else:
        index[:] = index_of[sat]
    states, old_beidou = np.empty((count, 8)), np.zeros((count, 2))
    satellite_states(ephemerides.kepler, ephemerides.glonass, epoch.time_ns, sat, index, pseudorange_m[:count], states)
    _old_beidou(ephemerides.kepler, sat, index, modern, old_beidou)
    return Observed(epoch, sat, first, index, states, old_beidou)


@kernel
def _choose_rows(
    row_sat: Int16Array, signal: Int16Array, row_pseudorange_m: Float64Array, frequency_hz: Float64Array,
    satellites: Bools, signals: Bools, beidou3_only: Bools, kept: Bools, sat: Int16Array, first: Int32Array,
    pseudorange_m: Float64Array, modern: Bools,
) -> int:  # fmt: skip
    """Mark the rows that can be used and group them by satellite; the number of satellites is returned.

    Written per satellite: itself, its first row among those kept, that row's pseudorange, and whether any of its rows
    is of a signal that BeiDou-3 alone sends.
    """
    count = 0
    rows = 0
    for row in range(len(row_sat)):
        range_m = row_pseudorange_m[row]
        sane = _RANGE_MIN_M < range_m < _RANGE_MAX_M and math.isfinite(frequency_hz[row])
        kept[row] = sane and satellites[row_sat[row]] and signals[signal[row]]
        if not kept[row]:
            continue
        if count == 0 or sat[count - 1] != row_sat[row]:
            sat[count], first[count], pseudorange_m[count] = row_sat[row], rows, range_m
            count += 1
        modern[count - 1] |= beidou3_only[signal[row]]
        rows += 1
    first[count] = rows
    return count


@kernel
def _old_beidou(kepler: Records, sat: Int16Array, index: Int32Array, modern: Bools, out: Float64Array) -> None:
    """Write sqrt_a and i0 of the BeiDou satellites of which no signal of BDS-3 is seen."""
    for g in range(len(sat)):
        if sat[g] // PRN_PER_SYSTEM == BEIDOU and not modern[g] and index[g] >= 0:
            out[g, 0], out[g, 1] = kepler[index[g]].sqrt_a, kepler[index[g]].i0
