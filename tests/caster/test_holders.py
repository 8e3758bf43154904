"""Rovers whose sockets other processes hold: nobody can tell, and the caster keeps every right and count."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import pytest

from caster.codec.ntrip import ChunkedDecoder, get_request
from caster.holders import HeldTransport
from caster.session import Connection
from tests.caster.conftest import PATIENCE_S, ROVER, Peer, Service, StartService, frame

FRAMES = [frame(1077, bytes([number]) * 700) for number in range(40)]
GGA = b"$GPGGA,092725.00,4717.11399,N,00833.91590,E,1,08,1.01,499.6,M,48.0,M,,*5B\r\n"


@pytest.fixture
async def service(start: StartService) -> AsyncIterator[Service]:
    yield await start(**{"listen.workers": 1})


def held(service: Service) -> list[Connection]:
    return [each for each in service.caster.server.connections if isinstance(each.transport, HeldTransport)]


async def follow(service: Service, version: int = 1) -> Peer:
    """A rover whose socket has changed hands."""
    count = len(held(service))
    rover = await service.connect(get_request("M", "127.0.0.1", version=version, credentials=ROVER))
    await rover.until(b"\r\n\r\n")
    await service.wait(lambda: len(held(service)) == count + 1)
    return rover


@pytest.mark.parametrize("version", [1, 2])
async def test_rovers_get_every_frame_whole_and_in_order(start: StartService, version: int) -> None:
    service = await start(**{"listen.workers": 2})
    source = await service.feed()
    rovers = [await follow(service, version) for _ in range(6)]
    assert sorted(len(link.connections) for link in service.caster.server.holders._links) == [3, 3]
    for each in FRAMES:
        await source.send(each)
    wanted = b"".join(FRAMES)
    for rover in rovers:
        assert await body(rover, len(wanted), chunked=version == 2) == wanted
    mountpoint = service.caster.mountpoints.get("M")
    assert mountpoint is not None
    assert len(mountpoint.mount) == 6
    assert mountpoint.mount.sent_bytes >= 6 * len(wanted)


async def body(rover: Peer, size: int, *, chunked: bool) -> bytes:
    decoder, got = ChunkedDecoder(), b""
    async with asyncio.timeout(PATIENCE_S):
        while len(got) < size:
            piece = await rover.reader.read(65536)
            assert piece, "closed too soon"
            got += decoder.receive_data(piece) if chunked else piece
    return got


async def test_what_a_rover_sends_reaches_its_session(service: Service) -> None:
    await service.feed()
    rover = await follow(service)
    await rover.send(GGA)
    session = held(service)[0].rover
    assert session is not None
    await service.wait(lambda: session.gga is not None)
    assert session.gga is not None and session.gga.latitude_deg == pytest.approx(47 + 17.11399 / 60)


async def test_a_rover_that_leaves_gives_its_session_back_with_the_next_publish(service: Service) -> None:
    source = await service.feed()
    rover = await follow(service)
    await rover.close()
    await source.send(FRAMES[0])
    await service.ended("rover", "closed by the client")
    assert not held(service)


async def test_a_session_is_closed_from_here(service: Service) -> None:
    await service.feed()
    rover = await follow(service)
    held(service)[0].end("closed by an operator")
    assert await rover.all() == b""
    await service.wait(lambda: not held(service))


async def test_a_rover_that_reads_nothing_is_closed_by_name_and_the_others_lose_nothing(start: StartService) -> None:
    service = await start(**{"listen.workers": 1, "limits.write_timeout_s": 1.0, "limits.backlog_bytes": 20_000})
    source = await service.feed()
    stuck, rover = await follow(service), await follow(service)
    stuck.reader._transport.pause_reading()  # type: ignore[attr-defined]
    reading = asyncio.create_task(rover.all())
    sent = b""
    async with asyncio.timeout(6 * PATIENCE_S):
        while not service.caster.server.counters.ended["rover", "too slow"]:
            await source.send(b"".join(FRAMES))
            sent += b"".join(FRAMES)
            await asyncio.sleep(0.01)
    await service.wait(lambda: sent == b"" or held(service)[0].rover.sent_bytes >= len(sent))  # type: ignore[union-attr]
    held(service)[0].end("closed by an operator")
    assert await asyncio.wait_for(reading, PATIENCE_S) == sent


async def test_a_process_that_dies_takes_its_rovers_along_and_is_replaced(start: StartService) -> None:
    service = await start(**{"listen.workers": 1})
    await service.feed()
    rover = await follow(service)
    holders = service.caster.server.holders
    first = holders._links[0]
    pid = next(int(task.get_name().split()[1]) for task in holders._tasks)
    os.kill(pid, signal.SIGKILL)
    assert await rover.all() == b""
    await service.ended("rover", "connection lost")
    await service.wait(lambda: bool(holders._links) and holders._links[0] is not first)
    await follow(service)


async def test_everybody_is_sent_away_in_form_at_the_end(service: Service) -> None:
    await service.feed()
    rover = await follow(service)
    await service.caster.server.stop()
    assert await rover.all() == b""
    assert service.caster.server.counters.ended["rover", "the caster stops"] == 1
