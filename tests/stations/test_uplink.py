import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from caster.codec.ntrip import Credentials, get_request
from caster.errors import ConfigError, RefusedError, SourceError
from stations.rover import Place, Rover
from stations.sources import open_source
from stations.uplink import Target, Uplink, parse_target
from tests.caster.conftest import PATIENCE_S, ROVER, STATION, Service, StartService
from tests.stations.conftest import observation_frame


def test_an_address_is_read_with_its_quoting() -> None:
    target = parse_target("ntrip://ba%2Fse:pa:%40ss@[::1]:2102/TOWN")
    assert target == Target("::1", 2102, "TOWN", Credentials("ba/se", "pa:@ss"))
    assert str(target) == "ntrip://[::1]:2102/TOWN"
    assert parse_target("ntrip://caster").port == 2101


@pytest.mark.parametrize("address", ["http://h/M", "ntrip://", "ntrip://h:port/M", "ntrip://h:99999/M", "M"])
def test_what_is_no_address_is_refused_without_showing_a_password(address: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_target(address.replace("://", "://user:secret@"))
    assert "secret" not in str(caught.value)


def target_of(service: Service, mount: str = "M", who: Credentials | None = STATION) -> Target:
    return Target("127.0.0.1", service.port, mount, who)


async def listener(
    service: Service, mount: str = "M", version: int = 2
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(get_request(mount, "caster", version=version, credentials=ROVER))
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_S)
    mountpoint = service.caster.mountpoints.get(mount)
    assert mountpoint is not None
    await service.wait(lambda: len(mountpoint.mount) > 0)
    return reader, writer


async def pieces_from(queue: asyncio.Queue[bytes | None]) -> AsyncIterator[bytes]:
    while (piece := await queue.get()) is not None:
        yield piece


@pytest.mark.parametrize("version", [1, 2])
async def test_what_is_pushed_reaches_a_rover_byte_for_byte(service: Service, version: int) -> None:
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()
    uplink = Uplink(target_of(service), version)
    pushing = asyncio.create_task(uplink.run(pieces_from(queue)))
    await service.wait(lambda: service.caster.mountpoints.get("M") is not None)
    reader, writer = await listener(service, version=1)
    frames = [observation_frame(t) for t in range(50)]
    for frame in frames:
        queue.put_nowait(frame)
    assert await asyncio.wait_for(reader.readexactly(sum(map(len, frames))), PATIENCE_S) == b"".join(frames)
    queue.put_nowait(None)
    await asyncio.wait_for(pushing, PATIENCE_S)
    assert (uplink.counters.pieces_sent, uplink.counters.pieces_dropped) == (50, 0)
    writer.close()


@pytest.mark.parametrize("version", [1, 2])
async def test_a_wrong_password_is_final(service: Service, version: int) -> None:
    uplink = Uplink(target_of(service, who=Credentials("base", "wrong")), version)
    with pytest.raises(RefusedError, match="refuses"):
        await uplink.run(pieces_from(asyncio.Queue()))


async def test_no_caster_is_named() -> None:
    with pytest.raises(SourceError, match=r"127\.0\.0\.1:1: "):
        await Uplink(Target("127.0.0.1", 1, "M", STATION)).run(pieces_from(asyncio.Queue()))


class FlakyCaster:
    """A caster that takes every source and can drop it."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        self.writers: list[asyncio.StreamWriter] = []
        self.connected = asyncio.Event()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.writers.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"ICY 200 OK\r\n\r\n")
        self.connected.set()
        self.received.append(b"")
        place = len(self.received) - 1
        try:
            while data := await reader.read(4096):
                self.received[place] += data
        except OSError:
            pass
        writer.close()


async def test_a_lost_connection_is_made_again_and_nothing_stale_is_sent() -> None:
    caster = FlakyCaster()
    server = await asyncio.start_server(caster.serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()
    said: list[str] = []
    uplink = Uplink(Target("127.0.0.1", port, "M", STATION), 1, said.append, wait_first_s=0.05)
    pushing = asyncio.create_task(uplink.run(pieces_from(queue)))
    async with asyncio.timeout(PATIENCE_S):
        await caster.connected.wait()
        queue.put_nowait(b"first")
        while caster.received[:1] != [b"first"]:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        caster.connected.clear()
        caster.writers[0].transport.abort()
        while not caster.connected.is_set():
            queue.put_nowait(b"stale")
            await asyncio.sleep(0.01)
        while uplink.counters.connections < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.005)
        queue.put_nowait(b"fresh")
        queue.put_nowait(None)
        await pushing
    assert caster.received[1].endswith(b"fresh")
    assert uplink.counters.pieces_dropped >= 2
    assert any("lost" in line for line in said) and any("again in" in line for line in said)
    server.close()
    await server.wait_closed()


async def test_a_file_is_pushed_whole_and_its_garbage_left_out(service: Service, recording: Path) -> None:
    uplink = Uplink(target_of(service))
    pieces = [piece async for piece in open_source(str(recording), speed=0)]
    await uplink.run(open_source(str(recording), speed=0), live=False)
    assert uplink.counters.bytes_sent == sum(map(len, pieces))
    assert len(pieces) == 8
    assert b"noise" not in b"".join(pieces)


async def test_a_mount_that_is_still_taken_is_tried_again(start: StartService) -> None:
    service = await start()
    first = await service.feed("M")
    said: list[str] = []
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()
    other = Uplink(target_of(service, who=Credentials("other", "secret")), 2, said.append, wait_first_s=0.05)
    pushing = asyncio.create_task(other.run(pieces_from(queue)))
    queue.put_nowait(b"dropped")
    await service.wait(lambda: any("again in" in line for line in said))
    await first.close()
    await service.wait(lambda: other.counters.connections == 1)
    queue.put_nowait(None)
    await asyncio.wait_for(pushing, PATIENCE_S)


@pytest.mark.parametrize("version", [1, 2])
async def test_a_rover_counts_messages_epochs_and_gaps(service: Service, recording: Path, version: int) -> None:
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()
    pushing = asyncio.create_task(Uplink(target_of(service)).run(pieces_from(queue)))
    await service.wait(lambda: service.caster.mountpoints.get("M") is not None)
    rover = Rover(target_of(service, who=ROVER), version, lambda: 0.0, lambda: 105.0, Place(31.2, 121.5, 20.0))
    roving = asyncio.create_task(rover.run())
    mountpoint = service.caster.mountpoints.get("M")
    assert mountpoint is not None
    await service.wait(lambda: len(mountpoint.mount) == 1)
    async for piece in open_source(str(recording), speed=0):
        queue.put_nowait(piece)
    await service.wait(lambda: rover.tally.messages[1127] == 8)
    queue.put_nowait(None)
    await asyncio.wait_for(pushing, PATIENCE_S)
    roving.cancel()
    await asyncio.gather(roving, return_exceptions=True)
    assert dict(rover.tally.messages) == {1077: 8, 1127: 8}
    assert (rover.tally.epochs, rover.tally.interval_s, rover.tally.gaps) == (8, 1.0, 1)
    assert rover.tally.longest_gap_s == 3.0
    assert any("1077: 8" in line for line in rover.tally.summary())


async def test_a_rover_at_a_mount_that_is_not_there_is_told_so(service: Service) -> None:
    rover = Rover(target_of(service, "NOWHERE", ROVER), 1, lambda: 0.0, lambda: 0.0)
    with pytest.raises(RefusedError, match="sourcetable"):
        await asyncio.wait_for(rover.run(), PATIENCE_S)
