import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from solver.kernels.atmosphere import overhead_ionosphere
from solver.kernels.doubt import BELIED
from solver.kernels.epoch import recall_channels
from solver.kernels.fixing import COUNT, NORM
from solver.kernels.kalman import CHANNEL_BIAS, COMMON_IONOSPHERE
from solver.kernels.learning import learn_quiet, learn_storm, learn_wander
from solver.kernels.rover import NOW, workspace
from solver.model import SLIP, Quality
from solver.observed import take
from solver.rtk import RtkOptions, RtkState, Workspace, process, process_all, process_codes
from solver.signals import BEIDOU, GLONASS, GPS, PRN_PER_SYSTEM, RINEX_CODE
from solver.timescale import NS
from tests.solver import recordings

_SPEC = importlib.util.spec_from_file_location("baseline", Path(__file__).with_name("baseline.py"))
baseline = importlib.util.module_from_spec(_SPEC)
sys.modules["baseline"] = baseline
_SPEC.loader.exec_module(baseline)

KNOWN = baseline.ephemerides()
BASE = baseline.Receiver(baseline.BASE_M, seed=1, clock_s=-2e-4)
UNKNOWN = np.full(8, np.nan)
OVERHEAD_M = overhead_ionosphere(baseline.START_NS, *baseline.BASE_M, UNKNOWN, UNKNOWN)[0]
"""What a climate's model expects, where nothing is broadcast."""


def run(rover, times, options=None, base=BASE, state=None):
    """Solutions and errors (n, 3) of a rover at time tags."""
    state, options = state or RtkState(), options or RtkOptions()
    fixes = [
        process(state, rover.observe(KNOWN, t), base.observe(KNOWN, t), base.position_m, KNOWN, options) for t in times
    ]
    return fixes, np.array([fix.position_ecef_m - rover.position_m for fix in fixes])


def rover_at(*offset_m, **kwargs):
    return baseline.Receiver(baseline.BASE_M + np.array(offset_m), seed=2, **kwargs)


@pytest.mark.parametrize("instantaneous", [True, False])
def test_a_short_baseline_is_fixed_in_the_first_epoch(instantaneous):
    fixes, errors = run(rover_at(30.0, -20.0, 10.0), baseline.seconds(5), RtkOptions(instantaneous=instantaneous))
    assert {fix.quality for fix in fixes} == {Quality.FIX}
    assert np.abs(errors).max() < 0.03
    assert all(np.sqrt(np.trace(fix.position_covariance_m2)) < 0.02 for fix in fixes)


def test_the_position_is_right_on_a_long_baseline_with_ionosphere():
    rover = rover_at(30e3, 40e3, -20e3, ionosphere_m=0.05)
    fixes, errors = run(rover, baseline.seconds(60, 30))
    assert sum(fix.quality == Quality.FIX for fix in fixes[20:]) >= 38
    fixed = np.array([fix.quality == Quality.FIX for fix in fixes])
    assert np.sqrt((errors[fixed] ** 2).sum(axis=1)).max() < 0.08


@pytest.mark.parametrize(("interval_s", "epochs"), [(0.2, 6), (1.0, 2), (30.0, 10)])
def test_integers_are_held_after_two_close_epochs_and_a_second_or_ten_far_apart(interval_s, epochs):
    rover, state, workspace, held = rover_at(30.0, -20.0, 10.0), RtkState(), Workspace(), []
    for k in range(12):
        t = baseline.START_NS + round(k * interval_s * NS)
        fix = process(
            state, rover.observe(KNOWN, t), BASE.observe(KNOWN, t), BASE.position_m, KNOWN, RtkOptions(), workspace
        )
        held.append(bool(workspace.arrays.held[: int(workspace.arrays.now[0]["count"])].any()))
        assert fix.quality == Quality.FIX
    assert held.index(True) == epochs
    assert all(held[epochs:])


def test_a_thick_ionosphere_does_not_shorten_a_baseline():
    """40 TECU over both ends of 5 km shorten it by 8 mm where they are left out."""
    thick = {"ionosphere_m": 6.5, "phase_m": 0.001}
    _, errors = run(rover_at(-4200.0, -2560.0, 0.0, **thick), baseline.seconds(300, 2), base=replace(BASE, **thick))
    east = np.array([-baseline.BASE_M[1], baseline.BASE_M[0], 0.0]) / np.hypot(*baseline.BASE_M[:2])
    assert abs((errors[-60:] @ east).mean()) < 0.003


def test_an_ionosphere_that_is_expected_does_not_shorten_single_epochs():
    """3.3 m over both ends of 20 km are worth 16 mm."""
    thick = {"ionosphere_m": OVERHEAD_M, "phase_m": 0.001}
    rover, options = rover_at(-16800.0, -10240.0, 0.0, **thick), RtkOptions(instantaneous=True)
    fixes, errors = run(rover, baseline.seconds(60, 2), options, base=replace(BASE, **thick))
    fixed = np.array([fix.quality == Quality.FIX for fix in fixes])
    east = np.array([-baseline.BASE_M[1], baseline.BASE_M[0], 0.0]) / np.hypot(*baseline.BASE_M[:2])
    assert OVERHEAD_M > 3.0 and fixed.mean() > 0.5
    assert abs((errors[fixed] @ east).mean()) < 0.003


def test_what_an_epoch_tells_of_the_ionosphere_over_both_ends_is_not_carried_on():
    """Gradients of 1 mm/km look like metres of it: a filter that summed it up was sure to 0.8 m of what was 5 m off."""
    rover, astray, times = rover_at(5e3, 0.0, 0.0), RtkState(), baseline.seconds(6)
    run(rover, times[:5], state=astray)
    assert 0.0 < astray.filter.p[COMMON_IONOSPHERE, COMMON_IONOSPHERE]
    astray.filter.x[COMMON_IONOSPHERE] += 5.0
    astray.filter.p[:3, COMMON_IONOSPHERE] = astray.filter.p[COMMON_IONOSPHERE, :3] = 1e-3
    _, errors = run(rover, times[5:], state=astray)
    _, expected = run(rover, times)
    assert errors[0] == pytest.approx(expected[5], abs=1e-9)


def test_slow_multipath_of_a_medium_baseline_does_not_make_the_filter_too_sure():
    """Carriers that wander by millimetres in a minute: a filter that takes them for constant fixes decimetres off."""
    base = replace(BASE, multipath_m=0.003)
    rover = rover_at(8e3, 9.6e3, -4.8e3, multipath_m=0.005, ionosphere_m=0.02)
    state = RtkState()
    fixes, errors = run(rover, baseline.seconds(240), base=base, state=state)
    fixed = np.array([fix.quality == Quality.FIX for fix in fixes])
    off_m = np.sqrt((errors[fixed] ** 2).sum(axis=1))
    assert fixed.mean() > 0.95
    assert (off_m > 0.1).mean() < 0.08
    assert state.record[0]["fixed_factor"] > 1.5 * state.record[0]["white_factor"]


@pytest.mark.parametrize(
    ("norm", "fixable", "bands", "grows"),
    [(200.0, 20, 2, True), (20.0, 20, 2, False), (200.0, 12, 2, False), (200.0, 20, 1, None)],
)
def test_carriers_wander_as_far_as_sure_integers_are_belied(norm, fixable, bands, grows):
    known, now, work = RtkState().record[0], np.zeros(1, NOW)[0], workspace()
    now["count"], now["bands"] = 20, bands
    work.report[[NORM, COUNT]] = norm, fixable
    before = known["wander"]
    learn_wander(20, known, now, work)
    assert (known["wander"] > before) == (grows is True) and (known["wander"] == before) == (grows is None)


@pytest.mark.parametrize("instantaneous", [True, False])
def test_a_recording_is_positioned_as_its_epochs_are_one_by_one(instantaneous, monkeypatch):
    """Through parts, gaps of the base, epochs of too few satellites, and a filter that has to grow."""
    monkeypatch.setattr("solver.rtk._PART", 7)
    times, rover = baseline.seconds(30), rover_at(6e3, 7e3, -4e3, ionosphere_m=0.02)
    epochs = [rover.observe(KNOWN, t) for t in times]
    epochs[20] = take(epochs[20], epochs[20].sat == epochs[20].sat[0])
    epochs[0] = take(epochs[0], np.arange(len(epochs[0])) < len(epochs[0]) // 3)
    base = [BASE.observe(KNOWN, t) for t in times[:18:2]]
    base_of = np.array([-1, *np.minimum(np.arange(1, 30) // 2, 8)])
    options = RtkOptions(instantaneous=instantaneous, age_max_s=10.0)
    together = list(process_all(RtkState(), epochs, base, base_of, BASE.position_m, KNOWN, options))
    state = RtkState()
    for fix, epoch, of in zip(together, epochs, base_of, strict=True):
        if of < 0:
            assert fix.reason == "no base data yet"
            continue
        alone = process(state, epoch, base[of], BASE.position_m, KNOWN, options)
        assert (fix.time_ns, fix.quality, fix.reason) == (alone.time_ns, alone.quality, alone.reason)
        np.testing.assert_array_equal(fix.position_ecef_m, alone.position_ecef_m)
        np.testing.assert_array_equal(fix.satellites, alone.satellites)
    assert together[20].reason == "0 common signals with orbits above the mask"
    assert together[29].reason == "base data are 13 s old"
    assert list(process_all(RtkState(), [], base, base_of[:0], BASE.position_m, KNOWN, options)) == []


@pytest.mark.parametrize(
    ("norm", "fixable", "ionosphere_m", "system", "grows"),
    [(200.0, 12, 0.02, GPS, True), (20.0, 12, 0.02, GPS, False), (200.0, 20, 0.02, GPS, False),
     (200.0, 4, 0.02, GPS, False), (200.0, 12, 0.0, GPS, False), (200.0, 12, 0.02, GLONASS, False)],
)  # fmt: skip
def test_more_is_expected_of_the_ionosphere_where_sure_integers_of_wide_lanes_are_belied(
    norm, fixable, ionosphere_m, system, grows
):
    known, now, work = RtkState().record[0], np.zeros(1, NOW)[0], workspace()
    now["ionosphere_m"] = ionosphere_m
    work.free[:20] = np.arange(20)
    work.links["sat"][19] = 64 * system + 3
    work.report[[NORM, COUNT]] = norm, fixable
    factors = []
    for _ in range(20):
        learn_storm(20, np.arange(20), known, now, work)
        factors.append(known["ionosphere_factor"])
    assert (factors[0] > 1.0) == grows
    assert factors[-1] <= 4.0


@pytest.mark.parametrize(
    ("norm", "fixable", "ionosphere_m", "expected"),
    [(3.0, 12, 0.02, 0.2), (11.0, 12, 0.02, 0.85), (13.0, 12, 0.02, 1.0), (1.0, 4, 0.02, 1.0), (3.0, 12, 0.0, 1.0)],
)
def test_less_is_expected_of_the_ionosphere_where_accepted_integers_fit_better(norm, fixable, ionosphere_m, expected):
    known, now, work = RtkState().record[0], np.zeros(1, NOW)[0], workspace()
    now["ionosphere_m"] = ionosphere_m
    work.report[[NORM, COUNT]] = norm, fixable
    for _ in range(19):
        learn_quiet(known, now, work)
    assert known["ionosphere_factor"] == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("flagged", [True, False])
def test_a_cycle_slip_is_survived_with_and_without_a_flag(flagged):
    rover, state = rover_at(500.0, 0.0, 0.0), RtkState()
    run(rover, baseline.seconds(20), state=state)
    epoch = rover.observe(KNOWN, baseline.seconds(21)[-1])
    slipped = {(int(epoch.sat[k]), int(epoch.signal[k])): 3.0 + k for k in range(0, len(epoch), 4)}
    after = replace(rover, slips=slipped)
    epoch = after.observe(KNOWN, epoch.time_ns)
    if flagged:
        epoch.flags[::4] = SLIP
    fix = process(state, epoch, BASE.observe(KNOWN, epoch.time_ns), BASE.position_m, KNOWN, RtkOptions())
    assert fix.quality == Quality.FIX
    assert np.abs(fix.position_ecef_m - rover.position_m).max() < 0.02
    fixes, errors = run(after, baseline.seconds(30)[21:], state=state)
    assert {fix.quality for fix in fixes} == {Quality.FIX}
    assert np.abs(errors).max() < 0.02


@pytest.mark.parametrize(
    ("of_gps", "of_beidou", "static", "quality"),
    [(5, 0, False, Quality.FIX), (4, 0, False, Quality.FLOAT), (4, 0, True, Quality.FIX), (3, 2, False, Quality.FLOAT),
     (3, 3, False, Quality.FIX)],
)  # fmt: skip
def test_a_fix_of_a_rover_in_motion_knows_integers_of_a_satellite_that_checks_them(of_gps, of_beidou, static, quality):
    """Each system has a clock of its own: five satellites of two systems were wrong in 14 of 37 fixes of a car."""
    rover, state, options = rover_at(500.0, 0.0, 0.0), RtkState(), RtkOptions(static=static)
    times = baseline.seconds(16)
    run(rover, times[:15], options, state=state)
    epoch = rover.observe(KNOWN, times[15])
    kept = []
    for system, count in ((GPS, of_gps), (BEIDOU, of_beidou)):
        kept += [sat for sat in np.unique(epoch.sat) if sat // PRN_PER_SYSTEM == system][:count]
    few = take(epoch, np.isin(epoch.sat, kept))
    fix = process(state, few, BASE.observe(KNOWN, times[15]), BASE.position_m, KNOWN, options)
    assert fix.quality == quality
    assert np.abs(fix.position_ecef_m - rover.position_m).max() < 0.03


def test_what_sure_integers_contradict_is_no_fix():
    rover, state, workspace = rover_at(500.0, 0.0, 0.0), RtkState(), Workspace()
    run(rover, baseline.seconds(20), state=state)
    epoch = rover.observe(KNOWN, baseline.seconds(21)[-1])
    most = np.unique(epoch.sat)[:-4]
    slips = {(int(epoch.sat[k]), int(epoch.signal[k])): 7.5 - k % 2 for k in np.flatnonzero(np.isin(epoch.sat, most))}
    fixes, misfits = [], []
    for t in baseline.seconds(24)[21:]:
        epoch = replace(rover, slips=slips).observe(KNOWN, t)
        if not fixes:
            epoch.flags[np.isin(epoch.sat, most)] = SLIP
        fixes.append(process(state, epoch, BASE.observe(KNOWN, t), BASE.position_m, KNOWN, RtkOptions(), workspace))
        misfits.append(workspace.arrays.now["misfit"][0])
    assert min(misfits[1:]) > BELIED  # at first the carriers that have slipped are too noisy to be sure
    assert Quality.FIX not in {fix.quality for fix in fixes}


def test_a_moving_rover_is_followed():
    state, options = RtkState(), RtkOptions()
    for k, t in enumerate(baseline.seconds(20)):
        rover = rover_at(15.0 * k, 5.0 * k, 100.0, velocity_mps=(15.0, 5.0, 0.0))
        fix = process(state, rover.observe(KNOWN, t), BASE.observe(KNOWN, t), BASE.position_m, KNOWN, options)
        assert fix.quality == Quality.FIX
        assert np.abs(fix.position_ecef_m - rover.position_m).max() < 0.02


def test_static_positions_get_better_than_a_single_epoch():
    _, errors = run(rover_at(800.0, 100.0, 0.0, phase_m=0.005), baseline.seconds(60), RtkOptions(static=True))
    assert np.abs(errors[-1]).max() < 0.004


def test_an_older_base_epoch_still_serves():
    rover, times = rover_at(300.0, 0.0, 0.0), baseline.seconds(20)
    state = RtkState()
    for k, t in enumerate(times):
        base_epoch = BASE.observe(KNOWN, times[k - k % 5])
        fix = process(state, rover.observe(KNOWN, t), base_epoch, BASE.position_m, KNOWN, RtkOptions())
        assert fix.quality == Quality.FIX
        assert fix.age_s == k % 5
        assert np.abs(fix.position_ecef_m - rover.position_m).max() < 0.02


def test_what_cannot_be_solved_has_a_reason():
    rover, t = rover_at(10.0, 0.0, 0.0), baseline.START_NS
    late = BASE.observe(KNOWN, t - 90 * NS)
    fix = process(RtkState(), rover.observe(KNOWN, t), late, BASE.position_m, KNOWN, RtkOptions())
    assert (fix.quality, fix.reason) == (Quality.NONE, "base data are 90 s old")
    high = RtkOptions(elevation_mask_rad=1.5)
    fix = process(RtkState(), rover.observe(KNOWN, t), BASE.observe(KNOWN, t), BASE.position_m, KNOWN, high)
    assert fix.quality == Quality.NONE
    assert "common signals" in fix.reason


def test_noisy_codes_float_rather_than_fix_wrongly():
    """Code noise of metres: a fix may take its time but may not be wrong."""
    wrong = 0
    for seed in range(3, 9):
        rover = baseline.Receiver(baseline.BASE_M + 100.0, seed=seed, code_m=3.0)
        fixes, errors = run(rover, baseline.seconds(10))
        fixed = np.array([fix.quality == Quality.FIX for fix in fixes])
        wrong += int((np.abs(errors[fixed]).max(axis=1) > 0.15).sum()) if fixed.any() else 0
    assert wrong == 0


def disturbed(epoch, sigma_m, seed):
    """An epoch with another ionosphere for each satellite, m at L1."""
    delay_m = np.random.default_rng(seed).normal(0.0, sigma_m, 400)[epoch.sat] * (1_575.42e6 / epoch.frequency_hz) ** 2
    cycles = delay_m * epoch.frequency_hz / 299_792_458.0
    return replace(epoch, pseudorange_m=epoch.pseudorange_m + delay_m, phase_cycles=epoch.phase_cycles - cycles)


def alone(rover, times, sigma_m):
    """Single epochs under such an ionosphere beside the expected, their errors, and what was learnt of it."""
    state, options = RtkState(), RtkOptions(instantaneous=True)
    rover, below = (replace(receiver, ionosphere_m=OVERHEAD_M) for receiver in (rover, BASE))
    fixes = []
    for k, t in enumerate(times):
        epoch, base = disturbed(rover.observe(KNOWN, t), sigma_m, k), below.observe(KNOWN, t)
        fixes.append(process(state, epoch, base, BASE.position_m, KNOWN, options))
    return fixes, np.array([fix.position_ecef_m - rover.position_m for fix in fixes]), state.record[0]


def fixed_of(fixes):
    """Which are fixed."""
    return np.array([fix.quality == Quality.FIX for fix in fixes])


def honest(fixes, errors):
    """Share of the fixes whose errors lie within the ellipsoid that should hold 95 per cent of them."""
    squares = [
        error @ np.linalg.solve(fix.position_covariance_m2, error)
        for fix, error in zip(fixes, errors, strict=True)
        if fix.quality == Quality.FIX
    ]
    return np.mean(np.array(squares) < 7.81)


def test_fixes_know_of_multipath_that_lasts():
    """Carriers that wander by millimetres in a minute, ten kilometres off: they average out in no second."""
    base, rover = replace(BASE, multipath_m=0.003), rover_at(8e3, 6e3, 0.0, multipath_m=0.005)
    fixes, errors = run(rover, baseline.seconds(200), base=base)
    assert sum(fix.quality == Quality.FIX for fix in fixes) > 190
    assert honest(fixes[100:], errors[100:]) > 0.9


def test_single_epochs_tell_a_lively_ionosphere_from_noisy_carriers():
    """1 mm/km over 20 km, another delay for each satellite."""
    fixes, errors, known = alone(rover_at(12e3, 16e3, 0.0), baseline.seconds(80, 30), 0.02)
    assert known["ionosphere_factor"] > 1.5
    assert 0.4 < known["phase_factor"] < 1.5
    assert fixed_of(fixes).mean() > 0.5
    assert honest(fixes[30:], errors[30:]) > 0.9


def test_single_epochs_learn_that_the_ionosphere_is_quiet():
    """0.1 mm/km, as of the winter night between two Dutch stations: what is expected at first is five times that."""
    fixes, errors, known = alone(rover_at(50e3, 50e3, 0.0), baseline.seconds(60, 30), 0.007)
    fixed = fixed_of(fixes)
    assert known["ionosphere_factor"] < 0.5
    assert fixed[30:].mean() > 0.8
    assert np.abs(errors[fixed]).max() < 0.15


def test_single_epochs_stay_float_rather_than_wrong_in_a_stormy_ionosphere():
    fixes, errors, known = alone(rover_at(20e3, 20e3, 0.0), baseline.seconds(60, 30), 0.15)
    fixed = fixed_of(fixes)
    assert known["ionosphere_factor"] > 2.0
    assert fixed.mean() < 0.1
    assert (np.abs(errors[fixed]) < 0.5).all()


def test_what_integers_make_no_better_than_decimetres_is_float_but_better_than_codes():
    """80 km: wide lanes alone are sure, which is worth telling, but no fix."""
    fixes, errors, _ = alone(rover_at(48e3, 64e3, 0.0), baseline.seconds(60, 30), 0.05)
    partly = np.array([fix.quality == Quality.FLOAT for fix in fixes])
    codes = np.array([fix.quality == Quality.DGNSS for fix in fixes])
    sigma_m = np.array([np.sqrt(np.trace(fix.position_covariance_m2)) for fix in fixes])
    assert partly.sum() > 3 and codes.sum() > 3
    assert np.median(sigma_m[partly]) < 0.5 * np.median(sigma_m[codes])
    assert (np.sqrt((errors[partly] ** 2).sum(axis=1)) < 3.0 * sigma_m[partly]).all()
    assert max(sigma_m[fixed_of(fixes)], default=0.0) < 0.13


def test_single_epochs_tell_the_velocity():
    rover = rover_at(100.0, 0.0, 0.0, velocity_mps=(3.0, -2.0, 1.0))
    fixes, _ = run(rover, baseline.seconds(1), RtkOptions(instantaneous=True))
    assert fixes[0].velocity_ecef_mps == pytest.approx([3.0, -2.0, 1.0], abs=0.1)


@pytest.mark.parametrize("instantaneous", [True, False])
def test_carriers_that_are_noisy_are_found_to_be_so(instantaneous):
    """As those of two monitors in Tibet; the covariance of what is fixed says so."""
    state = RtkState()
    options = RtkOptions(instantaneous=instantaneous)
    fixes, errors = run(rover_at(300.0, 0.0, 0.0, phase_m=0.006), baseline.seconds(90), options, state=state)
    assert state.record["phase_factor"][0] > 2.0
    fixed = [k for k in range(45, 90) if fixes[k].quality == Quality.FIX]
    sigma_m = np.median([np.sqrt(np.trace(fixes[k].position_covariance_m2)) for k in fixed])
    assert 0.5 < np.sqrt((errors[fixed] ** 2).sum(axis=1).mean()) / sigma_m < 2.0


def with_channel_bias(epoch, slope_m):
    """An epoch of a receiver whose GLONASS carriers are longer by so much for each channel number."""
    first = np.array([name[:1] == "1" for name in np.array(RINEX_CODE)[epoch.signal]])
    step_hz, centre_hz = np.where(first, 562_500.0, 437_500.0), np.where(first, 1_602e6, 1_246e6)
    glonass = epoch.sat // 64 == GLONASS
    channel = np.where(glonass, np.round((epoch.frequency_hz - centre_hz) / step_hz), 0.0)
    return replace(epoch, phase_cycles=epoch.phase_cycles + channel * slope_m * epoch.frequency_hz / 299_792_458.0)


def test_receivers_of_one_make_have_no_glonass_bias_and_their_integers_are_fixed(shared_data):
    """Two mosaic-X5: like makes agree (Wanninger 2012)."""
    real = recordings.nagoya(shared_data)
    state, options = RtkState(), RtkOptions()
    for rover, base in zip(real.rover[:40], real.base[:40], strict=True):
        process(state, rover, base, real.base_ecef_m, real.ephemerides, options)
    known, notes = state.record[0], state.filter.notes[: state.record["count"][0]]
    assert known["channel_m"] == pytest.approx([0.0, 0.0], abs=0.004)
    assert (np.sqrt(known["channel_m2"]) < 0.004).all()
    glonass = state.filter.keys[: len(notes)] // 1024 // 64 == GLONASS
    assert (notes["agreed"][glonass] > 10).all()


def test_a_new_filter_starts_with_the_glonass_biases_that_the_last_one_found():
    state = RtkState()
    state.record["channel_m"], state.record["channel_m2"] = [0.01, -0.02], 1e-6
    recall_channels(state.record[0], RtkOptions().channel_bias_m, state.filter.x, state.filter.p)
    assert state.filter.x[CHANNEL_BIAS : CHANNEL_BIAS + 2].tolist() == [0.01, -0.02]
    assert 1e-3 < np.sqrt(state.filter.p[CHANNEL_BIAS, CHANNEL_BIAS]) < 4e-3


@pytest.mark.parametrize("slope_m", [0.025, -0.04])
def test_receivers_of_other_makes_spoil_neither_the_fix_nor_the_position(shared_data, slope_m):
    real = recordings.nagoya(shared_data)
    state = RtkState()
    for epoch, base in zip(real.rover[:40], real.base[:40], strict=True):
        rover = with_channel_bias(epoch, slope_m)
        fix = process(state, rover, base, real.base_ecef_m, real.ephemerides, RtkOptions())
        assert fix.quality == Quality.FIX
        assert np.linalg.norm(fix.position_ecef_m - real.rover_ecef_m) < 0.012


def test_a_filter_that_is_folded_between_epochs_finds_the_same_positions():
    rover, times, workspace = rover_at(300.0, 50.0, 0.0), baseline.seconds(20), Workspace()
    states, found = (RtkState(), RtkState()), ([], [])
    states[1].fold()
    for t in times:
        for state, positions in zip(states, found, strict=True):
            state.unfold(workspace)
            args = (state, rover.observe(KNOWN, t), BASE.observe(KNOWN, t), BASE.position_m, KNOWN, RtkOptions())
            positions.append(process(*args, workspace).position_ecef_m)
            if state is states[1]:
                state.fold()
                assert not len(state.filter.x)
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-6)


def test_codes_alone_give_a_position_and_leave_the_filter_where_it_is():
    rover, times, state = rover_at(300.0, 50.0, 0.0), baseline.seconds(12), RtkState()
    before, _ = run(rover, times[:5], state=state)
    given = (BASE.position_m, KNOWN, RtkOptions(), Workspace())
    hasty = [process_codes(state, rover.observe(KNOWN, t), BASE.observe(KNOWN, t), *given) for t in times[5:10]]
    assert {fix.quality for fix in hasty} == {Quality.DGNSS}
    assert all(np.linalg.norm(fix.position_ecef_m - rover.position_m) < 3.0 for fix in hasty)
    assert np.isfinite(hasty[-1].dop).all() and hasty[-1].dop == pytest.approx(before[-1].dop, abs=0.01)
    after, errors = run(rover, times[10:], state=state)
    assert {fix.quality for fix in before[1:] + after} == {Quality.FIX}
    assert np.abs(errors).max() < 0.05
