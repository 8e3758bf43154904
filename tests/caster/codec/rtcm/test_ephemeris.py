"""Ephemerides become the solver's records and messages again."""

import numpy as np
import pytest

from caster.codec.rtcm import Message, decode, encode, from_record, message_type, to_record
from caster.codec.rtcm.ephemeris import KEPLER_TYPES, glonass_date_ns
from caster.errors import LocalProtocolError
from solver.model import KEPLER, NavMessage
from solver.timescale import DAY_NS, NS, from_week, to_datetime
from tests.captures import CAPTURES, frames_of

ALL = (1019, 1020, 1041, 1042, 1044, 1045, 1046)
UNKEPT = {"l2_code", "l2p_off", "week", "reserved"}
UNKEPT_GLONASS = {"n_t", "n_4", "n_a", "m", "additional", "almanac_health", "almanac_health_known", "p", "p1", "p2",
                  "p3", "p4", "tau_c_s", "tau_gps_s", "ln_fifth", "reserved"}  # fmt: skip
NEAR_NS = from_week(2012, 400_000)


def ephemerides(shared_data):
    names = [name for name in CAPTURES if "eph" in name or "sept" in name or "USCL" in name]
    frames = [frame for name in names for frame in frames_of(shared_data / "rtcm3-captures" / name)]
    return [decode(frame) for frame in frames if message_type(frame) in ALL]


def test_every_recorded_ephemeris_survives_as_a_record(shared_data):
    messages = ephemerides(shared_data)
    assert {message.type for message in messages} >= {1019, 1020, 1042, 1044, 1045, 1046}
    for message in messages:
        back = from_record(to_record(message, NEAR_NS))
        assert back.type == message.type
        unkept = UNKEPT_GLONASS if message.type == 1020 else UNKEPT
        spare_sisa = message.fields.get("sisa", 0) > 125
        kept = {name: value for name, value in message.fields.items() if name not in unkept}
        if spare_sisa:  # an index without a meaning becomes the one that says so
            kept["sisa"] = 255
        assert {name: back.fields[name] for name in kept} == pytest.approx(kept, rel=1e-14, abs=0)
        encode(back)


def test_times_are_the_nearest_to_the_given_instant(shared_data):
    for message in ephemerides(shared_data):
        record = to_record(message, NEAR_NS)[0]
        half = DAY_NS // 2 if message.type == 1020 else 7 * DAY_NS // 2
        assert abs(int(record["toe_ns"]) - NEAR_NS) <= half
        if message.type in KEPLER_TYPES:
            kind = KEPLER_TYPES[message.type]
            assert (int(record["toe_ns"]) // NS - kind.offset_s) % 604_800 == record["toe_s"] == message.fields["toe_s"]


def test_geostationary_beidou_is_told_by_its_orbit(shared_data):
    frames = frames_of(shared_data / "rtcm3-captures" / "test_bds_eph.rtcm")
    kinds = {
        message.fields["satellite"]: int(to_record(message, NEAR_NS)["message"][0]) for message in map(decode, frames)
    }
    assert {number for number, kind in kinds.items() if kind == NavMessage.D2} <= set(range(1, 6))
    assert {number for number, kind in kinds.items() if kind == NavMessage.D1} & set(range(6, 15))


def test_a_glonass_frame_tells_its_date(shared_data):
    frames = frames_of(shared_data / "rtcm3-captures" / "test_glo_eph.rtcm")
    dates = {glonass_date_ns(decode(frame).fields) for frame in frames} - {None}
    assert {str(to_datetime(date))[:10] for date in dates} == {"2018-08-20"}


def test_a_message_that_is_no_ephemeris_is_refused():
    with pytest.raises(LocalProtocolError, match="1005 is no ephemeris"):
        to_record(Message(1005), NEAR_NS)


def test_what_rtcm_cannot_send_is_refused():
    record = np.zeros(1, KEPLER)
    record["message"] = NavMessage.CNV1
    with pytest.raises(LocalProtocolError, match="no message"):
        from_record(record)
