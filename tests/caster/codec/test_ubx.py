import math
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyubx2 import UBXMessage, UBXReader

from caster.codec.rinex.navigation import read_navigation
from caster.codec.rinex.observation import ObservationFile
from caster.codec.subframes import SubframeCollector
from caster.codec.ubx import RAW, RAWX, SFRB, SFRBX, measured_epoch, raw_epoch, rawx_epoch, ubx_messages
from caster.codec.ubx_navigation import take_bits
from caster.errors import FormatError
from caster.tracking import Tracking
from solver.model import HALF_CYCLE, SLIP, Epoch
from solver.signals import satellite_name, signal_name
from solver.timescale import from_week, to_datetime
from stations.recordings import Session
from tests.caster.codec.rinex.samples import content


def log_of(shared_data: Path, name: str = "jd-walk-20181009/rover-20181009-1221.ubx.gz") -> bytes:
    return content(shared_data / name)


def epochs_of(data: bytes) -> list[Epoch]:
    tracking = Tracking()
    return [rawx_epoch(payload, tracking) for kind, payload in ubx_messages(data) if kind == RAWX]


def test_messages_are_those_that_pyubx2_finds(shared_data: Path) -> None:
    data = log_of(shared_data)[:300_000]
    theirs = [
        (parsed.msg_cls[0] << 8 | parsed.msg_id[0], parsed.payload)
        for line in data.split(b"\xb5\x62")[1:]
        if (parsed := _parsed(b"\xb5\x62" + line)) is not None
    ]
    ours = list(ubx_messages(data))
    assert len(ours) > 500
    assert [one for one in theirs if one not in ours] == []


def _parsed(raw: bytes) -> UBXMessage | None:
    try:
        return UBXReader.parse(raw[: 8 + int.from_bytes(raw[4:6], "little")])
    except Exception:  # a sync pattern within a payload
        return None


def test_measurements_are_those_that_pyubx2_reads(shared_data: Path) -> None:
    raw = next(payload for kind, payload in ubx_messages(log_of(shared_data)) if kind == RAWX and payload[11] > 15)
    theirs = UBXMessage(b"\x02", b"\x15", 0, payload=raw)
    epoch = rawx_epoch(raw, Tracking())
    ranges = {round(getattr(theirs, f"prMes_{k:02d}"), 3) for k in range(1, theirs.numMeas + 1)}
    dopplers = {round(getattr(theirs, f"doMes_{k:02d}"), 2) for k in range(1, theirs.numMeas + 1)}
    assert {round(value, 3) for value in epoch.pseudorange_m.tolist() if not math.isnan(value)} <= ranges
    assert {round(value, 2) for value in epoch.doppler_hz.tolist()} <= dopplers
    assert len(epoch) > 10


@pytest.mark.parametrize("role", ["rover", "base"])
def test_epochs_are_those_that_convbin_writes(role: str, shared_data: Path) -> None:
    folder = shared_data / "jd-walk-20181009"
    theirs = {epoch.time_ns: epoch for epoch in ObservationFile(content(folder / f"convbin-{role}.obs.gz")).epochs()}
    log = next(folder.glob(f"{role}-*.ubx.gz"))
    compared = 0
    for epoch in epochs_of(content(log))[::4]:
        other = theirs.get(round(epoch.time_ns, -2))
        if other is None:
            continue
        keys = list(zip(epoch.sat.tolist(), epoch.signal.tolist(), strict=True))
        for index, key in enumerate(zip(other.sat.tolist(), other.signal.tolist(), strict=True)):
            mine = keys.index(key)
            assert np.nan_to_num(epoch.pseudorange_m[mine]) == pytest.approx(
                np.nan_to_num(other.pseudorange_m[index]), abs=6e-4
            )
            if not math.isnan(other.phase_cycles[index]) and not math.isnan(epoch.phase_cycles[mine]):
                assert epoch.phase_cycles[mine] == pytest.approx(other.phase_cycles[index], abs=6e-4)
                compared += 1
            assert epoch.doppler_hz[mine] == pytest.approx(np.nan_to_num(other.doppler_hz[index]), abs=6e-4)
    assert compared > 1500


def test_ephemerides_are_those_that_convbin_writes(shared_data: Path) -> None:
    folder = shared_data / "jd-walk-20181009"
    session = Session()
    session.read(list(folder.glob("base-*.ubx.gz")))
    ours = session.ephemerides.snapshot()
    theirs = read_navigation(content(folder / "convbin-base.nav.gz")).ephemerides
    mine = {(int(row["sat"]), int(row["toe_ns"])): row for row in ours.kepler}
    assert len(theirs.kepler) >= 15
    for row in theirs.kepler:
        record = mine[int(row["sat"]), int(row["toe_ns"])]
        for name in ("iode", "iodc", "toc_ns", "health"):
            assert record[name] == row[name], name
        for name in ("sqrt_a", "e", "i0", "omega0", "omega", "m0", "delta_n", "i_dot", "omega_dot", "cuc", "cus", "crc",
                     "crs", "cic", "cis", "af0", "af1", "af2", "tgd1", "toe_s"):  # fmt: skip
            assert record[name] == pytest.approx(row[name], rel=1e-11, abs=1e-30), name
    states = {(int(row["sat"]), int(row["toe_ns"])): row for row in ours.glonass}
    compared = 0
    for row in theirs.glonass:
        if (int(row["sat"]), int(row["toe_ns"])) in states:
            record = states[int(row["sat"]), int(row["toe_ns"])]
            assert record["channel"] == row["channel"]
            assert record["position_m"] == pytest.approx(row["position_m"], abs=1e-3)
            assert record["velocity_mps"] == pytest.approx(row["velocity_mps"], abs=1e-6)
            assert record["clock_bias_s"] == pytest.approx(row["clock_bias_s"], abs=1e-15)
            assert record["clock_drift"] == pytest.approx(row["clock_drift"], abs=1e-18)
            compared += 1
    assert compared >= 15


def test_modern_receivers_have_new_signals_of_several_systems(shared_data: Path) -> None:
    epochs = epochs_of(log_of(shared_data, "rover-raw-logs/f9p-walk-20250828.ubx.xz"))
    found = {signal_name(code) for epoch in epochs for code in np.unique(epoch.signal).tolist()}
    assert {"G1C", "E1C", "C1P", "C5P"} <= found
    assert to_datetime(epochs[0].time_ns).year == 2025
    sats = {satellite_name(sat) for epoch in epochs for sat in epoch.sat.tolist()}
    assert len(sats) > 20
    rows = list(zip(epochs[5].sat.tolist(), epochs[5].signal.tolist(), strict=True))
    assert rows == sorted(set(rows))


def test_a_lock_time_that_went_back_is_a_slip(shared_data: Path) -> None:
    (first, payload) = [p for kind, p in ubx_messages(log_of(shared_data)) if kind == RAWX][100:102]
    tracking = Tracking()
    rawx_epoch(first, tracking)
    changed = bytearray(payload)
    for start in range(16, len(payload), 32):
        changed[start + 24 : start + 26] = bytes(2)
    epoch = rawx_epoch(bytes(changed), tracking)
    assert (epoch.flags[~np.isnan(epoch.phase_cycles)] & SLIP).all()


def raw_of(tow_ms: int, cycles: float, lli: int = 0) -> bytes:
    """A message RXM-RAW of generation 6: G18, whose phase is lost by `lli` 1, G09 of poor quality, and S129."""
    rows = (
        (cycles, 2.03e7, -954.5, 18, 7, 49, lli),
        (1.0, 2.04e7, -1526.25, 9, 4, 30, 0),
        (2.0, 3.68e7, 5.5, 129, 7, 44, 2),
    )
    body = b"".join(struct.pack("<ddfBbbB", *row) for row in rows)
    return struct.pack("<iHBx", tow_ms, 1481, len(rows)) + body


def test_messages_of_generation_6_are_read_as_pyubx2_reads_them() -> None:
    payload = raw_of(107_964_999, 1.07e8)
    theirs = UBXMessage(b"\x02", b"\x10", 0, payload=payload)
    epoch = measured_epoch(RAW, payload, Tracking())
    assert epoch.time_ns == from_week(theirs.week, theirs.iTOW / 1000)
    assert [satellite_name(sat) for sat in epoch.sat] == ["G09", "G18", "S29"]
    assert epoch.pseudorange_m.tolist() == [theirs.prMes_02, theirs.prMes_01, theirs.prMes_03]
    assert epoch.doppler_hz.tolist() == [theirs.doMes_02, theirs.doMes_01, theirs.doMes_03]
    assert epoch.cn0_dbhz.tolist() == [theirs.cno_02, theirs.cno_01, theirs.cno_03]
    assert epoch.phase_cycles[1:].tolist() == [theirs.cpMes_01, theirs.cpMes_03]
    assert math.isnan(epoch.phase_cycles[0])
    assert epoch.flags.tolist() == [0, 0, HALF_CYCLE]


def test_lock_times_of_generation_6_are_summed_until_a_loss() -> None:
    tracking = Tracking()
    epochs = [raw_epoch(raw_of(1000 * second, 1e8, second == 3), tracking) for second in range(1, 6)]
    assert [epoch.lock_s[1] for epoch in epochs] == [0, 1, 0, 1, 2]
    assert [epoch.flags[1] for epoch in epochs] == [0, 0, SLIP, 0, 0]
    after_a_gap = raw_epoch(raw_of(9000, 1e8), tracking)
    assert after_a_gap.lock_s[1] == 6


def test_subframes_of_generation_6_make_the_orbits_of_later_ones(shared_data: Path) -> None:
    log = log_of(shared_data)
    words = [payload for kind, payload in ubx_messages(log) if kind == SFRBX and payload[0] == 0]
    now_ns = epochs_of(log)[0].time_ns
    old, new = SubframeCollector(), SubframeCollector()
    for payload in words:
        take_bits(new, SFRBX, payload, now_ns)
        data = [word >> 6 & 0xFFFFFF for word in struct.unpack_from("<10I", payload, 8)]
        take_bits(old, SFRB, struct.pack("<BB10I", 0, payload[1], *data), now_ns)
    assert len(new.kepler) > 5
    assert [record.tobytes() for record in old.kepler] == [record.tobytes() for record in new.kepler]


def test_phases_of_beidou_geostationary_satellites_have_half_a_cycle_more() -> None:
    head = struct.pack("<dHbBBB2x", 1000.0, 2360, 18, 2, 1, 1)
    rows = (struct.pack("<ddfBBBBHBBBBBx", 2.3e7, 1e8, 1.0, 3, prn, 1, 0, 9, 45, 0, 0, 0, 7) for prn in (3, 21))
    epoch = rawx_epoch(head + b"".join(rows), Tracking())
    assert epoch.phase_cycles.tolist() == [1e8 + 0.5, 1e8]


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 60))
def test_any_payload_gives_an_epoch_or_a_named_error(noise: bytes, count: int) -> None:
    payload = bytes(8) + b"\x00\x08\x12" + bytes([count]) + bytes(4) + noise
    for kind in (RAW, RAWX):
        try:
            measured_epoch(kind, payload, Tracking())
        except FormatError as error:
            assert "RXM-RAW" in str(error)
    take_bits(SubframeCollector(), SFRBX, noise, 10**18)


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=300))
def test_any_bytes_are_searched_for_messages(noise: bytes) -> None:
    message = UBXMessage(b"\x02", b"\x13", 0, payload=bytes(8)).serialize()
    kinds = [kind for kind, _ in ubx_messages(noise + b"\xb5\x62\xff" + message + noise)]
    assert SFRBX in kinds
