"""`dipper rover`: a test rover at a mount."""

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from caster.errors import SourceError
from stations.commands.addresses import mount_address, wrong_usage
from stations.commands.outputs import spare_inputs
from stations.commands.running import run_to_end

if TYPE_CHECKING:
    from stations.rover import Place

__all__ = ["rover"]


def rover(
    mount: Annotated[str, typer.Argument(help="ntrip://[USER:PASS@]HOST:PORT/MOUNT")],
    ntrip: Annotated[int, typer.Option(min=1, max=2, help="NTRIP version")] = 2,
    gga: Annotated[str, typer.Option(help="LAT,LON,H to send as GGA: degrees, metres")] = "",
    upload: Annotated[str, typer.Option(help="Raw observations to send up on the same connection: a file")] = "",
    speed: Annotated[float, typer.Option(min=0, help="Of the upload; 0: as fast as it goes")] = 1.0,
    seconds: Annotated[float | None, typer.Option(min=0, help="Stop after so long")] = None,
    output: Annotated[Path | None, typer.Option(help="Where the stream's bytes go")] = None,
) -> None:
    """Take a mount's stream as a rover does, write it to a file and say what came.

    Example: dipper rover ntrip://rover:secret@localhost:2101/VRS --gga 31.2,121.5,20 --seconds 60
    """
    from stations.rover import Rover
    from stations.sources import open_source

    target = mount_address(mount)
    place = _place(gga) if gga else None
    with wrong_usage():
        pieces = open_source(upload, speed=speed) if upload else None
    spare_inputs([Path(upload)] if upload else [], output)
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(_open_output(output)) if output else None
        one = Rover(target, ntrip, _utc_s, _tow_s, place, sink)
        try:
            run_to_end(one.run(pieces, seconds))
        finally:
            for line in one.tally.summary() if one.tally.received else ():
                typer.echo(line)
    if one.is_closed:
        typer.echo(f"dipper: {target}: the caster closed the connection", err=True)
    if not one.tally.received:
        raise SourceError(f"{target}: nothing came")


def _place(text: str) -> "Place":
    from stations.rover import Place

    parts = text.split(",")
    try:
        latitude_deg, longitude_deg, height_m = (float(part) for part in parts)
        if not (abs(latitude_deg) <= 90 and abs(longitude_deg) <= 360):
            raise ValueError
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not LAT,LON,H in degrees and metres", param_hint="--gga") from None
    return Place(latitude_deg, longitude_deg, height_m)


def _open_output(path: Path) -> BinaryIO:
    try:
        return path.open("wb")
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror}") from None


def _utc_s() -> float:
    return time.time() % 86_400


def _tow_s() -> float:
    from solver.timescale import GPS_EPOCH, NS, from_utc, week_and_tow

    return week_and_tow(from_utc(round((time.time() - GPS_EPOCH.timestamp()) * NS)))[1]
