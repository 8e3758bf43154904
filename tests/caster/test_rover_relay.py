"""Behind a rover relay each rover has its own stream upstream, made for its own position."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
from structlog.testing import capture_logs

from caster.codec.ntrip import Gga, gga_line
from caster.mountpoints import Mountpoint, Rover
from caster.rover_relay import RoverRelayMountpoint
from tests.caster.broker import free_port
from tests.caster.conftest import Peer, Service, StartService, frame
from tests.caster.test_relay import leave


class VrsMountpoint(Mountpoint):
    """An upstream network's mountpoint: each rover gets a station of its own with each of its positions."""

    needs_gga = True

    def on_subscribe(self, rover: Rover) -> None:
        self.rovers = {**getattr(self, "rovers", {}), rover.number: rover}

    def on_gga(self, rover: Rover, gga: Gga) -> None:
        assert gga.latitude_deg is not None and gga.longitude_deg is not None
        rover.send(station(gga.latitude_deg, gga.longitude_deg))

    def on_leave(self, rover: Rover) -> None:
        self.rovers = {number: other for number, other in self.rovers.items() if number != rover.number}


class VrsService:
    kinds: ClassVar = {"vrs-test": VrsMountpoint}

    def attach(self, mountpoints: object) -> None: ...
    def close(self) -> None: ...


def station(latitude_deg: float, longitude_deg: float) -> bytes:
    return frame(1005, f"{latitude_deg:.4f} {longitude_deg:.4f}".encode().ljust(20))


def gga(latitude_deg: float, longitude_deg: float) -> bytes:
    return gga_line(latitude_deg, longitude_deg, 10.0, 43_200.0)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caster.rover_relay._TICK_S", 0.02)
    monkeypatch.setattr("caster.rover_relay._RETRY_S", (0.02, 0.05))
    monkeypatch.setattr("caster.rover_relay._GGA_MIN_S", 0.1)
    monkeypatch.setattr("caster.rover_relay._GGA_MAX_S", 0.4)


@pytest.fixture
async def up(start: StartService) -> AsyncIterator[Service]:
    """The upstream network."""
    mounts = [{"name": name, "kind": "vrs-test", "open": True} for name in ("VRS", "VRS2")]
    yield await start(VrsService(), mounts=mounts)


def url(service: Service, mount: str = "VRS") -> str:
    return f"ntrip://127.0.0.1:{service.port}/{mount}"


async def relay(start: StartService, tmp_path: Path, *sources: str, **more: Any) -> Service:
    mounts = [{"name": "R", "kind": "rover-relay", "open": True, "sources": list(sources), **more}]
    return await start(mounts=mounts, **{"accounts.url": f"sqlite+aiosqlite:///{tmp_path / 'relay.sqlite3'}"})


def relayed(service: Service) -> RoverRelayMountpoint:
    found = service.caster.mountpoints.get("R")
    assert isinstance(found, RoverRelayMountpoint)
    return found


async def rover(service: Service, head: bytes = b"", body: bytes = b"") -> Peer:
    peer = await service.connect(b"GET /R HTTP/1.0\r\n" + head + b"\r\n" + body)
    assert await peer.until(b"\r\n\r\n") == b"ICY 200 OK\r\n\r\n"
    return peer


def upstream_rovers(up: Service, mount: str = "VRS") -> int:
    return len(getattr(up.caster.mountpoints.get(mount), "rovers", {}))


async def test_each_rover_gets_the_station_of_its_own_place(start: StartService, up: Service, tmp_path: Path) -> None:
    here = await relay(start, tmp_path, url(up))
    places = [(31.25, 121.5), (39.9, 116.4), (-35.3, 149.0)]
    rovers = [await rover(here, body=gga(*place)) for place in places]
    for peer, place in zip(rovers, places, strict=True):
        assert await peer.read(len(station(*place))) == station(*place)
    assert upstream_rovers(up) == 3 == relayed(here).rover_count


async def test_nothing_is_opened_before_a_rover_says_where_it_is(
    start: StartService, up: Service, tmp_path: Path
) -> None:
    here = await relay(start, tmp_path, url(up))
    peer = await rover(here, body=b"$GPGGA,120000.00,,,,,0,00,,,M,,M,,*66\r\n")
    await here.wait(lambda: relayed(here).rover_count == 1)
    assert upstream_rovers(up) == 0
    await peer.send(gga(31.25, 121.5))
    assert await peer.read(len(station(31.25, 121.5))) == station(31.25, 121.5)


async def test_a_header_s_sentence_counts_and_is_completed(start: StartService, up: Service, tmp_path: Path) -> None:
    here = await relay(start, tmp_path, url(up))
    line = b"GPGGA,120000.00,3115.0000000,N,12130.0000000,E,1,12,1.0,10.000,M,0.000,M,,"
    peer = await rover(here, head=b"Ntrip-GGA: " + line + b"\r\n")
    assert await peer.read(len(station(31.25, 121.5))) == station(31.25, 121.5)


async def test_a_configured_place_serves_rovers_that_say_nothing(
    start: StartService, up: Service, tmp_path: Path
) -> None:
    here = await relay(start, tmp_path, url(up), gga=[22.5, 114.0, 5.0])
    peer = await rover(here)
    assert await peer.read(len(station(22.5, 114.0))) == station(22.5, 114.0)


async def test_a_rover_that_moves_gets_another_station_and_ten_a_second_become_few(
    start: StartService, up: Service, tmp_path: Path
) -> None:
    here = await relay(start, tmp_path, url(up))
    peer = await rover(here, body=gga(31.0, 121.0))
    await peer.read(len(station(31.0, 121.0)))
    for step in range(1, 41):
        await peer.send(gga(31.0 + step / 1000, 121.0))
        await asyncio.sleep(0.01)
    last, seen = station(31.04, 121.0), []
    while not seen or seen[-1] != last:
        seen.append(await peer.read(len(last)))
    assert len(seen) < 15


async def test_the_last_place_is_sent_again_to_a_network_that_wants_it(
    start: StartService, up: Service, tmp_path: Path
) -> None:
    here = await relay(start, tmp_path, url(up))
    peer = await rover(here, body=gga(31.0, 121.0))
    for _ in range(3):
        assert await peer.read(len(station(31.0, 121.0))) == station(31.0, 121.0)


async def test_the_stream_ends_with_its_rover(start: StartService, up: Service, tmp_path: Path) -> None:
    here = await relay(start, tmp_path, url(up))
    peer = await rover(here, body=gga(31.0, 121.0))
    await up.wait(lambda: upstream_rovers(up) == 1)
    leave(peer)
    await here.wait(lambda: relayed(here).rover_count == 0)
    await up.wait(lambda: upstream_rovers(up) == 0)


async def test_there_are_no_more_rovers_than_may_be(start: StartService, up: Service, tmp_path: Path) -> None:
    here = await relay(start, tmp_path, url(up), rovers_max=1)
    first = await rover(here, body=gga(31.0, 121.0))
    await here.wait(lambda: relayed(here).rover_count == 1)
    answer = await here.ask(b"GET /R HTTP/1.0\r\n\r\n")
    assert b"503" in answer and b"has 1 rovers, the most that are allowed" in answer
    assert await first.read(len(station(31.0, 121.0))) == station(31.0, 121.0)


async def test_a_rover_that_never_says_where_it_is_is_closed(
    start: StartService, up: Service, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("caster.rover_relay._PLACE_S", 0.1)
    here = await relay(start, tmp_path, url(up))
    assert await (await rover(here)).all() == b""
    await here.ended("rover", "no position")


async def test_the_next_source_serves_when_one_fails_and_the_reason_is_said_once(
    start: StartService, up: Service, tmp_path: Path
) -> None:
    with capture_logs() as logs:
        here = await relay(start, tmp_path, f"ntrip://u:secret@127.0.0.1:{free_port()}/X", url(up, "VRS2"))
        peers = [await rover(here, body=gga(31.0, 121.0)) for _ in range(2)]
        for peer in peers:
            assert await peer.read(len(station(31.0, 121.0))) == station(31.0, 121.0)
    failures = [log for log in logs if log["event"] == "relay source failed"]
    assert len(failures) == 1 and "secret" not in str(failures)
    for connection in list(up.caster.server.connections):
        connection.end("test")
    for peer in peers:  # it comes back by itself
        assert await peer.read(len(station(31.0, 121.0))) == station(31.0, 121.0)


async def test_its_row_says_that_rovers_must_send_a_position(start: StartService, up: Service, tmp_path: Path) -> None:
    here = await relay(start, tmp_path, url(up))
    peer = await rover(here, body=gga(31.0, 121.0))
    await peer.read(len(station(31.0, 121.0)))
    record = relayed(here).record()
    assert (record["nmea"], record["solution"], record["format_details"]) == ("1", "1", "1005")
