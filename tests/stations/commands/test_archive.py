"""`dipper archive`: what was kept, and files made from it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from caster.archive import Archive
from caster.config import ArchiveConfig
from caster.errors import SourceError
from caster.hub import Mount
from stations.cli import app
from tests.captures import frames_of
from tests.caster.conftest import frame

EIGHT_NS = 1_778_832_000 * 10**9  # 2026-05-15 08:00:00 UTC


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    keep(tmp_path, [frame(1005), frame(1077)])
    return tmp_path


def keep(data_dir: Path, frames: list[bytes]) -> None:
    archive = Archive(ArchiveConfig(free_bytes_min=0), data_dir / "archive")
    archive.put(Mount("STR1"), frames, EIGHT_NS)
    archive.flush()


def dipper(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["archive", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def test_the_files_are_listed(data_dir: Path) -> None:
    text = dipper("list", "--data-dir", data_dir)
    assert "STR1" in text and "2026-05-15 08:00" in text and "STR1_2026051508.rtcm3" in text
    assert "0 files" in dipper("list", "STR1", "--from", "2026-05-16", "--data-dir", data_dir)


def test_the_frames_are_exported(data_dir: Path, tmp_path: Path) -> None:
    text = dipper("export", "STR1", "--format", "rtcm", "--output", tmp_path / "out", "--data-dir", data_dir)
    assert text == f"{tmp_path / 'out'}: 2 frames\n"
    assert (tmp_path / "out").read_bytes() == frame(1005) + frame(1077)


def test_epochs_are_exported_as_rinex(shared_data: Path, tmp_path: Path) -> None:
    keep(tmp_path, list(frames_of(shared_data / "rtcm3-captures" / "openntrip-sept-polarx5.rtcm3")))
    text = dipper("export", "STR1", "--output", tmp_path / "a.obs", "--interval", 1, "--data-dir", tmp_path)
    lines = (tmp_path / "a.obs").read_text().splitlines()
    assert int(text.split()[-2]) == sum(line.startswith(">") for line in lines) > 10
    assert "     3.04           OBSERVATION DATA    M" in lines[0]


def test_what_there_is_not_and_what_cannot_be_written_are_named(data_dir: Path, tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="OTHER: nothing in the archive"):
        dipper("export", "OTHER", "--output", tmp_path / "a", "--data-dir", data_dir)
    arguments = ["archive", "export", "STR1", "--format", "rtcm", "--data-dir", str(data_dir)]
    result = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "no" / "a")])
    assert "No such file" in str(result.exception) and "no/a" in str(result.exception)
    assert CliRunner().invoke(app, ["archive", "export", "STR1", "--output", "a", "--format", "x"]).exit_code == 2
