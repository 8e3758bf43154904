"""Time scales against RTKLIB's and Python's calendar."""

from datetime import datetime

import pyrtklib5 as rtklib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver import timescale
from solver.timescale import NS, WEEK_NS

INSTANTS_NS = st.integers(0, 4000 * WEEK_NS)


@pytest.mark.parametrize("week", range(0, 2400, 13))
def test_leap_seconds_are_those_of_rtklib(week: int) -> None:
    """RTKLIB's own table gives the same UTC, over all the years of GPS."""
    gpst = rtklib.gpst2time(week, 1000.0)
    assert timescale.leap_seconds(timescale.from_week(week, 1000.0)) == gpst.time - rtklib.gpst2utc(gpst).time


def test_a_computers_clock_counts_from_1970_and_leaves_leap_seconds_out() -> None:
    """2017-01-01 00:00:00 UTC was 1483228800 s after 1970 and GPS week 1930, second 18."""
    assert timescale.from_unix(1_483_228_800 * NS) == timescale.from_week(1930, 18.0)
    assert timescale.from_unix(1_483_228_799 * NS) == timescale.from_week(1930, 16.0)


def test_the_last_leap_second_begins_with_2017() -> None:
    """GPST was 17 s ahead of UTC until the end of 2016 and 18 s from then on (IERS Bulletin C 52)."""
    new_year_ns = timescale.from_datetime(datetime(2017, 1, 1)) + 17 * NS
    assert [timescale.leap_seconds(new_year_ns + step) for step in (-1, NS, 2 * NS)] == [17, 18, 18]


@given(INSTANTS_NS)
def test_utc_and_back_is_the_same_instant(time_ns: int) -> None:
    """Only an inserted leap second itself has no UTC of its own."""
    back_ns = timescale.from_utc(timescale.to_utc(time_ns))
    assert back_ns == time_ns or back_ns == time_ns + NS


@given(INSTANTS_NS)
def test_week_and_seconds_and_back_is_the_same_microsecond(time_ns: int) -> None:
    assert abs(timescale.from_week(*timescale.week_and_tow(time_ns)) - time_ns) <= 1000


@given(INSTANTS_NS)
def test_calendar_and_back_is_the_same_microsecond(time_ns: int) -> None:
    assert timescale.from_datetime(timescale.to_datetime(time_ns)) == time_ns // 1000 * 1000


def test_calendar_of_a_published_week() -> None:
    """GPS week 2262, second 455619, is 2023-05-19 06:33:39."""
    assert timescale.to_datetime(timescale.from_week(2262, 455619.0)) == datetime(2023, 5, 19, 6, 33, 39)


def test_beidou_and_galileo_weeks_start_when_their_documents_say() -> None:
    """BDT starts on 2006-01-01, GST on 1999-08-22 00:00 (13 s before UTC's midnight, as GPST counts)."""
    assert timescale.from_datetime(datetime(2006, 1, 1)) == timescale.BDT_WEEK_OFFSET * WEEK_NS
    assert timescale.from_datetime(datetime(1999, 8, 22)) == timescale.GST_WEEK_OFFSET * WEEK_NS


@given(INSTANTS_NS, st.integers(-WEEK_NS // 2 + 1, WEEK_NS // 2 - 1))
def test_a_week_is_resolved_from_an_instant_less_than_half_a_week_away(time_ns: int, offset_ns: int) -> None:
    assert timescale.nearest_week(time_ns % WEEK_NS, time_ns + offset_ns) == time_ns
