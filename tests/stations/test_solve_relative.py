"""The modes that resolve ambiguities, on real recordings with known coordinates."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from solver.kernels.geodesy import ecef_from_geodetic
from solver.model import Fix, Quality
from solver.observed import Selection
from stations.solve import prepare, run
from tests.solver.recordings import errors_enu_m

NAGOYA_BASE = np.array(ecef_from_geodetic(np.radians(35.134707705), np.radians(136.977577939), 104.853))
NAGOYA_ROVER = np.array([-3817681.3800, 3562839.9783, 3650158.3757])
STROMLO_ROVER = np.array([-4467074.3577, 2683011.9038, -3667008.2845])
STROMLO_BASE = np.array([-4467102.3061, 2683039.5304, -3666949.9820])


@pytest.mark.parametrize(("systems", "mode", "instantaneous", "error_m"), [
    ("G", "kinematic", True, 0.010),
    ("C", "kinematic", True, 0.006),
    ("GEC", "kinematic", True, 0.004),
    ("GREC", "kinematic", False, 0.004),
])  # fmt: skip
def test_every_epoch_of_a_metre_is_fixed(shared_data, systems, mode, instantaneous, error_m):
    folder = shared_data / "matrtklib-static-2024-1m"
    job = prepare(
        mode, [folder / "rover.obs.xz"], [folder / "base.obs.xz"], [folder / "base.nav.xz"],
        Selection(systems=systems), NAGOYA_BASE, instantaneous=instantaneous,
    )  # fmt: skip
    fixes = list(run(job))
    assert len(fixes) == 301
    assert {fix.quality for fix in fixes} == {Quality.FIX}
    errors = np.array([fix.position_ecef_m - NAGOYA_ROVER for fix in fixes])
    assert np.sqrt((errors**2).sum(axis=1).mean()) < error_m


def test_a_week_ends_without_a_gap_in_the_fixes(shared_data):
    """Two raw streams of different makers across the roll-over, BeiDou alone."""
    folder = shared_data / "str-stromlo-70m"
    job = prepare(
        "kinematic", [folder / "week-rollover-STR24.rtcm3.gz"], [folder / "week-rollover-STR17.rtcm3.gz"], [],
        Selection(systems="C"), STROMLO_BASE,
    )  # fmt: skip
    fixes = list(run(job))
    fixed = [fix for fix in fixes if fix.quality == Quality.FIX]
    assert len(fixed) == 1125
    assert {fix.quality for fix in fixes if fix.quality != Quality.FIX} == {Quality.SINGLE}, "before the base's first"
    errors = np.array([fix.position_ecef_m - STROMLO_ROVER for fix in fixed])
    assert np.sqrt((errors**2).sum(axis=1)).max() < 0.08, "4 cm of it are the antenna types"


def walked(shared_data: Path, mode: str) -> list[tuple[Fix, NDArray[np.float64]]]:
    """Of GPS and GLONASS L1 of two u-blox M8P: fixes and truths, which are where the receiver was fixed itself."""
    folder = shared_data / "jd-walk-20181009"
    rows = np.genfromtxt(folder / "reference_gga.csv", delimiter=",", usecols=range(6))
    places = {round(row[0]) * 604_800_000 + round(row[1] * 1000): row[3:6] for row in rows if row[2] == 4}
    job = prepare(
        mode, [folder / "rover-20181009-1221.ubx.gz"], [folder / "base-20181009-1220.ubx.gz"], [],
        Selection(systems="GR"), np.array([3_774_696.5547, -596_647.9083, 5_089_485.6511]),
    )  # fmt: skip
    fixes = [(fix, places.get(round(fix.time_ns / 1e9) * 1000)) for fix in run(job)]
    return [(fix, place) for fix, place in fixes if place is not None]


def test_a_walk_with_one_frequency_is_fixed_where_the_receiver_itself_was(shared_data):
    """The base's link loses one message in six, and whole systems with it."""
    known = walked(shared_data, "kinematic")
    fixed = [(fix, place) for fix, place in known if fix.quality == Quality.FIX]
    errors = np.array([np.linalg.norm(fix.position_ecef_m - place) for fix, place in fixed])
    assert len(errors) > 0.99 * len(known) > 500
    assert np.median(errors) < 0.03
    assert np.mean(errors > 0.25) < 0.005


def test_what_glonass_channels_differ_by_does_not_carry_a_walk_s_codes_away(shared_data):
    """They differ by 1.4 m RMS between these two receivers, and stay so: one position in nine was a metre off."""
    errors = [errors_enu_m([fix.position_ecef_m], place)[0] for fix, place in walked(shared_data, "dgnss")]
    assert len(errors) > 500
    away_m = np.hypot(*np.array(errors).T[:2])
    assert np.sqrt((away_m**2).mean()) < 0.46  # 0.49 with base data of the instant before
    assert np.mean(away_m > 1.0) < 0.005


def test_deep_fades_in_a_valley_make_no_wrong_fixes(shared_data):
    """Six hours of BeiDou in Tibet: reflections as strong as the signals wind carriers by whole cycles, unflagged."""
    folder = shared_data / "bds-monitor-418m"
    base = np.array([-492_863.4, 5_551_481.4, 3_092_895.3])
    job = prepare(
        "kinematic", [folder / "540423496360.2026-05-15.rtcm3.xz"], [folder / "540423494727.2026-05-15.rtcm3.xz"], [],
        Selection(systems="C"), base,
    )  # fmt: skip
    fixes = list(run(replace(job, rover=job.rover[:1500])))
    errors = np.array([fix.position_ecef_m - base for fix in fixes]) - (-236.553, -68.861, -337.870)
    fixed = np.array([fix.quality == Quality.FIX for fix in fixes])
    assert fixed.mean() > 0.5
    assert np.linalg.norm(errors[fixed], axis=1).max() < 0.6, "of a truth that is itself 10 cm off"
    assert np.linalg.norm(np.median(errors[fixed], axis=0)) < 0.12
