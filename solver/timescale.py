"""Time scales. Inside, every instant is an int64 count of nanoseconds of GPST since 1980-01-06 00:00:00 GPST.

GPST, GST (Galileo) and QZSST run together to nanoseconds; BDT = GPST - 14 s (BDS-SIS-ICD-B1I-3.0 section 3.3);
UTC = GPST - leap seconds; GLONASST = UTC + 3 h (GLONASS ICD edition 5.1 section 3.3.3).
"""

from bisect import bisect_right
from datetime import UTC, datetime, timedelta
from typing import Final

__all__ = [
    "BDT_OFFSET_S",
    "BDT_WEEK_OFFSET",
    "GLONASST_UTC_S",
    "GST_WEEK_OFFSET",
    "NS",
    "WEEK_NS",
    "from_datetime",
    "from_unix",
    "from_utc",
    "from_week",
    "is_week",
    "leap_seconds",
    "nearest_week",
    "to_datetime",
    "to_utc",
    "week_and_tow",
]

NS: Final = 1_000_000_000
DAY_NS: Final = 86_400 * NS
WEEK_NS: Final = 7 * DAY_NS
_WEEKS_MAX: Final = 2**63 // WEEK_NS
GPS_EPOCH: Final = datetime(1980, 1, 6, tzinfo=UTC)
_UNIX_GPS_EPOCH_NS: Final = 315_964_800 * NS
BDT_OFFSET_S: Final = 14
BDT_WEEK_OFFSET: Final = 1356
"""GPS week of BDT week 0 (2006-01-01)."""
GST_WEEK_OFFSET: Final = 1024
"""GPS week of GST week 0 (1999-08-22)."""
GLONASST_UTC_S: Final = 3 * 3600

_LEAP_DATES_UTC: Final = (  # IERS Bulletin C: first UTC day on which GPST - UTC is one second more
    (1981, 7), (1982, 7), (1983, 7), (1985, 7), (1988, 1), (1990, 1), (1991, 1), (1992, 7), (1993, 7), (1994, 7),
    (1996, 1), (1997, 7), (1999, 1), (2006, 1), (2009, 1), (2012, 7), (2015, 7), (2017, 1),
)  # fmt: skip
_LEAP_UTC_NS: Final = tuple(
    round((datetime(year, month, 1, tzinfo=UTC) - GPS_EPOCH) / timedelta(seconds=1)) * NS
    for year, month in _LEAP_DATES_UTC
)
_LEAP_GPST_NS: Final = tuple(utc_ns + (index + 1) * NS for index, utc_ns in enumerate(_LEAP_UTC_NS))


def leap_seconds(time_ns: int) -> int:
    """GPST - UTC in seconds at an instant of GPST."""
    return bisect_right(_LEAP_GPST_NS, time_ns)


def to_utc(time_ns: int) -> int:
    """Nanoseconds of UTC (counted without leap seconds since 1980-01-06) at an instant of GPST."""
    return time_ns - leap_seconds(time_ns) * NS


def from_utc(utc_ns: int) -> int:
    """The GPST instant of nanoseconds of UTC counted without leap seconds since 1980-01-06."""
    return utc_ns + bisect_right(_LEAP_UTC_NS, utc_ns) * NS


def from_unix(unix_ns: int) -> int:
    """The GPST instant of nanoseconds since 1970-01-01 UTC, as computers count them (`time.time_ns`)."""
    return from_utc(unix_ns - _UNIX_GPS_EPOCH_NS)


def from_week(week: int, tow_s: float) -> int:
    """The instant of a full GPS week and seconds of that week."""
    return week * WEEK_NS + round(tow_s * NS)


def is_week(week: int) -> bool:
    """Whether a receiver's full week is one: 0 and 65535 say that it does not know it yet."""
    return 0 < week < _WEEKS_MAX


def week_and_tow(time_ns: int) -> tuple[int, float]:
    """Full GPS week and seconds of that week."""
    week, rest_ns = divmod(time_ns, WEEK_NS)
    return week, rest_ns / NS


def nearest_week(tow_ns: int, near_ns: int, period_ns: int = WEEK_NS) -> int:
    """The instant nearest to `near_ns` whose remainder by `period_ns` is `tow_ns`: resolves a week or day count."""
    return near_ns + (tow_ns - near_ns + period_ns // 2) % period_ns - period_ns // 2


def from_datetime(moment: datetime) -> int:
    """The instant of a calendar date that is already in GPST (its time zone, if any, is ignored)."""
    delta = moment.replace(tzinfo=UTC) - GPS_EPOCH
    return (delta.days * 86_400 + delta.seconds) * NS + delta.microseconds * 1000


def to_datetime(time_ns: int) -> datetime:
    """The GPST calendar date and time, to the microsecond, without a time zone (GPST is none)."""
    return (GPS_EPOCH + timedelta(microseconds=time_ns // 1000)).replace(tzinfo=None)
