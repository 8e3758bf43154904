"""Which week it is: full time for a stream whose messages carry a time of week or of day alone.

The strategy: what the stream says by itself comes first. BeiDou and Galileo ephemerides count weeks far enough; 1013
and 1029 carry a day count, GLONASS ephemerides the date. GPS, QZSS and NavIC weeks repeat every 1024, so they need an
instant that is stated (the time of reception, or the user's word), else they are believed last: as the latest weeks
before an instant that the stream is known to be older than (when its file was last written), or as within
`GPS_WEEKS_ASSUMED`. A stated instant alone dates a stream too. Nothing here ever looks at a clock.

Around a roll-over senders differ: the week is that of the transmission, or that of the ephemeris's toe. Where toe and
the stream's own time of week lie in different halves of the week, such an ephemeris is therefore weak evidence.
"""

from typing import Final

from caster.codec.rtcm.ephemeris import KEPLER_TYPES, glonass_date_ns
from caster.codec.rtcm.messages import Message
from solver.signals import BEIDOU, GLONASS
from solver.timescale import (
    BDT_OFFSET_S,
    DAY_NS,
    GLONASST_UTC_S,
    NS,
    WEEK_NS,
    from_utc,
    nearest_week,
    to_utc,
)

__all__ = ["StreamClock", "epoch_gpst_ns", "tow_ns"]

MS_NS: Final = 1_000_000
_MJD_OF_GPS_EPOCH: Final = 44_244
GPS_WEEKS_ASSUMED: Final = range(1900, 1900 + 1024)
"""Weeks (June 2016 to January 2036) that a ten-bit week means where nothing else in the world says more."""
_DATES: Final = ("mjd", "utc_s")
_MJD_PLAUSIBLE: Final = range(50_000, 80_000)
EPOCH_WRAP_NS: Final = (1 << 30) * MS_NS
"""What an epoch field of 30 bits counts to."""
_GLONASS_DAY_BITS: Final = 27
GLONASS_OF_DAY: Final = (1 << _GLONASS_DAY_BITS) - 1
"""The bits of GLONASS's epoch field that are the time of day."""
_GLONASS_DAY_UNKNOWN: Final = 7


def tow_ns(system: int, epoch: int) -> int | None:
    """Nanoseconds of the GPST week of an observation message's epoch field; None for GLONASS, which has UTC's day."""
    if system == GLONASS:
        return None
    of_week_ns = epoch * MS_NS
    if of_week_ns >= WEEK_NS:  # PolaRx5 5.1 sends BDT seconds -14 to -1 after GPST's week has rolled over
        of_week_ns -= EPOCH_WRAP_NS
    return (of_week_ns + (BDT_OFFSET_S * NS if system == BEIDOU else 0)) % WEEK_NS


def epoch_gpst_ns(system: int, epoch: int, near_ns: int, legacy: bool = False, by_day: bool = True) -> int:
    """The instant nearest to another that an observation message's epoch field means.

    Args:
        system: Index into `solver.signals.SYSTEMS`.
        epoch: DF004, DF034, DF248, DF427 or, for MSM of GLONASS, DF416 before DF034.
        near_ns: An instant of GPST.
        legacy: The message is one of 1009 to 1012.
        by_day: Leave the day of week of GLONASS aside: the nearest day is the one, as it is within a running stream.
    """
    time_ns = tow_ns(system, epoch)
    if time_ns is not None:
        return nearest_week(time_ns, near_ns)
    day = _GLONASS_DAY_UNKNOWN if legacy else epoch >> _GLONASS_DAY_BITS
    of_day_ns = (epoch & GLONASS_OF_DAY) * MS_NS - GLONASST_UTC_S * NS
    if by_day or day == _GLONASS_DAY_UNKNOWN:
        return from_utc(nearest_week(of_day_ns, to_utc(near_ns), DAY_NS))
    return from_utc(nearest_week(day * DAY_NS + of_day_ns, to_utc(near_ns)))


class StreamClock:
    """Collects what a stream says about the date until the date is known, and watches it afterwards.

    Args:
        before_ns: An instant of GPST that all of the stream is older than; None: not known.

    Attributes:
        is_assumed: The weak evidence is a ten-bit week, of which others are 1024 weeks away.
    """

    def __init__(self, before_ns: int | None = None) -> None:
        self.is_assumed = False
        self._weak_ns: int | None = None
        self._weak_agrees = False
        self._before_ns = before_ns

    def evidence(self, message: Message, stream_tow_ns: int | None, stated_ns: int | None) -> int | None:
        """An instant within half a week of now that a message proves, or None.

        Args:
            message: Any message; most say nothing.
            stream_tow_ns: Time of week of the latest observations, if there were any that tell it.
            stated_ns: An instant that somebody states to be within some years of now.
        """
        if message.type in (1013, 1029):
            mjd, utc_s = (message.fields[name] for name in _DATES)
            if mjd not in _MJD_PLAUSIBLE:
                return None
            return from_utc(int(mjd - _MJD_OF_GPS_EPOCH) * DAY_NS + int(utc_s) * NS)
        if message.type == 1020:
            return glonass_date_ns(message.fields)
        if message.type in KEPLER_TYPES:
            return self._of_week(message, stream_tow_ns, stated_ns)
        return None

    def weak_evidence(self) -> int | None:
        """The best guess from what was not evidence enough; None where there was nothing."""
        return self._weak_ns

    def _of_week(self, message: Message, stream_tow_ns: int | None, stated_ns: int | None) -> int | None:
        kind = KEPLER_TYPES[message.type]
        week, firm = message.fields["week"] + kind.week_offset, kind.weeks > 1024
        if not firm:
            week, firm = _full_week(week, self._before_ns if stated_ns is None else stated_ns), stated_ns is not None
        toe_ns = (message.fields["toe_s"] + kind.offset_s) * NS
        time_ns: int = week * WEEK_NS + (toe_ns if stream_tow_ns is None else stream_tow_ns)
        agree = stream_tow_ns is not None and abs(toe_ns - stream_tow_ns) < WEEK_NS // 2
        if firm and agree:
            return time_ns
        if agree or not self._weak_agrees:
            self._weak_ns, self._weak_agrees, self.is_assumed = time_ns, agree, not firm
        return None


def _full_week(week: int, known_ns: int | None) -> int:
    """The week that ten bits mean: the last one not after the next of a known instant, else within the assumed."""
    last = GPS_WEEKS_ASSUMED[-1] if known_ns is None else known_ns // WEEK_NS + 1
    return last - (last - week) % 1024
