"""Satellites and signals as small integers, and what is known of each: RINEX code, RTCM MSM id, carrier frequency.

A satellite is `system * 64 + number - 1` (see `satellite`), a signal is `system * 32 + slot` where the slot is the
RTCM MSM signal id less one (RTCM 10403.3, DF395). RINEX codes that MSM does not carry sit in slots that MSM leaves
reserved, named in `RINEX_ONLY`. So masks of MSM, arrays of the solver and tables here share one numbering.

Band frequencies: IS-GPS-200/705/800, GLONASS ICD 5.1, Galileo OS SIS ICD 2.1, BDS-SIS-ICD B1I/B3I/B1C/B2a/B2b,
IS-QZSS-PNT, IRNSS SIS ICD; letters: RINEX 4.01 tables 4 to 10.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BAND",
    "FREQUENCY_HZ",
    "GLONASS_CHANNEL_STEP_HZ",
    "RINEX_CODE",
    "RINEX_ONLY",
    "SATELLITE_COUNT",
    "SIGNAL_COUNT",
    "SYSTEMS",
    "frequency_hz",
    "satellite",
    "satellite_name",
    "satellite_of_name",
    "signal",
    "signal_name",
]

SYSTEMS: Final = "GRESJCI"
"""RINEX letters: GPS, GLONASS, Galileo, SBAS, QZSS, BeiDou, NavIC; the place in it is the system number."""
GPS, GLONASS, GALILEO, SBAS, QZSS, BEIDOU, NAVIC = range(7)
PRN_PER_SYSTEM: Final = 64
SIGNALS_PER_SYSTEM: Final = 32
SATELLITE_COUNT: Final = len(SYSTEMS) * PRN_PER_SYSTEM
SIGNAL_COUNT: Final = len(SYSTEMS) * SIGNALS_PER_SYSTEM

_BAND_MHZ: Final[dict[str, dict[str, float]]] = {
    "G": {"1": 1575.42, "2": 1227.60, "5": 1176.45},
    "R": {"1": 1602.0, "2": 1246.0, "4": 1600.995, "6": 1248.06, "3": 1202.025},
    "E": {"1": 1575.42, "5": 1176.45, "6": 1278.75, "7": 1207.14, "8": 1191.795},
    "S": {"1": 1575.42, "5": 1176.45},
    "J": {"1": 1575.42, "2": 1227.60, "5": 1176.45, "6": 1278.75},
    "C": {"1": 1575.42, "2": 1561.098, "5": 1176.45, "6": 1268.52, "7": 1207.14, "8": 1191.795},
    "I": {"1": 1575.42, "5": 1176.45, "9": 2492.028},
}
GLONASS_CHANNEL_STEP_HZ: Final[dict[str, float]] = {"1": 562_500.0, "2": 437_500.0}
"""FDMA step per frequency channel by RINEX band digit, GLONASS ICD 5.1 section 3.3.1.1."""

_MSM: Final[dict[str, dict[int, str]]] = {
    "G": {2: "1C", 3: "1P", 4: "1W", 8: "2C", 9: "2P", 10: "2W", 15: "2S", 16: "2L", 17: "2X",
          22: "5I", 23: "5Q", 24: "5X", 30: "1S", 31: "1L", 32: "1X"},
    "R": {2: "1C", 3: "1P", 8: "2C", 9: "2P"},
    "E": {2: "1C", 3: "1A", 4: "1B", 5: "1X", 6: "1Z", 8: "6C", 9: "6A", 10: "6B", 11: "6X", 12: "6Z",
          14: "7I", 15: "7Q", 16: "7X", 18: "8I", 19: "8Q", 20: "8X", 22: "5I", 23: "5Q", 24: "5X"},
    "S": {2: "1C", 22: "5I", 23: "5Q", 24: "5X"},
    "J": {2: "1C", 9: "6S", 10: "6L", 11: "6X", 15: "2S", 16: "2L", 17: "2X", 22: "5I", 23: "5Q", 24: "5X",
          30: "1S", 31: "1L", 32: "1X"},
    "C": {2: "2I", 3: "2Q", 4: "2X", 8: "6I", 9: "6Q", 10: "6X", 14: "7I", 15: "7Q", 16: "7X",
          22: "5D", 23: "5P", 24: "5X", 25: "7D", 26: "7P", 27: "7Z", 30: "1D", 31: "1P", 32: "1X"},
    "I": {8: "9A", 22: "5A"},
}  # fmt: skip
_RINEX_ONLY: Final[dict[str, dict[int, str]]] = {
    "G": {5: "1Y", 6: "1M", 7: "1N", 11: "2Y", 12: "2M", 13: "2N", 14: "2D"},
    "R": {14: "4A", 15: "4B", 16: "4X", 18: "6A", 19: "6B", 20: "6X", 22: "3I", 23: "3Q", 24: "3X"},
    "E": {},
    "S": {},
    "J": {3: "1Z", 4: "1B", 5: "1E", 12: "6E", 13: "6Z", 18: "5D", 19: "5P", 20: "5Z"},
    "C": {5: "1S", 6: "1L", 7: "1Z", 11: "6D", 12: "6P", 13: "6Z", 18: "8D", 19: "8P", 20: "8X"},
    "I": {9: "9B", 10: "9C", 11: "9X", 23: "5B", 24: "5C", 25: "5X", 30: "1D", 31: "1P", 32: "1X"},
}

RINEX_CODE: Final[list[str]] = [""] * SIGNAL_COUNT
"""RINEX 3 band and attribute ("1C", "2I") by signal; empty where the number names no signal."""
BAND: Final[NDArray[np.int8]] = np.zeros(SIGNAL_COUNT, np.int8)
"""RINEX band digit by signal; 0 where the number names no signal."""
FREQUENCY_HZ: Final[NDArray[np.float64]] = np.full(SIGNAL_COUNT, np.nan)
"""Carrier frequency by signal, Hz; GLONASS FDMA signals at channel 0; NaN where the number names no signal."""
_SIGNAL_OF_NAME: Final[dict[str, int]] = {}

for _system, _letter in enumerate(SYSTEMS):
    for _id, _code in (_MSM[_letter] | _RINEX_ONLY[_letter]).items():
        _number = _system * SIGNALS_PER_SYSTEM + _id - 1
        RINEX_CODE[_number] = _code
        BAND[_number] = int(_code[0])
        FREQUENCY_HZ[_number] = _BAND_MHZ[_letter][_code[0]] * 1e6
        _SIGNAL_OF_NAME[_letter + _code] = _number
for _table in (BAND, FREQUENCY_HZ):
    _table.flags.writeable = False

RINEX_ONLY: Final = frozenset(
    _SIGNAL_OF_NAME[_letter + _code] for _letter in SYSTEMS for _code in _RINEX_ONLY[_letter].values()
)
"""Signals that RINEX names and MSM cannot carry."""


def satellite(system: int, number: int) -> int:
    """The satellite of a system number and its RINEX number (J01 is 1, S20 is 20: RINEX drops 192 and 100).

    Raises:
        ValueError: the number is outside of the system's range.
    """
    slot = number - 20 if system == SBAS else number - 1
    if not (0 <= system < len(SYSTEMS) and 0 <= slot < PRN_PER_SYSTEM):
        raise ValueError(f"no such satellite: system {system}, number {number}")
    return system * PRN_PER_SYSTEM + slot


def satellite_name(sat: int) -> str:
    """The RINEX name of a satellite, such as "C21"."""
    system, slot = divmod(sat, PRN_PER_SYSTEM)
    return f"{SYSTEMS[system]}{slot + (20 if system == SBAS else 1):02d}"


def satellite_of_name(name: str) -> int:
    """The satellite of a RINEX name, such as "C21" or "G 5".

    Raises:
        ValueError: the text names no satellite.
    """
    system, number = SYSTEMS.find(name[:1] or "?"), name[1:].strip()
    if system < 0 or not number.isdecimal():
        raise ValueError(f"no such satellite: {name!r}")
    return satellite(system, int(number))


def signal(name: str) -> int:
    """The signal of a system letter and RINEX code, such as "C2I"; -1 where there is none."""
    return _SIGNAL_OF_NAME.get(name, -1)


def signal_name(number: int) -> str:
    """System letter and RINEX code of a signal, such as "C2I"."""
    return SYSTEMS[number // SIGNALS_PER_SYSTEM] + RINEX_CODE[number]


def frequency_hz(number: int, glonass_channel: int | None = None) -> float:
    """Carrier frequency of a signal in Hz; NaN for a GLONASS FDMA signal of which the channel is not known."""
    step_hz = GLONASS_CHANNEL_STEP_HZ.get(str(BAND[number])) if number // SIGNALS_PER_SYSTEM == GLONASS else None
    if step_hz is None:
        return float(FREQUENCY_HZ[number])
    return float("nan") if glonass_channel is None else float(FREQUENCY_HZ[number]) + glonass_channel * step_hz
