"""Coordinates against RTKLIB's, and round trips."""

import math

import numpy as np
import pyrtklib5 as rk
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from solver.kernels.geodesy import azimuth_elevation, ecef_from_geodetic, enu_axes, geodetic_from_ecef, to_enu
from tests.oracle import rtklib

PLACES = [(0.61, 2.39, 104.8), (-0.61, 2.6, 800.0), (1.2, -2.0, -300.0), (0.0, 0.0, 0.0), (-1.5, 3.1, 2.0e7)]


@pytest.mark.parametrize("place", PLACES)
def test_ecef_is_what_rtklib_computes(place):
    theirs = rtklib.array([0, 0, 0])
    rk.pos2ecef(rtklib.array(place), theirs)
    assert ecef_from_geodetic(*place) == pytest.approx([theirs[k] for k in range(3)], abs=1e-7)


@settings(deadline=None)  # the first call compiles
@given(
    lat=st.floats(-math.pi / 2, math.pi / 2),
    lon=st.floats(-math.pi, math.pi),
    height_m=st.floats(-10_000.0, 4e7),
)
def test_geodetic_coordinates_come_back_to_a_micrometre(lat, lon, height_m):
    ecef = ecef_from_geodetic(lat, lon, height_m)
    back = ecef_from_geodetic(*geodetic_from_ecef(*ecef))
    assert back == pytest.approx(ecef, abs=1e-6)


def test_the_centre_of_the_earth_and_the_poles_have_coordinates():
    assert geodetic_from_ecef(0.0, 0.0, 6_356_752.314245)[0] == pytest.approx(math.pi / 2)
    assert geodetic_from_ecef(0.0, 0.0, 6_356_752.314245)[2] == pytest.approx(0.0, abs=1e-5)
    assert all(math.isfinite(value) for value in geodetic_from_ecef(0.0, 0.0, 0.0))


@pytest.mark.parametrize("place", PLACES)
def test_axes_are_orthonormal_and_up_is_the_ellipsoid_s_normal(place):
    axes = np.empty((3, 3))
    enu_axes(place[0], place[1], axes)
    assert axes @ axes.T == pytest.approx(np.eye(3), abs=1e-15)
    higher = np.subtract(ecef_from_geodetic(place[0], place[1], place[2] + 1.0), ecef_from_geodetic(*place))
    assert to_enu(axes, *higher) == pytest.approx([0.0, 0.0, 1.0], abs=1e-6)


@pytest.mark.parametrize("direction", [(1.0, 0.2, 0.3), (-1.0, 2.0, 0.0), (0.1, -0.4, -0.2)])
def test_azimuth_and_elevation_are_what_rtklib_computes(direction):
    lat, lon = 0.6, 2.4
    axes = np.empty((3, 3))
    enu_axes(lat, lon, axes)
    unit = np.array(direction) / np.linalg.norm(direction)
    theirs = rtklib.array([0, 0])
    rk.satazel(rtklib.array([lat, lon, 10.0]), rtklib.array(unit), theirs)
    assert azimuth_elevation(axes, *direction) == pytest.approx([theirs[0], theirs[1]], abs=1e-12)
