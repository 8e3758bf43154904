"""Real baselines for the tests of the solvers: rover, base and navigation of one session, with truth."""

import lzma
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from caster.codec.rinex.navigation import read_navigation
from caster.codec.rinex.observation import ObservationFile
from solver.kernels.geodesy import ecef_from_geodetic, enu_axes, geodetic_from_ecef
from solver.model import Ephemerides, Epoch


@dataclass(frozen=True)
class Baseline:
    """A session of two receivers at rest."""

    rover: list[Epoch]
    base: list[Epoch]
    ephemerides: Ephemerides
    rover_ecef_m: NDArray[np.float64]
    base_ecef_m: NDArray[np.float64]


def unpacked(path: Path) -> bytes:
    return lzma.decompress(path.read_bytes())


def nagoya(shared_data: Path) -> Baseline:
    """Two mosaic-X5 a metre apart under open sky, 1 Hz, five minutes."""
    folder = shared_data / "matrtklib-static-2024-1m"
    lat, lon, height_m = (float(word) for word in (folder / "base_position.txt").read_text().split())
    return Baseline(
        rover=list(ObservationFile(unpacked(folder / "rover.obs.xz")).epochs()),
        base=list(ObservationFile(unpacked(folder / "base.obs.xz")).epochs()),
        ephemerides=read_navigation(unpacked(folder / "base.nav.xz")).ephemerides,
        rover_ecef_m=np.array([-3_817_681.3800, 3_562_839.9783, 3_650_158.3757]),
        base_ecef_m=np.array(ecef_from_geodetic(np.radians(lat), np.radians(lon), height_m)),
    )


def errors_enu_m(positions: list[NDArray[np.float64]], truth: NDArray[np.float64]) -> NDArray[np.float64]:
    """East, north, up of positions from the truth (n, 3)."""
    lat, lon, _ = geodetic_from_ecef(*truth)
    axes = np.empty((3, 3))
    enu_axes(lat, lon, axes)
    return (np.array(positions) - truth) @ axes.T
