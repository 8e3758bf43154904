"""The fan-in on real sockets: every station's bytes, in order, whatever the others do."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from caster import fanin
from caster.codec.ntrip import encode_chunk, post_request
from caster.fanin import RECEIVED_AT_ONCE, Fanin
from tests.caster.conftest import PATIENCE_S, STATION, Peer, Service, StartService, frame
from tests.caster.test_hangups import reset

FRAMES = frame(1006) + frame(1077) + frame(1127)


class Station(asyncio.Protocol):
    """The caster's end of a station's connection, and the station's socket."""

    def __init__(self) -> None:
        self.received = b""
        self.ended = asyncio.Event()
        self.error: Exception | None = None
        self.came_by: list[str] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        transport.pause_reading()

    def data_received(self, data: bytes) -> None:
        self.came_by.append("transport")
        self.received += data

    def receive(self, data: bytes) -> None:
        """What the fan-in calls."""
        self.came_by.append("fan-in")
        self.received += data

    def connection_lost(self, error: Exception | None) -> None:
        self.error = error
        self.ended.set()


@asynccontextmanager
async def stations(count: int, fd: int | None = None) -> AsyncIterator[list[tuple[Station, socket.socket]]]:
    """So many connections by TCP, with a given descriptor of the caster's end."""
    loop = asyncio.get_running_loop()
    made = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        for _ in range(count):
            theirs = socket.create_connection(listener.getsockname())
            ours, _ = listener.accept()
            if fd is not None:
                with ours as one:
                    ours = socket.socket(fileno=os.dup2(one.fileno(), fd))
            _, station = await loop.connect_accepted_socket(Station, ours)
            made.append((station, theirs))
    try:
        yield made
    finally:
        for station, theirs in made:
            theirs.close()
            station.transport.abort()
        await asyncio.sleep(0)


@contextmanager
def listening(made: list[tuple[Station, socket.socket]]) -> Iterator[Fanin]:
    """A fan-in that the stations have joined."""
    group = Fanin()
    for station, _ in made:
        group.join(station.transport, station.receive)
    yield group
    group.close()


def look(group: Fanin) -> None:
    """Let it look at what is ready, as the event loop would."""
    group._on_ready()


async def test_every_station_is_told_its_own_bytes() -> None:
    async with stations(5) as made:
        with listening(made) as group:
            for number, (_, theirs) in enumerate(made):
                theirs.sendall(bytes([number]) * (number + 1))
            look(group)
            assert [station.received for station, _ in made] == [bytes([n]) * (n + 1) for n in range(5)]


async def test_the_event_loop_sees_all_of_them_as_one_descriptor() -> None:
    async with stations(2) as made:
        with listening(made):
            made[1][1].sendall(b"there")
            async with asyncio.timeout(PATIENCE_S):
                while not made[1][0].received:  # noqa: ASYNC110
                    await asyncio.sleep(0)
            assert made[1][0].came_by == ["fan-in"]


async def test_more_stations_than_one_call_takes_are_all_served_in_one_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanin, "_STATIONS_AT_ONCE", 3)
    async with stations(8) as made:
        with listening(made) as group:
            for _, theirs in made:
                theirs.sendall(b"x")
            look(group)
            assert all(station.received == b"x" for station, _ in made)


async def test_a_station_that_floods_is_taken_little_by_little_and_keeps_nobody_waiting() -> None:
    async with stations(2) as made:
        (flood, gusher), (calm, quiet) = made
        with listening(made) as group:
            gusher.sendall(bytes(2 * RECEIVED_AT_ONCE))
            quiet.sendall(b"quiet")
            look(group)
            assert len(flood.received) == RECEIVED_AT_ONCE and calm.received == b"quiet"
            look(group)
            assert flood.received == bytes(2 * RECEIVED_AT_ONCE)


async def test_the_last_bytes_before_an_end_come_by_the_transport_which_meets_the_end() -> None:
    async with stations(1) as made:
        station, theirs = made[0]
        with listening(made) as group:
            theirs.sendall(b"last")
            theirs.shutdown(socket.SHUT_WR)
            look(group)
            assert len(group) == 0
            await asyncio.wait_for(station.ended.wait(), PATIENCE_S)
        assert (station.received, station.came_by, station.error) == (b"last", ["transport"], None)


async def test_a_reset_is_the_transports_to_tell() -> None:
    async with stations(1) as made:
        station, theirs = made[0]
        with listening(made) as group:
            reset(theirs)
            look(group)
            assert len(group) == 0
            await asyncio.wait_for(station.ended.wait(), PATIENCE_S)
        assert isinstance(station.error, ConnectionResetError)


async def test_a_socket_that_has_nothing_after_all_is_given_back() -> None:
    async with stations(1) as made:
        station, theirs = made[0]
        with listening(made) as group:
            theirs.sendall(b"first")
            fd = station.transport.get_extra_info("socket").fileno()
            assert os.read(fd, 100) == b"first"  # between the set's news and the look
            group._receive(fanin.array("i", [fd]))
            assert len(group) == 0 and station.transport.is_reading()
            theirs.sendall(b"second")
            async with asyncio.timeout(PATIENCE_S):
                while not station.received:  # noqa: ASYNC110
                    await asyncio.sleep(0)
        assert (station.received, station.came_by) == (b"second", ["transport"])


async def test_a_station_that_has_left_is_told_nothing() -> None:
    async with stations(2) as made:
        with listening(made) as group:
            group.leave(made[0][0].transport)
            group.leave(made[0][0].transport)
            for _, theirs in made:
                theirs.sendall(b"x")
            look(group)
            assert [station.received for station, _ in made] == [b"", b"x"]


async def test_who_leaves_while_others_are_told_is_told_nothing_any_more() -> None:
    async with stations(2) as made:
        group = Fanin()
        told = []

        def end_the_other(number: int) -> None:
            told.append(number)
            group.leave(made[1 - number][0].transport)

        for number, (station, _) in enumerate(made):
            group.join(station.transport, lambda _, number=number: end_the_other(number))
        for _, theirs in made:
            theirs.sendall(b"x")
        look(group)
        assert len(told) == 1 and len(group) == 1
        group.close()


async def test_a_descriptor_that_is_used_again_is_the_new_stations() -> None:
    fd = 500  # far above those that are taken next
    async with stations(1, fd) as first:
        old, _ = first[0]
        with listening(first) as group:
            group.leave(old.transport)
            old.transport.abort()
            await old.ended.wait()
            await asyncio.sleep(0)
            async with stations(1, fd) as second:
                new, theirs = second[0]
                assert new.transport.get_extra_info("socket").fileno() == fd
                group.join(new.transport, new.receive)
                theirs.sendall(b"new")
                look(group)
                assert new.received == b"new" and old.received == b""
                group.leave(old.transport)  # too late, and somebody else's
                assert len(group) == 1


@settings(deadline=None, max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 60)), max_size=40))
def test_bytes_in_any_splits_stay_each_stations_own_and_in_order(pieces: list[tuple[int, int]]) -> None:
    async def run() -> None:
        async with stations(3) as made:
            sent = [b"", b"", b""]
            with listening(made) as group:
                for place, (number, size) in enumerate(pieces):
                    piece = bytes([place]) * size
                    made[number][1].sendall(piece)
                    sent[number] += piece
                    if size % 3 == 0:
                        look(group)
                look(group)
            assert [station.received for station, _ in made] == sent

    asyncio.run(run())


# ----- the same in the service


@pytest.mark.parametrize("size", [1, 3, 7, len(FRAMES) - 1])
async def test_a_station_that_sends_in_odd_splits_is_relayed_in_whole_frames(service: Service, size: int) -> None:
    source = await service.feed()
    rover = await service.follow()
    assert len(service.caster.server.fanin) == 1
    for start in range(0, len(FRAMES), size):
        await source.send(FRAMES[start : start + size])
        await asyncio.sleep(0)
    assert await rover.read(len(FRAMES)) == FRAMES


async def test_a_station_that_closes_is_ended_by_itself_and_its_last_frames_are_relayed(service: Service) -> None:
    source = await service.feed()
    rover = await service.follow()
    await source.send(FRAMES)
    await source.close()
    assert await rover.read(len(FRAMES)) == FRAMES
    await service.ended("source", "ended by the source")
    assert len(service.caster.server.fanin) == 0


async def test_a_station_that_is_reset_has_lost_its_connection(service: Service) -> None:
    source = await service.feed()
    await service.wait(lambda: len(service.caster.server.fanin) == 1)
    source.writer.transport.abort()
    reset(source.writer.get_extra_info("socket")._sock)
    await service.ended("source", "connection lost")
    assert len(service.caster.server.fanin) == 0


async def test_after_a_take_over_only_the_new_connection_is_heard(start: StartService) -> None:
    service = await start(**{"limits.takeover_s": 0.0})
    old = await service.feed()
    rover = await service.follow()
    new = await service.feed()
    await service.ended("source", "taken over")
    old.writer.write(frame(1005))
    await new.send(FRAMES)
    assert await rover.read(len(FRAMES)) == FRAMES
    assert len(service.caster.server.fanin) == 1


async def test_a_station_that_is_sent_away_is_heard_no_more(service: Service) -> None:
    source = await service.feed()
    mountpoint = service.caster.mountpoints.get("M")
    assert mountpoint is not None and mountpoint.source is not None
    source.writer.write(FRAMES)
    mountpoint.source.close("ended by the operator")
    await service.ended("source", "ended by the operator")
    await asyncio.sleep(0)
    assert mountpoint.mount.published == 0 and len(service.caster.server.fanin) == 0


async def test_a_chunked_station_is_received_with_the_others(service: Service) -> None:
    source = await service.connect(post_request("M", "caster", credentials=STATION, chunked=True))
    await source.until(b"\r\n\r\n")
    rover = await service.follow()
    assert len(service.caster.server.fanin) == 1
    chunks = encode_chunk(FRAMES)
    for start in range(0, len(chunks), 11):
        await source.send(chunks[start : start + 11])
    assert await rover.read(len(FRAMES)) == FRAMES
    await source.send(b"0\r\n\r\n")
    await service.ended("source", "ended by the source")


async def test_a_station_whose_chunks_are_none_is_ended_by_name(service: Service) -> None:
    source = await service.connect(post_request("M", "caster", credentials=STATION, chunked=True))
    await source.until(b"\r\n\r\n")
    await source.send(b"no chunk\r\n")
    await service.ended("source", "bad stream")
    assert len(service.caster.server.fanin) == 0


async def test_a_station_by_tls_reads_by_its_transport(start: StartService, tmp_path: Path) -> None:
    authority = trustme.CA()
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "tls.pem"))
    pem = str(tmp_path / "tls.pem")
    service = await start(tls=[{"port": 0, "hosts": ["127.0.0.1"], "certificate": pem, "key": pem}])
    context = ssl.create_default_context()
    authority.configure_trust(context)
    source = Peer(*await asyncio.open_connection("127.0.0.1", service.caster.server.tls_ports[0], ssl=context))
    service.stack.push_async_callback(source.close)
    await source.send(f"SOURCE {STATION.password} /M\r\n\r\n".encode())
    await source.until(b"\r\n\r\n")
    rover = await service.follow()
    await source.send(FRAMES)
    assert await rover.read(len(FRAMES)) == FRAMES
    assert len(service.caster.server.fanin) == 0


async def test_what_sticks_to_a_stations_request_comes_first(service: Service) -> None:
    source = await service.connect(f"SOURCE {STATION.password} /OPEN\r\n\r\n".encode() + FRAMES[:30])
    await source.until(b"\r\n\r\n")
    rover = await service.follow("OPEN")
    await source.send(FRAMES[30:])
    assert (await rover.read(len(FRAMES)))[-len(FRAMES) :].endswith(frame(1127))
