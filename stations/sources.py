"""Sources of a station's stream by address: files replayed on their own time base, TCP, serial ports, other casters.

`open_source` gives an asynchronous iterator of bytes that are RTCM 3 or whatever the peer sends. Files give whole RTCM
frames, an epoch at a time: RTCM recordings as they are (also where they lie in a UBX log), other observations encoded
to MSM7 on the fly. With `loop`, a file begins again at its end with its old time tags: receivers and casters see that
as a stream that was started anew, and its solutions stay those of the recording.
"""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, unquote, urlsplit

import serial

from caster.codec.ntrip import ClientReply, Refused, ReplyReader, StreamData, TableReceived, get_request
from caster.codec.rtcm import FrameReader
from caster.codec.sbf import outside_blocks
from caster.errors import ConfigError, RefusedError, RemoteProtocolError, SourceError
from stations.compressed import read_plain
from stations.encode import encode_epochs, navigation_beside
from stations.recordings import Session
from stations.replay import epoch_groups, frame_tow_s, paced
from stations.uplink import Target, connect, parse_target

__all__ = ["is_live", "open_source"]

_PIECE: Final = 65_536
_DEFAULT_BAUD: Final = 115_200


def is_live(address: str) -> bool:
    """Whether a source runs by itself, not only when it is read."""
    return "://" in address and not address.startswith("file://")


def open_source(
    address: str, *, speed: float = 1.0, loop: bool = False, navigation: Sequence[Path] = ()
) -> AsyncIterator[bytes]:
    """Open a source.

    Args:
        address: A path, or `file://`, `tcp://HOST:PORT`, `serial:///dev/ttyACM0?baud=460800`,
            `ntrip://[USER:PASS@]HOST:PORT/MOUNT`, `ntrips://` for TLS.
        speed: Of a file, relative to its own time tags; 0: as fast as it is read.
        loop: Of a file: begin again at its end.
        navigation: Files with ephemerides to send along with a file's observations; without any, those beside the
            file that have its name.

    Raises:
        ConfigError: the address has no form that is known.
        SourceError: there is no such file. Other errors come while it is read.
    """
    scheme = address.partition("://")[0] if "://" in address else "file"
    if scheme == "file":
        path = Path(unquote(address.removeprefix("file://")) if "://" in address else address)
        if not path.exists():
            raise SourceError(f"{path}: No such file or directory")
        return _file(path, speed, loop, navigation)
    if scheme not in _OPENERS:
        raise ConfigError(f"a source is a file or one of {', '.join(sorted(_OPENERS))}://..., not {scheme}://")
    return _OPENERS[scheme](address)


async def _file(path: Path, speed: float, loop: bool, navigation: Sequence[Path]) -> AsyncIterator[bytes]:
    groups = await asyncio.to_thread(_groups, path, navigation)
    while True:
        async with contextlib.aclosing(paced(groups(), speed)) as pieces:
            async for piece in pieces:
                yield piece
        if not loop:
            return


def _groups(path: Path, navigation: Sequence[Path]) -> Callable[[], Iterator[tuple[float, bytes]]]:
    """What gives a file's epochs as frames: those in it, or its observations encoded.

    Raises:
        SourceError: it has neither.
    """
    data = outside_blocks(read_plain(path))
    if any(frame_tow_s(frame) is not None for frame in _frames(data)):
        return lambda: epoch_groups(_frames(data))
    session = Session()
    for other in navigation or navigation_beside(path):
        session.read_navigation(other)
    recording = session.read([path])
    return lambda: encode_epochs(recording.epochs, recording.station, session.ephemerides.snapshot())


def _frames(data: bytes) -> Iterator[bytes]:
    reader = FrameReader()
    for start in range(0, len(data), _PIECE):
        yield from reader.feed(data[start : start + _PIECE])
    yield from reader.finish()


def _tcp(address: str) -> AsyncIterator[bytes]:
    try:
        parts = urlsplit(address)
        host, port = parts.hostname, parts.port
    except ValueError:
        host = port = None
    if not host or not port:
        raise ConfigError(f"{address}: not of the form tcp://HOST:PORT")
    return _tcp_stream(address, host, port)


async def _tcp_stream(address: str, host: str, port: int) -> AsyncIterator[bytes]:
    reader, writer = await connect(host, port)
    try:
        async for data in _pieces(reader, address):
            yield data
    finally:
        writer.close()


async def _pieces(reader: asyncio.StreamReader, name: str) -> AsyncIterator[bytes]:
    while True:
        try:
            data = await reader.read(_PIECE)
        except OSError as error:
            raise SourceError(f"{name}: {error.strerror or error}") from None
        if not data:
            return
        yield data


def _ntrip(address: str) -> AsyncIterator[bytes]:
    return _ntrip_stream(parse_target(address))


async def _ntrip_stream(target: Target) -> AsyncIterator[bytes]:
    reader, writer = await connect(target.host, target.port, tls=target.tls)
    try:
        writer.write(get_request(target.mount, f"{target.host}:{target.port}", credentials=target.credentials))
        replies = ReplyReader()
        async for data in _pieces(reader, str(target)):
            for piece in _streamed(replies.receive_data(data), target):
                yield piece
        for piece in _streamed(replies.receive_eof(), target):
            yield piece
    except RemoteProtocolError as error:
        raise SourceError(f"{target}: {error}") from None
    finally:
        writer.close()


def _streamed(replies: Iterable[ClientReply], target: Target) -> Iterator[bytes]:
    """The stream's bytes in what a caster answered.

    Raises:
        RefusedError: it sent no stream.
    """
    for reply in replies:
        if isinstance(reply, StreamData):
            yield reply.data
        elif isinstance(reply, Refused):
            raise RefusedError(f"{target}: the caster refuses: {reply.reason or reply.status}", reply.status)
        elif isinstance(reply, TableReceived):
            raise RefusedError(f"{target}: the caster has no mount {target.mount!r}", 404)


def _serial(address: str) -> AsyncIterator[bytes]:
    path, _, query = address.removeprefix("serial://").partition("?")
    baud = parse_qs(query).get("baud", [str(_DEFAULT_BAUD)])[-1]
    if not path.startswith("/") or not baud.isdecimal():
        raise ConfigError(f"{address}: not of the form serial:///dev/ttyACM0?baud=460800")
    return _serial_stream(address, unquote(path), int(baud))


async def _serial_stream(address: str, path: str, baud: int) -> AsyncIterator[bytes]:
    """Bytes of a serial port, read when the port has some."""
    try:
        port = serial.Serial(path, baud, timeout=0, exclusive=True)
    except (OSError, ValueError) as error:
        number = getattr(error, "errno", None)  # pyserial's own text names number and path twice
        raise SourceError(f"{path}: {os.strerror(number) if number else error}") from None
    ready = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_reader(port.fileno(), ready.set)
    try:
        while True:
            await ready.wait()
            ready.clear()
            data = _read_port(port, address)
            if data:
                yield data
    finally:
        loop.remove_reader(port.fileno())
        port.close()


def _read_port(port: Any, address: str) -> bytes:
    try:
        return bytes(port.read(_PIECE))
    except OSError as error:  # the device was unplugged
        raise SourceError(f"{address}: {error}") from None


_OPENERS: Final[dict[str, Callable[[str], AsyncIterator[bytes]]]] = {
    "ntrip": _ntrip,
    "ntrips": _ntrip,
    "serial": _serial,
    "tcp": _tcp,
}
