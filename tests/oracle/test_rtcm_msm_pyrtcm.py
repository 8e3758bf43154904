"""Our MSM columns against pyrtcm's attributes, field by field, on real recordings."""

from collections import defaultdict
from typing import Any

import numpy as np
import pytest
from pyrtcm import RTCMMessage

from caster.codec.rtcm import decode_msm, is_msm, message_type
from caster.codec.rtcm import msm_kernels as rows
from caster.codec.rtcm.framing import payload_of
from caster.codec.rtcm.msm import Msm
from solver.constants import SPEED_OF_LIGHT_MPS
from solver.signals import RINEX_CODE
from tests.captures import CAPTURES, LONG, frames_of, sample_of

MS_M = SPEED_OF_LIGHT_MPS / 1000
EPOCH_FIELDS = ("DF004", "DF248", "DF427", "DF428", "DF546")
HEAD = {"DF003": rows.STATION, "DF393": rows.MULTIPLE, "DF409": rows.IODS, "DF411": rows.STEERING,
        "DF412": rows.EXTERNAL, "DF417": rows.SMOOTHED, "DF418": rows.SMOOTHING}  # fmt: skip
FINE_RANGE_INVALID = {"DF400": -(2**14), "DF405": -(2**19)}
FINE_PHASE_INVALID = {"DF401": -(2**21), "DF406": -(2**23)}
SCALE = {"DF400": 2.0**-24, "DF405": 2.0**-29, "DF401": 2.0**-29, "DF406": 2.0**-31}


def columns(oracle: RTCMMessage) -> dict[str, list[Any]]:
    """The attributes NAME_01, NAME_02, ... as lists."""
    found = defaultdict(list)
    for name, value in vars(oracle).items():
        stem, _, index = name.rpartition("_")
        if index.isdecimal() and stem:
            found[stem].append(value)
    return found


def first_of(table: dict[str, list[Any]], *names: str) -> tuple[str, list[Any]]:
    return next((name, table[name]) for name in names if name in table)


def nan_where(values: np.ndarray, invalid: np.ndarray) -> np.ndarray:
    return np.where(invalid, np.nan, values)


def cell_columns(oracle: RTCMMessage) -> list[int]:
    """Which satellite, in order, each cell is of: the set bits of the cell mask."""
    places = oracle.NSat * oracle.NSig
    return [place // oracle.NSig for place in range(places) if oracle.DF396 >> (places - 1 - place) & 1]


def check_cells(message: Msm, table: dict[str, list[Any]], place: list[int]) -> None:
    """Every value of every cell is what pyrtcm's scaled fields mean."""
    whole = np.array(table["DF397"] if "DF397" in table else [0] * len(table["DF398"]), float)
    rough_ms = (nan_where(whole, whole == 255) + np.array(table["DF398"]))[place]
    if message.kind != 2:
        name, fine = first_of(table, "DF400", "DF405")
        invalid = np.array(fine) == FINE_RANGE_INVALID[name] * SCALE[name]
        np.testing.assert_allclose(
            message.pseudorange_m, nan_where(rough_ms + np.array(fine), invalid) * MS_M, rtol=0, atol=1e-6
        )
    if message.kind != 1:
        name, fine = first_of(table, "DF401", "DF406")
        invalid = np.array(fine) == FINE_PHASE_INVALID[name] * SCALE[name]
        np.testing.assert_allclose(
            message.phase_range_m, nan_where(rough_ms + np.array(fine), invalid) * MS_M, rtol=0, atol=1e-6
        )
        assert message.raw[rows.LOCK].tolist() == first_of(table, "DF402", "DF407")[1]
        assert message.half_cycle.tolist() == [bool(bit) for bit in table["DF420"]]
    if message.kind >= 4:
        cn0 = np.array(first_of(table, "DF403", "DF408")[1], float)
        np.testing.assert_allclose(message.cn0_dbhz, nan_where(cn0, cn0 == 0), rtol=0, atol=1e-9)
    if message.kind in (5, 7):
        rough, fine = np.array(table["DF399"], float)[place], np.array(table["DF404"])
        invalid = (rough == -8192) | (np.abs(fine + 1.6384) < 1e-6)
        np.testing.assert_allclose(message.rate_mps, nan_where(rough + fine, invalid), rtol=0, atol=1e-6)


def compare(frame: bytes) -> None:
    message, oracle = decode_msm(frame), RTCMMessage(payload=payload_of(frame))
    for name, row in HEAD.items():
        assert message.head[row] == getattr(oracle, name), name
    if 1081 <= message.type <= 1087:
        assert message.epoch == (oracle.DF416 << 27 | oracle.DF034)
    else:
        assert message.epoch == next(getattr(oracle, name) for name in EPOCH_FIELDS if hasattr(oracle, name))
    table = columns(oracle)
    assert [RINEX_CODE[signal] for signal in message.signal.tolist()] == table["CELLSIG"]
    numbers = [sat % 64 + 1 for sat in message.sat.tolist()]
    first_prn = {110: 119, 111: 192}.get(message.type // 10, 0)
    known = [
        int(prn) - first_prn if prn != "N/A" else number for prn, number in zip(table["CELLPRN"], numbers, strict=True)
    ]
    assert numbers == known
    if numbers:
        check_cells(message, table, cell_columns(oracle))


@pytest.mark.parametrize("name", [f"rtcm3-captures/{name}" for name in CAPTURES] + list(LONG))
def test_a_sample_of_every_recording_agrees(shared_data, name):
    frames = [frame for frame in sample_of(shared_data / name, per_type=20) if is_msm(message_type(frame))]
    for frame in frames:
        compare(frame)


@pytest.mark.slow
@pytest.mark.parametrize("name", LONG)
def test_every_message_of_the_long_recordings_agrees(shared_data, name):
    for frame in frames_of(shared_data / name):
        if is_msm(message_type(frame)):
            compare(frame)
