"""NMEA 0183 version 4.11: the sentences of a solution; a rover's own GGA is read by `caster.codec.ntrip.gga`.

Strategy: sentences are text of ours. pynmeagps, which reads them in the tests, rounds 59.99999999 minutes to 60, drops
trailing zeros, and takes 0.7 ms for the eleven sentences of an epoch, more than the position itself and all of it
under the interpreter's lock; text takes a tenth of that.

Rules: positions have seven decimals of a minute (0.2 mm) and heights four, so that nothing of a solution is lost; a
GGA may then exceed the standard's 82 characters, as it does from survey receivers. Times are UTC. No geoid model is
applied: the separation is 0 and the altitude is the height above the ellipsoid, so that "altitude plus separation" is
that height for every reader.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np

from caster.codec.ntrip.gga import framed
from solver.kernels.geodesy import enu_axes, geodetic_from_ecef
from solver.model import Fix, Quality
from solver.signals import BEIDOU, GALILEO, GLONASS, GPS, NAVIC, PRN_PER_SYSTEM, QZSS, SATELLITE_COUNT, SBAS
from solver.timescale import NS, to_datetime, to_utc

__all__ = ["KINDS", "TEXT_MAX", "sentences", "text"]

KINDS: Final = ("GGA", "RMC", "GST", "GSA", "ZDA", "VTG")
"""The sentences of an epoch, in the order in which they are sent; GGA leads, as receivers have it."""

_GGA_QUALITY: Final = {Quality.NONE: 0, Quality.SINGLE: 1, Quality.DGNSS: 2, Quality.FIX: 4, Quality.FLOAT: 5}
_MODE: Final = {Quality.NONE: "N", Quality.SINGLE: "A", Quality.DGNSS: "D", Quality.FIX: "R", Quality.FLOAT: "F"}
_SYSTEM_ID: Final = {GPS: 1, SBAS: 1, GLONASS: 2, GALILEO: 3, BEIDOU: 4, QZSS: 5, NAVIC: 6}
"""GNSS system id of a GSA sentence; SBAS satellites are listed among those of GPS."""
_FIRST_ID: Final = {GPS: 1, SBAS: 33, GLONASS: 65, GALILEO: 1, BEIDOU: 1, QZSS: 1, NAVIC: 1}
"""Satellite id in a GSA sentence of each system's first satellite (S20, PRN 120, is 33)."""
_GSA_SATELLITES: Final = 12
_GSA_NAMES: Final = tuple(
    (_SYSTEM_ID[sat // PRN_PER_SYSTEM], f"{_FIRST_ID[sat // PRN_PER_SYSTEM] + sat % PRN_PER_SYSTEM:02d}")
    for sat in range(SATELLITE_COUNT)
)
"""System id and satellite id of each satellite."""
_KNOTS_PER_MPS: Final = 3600.0 / 1852.0
_DAY_NS: Final = 86_400 * NS
_MINUTE_UNITS: Final = 10_000_000
"""Units of 1e-7 minutes in a minute: angles are rounded as integers, so that 59.99999999' carries into the degrees."""


TEXT_MAX: Final = 61
"""Characters of a text sentence, so that it keeps to the standard's 82."""


@dataclass(frozen=True, slots=True)
class _Solution:
    """A fix as the sentences need it: time as text, degrees of freedom in east-north-up."""

    fix: Fix
    station: int | None
    talker: str
    time: str
    date: tuple[int, int, int]
    latitude_rad: float
    longitude_rad: float
    height_m: float
    covariance_enu_m2: np.ndarray[tuple[int, int], np.dtype[np.float64]]
    speed_mps: float
    course_deg: float


def sentences(fix: Fix, station: int | None = None, kinds: Iterable[str] = KINDS, talker: str = "GN") -> bytes:
    """The NMEA sentences of one epoch, each ended by CR LF.

    Args:
        fix: The solution; one without a position gives sentences that say so.
        station: Id of the reference station whose corrections were used (0 to 4095), or None.
        kinds: Which sentences, of `KINDS`.
        talker: Of all sentences; "GN" for mixed systems. (GSA is told apart by its system id.)
    """
    solution = _solution(fix, station, talker)
    return b"".join(framed(body.encode()) for kind in kinds for body in _BODIES[kind](solution))


def text(message: str, talker: str = "GN") -> bytes:
    """Text sentences with a warning for a person (TXT, type 01), as many as its length needs.

    Args:
        message: ASCII; what NMEA reserves, such as commas, is sent as spaces.
        talker: Of the sentences.
    """
    plain = "".join(
        letter if letter.isascii() and letter.isprintable() and letter not in ",*$!^~\\" else " " for letter in message
    )
    parts = [plain[start : start + TEXT_MAX] for start in range(0, len(plain), TEXT_MAX)][:99]
    return b"".join(
        framed(f"{talker}TXT,{len(parts):02d},{place:02d},01,{part}".encode()) for place, part in enumerate(parts, 1)
    )


def _solution(fix: Fix, station: int | None, talker: str) -> _Solution:
    """Turn a fix into local axes and UTC."""
    moment = to_datetime(to_utc(fix.time_ns + NS // 200))  # rounded, since 11:59:59.999 is shown as 12:00:00.00
    latitude_rad, longitude_rad, height_m = geodetic_from_ecef(*fix.position_ecef_m.tolist())
    axes = np.empty((3, 3))
    enu_axes(latitude_rad, longitude_rad, axes)
    east_mps, north_mps, _ = (axes @ fix.velocity_ecef_mps).tolist()
    return _Solution(
        fix=fix,
        station=station,
        talker=talker,
        time=_clock(fix.time_ns),
        date=(moment.day, moment.month, moment.year),
        latitude_rad=latitude_rad,
        longitude_rad=longitude_rad,
        height_m=height_m,
        covariance_enu_m2=axes @ fix.position_covariance_m2 @ axes.T,
        speed_mps=math.hypot(east_mps, north_mps),
        course_deg=math.degrees(math.atan2(east_mps, north_mps)) % 360.0,
    )


def _gga(s: _Solution) -> list[str]:
    fix = s.fix
    if fix.quality is Quality.NONE:
        return [f"{s.talker}GGA,{s.time},,,,,0,00,,,M,,M,,"]
    age = _decimal(abs(fix.age_s), 1)
    station = f"{s.station:04d}" if age and s.station is not None else ""
    satellites = f"{_GGA_QUALITY[fix.quality]},{min(len(fix.satellites), 99):02d},{_dop(fix, 2)}"
    return [f"{s.talker}GGA,{s.time},{_place(s)},{satellites},{s.height_m:.4f},M,0.0,M,{age},{station}"]


def _rmc(s: _Solution) -> list[str]:
    status = "V" if s.fix.quality is Quality.NONE else "A"
    motion = f"{_decimal(s.speed_mps * _KNOTS_PER_MPS, 3)},{_decimal(s.course_deg, 2)}"
    day, month, year = s.date
    date = f"{day:02d}{month:02d}{year % 100:02d}"
    return [f"{s.talker}RMC,{s.time},{status},{_place(s)},{motion},{date},,,{_MODE[s.fix.quality]},V"]


def _gst(s: _Solution) -> list[str]:
    """Standard deviations and the error ellipse; the RMS of the residuals is not part of a fix and stays empty."""
    (ee, en, _), (_, nn, _), (_, _, uu) = s.covariance_enu_m2.tolist()
    mean, spread = (ee + nn) / 2.0, math.hypot((ee - nn) / 2.0, en)
    orientation_deg = math.degrees(math.atan2(2.0 * en, nn - ee) / 2.0) % 180.0
    ellipse = f"{_deviation(mean + spread)},{_deviation(mean - spread)},{_decimal(orientation_deg, 1)}"
    return [f"{s.talker}GST,{s.time},,{ellipse},{_deviation(nn)},{_deviation(ee)},{_deviation(uu)}"]


def _gsa(s: _Solution) -> list[str]:
    """One sentence for each twelve satellites of a system; a lone empty one where there is no solution."""
    by_system: dict[int, list[str]] = {}
    for sat in s.fix.satellites.tolist():
        system_id, name = _GSA_NAMES[sat]
        by_system.setdefault(system_id, []).append(name)
    head = f"{s.talker}GSA,A,{1 if s.fix.quality is Quality.NONE else 3},"
    dops = ",".join(_dop(s.fix, index) for index in (1, 2, 3))
    return [
        f"{head}{','.join(names[start : start + _GSA_SATELLITES])}"
        f"{',' * max(0, _GSA_SATELLITES - max(1, len(names) - start))},{dops},{system_id}"
        for system_id, names in sorted(by_system.items() or [(1, [])])
        for start in range(0, len(names) or 1, _GSA_SATELLITES)
    ]


def _zda(s: _Solution) -> list[str]:
    day, month, year = s.date
    return [f"{s.talker}ZDA,{s.time},{day:02d},{month:02d},{year:04d},00,00"]


def _vtg(s: _Solution) -> list[str]:
    knots, kph = _decimal(s.speed_mps * _KNOTS_PER_MPS, 3), _decimal(s.speed_mps * 3.6, 3)
    return [f"{s.talker}VTG,{_decimal(s.course_deg, 2)},T,,M,{knots},N,{kph},K,{_MODE[s.fix.quality]}"]


_BODIES: Final[dict[str, Callable[[_Solution], list[str]]]] = {
    "GGA": _gga,
    "RMC": _rmc,
    "GST": _gst,
    "GSA": _gsa,
    "ZDA": _zda,
    "VTG": _vtg,
}


def _clock(time_ns: int) -> str:
    """UTC time of the day "hhmmss.ss", rounded."""
    centiseconds = (to_utc(time_ns + NS // 200) % _DAY_NS) // (NS // 100)
    seconds, hundredths = divmod(centiseconds, 100)
    return f"{seconds // 3600:02d}{seconds // 60 % 60:02d}{seconds % 60:02d}.{hundredths:02d}"


def _place(s: _Solution) -> str:
    """Latitude, longitude and their hemispheres; empty where there is no position."""
    return f"{_latitude(s.latitude_rad)},{_longitude(s.longitude_rad)}" if s.fix.quality else ",,,"


def _latitude(angle_rad: float) -> str:
    return f"{_degrees_minutes(angle_rad, 2)},{'S' if angle_rad < 0.0 else 'N'}"


def _longitude(angle_rad: float) -> str:
    return f"{_degrees_minutes(angle_rad, 3)},{'W' if angle_rad < 0.0 else 'E'}"


def _degrees_minutes(angle_rad: float, digits: int) -> str:
    """Degrees of so many digits, then minutes with seven decimals."""
    degrees, units = divmod(round(math.degrees(abs(angle_rad)) * 60 * _MINUTE_UNITS), 60 * _MINUTE_UNITS)
    minutes, fraction = divmod(units, _MINUTE_UNITS)
    return f"{degrees:0{digits}d}{minutes:02d}.{fraction:07d}"


def _decimal(value: float, decimals: int) -> str:
    """A number, or an empty field for NaN."""
    return "" if math.isnan(value) else f"{value:.{decimals}f}"


def _deviation(variance_m2: float) -> str:
    """The standard deviation of a variance, in metres; rounding may leave the least axis a little below zero."""
    return _decimal(math.sqrt(max(variance_m2, 0.0)) if variance_m2 == variance_m2 else math.nan, 4)


def _dop(fix: Fix, index: int) -> str:
    return _decimal(min(float(fix.dop[index]), 99.99), 2) if fix.quality else ""
