"""Whole sessions: simulated ones with known answers, and real ones with known coordinates."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from caster.codec.antex import read_antex
from solver.antenna import at_reference_point, find_antenna, range_correction_m
from solver.kernels.geodesy import azimuth_elevation, enu_axes, geodetic_from_ecef
from solver.kernels.orbit import kepler_state, travel
from solver.model import Quality
from solver.signals import BEIDOU, frequency_hz, satellite
from solver.static import StaticOptions, solve_static
from solver.tides import solid_tide_m
from tests.caster.codec.antex_sample import SAMPLE

_SPEC = importlib.util.spec_from_file_location("baseline", Path(__file__).with_name("baseline.py"))
baseline = importlib.util.module_from_spec(_SPEC)
sys.modules["baseline"] = baseline
_SPEC.loader.exec_module(baseline)

KNOWN = baseline.ephemerides()
BASE = baseline.Receiver(baseline.BASE_M, seed=1, clock_s=-2e-4)
NO_TIDES = StaticOptions(tides=False)


def rover_at(*offset_m, **kwargs):
    return baseline.Receiver(baseline.BASE_M + np.array(offset_m), seed=2, **kwargs)


def epochs_of(receiver, times):
    return [receiver.observe(KNOWN, time_ns) for time_ns in times]


def solved(rover, times, options=NO_TIDES, base=BASE):
    return solve_static(epochs_of(rover, times), epochs_of(base, times), base.position_m, KNOWN, options)


def enu(vector_m, place_m=baseline.BASE_M):
    axes = np.empty((3, 3))
    latitude, longitude, _ = geodetic_from_ecef(*place_m)
    enu_axes(latitude, longitude, axes)
    return axes @ vector_m


def test_a_thick_ionosphere_does_not_shorten_a_baseline():
    """40 TECU over both ends of 5 km shorten it by 8 mm where they are left out."""
    thick = {"ionosphere_m": 6.5, "phase_m": 0.001}
    rover = rover_at(-4200.0, -2560.0, 0.0, **thick)
    solution = solved(rover, baseline.seconds(120, 60), base=replace(BASE, **thick))
    error = enu(solution.position_ecef_m - rover.position_m)
    assert solution.quality == Quality.FIX
    assert np.hypot(error[0], error[1]) < 0.003
    assert abs(error[2]) < 0.008


def test_a_short_session_is_fixed_and_its_covariance_covers_the_error():
    rover = rover_at(300.0, -200.0, 100.0)
    solution = solved(rover, baseline.seconds(40, 15))
    error = solution.position_ecef_m - rover.position_m
    assert solution.quality == Quality.FIX
    assert solution.fixed == solution.ambiguities > 20
    assert solution.epochs == 40
    assert np.abs(error).max() < 0.003
    assert error @ np.linalg.solve(solution.covariance_m2, error) < 16.0


def test_a_long_baseline_with_ionosphere_is_fixed():
    rover = rover_at(30e3, 40e3, -20e3, ionosphere_m=0.05)
    solution = solved(rover, baseline.seconds(120, 30))
    assert solution.quality == Quality.FIX
    assert np.abs(enu(solution.position_ecef_m - rover.position_m)).max() < 0.02


def test_slips_that_nobody_reports_do_no_harm():
    rover, times = rover_at(100.0, 50.0, 0.0), baseline.seconds(40, 15)
    sat = satellite(BEIDOU, 8)
    names = range(satellite(BEIDOU, 1), satellite(BEIDOU, 24))
    slipped = replace(rover, slips={(number, 5 * 32 + 1): 1.0 for number in (*names, sat)})
    epochs = epochs_of(rover, times[:20]) + epochs_of(slipped, times[20:])
    solution = solve_static(epochs, epochs_of(BASE, times), BASE.position_m, KNOWN, NO_TIDES)
    assert solution.quality == Quality.FIX
    assert np.abs(solution.position_ecef_m - rover.position_m).max() < 0.004


def test_a_code_astray_by_kilometres_does_no_harm():
    rover, times = rover_at(100.0, 50.0, 0.0), baseline.seconds(20, 15)
    epochs = epochs_of(rover, times)
    epochs[7].pseudorange_m[4] += 5_000.0
    solution = solve_static(epochs, epochs_of(BASE, times), BASE.position_m, KNOWN, NO_TIDES)
    assert solution.quality == Quality.FIX
    assert np.abs(solution.position_ecef_m - rover.position_m).max() < 0.004


def test_tides_are_taken_off_the_position():
    """Receivers where the tide carried them on average; a hundred kilometres apart it is another by millimetres."""
    times = baseline.seconds(60, 120)
    place = baseline.BASE_M + np.array([60e3, 60e3, 60e3])
    tides_m = [solid_tide_m(np.array(times), position).mean(axis=0) for position in (baseline.BASE_M, place)]
    base = replace(BASE, position_m=baseline.BASE_M + tides_m[0])
    rover = baseline.Receiver(place + tides_m[1], seed=2)
    pair = epochs_of(rover, times), epochs_of(base, times), baseline.BASE_M, KNOWN
    kept, taken = (solve_static(*pair, StaticOptions(tides=flag)).position_ecef_m for flag in (False, True))
    expected = tides_m[1] - tides_m[0]
    assert np.linalg.norm(expected) > 0.002
    assert kept - taken == pytest.approx(expected, abs=6e-4)


def test_calibrated_antennas_give_the_reference_points():
    """What the antennas add is put into the observations by hand, and comes off again."""
    antennas = read_antex(SAMPLE)
    pair = find_antenna(antennas, "TESTANT         DOME"), find_antenna(antennas, "OTHERANT        NONE")
    rover, times = rover_at(200.0, 0.0, 0.0), baseline.seconds(40, 15)
    observed = [
        [through(antenna, epoch, receiver.position_m) for epoch in epochs_of(receiver, times)]
        for antenna, receiver in zip(pair, (rover, BASE), strict=True)
    ]
    moved = [
        [at_reference_point(epoch, antenna, receiver.position_m, KNOWN) for epoch in epochs]
        for antenna, epochs, receiver in zip(pair, observed, (rover, BASE), strict=True)
    ]
    with_them = solve_static(*moved, BASE.position_m, KNOWN, NO_TIDES)
    without = solve_static(*observed, BASE.position_m, KNOWN, NO_TIDES)
    assert np.abs(with_them.position_ecef_m - rover.position_m).max() < 0.004
    assert 0.03 < enu(without.position_ecef_m - rover.position_m)[2] < 0.1


def through(antenna, epoch, position_m):
    """An epoch as an antenna with offsets and variations would measure it."""
    axes, state = np.empty((3, 3)), np.empty(8)
    latitude, longitude, _ = geodetic_from_ecef(*position_m)
    enu_axes(latitude, longitude, axes)
    azimuth, elevation = np.empty(len(epoch)), np.empty(len(epoch))
    for row in range(len(epoch)):
        index = int(np.flatnonzero(KNOWN.kepler["sat"] == epoch.sat[row])[0])
        kepler_state(KNOWN.kepler, index, epoch.time_ns, -0.075, state)
        azimuth[row], elevation[row] = azimuth_elevation(axes, *travel(state, *position_m)[1:])
    added_m = range_correction_m(antenna, epoch.signal, azimuth, elevation)
    wavelength_m = 299_792_458.0 / np.array([frequency_hz(int(number)) for number in epoch.signal])
    return replace(
        epoch, pseudorange_m=epoch.pseudorange_m + added_m, phase_cycles=epoch.phase_cycles + added_m / wavelength_m
    )


def test_a_session_without_common_epochs_says_so():
    rover = rover_at(10.0, 0.0, 0.0)
    late = epochs_of(BASE, baseline.seconds(70)[60:])
    solution = solve_static(epochs_of(rover, baseline.seconds(5)), late, BASE.position_m, KNOWN)
    assert (solution.quality, solution.reason) == (Quality.NONE, "rover and base have no epoch in common")


def test_a_single_epoch_is_a_session_too():
    solution = solved(rover_at(10.0, 0.0, 0.0), baseline.seconds(1))
    assert solution.quality in (Quality.FIX, Quality.FLOAT, Quality.NONE)
    assert solution.quality or solution.reason
