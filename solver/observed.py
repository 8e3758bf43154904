"""An epoch beside the sky: its rows grouped by satellite, each with an ephemeris and the state at emission."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from solver.kernels.observed import choose_rows
from solver.kernels.orbit import satellite_states, select_ephemerides
from solver.model import Ephemerides, Epoch
from solver.signals import PRN_PER_SYSTEM, SIGNAL_COUNT, SYSTEMS, signal

__all__ = ["Observed", "Selection", "observe", "take", "wanted"]


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
        satellites, signals = wanted(self)
        return satellites[epoch.sat] & signals[epoch.signal]


@lru_cache(maxsize=64)
def wanted(selection: Selection) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
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
    """

    epoch: Epoch
    sat: NDArray[np.int16]
    first: NDArray[np.int32]
    index: NDArray[np.int32]
    states: NDArray[np.float64]

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
    satellites, signals = wanted(selection)
    kept = np.empty(len(epoch), np.bool_)
    sat, first = np.empty(len(epoch), np.int16), np.zeros(len(epoch) + 1, np.int32)
    pseudorange_m, modern = np.empty(len(epoch)), np.empty(len(epoch), np.bool_)
    count = choose_rows(
        epoch.sat, epoch.signal, epoch.pseudorange_m, epoch.frequency_hz, satellites, signals, kept, sat, first,
        pseudorange_m, modern,
    )  # fmt: skip
    epoch = take(epoch, kept)
    sat, first = sat[:count], first[: count + 1]
    index = np.empty(count, np.int32)
    if index_of is None:
        select_ephemerides(ephemerides.kepler, ephemerides.glonass, epoch.time_ns, sat, index)
    else:
        index[:] = index_of[sat]
    states = np.empty((count, 8))
    satellite_states(ephemerides.kepler, ephemerides.glonass, epoch.time_ns, sat, index, pseudorange_m[:count], states)
    return Observed(epoch, sat, first, index, states)
