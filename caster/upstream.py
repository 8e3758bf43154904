"""A stream pulled from another caster: its address, and an open connection that gives the stream's bytes.

`Upstream` reads `ntrip://USER:PASSWORD@HOST:PORT/MOUNT` (`ntrips://` for TLS, `?version=1` for casters that break on
version 2). `Feed.open` connects, asks, and returns once the caster has said yes; all that goes wrong is a `DipperError`
that names the caster and never shows the password.
"""

import asyncio
import socket
import ssl
import struct
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self
from urllib.parse import parse_qs, unquote, urlsplit

from caster.codec.ntrip import (
    ClientReply,
    Credentials,
    Record,
    Refused,
    ReplyReader,
    StreamData,
    StreamEnded,
    StreamOpened,
    TableReceived,
    get_request,
)
from caster.errors import ConfigError, DipperError, RefusedError, SourceError

__all__ = ["Feed", "Upstream", "fetch_table"]

_OPEN_TIMEOUT_S: Final = 15.0
_READ_BYTES: Final = 65_536
_RESET: Final = struct.pack("ii", 1, 0)
_PORTS: Final = {"ntrip": 2101, "ntrips": 443}


@dataclass(frozen=True, slots=True)
class Upstream:
    """Where a stream comes from.

    Attributes:
        host: Name or address.
        port: TCP port.
        mount: The mountpoint there.
        credentials: Login, or None.
        tls: Speak TLS.
        version: Of NTRIP, in the request.
    """

    host: str
    port: int
    mount: str
    credentials: Credentials | None = None
    tls: bool = False
    version: int = 2

    @classmethod
    def parse(cls, url: str, *, needs_mount: bool = True) -> Self:
        """Read an address.

        Args:
            url: The address.
            needs_mount: It must name a mountpoint, as it need not for a caster's table.

        Raises:
            ConfigError: It is none; the text never shows the password.
        """
        parts = urlsplit(url)
        version = parse_qs(parts.query).get("version", ["2"])[-1]
        try:
            port = parts.port or _PORTS.get(parts.scheme, 0)
        except ValueError:
            port = 0
        mount = unquote(parts.path.lstrip("/"))
        if not (port and parts.hostname and (mount or not needs_mount) and version in ("1", "2")):
            where = "/MOUNT" if needs_mount else ""
            raise ConfigError(f"not an address such as ntrip://USER:PASSWORD@HOST:PORT{where} or ntrips://...")
        user = None if parts.username is None else Credentials(unquote(parts.username), unquote(parts.password or ""))
        return cls(parts.hostname, port, mount, user, parts.scheme == "ntrips", int(version))

    def __str__(self) -> str:
        """The address without its login."""
        return f"{'ntrips' if self.tls else 'ntrip'}://{self.host}:{self.port}/{self.mount}"

    def of_mount(self, mount: str) -> Self:
        """A mountpoint of the same caster."""
        return replace(self, mount=mount)

    def tls_context(self, ca_file: Path | None) -> ssl.SSLContext | None:
        """What to check the caster's certificate with.

        Raises:
            ConfigError: The certificates cannot be read.
        """
        if not self.tls:
            return None
        try:
            return ssl.create_default_context(cafile=str(ca_file) if ca_file else None)
        except OSError as error:
            raise ConfigError(f"ca_file: {ca_file}: {error.strerror or error}") from None


class Feed:
    """An open stream.

    Attributes:
        upstream: Where it comes from.
        version: The NTRIP version of the answer.
    """

    def __init__(self, upstream: Upstream, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.upstream = upstream
        self.version = 0
        self._reader = reader
        self._writer = writer
        self._reply = ReplyReader()
        self._early = b""
        self._ended = False

    @classmethod
    async def open(cls, upstream: Upstream, *, gga: bytes = b"", ca_file: Path | None = None) -> Self:
        """Connect and ask for the stream.

        Args:
            upstream: Where.
            gga: A position to send along, as a GGA sentence.
            ca_file: Certificates to trust instead of the system's.

        Raises:
            DipperError: The caster cannot be reached, refuses, or breaks the protocol.
        """
        context = upstream.tls_context(ca_file)
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                feed = cls(upstream, *await asyncio.open_connection(upstream.host, upstream.port, ssl=context))
                try:
                    await feed._ask(gga)
                except BaseException:
                    feed.close()
                    raise
                return feed
        except TimeoutError:
            raise SourceError(f"{upstream}: no answer within {_OPEN_TIMEOUT_S:.0f} s") from None
        except OSError as error:
            raise SourceError(f"{upstream}: {error.strerror or error}") from None

    async def read(self) -> bytes:
        """The next bytes of the stream; empty at its end. It may be cancelled and called again.

        Raises:
            DipperError: The connection broke, or the caster breaks the protocol.
        """
        data, self._early = self._early, b""
        while not data and not self._ended:
            try:
                received = await self._reader.read(_READ_BYTES)
            except OSError as error:
                raise SourceError(f"{self.upstream}: {error.strerror or error}") from None
            data = self._take(received)
        return data

    def send(self, data: bytes) -> None:
        """Send upstream: a position; a caster that takes nothing is not waited for."""
        if self._writer.transport.get_write_buffer_size() < _READ_BYTES:
            self._writer.write(data)

    def close(self) -> None:
        """End the connection by a reset: casters may take a mere end of file for a half-closed client's."""
        sock = self._writer.get_extra_info("socket")
        if sock is not None and sock.fileno() >= 0:
            with suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self._writer.transport.abort()

    async def _ask(self, gga: bytes) -> None:
        up = self.upstream
        host, line = f"{up.host}:{up.port}", gga.decode("ascii").strip()
        self._writer.write(get_request(up.mount, host, version=up.version, credentials=up.credentials, gga=line) + gga)
        while not self.version:
            received = await self._reader.read(_READ_BYTES)
            self._early += self._take(received)
            if not received and not self.version:
                raise SourceError(f"{up}: the caster closed the connection without an answer")

    def _take(self, received: bytes) -> bytes:
        """The stream's bytes among what was received."""
        try:
            events = self._reply.receive_data(received) if received else self._reply.receive_eof()
        except DipperError as error:
            raise SourceError(f"{self.upstream}: {error}") from None
        self._ended = self._ended or not received
        return b"".join(map(self._on_event, events))

    def _on_event(self, event: ClientReply) -> bytes:
        match event:
            case StreamData(data):
                return data
            case StreamOpened(version):
                self.version = version
            case StreamEnded():
                self._ended = True
            case TableReceived():
                raise RefusedError(f"{self.upstream}: there is no such mountpoint", 404)
            case Refused(status, reason):
                raise RefusedError(
                    f"{self.upstream}: refused: {status or ''} {reason}".replace("  ", " "), status or 403
                )
        return b""


async def fetch_table(upstream: Upstream, ca_file: Path | None = None) -> list[Record]:
    """The sourcetable of a caster.

    Raises:
        DipperError: The caster cannot be reached, refuses, or breaks the protocol.
    """
    context = upstream.tls_context(ca_file)
    try:
        async with asyncio.timeout(_OPEN_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(upstream.host, upstream.port, ssl=context)
            try:
                host = f"{upstream.host}:{upstream.port}"
                writer.write(get_request("", host, version=upstream.version, credentials=upstream.credentials))
                return await _read_table(upstream, reader)
            finally:
                writer.transport.abort()
    except TimeoutError:
        raise SourceError(f"{upstream}: no table within {_OPEN_TIMEOUT_S:.0f} s") from None
    except OSError as error:
        raise SourceError(f"{upstream}: {error.strerror or error}") from None


async def _read_table(upstream: Upstream, reader: asyncio.StreamReader) -> list[Record]:
    reply = ReplyReader()
    while True:
        received = await reader.read(_READ_BYTES)
        try:
            events = reply.receive_data(received) if received else reply.receive_eof()
        except DipperError as error:
            raise SourceError(f"{upstream}: {error}") from None
        for event in events:
            if isinstance(event, TableReceived):
                return list(event.records)
            if not isinstance(event, StreamData):
                raise RefusedError(f"{upstream}: sent no table: {event}", 502)
        if not received:
            raise SourceError(f"{upstream}: the table broke off")
