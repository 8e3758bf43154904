import csv
import subprocess
from pathlib import Path

import numpy as np
import pyrtklib5 as rtklib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caster.codec.solution import csv_header, csv_line, pos_header, pos_lines, read_pos
from caster.errors import FormatError
from solver.kernels.geodesy import enu_axes, geodetic_from_ecef
from solver.model import Fix, Quality
from solver.timescale import NS, from_week
from tests.caster.codec.rinex.samples import content, package_file

TIME_NS = from_week(2149, 475_200.0)
POSITION = np.array([-3962108.7, 3381309.5, 3668678.6])


def a_fix(quality: Quality = Quality.FIX, time_ns: int = TIME_NS) -> Fix:
    latitude, longitude, _ = geodetic_from_ecef(*POSITION)
    axes = np.empty((3, 3))
    enu_axes(latitude, longitude, axes)
    enu = np.array([[0.04, -0.01, 0.0025], [-0.01, 0.09, 0.0004], [0.0025, 0.0004, 0.25]])
    return Fix(
        time_ns,
        quality,
        position_ecef_m=POSITION,
        position_covariance_m2=axes.T @ enu @ axes,
        velocity_ecef_mps=axes.T @ np.array([1.0, 2.0, 3.0]),
        velocity_covariance_m2s2=axes.T @ (enu / 100) @ axes,
        satellites=np.arange(12, dtype=np.int16),
        age_s=1.5,
        ratio=12.34,
    )


def test_a_line_has_rtklibs_columns_and_widths() -> None:
    ecef, geodetic = rtklib.Arr1Ddouble(3), rtklib.Arr1Ddouble(3)
    for axis in range(3):
        ecef[axis] = float(POSITION[axis])
    rtklib.ecef2pos(ecef, geodetic)
    assert [np.degrees(geodetic[0]), np.degrees(geodetic[1])] == pytest.approx([35.33932564, 139.52217394], abs=1e-9)
    assert pos_lines([a_fix()]) == (
        "2021/03/19 12:00:00.000   35.339325640  139.522173940    65.6676   1  12"
        "   0.3000   0.2000   0.5000  -0.1000   0.0500   0.0200   1.50   12.3\n"
    )


def test_velocity_columns_follow_when_asked_for() -> None:
    header, line = pos_header("x", [], velocity=True), pos_lines([a_fix()], velocity=True)
    assert header.splitlines()[-1].split()[-9:-6] == ["vn(m/s)", "ve(m/s)", "vu(m/s)"]
    assert line.split()[15:21] == ["2.00000", "1.00000", "3.00000", "0.03000", "0.02000", "0.05000"]


def test_an_epoch_without_a_position_has_no_line() -> None:
    assert pos_lines([Fix(TIME_NS, Quality.NONE, "three satellites")]) == ""


def test_a_time_is_rounded_as_a_whole() -> None:
    assert pos_lines([a_fix(time_ns=TIME_NS - 1)]).startswith("2021/03/19 12:00:00.000")


def test_what_is_written_is_read() -> None:
    text = pos_header("dipper 0.1", ["a.obs"], (TIME_NS, TIME_NS + NS)) + pos_lines([a_fix()] * 2)
    solution = read_pos(text)
    assert solution.time_ns.tolist() == [TIME_NS] * 2
    np.testing.assert_allclose(solution.position_ecef_m, [POSITION] * 2, atol=2e-4)
    assert (solution.quality[0], solution.satellites[0], solution.age_s[0], solution.ratio[0]) == (1, 12, 1.5, 12.3)
    np.testing.assert_allclose(solution.deviation_enu_m[0], [0.2, 0.3, 0.5], atol=1e-4)


@pytest.mark.parametrize("options", [["-t"], [], ["-e"], ["-t", "-s", ","]])
def test_rtklibs_own_files_are_read_in_all_forms(options: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.obs").write_bytes(content(package_file("cssrlib", "data/SEPT078M1.21O")))
    (tmp_path / "a.nav").write_bytes(content(package_file("cssrlib", "data/SEPT078M.21P")))
    command = ["rnx2rtkp", "-p", "0", *options, "a.obs", "a.nav"]
    text = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60).stdout
    solution = read_pos(text)
    assert solution.time_ns.tolist() == [TIME_NS + second * NS for second in range(60)]
    assert np.linalg.norm(solution.position_ecef_m - POSITION, axis=1).max() < 30
    assert set(solution.quality.tolist()) == {5}


def test_our_header_is_the_one_that_rnx2rtkp_writes(tmp_path: Path) -> None:
    (tmp_path / "a.obs").write_bytes(content(package_file("cssrlib", "data/SEPT078M1.21O")))
    (tmp_path / "a.nav").write_bytes(content(package_file("cssrlib", "data/SEPT078M.21P")))
    command = ["rnx2rtkp", "-p", "0", "-t", "a.obs", "a.nav"]
    text = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60).stdout
    theirs = [line for line in text.splitlines() if line.startswith("%")]
    ours = pos_header("ours", ["a.obs", "a.nav"], (TIME_NS, TIME_NS + 59 * NS)).splitlines()
    assert ours[1:] == theirs[1:]


def test_csv_has_a_value_or_nothing_in_each_column() -> None:
    text = csv_header() + csv_line(a_fix()) + csv_line(Fix(TIME_NS, Quality.NONE, 'no "orbit", no fix'))
    solved, none = csv.DictReader(text.splitlines())
    assert (solved["quality"], solved["sd_north_m"], solved["v_east_mps"]) == ("1", "0.3000", "1.0000")
    assert (none["quality"], none["x_m"], none["reason"]) == ("0", "", 'no "orbit", no fix')


@settings(max_examples=200, deadline=None)
@given(st.lists(st.text(alphabet="0123456789.-/: %xe,n\t", max_size=60), max_size=4), st.integers(0, 200))
def test_any_text_is_read_or_refused_by_line(lines: list[str], cut: int) -> None:
    try:
        read_pos("\n".join([pos_lines([a_fix()])[:cut], *lines]))
    except FormatError as error:
        assert str(error).startswith("line ")
