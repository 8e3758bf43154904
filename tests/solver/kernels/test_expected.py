"""What orbits and uneven water vapour are expected to do to delays."""

import numpy as np
import pytest

from solver.kernels.differencing import LINK
from solver.kernels.expected import expect_atmosphere, expect_strays
from solver.kernels.rover import NOW
from solver.rtk import RtkOptions, RtkState


def strays_m(sats, elevations_deg, ionosphere_m=0.05, orbit_m=0.002, uneven_m=0.001):
    """Sigmas of the satellites' stray delays."""
    links, now, stray_m = np.zeros(len(sats), LINK), np.zeros(1, NOW)[0], np.ones(len(sats))
    links["sat"], links["elevation"] = sats, np.radians(elevations_deg)
    now["ionosphere_m"], now["orbit_m"], now["uneven_m"] = ionosphere_m, orbit_m, uneven_m
    expect_strays(len(sats), links, now, stray_m)
    return stray_m


def test_a_satellite_in_the_zenith_has_its_orbits_error_alone():
    assert strays_m([3, 67], [90.0, 90.0]) == pytest.approx([0.002, 0.006], rel=0.01)


def test_water_vapour_is_less_even_for_low_satellites():
    """At 45 degrees a ray leaves the column by the height where it is; at 10 degrees by six times that."""
    stray_m = strays_m([3, 4], [45.0, 10.0], orbit_m=0.0)
    assert stray_m == pytest.approx([0.00141, 0.01027], rel=0.01)


def test_short_baselines_have_none():
    assert (strays_m([3, 67], [30.0, 30.0], ionosphere_m=0.0) == 0.0).all()


def test_a_slope_of_water_vapour_delays_low_satellites_where_it_rises_and_speeds_them_where_it_falls():
    links, now = np.zeros(4, LINK), np.zeros(1, NOW)[0]
    links["elevation"], links["azimuth"] = np.radians([90.0, 10.0, 10.0, 45.0]), np.radians([0.0, 0.0, 180.0, 90.0])
    now["ionosphere_m"] = 0.05
    expect_strays(4, links, now, np.zeros(4))
    assert links["tilt"] == pytest.approx(np.array([[0.0, 0.0], [29.5, 0.0], [-29.5, 0.0], [0.0, 1.409]]), abs=0.1)
    now["ionosphere_m"] = 0.0
    expect_strays(4, links, now, np.zeros(4))
    assert (links["tilt"] == 0.0).all()


@pytest.mark.parametrize(("km", "gradient_m"), [(5.0, 0.0), (30.0, 0.0002), (60.0, 0.0004), (150.0, 0.0004)])
def test_gradients_differ_the_more_the_further_apart_both_ends_are_and_no_more_beyond_what_the_wind_carries_past(
    km: float, gradient_m: float
) -> None:
    base_m, now = np.array([6_378_137.0, 0.0, 0.0]), np.zeros(1, NOW)[0]
    now["origin_m"] = base_m + np.array([0.0, 1e3 * km, 0.0])
    expect_atmosphere(0, base_m, RtkOptions().record[0], RtkState().record[0], now)
    assert now["gradient_m"] == pytest.approx(gradient_m, rel=1e-3)
