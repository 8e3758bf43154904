"""Static sessions from files to one position, beside known coordinates."""

import numpy as np
import pytest
from typer.testing import CliRunner

from caster.codec.solution import read_pos
from solver.kernels.geodesy import ecef_from_geodetic, enu_axes, geodetic_from_ecef
from solver.model import Quality
from solver.observed import Selection
from stations.cli import app
from stations.solve import prepare, run
from stations.static import average_singles, enu_deviations_m, solve_session
from tests.caster.codec.rinex.samples import package_file
from tests.recordings import NAGOYA_ROVER_ECEF_M, STROMLO_ROVER_ECEF_M

NAGOYA_BASE = np.array(ecef_from_geodetic(np.radians(35.134707705), np.radians(136.977577939), 104.853))
STROMLO_BASE = np.array([-4467102.3061, 2683039.5304, -3666949.9820])
TIBET_BASE = np.array([-492863.4, 5551481.4, 3092895.3])
FUJISAWA_BASE = (-3959400.6310, 3385704.5330, 3667523.1110)
FUJISAWA_ROVER = np.array([-3962108.6730, 3381309.5740, 3668678.6380])


def enu_m(position_m, truth_m):
    axes = np.empty((3, 3))
    latitude, longitude, _ = geodetic_from_ecef(*truth_m)
    enu_axes(latitude, longitude, axes)
    return axes @ (position_m - truth_m)


@pytest.mark.parametrize(("systems", "error_m"), [("GEC", 0.002), ("C", 0.004), ("G", 0.005)])
def test_five_minutes_over_a_metre_are_good_to_millimetres(shared_data, systems, error_m):
    folder = shared_data / "matrtklib-static-2024-1m"
    job = prepare(
        "static", [folder / "rover.obs.xz"], [folder / "base.obs.xz"], [folder / "base.nav.xz"],
        Selection(systems=systems), NAGOYA_BASE,
    )  # fmt: skip
    (fix,) = run(job)
    assert fix.quality == Quality.FIX
    assert np.linalg.norm(fix.position_ecef_m - NAGOYA_ROVER_ECEF_M) < error_m


def test_a_session_across_the_end_of_a_week_is_one_solution(shared_data):
    folder = shared_data / "str-stromlo-70m"
    job = prepare(
        "static", [folder / "week-rollover-STR24.rtcm3.gz"], [folder / "week-rollover-STR17.rtcm3.gz"], [],
        Selection(systems="GEC"), STROMLO_BASE,
    )  # fmt: skip
    solution = solve_session(job)
    east, north, up = enu_m(solution.position_ecef_m, STROMLO_ROVER_ECEF_M)
    assert solution.quality == Quality.FIX
    assert solution.epochs == 1125
    assert np.hypot(east, north) < 0.006
    assert 0.02 < up < 0.05, "the antenna types' phase centres are 4 cm apart"
    assert max(enu_deviations_m(solution)) < 0.006


@pytest.mark.slow
def test_days_of_bad_multipath_and_slow_slips_repeat_within_a_centimetre(shared_data):
    folder = shared_data / "bds-monitor-418m"
    places = []
    for day in (15, 16, 17):
        rover, base = (folder / f"{name}.2026-05-{day}.rtcm3.xz" for name in ("540423496360", "540423494727"))
        solution = solve_session(prepare("static", [rover], [base], [], Selection(systems="C"), TIBET_BASE))
        assert solution.quality == Quality.FIX
        places.append(enu_m(solution.position_ecef_m, TIBET_BASE))
    apart = np.array(places) - np.mean(places, axis=0)
    assert np.hypot(apart[:, 0], apart[:, 1]).max() < 0.01
    assert np.abs(apart[:, 2]).max() < 0.02


def test_the_command_writes_one_position_that_other_programs_read(tmp_path):
    out = tmp_path / "site.pos"
    rover, base, nav = (
        str(package_file("cssrlib", f"data/{name}")) for name in ("SEPT078M1.21O", "3034078M1.21O", "SEPT078M.21P")
    )
    words = ["solve", "--mode", "static", "--rover", rover, "--base", base, "--nav", nav, "--systems", "GEJ"]
    place = ["--base-position", *map(str, FUJISAWA_BASE)]
    result = CliRunner().invoke(app, [*words, *place, "--output", str(out)])
    assert result.exit_code == 0, result.output
    solution = read_pos(out.read_text())
    assert solution.quality.tolist() == [Quality.FIX]
    assert np.linalg.norm(solution.position_ecef_m[0] - FUJISAWA_ROVER) < 0.01
    assert "60 epochs, 100.0 % of them in one fix solution" in result.stderr
    assert "ambiguity combinations fixed" in result.stderr


def test_single_positions_average_to_metres_that_are_owned_up_to(shared_data):
    folder = shared_data / "matrtklib-static-2024-1m"
    job = prepare("single", [folder / "rover.obs.xz"], [], [folder / "base.nav.xz"], Selection())
    average = average_singles(job.rover, job.ephemerides)
    assert average is not None
    error = average.position_ecef_m - NAGOYA_ROVER_ECEF_M
    assert error @ np.linalg.solve(average.covariance_m2, error) < 11.3, "the 99 % point of three degrees of freedom"
    assert average.epochs == 301
