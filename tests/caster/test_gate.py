"""TLS, proxies and IPv6: the ways in besides the plain port, with a certificate of our own making."""

import asyncio
import os
import socket
import ssl
import subprocess
import tracemalloc
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

import pytest
import trustme

from caster.codec.ntrip import get_request
from caster.errors import ConfigError, SourceError
from stations.commands.sourcetable import fetch_table
from stations.rover import Rover
from stations.uplink import Target, Uplink
from tests.caster.conftest import PATIENCE_S, ROVER, STATION, Peer, Service, StartService, frame

FRAMES = frame(1006) + frame(1077)
V1 = b"PROXY TCP4 192.0.2.7 192.0.2.1 56324 443\r\n"


class Files:
    """An authority's and a caster's certificate on the disk."""

    def __init__(self, folder: Path) -> None:
        self.authority, self.certificate, self.key = (folder / name for name in ("ca.pem", "cert.pem", "key.pem"))
        self._authority = trustme.CA()
        self._authority.cert_pem.write_to_path(self.authority)
        self.issue()

    def issue(self) -> None:
        """Put another certificate in the place of the last one."""
        issued = self._authority.issue_cert("localhost", "127.0.0.1")
        issued.private_key_pem.write_to_path(self.key)
        issued.cert_chain_pems[0].write_to_path(self.certificate)
        for extra in issued.cert_chain_pems[1:]:
            extra.write_to_path(self.certificate, append=True)
        stamp = os.stat(self.key).st_mtime_ns + 1_000_000_000
        os.utime(self.key, ns=(stamp, stamp))

    @property
    def section(self) -> dict[str, object]:
        return {"hosts": ["127.0.0.1"], "port": 0, "certificate": str(self.certificate), "key": str(self.key)}


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Files:
    """Certificates whose authority the clients of the test trust."""
    made = Files(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.authority))
    return made


@pytest.fixture
async def service(start: StartService, files: Files) -> AsyncIterator[Service]:
    yield await start(tls=[files.section])


async def connect(service: Service, data: bytes = b"") -> Peer:
    """A client that speaks TLS."""
    port = service.caster.server.tls_ports[0]
    peer = Peer(*await asyncio.open_connection("127.0.0.1", port, ssl=ssl.create_default_context()))
    service.stack.push_async_callback(peer.close)
    await peer.send(data)
    return peer


async def serial_number(service: Service) -> str:
    peer = await connect(service)
    return str(peer.writer.get_extra_info("peercert")["serialNumber"])


@pytest.mark.parametrize("version", [1, 2])
async def test_stations_and_rovers_of_ours_speak_tls(service: Service, version: int) -> None:
    port = service.caster.server.tls_ports[0]
    pieces: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def source() -> AsyncIterator[bytes]:
        while (piece := await pieces.get()) is not None:
            yield piece

    uplink = Uplink(Target("localhost", port, "M", STATION, tls=True), version)
    pushing = asyncio.create_task(uplink.run(source()))
    await service.wait(lambda: service.caster.mountpoints.get("M") is not None)
    rover = Rover(Target("127.0.0.1", port, "M", ROVER, tls=True), version, lambda: 0.0, lambda: 0.0)
    listening = asyncio.create_task(rover.run(seconds=PATIENCE_S))
    mountpoint = service.caster.mountpoints.get("M")
    assert mountpoint is not None
    await service.wait(lambda: len(mountpoint.mount) > 0)
    for _ in range(100):
        pieces.put_nowait(FRAMES)
    await service.wait(lambda: rover.tally.received >= 100 * len(FRAMES))
    assert rover.tally.messages == {1006: 100, 1077: 100}
    pieces.put_nowait(None)
    await asyncio.wait_for(pushing, PATIENCE_S)
    listening.cancel()
    await asyncio.gather(listening, return_exceptions=True)
    await service.ended("rover", "closed by the client")


async def test_a_rover_by_tls_costs_little_memory(service: Service) -> None:
    """Of asyncio's own 256 KiB for each end, a service of thousands of rovers would fill gigabytes."""
    await connect(service)
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(10):
            await connect(service)
        assert (tracemalloc.get_traced_memory()[0] - before) / 10 < 150_000
    finally:
        tracemalloc.stop()


async def test_the_table_comes_by_tls_to_ours_and_to_curl(service: Service, files: Files) -> None:
    await service.feed("TOWN")
    port = service.caster.server.tls_ports[0]
    assert "TOWN" in [record.fields[1] for record in await fetch_table(f"ntrips://localhost:{port}")]
    command = [
        "curl",
        "-s",
        "--cacert",
        str(files.authority),
        "-A",
        "NTRIP curl",
        f"https://localhost:{port}/",
        "--http0.9",
    ]
    result = await asyncio.to_thread(subprocess.run, command, capture_output=True)
    assert b"STR;TOWN;" in result.stdout and result.stdout.endswith(b"ENDSOURCETABLE\r\n")


async def test_a_certificate_that_nobody_vouches_for_is_named(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    port = service.caster.server.tls_ports[0]
    with pytest.raises(SourceError, match=r"TLS: unable to get local issuer"):
        await Rover(Target("localhost", port, "M", None, tls=True), 2, lambda: 0.0, lambda: 0.0).run()
    await service.ended("request", "TLS handshake failed")


@pytest.mark.parametrize("text", [b"GET / HTTP/1.0\r\n\r\n", b"SOURCE secret /M\r\n\r\n", b"\x00\x00"])
async def test_quirk_09_plain_text_on_the_tls_port_is_told_so_and_counted(service: Service, text: bytes) -> None:
    peer = Peer(*await asyncio.open_connection("127.0.0.1", service.caster.server.tls_ports[0]))
    service.stack.push_async_callback(peer.close)
    await peer.send(text)
    answer = await peer.all()
    assert answer.startswith(b"HTTP/1.0 400 ") and b"this port speaks TLS" in answer
    await service.ended("request", "plain text on the TLS port")


async def test_a_silent_client_of_the_tls_port_is_sent_away(start: StartService, files: Files) -> None:
    service = await start(tls=[files.section], **{"limits.head_timeout_s": 0.2})
    reader, writer = await asyncio.open_connection("127.0.0.1", service.caster.server.tls_ports[0])
    assert await asyncio.wait_for(reader.read(), PATIENCE_S) == b""
    writer.close()


async def test_a_rover_by_tls_that_stops_reading_is_closed_by_name(start: StartService, files: Files) -> None:
    service = await start(tls=[files.section], **{"limits.socket_buffer_bytes": 4096, "limits.write_timeout_s": 0.2})
    source = await service.feed()
    sleeper = await connect(service, get_request("M", "caster", version=1, credentials=ROVER))
    sleeper.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sleeper.writer.transport.pause_reading()  # type: ignore[attr-defined]
    mountpoint = service.caster.mountpoints.get("M")
    assert mountpoint is not None
    await service.wait(lambda: len(mountpoint.mount) == 1)
    for _ in range(3000):
        await source.send(frame(1077, bytes(900)))
    await service.ended("rover", "too slow")
    sleeper.writer.transport.abort()


async def test_a_changed_certificate_is_taken_at_reload_and_a_bad_one_is_not(service: Service, files: Files) -> None:
    first = await serial_number(service)
    held = await connect(service)
    service.caster.reload(service.caster.config)
    assert await serial_number(service) == first
    files.issue()
    assert await serial_number(service) == first
    service.caster.reload(service.caster.config)
    second = await serial_number(service)
    assert second != first
    files.key.write_text("no key")
    service.caster.reload(service.caster.config)
    assert await serial_number(service) == second
    await held.send(b"GET /\r\n\r\n")
    assert (await held.until(b"\r\n")).startswith(b"SOURCETABLE 200 OK")


@pytest.mark.parametrize("name", ["certificate", "key"])
async def test_files_that_are_no_certificate_are_named(start: StartService, files: Files, name: str) -> None:
    getattr(files, name).unlink()
    with pytest.raises(ConfigError, match=rf"tls: .*{getattr(files, name).name}: No such file"):
        await start(tls=[files.section])
    getattr(files, name).write_text("nonsense")
    with pytest.raises(ConfigError, match=r"tls: .* no certificate and its key"):
        await start(tls=[files.section])


async def test_ipv6_clients_are_served_and_seen(start: StartService) -> None:
    if not socket.has_ipv6:
        pytest.skip("no IPv6 on this machine")
    service = await start(**{"listen.hosts": ["127.0.0.1", "::1"]})
    source = Peer(*await asyncio.open_connection("::1", service.port))
    service.stack.push_async_callback(source.close)
    await source.send(b"SOURCE pa ss /M\r\n\r\n")
    assert await source.until(b"\r\n\r\n") == b"ICY 200 OK\r\n\r\n"
    mountpoint = service.caster.mountpoints.get("M")
    assert mountpoint is not None and mountpoint.source is not None
    assert mountpoint.source.address == "::1"
    assert b"STR;M;" in await service.ask(b"GET /\r\n\r\n")


def seen(service: Service) -> set[str]:
    return {connection.address for connection in service.caster.server.connections}


async def test_a_trusted_proxy_tells_the_client_s_address(start: StartService) -> None:
    service = await start(**{"listen.proxies": ["127.0.0.0/8"], "limits.connections_per_address": 1})
    await service.connect(V1 + b"GET /")
    await service.wait(lambda: seen(service) == {"192.0.2.7"})
    assert b"too many connections from this address" in await service.ask(V1)
    other = V1.replace(b"192.0.2.7", b"192.0.2.8")
    assert (await service.ask(other + b"GET / HTTP/1.0\r\n\r\n")).startswith(b"SOURCETABLE 200 OK")


async def test_a_proxy_without_its_header_is_closed(start: StartService) -> None:
    service = await start(**{"listen.proxies": ["127.0.0.0/8"]})
    with suppress(ConnectionError):
        assert await service.ask(b"GET / HTTP/1.0\r\n\r\n") == b""
    await service.ended("request", "bad PROXY header")


async def test_a_header_from_an_address_that_is_no_proxy_is_no_request(start: StartService) -> None:
    service = await start(**{"listen.proxies": ["192.0.2.0/24"]})
    assert b" 501 " in (await service.ask(V1 + b"\r\n"))
    assert (await service.ask(b"GET / HTTP/1.0\r\n\r\n")).startswith(b"SOURCETABLE 200 OK")


async def test_tls_follows_a_proxy_s_header(start: StartService, files: Files) -> None:
    service = await start(tls=[files.section], **{"listen.proxies": ["127.0.0.0/8"]})
    sock = socket.create_connection(("127.0.0.1", service.caster.server.tls_ports[0]))
    sock.sendall(V1)
    sock.setblocking(False)
    context = ssl.create_default_context()
    peer = Peer(*await asyncio.open_connection(sock=sock, ssl=context, server_hostname="localhost"))
    service.stack.push_async_callback(peer.close)
    await service.wait(lambda: seen(service) == {"192.0.2.7"})
    await peer.send(b"GET / HTTP/1.0\r\n\r\n")
    assert (await peer.until(b"\r\n")) == b"SOURCETABLE 200 OK\r\n"
