"""Mountpoints: kinds, rules, the sourcetable's rows, and a new configuration under running sessions."""

from typing import ClassVar

import pytest

from caster.codec.ntrip import Gga, get_request
from caster.config import MountConfig
from caster.errors import ConfigError
from caster.mountpoints import Mountpoint, Mountpoints, Rover, Source
from tests.caster.conftest import ROVER, STATION, StartService, frame, service_config

GGA = b"$GPGGA,092725.00,4717.11399,N,00833.91590,E,1,08,1.01,499.6,M,48.0,M,,*5B\r\n"
MORE_TO_COME = bytes(4) + b"\x02" + bytes(20)  # the multiple message bit of MSM


class EchoMountpoint(Mountpoint):
    """A service's kind: what a rover uploads comes back; what a source uploads is published."""

    takes_sources = True

    def __init__(self, config: MountConfig, mountpoints: Mountpoints) -> None:
        super().__init__(config, mountpoints)
        self.calls: list[str] = []

    def on_subscribe(self, rover: Rover) -> None:
        super().on_subscribe(rover)
        self.calls.append("subscribe")

    def on_uplink(self, rover: Rover, data: bytes) -> None:
        if data == b"fail":
            raise ValueError("a bug in a service")
        rover.send(b"<" + data + b">")

    def on_gga(self, rover: Rover, gga: Gga) -> None:
        assert rover.gga is gga
        self.calls.append(f"gga {gga.quality}")

    def on_leave(self, rover: Rover) -> None:
        self.calls.append("leave")

    def on_source_data(self, source: Source, data: bytes, received_unix_ns: int) -> None:
        self.mount.publish([data.upper()], received_unix_ns)


class EchoService:
    """What `caster.app.Service` asks of a service."""

    kinds: ClassVar = {"echo": EchoMountpoint}

    def __init__(self) -> None:
        self.seen: list[str] = []

    def attach(self, mountpoints: Mountpoints) -> None:
        mountpoints.on_new.append(lambda mountpoint: self.seen.append(mountpoint.name))

    def close(self) -> None:
        self.seen.append("closed")


ECHO = {"name": "ECHO", "kind": "echo", "open": True, "raw": True}


async def test_a_service_s_mountpoint_hears_a_rover_s_whole_life(start: StartService) -> None:
    echo = EchoService()
    service = await start(echo, mounts=[ECHO])
    rover = await service.connect(get_request("ECHO", "caster", version=2, gga=GGA.decode()) + b"early")
    head = await rover.until(b"\r\n\r\n")
    assert b"chunked" in head
    assert await rover.until(b">\r\n") == b"7\r\n<early>\r\n"
    await rover.send(GGA)
    await rover.until(b">\r\n")
    await rover.close()
    mountpoint = service.caster.mountpoints.get("ECHO")
    assert isinstance(mountpoint, EchoMountpoint)
    mountpoint.mount.publish([b"x"], 0)
    mountpoint.mount.publish([b"x"], 0)
    await service.wait(lambda: mountpoint.calls[-1] == "leave")
    assert mountpoint.calls == ["subscribe", "gga 1", "gga 1", "leave"]
    assert echo.seen == ["ECHO"]


async def test_a_source_feeds_a_service_and_rovers_get_what_it_makes_of_it(start: StartService) -> None:
    service = await start(EchoService(), mounts=[ECHO])
    source = await service.feed("ECHO", STATION.password)
    rover = await service.connect(b"GET /ECHO HTTP/1.0\r\n\r\n")
    await rover.until(b"\r\n\r\n")
    mountpoint = service.caster.mountpoints.get("ECHO")
    assert mountpoint is not None
    await service.wait(lambda: len(mountpoint.mount) == 1)
    await source.send(b"abc")
    assert await rover.read(3) == b"ABC"


async def test_a_service_s_bug_ends_one_session_by_name(start: StartService) -> None:
    service = await start(EchoService(), mounts=[ECHO])
    bad, good = [await service.connect(b"GET /ECHO HTTP/1.0\r\n\r\n") for _ in range(2)]
    for rover in (bad, good):
        await rover.until(b"\r\n\r\n")
    await bad.send(b"fail")
    await service.ended("rover", "internal error")
    await good.send(b"ok")
    assert await good.read(4) == b"<ok>"


async def test_an_alias_is_the_other_mountpoint_under_its_own_name(start: StartService) -> None:
    service = await start(mounts=[{"name": "NICK", "kind": "alias", "target": "REAL", "open": True}])
    assert b"is offline" in await service.ask(b"GET /NICK HTTP/1.0\r\n\r\n")
    source = await service.feed("REAL")
    rover = await service.connect(b"GET /NICK HTTP/1.0\r\n\r\n")
    await rover.until(b"\r\n\r\n")
    real = service.caster.mountpoints.get("REAL")
    assert real is not None
    await service.wait(lambda: len(real.mount) == 1)
    await source.send(frame(1077))
    assert await rover.read(len(frame(1077))) == frame(1077)
    row = next(record for record in service.caster.mountpoints.records(1) if record.fields[1] == "NICK")
    assert row["authentication"] == "N" and row["format_details"] == "1077"
    assert (await service.ask(b"SOURCE pa ss /NICK\r\n\r\n")).startswith(b"ERROR")


async def test_the_frames_of_one_epoch_are_published_together(start: StartService) -> None:
    service = await start(**{"limits.epoch_join_s": 0.5})
    source = await service.feed("M")
    mountpoint = service.caster.mountpoints.get("M")
    assert mountpoint is not None
    seen: list[int] = []
    mountpoint.mount.tap(lambda _mount, frames, _received: seen.append(len(frames)))
    await source.send(frame(1077, MORE_TO_COME))
    await service.wait(lambda: mountpoint.source_last_s > 0)
    await source.send(frame(1127))
    await service.wait(lambda: bool(seen))
    assert seen == [2]
    await source.send(frame(1077, MORE_TO_COME))  # the rest of this epoch never comes
    await service.wait(lambda: len(seen) == 2)


async def test_a_new_configuration_leaves_sessions_alone(start: StartService) -> None:
    service = await start(mounts=[{"name": "A"}])
    source = await service.feed("A")
    rover = await service.connect(get_request("A", "caster", version=1, credentials=ROVER))
    await rover.until(b"\r\n\r\n")
    config = service_config(service.caster.config.data_dir, mounts=[{"name": "A", "country": "CHN"}, {"name": "B"}])
    service.caster.reload(config)
    mountpoint = service.caster.mountpoints.get("A")
    assert mountpoint is not None and service.caster.mountpoints.get("B") is not None
    await service.wait(lambda: len(mountpoint.mount) == 1)
    await source.send(frame(1077))
    assert await rover.read(len(frame(1077))) == frame(1077)
    assert mountpoint.record()["country"] == "CHN"


async def test_stations_may_be_kept_from_making_mountpoints(start: StartService) -> None:
    service = await start(**{"accounts.push_creates_mounts": False}, mounts=[{"name": "A"}])
    assert await service.ask(b"SOURCE pa ss /B\r\n\r\n") == b"ERROR - Bad Mountpoint\r\n\r\n"
    await service.feed("A")


async def test_the_number_of_mountpoints_is_limited(start: StartService) -> None:
    service = await start(**{"limits.mounts": 1})
    await service.feed("A")
    assert (await service.ask(b"SOURCE pa ss /B\r\n\r\n")).startswith(b"ERROR - there are 1 mountpoints")


async def test_an_unknown_kind_is_named(start: StartService) -> None:
    with pytest.raises(ConfigError, match="kind 'magic' is none of"):
        await start(mounts=[{"name": "A", "kind": "magic"}])


async def test_a_row_tells_what_the_stream_carries(start: StartService) -> None:
    service = await start(
        networks=[{"identifier": "NETZ", "operator": "Op", "fee": True}],
        mounts=[{"name": "A", "country": "CHN", "identifier": "Wuhan", "misc": "hello"}],
    )
    source = await service.feed("A")
    mountpoint = service.caster.mountpoints.get("A")
    assert mountpoint is not None
    await source.send(frame(1077) + frame(1127))
    await service.wait(lambda: mountpoint.mount.traffic.frame_count == 2)
    caster, network, row = service.caster.mountpoints.records(2101)
    assert (caster.kind, caster["port"], network["identifier"], network["fee"]) == ("CAS", "2101", "NETZ", "Y")
    wanted = {"identifier": "Wuhan", "country": "CHN", "nav_system": "GPS+BDS", "format_details": "1077,1127",
              "authentication": "B", "nmea": "0", "misc": "hello"}  # fmt: skip
    assert {name: row[name] for name in wanted} == wanted


async def test_the_table_names_the_caster_and_its_networks(start: StartService) -> None:
    networks = [{"identifier": "NET1", "operator": "Town", "web_net": "https://example.org/", "fee": True}]
    service = await start(networks=networks, **{"caster.operator": "Somebody", "caster.country": "CHN"})
    rows = (await service.ask(b"GET / HTTP/1.0\r\nUser-Agent: NTRIP x\r\n\r\n")).decode().split("\r\n")
    assert f"CAS;0.0.0.0;{service.port};Big Dipper;Somebody;1;CHN;;;0.0.0.0;0;none" in rows
    assert "NET;NET1;Town;B;Y;https://example.org/;;;none" in rows
