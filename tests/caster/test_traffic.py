"""What a stream carries, told from the first bits of its frames and checked against pyrtcm."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyrtcm import RTCMReader

from caster.codec.rtcm import FrameReader
from caster.traffic import Traffic, ends_epoch, frame_type
from tests.caster.conftest import frame

START_NS = 1_700_000_000 * 10**9
CAPTURES = ("sept.rtcm", "trimble.rtcm", "geo++_TRM.rtcm", "openntrip-sept-polarx5.rtcm3", "piksi-5Hz.rtcm3")


def frames_of(path: Path) -> list[bytes]:
    reader = FrameReader()
    return [*reader.feed(path.read_bytes()), *reader.finish()]


@pytest.mark.parametrize("name", CAPTURES)
def test_types_positions_and_ends_of_epochs_agree_with_pyrtcm(shared_data: Path, name: str) -> None:
    traffic = Traffic()
    for data in frames_of(shared_data / "rtcm3-captures" / name):
        message = RTCMReader.parse(data)
        assert frame_type(data) == int(message.identity.partition("(")[0])
        traffic.count(frame_type(data), data, START_NS)
        if message.identity in ("1005", "1006"):
            assert traffic.position_ecef_m == pytest.approx((message.DF025, message.DF026, message.DF027), abs=1e-4)
        more = next((getattr(message, key) for key in ("DF393", "DF005", "DF035") if hasattr(message, key)), None)
        assert ends_epoch(data) == (None if more is None else not more)


def test_a_position_becomes_degrees() -> None:
    """STR1, Mt Stromlo: 35.3155 S, 149.0101 E (the IGS site log)."""
    traffic = Traffic(position_ecef_m=(-4467102.3, 2683039.5, -3666949.9))
    assert traffic.position_deg() == pytest.approx((-35.3155, 149.0101), abs=2e-4)


def test_rates_come_out_as_the_sourcetable_wants_them() -> None:
    traffic = Traffic()
    for tick in range(300):
        now = START_NS + tick * 200_000_000
        traffic.count(1077, frame(1077), now)
        if tick % 5 == 0:
            traffic.count(1127, frame(1127), now + 1_000_000)
            traffic.count(1127, frame(1127), now + 2_000_000)
        if tick % 50 == 0:
            traffic.count(1006, frame(1006), now)
    assert traffic.format_details() == "1006(10),1077(0.2),1127(1)"
    assert traffic.systems() == ["GPS", "BDS"]
    assert traffic.bitrate() == pytest.approx(len(frame(1077)) * 8 * (5 + 2 + 0.1), rel=0.1)


def test_a_type_that_no_longer_comes_is_forgotten() -> None:
    traffic = Traffic()
    for second in range(200):
        traffic.count(1087 if second < 20 else 1077, frame(1077), START_NS + second * 10**9)
    assert traffic.format_details() == "1077(1)"


@pytest.mark.parametrize(("name", "carrier"), [("sept.rtcm", 2), ("1012_first.rtcm", 2), ("trimble.rtcm", 2)])
def test_bands_are_seen_in_real_streams(shared_data: Path, name: str, carrier: int) -> None:
    traffic = Traffic()
    for data in frames_of(shared_data / "rtcm3-captures" / name):
        traffic.count(frame_type(data), data, START_NS)
    assert traffic.carrier() == carrier


@given(st.lists(st.binary(max_size=80)), st.lists(st.integers(0, 2**62), max_size=50))
def test_any_frames_at_any_times_are_counted(frames: list[bytes], times: list[int]) -> None:
    traffic = Traffic()
    for data, now in zip(frames, times, strict=False):
        traffic.count(frame_type(data), data, now)
        ends_epoch(data)
    assert traffic.frame_count == min(len(frames), len(times))
    assert isinstance(traffic.format_details(), str) and traffic.bitrate() >= 0
