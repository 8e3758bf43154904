"""A stream is pulled from other casters: ours, Debian's str2str, and one that speaks TLS."""

import asyncio
import ssl
import subprocess
from pathlib import Path

import pytest

from caster.errors import ConfigError, DipperError, RefusedError, SourceError
from caster.upstream import Feed, Upstream
from tests.caster.broker import PATIENCE_S, free_port
from tests.caster.conftest import ROVER, Service, frame

FRAMES = frame(1005) + frame(1077)


def address(
    service: Service, mount: str, version: int = 2, user: str = "rover", password: str = "ro%3Aver"
) -> Upstream:
    return Upstream.parse(f"ntrip://{user}:{password}@127.0.0.1:{service.port}/{mount}?version={version}")


async def bytes_of(feed: Feed, count: int) -> bytes:
    data = b""
    async with asyncio.timeout(PATIENCE_S):
        while len(data) < count and (more := await feed.read()):
            data += more
    return data


def test_an_address_has_login_port_and_version():
    up = Upstream.parse("ntrips://us%40er:pa%3Ass@caster.example/M?version=1")
    assert (up.host, up.port, up.mount, up.tls, up.version) == ("caster.example", 443, "M", True, 1)
    assert up.credentials is not None and (up.credentials.user, up.credentials.password) == ("us@er", "pa:ss")
    assert str(up) == "ntrips://caster.example:443/M"


@pytest.mark.parametrize(
    "url", ["", "http://a/M", "ntrip:///M", "ntrip://a", "ntrip://a:99999/M", "ntrip://u:secret@a/M?version=3"]
)
def test_what_is_no_address_is_refused_without_its_password(url):
    with pytest.raises(ConfigError, match="not an address") as error:
        Upstream.parse(url)
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("version", [1, 2])
async def test_a_stream_comes_whole_from_a_caster_of_either_version(service: Service, version: int) -> None:
    source = await service.feed("M")
    feed = await Feed.open(address(service, "M", version))
    await service.wait(lambda: len(service.caster.mountpoints.get("M").mount) == 1)
    await source.send(FRAMES)
    assert feed.version == version
    assert await bytes_of(feed, len(FRAMES)) == FRAMES
    feed.close()


@pytest.mark.parametrize("version", [1, 2])
async def test_a_mountpoint_that_there_is_not_is_named(service: Service, version: int) -> None:
    with pytest.raises(RefusedError, match=f"ntrip://127.0.0.1:{service.port}/NONE"):
        await Feed.open(address(service, "NONE", version))


async def test_a_wrong_password_is_refused_and_not_shown(service: Service) -> None:
    await service.feed("M")
    with pytest.raises(RefusedError, match="401") as error:
        await Feed.open(address(service, "M", password="pa33word"))
    assert "pa33word" not in str(error.value)


async def test_a_caster_that_is_not_there_is_named() -> None:
    with pytest.raises(SourceError, match=r"ntrip://127\.0\.0\.1:\d+/M: .*"):
        await Feed.open(Upstream("127.0.0.1", free_port(), "M"))


@pytest.mark.parametrize("answer", [b"", b"SSH-2.0-x\r\n\r\n", b"x" * 100_000])
async def test_what_is_no_caster_is_told_so(answer: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(answer)
        await asyncio.wait([asyncio.ensure_future(writer.drain())], timeout=1)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    with pytest.raises(DipperError, match="/M: "):
        await Feed.open(Upstream("127.0.0.1", server.sockets[0].getsockname()[1], "M"))
    server.close()
    await server.wait_closed()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate of 127.0.0.1 with its key, in one file."""
    path, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(path), "-days", "2", "-subj", "/CN=127.0.0.1"]
    subprocess.run([*command, "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True, timeout=30)
    path.write_text(path.read_text() + key.read_text())
    return path


async def test_a_stream_comes_over_tls_from_a_caster_whose_certificate_is_good(certificate: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"GET /M HTTP/1.1\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nNtrip-Version: Ntrip/2.0\r\nContent-Type: gnss/data\r\n\r\n" + FRAMES)
        await writer.drain()
        writer.close()

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    up = Upstream.parse(f"ntrips://127.0.0.1:{server.sockets[0].getsockname()[1]}/M")
    feed = await Feed.open(up, ca_file=certificate)
    assert await bytes_of(feed, len(FRAMES)) == FRAMES
    feed.close()
    with pytest.raises(SourceError, match="certificate"):
        await Feed.open(up)
    server.close()
    await server.wait_closed()


def str2str(tmp_path: Path, port: int, data: bytes) -> subprocess.Popen[bytes]:
    path = tmp_path / "stream.rtcm3"
    path.write_bytes(data)
    command = ["str2str", "-in", f"file://{path}", "-out", f"ntripc://u:p@:{port}/M"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def test_str2str_is_understood_as_a_caster(tmp_path: Path) -> None:
    """RTKLIB's caster answers `ICY 200 OK` and sends the file once, while somebody listens or not."""
    port = free_port()
    data = frame(1077, b"x" * 900) * 20_000
    process = str2str(tmp_path, port, data)
    try:
        feed = await _open_when_there(Upstream.parse(f"ntrip://u:p@127.0.0.1:{port}/M"))
        received = await bytes_of(feed, 4096)
        feed.close()
    finally:
        process.terminate()
        process.wait(PATIENCE_S)
    assert len(received) >= 4096 and received in data


async def _open_when_there(upstream: Upstream) -> Feed:
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await Feed.open(upstream)
            except SourceError:
                await asyncio.sleep(0.02)


def test_the_tests_login_is_that_of_the_service() -> None:
    assert Upstream.parse("ntrip://rover:ro%3Aver@h/M").credentials == ROVER
