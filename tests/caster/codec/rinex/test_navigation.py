import math
from pathlib import Path

import numpy as np
import pyrtklib5 as rtklib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caster.codec.rinex.header import parse_number
from caster.codec.rinex.navigation import Navigation, read_navigation
from caster.errors import FormatError
from solver.model import NavMessage
from solver.signals import satellite_name, satellite_of_name
from solver.timescale import NS, from_week, to_datetime, week_and_tow
from tests.caster.codec.rinex.samples import content, labelled, package_file

HEADER_4 = labelled(
    ("     4.01           NAVIGATION DATA     M", "RINEX VERSION / TYPE"),
    ("", "END OF HEADER"),
)
_ORBIT = """\
     2.000000000000e+00-1.312968750000e+02 1.830790545489e-09-1.113053174561e-02
    -4.224013537169e-06 3.731879405677e-04 2.421811223030e-05 5.282613424224e+03
     3.960000000000e+04 1.401640474796e-07-1.788970217905e-01-9.313225746155e-08
     9.580442700691e-01-7.400781250000e+02-2.180640098699e+00-6.721708557570e-10
"""
FIRST_LINE = "{} 2020 11 29 11 00 00-4.299242282286e-04-7.409006741455e-11 0.000000000000e+00\n"
BEIDOU_CNV1 = (
    "> EPH C21 CNV1\n"
    + FIRST_LINE.format("C21")
    + _ORBIT
    + """\
     6.878857960617e-10 1.000000000000e-14 3.000000000000e+00 3.930000000000e+04
     1.000000000000e+00 2.000000000000e+00 3.000000000000e+00 4.000000000000e+00
     5.820766091347e-10 0.000000000000e+00-3.000000000000e-10-9.000000000000e-09
     0.000000000000e+00 1.000000000000e+00 7.000000000000e+00 1.100000000000e+01
     4.112760000000e+04                                       4.500000000000e+01
"""
)
GPS_CNAV = (
    "> EPH G21 CNAV\n"
    + FIRST_LINE.format("G21")
    + _ORBIT
    + """\
     6.878857960617e-10 1.000000000000e-14 0.000000000000e+00 1.000000000000e+00
     2.000000000000e+00 1.000000000000e+00-3.000000000000e-10 3.000000000000e+00
     1.000000000000e-09 2.000000000000e-09 3.000000000000e-09
     4.112760000000e+04 2.134000000000e+03
"""
)
OTHERS = """\
> STO G01 LNAV
    2020 11 29 11 00 00 GPUT
     4.112760000000e+04 0.000000000000e+00 0.000000000000e+00 0.000000000000e+00
> ION G21 LNAV
    2020 11 29 11 00 00 1.490100000000e-08-1.490100000000e-08-5.960500000000e-08
     1.192100000000e-07 1.208300000000e+05-2.293800000000e+05-6.553600000000e+04
     8.519700000000e+05 0.000000000000e+00
"""


def test_beidou_cnv1_gives_its_own_delays_and_issue() -> None:
    navigation = read_navigation((HEADER_4 + BEIDOU_CNV1).encode())
    (record,) = navigation.ephemerides.kepler
    assert (satellite_name(record["sat"]), record["message"]) == ("C21", NavMessage.CNV1)
    assert (record["a_dot"], record["delta_n_dot"], record["iode"], record["iodc"]) == (2.0, 1e-14, 45, 11)
    assert (record["tgd_b1cp"], record["tgd_b2ap"], record["isc_l1cd"]) == (-3e-10, -9e-9, 5.820766091347e-10)
    assert math.isnan(record["tgd_b2bi"])
    assert (record["toe_s"], record["health"]) == (39600.0, 1)
    assert to_datetime(int(record["toe_ns"])).isoformat() == "2020-11-29T11:00:14"
    assert record["toc_ns"] == record["toe_ns"]


def test_gps_cnav_takes_its_toc_for_toe_and_leaves_unsent_corrections_unknown() -> None:
    (record,) = read_navigation((HEADER_4 + GPS_CNAV).encode()).ephemerides.kepler
    assert record["message"] == NavMessage.CNAV
    assert record["toe_s"] == week_and_tow(int(record["toc_ns"]))[1] == 39600.0
    assert (record["isc_l1ca"], record["isc_l5i"]) == (1e-9, 3e-9)
    assert math.isnan(record["isc_l5q"])
    assert record["accuracy_m"] == 4.0  # 2 ** (1 + 2 / 2)


def test_other_records_are_counted_and_the_ionosphere_is_kept() -> None:
    navigation = read_navigation((HEADER_4 + OTHERS + GPS_CNAV).encode())
    assert navigation.skipped == 1
    assert len(navigation.ephemerides.kepler) == 1
    assert navigation.ephemerides.klobuchar_gps[[0, 3, 7]].tolist() == [1.4901e-08, 1.1921e-07, 8.5197e05]


def test_a_damaged_record_is_named_and_the_others_are_kept() -> None:
    navigation = read_navigation((HEADER_4 + GPS_CNAV.replace("3.7318", "3.7x18") + BEIDOU_CNV1).encode())
    assert [satellite_name(record["sat"]) for record in navigation.ephemerides.kepler] == ["C21"]
    assert len(navigation.warnings) == 1
    assert navigation.warnings[0].startswith("line 3: ")


@pytest.mark.parametrize(
    ("text", "number"),
    [(" .499063314480-269", 0.49906331448e-269), ("-1.5D-01", -0.15), ("2.e+3", 2000.0), (" 7", 7.0)],
)
def test_exponents_of_three_digits_have_no_letter(text: str, number: float) -> None:
    assert parse_number(text) == number


def test_an_orbit_of_no_satellite_is_refused() -> None:
    navigation = read_navigation((HEADER_4 + GPS_CNAV.replace("5.282613424224e+03", "0.000000000000e+00")).encode())
    assert len(navigation.ephemerides.kepler) == 0
    assert "not an orbit" in navigation.warnings[0]


RINEX_2_GLONASS = labelled(
    ("     2.10           GLONASS NAV DATA", "RINEX VERSION / TYPE"), ("", "END OF HEADER")
) + """\
 7 12  1  1  0 15  0.0 1.123412340000D-04 9.094947017729D-13 8.400000000000D+02
    1.061943115234D+04 8.324613571167D-01-9.313225746155D-10 0.000000000000D+00
   -1.282514697266D+04-1.884870529175D+00 1.862645149231D-09 5.000000000000D+00
    1.925341699219D+04-1.712661743164D+00-2.793967723846D-09 1.000000000000D+00
"""  # fmt: skip


def test_rinex_2_glonass_states_become_metres_and_gpst() -> None:
    (record,) = read_navigation(RINEX_2_GLONASS.encode()).ephemerides.glonass
    assert (satellite_name(record["sat"]), record["channel"], record["age_days"]) == ("R07", 5, 1)
    assert record["position_m"] == pytest.approx([10619431.15234, -12825146.97266, 19253416.99219], abs=1e-6)
    assert to_datetime(int(record["toe_ns"])).isoformat() == "2012-01-01T00:15:15"  # 15 leap seconds
    assert to_datetime(int(record["transmitted_ns"])).isoformat() == "2012-01-01T00:14:15"
    assert record["iode"] == 13  # 03:15 of Moscow in quarters of an hour
    assert (record["clock_bias_s"], record["clock_drift"]) == (1.12341234e-04, 9.094947017729e-13)


@pytest.mark.parametrize(
    "text", ["", "x", HEADER_4[:100], HEADER_4.replace("N", "O"), HEADER_4.replace("4.01", "7.01")]
)
def test_what_is_no_navigation_file_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        read_navigation(text.encode())


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from([HEADER_4 + OTHERS + GPS_CNAV + BEIDOU_CNV1, RINEX_2_GLONASS]))
def test_damage_anywhere_gives_records_or_a_named_error(data: st.DataObject, text: str) -> None:
    raw = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 10))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place : place + data.draw(st.integers(0, 3))] = data.draw(
            st.binary(max_size=3) | st.sampled_from([b"9", b"e+99", b"nan", b"inf", b"-", b"\n"])
        )
    try:
        navigation = read_navigation(bytes(raw[: data.draw(st.integers(0, len(raw)))]))
    except FormatError:
        return
    assert np.isfinite(navigation.ephemerides.kepler["sqrt_a"]).all()
    assert np.isfinite(navigation.ephemerides.glonass["position_m"]).all()


def rtklib_navigation(path: Path, folder: Path) -> rtklib.nav_t:
    plain = folder / "plain.nav"
    plain.write_bytes(content(path))
    observations, navigation, station = rtklib.obs_t(), rtklib.nav_t(), rtklib.sta_t()
    assert rtklib.readrnx(str(plain), 1, "", observations, navigation, station) > 0
    return navigation


def name_of(sat: int) -> str:
    name = rtklib.Arr1Dchar(8)
    rtklib.satno2id(sat, name)
    return f"S{int(name.ptr) - 100}" if name.ptr.isdecimal() else str(name.ptr)


def gpst_ns(time: rtklib.gtime_t) -> int:
    return int((time.time - 315_964_800) * NS + round(time.sec * 1e9))


KEPLER_FIELDS = {
    "e": "e", "i0": "i0", "omega0": "OMG0", "omega": "omg", "m0": "M0", "delta_n": "deln", "i_dot": "idot",
    "omega_dot": "OMGd", "cuc": "cuc", "cus": "cus", "crc": "crc", "crs": "crs", "cic": "cic", "cis": "cis",
    "af0": "f0", "af1": "f1", "af2": "f2", "toe_s": "toes", "iode": "iode", "health": "svh",
}  # fmt: skip


def assert_equal_to_rtklib(navigation: Navigation, theirs: rtklib.nav_t) -> tuple[int, int]:
    """Every record of RTKLIB is among ours with the same fields; returns how many there were."""
    ours = {
        (int(record["sat"]), int(record["toe_ns"]), record["message"] == NavMessage.FNAV, int(record["iode"])): record
        for record in navigation.ephemerides.kepler
    }
    orbits = sorted((theirs.eph[index] for index in range(theirs.n)), key=lambda eph: gpst_ns(eph.ttr))
    # Of records of one issue (Galileo repeats them with other group delays) the one sent last is kept.
    last = {
        (satellite_of_name(name), gpst_ns(eph.toe), name[0] == "E" and bool(eph.code & 0x100), eph.iode): eph
        for eph, name in ((eph, name_of(eph.sat)) for eph in orbits)
    }
    assert last.keys() <= ours.keys()  # it knows no BeiDou satellites beyond C46
    for key, eph in last.items():
        record = ours[key]
        for field, name in KEPLER_FIELDS.items():
            assert record[field] == getattr(eph, name), (name_of(eph.sat), field)
        assert abs(record["sqrt_a"] ** 2 - eph.A) < 1e-6
        assert record["toc_ns"] == gpst_ns(eph.toc)
        assert record["tgd2"] == eph.tgd[1] or name_of(eph.sat)[0] in "GJ"
        assert record["transmitted_ns"] == gpst_ns(eph.ttr)
    states = {(int(record["sat"]), int(record["toe_ns"])): record for record in navigation.ephemerides.glonass}
    for index in range(theirs.ng):
        state = theirs.geph[index]
        record = states[satellite_of_name(name_of(state.sat)), gpst_ns(state.toe)]
        np.testing.assert_array_equal(record["position_m"], [state.pos[axis] for axis in range(3)])
        np.testing.assert_array_equal(record["velocity_mps"], [state.vel[axis] for axis in range(3)])
        np.testing.assert_array_equal(record["acceleration_mps2"], [state.acc[axis] for axis in range(3)])
        assert (record["clock_bias_s"], record["clock_drift"]) == (-state.taun, state.gamn)
        assert (record["channel"], record["health"], record["age_days"]) == (state.frq, state.svh, state.age)
        assert record["iode"] == state.iode
    return int(theirs.n), int(theirs.ng)


@pytest.mark.parametrize(
    ("name", "orbits", "states"),
    [
        ("nl-network-2021001/CBW100NLD_R_20210010000_01D_MN.rnx.xz", 1800, 450),
        ("mosaic-car-barcelona/CARD00ESP_R_20203340900_15H_MN.rnx.xz", 125, 40),
        ("bds-monitor-418m/convbin-540423494727.2026-05-15.nav.xz", 300, 0),
        ("matrtklib-static-2024-1m/base.nav.xz", 90, 15),
        ("cssrlib-static-2021078-5km/30340780.21q.xz", 90, 0),
    ],
)
def test_rtklib_reads_the_same_ephemerides(
    name: str, orbits: int, states: int, shared_data: Path, tmp_path: Path
) -> None:
    navigation = read_navigation(content(shared_data / name))
    assert not navigation.warnings
    counts = assert_equal_to_rtklib(navigation, rtklib_navigation(shared_data / name, tmp_path))
    assert counts[0] >= orbits
    assert counts[1] >= states


def test_public_ephemerides_equal_rtklibs(tmp_path: Path) -> None:
    path = package_file("cssrlib", "data/SEPT078M.21P")
    navigation = read_navigation(content(path))
    assert_equal_to_rtklib(navigation, rtklib_navigation(path, tmp_path))
    kinds = {satellite_name(r["sat"])[0] + NavMessage(r["message"]).name for r in navigation.ephemerides.kepler}
    assert kinds == {"GLNAV", "EINAV", "EFNAV", "JLNAV"}
    assert navigation.ephemerides.kepler["toe_ns"].min() > from_week(2148, 0)
