"""From the archive to files that others read: the frames of a time span as RTCM 3, or as RINEX 3.04.

RINEX files are made by the epoch assembler, as live streams are, so that their times come from the stream itself and,
where it does not tell the date, from the time of reception. A stream may tell its date minutes after it begins, and be
a replay of another year: so it is asked for its date before its first epoch is made.
"""

from collections.abc import Iterator, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from caster.archive_store import ArchiveFile, files, read_frames
from caster.codec.rinex.header import Header
from caster.codec.rinex.writer import write_navigation, write_observations
from caster.codec.rtcm import is_msm, message_type
from caster.codec.rtcm.layouts import LEGACY_TYPES
from caster.epochs import EpochAssembler, StationDescription
from caster.errors import SourceError
from solver.ephemeris import EphemerisStore
from solver.model import Epoch
from solver.timescale import NS, from_unix

__all__ = ["export_rinex", "export_rtcm"]

_EPHEMERIDES_PER_SATELLITE = 10_000


def export_rtcm(root: Path, mount: str, output: Path, start: datetime | None, end: datetime | None) -> int:
    """Write the frames of a time span to one file; return how many there were.

    Raises:
        SourceError: The archive has none.
    """
    chosen = _files(root, mount, start, end)
    count = 0
    with output.open("wb") as file:
        for _, frame in _frames(chosen, start, end):
            file.write(frame)
            count += 1
    return count


def export_rinex(
    root: Path,
    mount: str,
    output: Path,
    navigation: Path | None,
    start: datetime | None,
    end: datetime | None,
    interval_s: float = 0.0,
) -> int:
    """Write the epochs of a time span as RINEX 3.04 observations, and the ephemerides that came with them.

    Args:
        root: The archive's folder.
        mount: The mountpoint.
        output: The observation file.
        navigation: The navigation file; None: none.
        start: Leave out what was received earlier, UTC.
        end: Leave out what was received at this time or later, UTC.
        interval_s: Keep only epochs at multiples of this; 0: all.

    Returns:
        How many epochs were written. They are held in memory: about 6 kB each.

    Raises:
        SourceError: The archive has no epochs of this time.
    """
    chosen = _files(root, mount, start, end)
    dated_ns = _own_date(chosen, start, end)
    assembler = EpochAssembler(dated_ns, ephemerides=EphemerisStore(_EPHEMERIDES_PER_SATELLITE))
    epochs = [epoch for epoch in _epochs(assembler, chosen, start, end) if _on_grid(epoch.time_ns, interval_s)]
    if not epochs:
        raise SourceError(f"{mount}: no epochs among the archive's frames of this time")
    with output.open("w", encoding="ascii", errors="replace") as file:
        file.writelines(write_observations(epochs, _header(mount, assembler.station, interval_s)))
    if navigation is not None:
        with navigation.open("w", encoding="ascii") as file:
            file.writelines(write_navigation(assembler.ephemerides.snapshot()))
    return len(epochs)


def _files(root: Path, mount: str, start: datetime | None, end: datetime | None) -> list[ArchiveFile]:
    chosen = files(root, mount, start, end)
    if not chosen:
        raise SourceError(f"{mount}: nothing in the archive {root} of this time")
    return chosen


def _frames(chosen: Sequence[ArchiveFile], start: datetime | None, end: datetime | None) -> Iterator[tuple[int, bytes]]:
    for file in chosen:
        with suppress(FileNotFoundError):  # retention removed it a moment ago
            yield from read_frames(file, start, end)


def _own_date(chosen: Sequence[ArchiveFile], start: datetime | None, end: datetime | None) -> int | None:
    """An instant of GPST by which a stream dates itself; None where it does not."""
    assembler = EpochAssembler(before_ns=from_unix(int(chosen[-1].end.timestamp()) * NS))
    observed: set[int] = set()
    for _, frame in _frames(chosen, start, end):
        number = message_type(frame)
        if is_msm(number) or number in LEGACY_TYPES:  # one of each kind tells the time of week
            if number in observed:
                continue
            observed.add(number)
        assembler.push(frame)
        if assembler.time_ns is not None:
            break
    assembler.finish()
    return assembler.time_ns


def _epochs(
    assembler: EpochAssembler, chosen: Sequence[ArchiveFile], start: datetime | None, end: datetime | None
) -> Iterator[Epoch]:
    for received_unix_ns, frame in _frames(chosen, start, end):
        yield from assembler.push(frame, from_unix(received_unix_ns))
    yield from assembler.finish()


def _on_grid(time_ns: int, interval_s: float) -> bool:
    """Receivers' time tags may be off by some milliseconds."""
    step_ns = round(interval_s * NS)
    return not step_ns or (time_ns + 5_000_000) % step_ns < 10_000_000


def _header(mount: str, station: StationDescription, interval_s: float) -> Header:
    header = Header(
        marker_name=mount,
        marker_number=str(station.station),
        receiver_serial=station.receiver_serial,
        receiver_type=station.receiver,
        receiver_version=station.firmware,
        antenna_serial=station.antenna_serial,
        antenna_type=station.antenna,
        position_ecef_m=station.position_ecef_m,
        interval_s=interval_s or float("nan"),
    )
    if station.antenna_height_m > 0:
        header.antenna_delta_m[0] = station.antenna_height_m
    return header
