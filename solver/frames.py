"""Coordinates between the realizations of ITRS, and to CGCS2000: Helmert transformations and plates' motion, by PROJ.

Between two ITRFs at one epoch the parameters that IERS publishes hold to millimetres. CGCS2000 is ITRF97 at epoch
2000.0 (GB/T 18314), so coordinates of today have to be carried back over decades: by a measured velocity of the site
where there is one, else by the motion of its plate. A plate model knows nothing of what deforms inside of it, some
millimetres a year in most of China and two centimetres in Tibet; the uncertainty that comes with the result says so.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pyproj import Transformer

from solver.timescale import to_datetime

__all__ = ["FRAMES", "PLATES", "Placed", "decimal_year", "to_cgcs2000", "to_frame"]

Floats = NDArray[np.float64]

FRAMES: Final = {
    "ITRF2020": "EPSG:9988",
    "ITRF2014": "EPSG:7789",
    "ITRF2008": "EPSG:5332",
    "ITRF2005": "EPSG:4896",
    "ITRF2000": "EPSG:4919",
    "ITRF97": "EPSG:4918",
}
"""Geocentric systems of EPSG by name. WGS 84 as broadcast today agrees with ITRF2020 to centimetres."""
PLATES: Final = frozenset("AMUR ANTA ARAB AUST CARB EURA INDI NAZC NOAM NUBI PCFC SOAM".split())
"""Plates of the ITRF2020 plate motion model (Altamimi et al. 2023), by its names."""
CGCS2000_EPOCH: Final = 2000.0
HELMERT_SIGMA_M: Final = 0.003
PLATE_SIGMA_M_PER_YEAR: Final = 0.005
"""Of a site's velocity within its plate, each coordinate: what deforms, not the model's own 0.3 mm a year."""
VELOCITY_SIGMA_M_PER_YEAR: Final = 0.001
"""Of a measured velocity, where nothing better is stated."""


@dataclass(frozen=True, slots=True)
class Placed:
    """A position in a frame at an epoch.

    Attributes:
        position_ecef_m: (3,).
        sigma_m: Standard deviation of each coordinate that the transformation itself adds.
        frame: Its name.
        epoch: Decimal year that the coordinates are of.
    """

    position_ecef_m: Floats
    sigma_m: float
    frame: str
    epoch: float


def decimal_year(time_ns: int) -> float:
    """The decimal year of an instant of GPST."""
    moment = to_datetime(time_ns)
    start, end = (moment.replace(year=year, month=1, day=1, hour=0, minute=0, second=0, microsecond=0)
                  for year in (moment.year, moment.year + 1))  # fmt: skip
    return moment.year + (moment - start) / (end - start)


def to_frame(position_ecef_m: Floats, frame: str, epoch: float, target: str) -> Placed:
    """Transform a position between ITRFs at its own epoch.

    Args:
        position_ecef_m: (3,).
        frame: A name of `FRAMES`.
        epoch: Decimal year.
        target: A name of `FRAMES`.

    Raises:
        KeyError: a frame is not known.
    """
    if frame == target:
        return Placed(np.asarray(position_ecef_m, np.float64).copy(), 0.0, target, epoch)
    x, y, z = np.asarray(position_ecef_m).tolist()
    found = _transformer(FRAMES[frame], FRAMES[target]).transform(x, y, z, epoch)
    return Placed(np.array(found[:3]), HELMERT_SIGMA_M, target, epoch)


def to_cgcs2000(
    position_ecef_m: Floats, frame: str, epoch: float, plate: str = "EURA", velocity_mps: Floats | None = None
) -> Placed:
    """Carry a position to CGCS2000: to ITRF97, then back to 2000.0 with the site.

    Args:
        position_ecef_m: (3,).
        frame: A name of `FRAMES`.
        epoch: Decimal year of the position.
        plate: That the site is on, a name of `PLATES`; EURA for most of China, AMUR for its north-east.
        velocity_mps: (3,) of the site itself, m a year in ITRF; takes the plate's place.

    Raises:
        KeyError: the frame or the plate is not known.
    """
    now = to_frame(position_ecef_m, frame, epoch, "ITRF97").position_ecef_m
    years = epoch - CGCS2000_EPOCH
    if velocity_mps is not None:
        then, per_year = now - np.asarray(velocity_mps) * years, VELOCITY_SIGMA_M_PER_YEAR
    else:
        then, per_year = _back_with_plate(now, epoch, plate), PLATE_SIGMA_M_PER_YEAR
    return Placed(then, math.hypot(HELMERT_SIGMA_M, per_year * years), "CGCS2000", CGCS2000_EPOCH)


def _back_with_plate(position_m: Floats, epoch: float, plate: str) -> Floats:
    """Where a site was in 2000.0 by the motion of its plate."""
    if plate not in PLATES:
        raise KeyError(plate)
    pipeline = f"+proj=pipeline +step +inv +init=ITRF2020:{plate} +t_epoch={CGCS2000_EPOCH}"
    x, y, z = position_m.tolist()
    return np.array(_pipeline(pipeline).transform(x, y, z, epoch)[:3])


@lru_cache(maxsize=32)
def _transformer(source: str, target: str) -> Transformer:
    return Transformer.from_crs(source, target, allow_ballpark=False)


@lru_cache(maxsize=32)
def _pipeline(text: str) -> Transformer:
    return Transformer.from_pipeline(text)
