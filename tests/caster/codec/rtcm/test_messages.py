"""Messages other than MSM: every one of every recording comes back, bit for bit, and nothing breaks the decoder."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caster.codec.rtcm import Message, decode, encode, is_msm, make_frame, message_type
from caster.codec.rtcm.layouts import LAYOUTS
from caster.errors import FormatError, LocalProtocolError
from tests.captures import CAPTURES, LONG, sample_of

LATER = 400  # messages of each type taken from a recording


@pytest.mark.parametrize("name", [f"rtcm3-captures/{name}" for name in CAPTURES] + list(LONG))
def test_every_recorded_message_is_encoded_to_its_own_bytes(shared_data, name):
    frames = [frame for frame in sample_of(shared_data / name, LATER) if not is_msm(message_type(frame))]
    assert sum(encode(decode(frame)) != frame for frame in frames) == 0


@given(st.sampled_from(sorted(LAYOUTS)), st.binary(max_size=120))
def test_random_bits_are_decoded_or_refused_with_the_type_and_come_back(number, rest):
    frame = make_frame(bytes((number >> 4, (number & 15) << 4)) + rest)
    try:
        message = decode(frame)
    except FormatError as error:
        assert str(error).startswith(f"RTCM 3 message {number} of")
    else:
        assert repr(decode(encode(message))) == repr(message)


@given(st.binary(max_size=60))
def test_unknown_types_pass_through_untouched(rest):
    frame = make_frame(bytes.fromhex("fee0") + rest)
    message = decode(frame)
    assert isinstance(message, Message)
    assert (message.type, message.fields) == (4078, {})
    assert encode(message) == frame


def test_a_payload_too_short_for_a_type_passes_through_too():
    assert encode(decode(make_frame(b"\x12"))) == make_frame(b"\x12")


def test_texts_may_hold_any_language():
    fields = {"station": 1, "mjd": 60_000, "utc_s": 1, "characters": 4, "bytes": 0, "text": "北斗导航"}
    message = decode(encode(Message(1029, fields)))
    assert isinstance(message, Message)
    assert message.fields["text"] == "北斗导航"
    assert message.fields["bytes"] == 12


def test_the_standards_example_of_1005_means_its_numbers():
    # RTCM 10403.3 section 4.2: station 2003, ECEF-X 1114104.5999 m, Y -4850729.7108 m, Z 3975521.4643 m.
    message = decode(bytes.fromhex("d300133ed7d30202980edeef34b4bd62ac0941986f33360b98"))
    assert isinstance(message, Message)
    wanted = {"station": 2003, "gps": 1, "glonass": 0, "x_m": 1114104.5999, "y_m": -4850729.7108, "z_m": 3975521.4643}
    assert message.fields.items() >= wanted.items()


@pytest.mark.parametrize(("change", "reason"), [
    ({"station": 4096}, "station = 4096 does not fit"),
    ({"x_m": 1e9}, "x_m = 1000000000.0 does not fit"),
])  # fmt: skip
def test_what_does_not_fit_is_refused_by_name(change, reason):
    good = decode(bytes.fromhex("d300133ed7d30202980edeef34b4bd62ac0941986f33360b98"))
    assert isinstance(good, Message)
    with pytest.raises(LocalProtocolError, match=reason):
        encode(Message(1005, good.fields | change))


def test_a_missing_field_is_refused_by_name():
    with pytest.raises(LocalProtocolError, match="antenna is missing"):
        encode(Message(1007, {"station": 1, "antenna_setup": 0}))
