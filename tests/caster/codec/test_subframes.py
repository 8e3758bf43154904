"""Navigation bits of Galileo, BeiDou and GLONASS, packed here in the order of the interface documents' figures."""

import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caster.codec.rtcm.framing import crc24q
from caster.codec.sbf_navigation import RAW_NAVIGATION, take_raw
from caster.codec.subframes import SubframeCollector
from caster.codec.ubx import SFRBX
from caster.codec.ubx_navigation import take_bits
from solver.constants import ICD_PI
from solver.model import NavMessage
from solver.observed import Selection
from solver.signals import satellite_name
from solver.timescale import BDT_OFFSET_S, DAY_NS, NS, from_week
from stations.recordings import Session
from stations.solve import prepare, run

WEEK, TOW_S = 2360, 212_400
NOW_NS = from_week(WEEK, TOW_S + 40)
RAW = {  # integers as they are sent
    "toe": TOW_S // 60, "toc": TOW_S // 60, "m0": -(2**30), "e": 12_345_678, "sqrt_a": 2_853_000_000, "omega0": 2**29,
    "i0": 2**29 + 5, "omega": -7, "idot": -100, "omega_dot": -15_000, "delta_n": 7_000, "cuc": -1_000, "cus": 2_000,
    "crc": 3_000, "crs": -400, "cic": -3, "cis": 4, "sisa": 107, "af0": -(2**20), "af1": -77, "af2": 1, "iod": 101,
    "bgd_a": -5, "bgd_b": -6, "tow": TOW_S + 30,
}  # fmt: skip
INAV = (
    (("type", 6), ("iod", 10), ("toe", 14), ("m0", 32), ("e", 32), ("sqrt_a", 32), ("", 2)),
    (("type", 6), ("iod", 10), ("omega0", 32), ("i0", 32), ("omega", 32), ("idot", 14), ("", 2)),
    (("type", 6), ("iod", 10), ("omega_dot", 24), ("delta_n", 16), ("cuc", 16), ("cus", 16), ("crc", 16), ("crs", 16),
     ("sisa", 8)),
    (("type", 6), ("iod", 10), ("svid", 6), ("cic", 16), ("cis", 16), ("toc", 14), ("af0", 31), ("af1", 21),
     ("af2", 6), ("", 2)),
    (("type", 6), ("iono", 41), ("bgd_a", 10), ("bgd_b", 10), ("e5b_health", 2), ("e1b_health", 2),
     ("e5b_invalid", 1), ("e1b_invalid", 1), ("wn", 12), ("tow", 20), ("", 23)),
)  # fmt: skip
HEAD = (("preamble", 11), ("", 4), ("fraid", 3), ("sow", 20))
D1 = (
    (*HEAD, ("health", 1), ("aodc", 5), ("ura", 4), ("wn", 13), ("toc8", 17), ("tgd1", 10), ("tgd2", 10),
     *((f"k{index}", 8) for index in range(8)), ("a2", 11), ("a0", 24), ("a1", 22), ("aode", 5)),
    (*HEAD, ("delta_n", 16), ("cuc", 18), ("m0", 32), ("e", 32), ("cus", 18), ("crc", 18), ("crs", 18),
     ("sqrt_a", 32), ("toe_high", 2)),
    (*HEAD, ("toe_low", 15), ("i0", 32), ("cic", 18), ("omega_dot", 24), ("cis", 18), ("idot", 14), ("omega0", 32),
     ("omega", 32), ("", 1)),
)  # fmt: skip
PAGE = (*HEAD, ("page", 4))
D2 = (
    (*PAGE, ("health", 1), ("aodc", 5), ("ura", 4), ("wn", 13), ("toc8", 17), ("tgd1", 10), ("tgd2", 10)),
    (*PAGE, *((f"k{index}", 8) for index in range(8))),
    (*PAGE, ("", 38), ("a0", 24), ("a1_high", 4)),
    (*PAGE, ("a1_low", 18), ("a2", 11), ("aode", 5), ("delta_n", 16), ("cuc_high", 14)),
    (*PAGE, ("cuc_low", 4), ("m0", 32), ("cus", 18), ("e_high", 10)),
    (*PAGE, ("e_low", 22), ("sqrt_a", 32), ("cic_high", 10)),
    (*PAGE, ("cic_low", 8), ("cis", 18), ("toe8", 17), ("i0_high", 21)),
    (*PAGE, ("i0_low", 11), ("crc", 18), ("crs", 18), ("omega_dot_high", 19)),
    (*PAGE, ("omega_dot_low", 5), ("omega0", 32), ("omega_high", 27)),
    (*PAGE, ("omega_low", 5), ("idot", 14)),
)  # fmt: skip
BEIDOU = RAW | {
    "health": 0, "aodc": 3, "aode": 4, "ura": 2, "toc8": TOW_S // 8, "toe8": TOW_S // 8, "tgd1": -12, "tgd2": 34,
    "a0": -(2**20), "a1": -(2**19), "a2": -3, "k0": 11, "k4": 80, "preamble": 0x712,
}  # fmt: skip


STRING_BITS = 128
"""Of a GLONASS string as it is handed over: 85, the idle bit first, and what follows."""


def packed(layout: tuple[tuple[str, int], ...], values: Mapping[str, int], size: int) -> int:
    bits = used = 0
    for name, width in layout:
        bits = bits << width | values.get(name, 0) & (1 << width) - 1
        used += width
    return bits << size - used


def pages(number: int, svid: int) -> tuple[int, int]:
    """An even and an odd page of 120 bits, with their checksum."""
    word = packed(INAV[number - 1], RAW | {"type": number, "svid": svid}, 128)
    even = (word >> 16) << 6
    odd = (1 << 119) | (word & 0xFFFF) << 102
    check = crc24q(((even >> 6) << 82 | odd >> 38).to_bytes(25, "big"))
    return even, odd | check << 14


def in_words(bits: int, size: int, count: int) -> tuple[int, ...]:
    """Words of 32 bits, the first bit in the highest of the first."""
    bits <<= 32 * count - size
    return tuple(bits >> 32 * (count - 1 - place) & 0xFFFFFFFF for place in range(count))


def sfrbx(gnss: int, number: int, signal: int, words: tuple[int, ...]) -> bytes:
    return struct.pack(f"<BBBBBBBB{len(words)}I", gnss, number, signal, 0, len(words), 0, 2, 0, *words)


def raw_block(svid: int, words: tuple[int, ...], *, passed: int = 1, tow_s: float = TOW_S + 40) -> bytes:
    head = struct.pack("<8xIHBBBBBB", round(tow_s * 1000), WEEK, svid, passed, 0, 0, 0, 0)
    return head + struct.pack(f"<{len(words)}I", *words)


def with_parity(bits: int) -> list[int]:
    """224 bits of information as ten words of 30, their parity left at nought."""
    words, left = [], 224
    for width in (26, *(22,) * 9):
        left -= width
        words.append((bits >> left & (1 << width) - 1) << 30 - width)
    return words


def galileo_of_ubx(numbers: tuple[int, ...] = (2, 4, 1, 3, 5)) -> SubframeCollector:
    collector = SubframeCollector()
    for number in numbers:
        even, odd = pages(number, 21)
        words = (*in_words(even, 120, 4), *in_words(odd, 120, 4))
        take_bits(collector, SFRBX, sfrbx(2, 21, 1, words), NOW_NS)
    return collector


def strings(z_km: int, tb: int = 33) -> dict[int, int]:
    """The strings of a GLONASS frame by their number, the same but for one coordinate and the time."""
    places = {1: 10_000, 2: 12_000, 3: z_km}
    of_vector = {axis: km << 11 << STRING_BITS - 77 for axis, km in places.items()}
    number = {n: n << STRING_BITS - 5 for n in range(1, 5)}
    return {n: number[n] | of_vector.get(n, 0) | (tb << STRING_BITS - 16 if n == 2 else 0) for n in range(1, 5)}


def test_glonass_strings_of_two_frames_make_no_orbit() -> None:
    """One that was lost would be taken from the frame before, which may be of an older issue: thousands of km off."""
    collector = SubframeCollector()
    for began_s, frame, lost in ((0, strings(19_000), 4), (30, strings(20_000), 3), (60, strings(20_000), 0)):
        for number, bits in frame.items():
            if number != lost:
                collector.take_string(70, bits, 1, NOW_NS + (began_s + 2 * number) * NS)
        assert len(collector.glonass) == (began_s == 60)
    assert collector.glonass[0]["position_m"].tolist() == [[10_000e3, 12_000e3, 20_000e3]]


def test_a_glonass_orbit_of_the_next_day_is_another_though_its_time_of_day_is_the_same() -> None:
    collector = SubframeCollector()
    for day in (0, 0, 1):
        for number, bits in strings(19_000).items():
            collector.take_string(70, bits, 1, NOW_NS + 2 * number * NS + day * DAY_NS)
    assert np.diff([record["toe_ns"][0] for record in collector.glonass]).tolist() == [DAY_NS]


def test_galileo_words_in_a_ubx_log_make_an_orbit() -> None:
    (record,) = galileo_of_ubx().kepler
    row = record[0]
    assert (satellite_name(row["sat"]), row["message"], row["iode"]) == ("E21", NavMessage.INAV, 101)
    assert row["toe_ns"] == row["toc_ns"] == from_week(WEEK, TOW_S)
    assert row["transmitted_ns"] == from_week(WEEK, TOW_S + 30)
    assert row["m0"] == pytest.approx(-ICD_PI / 2)
    assert row["e"] == 12_345_678 * 2**-33
    assert row["sqrt_a"] == 2_853_000_000 * 2**-19
    assert row["omega_dot"] == pytest.approx(-15_000 * 2**-43 * ICD_PI)
    assert row["i_dot"] == pytest.approx(-100 * 2**-43 * ICD_PI)
    assert (row["crc"], row["crs"], row["cic"]) == (3_000 / 32, -400 / 32, -3 * 2**-29)
    assert (row["af0"], row["af1"], row["af2"]) == (-(2**20) * 2**-34, -77 * 2**-46, 2**-59)
    assert (row["tgd1"], row["tgd2"], row["accuracy_m"]) == (-5 * 2**-32, -6 * 2**-32, pytest.approx(3.12))
    assert row["health"] == 0


def test_galileo_words_of_two_issues_make_no_orbit(monkeypatch: pytest.MonkeyPatch) -> None:
    assert galileo_of_ubx((1, 2, 3, 5)).kepler == []
    collector = galileo_of_ubx((1, 2, 3, 5))
    monkeypatch.setitem(RAW, "iod", 102)
    even, odd = pages(4, 21)
    take_bits(collector, SFRBX, sfrbx(2, 21, 1, (*in_words(even, 120, 4), *in_words(odd, 120, 4))), NOW_NS)
    assert collector.kepler == []


def test_a_galileo_page_with_a_wrong_checksum_is_left_out() -> None:
    collector = galileo_of_ubx((2, 4, 1, 3))
    even, odd = pages(5, 21)
    take_bits(collector, SFRBX, sfrbx(2, 21, 1, (*in_words(even ^ 1 << 50, 120, 4), *in_words(odd, 120, 4))), NOW_NS)
    assert collector.kepler == []


def test_galileo_pages_in_an_sbf_log_make_the_same_orbit() -> None:
    collector = SubframeCollector()
    for passed in (0, 1):
        assert collector.kepler == []
        for number in (1, 2, 3, 4, 5):
            even, odd = pages(number, 21)
            take_raw(collector, 4023, raw_block(91, in_words((even >> 6) << 120 | odd, 234, 8), passed=passed))
    assert collector.kepler[0].tobytes() == galileo_of_ubx().kepler[0].tobytes()


def beidou_subframes(geostationary: bool) -> list[int]:
    halves = {
        f"{name}_{part}": value >> low if part == "high" else value
        for name, value, low in (
            ("toe", TOW_S // 8, 15), ("a1", BEIDOU["a1"], 18), ("cuc", RAW["cuc"], 4), ("e", RAW["e"], 22),
            ("cic", RAW["cic"], 8), ("i0", RAW["i0"], 11), ("omega_dot", RAW["omega_dot"], 5),
            ("omega", RAW["omega"], 5),
        )
        for part in ("high", "low")
    }  # fmt: skip
    layouts, step = (D2, 3) if geostationary else (D1, 6)
    sow = TOW_S - BDT_OFFSET_S + BDT_OFFSET_S
    return [
        packed(
            layout,
            BEIDOU
            | halves
            | {"fraid": 1 if geostationary else place + 1, "page": place + 1, "sow": sow + step * place},
            224,
        )
        for place, layout in enumerate(layouts)
    ]


@pytest.mark.parametrize(("geostationary", "number"), [(False, 21), (True, 3)])
@pytest.mark.parametrize("log", ["ubx", "sbf"])
def test_beidou_subframes_make_an_orbit(geostationary: bool, number: int, log: str) -> None:
    collector = SubframeCollector()
    for bits in beidou_subframes(geostationary):
        words = with_parity(bits)
        if log == "ubx":
            take_bits(collector, SFRBX, sfrbx(3, number, 10 if geostationary else 4, tuple(words)), NOW_NS)
        else:
            joined = int("".join(f"{word:030b}" for word in words), 2)
            take_raw(collector, 4047, raw_block(140 + number, in_words(joined, 300, 10)))
    (record,) = collector.kepler
    row = record[0]
    assert satellite_name(row["sat"]) == f"C{number:02d}"
    assert row["toe_ns"] == row["toc_ns"] == from_week(WEEK, TOW_S) + BDT_OFFSET_S * NS
    assert row["transmitted_ns"] == from_week(WEEK, TOW_S) + BDT_OFFSET_S * NS
    assert row["toe_s"] == TOW_S
    assert (row["iode"], row["iodc"], row["accuracy_m"], row["health"]) == (4, 3, 4.0, 0)
    assert row["e"] == 12_345_678 * 2**-33
    assert row["sqrt_a"] == 2_853_000_000 * 2**-19
    assert row["cuc"] == -1_000 * 2**-31
    assert row["cic"] == -3 * 2**-31
    assert row["i0"] == pytest.approx((2**29 + 5) * 2**-31 * ICD_PI, rel=1e-15)
    assert row["omega"] == pytest.approx(-7 * 2**-31 * ICD_PI, rel=1e-15)
    assert row["omega_dot"] == pytest.approx(-15_000 * 2**-43 * ICD_PI, rel=1e-15)
    assert row["i_dot"] == pytest.approx(-100 * 2**-43 * ICD_PI, rel=1e-15)
    assert (row["af0"], row["af1"], row["af2"]) == (-(2**20) * 2**-33, -(2**19) * 2**-50, -3 * 2**-66)
    assert (row["tgd1"], row["tgd2"]) == (pytest.approx(-1.2e-9), pytest.approx(3.4e-9))
    assert collector.klobuchar_beidou[[0, 4]].tolist() == [11 * 2**-30, 80 * 2**11]


def test_beidou_subframes_of_two_frames_make_no_orbit() -> None:
    collector = SubframeCollector()
    first, second, third = (with_parity(bits) for bits in beidou_subframes(False))
    later = packed(HEAD, {"fraid": 3, "sow": TOW_S + 42}, 224)
    for words in (first, second, with_parity(later)):
        take_bits(collector, SFRBX, sfrbx(3, 21, 0, tuple(words)), NOW_NS)
    assert collector.kepler == []
    take_bits(collector, SFRBX, sfrbx(3, 21, 0, tuple(third)), NOW_NS)
    assert collector.kepler == []


@pytest.mark.parametrize("systems", ["E", "C"])
def test_a_log_is_positioned_by_the_navigation_bits_inside_it(systems: str, shared_data: Path) -> None:
    log = shared_data / "rover-raw-logs/f9p-walk-20250828.ubx.xz"
    own = [fix for fix in run(prepare("single", [log], [], [], Selection(systems))) if fix.quality]
    everything = {fix.time_ns: fix for fix in run(prepare("single", [log], [], [], Selection("GREJC"))) if fix.quality}
    away_m = [np.linalg.norm(fix.position_ecef_m - everything[fix.time_ns].position_ecef_m) for fix in own]
    assert len(own) > 100
    assert np.median(away_m) < 15


def test_beidou_orbits_in_a_log_are_those_that_convbin_writes(shared_data: Path, tmp_path: Path) -> None:
    import subprocess

    from caster.codec.rinex.navigation import read_navigation
    from tests.caster.codec.rinex.samples import content

    log = tmp_path / "walk.ubx"
    log.write_bytes(content(shared_data / "rover-raw-logs/f9p-walk-20250828.ubx.xz"))
    subprocess.run(["convbin", "-r", "ubx", "-v", "3.04", "-n", tmp_path / "walk.nav", log], check=True, timeout=60)
    session = Session()
    session.read([log])
    mine = {(int(row["sat"]), int(row["toe_ns"])): row for row in session.ephemerides.snapshot().kepler}
    theirs = [row for row in read_navigation((tmp_path / "walk.nav").read_bytes()).ephemerides.kepler if row["message"]]
    assert len(theirs) >= 8
    for row in theirs:
        record = mine[int(row["sat"]), int(row["toe_ns"])]
        for name in ("message", "iode", "iodc", "toc_ns", "health", "accuracy_m", "toe_s", "sqrt_a", "e", "i0",
                     "omega0", "omega", "m0", "delta_n", "i_dot", "omega_dot", "cuc", "cus", "crc", "crs", "cic",
                     "cis", "af0", "af1", "af2", "tgd1", "tgd2"):  # fmt: skip
            assert record[name] == pytest.approx(row[name], rel=1e-11, abs=1e-30), name


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(RAW_NAVIGATION)), st.binary(max_size=80), st.binary(max_size=80))
def test_any_bits_are_taken_or_left(number: int, block: bytes, payload: bytes) -> None:
    collector = SubframeCollector()
    take_raw(collector, number, block)
    take_bits(collector, SFRBX, payload, NOW_NS)
