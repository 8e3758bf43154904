"""One look at many base stations' sockets: the mirror image of `caster.fanout`.

asyncio spends more on each socket that has become readable (an event, a handle, four calls) than it costs to receive an
epoch. So the sockets of base stations are in an epoll set of their own, which is one descriptor for the event loop.
When the loop finds it readable, a compiled loop over libc's `recv` takes what has come from all of them, with the
interpreter's lock released; each station is then told its bytes.

Rules: the transport of a station that is in the set is paused, so that nobody else reads; whatever is odd (a closed or
broken connection) is not looked into here: the station is given back to its transport, which meets the same and handles
it as it always does. A station leaves the set before its socket is closed (`connection_lost` comes first), so that no
descriptor is used again by mistake.
"""

import asyncio
import select
from array import array
from collections.abc import Callable
from typing import Any, Final

import numpy as np
from numba import types

from caster.fanout import direct_fd
from solver.jit import kernel

__all__ = ["RECEIVED_AT_ONCE", "Fanin", "compile_receives"]

RECEIVED_AT_ONCE: Final = 16 << 10
"""Bytes taken from one station in one turn: some epochs of 2 to 4 kB. The rest waits in its socket for the next turn,
so that one station cannot keep the loop from the others."""
_STATIONS_AT_ONCE: Final = 256
"""Received from by one call: what they send waits in one array."""
_PLAIN: Final = select.EPOLLIN

# ssize_t recv(int, void *, size_t, int); MSG_DONTWAIT on Linux
_libc_recv: Any = types.ExternalFunction("recv", types.intp(types.int32, types.voidptr, types.uintp, types.int32))
_RECEIVE_FLAGS: Final = 0x40


@kernel
def _receive_all(fds: Any, size_max: int, data: Any, stops: Any) -> int:
    """Receive from each socket once, at most `size_max` bytes, and never wait.

    What came from fds[k] (int32) goes to `data` (uint8), up to stops[k] (int64) from where that of the one before ends;
    nothing where there was an end or an error. Returns the size of all.
    """
    place = 0
    for k in range(len(fds)):
        piece = data[place : place + size_max]
        received = _libc_recv(fds[k], piece.ctypes, len(piece), _RECEIVE_FLAGS)
        if received > 0:
            place += received
        stops[k] = place
    return place


class Fanin:
    """The sockets of base stations; belongs to the running event loop."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._stations: dict[int, tuple[asyncio.Transport, Callable[[bytes], None]]] = {}
        self._data = np.empty(_STATIONS_AT_ONCE * RECEIVED_AT_ONCE, np.uint8)
        self._stops = np.empty(_STATIONS_AT_ONCE, np.int64)
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._on_ready)

    def __len__(self) -> int:
        """How many stations are in the set."""
        return len(self._stations)

    def join(self, transport: asyncio.Transport, receive: Callable[[bytes], None]) -> None:
        """Receive for a transport whose reading is paused; one without a plain socket reads on by itself."""
        fd = direct_fd(transport)
        if fd < 0:
            transport.resume_reading()
            return
        self._stations[fd] = (transport, receive)
        self._epoll.register(fd, _PLAIN | select.EPOLLRDHUP)

    def leave(self, transport: asyncio.Transport) -> None:
        """Receive no more; call it before the socket is closed. It is no error if the transport is not here."""
        fd = direct_fd(transport)
        if fd in self._stations and self._stations[fd][0] is transport:
            del self._stations[fd]
            self._epoll.unregister(fd)

    def close(self) -> None:
        """Receive from nobody; it is no error to do so twice."""
        if not self._epoll.closed:
            asyncio.get_running_loop().remove_reader(self._epoll.fileno())
            self._epoll.close()
            self._stations.clear()

    def _on_ready(self) -> None:
        """Receive from those who have sent, from each about once: who floods waits for the next turn."""
        for _ in range(0, len(self._stations), _STATIONS_AT_ONCE):
            ready = self._epoll.poll(0, _STATIONS_AT_ONCE)
            self._receive(array("i", [fd for fd, events in ready if events == _PLAIN]))
            for fd, events in ready:
                if events != _PLAIN:
                    self._give_back(fd)
            if len(ready) < _STATIONS_AT_ONCE:
                break

    def _receive(self, fds: "array[int]") -> None:
        if not fds:
            return
        size = _receive_all(np.frombuffer(fds, np.int32), RECEIVED_AT_ONCE, self._data, self._stops)
        data, start = self._data[:size].tobytes(), 0
        for fd, stop in zip(fds, self._stops[: len(fds)].tolist(), strict=True):
            if start == stop:
                self._give_back(fd)
            elif fd in self._stations:  # another's bytes may have ended its session
                self._stations[fd][1](data[start:stop])
            start = stop

    def _give_back(self, fd: int) -> None:
        """The transport meets what is odd about the socket, after what was sent before it."""
        if fd in self._stations:
            transport, _ = self._stations[fd]
            self.leave(transport)
            transport.resume_reading()


def compile_receives() -> None:
    """Compile the loop before the first station needs it."""
    _receive_all(np.empty(0, np.int32), RECEIVED_AT_ONCE, np.empty(0, np.uint8), np.empty(0, np.int64))
