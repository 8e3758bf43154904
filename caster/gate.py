"""Listeners whose connections do not begin with a request: TLS, and those behind a proxy.

A gate accepts a connection, reads the PROXY header where the peer is a trusted proxy, looks at the next byte without
taking it, and hands the socket to asyncio, with TLS or without. A client that speaks plain text on the TLS port is
told so. Every step has a time limit, and there is a limit on how many connections may stand in the gates.
"""

import asyncio
import socket
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Iterable
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import structlog

from caster.codec.ntrip import response
from caster.codec.proxy import ProxyReader
from caster.config import TlsListen
from caster.errors import ConfigError, RemoteProtocolError
from caster.session import BANNED

if TYPE_CHECKING:
    from caster.server import Server

__all__ = ["Certificate", "Gate", "is_within"]

_log = structlog.get_logger(__name__)

_HELLO: Final = 0x16  # the first byte of a TLS handshake record, RFC 8446 section 5.1
_SHUTDOWN_S: Final = 5.0  # how long a client may take to answer the end of its TLS session
_NO_SOCKET_WAIT_S: Final = 1.0


def is_within(address: str, networks: Iterable[Any]) -> bool:
    """An address belongs to one of some networks."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return False
    return any(parsed in network for network in networks)


# asyncio gives every TLS connection 256 KiB of buffer, though a record has 16 KiB and a little (RFC 8446 section 5.2).
_TLS_BUFFER_BYTES: Final = 17 << 10


class Certificate:
    """A certificate and its key from files, read again when they change.

    Args:
        config: Names the files.
        section: Of the configuration, for errors.

    Attributes:
        context: For new connections.

    Raises:
        ConfigError: The files are none.
    """

    def __init__(self, config: TlsListen, section: str = "tls") -> None:
        self._section = section
        SSLProtocol.max_size = _TLS_BUFFER_BYTES
        self._files = (config.certificate, config.key)
        self._stamps = self._read_stamps()
        self.context = self._load()

    def reload(self) -> None:
        """Read the files again if they changed; where they are bad, the old certificate stays."""
        try:
            stamps = self._read_stamps()
            if stamps != self._stamps:
                self.context, self._stamps = self._load(), stamps
                _log.info("certificate read again", certificate=str(self._files[0]))
        except ConfigError as error:
            _log.error("the certificate stays as it was", error=str(error))

    def _load(self) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        try:
            context.load_cert_chain(*self._files)
        except OSError as error:  # ssl.SSLError is one
            names = " and ".join(map(str, self._files))
            raise ConfigError(
                f"{self._section}: {names}: no certificate and its key: {error.strerror or error}"
            ) from None
        return context

    def _read_stamps(self) -> list[tuple[int, int, int]]:
        return [_stamp(path, self._section) for path in self._files]


def _stamp(path: Path, section: str) -> tuple[int, int, int]:
    try:
        found = path.stat()
    except OSError as error:
        raise ConfigError(f"{section}: {path}: {error.strerror}") from None
    return found.st_mtime_ns, found.st_size, found.st_ino


class Gate:
    """One listening socket.

    Args:
        server: Whose connections they become.
        sock: The socket, listening.
        certificate: For TLS; None for plain connections.
    """

    def __init__(self, server: "Server", sock: socket.socket, certificate: Certificate | None) -> None:
        self._server = server
        self._sock = sock
        self._certificate = certificate
        self._entering: set[asyncio.Task[None]] = set()
        self._accepting = asyncio.create_task(self._accept(), name="accept connections")

    def close(self) -> None:
        """Accept no more; who stands in the gate is sent away."""
        for task in (self._accepting, *self._entering):
            task.cancel()

    async def wait_closed(self) -> None:
        """Wait until everything is closed."""
        await asyncio.gather(self._accepting, *self._entering, return_exceptions=True)
        self._sock.close()

    def reload(self) -> None:
        """Read a changed certificate."""
        if self._certificate is not None:
            self._certificate.reload()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, peer = await loop.sock_accept(self._sock)
            except OSError as error:  # no descriptor is left, or the client has gone already
                _log.warning("cannot accept a connection", error=error.strerror)
                await asyncio.sleep(_NO_SOCKET_WAIT_S)
                continue
            if len(self._entering) >= self._server.config.limits.handshakes:
                self._turn_away(sock, "too many handshakes", peer[0])
            else:
                task = asyncio.create_task(self._let_in(sock, peer[0].removeprefix("::ffff:")), name="let in")
                self._entering.add(task)
                task.add_done_callback(self._entering.discard)
            await asyncio.sleep(0)  # a flood of connections must not keep the loop from everything else

    async def _let_in(self, sock: socket.socket, address: str) -> None:
        try:
            async with asyncio.timeout(self._server.config.limits.head_timeout_s):
                address = await self._read_address(sock, address)
                is_hello = self._certificate is not None and await _peek(sock) == _HELLO
        except (TimeoutError, OSError, RemoteProtocolError) as error:
            is_bad = isinstance(error, RemoteProtocolError)
            self._turn_away(sock, f"bad PROXY header: {error}" if is_bad else "closed before a request", address)
        except BaseException:
            sock.close()
            raise
        else:
            await self._hand_over(sock, address, is_hello)

    async def _read_address(self, sock: socket.socket, address: str) -> str:
        if not is_within(address, self._server.config.listen.proxies):
            return address
        reader, header = ProxyReader(), None
        while header is None:
            data = await asyncio.get_running_loop().sock_recv(sock, reader.wanted)
            if not data:
                raise ConnectionResetError
            header = reader.receive_data(data)
        return header.address or address

    async def _hand_over(self, sock: socket.socket, address: str, is_hello: bool) -> None:
        ban = self._server.bans.find(address)
        if ban is not None and self._server.bans.is_told(ban):
            self._turn_away(sock, BANNED, address)
            return
        connect = partial(asyncio.get_running_loop().connect_accepted_socket, partial(self._server.connection, address))
        if self._certificate is None:
            await connect(sock)
        elif not is_hello:
            await self._answer_plain(sock, address)
        else:
            timeout_s = self._server.config.limits.head_timeout_s
            try:
                await connect(
                    sock,
                    ssl=self._certificate.context,
                    ssl_handshake_timeout=timeout_s,
                    ssl_shutdown_timeout=_SHUTDOWN_S,
                )
            except OSError:  # ssl.SSLError, a reset or a time-out; asyncio has closed the socket
                self._server.count_end("request", "TLS handshake failed", address)

    async def _answer_plain(self, sock: socket.socket, address: str) -> None:
        """Take what has come, lest the answer is lost in a reset, and say what is wrong."""
        config = self._server.config
        reason = "this port speaks TLS: connect with ntrips:// or https://, or to another port"
        try:
            sock.recv(config.limits.head_bytes)
            sock.send(response.refusal(400, reason, config.server_name, self._server.utc()))
            sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        self._turn_away(sock, "plain text on the TLS port", address)

    def _turn_away(self, sock: socket.socket, reason: str, address: str) -> None:
        sock.close()
        self._server.count_end("request", reason, address)
        if ":" in reason:
            _log.warning("connection refused", reason=reason)


async def _peek(sock: socket.socket) -> int:
    """The next byte, which stays in the socket.

    Raises:
        ConnectionResetError: The client has closed.
    """
    loop, readable = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(sock, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(sock)
    data = sock.recv(1, socket.MSG_PEEK)
    if not data:
        raise ConnectionResetError
    return data[0]
