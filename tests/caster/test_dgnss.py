"""The open `dgnss` mountpoint: the nearest healthy station's stream, for everybody."""

import math

import numpy as np
import pytest

from caster.codec.ntrip import gga_line
from caster.codec.rtcm import Message, encode
from caster.services import PositioningService
from solver.kernels.geodesy import ecef_from_geodetic
from tests.caster.conftest import frame

MOUNTS = [{"name": "DGNSS", "kind": "dgnss", "open": True}, {"name": "SYDNEY"}, {"name": "CANBERRA"}]
PLACES_DEG = {"SYDNEY": (-33.87, 151.21), "CANBERRA": (-35.28, 149.13)}


def position_frame(latitude_deg, longitude_deg, station=1, height_m=100.0):
    x, y, z = ecef_from_geodetic(math.radians(latitude_deg), math.radians(longitude_deg), height_m)
    names = ("itrf_year", "gps", "glonass", "galileo", "virtual", "single_oscillator", "reserved", "quarter_cycle")
    fields = dict.fromkeys(names, 0) | {"station": station, "x_m": x, "y_m": y, "z_m": z}
    return encode(Message(1005, fields))


OBSERVATIONS = {"SYDNEY": frame(1230, b"\x00\x10" * 10), "CANBERRA": frame(1230, b"\x00\x20" * 10)}


@pytest.fixture
async def service(start):
    return await start(PositioningService(threads=1), mounts=MOUNTS)


@pytest.fixture
def mountpoint(service):
    return service.caster.mountpoints.get("DGNSS")


async def station(service, name):
    """A station that has said where it stands and is on the map."""
    peer = await service.feed(name)
    await peer.send(position_frame(*PLACES_DEG[name]))
    await service.wait(lambda: name in service.caster.mountpoints.get("DGNSS")._engine.stations_map)
    return peer


async def rover(service, gga=b""):
    peer = await service.connect(b"GET /DGNSS HTTP/1.0\r\nUser-Agent: NTRIP test\r\n\r\n" + gga)
    assert await peer.until(b"\r\n\r\n") == b"ICY 200 OK\r\n\r\n"
    return peer


def gga(name):
    return gga_line(*PLACES_DEG[name], 100.0, 0.0)


async def test_a_rover_without_an_account_gets_the_nearest_stations_position_first_and_then_its_stream(service):
    sydney, canberra = await station(service, "SYDNEY"), await station(service, "CANBERRA")
    near = await rover(service, gga("CANBERRA"))
    first = position_frame(*PLACES_DEG["CANBERRA"])
    data = await near.until(first)
    await sydney.send(OBSERVATIONS["SYDNEY"])
    await canberra.send(OBSERVATIONS["CANBERRA"])
    data += await near.until(OBSERVATIONS["CANBERRA"])
    assert data.endswith(first + OBSERVATIONS["CANBERRA"])
    assert OBSERVATIONS["SYDNEY"] not in data


async def test_a_rover_that_says_no_place_gets_the_first_station_by_name(service, mountpoint):
    await station(service, "SYDNEY")
    await station(service, "CANBERRA")
    silent = await rover(service)
    assert await silent.until(position_frame(*PLACES_DEG["CANBERRA"]))


async def test_a_rover_that_moves_is_handed_over_and_gets_the_new_stations_position_again(service, mountpoint):
    await station(service, "SYDNEY")
    await station(service, "CANBERRA")
    moving = await rover(service, gga("CANBERRA"))
    await moving.until(position_frame(*PLACES_DEG["CANBERRA"]))
    await moving.send(gga("SYDNEY"))
    await moving.until(position_frame(*PLACES_DEG["SYDNEY"]))
    await service.wait(lambda: mountpoint.switches >= 1)


async def test_when_a_station_falls_silent_its_rovers_are_moved_to_a_healthy_one(service, monkeypatch):
    sydney = await station(service, "SYDNEY")
    await station(service, "CANBERRA")
    left = await rover(service, gga("CANBERRA"))
    await left.until(position_frame(*PLACES_DEG["CANBERRA"]))
    engine = service.caster.mountpoints.get("DGNSS")._engine
    monkeypatch.setattr(engine.stations["CANBERRA"].info, "_frame_s", -math.inf)
    await left.until(position_frame(*PLACES_DEG["SYDNEY"]))
    await sydney.send(OBSERVATIONS["SYDNEY"])
    await left.until(OBSERVATIONS["SYDNEY"])
    assert engine.fault("CANBERRA") == "silent"


async def test_without_a_healthy_station_a_rover_is_told_so_and_the_table_says_offline(service):
    answer = await service.ask(b"GET /DGNSS HTTP/1.1\r\nNtrip-Version: Ntrip/2.0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 503")
    assert b"offline" in await service.ask(b"GET / HTTP/1.0\r\nUser-Agent: NTRIP test\r\n\r\n")
    await service.feed("SYDNEY")  # feeds, and has not said where it stands
    answer = await service.ask(b"GET /DGNSS HTTP/1.0\r\nUser-Agent: NTRIP test\r\n\r\n")
    assert b"no station is healthy" in answer and b"1005 or 1006" in answer


async def test_a_station_that_says_another_place_is_noticed_and_stays_in_use(service):
    canberra = await station(service, "CANBERRA")
    engine = service.caster.mountpoints.get("DGNSS")._engine
    info = engine.stations["CANBERRA"].info
    await canberra.send(position_frame(-35.281, 149.13))
    await service.wait(lambda: info.moves == 1)
    await service.wait(lambda: np.array_equal(engine.stations_map._places[0], info.position_ecef_m))
    assert engine.fault("CANBERRA") == ""


async def test_a_place_inside_the_earth_is_refused_and_the_station_never_serves(service):
    peer = await service.feed("SYDNEY")
    await peer.send(position_frame(-33.87, 151.21, height_m=-3_000_000.0))
    engine = service.caster.mountpoints.get("DGNSS")._engine
    await service.wait(lambda: engine.stations["SYDNEY"].info.positions_refused == 1)
    await service.wait(lambda: engine.fault("SYDNEY") == "says a place off the earth's surface")
    assert not len(engine.stations_map)
