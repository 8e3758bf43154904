"""HAProxy before the caster: streams pass, and the client's own address is the one that counts."""

import asyncio
import socket
from pathlib import Path

import pytest

from tests.caster.conftest import PATIENCE_S, Peer, StartService
from tests.interop.peers import need, publish, recording, rover_there, running

DATA = recording()
BALANCER, CLIENT = "127.0.0.9", "127.0.0.5"
CONFIG = f"""
defaults
    mode tcp
    timeout connect 5s
    timeout client 2m
    timeout server 2m
listen ntrip
    bind 127.0.0.1:{{port}}
    server caster 127.0.0.1:{{caster}} {{header}} source {BALANCER}
"""


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


async def connect(port: int) -> Peer:
    """A client's connection, once the balancer listens."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return Peer(*await asyncio.open_connection("127.0.0.1", port, local_addr=(CLIENT, 0)))
            except ConnectionRefusedError:
                await asyncio.sleep(0.02)


@pytest.mark.parametrize("header", ["send-proxy", "send-proxy-v2"])
async def test_a_stream_passes_and_the_client_is_known_by_its_own_address(
    start: StartService, tmp_path: Path, header: str
) -> None:
    need("haproxy")
    service = await start(**{"listen.proxies": [f"{BALANCER}/32"]})
    source = await service.feed("OPEN")
    file, port = tmp_path / "haproxy.cfg", free_port()
    file.write_text(CONFIG.format(port=port, caster=service.port, header=header))
    async with running("haproxy", "-db", "-f", str(file)):
        rover = await connect(port)
        await rover.send(b"GET /OPEN HTTP/1.0\r\nUser-Agent: NTRIP test\r\n\r\n")
        assert await rover.until(b"\r\n\r\n") == b"ICY 200 OK\r\n\r\n"
        await rover_there(service, "OPEN")
        assert {one.address for one in service.caster.server.connections} == {"127.0.0.1", CLIENT}
        await publish(source, DATA)
        assert await rover.read(len(DATA)) == DATA
        await rover.close()
