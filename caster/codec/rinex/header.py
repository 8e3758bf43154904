"""RINEX headers: lines of 60 columns of values and 20 of label, read through one table of labels.

The header is kept as values in SI units; a line that cannot be read is noted in `warnings` with its number and skipped,
since almost everything in a header is optional. RINEX 2.11 section 10, 3.05 and 4.01 appendix A (tables A1, A2).
"""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from caster.errors import FormatError

__all__ = ["Header", "parse_header", "parse_number", "read_records"]

HEADER_BYTES_MAX: Final = 4 << 20
"""Files of many sites carry thousands of comment lines; none comes near this."""
_LABEL: Final = 60


def _unknown_position() -> NDArray[np.float64]:
    return np.full(3, np.nan)


@dataclass(slots=True)
class Header:
    """What a RINEX header says.

    Attributes:
        version: Format version, such as 3.04.
        kind: "O" observation, "N" navigation; RINEX 2 also has "G" (GLONASS) and "H" (SBAS) navigation.
        system: System letter of the file, "M" where mixed.
        position_ecef_m: (3,) APPROX POSITION XYZ; NaN where it is missing or zero.
        antenna_delta_m: (3,) height above the marker, east, north.
        observation_types: RINEX codes ("C1C") in file order, by system letter; RINEX 2 has one list, under "".
        scale: Divisor of a system's and type's values (SYS / SCALE FACTOR), under ("G", "L1C").
        phase_shifts: The lines of SYS / PHASE SHIFT, noted; the values in the file already have them applied.
        interval_s: NaN where it is not given.
        time_system: "GPS", "GLO" (UTC), "GAL", "QZS", "BDT", "IRN"; empty where it is not given.
        glonass_channel: FDMA frequency channel by slot number.
        klobuchar: Eight ionosphere coefficients by "GPS", "BDS" or "QZS", NaN where one is missing.
        leap_s: GPST - UTC; 0 where it is not given.
        end: Offset of the first byte behind the header; `lines` lines come before it.
        warnings: What could not be read, each with its line number.
    """

    version: float = 0.0
    kind: str = ""
    system: str = "M"
    program: str = ""
    marker_name: str = ""
    marker_number: str = ""
    receiver_serial: str = ""
    receiver_type: str = ""
    receiver_version: str = ""
    antenna_serial: str = ""
    antenna_type: str = ""
    position_ecef_m: NDArray[np.float64] = field(default_factory=_unknown_position)
    antenna_delta_m: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    observation_types: dict[str, list[str]] = field(default_factory=dict)
    scale: dict[tuple[str, str], int] = field(default_factory=dict)
    phase_shifts: list[str] = field(default_factory=list)
    interval_s: float = float("nan")
    time_system: str = ""
    glonass_channel: dict[int, int] = field(default_factory=dict)
    klobuchar: dict[str, NDArray[np.float64]] = field(default_factory=dict)
    leap_s: int = 0
    end: int = 0
    lines: int = 0
    warnings: list[str] = field(default_factory=list)
    _system: str = ""
    _expected: int = 0

    def take(self, line: str, number: int) -> None:
        """Take one header line; what cannot be read is noted in `warnings`."""
        handler = _HANDLERS.get(line[_LABEL:].strip())
        if handler is None:
            return
        try:
            handler(self, line[:_LABEL].ljust(_LABEL))
        except ValueError as error:
            self.warnings.append(f"line {number}: {line[_LABEL:].strip()}: {error}")


_BARE_EXPONENT: Final = re.compile(r"(\d)([+-]\d{3})$")


def parse_number(text: str) -> float:
    """A Fortran number: D or E exponents, neither where the exponent has three digits; NaN where it is blank.

    Raises:
        ValueError: the text is no number.
    """
    text = text.strip()
    try:
        return float(text.replace("D", "E").replace("d", "e")) if text else float("nan")
    except ValueError:
        return float(_BARE_EXPONENT.sub(r"\1E\2", text))


def parse_header(data: bytes) -> Header:
    """Read the header of a RINEX file.

    Raises:
        FormatError: the file does not begin with a RINEX header or the header has no end.
    """
    first = data[:82].split(b"\n", 1)[0].decode("latin-1")
    if first[_LABEL:].strip() != "RINEX VERSION / TYPE":
        raise FormatError("line 1: not a RINEX header (RINEX VERSION / TYPE is missing)")
    header = Header()
    try:
        header.version = float(first[:9])
    except ValueError:
        raise FormatError(f"line 1: no such RINEX version: {first[:9].strip()!r}") from None
    header.kind, header.system = first[20:21].upper(), first[40:41].strip().upper() or "G"
    for number, line, end in read_records(data, 0, HEADER_BYTES_MAX):
        if line[_LABEL:].strip() == "END OF HEADER":
            header.end, header.lines = end, number
            return header
        header.take(line, number)
    raise FormatError(f"the RINEX header has no END OF HEADER in its first {HEADER_BYTES_MAX} bytes")


def read_records(data: bytes, start: int, stop: int) -> Iterator[tuple[int, str, int]]:
    """The lines between two offsets: their number from 1, their text, and the offset behind each."""
    number, stop = 0, min(stop, len(data))
    while start < stop:
        end = data.find(b"\n", start, stop)
        line = data[start : end if end >= 0 else stop]
        start, number = (end + 1 if end >= 0 else stop), number + 1
        yield number, line.rstrip(b"\r").decode("latin-1"), start


def _text(name: str, start: int, stop: int) -> Callable[[Header, str], None]:
    def take(header: Header, line: str) -> None:
        setattr(header, name, line[start:stop].strip())

    return take


def _receiver(header: Header, line: str) -> None:
    header.receiver_serial, header.receiver_type, header.receiver_version = (
        line[start : start + 20].strip() for start in (0, 20, 40)
    )


def _antenna(header: Header, line: str) -> None:
    header.antenna_serial, header.antenna_type = line[:20].strip(), line[20:40].rstrip()


def _three(line: str) -> NDArray[np.float64]:
    return np.array([parse_number(line[start : start + 14]) for start in (0, 14, 28)])


def _position(header: Header, line: str) -> None:
    position = _three(line)
    header.position_ecef_m = position if np.all(np.isfinite(position)) and position.any() else _unknown_position()


def _antenna_delta(header: Header, line: str) -> None:
    header.antenna_delta_m = np.nan_to_num(_three(line))


def _types_2(header: Header, line: str) -> None:
    """# / TYPES OF OBSERV: nine two-letter types a line (RINEX 2.11 table A1)."""
    if line[:6].strip():
        header.observation_types[""] = []
    header.observation_types.setdefault("", []).extend(line[6:].split())


def _types_3(header: Header, line: str) -> None:
    """SYS / # / OBS TYPES: thirteen three-letter types a line; a blank system continues the line before."""
    if line[0].strip():
        header._system = line[0]
        header.observation_types[header._system] = []
    header.observation_types.setdefault(header._system, []).extend(line[6:].split())


def _scale(header: Header, line: str) -> None:
    """SYS / SCALE FACTOR: no list of types means all types of the system, under ""."""
    if line[0].strip():
        header._system, header._expected = line[0], int(line[2:6])
    names = line[10:].split() or [""]
    header.scale.update({(header._system, name): header._expected for name in names})


def _phase_shift(header: Header, line: str) -> None:
    if line[13:14].strip():
        header.phase_shifts.append(line.strip())


def _interval(header: Header, line: str) -> None:
    header.interval_s = parse_number(line[:10])


def _time_system(header: Header, line: str) -> None:
    header.time_system = line[48:51].strip().upper()


def _glonass_slots(header: Header, line: str) -> None:
    """GLONASS SLOT / FRQ #: eight pairs of slot and channel a line."""
    for start in range(4, 60, 7):
        pair = line[start : start + 7]
        if pair.strip():
            header.glonass_channel[int(pair[1:3])] = int(pair[4:6])


def _leap(header: Header, line: str) -> None:
    header.leap_s = int(line[:6])


def _ionosphere_2(system: str, half: int) -> Callable[[Header, str], None]:
    """ION ALPHA, ION BETA (RINEX 2): four numbers of 12 columns from the third."""

    def take(header: Header, line: str) -> None:
        _coefficients(header, system, half, line, 2)

    return take


def _ionosphere_3(header: Header, line: str) -> None:
    """IONOSPHERIC CORR: GPSA, BDSB ... with four numbers of 12 columns from the sixth; the first of many is kept."""
    system, half = line[:3], line[3:4]
    if half in ("A", "B") and system in ("GPS", "BDS", "QZS"):
        _coefficients(header, system, "AB".index(half), line, 5)


def _coefficients(header: Header, system: str, half: int, line: str, start: int) -> None:
    values = [parse_number(line[place : place + 12]) for place in range(start, start + 48, 12)]
    known = header.klobuchar.setdefault(system, np.full(8, np.nan))
    if np.isnan(known[4 * half]):
        known[4 * half : 4 * half + 4] = values


_HANDLERS: Final[dict[str, Callable[[Header, str], None]]] = {
    "PGM / RUN BY / DATE": _text("program", 0, 20),
    "MARKER NAME": _text("marker_name", 0, 60),
    "MARKER NUMBER": _text("marker_number", 0, 20),
    "REC # / TYPE / VERS": _receiver,
    "ANT # / TYPE": _antenna,
    "APPROX POSITION XYZ": _position,
    "ANTENNA: DELTA H/E/N": _antenna_delta,
    "# / TYPES OF OBSERV": _types_2,
    "SYS / # / OBS TYPES": _types_3,
    "SYS / SCALE FACTOR": _scale,
    "SYS / PHASE SHIFT": _phase_shift,
    "SYS / PHASE SHIFTS": _phase_shift,
    "INTERVAL": _interval,
    "TIME OF FIRST OBS": _time_system,
    "GLONASS SLOT / FRQ #": _glonass_slots,
    "LEAP SECONDS": _leap,
    "ION ALPHA": _ionosphere_2("GPS", 0),
    "ION BETA": _ionosphere_2("GPS", 1),
    "IONOSPHERIC CORR": _ionosphere_3,
}
