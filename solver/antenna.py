"""Where an antenna really receives: phase-centre offsets and variations by signal, azimuth and elevation.

A calibrated antenna measures the range from its reference point, plus `range_correction_m`: the variation less the
offset's projection on the line of sight (IGS, ANTEX 1.4, "phase center variations"; sign as in its section 2.3).
That is taken off the observations once, before anything is solved: no solver knows of antennas.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import Final

import numpy as np
from numpy.typing import NDArray

from solver.constants import SPEED_OF_LIGHT_MPS
from solver.kernels.antenna import Pattern, corrections, corrections_along
from solver.model import Ephemerides, Epoch
from solver.signals import BAND, FREQUENCY_HZ, SIGNAL_COUNT, SIGNALS_PER_SYSTEM, SYSTEMS

__all__ = ["Antenna", "Calibration", "at_reference_point", "find_antenna", "range_correction_m"]

Floats = NDArray[np.float64]

_NAME_LENGTH: Final = 20
_RADOME: Final = slice(16, 20)
_NULL_ANTENNA: Final = "ADVNULLANTENNA"
"""Networks' name (Geo++ and others, in RTCM 1008 and 1033) of what their corrected observations are of."""


_SAME_MHZ: Final = 0.5
"""Systems share frequencies: E1 and J1 are L1."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """One frequency of an antenna.

    Attributes:
        offset_enu_m: (3,) phase centre from the reference point, east, north, up.
        variation_m: (azimuths, zeniths); one row where it does not depend on the azimuth.
    """

    offset_enu_m: Floats
    variation_m: Floats


@dataclass(frozen=True)
class Antenna:
    """A calibrated antenna type.

    Attributes:
        name: IGS name and radome, 20 characters.
        serial: Empty for a type's mean.
        zenith_rad: (zeniths,) angles of the variations' columns, evenly spaced.
        bands: By RINEX system letter and band digit, such as "C2".
    """

    name: str
    serial: str
    zenith_rad: Floats
    bands: dict[str, Calibration]

    @cached_property
    def pattern(self) -> Pattern:
        """The same as kernels take it."""
        bands, row = list(self.bands.values()), {name: place for place, name in enumerate(self.bands)}
        shape = max(len(band.variation_m) for band in bands), len(self.zenith_rad)
        return Pattern(
            np.array([row[self.stand_in(signal)] for signal in range(SIGNAL_COUNT)], np.int16),
            np.array([band.offset_enu_m for band in bands]),
            np.array([np.broadcast_to(band.variation_m, shape) for band in bands]),
            np.array([self.zenith_rad[0], self.zenith_rad[1] - self.zenith_rad[0]]),
        )

    def stand_in(self, signal: int) -> str:
        """The band whose calibration a signal takes: its own, or that of the nearest frequency."""
        own, wanted_hz = band_of(signal), FREQUENCY_HZ[signal]
        return own if own in self.bands else min(self.bands, key=lambda band: abs(_band_hz(band) - wanted_hz))

    def stand_ins(self, signals: Iterable[int]) -> list[str]:
        """What is to be told of bands that take another frequency's calibration, such as "C6 as G2 (41 MHz off)"."""
        told: dict[str, str] = {}
        for signal in signals:
            own, other = band_of(signal), self.stand_in(signal)
            off_mhz = abs(_band_hz(other) - float(FREQUENCY_HZ[signal])) / 1e6
            if own != other and off_mhz > _SAME_MHZ:
                told[own] = f"{own} as {other} ({off_mhz:.0f} MHz off)"
        return [told[band] for band in sorted(told)]


def band_of(signal: int) -> str:
    """RINEX system letter and band digit of a signal."""
    return f"{SYSTEMS[signal // SIGNALS_PER_SYSTEM]}{BAND[signal]}"


def _band_hz(band: str) -> float:
    """Carrier frequency of a band's name."""
    system = SYSTEMS.index(band[0])
    mine = np.arange(system * SIGNALS_PER_SYSTEM, (system + 1) * SIGNALS_PER_SYSTEM)
    of_band = mine[BAND[mine] == int(band[1])]
    return float(FREQUENCY_HZ[of_band[0]]) if len(of_band) else math.inf


@cache
def _without_size() -> Antenna:
    nothing = Calibration(np.zeros(3), np.zeros((1, 2)))
    bands = dict.fromkeys(map(band_of, np.flatnonzero(BAND).tolist()), nothing)
    return Antenna(f"{_NULL_ANTENNA:<{_NAME_LENGTH}}", "", np.array([0.0, 0.5 * math.pi]), bands)


def find_antenna(antennas: Iterable[Antenna], name: str, serial: str = "") -> Antenna | None:
    """The calibration of an antenna by its IGS name: its own if there is one of its serial number, else its type's.

    Where its radome was not calibrated, the type without a radome stands for it. Observations that a network has made
    as of an antenna without any size need none.
    """
    words = name.split()
    wanted = f"{words[0]:<{_RADOME.start}}{words[1]}" if len(words) == 2 else f"{name:<{_NAME_LENGTH}}"
    if not words:
        return None
    if name.startswith(_NULL_ANTENNA):
        return _without_size()
    if not wanted[_RADOME].strip():
        wanted = wanted[: _RADOME.start] + "NONE"
    bare = wanted[: _RADOME.start] + "NONE"
    found: dict[tuple[bool, bool], Antenna] = {}
    for antenna in antennas:
        if antenna.name in (wanted, bare) and antenna.serial in ("", serial.strip()):
            found[antenna.name == wanted, bool(antenna.serial)] = antenna
    return found[max(found)] if found else None


def range_correction_m(antenna: Antenna, signals: NDArray[np.int16], azimuth: Floats, elevation: Floats) -> Floats:
    """What an antenna adds to the ranges from its reference point.

    Args:
        antenna: Calibrated.
        signals: (n,) `solver.signals.signal`.
        azimuth: (n,) rad, from north by east.
        elevation: (n,) rad.
    """
    result = np.empty(len(signals))
    corrections_along(antenna.pattern, signals, azimuth, elevation, result)
    return result


def at_reference_point(epoch: Epoch, antenna: Antenna, place_ecef_m: Floats, ephemerides: Ephemerides) -> Epoch:
    """An epoch as an antenna without any size would have measured it at the reference point.

    Codes are taken to arrive where carriers do, which is all that calibrations tell.

    Args:
        epoch: As measured, rows in order of satellites.
        antenna: Calibrated; level, and with its mark to the north.
        place_ecef_m: (3,) where it is, to 100 m.
        ephemerides: Broadcast orbits; without one, a satellite's rows stay as they are.
    """
    added_m = np.empty(len(epoch))
    corrections(
        epoch.time_ns, epoch.sat, epoch.signal, epoch.pseudorange_m, place_ecef_m, ephemerides.kepler,
        ephemerides.glonass, antenna.pattern, added_m,
    )  # fmt: skip
    return replace(
        epoch,
        pseudorange_m=epoch.pseudorange_m - added_m,
        phase_cycles=epoch.phase_cycles - added_m * epoch.frequency_hz / SPEED_OF_LIGHT_MPS,
    )
