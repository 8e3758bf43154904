"""Solution files: RTKLIB's `.pos`, written as rnx2rtkp does and read with its variants, and CSV.

A `.pos` file is comment lines that begin with `%`, the last of which names the columns, then one line an epoch: GPST
(calendar date, or week and seconds), latitude, longitude (degrees), ellipsoidal height or ECEF, quality, number of
satellites, standard deviations north, east, up, the signed square roots of the covariances ne, eu, un, age and ratio,
and, when asked for, the velocity likewise (RTKLIB manual 2.4.2, appendix B.1). Epochs without a position are left out.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from caster.errors import FormatError
from solver.jit import kernel, part
from solver.kernels import Float64Array
from solver.kernels.geodesy import ecef_from_geodetic, enu_axes, geodetic_from_ecef
from solver.model import Fix, Quality
from solver.quality import enu_covariance
from solver.timescale import DAY_NS, NS, from_datetime, from_week, to_datetime, week_and_tow

__all__ = ["CSV_COLUMNS", "Solution", "csv_header", "csv_line", "pos_header", "pos_lines", "read_pos"]

_COLUMNS: Final = (
    "%  GPST                  latitude(deg) longitude(deg)  height(m)   Q  ns   sdn(m)   sde(m)   sdu(m)"
    "  sdne(m)  sdeu(m)  sdun(m) age(s)  ratio"
)
_VELOCITY_COLUMNS: Final = "    vn(m/s)    ve(m/s)    vu(m/s)      sdvn     sdve     sdvu    sdvne    sdveu    sdvun"
_QUALITIES: Final = "Q=1:fix,2:float,3:sbas,4:dgps,5:single,6:ppp,ns=# of satellites"
_LINE: Final = "%s %14.9f %14.9f %10.4f %3d %3d %8.4f %8.4f %8.4f %8.4f %8.4f %8.4f %6.2f %6.1f"
LINES_MAX: Final = 50_000_000

CSV_COLUMNS: Final = (
    "gpst", "gps_week", "tow_s", "latitude_deg", "longitude_deg", "height_m", "x_m", "y_m", "z_m", "quality",
    "satellites", "sd_north_m", "sd_east_m", "sd_up_m", "v_north_mps", "v_east_mps", "v_up_mps", "age_s", "ratio",
    "pdop", "reason", "baseline_east_m", "baseline_north_m", "baseline_up_m", "length_m", "heading_deg", "pitch_deg",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Solution:
    """A solution file as arrays of n epochs.

    Attributes:
        time_ns: (n,) int64, GPST.
        position_ecef_m: (n, 3).
        quality: (n,) int8, as `solver.model.Quality`; 3 SBAS and 6 PPP occur in other programs' files.
        satellites: (n,) int16.
        deviation_enu_m: (n, 3) standard deviations east, north, up; NaN where the file has none.
        age_s: (n,) age of the corrections.
        ratio: (n,) ratio of the ambiguity acceptance test.
    """

    time_ns: NDArray[np.int64]
    position_ecef_m: NDArray[np.float64]
    quality: NDArray[np.int8]
    satellites: NDArray[np.int16]
    deviation_enu_m: NDArray[np.float64]
    age_s: NDArray[np.float64]
    ratio: NDArray[np.float64]


def pos_header(
    program: str, inputs: Sequence[str], span_ns: tuple[int, int] | None = None, *, velocity: bool = False
) -> str:
    """The comment lines at the top of a `.pos` file.

    Args:
        program: Name and version.
        inputs: Names of the files that the solution is of.
        span_ns: First and last epoch, GPST.
        velocity: Whether `pos_lines` is going to write velocities.
    """
    lines = [f"% program   : {program}", *(f"% inp file  : {name}" for name in inputs)]
    for label, time_ns in zip(("start", "end  "), span_ns or (), strict=False):
        week, tow_s = week_and_tow(time_ns)
        moment = to_datetime(time_ns)
        date = f"{moment:%Y/%m/%d %H:%M:%S}.{moment.microsecond // 100_000}"
        lines.append(f"% obs {label} : {date} GPST (week{week:04d} {tow_s:8.1f}s)")
    lines += ["%", f"% (lat/lon/height=WGS84/ellipsoidal,{_QUALITIES})"]
    return "\n".join([*lines, _COLUMNS + (_VELOCITY_COLUMNS if velocity else "")]) + "\n"


def pos_lines(fixes: Sequence[Fix], *, velocity: bool = False) -> str:
    """The lines of some epochs, those without a position left out."""
    placed = [fix for fix in fixes if fix.quality != Quality.NONE]
    if not placed:
        return ""
    numbers = np.empty((len(placed), 9))
    _write_numbers(
        np.array([fix.position_ecef_m for fix in placed]), np.array([fix.position_covariance_m2 for fix in placed]),
        numbers,
    )  # fmt: skip
    return "".join([_pos_line(*pair, velocity) for pair in zip(placed, numbers.tolist(), strict=True)])


def _pos_line(fix: Fix, numbers: list[float], velocity: bool) -> str:
    """The line of a fix of which `_write_numbers` has written."""
    age_s = 0.0 if math.isnan(fix.age_s) else fix.age_s
    line = _LINE % (
        _date(fix.time_ns), *numbers[:3], int(fix.quality), len(fix.satellites), *numbers[3:], age_s, fix.ratio
    )  # fmt: skip
    if velocity:
        axes = _axes(*map(math.radians, numbers[:2]))
        east, north, up = (axes @ np.nan_to_num(fix.velocity_ecef_mps)).tolist()
        deviations = _deviations(axes, fix.velocity_covariance_m2s2, 8, 5)
        line += f" {north:10.5f} {east:10.5f} {up:10.5f} {deviations}"
    return line + "\n"


@kernel
def _write_numbers(position_m: Float64Array, covariance_m2: Float64Array, numbers: Float64Array) -> None:
    """Write the numbers (n, 9) of positions (n, 3) and their covariances (n, 3, 3).

    Latitude, longitude (degrees), height; deviations n, e, u and signed roots of the covariances ne, eu, un.
    """
    for k in range(len(position_m)):
        latitude, longitude, numbers[k, 2] = geodetic_from_ecef(position_m[k, 0], position_m[k, 1], position_m[k, 2])
        enu = enu_covariance(position_m[k], covariance_m2[k])
        numbers[k, 0], numbers[k, 1] = math.degrees(latitude), math.degrees(longitude)
        numbers[k, 3], numbers[k, 4], numbers[k, 5] = _root(enu[1, 1]), _root(enu[0, 0]), _root(enu[2, 2])
        numbers[k, 6], numbers[k, 7], numbers[k, 8] = _root(enu[0, 1]), _root(enu[0, 2]), _root(enu[1, 2])


@part
def _root(value: float) -> float:
    """The root with its sign; 0 of what is not known."""
    return 0.0 if math.isnan(value) else math.copysign(math.sqrt(abs(value)), value)


def csv_header() -> str:
    """The first line of a CSV file."""
    return ",".join(CSV_COLUMNS) + "\n"


def csv_line(fix: Fix) -> str:
    """One epoch's line, also of epochs without a position; values that are not known stay empty."""
    week, tow_s = week_and_tow(fix.time_ns)
    position = fix.position_ecef_m.tolist()
    values: list[str] = [_date(fix.time_ns).replace("/", "-"), str(week), f"{tow_s:.3f}"]
    if fix.quality == Quality.NONE:
        values += [""] * 6 + ["0", str(len(fix.satellites))] + [""] * 6
    else:
        latitude, longitude, height_m = geodetic_from_ecef(*position)
        axes = _axes(latitude, longitude)
        variance = np.diag(axes @ fix.position_covariance_m2 @ axes.T)[[1, 0, 2]]
        velocity = (axes @ fix.velocity_ecef_mps)[[1, 0, 2]]
        values += [f"{math.degrees(latitude):.9f}", f"{math.degrees(longitude):.9f}", f"{height_m:.4f}"]
        values += [f"{value:.4f}" for value in position]
        values += [str(int(fix.quality)), str(len(fix.satellites))]
        values += [_known(value, 4) for value in (*np.sqrt(np.maximum(variance, 0)), *velocity)]
    pdop = float(fix.dop[1])
    values += [_known(fix.age_s, 2), f"{fix.ratio:.1f}", _known(pdop, 2), _quoted(fix.reason)]
    enu_m, length_m, heading, pitch = _attitude(fix)
    values += [_known(value, 4) for value in (*enu_m, length_m, heading, pitch)]
    return ",".join(values) + "\n"


def read_pos(text: str) -> Solution:
    """Read a `.pos` file: calendar dates or week and seconds, degrees or ECEF, with or without its last columns.

    Raises:
        FormatError: a line that is no comment is not an epoch; the text names it.
    """
    rows: list[tuple[int, list[float]]] = []
    cartesian = False
    for number, line in enumerate(text.splitlines(), 1):
        if line.startswith("%"):
            cartesian = cartesian or "x-ecef" in line
        elif line.strip():
            rows.append(_row(line, number))
        if number > LINES_MAX:
            raise FormatError(f"line {number}: the solution file has more than {LINES_MAX} lines")
    values = np.array([row for _, row in rows]).reshape(-1, 13)
    geodetic = [
        ecef_from_geodetic(math.radians(latitude), math.radians(longitude), height_m)
        for latitude, longitude, height_m in values[:, :3].tolist()
    ]
    return Solution(
        np.array([time_ns for time_ns, _ in rows], np.int64),
        values[:, :3].copy() if cartesian else np.array(geodetic).reshape(-1, 3),
        values[:, 3].astype(np.int8),
        values[:, 4].astype(np.int16),
        values[:, [6, 5, 7]] if not cartesian else np.full((len(rows), 3), np.nan),
        values[:, 11].copy(),
        values[:, 12].copy(),
    )


def _row(line: str, number: int) -> tuple[int, list[float]]:
    """Time and 13 numbers of a line; NaN for columns that it does not have."""
    fields = line.replace(",", " ").split()
    try:
        if len(fields) < 6:
            raise ValueError(f"{len(fields)} columns are too few")
        values = [float(field) for field in fields[2:15]]
        if not all(map(math.isfinite, values[:3])) or not 0 <= values[3] <= 9:
            raise ValueError("no position")
        values += [math.nan] * (13 - len(values))
        values[4] = values[4] if 0 <= values[4] < 1000 else 0.0
        return _time_ns(fields[0], fields[1]), values
    except (ValueError, OverflowError) as error:
        raise FormatError(f"line {number}: not an epoch of a solution file: {error}") from None


def _time_ns(first: str, second: str) -> int:
    if "/" not in first:
        week, tow_s = int(first), float(second)
        if not (0 <= week < 10_000 and 0 <= tow_s <= 604_800):
            raise ValueError(f"no such time: {first} {second}")
        return from_week(week, tow_s)
    year, month, day = (int(part) for part in first.split("/"))
    hour, minute, seconds = second.split(":")
    whole = datetime(year, month, day) + timedelta(hours=int(hour), minutes=int(minute))
    if not 0 <= float(seconds) < 61:
        raise ValueError(f"no such second: {seconds}")
    return from_datetime(whole) + round(float(seconds) * NS)


def _axes(latitude: float, longitude: float) -> NDArray[np.float64]:
    axes = np.empty((3, 3))
    enu_axes(latitude, longitude, axes)
    return axes


def _date(time_ns: int) -> str:
    """Calendar date to the millisecond, rounded as a whole."""
    day, milliseconds = divmod((time_ns + 500_000) // 1_000_000, DAY_NS // 1_000_000)
    seconds, milliseconds = divmod(milliseconds, 1000)
    return f"{_day(day)} {seconds // 3600:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}.{milliseconds:03d}"


@lru_cache(maxsize=16)
def _day(day: int) -> str:
    return f"{to_datetime(day * DAY_NS):%Y/%m/%d}"


def _deviations(axes: NDArray[np.float64], covariance_ecef: NDArray[np.float64], width: int, decimals: int) -> str:
    """Standard deviations n, e, u and signed roots of the covariances ne, eu, un."""
    (ee, en, eu), (_, nn, nu), (_, _, uu) = (axes @ covariance_ecef @ axes.T).tolist()
    values = (0.0 if math.isnan(value) else value for value in (nn, ee, uu, en, eu, nu))
    return " ".join(f"{math.copysign(math.sqrt(abs(value)), value):{width}.{decimals}f}" for value in values)


def _attitude(fix: Fix) -> tuple[NDArray[np.float64], float, float, float]:
    """East, north, up of a baseline (m), its length (m), heading (0..360) and pitch (degrees); NaN: there is none."""
    base = fix.position_ecef_m - fix.baseline_ecef_m
    if not np.isfinite(base).all():
        return np.full(3, np.nan), math.nan, math.nan, math.nan
    latitude, longitude, _ = geodetic_from_ecef(*base.tolist())
    enu_m: NDArray[np.float64] = _axes(latitude, longitude) @ fix.baseline_ecef_m
    heading = math.degrees(math.atan2(enu_m[0], enu_m[1])) % 360.0
    pitch = math.degrees(math.atan2(enu_m[2], math.hypot(enu_m[0], enu_m[1])))
    return enu_m, float(np.linalg.norm(enu_m)), heading, pitch


def _known(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}" if math.isfinite(value) else ""


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\n') else text
