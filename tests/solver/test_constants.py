"""Constants against values that others publish in code: RTKLIB and PROJ's ellipsoids."""

import pyrtklib5 as rtklib
import pytest

from solver import constants


def test_the_speed_of_light_is_rtklibs() -> None:
    assert constants.SPEED_OF_LIGHT_MPS == rtklib.CLIGHT


def test_the_ellipsoid_is_rtklibs() -> None:
    assert rtklib.RE_WGS84 == constants.WGS84_A_M
    assert rtklib.FE_WGS84 == constants.WGS84_F


def test_gps_earth_rotation_is_rtklibs() -> None:
    assert constants.GPS_OMEGA_E_RAD_S == rtklib.OMGE


def test_beidou_earth_rotation_is_the_rounded_gps_value() -> None:
    """CGCS2000 took the conventional 7.292115e-5; GPS carries four more digits."""
    assert pytest.approx(constants.GPS_OMEGA_E_RAD_S, abs=2e-12) == constants.BEIDOU_OMEGA_E_RAD_S


def test_gravitation_agrees_between_systems_to_1e_8() -> None:
    """IS-GPS-200 kept the value of 1984; all later ones are IERS's 3.986004418e14."""
    assert constants.GALILEO_GM_M3_S2 == constants.BEIDOU_GM_M3_S2 == constants.GLONASS_GM_M3_S2 == 3.986004418e14
    assert pytest.approx(constants.GALILEO_GM_M3_S2, rel=2e-7) == constants.GPS_GM_M3_S2
