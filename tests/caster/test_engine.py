"""The engine's shared parts: ephemerides by who sent them, the date for streams without one, shares of memory."""

import numpy as np
import pytest

from caster.engine import EPOCHS_MIN, EPOCHS_TOTAL, STATION_LEAD_NS, Engine
from caster.stationinfo import EPOCHS_MAX
from solver.model import KEPLER
from solver.timescale import DAY_NS, NS, WEEK_NS

TIME_NS = 2009 * WEEK_NS


@pytest.fixture
def engine():
    return Engine(threads=1)


def record(sat=0, toe_ns=TIME_NS, m0=0.0):
    row = np.zeros(1, KEPLER)
    row["sat"], row["toe_ns"], row["toc_ns"], row["m0"] = sat, toe_ns, toe_ns, m0
    return row


def test_a_rovers_ephemeris_fills_a_gap_and_never_replaces_a_stations(engine):
    assert engine.station_pool.add(record(sat=1)) == 1
    assert engine.rover_pool.add(record(sat=1, m0=9.0)) == 0
    assert engine.rover_pool.add(record(sat=2)) == 1
    assert engine.ephemerides.satellites() == [1, 2]
    assert engine.ephemerides.newest(1)["m0"] == 0.0


def test_when_stations_have_stopped_a_rovers_newer_ephemeris_is_taken(engine):
    engine.station_pool.add(record(sat=1))
    assert engine.rover_pool.add(record(sat=1, toe_ns=TIME_NS + STATION_LEAD_NS - NS)) == 0
    assert engine.rover_pool.add(record(sat=1, toe_ns=TIME_NS + STATION_LEAD_NS)) == 1


def test_a_station_always_has_its_way(engine):
    engine.rover_pool.add(record(sat=1, m0=9.0))
    assert engine.station_pool.add(record(sat=1, m0=1.0)) == 1
    assert engine.ephemerides.newest(1)["m0"] == 1.0


def test_the_date_is_that_of_the_ephemerides_and_else_nobodys(engine):
    assert engine.date_ns(TIME_NS) is None
    engine.station_pool.add(record(sat=1))
    assert engine.date_ns(TIME_NS + DAY_NS // 2) == TIME_NS + DAY_NS // 2  # live: the time of reception
    assert engine.date_ns(TIME_NS + 400 * WEEK_NS) == TIME_NS  # a replay: when the recording was made


def test_one_wrong_ephemeris_does_not_move_the_date(engine):
    for sat in range(10):
        engine.station_pool.add(record(sat=sat))
    engine.station_pool.add(record(sat=11, toe_ns=TIME_NS + 1024 * WEEK_NS))
    assert engine.date_ns(TIME_NS + 400 * WEEK_NS) == TIME_NS


def test_the_same_frame_is_known_again_and_memory_of_frames_is_bounded(engine):
    assert not engine.is_repeated(b"a")
    assert engine.is_repeated(b"a")
    for number in range(5000):
        engine.is_repeated(str(number).encode())
    assert not engine.is_repeated(b"a")


def test_needed_stations_share_what_may_be_kept(engine):
    assert engine.epochs_max == EPOCHS_MAX
    engine.share_epochs(300)
    assert engine.epochs_max == EPOCHS_TOTAL // 300
    engine.share_epochs(1_000_000)
    assert engine.epochs_max == EPOCHS_MIN
    engine.share_epochs(-1_000_300)
    assert engine.epochs_max == EPOCHS_MAX
