"""Recordings of RTCM 3 streams: reading one as frames, and what must be known of it before its first message.

A recording may begin minutes before it says which week it is or which channel a GLONASS satellite has. So it is gone
through twice: first for `Facts`, then for its messages.
"""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from caster.codec.rtcm import FrameReader, is_msm, message_type
from caster.codec.rtcm.layouts import LEGACY_TYPES
from caster.epochs import EpochAssembler
from caster.errors import SourceError
from solver.timescale import from_unix
from stations.compressed import is_compressed, read_plain

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["DATE_ASSUMED", "Facts", "learn", "open_recording", "read_frames", "written_ns"]

CHUNK_BYTES: Final = 1 << 16
PROGRESS_BYTES_MIN: Final = 2 << 20
"""Smaller files are read before a progress bar is of use."""
_HEAD_BYTES: Final = 80
DATE_ASSUMED: Final = "it counts its weeks to 1024 alone: taken as the last ones before the file was written"


@dataclass(frozen=True, slots=True)
class Facts:
    """What a whole recording says of itself.

    Attributes:
        time_ns: An instant of GPST within it; None: nothing says which week it is.
        time_is_assumed: Nothing but weeks that are counted to 1024 says so.
        channels: (64,) int8, GLONASS channel by place in the system.
    """

    time_ns: int | None
    time_is_assumed: bool
    channels: NDArray[np.int8]


@contextmanager
def open_recording(path: Path) -> Iterator[IO[bytes]]:
    """A file's bytes as a stream; what is compressed is opened by itself, in memory.

    Raises:
        SourceError: the file cannot be read, or its compressed data are damaged.
    """
    try:
        with path.open("rb") as file:
            compressed = is_compressed(file.read(_HEAD_BYTES))
            file.seek(0)
            yield io.BytesIO(read_plain(path)) if compressed else file
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from None


def read_frames(path: Path, reader: FrameReader, console: "Console | None" = None, title: str = "") -> Iterator[bytes]:
    """All good frames of a recording, with a progress bar on a terminal where it is long.

    Args:
        path: The recording.
        reader: New; its counters tell afterwards what was damaged.
        console: Where the progress is shown; None: nowhere.
        title: What is being done.
    """
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    shown = console is not None and console.is_terminal
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    with open_recording(path) as data:
        size = data.seek(0, io.SEEK_END)
        data.seek(0)
        hidden = not shown or size < PROGRESS_BYTES_MIN
        with Progress(*columns, console=console, disable=hidden, transient=True) as progress:
            task = progress.add_task(title, total=size)
            while chunk := data.read(CHUNK_BYTES):
                yield from reader.feed(chunk)
                progress.update(task, completed=data.tell())
    yield from reader.finish()


def learn(path: Path, stated_ns: int | None = None, console: "Console | None" = None) -> Facts:
    """Go through a recording for its date and its GLONASS channels.

    Args:
        path: The recording.
        stated_ns: An instant within half a week of it, where the user states one.
        console: Where the progress is shown; None: nowhere.
    """
    assembler = EpochAssembler(stated_ns, before_ns=written_ns(path))
    observed: set[int] = set()
    time_ns = stated_ns
    for frame in read_frames(path, FrameReader(), console, "Learning"):
        number = message_type(frame)
        # One message of each kind of observations tells the time of week; the rest is for later.
        if is_msm(number) or number in LEGACY_TYPES:
            if number in observed and number not in _TELLING_CHANNELS:
                continue
            observed.add(number)
        assembler.push(frame)
        time_ns = assembler.time_ns if time_ns is None else time_ns
    assembler.finish()
    found_ns = assembler.time_ns if time_ns is None else time_ns
    return Facts(found_ns, assembler.date_is_assumed, assembler.channels)


def written_ns(path: Path) -> int:
    """GPST of a file's last change, which everything recorded in it is older than.

    Raises:
        SourceError: there is no such file.
    """
    try:
        return from_unix(path.stat().st_mtime_ns)
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from None


_TELLING_CHANNELS: Final = (1085, 1087, 1010, 1012)
