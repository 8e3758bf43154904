"""A recording read as a whole gives the epochs that its frames give one by one."""

from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caster import recorded
from caster.codec.rtcm import FrameReader, MsmEncoder, decode_msm, encode_msm, message_type
from caster.codec.rtcm import msm_kernels as rows
from caster.codec.rtcm.layouts import EPHEMERIS_TYPES
from caster.epochs import EpochAssembler
from caster.recorded import RecordingAssembler
from solver.ephemeris import EphemerisStore
from solver.model import Epoch
from solver.timescale import NS
from stations.compressed import read_plain
from tests.caster.test_epochs import TIME_NS, an_epoch, frames

RECORDINGS = (
    "bds-monitor-418m/540423496360.2026-05-15.rtcm3.xz", "shanghai-car-vrs/base-vrs.rtcm3.xz",
    "shanghai-car-vrs/rover.rtcm3.xz", "str-stromlo-70m/week-rollover-STR24.rtcm3.gz",
    "jd-walk-20181009/base-20181009-1220.ubx.gz", "rtcm3-captures/mixed-msm-legacy.rtcm",
    "rtcm3-captures/1012_first.rtcm", "rtcm3-captures/glo_day_rollover.rtcm", "rtcm3-captures/piksi-5Hz.rtcm3",
    "rtcm3-captures/beidou_invalid_fine_pseudorange.rtcm",
)  # fmt: skip
BYTES_MAX = 1_500_000
"""Of each recording, since frame by frame takes its time."""


def one_by_one(data: bytes, assembler: EpochAssembler) -> list[Epoch]:
    """The epochs as a live stream gives them; ephemerides that come again are left out, as a recording's are."""
    reader, epochs, known = FrameReader(), [], set()
    for frame in [*reader.feed(data), *reader.finish()]:
        if assembler.time_ns is not None and message_type(frame) in EPHEMERIS_TYPES:
            if frame in known:
                continue
            known.add(frame)
        epochs += assembler.push(frame)
    return epochs + assembler.finish()


def assert_same(ours: list[Epoch], theirs: list[Epoch]) -> None:
    assert [epoch.time_ns for epoch in ours] == [epoch.time_ns for epoch in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        for field in fields(Epoch):
            np.testing.assert_array_equal(getattr(mine, field.name), getattr(other, field.name), field.name)


@pytest.mark.parametrize("name", RECORDINGS, ids=[Path(name).name for name in RECORDINGS])
@pytest.mark.parametrize("piece", [recorded.PIECE_BYTES, 20_000])
def test_a_recording_gives_the_epochs_of_its_frames(
    shared_data: Path, name: str, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recorded, "PIECE_BYTES", piece)
    data = read_plain(shared_data / name)[:BYTES_MAX]
    learner = EpochAssembler(TIME_NS)  # GLONASS channels hold for the epochs before their telling only in a recording
    one_by_one(data, learner)
    stated_ns = learner.time_ns
    alone = EpochAssembler(stated_ns, channels=learner.channels.copy())
    whole = RecordingAssembler(stated_ns, channels=learner.channels.copy(), ephemerides=EphemerisStore())
    theirs = one_by_one(data, alone)
    assert len(theirs) > 0
    assert_same(whole.read(data), theirs)
    assert whole.counters == alone.counters
    assert whole.last_fault == alone.last_fault
    assert len(whole.ephemerides) == len(alone.ephemerides)


def test_a_stream_that_begins_again_forgets_what_it_saw() -> None:
    slipping = [an_epoch(second, lock_s=100.0 + second) for second in range(3)]
    again = [an_epoch(second - 100, lock_s=1.0) for second in range(3)]
    data = b"".join(frames(*slipping) + frames(*again))
    assert_same(RecordingAssembler(TIME_NS).read(data), one_by_one(data, EpochAssembler(TIME_NS)))


def test_ranges_modulo_a_millisecond_are_counted_and_make_no_epoch() -> None:
    messages = [decode_msm(frame) for frame in frames(an_epoch(0), kind=4)]
    for message in messages:
        message.head[rows.TYPE] -= 1  # MSM3
    data = b"".join(map(encode_msm, messages))
    assembler = RecordingAssembler(TIME_NS)
    assert assembler.read(data) == []
    assert assembler.counters.modulo == 3


def test_nothing_at_all_is_no_epoch() -> None:
    assert RecordingAssembler().read(b"") == []
    assert RecordingAssembler().read(b"\xd3\x00") == []


@given(
    st.lists(st.tuples(st.integers(-40, 40), st.sampled_from([4, 5, 6, 7]), st.floats(0.0, 300.0)), max_size=30),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), max_size=5),
)
def test_any_order_of_epochs_and_any_damage_gives_what_the_frames_give(
    order: list[tuple[int, int, float]], damage: list[tuple[int, int]]
) -> None:
    encoders = {kind: MsmEncoder(7, kind) for kind in (4, 5, 6, 7)}
    stream = bytearray()
    for second, kind, lock_s in order:
        epoch = replace(an_epoch(0.0, lock_s=lock_s), time_ns=TIME_NS + second * NS)
        stream += b"".join(encoders[kind].encode(epoch))
    for place, value in damage:
        if place < len(stream):
            stream[place] = value
    data = bytes(stream)
    alone = EpochAssembler(TIME_NS)
    alone.channels[8] = 2  # of R09: in a recording it holds for the epochs before its telling
    whole = RecordingAssembler(TIME_NS, channels=alone.channels.copy())
    assert_same(whole.read(data), one_by_one(data, alone))
    assert whole.counters == alone.counters
