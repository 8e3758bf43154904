"""What is expected of the atmosphere and of broadcast orbits on a baseline: how far both ends may differ, 1 sigma."""

import math
from typing import Final

from solver.jit import part
from solver.kernels import Float64Array, Records
from solver.kernels.atmosphere import water_vapour
from solver.kernels.geodesy import geodetic_from_ecef
from solver.kernels.rover import Record
from solver.signals import GLONASS, PRN_PER_SYSTEM

__all__ = ["expect_atmosphere", "expect_strays"]

NO_DELAY_M: Final = 0.004
"""Differential zenith ionosphere (1 sigma) below which it is noise rather than a state: some 8 km of baseline."""
CLIMB: Final = 4e-5
"""Error of the zenith delay for each metre of height difference: 40 per cent of 0.2 m of wet delay over a scale height
of 2 km, which is how much humidity departs from the standard's."""
TURBULENCE: Final = 3.4e-4
"""Wet zenith delay of either end, m over the cube root of a distance of many kilometres: a structure constant of
2.4e-7 m^(-1/3) in a layer of 2 km (Treuhaft and Lanyi 1987), over sqrt(2) as there are two ends."""
VAPOUR_HPA: Final = 11.7
"""Mean of 45 degrees, for which that is meant: the delay varies as there is water to vary."""
DRIEST: Final = 0.5
"""Winters are not as dry as their mean on all days."""
UNEVEN_M: Final = 0.0015
"""Wet delay that a ray has by itself, mapped to the zenith, where it has gone aside by half that layer's height: of the
3.4 mm that the structure constant gives there, what lasts for most of an hour and no zenith delay takes up."""
ORBIT_M: Final = 0.4
"""Error of a GPS broadcast orbit across the line of sight, as a baseline sees it. Ranges by GPS's ephemerides are off
by 0.7 m, by GLONASS's by 1.9 m (Montenbruck, Steigenberger and Hauschild 2015)."""
GLONASS_ORBITS: Final = 3.0
"""How much worse those of GLONASS are."""
RANGE_M: Final = 2.2e7
GRADIENT_M: Final = 0.0004
"""Gradients of the wet delay, 0.3 mm at either end: those of single stations are let walk by 0.3 mm in an hour
(Bar-Sever, Kroger and Borjesson 1998), and these are followed for two (`epoch.ZENITH_S`)."""
GRADIENT_REACH_M: Final = 6e4
"""What the wind carries past in that time: ends closer than that see some of the same slope."""
TILT: Final = 0.0032
"""Of the mapping function of gradients (Chen and Herring 1997)."""


@part
def expect_atmosphere(time_ns: int, base_m: Float64Array, how: Record, known: Record, now: Record) -> None:
    """Length of the baseline, and what the ionosphere, either end's wet delay and orbits may differ by on it.

    The zenith delay's grows with distance and, far away, with its cube root; it is larger where and when the air is
    humid.
    """
    distance2, radius2, base_radius2 = 0.0, 0.0, 0.0
    for axis in range(3):
        distance2 += (now.origin_m[axis] - base_m[axis]) ** 2
        radius2 += now.origin_m[axis] ** 2
        base_radius2 += base_m[axis] ** 2
    now.baseline_m = math.sqrt(distance2)
    delay_m = how.ionosphere_ppm * 1e-6 * now.baseline_m
    now.delay_m = delay_m * math.sqrt(known.ionosphere_factor)
    now.ionosphere_m = now.delay_m if delay_m > NO_DELAY_M else 0.0
    climb_m = math.sqrt(radius2) - math.sqrt(base_radius2)
    latitude, _, _ = geodetic_from_ecef(base_m[0], base_m[1], base_m[2])
    humidity = max(water_vapour(time_ns, latitude) / VAPOUR_HPA, DRIEST)
    wet_m = humidity * min(how.zenith_ppm * 1e-6 * now.baseline_m, TURBULENCE * now.baseline_m ** (1.0 / 3.0))
    now.zenith_m = min(0.1, math.hypot(wet_m, CLIMB * climb_m))
    now.uneven_m = UNEVEN_M * humidity
    now.gradient_m = GRADIENT_M * min(now.baseline_m / GRADIENT_REACH_M, 1.0) if now.ionosphere_m > 0.0 else 0.0
    now.orbit_m = ORBIT_M * now.baseline_m / RANGE_M


@part
def expect_strays(count: int, links: Records, now: Record, stray_m: Float64Array) -> None:
    """Write the sigma of each satellite's stray delay: its orbit's error, and water vapour that is not even around.

    What of that vapour is one slope over all of the sky is in gradients of the delay: how these reach each link is
    written as well. A ray at elevation e leaves the zenith's column by a distance that goes as cot e; delays differ
    with its cube root.

    Args:
        count: Number of links.
        links: (count,) of `LINK`; `tilt` is written.
        now: The epoch.
        stray_m: (count,) out; 0 where the baseline is too short for it to matter.
    """
    for k in range(count):
        stray_m[k] = 0.0
        links[k].tilt[0] = links[k].tilt[1] = 0.0
        if now.ionosphere_m > 0.0:
            sine = math.sin(max(links[k].elevation, 0.05))
            aside = math.sqrt(1.0 - sine * sine) / sine
            tilt = aside / (sine + TILT * aside)
            links[k].tilt[0], links[k].tilt[1] = tilt * math.cos(links[k].azimuth), tilt * math.sin(links[k].azimuth)
            orbit_m = now.orbit_m * (GLONASS_ORBITS if links[k].sat // PRN_PER_SYSTEM == GLONASS else 1.0)
            stray_m[k] = math.hypot(orbit_m, now.uneven_m * aside ** (1.0 / 3.0) / sine)
