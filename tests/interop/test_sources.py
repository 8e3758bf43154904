"""Programs that feed us: what they push is what rovers get, byte for byte."""

import asyncio

import pytest

from caster.codec.ntrip import get_request
from tests.caster.conftest import PATIENCE_S, ROVER, STATION, Peer, Service
from tests.interop.peers import publish, recording, rover_there, running

DATA = recording()


async def rover_of(service: Service, mount: str) -> Peer:
    """A rover of a mountpoint that a peer program has begun to feed."""

    def fed() -> bool:
        mountpoint = service.caster.mountpoints.get(mount)
        return mountpoint is not None and mountpoint.source is not None

    await service.wait(fed)
    rover = await service.connect(get_request(mount, "caster", version=1, credentials=ROVER))
    await rover.until(b"\r\n\r\n")
    await rover_there(service, mount)
    return rover


async def test_str2str_pushes_version_1(service: Service) -> None:
    """RTKLIB's server reads a receiver over TCP and pushes it to us."""
    clients: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    receiver = await asyncio.start_server(lambda _, writer: clients.put_nowait(writer), "127.0.0.1", 0)
    port = receiver.sockets[0].getsockname()[1]
    await service.caster.store.change(STATION.user, mounts="*")
    url = f"ntrips://:secret@127.0.0.1:{service.port}/BASE"  # the other station's password
    async with receiver, running("str2str", "-in", f"tcpcli://127.0.0.1:{port}", "-out", url):
        rover = await rover_of(service, "BASE")
        writer = await asyncio.wait_for(clients.get(), PATIENCE_S)
        for at in range(0, len(DATA), 1000):
            writer.write(DATA[at : at + 1000])
            await asyncio.sleep(0.005)
        assert await rover.read(len(DATA)) == DATA
        writer.close()


@pytest.mark.parametrize("expect", ["Expect: 100-continue", "Expect:"])
async def test_curl_posts_chunked(service: Service, expect: str) -> None:
    command = (
        "curl", "-s", "-T", "-", "-X", "POST", "-H", "Ntrip-Version: Ntrip/2.0", "-H", expect,
        "-u", f"{STATION.user}:{STATION.password}", f"http://127.0.0.1:{service.port}/BASE",
    )  # fmt: skip
    async with running(*command, stdin=asyncio.subprocess.PIPE) as curl:
        assert curl.stdin is not None
        rover = await rover_of(service, "BASE")
        for at in range(0, len(DATA), 1400):
            curl.stdin.write(DATA[at : at + 1400])
            await curl.stdin.drain()
        assert await rover.read(len(DATA)) == DATA


async def test_curl_posts_a_file_of_known_length(service: Service) -> None:
    """A body with a length ends the session when it is whole."""
    keep = await service.feed("BASE")
    rover = await rover_of(service, "BASE")
    await publish(keep, DATA)
    assert await rover.read(len(DATA)) == DATA
    await keep.close()
    await service.ended("source", "ended by the source")
    command = (
        "curl", "-s", "--data-binary", "@-", "-H", "Ntrip-Version: Ntrip/2.0", "-w", "%{http_code}",
        "-u", f"{STATION.user}:{STATION.password}", f"http://127.0.0.1:{service.port}/BASE",
    )  # fmt: skip
    async with running(*command, stdin=asyncio.subprocess.PIPE) as curl:
        answer, _ = await curl.communicate(DATA)
    assert answer == b"200"
    assert await rover.read(len(DATA)) == DATA
    await service.ended("source", "ended by the source", 2)
