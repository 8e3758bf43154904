"""Coordinates of an antenna from its recording: against any number of bases, or alone by single positions.

Each base gives a baseline with its covariance (`solver.static`); all are adjusted together with the bases' coordinates,
which are taken to be good to `Bases.sigma_enu_m`, and tested (`solver.adjustment`). What comes out is in the frame of
the bases' coordinates, or of the broadcast orbits where there is none; if that frame is stated, it can be carried to
another one (`solver.frames`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from caster.errors import SourceError
from solver.adjustment import Adjusted, Baseline, Known, adjust
from solver.kernels.geodesy import enu_axes, geodetic_from_ecef
from solver.model import Quality
from solver.observed import Selection
from solver.static import StaticSolution
from solver.timescale import to_datetime
from stations.antennas import calibrated
from stations.recordings import Recording, Session
from stations.solve import Job, base_position
from stations.static import average_singles, enu_deviations_m, solve_session

__all__ = ["BROADCAST_FRAME", "BaseLine", "Bases", "Survey", "report", "survey"]

Floats = NDArray[np.float64]

BROADCAST_FRAME: Final = "ITRF2020"
"""WGS 84 as broadcast agrees with it to centimetres, far better than single positions do."""


@dataclass(frozen=True, slots=True)
class Bases:
    """The bases of a survey.

    Attributes:
        paths: A file of each.
        positions_ecef_m: Coordinates in the same order; fewer or none: what their files tell.
        sigma_enu_m: How good the coordinates are, 1 sigma.
        antex: Calibrations of all antennas.
    """

    paths: Sequence[Path] = ()
    positions_ecef_m: Sequence[Floats] = ()
    sigma_enu_m: tuple[float, float, float] = (0.01, 0.01, 0.02)
    antex: Path | None = None


@dataclass(frozen=True, slots=True)
class BaseLine:
    """One base of a survey: its name, its place, and what came of the baseline."""

    name: str
    position_ecef_m: Floats
    solution: StaticSolution


@dataclass(frozen=True, slots=True)
class Survey:
    """Where an antenna is.

    Attributes:
        position_ecef_m: (3,) its reference point.
        covariance_m2: (3, 3).
        quality: FIX or FLOAT by baselines, SINGLE without any.
        start_ns: First epoch.
        end_ns: Last epoch.
        epochs: How many were there.
        lines: The baselines, in the order of the bases.
        adjusted: Their adjustment; None without any.
        antenna: What the recording says of it.
        height_m: Of the reference point above the marker; NaN: not told.
        warnings: What was amiss.
    """

    position_ecef_m: Floats
    covariance_m2: Floats
    quality: Quality
    start_ns: int
    end_ns: int
    epochs: int
    lines: list[BaseLine] = field(default_factory=list)
    adjusted: Adjusted | None = None
    antenna: str = ""
    height_m: float = math.nan
    warnings: list[str] = field(default_factory=list)


def survey(
    sources: Sequence[Path], bases: Bases, navigation: Sequence[Path] = (), selection: Selection | None = None
) -> Survey:
    """Survey an antenna.

    Args:
        sources: Its recordings.
        bases: What it is surveyed against; none: single positions are averaged.
        navigation: Further ephemerides.
        selection: Which observations may be used.

    Raises:
        DipperError: a file cannot be read, or no position comes of it.
    """
    chosen, session = selection or Selection(), Session()
    for path in navigation:
        session.read_navigation(path)
    recording = session.read(list(sources))
    others = [session.read([path], stated_ns=recording.epochs[0].time_ns) for path in bases.paths]
    warnings = session.warnings + recording.warnings
    found = _alone(recording, session, chosen)
    if others:
        lines = [
            _line(recording, other, number, bases, session, chosen, warnings) for number, other in enumerate(others)
        ]
        found = _together(found, lines, bases, warnings)
    return replace(
        found, antenna=recording.station.antenna, height_m=recording.station.antenna_height_m, warnings=warnings
    )


def _alone(recording: Recording, session: Session, selection: Selection) -> Survey:
    """The average of single positions."""
    average = average_singles(recording.epochs, session.ephemerides.snapshot(), selection)
    if average is None:
        raise SourceError("no single position could be solved: are there ephemerides? --nav gives them")
    first, last = recording.epochs[0].time_ns, recording.epochs[-1].time_ns
    return Survey(average.position_ecef_m, average.covariance_m2, Quality.SINGLE, first, last, len(recording.epochs))


def _line(
    recording: Recording, base: Recording, number: int, bases: Bases, session: Session, selection: Selection,
    warnings: list[str],
) -> BaseLine:  # fmt: skip
    """The baseline from one base."""
    name = bases.paths[number].name
    warnings += base.warnings
    stated = bases.positions_ecef_m[number] if number < len(bases.positions_ecef_m) else None
    told: list[str] = []
    ephemerides = session.ephemerides.snapshot()
    place = base_position(base, ephemerides, stated, told)
    job = Job("static", recording.epochs, base.epochs, place, ephemerides, selection, warnings=told)
    if bases.antex:
        job = calibrated(job, bases.antex, (recording.station, base.station))
    warnings += [f"{name}: {text}" for text in told]
    return BaseLine(name, place, solve_session(job))


def _together(alone: Survey, lines: list[BaseLine], bases: Bases, warnings: list[str]) -> Survey:
    """All baselines adjusted, those with integers alone where there are any."""
    best = min((line.solution.quality for line in lines if line.solution.quality), default=Quality.NONE)
    good = [line for line in lines if line.solution.quality == best]
    for line in lines:
        if line.solution.quality != Quality.FIX:
            kind = "no solution" if line.solution.quality in (Quality.NONE, Quality.SINGLE) else "no integers"
            warnings.append(f"{line.name}: {kind}: {line.solution.reason}")
    if best not in (Quality.FIX, Quality.FLOAT):
        return replace(alone, lines=lines)
    known, baselines = [], []
    for number, line in enumerate(good, 1):
        axes = _axes(line.position_ecef_m)
        known.append(Known(number, line.position_ecef_m, axes.T @ np.diag(np.square(bases.sigma_enu_m)) @ axes))
        vector = line.solution.position_ecef_m - line.position_ecef_m
        baselines.append(Baseline(number, 0, vector, line.solution.covariance_m2))
    adjusted = adjust(len(good) + 1, known, baselines)
    warnings += [
        f"{line.name}: left out: it does not fit the others (T {value:.0f})"
        for line, value, used in zip(good, adjusted.test, adjusted.used, strict=True)
        if not used
    ]
    return replace(
        alone,
        position_ecef_m=adjusted.position_ecef_m[0],
        covariance_m2=adjusted.covariance_m2[:3, :3],
        quality=best,
        lines=good + [line for line in lines if line.solution.quality != best],
        adjusted=adjusted,
    )


def report(found: Survey, frame: str, epoch: float) -> list[str]:
    """A survey in plain lines.

    Args:
        found: The survey.
        frame: Name of the frame of its coordinates; empty: not stated.
        epoch: Decimal year of the coordinates.
    """
    latitude, longitude, height_m = geodetic_from_ecef(*found.position_ecef_m.tolist())
    axes = _axes(found.position_ecef_m)
    deviations = np.sqrt(np.diag(axes @ found.covariance_m2 @ axes.T))
    start, end = to_datetime(found.start_ns), to_datetime(found.end_ns)
    how = "single positions" if found.adjusted is None else f"{int(found.adjusted.used.sum())} baselines"
    above = f" {found.height_m:.4f} m above the marker" if math.isfinite(found.height_m) else ""
    span = f"{start:%Y-%m-%d %H:%M:%S} to {end:%Y-%m-%d %H:%M:%S} GPST"
    lines = [
        f"{found.epochs} epochs, {span}, by {how}: {found.quality.name.lower()}",
        f"antenna {found.antenna or 'not named'}, reference point{above}",
        *_base_lines(found),
        "ECEF X Y Z m        " + " ".join(f"{value:.4f}" for value in found.position_ecef_m),
        f"lat lon height      {math.degrees(latitude):.9f} {math.degrees(longitude):.9f} {height_m:.4f}",
        "standard deviation  " + " ".join(f"{name} {value:.4f}" for name, value in zip("ENU", deviations, strict=True)),
        "covariance XYZ m²   " + " ".join(f"{found.covariance_m2[i, j]:.3e}" for i in range(3) for j in range(i, 3)),
    ]
    if frame:
        return [*lines, f"frame               {frame} at {epoch:.3f}"]
    return [*lines, "frame               that of the bases' coordinates, which was not stated (--frame)"]


def _base_lines(found: Survey) -> list[str]:
    """A line for each base."""
    lines = []
    for number, line in enumerate(found.lines):
        solution = line.solution
        length_km = float(np.linalg.norm(solution.position_ecef_m - line.position_ecef_m)) / 1e3
        text = f"base {line.name}: {length_km:.3f} km, {solution.quality.name.lower()}"
        if solution.quality in (Quality.FIX, Quality.FLOAT):
            deviations = " ".join(f"{1e3 * value:.1f}" for value in enu_deviations_m(solution))
            text += f", {solution.fixed} of {solution.ambiguities} combinations, sigma E N U {deviations} mm"
        if found.adjusted is not None and number < len(found.adjusted.residual_m):
            east, north, up = 1e3 * (_axes(line.position_ecef_m) @ found.adjusted.residual_m[number])
            text += f", residual E N U {east:+.1f} {north:+.1f} {up:+.1f} mm"
            text += "" if math.isnan(found.adjusted.test[number]) else f", T {found.adjusted.test[number]:.1f}"
        lines.append(text)
    return lines


def _axes(position_m: Floats) -> Floats:
    axes = np.empty((3, 3))
    latitude, longitude, _ = geodetic_from_ecef(*position_m.tolist())
    enu_axes(latitude, longitude, axes)
    return axes
