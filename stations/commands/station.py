"""`dipper station`: push a stream to a caster, check what a station records."""

import math
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caster.errors import SourceError
from stations.commands.addresses import mount_address, shown, wrong_usage
from stations.commands.running import run_to_end
from stations.commands.solve import ManyValues
from stations.commands.survey import survey

if TYPE_CHECKING:
    from stations.quality import Report
    from stations.recordings import Recording

__all__ = ["app"]

app = typer.Typer(
    help="Base stations: push their streams, check them, survey their antennas.",
    no_args_is_help=True,
    epilog="Example: dipper station push serial:///dev/ttyACM0?baud=460800 --to ntrip://base1:PASSWORD@localhost/BASE1",
)
app.command(cls=ManyValues)(survey)


@app.command()
def push(
    source: Annotated[
        str, typer.Argument(help="A file, tcp://HOST:PORT, serial:///dev/ttyACM0?baud=460800 or ntrip://...")
    ],
    to: Annotated[str, typer.Option(help="ntrip://USER:PASS@HOST:PORT/MOUNT")],
    ntrip: Annotated[int, typer.Option(min=1, max=2, help="NTRIP version; 1 sends the password alone")] = 2,
    speed: Annotated[float, typer.Option(min=0, help="Of a file; 0: as fast as it goes")] = 1.0,
    loop: Annotated[bool, typer.Option("--loop", help="Begin a file again at its end, with its own time tags")] = False,
    nav: Annotated[
        list[Path] | None, typer.Option(help="Ephemerides to send with a file's observations; default: those beside it")
    ] = None,
) -> None:
    """Push a station's stream to a caster until the source ends; reconnect with growing waits.

    Example: dipper station push base.rtcm3 --to ntrip://base:secret@localhost:2101/BASE1
    """
    from stations.sources import is_live, open_source
    from stations.uplink import Uplink

    def report(line: str) -> None:
        typer.echo(f"{time.strftime('%H:%M:%S')} {line}", err=True)

    uplink = Uplink(mount_address(to), ntrip, report)
    with wrong_usage():
        pieces = open_source(source, speed=speed, loop=loop, navigation=nav or ())

    async def work() -> None:
        if is_live(source):
            report(f"waiting for data of {shown(source)}")
        await uplink.run(await _primed(pieces, source), live=is_live(source) or speed > 0)

    run_to_end(work())
    done = uplink.counters
    dropped = f", {done.pieces_dropped} pieces dropped while not connected" if done.pieces_dropped else ""
    report(f"sent {done.bytes_sent} bytes in {done.pieces_sent} pieces{dropped}")


async def _primed(pieces: AsyncIterator[bytes], source: str) -> AsyncIterator[bytes]:
    """A source once it has given something: casters ban stations that connect and have nothing to send.

    Raises:
        SourceError: It ends without having given anything.
    """
    first = await anext(pieces, None)
    if first is None:
        raise SourceError(f"{shown(source)}: nothing came")

    async def whole() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return whole()


@app.command()
def check(
    source: Annotated[list[Path], typer.Argument(help="Files of one station: RTCM 3, RINEX, UBX, SBF")],
    nav: Annotated[
        list[Path] | None, typer.Option(help="Ephemerides for its position; default: those in or beside it")
    ] = None,
) -> None:
    """Report a recording's quality: signals, rate, gaps, slips, C/N0, code multipath, position.

    Example: dipper station check base.rtcm3
    """
    from stations.encode import navigation_beside
    from stations.framefiles import written_ns
    from stations.quality import examine
    from stations.recordings import Session, UndatedError

    session = Session()
    for path in nav or [other for name in source if name.parent.is_dir() for other in navigation_beside(name)]:
        session.read_navigation(path)
    try:
        recording = session.read(source)
    except UndatedError:
        recording = session.read(source, stated_ns=written_ns(source[0]))
        recording.warnings.append("nothing says which week it is: taken as that in which the file was written")
    report = examine(recording.epochs, session.ephemerides.snapshot(), recording.position_ecef_m)
    _print_report(recording, report)


def _print_report(recording: "Recording", report: "Report") -> None:
    from rich.console import Console
    from rich.table import Table

    from solver.signals import signal_name
    from solver.timescale import to_datetime

    console = Console()
    start = to_datetime(recording.epochs[0].time_ns)
    station = recording.station
    console.print(f"{station.receiver or 'receiver unknown'}, {station.antenna or 'antenna unknown'}", highlight=False)
    console.print(
        f"{report.epochs} epochs from {start:%Y-%m-%d %H:%M:%S} GPST over {report.span_s:g} s, every "
        f"{report.interval_s:g} s: {report.availability:.1%} there, {len(report.gaps)} gaps, the longest "
        f"{max((length for _, length in report.gaps), default=0.0):g} s"
    )
    console.print("satellites  " + "  ".join(f"{letter} {mean:.1f}" for letter, mean in report.satellites.items()))
    table = Table("signal", "sats", "rows", "code and phase", "slips", "silent", "C/N0 dB-Hz", "multipath m")
    for one in report.signals:
        table.add_row(
            signal_name(one.signal), str(one.satellites), str(one.observations), f"{one.complete:.1%}", str(one.slips),
            str(one.silent), f"{one.cn0_dbhz:.1f}", f"{one.multipath_m:.2f}",
        )  # fmt: skip
    console.print(table)
    if report.positions:
        offset = " ".join(f"{value:+.2f}" for value in report.offset_enu_m)
        scatter = " ".join(f"{value:.2f}" for value in report.scatter_enu_m)
        told = "that of 1005 or 1006" if recording.surveyed else "the header's"
        where = f"{offset} m E N U from {told}, " if math.isfinite(report.offset_enu_m[0]) else "none is stated, "
        console.print(f"{report.positions} single positions: {where}scatter {scatter} m")
    else:
        console.print("no single position could be solved: are there ephemerides? --nav gives them")
    if station.moves:
        console.print(f"the stated position moved {station.moves} times, the last time by {station.moved_m:.3f} m")
    for warning in recording.warnings[:20]:
        console.print(warning, highlight=False)
