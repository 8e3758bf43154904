"""`dipper solve` on real recordings, as a user runs it."""

import lzma
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from caster.codec.solution import read_pos
from solver.model import Ephemerides, Epoch, Quality
from solver.observed import Selection, take
from solver.signals import BEIDOU, GALILEO, GPS, PRN_PER_SYSTEM
from stations.cli import app
from stations.commands.solve import spread
from stations.solve import Job, is_one_make, latest_base, load_kernels, prepare, run
from tests.caster.codec.rinex.samples import package_file
from tests.solver.recordings import errors_enu_m

ROVER_ECEF_M = np.array([-3_817_681.3800, 3_562_839.9783, 3_650_158.3757])
BASE_ECEF_M = ("-3817681.12132661", "3562839.43114029", "3650159.15934108")


@pytest.fixture
def folder(shared_data) -> Path:
    return shared_data / "matrtklib-static-2024-1m"


def solve(*words: object):
    return CliRunner().invoke(app, ["solve", *map(str, words)])


def test_dgnss_of_rinex_files_is_a_solution_file_of_every_tenth_epoch(folder, tmp_path):
    out = tmp_path / "out.pos"
    files = ("--rover", folder / "rover.obs.xz", "--base", folder / "base.obs.xz", "--nav", folder / "base.nav.xz")
    result = solve("--mode", "dgnss", *files, "--base-position", *BASE_ECEF_M, "--interval", 10, "--output", out)
    assert result.exit_code == 0, result.output
    assert "31 epochs, availability 100.0 % (dgnss 100.0 %)" in result.output
    solution = read_pos(out.read_text())
    assert (solution.quality == 4).all()
    enu = errors_enu_m(list(solution.position_ecef_m), ROVER_ECEF_M)
    assert np.percentile(np.hypot(enu[:, 0], enu[:, 1]), 95) < 0.6


@pytest.mark.parametrize("place", [("0", "0", "0"), ("35.13", "136.98", "104.9"), ("nan", "0", "0")])
def test_a_base_position_that_is_not_on_the_earth_is_wrong_usage(folder, place):
    """Latitude, longitude and height are easily given for X, Y and Z, and solve to nonsense."""
    files = ("--rover", folder / "rover.obs.xz", "--base", folder / "base.obs.xz", "--nav", folder / "base.nav.xz")
    assert solve("--mode", "dgnss", *files, "--base-position", *place).exit_code == 2


def test_dgnss_of_a_base_whose_epochs_each_lack_a_system_s_message_is_as_of_a_whole_one(folder):
    where, read = np.array(BASE_ECEF_M, np.float64), (folder / "rover.obs.xz", folder / "base.obs.xz")
    job = prepare("dgnss", [read[0]], [read[1]], [folder / "base.nav.xz"], Selection(systems="GEC"), where)
    lossy = [
        take(epoch, epoch.sat // PRN_PER_SYSTEM == (GPS, GALILEO, BEIDOU)[k % 3]) for k, epoch in enumerate(job.base)
    ]
    fixes = list(run(replace(job, base=lossy)))[10:]
    assert min(len(fix.satellites) for fix in fixes) > 15
    enu = errors_enu_m([fix.position_ecef_m for fix in fixes], ROVER_ECEF_M)
    assert np.hypot(enu[:, 0], enu[:, 1]).max() < 0.3


def test_protection_levels_bound_a_day_of_an_antenna_whose_multipath_stands(shared_data):
    """BeiDou's geostationary satellites do not turn, and hills reflect: codes of minutes repeat the same error."""
    folder, base = shared_data / "bds-monitor-418m", np.array([-492_863.4, 5_551_481.4, 3_092_895.3])
    names = ("540423496360.2026-05-15.rtcm3.xz", "540423494727.2026-05-15.rtcm3.xz")
    fixes = list(run(prepare("dgnss", [folder / names[0]], [folder / names[1]], [], Selection(systems="C"), base)))
    enu = errors_enu_m([fix.position_ecef_m for fix in fixes], base - (236.553, 68.861, 337.870))
    assert np.mean(np.hypot(enu[:, 0], enu[:, 1]) < [fix.hpl_m for fix in fixes]) > 0.999


@pytest.mark.parametrize("form, mark", [("nmea", "$GNGGA"), ("csv", "gpst,gps_week")])
def test_other_formats_go_to_the_terminal(folder, form, mark):
    window = ("--start", "2024-06-24T08:20:00", "--end", "2024-06-24T08:20:03")
    files = ("--rover", folder / "rover.obs.xz", "--nav", folder / "base.nav.xz")
    result = solve("--mode", "single", *files, *window, "--format", form)
    assert result.exit_code == 0, result.output
    assert mark in result.output
    assert "4 epochs" in result.output


def test_raw_streams_are_solved_across_the_week_s_end_with_their_own_ephemerides(shared_data, tmp_path):
    folder, out = shared_data / "str-stromlo-70m", tmp_path / "out.pos"
    files = ("--rover", folder / "week-rollover-STR24.rtcm3.gz", "--base", folder / "week-rollover-STR17.rtcm3.gz")
    result = solve("--mode", "dgnss", *files, "--interval", 10, "--output", out)
    assert result.exit_code == 0, result.output
    solution = read_pos(out.read_text())
    assert len(solution.time_ns) > 110
    enu = errors_enu_m(list(solution.position_ecef_m[5:]), np.array([-4_467_074.3577, 2_683_011.9038, -3_667_008.2845]))
    assert np.sqrt((enu[:, :2] ** 2).sum(axis=1).mean()) < 0.46


def test_a_car_in_shanghai_is_within_a_metre_four_times_in_five(shared_data, tmp_path):
    """BeiDou first: B1I and B2a of a low-cost receiver, corrected by a virtual station; RTKLIB's best is 57 %."""
    folder, out = shared_data / "shanghai-car-vrs", tmp_path / "out.pos"
    files = ("--rover", folder / "rover.rtcm3.xz", "--base", folder / "base-vrs.rtcm3.xz")
    result = solve("--mode", "dgnss", *files, "--output", out)
    assert result.exit_code == 0, result.output
    truth = np.genfromtxt(folder / "reference_trajectory.csv", delimiter=",", skip_header=1)
    at = {round((week * 604_800 + tow_s) * 1000): row for week, tow_s, *row in truth[:, :5].tolist()}
    solution = read_pos(out.read_text())
    assert len(solution.time_ns) >= 0.99 * 601
    errors = [
        errors_enu_m([position], np.array(at[round(time_ns / 1e6)]))[0]
        for time_ns, position in zip(solution.time_ns.tolist(), solution.position_ecef_m, strict=True)
        if round(time_ns / 1e6) in at
    ]
    assert len(errors) > 550
    assert (np.hypot(*np.array(errors).T[:2]) < 1.0).mean() > 0.8


@pytest.mark.parametrize(
    "words, complaint",
    [
        (("--mode", "fast"), "--mode fast"),
        (("--mode", "dgnss"), "needs --base"),
        (("--mode", "single", "--systems", "GX"), "no such system: X"),
        (("--mode", "single", "--signals", "C9Z"), "no such signal: C9Z"),
        (("--mode", "single", "--format", "kml"), "kml"),
        (("--mode", "single", "--start", "noon"), "noon"),
    ],
)
def test_wrong_usage_is_named_and_ends_with_2(folder, words, complaint):
    result = solve(*words, "--rover", folder / "rover.obs.xz")
    assert result.exit_code == 2
    assert complaint in result.output


def test_what_cannot_be_solved_is_named(folder, tmp_path):
    result = solve("--mode", "single", "--rover", folder / "rover.obs.xz")
    assert "no ephemerides: give a navigation file by --nav" in str(result.exception)
    noise = tmp_path / "noise.bin"
    noise.write_bytes(bytes(range(256)) * 20)
    result = solve("--mode", "single", "--rover", noise)
    assert "noise.bin: no observations" in str(result.exception)
    result = solve("--mode", "single", "--rover", folder / "rover.obs.xz", "--nav", folder / "rover.obs.xz")
    assert "rover.obs.xz" in str(result.exception)


def test_a_base_of_another_day_is_told_and_the_positions_are_single(folder):
    files = ("--rover", folder / "rover.obs.xz", "--base", package_file("cssrlib", "data/3034078M1.21O"))
    result = solve("--mode", "dgnss", *files, "--nav", folder / "base.nav.xz", "--interval", 100)
    assert result.exit_code == 0, result.output
    assert "the base observed from 2021-03-19 12:00:00 to 2021-03-19 12:00:59, the rover from 2024-06-24" in (
        result.output.replace("\n", " ")
    )
    assert "single 100.0 %" in result.output


def test_a_truncated_recording_is_solved_as_far_as_it_goes(folder, tmp_path):
    whole = lzma.decompress((folder / "rover.obs.xz").read_bytes())
    cut = tmp_path / "cut.obs"
    cut.write_bytes(whole[: len(whole) // 20])
    result = solve("--mode", "single", "--rover", cut, "--nav", folder / "base.nav.xz", "--output", tmp_path / "o.pos")
    assert result.exit_code == 0, result.output
    assert "availability" in result.output


def test_options_of_files_take_any_number_of_them():
    words = ["--rover", "a", "b", "--base-position", "1", "-2", "3", "--nav", "c", "d", "--interval", "1"]
    assert spread(words) == [
        "--rover", "a", "--rover", "b", "--base-position", "1", "-2", "3", "--nav", "c", "--nav", "d",
        "--interval", "1",
    ]  # fmt: skip


@pytest.mark.parametrize("mode", ["single", "dgnss", "kinematic", "static", "none"])
@pytest.mark.parametrize("instantaneous", [True, False])
def test_an_epoch_of_nothing_loads_a_mode_s_kernels(mode, instantaneous, monkeypatch):
    solved = []
    monkeypatch.setattr("stations.solve.was_compiled", lambda module: module.startswith("solver.kernels."))
    monkeypatch.setattr("stations.solve.run", lambda job: solved.extend(run(job)) or [])
    load_kernels(mode, instantaneous)
    assert [fix.quality for fix in solved] == [Quality.NONE] * (mode in ("single", "dgnss", "kinematic"))


def test_nothing_is_compiled_ahead_of_the_files(monkeypatch):
    monkeypatch.setattr("stations.solve.was_compiled", lambda module: False)
    monkeypatch.setattr("stations.solve.run", lambda job: pytest.fail("solved"))
    load_kernels("kinematic", False)


@pytest.mark.parametrize(("rover_ms", "base_ms", "latest"), [
    ([0, 1000, 2000], [0, 1000, 2000], [0, 1, 2]),
    ([990, 1990, 2990], [1001, 2001, 4001], [0, 1, 1]),  # clocks that are not steered
    ([100, 974], [1000], [-1, -1]),
    ([0, 20, 40, 60], [0, 20, 40, 60], [0, 1, 2, 3]),  # the next one is near, but not the nearest
])  # fmt: skip
def test_a_base_s_epoch_of_the_same_instant_is_taken_or_else_the_latest(rover_ms, base_ms, latest):
    rover, base = ([Epoch.empty(ms * 1_000_000) for ms in times] for times in (rover_ms, base_ms))
    job = Job("kinematic", rover, base, np.zeros(3), Ephemerides(), Selection())
    assert latest_base(job).tolist() == latest


@pytest.mark.parametrize(("rover", "base", "alike"), [
    ("u-blox", "U-BLOX ZED-F9P", True),
    ("SEPT POLARX5", "Septentrio", True),
    ("SEPT POLARX5", "TRIMBLE NETR9", False),
    ("", "", False),
    ("NONE", "NONE", False),
])  # fmt: skip
def test_receivers_of_one_make_are_told_by_their_names(rover, base, alike):
    assert is_one_make(rover, base) is alike
