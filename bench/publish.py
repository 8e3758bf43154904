"""What one publish costs a rover beyond the bare kernel send, in one process and one run, each way in turn.

The sockets are real connections on loopback, drained by another process. The floor is the compiled loop over libc's
`send`; a way's `times_floor` is the median over rounds of its processor time by that of the floor in the same round,
so that what else the machine does falls out.
"""

import asyncio
import multiprocessing
import select
import socket
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Final

import numpy as np

from bench.frames import Stamp, make_frame
from bench.processes import need_descriptors
from caster.fanout import Subscriber, _send_all
from caster.hub import Mount

__all__ = ["Row", "run"]

_ROVERS: Final = 2000
_ROUNDS: Final = 15
_DRAIN_S: Final = 0.05
_CONNECT_TIMEOUT_S: Final = 60.0
_BACKLOG_BYTES: Final = 32 << 10


@dataclass(frozen=True, slots=True)
class Row:
    """One way to send a frame to all rovers; us of processor time per rover."""

    way: str
    us_per_rover: float
    us_per_rover_min: float
    times_floor: float


class _Outlet(asyncio.Protocol):
    def __init__(self, made: list["_Outlet"], complete: asyncio.Event) -> None:
        self.made = made
        self.complete = complete

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(high=0)
        self.transport = transport
        self.rover = Subscriber(transport, _BACKLOG_BYTES)
        self.made.append(self)
        if len(self.made) == _ROVERS:
            self.complete.set()

    def pause_writing(self) -> None:
        self.rover.stall(0.0)

    def resume_writing(self) -> None:
        self.rover.resume()


def _drain(port: int, count: int, pipe: Connection) -> None:
    """Connect, and read whatever comes until the benchmark has gone."""
    links = {}
    poll = select.epoll()
    for _ in range(count):
        link = socket.create_connection(("127.0.0.1", port))
        links[link.fileno()] = link
        poll.register(link.fileno(), select.EPOLLIN)
    poll.register(pipe.fileno(), select.EPOLLIN)
    buffer = bytearray(1 << 16)
    while True:
        for fd, _ in poll.poll():
            if fd not in links:
                return
            links[fd].recv_into(buffer)


async def _measure(rounds: int) -> list[Row]:
    made: list[_Outlet] = []
    complete = asyncio.Event()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Outlet(made, complete), "127.0.0.1", 0, backlog=_ROVERS)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    port = server.sockets[0].getsockname()[1]
    drain = context.Process(target=_drain, args=(port, _ROVERS, theirs), daemon=True)
    drain.start()
    await asyncio.wait_for(complete.wait(), _CONNECT_TIMEOUT_S)
    ways = _ways(made)
    times: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(rounds):
        for way, send in ways.items():
            await asyncio.sleep(_DRAIN_S)
            began_ns = time.process_time_ns()
            send()
            times[way].append((time.process_time_ns() - began_ns) / 1000 / _ROVERS)
    ours.close()
    theirs.close()
    drain.join(5.0)
    drain.kill()
    server.close()
    for outlet in made:
        outlet.transport.abort()
    return [_row(way, times[way], times["compiled loop over send: the floor"]) for way in ways]


def _ways(outlets: list[_Outlet]) -> dict[str, Callable[[], Any]]:
    frame = make_frame(Stamp(0, 0, 0))
    data = np.frombuffer(frame, np.uint8)
    fds = np.array([outlet.rover.fd for outlet in outlets], np.int32)
    fd_stops, data_stops = np.array([len(fds)], np.int64), np.array([len(data)], np.int64)
    short = np.empty((len(fds), 2), np.int64)
    sockets = [outlet.transport.get_extra_info("socket")._sock for outlet in outlets]  # asyncio hides their send
    mount = Mount("BENCH")
    for outlet in outlets:
        mount.attach(outlet.rover)

    def through_sockets() -> None:
        for link in sockets:
            link.send(frame)

    def through_transports() -> None:
        for outlet in outlets:
            outlet.transport.write(frame)

    return {
        "compiled loop over send: the floor": lambda: _send_all(fds, fd_stops, data, data_stops, short),
        "socket.send": through_sockets,
        "transport.write": through_transports,
        "Mount.publish": lambda: mount.publish((frame,), time.time_ns()),
    }


def _row(way: str, times_us: list[float], floor_us: list[float]) -> Row:
    ratios = [us / floor for us, floor in zip(times_us, floor_us, strict=True)]
    return Row(way, round(statistics.median(times_us), 2), round(min(times_us), 2), round(statistics.median(ratios), 2))


def run(peers: dict[str, Path], names: Iterable[str] = (), *, repeat: int, note: Callable[[str], None]) -> list[Row]:
    """Measure; there are no peers and no parts."""
    need_descriptors(_ROVERS, "the benchmark")
    note(f"{_ROVERS} rovers, {_ROUNDS * repeat} rounds")
    return asyncio.run(_measure(_ROUNDS * repeat))
