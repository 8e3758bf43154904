"""`dipper decode` shows what is in a stream, as a user runs it."""

import gzip
import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from caster.codec.rinex.observation import ObservationFile
from caster.codec.rtcm import Message, encode, make_frame
from caster.errors import DipperError
from solver.timescale import to_datetime
from stations.cli import app
from tests.caster.codec.test_sbf import block, measured

STATION = {"itrf_year": 0, "gps": 1, "glonass": 1, "galileo": 1, "virtual": 0, "single_oscillator": 0, "reserved": 0,
           "quarter_cycle": 0, "station": 7, "x_m": -2850000.5, "y_m": 4655000.25, "z_m": 3288000.125}  # fmt: skip
STATION_FRAME = encode(Message(1006, STATION | {"antenna_height_m": 1.5}))


def run(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["decode", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def json_of(*arguments: object) -> list[dict]:
    return [json.loads(line) for line in run(*arguments, "--format", "json").splitlines()]


def test_a_station_message_has_its_promised_keys(tmp_path):
    file = tmp_path / "one.rtcm3"
    file.write_bytes(STATION_FRAME)
    message, summary = json_of(file)
    assert message.items() >= {"type": 1006, "station": 7, "x_m": -2850000.5, "antenna_height_m": 1.5}.items()
    assert summary["summary"]["types"] == {"1006": 1}


def test_damage_is_counted_and_stops_nothing(tmp_path):
    broken = STATION_FRAME[:8] + b"\xff" + STATION_FRAME[9:]
    impossible = make_frame(bytes.fromhex("43500000"))  # 1077 of four bytes
    file = tmp_path / "damaged.rtcm3"
    file.write_bytes(STATION_FRAME + broken + b"$GNGGA\r\n" + impossible + STATION_FRAME)
    *messages, last = json_of(file)
    assert [message["type"] for message in messages] == [1006, 1006]
    summary = last["summary"]
    assert (summary["frames"], summary["faulty"]) == (3, 1)
    assert summary["bad_crc"] >= 1
    assert "1077 of 4 bytes" in summary["last_fault"]


def test_an_unknown_message_is_shown_as_its_bytes(tmp_path):
    file = tmp_path / "own.rtcm3"
    file.write_bytes(make_frame(bytes.fromhex("fee0aabb")))
    assert json_of(file)[0] == {"type": 4078, "bytes": 4, "payload": "fee0aabb"}


@pytest.mark.parametrize("content", [b"", b"nothing of the kind"])
def test_a_file_without_messages_is_an_error_that_names_it(tmp_path, content):
    file = tmp_path / "no.rtcm3"
    file.write_bytes(content)
    with pytest.raises(DipperError, match=r"no\.rtcm3: no RTCM 3 message"):
        run(file)


def test_a_missing_file_is_an_error_that_names_it(tmp_path):
    with pytest.raises(DipperError, match=r"gone\.rtcm3: No such file"):
        run(tmp_path / "gone.rtcm3")


def test_a_truncated_archive_is_an_error_that_names_it(tmp_path):
    file = tmp_path / "cut.rtcm3.gz"
    file.write_bytes(gzip.compress(STATION_FRAME * 100)[:-12])
    with pytest.raises(DipperError, match=r"cut\.rtcm3\.gz: "):
        run(file)


def test_an_undated_recording_cannot_be_rinex_until_a_day_is_stated(shared_data, tmp_path):
    file, output = shared_data / "rtcm3-captures" / "msm7.rtcm", tmp_path / "out.obs"
    with pytest.raises(DipperError, match="--date"):
        run(file, "--format", "rinex", "--output", output)
    run(file, "--format", "rinex", "--output", output, "--date", "2018-03-09")
    first = next(iter(ObservationFile(output.read_bytes()).epochs()))
    assert str(to_datetime(first.time_ns)).startswith("2018-03-09 09:35")


def test_times_are_gpst_for_every_system(shared_data):
    messages = json_of(shared_data / "rtcm3-captures" / "sept.rtcm")
    first = {}
    for message in messages:
        first.setdefault(message.get("type"), message)
    times = {(first[number]["gps_week"], first[number]["tow_s"]) for number in (1077, 1087, 1097, 1117, 1127)}
    assert len({week for week, _ in times}) == 1
    assert max(tow_s for _, tow_s in times) - min(tow_s for _, tow_s in times) <= 1
    cell = first[1127]["cells"][0]
    assert set(cell) == {"sat", "signal", "pseudorange_m", "phase_cycles", "lock_time_ms", "half_cycle", "cn0_dbhz",
                         "doppler_hz"}  # fmt: skip
    assert cell["sat"].startswith("C")
    assert first[1019]["sat"].startswith("G")


def test_the_table_names_types_signals_and_times(shared_data):
    text = run(shared_data / "shanghai-car-vrs" / "base-vrs.rtcm3.xz", "--date", "2023-05-19")
    assert "BeiDou MSM4: 2I 6I 7I 5P 1P" in text
    assert "2023-05-19 06:33:" in text
    assert "QXWZ VRS" in text


def test_rinex_holds_every_epoch_across_the_week_roll_over(shared_data, tmp_path):
    output = tmp_path / "str17.obs"
    file = shared_data / "str-stromlo-70m" / "week-rollover-STR17.rtcm3.gz"
    told = run(file, "--format", "rinex", "--output", output).splitlines()
    assert f"{output}: 1126 epochs" in told
    assert told[-1].startswith(f"{tmp_path / 'str17.nav'}: ") and told[-1].endswith(" ephemerides")
    times_ns = [epoch.time_ns for epoch in ObservationFile(output.read_bytes()).epochs()]
    assert len(times_ns) == 1126
    assert (np.diff(times_ns) == 10**9).all()
    assert str(to_datetime(times_ns[-1])) == "2018-07-15 00:09:03"


@pytest.mark.skipif(shutil.which("rnx2rtkp") is None, reason="RTKLIB is not installed")
def test_a_receivers_own_log_becomes_rinex_with_its_ephemerides(shared_data, tmp_path):
    output = tmp_path / "walk.obs"
    run(shared_data / "rover-raw-logs/f9p-walk-20250828.ubx.xz", "--format", "rinex", "--output", output)
    assert len(list(ObservationFile(output.read_bytes()).epochs())) == 536
    systems = {line[0] for line in output.with_suffix(".nav").read_text().splitlines() if line[:1] in "GEC"}
    assert systems == {"G", "E", "C"}


def test_rinex_of_an_sbf_log_is_of_its_own_measurements_not_of_the_corrections_in_it(shared_data, tmp_path):
    log, output = tmp_path / "rover.sbf", tmp_path / "rover.obs"
    corrections = (shared_data / "rtcm3-captures/sept.rtcm").read_bytes()[:20_000]
    log.write_bytes(measured() + b"".join(block(5919, corrections[at : at + 200]) for at in range(0, 20_000, 200)))
    run(log, "--format", "rinex", "--output", output)
    assert [len(epoch) for epoch in ObservationFile(output.read_bytes()).epochs()] == [5]


def test_rtklib_positions_the_station_from_our_rinex(shared_data, tmp_path):
    output, solution = tmp_path / "str24.obs", tmp_path / "str24.pos"
    run(shared_data / "str-stromlo-70m" / "week-rollover-STR24.rtcm3.gz", "--format", "rinex", "--output", output)
    command = ["rnx2rtkp", "-p", "0", "-e", "-o", solution, output, output.with_suffix(".nav")]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    lines = [line.split() for line in Path(solution).read_text().splitlines() if not line.startswith("%")]
    positions = np.array([[float(number) for number in line[2:5]] for line in lines])
    assert len(positions) == 1134
    # Without an ionosphere model in the stream RTKLIB's single points are off by some metres.
    truth = np.array([-4467074.3577, 2683011.9038, -3667008.2845])
    assert np.percentile(np.linalg.norm(positions - truth, axis=1), 95) < 15


def test_an_output_that_cannot_be_written_is_one_line_whatever_the_command(shared_data, tmp_path):
    log = shared_data / "rover-raw-logs/f9p-walk-20250828.ubx.xz"
    place = tmp_path / "missing" / "out.pos"
    command = [sys.executable, "-m", "stations", "solve", "--mode", "single", "--rover", log, "--output", place]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 1
    assert done.stderr == f"dipper: {place}: No such file or directory\n"
