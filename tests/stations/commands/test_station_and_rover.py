from pathlib import Path

import pytest
from typer.testing import CliRunner

from caster.errors import SourceError
from stations.cli import app

BAD = ["http://host/M", "ntrip://host:2101/", "ntrip://host:99999/M"]


@pytest.mark.parametrize("address", BAD)
def test_an_address_that_is_none_is_wrong_usage(address: str, recording: Path) -> None:
    pushed = CliRunner().invoke(app, ["station", "push", str(recording), "--to", address])
    roved = CliRunner().invoke(app, ["rover", address])
    assert (pushed.exit_code, roved.exit_code) == (2, 2)


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
