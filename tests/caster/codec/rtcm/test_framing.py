"""Frames are found, checked and made."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrtcm import calc_crc24q

from caster.codec.rtcm.bits import padded
from caster.codec.rtcm.framing import (
    FrameReader,
    ScanSpace,
    crc24q,
    feed_all,
    frame_spans,
    make_frame,
    message_type,
    payload_of,
)
from caster.errors import FormatError, LocalProtocolError

# RTCM 10403.3 section 4.2 prints this frame of message 1005 as its example.
EXAMPLE = bytes.fromhex("d300133ed7d30202980edeef34b4bd62ac0941986f33360b98")
EMPTY = bytes.fromhex("d3000047ea4b")

payloads = st.binary(max_size=60)
# Garbage that cannot make a frame by chance: preambles come alone, or followed by reserved bits.
garbage = st.lists(st.sampled_from([b"$GNGGA,\r\n", b"\xb5b\x02\x15\x00", b"\xd3\xff", b"\x00" * 9, b"U"])).map(
    b"".join
)


def read_in_pieces(data: bytes, size: int) -> list[bytes]:
    reader = FrameReader()
    frames = [frame for start in range(0, len(data), size) for frame in reader.feed(data[start : start + size])]
    return frames + reader.finish()


def test_the_standards_example_frame_is_read_and_made():
    assert FrameReader().feed(EXAMPLE) == [EXAMPLE]
    assert make_frame(payload_of(EXAMPLE)) == EXAMPLE
    assert message_type(EXAMPLE) == 1005


def test_an_empty_frame_is_a_frame_without_a_type():
    assert FrameReader().feed(EMPTY) == [EMPTY]
    assert make_frame(b"") == EMPTY
    assert message_type(EMPTY) == 0


@given(st.binary(max_size=300))
def test_the_crc_agrees_with_pyrtcm(data):
    assert crc24q(data) == calc_crc24q(data)


@given(st.lists(st.tuples(garbage, payloads)), garbage, st.integers(1, 40))
def test_frames_between_any_garbage_are_read_in_pieces_of_any_size(parts, tail, size):
    frames = [make_frame(payload) for _, payload in parts]
    data = b"".join(noise + frame for (noise, _), frame in zip(parts, frames, strict=True)) + tail
    assert read_in_pieces(data, size) == frames


@given(st.binary(max_size=400), st.integers(1, 50))
def test_any_bytes_give_the_same_good_frames_however_they_are_split(data, size):
    reader = FrameReader()
    whole = reader.feed(data) + reader.finish()
    assert read_in_pieces(data, size) == whole
    assert all(crc24q(frame) == 0 for frame in whole)
    assert reader.counters.skipped_bytes + sum(map(len, whole)) == len(data)
    spans, counters = frame_spans(padded(data)[: len(data)])
    assert [data[start:stop] for start, stop in spans.tolist()] == whole
    assert counters == reader.counters


streams = st.lists(
    st.lists(st.one_of(garbage, payloads.map(make_frame), st.binary(max_size=30)), max_size=6), max_size=5
)


@given(streams, st.integers(1, 60))
def test_streams_that_are_read_together_give_what_each_gives_by_itself(parts, size):
    whole = [b"".join(stream) for stream in parts]
    space = ScanSpace()
    together, alone = [FrameReader(space) for _ in whole], [FrameReader() for _ in whole]
    for start in range(0, max(map(len, whole), default=0), size):
        pieces = [(number, data[start : start + size]) for number, data in enumerate(whole) if start < len(data)]
        found = feed_all([(together[number], data) for number, data in pieces])
        assert found == [alone[number].feed(data) for number, data in pieces]
    for one, other in zip(together, alone, strict=True):
        assert one.finish() == other.finish() and one.counters == other.counters


def test_as_many_frames_as_bytes_can_hold_are_found():
    reader = FrameReader()
    assert len(reader.feed(EMPTY * 20_000)) == 20_000
    assert reader.feed(EXAMPLE) == [EXAMPLE]


def test_a_damaged_frame_is_counted_and_loses_no_other():
    damaged = EXAMPLE[:10] + bytes([EXAMPLE[10] ^ 1]) + EXAMPLE[11:]
    reader = FrameReader()
    assert reader.feed(EXAMPLE + damaged + EXAMPLE) + reader.finish() == [EXAMPLE, EXAMPLE]
    assert reader.counters.bad_crc == 1
    assert reader.counters.skipped_bytes == len(damaged)


def test_a_good_frame_inside_of_a_bad_one_is_found():
    outer = bytes([0xD3, 0, len(EXAMPLE)]) + EXAMPLE + b"\0\0\0"
    assert FrameReader().feed(outer) == [EXAMPLE]


def test_a_frame_behind_a_cut_one_is_given_when_the_stream_ends():
    reader = FrameReader()
    assert reader.feed(bytes([0xD3, 3, 255]) + EXAMPLE) == []
    assert reader.finish() == [EXAMPLE]


def test_a_reader_keeps_at_most_one_incomplete_frame():
    reader = FrameReader()
    for _ in range(50):
        reader.feed(bytes([0xD3, 3, 255]) * 333)
        assert reader.pending_bytes < 1029


def test_the_longest_payload_is_1023_bytes():
    frame = make_frame(bytes(1023))
    assert FrameReader().feed(frame) == [frame]
    with pytest.raises(LocalProtocolError, match="1023"):
        make_frame(bytes(1024))


@pytest.mark.parametrize("data", [b"", b"\xd3\x00", EXAMPLE[:-1], EXAMPLE + b"\0", b"\x00" + EXAMPLE[1:]])
def test_what_is_not_one_whole_frame_has_no_payload(data):
    with pytest.raises(FormatError, match="frame"):
        payload_of(data)


def test_a_mixed_receiver_log_gives_the_frames_that_pyrtcm_finds(shared_data):
    data = (shared_data / "rtcm3-captures" / "pygnssutils-ublox-base-mixed.log").read_bytes()
    types = [message_type(frame) for frame in read_in_pieces(data, 1000)]
    assert {number: types.count(number) for number in set(types)} == dict.fromkeys(
        (1005, 1077, 1087, 1097, 1127, 1230, 4072), 158
    )
