"""The way of a station's stream to a caster: NTRIP 1 `SOURCE` or NTRIP 2 `POST`, again and again.

Rules: the stream is never kept for later. While there is no connection, a live source's data is dropped and counted,
and a source that only runs when it is asked for (`live=False`) waits. A connection that was lost, or refused because
the mount is still taken, is tried again after a wait that doubles up to a minute, with jitter, so that a caster that
comes back is not stormed. When the very first attempt fails in another way, that is final: it is the user's to mend.
"""

import asyncio
import contextlib
import os
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import unquote, urlsplit

from caster.backoff import Backoff
from caster.codec.ntrip import (
    LAST_CHUNK,
    Credentials,
    Refused,
    ReplyReader,
    StreamOpened,
    TableReceived,
    encode_chunk,
    post_request,
    source_request,
)
from caster.errors import ConfigError, DipperError, RefusedError, SourceError

__all__ = ["Target", "Uplink", "UplinkCounters", "connect", "parse_target"]

DEFAULT_PORTS: Final = {"ntrip": 2101, "ntrips": 443}
ANSWER_TIMEOUT_S: Final = 10.0
"""A caster that accepts the connection and says nothing for so long is taken for dead."""
WRITE_TIMEOUT_S: Final = 10.0
"""A connection that takes no bytes for so long is given up: what would come through it is stale."""
WAIT_FIRST_S: Final = 1.0
WAIT_MAX_S: Final = 60.0
_MOUNT_TAKEN: Final = 409
_FORM: Final = "not an address of the form ntrip://USER:PASS@HOST:PORT/MOUNT"


@dataclass(frozen=True, slots=True)
class Target:
    """Where a stream goes to or comes from: an `ntrip://` address, or `ntrips://` for TLS."""

    host: str
    port: int
    mount: str
    credentials: Credentials | None
    tls: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"ntrip{'s' * self.tls}://{host}:{self.port}/{self.mount}"


@dataclass(slots=True)
class UplinkCounters:
    """What an uplink did: bytes and pieces sent, pieces dropped while there was no connection, connections made."""

    bytes_sent: int = 0
    pieces_sent: int = 0
    pieces_dropped: int = 0
    connections: int = 0


def parse_target(address: str) -> Target:
    """Read `ntrip[s]://[USER:PASS@]HOST[:PORT]/MOUNT`; user and password may be percent-encoded.

    Raises:
        ConfigError: it is something else; the text never shows the password.
    """
    try:
        parts = urlsplit(address)
    except ValueError:  # brackets of IPv6 that do not close
        raise ConfigError(_FORM) from None
    try:
        port = parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
    except ValueError:
        raise ConfigError("the port of the NTRIP address is not a number from 1 to 65535") from None
    if parts.scheme not in DEFAULT_PORTS or not parts.hostname:
        raise ConfigError(_FORM)
    credentials = None
    if parts.username is not None:
        credentials = Credentials(unquote(parts.username), unquote(parts.password or ""))
    return Target(parts.hostname, port, unquote(parts.path.lstrip("/")), credentials, parts.scheme == "ntrips")


async def connect(host: str, port: int, *, tls: bool = False) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a TCP connection, with TLS where asked for: the certificate must be of a known authority and for the host.

    Raises:
        SourceError: there is none to be had; the text names the address.
    """
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT_S):
            return await asyncio.open_connection(host, port, ssl=ssl.create_default_context() if tls else None)
    except TimeoutError:
        raise SourceError(f"{host}:{port}: no answer within {ANSWER_TIMEOUT_S:.0f} s") from None
    except ssl.SSLError as error:
        raise SourceError(f"{host}:{port}: TLS: {_tls_reason(error)}") from None
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else error.strerror or str(error)
        if tls and not reason:
            reason = "the connection was closed in the TLS handshake: does this port speak TLS?"
        raise SourceError(f"{host}:{port}: {reason}") from None


def _tls_reason(error: ssl.SSLError) -> str:
    """What OpenSSL says, without its file and line."""
    return str(getattr(error, "verify_message", "") or error.reason or error).lower().replace("_", " ")


@dataclass(slots=True)
class _Connection:
    """An open stream to a caster and the task that watches for its end."""

    writer: asyncio.StreamWriter
    watcher: asyncio.Task[str]

    async def close(self) -> None:
        self.watcher.cancel()
        self.writer.close()
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await asyncio.gather(self.watcher, self.writer.wait_closed(), return_exceptions=True)


@dataclass(slots=True)
class Uplink:
    """Pushes one stream to one caster.

    Attributes:
        target: The caster, mount and credentials; version 1 sends the password alone.
        version: NTRIP version, 1 or 2.
        report: Takes one line of text for each thing that happens.
        counters: What was done so far.
    """

    target: Target
    version: int = 2
    report: Callable[[str], None] = lambda _: None
    wait_first_s: float = WAIT_FIRST_S
    counters: UplinkCounters = field(default_factory=UplinkCounters)
    _connection: _Connection | None = None

    async def run(self, source: AsyncIterator[bytes], *, live: bool = True) -> None:
        """Push until the source ends.

        Args:
            source: Pieces of the stream, each of whole frames.
            live: The source runs on whether it is read or not, so what cannot be sent now is dropped.

        Raises:
            RefusedError: the caster refuses the very first attempt.
            SourceError: the source fails, or the caster cannot be reached at the very first attempt.
        """
        try:
            self._connection = await self._open()
        except RefusedError as error:
            if error.status != _MOUNT_TAKEN:
                raise
            self.report(str(error))
        attempt: asyncio.Task[None] | None = None
        try:
            async for piece in source:
                if self._connection is None:
                    attempt = attempt or asyncio.create_task(self._reopen(), name=f"reconnect {self.target}")
                    if live and not attempt.done():
                        self.counters.pieces_dropped += 1
                        continue
                    await attempt
                    attempt = None
                await self._send(piece)
            await self._finish()
        finally:
            if attempt is not None:
                attempt.cancel()
                await asyncio.gather(attempt, return_exceptions=True)
            if self._connection is not None:
                await self._connection.close()

    async def _open(self) -> _Connection:
        """Connect, ask to be taken as the mount's source and wait for the answer."""
        reader, writer = await connect(self.target.host, self.target.port, tls=self.target.tls)
        try:
            writer.write(self._request())
            async with asyncio.timeout(ANSWER_TIMEOUT_S):
                await _answered(reader, str(self.target))
        except BaseException as error:
            writer.close()
            if isinstance(error, TimeoutError):
                raise SourceError(f"{self.target}: no answer within {ANSWER_TIMEOUT_S:.0f} s") from None
            if isinstance(error, OSError):
                raise SourceError(f"{self.target}: {error.strerror or error}") from None
            raise
        self.counters.connections += 1
        self.report(f"connected to {self.target}")
        return _Connection(writer, asyncio.create_task(_watch(reader), name=f"watch {self.target}"))

    def _request(self) -> bytes:
        target = self.target
        if self.version == 1:
            return source_request(target.mount, target.credentials.password if target.credentials else "")
        return post_request(target.mount, f"{target.host}:{target.port}", credentials=target.credentials)

    async def _reopen(self) -> None:
        """Try again, with growing waits, until it works."""
        backoff = Backoff(self.wait_first_s, WAIT_MAX_S)
        while True:
            pause_s = backoff.next_s()
            self.report(f"trying {self.target} again in {pause_s:.1f} s")
            await asyncio.sleep(pause_s)
            try:
                self._connection = await self._open()
                return
            except DipperError as error:
                self.report(str(error))

    async def _send(self, piece: bytes) -> None:
        """Send a piece now, or find that the connection is gone."""
        connection = self._connection
        assert connection is not None
        try:
            if connection.watcher.done():
                raise ConnectionError(connection.watcher.result())
            connection.writer.write(piece if self.version == 1 else encode_chunk(piece))
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                await connection.writer.drain()
        except (OSError, TimeoutError) as error:
            reason = str(error) or f"it took no data for {WRITE_TIMEOUT_S:.0f} s"
            self.report(f"lost {self.target}: {reason}")
            self.counters.pieces_dropped += 1
            self._connection = None
            connection.writer.transport.abort()
            await connection.close()
            return
        self.counters.bytes_sent += len(piece)
        self.counters.pieces_sent += 1

    async def _finish(self) -> None:
        """End the stream in form, so that nothing that was sent is lost on the way."""
        if self._connection is None:
            return
        writer = self._connection.writer
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(WRITE_TIMEOUT_S):
                if self.version == 2:
                    writer.write(LAST_CHUNK)
                await writer.drain()
                if writer.can_write_eof():
                    writer.write_eof()


async def _answered(reader: asyncio.StreamReader, name: str) -> None:
    """Read until the caster says yes.

    Raises:
        RefusedError: it says no.
    """
    replies = ReplyReader()
    while True:
        data = await reader.read(4096)
        for reply in replies.receive_data(data) if data else replies.receive_eof():
            if isinstance(reply, StreamOpened):
                return
            if isinstance(reply, Refused):
                raise RefusedError(f"{name}: the caster refuses: {reply.reason or reply.status}", reply.status)
            if isinstance(reply, TableReceived):
                raise RefusedError(f"{name}: the caster answers with its sourcetable", 404)
        if not data:
            raise SourceError(f"{name}: the caster closed the connection")


async def _watch(reader: asyncio.StreamReader) -> str:
    """Read whatever the caster says until it closes; return why."""
    try:
        while await reader.read(4096):
            pass
    except OSError as error:
        return error.strerror or str(error)
    return "the caster closed the connection"
