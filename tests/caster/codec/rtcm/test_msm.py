"""Multiple signal messages are decoded to columns and encoded again."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caster.codec.rtcm import decode_msm, decode_msm_batch, encode_msm, is_msm, make_frame, message_type
from caster.codec.rtcm import msm_kernels as rows
from caster.codec.rtcm.framing import frame_spans, payload_of
from caster.codec.rtcm.msm import Msm
from caster.errors import FormatError
from solver.signals import satellite_name, signal_name
from tests.captures import CAPTURES, LONG, frames_of, read

SATELLITE_WIDTHS = dict.fromkeys((1, 2, 3), (0, 0, 10, 0)) | {
    kind: (8, 4, 10, 14) if kind % 2 else (8, 0, 10, 0) for kind in (4, 5, 6, 7)
}
CELL_WIDTHS = {
    1: (15, 0, 0, 0, 0, 0), 2: (0, 22, 4, 1, 0, 0), 3: (15, 22, 4, 1, 0, 0), 4: (15, 22, 4, 1, 6, 0),
    5: (15, 22, 4, 1, 6, 15), 6: (20, 24, 10, 1, 10, 0), 7: (20, 24, 10, 1, 10, 15),
}  # fmt: skip


@st.composite
def messages(draw) -> bytes:
    """A well-formed MSM payload of any type with any bits in its fields, written as text of ones and zeros."""
    kind = draw(st.integers(1, 7))
    number = 1070 + 10 * draw(st.integers(0, 6)) + kind
    satellites = sorted(draw(st.sets(st.integers(0, 63), max_size=16)))
    signals = sorted(draw(st.sets(st.integers(0, 31), max_size=4)))
    cells = draw(st.integers(0, 2 ** (len(satellites) * len(signals)) - 1))
    bits = f"{number:012b}" + "".join(draw(st.lists(st.sampled_from("01"), min_size=61, max_size=61)))
    bits += "".join("01"[slot in satellites] for slot in range(64))
    bits += "".join("01"[slot in signals] for slot in range(32))
    if satellites and signals:
        bits += f"{cells:0{len(satellites) * len(signals)}b}"
    size = len(satellites) * sum(SATELLITE_WIDTHS[kind]) + cells.bit_count() * sum(CELL_WIDTHS[kind])
    bits += f"{draw(st.integers(0, 2**size - 1)):0{size}b}" if size else ""
    bits += "0" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big")


def same(one: Msm, other: Msm) -> bool:
    return all(
        np.array_equal(getattr(one, name), getattr(other, name), equal_nan=name == "values")
        for name in ("satellites", "raw", "values")
    )


@given(messages())
def test_any_well_formed_message_is_encoded_to_its_own_bits(payload):
    frame = make_frame(payload)
    assert encode_msm(decode_msm(frame)) == frame


@given(st.integers(1071, 1137), st.binary(max_size=200))
def test_random_bits_are_decoded_or_refused_with_the_type_and_the_reason(number, rest):
    frame = make_frame(bytes((number >> 4, (number & 15) << 4)) + rest)
    try:
        message = decode_msm(frame)
    except FormatError as error:
        assert f"message {number} of" in str(error)
    else:
        again = decode_msm(encode_msm(message))
        assert same(message, again)


@given(st.lists(messages(), max_size=5))
def test_a_batch_holds_what_single_frames_do(payloads):
    frames = [make_frame(payload) for payload in payloads]
    data = np.frombuffer(bytearray(b"".join(frames)), np.uint8)
    batch = decode_msm_batch(data, frame_spans(data)[0])
    assert len(batch) == len(frames)
    assert all(same(batch.message(index), decode_msm(frame)) for index, frame in enumerate(frames))


@given(messages(), st.integers(1, 30))
def test_a_message_that_is_cut_short_is_refused(payload, missing):
    with pytest.raises(FormatError, match="more bits than its length"):
        decode_msm(make_frame(payload[: max(2, len(payload) - 1 - missing)]))


def test_more_than_64_cells_are_refused():
    bits = f"{1077:012b}" + "0" * 61 + "1" * 17 + "0" * 47 + "1111" + "0" * 28
    payload = int(bits.ljust(1600, "0"), 2).to_bytes(200, "big")
    with pytest.raises(FormatError, match=r"message 1077 .* more than 64"):
        decode_msm(make_frame(payload))


def test_what_is_not_msm_is_refused():
    with pytest.raises(FormatError, match=r"message 1005 .* no multiple signal message"):
        decode_msm(make_frame(bytes.fromhex("3ed7") + bytes(30)))


def test_a_batch_names_the_frames_that_cannot_be_and_keeps_the_rest(shared_data):
    frames = [frame for frame in frames_of(shared_data / "rtcm3-captures" / "msm7.rtcm") if is_msm(message_type(frame))]
    bad = make_frame(payload_of(frames[1])[:-20])
    data = np.frombuffer(bytearray(frames[0] + bad + frames[2]), np.uint8)
    batch = decode_msm_batch(data, frame_spans(data)[0])
    assert [batch.message(index).type for index in range(len(batch))] == [
        message_type(frames[0]),
        message_type(frames[2]),
    ]
    assert same(batch.message(1), decode_msm(frames[2]))
    assert batch.faulty.tolist() == [[len(frames[0]), len(frames[0]) + len(bad)]]


@pytest.mark.parametrize(
    ("indicator", "long", "lock_ms"),
    # RTCM 10403.3 tables 3.5-74 and 3.5-75: first and last rows and edges of the ranges.
    [(0, False, 0), (1, False, 32), (2, False, 64), (14, False, 262_144), (15, False, 524_288),
     (0, True, 0), (63, True, 63), (64, True, 64), (95, True, 126), (96, True, 128), (128, True, 256),
     (160, True, 512), (320, True, 16_384), (672, True, 33_554_432), (703, True, 66_060_288),
     (704, True, 67_108_864), (705, True, 0), (1023, True, 0)],
)  # fmt: skip
def test_lock_indicators_mean_the_tables_times(indicator, long, lock_ms):
    assert rows.lock_time_ms(indicator, long) == lock_ms


def test_legacy_lock_indicators_mean_the_tables_times():
    # RTCM 10403.3 table 3.4-2, edges of its rows.
    edges = {0: 0, 23: 23, 24: 24, 47: 70, 48: 72, 71: 164, 72: 168, 96: 360, 119: 728, 120: 744, 126: 936, 127: 937}
    assert {index: rows.LOCK_LEGACY[index] / 1000 for index in edges} == edges


def test_a_beidou_cell_without_a_fine_pseudorange_has_no_pseudorange(shared_data):
    path = shared_data / "rtcm3-captures" / "beidou_invalid_fine_pseudorange.rtcm"
    (frame,) = [frame for frame in frames_of(path) if message_type(frame) == 1127]
    message = decode_msm(frame)
    invalid = message.raw[rows.FINE_RANGE] == -(1 << 19)
    assert invalid.any()
    assert np.array_equal(np.isnan(message.pseudorange_m), invalid)


def test_b1c_and_b2a_keep_their_names(shared_data):
    path = shared_data / "bds-monitor-418m" / "540423494727.2026-05-15.rtcm3.xz"
    frame = next(frame for frame in frames_of(path) if message_type(frame) == 1124)
    message = decode_msm(frame)
    assert {signal_name(signal) for signal in message.signal.tolist()} >= {"C1P", "C5P"}
    assert all(satellite_name(sat).startswith("C") for sat in message.sat.tolist())


@pytest.mark.parametrize("name", [f"rtcm3-captures/{name}" for name in CAPTURES] + list(LONG))
def test_every_recorded_message_is_encoded_to_its_own_bytes(shared_data, name):
    """The format leaves free the last byte's spare bits alone: Piksi sends chance bits there, the others zeros."""
    frames = [frame for frame in frames_of(shared_data / name) if is_msm(message_type(frame))]
    end = -4 if "piksi" in name else None
    assert sum(encode_msm(decode_msm(frame))[:end] != frame[:end] for frame in frames) == 0


def test_a_recording_decoded_at_once_is_the_same_as_frame_by_frame(shared_data):
    data = np.frombuffer(bytearray(read(shared_data / "rtcm3-captures" / "javad.rtcm")), np.uint8)
    spans, _ = frame_spans(data)
    batch = decode_msm_batch(data, spans)
    frames = [data[start:stop].tobytes() for start, stop in spans.tolist()]
    singles = [decode_msm(frame) for frame in frames if is_msm(message_type(frame))]
    assert len(batch) == len(singles) > 100
    assert all(same(batch.message(index), single) for index, single in enumerate(singles))
