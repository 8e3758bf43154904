"""Delays against RTKLIB's models, interface documents and the shape that physics gives them."""

import math

import numpy as np
import pyrtklib5 as rk
import pytest

from solver.kernels.atmosphere import (
    KLOBUCHAR_CLIMATE,
    ionosphere_mapping,
    klobuchar_beidou,
    klobuchar_gps,
    niell_mapping,
    overhead_ionosphere,
    pierce_angle,
    slant_ionosphere,
    water_vapour,
    zenith_troposphere,
)
from solver.timescale import DAY_NS, NS, from_week
from tests.oracle import rtklib

NOTHING = np.full(8, np.nan)
ALPHA_BETA = np.array([1.4901e-08, -1.4901e-08, -5.9605e-08, 1.1921e-07, 120830.0, -229380.0, -65536.0, 851970.0])
SKY = [(0.61, 2.39, 1.0, 0.3), (-0.61, 2.6, 4.0, 1.2), (0.1, -1.3, 6.0, 0.12), (1.2, 0.1, 0.0, 1.5)]


@pytest.mark.parametrize("lat, lon, azimuth, elevation", SKY)
@pytest.mark.parametrize("tow_s", [0.0, 50_000.0, 400_000.0])
def test_klobuchar_is_what_rtklib_computes(lat, lon, azimuth, elevation, tow_s):
    time_ns = from_week(2300, tow_s)
    theirs = rk.ionmodel(
        rtklib.gtime(time_ns),
        rtklib.array(ALPHA_BETA),
        rtklib.array([lat, lon, 100.0]),
        rtklib.array([azimuth, elevation]),
    )
    assert klobuchar_gps(time_ns, lat, lon, azimuth, elevation, ALPHA_BETA) == pytest.approx(theirs, abs=1e-9)


def test_beidou_s_form_is_the_night_constant_at_night_and_the_amplitude_at_14_h():
    """At the zenith the pierce point is the receiver's own: BDS-SIS-ICD-B1I 5.2.4.7 reduces to A2 + 5 ns."""
    lon, latitude = math.radians(120.0), 30.0 / 180.0
    amplitude = sum(ALPHA_BETA[k] * latitude**k for k in range(4))
    two_pm_ns = (14 - 8) * 3600 * NS + 14 * NS
    light = 299_792_458.0
    noon = klobuchar_beidou(two_pm_ns, math.radians(30.0), lon, 0.0, math.pi / 2, ALPHA_BETA)
    night = klobuchar_beidou(two_pm_ns + DAY_NS // 2, math.radians(30.0), lon, 0.0, math.pi / 2, ALPHA_BETA)
    assert noon == pytest.approx(light * (5e-9 + amplitude), rel=1e-9)
    assert night == pytest.approx(light * 5e-9, rel=1e-12)


@pytest.mark.parametrize("lat, lon, azimuth, elevation", SKY)
def test_both_forms_see_the_same_ionosphere(lat, lon, azimuth, elevation):
    """With one set of parameters they differ by their shells and magnetic latitude, not in kind."""
    time_ns = from_week(2300, 100_000.0)
    gps = klobuchar_gps(time_ns, lat, lon, azimuth, elevation, KLOBUCHAR_CLIMATE)
    beidou = klobuchar_beidou(time_ns, lat, lon, azimuth, elevation, KLOBUCHAR_CLIMATE)
    assert 0.3 < beidou / gps < 3.0


def test_the_ionosphere_is_known_by_gps_then_beidou_then_climate():
    where = (from_week(2300, 20_000.0), 0.6, 2.4, 1.0, 0.5)
    assert slant_ionosphere(*where, ALPHA_BETA, KLOBUCHAR_CLIMATE) == klobuchar_gps(*where, ALPHA_BETA)
    only_beidou = klobuchar_beidou(*where, ALPHA_BETA) * (1561.098 / 1575.42) ** 2
    assert slant_ionosphere(*where, NOTHING, ALPHA_BETA) == pytest.approx(only_beidou)
    assert slant_ionosphere(*where, NOTHING, NOTHING) == klobuchar_gps(*where, KLOBUCHAR_CLIMATE)


def test_the_ionosphere_overhead_is_the_model_s_less_half_a_night_and_sure_to_half_of_it():
    """Klobuchar 1987: half of the delay is left, RMS; the night of 5 ns, 1.5 m, is twice that of a quiet sun."""
    place_m, above = np.array([6378137.0, 0.0, 0.0]), (0.0, 0.0, 0.0, math.pi / 2)
    for hour in (2, 14):
        time_ns = from_week(2300, hour * 3600.0)
        model_m = slant_ionosphere(time_ns, *above, ALPHA_BETA, NOTHING)
        expected = (model_m - 0.5 * 5e-9 * 299_792_458.0, 0.5 * model_m)
        assert overhead_ionosphere(time_ns, *place_m, ALPHA_BETA, NOTHING) == pytest.approx(expected, rel=1e-9)
    assert overhead_ionosphere(from_week(2300, 7200.0), *place_m, ALPHA_BETA, NOTHING) == pytest.approx(
        (0.75, 0.75), rel=1e-3
    )


@pytest.mark.parametrize("lat, height_m", [(0.6, 100.0), (-0.9, 0.0), (0.2, 3000.0)])
@pytest.mark.parametrize("humidity", [0.0, 0.7])
def test_zenith_delay_is_what_rtklib_computes(lat, height_m, humidity):
    theirs = rk.tropmodel(
        rtklib.gtime(0), rtklib.array([lat, 0.1, height_m]), rtklib.array([0.0, math.pi / 2]), humidity
    )
    dry, wet = zenith_troposphere(lat, height_m, humidity)
    assert dry + wet == pytest.approx(theirs, abs=1e-4), "RTKLIB has 288.16 K at sea level, ICAO 288.15 K"


def test_zenith_delay_is_finite_at_the_centre_of_the_earth_and_in_orbit():
    assert all(math.isfinite(value) for height in (-6.4e6, 2e7) for value in zenith_troposphere(0.5, height, 0.7))


@pytest.mark.parametrize("lat, elevation", [(0.61, 0.1), (-0.61, 0.3), (1.4, 0.2), (0.1, 1.5)])
@pytest.mark.parametrize("days", [10, 100, 200, 300])
def test_mapping_is_what_rtklib_computes(lat, elevation, days):
    time_ns = from_week(2086, 0.0) + days * DAY_NS
    wet = rtklib.array([0.0])
    dry = rk.tropmapf(rtklib.gtime(time_ns), rtklib.array([lat, 0.1, 200.0]), rtklib.array([0.0, elevation]), wet)
    assert niell_mapping(time_ns, lat, 200.0, elevation) == pytest.approx((dry, wet[0]), rel=2e-5)


def test_mappings_are_one_at_the_zenith():
    assert niell_mapping(0, 0.6, 0.0, math.pi / 2) == pytest.approx((1.0, 1.0))
    assert ionosphere_mapping(math.pi / 2) == pytest.approx(1.0)


@pytest.mark.parametrize("degrees", [5.0, 30.0, 90.0])
def test_a_ray_pierces_the_shell_where_plane_geometry_has_it(degrees):
    """Receiver, Earth's centre and pierce point: the law of sines gives what the mapping function is of."""
    elevation, arc = math.radians(degrees), pierce_angle(math.radians(degrees))
    assert 6721.0 * math.cos(elevation + arc) == pytest.approx(6371.0 * math.cos(elevation), abs=1e-6)
    assert ionosphere_mapping(elevation) == pytest.approx(1.0 / math.sin(elevation + arc))


def test_water_vapour_is_that_of_do_229_at_its_extremes():
    """28 January is the driest day of the north and the dampest of the south (RTCA DO-229D, table A-2)."""
    january = from_week(2246, 5.5 * 86_400)
    assert water_vapour(january, math.radians(45.0)) == pytest.approx(11.66 - 7.24, abs=0.1)
    assert water_vapour(january, math.radians(-45.0)) == pytest.approx(11.66 + 7.24, abs=0.1)
    assert water_vapour(january, math.radians(5.0)) == pytest.approx(26.31)
