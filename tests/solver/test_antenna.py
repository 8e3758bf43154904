"""Antenna corrections against RTKLIB's and by hand."""

import math

import numpy as np
import pyrtklib5 as rtklib
import pytest

from caster.codec.antex import read_antex
from solver.antenna import at_reference_point, find_antenna, range_correction_m
from solver.kernels.geodesy import ecef_from_geodetic
from solver.model import Ephemerides
from solver.signals import signal
from tests.caster.codec.antex_sample import SAMPLE
from tests.solver import baseline


@pytest.fixture
def antenna():
    found = find_antenna(read_antex(SAMPLE), "TESTANT         DOME")
    assert found is not None
    return found


def correction(antenna, name, azimuth, elevation):
    signals = np.array([signal(name)], np.int16)
    return range_correction_m(antenna, signals, np.array([azimuth]), np.array([elevation]))[0]


def test_overhead_the_whole_offset_and_the_zenith_variation_count(antenna):
    assert correction(antenna, "G1C", 1.0, math.pi / 2) == pytest.approx(-0.0881 + 0.0)


@pytest.mark.parametrize("elevation_deg", [5.0, 12.5, 33.0, 60.0, 89.0])
@pytest.mark.parametrize("azimuth_deg", [0.0, 100.0, 290.0])
def test_corrections_without_azimuth_are_rtklibs(antenna, azimuth_deg, elevation_deg):
    """RTKLIB has no variation by azimuth, as this sample's G02; its table has a step of 5 degrees."""
    table = antenna.bands["G2"]
    pcv = rtklib.pcv_t()
    for k in range(3):
        pcv.off[1, k] = table.offset_enu_m[k]
    for k in range(19):
        pcv.var[1, k] = table.variation_m[0, k]
    delta, angles, out = rtklib.Arr1Ddouble(0.0, 3), rtklib.Arr1Ddouble(2), rtklib.Arr1Ddouble(rtklib.NFREQ)
    for k in range(3):
        delta[k] = 0.0
    angles[0], angles[1] = math.radians(azimuth_deg), math.radians(elevation_deg)
    rtklib.antmodel(pcv, delta, angles, 1, out)
    ours = correction(antenna, "G2W", math.radians(azimuth_deg), math.radians(elevation_deg))
    assert ours == pytest.approx(out[1], abs=1e-6)


def test_the_variation_follows_the_azimuth(antenna):
    level = math.radians(30.0)
    by_hand = []
    for east, north, pcv in ((0.0, 1.0, 0.006), (1.0, 0.0, 0.016)):
        by_hand.append(pcv - math.cos(level) * (0.0012 * east + 0.0005 * north) - math.sin(level) * 0.0881)
    assert correction(antenna, "G1C", 0.0, level) == pytest.approx(by_hand[0], abs=1e-9)
    assert correction(antenna, "G1C", math.pi / 2, level) == pytest.approx(by_hand[1], abs=1e-9)


def test_a_band_without_calibration_takes_the_nearest_frequency_and_that_is_told(antenna):
    assert antenna.stand_in(signal("C2I")) == "G1"
    assert antenna.stand_in(signal("C6I")) == "G2"
    level = math.radians(30.0)
    assert correction(antenna, "C6I", 1.0, level) == correction(antenna, "G2W", 1.0, level)
    wanted = [signal(name) for name in ("G1C", "G2W", "E1C", "C2I", "C6I", "C2I")]
    assert antenna.stand_ins(wanted) == ["C2 as G1 (14 MHz off)", "C6 as G2 (41 MHz off)"], "E1 is L1"


def test_a_network_s_antenna_without_size_adds_nothing():
    for name in ("ADVNULLANTENNA", "ADVNULLANTENNA  NONE"):
        nothing = find_antenna([], name)
        assert correction(nothing, "G1C", 1.0, 0.2) == correction(nothing, "C6I", 1.0, 1.5) == 0.0
        assert nothing.stand_ins([signal("G1C"), signal("C6I"), signal("R1C")]) == []


def test_an_epoch_moves_by_what_each_row_s_antenna_adds(antenna):
    """Codes and carriers alike; a satellite whose orbit is not known stays as it was measured."""
    place = np.array(ecef_from_geodetic(math.radians(31.2), math.radians(121.5), 20.0))
    known = baseline.ephemerides()
    epoch = baseline.Receiver(place, seed=1).observe(known, baseline.START_NS)
    moved = at_reference_point(epoch, antenna, place, known)
    added_m = epoch.pseudorange_m - moved.pseudorange_m
    assert (-0.15 < added_m).all()
    assert (added_m < 0.02).all()
    assert (epoch.phase_cycles - moved.phase_cycles) * 299_792_458.0 / epoch.frequency_hz == pytest.approx(
        added_m, abs=1e-6
    )
    alone = Ephemerides(kepler=known.kepler[known.kepler["sat"] == epoch.sat[0]])
    some = at_reference_point(epoch, antenna, place, alone)
    changed = some.pseudorange_m != epoch.pseudorange_m
    assert set(epoch.sat[changed].tolist()) == {int(epoch.sat[0])}


def test_a_radome_that_was_not_calibrated_is_taken_for_none():
    antennas = read_antex(SAMPLE)
    assert find_antenna(antennas, "OTHERANT        SNOW").name == "OTHERANT        NONE"
    assert find_antenna(antennas, "OTHERANT NONE").name == "OTHERANT        NONE", "as one types it"
    assert find_antenna(antennas, "OTHERANT").name == "OTHERANT        NONE"
    assert find_antenna(antennas, "OTHERANT        NONE", "4711").serial == "4711"
    assert find_antenna(antennas, "NOSUCHANT       NONE") is None
    assert find_antenna(antennas, "") is None
