"""The fan-out on real sockets: whole frames, in order, to everybody, whatever each rover does."""

import asyncio
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caster.codec.ntrip import ChunkedDecoder
from caster.fanout import Fanout, Subscriber, send_together
from caster.hub import Mount

BACKLOG = 8_000
SMALL_BUFFER = 4_096
TIMEOUT_S = 20.0


def frame(number: int, size: int = 700) -> bytes:
    """Bytes that say which they are and how long: 4 bytes number, 4 bytes size, filler."""
    return number.to_bytes(4, "big") + size.to_bytes(4, "big") + bytes([number & 0xFF]) * (size - 8)


def numbers_of(data: bytes) -> list[int]:
    """The numbers of the frames in a stream; fails where one is torn."""
    numbers, place = [], 0
    while place < len(data):
        number, size = (
            int.from_bytes(data[place : place + 4], "big"),
            int.from_bytes(data[place + 4 : place + 8], "big"),
        )
        assert data[place : place + size] == frame(number, size), f"torn at byte {place} of {len(data)}"
        numbers.append(number)
        place += size
    return numbers


class Outlet(asyncio.Protocol):
    """The server's end of one rover, as `caster.session` has it."""

    def __init__(self, made: "asyncio.Queue[Outlet]") -> None:
        self.lost = asyncio.Event()
        self._made = made
        self.rover: Subscriber | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
        transport.set_write_buffer_limits(high=0)
        self.transport = transport
        self.rover = Subscriber(transport, BACKLOG)
        self._made.put_nowait(self)

    def pause_writing(self) -> None:
        assert self.rover is not None
        self.rover.stall(1.0)

    def resume_writing(self) -> None:
        assert self.rover is not None
        self.rover.resume()

    def connection_lost(self, error: Exception | None) -> None:
        assert self.rover is not None
        if self.rover.fanout is not None:
            self.rover.fanout.discard(self.rover)
        self.lost.set()


class Pair:
    """A rover's socket and the server's end of it."""

    def __init__(self, client: socket.socket, outlet: Outlet) -> None:
        self.client = client
        self.outlet = outlet
        self.received = bytearray()

    @property
    def rover(self) -> Subscriber:
        assert self.outlet.rover is not None
        return self.outlet.rover

    def read(self, size: int) -> None:
        """Take what is there, and no more than so much."""
        try:
            self.received += self.client.recv(size)
        except BlockingIOError:
            pass

    async def read_to_end(self) -> None:
        """Close the server's end in form and read all that was sent."""
        self.outlet.transport.close()
        loop = asyncio.get_running_loop()
        while data := await asyncio.wait_for(loop.sock_recv(self.client, 1 << 16), TIMEOUT_S):
            self.received += data


@asynccontextmanager
async def connected(count: int) -> AsyncIterator[list[Pair]]:
    """So many rovers on real TCP connections with small buffers."""
    loop = asyncio.get_running_loop()
    outlets: asyncio.Queue[Outlet] = asyncio.Queue()

    server = await loop.create_server(lambda: Outlet(outlets), "127.0.0.1", 0)
    pairs = []
    for _ in range(count):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL_BUFFER)
        client.setblocking(False)
        await loop.sock_connect(client, server.sockets[0].getsockname())
        pairs.append(Pair(client, await asyncio.wait_for(outlets.get(), TIMEOUT_S)))
    try:
        yield pairs
    finally:
        for pair in pairs:
            pair.client.close()
            if not pair.outlet.lost.is_set():  # asyncio's transports take no abort once they have closed
                pair.outlet.transport.abort()
            await asyncio.wait_for(pair.outlet.lost.wait(), TIMEOUT_S)
        server.close()
        await server.wait_closed()


async def test_rovers_that_keep_up_get_every_frame_from_the_array() -> None:
    async with connected(20) as pairs:
        fanout = Fanout()
        for pair in pairs:
            fanout.add(pair.rover)
        for number in range(10):
            fanout.send(frame(number))
            for pair in pairs:
                pair.read(1 << 16)
        assert all(pair.rover.place >= 0 for pair in pairs)
        assert all(pair.rover.sent_bytes == 7_000 for pair in pairs)
        for pair in pairs:
            await pair.read_to_end()
            assert numbers_of(pair.received) == list(range(10))


async def test_a_rover_that_stops_reading_loses_whole_frames_and_comes_back() -> None:
    async with connected(2) as (good, slow):
        fanout = Fanout()
        fanout.add(good.rover)
        fanout.add(slow.rover)
        for number in range(200):
            fanout.send(frame(number))
            good.read(1 << 16)
            await asyncio.sleep(0)
        assert slow.rover.place < 0 <= good.rover.place
        assert slow.rover.dropped > 0
        async with asyncio.timeout(TIMEOUT_S):
            while slow.rover.place < 0:
                slow.read(1 << 16)
                await asyncio.sleep(0)
        fanout.send(frame(200))
        await good.read_to_end()
        await slow.read_to_end()
        assert numbers_of(good.received) == list(range(201))
        got = numbers_of(slow.received)
        assert got[-1] == 200
        assert len(got) == 201 - slow.rover.dropped


ACTIONS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.lists(st.tuples(st.integers(0, 1), st.integers(8, 3_000)), max_size=4)),
        st.tuples(st.just("read"), st.integers(0, 3), st.integers(1, 20_000)),
        st.tuples(st.just("turn")),
        st.tuples(st.just("leave"), st.integers(0, 3)),
        st.tuples(st.just("join"), st.integers(0, 3), st.integers(0, 1)),
    ),
    max_size=120,
)


@settings(max_examples=40, deadline=None)
@given(ACTIONS)
def test_no_frame_is_torn_or_out_of_order_whatever_rovers_do(actions: list[tuple[Any, ...]]) -> None:
    """Any order of publishing to two groups, together or twice at once, reading, coming and going."""

    async def play() -> None:
        async with connected(4) as pairs:
            fanouts, number = (Fanout(), Fanout()), 0
            offered: list[list[int]] = [[], [], [], []]
            do: dict[str, Callable[..., None]] = {
                "read": lambda who, size: pairs[who].read(size),
                "leave": lambda who: [fanout.discard(pairs[who].rover) for fanout in fanouts],
                "join": lambda who, group: None if pairs[who].rover.fanout else fanouts[group].add(pairs[who].rover),
                "turn": lambda: None,
            }
            for verb, *arguments in actions:
                if verb == "publish":
                    sends = [(group, number + place, size) for place, (group, size) in enumerate(arguments[0])]
                    number += len(sends)
                    for mine, pair in zip(offered, pairs, strict=True):
                        mine += [each for group, each, _ in sends if pair.rover.fanout is fanouts[group]]
                    send_together([(fanouts[group], frame(each, size)) for group, each, size in sends])
                else:
                    do[verb](*arguments)
                await asyncio.sleep(0)
            for fanout in fanouts:
                assert len(fanout) == len(list(fanout)) == sum(pair.rover.fanout is fanout for pair in pairs)
            for mine, pair in zip(offered, pairs, strict=True):
                await pair.read_to_end()
                assert len(pair.received) == pair.rover.sent_bytes
                numbers = numbers_of(bytes(pair.received))
                assert numbers == sorted(set(numbers) & set(mine))
                assert len(numbers) == len(mine) - pair.rover.dropped

    asyncio.run(play())


async def test_a_rover_that_has_gone_costs_the_others_nothing() -> None:
    async with connected(3) as pairs:
        fanout = Fanout()
        for pair in pairs:
            fanout.add(pair.rover)
        pairs[1].client.close()
        for number in range(20):  # the first send provokes a reset, a later one fails
            fanout.send(frame(number))
            for pair in (pairs[0], pairs[2]):
                pair.read(1 << 16)
            await asyncio.sleep(0.001)
        await asyncio.wait_for(pairs[1].outlet.lost.wait(), TIMEOUT_S)
        assert len(fanout) == 2
        for pair in (pairs[0], pairs[2]):
            await pair.read_to_end()
            assert numbers_of(pair.received) == list(range(20))


async def test_a_chunked_rover_gets_each_publish_as_one_chunk() -> None:
    async with connected(2) as (plain, chunked):
        mount = Mount("MOUNT", raw=True)
        chunked.rover.coding = "chunked"
        for pair in (plain, chunked):
            mount.attach(pair.rover)
        mount.publish((frame(0), frame(1)), 0)
        assert len(mount) == 2
        assert mount.sent_bytes == plain.rover.sent_bytes + chunked.rover.sent_bytes
        for pair in (plain, chunked):
            mount.detach(pair.rover)
            await pair.read_to_end()
        assert len(mount) == 0
        assert numbers_of(plain.received) == [0, 1]
        assert chunked.received.startswith(b"578\r\n")
        assert numbers_of(ChunkedDecoder().receive_data(bytes(chunked.received))) == [0, 1]
        assert mount.sent_bytes == plain.rover.sent_bytes + chunked.rover.sent_bytes


def test_tls_and_transports_without_a_socket_are_never_written_past() -> None:
    class Transport(asyncio.WriteTransport):
        def __init__(self, **extra: Any) -> None:
            super().__init__(extra)
            self.written = b""

        def write(self, data: Any) -> None:
            self.written += data

        def get_write_buffer_size(self) -> int:
            return 0

    ours, theirs = socket.socketpair()
    with ours, theirs:
        for extra in ({"socket": ours, "sslcontext": ssl.create_default_context()}, {}):
            transport = Transport(**extra)
            rover = Subscriber(transport, BACKLOG)
            fanout = Fanout()
            fanout.add(rover)
            fanout.send(b"whole")
            assert (transport.written, rover.place, rover.sent_bytes) == (b"whole", -1, 5)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        rover = Subscriber(Transport(socket=ours), BACKLOG)
        assert rover.fd == ours.fileno()


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 0, 2)])
async def test_leaving_in_any_order_keeps_everybody_elses_place(order: tuple[int, ...]) -> None:
    async with connected(3) as pairs:
        fanout = Fanout()
        for pair in pairs:
            fanout.add(pair.rover)
        for number, who in enumerate(order):
            fanout.discard(pairs[who].rover)
            fanout.discard(pairs[who].rover)
            fanout.send(frame(number))
        for number, who in enumerate(order):
            await pairs[who].read_to_end()
            assert numbers_of(pairs[who].received) == list(range(number))
