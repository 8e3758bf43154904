"""Sockets that are not read from any more, watched for the end of their peers.

A client that half-closes its connection (it has sent all and still wants its stream) looks like one that has closed it
whole: both send a FIN. asyncio stops polling such a socket, so that the reset that answers the next bytes for a client
that has gone would only be seen by the send after it, and on a silent stream never. An epoll set of its own, asked for
no event, still tells of resets and hang-ups (epoll_ctl(2): EPOLLERR and EPOLLHUP are always reported), and is itself a
descriptor that the event loop polls. Keep-alive probes make the kernel find out where the stream is silent: Linux
forgets a closed socket after a minute (tcp(7): tcp_fin_timeout), and from then on answers probes with a reset.
"""

import asyncio
import select
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

__all__ = ["Hangups"]

_PROBE_EVERY_S: Final = 5


class Hangups:
    """Calls back when a peer is gone; belongs to the running event loop."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._gone: dict[int, Callable[[], None]] = {}
        asyncio.get_running_loop().add_reader(self._epoll.fileno(), self._on_events)

    def watch(self, sock: Any, gone: Callable[[], None]) -> None:
        """Watch a socket until `forget`; `gone` is called once, as soon as the kernel knows."""
        fd = sock.fileno()
        if fd in self._gone or fd < 0:
            return
        with suppress(OSError):  # a socket that is gone already is reported below
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, _PROBE_EVERY_S)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, _PROBE_EVERY_S)
        self._gone[fd] = gone
        self._epoll.register(fd, 0)

    def forget(self, sock: Any) -> None:
        """Stop watching; call it before the socket is closed, since its number is then given to others."""
        if self._gone.pop(sock.fileno(), None) is not None:
            self._epoll.unregister(sock.fileno())

    def close(self) -> None:
        """Stop watching all; it is no error to do so twice."""
        if self._epoll.closed:
            return
        asyncio.get_running_loop().remove_reader(self._epoll.fileno())
        self._epoll.close()
        self._gone.clear()

    def _on_events(self) -> None:
        for fd, _ in self._epoll.poll(0):
            self._epoll.unregister(fd)
            self._gone.pop(fd)()
