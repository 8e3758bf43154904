"""Orbits and clocks against RTKLIB (the same broadcast records) and against precise orbits (the sky itself)."""

import importlib.util
from datetime import datetime
from pathlib import Path

import numpy as np
import pyrtklib5 as rk
import pytest

from solver.constants import SPEED_OF_LIGHT_MPS
from solver.kernels.orbit import (
    NO_EPHEMERIS,
    UNHEALTHY,
    glonass_state,
    is_beidou_geo,
    kepler_state,
    satellite_states,
    select_ephemerides,
    travel,
)
from solver.model import NavMessage
from solver.signals import satellite_name, satellite_of_name
from solver.timescale import NS, from_datetime
from tests.oracle import rtklib


@pytest.fixture(scope="module")
def folder() -> Path:
    """A broadcast navigation file of all systems and a precise orbit of the same day, from PyPI's gnss-benchmark."""
    spec = importlib.util.find_spec("gnss_benchmark")
    if spec is None or spec.origin is None:
        pytest.skip("gnss-benchmark is not installed")
    return Path(spec.origin).parent / "datasets" / "mosaicx5_multi_dynamic"


@pytest.fixture(scope="module")
def navigation(folder):
    return rtklib.read_navigation(folder / "CARD00ESP_R_20203340900_15H_MN.rnx")


@pytest.fixture(scope="module")
def ephemerides(navigation):
    return rtklib.ephemerides(navigation)


def theirs(function, eph, time_ns: int, offset_s: float) -> tuple[np.ndarray, float]:
    position, clock, variance = rtklib.array([0] * 3), rtklib.array([0]), rtklib.array([0])
    function(rtklib.gtime(time_ns, offset_s), eph, position, clock, variance)
    return np.array([position[k] for k in range(3)]), clock[0]


@pytest.mark.parametrize("offset_s", [-3600.0, 0.0, 3333.3])
def test_keplerian_orbits_and_clocks_are_rtklib_s_to_a_micrometre(navigation, offset_s):
    state = np.empty(8)
    seen = set()
    for k in range(navigation.n):
        record = rtklib.kepler_record(navigation.eph[k])
        time_ns = int(record["toe_ns"][0])
        kepler_state(record, 0, time_ns, offset_s, state)
        position, clock = theirs(rk.eph2pos, navigation.eph[k], time_ns, offset_s)
        assert np.abs(state[:3] - position).max() < 1e-6
        assert abs(state[6] - clock) * SPEED_OF_LIGHT_MPS < 1e-6
        seen.add(satellite_name(int(record["sat"][0]))[0] + str(is_beidou_geo(record["sqrt_a"][0], record["i0"][0])))
    assert seen >= {"GFalse", "EFalse", "CFalse", "CTrue"}


@pytest.mark.parametrize("offset_s", [-900.0, 0.0, 850.0])
def test_glonass_orbits_are_rtklib_s_to_millimetres(navigation, offset_s):
    """RTKLIB rounds the constants of PZ-90 more coarsely, which makes a millimetre in 15 minutes."""
    state = np.empty(8)
    for k in range(navigation.ng):
        record = rtklib.glonass_record(navigation.geph[k])
        time_ns = int(record["toe_ns"][0])
        glonass_state(record, 0, time_ns, offset_s, state)
        position, clock = theirs(rk.geph2pos, navigation.geph[k], time_ns, offset_s)
        assert np.abs(state[:3] - position).max() < 5e-3
        assert state[6] == pytest.approx(clock, abs=1e-15)
    assert navigation.ng > 20


def test_velocities_and_clock_drifts_are_the_derivatives_of_positions_and_clocks(ephemerides):
    state, before, after = np.empty(8), np.empty(8), np.empty(8)
    pairs = [(kepler_state, ephemerides.kepler, k) for k in range(len(ephemerides.kepler))]
    pairs += [(glonass_state, ephemerides.glonass, k) for k in range(len(ephemerides.glonass))]
    for function, records, row in pairs:
        time_ns = int(records["toe_ns"][row])
        for offset_s, out in ((600.0, state), (599.5, before), (600.5, after)):
            function(records, row, time_ns, offset_s, out)
        assert after[:3] - before[:3] == pytest.approx(state[3:6], abs=5e-4)
        assert after[6] - before[6] == pytest.approx(state[7], abs=1e-17)


def test_rates_of_the_cnav_family_move_the_orbit(ephemerides):
    """With A-dot and delta-n-dot the closed-form velocity is still the derivative of the position."""
    record = ephemerides.kepler[:1].copy()
    record["a_dot"], record["delta_n_dot"] = 0.02, 1e-13
    plain, state, before, after = (np.empty(8) for _ in range(4))
    time_ns = int(record["toe_ns"][0])
    kepler_state(ephemerides.kepler[:1], 0, time_ns, 3000.0, plain)
    for offset_s, out in ((3000.0, state), (2999.5, before), (3000.5, after)):
        kepler_state(record, 0, time_ns, offset_s, out)
    assert 30.0 < np.linalg.norm(state[:3] - plain[:3]) < 100.0
    assert after[:3] - before[:3] == pytest.approx(state[3:6], abs=1e-5)


def precise(path: Path):
    """Epochs of an SP3 file: instant, satellite, position in metres."""
    time_ns = 0
    for line in path.read_text().splitlines():
        if line.startswith("*"):
            time_ns = from_datetime(datetime(*(int(float(word)) for word in line[1:].split())))
        elif line.startswith("P") and line[1] in "GRE":
            yield time_ns, satellite_of_name(line[1:4]), np.array([float(word) for word in line[4:].split()[:3]]) * 1e3


@pytest.mark.parametrize("system, bound_m", [("G", 3.0), ("R", 8.0), ("E", 6.0)])
def test_broadcast_orbits_are_where_the_precise_orbits_are(folder, ephemerides, system, bound_m):
    """Precise orbits are those of the mass centre, so an antenna offset of 1 to 2 m is part of the bound."""
    index, state, count = np.empty(1, np.int32), np.empty(8), 0
    for time_ns, sat, position in precise(folder / "COD21340.sp3"):
        select_ephemerides(ephemerides.kepler, ephemerides.glonass, time_ns, np.array([sat], np.int16), index)
        if satellite_name(sat)[0] != system or index[0] < 0:
            continue
        records = ephemerides.glonass if system == "R" else ephemerides.kepler
        if abs(time_ns - int(records["toe_ns"][index[0]])) > 3600 * NS:
            continue
        (glonass_state if system == "R" else kepler_state)(records, index[0], time_ns, 0.0, state)
        assert np.linalg.norm(state[:3] - position) < bound_m
        count += 1
    assert count > 100


def test_emission_is_earlier_than_reception_by_the_flight_and_the_satellite_s_clock(ephemerides):
    """A range computed to the emitted state, with clock, reproduces the pseudorange that it was made from."""
    receiver = (4_777_633.9, 203_109.0, 4_206_595.1)
    time_ns = from_datetime(datetime(2020, 11, 29, 12, 45))
    sats = np.unique(np.concatenate([ephemerides.kepler["sat"], ephemerides.glonass["sat"]])).astype(np.int16)
    index, states = np.empty(len(sats), np.int32), np.empty((len(sats), 8))
    select_ephemerides(ephemerides.kepler, ephemerides.glonass, time_ns, sats, index)
    pseudorange_m = np.full(len(sats), 2.2e7)
    for _ in range(5):
        satellite_states(ephemerides.kepler, ephemerides.glonass, time_ns, sats, index, pseudorange_m, states)
        for k in np.flatnonzero(index >= 0):
            pseudorange_m[k] = travel(states[k], *receiver)[0] - SPEED_OF_LIGHT_MPS * states[k, 6]
    k = int(np.flatnonzero(index >= 0)[0])
    offset_s = -travel(states[k], *receiver)[0] / SPEED_OF_LIGHT_MPS
    direct = np.empty(8)
    kepler_state(ephemerides.kepler, index[k], time_ns, offset_s, direct)
    assert np.abs(direct[:3] - states[k, :3]).max() < 1e-3
    assert np.isnan(states[index < 0]).all()


def test_the_range_has_rtklib_s_sagnac_correction():
    sat = np.array([-1.2e7, 1.9e7, 1.4e7, 0.0, 0.0, 0.0, 0.0, 0.0])
    receiver = np.array([-3_817_681.4, 3_562_840.0, 3_650_158.4])
    sight = rtklib.array([0, 0, 0])
    expected = rk.geodist(rtklib.array(sat[:3]), rtklib.array(receiver), sight)
    assert travel(sat, *receiver)[0] == pytest.approx(expected, abs=2e-3)


def test_selection_takes_the_nearest_healthy_record_in_time(ephemerides):
    record = np.sort(np.repeat(ephemerides.kepler[:1], 3))
    toe_ns = int(record["toe_ns"][0])
    record["toe_ns"] += np.array([-7200, 0, 3600]) * NS
    record["health"], record["message"] = 0, NavMessage.LNAV
    sats, index = record["sat"][:1].copy(), np.empty(1, np.int32)
    for offset_s, expected in ((-7000, 0), (1700, 1), (1900, 2), (25_300, NO_EPHEMERIS)):
        select_ephemerides(record, ephemerides.glonass[:0], toe_ns + offset_s * NS, sats, index)
        assert index[0] == expected
    record["health"][1] = 1
    select_ephemerides(record, ephemerides.glonass[:0], toe_ns, sats, index)
    assert index[0] == UNHEALTHY


def test_a_glonass_satellite_is_unhealthy_by_its_bn_flag_not_by_ln_which_receivers_get_wrong(ephemerides):
    record = ephemerides.glonass[:1].copy()
    sats, index = record["sat"].copy(), np.empty(1, np.int32)
    for health, expected in ((0, 0), (2, 0), (1, UNHEALTHY), (3, UNHEALTHY)):
        record["health"] = health
        select_ephemerides(ephemerides.kepler[:0], record, int(record["toe_ns"][0]), sats, index)
        assert index[0] == expected


def test_galileo_prefers_inav_and_heeds_the_health_of_its_own_signals(ephemerides):
    record = ephemerides.kepler[ephemerides.kepler["sat"] // 64 == 2][:1].repeat(2)
    record["message"] = [NavMessage.INAV, NavMessage.FNAV]
    record["toe_ns"][1] = record["toe_ns"][0]
    record["health"] = 0b000010000  # E5a: in test
    sats, index = record["sat"][:1].copy(), np.empty(1, np.int32)
    where = (record, ephemerides.glonass[:0], int(record["toe_ns"][0]), sats, index)
    select_ephemerides(*where)
    assert index[0] == 0
    record["health"] = 0b010000000  # E5b: out of service
    select_ephemerides(*where)
    assert index[0] == UNHEALTHY


def test_a_qzss_satellite_whose_lowest_health_bit_is_set_is_used(ephemerides):
    record = ephemerides.kepler[:1].copy()
    record["sat"], record["health"] = satellite_of_name("J03"), 1
    index = np.empty(1, np.int32)
    select_ephemerides(record, ephemerides.glonass[:0], int(record["toe_ns"][0]), record["sat"].copy(), index)
    assert index[0] == 0
