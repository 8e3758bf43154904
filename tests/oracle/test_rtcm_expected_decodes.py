"""Our decodes against those that another decoder's author published beside the messages (GNSS_RTCM_DECODER)."""

import json
import re
import tarfile
from typing import Any

import numpy as np
import pytest

from caster.codec.rtcm import FrameReader, Msm, decode, message_type
from caster.codec.rtcm import msm_kernels as rows
from solver.constants import ICD_PI
from solver.signals import RINEX_CODE

ROOT = "RTCM3_TEST_DATA"
MSM = [(f"MSM{kind}", number) for kind, numbers in ((5, (1075, 1085, 1095, 1125)), (7, (1077, 1087, 1097, 1127, 1137)))
       for number in numbers]  # fmt: skip


@pytest.fixture(scope="module")
def archive(shared_data) -> dict[str, bytes]:
    """Contents by path of all files of the archive."""
    with tarfile.open(shared_data / "rtcm3-captures" / "kanstantsin-expected-decode.tar.xz") as tar:
        return {member.name: tar.extractfile(member).read() for member in tar if member.isfile()}


def messages(data: bytes) -> list[Any]:
    reader = FrameReader()
    return [decode(frame) for frame in reader.feed(data) + reader.finish()]


def member(archive: dict[str, bytes], start: str, end: str) -> bytes:
    (name,) = [name for name in archive if name.startswith(f"{ROOT}/{start}") and name.endswith(end)]
    return archive[name]


def msm_table(message: Msm, values: Any) -> dict[str, dict[str, Any]]:
    """Values by signal and satellite number."""
    table: dict[str, dict[str, Any]] = {}
    for sat, code, value in zip(message.sat.tolist(), message.signal.tolist(), values.tolist(), strict=True):
        table.setdefault(RINEX_CODE[code], {})[str(sat % 64 + 1)] = value
    return table


@pytest.mark.parametrize(("folder", "number"), MSM)
def test_msm_has_the_published_values(archive, folder, number):
    published = json.loads(member(archive, f"{folder}/REF/msg{number}-JSON/", ".json"))[1:]
    decoded = messages(archive[f"{ROOT}/{folder}/msg{number}.rtcm3"])
    assert len(decoded) == len(published)
    for message, wanted in zip(decoded, published, strict=True):
        ((_, wanted),) = wanted.items()
        epoch = message.epoch & (1 << 27) - 1 if number // 10 == 108 else message.epoch
        assert epoch == wanted["hdr"]["time"]
        assert (message.station, int(message.multiple)) == (wanted["aux"]["rs_id"], wanted["aux"]["MMB"])
        assert message.clock_steering == wanted["aux"]["clk_steer"]["code"]
        for name, values, step in (
            ("rng", message.pseudorange_m, 1e-6), ("phs", message.phase_range_m, 1e-6), ("ltm", message.lock_ms, 0),
            ("c2n", message.cn0_dbhz, 0), ("dpl", message.rate_mps, 1e-6), ("hca", message.half_cycle, 0),
        ):  # fmt: skip
            found = msm_table(message, values)
            published_cells = {
                (code, sat): value for code, cells in wanted["obs"][name].items() for sat, value in cells.items()
            }
            ours = {key: found[key[0]][key[1]] for key in published_cells}
            np.testing.assert_allclose([*ours.values()], [*published_cells.values()], rtol=0, atol=step, err_msg=name)
            present = sum(value == value for cells in found.values() for value in cells.values())
            assert present == len(published_cells)  # an invalid value is left out
        assert (message.raw[rows.CELL_SATELLITE] // 64 == message.system).all()


def number_of(value: Any) -> Any:
    """True and False as the bits that they are."""
    return int(value) if isinstance(value, bool) else value


STATION_NAMES = {
    "bsID": "station", "refPoint_X": "x_m", "refPoint_Y": "y_m", "refPoint_Z": "z_m", "height": "antenna_height_m",
    "isVirtual": "virtual", "GPS_OK": "gps", "GLO_OK": "glonass", "GAL_OK": "galileo", "descr": "antenna",
    "setupID": "antenna_setup", "serialNumber": "antenna_serial", "rcvDescriptor": "receiver",
    "rcvFWVersion": "firmware",
    "rcvSerNum": "receiver_serial", "modifiedJulianDay": "mjd", "daySec": "utc_s", "charNum": "characters",
    "unitsNum": "bytes", "message": "text", "isCorrected": "aligned",
}  # fmt: skip


@pytest.mark.parametrize("number", [1005, 1006, 1007, 1029, 1033, 1230])
def test_station_messages_have_the_published_values(archive, number):
    wanted = json.loads(member(archive, "BASE/REF/", f"-{number}.json"))[1]
    (message,) = messages(archive[f"{ROOT}/BASE/msg{number}.rtcm3"])[:1]
    compared = {name: message.fields[ours] for name, ours in STATION_NAMES.items() if name in wanted}
    assert compared == pytest.approx({name: number_of(wanted[name]) for name in compared}, abs=1e-9)
    assert len(compared) >= 2
    if number == 1230:
        assert {name for name, valid in wanted["validity"].items() if valid} == set(message.fields["bias_m"])
        assert all(message.fields["bias_m"][name] == wanted["correction"][name] for name in message.fields["bias_m"])


ANGLES = {"idot", "delta_n", "m0", "omega_0", "i0", "omega", "omega_dot"}
EPHEMERIS_NAMES = {
    "SV ID": "satellite", "Week number": "week", "root_a": "sqrt_a", "omega_0": "omega0", "satellite_id": "satellite",
    "frequency_channel_number": "channel_code", "tau_n": "tau_n_s", "delta_tau_n": "delta_tau_n_s",
    "tau_gps": "tau_gps_s",
    "t_c": "tau_c_s", "sv_health": "health", "bgd_e5a_e1": "bgd_e5a", "bgd_e5b_e1": "bgd_e5b", "tgd_2": "tgd2",
    "SV SISa": "sisa",
}  # fmt: skip
AXES = {f"{axis}n{dots}": name for axis in "xyz" for dots, name in
        (("", f"{axis}_m"), ("_dot", f"v{axis}_mps"), ("_dot_dot", f"a{axis}_mps2"))}  # fmt: skip
SKIPPED = {"toc", "toe", "tb", "tk_s"}
"""Printed with one digit, or in another unit."""


def last_digit(text: str) -> float:
    """What the last printed digit of a number is worth."""
    mantissa, _, exponent = text.partition("e")
    return float(10.0 ** (int(exponent or 0) - len(mantissa.partition(".")[2])))


@pytest.mark.parametrize("number", [1019, 1020, 1041, 1042, 1045, 1046])
def test_ephemerides_have_the_published_values(archive, number):
    blocks = archive[f"{ROOT}/EPH/REF/msg{number}.txt"].decode().split("Message counter:")[1:]
    decoded = messages(archive[f"{ROOT}/EPH/msg{number}.rtcm3"])
    assert len(decoded) == len(blocks)
    for message, block in zip(decoded, blocks, strict=True):
        compared = 0
        for name, text in re.findall(r"^\s*([\w #]+):\t\s*(\S+)$", block, re.MULTILINE):
            ours = AXES.get(name) or EPHEMERIS_NAMES.get(name, name)
            ours = "tgd1" if number == 1042 and name == "tgd" else ours
            if name in SKIPPED or ours not in message.fields:
                continue
            factor = ICD_PI if name in ANGLES else 1000.0 if name in AXES else 1.0
            value = message.fields[ours]
            assert value == pytest.approx(float(text) * factor, rel=0, abs=last_digit(text) * factor), name
            compared += 1
        assert compared >= 16
        assert message_type_of(message) == number


def message_type_of(message: Any) -> int:
    return int(message.type)


@pytest.mark.parametrize(("variant", "count"), [("", 3), ("-1brokenCRC", 2), ("-noizeBefore", 3)])
def test_damaged_variants_lose_the_damaged_frame_alone(archive, variant, count):
    reader = FrameReader()
    data = archive[f"{ROOT}/reference-3msg{variant}.rtcm3"]
    frames = reader.feed(data) + reader.finish()
    whole = FrameReader().feed(archive[f"{ROOT}/reference-3msg.rtcm3"])
    assert len(frames) == count
    assert {message_type(frame) for frame in frames} <= {message_type(frame) for frame in whole}
    assert set(frames) <= set(whole)
