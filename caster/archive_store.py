"""The archive's files: where a station's frames lie, their index, and reading them back.

    FOLDER/STR1/2026/STR1_2026051508.rtcm3     the frames received from 08:00 to 09:00 UTC, as they came
    FOLDER/STR1/2026/STR1_2026051508.idx       rows of (time of reception, offset), 16 bytes each

A file of a whole day has no hour in its name. A data file is nothing but whole frames, so any RTCM tool reads it; the
index tells when they were received, and may be shorter than the data (a process that was killed) without harm: rows are
written after the bytes that they point to. Bytes of a mountpoint that is not RTCM lie in `.raw` files.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from caster.codec.rtcm.framing import frame_spans
from caster.errors import FormatError

__all__ = ["INDEX_ROW", "ArchiveFile", "data_path", "files", "folder_name", "index_path", "read_frames", "whole_end"]

INDEX_ROW: Final = struct.Struct("<qQ")
"""Time of reception, ns since 1970 UTC; offset in the data file."""
_FRAME_BYTES_MAX: Final = 1029
_PERIODS: Final = {8: ("%Y%m%d", timedelta(days=1)), 10: ("%Y%m%d%H", timedelta(hours=1))}
_SUFFIXES: Final = (".rtcm3", ".raw")


@dataclass(frozen=True, slots=True)
class ArchiveFile:
    """One file of the archive.

    Attributes:
        mount: The mountpoint.
        path: The data file.
        start: Of its period, UTC.
        end: Of its period, UTC.
        size: Bytes.
    """

    mount: str
    path: Path
    start: datetime
    end: datetime
    size: int


def folder_name(mount: str) -> str:
    """A mountpoint's folder: its name, with nothing that a file system takes for another folder."""
    return mount.replace(".", "%2E", 1) if mount.startswith(".") else mount


def data_path(root: Path, mount: str, received_unix_ns: int, *, daily: bool = False, raw: bool = False) -> Path:
    """The file that bytes received at an instant belong to."""
    moment = datetime.fromtimestamp(received_unix_ns // 10**9, UTC)
    pattern, _ = _PERIODS[8 if daily else 10]
    folder = root / folder_name(mount) / f"{moment:%Y}"
    return folder / f"{folder_name(mount)}_{moment.strftime(pattern)}{_SUFFIXES[raw]}"


def index_path(path: Path) -> Path:
    """The index of a data file."""
    return path.with_suffix(".idx")


def files(root: Path, mount: str = "", start: datetime | None = None, end: datetime | None = None) -> list[ArchiveFile]:
    """The archive's files in order of mountpoint and time.

    Args:
        root: The archive's folder; if there is none, there are no files.
        mount: Only of this mountpoint.
        start: Only files whose period ends later, UTC.
        end: Only files whose period begins earlier, UTC.
    """
    folders = [root / folder_name(mount)] if mount else sorted(root.iterdir()) if root.is_dir() else []
    found = [file for folder in folders for path in folder.glob("[0-9]*/*") if (file := _file(folder, path))]
    chosen = (file for file in found if (start is None or file.end > start) and (end is None or file.start < end))
    return sorted(chosen, key=lambda file: (file.mount, file.start, file.path.name))


def _file(folder: Path, path: Path) -> ArchiveFile | None:
    prefix, _, stamp = path.stem.rpartition("_")
    if prefix != folder.name or path.suffix not in _SUFFIXES or len(stamp) not in _PERIODS or not stamp.isdecimal():
        return None
    pattern, length = _PERIODS[len(stamp)]
    try:
        start = datetime.strptime(stamp, pattern).replace(tzinfo=UTC)
        return ArchiveFile(folder.name.replace("%2E", "."), path, start, start + length, path.stat().st_size)
    except (ValueError, OSError):  # not ours, or removed a moment ago
        return None


def whole_end(path: Path) -> int:
    """Where the last whole frame of a data file ends: a crash of the machine may have torn what follows."""
    size = path.stat().st_size
    start = max((offset for _, offset in _rows(path, size)), default=0)
    with path.open("rb") as file:
        file.seek(start)
        spans, _ = frame_spans(np.frombuffer(file.read(), np.uint8))
    end = start + int(spans[-1, 1]) if len(spans) else start
    return end if size - end < _FRAME_BYTES_MAX else size


def read_frames(
    file: ArchiveFile, start: datetime | None = None, end: datetime | None = None
) -> Iterator[tuple[int, bytes]]:
    """The frames of one file with their times of reception, ns since 1970 UTC.

    Args:
        file: From `files`.
        start: Leave out what was received earlier, UTC.
        end: Leave out what was received at this time or later, UTC.

    Raises:
        FormatError: The mountpoint's stream is not RTCM.
    """
    if file.path.suffix != ".rtcm3":
        raise FormatError(f"{file.path}: the stream of {file.mount} is not RTCM 3")
    data = file.path.read_bytes()
    spans, _ = frame_spans(np.frombuffer(data, np.uint8))
    rows = _rows(file.path, len(data)) or [(round(file.start.timestamp() * 1e9), 0)]
    offsets = np.array([offset for _, offset in rows])
    places = np.clip(np.searchsorted(offsets, spans[:, 0], side="right") - 1, 0, None)
    first_ns = round(start.timestamp() * 1e9) if start else 0
    stop_ns = round(end.timestamp() * 1e9) if end else 1 << 63
    for (begin, stop), place in zip(spans.tolist(), places.tolist(), strict=True):
        received_unix_ns = rows[place][0]
        if first_ns <= received_unix_ns < stop_ns:
            yield received_unix_ns, data[begin:stop]


def _rows(path: Path, size: int) -> list[tuple[int, int]]:
    """The rows of a data file's index that point into its `size` bytes."""
    try:
        index = index_path(path).read_bytes()
    except FileNotFoundError:
        return []
    whole = index[: len(index) // INDEX_ROW.size * INDEX_ROW.size]
    return [(received, offset) for received, offset in INDEX_ROW.iter_unpack(whole) if offset < size]
