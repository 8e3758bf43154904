"""The pool of ephemerides: order, replacement, bounds."""

import numpy as np
import pytest

from solver.ephemeris import EphemerisStore
from solver.model import GLONASS_STATE, KEPLER, NavMessage
from solver.timescale import DAY_NS, NS


def kepler(sat: int, toe_s: int, message: NavMessage = NavMessage.LNAV, iode: int = 0) -> np.ndarray:
    record = np.zeros(1, KEPLER)
    record["sat"], record["toe_ns"], record["message"], record["iode"] = sat, toe_s * NS, message, iode
    return record


def test_a_snapshot_is_ordered_by_satellite_then_toe_whatever_came_first():
    store = EphemerisStore()
    for sat, toe_s in ((7, 7200), (3, 0), (7, 0), (3, 7200), (300, 5)):
        store.add(kepler(sat, toe_s))
    rows = store.snapshot().kepler
    assert [(int(row["sat"]), int(row["toe_ns"]) // NS) for row in rows] == [
        (3, 0), (3, 7200), (7, 0), (7, 7200), (300, 5)
    ]  # fmt: skip


def test_a_repeated_record_changes_nothing_and_a_corrected_one_replaces_the_old():
    store = EphemerisStore()
    assert store.add(kepler(3, 0)) == 1
    snapshot, revision = store.snapshot(), store.revision
    assert store.add(kepler(3, 0)) == 0
    assert store.snapshot() is snapshot and store.revision == revision
    assert store.add(kepler(3, 0, iode=9)) == 1
    assert store.snapshot().kepler["iode"].tolist() == [9]
    assert snapshot.kepler["iode"].tolist() == [0], "a snapshot that is in use never changes"


def test_both_messages_of_a_satellite_are_kept():
    store = EphemerisStore()
    store.add(np.concatenate([kepler(130, 0, NavMessage.INAV), kepler(130, 0, NavMessage.FNAV)]))
    assert len(store) == 2


def test_the_pool_is_bounded_per_satellite_and_keeps_the_newest():
    store = EphemerisStore(records_per_satellite=3)
    for toe_s in (50, 10, 40, 20, 30):
        store.add(kepler(3, toe_s))
    assert (store.snapshot().kepler["toe_ns"] // NS).tolist() == [30, 40, 50]
    assert store.add(kepler(3, 5)) == 0
    newest = store.newest(3)
    assert newest is not None and newest["toe_ns"][0] == 50 * NS
    assert store.newest(4) is None


def test_what_is_a_day_from_use_is_forgotten():
    store = EphemerisStore()
    store.add(kepler(3, 0))
    store.add(kepler(4, 90_000))
    assert store.satellites() == [3, 4]
    assert store.snapshot(DAY_NS + NS).kepler["sat"].tolist() == [4]
    assert store.satellites() == [4]


def test_state_vectors_and_ionosphere_are_kept_too():
    store, other = EphemerisStore(), EphemerisStore()
    vector = np.zeros(1, GLONASS_STATE)
    vector["sat"] = 70
    store.add(vector)
    store.add_klobuchar("beidou", range(8))
    assert other.update(store.snapshot()) == 1
    assert other.snapshot().glonass["sat"].tolist() == [70]
    assert other.snapshot().klobuchar_beidou.tolist() == list(range(8))
    assert np.isnan(other.snapshot().klobuchar_gps).all()


def test_what_is_no_ephemeris_is_refused():
    store = EphemerisStore()
    with pytest.raises(ValueError, match="not ephemerides"):
        store.add(np.zeros(3))
    with pytest.raises(ValueError, match="not Klobuchar"):
        store.add_klobuchar("galileo", [0.0] * 8)
    store.add_klobuchar("gps", [float("nan")] * 8)
    assert store.revision == 0
