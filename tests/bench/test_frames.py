"""The load's frames are real RTCM 3, and a single wrong bit in them is seen."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.frames import FRAME_BYTES, Stamp, check_frame, make_frame

STAMP = Stamp(mount=2699, sequence=86_400, sent_ns=123_456_789_012_345)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(0, 2**63 - 1))
def test_a_frame_says_what_it_was_made_of(mount: int, sequence: int, sent_ns: int) -> None:
    stamp = Stamp(mount, sequence, sent_ns)
    frame = make_frame(stamp)
    assert len(frame) == FRAME_BYTES
    assert check_frame(frame) == stamp


def test_pyrtcm_takes_the_frame_and_its_crc() -> None:
    """An outside decoder finds the CRC right, and wrong after a change."""
    from pyrtcm import RTCMReader
    from pyrtcm.exceptions import RTCMParseError

    frame = make_frame(STAMP)
    assert RTCMReader.parse(frame).identity == "4094"
    with pytest.raises(RTCMParseError):
        RTCMReader.parse(frame[:-1] + bytes([frame[-1] ^ 1]))


@given(st.integers(0, FRAME_BYTES * 8 - 1))
def test_a_flipped_bit_is_seen(bit: int) -> None:
    frame = bytearray(make_frame(STAMP))
    frame[bit // 8] ^= 1 << bit % 8
    assert check_frame(bytes(frame)) is None


@pytest.mark.parametrize("size", [0, 1, 25, FRAME_BYTES - 1])
def test_a_part_of_a_frame_is_no_frame(size: int) -> None:
    assert check_frame(make_frame(STAMP)[:size]) is None
