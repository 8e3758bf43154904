"""The nearest healthy station, and staying with it."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caster.nearest import HYSTERESIS_M, SEARCH_RADIUS_M, StationMap

EARTH_RADIUS_M = 6_371_000.0


def along_equator(*distances_m):
    """Places on a circle, so many metres from its first point."""
    angles = np.array(distances_m) / EARTH_RADIUS_M
    return np.column_stack([np.cos(angles), np.sin(angles), 0.0 * angles]) * EARTH_RADIUS_M


STATIONS = StationMap(["WEST", "EAST"], along_equator(0.0, 20_000.0))


def here(metres):
    return along_equator(metres)[0]


def test_the_nearest_station_serves():
    assert STATIONS.choose(here(9_000.0)) == "WEST"
    assert STATIONS.choose(here(11_000.0)) == "EAST"


def test_a_rover_stays_until_another_station_is_clearly_nearer():
    assert STATIONS.choose(here(10_000.0 + HYSTERESIS_M / 2 - 5), "WEST") == "WEST"
    assert STATIONS.choose(here(10_000.0 + HYSTERESIS_M / 2 + 5), "WEST") == "EAST"
    assert STATIONS.choose(here(10_000.0 - HYSTERESIS_M / 2 + 5), "EAST") == "EAST"


def test_a_rover_leaves_a_station_that_is_no_longer_on_the_map():
    assert STATIONS.choose(here(0.0), "GONE") == "WEST"
    assert STATIONS.choose(None, "GONE") == "WEST"


def test_without_a_place_the_first_station_serves_and_a_rover_keeps_its_own():
    assert STATIONS.choose(None) == "WEST"
    assert STATIONS.choose(None, "EAST") == "EAST"


def test_nothing_serves_where_nothing_is_in_reach():
    assert StationMap().choose(None) is None
    assert STATIONS.choose(here(20_000.0 + 2 * SEARCH_RADIUS_M)) is None


def test_distance_is_straight():
    assert STATIONS.distance_m("EAST", here(0.0)) == pytest.approx(2 * EARTH_RADIUS_M * math.sin(1e4 / EARTH_RADIUS_M))


@given(st.lists(st.floats(-9e5, 9e5), min_size=1, max_size=12), st.lists(st.floats(-9e5, 9e5), max_size=20))
def test_a_moving_rover_is_never_further_than_the_hysteresis_from_the_best(stations_m, track_m):
    names = [f"S{k}" for k in range(len(stations_m))]
    stations = StationMap(names, along_equator(*stations_m))
    current = None
    for metres in track_m:
        current = stations.choose(here(metres), current)
        if current is not None:
            best_m = min(stations.distance_m(name, here(metres)) for name in names)
            assert stations.distance_m(current, here(metres)) <= best_m + HYSTERESIS_M + 1e-6
