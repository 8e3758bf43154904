"""Our tables of messages against pyrtcm's, field by field in the order of the wire, on real recordings."""

from typing import Any

import pytest
from pyrtcm import RTCMMessage

from caster.codec.rtcm import decode, message_type
from caster.codec.rtcm.framing import payload_of
from caster.codec.rtcm.layouts import LAYOUTS
from solver.constants import ICD_PI
from tests.captures import CAPTURES, LONG, sample_of

UNIT = {
    "DF014": 299_792.458, "DF044": 599_584.916, "DF110": 900, "DF121": 2.0**-40, "DF124": 2.0**-30, "DF125": 2.0**-30,
    "DF133": 2.0**-31, "DF135": 2.0**-30, "DF513": 1e-9, "DF514": 1e-9,
}  # fmt: skip
"""What one of pyrtcm's numbers is worth where it gives counts or nanoseconds."""
FACTORS = (1.0, ICD_PI, 1000.0)
"""It gives semicircles for radians, and km for the metres of GLONASS orbits."""
TEXTS = {1007, 1008, 1029, 1033}  # pyrtcm gives a character an attribute: they have a test of their own


def flat(fields: dict[str, Any]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for name, value in fields.items():
        if isinstance(value, list):
            found += [pair for entry in value for pair in flat(entry)]
        elif isinstance(value, dict):
            found += list(value.items())
        else:
            found.append((name, value))
    return found


def with_tk_in_one(fields: list[tuple[str, Any]]) -> list[tuple[str, Any]]:
    """pyrtcm leaves the hours, minutes and half minutes of GLONASS's tk together, as their bits are."""
    values = dict(fields)
    if "tk_h" not in values:
        return fields
    tk = values["tk_h"] << 7 | values["tk_min"] << 1 | values["tk_s"] // 30
    return [(name, tk if name == "tk_h" else value) for name, value in fields if name not in ("tk_min", "tk_s")]


def theirs(frame: bytes) -> list[tuple[str, Any]]:
    oracle = RTCMMessage(payload=payload_of(frame))
    return [
        (name, value) for name, value in vars(oracle).items() if name.startswith("DF") and not name.startswith("DF002")
    ]


def agree(ours: tuple[str, float], other: tuple[str, float]) -> bool:
    unit = UNIT.get(other[0].partition("_")[0])
    meanings = [other[1] * factor for factor in ((unit,) if unit else FACTORS)]
    return any(abs(ours[1] - meaning) <= 1e-12 * abs(ours[1]) + 1e-18 for meaning in meanings)


@pytest.mark.parametrize("name", [f"rtcm3-captures/{name}" for name in CAPTURES] + list(LONG))
def test_a_sample_of_every_recording_agrees(shared_data, name):
    for frame in sample_of(shared_data / name, per_type=15):
        number = message_type(frame)
        if number not in LAYOUTS or number in TEXTS:
            continue
        ours, other = flat(decode(frame).fields), theirs(frame)
        ours = with_tk_in_one([pair for pair in ours if pair[0] != "reserved"])
        other = [pair for pair in other if not pair[0].startswith(("DF001", "DFres", "DF422"))]
        assert len(ours) == len(other), (number, ours, other)
        differing = [(a, b) for a, b in zip(ours, other, strict=True) if not agree(a, b)]
        assert not differing, (number, differing)


@pytest.mark.parametrize("name", [f"rtcm3-captures/{name}" for name in CAPTURES] + list(LONG))
def test_texts_agree_character_by_character(shared_data, name):
    """We keep the NUL that some senders end a text of 1029 with, for the way back; pyrtcm does not."""
    for frame in sample_of(shared_data / name, per_type=5):
        if message_type(frame) not in TEXTS:
            continue
        values = [value for _, value in flat(decode(frame).fields)]
        ours = "".join(str(value) for value in values if isinstance(value, str))
        other = "".join(value for _, value in theirs(frame) if isinstance(value, str))
        assert ours.rstrip("\0") == other, message_type(frame)
