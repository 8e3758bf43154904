import asyncio
import os
import pty
from pathlib import Path

import numpy as np
import pytest

from caster.codec.ntrip import Credentials
from caster.codec.rinex.observation import ObservationFile
from caster.codec.rtcm import FrameReader, message_type
from caster.epochs import EpochAssembler
from caster.errors import ConfigError, RefusedError, SourceError
from solver.model import NavMessage
from solver.timescale import from_week
from stations.encode import navigation_beside
from stations.sources import is_live, open_source
from stations.uplink import Target, Uplink
from tests.caster.codec.rinex.samples import content, package_file
from tests.caster.codec.test_sbf import TOW_S, WEEK, block, measured
from tests.caster.conftest import PATIENCE_S, Service
from tests.stations.conftest import observation_frame


async def whole(address: str, **options: object) -> bytes:
    return b"".join([piece async for piece in open_source(address, speed=0, **options)])  # type: ignore[arg-type]


async def test_rinex_observations_are_encoded_with_station_and_ephemerides() -> None:
    path = package_file("cssrlib", "data/SEPT078M1.21O")
    stream = await whole(str(path))
    assembler, reader = EpochAssembler(), FrameReader()
    frames = reader.feed(stream) + reader.finish()
    epochs = [epoch for frame in frames for epoch in assembler.push(frame)] + assembler.finish()
    originals = list(ObservationFile(content(path)).epochs())
    assert [epoch.time_ns for epoch in epochs] == [epoch.time_ns for epoch in originals]
    for mine, other in zip(epochs, originals, strict=True):
        kept = np.isin(other.sat * 1000 + other.signal, mine.sat * 1000 + mine.signal)
        assert kept.mean() > 0.98
        np.testing.assert_allclose(mine.pseudorange_m, other.pseudorange_m[kept], atol=1e-3)
        # The stream may shift a phase by whole cycles.
        shift = mine.phase_cycles - other.phase_cycles[kept]
        assert np.nanmax(np.abs(shift - np.round(shift))) < 6e-3
    kinds = {message_type(frame) for frame in frames}
    assert {1006, 1033, 1019, 1045, 1046, 1077, 1097, 1117} <= kinds
    assert np.linalg.norm(assembler.station.position_ecef_m - [-3962108.4557, 3381308.8777, 3668678.1749]) < 1e-3
    assert set(assembler.ephemerides.snapshot().kepler["message"].tolist()) >= {NavMessage.LNAV, NavMessage.INAV}


def test_navigation_files_of_the_same_name_are_found_beside_a_file(tmp_path: Path) -> None:
    for name in (
        "base.obs.xz",
        "base.nav.xz",
        "rover.nav",
        "base.21n.gz",
        "BASE00AUS_R_20210010000_01D_MN.rnx",
        "base.txt",
    ):
        (tmp_path / name).touch()
    found = [path.name for path in navigation_beside(tmp_path / "base.obs.xz")]
    assert found == ["BASE00AUS_R_20210010000_01D_MN.rnx", "base.21n.gz", "base.nav.xz"]


async def test_raw_measurements_are_encoded(shared_data: Path) -> None:
    (path,) = (shared_data / "jd-walk-20181009").glob("rover-*.ubx.gz")
    frames = FrameReader().feed(await whole(str(path)))
    kinds = [message_type(frame) for frame in frames]
    assert kinds.count(1077) == 2072
    assert kinds.count(1087) > 2000
    assert {1019, 1020} <= set(kinds)


async def test_corrections_inside_of_an_sbf_log_are_not_pushed_as_its_own(shared_data: Path, tmp_path: Path) -> None:
    corrections = content(shared_data / "rtcm3-captures/sept.rtcm")[:20_000]
    log = tmp_path / "rover.sbf"
    log.write_bytes(measured() + b"".join(block(5919, corrections[at : at + 200]) for at in range(0, 20_000, 200)))
    reader = FrameReader()
    stream = await whole(str(log))
    assembler = EpochAssembler(from_week(WEEK, TOW_S))
    epochs = [epoch for frame in reader.feed(stream) + reader.finish() for epoch in assembler.push(frame)]
    assert [len(np.unique(epoch.sat)) for epoch in epochs + assembler.finish()] == [4]
    assert np.isnan(assembler.station.position_ecef_m).all()


async def test_a_loop_begins_again(recording: Path) -> None:
    pieces = []
    source = open_source(str(recording), speed=0, loop=True)
    async for piece in source:
        pieces.append(piece)
        if len(pieces) == 20:
            break
    await source.aclose()  # type: ignore[attr-defined]
    assert pieces[:8] == pieces[8:16]


@pytest.mark.parametrize(("address", "live"), [("a.rtcm3", False), ("file:///a", False), ("tcp://h:1", True)])
def test_only_files_wait_for_their_reader(address: str, live: bool) -> None:
    assert is_live(address) is live


@pytest.mark.parametrize(
    "address",
    [
        "http://host/",
        "tcp://host",
        "tcp://host:99999",
        "serial://",
        "serial:///dev/tty?baud=x",
        "ntrip://",
        "ntrip://h:x/M",
        "ntrip://[::1/M",
        "tcp://[::1:80",
        "serial://[x",
    ],
)
def test_an_address_that_is_none_is_named_before_anything_is_opened(address: str) -> None:
    with pytest.raises(ConfigError):
        open_source(address)


async def test_a_serial_port_that_is_not_there_is_named_once() -> None:
    with pytest.raises(SourceError, match=r"^/dev/nowhere: No such file or directory$"):
        await anext(open_source("serial:///dev/nowhere"))


async def test_files_that_are_not_there_or_hold_nothing_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere"):
        open_source(str(tmp_path / "nowhere"))  # before anybody is connected to
    (tmp_path / "empty").write_bytes(b"nothing in here")
    with pytest.raises(SourceError, match="empty"):
        await whole(str(tmp_path / "empty"))


async def test_a_tcp_source_gives_what_it_sends() -> None:
    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"one two three")
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    assert await asyncio.wait_for(whole(f"tcp://127.0.0.1:{port}"), PATIENCE_S) == b"one two three"
    server.close()
    await server.wait_closed()
    with pytest.raises(SourceError, match=f"127.0.0.1:{port}: "):
        await whole(f"tcp://127.0.0.1:{port}")


async def test_a_serial_source_gives_what_the_line_sends() -> None:
    main, other = pty.openpty()
    try:
        source = open_source(f"serial://{os.ttyname(other)}?baud=115200")
        first = asyncio.ensure_future(anext(source))
        await asyncio.sleep(0)
        os.write(main, b"$GPGGA")
        assert await asyncio.wait_for(first, PATIENCE_S) == b"$GPGGA"
        await source.aclose()  # type: ignore[attr-defined]
    finally:
        os.close(main)
        os.close(other)


async def test_another_casters_mount_is_a_source(service: Service) -> None:
    queue: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def pieces():  # type: ignore[no-untyped-def]
        while (piece := await queue.get()) is not None:
            yield piece

    target = Target("127.0.0.1", service.port, "M", Credentials("base", "pa ss"))
    pushing = asyncio.create_task(Uplink(target).run(pieces()))
    await service.wait(lambda: service.caster.mountpoints.get("M") is not None)
    source = open_source(f"ntrip://rover:ro%3Aver@127.0.0.1:{service.port}/M")
    first = asyncio.ensure_future(anext(source))
    mountpoint = service.caster.mountpoints.get("M")
    assert mountpoint is not None
    await service.wait(lambda: len(mountpoint.mount) == 1)
    queue.put_nowait(observation_frame(5.0))
    assert await asyncio.wait_for(first, PATIENCE_S) == observation_frame(5.0)
    await source.aclose()  # type: ignore[attr-defined]
    queue.put_nowait(None)
    await pushing
    with pytest.raises(RefusedError):
        await asyncio.wait_for(whole(f"ntrip://rover:wrong@127.0.0.1:{service.port}/OTHER"), PATIENCE_S)
