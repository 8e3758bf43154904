"""`dipper station`: push a stream to a caster."""

import asyncio
import contextlib
import time
from pathlib import Path
from typing import Annotated

import typer

from stations.commands.addresses import mount_address

__all__ = ["app"]

app = typer.Typer(no_args_is_help=True, help="Base stations: push their streams, check them, survey their antennas.")


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
    pieces = open_source(source, speed=speed, loop=loop, navigation=nav or ())
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(uplink.run(pieces, live=is_live(source) or speed > 0))
    done = uplink.counters
    dropped = f", {done.pieces_dropped} pieces dropped while not connected" if done.pieces_dropped else ""
    report(f"sent {done.bytes_sent} bytes in {done.pieces_sent} pieces{dropped}")
