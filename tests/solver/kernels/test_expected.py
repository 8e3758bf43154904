"""What orbits and uneven water vapour are expected to do to a satellite's delay."""

import numpy as np
import pytest

from solver.kernels.differencing import LINK
from solver.kernels.expected import expect_strays
from solver.kernels.rover import NOW


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
