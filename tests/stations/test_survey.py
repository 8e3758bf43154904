"""Surveys of antennas whose coordinates are known."""

import numpy as np
import pytest
from typer.testing import CliRunner

from solver.model import Quality
from stations.cli import app
from stations.survey import Bases, report, survey
from tests.caster.codec.rinex.samples import package_file

FUJISAWA_BASE = np.array([-3959400.6310, 3385704.5330, 3667523.1110])
FUJISAWA_ROVER = np.array([-3962108.6730, 3381309.5740, 3668678.6380])
ROVER, BASE, NAV = (
    package_file("cssrlib", f"data/{name}") for name in ("SEPT078M1.21O", "3034078M1.21O", "SEPT078M.21P")
)
ZEGV = np.array([3908910.3663, 330932.7742, 5012262.5786])


def horizontal_m(position_m, truth_m):
    up = truth_m / np.linalg.norm(truth_m)
    apart = position_m - truth_m
    return np.linalg.norm(apart - up * (up @ apart))


def test_one_base_gives_centimetres_and_the_bases_own_uncertainty():
    found = survey([ROVER], Bases([BASE], [FUJISAWA_BASE]), [NAV])
    assert found.quality == Quality.FIX
    assert np.linalg.norm(found.position_ecef_m - FUJISAWA_ROVER) < 0.01
    assert 0.0245 < np.sqrt(np.trace(found.covariance_m2)) < 0.03
    text = "\n".join(report(found, "ITRF2014", 2021.21))
    assert "base 3034078M1.21O: 5.290 km, fix" in text
    assert "ITRF2014 at 2021.210" in text


def test_no_base_gives_metres_and_says_so():
    found = survey([ROVER], Bases(), [NAV])
    error = found.position_ecef_m - FUJISAWA_ROVER
    assert found.quality == Quality.SINGLE
    assert error @ np.linalg.solve(found.covariance_m2, error) < 11.3, "the 99 % point of three degrees of freedom"
    assert np.sqrt(np.trace(found.covariance_m2)) > 1.0


def test_several_bases_are_adjusted_and_the_one_astray_is_named(shared_data):
    folder = shared_data / "nl-network-2021001"
    navigation = [folder / f"{name}_R_20210010000_01D_MN.rnx.xz" for name in ("AMEL00NLD", "CBW100NLD")]
    bases = [folder / f"{name}001_00-12h.21o.xz" for name in ("delf", "rovn", "wsra")]
    wrong = np.array([3924687.7020, 301132.7660, 5001910.7750]) + 0.5
    found = survey([folder / "zegv001_00-12h.21o.xz"], Bases(bases, [wrong]), navigation)
    assert found.quality == Quality.FIX
    assert found.adjusted is not None
    assert found.adjusted.used.tolist() == [False, True, True]
    assert any(text.startswith("delf001_00-12h.21o.xz: left out") for text in found.warnings)
    assert horizontal_m(found.position_ecef_m, ZEGV) < 0.02


@pytest.mark.parametrize(("words", "told"), [
    (["--frame", "WGS84"], "not one of ITRF"),
    (["--base", "x", "--to", "CGCS2000"], "the frame of the bases"),
    (["--base-position", "1,2"], "not three numbers"),
    (["--base-position", "1,2,3"], "more positions than bases"),
    (["--plate", "CHINA"], "AMUR"),
])  # fmt: skip
def test_wrong_usage_is_told(words, told):
    result = CliRunner().invoke(app, ["station", "survey", str(ROVER), *words], env={"COLUMNS": "200"})
    assert result.exit_code == 2
    assert told in result.output


def test_the_command_prints_coordinates_covariance_and_frame():
    words = ["station", "survey", str(ROVER), "--nav", str(NAV), "--to", "CGCS2000"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    for text in (
        "by single positions: single",
        "ECEF X Y Z m",
        "covariance XYZ",
        "ITRF2020 at 2021.21",
        "CGCS2000 at 2000.000",
    ):
        assert text in result.output


def test_an_option_of_files_takes_several_of_them():
    words = ["station", "survey", str(ROVER), "--base", str(BASE), str(BASE), "--nav", str(NAV)]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 0, result.output
    assert result.output.count("base 3034078M1.21O: ") == 2
    assert "which was not stated (--frame)" in result.output
