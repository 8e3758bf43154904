"""Single point positions of real epochs: right, honest, and named where they cannot be."""

from dataclasses import replace

import numpy as np
import pytest

from solver.model import Ephemerides, Quality
from solver.observed import Selection, observe
from solver.signals import SYSTEMS, signal
from solver.spp import SppOptions, solve, solve_all
from tests.solver.recordings import Baseline, errors_enu_m, nagoya


@pytest.fixture(scope="module")
def session(shared_data) -> Baseline:
    return nagoya(shared_data)


def options(systems: str = "GREJC", **selection) -> SppOptions:
    return SppOptions(Selection(systems=systems, **selection))


@pytest.mark.parametrize("systems, rms_m", [("G", 3.22), ("C", 2.85), ("GEJC", 2.39)])
def test_positions_are_better_than_rnx2rtkp_s(session, systems, rms_m):
    """The bounds are what rnx2rtkp (single, same systems) reaches horizontally on the same recording."""
    fixes = [solve(epoch, session.ephemerides, options(systems)) for epoch in session.rover[::10]]
    assert all(fix.quality == Quality.SINGLE for fix in fixes)
    east_north = errors_enu_m([fix.position_ecef_m for fix in fixes], session.rover_ecef_m)[:, :2]
    assert np.sqrt((east_north**2).sum(axis=1).mean()) < rms_m


def test_the_covariance_and_the_protection_level_are_honest(session):
    fixes = [solve(epoch, session.ephemerides, options()) for epoch in session.rover[::10]]
    errors = errors_enu_m([fix.position_ecef_m for fix in fixes], session.rover_ecef_m)
    assert (np.hypot(errors[:, 0], errors[:, 1]) < [fix.hpl_m for fix in fixes]).all()
    assert (np.abs(errors[:, 2]) < [fix.vpl_m for fix in fixes]).all()
    normalized = [
        d @ np.linalg.solve(fix.position_covariance_m2, d)
        for fix in fixes
        for d in [fix.position_ecef_m - session.rover_ecef_m]
    ]
    assert np.percentile(normalized, 95) < 16.0, "four times the mean square that three normal errors have"


def test_a_receiver_at_rest_has_no_velocity(session):
    fixes = [solve(epoch, session.ephemerides, options()) for epoch in session.rover[::30]]
    velocities = np.array([fix.velocity_ecef_mps for fix in fixes])
    assert np.sqrt((velocities**2).mean()) < 0.02
    assert all(np.isfinite(fix.clock_drift_mps) for fix in fixes)


def test_the_start_does_not_matter(session):
    epoch = session.rover[0]
    cold = solve(epoch, session.ephemerides, options())
    warm = solve(epoch, session.ephemerides, options(), cold)
    far = replace(cold, position_ecef_m=-cold.position_ecef_m)
    assert warm.position_ecef_m == pytest.approx(cold.position_ecef_m, abs=0.5)
    assert solve(epoch, session.ephemerides, options(), far).position_ecef_m == pytest.approx(
        warm.position_ecef_m, abs=0.1
    )


def test_every_system_has_its_clock_and_the_dilutions_are_ordered(session):
    fix = solve(session.rover[0], session.ephemerides, options())
    known = {SYSTEMS[k] for k in np.flatnonzero(np.isfinite(fix.clock_m))}
    assert known == set("GREJC")
    gdop, pdop, hdop, vdop = fix.dop
    assert gdop > pdop > max(hdop, vdop) > 0.3
    assert gdop < 2.0


def test_satellites_that_are_wrong_are_left_out(session):
    epoch = session.rover[0]
    clean = solve(epoch, session.ephemerides, options("GEJC"))
    victims = clean.satellites[[1, 9, 20]]
    wrong = replace(epoch, pseudorange_m=epoch.pseudorange_m + 120.0 * np.isin(epoch.sat, victims))
    fix = solve(wrong, session.ephemerides, options("GEJC"))
    assert not set(victims) & set(fix.satellites)
    assert np.linalg.norm(fix.position_ecef_m - clean.position_ecef_m) < 1.0


def test_an_epoch_of_nothing_is_no_position_but_a_reason(session):
    epoch = session.rover[0]
    blank = replace(epoch, pseudorange_m=np.full(len(epoch), np.nan))
    for damaged in (blank, replace(epoch, pseudorange_m=np.full(len(epoch), 1e12))):
        fix = solve(damaged, session.ephemerides, options())
        assert fix.quality == Quality.NONE
        assert "0 satellites" in fix.reason
        assert np.isnan(fix.position_ecef_m).all()


def test_satellites_without_an_ephemeris_are_named_in_the_reason(session):
    fix = solve(session.rover[0], Ephemerides(), options())
    assert fix.quality == Quality.NONE
    assert "without a healthy ephemeris" in fix.reason


def test_a_satellite_without_an_ephemeris_costs_only_itself(session):
    kept = session.ephemerides.kepler[session.ephemerides.kepler["sat"] % 3 != 0]
    fix = solve(session.rover[0], replace(session.ephemerides, kepler=kept), options())
    assert fix.quality == Quality.SINGLE
    assert not {int(sat) for sat in fix.satellites if sat % 3 == 0 and sat // 64 != 1}
    assert np.linalg.norm(fix.position_ecef_m - session.rover_ecef_m) < 8.0


def test_three_satellites_are_too_few(session):
    observed = observe(session.rover[0], session.ephemerides, Selection(systems="G"))
    excluded = frozenset(int(sat) for sat in observed.sat[3:])
    fix = solve(session.rover[0], session.ephemerides, options("G", excluded=excluded))
    assert fix.quality == Quality.NONE
    assert "3 satellites" in fix.reason


@pytest.mark.parametrize("names", [{"G1C"}, {"C2I", "C6I"}, {"E1C", "E5Q"}])
def test_signals_can_be_chosen(session, names):
    fix = solve(session.rover[0], session.ephemerides, options(signals=frozenset(names)))
    assert fix.quality == Quality.SINGLE
    assert {int(sat) // 64 for sat in fix.satellites} == {signal(name) // 32 for name in names}


def test_one_frequency_without_a_broadcast_ionosphere_still_positions(session):
    silent = replace(session.ephemerides, klobuchar_gps=np.full(8, np.nan), klobuchar_beidou=np.full(8, np.nan))
    fix = solve(session.rover[0], silent, options(signals=frozenset({"G1C", "E1C", "C2I"})))
    assert fix.quality == Quality.SINGLE
    assert np.linalg.norm(fix.position_ecef_m - session.rover_ecef_m) < 15.0


def test_a_recording_over_all_cores_has_the_fixes_of_its_epochs_in_turn(session, monkeypatch):
    monkeypatch.setattr("solver.spp._PART", 40)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    whole = list(solve_all(session.rover[:150], session.ephemerides, options()))
    previous = None
    for epoch, fix in zip(session.rover, whole, strict=False):
        previous = solve(epoch, session.ephemerides, options(), previous)
        assert fix.time_ns == epoch.time_ns
        assert fix.position_ecef_m == pytest.approx(previous.position_ecef_m, abs=1e-6)
        assert fix.satellites.tolist() == previous.satellites.tolist()
    assert len(whole) == 150


def test_a_recording_of_no_epochs_has_no_fixes(session):
    assert not list(solve_all([], session.ephemerides, options()))
