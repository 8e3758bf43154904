"""RTKLIB's real-time positioning on our mountpoints: it fixes its ambiguities, and agrees with our own positions.

Debian's rtkrcv 2.4.3 b34 numbers the types of its streams wrongly, so that `ntripcli` opens an FTP stream (seen in its
trace): str2str, of the same library, reads our mountpoints and hands them to it over TCP.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pynmeagps import NMEAMessage

from bench.rtkrcv import RTKRCV_CONFIGURATION
from caster.codec.rtcm import decode, encode, message_type
from caster.codec.rtcm.messages import Message
from caster.services import PositioningService
from caster.warmup import warm_up
from caster.warmup_steps import load_carriers, service_steps
from solver.timescale import NS, WEEK_NS, from_unix, nearest_week
from tests.captures import frames_of
from tests.caster.broker import free_port
from tests.caster.conftest import PATIENCE_S, ROVER, Peer, Service, StartService
from tests.interop.peers import frames_of as frames_in
from tests.interop.peers import rover_there, running
from tests.recordings import STROMLO_ROVER_ECEF_M, errors_enu_m, messages, stromlo

WEEK, TOW_S = 2009, 604_200
WEEK_MODULUS = {1019: 1024, 1042: 8192, 1044: 1024, 1045: 4096, 1046: 4096}
EPOCHS, PACE_S = 90, 0.1
PLACE = ("-35.3160", "149.0100", "770")  # where the rover says it is: near enough for a network


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    warm_up({**service_steps(), "carriers": load_carriers})


def redated(frame: bytes) -> bytes:
    """An ephemeris as if the recording had been made in the last week: RTKLIB dates a live stream by its clock."""
    weeks = nearest_week(TOW_S * NS, from_unix(time.time_ns())) // WEEK_NS - WEEK
    message = decode(frame)
    if not isinstance(message, Message) or message.type not in WEEK_MODULUS:
        return frame
    fields = message.fields | {"week": (message.fields["week"] + weeks) % WEEK_MODULUS[message.type]}
    return encode(replace(message, fields=fields))


def ephemerides(shared_data: Path) -> bytes:
    """All ephemerides of both receivers, in the present week."""
    folder = shared_data / "str-stromlo-70m"
    names = ("week-rollover-STR17.rtcm3.gz", "week-rollover-STR24.rtcm3.gz")
    return b"".join(redated(f) for n in names for f in frames_of(folder / n) if message_type(f) in WEEK_MODULUS)


def in_this_week(epoch: bytes) -> bytes:
    """An epoch's frames with their ephemerides redated, without what else tells the date of the recording."""
    return b"".join(redated(frame) for frame in frames_in(epoch) if message_type(frame) not in (1013, 1020))


async def fed(service: Service, *mounts: str) -> list[Peer]:
    """Base stations and receivers that push to mountpoints."""
    return [await service.feed(name) for name in mounts]


async def play(bases: list[Peer], rovers: list[Peer], shared_data: Path) -> None:
    """Send base and rover in step, faster than they were recorded."""
    pairs = zip(stromlo(shared_data, "STR17"), stromlo(shared_data, "STR24"), strict=False)
    for base, rover in list(pairs)[:EPOCHS]:
        for peers, epoch in ((bases, base), (rovers, rover)):
            for peer in peers:
                await peer.send(in_this_week(epoch))
        await asyncio.sleep(PACE_S)


async def follow(service: Service, mount: str) -> Peer:
    peer = await service.connect(f"GET /{mount} HTTP/1.0\r\nUser-Agent: NTRIP test\r\n\r\n".encode())
    assert await peer.until(b"\r\n\r\n") == b"ICY 200 OK\r\n\r\n"
    return peer


async def start_by_console(port: int) -> Peer:
    """Log in and start: with `-s` this version crashes where its console is a port."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                console = Peer(*await asyncio.open_connection("127.0.0.1", port))
                break
            except ConnectionRefusedError:
                await asyncio.sleep(0.05)
    await console.until(b"password: ")
    await console.send(b"admin\r\n")
    await console.until(b"rtkrcv> ")
    await console.send(b"start\r\n")
    await console.until(b"rtk server start")
    return console


async def collect(peer: Peer, into: bytearray) -> None:
    while data := await peer.reader.read(65_536):
        into += data


async def rtkrcv_solves(
    folder: Path, console_port: int, streams: list[list[str]], play_all: Callable[[], Awaitable[None]]
) -> bytes:
    """What rtkrcv makes of a rover's and a base's stream that str2str fetches.

    Args:
        folder: For its files.
        console_port: Of its console.
        streams: str2str's arguments for the rover's and the base's input.
        play_all: Waits for them to be there, and plays the recording.
    """
    output, ports = folder / "rtkrcv.nmea", [free_port(), free_port()]
    configuration = RTKRCV_CONFIGURATION.format(rover=ports[0], base=ports[1], kind="file", answers=output)
    (folder / "rtkrcv.conf").write_text(configuration)
    command = ("rtkrcv", "-p", str(console_port), "-o", str(folder / "rtkrcv.conf"))
    async with AsyncExitStack() as stack:
        for stream, port in zip(streams, ports, strict=True):
            await stack.enter_async_context(running("str2str", *stream, "-out", f"tcpsvr://:{port}"))
        await stack.enter_async_context(running(*command, cwd=folder))
        console = await start_by_console(console_port)
        await play_all()
        await asyncio.sleep(1.0)
        await console.close()
    return output.read_bytes()


def check_fixes(nmea: bytes) -> list[NMEAMessage]:
    """The fixed positions, which are where the rover was."""
    fixed = [gga for gga in messages(nmea, "GGA") if gga.quality == 4]
    assert len(fixed) > EPOCHS / 4  # it needs some epochs for its first fix
    errors = np.abs(errors_enu_m(nmea, STROMLO_ROVER_ECEF_M, quality=4))
    assert np.percentile(np.hypot(errors[:, 0], errors[:, 1]), 95) < 0.02 and errors[:, 2].max() < 0.1
    return fixed


MOUNTS = [
    {"name": "RAW", "open": True, "send_ephemerides": True},
    {"name": "BASE", "send_ephemerides": True},
    {"name": "POS", "kind": "fix", "open": True},
]


async def test_rtkrcv_fixes_by_our_mountpoints_and_agrees_with_our_fix_service(
    start: StartService, tmp_path: Path, shared_data: Path, unused_tcp_port: int
) -> None:
    """70 m between base and rover: both within centimetres, at the same instants."""
    positions = PositioningService(threads=1)
    positions.carriers.compiled = True
    service = await start(positions, mounts=MOUNTS)
    peers, ours, head = await fed(service, "BASE", "RAW", "POS"), bytearray(), ephemerides(shared_data)
    for peer in peers:
        await peer.send(head)
    reading = asyncio.create_task(collect(await follow(service, "POS"), ours))
    caster = f"127.0.0.1:{service.port}"

    async def play_all() -> None:
        await rover_there(service, "RAW")
        await rover_there(service, "BASE")
        await asyncio.sleep(1.0)
        for peer in peers:  # again, for rtkrcv may have connected after the greeting
            await peer.send(head)
        await play(peers[:1], peers[1:], shared_data)

    streams = [["-in", f"ntrip://{caster}/RAW"], ["-in", f"ntrip://{ROVER.user}:{ROVER.password}@{caster}/BASE"]]
    fixed = check_fixes(await rtkrcv_solves(tmp_path, unused_tcp_port, streams, play_all))
    reading.cancel()
    mine = {gga.time: gga for gga in messages(bytes(ours), "GGA") if gga.quality == 4}
    common = [(gga, mine[gga.time]) for gga in fixed if gga.time in mine]
    assert len(common) > EPOCHS / 6
    apart_m = [np.hypot(a.lat - b.lat, (a.lon - b.lon) * np.cos(np.radians(a.lat))) * 111_000 for a, b in common]
    assert np.percentile(apart_m, 95) < 0.03


async def test_rtkrcv_fixes_by_a_stream_that_is_opened_upstream_for_its_position(
    start: StartService, tmp_path: Path, shared_data: Path, unused_tcp_port: int
) -> None:
    """As with a network's virtual stations: nothing comes before the rover has said where it is."""
    network = await start(**{"accounts.url": f"sqlite:///{tmp_path / 'network.sqlite3'}"})
    (base,) = await fed(network, "OPEN")
    source = f"ntrip://127.0.0.1:{network.port}/OPEN"
    vrs = {"name": "VRS", "kind": "rover-relay", "open": True, "sources": [source]}
    service = await start(mounts=[MOUNTS[0], vrs])
    (rover,) = await fed(service, "RAW")
    head = ephemerides(shared_data)
    caster = f"ntrip://127.0.0.1:{service.port}"

    async def play_all() -> None:
        await rover_there(service, "RAW")
        await rover_there(network, "OPEN")
        await asyncio.sleep(1.0)
        for peer in (base, rover):
            await peer.send(head)
        await play([base], [rover], shared_data)

    streams = [["-in", f"{caster}/RAW"], ["-in", f"{caster}/VRS", "-p", *PLACE, "-n", "1000"]]
    check_fixes(await rtkrcv_solves(tmp_path, unused_tcp_port, streams, play_all))
