"""The PyPI client and server ntripstreams: frames arrive as they were published, in version 1 and 2."""

import asyncio

import pytest
from bitstring import BitStream
from ntripstreams import NtripStream

from tests.caster.conftest import PATIENCE_S, ROVER, STATION, Service
from tests.interop.peers import frames_of, publish, recording, rover_there

FRAMES = frames_of(recording())


def url(service: Service) -> str:
    return f"http://127.0.0.1:{service.port}"


async def closed(stream: NtripStream) -> None:
    stream.ntripWriter.close()
    await stream.ntripWriter.wait_closed()


async def read_frames(stream: NtripStream, count: int) -> list[bytes]:
    async with asyncio.timeout(PATIENCE_S):
        return [(await stream.getRtcmFrame())[0].tobytes() for _ in range(count)]


@pytest.mark.parametrize("version", [1, 2])
async def test_it_reads_every_frame(service: Service, version: int) -> None:
    """Version 1 of it sends `Ntrip-Version: Ntrip/1.0`, which asks for no more than what version 1 has."""
    source, stream = await service.feed("BASE"), NtripStream()
    stream.ntripVersion = version
    await stream.requestNtripStream(url(service), "BASE", *ROVER)
    assert stream.ntripStreamChunked == (version == 2)
    assert stream.ntripResponseHeader[0] == ("ICY 200 OK" if version == 1 else "HTTP/1.1 200 OK")
    await rover_there(service, "BASE")
    reading = asyncio.create_task(read_frames(stream, len(FRAMES)))
    await publish(source, b"".join(FRAMES) * 2)  # it gives out no frame while it holds less than 2048 bytes
    assert await reading == FRAMES
    await closed(stream)


@pytest.mark.parametrize("version", [1, 2])
async def test_it_pushes_every_frame(service: Service, version: int) -> None:
    """Its version 2 sends a body without a length and without chunks."""
    server = NtripStream()
    await server.requestNtripServer(url(service), "OPEN", *STATION, ntripVersion=version)
    rover = await service.connect(b"GET /OPEN HTTP/1.0\r\n\r\n")
    await rover.until(b"\r\n\r\n")
    await rover_there(service, "OPEN")
    for frame in FRAMES:
        await server.sendRtcmFrame(BitStream(frame))
    data = b"".join(FRAMES)
    assert await rover.read(len(data)) == data
    await closed(server)
    await service.ended("source", "ended by the source")


async def test_it_reads_the_table(service: Service) -> None:
    await service.feed("BASE")
    stream = NtripStream()
    table = await stream.requestSourcetable(url(service))
    await closed(stream)
    assert table[-1] == "ENDSOURCETABLE" and any(line.startswith("STR;BASE;") for line in table)
