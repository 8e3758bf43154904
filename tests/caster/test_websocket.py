"""Web clients follow a mountpoint by WebSocket: real clients, a real browser where there is one."""

import asyncio
import base64
import hashlib
import shutil
import ssl
from pathlib import Path

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from caster.codec.ntrip.auth import basic_header
from tests.caster.conftest import PATIENCE_S, ROVER, Service, StartService, frame
from tests.caster.test_gate import Files
from tests.caster.test_mountpoints import ECHO, EchoService

TOKEN = base64.b64encode(f"{ROVER.user}:{ROVER.password}".encode()).decode()
STATION = frame(1005)
EPOCH = [frame(1077, bytes(range(256)) + b"\x00" * 40), frame(1087)]


def url(service: Service, mount: str = "BASE", query: str = "") -> str:
    return f"ws://127.0.0.1:{service.port}/{mount}{query}"


async def message(client: ClientConnection) -> bytes:
    data = await asyncio.wait_for(client.recv(), PATIENCE_S)
    assert isinstance(data, bytes)
    return data


async def followed(service: Service, mount: str = "BASE", count: int = 1) -> None:
    await service.wait(lambda: len(service.caster.mountpoints.get(mount).mount) == count)


async def test_each_publish_is_one_message_of_whole_frames(service: Service) -> None:
    source = await service.feed("BASE")
    await source.send(STATION)
    mount = service.caster.mountpoints.get("BASE").mount
    await service.wait(lambda: mount.greeting() == STATION)
    async with connect(url(service), additional_headers={"Authorization": basic_header(ROVER)}) as client:
        assert await message(client) == STATION  # the station's description comes first
        for _ in range(3):
            await source.send(b"".join(EPOCH))
            assert await message(client) == b"".join(EPOCH)
    await service.ended("rover", "closed by the client")


async def test_it_shares_a_mountpoint_with_other_rovers(service: Service) -> None:
    source = await service.feed("OPEN")
    plain = await service.connect(b"GET /OPEN HTTP/1.0\r\n\r\n")
    await plain.until(b"\r\n\r\n")
    async with connect(url(service, "OPEN")) as one, connect(url(service, "OPEN")) as other:
        await followed(service, "OPEN", 3)
        await source.send(b"".join(EPOCH))
        assert await message(one) == await message(other) == b"".join(EPOCH)
        assert await plain.read(len(b"".join(EPOCH))) == b"".join(EPOCH)


async def test_a_page_logs_in_by_token(service: Service) -> None:
    source = await service.feed("BASE")
    async with connect(url(service, query=f"?token={TOKEN}")) as client:
        await followed(service)
        await source.send(STATION)
        assert await message(client) == STATION


@pytest.mark.parametrize(
    ("mount", "query", "status"),
    [("BASE", "", 401), ("BASE", "?token=eDp5", 401), ("NONE", "", 404), ("OPEN", "", 503)],
)
async def test_a_refusal_comes_before_the_upgrade(service: Service, mount: str, query: str, status: int) -> None:
    await service.feed("BASE")
    if mount == "OPEN":
        await (await service.feed("OPEN")).close()
        await service.wait(lambda: not service.caster.mountpoints.get("OPEN").is_live)
    with pytest.raises(InvalidStatus) as error:
        await connect(url(service, mount, query))
    assert error.value.response.status_code == status


async def test_a_version_that_we_do_not_speak_is_told_ours(service: Service) -> None:
    await service.feed("OPEN")
    answer = await service.ask(
        b"GET /OPEN HTTP/1.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 8\r\n\r\n"
    )
    assert answer.startswith(b"HTTP/1.1 426 ") and b"Sec-WebSocket-Version: 13\r\n" in answer


async def test_its_position_comes_as_a_message(service: Service) -> None:
    await service.feed("OPEN")
    async with connect(url(service, "OPEN")) as client:
        await client.send("$GPGGA,120000.00,3030.0000000,N,11418.0000000,E,1,12,1.0,50.000,M,0.000,M,,")

        def known() -> bool:
            handlers = [connection._handler for connection in service.caster.server.connections]
            return any(getattr(handler, "gga_count", 0) for handler in handlers)

        await service.wait(known)
        assert await asyncio.wait_for(await client.ping(), PATIENCE_S) >= 0


async def test_the_end_of_the_session_tells_the_reason(start: StartService) -> None:
    service = await start()
    await service.feed("OPEN")
    async with connect(url(service, "OPEN")) as client:
        await followed(service, "OPEN")
        next(
            c for c in service.caster.server.connections if c.request.mount == "OPEN" and c.request.method == "GET"
        ).end("kicked")
        with pytest.raises(ConnectionClosed) as error:
            await message(client)
    assert error.value.rcvd is not None and (error.value.rcvd.code, error.value.rcvd.reason) == (1001, "kicked")


async def test_a_client_that_never_reads_is_closed_and_others_go_on(start: StartService) -> None:
    limits = {"limits.backlog_bytes": 4096, "limits.socket_buffer_bytes": 4608, "limits.write_timeout_s": 0.2}
    service = await start(**limits)
    source = await service.feed("OPEN")
    big = frame(1077, b"\x5a" * 1000)
    async with connect(url(service, "OPEN")) as reader:
        async with connect(url(service, "OPEN"), max_queue=1) as sleeper:
            sleeper.transport.pause_reading()  # type: ignore[attr-defined]
            await followed(service, "OPEN", 2)
            sent = 0
            while not service.caster.server.counters.ended["rover", "too slow"]:
                await source.send(big)
                assert await message(reader) == big
                sent += 1
            sleeper.transport.abort()  # type: ignore[attr-defined]
        await source.send(STATION)
        assert await message(reader) == STATION


async def test_binary_messages_go_up_to_a_service_and_its_answers_come_down(start: StartService) -> None:
    """So a page can upload raw observations to a fix mountpoint."""
    service = await start(EchoService(), mounts=[ECHO])
    async with connect(url(service, "ECHO")) as client:
        for size in (5, 200, 70_000):
            await client.send(b"x" * size)
            answer = b""
            while not answer.endswith(b">") or answer.count(b"x") < size:
                answer += await message(client)
            assert answer.replace(b"><", b"") == b"<" + b"x" * size + b">"


async def test_it_goes_over_tls(start: StartService, tmp_path: Path) -> None:
    files = Files(tmp_path)
    service = await start(tls=[files.section])
    source = await service.feed("OPEN")
    address = f"wss://127.0.0.1:{service.caster.server.tls_ports[0]}/OPEN"
    async with connect(address, ssl=ssl.create_default_context(cafile=files.authority)) as client:
        await followed(service, "OPEN")
        await source.send(b"".join(EPOCH))
        assert await message(client) == b"".join(EPOCH)
    await service.ended("rover", "closed by the client")


PAGE = """<!DOCTYPE html><title>reader</title><script>
const socket = new WebSocket("ws://127.0.0.1:{port}/BASE?token=" + encodeURIComponent(btoa("{user}:{password}")));
const parts = [];
let size = 0;
socket.binaryType = "arraybuffer";
socket.onopen = () => socket.send("$GPGGA,120000.00,3030.0000000,N,11418.0000000,E,1,12,1.0,50.000,M,0.000,M,,");
socket.onmessage = async (event) => {{
  parts.push(event.data);
  size += event.data.byteLength;
  if (size >= {size}) {{
    const sizes = parts.map((part) => part.byteLength).join(",");
    await fetch("/done?" + sizes, {{method: "POST", body: new Blob(parts)}});
  }}
}};
socket.onclose = (event) => fetch("/closed?" + event.code);
</script>"""


async def serve_page(page: str, done: "asyncio.Future[tuple[str, bytes]]") -> asyncio.Server:
    """A web server with one page, which posts what it got."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        target = head.split()[1]
        length = next((int(line[15:]) for line in head.split("\r\n") if line.lower().startswith("content-length:")), 0)
        body = await reader.readexactly(length)
        if target.startswith(("/done", "/closed")) and not done.done():
            done.set_result((target, body))
        text = page if target == "/" else ""
        kind = "Content-Type: text/html\r\nConnection: close\r\n"
        writer.write(f"HTTP/1.1 200 OK\r\n{kind}Content-Length: {len(text)}\r\n\r\n{text}".encode())
        writer.close()

    return await asyncio.start_server(answer, "127.0.0.1", 0)


CHROMIUM = (
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
)  # fmt: skip


async def test_a_page_in_a_real_browser_gets_every_byte(service: Service, tmp_path: Path) -> None:
    browser = shutil.which("chromium")
    if browser is None:
        pytest.skip("chromium is not installed")
    source = await service.feed("BASE")
    data = b"".join(EPOCH) * 40
    done: asyncio.Future[tuple[str, bytes]] = asyncio.get_running_loop().create_future()
    page = PAGE.format(port=service.port, user=ROVER.user, password=ROVER.password, size=len(data))
    async with await serve_page(page, done) as server:
        address = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        null = asyncio.subprocess.DEVNULL
        command = (browser, *CHROMIUM, f"--user-data-dir={tmp_path}", address)
        process = await asyncio.create_subprocess_exec(*command, stdout=null, stderr=null, stdin=null)
        try:
            async with asyncio.timeout(60):
                while not len(service.caster.mountpoints.get("BASE").mount):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                for _ in range(40):
                    await source.send(b"".join(EPOCH))
                    await asyncio.sleep(0.002)
                target, body = await done
        finally:
            process.terminate()
            await process.wait()
    assert hashlib.sha256(body).digest() == hashlib.sha256(data).digest(), target
    sizes = [int(size) for size in target.partition("?")[2].split(",")]
    assert all(size % len(b"".join(EPOCH)) == 0 for size in sizes)  # whole epochs, whole frames
    await service.ended("rover", "closed by the client")
