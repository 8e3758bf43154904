"""Epochs are encoded to MSM and come back as they were."""

from dataclasses import replace

import numpy as np
import pytest

from caster.codec.rtcm import MsmEncoder, decode_msm, epoch_to_msm, message_type
from caster.codec.rtcm.encoder import msm_epoch
from caster.codec.rtcm.timing import epoch_gpst_ns
from caster.epochs import EpochAssembler
from caster.errors import LocalProtocolError
from solver.model import SLIP, Epoch
from solver.signals import SYSTEMS, frequency_hz, satellite, satellite_of_name, signal
from solver.timescale import NS, from_week
from tests.captures import LONG, frames_of

TIME_NS = from_week(2262, 455_619)
RANGE_STEP_M = {4: 0.009, 5: 0.009, 6: 3e-4, 7: 3e-4}
PHASE_STEP_M = {4: 3e-4, 5: 3e-4, 6: 8e-5, 7: 8e-5}


def an_epoch(names: list[tuple[str, str]], time_ns: int = TIME_NS, channel: int = 3, **columns: object) -> Epoch:
    """An epoch of satellites and signals ("C21", "2I") with plausible numbers."""
    sat = np.array([satellite_of_name(name) for name, _ in names], np.int16)
    code = np.array([signal(name[0] + code) for name, code in names], np.int16)
    order = np.lexsort((code, sat))
    sat, code = sat[order], code[order]
    frequency = np.array([frequency_hz(int(number), channel) for number in code])
    range_m = 2.2e7 + 1e5 * (sat % 64) + 3.21 * (code % 32)
    values = {
        "sat": sat, "signal": code, "frequency_hz": frequency, "pseudorange_m": range_m,
        "phase_cycles": (range_m + 12.3456) * frequency / 299_792_458,
        "doppler_hz": -(512.25 - (sat % 64) * 10.5) * frequency / 299_792_458,
        "cn0_dbhz": np.full(len(sat), 45, np.float32), "lock_s": np.full(len(sat), 4.0, np.float32),
        "flags": np.zeros(len(sat), np.uint8),
    }  # fmt: skip
    return Epoch(time_ns, **(values | columns))  # type: ignore[arg-type]


ALL = [("G05", "1C"), ("G05", "2W"), ("G32", "1C"), ("R09", "1C"), ("R09", "2P"), ("E01", "1C"), ("E36", "5Q"),
       ("S20", "1C"), ("J02", "1C"), ("C21", "2I"), ("C21", "1P"), ("C59", "6I"), ("I03", "5A")]  # fmt: skip


def read_back(frames: list[bytes], stated_ns: int = TIME_NS) -> list[Epoch]:
    assembler = EpochAssembler(stated_ns)
    return [epoch for frame in frames for epoch in assembler.push(frame)] + assembler.finish()


@pytest.mark.parametrize("kind", [5, 7])
def test_an_epoch_of_all_systems_comes_back(kind):
    epoch = an_epoch(ALL)
    (back,) = read_back(MsmEncoder(17, kind).encode(epoch))
    assert back.time_ns == epoch.time_ns
    assert np.array_equal(back.sat, epoch.sat)
    assert np.array_equal(back.signal, epoch.signal)
    np.testing.assert_allclose(back.frequency_hz, epoch.frequency_hz)
    np.testing.assert_allclose(back.pseudorange_m, epoch.pseudorange_m, rtol=0, atol=RANGE_STEP_M[kind])
    metres = 299_792_458 / epoch.frequency_hz
    np.testing.assert_allclose(back.phase_cycles * metres, epoch.phase_cycles * metres, rtol=0, atol=PHASE_STEP_M[kind])
    np.testing.assert_allclose(back.doppler_hz * metres, epoch.doppler_hz * metres, rtol=0, atol=6e-5)
    assert np.array_equal(back.cn0_dbhz, epoch.cn0_dbhz)


@pytest.mark.parametrize("kind", [4, 6])
def test_kinds_without_doppler_leave_it_out(kind):
    epoch = an_epoch([("C21", "2I"), ("C22", "2I")])
    (back,) = read_back(epoch_to_msm(epoch, msm=kind))
    np.testing.assert_allclose(back.pseudorange_m, epoch.pseudorange_m, rtol=0, atol=RANGE_STEP_M[kind])
    assert np.isnan(back.doppler_hz).all()


def test_all_messages_but_the_last_say_that_more_follow():
    messages = [decode_msm(frame) for frame in epoch_to_msm(an_epoch(ALL))]
    assert [message.type for message in messages] == [1077, 1087, 1097, 1107, 1117, 1127, 1137]
    assert [message.multiple for message in messages] == [True] * 6 + [False]


def test_a_system_with_more_than_64_cells_is_split():
    names = [(f"C{number:02d}", code) for number in range(1, 41) for code in ("2I", "6I", "1P", "5P")]
    frames = epoch_to_msm(an_epoch(names))
    assert [len(decode_msm(frame)) for frame in frames] == [64, 64, 32]
    (back,) = read_back(frames)
    assert len(back) == len(names)


def test_systems_can_be_left_out():
    assert {message_type(frame) for frame in epoch_to_msm(an_epoch(ALL), systems="GC")} == {1077, 1127}


def test_a_phase_counted_from_anywhere_stays_continuous():
    names = [("C21", "2I")]
    encoder = MsmEncoder()
    epochs = []
    for second in range(5):
        epoch = an_epoch(names, TIME_NS + second * NS)
        phase = epoch.phase_cycles - 7e7 + 100.25 * second
        far = replace(epoch, phase_cycles=phase, lock_s=np.full(1, np.nan, np.float32))
        epochs += encoder.encode(far)
    back = read_back(epochs)
    steps = np.diff([epoch.phase_cycles[0] for epoch in back])
    np.testing.assert_allclose(steps, 100.25, atol=1e-3)
    phase_m = back[0].phase_cycles[0] * 299_792_458 / back[0].frequency_hz[0]
    assert abs(phase_m - back[0].pseudorange_m[0]) < 1000
    assert [epoch.flags[0] & SLIP for epoch in back] == [0] * 5
    np.testing.assert_allclose([epoch.lock_s[0] for epoch in back], range(5), rtol=1 / 32)


def test_a_slip_of_the_source_is_seen_by_the_receiver():
    names, encoder = [("C21", "2I")], MsmEncoder()
    frames = []
    for second in range(6):
        flags = np.array([SLIP if second == 3 else 0], np.uint8)
        frames += encoder.encode(
            an_epoch(names, TIME_NS + second * NS, flags=flags, lock_s=np.full(1, np.nan, np.float32))
        )
    assert [int(epoch.flags[0] & SLIP) for epoch in read_back(frames)] == [0, 0, 0, SLIP, 0, 0]


def test_missing_values_stay_missing():
    epoch = an_epoch([("C21", "2I"), ("C21", "6I"), ("C22", "2I"), ("C23", "2I")])
    pseudorange_m, phase = epoch.pseudorange_m.copy(), epoch.phase_cycles.copy()
    pseudorange_m[1] = phase[2] = np.nan
    pseudorange_m[3] = phase[3] = np.nan
    (back,) = read_back(epoch_to_msm(replace(epoch, pseudorange_m=pseudorange_m, phase_cycles=phase)))
    assert len(back) == 3
    assert np.isnan(back.pseudorange_m).tolist() == [False, True, False]
    assert np.isnan(back.phase_cycles).tolist() == [False, False, True]


def test_an_epoch_of_nothing_is_no_message():
    assert epoch_to_msm(an_epoch([])) == []


def test_signals_that_msm_does_not_know_are_left_out():
    assert len(decode_msm(epoch_to_msm(an_epoch([("G05", "1C"), ("G05", "2D")]))[0])) == 1


@pytest.mark.parametrize(("station", "kind"), [(4096, 7), (0, 3), (-1, 4)])
def test_a_station_or_kind_that_cannot_be_is_refused(station, kind):
    with pytest.raises(LocalProtocolError, match="cannot encode"):
        MsmEncoder(station, kind)


@pytest.mark.parametrize("system", range(7))
def test_epoch_fields_mean_the_instant_they_were_made_of(system):
    for time_ns in (TIME_NS, from_week(2010, 0), from_week(2009, 604_799.999), from_week(2010, 10)):
        field = msm_epoch(system, time_ns)
        assert epoch_gpst_ns(system, field, time_ns + 10_000 * NS, by_day=False) == time_ns


@pytest.mark.parametrize("name", [LONG[0], LONG[3]])
def test_a_recorded_stream_survives_being_decoded_and_encoded_again(shared_data, name):
    stated_ns = from_week(2262, 455_000) if "shanghai" in name else None
    assembler, encoder = EpochAssembler(stated_ns), MsmEncoder(kind=7 if "STR17" in name else 4)
    epochs = [epoch for frame in frames_of(shared_data / name)[:600] for epoch in assembler.push(frame)]
    assert len(epochs) > 50
    back = read_back([frame for epoch in epochs for frame in encoder.encode(epoch)], epochs[0].time_ns)
    assert len(back) == len(epochs)
    for one, two in zip(epochs, back, strict=True):
        known = np.isfinite(one.frequency_hz)
        assert one.time_ns == two.time_ns
        assert np.array_equal(one.signal, two.signal)
        step_m = 1e-4 if "STR17" in name else 0.006
        np.testing.assert_allclose(two.pseudorange_m, one.pseudorange_m, rtol=0, atol=step_m)
        np.testing.assert_allclose(two.phase_cycles[known], one.phase_cycles[known], rtol=0, atol=2e-3)
        np.testing.assert_allclose(two.lock_s, one.lock_s)
        assert np.array_equal(two.flags, one.flags)


def test_the_satellite_numbers_are_those_of_the_systems():
    assert [satellite(system, 20 if letter == "S" else 1) % 64 for system, letter in enumerate(SYSTEMS)] == [0] * 7
