"""Solid-earth tides against the values that the IERS publishes with its routine, and against RTKLIB's Sun and Moon."""

import math
from datetime import datetime

import numpy as np
import pyrtklib5 as rtklib
import pytest

from solver.tides import displacement_by, moon_ecef_m, solid_tide_m, sun_ecef_m
from solver.timescale import NS, from_datetime, from_utc, to_utc

PUBLISHED = [  # station, Sun, Moon, UTC date, displacement: the heading of DEHANTTIDEINEL, IERS Conventions (2010)
    (
        (4075578.385, 931852.890, 4801570.154),
        (137859926952.015, 54228127881.4350, 23509422341.6960),
        (-179996231.920342, -312468450.131567, -169288918.592160),
        datetime(2009, 4, 13),
        (0.07700420357108126, 0.06304056321824968, 0.05516568152597247),
    ),
    (
        (1112189.660, -4842955.026, 3985352.284),
        (-54537460436.2357, 130244288385.279, 56463429031.5996),
        (300396716.912, 243238281.451, 120548075.939),
        datetime(2012, 7, 13),
        (-0.02036831479592076, 0.05658254776225972, -0.07597679676871742),
    ),
    (
        (1112200.5696, -4842957.8511, 3985345.9122),
        (100210282451.6279, 103055630398.3160, 56855096480.4475),
        (369817604.4348, 1897917.5258, 120804980.8284),
        datetime(2015, 7, 15),
        (0.00509570869172364, 0.08286630259835287, -0.06366349254041896),
    ),
]


def of_utc(date: datetime) -> np.ndarray:
    return np.array([from_utc(from_datetime(date))])


@pytest.mark.parametrize(("station", "sun", "moon", "date", "expected"), PUBLISHED)
def test_displacements_are_those_that_the_iers_publishes(station, sun, moon, date, expected):
    found = displacement_by(of_utc(date), np.array(station), np.array([sun]), np.array([moon]))
    assert found[0] == pytest.approx(expected, abs=2e-6)


def greenwich_sidereal_rad(date):
    """As RTKLIB computes it."""
    time, erp = rtklib.gtime_t(), rtklib.Arr1Ddouble(5)
    time.time, time.sec = int(to_utc(int(of_utc(date)[0])) / NS) + 315964800, 0.0
    for k in range(5):
        erp[k] = 0.0
    sun, moon, gmst = rtklib.Arr1Ddouble(3), rtklib.Arr1Ddouble(3), rtklib.Arr1Ddouble(1)
    rtklib.sunmoonpos(time, erp, sun, moon, gmst)
    return gmst[0]


@pytest.mark.parametrize(("station", "sun", "moon", "date", "expected"), PUBLISHED[:2])
def test_sun_and_moon_are_where_the_published_vectors_have_them(station, sun, moon, date, expected):
    """The vectors of the first two cases are inertial: they lack the Earth's turn."""
    angle = greenwich_sidereal_rad(date)
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    for place, published, direction_rad in ((sun_ecef_m, sun, 4e-4), (moon_ecef_m, moon, 3e-3)):
        found = turn @ place(of_utc(date))[0]
        distance = np.linalg.norm(published)
        assert np.linalg.norm(found) == pytest.approx(distance, rel=1.5e-3)
        assert np.linalg.norm(found / np.linalg.norm(found) - published / distance) < direction_rad


def test_the_whole_model_is_a_published_displacement_within_a_millimetre():
    station, sun, moon, date, _ = PUBLISHED[0]
    angle = -greenwich_sidereal_rad(date)
    turn = np.array([[math.cos(angle), -math.sin(angle), 0], [math.sin(angle), math.cos(angle), 0], [0, 0, 1]])
    expected = displacement_by(of_utc(date), np.array(station), (turn @ sun)[None], (turn @ moon)[None])
    assert solid_tide_m(of_utc(date), np.array(station)) == pytest.approx(expected, abs=1e-3)


def test_stations_close_by_move_alike():
    times = np.arange(24) * 3600 * NS + of_utc(datetime(2021, 1, 1))
    here, there = np.array([3908910.4, 330932.8, 5012262.6]), np.array([3859571.8, 413007.7, 5044091.6])
    apart = solid_tide_m(times, here) - solid_tide_m(times, there)
    assert 1e-4 < math.sqrt((apart**2).sum(axis=1).max()) < 0.01
