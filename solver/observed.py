"""An epoch beside the sky: its rows grouped by satellite, each with an ephemeris and the state at emission."""

from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from solver.kernels.orbit import NO_EPHEMERIS, satellite_states, select_ephemerides
from solver.model import Ephemerides, Epoch
from solver.signals import BEIDOU, SIGNAL_COUNT, SYSTEMS, signal

__all__ = ["Observed", "Selection", "observe", "take"]

_RANGE_M: Final = (1.0e7, 8.0e7)
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
        wanted = np.array([letter in self.systems for letter in SYSTEMS])[epoch.sat // 64]
        if self.signals:
            wanted &= np.isin(epoch.signal, [signal(name) for name in self.signals])
        if self.excluded:
            wanted &= ~np.isin(epoch.sat, list(self.excluded))
        return wanted


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
    finite = np.isfinite(epoch.pseudorange_m) & np.isfinite(epoch.frequency_hz)
    sane = (epoch.pseudorange_m > _RANGE_M[0]) & (epoch.pseudorange_m < _RANGE_M[1])
    epoch = take(epoch, finite & sane & selection.mask(epoch))
    starts = np.flatnonzero(np.diff(epoch.sat, prepend=np.int16(-1)))
    sat = np.ascontiguousarray(epoch.sat[starts])
    first = np.append(starts, len(epoch)).astype(np.int32)
    index = np.empty(len(sat), np.int32)
    if index_of is None:
        select_ephemerides(ephemerides.kepler, ephemerides.glonass, epoch.time_ns, sat, index)
    else:
        index[:] = index_of[sat]
    states = np.empty((len(sat), 8))
    pseudorange_m = np.ascontiguousarray(epoch.pseudorange_m[starts])
    satellite_states(ephemerides.kepler, ephemerides.glonass, epoch.time_ns, sat, index, pseudorange_m, states)
    return Observed(epoch, sat, first, index, states, _old_beidou(epoch, sat, starts, index, ephemerides))


def _old_beidou(
    epoch: Epoch, sat: NDArray[np.int16], starts: NDArray[np.int64], index: NDArray[np.int32], ephemerides: Ephemerides
) -> NDArray[np.float64]:
    """Orbits of the BeiDou satellites of which no signal of BDS-3 is seen."""
    out = np.zeros((len(sat), 2))
    if not len(sat):
        return out
    modern = np.logical_or.reduceat(_BEIDOU3_ONLY[epoch.signal], starts)
    for g in np.flatnonzero((sat // 64 == BEIDOU) & ~modern & (index > NO_EPHEMERIS)):
        record = ephemerides.kepler[index[g]]
        out[g] = record["sqrt_a"], record["i0"]
    return out
