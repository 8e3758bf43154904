"""A base whose link loses messages."""

from dataclasses import replace

import numpy as np
import pytest

from solver.base_stream import BaseStream
from solver.kernels.differencing import LINKS_MAX
from solver.model import SLIP, Quality
from solver.observed import take
from solver.rtk import RtkOptions, RtkState, process
from solver.signals import BEIDOU, GALILEO, GPS, PRN_PER_SYSTEM
from solver.timescale import NS
from tests.solver import baseline

KNOWN = baseline.ephemerides()
EXACT = baseline.Receiver(baseline.BASE_M, seed=1, code_m=0.0, phase_m=0.0)


def without(epoch, *systems):
    """An epoch whose messages of some systems were lost."""
    return take(epoch, ~np.isin(epoch.sat // PRN_PER_SYSTEM, systems))


def test_a_lost_system_is_carried_on_to_the_millimetre():
    stream, start = BaseStream(), baseline.START_NS
    stream.complete(EXACT.observe(KNOWN, start), baseline.BASE_M, KNOWN)
    whole = EXACT.observe(KNOWN, start + 5 * NS)
    completed = stream.complete(without(whole, BEIDOU, GPS), baseline.BASE_M, KNOWN)
    assert len(completed) == len(whole) < LINKS_MAX
    assert completed.sat.tolist() == whole.sat.tolist()
    assert completed.signal.tolist() == whole.signal.tolist()
    assert completed.pseudorange_m == pytest.approx(whole.pseudorange_m, abs=2e-3)
    wavelength_m = 299_792_458.0 / whole.frequency_hz
    assert completed.phase_cycles * wavelength_m == pytest.approx(whole.phase_cycles * wavelength_m, abs=2e-3)


def test_the_clock_of_the_base_goes_on_in_what_is_carried():
    """One that stood still would make a system's offset against the others jump with every lost message."""
    stream, clocks_s = BaseStream(), (1e-4, 1.003e-4, 1.006e-4)
    whole = [
        replace(EXACT, clock_s=clock_s).observe(KNOWN, t)
        for clock_s, t in zip(clocks_s, baseline.seconds(3), strict=True)
    ]
    for epoch in (whole[0], without(whole[1], GPS), without(whole[2], GPS, BEIDOU)):
        completed = stream.complete(epoch, baseline.BASE_M, KNOWN)
    assert completed.pseudorange_m == pytest.approx(whole[2].pseudorange_m, abs=2e-3)


def test_nothing_is_carried_over_a_clock_that_was_set():
    stream = BaseStream()
    stream.complete(EXACT.observe(KNOWN, baseline.START_NS), baseline.BASE_M, KNOWN)
    late = replace(EXACT, clock_s=1.1e-3).observe(KNOWN, baseline.START_NS + NS)
    lossy = without(late, GPS)
    assert stream.complete(lossy, baseline.BASE_M, KNOWN) is lossy


def test_a_whole_epoch_is_left_as_it_is_and_an_old_system_is_forgotten():
    stream, start = BaseStream(), baseline.START_NS
    first = EXACT.observe(KNOWN, start)
    first.flags[:] = SLIP
    assert stream.complete(first, baseline.BASE_M, KNOWN) is first
    soon = stream.complete(without(EXACT.observe(KNOWN, start + 9 * NS), GALILEO), baseline.BASE_M, KNOWN)
    carried = soon.sat // PRN_PER_SYSTEM == GALILEO
    assert carried.any()
    assert not soon.flags[carried].any(), "the slip was before the epoch that the rows are from"
    late = stream.complete(without(EXACT.observe(KNOWN, start + 11 * NS), GALILEO), baseline.BASE_M, KNOWN)
    assert not (late.sat // PRN_PER_SYSTEM == GALILEO).any()


@pytest.mark.parametrize("lost", [(), (GPS,)])
def test_a_recording_is_completed_as_its_epochs_are_one_by_one(lost):
    """One that lacks nothing is passed over as a whole."""
    epochs = [EXACT.observe(KNOWN, t) for t in baseline.seconds(4)]
    epochs[2] = without(epochs[2], *lost)
    together = BaseStream().complete_all(epochs, baseline.BASE_M, KNOWN)
    stream = BaseStream()
    for found, epoch in zip(together, epochs, strict=True):
        alone = stream.complete(epoch, baseline.BASE_M, KNOWN)
        assert len(found) == len(alone) == len(epochs[0])
        np.testing.assert_array_equal(found.phase_cycles, alone.phase_cycles)
    assert BaseStream().complete_all([], baseline.BASE_M, KNOWN) == []


def test_a_rover_stays_fixed_though_each_epoch_of_the_base_lacks_a_system():
    base = baseline.Receiver(baseline.BASE_M, seed=1)
    rover = baseline.Receiver(baseline.BASE_M + np.array([30.0, 20.0, -10.0]), seed=2)
    stream, state = BaseStream(), RtkState()
    qualities = []
    for k, t in enumerate(baseline.seconds(20)):
        heard = without(base.observe(KNOWN, t), (GPS, GALILEO, BEIDOU)[k % 3])
        epoch = stream.complete(heard, baseline.BASE_M, KNOWN)
        fix = process(state, rover.observe(KNOWN, t), epoch, baseline.BASE_M, KNOWN, RtkOptions())
        qualities.append(fix.quality)
        assert np.abs(fix.position_ecef_m - rover.position_m).max() < 0.03
    assert set(qualities[2:]) == {Quality.FIX}
