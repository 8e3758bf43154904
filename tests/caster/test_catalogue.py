"""Other casters' tables become mountpoints here: filtered, renamed, on demand, and gone when they are gone."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from caster.catalogue import ListedMountpoint
from caster.config import UpstreamConfig, load_config
from caster.errors import ConfigError
from caster.relay import RelayMountpoint
from caster.rover_relay import RoverRelayMountpoint
from tests.caster.broker import free_port
from tests.caster.conftest import ROVER, Peer, Service, StartService, frame
from tests.caster.test_relay import leave
from tests.caster.test_rover_relay import VrsService, gga, station


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caster.catalogue._RETRY_MIN_S", 0.05)
    monkeypatch.setattr("caster.relay._TICK_S", 0.05)


UP = [
    {"name": "TOWN", "open": True, "country": "CHN", "latitude": 31.25, "longitude": 121.5, "identifier": "Town"},
    {"name": "FARM", "open": True, "country": "AUS", "latitude": -35.3, "longitude": 149.0},
    {"name": "VRS", "kind": "vrs-test", "open": True, "country": "CHN"},
]


@pytest.fixture
async def up(start: StartService) -> AsyncIterator[Service]:
    yield await start(VrsService(), mounts=UP)


async def downstream(start: StartService, tmp_path: Path, up: Service | int, own: Any = (), **settings: Any) -> Service:
    port = up if isinstance(up, int) else up.port
    upstream = {"address": f"ntrip://127.0.0.1:{port}", "refresh_s": 0.1, **settings}
    database = {"accounts.url": f"sqlite+aiosqlite:///{tmp_path / 'here.sqlite3'}"}
    return await start(upstreams=[upstream], mounts=list(own), **database)


def names(service: Service) -> set[str]:
    return {mountpoint.name for mountpoint in service.caster.mountpoints}


async def listed(service: Service, *wanted: str) -> None:
    await service.wait(lambda: names(service) == set(wanted))


async def follow(service: Service, mount: str, who: str = "") -> Peer:
    peer = await service.connect(f"GET /{mount} HTTP/1.0\r\n{who}\r\n".encode())
    assert await peer.until(b"\r\n\r\n") == b"ICY 200 OK\r\n\r\n"
    return peer


async def test_streams_of_the_other_caster_are_served_when_somebody_asks(
    start: StartService, up: Service, tmp_path: Path
) -> None:
    source = await up.feed("TOWN")
    here = await downstream(start, tmp_path, up, prefix="UP_", open=True)
    await listed(here, "UP_TOWN", "UP_FARM", "UP_VRS")
    assert isinstance(here.caster.mountpoints.get("UP_TOWN"), RelayMountpoint)
    assert isinstance(here.caster.mountpoints.get("UP_VRS"), RoverRelayMountpoint)
    assert len(up.caster.mountpoints.get("TOWN").mount) == 0
    peer = await follow(here, "UP_TOWN")
    await up.wait(lambda: len(up.caster.mountpoints.get("TOWN").mount) == 1)
    await source.send(frame(1005))
    assert await peer.read(len(frame(1005))) == frame(1005)


async def test_a_row_that_wants_positions_gets_each_rover_its_own_stream(
    start: StartService, up: Service, tmp_path: Path
) -> None:
    here = await downstream(start, tmp_path, up, mounts_max=10, open=True)
    await listed(here, "TOWN", "FARM", "VRS")
    peer = await follow(here, "VRS")
    await peer.send(gga(31.0, 121.0))
    assert await peer.read(len(station(31.0, 121.0))) == station(31.0, 121.0)


async def test_the_table_has_their_rows_under_our_names_and_rights(
    start: StartService, up: Service, tmp_path: Path
) -> None:
    here = await downstream(start, tmp_path, up, prefix="UP_")
    await listed(here, "UP_TOWN", "UP_FARM", "UP_VRS")
    table = (await here.ask(b"GET / HTTP/1.0\r\nUser-Agent: NTRIP x\r\n\r\n")).decode()
    (row,) = [line for line in table.split("\r\n") if line.startswith("STR;UP_TOWN;")]
    fields = row.split(";")
    assert fields[2] == "Town" and fields[8:11] == ["CHN", "31.2500", "121.5000"] and fields[15] == "B"
    assert b"401" in await here.ask(b"GET /UP_TOWN HTTP/1.0\r\n\r\n")


@pytest.mark.parametrize(
    ("settings", "wanted"),
    [
        ({"mounts": ["T*", "VRS"]}, {"TOWN", "VRS"}),
        ({"filter": "STR;;;;;;;;CHN"}, {"TOWN", "VRS"}),
        ({"filter": "STR;;;;;;;;CHN;>30"}, {"TOWN"}),
        ({"mounts_max": 1}, {"FARM"}),
    ],
)
async def test_rows_are_chosen_by_name_and_by_filter(
    start: StartService, up: Service, tmp_path: Path, settings: dict[str, Any], wanted: set[str]
) -> None:
    await listed(await downstream(start, tmp_path, up, **settings), *wanted)


async def test_a_name_that_is_here_already_wins(start: StartService, up: Service, tmp_path: Path) -> None:
    here = await downstream(start, tmp_path, up, own=[{"name": "TOWN", "open": True}])
    await listed(here, "TOWN", "FARM", "VRS")
    assert not isinstance(here.caster.mountpoints.get("TOWN"), ListedMountpoint)


async def test_a_row_that_goes_takes_its_mountpoint_with_it_once_nobody_follows(
    start: StartService, up: Service, tmp_path: Path
) -> None:
    await up.feed("NEW")
    await up.feed("FARM")
    here = await downstream(start, tmp_path, up, open=True)
    await listed(here, "TOWN", "FARM", "VRS", "NEW")
    peer = await follow(here, "FARM")
    await here.wait(lambda: here.caster.mountpoints.get("FARM").rover_count == 1)
    for name in ("NEW", "FARM"):
        up.caster.mountpoints.remove(name)
        up.caster.server._forget_table()
    await listed(here, "TOWN", "FARM", "VRS")
    leave(peer)
    await listed(here, "TOWN", "VRS")


async def test_while_the_other_caster_is_away_everything_stays_and_is_said_once(
    start: StartService, up: Service, tmp_path: Path
) -> None:
    here = await downstream(start, tmp_path, up)
    await listed(here, "TOWN", "FARM", "VRS")
    with capture_logs() as logs:
        await up.caster.server.stop()
        await here.wait(lambda: any(log["event"] == "upstream table failed" for log in logs))
    assert names(here) == {"TOWN", "FARM", "VRS"}


async def test_a_caster_that_was_never_there_is_tried_again(start: StartService, tmp_path: Path) -> None:
    with capture_logs() as logs:
        here = await downstream(start, tmp_path, free_port())
        await here.wait(lambda: any(log["event"] == "upstream table failed" for log in logs))
    assert names(here) == set()


async def test_another_configuration_brings_and_takes_away_casters(
    start: StartService, up: Service, tmp_path: Path
) -> None:
    here = await downstream(start, tmp_path, up)
    await listed(here, "TOWN", "FARM", "VRS")
    config = here.caster.config
    here.caster.reload(config.model_copy(update={"upstreams": ()}))
    assert names(here) == set()
    again = UpstreamConfig(address=f"ntrip://127.0.0.1:{up.port}", mounts=("FARM",))
    here.caster.reload(config.model_copy(update={"upstreams": (again,)}))
    await listed(here, "FARM")
    here.caster.reload(here.caster.config)  # nothing changes, and listed mountpoints stay
    assert names(here) == {"FARM"}


async def test_the_login_of_the_address_is_used(start: StartService, tmp_path: Path) -> None:
    up = await start(mounts=[{"name": "TOWN"}])
    source = await up.feed("TOWN")
    address = f"ntrip://{ROVER.user}:ro%3Aver@127.0.0.1:{up.port}"
    here = await downstream(start, tmp_path, up, address=address, open=True)
    await listed(here, "TOWN")
    peer = await follow(here, "TOWN")
    await up.wait(lambda: len(up.caster.mountpoints.get("TOWN").mount) == 1)
    await source.send(frame(1005))
    assert await peer.read(len(frame(1005))) == frame(1005)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('address = "http://x"', "not an address"),
        ('address = "ntrip://h"\nfilter = "STR;;;;;;;;;>>3"', "filter"),
        ('address = "ntrip://h"\nprefix = "a/b"', "prefix"),
    ],
)
def test_a_wrong_configuration_names_the_key(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "c.toml").write_text(f"[[upstreams]]\n{lines}\n")
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "c.toml")
