"""A mountpoint is pulled from upstream casters: always or on demand, and from the next one when one fails."""

import socket
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from caster.backoff import Backoff
from caster.config import load_config
from caster.errors import ConfigError
from caster.relay import RelayMountpoint
from tests.caster.broker import free_port
from tests.caster.conftest import Peer, Service, StartService, frame

FRAMES = frame(1005) + frame(1077)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of a service that nobody watches are not worth waiting for here."""
    monkeypatch.setattr("caster.relay._TICK_S", 0.05)
    monkeypatch.setattr("caster.relay._RETRY_S", (0.02, 0.05))
    monkeypatch.setattr("caster.relay._GGA_PERIOD_S", 0.1)


@pytest.fixture
async def up(start: StartService) -> AsyncIterator[Service]:
    """The upstream caster."""
    yield await start()


def url(service: Service | int, mount: str = "OPEN") -> str:
    port = service if isinstance(service, int) else service.port
    return f"ntrip://127.0.0.1:{port}/{mount}"


async def relay(start: StartService, tmp_path: Path, *sources: str, **more: Any) -> Service:
    mounts = [{"name": "R", "kind": "relay", "open": True, "sources": list(sources), **more}]
    database = {"accounts.url": f"sqlite+aiosqlite:///{tmp_path / 'relay.sqlite3'}"}
    return await start(mounts=mounts, **database)


def mountpoint(service: Service) -> RelayMountpoint:
    found = service.caster.mountpoints.get("R")
    assert isinstance(found, RelayMountpoint)
    return found


async def rover(service: Service) -> Peer:
    peer = await service.connect(b"GET /R HTTP/1.0\r\n\r\n")
    assert await peer.until(b"\r\n\r\n") == b"ICY 200 OK\r\n\r\n"
    await service.wait(lambda: len(mountpoint(service).mount) > 0)
    return peer


def leave(peer: Peer) -> None:
    """Go at once; an end of file right after the request would be taken for a half-closed client."""
    peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.writer.transport.abort()


async def followed(service: Service, mount: str = "OPEN", count: int = 1) -> None:
    await service.wait(lambda: len(service.caster.mountpoints.get(mount).mount) == count)


async def test_a_relay_that_is_always_on_passes_the_stream_on(start: StartService, up: Service, tmp_path: Path) -> None:
    source = await up.feed("OPEN")
    here = await relay(start, tmp_path, url(up))
    await followed(up)
    peer = await rover(here)
    await source.send(FRAMES)
    assert await peer.read(len(FRAMES)) == FRAMES
    assert mountpoint(here).is_live and mountpoint(here).source.address == url(up)


async def test_a_relay_waits_for_a_station_that_is_not_there_yet(
    start: StartService, up: Service, tmp_path: Path
) -> None:
    with capture_logs() as logs:
        here = await relay(start, tmp_path, url(up))
        await up.ended("request", "refused", 3)
        assert not mountpoint(here).is_live
    assert sum(log["event"] == "relay source failed" for log in logs) == 1
    await up.feed("OPEN")
    await followed(up)
    await here.wait(lambda: mountpoint(here).is_live)


async def test_on_demand_the_first_rover_begins_and_the_last_ends_it(
    start: StartService, up: Service, tmp_path: Path
) -> None:
    source = await up.feed("OPEN")
    here = await relay(start, tmp_path, url(up), on_demand=True, linger_s=0.1)
    mount = up.caster.mountpoints.get("OPEN").mount
    assert mountpoint(here).is_live and mountpoint(here).is_idle and len(mount) == 0
    for times in (1, 2):
        peer = await rover(here)
        await followed(up)
        assert not mountpoint(here).is_idle
        await source.send(FRAMES)
        await peer.read(len(FRAMES))
        leave(peer)
        await followed(up, count=0)
        assert mountpoint(here).connects == times


async def test_a_rover_that_comes_back_within_the_linger_time_costs_no_connection(
    start: StartService, up: Service, tmp_path: Path
) -> None:
    await up.feed("OPEN")
    here = await relay(start, tmp_path, url(up), on_demand=True, linger_s=3600)
    leave(await rover(here))
    await followed(up)
    await here.ended("rover", "connection lost")
    await rover(here)
    assert mountpoint(here).connects == 1


async def test_the_next_source_serves_when_one_is_lost(start: StartService, up: Service, tmp_path: Path) -> None:
    first, second = await up.feed("OPEN1"), await up.feed("OPEN2")
    here = await relay(start, tmp_path, url(free_port()), url(up, "OPEN1"), url(up, "OPEN2"))
    await followed(up, "OPEN1")
    peer = await rover(here)
    await first.send(FRAMES)
    assert await peer.read(len(FRAMES)) == FRAMES
    for connection in list(up.caster.server.connections):
        if connection.request is not None and connection.request.method == "GET":
            connection.end("test")
    await followed(up, "OPEN2")
    await second.send(frame(1087))
    assert await peer.read(len(frame(1087))) == frame(1087)


async def test_a_source_that_falls_silent_is_given_up(start: StartService, up: Service, tmp_path: Path) -> None:
    await up.feed("OPEN1")
    second = await up.feed("OPEN2")
    mounts = [{"name": "R", "kind": "relay", "open": True, "sources": [url(up, "OPEN1"), url(up, "OPEN2")]}]
    database = f"sqlite+aiosqlite:///{tmp_path / 'relay.sqlite3'}"
    here = await start(mounts=mounts, **{"limits.source_idle_s": 0.2, "accounts.url": database})
    peer = await rover(here)
    await followed(up, "OPEN2")
    await second.send(FRAMES)
    assert await peer.read(len(FRAMES)) == FRAMES


async def test_the_preferred_source_is_taken_back(start: StartService, up: Service, tmp_path: Path) -> None:
    second = await up.feed("OPEN2")
    here = await relay(start, tmp_path, url(up, "OPEN1"), url(up, "OPEN2"), failback_s=0.1)
    await followed(up, "OPEN2")
    await second.send(FRAMES)
    first = await up.feed("OPEN1")
    await followed(up, "OPEN1")
    await followed(up, "OPEN2", 0)
    peer = await rover(here)
    await first.send(frame(1077))
    assert frame(1077) in await peer.read(len(frame(1077)))


async def test_a_position_is_sent_again_and_again(start: StartService, up: Service, tmp_path: Path) -> None:
    await up.feed("OPEN")
    await relay(start, tmp_path, url(up), gga=[31.25, 121.5, 17.0])
    await followed(up)

    def sentences() -> int:
        handlers = [connection._handler for connection in up.caster.server.connections]
        return max(getattr(handler, "gga_count", 0) for handler in handlers)

    await up.wait(lambda: sentences() >= 4)


async def test_other_sources_are_taken_when_the_configuration_is_read_again(
    start: StartService, up: Service, tmp_path: Path
) -> None:
    await up.feed("OPEN1")
    second = await up.feed("OPEN2")
    here = await relay(start, tmp_path, url(up, "OPEN1"))
    await followed(up, "OPEN1")
    peer = await rover(here)
    rule = here.caster.config.mounts[0].model_copy(update={"sources": (url(up, "OPEN2"),)})
    here.caster.reload(here.caster.config.model_copy(update={"mounts": (rule,)}))
    await followed(up, "OPEN2")
    await second.send(FRAMES)
    assert await peer.read(len(FRAMES)) == FRAMES


async def test_base_stations_cannot_push_to_a_relay(start: StartService, tmp_path: Path) -> None:
    here = await relay(start, tmp_path, url(free_port()))
    assert b"ERROR" in await here.ask(b"SOURCE pa ss /R\r\n\r\n")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('kind = "relay"', "sources: a relay needs"),
        ('kind = "relay"\nsources = ["http://u:secret@h/M"]', "not an address"),
        ('sources = ["ntrip://h/M"]', "others have none"),
    ],
)
def test_a_wrong_configuration_is_told_without_passwords(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "c.toml").write_text(f'[[mounts]]\nname = "R"\n{lines}\n')
    with pytest.raises(ConfigError, match=message) as error:
        load_config(tmp_path / "c.toml")
    assert "secret" not in str(error.value)


def test_waits_between_rounds_are_short_at_first_and_a_minute_at_most() -> None:
    assert Backoff(1.0, 60.0, lambda: 0.0).next_s() == 1.0
