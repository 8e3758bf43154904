"""Frames become epochs: when they close, which time they have, what is a slip, and what is learnt on the way."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from caster.codec.rtcm import Message, MsmEncoder, decode_msm, encode, encode_msm, is_msm, make_frame, message_type
from caster.codec.rtcm import msm_kernels as rows
from caster.epochs import UNDATED_MESSAGES_MAX, EpochAssembler
from solver.ephemeris import EphemerisStore
from solver.model import HALF_CYCLE, SLIP, Epoch
from solver.signals import frequency_hz, satellite_name, satellite_of_name, signal, signal_name
from solver.timescale import NS, from_week, to_datetime
from tests.captures import LONG, frames_of

TIME_NS = from_week(2262, 455_619)
POSITION = {"station": 7, "itrf_year": 0, "gps": 1, "glonass": 1, "galileo": 1, "virtual": 0, "single_oscillator": 0,
            "reserved": 0, "quarter_cycle": 0, "x_m": -2850000.5, "y_m": 4655000.25, "z_m": 3288000.125}  # fmt: skip


def an_epoch(
    second: float, names: str = "G05-1C R09-1C C21-2I C21-6I", lock_s: float = 100.0, channel: int = 2
) -> Epoch:
    pairs = [name.split("-") for name in names.split()]
    sat = np.array([satellite_of_name(name) for name, _ in pairs], np.int16)
    code = np.array([signal(name[0] + code) for name, code in pairs], np.int16)
    hertz = np.array([frequency_hz(int(number), channel) for number in code])
    range_m = np.full(len(sat), 2.3e7)
    floats = np.zeros(len(sat), np.float32)
    return Epoch(TIME_NS + round(second * NS), sat, code, hertz, range_m, range_m * hertz / 299_792_458,
                 range_m * 0 + 100, floats + 40, floats + lock_s, np.zeros(len(sat), np.uint8))  # fmt: skip


def frames(*epochs: Epoch, kind: int = 7) -> list[bytes]:
    encoder = MsmEncoder(7, kind)
    return [frame for epoch in epochs for frame in encoder.encode(epoch)]


def feed(assembler: EpochAssembler, stream: list[bytes]) -> list[Epoch]:
    return [epoch for frame in stream for epoch in assembler.push(frame)]


def with_bit(frame: bytes, multiple: bool) -> bytes:
    message = decode_msm(frame)
    head = message.head.copy()
    head[rows.MULTIPLE] = multiple
    return encode_msm(replace(message, head=head))


@pytest.mark.parametrize("ahead_s", [0, 14])
def test_a_sender_that_counts_gpst_for_beidou_as_well_has_whole_epochs(ahead_s):
    stream = [
        frame
        for second in range(5)
        for frame in (
            *(with_bit(frame, True) for frame in frames(an_epoch(second, "G05-1C"))),
            *(with_bit(frame, False) for frame in frames(an_epoch(second + ahead_s, "C21-2I"))),
        )
    ]
    assembler = EpochAssembler(TIME_NS)
    epochs = feed(assembler, stream) + assembler.finish()
    assert [(epoch.time_ns - TIME_NS) / NS for epoch in epochs] == list(range(5))
    assert {tuple(satellite_name(sat) for sat in epoch.sat) for epoch in epochs} == {("G05", "C21")}
    assert (assembler.counters.restarts, assembler.counters.late) == (0, 0)


def test_an_epoch_closes_with_its_last_message_once_the_stream_has_shown_that_it_says_so():
    assembler = EpochAssembler(TIME_NS)
    groups = [frames(an_epoch(second)) for second in range(4)]
    assert [len(feed(assembler, group)) for group in groups] == [0, 1, 2, 1]


def test_the_first_epoch_of_a_live_stream_closes_with_the_message_after_which_no_more_follow():
    assembler = EpochAssembler(TIME_NS)
    for second in range(4):
        epochs = [e for f in frames(an_epoch(second)) for e in assembler.push(f, TIME_NS + second * NS)]
        assert [(epoch.time_ns - TIME_NS) / NS for epoch in epochs] == [second]
    assert assembler.counters.late == 0


def test_a_live_stream_that_was_wrongly_taken_at_its_word_is_not_again():
    """The second of three messages says that it is the last."""
    assembler, counts = EpochAssembler(TIME_NS), []
    for second in range(4):
        group = frames(an_epoch(second, "G05-1C E11-1C C21-2I"))
        marked = [with_bit(frame, multiple) for frame, multiple in zip(group, (True, False, True), strict=True)]
        counts += [len(e) for f in marked for e in assembler.push(f, TIME_NS + second * NS)]
    assert counts == [2, 3, 3, 3]
    assert assembler.counters.late == 1


@pytest.mark.parametrize("multiple", [True, False])
def test_a_sender_that_never_uses_the_multiple_message_bit_loses_nothing(multiple):
    stream = [with_bit(frame, multiple) for second in range(5) for frame in frames(an_epoch(second))]
    assembler = EpochAssembler(TIME_NS)
    epochs = feed(assembler, stream) + assembler.finish()
    assert [len(epoch) for epoch in epochs] == [4] * 5


def test_a_last_message_that_comes_first_loses_nothing():
    names = " ".join(f"C{number:02d}-{code}" for number in range(1, 31) for code in ("2I", "6I", "7I"))
    groups = [frames(an_epoch(second, names)) for second in range(6)]
    groups[4].reverse()
    assembler = EpochAssembler(TIME_NS)
    epochs = feed(assembler, [frame for group in groups for frame in group]) + assembler.finish()
    assert [len(epoch) for epoch in epochs] == [90] * 6
    assert assembler.counters.late == 0


def test_an_epoch_whose_last_message_is_lost_closes_at_the_time_out():
    assembler = EpochAssembler(TIME_NS, timeout_ns=NS // 2)
    for frame in frames(an_epoch(0))[:-1]:
        assert assembler.push(frame, TIME_NS) == []
    assert assembler.expire(TIME_NS + NS // 2) == []
    (epoch,) = assembler.expire(TIME_NS + NS // 2 + 1)
    assert {satellite_name(sat) for sat in epoch.sat.tolist()} == {"G05", "R09"}


def test_beidou_split_over_several_messages_is_one_epoch(shared_data):
    assembler = EpochAssembler(TIME_NS)
    epochs = feed(assembler, list(frames_of(shared_data / "shanghai-car-vrs" / "base-vrs.rtcm3.xz")[:60]))
    names = [{signal_name(code) for code in epoch.signal.tolist()} for epoch in epochs]
    assert all({"C2I", "C6I", "C7I", "C1P", "C5P", "G2W", "E7Q"} <= found for found in names)
    assert str(to_datetime(epochs[0].time_ns)).startswith("2023-05-19 06:33")


def test_msm_goes_before_legacy_where_both_carry_a_system(shared_data):
    path = shared_data / "rtcm3-captures" / "mixed-msm-legacy.rtcm"
    mixed = feed(EpochAssembler(TIME_NS), list(frames_of(path)))
    modern = feed(EpochAssembler(TIME_NS), [frame for frame in frames_of(path) if is_msm(message_type(frame))])
    assert len(mixed) > 25
    by_time = {epoch.time_ns: epoch for epoch in modern}
    shared = [epoch for epoch in mixed if epoch.time_ns in by_time and len(by_time[epoch.time_ns])]
    assert shared
    for epoch in shared:
        covered = np.isin(epoch.sat // 64, by_time[epoch.time_ns].sat // 64)
        assert np.array_equal(epoch.signal[covered], by_time[epoch.time_ns].signal)


@pytest.mark.parametrize(("locks", "slips"), [
    ((10, 11, 12, 13), (0, 0, 0, 0)),
    ((10, 11, 3, 4), (0, 0, 1, 0)),  # decreased
    ((0.0, 0.2, 0.5, 1.5), (0, 1, 1, 0)),  # grows, but is shorter than the second since the last sight
    ((10, 11, None, 1.0), (0, 0, None, 1)),  # away for two seconds, locked for one
    ((10, 11, None, 13), (0, 0, None, 0)),
])  # fmt: skip
def test_a_lock_time_tells_of_a_slip(locks, slips):
    others = "C22-2I"
    stream = []
    for second, lock in enumerate(locks):
        epoch = an_epoch(second, others if lock is None else f"C21-2I {others}")
        lock_s = epoch.lock_s.copy()
        if lock is not None:
            lock_s[0] = lock
        stream += frames(replace(epoch, lock_s=lock_s))
    assembler = EpochAssembler(TIME_NS)
    epochs = feed(assembler, stream) + assembler.finish()
    sat = satellite_of_name("C21")
    found = [[int(flag & SLIP) for flag in epoch.flags[epoch.sat == sat]] for epoch in epochs]
    assert found == [[] if slip is None else [slip] for slip in slips]


def test_the_half_cycle_bit_is_kept():
    epoch = an_epoch(0, "C21-2I C22-2I")
    stream = frames(replace(epoch, flags=np.array([HALF_CYCLE, 0], np.uint8)))
    assembler = EpochAssembler(TIME_NS)
    (back,) = feed(assembler, stream) + assembler.finish()
    assert back.flags.tolist() == [HALF_CYCLE, 0]


def test_glonass_phases_wait_for_the_channel_that_msm5_and_1020_tell():
    assembler = EpochAssembler(TIME_NS)
    epochs = feed(assembler, frames(an_epoch(0), kind=4) + frames(an_epoch(1), kind=5) + frames(an_epoch(2), kind=4))
    epochs += assembler.finish()
    glonass = satellite_of_name("R09")
    phases = [epoch.phase_cycles[epoch.sat == glonass][0] for epoch in epochs]
    assert np.isnan(phases).tolist() == [True, False, False]
    other = EpochAssembler(TIME_NS, channels=assembler.channels)
    (epoch,) = feed(other, frames(an_epoch(0), kind=4)) + other.finish()
    assert np.isfinite(epoch.phase_cycles).all()


def test_no_date_means_no_epoch_until_one_comes():
    assembler = EpochAssembler()
    assert feed(assembler, frames(an_epoch(0), an_epoch(1))) == []
    text = {"station": 7, "mjd": 44_244 + 2262 * 7 + 5, "utc_s": 54_000, "characters": 2, "bytes": 2, "text": "hi"}
    epochs = assembler.push(encode(Message(1029, text))) + assembler.finish()
    assert [epoch.time_ns for epoch in epochs] == [TIME_NS, TIME_NS + NS]


def test_messages_without_a_date_are_bounded_and_counted():
    assembler = EpochAssembler()
    frame = frames(an_epoch(0, "C21-2I"))[0]
    for _ in range(UNDATED_MESSAGES_MAX + 10):
        assembler.push(frame)
    assert assembler.counters.undated == 10
    assert assembler.finish() == []
    assert assembler.counters.undated == UNDATED_MESSAGES_MAX + 10


def test_a_time_of_reception_dates_a_stream_and_an_ephemeris_puts_it_right(shared_data):
    stream = frames_of(shared_data / LONG[1])[:600]
    years_later_ns = from_week(2400, 300_000)
    assembler = EpochAssembler()
    epochs = [epoch for frame in stream for epoch in assembler.push(frame, years_later_ns)]
    assert str(to_datetime(epochs[-1].time_ns)).startswith("2018-07-14 23:5")


@pytest.mark.parametrize(("name", "first", "last", "count"), [
    (LONG[0], "2018-07-14 23:50:18", "2018-07-15 00:09:03", 1126),
    (LONG[1], "2018-07-14 23:50:09", "2018-07-15 00:09:02", 1134),
])  # fmt: skip
def test_time_runs_on_across_the_week_roll_over(shared_data, name, first, last, count):
    """Septentrio's PolaRx5 sends BDT seconds -14 to -1 of the new week here."""
    assembler = EpochAssembler()
    epochs = feed(assembler, list(frames_of(shared_data / name))) + assembler.finish()
    times_ns = [epoch.time_ns for epoch in epochs]
    assert (str(to_datetime(times_ns[0])), str(to_datetime(times_ns[-1])), len(epochs)) == (first, last, count)
    assert (np.diff(times_ns) == NS).all()
    systems = [len(set((epoch.sat // 64).tolist())) for epoch in epochs[1:-1]]  # the recording begins within an epoch
    assert min(systems) == max(systems) == 5
    assert len(assembler.ephemerides.snapshot().kepler) > 20


def test_a_stream_that_starts_again_is_taken_from_there():
    assembler = EpochAssembler(TIME_NS)
    stream = frames(*(an_epoch(second) for second in range(60, 64))) + frames(an_epoch(0), an_epoch(1))
    epochs = feed(assembler, stream) + assembler.finish()
    assert [(epoch.time_ns - TIME_NS) // NS for epoch in epochs] == [60, 61, 62, 63, 0, 1]
    assert assembler.counters.restarts == 1


def test_what_the_station_says_of_itself_is_kept_and_a_move_is_counted():
    assembler = EpochAssembler(TIME_NS)
    assembler.push(encode(Message(1006, POSITION | {"antenna_height_m": 1.5})))
    assert assembler.station.position_ecef_m.tolist() == [-2850000.5, 4655000.25, 3288000.125]
    assert (assembler.station.antenna_height_m, assembler.station.moves) == (1.5, 0)
    assembler.push(encode(Message(1005, POSITION | {"x_m": -2850003.5})))
    assert (assembler.station.moves, assembler.station.moved_m) == (1, 3.0)
    bias = {"station": 7, "aligned": 1, "reserved": 0, "bias_m": {"1C": 1.5, "2P": -0.5}}
    assembler.push(encode(Message(1230, bias)))
    np.testing.assert_array_equal(assembler.station.glonass_bias_m, [1.5, np.nan, np.nan, -0.5])


def test_an_impossible_message_is_counted_and_loses_nothing_else():
    assembler = EpochAssembler(TIME_NS)
    stream = frames(an_epoch(0), an_epoch(1))
    stream.insert(2, make_frame(bytes.fromhex("43500000")))
    assert len(feed(assembler, stream) + assembler.finish()) == 2
    assert assembler.counters.faulty == 1
    assert "1077" in assembler.last_fault


def test_assemblers_share_a_pool_of_ephemerides(shared_data):
    pool = EphemerisStore()
    for name in ("test_bds_eph.rtcm", "test_gal_eph.rtcm"):
        feed(
            EpochAssembler(from_week(2015, 0), ephemerides=pool), list(frames_of(shared_data / "rtcm3-captures" / name))
        )
    assert set((pool.snapshot().kepler["sat"] // 64).tolist()) == {2, 5}


@given(st.lists(st.tuples(st.integers(1001, 1240), st.binary(max_size=60)), max_size=8))
def test_no_message_content_breaks_an_assembler(contents):
    assembler = EpochAssembler(TIME_NS)
    for number, rest in contents:
        assembler.push(make_frame(bytes((number >> 4, (number & 15) << 4)) + rest))
    assembler.finish()
    assert isinstance(assembler.time_ns, int)
