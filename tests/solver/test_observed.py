"""Which rows of an epoch a solution looks at, and how they are grouped, against a plain selection."""

import numpy as np
import pytest

from solver.kernels.observed import choose_rows, old_beidou
from solver.model import KEPLER, Ephemerides, Epoch
from solver.observed import Selection, observe
from solver.signals import SATELLITE_COUNT, SIGNAL_COUNT, SIGNALS_PER_SYSTEM, SYSTEMS, satellite_of_name, signal


def epoch(seed: int, rows: int = 120) -> Epoch:
    """Random satellites and signals, of which some ranges are missing or absurd."""
    rng = np.random.default_rng(seed)
    keys = np.unique(rng.integers(0, len(SYSTEMS) * 64 * SIGNALS_PER_SYSTEM, rows))
    sat = (keys // SIGNALS_PER_SYSTEM).astype(np.int16)
    pseudorange_m = rng.choice([2.2e7, 2.4e7, np.nan, 5.0, 9e9], len(keys), p=[0.4, 0.4, 0.1, 0.05, 0.05])
    return Epoch(
        time_ns=0,
        sat=sat,
        signal=(sat // 64 * SIGNALS_PER_SYSTEM + keys % SIGNALS_PER_SYSTEM).astype(np.int16),
        frequency_hz=rng.choice([1.5e9, np.nan], len(keys), p=[0.9, 0.1]),
        pseudorange_m=pseudorange_m,
        phase_cycles=np.full(len(keys), np.nan),
        doppler_hz=np.full(len(keys), np.nan),
        cn0_dbhz=np.full(len(keys), 40.0, np.float32),
        lock_s=np.zeros(len(keys), np.float32),
        flags=np.zeros(len(keys), np.uint8),
    )


@pytest.mark.parametrize("seed", range(20))
def test_usable_rows_are_grouped_by_satellite(seed: int) -> None:
    given = epoch(seed)
    excluded = frozenset(given.sat[:3].tolist())
    seen = observe(given, Ephemerides(), Selection(systems="GC", excluded=excluded))
    good = [
        row
        for row in range(len(given))
        if SYSTEMS[given.sat[row] // 64] in "GC"
        and given.sat[row] not in excluded
        and 1e7 < given.pseudorange_m[row] < 8e7
        and np.isfinite(given.frequency_hz[row])
    ]
    assert seen.epoch.sat.tolist() == given.sat[good].tolist()
    assert seen.epoch.pseudorange_m.tolist() == given.pseudorange_m[good].tolist()
    assert seen.sat.tolist() == sorted(set(given.sat[good].tolist()))
    assert [int(seen.epoch.sat[row]) for row in seen.first[:-1]] == seen.sat.tolist()
    assert seen.first[-1] == len(good)
    assert (seen.index < 0).all()


def test_an_epoch_without_usable_rows_has_no_satellites() -> None:
    seen = observe(epoch(1), Ephemerides(), Selection(systems=""))
    assert len(seen.epoch) == len(seen.sat) == 0
    assert seen.first.tolist() == [0]


def test_only_wanted_signals_are_taken() -> None:
    given = epoch(2, rows=2000)
    seen = observe(given, Ephemerides(), Selection(systems="GC", signals=frozenset({"C2I", "G1C"})))
    assert set(seen.epoch.signal.tolist()) == {signal("C2I"), signal("G1C")}


@pytest.mark.parametrize("name, old", [("C2I", True), ("C1P", False), ("G1C", False)])
def test_a_beidou_satellite_without_a_modern_signal_tells_its_orbit(name: str, old: bool) -> None:
    """The code biases of BDS-2 depend on the orbit; BDS-3 has none, and shows itself by its signals."""
    sat = satellite_of_name(name[0] + "11")
    record = np.zeros(1, KEPLER)
    record["sat"], record["sqrt_a"], record["i0"] = sat, 5282.6, 0.96
    given = epoch(3, rows=1)
    one = Epoch(
        0, np.array([sat], np.int16), np.array([signal(name)], np.int16), np.array([1.56e9]), np.array([2.2e7]),
        *(np.zeros(1), np.zeros(1)), given.cn0_dbhz[:1], given.lock_s[:1], given.flags[:1],
    )  # fmt: skip
    seen = observe(one, Ephemerides(kepler=record), Selection())
    assert seen.index.tolist() == [0]
    kept, modern, orbit = np.empty(1, np.bool_), np.empty(1, np.bool_), np.empty((1, 2))
    sats, first, range_m = np.empty(1, np.int16), np.empty(2, np.int32), np.empty(1)
    every = (np.ones(SATELLITE_COUNT, np.bool_), np.ones(SIGNAL_COUNT, np.bool_))
    choose_rows(one.sat, one.signal, one.pseudorange_m, one.frequency_hz, *every, kept, sats, first, range_m, modern)
    old_beidou(record, seen.sat, seen.index, modern, orbit)
    assert orbit.tolist() == [[5282.6, 0.96] if old else [0.0, 0.0]]
