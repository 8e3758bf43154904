"""RINEX navigation files of versions 2, 3 and 4 to arrays of ephemerides.

Each message is a table of field names in the order of its lines (`messages`), so that a record is its lines' numbers
put into columns; RINEX 2 (2.11 tables A4, A11, A16) has the same ones with another margin. Reference times are resolved
to the week of the record's own calendar date: the week fields of real files are not to be trusted. A record that cannot
be read or is not an orbit goes to the warnings with its line number, the others are kept.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from caster.codec.ephemerides import merge
from caster.codec.rinex.header import Header, parse_header, parse_number, read_records
from caster.codec.rinex.messages import LAYOUT, STATE
from caster.errors import FormatError
from solver import signals
from solver.model import GLONASS_STATE, KEPLER, Ephemerides, NavMessage
from solver.timescale import (
    BDT_OFFSET_S,
    DAY_NS,
    GLONASST_UTC_S,
    NS,
    WEEK_NS,
    from_datetime,
    from_utc,
    nearest_week,
    to_utc,
)

__all__ = ["Navigation", "read_navigation"]

RECORDS_MAX: Final = 1_000_000
WARNINGS_MAX: Final = 100
_WEEK_S: Final = 604_800
_UNKNOWN: Final = 0.9e9
"""Values from here on mean "not known" (.9999E+09), RINEX 3.05 table A6."""

_NAN_BY_DEFAULT: Final = frozenset(
    "isc_l1ca isc_l2c isc_l5i isc_l5q isc_l1cd isc_l1cp isc_b2ad tgd_b1cp tgd_b2ap tgd_b2bi accuracy_m".split()
)
_MESSAGE_BY_NAME: Final[dict[str, dict[str, NavMessage]]] = {
    "G": {"LNAV": NavMessage.LNAV, "CNAV": NavMessage.CNAV, "CNV2": NavMessage.CNAV2},
    "J": {"LNAV": NavMessage.LNAV, "CNAV": NavMessage.CNAV, "CNV2": NavMessage.CNAV2},
    "I": {"LNAV": NavMessage.LNAV},
    "E": {"INAV": NavMessage.INAV, "FNAV": NavMessage.FNAV},
    "C": {"D1": NavMessage.D1, "D2": NavMessage.D2, "D1D2": NavMessage.D1, "CNV1": NavMessage.CNV1,
          "CNV2": NavMessage.CNV2, "CNV3": NavMessage.CNV3},
}  # fmt: skip
_DEFAULT_MESSAGE: Final = {"G": "LNAV", "J": "LNAV", "I": "LNAV", "E": "INAV", "C": "D1"}
_STATE_NAMES: Final = ("FDMA", "SBAS")
_GEO_SQRT_A: Final = 6000.0
"""m^0.5: geosynchronous orbits have 6493, medium ones 5283."""
_GEO_INCLINATION_RAD: Final = 0.35
"""BeiDou's inclined orbits have 0.96, its geostationary ones stay below 0.2."""
_GLONASS_ACCURACY_M: Final = np.array([1, 2, 2.5, 4, 5, 7, 10, 12, 14, 16, 32, 64, 128, 256, 512, np.nan])
"""F_T, GLONASS ICD edition 5.1 table 4.4."""


@dataclass(slots=True)
class Navigation:
    """What a navigation file holds.

    Attributes:
        header: The file's header.
        ephemerides: All orbits and clocks, and the ionosphere.
        warnings: What could not be read, with line numbers, at most `WARNINGS_MAX`.
        skipped: How many records were of a kind that is not used (EOP, STO, other ionosphere models, new messages).
    """

    header: Header
    ephemerides: Ephemerides = field(default_factory=Ephemerides)
    warnings: list[str] = field(default_factory=list)
    skipped: int = 0


@dataclass(slots=True)
class _Record:
    """Lines of one record: `head` is the line "> EPH G01 LNAV" of RINEX 4, split, else empty."""

    line: int
    head: list[str]
    lines: list[str]


class _Reader:
    """Sorts records into tables of numbers, by message."""

    def __init__(self, header: Header) -> None:
        self.header = header
        self.kepler: dict[NavMessage, list[tuple[int, int, list[float]]]] = {}
        self.state: list[tuple[int, int, list[float]]] = []
        self.warnings: list[str] = list(header.warnings)
        self.skipped = 0

    def take(self, record: _Record) -> None:
        kind, name, message = record.head[1:4] if len(record.head) >= 4 else ("EPH", "", "")
        if kind == "ION":
            self._take_ionosphere(record, name[:1], message)
        elif kind == "EPH":
            self._take_ephemeris(record, message)
        else:
            self.skipped += 1

    def _take_ephemeris(self, record: _Record, message: str) -> None:
        name, moment, first = _split_first(record.lines[0], self.header)
        sat, letter = signals.satellite_of_name(name), name[0]
        table = _MESSAGE_BY_NAME.get(letter, {})
        message = message or _DEFAULT_MESSAGE.get(letter, "FDMA")
        values = first + _numbers(record.lines[1:], 3 if self.header.version < 3 else 4)
        if letter in "RS" and message in _STATE_NAMES:
            self.state.append((sat, _state_time_ns(letter, moment), _padded(values, len(STATE), 15, record)))
        elif message in table:
            kind = _refined(table[message], values)
            values = _checked_orbit(_padded(values, len(LAYOUT[kind]), 25, record), name)
            time_ns = from_datetime(moment) + (BDT_OFFSET_S * NS if letter == "C" else 0)
            self.kepler.setdefault(kind, []).append((sat, time_ns, values))
        else:
            self.skipped += 1

    def _take_ionosphere(self, record: _Record, letter: str, message: str) -> None:
        """Klobuchar coefficients of RINEX 4 (table A34): the last ones of GPS and BeiDou are kept."""
        system = {("G", "LNAV"): "GPS", ("C", "D1D2"): "BDS"}.get((letter, message))
        if system is None:
            self.skipped += 1
            return
        _, _, first = _split_first(record.lines[0], self.header)
        values = np.array((first + _numbers(record.lines[1:], 4))[:8])
        if len(values) < 8 or not np.isfinite(values).all():
            raise ValueError("the ionosphere record is not complete")
        self.header.klobuchar[system] = values

    def result(self) -> Navigation:
        unknown = np.full(8, np.nan)
        part = Ephemerides(
            np.concatenate([np.empty(0, KEPLER), *(_kepler(kind, rows) for kind, rows in self.kepler.items())]),
            _states(self.state),
            self.header.klobuchar.get("GPS", unknown),
            self.header.klobuchar.get("BDS", unknown),
        )
        return Navigation(self.header, merge([part]), self.warnings, self.skipped)


def read_navigation(data: bytes) -> Navigation:
    """Read an uncompressed navigation file of RINEX 2 (GPS, GLONASS, SBAS), 3 or 4.

    Raises:
        FormatError: this is no RINEX navigation file.
    """
    header = parse_header(data)
    if header.kind not in ("N", "G", "H") or not 2 <= header.version < 5:
        raise FormatError(f"line 1: not a navigation file of RINEX 2 to 4 ({header.version}, type {header.kind!r})")
    reader = _Reader(header)
    for count, record in enumerate(_records(data, header)):
        if count >= RECORDS_MAX:
            raise FormatError(f"line {record.line}: more than {RECORDS_MAX} records")
        try:
            reader.take(record)
        except (ValueError, OverflowError) as error:
            if len(reader.warnings) < WARNINGS_MAX:
                reader.warnings.append(f"line {record.line}: {error}")
    return reader.result()


def _records(data: bytes, header: Header) -> Iterator[_Record]:
    """Cut the body into records: each begins with a line that is not indented."""
    new, margin = header.version >= 4, 2 if header.version < 3 else 1
    record: _Record | None = None
    for number, line, _ in read_records(data, header.end, len(data)):
        if line[:1] == ">" if new else line[:margin].strip():
            if record and record.lines:
                yield record
            record = _Record(number + header.lines, line.split() if new else [], [] if new else [line])
        elif record is not None and line.strip():
            record.lines.append(line)
    if record and record.lines:
        yield record


def _split_first(line: str, header: Header) -> tuple[str, datetime, list[float]]:
    """Satellite name, calendar date and clock terms of a record's first line."""
    if header.version >= 3:
        name, date, rest = line[:3], line[3:23], line[23:]
    else:
        name, date, rest = {"N": "G", "G": "R", "H": "S"}[header.kind] + line[:2], line[2:22], line[22:]
    parts = date.split()
    if len(parts) != 6:
        raise ValueError(f"no date: {date.strip()!r}")
    year, month, day, hour, minute = (int(part) for part in parts[:5])
    if header.version < 3:
        year += 1900 if year >= 80 else 2000
    if not 1980 <= year < 2200:
        raise ValueError(f"no such year: {year}")
    # Some writers round the seconds up to 60.
    seconds = float(parts[5])
    if not 0 <= seconds <= 60:
        raise ValueError(f"no such second: {seconds}")
    return name, datetime(year, month, day, hour, minute) + timedelta(seconds=seconds), _fields(rest, 3)


def _fields(text: str, count: int) -> list[float]:
    """Numbers of 19 columns; NaN where a field is blank."""
    return [parse_number(text[start : start + 19]) for start in range(0, 19 * count, 19)]


def _numbers(lines: list[str], margin: int) -> list[float]:
    return [value for line in lines for value in _fields(line[margin:], 4)]


def _padded(values: list[float], size: int, needed: int, record: _Record) -> list[float]:
    """The first values, as many as a table has; NaN where lines are missing at the end.

    Raises:
        ValueError: the record lacks a part of the orbit.
    """
    if len(values) < needed:
        raise ValueError(f"the record {record.lines[0][:23].strip()!r} is not complete")
    return (values + [np.nan] * size)[:size]


def _refined(message: NavMessage, values: list[float]) -> NavMessage:
    """Galileo F/NAV told from I/NAV by the data sources (RINEX 3.05 table A8), BeiDou D2 from D1 by the orbit."""
    if message == NavMessage.INAV and len(values) > 20 and np.isfinite(values[20]):
        sources = int(values[20])
        of_e5a = sources & 0x100 or (sources & 0x2 and not sources & 0x200)
        return NavMessage.FNAV if of_e5a else NavMessage.INAV
    if message == NavMessage.D1 and len(values) > 15:
        geostationary = values[10] > _GEO_SQRT_A and abs(values[15]) < _GEO_INCLINATION_RAD
        return NavMessage.D2 if geostationary else NavMessage.D1
    return message


def _checked_orbit(values: list[float], name: str) -> list[float]:
    """The values, if they can be those of an orbit around the Earth.

    Raises:
        ValueError: they cannot.
    """
    eccentricity, sqrt_a = values[8], values[10]
    if not (np.isfinite(values[4:20]).all() and 0 <= eccentricity < 1 and 2500 < sqrt_a < 10_000):
        raise ValueError(f"{name}: not an orbit (e {eccentricity}, sqrt(a) {sqrt_a})")
    return values


def _kepler(message: NavMessage, rows: list[tuple[int, int, list[float]]]) -> NDArray[Any]:
    """Records of one message from its table of numbers."""
    records = np.zeros(len(rows), KEPLER)
    values = np.array([row[2] for row in rows])
    column = {name: values[:, place] for place, name in enumerate(LAYOUT[message])}
    records["sat"], records["message"] = [row[0] for row in rows], message
    records["toc_ns"] = toc_ns = np.array([row[1] for row in rows])
    for name in KEPLER.names or ():
        if name in _NAN_BY_DEFAULT:
            records[name] = column.get(name, np.nan)
        elif name in column:
            records[name] = np.nan_to_num(column[name], posinf=0, neginf=0)
    offset_ns = BDT_OFFSET_S * NS if message >= NavMessage.D1 else 0
    toe_s = column.get("toe_s")
    records["toe_ns"] = toc_ns if toe_s is None else _nearest(toe_s, toc_ns, offset_ns)
    records["toe_s"] = (toc_ns % WEEK_NS) / NS if toe_s is None else toe_s
    sent_s = column["transmitted_s"]
    known = np.isfinite(sent_s) & (np.abs(sent_s) < 2 * _WEEK_S)
    records["transmitted_ns"] = np.where(known, _nearest(np.where(known, sent_s, 0), toc_ns, offset_ns), -1)
    if "urai_ed" in column:
        records["accuracy_m"] = _urai_m(column["urai_ed"])
    records["accuracy_m"][~(records["accuracy_m"] >= 0)] = np.nan
    if message == NavMessage.LNAV:
        hours = np.nan_to_num(column["fit"])  # GPS: hours; QZSS and old files: the flag, whose 0 is the default
        records["fit_s"] = np.where((hours >= 2) & (hours <= 200), hours * 3600, 0)
    return records


def _nearest(second_s: NDArray[np.float64], near_ns: NDArray[np.int64], offset_ns: int) -> NDArray[np.int64]:
    """Instants of seconds of week, in the weeks nearest to other instants."""
    tow_ns = np.rint(second_s * NS).astype(np.int64) + offset_ns
    return near_ns + (tow_ns - near_ns + WEEK_NS // 2) % WEEK_NS - WEEK_NS // 2


def _urai_m(index: NDArray[np.float64]) -> NDArray[np.float64]:
    """Upper bound of CNAV's accuracy index, IS-GPS-200 section 30.3.3.1.1.4; NaN where no prediction is made."""
    bound = np.where(index <= 6, 2 ** (1 + index / 2), 2 ** (index - 2))
    return np.where(np.abs(index) < 15, bound, np.nan)


def _state_time_ns(letter: str, moment: datetime) -> int:
    """GPST of a state vector's reference time: UTC for GLONASS, GPST for SBAS (RINEX 3.05 tables A10, A15)."""
    return from_utc(from_datetime(moment)) if letter == "R" else from_datetime(moment)


def _states(rows: list[tuple[int, int, list[float]]]) -> NDArray[Any]:
    """Records of GLONASS and SBAS from their table of numbers."""
    records = np.zeros(len(rows), GLONASS_STATE)
    for record, (sat, time_ns, values) in zip(records, rows, strict=True):
        value = dict(zip(STATE, values, strict=True))
        of_glonass = sat // signals.PRN_PER_SYSTEM == signals.GLONASS
        record["sat"], record["toe_ns"] = sat, time_ns
        record["position_m"], record["velocity_mps"], record["acceleration_mps2"] = (
            [1e3 * value[kind + axis] for axis in "xyz"] for kind in ("", "v", "a")
        )
        record["clock_bias_s"], record["clock_drift"] = value["bias"], value["drift"]
        record["health"] = _small(value["health"], 0xFFFF)
        record["transmitted_ns"] = _transmitted_ns(of_glonass, value["frame_s"], time_ns)
        (_glonass_fields if of_glonass else _sbas_fields)(record, value)
    return records


def _glonass_fields(record: Any, value: dict[str, float]) -> None:
    moscow_s = (to_utc(int(record["toe_ns"])) % DAY_NS) // NS + GLONASST_UTC_S
    record["iode"] = moscow_s % 86_400 // 900
    channel = _small(value["channel"], 0xFF)
    record["channel"] = channel - 256 if channel > 127 else channel
    record["age_days"] = _small(value["age"], 0xFF)
    record["delta_tau_s"] = value["delta_tau"] if abs(value["delta_tau"]) < 1 else np.nan
    record["accuracy_m"] = _GLONASS_ACCURACY_M[_small(value["urai"], 15)] if np.isfinite(value["urai"]) else np.nan


def _sbas_fields(record: Any, value: dict[str, float]) -> None:
    record["iode"] = _small(value["age"], 0xFF)
    record["delta_tau_s"] = np.nan
    record["accuracy_m"] = value["channel"] if 0 <= value["channel"] < _UNKNOWN else np.nan


def _small(value: float, mask: int) -> int:
    """A field of bits from its number; 0 where it is blank or unknown."""
    return int(value) & mask if np.isfinite(value) and abs(value) < _UNKNOWN else 0


def _transmitted_ns(of_glonass: bool, frame_s: float, toe_ns: int) -> int:
    """When a state vector was sent: seconds of the UTC day or week (GLONASS), of the GPS week (SBAS); -1: not known."""
    if not np.isfinite(frame_s) or abs(frame_s) >= 2 * _WEEK_S:
        return -1
    if of_glonass:
        return from_utc(nearest_week(round(frame_s * NS), to_utc(toe_ns), DAY_NS))
    return nearest_week(round(frame_s * NS), toe_ns)
