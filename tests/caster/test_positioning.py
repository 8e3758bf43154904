"""The `fix` service: a rover's or source's observations come back as NMEA, over TCP, on real recordings."""

import asyncio
import socket
import struct

import numpy as np
import pytest

from bench.accuracy import SETS
from bench.streams import live_streams
from caster.codec import nmea
from caster.services import PositioningService
from caster.solving import AGE_MAX_S
from caster.warmup import warm_up
from caster.warmup_steps import load_carriers, service_steps
from solver.kernels.geodesy import ecef_from_geodetic
from tests.recordings import NAGOYA_ROVER_ECEF_M, STROMLO_ROVER_ECEF_M, epochs_of, errors_enu_m, messages, stromlo

MOUNTS = [
    {"name": "FIX", "kind": "fix", "open": True},
    {"name": "ROVER1", "kind": "fix", "open": True},
    {"name": "PUBLIC", "kind": "fix", "open": True, "accuracy": "sub-metre"},
    {"name": "BASE"},
]
EPOCHS = 60
PACE_S = 0.01


@pytest.fixture(scope="module", autouse=True)
def _warm():
    warm_up({**service_steps(), "carriers": load_carriers})


@pytest.fixture
async def positions():
    return PositioningService(threads=1)


@pytest.fixture
async def service(start, positions):
    return await start(positions, mounts=MOUNTS)


async def follow(service, mount):
    """A rover that has been let in."""
    rover = await service.connect(f"GET /{mount} HTTP/1.0\r\nUser-Agent: NTRIP test\r\n\r\n".encode())
    assert await rover.until(b"\r\n\r\n") == b"ICY 200 OK\r\n\r\n"
    return rover


def reset(peer):
    """Go at once, without a farewell."""
    linger = struct.pack("ii", 1, 0)
    peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
    peer.writer.transport.abort()


async def replay(peers, recordings, count=EPOCHS):
    """Send the recordings' epochs to their peers in step, faster than they were made."""
    for epochs in list(zip(*recordings, strict=False))[:count]:
        for peer, epoch in zip(peers, epochs, strict=True):
            await peer.send(epoch)
        await asyncio.sleep(PACE_S)


async def answered(service, track, epochs=EPOCHS - 5):
    """Wait until so many epochs were answered; on a busy machine some may have become stale."""
    workers = track()._engine.workers
    await service.wait(lambda: sum(track().counters.fixes.values()) + workers.dropped >= epochs)


async def sentences_until(service, peer, track, epochs):
    """What a peer gets until so many epochs were answered."""
    await answered(service, track, epochs)
    await asyncio.sleep(0.05)
    return await peer.reader.read(1 << 20)


async def test_a_rover_gets_differential_positions_on_the_connection_that_it_uploads_on(
    service, positions, shared_data
):
    base, rover = await service.feed("BASE"), await follow(service, "FIX")
    await replay([base, rover], [stromlo(shared_data, "STR17"), stromlo(shared_data, "STR24")])
    (track,) = service.caster.mountpoints.get("FIX").tracks.values()
    data = await sentences_until(service, rover, lambda: track, EPOCHS - 5)
    assert track.base == "BASE"
    errors = errors_enu_m(data, STROMLO_ROVER_ECEF_M, quality=2)
    assert len(errors) > EPOCHS / 3
    assert np.percentile(np.linalg.norm(errors, axis=1), 95) < 3.0
    assert all(gga.diffStation == 0 and gga.diffAge <= AGE_MAX_S for gga in messages(data, "GGA") if gga.quality == 2)
    assert {line[3:6].decode() for line in data.split(b"\r\n") if line} == set(nmea.KINDS)
    assert positions.engine.workers.failed == 0


def nagoya():
    """Base and rover a metre apart, RTCM made of RINEX, all systems."""
    streams = live_streams(SETS[0])
    return streams.base, streams.rover


@pytest.mark.parametrize(("recordings", "truth"), [("nagoya", NAGOYA_ROVER_ECEF_M), ("stromlo", STROMLO_ROVER_ECEF_M)])
async def test_a_rover_near_a_station_is_right_to_centimetres(service, positions, shared_data, recordings, truth):
    positions.carriers.compiled = True
    pair = nagoya() if recordings == "nagoya" else [stromlo(shared_data, name) for name in ("STR17", "STR24")]
    base, rover = await service.feed("BASE"), await follow(service, "FIX")
    await replay([base, rover], pair, 120)
    (track,) = service.caster.mountpoints.get("FIX").tracks.values()
    data = await sentences_until(service, rover, lambda: track, 115)
    qualities = [gga.quality for gga in messages(data, "GGA")]
    first = qualities.index(4)
    assert first < 40 and np.mean([quality == 4 for quality in qualities[first:]]) > 0.5  # else there was no time
    errors = errors_enu_m(data, truth, quality=4)
    assert np.percentile(np.hypot(errors[:, 0], errors[:, 1]), 95) < 0.02
    assert np.percentile(np.abs(errors[:, 2]), 95) < 0.06  # types of antennas
    assert all(gga.HDOP > 0 and 0 <= gga.diffAge <= AGE_MAX_S for gga in messages(data, "GGA") if gga.quality == 4)
    assert positions.engine.workers.failed == 0


async def test_a_car_in_a_city_is_fixed_where_it_was(service, positions, shared_data):
    """Shanghai, a virtual station's stream; the reference is good to 4 cm."""
    positions.carriers.compiled = True
    folder = shared_data / "shanghai-car-vrs"
    pair = [epochs_of(folder / name) for name in ("base-vrs.rtcm3.xz", "rover.rtcm3.xz")]
    rows = np.genfromtxt(folder / "reference_trajectory.csv", delimiter=",", skip_header=1)
    truth = {round(row[1] - 18.0, 2) % 86400: row[2:5] for row in rows}  # leap seconds: GGA tells UTC
    base, rover = await service.feed("BASE"), await follow(service, "FIX")
    await replay([base, rover], pair, 200)
    (track,) = service.caster.mountpoints.get("FIX").tracks.values()
    data = await sentences_until(service, rover, lambda: track, 190)
    fixed = [gga for gga in messages(data, "GGA") if gga.quality == 4]
    errors = []
    for gga in fixed:
        second = gga.time.hour * 3600 + gga.time.minute * 60 + gga.time.second
        place = ecef_from_geodetic(np.radians(gga.lat), np.radians(gga.lon), float(gga.alt + gga.sep))
        if second in truth:
            errors.append(np.linalg.norm(place - truth[second]))
    assert len(errors) > 80
    assert np.percentile(errors, 95) < 0.25


async def test_a_mountpoint_for_the_public_gives_no_centimetres(service, positions, shared_data):
    positions.carriers.compiled = True
    base, rover = await service.feed("BASE"), await follow(service, "PUBLIC")
    await replay([base, rover], nagoya())
    (track,) = service.caster.mountpoints.get("PUBLIC").tracks.values()
    data = await sentences_until(service, rover, lambda: track, EPOCHS - 5)
    assert {gga.quality for gga in messages(data, "GGA")} <= {0, 1, 2}
    assert len(errors_enu_m(data, NAGOYA_ROVER_ECEF_M, quality=2)) > EPOCHS / 3


async def test_a_rover_that_is_shed_gets_positions_by_its_codes_and_centimetres_again_later(
    service, positions, shared_data
):
    positions.carriers.compiled = True
    base, rover = await service.feed("BASE"), await follow(service, "FIX")
    recordings, mountpoint = nagoya(), service.caster.mountpoints.get("FIX")
    parts = [[recording[first : first + 40] for recording in recordings] for first in (0, 40, 80)]
    await replay([base, rover], parts[0])
    (track,) = mountpoint.tracks.values()
    await answered(service, lambda: track, 36)
    positions.shedding.shed.add(track)
    positions.shedding.look = lambda: None
    assert mountpoint.shed == 1
    await rover.reader.read(1 << 20)
    await replay([base, rover], parts[1])
    await answered(service, lambda: track, 76)
    await asyncio.sleep(0.05)
    data = await rover.reader.read(1 << 20)
    assert {gga.quality for gga in messages(data, "GGA")[2:]} == {2}
    errors = errors_enu_m(data, NAGOYA_ROVER_ECEF_M, quality=2)
    assert np.percentile(np.hypot(errors[:, 0], errors[:, 1]), 95) < 1.0
    positions.shedding.shed.clear()
    await replay([base, rover], parts[2])
    await answered(service, lambda: track, 116)
    await asyncio.sleep(0.05)
    assert messages(await rover.reader.read(1 << 20), "GGA")[-1].quality == 4
    assert mountpoint.hasty > 20 and mountpoint.shed == 0


async def test_until_kernels_are_there_rovers_get_positions_by_codes(service, positions, shared_data):
    base, rover = await service.feed("BASE"), await follow(service, "FIX")
    await replay([base, rover], nagoya())
    (track,) = service.caster.mountpoints.get("FIX").tracks.values()
    data = await sentences_until(service, rover, lambda: track, EPOCHS - 5)
    assert {gga.quality for gga in messages(data, "GGA")} <= {1, 2}


async def test_without_a_station_a_rover_is_positioned_by_its_own_ephemerides(service, shared_data):
    rover = await follow(service, "FIX")
    await replay([rover], [stromlo(shared_data, "STR24")], 120)
    (track,) = service.caster.mountpoints.get("FIX").tracks.values()
    data = await sentences_until(service, rover, lambda: track, 100)
    errors = errors_enu_m(data, STROMLO_ROVER_ECEF_M, quality=1)
    assert len(errors) > 20
    assert np.percentile(np.linalg.norm(errors, axis=1), 95) < 15.0
    assert not len(errors_enu_m(data, STROMLO_ROVER_ECEF_M, quality=2))


async def test_followers_of_a_fix_mount_get_the_positions_of_its_source(service, shared_data):
    base, source = await service.feed("BASE"), await service.feed("ROVER1")
    followers = [await follow(service, "ROVER1") for _ in range(2)]
    mountpoint = service.caster.mountpoints.get("ROVER1")
    await service.wait(lambda: len(mountpoint.mount) == len(followers))
    await replay([base, source], [stromlo(shared_data, "STR17"), stromlo(shared_data, "STR24")])
    first = await sentences_until(service, followers[0], lambda: mountpoint.source_track, EPOCHS - 5)
    second = await followers[1].reader.read(1 << 20)
    assert first == second
    assert len(errors_enu_m(first, STROMLO_ROVER_ECEF_M, quality=2)) > EPOCHS / 3
    await source.close()
    await service.wait(lambda: mountpoint.source_track is None)


async def test_nothing_of_a_station_is_decoded_while_nobody_needs_it(service, positions, shared_data):
    base = await service.feed("BASE")
    await replay([base], [stromlo(shared_data, "STR17")], 20)
    station = positions.engine.stations["BASE"]
    await service.wait(lambda: station.info.position_ecef_m is not None)
    assert station.info.epochs_seen == 0
    rover = await follow(service, "FIX")
    await replay([base, rover], [stromlo(shared_data, name)[20:] for name in ("STR17", "STR24")])
    await service.wait(lambda: station.info.epochs_seen > 10)
    reset(rover)
    await service.wait(lambda: station.needed == 0)
    assert station.info.last_epoch() is None


async def test_a_satellite_without_an_ephemeris_is_left_out_and_the_others_are_used(service, positions, shared_data):
    base, rover = await service.feed("BASE"), await follow(service, "FIX")
    await replay([base, rover], [stromlo(shared_data, "STR17"), stromlo(shared_data, "STR24")])
    (track,) = service.caster.mountpoints.get("FIX").tracks.values()
    await answered(service, lambda: track)
    known = set(positions.engine.ephemerides.satellites())
    assert 0 < len(track.fix.satellites) <= len(known)
    assert set(track.fix.satellites.tolist()) <= known


async def test_a_damaged_frame_costs_one_message_and_nothing_else(service, shared_data):
    base, rover = await service.feed("BASE"), await follow(service, "FIX")
    recording = stromlo(shared_data, "STR24")
    hurt = bytearray(recording[30])
    hurt[len(hurt) // 2] ^= 0x10
    recording[30] = bytes(hurt)
    await replay([base, rover], [stromlo(shared_data, "STR17"), recording])
    (track,) = service.caster.mountpoints.get("FIX").tracks.values()
    data = await sentences_until(service, rover, lambda: track, EPOCHS - 5)
    assert track.bad_frames >= 1
    assert track.counters.epochs >= EPOCHS - 3
    assert np.percentile(np.linalg.norm(errors_enu_m(data, STROMLO_ROVER_ECEF_M, quality=2), axis=1), 95) < 3.0


@pytest.mark.parametrize(("mark", "name"), [(b"\xb5b\x02\x15", "UBX"), (b"$@\x00\x01", "SBF")])
async def test_a_rover_that_sends_another_format_is_told_so(service, mark, name):
    rover = await follow(service, "FIX")
    await rover.send((mark + bytes(60)) * 40)
    line = await rover.until(b"\r\n")
    assert b"GNTXT" in line
    assert name.encode() in line


async def test_gga_on_a_fix_mount_is_no_observation_and_harms_nothing(service):
    rover = await follow(service, "ROVER1")
    await rover.send(b"$GPGGA,123519,4807.038,N,01131.000,E,1,08,0.9,545.4,M,46.9,M,,*47\r\n")
    await service.wait(lambda: len(service.caster.mountpoints.get("ROVER1").tracks) <= 1)
    source = await service.feed("ROVER1")
    await service.wait(lambda: service.caster.mountpoints.get("ROVER1").source_track is not None)
    await source.close()
