"""One send to each of many sockets, at the kernel's own speed.

A send on loopback costs the kernel 6 to 9 us; `transport.write` adds a fifth to that, and holds the interpreter's lock
all the while. So rovers that keep up get their bytes from a compiled loop over libc's `send` on arrays of
descriptors, with the lock released; one run of the loop serves the rovers of many streams. A rover whose socket does
not take all is left, with the rest, to its asyncio transport, which waits for the socket to drain and finds out about
errors: asyncio's own flow control (`pause_writing`, `resume_writing`) says when a rover leaves the array and when it
comes back. Rovers by TLS are never in it.

Rovers whose sockets another process holds (`caster.holders`) are reached by one message for all of them.

Rules: nothing is sent past a transport that still holds bytes, so that no frame is torn or overtaken; a descriptor
leaves the array before its socket is closed (`connection_lost` comes first), so that none is used again by mistake.
"""

import asyncio
import itertools
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Literal, Protocol, TypeAlias

import numpy as np
from numba import types

from caster.codec.ntrip import encode_chunk
from caster.codec.websocket import encode_message
from solver.jit import kernel

__all__ = ["CODINGS", "Coding", "Fanout", "Link", "Subscriber", "compile_sends", "direct_fd", "send_together"]

Coding: TypeAlias = Literal["plain", "chunked", "websocket"]
CODINGS: Final[Mapping[Coding, Callable[[bytes], bytes]]] = {
    "plain": lambda data: data,
    "chunked": encode_chunk,
    "websocket": encode_message,
}
"""How a stream's bytes are wrapped for a rover: once for each coding, not for each rover."""

_NUMBERS: Final = itertools.count()
_SEND_FLAGS: Final = 0x40 | 0x4000  # MSG_DONTWAIT | MSG_NOSIGNAL on Linux
# ssize_t send(int, const void *, size_t, int)
_libc_send: Any = types.ExternalFunction("send", types.intp(types.int32, types.voidptr, types.uintp, types.int32))


@kernel
def _send_all(fds: Any, fd_stops: Any, data: Any, data_stops: Any, short: Any) -> int:
    """Send pieces of `data` (uint8) to groups of sockets, once to each, and never wait.

    Group k, the descriptors (int32) from fd_stops[k - 1] to fd_stops[k], gets the bytes from data_stops[k - 1] to
    data_stops[k] (int64). Where a socket takes less, its place in `fds` and what it took (-1: an error, or nothing for
    now) go to the next row of `short` (len(fds), 2) int64. Returns the number of such rows.
    """
    rows, place, start = 0, 0, 0
    for group in range(len(fd_stops)):
        piece = data[start : data_stops[group]]
        while place < fd_stops[group]:
            sent = _libc_send(fds[place], piece.ctypes, len(piece), _SEND_FLAGS)
            if sent != len(piece):
                short[rows, 0] = place
                short[rows, 1] = sent
                rows += 1
            place += 1
        start = data_stops[group]
    return rows


class Link(Protocol):
    """A process that holds sockets, as a fan-out sees it."""

    def join(self, number: int, group: int) -> None:
        """A rover is one of a fan-out's."""

    def leave(self, number: int) -> None:
        """A rover follows nothing any more."""

    def publish(self, group: int, wire: bytes) -> None:
        """Send bytes to the rovers of a fan-out that the process holds."""


class Subscriber:
    """One rover's outlet: bounded, and never torn.

    The owner of the transport sets its write buffer limits to zero and calls `stall` and `resume` from the protocol's
    `pause_writing` and `resume_writing`.

    Attributes:
        coding: How what is sent is wrapped.
        stalled_since: When the socket stopped taking bytes (the loop's time, s); None while it takes them.
        dropped: Publishes that did not fit into the backlog.
        fd: Of the socket; -1 where all bytes must go through the transport.
        fanout: The group that the rover is in, or None.
        place: Where in the group's array the rover is; -1 while it is served through its transport.
        link: To the process that holds the socket; None: this one does.
        number: What the rover is called there.
    """

    __slots__ = (
        "_backlog_max",
        "_pending",
        "_sent_bytes",
        "_write",
        "coding",
        "dropped",
        "fanout",
        "fd",
        "link",
        "number",
        "place",
        "stalled_since",
    )

    def __init__(self, transport: asyncio.WriteTransport, backlog_max: int, coding: Coding = "plain") -> None:
        self._write = transport.write
        self._pending = transport.get_write_buffer_size
        self._backlog_max = backlog_max
        self._sent_bytes = 0
        self.coding: Coding = coding
        self.stalled_since: float | None = None
        self.dropped = 0
        self.fd = direct_fd(transport)
        self.fanout: Fanout | None = None
        self.place = -1
        self.link: Link | None = None
        self.number = -1

    @property
    def sent_bytes(self) -> int:
        """Stream bytes handed to the socket or its transport."""
        together = self.fanout is not None and (self.place >= 0 or self.link is not None)
        return self._sent_bytes + (self.fanout.sent_bytes if self.fanout is not None and together else 0)

    def move(self, transport: asyncio.WriteTransport, link: Link, number: int) -> None:
        """Go on with a socket that another process holds."""
        fanout = self.fanout
        if fanout is not None:
            fanout.discard(self)
        self._write, self._pending = transport.write, transport.get_write_buffer_size
        self.fd, self.link, self.number, self.stalled_since = -1, link, number, None
        if fanout is not None:
            fanout.add(self)

    def send(self, data: bytes) -> bool:
        """Send whole frames; False where the rover is too far behind and loses them."""
        return self.send_wire(CODINGS[self.coding](data))

    def send_wire(self, wire: bytes) -> bool:
        """Send bytes that are already in the rover's form."""
        if self.stalled_since is not None and self._pending() + len(wire) > self._backlog_max:
            self.dropped += 1
            return False
        self._sent_bytes += len(wire)
        self._write(wire)
        return True

    def send_rest(self, wire: bytes, sent: int) -> None:
        """The socket took this many bytes, or had an error (-1): the transport sees to the rest."""
        self._write(wire[max(sent, 0) :])

    def stall(self, now_s: float) -> None:
        """The socket takes no more for now."""
        self.stalled_since = now_s
        self._arrange()

    def resume(self) -> None:
        """The socket has taken all."""
        self.stalled_since = None
        self._arrange()

    def _arrange(self) -> None:
        if self.fanout is not None:
            self.fanout.arrange(self)

    def count(self, size: int) -> None:
        """Correct the count of bytes: the rover enters or leaves an array whose sends are counted together."""
        self._sent_bytes += size


class Fanout:
    """Rovers who all get the same bytes.

    Attributes:
        number: Unique in this process.
        sent_bytes: What each rover that keeps up has got since the start, had it always been here.
    """

    def __init__(self) -> None:
        self.number = next(_NUMBERS)
        self.sent_bytes = 0
        self._held: set[Subscriber] = set()
        self._links: Counter[Link] = Counter()
        self._direct: list[Subscriber] = []
        self._others: set[Subscriber] = set()
        self._fds = array("i")

    def __len__(self) -> int:
        """How many rovers there are."""
        return len(self._direct) + len(self._others) + len(self._held)

    def __iter__(self) -> Iterator[Subscriber]:
        """All rovers."""
        yield from self._direct
        yield from self._others
        yield from self._held

    def add(self, rover: Subscriber) -> None:
        """A rover comes; it is in no other group."""
        rover.fanout = self
        if rover.link is not None:
            self._hold(rover, rover.link)
            return
        self._others.add(rover)
        self.arrange(rover)

    def discard(self, rover: Subscriber) -> None:
        """A rover leaves; it is no error if it has left before."""
        if rover.fanout is self:
            if rover.link is not None:
                self._release(rover, rover.link)
            self._leave_array(rover)
            self._others.discard(rover)
            rover.fanout = None

    def arrange(self, rover: Subscriber) -> None:
        """Put a rover where it belongs: into the array while its socket takes all."""
        if rover.link is not None:
            return
        direct = rover.fd >= 0 and rover.stalled_since is None
        if direct and rover.place < 0:
            self._others.discard(rover)
            self._enter_array(rover)
        elif not direct and rover.place >= 0:
            self._leave_array(rover)
            self._others.add(rover)

    def send(self, wire: bytes) -> None:
        """Send bytes in the rovers' form to all of them."""
        send_together([(self, wire)])

    def _send_apart(self, wire: bytes) -> None:
        """Send to the rovers that are not in the array."""
        self.sent_bytes += len(wire)
        for link in self._links:
            link.publish(self.number, wire)
        if self._others:
            for rover in list(self._others):
                rover.send_wire(wire)

    def _hold(self, rover: Subscriber, link: Link) -> None:
        self._held.add(rover)
        rover.count(-self.sent_bytes)
        self._links[link] += 1
        link.join(rover.number, self.number)

    def _release(self, rover: Subscriber, link: Link) -> None:
        self._held.discard(rover)
        rover.count(self.sent_bytes)
        link.leave(rover.number)
        self._links[link] -= 1
        if not self._links[link]:
            del self._links[link]

    def _enter_array(self, rover: Subscriber) -> None:
        rover.place = len(self._direct)
        rover.count(-self.sent_bytes)
        self._direct.append(rover)
        self._fds.append(rover.fd)

    def _leave_array(self, rover: Subscriber) -> None:
        """The last rover takes the place of the one that leaves."""
        if rover.place < 0:
            return
        last, fd = self._direct.pop(), self._fds.pop()
        if last is not rover:
            last.place = rover.place
            self._direct[last.place], self._fds[last.place] = last, fd
        rover.count(self.sent_bytes)
        rover.place = -1


def send_together(sends: Iterable[tuple[Fanout, bytes]]) -> None:
    """Send bytes in the rovers' form to all rovers of each fan-out, in order: back to back, as that is quickest."""
    batch: dict[Fanout, bytes] = {}
    for fanout, wire in sends:
        if fanout in batch:  # what a rover does not take now must go to its transport before the next
            _send_batch(batch)
            batch = {}
        fanout._send_apart(wire)
        if fanout._direct:
            batch[fanout] = wire
    if batch:
        _send_batch(batch)


def _send_batch(batch: dict[Fanout, bytes]) -> None:
    fds, fd_stops, data_stops = array("i"), array("q"), array("q")
    size = 0
    for fanout, wire in batch.items():
        fds += fanout._fds
        size += len(wire)
        fd_stops.append(len(fds))
        data_stops.append(size)
    short = np.empty((len(fds), 2), np.int64)
    rows = _send_all(
        np.frombuffer(fds, np.int32),
        np.frombuffer(fd_stops, np.int64),
        np.frombuffer(b"".join(batch.values()), np.uint8),
        np.frombuffer(data_stops, np.int64),
        short,
    )
    if rows:
        groups = [(list(fanout._direct), wire) for fanout, wire in batch.items()]  # they change when a rover stalls
        for place, sent in short[:rows].tolist():
            number = bisect_right(fd_stops, place)
            rovers, wire = groups[number]
            rovers[place - (fd_stops[number - 1] if number else 0)].send_rest(wire, sent)


def compile_sends() -> None:
    """Compile the loop before the first rover needs it."""
    stops = np.empty(0, np.int64)
    _send_all(np.empty(0, np.int32), stops, np.frombuffer(b"\0", np.uint8), stops, np.empty((0, 2), np.int64))


def direct_fd(transport: asyncio.WriteTransport) -> int:
    """The socket of a plain connection; -1 for one with TLS, and for a transport that has none."""
    socket = transport.get_extra_info("socket")
    return -1 if socket is None or transport.get_extra_info("sslcontext") is not None else int(socket.fileno())
