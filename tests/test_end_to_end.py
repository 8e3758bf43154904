"""The whole chain as its users run it: separate programs, TCP, real recordings replayed faster than they were made.

`dipper station push` and RTKLIB's `str2str` feed a `dipper serve`; `str2str`, `curl` and `gpsd` read it; rovers upload
raw observations and get NMEA, which is compared with surveyed coordinates.
"""

import asyncio
import contextlib
import json
import re
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from caster.warmup import warm_up
from caster.warmup_steps import load_carriers, service_steps
from stations.rover import Rover
from stations.sources import open_source
from stations.uplink import parse_target
from tests.interop.peers import frames_of, need, running
from tests.recordings import NAGOYA_ROVER_ECEF_M, STROMLO_ROVER_ECEF_M, errors_enu_m, messages, stromlo

DIPPER = (sys.executable, "-m", "stations")
PATIENCE_S = 120.0
SPEED = 20
EPOCHS = 200
CONFIG = """
[listen]
hosts = ["127.0.0.1"]
port = 0

[[mounts]]
name = "FIX"
kind = "fix"
open = true

[[mounts]]
name = "DGNSS"
kind = "dgnss"
open = true

[[mounts]]
name = "ROVER"
kind = "fix"
open = true

[[mounts]]
name = "STR*"
open = true
"""


@dataclass
class Caster:
    """A `dipper serve` of its own process."""

    port: int
    log: Path

    def push_url(self, mount: str) -> str:
        return f"ntrip://base:secret@127.0.0.1:{self.port}/{mount}"

    def url(self, mount: str) -> str:
        return f"ntrip://127.0.0.1:{self.port}/{mount}"

    async def knows(self, station: str, fault: str = "none") -> None:
        """Wait until the caster's log says how a station is."""
        line = f'"station": "{station}", "fault": "{fault}'
        async with asyncio.timeout(PATIENCE_S):
            while line not in self.log.read_text():  # noqa: ASYNC110
                await asyncio.sleep(0.05)


@pytest.fixture(scope="module", autouse=True)
def _warm():
    """Fill the cache of compiled kernels, which the caster's process then loads."""
    warm_up({**service_steps(), "carriers": load_carriers})


@pytest.fixture
async def caster(tmp_path):
    """A running service with a station's account."""
    (tmp_path / "dipper.toml").write_text(CONFIG)
    log = tmp_path / "log"
    command = (*DIPPER, "serve", "--config", str(tmp_path / "dipper.toml"), "--data-dir", str(tmp_path / "data"))
    with log.open("wb") as errors:
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=errors)
    try:
        assert process.stdout is not None
        port = None
        async with asyncio.timeout(PATIENCE_S):
            while port is None:
                line = await process.stdout.readline()
                assert line, log.read_text()
                port = re.search(rb"listening on port (\d+)", line)
        await _run(*DIPPER, "account", "add", "base", "--role", "station", "--password-stdin", "--data-dir",
                   str(tmp_path / "data"), stdin=b"secret\n")  # fmt: skip
        yield Caster(int(port[1]), log)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.communicate(), PATIENCE_S)
    assert process.returncode == 0
    assert "Traceback" not in log.read_text()


async def _run(*command: str, stdin: bytes = b"") -> bytes:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe, stderr=pipe)
    output, errors = await asyncio.wait_for(process.communicate(stdin), 2 * PATIENCE_S)
    assert process.returncode == 0, errors.decode()
    return output


def cut(folder: Path, name: str, epochs: list[bytes]) -> Path:
    path = folder / name
    path.write_bytes(b"".join(epochs[:EPOCHS]))
    return path


def assert_follows(data: bytes, pushed: list[bytes], at_least: int) -> None:
    """A reader's frames are what was pushed from some frame on, whole and in order, after the station's greeting."""
    got = frames_of(data)
    assert b"".join(got) == data  # nothing torn and nothing between
    starts = [n for n, frame in enumerate(pushed) if frame == got[-1]]
    lengths = []
    for stop in starts:
        length = 0
        while length < min(len(got), stop + 1) and got[-1 - length] == pushed[stop - length]:
            length += 1
        lengths.append(length)
    assert max(lengths) >= len(got) - 8  # the greeting has eight messages at most
    assert max(lengths) >= at_least


def horizontal_and_up_m(data: bytes, truth, quality=None):
    errors = errors_enu_m(data, truth, quality)
    return np.hypot(errors[:, 0], errors[:, 1]), np.abs(errors[:, 2])


def corrected_m(data: bytes, truth):
    """Those of all positions that a station has corrected: its kernels are loaded while rovers are served already."""
    return np.concatenate([horizontal_and_up_m(data, truth, quality) for quality in (2, 4, 5)], axis=1)


async def epochs_in(path: Path) -> list[bytes]:
    """What `dipper rover --upload` sends of a file, an epoch each."""
    return [piece async for piece in open_source(str(path), speed=0)]


async def upload(caster: Caster, epochs: list[bytes], out: Path) -> Rover:
    """A test rover uploads epochs to FIX; its NMEA goes to a file."""

    async def paced() -> AsyncIterator[bytes]:
        for epoch in epochs:
            yield epoch
            await asyncio.sleep(1.0 / SPEED)

    with out.open("wb") as output:
        rover = Rover(parse_target(caster.url("FIX")), 1, lambda: 0.0, lambda: 0.0, output=output)
        await asyncio.wait_for(rover.run(paced()), 2 * PATIENCE_S)
    return rover


async def test_dipper_pushes_and_a_rover_that_uploads_is_within_three_metres(caster, tmp_path, shared_data):
    """Mount Stromlo: 70 m from the station. RTKLIB, curl and `dipper rover` read the station meanwhile."""
    base = cut(tmp_path, "base.rtcm3", stromlo(shared_data, "STR17"))
    rover = cut(tmp_path, "rover.rtcm3", stromlo(shared_data, "STR24"))
    pushed, out = frames_of(base.read_bytes()), tmp_path / "rover.nmea"
    push = (*DIPPER, "station", "push", str(base), "--to", caster.push_url("STR17"), "--speed", str(SPEED))
    readers = [
        ("str2str", "-in", caster.url("STR17"), "-out", str(tmp_path / "str2str.rtcm3")),
        ("curl", "-sN", "-H", "Ntrip-Version: Ntrip/2.0", f"http://127.0.0.1:{caster.port}/STR17", "-o",
         str(tmp_path / "curl.rtcm3")),
        (*DIPPER, "rover", caster.url("DGNSS"), "--output", str(tmp_path / "dipper.rtcm3")),
    ]  # fmt: skip
    epochs = await epochs_in(rover)
    async with running(*push):
        await caster.knows("STR17")
        async with running(*readers[0]), running(*readers[1]), running(*readers[2]):
            done = await upload(caster, epochs, out)
    for name in ("str2str.rtcm3", "curl.rtcm3", "dipper.rtcm3"):
        assert_follows((tmp_path / name).read_bytes(), pushed, at_least=20)
    data = out.read_bytes()
    assert sum(done.tally.fixes[state] for state in ("dgnss", "float", "fix")) > EPOCHS / 4
    horizontal_m, up_m = corrected_m(data, STROMLO_ROVER_ECEF_M)
    assert np.percentile(horizontal_m, 95) < 3.0 and np.percentile(up_m, 95) < 3.0
    assert {line[3:6].decode() for line in data.split(b"\r\n") if line} >= {"GGA", "RMC", "GST", "GSA", "ZDA"}


async def test_rinex_observations_are_pushed_uploaded_and_positioned_within_three_metres(caster, tmp_path, shared_data):
    """Nagoya 2024, 1 m from the station, RINEX encoded on the fly; only the station has ephemerides."""
    folder, out = shared_data / "matrtklib-static-2024-1m", tmp_path / "rover.nmea"
    push = (*DIPPER, "station", "push", str(folder / "base.obs.xz"), "--to", caster.push_url("STRNAGOYA"))
    epochs = await epochs_in(folder / "rover.obs.xz")
    async with running(*push, "--speed", str(SPEED)):
        await caster.knows("STRNAGOYA")
        await upload(caster, epochs, out)
    horizontal_m, up_m = corrected_m(out.read_bytes(), NAGOYA_ROVER_ECEF_M)
    assert len(horizontal_m) > 100
    assert np.percentile(horizontal_m, 95) < 3.0 and np.percentile(up_m, 95) < 3.0


@asynccontextmanager
async def receiver() -> AsyncIterator[tuple[int, "asyncio.Queue[asyncio.StreamWriter]"]]:
    """A receiver's TCP port, and the connections that others have made to it."""
    clients: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
    server = await asyncio.start_server(lambda _, writer: clients.put_nowait(writer), "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1], clients
    finally:
        server.close()
        while not clients.empty():
            clients.get_nowait().close()


async def test_str2str_pushes_station_and_rover_and_gpsd_reads_the_positions(
    caster, tmp_path, shared_data, unused_tcp_port_factory
):
    """RTKLIB feeds two receivers' TCP ports to us as sources; gpsd takes the rover's NMEA from the mountpoint."""
    need("gpsd")
    relay_port, gpsd_port = unused_tcp_port_factory(), unused_tcp_port_factory()
    async with receiver() as (base_port, bases), receiver() as (rover_port, rovers):
        pushes = [
            (
                "str2str",
                "-in",
                f"tcpcli://127.0.0.1:{port}",
                "-out",
                f"ntrips://:secret@127.0.0.1:{caster.port}/{mount}",
            )
            for port, mount in ((base_port, "STR17"), (rover_port, "ROVER"))
        ]
        relay = ("str2str", "-in", caster.url("ROVER"), "-out", f"tcpsvr://:{relay_port}")
        async with running(*pushes[0]), running(*pushes[1]):
            writers = [await asyncio.wait_for(queue.get(), PATIENCE_S) for queue in (bases, rovers)]
            await asyncio.sleep(2.0)  # RTKLIB's connections to us are made by now
            async with (
                running(*relay),
                running("gpsd", "-n", "-N", "-S", str(gpsd_port), f"tcp://127.0.0.1:{relay_port}"),
            ):
                _, probe = await _connected(gpsd_port)
                probe.close()
                async with running("gpspipe", "-w", f"127.0.0.1:{gpsd_port}") as gpspipe:
                    await replay(writers, [stromlo(shared_data, name) for name in ("STR17", "STR24")])
                    reports = await _tpv(gpspipe.stdout, 20)
        for writer in writers:
            writer.close()
    for report in reports[-10:]:
        assert report["mode"] == 3
        assert abs(report["lat"] + 35.31616) < 1e-4 and abs(report["lon"] - 149.01015) < 1e-4


async def replay(writers, recordings, count=EPOCHS):
    for epochs in list(zip(*recordings, strict=False))[:count]:
        for writer, epoch in zip(writers, epochs, strict=True):
            writer.write(epoch)
        await asyncio.sleep(1.0 / SPEED)


async def _tpv(stream, count):
    """Position reports of gpsd."""
    reports = []
    async with asyncio.timeout(PATIENCE_S):
        while len(reports) < count:
            report = json.loads(await stream.readline())
            if report["class"] == "TPV" and "lat" in report:
                reports.append(report)
    return reports


async def test_str2str_relays_a_receivers_observations_up_and_its_positions_down(
    caster, tmp_path, shared_data, unused_tcp_port
):
    """`str2str -b`: a receiver behind RTKLIB uploads on the connection that its positions come on."""
    relay = ("str2str", "-in", caster.url("FIX"), "-out", f"tcpsvr://:{unused_tcp_port}", "-b", "1")
    async with receiver() as (port, clients):
        push = (*DIPPER, "station", "push", f"tcp://127.0.0.1:{port}", "--to", caster.push_url("STR17"))
        async with running(*push), running(*relay):
            station = await asyncio.wait_for(clients.get(), PATIENCE_S)
            station.write(stromlo(shared_data, "STR17")[0])
            await caster.knows("STR17", fault="")
            reader, writer = await _connected(unused_tcp_port)
            await asyncio.sleep(1.0)
            await replay([station, writer], [stromlo(shared_data, name) for name in ("STR17", "STR24")], 120)
            data = await _read_for(reader, 3.0)
            station.close()
            writer.close()
    data = data[data.index(b"$GNGGA") : data.rindex(b"\r\n") + 2]
    horizontal_m, _ = corrected_m(data, STROMLO_ROVER_ECEF_M)
    assert len(horizontal_m) > 30
    assert np.percentile(horizontal_m, 95) < 3.0
    assert all(zda.year == 2018 for zda in messages(data, "ZDA"))


async def _read_for(reader, seconds):
    """All that comes until it has been read for so long."""
    data = b""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            while part := await reader.read(65536):
                data += part
    return data


async def _connected(port):
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                return await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)


async def test_a_damaged_and_cut_stream_loses_its_damaged_frames_alone(caster, tmp_path, shared_data):
    """Every twentieth frame is hurt, garbage lies between, and the file ends in the middle of a frame."""
    frames = frames_of(b"".join(stromlo(shared_data, "STR17")[:100]))
    good, data = [], b""
    for number, frame in enumerate(frames):
        if number % 20 == 10:
            data += frame[:-1] + bytes([frame[-1] ^ 0x55]) + b"\xd3garbage"
        else:
            good.append(frame)
            data += frame
    path = tmp_path / "hurt.rtcm3"
    path.write_bytes(data + frames[0][: len(frames[0]) // 2])
    async with receiver() as (port, clients):
        push = (
            "str2str",
            "-in",
            f"tcpcli://127.0.0.1:{port}",
            "-out",
            f"ntrips://:secret@127.0.0.1:{caster.port}/STRHURT",
        )
        async with running(*push):
            writer = await asyncio.wait_for(clients.get(), PATIENCE_S)
            writer.write(good[0])
            await caster.knows("STRHURT", fault="")
            out = tmp_path / "out.rtcm3"
            async with running("curl", "-sN", "-H", "Ntrip-Version: Ntrip/2.0", "-o", str(out),
                               f"http://127.0.0.1:{caster.port}/STRHURT"):  # fmt: skip
                await asyncio.sleep(1.0)
                for at in range(0, len(data), 1000):
                    writer.write(path.read_bytes()[at : at + 1000])
                    await asyncio.sleep(0.005)
                async with asyncio.timeout(PATIENCE_S):
                    while not out.exists() or len(frames_of(out.read_bytes())) < len(good):  # noqa: ASYNC110
                        await asyncio.sleep(0.05)
            writer.close()
    assert_follows(out.read_bytes(), good, at_least=len(good) - 1)
