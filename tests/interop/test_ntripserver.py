"""BKG's ntripserver 1.51, replayed: the bytes that its source writes, in order, and what it looks for in answers."""

import base64

import pytest

from tests.caster.conftest import STATION, Peer, Service
from tests.interop.peers import recording, rover_there

DATA = recording()
AGENT = "NTRIP NtripServerPOSIX/1.51"
RECORD = "STR;BASE;Town;RTCM 3.3;1005(10),1077(1);2;GPS;NET;CHN;31.25;121.50;0;0;x;none;B;N;9600;"
PIECES = (1, 1000, 64, 1024, 7)


def post(user: str, password: str, record: str = "") -> bytes:
    """Its version 2 request: `Ntrip-STR`, where it has one, between `Authorization` and `Connection`."""
    login = base64.b64encode(f"{user}:{password}".encode()).decode()
    more = f"\r\nNtrip-STR: {record}" if record else ""
    return (
        "POST /BASE HTTP/1.1\r\nHost: 127.0.0.1\r\nNtrip-Version: Ntrip/2.0\r\n"
        f"User-Agent: {AGENT}\r\nAuthorization: Basic {login}{more}\r\n"
        "Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
    ).encode()


def source(password: str) -> bytes:
    return f"SOURCE {password} /BASE\r\nSource-Agent: {AGENT}\r\n\r\n".encode()


async def answer(peer: Peer) -> str:
    """What its one `recv` sees."""
    return (await peer.reader.read(1024)).decode()


async def rover(service: Service) -> Peer:
    peer = await service.connect(
        b"GET /BASE HTTP/1.0\r\nAuthorization: Basic " + base64.b64encode(b"rover:ro:ver") + b"\r\n\r\n"
    )
    await peer.until(b"\r\n\r\n")
    await rover_there(service, "BASE")
    return peer


async def send_in_chunks(peer: Peer) -> None:
    """Size in lower-case hex, data and line end in a send of their own each; one chunk for each receive."""
    at, turn = 0, 0
    while at < len(DATA):
        piece = DATA[at : at + PIECES[turn % len(PIECES)]]
        for part in (b"%x\r\n" % len(piece), piece, b"\r\n"):
            await peer.send(part)
        at, turn = at + len(piece), turn + 1


@pytest.mark.parametrize("record", ["", RECORD])
async def test_version_2_is_taken_at_the_first_try(service: Service, record: str) -> None:
    """It falls back to version 1 unless both lines are in what it receives first."""
    peer = await service.connect(post(*STATION, record))
    head = await answer(peer)
    assert "HTTP/1.1 200 OK" in head and "Ntrip-Version: Ntrip/2.0\r\n" in head and head.endswith("\r\n\r\n")
    reader = await rover(service)
    await send_in_chunks(peer)
    assert await reader.read(len(DATA)) == DATA
    await peer.close()  # it ends without a last chunk
    await service.ended("source", "ended by the source")


async def test_a_wrong_password_in_version_2_is_final(service: Service) -> None:
    """It stops for good on these words, and does not fall back."""
    head = await answer(await service.connect(post("base", "wrong")))
    assert "HTTP/1.1 401 Unauthorized" in head and "Ntrip-Version: Ntrip/2.0\r\n" in head


async def test_version_1_is_taken(service: Service) -> None:
    peer = await service.connect(source(STATION.password))
    assert "OK" in await answer(peer)
    reader = await rover(service)
    for at in range(0, len(DATA), 1000):
        await peer.send(DATA[at : at + 1000])
    assert await reader.read(len(DATA)) == DATA
    await peer.close()
    await service.ended("source", "ended by the source")


async def test_a_wrong_password_in_version_1_is_final(service: Service) -> None:
    assert "ERROR - Bad Password" in await answer(await service.connect(source("wrong")))


async def test_a_base_that_lost_its_line_gets_its_mountpoint_back(service: Service) -> None:
    """Its old connection still stands, since nobody told us; the same login takes over once it is silent."""
    old = await service.connect(post(*STATION))
    await answer(old)
    assert "409" in await answer(await service.connect(post(*STATION)))
    service.caster.mountpoints.get("BASE").source_last_s -= service.caster.config.limits.takeover_s
    new = await service.connect(post(*STATION))
    assert "HTTP/1.1 200 OK" in await answer(new)
    await service.ended("source", "taken over")
    reader = await rover(service)
    await send_in_chunks(new)
    assert await reader.read(len(DATA)) == DATA
