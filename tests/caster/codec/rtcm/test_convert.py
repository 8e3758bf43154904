"""Observations are converted to lower MSM kinds and to legacy messages, within the resolution of their fields."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caster.codec.rtcm import MsmEncoder, decode, decode_msm, encode_msm, is_msm, make_frame, message_type
from caster.codec.rtcm import msm_kernels as rows
from caster.codec.rtcm.convert import LegacyEncoder, lower_msm, without_multiple
from caster.codec.rtcm.legacy import ROLLOVER_CYCLES, cells
from caster.errors import FormatError
from caster.traffic import ends_epoch
from solver.constants import SPEED_OF_LIGHT_MPS
from solver.signals import FREQUENCY_HZ, signal
from solver.timescale import NS
from tests.captures import LONG, frames_of, sample_of
from tests.caster.codec.rtcm.test_encoder import TIME_NS, an_epoch
from tests.caster.codec.rtcm.test_msm import messages

MS_M = SPEED_OF_LIGHT_MPS / 1000
HALF_RANGE_M, HALF_PHASE_M = MS_M * 2.0**-25, MS_M * 2.0**-30
TIGHT_M = 1e-6


def recorded(shared_data, kind):
    """MSM frames of real receivers, of one kind."""
    return [
        frame
        for name in LONG
        for frame in sample_of(shared_data / name, 20)
        if is_msm(message_type(frame)) and message_type(frame) % 10 == kind
    ]


@pytest.mark.parametrize("kind", [4, 5, 6])
def test_values_of_recorded_msm7_change_by_half_a_step_at_most(shared_data, kind):
    frames = recorded(shared_data, 7)
    assert len(frames) > 100
    for frame in frames:
        before, after = decode_msm(frame), decode_msm(lower_msm(frame, kind))
        assert after.type == before.type - 7 + kind
        assert (after.station, after.epoch, after.multiple) == (before.station, before.epoch, before.multiple)
        assert np.array_equal(after.sat, before.sat) and np.array_equal(after.signal, before.signal)
        assert np.array_equal(after.half_cycle, before.half_cycle)
        coarse = kind < 6
        # At the very end of a field the coarser one has no room to round up.
        np.testing.assert_allclose(after.pseudorange_m, before.pseudorange_m, rtol=0, atol=2 * HALF_RANGE_M + TIGHT_M)
        phase_m = HALF_PHASE_M if coarse else 0
        np.testing.assert_allclose(after.phase_range_m, before.phase_range_m, rtol=0, atol=phase_m + TIGHT_M)
        np.testing.assert_allclose(after.cn0_dbhz, before.cn0_dbhz, rtol=0, atol=0.5 if coarse else 0)
        if coarse:
            longest_ms = np.minimum(before.lock_ms, rows.LOCK_SHORT[-1])
            wanted = [max(ms for ms in rows.LOCK_SHORT.tolist() if ms <= lock_ms) for lock_ms in longest_ms]
            assert after.lock_ms.tolist() == wanted
        else:
            np.testing.assert_array_equal(after.lock_ms, before.lock_ms)
        if kind == 5:
            np.testing.assert_array_equal(after.rate_mps, before.rate_mps)
        else:
            assert np.isnan(after.rate_mps).all()


@given(messages(), st.integers(1, 7))
def test_any_message_keeps_its_cells_and_what_is_not_valid_stays_so(payload, kind):
    frame = make_frame(payload)
    before, after = decode_msm(frame), decode_msm(lower_msm(frame, kind))
    assert after.kind == min(kind, before.kind) or (before.kind, kind) == (2, 1)
    assert np.array_equal(after.sat, before.sat) and np.array_equal(after.signal, before.signal)
    if after.kind >= 4:
        assert np.array_equal(np.isnan(after.pseudorange_m), np.isnan(before.pseudorange_m))
        assert np.array_equal(np.isnan(after.phase_range_m), np.isnan(before.phase_range_m))
    assert lower_msm(lower_msm(frame, kind), kind) == lower_msm(frame, kind)


@given(messages())
def test_lowering_by_steps_ends_where_lowering_at_once_does(payload):
    frame = make_frame(payload)
    assert lower_msm(lower_msm(frame, 5), 4) == lower_msm(frame, 4)
    assert lower_msm(lower_msm(frame, 6), 4) == lower_msm(frame, 4)


def test_a_message_that_carries_no_more_is_left_as_it_is():
    (frame,) = MsmEncoder(1, 4).encode(an_epoch([("C21", "2I")]))
    assert all(lower_msm(frame, kind) is frame for kind in (4, 5, 6, 7))


def test_msm6_as_msm5_says_that_it_has_no_rates():
    (frame,) = MsmEncoder(1, 6).encode(an_epoch([("R09", "1C"), ("R10", "1C")]))
    message = decode_msm(lower_msm(frame, 5))
    assert message.type == 1085 and np.isnan(message.rate_mps).all() and message.glonass_channels() == {}


def test_a_frame_that_its_masks_overrun_is_refused():
    with pytest.raises(FormatError, match="1077"):
        lower_msm(make_frame(bytes.fromhex("4350") + b"\xff" * 30), 4)


@pytest.mark.parametrize("names", [[("G05", "1C"), ("C21", "2I")], [("R09", "1C"), ("C21", "2I")]])
@pytest.mark.parametrize("legacy", [True, False])
def test_the_multiple_bit_is_cleared_and_nothing_else(names, legacy):
    frame = MsmEncoder(1, 7).encode(an_epoch(names))[0]
    frame = LegacyEncoder().convert(frame) if legacy else frame
    assert not ends_epoch(frame) and ends_epoch(without_multiple(frame))
    before, after = decode(frame), decode(without_multiple(frame))
    if legacy:
        assert after.fields == before.fields | {"multiple": 0}
    else:
        assert np.array_equal(after.raw, before.raw) and not after.multiple


def legacy_of(epoch, encoder):
    made = [encoder.convert(frame) for frame in MsmEncoder(5, 7).encode(epoch)]
    return {message_type(frame): decode(frame) for frame in made if frame is not None}


SIGNALS = [("G05", "1C"), ("G05", "2W"), ("G05", "2L"), ("G32", "1C"), ("R09", "1C"), ("R09", "2P"), ("C21", "2I")]


def test_gps_and_glonass_become_1004_and_1012_and_others_nothing():
    found = legacy_of(an_epoch(SIGNALS), LegacyEncoder())
    assert set(found) == {1004, 1012}
    raw, values, _channels = cells(found[1004])
    assert [*zip(raw[rows.CELL_SATELLITE].tolist(), raw[rows.CELL_SIGNAL].tolist(), strict=True)] == [
        (4, signal("G1C")), (4, signal("G2W")), (31, signal("G1C")),
    ]  # fmt: skip
    assert set(cells(found[1012])[2].values()) == {3}
    wanted = decode_msm(MsmEncoder(5, 7).encode(an_epoch(SIGNALS))[0])
    first = wanted.pseudorange_m[(wanted.sat == 4) & (wanted.signal == signal("G1C"))]
    np.testing.assert_allclose(values[rows.PSEUDORANGE_M, 0], first, atol=0.0101)
    assert found[1004].fields["station"] == 5


def test_a_phase_that_walks_away_from_its_code_is_rolled_by_1500_cycles():
    """Rising 120 m an epoch, it leaves the field after two, and what a receiver adds up again has no jump."""
    encoder, phases = LegacyEncoder(), []
    for step in range(9):
        epoch = an_epoch([("G05", "1C")], TIME_NS + step * NS)
        walked = epoch.phase_cycles + step * 120.0 * FREQUENCY_HZ[signal("G1C")] / SPEED_OF_LIGHT_MPS
        fields = legacy_of(an_epoch([("G05", "1C")], epoch.time_ns, phase_cycles=walked), encoder)[1004].fields
        phases.append(fields["satellites"][0]["l1_phase_less_code_m"])
    roll_m = ROLLOVER_CYCLES * SPEED_OF_LIGHT_MPS / FREQUENCY_HZ[signal("G1C")]
    assert max(np.abs(phases)) < 262.144
    steps = (np.diff(phases) - 120.0) / roll_m
    assert set(np.rint(steps)) == {0.0, -1.0} and np.abs(steps - np.rint(steps)).max() < 1e-5


def test_a_phase_with_half_a_cycle_open_is_not_sent():
    epoch = an_epoch([("G05", "1C")], flags=np.array([2], np.uint8))
    (values,) = cells(legacy_of(epoch, LegacyEncoder())[1004])[1][rows.PHASE_RANGE_M]
    assert np.isnan(values)


def test_a_satellite_beyond_those_of_the_legacy_messages_is_left_out():
    """G64 has no number in DF009, and G40 would be read as SBAS; R25 has none in DF038."""
    names = [("G32", "1C"), ("G33", "1C"), ("G40", "1C"), ("G64", "1C"), ("R24", "1C"), ("R25", "1C")]
    found = legacy_of(an_epoch(names), LegacyEncoder())
    assert {kind: [one["satellite"] for one in message.fields["satellites"]] for kind, message in found.items()} == {
        1004: [32], 1012: [24],
    }  # fmt: skip


def test_a_range_below_zero_is_not_sent():
    """A rough range of 0 and a negative fine range, as fuzzing has found it."""
    (frame,) = MsmEncoder(5, 7).encode(an_epoch([("G05", "1C"), ("G06", "1C")]))
    message = decode_msm(frame)
    message.satellites[rows.WHOLE_MS, 0] = message.satellites[rows.PART_MS, 0] = 0
    message.raw[rows.FINE_RANGE, 0] = -1000
    found = decode(LegacyEncoder().convert(encode_msm(message)))
    assert [one["satellite"] for one in found.fields["satellites"]] == [6]


def test_a_glonass_satellite_waits_for_its_channel(shared_data):
    frames = frames_of(shared_data / LONG[0])
    msm4 = next(lower_msm(frame, 4) for frame in frames if message_type(frame) == 1087)
    encoder = LegacyEncoder()
    assert encoder.convert(msm4) is None
    for frame in frames:
        if message_type(frame) == 1020:
            encoder.learn(frame)
    assert decode(encoder.convert(msm4)).fields["satellites"]
