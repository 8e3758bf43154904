"""Calibrated antennas of a job: which they are, and their epochs moved to the reference points.

That is done once, with what was read, before any mode solves it. So all modes have it, and none has any of it to do.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from caster.codec.antex import read_antex
from caster.errors import ConfigError, FormatError
from solver.antenna import Antenna, at_reference_point, find_antenna
from solver.model import Ephemerides, Epoch
from solver.observed import Selection
from solver.signals import SIGNALS_PER_SYSTEM, SYSTEMS
from solver.spp import SppOptions, solve_all
from stations.compressed import read_plain

if TYPE_CHECKING:
    from caster.epochs import StationDescription
    from stations.solve import Job

__all__ = ["antennas_of", "calibrated"]


def calibrated(
    job: "Job", path: Path, stations: "Sequence[StationDescription]", stated: Sequence[str] = ("", "")
) -> "Job":
    """A job whose epochs are those of antennas without any size, at the rover's and the base's reference points.

    Where an antenna is not calibrated, the job stays as it is. Warnings tell, also which signals take the calibration
    of another frequency.

    Args:
        job: As it was read.
        path: An ANTEX file.
        stations: The rover's and the base's.
        stated: Names of their antennas that count instead of those of the files, where not empty.

    Raises:
        ConfigError: A stated antenna is not in the file.
        DipperError: The file cannot be read.
    """
    names = [
        (name, "") if name else (station.antenna, station.antenna_serial)
        for station, name in zip(stations, stated, strict=True)
    ]
    antennas = antennas_of(path, names, job.warnings, stated)
    if antennas is None:
        return job
    moves = (True, job.mode == "moving-base")
    moved = []
    for antenna, epochs, has_moved in zip(antennas, (job.rover, job.base), moves, strict=True):
        at_m = np.broadcast_to(job.base_ecef_m, (len(epochs), 3))
        if has_moved:
            at_m = _places(epochs, job.ephemerides, at_m)
        pairs = zip(epochs, at_m, strict=True)
        moved.append([at_reference_point(epoch, antenna, place_m, job.ephemerides) for epoch, place_m in pairs])
        if told := antenna.stand_ins(_signals(epochs, job.selection)):
            name = " ".join(antenna.name.split())
            job.warnings.append(f"{name}: bands without a calibration take the nearest one's: {', '.join(told)}")
    return replace(job, rover=moved[0], base=moved[1])


def antennas_of(
    path: Path, names: Sequence[tuple[str, str]], warnings: list[str], stated: Sequence[str] = ()
) -> list[Antenna] | None:
    """The calibrations of antennas, each a name and a serial number; None with a warning where one is missing.

    Raises:
        ConfigError: One is missing whose name is stated.
        DipperError: the file cannot be read.
    """
    try:
        known = read_antex(read_plain(path), {word for name, _ in names for word in name.split()[:1]})
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
    found: list[Antenna] = []
    for name, serial in names:
        antenna, spoken = find_antenna(known, name, serial), " ".join(name.split())
        if antenna is None:
            missing = f"{path}: no calibration of {spoken or 'an antenna that is not named'}"
            if spoken and name in stated:
                raise ConfigError(missing)
            warnings.append(f"{missing}: none is applied")
            return None
        if antenna.name.endswith("NONE") and " " in spoken and not spoken.endswith(" NONE"):
            warnings.append(f"{path}: {spoken}: calibrated without its radome alone, which is taken")
        found.append(antenna)
    return found


def _signals(epochs: Sequence[Epoch], selection: Selection) -> list[int]:
    """Signals of a recording that are of selected systems."""
    present = np.flatnonzero(np.bincount(np.concatenate([epoch.signal for epoch in epochs])))
    return [number for number in present.tolist() if SYSTEMS[number // SIGNALS_PER_SYSTEM] in selection.systems]


def _places(epochs: Sequence[Epoch], ephemerides: Ephemerides, else_m: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) where a receiver was by single positions; without one, where it was last, or at first."""
    fixes = list(solve_all(epochs, ephemerides, SppOptions()))
    known = np.flatnonzero([bool(fix.quality) for fix in fixes])
    if not len(known):
        return else_m
    latest = np.maximum(np.searchsorted(known, np.arange(len(fixes)), side="right") - 1, 0)
    found: NDArray[np.float64] = np.array([fix.position_ecef_m for fix in fixes])[known[latest]]
    return found
