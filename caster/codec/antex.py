"""ANTEX: calibrations of antennas (IGS, ANTEX 1.4, the Antenna Exchange Format).

A line has its value in columns 1 to 60 and its label in 61 to 80. Only receivers' antennas are kept: satellites' do not
matter to a baseline. A block that cannot be read is an error that names its line; nothing is guessed.
"""

import math
from collections.abc import Collection, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from caster.errors import FormatError
from solver.antenna import Antenna, Calibration
from solver.signals import SYSTEMS

__all__ = ["read_antex"]

SIZE_MAX: Final = 200_000_000
"""Ten times the IGS's largest file."""
_ANGLES_MAX: Final = 400
_FIRST_LABEL: Final = "ANTEX VERSION / SYST"
_TYPE_LABEL: Final = "TYPE / SERIAL NO"


def read_antex(data: bytes, types: Collection[str] = ()) -> list[Antenna]:
    """The receiver antennas of an ANTEX file.

    Args:
        data: Its content.
        types: Names without radomes of those that are wanted; none: all are.

    Raises:
        FormatError: it is no ANTEX file, or a line of it that is needed cannot be read.
    """
    if len(data) > SIZE_MAX:
        raise FormatError(f"an ANTEX file of more than {SIZE_MAX} bytes")
    lines = data.decode("ascii", errors="replace").splitlines()
    if not lines or lines[0][60:80].strip() != _FIRST_LABEL:
        raise FormatError(f"line 1: not an ANTEX file: no {_FIRST_LABEL!r} in columns 61 to 80")
    wanted = ((start, block) for start, block in _blocks(lines) if not types or _type(block) in types)
    return [antenna for start, block in wanted if (antenna := _antenna(block, start)) is not None]


def _type(block: list[str]) -> str:
    """Name of an antenna, without its radome."""
    return next((line[:16].rstrip() for line in block if line[60:80].strip() == _TYPE_LABEL), "")


def _blocks(lines: list[str]) -> Iterator[tuple[int, list[str]]]:
    """Line number and lines of each antenna."""
    start = -1
    for number, line in enumerate(lines):
        label = line[60:80].strip()
        if label == "START OF ANTENNA":
            start = number
        elif label == "END OF ANTENNA":
            if start < 0:
                raise FormatError(f"line {number + 1}: END OF ANTENNA without its START")
            yield start, lines[start : number + 1]
            start = -1
    if start >= 0:
        raise FormatError(f"line {start + 1}: the antenna that begins here has no end: the file is cut off")


def _antenna(block: list[str], start: int) -> Antenna | None:
    """One antenna; None for those of satellites."""
    name = serial = ""
    zeniths = np.empty(0)
    azimuths = 1
    bands: dict[str, Calibration] = {}
    place = 0
    while place < len(block):
        line, label = block[place], block[place][60:80].strip()
        try:
            if label == _TYPE_LABEL:
                if line[40:50].strip():
                    return None
                name, serial = f"{line[:20]:<20}", line[20:40].strip()
            elif label == "ZEN1 / ZEN2 / DZEN":
                zeniths = _zeniths(line)
            elif label == "DAZI":
                step = float(line[:60])
                azimuths = round(360.0 / step) + 1 if step > 0.0 else 1
            elif label == "START OF FREQUENCY":
                band, calibration, used = _frequency(block[place:], len(zeniths), azimuths)
                place += used
                if band:
                    bands[band] = calibration
        except (ValueError, IndexError) as error:
            raise FormatError(f"line {start + place + 1}: antenna {name.strip() or '?'}: {error}") from None
        place += 1
    return Antenna(name, serial, zeniths, bands) if bands else None


def _zeniths(line: str) -> NDArray[np.float64]:
    first, last, step = (float(line[k : k + 6]) for k in (2, 8, 14))
    if not (step > 0.0 and 0.0 <= first < last <= 180.0 and (last - first) / step < _ANGLES_MAX):
        raise ValueError(f"no such zenith angles: {first} to {last} by {step}")
    angles: NDArray[np.float64] = np.radians(np.arange(first, last + 0.5 * step, step))
    return angles


def _frequency(lines: list[str], zeniths: int, azimuths: int) -> tuple[str, Calibration, int]:
    """Band (empty if not known), calibration and number of further lines of one frequency."""
    if not zeniths or azimuths > _ANGLES_MAX:
        raise ValueError("ZEN1 / ZEN2 / DZEN or DAZI is missing or wrong")
    letter, number = lines[0][3], int(lines[0][4:6])
    offset = np.full(3, math.nan)
    rows: dict[str, list[float]] = {}
    used = 0
    for line in lines[1:]:
        used += 1
        label = line[60:80].strip()
        if label == "NORTH / EAST / UP":
            north, east, up = (float(line[k : k + 10]) for k in (0, 10, 20))
            offset = np.array([east, north, up]) * 1e-3
        elif label == "END OF FREQUENCY":
            break
        else:
            rows[line[:8].strip()] = [float(word) for word in line[8:].split()]
    else:
        raise ValueError("a frequency without its end")
    table = [values for key, values in rows.items() if key != "NOAZI"] if azimuths > 1 else []
    table = table or [rows.get("NOAZI", [])]
    values = [*offset.tolist(), *(value for row in table for value in row)]
    if (
        len(table) not in (1, azimuths)
        or {len(row) for row in table} != {zeniths}
        or not all(map(math.isfinite, values))
    ):
        raise ValueError(f"frequency {letter}{number:02d}: not {azimuths} x {zeniths} values and an offset")
    variation = np.array(table) * 1e-3
    known = letter in SYSTEMS and 1 <= number <= 9
    return f"{letter}{number}" if known else "", Calibration(offset, variation), used
