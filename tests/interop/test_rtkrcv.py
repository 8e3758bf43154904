"""RTKLIB's real-time positioning on our mountpoints: it fixes its ambiguities, and agrees with our own positions.

Debian's rtkrcv 2.4.3 b34 numbers the types of its streams wrongly, so that `ntripcli` opens an FTP stream (seen in its
trace): str2str, of the same library, reads our mountpoints and hands them to it over TCP.
"""

import asyncio
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from caster.codec.rtcm import decode, encode, message_type
from caster.codec.rtcm.messages import Message
from caster.services import PositioningService
from caster.warmup import warm_up
from caster.warmup_steps import service_steps
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
CONFIG = """
console-timetype   =gpst
inpstr1-type       =tcpcli
inpstr2-type       =tcpcli
inpstr1-path       =127.0.0.1:{rover}
inpstr2-path       =127.0.0.1:{base}
inpstr1-format     =rtcm3
inpstr2-format     =rtcm3
inpstr3-type       =off
inpstr2-nmeareq    =off
outstr1-type       =file
outstr1-path       ={output}
outstr1-format     =nmea
outstr2-type       =off
logstr1-type       =off
logstr2-type       =off
logstr3-type       =off
misc-svrcycle      =10
misc-navmsgsel     =all
pos1-posmode       =kinematic
pos1-frequency     =l1+2
pos1-navsys        =41
pos1-elmask        =10
pos2-armode        =continuous
pos2-bdsarmode     =on
ant2-postype       =rtcm
file-cmdfile1      =
file-cmdfile2      =
"""


@pytest.fixture(scope="module", autouse=True)
def _warm() -> None:
    warm_up(service_steps())


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


async def fed(service: Service, shared_data: Path) -> list[Peer]:
    """Base, rover, and the rover at the fix mountpoint; all that is known of the satellites has been sent."""
    peers = [await service.feed(name) for name in ("BASE", "RAW", "POS")]
    head = ephemerides(shared_data)
    for peer in peers:
        await peer.send(head)
    return peers


async def play(peers: list[Peer], shared_data: Path) -> None:
    """Send base and rover in step, faster than they were recorded."""
    pairs = zip(stromlo(shared_data, "STR17"), stromlo(shared_data, "STR24"), strict=False)
    for base, rover in list(pairs)[:EPOCHS]:
        for peer, epoch in zip(peers, (base, rover, rover), strict=True):
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


MOUNTS = [
    {"name": "RAW", "open": True, "send_ephemerides": True},
    {"name": "BASE", "send_ephemerides": True},
    {"name": "POS", "kind": "fix", "open": True},
]


async def test_rtkrcv_fixes_by_our_mountpoints_and_agrees_with_our_fix_service(
    start: StartService, tmp_path: Path, shared_data: Path, unused_tcp_port: int
) -> None:
    """70 m between base and rover: RTKLIB within centimetres, ours within the metres of code, at the same instants."""
    service = await start(PositioningService(threads=1), mounts=MOUNTS)
    peers, ours, output = await fed(service, shared_data), bytearray(), tmp_path / "rtkrcv.nmea"
    reading = asyncio.create_task(collect(await follow(service, "POS"), ours))
    ports = {"rover": free_port(), "base": free_port()}
    (tmp_path / "rtkrcv.conf").write_text(CONFIG.format(output=output, **ports))
    bridges = [
        ("str2str", "-in", f"ntrip://127.0.0.1:{service.port}/RAW", "-out", f"tcpsvr://:{ports['rover']}"),
        ("str2str", "-in", f"ntrip://{ROVER.user}:{ROVER.password}@127.0.0.1:{service.port}/BASE",
         "-out", f"tcpsvr://:{ports['base']}"),
    ]  # fmt: skip
    command = ("rtkrcv", "-p", str(unused_tcp_port), "-o", str(tmp_path / "rtkrcv.conf"))
    async with running(*bridges[0]), running(*bridges[1]), running(*command, cwd=tmp_path):
        console = await start_by_console(unused_tcp_port)
        await rover_there(service, "RAW")
        await rover_there(service, "BASE")
        await asyncio.sleep(1.0)
        for peer in peers:  # again, for rtkrcv may have connected after the greeting
            await peer.send(ephemerides(shared_data))
        await play(peers, shared_data)
        await asyncio.sleep(1.0)
        await console.close()
    reading.cancel()
    theirs = output.read_bytes()
    fixed = [gga for gga in messages(theirs, "GGA") if gga.quality == 4]
    assert len(fixed) > EPOCHS / 4  # it needs some epochs for its first fix
    errors = np.abs(errors_enu_m(theirs, STROMLO_ROVER_ECEF_M, quality=4))
    assert np.percentile(np.hypot(errors[:, 0], errors[:, 1]), 95) < 0.02 and errors[:, 2].max() < 0.1
    mine = {gga.time: gga for gga in messages(bytes(ours), "GGA") if gga.quality == 2}
    common = [(gga, mine[gga.time]) for gga in fixed if gga.time in mine]
    assert len(common) > EPOCHS / 6
    apart_m = [np.hypot(a.lat - b.lat, (a.lon - b.lon) * np.cos(np.radians(a.lat))) * 111_000 for a, b in common]
    assert np.percentile(apart_m, 95) < 1.5
