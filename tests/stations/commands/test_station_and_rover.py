"""`dipper station push` and `dipper rover`: errors that name what and where, and ends in form."""

import asyncio
import signal
import socket
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from caster.errors import SourceError
from stations.cli import app
from stations.uplink import connect
from tests.caster.conftest import PATIENCE_S, Service, StartService
from tests.stations.conftest import heed_interrupts, observation_frame

BAD = ["http://host/M", "ntrip://host:2101/", "ntrip://host:99999/M"]


@pytest.mark.parametrize("address", BAD)
def test_an_address_that_is_none_is_wrong_usage(address: str, recording: Path) -> None:
    pushed = CliRunner().invoke(app, ["station", "push", str(recording), "--to", address])
    roved = CliRunner().invoke(app, ["rover", address])
    assert (pushed.exit_code, roved.exit_code) == (2, 2)


@pytest.mark.parametrize(
    "words",
    [
        ["sourcetable", "http://host/"],
        ["sourcetable", "ntrip://127.0.0.1:1", "--filter", "STR;;;;;;;;;>>x"],
        ["sourcetable", "ntrip://127.0.0.1:1", "--match", "FOO;A"],
        ["station", "push", "ftp://host/", "--to", "ntrip://a:b@host/M"],
        ["station", "push", "serial:///dev/ttyACM0?baud=fast", "--to", "ntrip://a:b@host/M"],
        ["rover", "ntrip://host/M", "--upload", "tcp://host"],
        ["ban", "add", "nonsense"],
        ["solve", "--mode", "single", "--rover", "a.obs", "--plot", "track.bmp"],
    ],
)
def test_what_is_no_address_or_file_name_is_wrong_usage_in_every_command(words: list[str]) -> None:
    assert CliRunner().invoke(app, words).exit_code == 2


def test_a_place_that_is_none_is_wrong_usage() -> None:
    assert CliRunner().invoke(app, ["rover", "ntrip://host/M", "--gga", "91,0,0"]).exit_code == 2


@pytest.mark.parametrize("words", [["station", "push", "FILE", "--to"], ["rover"]])
def test_a_caster_that_is_not_there_is_one_named_error(words: list[str], recording: Path) -> None:
    arguments = [str(recording) if word == "FILE" else word for word in words]
    result = CliRunner().invoke(app, [*arguments, "ntrip://base:secret@127.0.0.1:1/M"])
    assert isinstance(result.exception, SourceError)
    assert "127.0.0.1:1: Connection refused" in str(result.exception)
    assert "secret" not in str(result.exception)


def test_a_station_whose_stream_tells_no_week_is_checked_all_the_same(shared_data: Path) -> None:
    result = CliRunner().invoke(app, ["station", "check", str(shared_data / "rtcm3-captures/hemi.rtcm")])
    assert result.exit_code == 0
    assert "7 epochs" in result.output
    assert "nothing says which week" in result.output
    assert "no single position could be solved: are there ephemerides?" in result.output


@pytest.mark.parametrize("content", [b"", b"no observations in here"])
def test_a_file_without_observations_is_named_before_the_caster_hears_of_it(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(content)
    with socket.create_server(("127.0.0.1", 0)) as caster:
        caster.setblocking(False)
        address = f"ntrip://base:secret@127.0.0.1:{caster.getsockname()[1]}/M"
        result = CliRunner().invoke(app, ["station", "push", str(path), "--to", address])
        with pytest.raises(BlockingIOError):
            caster.accept()
    assert isinstance(result.exception, SourceError) and "notes.txt" in str(result.exception)


async def test_a_port_without_tls_is_told_so_by_a_client_with_tls(service: Service) -> None:
    with pytest.raises(SourceError, match=r"does this port speak TLS\?|TLS: "):
        await connect("127.0.0.1", service.port, tls=True)


async def test_a_question_to_the_table_may_hold_any_character(start: StartService) -> None:
    service = await start(mounts=[{"name": "A", "identifier": "Here & there"}, {"name": "B"}])
    out, code, _ = await dipper("sourcetable", f"ntrip://127.0.0.1:{service.port}", "--match", "STR;;Here & there")
    assert code == 0 and [line.split()[0] for line in out.splitlines()] == ["mountpoint", "A"]


@pytest.mark.parametrize(
    ("mount", "who", "reason"),
    [
        ("NOWHERE", "rover:ro%3Aver", "refused: Not Found: there is no mountpoint NOWHERE"),
        ("M", "rover:wrong", "refused: Unauthorized: wrong user name or password"),
        ("M", "other:secret", "refused: Forbidden: the account other does not cover mountpoint M"),
    ],
)
async def test_a_rover_that_is_refused_tells_the_caster_s_reason(
    service: Service, mount: str, who: str, reason: str
) -> None:
    await service.feed()
    await service.caster.store.change("other", mounts="ELSEWHERE")
    _, code, text = await dipper("rover", f"ntrip://{who}@127.0.0.1:{service.port}/{mount}", "--seconds", "20")
    assert (code, text) == (1, f"dipper: ntrip://127.0.0.1:{service.port}/{mount}: {reason}\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_push_and_a_rover_end_in_form_by_signals(service: Service, number: signal.Signals) -> None:
    async def station(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        second = 0
        while not writer.is_closing():
            second += 1
            writer.write(observation_frame(second))
            await asyncio.sleep(0.01)

    receiver = await asyncio.start_server(station, "127.0.0.1", 0)
    live = f"tcp://127.0.0.1:{receiver.sockets[0].getsockname()[1]}"
    caster = f"127.0.0.1:{service.port}/M"
    pushing = await _started("station", "push", live, "--to", f"ntrip://base:pa%20ss@{caster}")
    await service.wait(lambda: (point := service.caster.mountpoints.get("M")) is not None and point.is_live)
    roving = await _started("rover", f"ntrip://rover:ro%3Aver@{caster}")
    mountpoint = service.caster.mountpoints.get("M")
    assert mountpoint is not None
    await service.wait(lambda: len(mountpoint.mount) == 1 and mountpoint.mount.sent_bytes > 1000)
    roving.send_signal(number)
    out, _ = await asyncio.wait_for(roving.communicate(), PATIENCE_S)
    assert roving.returncode == 0 and b"messages  1077: " in out
    pushing.send_signal(number)
    _, err = await asyncio.wait_for(pushing.communicate(), PATIENCE_S)
    assert pushing.returncode == 0, err
    assert b"waiting for data of tcp://" in err and b"sent " in err
    receiver.close()


async def _started(*words: str) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-m", "stations", *words, stdout=pipe, stderr=pipe, preexec_fn=heed_interrupts
    )


async def dipper(*words: str) -> tuple[str, int | None, str]:
    """Run the command; return what it says, its exit code and what it complains of."""
    process = await _started(*words)
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return out.decode(), process.returncode, err.decode()
