"""One rover's epochs to positions: by carriers near a base, by codes elsewhere, and what a base that changes does."""

from dataclasses import replace

import numpy as np
import pytest

from caster.solving import REACH_M, Carriers, Effort, RoverSolver
from caster.stationinfo import BaseEpoch
from caster.workers import Workers
from solver.kernels.kalman import BASE_STATES
from solver.model import SLIP, Quality
from solver.rtk import Workspace
from solver.timescale import NS
from tests.solver import baseline

KNOWN = baseline.ephemerides()
OFFSET_M = np.array([30.0, -20.0, 10.0])


class Pair:
    """A base and a rover, at any distance, whose epochs a solver takes one after the other."""

    def __init__(self, offset_m=OFFSET_M):
        self.base = baseline.Receiver(baseline.BASE_M, seed=1, clock_s=-2e-4)
        self.rover = baseline.Receiver(baseline.BASE_M + offset_m, seed=2)
        self.solver = RoverSolver(Carriers(Workers(threads=1), lambda: None))
        self.before_ns = -1

    def solve(self, second, effort=Effort.CARRIERS, told_m=(0.0, 0.0, 0.0), change=lambda epoch: epoch):
        """The fix of a second, and the rover's error by it; the base may tell a place that it is not at."""
        t = baseline.START_NS + second * NS
        told = BaseEpoch(self.base.observe(KNOWN, t), self.base.position_m + np.array(told_m), 7)
        fix = self.solver.solve(change(self.rover.observe(KNOWN, t)), self.before_ns, told, KNOWN, effort)
        self.before_ns = t
        return fix, fix.position_ecef_m - self.rover.position_m


def test_a_rover_near_a_base_is_fixed_once_its_place_is_known():
    pair = Pair()
    qualities = [pair.solve(second)[0].quality for second in range(4)]
    assert qualities == [Quality.DGNSS, *[Quality.FIX] * 3]
    assert np.linalg.norm(pair.solve(4)[1]) < 0.03


@pytest.mark.parametrize(("effort", "quality"), [(Effort.CODES, Quality.DGNSS), (Effort.HASTE, Quality.DGNSS)])
def test_what_there_is_no_time_for_or_is_not_wanted_is_positioned_by_codes(effort, quality):
    pair = Pair()
    for second in range(5):
        fix, error_m = pair.solve(second, effort)
    assert fix.quality is quality
    assert np.linalg.norm(error_m) < 3.0


def test_beyond_the_reach_of_carriers_a_rover_is_positioned_by_codes():
    pair = Pair(np.array([0.0, 0.0, 1.02 * REACH_M]))
    assert {pair.solve(second)[0].quality for second in range(4)} == {Quality.DGNSS}


def test_a_base_that_tells_another_place_moves_the_rover_at_once():
    pair = Pair()
    for second in range(5):
        pair.solve(second)
    fix, error_m = pair.solve(5, told_m=(10.0, 0.0, 0.0))
    assert fix.quality is Quality.FIX
    assert np.linalg.norm(error_m - [10.0, 0.0, 0.0]) < 0.03


def test_a_slip_in_an_epoch_that_was_left_out_is_not_missed():
    """Its flag was in an epoch that went by its codes; what tells later is a lock time shorter than the gap."""
    pair, slipped = Pair(), 4
    for second in range(12):
        pair.solve(second)

    def told(second):
        def change(epoch):
            some = np.arange(len(epoch)) < slipped
            flags = np.where(some & (second == 12), SLIP, 0).astype(np.uint8)
            return replace(epoch, flags=flags, lock_s=np.where(some, second - 12.0, 100.0).astype(np.float32))

        return change

    pair.solve(12, Effort.HASTE, change=told(12))
    pair.solve(13, change=told(13))
    pair.solver._filter.unfold(workspace := Workspace())
    count = int(pair.solver._filter.record["count"][0])
    assert (workspace.filter.notes["locked"][BASE_STATES:count] == 1).sum() == slipped


def test_time_that_goes_back_starts_a_new_filter():
    pair = Pair()
    for second in range(20, 25):
        pair.solve(second)
    fix, error_m = pair.solve(3)
    assert fix.quality is Quality.FIX
    assert np.linalg.norm(error_m) < 0.03


def test_without_a_base_a_rover_is_positioned_alone():
    pair = Pair()
    epoch = pair.rover.observe(KNOWN, baseline.START_NS)
    assert pair.solver.solve(epoch, -1, None, KNOWN, Effort.CARRIERS).quality is Quality.SINGLE
