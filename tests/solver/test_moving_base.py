"""A pair of receivers that both move."""

from dataclasses import replace

import numpy as np
import pytest

from solver.model import SLIP, Quality
from solver.moving_base import MovingBaseState, process_moving
from solver.rtk import RtkOptions
from solver.timescale import NS
from tests.solver import baseline

KNOWN = baseline.ephemerides()
ARM_M = np.array([1.2, -0.7, 0.4])
SPEED_MPS = np.array([15.0, 5.0, -8.0])


def pair(time_ns, arm_m=ARM_M):
    """Base and rover of a vehicle that drives along a line, with metre codes."""
    where = baseline.BASE_M + SPEED_MPS * (time_ns - baseline.START_NS) / NS
    speed = tuple(SPEED_MPS)
    return (
        baseline.Receiver(where, seed=1, clock_s=-2e-4, code_m=1.0, velocity_mps=speed),
        baseline.Receiver(where + arm_m, seed=2, code_m=1.0, velocity_mps=speed),
    )


@pytest.mark.parametrize("instantaneous", [True, False])
def test_the_vector_is_right_though_the_base_is_known_to_metres(instantaneous):
    state, options = MovingBaseState(), RtkOptions(instantaneous=instantaneous)
    errors, base_errors, fixed = [], [], 0
    for t in baseline.seconds(30):
        base, rover = pair(t)
        fix = process_moving(state, rover.observe(KNOWN, t), base.observe(KNOWN, t), KNOWN, options)
        fixed += fix.quality == Quality.FIX
        if fix.quality == Quality.FIX:
            errors.append(fix.baseline_ecef_m - ARM_M)
            base_errors.append(fix.position_ecef_m - fix.baseline_ecef_m - base.position_m)
            assert np.sqrt(np.trace(fix.baseline_covariance_m2)) < 0.02
    assert fixed >= 20
    assert np.abs(errors).max() < 0.02
    assert np.abs(base_errors).max() > 0.2, "or the test is too easy"


def test_a_vehicle_that_turns_is_followed():
    state = MovingBaseState()
    for k, t in enumerate(baseline.seconds(30)):
        arm = 2.0 * np.array([np.cos(0.2 * k), np.sin(0.2 * k), 0.0])
        base, rover = pair(t, arm)
        fix = process_moving(state, rover.observe(KNOWN, t), base.observe(KNOWN, t), KNOWN, RtkOptions())
        if k > 5:
            assert fix.quality == Quality.FIX
            assert np.abs(fix.baseline_ecef_m - arm).max() < 0.02


def test_an_older_base_is_carried_on_by_its_doppler_and_said_to_be_less_sure():
    state = MovingBaseState()
    for k, t in enumerate(baseline.seconds(20)):
        base_ns = t - (k % 2) * NS // 2
        rover, base = pair(t)[1], pair(base_ns)[0]
        fix = process_moving(state, rover.observe(KNOWN, t), base.observe(KNOWN, base_ns), KNOWN, RtkOptions())
        error_m = np.abs(fix.baseline_ecef_m - ARM_M).max()
        sigma_m = np.sqrt(np.trace(fix.baseline_covariance_m2))
        if k > 5 and k % 2:
            assert (fix.quality, fix.age_s) == (Quality.FLOAT, 0.5)
            assert "has moved on for 0.5 s" in fix.reason
            assert error_m < sigma_m
        elif k > 5:
            assert fix.quality == Quality.FIX
            assert error_m < 0.02


def turned(epoch):
    """As an M8P sends it by MSM7: Doppler with the wrong sign."""
    return replace(epoch, doppler_hz=-epoch.doppler_hz)


def left_out(epoch):
    """As of MSM4."""
    return replace(epoch, doppler_hz=np.full(len(epoch), np.nan))


@pytest.mark.parametrize("damage", [turned, left_out])
def test_a_base_s_time_tags_may_be_milliseconds_behind_and_its_doppler_of_no_use(damage):
    """Two clocks that are not steered, as of two M8P: 13 ms at 17.7 m/s are 0.23 m."""
    state, errors = MovingBaseState(), []
    for t in baseline.seconds(30):
        base_ns = t + 13_000_000
        rover, base = pair(t)[1], pair(base_ns)[0]
        epoch = damage(base.observe(KNOWN, base_ns))
        fix = process_moving(state, rover.observe(KNOWN, t), epoch, KNOWN, RtkOptions())
        if fix.quality == Quality.FIX:
            errors.append(np.abs(fix.baseline_ecef_m - ARM_M).max())
    assert len(errors) >= 20
    assert max(errors) < 0.03


def test_what_a_base_s_speed_was_lately_counts_where_nothing_tells():
    """An epoch of which a link has lost all signals of the one before."""
    state, off_mps = MovingBaseState(), []
    for k, t in enumerate(baseline.seconds(20)):
        base_ns = t + 13_000_000
        rover, base = pair(t)[1], pair(base_ns)[0]
        epoch = left_out(base.observe(KNOWN, base_ns))
        if k == 15:
            epoch.flags[:] |= SLIP
        process_moving(state, rover.observe(KNOWN, t), epoch, KNOWN, RtkOptions())
        off_mps.append(np.linalg.norm(state.base.velocity_ecef_mps - SPEED_MPS))
    assert max(off_mps[1:]) < 0.2


def test_a_base_without_a_position_is_named():
    base, rover = pair(baseline.START_NS)
    epoch = base.observe(KNOWN, baseline.START_NS)
    epoch.pseudorange_m[:] = np.nan
    fix = process_moving(MovingBaseState(), rover.observe(KNOWN, baseline.START_NS), epoch, KNOWN, RtkOptions())
    assert fix.quality == Quality.NONE
    assert fix.reason.startswith("base: ")
