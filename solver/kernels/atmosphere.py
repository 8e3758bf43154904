"""Delays of a signal in the ionosphere and the troposphere, metres.

Sources: IS-GPS-200N section 20.3.3.5.2.5 (Klobuchar), BDS-SIS-ICD-B1I-3.0 section 5.2.4.7 (BeiDou's form of it),
Saastamoinen 1972 with the standard atmosphere of ICAO Doc 7488, Niell 1996 (mapping function, tables 3 and 4).
"""

import math

import numpy as np

from solver.constants import SPEED_OF_LIGHT_MPS
from solver.jit import kernel, part
from solver.kernels import Float64Array
from solver.kernels.geodesy import geodetic_from_ecef

__all__ = [
    "KLOBUCHAR_CLIMATE",
    "L1_HZ",
    "ionosphere_mapping",
    "klobuchar_beidou",
    "klobuchar_gps",
    "niell_coefficients",
    "niell_mapping",
    "niell_slant",
    "overhead_ionosphere",
    "pierce_angle",
    "slant_ionosphere",
    "water_vapour",
    "zenith_troposphere",
]

L1_HZ = 1_575.42e6
B1I_HZ = 1_561.098e6
KLOBUCHAR_CLIMATE = np.array([1.118e-8, -7.451e-9, -5.961e-8, 1.192e-7, 1.167e5, -2.294e5, -1.311e5, 1.049e6])
"""Broadcast parameters of GPS for 2004-01-01, a day of moderate activity: where nothing better is known."""
_NIGHT_M = 5e-9 * SPEED_OF_LIGHT_MPS
"""Zenith delay at night, in both forms and in all years."""
_DAY_S = 86_400.0
_SHELL_M, _SHELL_RADIUS_M = 350e3, 6_371e3
_NS_PER_DAY = 86_400_000_000_000
_BDT_NS = 14_000_000_000


@kernel
def klobuchar_gps(time_ns: int, lat: float, lon: float, azimuth: float, elevation: float, p: Float64Array) -> float:
    """Slant delay (m) at L1 by the eight parameters of GPS, IS-GPS-200N figure 20-4; angles in radians."""
    el = elevation / math.pi
    psi = 0.0137 / (el + 0.11) - 0.022
    phi = min(max(lat / math.pi + psi * math.cos(azimuth), -0.416), 0.416)
    lam = lon / math.pi + psi * math.sin(azimuth) / math.cos(phi * math.pi)
    phi_m = phi + 0.064 * math.cos((lam - 1.617) * math.pi)
    local_s = (43_200.0 * lam + (time_ns % _NS_PER_DAY) * 1e-9) % _DAY_S
    slant = 1.0 + 16.0 * (0.53 - el) ** 3
    amplitude = max(p[0] + phi_m * (p[1] + phi_m * (p[2] + phi_m * p[3])), 0.0)
    period = max(p[4] + phi_m * (p[5] + phi_m * (p[6] + phi_m * p[7])), 72_000.0)
    x = 2.0 * math.pi * (local_s - 50_400.0) / period
    day = amplitude * (1.0 - 0.5 * x * x * (1.0 - x * x / 12.0)) if abs(x) < 1.57 else 0.0
    return SPEED_OF_LIGHT_MPS * slant * (5e-9 + day)


@kernel
def klobuchar_beidou(time_ns: int, lat: float, lon: float, azimuth: float, elevation: float, p: Float64Array) -> float:
    """Slant delay (m) at B1I by the eight parameters of BeiDou: geographic latitude, a shell at 375 km."""
    radius, height = 6_378e3, 375e3
    sine = radius / (radius + height) * math.cos(elevation)
    psi = 0.5 * math.pi - elevation - math.asin(sine)
    phi = math.asin(math.sin(lat) * math.cos(psi) + math.cos(lat) * math.sin(psi) * math.cos(azimuth))
    lam = lon + math.asin(math.sin(psi) * math.sin(azimuth) / math.cos(phi))
    latitude = abs(phi) / math.pi
    local_s = (((time_ns - _BDT_NS) % _NS_PER_DAY) * 1e-9 + lam * 43_200.0 / math.pi) % _DAY_S
    amplitude = max(p[0] + latitude * (p[1] + latitude * (p[2] + latitude * p[3])), 0.0)
    period = p[4] + latitude * (p[5] + latitude * (p[6] + latitude * p[7]))
    period = min(max(period, 72_000.0), 172_800.0)
    late_s = local_s - 50_400.0
    day = amplitude * math.cos(2.0 * math.pi * late_s / period) if abs(late_s) < 0.25 * period else 0.0
    return SPEED_OF_LIGHT_MPS * (5e-9 + day) / math.sqrt(1.0 - sine * sine)


@kernel
def slant_ionosphere(
    time_ns: int, lat: float, lon: float, azimuth: float, elevation: float, gps: Float64Array, beidou: Float64Array
) -> float:
    """Slant delay (m) at L1 by whichever parameters are known: GPS's, else BeiDou's, else a climate's."""
    if not math.isnan(gps[0]):
        return klobuchar_gps(time_ns, lat, lon, azimuth, elevation, gps)
    if not math.isnan(beidou[0]):
        delay = klobuchar_beidou(time_ns, lat, lon, azimuth, elevation, beidou)
        return delay * (B1I_HZ / L1_HZ) ** 2
    return klobuchar_gps(time_ns, lat, lon, azimuth, elevation, KLOBUCHAR_CLIMATE)


@kernel
def overhead_ionosphere(
    time_ns: int, x_m: float, y_m: float, z_m: float, gps: Float64Array, beidou: Float64Array
) -> tuple[float, float]:
    """Zenith delay (m) at L1 that is expected over a place (ECEF), and how far it may be off (1 sigma).

    The broadcast model is right to half of itself (Klobuchar 1987), but its night is one of the mean of a solar cycle:
    that of a quiet sun has half of it (0.75 m over 101 km of the Netherlands in the January of 2021, where the model's
    1.5 m take single epochs as far off as nothing does).
    """
    lat, lon, _ = geodetic_from_ecef(x_m, y_m, z_m)
    model_m = slant_ionosphere(time_ns, lat, lon, 0.0, 0.5 * math.pi, gps, beidou)
    return model_m - 0.5 * _NIGHT_M, 0.5 * model_m


@kernel
def ionosphere_mapping(elevation: float) -> float:
    """Slant over vertical delay of a thin shell at 350 km."""
    sine = _SHELL_RADIUS_M / (_SHELL_RADIUS_M + _SHELL_M) * math.cos(elevation)
    return 1.0 / math.sqrt(1.0 - sine * sine)


@kernel
def pierce_angle(elevation: float) -> float:
    """Arc (rad) along the Earth from a receiver to where a ray pierces a thin shell at 350 km."""
    return 0.5 * math.pi - elevation - math.asin(_SHELL_RADIUS_M / (_SHELL_RADIUS_M + _SHELL_M) * math.cos(elevation))


@kernel
def zenith_troposphere(lat: float, height_m: float, humidity: float) -> tuple[float, float]:
    """Hydrostatic and wet zenith delay (m) by Saastamoinen in the standard atmosphere at a height and humidity (0..1).

    Heights below -100 m or above 10 km are taken as those limits, so that a search for a position cannot diverge.
    """
    height = min(max(height_m, -100.0), 1e4)
    pressure = 1_013.25 * (1.0 - 2.2557e-5 * height) ** 5.2568
    kelvin = 288.15 - 6.5e-3 * height
    vapour = 6.108 * humidity * math.exp((17.15 * kelvin - 4_684.0) / (kelvin - 38.45))
    dry = 0.002_276_8 * pressure / (1.0 - 0.002_66 * math.cos(2.0 * lat) - 0.000_28 * height / 1e3)
    return dry, 0.002_277 * (1_255.0 / kelvin + 0.05) * vapour


_NIELL_LATITUDE = np.radians(np.array([15.0, 30.0, 45.0, 60.0, 75.0]))
_NIELL_DRY_MEAN = np.array(
    [
        [1.2769934e-3, 1.2683230e-3, 1.2465397e-3, 1.2196049e-3, 1.2045996e-3],
        [2.9153695e-3, 2.9152299e-3, 2.9288445e-3, 2.9022565e-3, 2.9024912e-3],
        [62.610505e-3, 62.837393e-3, 63.721774e-3, 63.824265e-3, 64.258455e-3],
    ]
)
_NIELL_DRY_SEASON = np.array(
    [
        [0.0, 1.2709626e-5, 2.6523662e-5, 3.4000452e-5, 4.1202191e-5],
        [0.0, 2.1414979e-5, 3.0160779e-5, 7.2562722e-5, 11.723375e-5],
        [0.0, 9.0128400e-5, 4.3497037e-5, 84.795348e-5, 170.37206e-5],
    ]
)
_NIELL_WET = np.array(
    [
        [5.8021897e-4, 5.6794847e-4, 5.8118019e-4, 5.9727542e-4, 6.1641693e-4],
        [1.4275268e-3, 1.5138625e-3, 1.4572752e-3, 1.5007428e-3, 1.7599082e-3],
        [4.3472961e-2, 4.6729510e-2, 4.3908931e-2, 4.4626982e-2, 5.4736038e-2],
    ]
)
_NIELL_HEIGHT = (2.53e-5, 5.49e-3, 1.14e-3)
_NIELL_PHASE_NS = 28 * _NS_PER_DAY
_GPS_EPOCH_DAY_OF_YEAR_NS = 6 * _NS_PER_DAY
_YEAR_NS = 31_557_600_000_000_000


@kernel
def niell_mapping(time_ns: int, lat: float, height_m: float, elevation: float) -> tuple[float, float]:
    """Hydrostatic and wet mapping function (slant over zenith delay) of Niell 1996; down to 3 degrees of elevation."""
    coefficients = np.empty(6)
    niell_coefficients(time_ns, lat, coefficients)
    return niell_slant(coefficients, height_m, elevation)


@part
def niell_coefficients(time_ns: int, lat: float, coefficients: Float64Array) -> None:
    """Write the six coefficients that `niell_slant` takes of a place and day: they are the same for all satellites."""
    year = ((time_ns + _GPS_EPOCH_DAY_OF_YEAR_NS - _NIELL_PHASE_NS) % _YEAR_NS) / _YEAR_NS
    season = math.cos(2.0 * math.pi * (year if lat >= 0.0 else year + 0.5))
    a, b, c = _niell_row(lat, _NIELL_DRY_MEAN)
    a1, b1, c1 = _niell_row(lat, _NIELL_DRY_SEASON)
    coefficients[0], coefficients[1], coefficients[2] = a - a1 * season, b - b1 * season, c - c1 * season
    coefficients[3], coefficients[4], coefficients[5] = _niell_row(lat, _NIELL_WET)


@part
def niell_slant(coefficients: Float64Array, height_m: float, elevation: float) -> tuple[float, float]:
    """Hydrostatic and wet mapping function by the coefficients of `niell_coefficients`."""
    sine = math.sin(max(elevation, 0.03))
    dry = _continued_fraction(sine, coefficients[0], coefficients[1], coefficients[2])
    lift = 1.0 / sine - _continued_fraction(sine, _NIELL_HEIGHT[0], _NIELL_HEIGHT[1], _NIELL_HEIGHT[2])
    return dry + lift * height_m / 1e3, _continued_fraction(sine, coefficients[3], coefficients[4], coefficients[5])


_VAPOUR_HPA = np.array([[26.31, 21.79, 11.66, 6.78, 4.11], [0.0, 8.85, 7.24, 5.36, 3.39], [0.0, 0.0, 0.0, 0.0, 0.0]])


@kernel
def water_vapour(time_ns: int, lat: float) -> float:
    """Pressure of water vapour at sea level that is normal for a latitude and day, hPa: RTCA DO-229D, table A-2."""
    year = ((time_ns + _GPS_EPOCH_DAY_OF_YEAR_NS - _NIELL_PHASE_NS) % _YEAR_NS) / _YEAR_NS
    mean, season, _ = _niell_row(lat, _VAPOUR_HPA)
    return mean - season * math.cos(2.0 * math.pi * (year if lat >= 0.0 else year + 0.5))


@part
def _niell_row(lat: float, table: Float64Array) -> tuple[float, float, float]:
    """The three coefficients at a latitude, linear between 15 and 75 degrees and constant outside."""
    place = min(max((abs(lat) - _NIELL_LATITUDE[0]) / (_NIELL_LATITUDE[1] - _NIELL_LATITUDE[0]), 0.0), 4.0)
    k = min(int(place), 3)
    part = place - k
    return (
        table[0, k] + part * (table[0, k + 1] - table[0, k]),
        table[1, k] + part * (table[1, k + 1] - table[1, k]),
        table[2, k] + part * (table[2, k + 1] - table[2, k]),
    )


@part
def _continued_fraction(sine: float, a: float, b: float, c: float) -> float:
    """Marini's continued fraction, 1 at the zenith."""
    return (1.0 + a / (1.0 + b / (1.0 + c))) / (sine + a / (sine + b / (sine + c)))
