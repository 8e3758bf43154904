"""Code-differential positions of a real baseline: better than the peer's, bounded, and never lost without a reason."""

from dataclasses import replace

import numpy as np
import pytest

from solver.dgnss import DgnssOptions, DgnssState, advance, advance_all, corrections
from solver.model import SLIP, Epoch, Fix, Quality
from solver.observed import Selection
from solver.spp import SppOptions
from tests.solver.recordings import Baseline, errors_enu_m, nagoya


@pytest.fixture(scope="module")
def session(shared_data) -> Baseline:
    return nagoya(shared_data)


def options(systems: str = "GREJC", **selection) -> DgnssOptions:
    return DgnssOptions(SppOptions(Selection(systems=systems, **selection)))


def run(session: Baseline, chosen: DgnssOptions, rover: list[Epoch], base: list[Epoch]) -> list[Fix]:
    state: DgnssState | None = None
    fixes = []
    for epoch, base_epoch in zip(rover, base, strict=True):
        corrected = corrections(base_epoch, session.base_ecef_m, session.ephemerides)
        state, fix = advance(state, epoch, corrected, session.ephemerides, chosen)
        fixes.append(fix)
    return fixes


def horizontal_m(session: Baseline, fixes: list[Fix]) -> np.ndarray:
    enu = errors_enu_m([fix.position_ecef_m for fix in fixes], session.rover_ecef_m)
    return np.hypot(enu[:, 0], enu[:, 1])


@pytest.mark.parametrize("systems, rms_m", [("G", 0.36), ("C", 0.31), ("GEJC", 0.21)])
def test_positions_are_better_than_rnx2rtkp_s(session, systems, rms_m):
    """The bounds are what rnx2rtkp (dgps, same systems) reaches on the same recording."""
    fixes = run(session, options(systems), session.rover[:120], session.base[:120])
    assert all(fix.quality == Quality.DGNSS for fix in fixes)
    error_m = horizontal_m(session, fixes)
    assert np.sqrt((error_m**2).mean()) < rms_m
    assert (error_m < [fix.hpl_m for fix in fixes]).all()


def test_one_signal_alone_positions_within_a_metre(session):
    fixes = run(session, options(signals=frozenset({"C2I"})), session.rover[:60], session.base[:60])
    assert np.percentile(horizontal_m(session, fixes), 95) < 1.0


def test_a_receiver_against_itself_is_at_its_own_place(session):
    """A null test: with the rover as its own base every error cancels."""
    fixes = run(session, options(), session.base[:5], session.base[:5])
    assert max(np.linalg.norm(fix.position_ecef_m - session.base_ecef_m) for fix in fixes) < 1e-3


def test_slips_and_new_satellites_leave_no_mark(session):
    slipped = [
        replace(epoch, flags=epoch.flags | SLIP, lock_s=epoch.lock_s * 0, phase_cycles=epoch.phase_cycles + 1e5)
        if k == 30
        else replace(epoch, phase_cycles=epoch.phase_cycles + (1e5 if k > 30 else 0.0))
        for k, epoch in enumerate(session.rover[:60])
    ]
    clean = run(session, options(), session.rover[:60], session.base[:60])
    jumped = run(session, options(), slipped, session.base[:60])
    assert np.linalg.norm(clean[-1].position_ecef_m - jumped[-1].position_ecef_m) < 0.3


def test_an_unannounced_slip_of_some_satellites_is_found(session):
    hidden = [
        replace(epoch, phase_cycles=epoch.phase_cycles + 40.0 * (epoch.sat % 5 == 0) * (k >= 30))
        for k, epoch in enumerate(session.rover[:40])
    ]
    clean = run(session, options(), session.rover[:40], session.base[:40])
    fixes = run(session, options(), hidden, session.base[:40])
    assert np.linalg.norm(clean[-1].position_ecef_m - fixes[-1].position_ecef_m) < 0.1


def test_a_jump_of_the_receiver_s_clock_is_no_motion(session):
    metre = 299_792.458  # a millisecond
    jumped = [
        replace(epoch, pseudorange_m=epoch.pseudorange_m + metre * (k >= 10))
        for k, epoch in enumerate(session.rover[:20])
    ]
    fixes = run(session, options(), jumped, session.base[:20])
    assert horizontal_m(session, fixes).max() < 1.0


def test_codes_of_a_city_do_not_carry_the_position_away(session):
    """Half of the satellites see reflections 20 to 80 m too long for a while; the carrier holds the position."""
    rng = np.random.default_rng(5)
    late = rng.uniform(20.0, 80.0, 448) * (rng.random(448) < 0.5)
    rover = [
        replace(epoch, pseudorange_m=epoch.pseudorange_m + late[epoch.sat] * (40 <= k < 80))
        for k, epoch in enumerate(session.rover[:90])
    ]
    fixes = run(session, options(), rover, session.base[:90])
    assert horizontal_m(session, fixes).max() < 1.5


def test_old_corrections_are_used_with_their_age_then_refused(session):
    state: DgnssState | None = None
    corrected = corrections(session.base[0], session.base_ecef_m, session.ephemerides)
    for epoch in session.rover[:25]:
        state, fix = advance(state, epoch, corrected, session.ephemerides, options())
    assert fix.quality == Quality.DGNSS
    assert fix.age_s == pytest.approx(24.0)
    assert horizontal_m(session, [fix])[0] < 0.5
    _, fix = advance(state, session.rover[40], corrected, session.ephemerides, options())
    assert fix.quality == Quality.SINGLE
    assert fix.reason == "corrections are 40 s old"


def test_without_corrections_the_position_is_single_and_says_why(session):
    state, fix = advance(None, session.rover[0], None, session.ephemerides, options())
    assert state is None
    assert (fix.quality, fix.reason) == (Quality.SINGLE, "no corrections")


def test_a_base_that_shares_no_satellite_is_named(session):
    base = session.base[0]
    other = Selection(systems="R")
    corrected = corrections(base, session.base_ecef_m, session.ephemerides, other)
    _, fix = advance(None, session.rover[0], corrected, session.ephemerides, options("GEC"))
    assert fix.quality != Quality.DGNSS
    assert fix.reason


def test_an_epoch_of_nothing_keeps_the_state_and_names_the_reason(session):
    corrected = corrections(session.base[0], session.base_ecef_m, session.ephemerides)
    state, _ = advance(None, session.rover[0], corrected, session.ephemerides, options())
    blank = replace(session.rover[1], pseudorange_m=np.full(len(session.rover[1]), np.nan))
    kept, fix = advance(state, blank, corrected, session.ephemerides, options())
    assert kept is not None
    assert fix.quality == Quality.NONE or np.isfinite(fix.position_ecef_m).all()


def test_a_whole_recording_has_the_fixes_of_its_epochs_in_turn(session):
    """With a base that falls silent, comes back, and codes of a city amid it: every way out of the kernel is taken."""
    rng = np.random.default_rng(5)
    late = rng.uniform(20.0, 80.0, 448) * (rng.random(448) < 0.6)
    rover = [
        replace(epoch, pseudorange_m=epoch.pseudorange_m + late[epoch.sat] * (150 <= k < 180))
        for k, epoch in enumerate(session.rover[:200])
    ]
    base_of = np.array([-1, -1, *range(2, 40), *([40] * 60), *range(100, 200)])
    whole = list(
        advance_all(rover, session.base[:200], base_of, session.base_ecef_m, session.ephemerides, options("GEC"))
    )
    state: DgnssState | None = None
    for k, (epoch, fix) in enumerate(zip(rover, whole, strict=True)):
        base = session.base[base_of[k]]
        corrected = corrections(base, session.base_ecef_m, session.ephemerides) if base_of[k] >= 0 else None
        state, alone = advance(state, epoch, corrected, session.ephemerides, options("GEC"))
        assert (fix.quality, fix.reason) == (alone.quality, alone.reason)
        assert fix.position_ecef_m == pytest.approx(alone.position_ecef_m, abs=1e-6)
    assert {fix.quality for fix in whole} == {Quality.SINGLE, Quality.DGNSS}
