"""`dipper demo` as a user starts it: real recordings, real connections, by itself to the end."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from caster.errors import SourceError
from stations import demo
from stations.cli import app
from stations.demo import BASE, Answers, find_recordings
from tests.stations.conftest import heed_interrupts


def test_a_rover_is_positioned_from_real_observations_and_the_command_stops_by_itself():
    command = [sys.executable, "-m", "stations", "demo", "--seconds", "6"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr
    assert re.search(r"The caster listens on 127\.0\.0\.1:\d+", done.stdout)
    assert re.search(
        r"41\.64\d+ 2\.35\d+ 2\d\d\.\d+ m  (differential|float|fixed), \d+ satellites, \d\.\d+ m from the reference",
        done.stdout,
    )
    assert re.search(rf"station {BASE}: [1-9]\d* epochs", done.stdout)
    assert re.search(r"rover with corrections: [1-9]\d* epochs", done.stdout)
    median_m = float(re.search(r"good to about a metre: ([\d.]+) m", done.stdout)[1])
    assert median_m < 3.0


@pytest.mark.parametrize(("number", "mark"), [(signal.SIGINT, "listens"), (signal.SIGTERM, "fixed")])
def test_a_signal_ends_it_at_once_and_in_form_before_it_is_compiled_and_once_the_car_is_fixed(
    tmp_path: Path, number: signal.Signals, mark: str
):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path)} if mark == "listens" else {}
    command = [sys.executable, "-m", "stations", "demo"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, env=os.environ | cache, text=True, preexec_fn=heed_interrupts
    ) as process:
        while mark not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(number)
        said, _ = process.communicate(timeout=30)
    assert process.returncode == 0
    assert "Traceback" not in said and (mark == "listens" or f"station {BASE}: " in said)


def test_without_the_recordings_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(demo, "PACKAGE", "no_such_package")
    with pytest.raises(SourceError, match=r"pip install --no-deps gnss-benchmark==2\.3\.0"):
        find_recordings()
    result = CliRunner().invoke(app, ["demo", "--seconds", "1"])
    assert isinstance(result.exception, SourceError)


def test_another_version_of_the_package_is_named(monkeypatch):
    monkeypatch.setattr(demo, "DATASET", "no_such_dataset")
    with pytest.raises(SourceError, match=r"is missing: the demonstration needs version 2\.3\.0"):
        find_recordings()


def test_answers_are_compared_with_the_reference_of_the_same_second():
    answers = Answers(find_recordings().reference_ecef_m)
    at_start = b"$GNGGA,123942.00,4138.5692358,N,00221.1608553,E,2,12,1.00,251.5123,M,0.0,M,1.0,0001\r\n"
    assert answers.write(at_start) == len(at_start)
    assert (answers.positions, answers.corrected) == (1, 1)
    assert answers.distances_m[0] < 0.01  # 12:40:00 GPST: 41.6428205930 2.3526809210 by the package's file
    answers.write(at_start.replace(b"123942", b"033942"))
    assert (answers.positions, len(answers.distances_m)) == (2, 1)
