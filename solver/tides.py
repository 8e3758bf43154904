"""How solid-earth tides move a station: IERS Conventions (2010), section 7.1.1, and low-precision Sun and Moon.

Step 1 is the elastic and inelastic response to the tides of degree 2 and 3 by nominal Love and Shida numbers
(equations 7.5 to 7.11, table 7.2); step 2 corrects it for the dependence on frequency (tables 7.3a and 7.3b). The
permanent part is left in, as coordinates of ITRF are free of tides by convention ("conventional tide free").
Everything is vectorised over instants: Sun and Moon move, the station does not.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from solver.timescale import NS, leap_seconds

__all__ = ["displacement_by", "moon_ecef_m", "solid_tide_m", "sun_ecef_m"]

Floats = NDArray[np.float64]

_EARTH_RADIUS_M: Final = 6_378_136.6
"""IERS Conventions (2010), table 1.1; likewise the mass ratios to the Earth."""
_SUN_MASS_RATIO: Final = 332_946.0482
_MOON_MASS_RATIO: Final = 0.012_300_037_1
_H3, _L3 = 0.292, 0.015
_DIURNAL_INELASTIC: Final = (-0.0025, -0.0007)
_SEMIDIURNAL_INELASTIC: Final = (-0.0022, -0.0007)
_L1_DIURNAL, _L1_SEMIDIURNAL = 0.0012, 0.0024
_AU_M: Final = 149_597_870_700.0
"""IAU 2012, resolution B2."""
_ARCSEC: Final = np.pi / 648_000.0
_TT_GPST_S: Final = 51.184
_J2000_GPST_NS: Final = 630_763_148_816_000_000
"""2000-01-01 12:00:00 TT as nanoseconds of GPST."""
_CENTURY_S: Final = 36_525.0 * 86_400.0

# IERS Conventions (2010), table 7.3a: multiples of s, h, p, N', ps beside tau; radial in and out of phase, transverse
# in and out of phase, mm.
_DIURNAL: Final = np.array(
    [
        [-3, 0, 2, 0, 0, -0.01, 0.0, 0.0, 0.0],
        [-3, 2, 0, 0, 0, -0.01, 0.0, 0.0, 0.0],
        [-2, 0, 1, -1, 0, -0.02, 0.0, 0.0, 0.0],
        [-2, 0, 1, 0, 0, -0.08, 0.0, -0.01, 0.01],
        [-2, 2, -1, 0, 0, -0.02, 0.0, 0.0, 0.0],
        [-1, 0, 0, -1, 0, -0.10, 0.0, 0.0, 0.0],
        [-1, 0, 0, 0, 0, -0.51, 0.0, -0.02, 0.03],
        [-1, 2, 0, 0, 0, 0.01, 0.0, 0.0, 0.0],
        [0, -2, 1, 0, 0, 0.01, 0.0, 0.0, 0.0],
        [0, 0, -1, 0, 0, 0.02, 0.0, 0.0, 0.0],
        [0, 0, 1, 0, 0, 0.06, 0.0, 0.0, 0.0],
        [0, 0, 1, 1, 0, 0.01, 0.0, 0.0, 0.0],
        [0, 2, -1, 0, 0, 0.01, 0.0, 0.0, 0.0],
        [1, -3, 0, 0, 1, -0.06, 0.0, 0.0, 0.0],
        [1, -2, 0, -1, 0, 0.01, 0.0, 0.0, 0.0],
        [1, -2, 0, 0, 0, -1.23, -0.07, 0.06, 0.01],
        [1, -1, 0, 0, -1, 0.02, 0.0, 0.0, 0.0],
        [1, -1, 0, 0, 1, 0.04, 0.0, 0.0, 0.0],
        [1, 0, 0, -1, 0, -0.22, 0.01, 0.01, 0.0],
        [1, 0, 0, 0, 0, 12.00, -0.80, -0.67, -0.03],
        [1, 0, 0, 1, 0, 1.73, -0.12, -0.10, 0.0],
        [1, 0, 0, 2, 0, -0.04, 0.0, 0.0, 0.0],
        [1, 1, 0, 0, -1, -0.50, -0.01, 0.03, 0.0],
        [1, 1, 0, 0, 1, 0.01, 0.0, 0.0, 0.0],
        [0, 1, 0, 1, -1, -0.01, 0.0, 0.0, 0.0],
        [1, 2, -2, 0, 0, -0.01, 0.0, 0.0, 0.0],
        [1, 2, 0, 0, 0, -0.11, 0.01, 0.01, 0.0],
        [2, -2, 1, 0, 0, -0.01, 0.0, 0.0, 0.0],
        [2, 0, -1, 0, 0, -0.02, 0.0, 0.0, 0.0],
    ]
)
# Table 7.3b: radial and transverse in phase, radial and transverse out of phase, mm.
_LONG_PERIOD: Final = np.array(
    [
        [0, 0, 0, 1, 0, 0.47, 0.23, 0.16, 0.07],
        [0, 2, 0, 0, 0, -0.20, -0.12, -0.11, -0.05],
        [1, 0, -1, 0, 0, -0.11, -0.08, -0.09, -0.04],
        [2, 0, 0, 0, 0, -0.13, -0.11, -0.15, -0.07],
        [2, 0, 0, 1, 0, -0.05, -0.05, -0.06, -0.03],
    ]
)


def solid_tide_m(time_ns: NDArray[np.int64], position_ecef_m: Floats) -> Floats:
    """Displacement of a station by the solid-earth tides.

    Args:
        time_ns: (n,) GPST.
        position_ecef_m: (3,).

    Returns:
        (n, 3) ECEF, m; good to about a millimetre, by the precision of Sun and Moon.
    """
    return displacement_by(time_ns, position_ecef_m, sun_ecef_m(time_ns), moon_ecef_m(time_ns))


def displacement_by(time_ns: NDArray[np.int64], position_ecef_m: Floats, sun_m: Floats, moon_m: Floats) -> Floats:
    """The same for Sun and Moon at given places, (n, 3) ECEF each."""
    axes = _axes(position_ecef_m)
    enu = np.zeros_like(sun_m)
    ecef = np.zeros_like(sun_m)
    for body_m, mass_ratio in ((sun_m, _SUN_MASS_RATIO), (moon_m, _MOON_MASS_RATIO)):
        ecef += _nominal(position_ecef_m, body_m, mass_ratio)
        enu += _out_of_phase(position_ecef_m, body_m, mass_ratio)
    enu += _frequency_dependent(time_ns, position_ecef_m)
    result: Floats = ecef + enu @ axes
    return result


def _axes(position_m: Floats) -> Floats:
    """East, north and up of the geocentric latitude, as the conventions have them; rows."""
    up = position_m / np.linalg.norm(position_m)
    east = np.array([-up[1], up[0], 0.0]) / np.hypot(up[0], up[1])
    return np.array([east, np.cross(up, east), up])


def _degree_2(body_m: Floats, mass_ratio: float) -> tuple[Floats, Floats]:
    """Distance, and the factor of the tide of degree 2 (m)."""
    distance = np.linalg.norm(body_m, axis=1)
    return distance, mass_ratio * _EARTH_RADIUS_M * (_EARTH_RADIUS_M / distance) ** 3


def _nominal(position_m: Floats, body_m: Floats, mass_ratio: float) -> Floats:
    """In phase, degrees 2 and 3: equations 7.5 and 7.6 with the latitude dependence of table 7.2."""
    up = position_m / np.linalg.norm(position_m)
    distance, second = _degree_2(body_m, mass_ratio)
    third = second * _EARTH_RADIUS_M / distance
    towards = body_m / distance[:, None]
    cosine = towards @ up
    cos2_lat = 1.0 - up[2] ** 2
    h2 = 0.6078 - 0.0006 * (1.0 - 1.5 * cos2_lat)
    l2 = 0.0847 + 0.0002 * (1.0 - 1.5 * cos2_lat)
    along = 3.0 * l2 * cosine * second + 1.5 * _L3 * (5.0 * cosine**2 - 1.0) * third
    radial = (3.0 * (0.5 * h2 - l2) * cosine**2 - 0.5 * h2) * second
    radial += (2.5 * (_H3 - 3.0 * _L3) * cosine**3 + 1.5 * (_L3 - _H3) * cosine) * third
    result: Floats = along[:, None] * towards + radial[:, None] * up
    return result


def _out_of_phase(position_m: Floats, body_m: Floats, mass_ratio: float) -> Floats:
    """East, north, up out of phase, diurnal and semidiurnal (7.10, 7.11), and of the latitude dependence (7.8, 7.9)."""
    sin_lat = position_m[2] / np.linalg.norm(position_m)
    cos_lat = np.sqrt(1.0 - sin_lat**2)
    lon = np.arctan2(position_m[1], position_m[0])
    distance, second = _degree_2(body_m, mass_ratio)
    x, y, z = (body_m / distance[:, None]).T
    sin1, cos1 = z * (x * np.sin(lon) - y * np.cos(lon)), z * (x * np.cos(lon) + y * np.sin(lon))
    sin2 = (x**2 - y**2) * np.sin(2.0 * lon) - 2.0 * x * y * np.cos(2.0 * lon)
    cos2 = (x**2 - y**2) * np.cos(2.0 * lon) + 2.0 * x * y * np.sin(2.0 * lon)
    (h_d, l_d), (h_s, l_s) = _DIURNAL_INELASTIC, _SEMIDIURNAL_INELASTIC
    cos_2lat = cos_lat**2 - sin_lat**2
    east = -3.0 * l_d * sin_lat * cos1 - 1.5 * l_s * cos_lat * cos2
    east += 3.0 * _L1_DIURNAL * sin_lat * cos_2lat * sin1 - 1.5 * _L1_SEMIDIURNAL * sin_lat**2 * cos_lat * sin2
    north = -3.0 * l_d * cos_2lat * sin1 + 1.5 * l_s * sin_lat * cos_lat * sin2
    north += -3.0 * _L1_DIURNAL * sin_lat**2 * cos1 - 1.5 * _L1_SEMIDIURNAL * sin_lat * cos_lat * cos2
    up = -3.0 * h_d * sin_lat * cos_lat * sin1 - 0.75 * h_s * cos_lat**2 * sin2
    result: Floats = np.stack([east, north, up], axis=1) * second[:, None]
    return result


def _frequency_dependent(time_ns: NDArray[np.int64], position_m: Floats) -> Floats:
    """East, north, up of step 2: equations 7.12 and 7.13."""
    sin_lat = position_m[2] / np.linalg.norm(position_m)
    cos_lat = np.sqrt(1.0 - sin_lat**2)
    arguments = _tidal_arguments(time_ns)  # tau, s, h, p, N', ps
    angle = arguments[0] + np.arctan2(position_m[1], position_m[0]) + _DIURNAL[:, :5] @ arguments[1:]
    sine, cosine = np.sin(angle), np.cos(angle)
    in_r, out_r, in_t, out_t = _DIURNAL[:, 5:, None].transpose(1, 0, 2)
    up = ((in_r * sine + out_r * cosine) * 2.0 * sin_lat * cos_lat).sum(axis=0)
    north = ((in_t * sine + out_t * cosine) * (cos_lat**2 - sin_lat**2)).sum(axis=0)
    east = ((in_t * cosine - out_t * sine) * sin_lat).sum(axis=0)
    angle = _LONG_PERIOD[:, :5] @ arguments[1:]
    sine, cosine = np.sin(angle), np.cos(angle)
    in_r, in_t, out_r, out_t = _LONG_PERIOD[:, 5:, None].transpose(1, 0, 2)
    up += ((in_r * cosine + out_r * sine) * (1.5 * sin_lat**2 - 0.5)).sum(axis=0)
    north += ((in_t * cosine + out_t * sine) * 2.0 * sin_lat * cos_lat).sum(axis=0)
    return np.stack([east, north, up], axis=1) * 1e-3


def _centuries(time_ns: NDArray[np.int64]) -> Floats:
    """Julian centuries of TT since J2000."""
    result: Floats = (np.asarray(time_ns, np.int64) - _J2000_GPST_NS) / NS / _CENTURY_S
    return result


def _utc_s_of_day(time_ns: NDArray[np.int64]) -> Floats:
    """Seconds of the day of UTC, which stands for UT1 here: 0.9 s are 0.004 degrees."""
    leaps = leap_seconds(int(np.asarray(time_ns).flat[0]))
    result: Floats = (np.asarray(time_ns, np.int64) / NS - leaps) % 86_400.0
    return result


def _tidal_arguments(time_ns: NDArray[np.int64]) -> Floats:
    """(6, n) Doodson's arguments tau, s, h, p, N', ps (rad): Simon et al. 1994, as section 7.1.1.2.2 uses them."""
    t = _centuries(time_ns)
    moon = _polynomial(t, 218.316_645_63, 481_267.881_94, -0.001_466_388_9, 1.851_39e-6)
    hours = _utc_s_of_day(time_ns) / 3600.0
    tau = 15.0 * hours + _polynomial(t, 280.460_618_4, 36_000.770_053_6, 0.000_387_93, -2.58e-8) - moon
    moon += _polynomial(t, 0.0, 1.396_971_278, 0.000_308_889, 2.1e-8, 7e-9)
    sun = _polynomial(t, 280.466_45, 36_000.769_748_9, 0.000_303_222_22, 2e-8, -6.54e-9)
    perigee = _polynomial(t, 83.353_243_12, 4_069.013_635_25, -0.010_321_722_22, -1.249_91e-5, 5.263e-8)
    node = _polynomial(t, 234.955_444_99, 1_934.136_261_97, -0.002_075_611_11, -2.139_44e-6, 1.65e-8)
    perihelion = _polynomial(t, 282.937_340_98, 1.719_457_666_67, 0.000_456_888_89, -1.778e-8, -3.34e-9)
    return np.radians(np.array([tau, moon, sun, perigee, node, perihelion]) % 360.0)


def _polynomial(t: Floats, *coefficients: float) -> Floats:
    """Coefficients by rising power."""
    result: Floats = np.polynomial.polynomial.polyval(t, np.array(coefficients))
    return result


def _to_ecef(time_ns: NDArray[np.int64], lon: Floats, lat: Floats, distance_m: Floats) -> Floats:
    """From the ecliptic of date to ECEF by obliquity and sidereal time; polar motion and nutation are left out."""
    t = _centuries(time_ns)
    obliquity = np.radians(23.439_291 - 0.013_004_2 * t)
    x = np.cos(lat) * np.cos(lon)
    y = np.cos(lat) * np.sin(lon) * np.cos(obliquity) - np.sin(lat) * np.sin(obliquity)
    z = np.cos(lat) * np.sin(lon) * np.sin(obliquity) + np.sin(lat) * np.cos(obliquity)
    late_s = _TT_GPST_S + leap_seconds(int(np.asarray(time_ns).flat[0]))
    ut = t * 36_525.0 - late_s / 86_400.0
    sidereal = np.radians((280.460_618_37 + 360.985_647_366_29 * ut) % 360.0)
    ecef = np.stack(
        [x * np.cos(sidereal) + y * np.sin(sidereal), y * np.cos(sidereal) - x * np.sin(sidereal), z], axis=1
    )
    result: Floats = ecef * distance_m[:, None]
    return result


def sun_ecef_m(time_ns: NDArray[np.int64]) -> Floats:
    """(n, 3) the Sun, ECEF, to about 0.01 degrees: Montenbruck and Gill 2000, section 3.3.2."""
    t = _centuries(time_ns)
    anomaly = np.radians(357.525_6 + 35_999.049 * t)
    lon = np.radians(282.937_341 + 1.719_458 * t) + anomaly  # the perihelion from the equinox of date
    lon += (6_892.0 * np.sin(anomaly) + 72.0 * np.sin(2.0 * anomaly)) * _ARCSEC
    distance_m = (149.619 - 2.499 * np.cos(anomaly) - 0.021 * np.cos(2.0 * anomaly)) * 1e9
    return _to_ecef(time_ns, lon, np.zeros_like(lon), distance_m)


def moon_ecef_m(time_ns: NDArray[np.int64]) -> Floats:
    """(n, 3) the Moon, ECEF, to some arc minutes and 500 km: Montenbruck and Gill 2000, section 3.3.2."""
    t = _centuries(time_ns)
    mean_lon = np.radians(218.316_17 + 481_267.880_88 * t)
    l_moon, l_sun = np.radians(134.962_92 + 477_198.867_53 * t), np.radians(357.525_43 + 35_999.049_44 * t)
    f, d = np.radians(93.272_83 + 483_202.018_73 * t), np.radians(297.850_27 + 445_267.111_35 * t)
    lon = 22_640 * np.sin(l_moon) + 769 * np.sin(2 * l_moon) - 4_586 * np.sin(l_moon - 2 * d) + 2_370 * np.sin(2 * d)
    lon += -668 * np.sin(l_sun) - 412 * np.sin(2 * f) - 212 * np.sin(2 * l_moon - 2 * d)
    lon += -206 * np.sin(l_moon + l_sun - 2 * d) + 192 * np.sin(l_moon + 2 * d) - 165 * np.sin(l_sun - 2 * d)
    lon += 148 * np.sin(l_moon - l_sun) - 125 * np.sin(d) - 110 * np.sin(l_moon + l_sun) - 55 * np.sin(2 * f - 2 * d)
    shift = (lon + 412 * np.sin(2 * f) + 541 * np.sin(l_sun)) * _ARCSEC
    lat = 18_520 * np.sin(f + shift) - 526 * np.sin(f - 2 * d) + 44 * np.sin(l_moon + f - 2 * d)
    lat += -31 * np.sin(-l_moon + f - 2 * d) - 25 * np.sin(-2 * l_moon + f) - 23 * np.sin(l_sun + f - 2 * d)
    lat += 21 * np.sin(-l_moon + f) + 11 * np.sin(-l_sun + f - 2 * d)
    distance_km = 385_000 - 20_905 * np.cos(l_moon) - 3_699 * np.cos(2 * d - l_moon) - 2_956 * np.cos(2 * d)
    distance_km += -570 * np.cos(2 * l_moon) + 246 * np.cos(2 * l_moon - 2 * d) - 205 * np.cos(l_sun - 2 * d)
    distance_km += -171 * np.cos(l_moon + 2 * d) - 152 * np.cos(l_moon + l_sun - 2 * d)
    return _to_ecef(time_ns, mean_lon + lon * _ARCSEC, lat * _ARCSEC, distance_km * 1e3)
