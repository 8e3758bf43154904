"""A station's place, epochs and health."""

import numpy as np

from caster.stationinfo import EPOCHS_MAX, FRAME_AGE_MAX_S, OWN_POSITION_STRIKES, StationInfo
from solver.ephemeris import EphemerisStore
from solver.model import Epoch
from solver.observed import take
from solver.signals import GPS, PRN_PER_SYSTEM
from solver.timescale import NS
from tests.solver import baseline

MOUNT_STROMLO_ECEF_M = np.array([-4467102.3061, 2683039.5304, -3666949.9820])
START_NS = 1_215_820_800 * NS
NOTHING = EphemerisStore().snapshot()


def epoch_at(second):
    return Epoch.empty(START_NS + round(second * NS))


def station(seconds=()):
    info = StationInfo("STR1")
    info.take_frame(0.0)
    info.take_position(MOUNT_STROMLO_ECEF_M, 17)
    for second in seconds:
        info.take_epoch(epoch_at(second), NOTHING)
    return info


def test_the_latest_epoch_that_is_not_later_serves_a_rover():
    info = station(range(10))
    assert info.epoch_for(START_NS + 4 * NS + NS // 2, 5.0).epoch.time_ns == START_NS + 4 * NS
    assert info.epoch_for(START_NS + 12 * NS, 5.0).epoch.time_ns == START_NS + 9 * NS
    assert info.epoch_for(START_NS + 9 * NS, 5.0).station_id == 17


def test_a_system_whose_message_was_lost_is_carried_on_until_the_stream_begins_anew():
    known, base = baseline.ephemerides(), baseline.Receiver(baseline.BASE_M, seed=1)
    info = StationInfo("STR1")
    info.take_position(baseline.BASE_M, 17)
    whole = [base.observe(known, time_ns) for time_ns in baseline.seconds(3)]
    lossy = [whole[0], *(take(epoch, epoch.sat // PRN_PER_SYSTEM != GPS) for epoch in whole[1:])]
    for epoch in lossy:
        info.take_epoch(epoch, known)
        assert info.last_epoch().sat.tolist() == whole[0].sat.tolist()
    info.take_epoch(lossy[1], known)
    assert info.last_epoch() is lossy[1]


def test_a_rover_that_lags_gets_the_first_epoch_that_there_is():
    assert station(range(10)).epoch_for(START_NS - NS, 5.0).epoch.time_ns == START_NS


def test_an_epoch_too_far_away_does_not_serve():
    info = station(range(10))
    assert info.epoch_for(START_NS + 15 * NS, 5.0) is None
    assert info.epoch_for(START_NS - 6 * NS, 5.0) is None


def test_epochs_are_bounded_and_a_tighter_bound_takes_effect_at_once():
    info = station(range(EPOCHS_MAX + 20))
    assert info.epoch_for(START_NS, 1e9).epoch.time_ns == START_NS + 20 * NS
    info.take_epoch(epoch_at(EPOCHS_MAX + 20), NOTHING, epochs_max=3)
    assert info.epoch_for(START_NS, 1e9).epoch.time_ns == START_NS + (EPOCHS_MAX + 18) * NS


def test_a_restarted_recording_drops_the_later_epochs():
    info = station([10, 11, 12, 3])
    assert info.last_epoch().time_ns == START_NS + 3 * NS
    assert info.epoch_for(START_NS + 12 * NS, 5.0) is None


def test_a_moved_station_is_counted_and_its_old_epochs_are_dropped():
    info = station(range(3))
    assert not info.take_position(MOUNT_STROMLO_ECEF_M + 0.0001, 17)
    assert info.last_epoch() is not None
    assert info.take_position(MOUNT_STROMLO_ECEF_M + 12.0, 17)
    assert (info.moves, info.last_epoch()) == (1, None)
    assert info.fault(0.0) == ""


def test_a_place_off_the_earths_surface_is_refused_and_the_last_good_one_kept():
    info = station()
    for place in ([0.0, 0.0, 0.0], [1e7, 0.0, 0.0], [np.nan, 0.0, 0.0]):
        assert not info.take_position(np.array(place), 17)
    assert info.positions_refused == 3
    assert np.array_equal(info.position_ecef_m, MOUNT_STROMLO_ECEF_M)
    assert info.fault(0.0) == ""


def test_a_station_says_why_it_cannot_serve():
    info = StationInfo("NEW")
    assert info.fault(0.0) == "silent"
    info.take_frame(0.0)
    assert info.fault(1.0) == "has not said where it stands"
    info.take_position(np.zeros(3), 1)
    assert info.fault(1.0) == "says a place off the earth's surface"
    info.take_position(MOUNT_STROMLO_ECEF_M, 1)
    assert info.fault(1.0) == ""
    assert info.fault(FRAME_AGE_MAX_S + 1.0) == "silent"


def test_a_place_that_the_observations_contradict_makes_it_unhealthy_until_they_agree():
    info = station()
    elsewhere = MOUNT_STROMLO_ECEF_M + np.array([0.0, 5000.0, 0.0])
    for _ in range(OWN_POSITION_STRIKES - 1):
        assert not info.take_own_position(elsewhere)
    assert info.fault(0.0) == ""
    info.take_own_position(elsewhere)
    assert info.fault(0.0) == "stands over 100 m from where it says"
    assert info.take_own_position(MOUNT_STROMLO_ECEF_M + 5.0)
    assert info.fault(0.0) == ""


def test_a_station_that_has_not_said_its_place_serves_no_epoch():
    info = StationInfo("NEW")
    info.take_epoch(epoch_at(0), NOTHING)
    assert info.epoch_for(START_NS, 5.0) is None
    info.forget_epochs()
    assert info.last_epoch() is None
