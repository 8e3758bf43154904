"""Files as they come: gzip, xz, bzip2, zip, compress (.Z) and Hatanaka's CRINEX are opened by their first bytes."""

import bz2
import io
import lzma
import os
import threading
import warnings
import zipfile
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

from caster.errors import SourceError

__all__ = ["ReadAhead", "Reader", "is_compressed", "read_plain"]

BYTES_MAX: Final = 4 << 30
"""The most that one file may hold when decompressed: a day of 1 Hz observations of all systems is about 1 GB."""
_LAYERS_MAX: Final = 3
_THREADS: Final = min(max((os.cpu_count() or 1) - 1, 1), 2)
"""Beside the one that loads the solver meanwhile, which takes as long as two large files do."""
_CRINEX_LABEL: Final = b"CRINEX VERS   / TYPE"
_MAX_HEAD: Final = 80
_GZIP_BITS: Final = 16 + zlib.MAX_WBITS
"""As zlib names streams with gzip's head."""
_GZIP: Final = b"\x1f\x8b"
_XZ: Final = b"\xfd7zXZ\x00"
_BZIP2: Final = b"BZh"
_CATCHING: Final = threading.Lock()
"""Python catches warnings for all threads at once."""

Opener = Callable[[bytes, list[str]], bytes]
Reader = Callable[[Path, list[str]], bytes]
"""What gives the content of a file, unpacked, and adds what was left out of it to a list."""


def is_compressed(head: bytes) -> bool:
    """Whether a file that begins with these bytes (80 or more where it has them) is compressed."""
    return _opener(head) is not None


def read_plain(path: Path, complaints: list[str] | None = None) -> bytes:
    """A file's content without its compression, whatever its name.

    Args:
        path: The file.
        complaints: What was left out of a CRINEX file is added to them.

    Raises:
        SourceError: the file cannot be read, is not what its first bytes say, or is too large.
    """
    try:
        data = path.read_bytes()
        for _ in range(_LAYERS_MAX):
            opener = _opener(data)
            if opener is None:
                break
            met: list[str] = []
            data = opener(data, met)
            if complaints is not None:
                complaints += [f"{path}: {text}" for text in met]
            if len(data) > BYTES_MAX:
                raise SourceError(f"{path}: holds more than {BYTES_MAX} bytes")
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from None
    except (EOFError, ValueError, RuntimeError, lzma.LZMAError, zlib.error, zipfile.BadZipFile) as error:
        raise SourceError(f"{path}: damaged compressed file: {error}") from None
    return data


class ReadAhead:
    """Files that are opened by threads of their own while other work goes on; each is handed out once.

    Args:
        paths: The files.
    """

    def __init__(self, paths: Iterable[Path]) -> None:
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="read")
        self._complaints: dict[Path, list[str]] = {path: [] for path in paths}
        self._data: dict[Path, Future[bytes]] = {
            path: pool.submit(read_plain, path, found) for path, found in self._complaints.items()
        }
        pool.shutdown(wait=False)

    def read(self, path: Path, complaints: list[str] | None = None) -> bytes:
        """What `read_plain` says of a file."""
        waiting = self._data.pop(path, None)
        if waiting is None:
            return read_plain(path, complaints)
        data = waiting.result()
        if complaints is not None:
            complaints += self._complaints[path]
        return data


def _opener(data: bytes) -> Opener | None:
    """What undoes the outer compression, and adds what it leaves out to a list; None where there is none."""
    if _CRINEX_LABEL in data[:_MAX_HEAD]:
        return _uncrinex
    return next((opener for magic, opener in _OPENERS.items() if data.startswith(magic)), None)


def _uncrinex(data: bytes, left_out: list[str]) -> bytes:
    import hatanaka

    try:
        with _CATCHING, warnings.catch_warnings(record=True) as met:
            warnings.simplefilter("always")
            plain: bytes = hatanaka.crx2rnx(data)
    except hatanaka.HatanakaException as error:
        raise ValueError(f"of CRINEX: {error}") from None
    left_out += [" ".join(str(one.message).split()) for one in met]
    return plain


def _uncompress(data: bytes, _: list[str]) -> bytes:
    import ncompress

    return ncompress.decompress(data)  # type: ignore[no-any-return]


def _streams(begin: Callable[[], Any], magic: bytes, data: bytes) -> bytes:
    """The content of compressed streams, one after the other; padding behind them is left out.

    Each is undone by one call, during which other threads run; Python's own files would ask for the interpreter again
    after every 8 kB.
    """
    parts: list[bytes] = []
    room = BYTES_MAX + 1
    while data.startswith(magic) and room:
        stream = begin()
        parts.append(stream.decompress(data, room))
        room -= len(parts[-1])
        if not stream.eof and room:
            raise EOFError("it ends in the midst of its data")
        data = stream.unused_data
    return b"".join(parts)


def _unzip(data: bytes, _: list[str]) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = [info for info in archive.infolist() if not info.is_dir()]
        if len(names) != 1:
            raise ValueError(f"the archive holds {len(names)} files instead of one")
        with archive.open(names[0]) as stream:
            return stream.read(BYTES_MAX + 1)


_OPENERS: Final[dict[bytes, Opener]] = {
    _GZIP: lambda data, _: _streams(lambda: zlib.decompressobj(_GZIP_BITS), _GZIP, data),
    _XZ: lambda data, _: _streams(lzma.LZMADecompressor, _XZ, data),
    _BZIP2: lambda data, _: _streams(bz2.BZ2Decompressor, _BZIP2, data),
    b"PK\x03\x04": _unzip,
    b"\x1f\x9d": _uncompress,
}
