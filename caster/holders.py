"""The processes that hold rovers' sockets (`caster.holder`), as the caster sees them.

A rover that follows a mountpoint is offered to the process with the fewest. Its connection goes on under a
`HeldTransport`, which passes on what it is told, and the process passes back what asyncio would have called; so a
session does not know where its socket is. Rovers by TLS stay: a TLS session cannot change its process.

Rules: a socket changes hands only while nothing waits to be written to it, so that no byte overtakes another; a
process that falls behind loses publishes as a whole, and one that ends takes its rovers along and is started again.
"""

import asyncio
import socket
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

import structlog

from caster.link import FANOUT, LINK_BYTES_MAX, OFFER, SIZE, Kind, MessageReader, pack
from caster.session import Connection

__all__ = ["HeldTransport", "Holders"]

_log = structlog.get_logger(__name__)

_FLUSH_S: Final = 0.05
_END_S: Final = 5.0
_RESTART_S: Final = 1.0


class HeldTransport(asyncio.Transport):
    """Stands for a socket in another process."""

    def __init__(self, link: "_Link", number: int, peername: object) -> None:
        super().__init__({"peername": peername})
        self._link = link
        self._number = number
        self._closing = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes to this rover alone."""
        if not self._link.is_full:
            self._link.tell(Kind.SEND, self._number, bytes(data))

    def get_write_buffer_size(self) -> int:
        """The other process bounds what waits."""
        return 0

    def is_closing(self) -> bool:
        """`close` or `abort` was called."""
        return self._closing

    def close(self) -> None:
        """Close when all is sent."""
        self._end(Kind.CLOSE)

    def abort(self) -> None:
        """Close now."""
        self._end(Kind.ABORT)

    def _end(self, kind: Kind) -> None:
        self._closing = True
        self._link.tell(kind, self._number)


class _Link(asyncio.Protocol):
    """One process: `caster.fanout.Link` for the fan-outs."""

    transport: asyncio.Transport

    def __init__(self, offers: socket.socket, on_end: Callable[["_Link"], None]) -> None:
        self.connections: dict[int, Connection] = {}
        self._offers = offers
        self._on_end = on_end
        self._reader = MessageReader()
        self._actions: Final[dict[Kind, Callable[[Connection, bytes], object]]] = {
            Kind.ADOPTED: lambda connection, _: self._take_over(connection),
            Kind.RECEIVED: lambda connection, data: connection.data_received(data),
            Kind.EOF: lambda connection, _: connection.eof_received(),
            Kind.LOST: self._on_lost,
            Kind.STALLED: lambda connection, _: connection.pause_writing(),
            Kind.RESUMED: lambda connection, _: connection.resume_writing(),
            Kind.DROPPED: _on_dropped,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The process is there."""
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        """Call the sessions as asyncio would."""
        for kind, number, payload in self._reader.receive_data(data):
            if number in self.connections:
                self._actions[kind](self.connections[number], payload)

    def connection_lost(self, error: Exception | None) -> None:
        """The process has ended, and with it the connections."""
        self._offers.close()
        for connection in list(self.connections.values()):
            connection.connection_lost(ConnectionResetError("the process that held it has ended"))
        self.connections.clear()
        self._on_end(self)

    def offer(self, connection: Connection, fd: int, backlog_max: int) -> bool:
        """Pass a socket on; False where the process cannot take one now."""
        try:
            socket.send_fds(self._offers, [OFFER.pack(connection.number, backlog_max)], [fd])
        except OSError:
            return False
        self.connections[connection.number] = connection
        return True

    @property
    def is_full(self) -> bool:
        """The process is too far behind: what rovers are sent is dropped, whole, until it has caught up."""
        return self.transport.get_write_buffer_size() >= LINK_BYTES_MAX

    def tell(self, kind: Kind, number: int, data: bytes = b"") -> None:
        """Tell the process of a session."""
        if not self.transport.is_closing():
            self.transport.write(pack(kind, number, data))

    def join(self, number: int, group: int) -> None:
        """A rover is one of a fan-out's."""
        self.tell(Kind.JOIN, number, FANOUT.pack(group))

    def leave(self, number: int) -> None:
        """A rover follows nothing any more."""
        self.tell(Kind.LEAVE, number)

    def publish(self, group: int, wire: bytes) -> None:
        """Send bytes to the rovers of a fan-out, unless the process is too far behind."""
        if not self.is_full:
            self.tell(Kind.PUBLISH, group, wire)

    def _take_over(self, connection: Connection) -> None:
        """Let a connection go on with the socket that is held, as soon as nothing waits on ours."""
        if connection.number not in self.connections:  # lost while it waited
            return
        if connection.is_closing or connection.rover is None:
            del self.connections[connection.number]
            self.tell(Kind.ABORT, connection.number)
        elif connection.transport.get_write_buffer_size():
            asyncio.get_running_loop().call_later(_FLUSH_S, self._take_over, connection)
        else:
            held = HeldTransport(self, connection.number, connection.transport.get_extra_info("peername"))
            connection.move(held)
            connection.rover.outlet.move(held, self, connection.number)

    def _on_lost(self, connection: Connection, data: bytes) -> None:
        del self.connections[connection.number]
        if isinstance(connection.transport, HeldTransport):
            connection.connection_lost(ConnectionResetError() if data else None)
        else:  # it went before it changed hands: the socket here tells
            connection.transport.resume_reading()


def _on_dropped(connection: Connection, data: bytes) -> None:
    if connection.rover is not None:
        connection.rover.outlet.dropped += 1
        connection.rover.outlet.count(-SIZE.unpack(data)[0])


class Holders:
    """So many processes, kept running.

    Args:
        count: Of processes; with 0 every socket stays here.
    """

    def __init__(self, count: int) -> None:
        self._count = count
        self._links: list[_Link] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._stopping = False

    async def start(self) -> None:
        """Start the processes."""
        await asyncio.gather(*(self._begin() for _ in range(self._count)))

    async def stop(self) -> None:
        """End the processes; call it when the sessions have ended."""
        self._stopping = True
        for link in list(self._links):
            link.transport.close()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=_END_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    def offer(self, connection: Connection) -> None:
        """A rover follows a mountpoint: let a process hold its socket, if it may leave here."""
        rover = connection.rover
        if not self._links or rover is None or rover.outlet.fd < 0 or not connection.is_movable:
            return
        link = min(self._links, key=lambda link: len(link.connections))
        connection.transport.pause_reading()
        if not link.offer(connection, rover.outlet.fd, connection.server.config.limits.backlog_bytes):
            connection.transport.resume_reading()

    async def _begin(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        offers, their_offers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        offers.setblocking(False)
        fds = (theirs.fileno(), their_offers.fileno())
        with theirs, their_offers:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "caster.holder", *map(str, fds), pass_fds=fds, stdin=asyncio.subprocess.DEVNULL
            )
        loop = asyncio.get_running_loop()
        _, link = await loop.create_connection(lambda: _Link(offers, self._links.remove), sock=ours)
        if self._stopping:
            link.transport.close()
        self._links.append(link)
        task = asyncio.create_task(self._keep(process, link), name=f"holder {process.pid}")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _keep(self, process: asyncio.subprocess.Process, link: _Link) -> None:
        """Wait for a process's end, and start another in its place."""
        try:
            status = await process.wait()
        except asyncio.CancelledError:
            with suppress(ProcessLookupError):
                process.kill()
            raise
        link.transport.close()
        if not self._stopping:
            _log.error("a process that held rovers has ended", pid=process.pid, status=status)
            await self._begin_again()

    async def _begin_again(self) -> None:
        while not self._stopping:
            await asyncio.sleep(_RESTART_S)
            try:
                return await self._begin()
            except OSError as error:  # no process or descriptor left; rovers are served from here meanwhile
                _log.error("a process to hold rovers cannot be started", error=str(error))
