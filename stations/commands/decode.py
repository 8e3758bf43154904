"""`dipper decode`: what is in an RTCM 3 recording, as a table, as JSON, or as RINEX."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from caster.errors import DipperError, FormatError, SourceError
from stations.commands.outputs import spare_inputs

if TYPE_CHECKING:
    from rich.console import Console

    from caster.codec.rinex.header import Header
    from caster.epochs import StationDescription
    from solver.model import Ephemerides, Epoch
    from stations.listing import Lister

__all__ = ["decode"]


class Format(StrEnum):
    """What `dipper decode` writes."""

    TABLE = "table"
    JSON = "json"
    RINEX = "rinex"


def decode(
    file: Annotated[
        Path,
        typer.Argument(
            help="An RTCM 3 recording, perhaps mixed with UBX or NMEA; for RINEX, any recording; compressed or not."
        ),
    ],
    format: Annotated[Format, typer.Option(help="A table, JSON (a message a line), or RINEX 3.04.")] = Format.TABLE,
    output: Annotated[
        Path | None,
        typer.Option(help="Where to write; standard output if not given. RINEX navigation goes beside it, as .nav."),
    ] = None,
    date: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="A day within three of the recording, where it does not say the week."),
    ] = None,
) -> None:
    """Show what is in an RTCM 3 stream.

    Example: dipper decode base.rtcm3.gz --format rinex --output base.obs
    """
    from rich.console import Console

    from solver.timescale import from_datetime

    spare_inputs([file], output)
    stated_ns = from_datetime(date) if date else None
    console = Console(stderr=True)
    write = {Format.TABLE: _write_table, Format.JSON: _write_json, Format.RINEX: _write_rinex}[format]
    write(file, output, stated_ns, console)


@contextmanager
def _opened(output: Path | None) -> Iterator[TextIO]:
    """The output as text; what cannot be written there is one line for the user."""
    if output is None:
        yield sys.stdout
        return
    try:
        with output.open("w", encoding="utf-8") as stream:
            yield stream
    except OSError as error:
        raise DipperError(f"{output}: {error.strerror}") from None


def _decoded(file: Path, stated_ns: int | None, console: "Console") -> "Iterator[tuple[bytes, Any, Lister]]":
    """Frames, their messages (None where one is impossible) and the lister that knows what came so far."""
    from caster.codec.rtcm import FrameReader
    from caster.codec.rtcm import decode as decode_frame
    from stations.framefiles import DATE_ASSUMED, learn, read_frames
    from stations.listing import Lister

    reader = FrameReader()
    facts = learn(file, stated_ns, console)
    if facts.time_is_assumed:
        console.print(f"{file}: {DATE_ASSUMED}; state a day with --date where it is older")
    lister = Lister(facts, reader)
    message: Any
    for frame in read_frames(file, reader, console, "Decoding"):
        try:
            message = decode_frame(frame)
        except FormatError as error:
            lister.take_fault(frame, str(error))
            message = None
        else:
            lister.take(frame, message)
        yield frame, message, lister
    if not lister.types:
        raise SourceError(
            f"{file}: no RTCM 3 message in it ({reader.counters.skipped_bytes} bytes); other logs: --format rinex"
        )


def _write_json(file: Path, output: Path | None, stated_ns: int | None, console: "Console") -> None:
    lister: Lister | None = None
    with _opened(output) as stream:
        for _, message, lister in _decoded(file, stated_ns, console):
            if message is not None:
                stream.write(json.dumps(lister.as_json(message), allow_nan=False) + "\n")
        if lister is not None:
            stream.write(json.dumps({"summary": lister.summary()}) + "\n")


def _write_table(file: Path, output: Path | None, stated_ns: int | None, console: "Console") -> None:
    from rich.console import Console

    lister: Lister | None = None
    for _, _, seen in _decoded(file, stated_ns, console):
        lister = seen
    if lister is not None:
        with _opened(output) as stream:
            page = Console(file=stream, width=None if stream.isatty() else 140)
            for part in lister.tables(file.name):
                page.print(part)


def _write_rinex(file: Path, output: Path | None, stated_ns: int | None, console: "Console") -> None:
    from caster.codec.rtcm import FrameReader
    from caster.epochs import EpochAssembler
    from solver.ephemeris import EphemerisStore
    from stations.framefiles import learn, read_frames

    facts = learn(file, stated_ns, console)
    if facts.time_ns is None or _is_sbf(file):
        _write_other(file, output)
        return
    assembler = EpochAssembler(facts.time_ns, ephemerides=EphemerisStore(200), channels=facts.channels)
    epochs = [
        epoch for frame in read_frames(file, FrameReader(), console, "Decoding") for epoch in assembler.push(frame)
    ]
    epochs += assembler.finish()
    if not epochs:
        raise SourceError(f"{file}: no observations in it")
    _write_files(file, output, epochs, assembler.station, assembler.ephemerides.snapshot())


def _is_sbf(file: Path) -> bool:
    """Whether a file holds SBF measurements: RTCM inside of its blocks is another receiver's."""
    from caster.codec.sbf import MEAS_EPOCH, sbf_blocks
    from stations.compressed import read_plain

    return any(number == MEAS_EPOCH for number, _ in sbf_blocks(read_plain(file)))


def _write_other(file: Path, output: Path | None) -> None:
    """RINEX of what is no RTCM 3, or tells no date by it: UBX and SBF logs, RINEX of another version.

    Raises:
        DipperError: there are no observations, or nothing says when they were made.
    """
    from stations.recordings import Session, UndatedError

    session = Session()
    try:
        recording = session.read([file])
    except UndatedError:
        raise SourceError(f"{file}: nothing in it says which week it is; state a day with --date") from None
    _write_files(file, output, recording.epochs, recording.station, session.ephemerides.snapshot())


def _write_files(
    file: Path, output: Path | None, epochs: "list[Epoch]", station: "StationDescription", ephemerides: "Ephemerides"
) -> None:
    """The observations, and the ephemerides beside them where the output is a file."""
    from caster.codec.rinex.writer import write_navigation, write_observations

    with _opened(output) as stream:
        _write_all(stream, write_observations(epochs, _header(file, station)))
    if output is None:
        return
    typer.echo(f"{output}: {len(epochs)} epochs", err=True)
    if count := len(ephemerides.kepler) + len(ephemerides.glonass):
        beside = output.with_suffix(".nav")
        with _opened(beside) as stream:
            _write_all(stream, write_navigation(ephemerides))
        typer.echo(f"{beside}: {count} ephemerides", err=True)


def _write_all(stream: TextIO, pieces: Iterable[str]) -> None:
    for piece in pieces:
        stream.write(piece)


def _header(file: Path, station: "StationDescription") -> "Header":
    """The position is that of the antenna reference point, so the antenna's height above it is zero."""
    from caster.codec.rinex.header import Header

    return Header(
        marker_name=file.name.split(".")[0],
        marker_number=str(station.station),
        receiver_serial=station.receiver_serial,
        receiver_type=station.receiver,
        receiver_version=station.firmware,
        antenna_serial=station.antenna_serial,
        antenna_type=station.antenna,
        position_ecef_m=station.position_ecef_m,
    )
