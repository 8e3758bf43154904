"""A process that holds rovers' sockets for the caster and sends them their streams: `python -m caster.holder`.

The caster accepts every connection, answers it and keeps its session: rights, limits, accounting and the log are in one
place. What costs is the sending, and descriptors are limited by process; so the socket of a rover that follows a
mountpoint goes to one of these processes, and with it every call that asyncio would make of the session's protocol. A
publish comes once for each fan-out and goes out by the same compiled loop (`caster.fanout`) as in the caster itself.
"""

import asyncio
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

from caster.fanout import Fanout, Subscriber, compile_sends
from caster.hangups import Hangups
from caster.link import FANOUT, LINK_BYTES_MAX, OFFER, SIZE, Kind, MessageReader, pack
from caster.memory import let_go

__all__ = ["Holder", "main"]


class _Outlet(Subscriber):
    """A rover's outlet, which tells of what it drops."""

    __slots__ = ("on_drop",)

    def __init__(self, transport: asyncio.WriteTransport, backlog_max: int, on_drop: Callable[[int], None]) -> None:
        super().__init__(transport, backlog_max)
        self.on_drop = on_drop

    def send_wire(self, wire: bytes) -> bool:
        """Send, or drop as a whole."""
        kept = super().send_wire(wire)
        if not kept:
            self.on_drop(len(wire))
        return kept


class _Held(asyncio.Protocol):
    """One rover: what happens to its socket is told to the caster."""

    def __init__(self, holder: "Holder", number: int, backlog_max: int) -> None:
        self._holder = holder
        self._number = number
        self._backlog_max = backlog_max
        self._watched: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The socket is held."""
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=0)
        self.transport = transport
        self.outlet = _Outlet(transport, self._backlog_max, self._on_drop)
        self._holder.held[self._number] = self
        self._tell(Kind.ADOPTED)

    def data_received(self, data: bytes) -> None:
        """Bytes came."""
        if self._holder.link.get_write_buffer_size() < LINK_BYTES_MAX:
            self._tell(Kind.RECEIVED, data)

    def eof_received(self) -> bool:
        """The rover sends no more, or has gone."""
        self._watched = self.transport.get_extra_info("socket")
        self._holder.hangups.watch(self._watched, self.transport.abort)
        self._tell(Kind.EOF)
        return True

    def connection_lost(self, error: Exception | None) -> None:
        """The connection is no more."""
        if self._watched is not None:
            self._holder.hangups.forget(self._watched)
        self._holder.leave(self._number)
        self._holder.held.pop(self._number, None)
        self._tell(Kind.LOST, b"\1" if error else b"")

    def pause_writing(self) -> None:
        """The socket takes no more for now."""
        self.outlet.stall(asyncio.get_running_loop().time())
        self._tell(Kind.STALLED)

    def resume_writing(self) -> None:
        """The socket has taken all."""
        self.outlet.resume()
        self._tell(Kind.RESUMED)

    def _on_drop(self, size: int) -> None:
        self._tell(Kind.DROPPED, SIZE.pack(size))

    def _tell(self, kind: Kind, data: bytes = b"") -> None:
        self._holder.tell(kind, self._number, data)


class Holder(asyncio.Protocol):
    """The link to the caster, and all that is held; ends with the link.

    Args:
        offers: Where sockets come from (SOCK_SEQPACKET).

    Attributes:
        held: By number of the session.
        link: To the caster.
        hangups: Tells when half-closed rovers have gone.
        ended: Set when the caster has gone.
    """

    link: asyncio.Transport

    def __init__(self, offers: socket.socket) -> None:
        self.held: dict[int, _Held] = {}
        self.hangups = Hangups()
        self.ended = asyncio.Event()
        self._offers = offers
        self._fanouts: dict[int, Fanout] = {}
        self._followed: dict[int, int] = {}
        self._reader = MessageReader()
        self._adopting: set[asyncio.Task[None]] = set()
        self._actions: Final[dict[Kind, Callable[[int, bytes], None]]] = {
            Kind.PUBLISH: self._on_publish,
            Kind.JOIN: self._on_join,
            Kind.LEAVE: lambda number, _: self.leave(number),
            Kind.SEND: lambda number, data: self._with(number, lambda rover: rover.outlet.send_wire(data)),
            Kind.CLOSE: lambda number, _: self._with(number, lambda rover: rover.transport.close()),
            Kind.ABORT: lambda number, _: self._with(number, lambda rover: rover.transport.abort()),
        }
        asyncio.get_running_loop().add_reader(offers.fileno(), self._on_offer)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The caster is there."""
        assert isinstance(transport, asyncio.Transport)
        self.link = transport

    def data_received(self, data: bytes) -> None:
        """Do what the caster says."""
        for kind, number, payload in self._reader.receive_data(data):
            self._actions[kind](number, payload)

    def connection_lost(self, error: Exception | None) -> None:
        """The caster has gone, and with it every session."""
        asyncio.get_running_loop().remove_reader(self._offers.fileno())
        for rover in list(self.held.values()):
            rover.transport.abort()
        self.ended.set()

    def tell(self, kind: Kind, number: int, data: bytes = b"") -> None:
        """Tell the caster of a session."""
        if not self.link.is_closing():
            self.link.write(pack(kind, number, data))

    def leave(self, number: int) -> None:
        """A rover follows nothing any more; it is no error if it did not."""
        group = self._followed.pop(number, None)
        if group is None:
            return
        self._fanouts[group].discard(self.held[number].outlet)
        if not self._fanouts[group]:
            del self._fanouts[group]

    def _on_publish(self, group: int, wire: bytes) -> None:
        if group in self._fanouts:
            self._fanouts[group].send(wire)

    def _on_join(self, number: int, data: bytes) -> None:
        if number not in self.held:
            return
        self.leave(number)
        (group,) = FANOUT.unpack(data)
        self._followed[number] = group
        self._fanouts.setdefault(group, Fanout()).add(self.held[number].outlet)

    def _with(self, number: int, action: Callable[[_Held], object]) -> None:
        if number in self.held:
            action(self.held[number])

    def _on_offer(self) -> None:
        try:
            data, fds, _, _ = socket.recv_fds(self._offers, OFFER.size, 1)
        except BlockingIOError:
            return
        for fd in fds:
            task = asyncio.create_task(self._adopt(socket.socket(fileno=fd), *OFFER.unpack(data)))
            self._adopting.add(task)
            task.add_done_callback(self._adopting.discard)

    async def _adopt(self, sock: socket.socket, number: int, backlog_max: int) -> None:
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(lambda: _Held(self, number, backlog_max), sock)


async def _run(link_fd: int, offers_fd: int) -> None:
    offers = socket.socket(fileno=offers_fd)
    offers.setblocking(False)
    loop = asyncio.get_running_loop()
    _, holder = await loop.create_connection(lambda: Holder(offers), sock=socket.socket(fileno=link_fd))
    await holder.ended.wait()
    holder.hangups.close()
    offers.close()


def main() -> None:
    """Hold sockets until the caster closes the link; signals to the group are the caster's to answer."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    compile_sends()
    let_go()
    asyncio.run(_run(*map(int, sys.argv[1:3])))


if __name__ == "__main__":
    main()
