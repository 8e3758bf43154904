"""The modes that resolve ambiguities, on real recordings with known coordinates."""

import numpy as np
import pytest

from solver.kernels.geodesy import ecef_from_geodetic
from solver.model import Quality
from solver.observed import Selection
from stations.solve import prepare, run

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
