"""`dipper station survey`: coordinates of an antenna."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from stations.survey import Survey

__all__ = ["survey"]

_WARNINGS_MAX = 20


def survey(
    source: Annotated[list[Path], typer.Argument(help="Files of the antenna to survey: RTCM 3, RINEX, UBX, SBF")],
    base: Annotated[
        list[Path] | None, typer.Option(help="A file of a base; several: each another base. None: single positions")
    ] = None,
    base_position: Annotated[
        list[str] | None, typer.Option(help="X,Y,Z of the bases in the same order; default: as their files tell")
    ] = None,
    base_sigma: Annotated[str, typer.Option(help="How good those are, E,N,U in m")] = "0.01,0.01,0.02",
    nav: Annotated[list[Path] | None, typer.Option(help="Ephemerides; default: those in or beside the files")] = None,
    antex: Annotated[Path | None, typer.Option(help="Calibrations of all antennas: an ANTEX file")] = None,
    systems: Annotated[str, typer.Option(help="RINEX letters of the systems to use")] = "GREJC",
    elevation_mask: Annotated[float, typer.Option(min=0.0, max=80.0, help="Degrees")] = 10.0,
    frame: Annotated[str, typer.Option(help="Of the bases' coordinates: ITRF2020, ITRF2014 ...")] = "",
    epoch: Annotated[float, typer.Option(help="Decimal year of these; default: that of the data")] = 0.0,
    to: Annotated[str, typer.Option(help="Carry the result to this frame: CGCS2000 or an ITRF")] = "",
    plate: Annotated[str, typer.Option(help="The site's plate, for CGCS2000: EURA, AMUR ...")] = "EURA",
    velocity: Annotated[str, typer.Option(help="VX,VY,VZ of the site, m a year, in place of the plate's")] = "",
) -> None:
    """Coordinates of an antenna, with their covariance and frame, against bases or alone.

    Example: dipper station survey site.obs --base one.obs --base two.obs --nav brdc.nav --frame ITRF2020 --to CGCS2000
    """
    from solver.observed import Selection
    from stations.encode import navigation_beside
    from stations.survey import Bases
    from stations.survey import survey as run

    _check_frames(frame, to, plate, stated=bool(frame) or not base)
    places = [_triple(text, "--base-position") for text in base_position or []]
    if len(places) > len(base or []):
        raise typer.BadParameter("more positions than bases", param_hint="--base-position")
    east, north, up = _triple(base_sigma, "--base-sigma").tolist()
    if min(east, north, up) <= 0.0:
        raise typer.BadParameter(f"{base_sigma}: standard deviations are larger than 0", param_hint="--base-sigma")
    motion = _triple(velocity, "--velocity") if velocity else None
    folders = [name for name in [*source, *(base or [])] if name.parent.is_dir()]
    beside = list(dict.fromkeys(other for name in folders for other in navigation_beside(name)))
    selection = Selection(systems.upper(), elevation_mask=math.radians(elevation_mask))
    found = run(source, Bases(base or [], places, (east, north, up), antex), nav or beside, selection)
    _print_survey(found, frame, epoch, to, plate, motion)


def _check_frames(frame: str, to: str, plate: str, *, stated: bool) -> None:
    """Refuse names that are none before anything is read.

    Raises:
        BadParameter: one is not known, or the frame to come from is not stated.
    """
    from solver.frames import FRAMES, PLATES

    for word, known, option in (
        (frame, sorted(FRAMES), "--frame"),
        (to, sorted([*FRAMES, "CGCS2000"]), "--to"),
        (plate, sorted(PLATES), "--plate"),
    ):
        if word and word not in known:
            raise typer.BadParameter(f"{word}: not one of {', '.join(known)}", param_hint=option)
    if to and not stated:
        raise typer.BadParameter("--to needs to know the frame of the bases' coordinates", param_hint="--frame")


def _triple(text: str, option: str) -> "NDArray[np.float64]":
    """Three numbers.

    Raises:
        BadParameter: they are none.
    """
    import numpy as np

    try:
        values = [float(word) for word in text.split(",")]
    except ValueError:
        values = []
    if len(values) != 3 or not all(map(math.isfinite, values)):
        raise typer.BadParameter(f"{text}: not three numbers with commas between them", param_hint=option)
    return np.array(values)


def _print_survey(
    found: "Survey", frame: str, epoch: float, to: str, plate: str, velocity: "NDArray[np.float64] | None"
) -> None:
    """The report, and the coordinates in another frame if asked for."""
    from solver.frames import decimal_year, to_cgcs2000, to_frame
    from stations.survey import BROADCAST_FRAME, report

    own = frame or ("" if found.adjusted is not None else BROADCAST_FRAME)
    when = epoch or decimal_year((found.start_ns + found.end_ns) // 2)
    for line in report(found, own, when):
        typer.echo(line)
    if to:
        place = found.position_ecef_m
        moved = to_cgcs2000(place, own, when, plate, velocity) if to == "CGCS2000" else to_frame(place, own, when, to)
        coordinates = " ".join(f"{value:.4f}" for value in moved.position_ecef_m)
        typer.echo(f"{moved.frame} at {moved.epoch:.3f}  {coordinates}, with {moved.sigma_m:.3f} m more of sigma")
    for warning in found.warnings[:_WARNINGS_MAX]:
        typer.echo(f"dipper: {warning}", err=True)
