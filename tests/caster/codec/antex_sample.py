"""A small ANTEX file: an antenna with variations by azimuth in one frequency, another one twice, a satellite."""

import numpy as np


def line(value: str, label: str) -> str:
    return f"{value:<60}{label:<20}\n"


def frequency(
    name: str, offset_mm: tuple[float, float, float], noazi: list[float], rows: dict[float, list[float]]
) -> str:
    text = line(f"   {name}", "START OF FREQUENCY")
    text += line("".join(f"{v:10.2f}" for v in offset_mm), "NORTH / EAST / UP")
    text += "   NOAZI" + "".join(f"{v:8.2f}" for v in noazi) + "\n"
    text += "".join(f"{key:8.1f}" + "".join(f"{v:8.2f}" for v in values) + "\n" for key, values in rows.items())
    return text + line(f"   {name}", "END OF FREQUENCY")


def antenna(name: str, serial: str, dazi: float, bands: str, satellite: str = "") -> str:
    text = line("", "START OF ANTENNA") + line(f"{name:<20}{serial:<20}{satellite:<10}", "TYPE / SERIAL NO")
    text += line(f"  {dazi:6.1f}", "DAZI") + line("     0.0  90.0   5.0", "ZEN1 / ZEN2 / DZEN")
    return text + bands + line("", "END OF ANTENNA")


_ZENITH = np.arange(0.0, 91.0, 5.0)
_RAMP = (_ZENITH / 10.0).tolist()
_BY_AZIMUTH = {
    azimuth: (_ZENITH / 10.0 + 10.0 * (azimuth == 90.0) * (_ZENITH > 0)).tolist()
    for azimuth in (0.0, 90.0, 180.0, 270.0, 360.0)
}
_G1 = frequency("G01", (0.5, 1.2, 88.1), _RAMP, _BY_AZIMUTH)
_G2 = frequency("G02", (-0.6, 0.4, 119.7), (-_ZENITH / 20.0).tolist(), {})
_FLAT = frequency("G01", (0.0, 0.0, 50.0), [0.0] * 19, {})

SAMPLE = (
    line("     1.4            M", "ANTEX VERSION / SYST")
    + line("A", "PCV TYPE / REFANT")
    + line("", "END OF HEADER")
    + antenna("TESTANT         DOME", "", 90.0, _G1 + _G2)
    + antenna("OTHERANT        NONE", "", 0.0, _FLAT)
    + antenna("OTHERANT        NONE", "4711", 0.0, _FLAT)
    + antenna("BLOCK IIF", "G01", 0.0, _FLAT, "G063")
).encode()
