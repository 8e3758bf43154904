"""Figures are really drawn, by the Agg backend, from really solved recordings."""

import struct

import numpy as np
import pytest
from typer.testing import CliRunner

import stations.plots
from caster.errors import ConfigError, SourceError
from solver.model import Fix, Quality
from stations.cli import app
from stations.plots import check_plotting, plot_fixes
from tests.caster.codec.rinex.samples import package_file

WORDS = [
    "solve", "--rover", str(package_file("cssrlib", "data/SEPT078M1.21O")),
    "--base", str(package_file("cssrlib", "data/3034078M1.21O")),
    "--nav", str(package_file("cssrlib", "data/SEPT078M.21P")),
    "--base-position", "-3959400.6310", "3385704.5330", "3667523.1110",
]  # fmt: skip


def picture_size(data):
    """Width and height of a PNG; it has to be one."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", data[16:24])


@pytest.mark.parametrize("mode", ["single", "kinematic", "static"])
def test_every_mode_draws_a_figure(tmp_path, mode):
    path = tmp_path / "figure.png"
    result = CliRunner().invoke(app, [*WORDS, "--mode", mode, "--output", str(tmp_path / "o.pos"), "--plot", str(path)])
    assert result.exit_code == 0, result.output
    data = path.read_bytes()
    assert picture_size(data) == (1320, 1100)
    assert len(data) > 40_000, "an empty figure has some 20 kB"


def test_a_figure_without_matplotlib_is_refused_before_anything_is_solved(monkeypatch, tmp_path):
    monkeypatch.setattr(stations.plots.importlib.util, "find_spec", lambda name: None)
    result = CliRunner().invoke(app, [*WORDS, "--mode", "single", "--plot", str(tmp_path / "figure.png")])
    assert result.exit_code != 0
    assert "pip install matplotlib" in str(result.exception)


def test_names_that_are_no_pictures_are_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"not one of \.png"):
        check_plotting(tmp_path / "figure.txt")
    with pytest.raises(SourceError, match="no folder"):
        check_plotting(tmp_path / "nowhere" / "figure.png")


def test_nothing_solved_is_nothing_drawn(tmp_path):
    with pytest.raises(SourceError, match="no position to draw"):
        plot_fixes([Fix(0, Quality.NONE, "no data")], [], tmp_path / "figure.png", "")


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    place = np.array([3.9e6, 3.3e5, 5.0e6])
    fix = Fix(10**18, Quality.SINGLE, position_ecef_m=place, position_covariance_m2=np.eye(3))
    (tmp_path / "figure.png").mkdir()
    with pytest.raises(SourceError, match=r"figure\.png"):
        plot_fixes([fix], [], tmp_path / "figure.png", "")
