"""An epoch by itself beside a filter that gives no fix."""

from dataclasses import replace

import numpy as np
import pytest

from solver.kernels.afresh import look_afresh
from solver.kernels.kalman import BASE_STATES
from solver.kernels.rover import RESULT
from solver.model import Quality
from solver.observed import take
from solver.rtk import RtkOptions, RtkState, Workspace, process
from solver.signals import GPS, PRN_PER_SYSTEM
from tests.solver import baseline

KNOWN = baseline.ephemerides()
BASE = baseline.Receiver(baseline.BASE_M, seed=1, clock_s=-2e-4)
ROVER = baseline.Receiver(baseline.BASE_M + np.array([500.0, 0.0, 0.0]), seed=2)
TIMES = baseline.seconds(12)
ASTRAY_M = 1.0


def astray(rover=ROVER, quality=Quality.FLOAT, dt_s=1.0, satellites=99, options=None, base=BASE, off_m=ASTRAY_M):
    """A filter that has gone a metre astray and is noisy, its result, and what an epoch by itself makes of it."""
    state, workspace, options = RtkState(), Workspace(), options or RtkOptions()
    for t in TIMES[:10]:
        epoch = rover.observe(KNOWN, t)
        few = np.unique(epoch.sat[epoch.sat // PRN_PER_SYSTEM == GPS])[:satellites]
        if satellites < 99:
            epoch = take(epoch, np.isin(epoch.sat, few))
        fix = process(state, epoch, base.observe(KNOWN, t), base.position_m, KNOWN, options, workspace)
    found = np.zeros(1, RESULT)
    found["quality"], found["position_m"] = quality, fix.position_ecef_m + ASTRAY_M
    found["position_m2"], found["velocity_mps"] = np.eye(3) * 0.05**2, fix.velocity_ecef_mps
    found["velocity_m2s2"] = np.eye(3) * 0.1**2
    workspace.arrays.now["dt_s"] = dt_s
    state.record["origin_m"] += off_m
    look_afresh(options.record, state.record, state.filter, workspace.arrays, found)
    return found[0], state, workspace


def test_a_filter_that_is_metres_off_starts_anew_from_the_integers_of_an_epoch_by_itself():
    """BeiDou in Shanghai stayed a metre off for a hundred seconds in which 29 epochs by themselves were fixed."""
    found, state, workspace = astray()
    assert found["quality"] == Quality.FIX
    assert np.abs(found["position_m"] - ROVER.position_m).max() < 0.03
    assert np.sqrt(np.trace(found["position_m2"])) < 0.03
    assert state.record["count"][0] == BASE_STATES
    for t in TIMES[10:]:
        base = BASE.observe(KNOWN, t)
        fix = process(state, ROVER.observe(KNOWN, t), base, BASE.position_m, KNOWN, RtkOptions(), workspace)
        assert fix.quality == Quality.FIX
        assert np.abs(fix.position_ecef_m - ROVER.position_m).max() < 0.03


def test_a_filter_that_does_not_contradict_it_is_told_of_it_and_goes_on():
    found, state, _ = astray(off_m=0.0)
    assert found["quality"] == Quality.FIX
    assert state.record["count"][0] > BASE_STATES
    assert np.abs(state.record["origin_m"][0] - ROVER.position_m).max() < 0.03


def test_what_two_satellites_check_is_float_and_as_sure_as_its_codes_until_the_next_epoch():
    good = {"rover": replace(ROVER, code_m=0.05), "base": replace(BASE, code_m=0.05)}
    found, state, _ = astray(satellites=6, options=RtkOptions(code_noise_m=0.04), **good)
    assert found["quality"] == Quality.FLOAT
    assert np.abs(found["position_m"] - ROVER.position_m).max() < 0.03
    assert np.sqrt(np.trace(found["position_m2"])) > 0.05
    assert state.record["checked"][0] == 1


@pytest.mark.parametrize(
    "case",
    [
        {"quality": Quality.FIX},
        {"dt_s": 30.0},
        {"options": RtkOptions(static=True)},
        {"satellites": 4},
        {"rover": replace(ROVER, code_m=20.0, phase_m=0.05)},
    ],
    ids=["a fix", "far apart", "at rest", "unchecked", "noisy"],
)
def test_otherwise_all_stays_as_it_was(case):
    found, state, _ = astray(**case)
    assert found["quality"] == case.get("quality", Quality.FLOAT)
    assert np.sqrt(np.trace(found["position_m2"])) == pytest.approx(0.05 * np.sqrt(3.0))
    assert state.record["count"][0] > BASE_STATES
