"""SBF blocks that pysbf2 builds or reads: an implementation that is not ours says what is in them."""

import binascii
import struct
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pysbf2 import SBFReader

from caster.codec import sbf
from caster.errors import FormatError
from caster.tracking import Tracking, new_channels
from solver.constants import ICD_PI, SPEED_OF_LIGHT_MPS
from solver.model import HALF_CYCLE, SLIP, NavMessage
from solver.signals import satellite_name, signal_name
from solver.timescale import NS, from_week
from stations.recordings import Session

WEEK, TOW_S = 2360, 212_541
CHANNELS = (
    # SVID, signal, code high, code low, doppler, carrier, C/N0, lock, ObsInfo
    (12, 0, 5, 1_234_567, -12_345_678, (-3, 4000), 140, 300, 0),
    (39, 8, 4, 2_234_567, 22_345_678, (2, 60_000), 150, 7, (8 - 4) << 3),
    (145, 28, 8, 3_234_567, 345_678, (-1, 1), 120, 65_535, 4),
    (71, 17, 5, 4_234_567, -(2**31), (-128, 0), 255, 60, 0),
    (250, 0, 5, 1, 1, (0, 0), 1, 1, 0),
)
SECOND = (2, 254, 130, 7 | 30 << 3, -2, 0, 65_000, 12_345, 60_000)  # L2P, offsets -1 and -2


def block(number: int, body: bytes) -> bytes:
    body += bytes(-len(body) % 4)
    rest = struct.pack("<HH", number, len(body) + 8) + body
    return struct.pack("<2sH", b"$@", binascii.crc_hqx(rest, 0)) + rest


def measured(*, tow_s: float = TOW_S, lock: int | None = None, antenna: int = 0) -> bytes:
    body = struct.pack("<IHBBBBBx", round(tow_s * 1000), WEEK, len(CHANNELS), 20, 12, 0, 0)
    for index, (svid, signal, high, low, doppler, carrier, cn0, locked, info) in enumerate(CHANNELS):
        body += struct.pack(
            "<BBBBIiHbBHBB", index, signal | antenna << 5, svid, high, low, doppler, carrier[1], carrier[0], cn0,
            locked if lock is None else lock, info, int(index == 0),
        )  # fmt: skip
        body += struct.pack("<BBBBbBHHH", *SECOND) if index == 0 else b""
    return block(sbf.MEAS_EPOCH, body)


def test_measurements_are_those_that_pysbf2_reads() -> None:
    raw = measured()
    theirs = SBFReader.parse(raw)
    epoch = sbf.meas_epoch(raw, Tracking(), new_channels())
    assert epoch.time_ns == from_week(WEEK, TOW_S)
    names = [satellite_name(s) + signal_name(g)[-2:] for s, g in zip(epoch.sat, epoch.signal, strict=True)]
    assert names == ["G121C", "G122W", "R021C", "E011C", "C052I"]
    for index, name in enumerate(("G121C", "R021C", "C052I", "E011C"), 1):
        row = names.index(name)
        suffix = f"_{index:02d}"
        range_m = getattr(theirs, "CodeMSB" + suffix) + getattr(theirs, "CodeLSB" + suffix)
        assert epoch.pseudorange_m[row] == pytest.approx(range_m, abs=1e-6)
        if name == "E011C":
            assert np.isnan([epoch.phase_cycles[row], epoch.doppler_hz[row], epoch.cn0_dbhz[row]]).all()
            continue
        cycles = getattr(theirs, "CarrierMSB" + suffix) + getattr(theirs, "CarrierLSB" + suffix)
        wavelength_m = SPEED_OF_LIGHT_MPS / epoch.frequency_hz[row]
        assert epoch.phase_cycles[row] == pytest.approx(range_m / wavelength_m + cycles, abs=1e-6)
        assert epoch.doppler_hz[row] == pytest.approx(getattr(theirs, "Doppler" + suffix), abs=1e-9)
        assert epoch.cn0_dbhz[row] == pytest.approx(getattr(theirs, "CN0" + suffix) + 10)


def test_a_second_signal_is_told_by_its_difference_from_the_first() -> None:
    epoch = sbf.meas_epoch(measured(), Tracking(), new_channels())
    first_m, second_m = epoch.pseudorange_m[:2]
    assert second_m - first_m == pytest.approx((-65_536 + 65_000) / 1000, abs=1e-6)
    assert epoch.phase_cycles[1] == pytest.approx(
        second_m * 1227.6e6 / SPEED_OF_LIGHT_MPS + (-2 * 65_536 + 12_345) / 1000, abs=1e-6
    )
    assert epoch.doppler_hz[1] == pytest.approx(-1234.5678 * 60 / 77 + (-2 * 65_536 + 60_000) * 1e-4, abs=1e-9)
    assert epoch.cn0_dbhz[1] == 130 / 4  # P(Y) has no offset


def test_glonass_channels_and_half_cycles_are_told() -> None:
    channels = new_channels()
    epoch = sbf.meas_epoch(measured(), Tracking(), channels)
    assert channels[1] == -4
    assert epoch.frequency_hz[2] == 1602e6 - 4 * 562_500
    assert epoch.flags.tolist() == [0, 0, 0, 0, HALF_CYCLE]


def test_a_lock_time_that_starts_again_is_a_slip() -> None:
    tracking, channels = Tracking(), new_channels()
    sbf.meas_epoch(measured(), tracking, channels)
    same = sbf.meas_epoch(measured(tow_s=TOW_S + 1, lock=301), tracking, channels)
    assert not (same.flags & SLIP).any()
    again = sbf.meas_epoch(measured(tow_s=TOW_S + 9, lock=1), tracking, channels)
    assert (again.flags & SLIP)[again.signal == same.signal[0]].all()


def test_a_second_antenna_is_left_out() -> None:
    epoch = sbf.meas_epoch(measured(antenna=1), Tracking(), new_channels())
    assert [signal_name(signal) for signal in epoch.signal] == []


ORBIT = {
    "M_0": 0.47, "e": 0.0012, "SQRT_A": 6493.5, "OMEGA_0": -0.22, "i_0": 0.03, "omega": -0.98, "OMEGADOT": -3e-9,
    "IDOT": 4e-10, "DEL_N": 3e-9, "C_uc": 1e-5, "C_us": 2e-5, "C_rc": 700.0, "C_rs": -450.0, "C_ic": 1e-6,
    "C_is": 2e-6, "a_f1": 1e-11, "a_f0": -1e-4, "t_oe": 212_400, "t_oc": 212_400,
}  # fmt: skip
TIME = {"TOW": TOW_S * 1000, "WNc": WEEK}
NAVIGATION = {
    "GPSNav": (5891, {"PRN": 12, "T_gd": -1e-8, "IODC": 300, "IODE2": 44, "URA": 0}, "G12", NavMessage.LNAV),
    "QZSNav": (4095, {"PRN": 183, "T_gd": -1e-8, "IODC": 300, "IODE2": 44}, "J03", NavMessage.LNAV),
    "BDSNav": (4081, {"PRN": 145, "T_GD1": 2e-10, "T_GD2": -2e10, "IODE": 1}, "C05", NavMessage.D2),
    "GALNav": (4002, {"SVID": 104, "Source": 2, "SISA_L1E5b": 107, "BGD_L1E5b": 3e-9}, "E34", NavMessage.INAV),
}
FORMATS = {"U001": "B", "U002": "H", "U004": "I", "F004": "f", "F008": "d", "X001": "B", "X002": "H"}


def navigation_block(name: str, number: int, values: dict[str, float]) -> bytes:
    """A block laid out by pysbf2's table; what is not given is 0."""
    from pysbf2.sbftypes_blocks import SBF_BLOCKS

    body = b""
    for field, kind in SBF_BLOCKS[name].items():
        code = kind if isinstance(kind, str) else kind[0]
        body += struct.pack("<" + FORMATS[code], values.get(field, 0))
    return block(number, body)


@pytest.mark.parametrize("name", NAVIGATION)
def test_orbits_come_in_radians_and_in_our_time(name: str) -> None:
    number, own, satellite, message = NAVIGATION[name]
    record = sbf.navigation(number, navigation_block(name, number, TIME | ORBIT | own))[0]
    assert satellite_name(int(record["sat"])) == satellite
    assert record["message"] == message
    assert record["m0"] == pytest.approx(0.47 * ICD_PI)
    assert record["omega_dot"] == pytest.approx(-3e-9 * ICD_PI)
    assert record["crs"] == -450.0
    late_s = 14 if satellite[0] == "C" else 0
    assert record["toe_ns"] == from_week(WEEK, 212_400 + late_s) == record["toc_ns"]
    assert np.isfinite([record["tgd1"], record["tgd2"], record["accuracy_m"]]).all()


def test_a_glonass_state_comes_in_metres_and_gpst() -> None:
    values = TIME | {"SVID": 39, "FreqNr": 4, "X": 1000.0, "Dy": -3.0, "Ddz": 1e-6, "tb": 14 * 60 + 15, "tau": 1e-5}
    values |= {"F_T": 250, "B": 4, "t_oe": 0}
    record = sbf.navigation(4004, navigation_block("GLONav", 4004, values))[0]
    assert satellite_name(int(record["sat"])) == "R02"
    assert (record["channel"], record["health"]) == (-4, 1)
    assert record["position_m"][0] == 1e6
    assert record["velocity_mps"][1] == -3000.0
    assert record["acceleration_mps2"][2] == pytest.approx(1e-3)
    assert record["clock_bias_s"] == pytest.approx(-1e-5)
    assert record["accuracy_m"] == 2.5
    assert record["toe_ns"] == from_week(WEEK, 2 * 86_400 + 11 * 3600 + 15 * 60 + 18)
    assert abs(record["transmitted_ns"] - from_week(WEEK, TOW_S)) <= 30 * NS


def test_a_log_of_blocks_among_other_bytes_is_a_recording(tmp_path: Path) -> None:
    number, own, *_ = NAVIGATION["BDSNav"]
    nav = navigation_block("BDSNav", number, TIME | ORBIT | own)
    ion = navigation_block("BDSIon", 4120, TIME | {"alpha_0": 1.0, "beta_3": 8.0})
    damaged = bytearray(measured(tow_s=TOW_S + 1))
    damaged[30] ^= 1
    path = tmp_path / "log"
    path.write_bytes(b"$@junk" + measured() + b"$GPGGA\r\n" + nav + bytes(damaged) + ion + measured(tow_s=TOW_S + 2))
    session = Session()
    recording = session.read([path])
    assert [epoch.time_ns for epoch in recording.epochs] == [from_week(WEEK, TOW_S + second) for second in (0, 2)]
    ephemerides = session.ephemerides.snapshot()
    assert len(ephemerides.kepler) == 1
    assert ephemerides.klobuchar_beidou.tolist() == [1, 0, 0, 0, 0, 0, 0, 8]


@pytest.mark.parametrize(
    ("name", "values"),
    [("GLONav", {"SVID": 39, "FreqNr": 255}), ("GALNav", {"SVID": 71, "Source": 3}), ("GPSNav", {"PRN": 254}),
     ("GPSNav", {"PRN": 1, "TOW": 2**32 - 1})],
)  # fmt: skip
def test_a_navigation_block_with_values_that_cannot_be_is_named(name: str, values: dict[str, float]) -> None:
    number = {"GLONav": 4004, "GALNav": 4002, "GPSNav": 5891}[name]
    with pytest.raises(FormatError, match=f"block {number}"):
        sbf.navigation(number, navigation_block(name, number, TIME | values))


@given(st.binary(max_size=200), st.integers(0, 110))
def test_what_is_no_block_raises_nothing_but_what_is_documented(noise: bytes, cut: int) -> None:
    assert all(len(found) >= 8 for _, found in sbf.sbf_blocks(noise + measured()[:cut]))
    for number in (sbf.MEAS_EPOCH, *sbf.NAVIGATION, *sbf.IONOSPHERE):
        for _, found in sbf.sbf_blocks(block(number, noise)):
            try:
                if number == sbf.MEAS_EPOCH:
                    sbf.meas_epoch(found, Tracking(), new_channels())
                elif number in sbf.NAVIGATION:
                    sbf.navigation(number, found)
                else:
                    sbf.ionosphere(found)
            except FormatError:
                continue
