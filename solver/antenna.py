"""Where an antenna really receives: phase-centre offsets and variations by signal, azimuth and elevation.

A calibrated antenna measures the range from its reference point, plus `range_correction_m`: the variation less the
offset's projection on the line of sight (IGS, ANTEX 1.4, "phase center variations"; sign as in its section 2.3).
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from solver.signals import BAND, FREQUENCY_HZ, SIGNALS_PER_SYSTEM, SYSTEMS

__all__ = ["Antenna", "Calibration", "find_antenna", "range_correction_m"]

Floats = NDArray[np.float64]

_NAME_LENGTH: Final = 20
_RADOME: Final = slice(16, 20)


@dataclass(frozen=True, slots=True)
class Calibration:
    """One frequency of an antenna.

    Attributes:
        offset_enu_m: (3,) phase centre from the reference point, east, north, up.
        variation_m: (azimuths, zeniths); one row where it does not depend on the azimuth.
    """

    offset_enu_m: Floats
    variation_m: Floats


@dataclass(frozen=True, slots=True)
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

    def calibration(self, signal: int) -> Calibration:
        """That of a signal's band, or of the nearest frequency that was calibrated."""
        letter = SYSTEMS[signal // SIGNALS_PER_SYSTEM]
        wanted_hz = FREQUENCY_HZ[signal]
        own = self.bands.get(f"{letter}{BAND[signal]}")
        if own is not None:
            return own
        return min(self.bands.items(), key=lambda item: abs(_band_hz(item[0]) - wanted_hz))[1]


def _band_hz(band: str) -> float:
    """Carrier frequency of a band's name."""
    system = SYSTEMS.index(band[0])
    mine = np.arange(system * SIGNALS_PER_SYSTEM, (system + 1) * SIGNALS_PER_SYSTEM)
    of_band = mine[BAND[mine] == int(band[1])]
    return float(FREQUENCY_HZ[of_band[0]]) if len(of_band) else math.inf


def find_antenna(antennas: Iterable[Antenna], name: str, serial: str = "") -> Antenna | None:
    """The calibration of an antenna by its IGS name: its own if there is one of its serial number, else its type's.

    Where its radome was not calibrated, the type without a radome stands for it.
    """
    wanted = f"{name:<{_NAME_LENGTH}}"
    if not name.strip():
        return None
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
    for number in np.unique(signals).tolist():
        rows = signals == number
        result[rows] = _of_signal(antenna, antenna.calibration(number), azimuth[rows], elevation[rows])
    return result


def _of_signal(antenna: Antenna, calibration: Calibration, azimuth: Floats, elevation: Floats) -> Floats:
    """Bilinear in the table, less the offset along the line of sight."""
    table, zenith = calibration.variation_m, antenna.zenith_rad
    column = np.clip((math.pi / 2.0 - elevation - zenith[0]) / (zenith[1] - zenith[0]), 0.0, len(zenith) - 1.0)
    row = np.mod(azimuth, 2.0 * math.pi) / (2.0 * math.pi) * max(len(table) - 1, 1)
    i = np.minimum(row.astype(int), max(len(table) - 2, 0))
    j = np.minimum(column.astype(int), len(zenith) - 2)
    below = np.minimum(i + 1, len(table) - 1)
    down, along = np.where(len(table) > 1, row - i, 0.0), column - j
    upper = table[i, j] * (1.0 - along) + table[i, j + 1] * along
    lower = table[below, j] * (1.0 - along) + table[below, j + 1] * along
    east, north, up = calibration.offset_enu_m
    level = np.cos(elevation)
    projected = east * level * np.sin(azimuth) + north * level * np.cos(azimuth) + up * np.sin(elevation)
    result: Floats = upper * (1.0 - down) + lower * down - projected
    return result
