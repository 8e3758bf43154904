"""Programs that read our streams get every published byte, and nothing else."""

import asyncio
import sys
from pathlib import Path

import pytest

from tests.caster.conftest import PATIENCE_S, ROVER, Service
from tests.interop.peers import file_of_size, frames_of, publish, read_at_least, recording, rover_there, running

DATA = recording()


async def test_str2str_reads_version_1(service: Service, tmp_path: Path) -> None:
    """RTKLIB's client; its password has a colon."""
    source = await service.feed("BASE")
    url = f"ntrip://{ROVER.user}:{ROVER.password}@127.0.0.1:{service.port}/BASE"
    async with running("str2str", "-in", url, "-out", str(tmp_path / "out.rtcm")):
        await rover_there(service, "BASE")
        await publish(source, DATA)
        assert await file_of_size(tmp_path / "out.rtcm", len(DATA)) == DATA


async def test_str2str_says_where_it_is(service: Service, tmp_path: Path) -> None:
    await service.feed("OPEN")
    url = f"ntrip://127.0.0.1:{service.port}/OPEN"
    place = ("-p", "30.5", "114.3", "50", "-n", "200")
    async with running("str2str", "-in", url, "-out", str(tmp_path / "out.rtcm"), *place):
        await service.wait(lambda: any(_position(c) for c in service.caster.server.connections))
    assert {_position(c) for c in service.caster.server.connections} <= {None, (30.5, 114.3)}


def _position(connection: object) -> tuple[float, float] | None:
    gga = getattr(getattr(connection, "_handler", None), "gga", None)
    return None if gga is None else (round(gga.latitude_deg, 6), round(gga.longitude_deg, 6))


@pytest.mark.parametrize("version", [1, 2])
async def test_curl_reads(service: Service, version: int) -> None:
    source = await service.feed("BASE")
    header = {1: ("-A", "NTRIP curl"), 2: ("-H", "Ntrip-Version: Ntrip/2.0")}[version]
    url = f"http://127.0.0.1:{service.port}/BASE"
    who = ("-u", f"{ROVER.user}:{ROVER.password}")
    async with running("curl", "-sN", "--http0.9", *header, *who, url) as curl:
        await rover_there(service, "BASE")
        await publish(source, DATA)
        # curl takes `ICY 200 OK` for a reply of HTTP/0.9, whose head is data.
        head = b"ICY 200 OK\r\n\r\n" if version == 1 else b""
        data = await read_at_least(curl.stdout, len(head + DATA))
    assert data.removeprefix(head) == DATA


async def test_curl_reads_the_table(service: Service) -> None:
    await service.feed("BASE")
    url = f"http://127.0.0.1:{service.port}/?match=STR;BASE"
    async with running("curl", "-s", "-H", "Ntrip-Version: Ntrip/2.0", url) as curl:
        assert curl.stdout is not None
        text = await curl.stdout.read()
    assert text.startswith(b"STR;BASE;") and text.endswith(b"\r\nENDSOURCETABLE\r\n") and text.count(b"\r\n") == 2


async def test_gpsd_reads(service: Service, unused_tcp_port: int) -> None:
    """gpsd passes on what it recognises as whole packets: every frame must be one."""
    source = await service.feed("OPEN")
    url = f"ntrip://127.0.0.1:{service.port}/OPEN"
    async with running("gpsd", "-n", "-N", "-S", str(unused_tcp_port), url):
        await rover_there(service, "OPEN")
        async with running("gpspipe", "-R", f"127.0.0.1:{unused_tcp_port}") as gpspipe:
            seen = bytearray()
            reading = asyncio.create_task(_collect(gpspipe.stdout, seen))
            while len(seen) < 2 * len(DATA):  # gpspipe begins late and writes in blocks: repeat until it has enough
                await publish(source, DATA)
            reading.cancel()
    got, cycle = frames_of(bytes(seen)), frames_of(DATA)
    starts = [n for n, each in enumerate(cycle) if each == got[0]]
    assert len(got) >= len(cycle)
    assert any((cycle[n:] + cycle * 9)[: len(got)] == got for n in starts)


async def _collect(stream: asyncio.StreamReader | None, into: bytearray) -> None:
    assert stream is not None
    while data := await stream.read(65536):
        into += data


PYGNSSUTILS_CLIENT = """
import sys, time
from pygnssutils import GNSSNTRIPClient
port, version, user, password, path = sys.argv[1:]
with open(path, "wb") as output, GNSSNTRIPClient() as client:
    client.run(server="127.0.0.1", port=int(port), mountpoint="BASE", version=version, ntripuser=user,
               ntrippassword=password, output=output)
    time.sleep(60)
"""


@pytest.mark.parametrize("version", ["1.0", "2.0"])
async def test_pygnssutils_reads(service: Service, tmp_path: Path, version: str, shared_data: Path) -> None:
    """It passes on what it can decode, so it gets a real recording; what it reads first after the head, it drops."""
    capture = (shared_data / "rtcm3-captures" / "msm.rtcm").read_bytes()
    frames = frames_of(capture)
    source = await service.feed("BASE")
    output = tmp_path / "out.bin"
    arguments = (str(service.port), version, *ROVER, str(output))
    async with running(sys.executable, "-c", PYGNSSUTILS_CLIENT, *arguments):
        await rover_there(service, "BASE")
        async with asyncio.timeout(PATIENCE_S):
            while not output.exists():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await source.send(frames[0])
            await asyncio.sleep(0.5)
            await publish(source, b"".join(frames[1:]))
        assert await file_of_size(output, sum(map(len, frames[1:]))) == b"".join(frames[1:])
