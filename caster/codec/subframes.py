"""Navigation bits as receivers log them, to ephemerides: LNAV, GLONASS strings, Galileo I/NAV, BeiDou D1 and D2.

A message's fields are tables of place, width and scale. The parts of one satellite are collected until they make a
whole of one issue. Full weeks and days come from the receiver's time. Galileo F/NAV, CNAV and B-CNAV bits are left
alone: their satellites send one of the others as well. Sources: IS-GPS-200 section 20.3.3 (figure 20-1); GLONASS ICD
edition 5.1 table 4.5; Galileo OS SIS ICD issue 2.1 section 4.3; BDS-SIS-ICD-B1I version 3.0 sections 5.2 and 5.3.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from caster.codec.rtcm.ephemeris import to_record
from caster.codec.rtcm.framing import crc24q
from caster.codec.rtcm.messages import Message
from solver import signals
from solver.constants import ICD_PI
from solver.model import GLONASS_STATE, KEPLER, NavMessage
from solver.timescale import (
    BDT_OFFSET_S,
    DAY_NS,
    GLONASST_UTC_S,
    NS,
    WEEK_NS,
    from_utc,
    nearest_week,
    to_utc,
)

__all__ = ["PAGE_BITS", "SubframeCollector", "without_parity"]

Field = tuple[int, int, bool, float]
"""First bit, width, signed, scale."""

_LNAV: Final[dict[int, dict[str, Field]]] = {
    1: {
        "ura": (60, 4, False, 1), "health": (64, 6, False, 1), "iodc_high": (70, 2, False, 256),
        "tgd1": (160, 8, True, 2**-31), "iodc_low": (168, 8, False, 1), "toc_s": (176, 16, False, 16),
        "af2": (192, 8, True, 2**-55), "af1": (200, 16, True, 2**-43), "af0": (216, 22, True, 2**-31),
    },
    2: {
        "iode": (48, 8, False, 1), "crs": (56, 16, True, 2**-5), "delta_n": (72, 16, True, 2**-43 * ICD_PI),
        "m0": (88, 32, True, 2**-31 * ICD_PI), "cuc": (120, 16, True, 2**-29), "e": (136, 32, False, 2**-33),
        "cus": (168, 16, True, 2**-29), "sqrt_a": (184, 32, False, 2**-19), "toe_s": (216, 16, False, 16),
        "fit": (232, 1, False, 1),
    },
    3: {
        "cic": (48, 16, True, 2**-29), "omega0": (64, 32, True, 2**-31 * ICD_PI), "cis": (96, 16, True, 2**-29),
        "i0": (112, 32, True, 2**-31 * ICD_PI), "crc": (144, 16, True, 2**-5),
        "omega": (160, 32, True, 2**-31 * ICD_PI), "omega_dot": (192, 24, True, 2**-43 * ICD_PI),
        "iode3": (216, 8, False, 1), "i_dot": (224, 14, True, 2**-43 * ICD_PI),
    },
}  # fmt: skip
_KLOBUCHAR: Final[tuple[Field, ...]] = tuple(
    (56 + 8 * index, 8, True, scale)
    for index, scale in enumerate((2**-30, 2**-27, 2**-24, 2**-24, 2**11, 2**14, 2**16, 2**16))
)
_KLOBUCHAR_PAGE: Final = 56  # SV id of subframe 4 page 18
_URA_M: Final = (2.4, 3.4, 4.85, 6.85, 9.65, 13.65, 24, 48, 96, 192, 384, 768, 1536, 3072, 6144, float("nan"))
"""IS-GPS-200 section 20.3.3.3.1.3, upper bounds."""
_LONG_FIT_S: Final = 6 * 3600.0
_PARTS_AGE_MAX_NS: Final = 60 * NS
_STRINGS_NS: Final = 15 * NS
"""The four GLONASS strings of a frame last 8 s; the frame before began 30 s earlier."""

_GLONASS: Final[dict[int, dict[str, Field]]] = {
    1: {"tk_h": (9, 5, False, 3600), "tk_m": (14, 6, False, 60), "tk_30": (20, 1, False, 30)},
    2: {"health": (5, 1, False, 1), "tb_s": (9, 7, False, 900)},
    3: {"gamma": (6, 11, True, 2**-40)},
    4: {"tau": (5, 22, True, 2**-30), "delta_tau": (27, 5, True, 2**-30), "age": (32, 5, False, 1),
        "ft": (52, 4, False, 1)},
}  # fmt: skip
_VECTOR: Final[dict[str, Field]] = {
    "velocity_mps": (21, 24, True, 2**-20 * 1e3),
    "acceleration_mps2": (45, 5, True, 2**-30 * 1e3),
    "position_m": (50, 27, True, 2**-11 * 1e3),
}
_ACCURACY_M: Final = (1, 2, 2.5, 4, 5, 7, 10, 12, 14, 16, 32, 64, 128, 256, 512, float("nan"))
_STRING_BITS: Final = 128

_WORD_BITS: Final = 128
PAGE_BITS: Final = 120
"""Of an I/NAV page with its tail bits; a word is what an even and an odd page carry between them."""
_INAV: Final[dict[int, dict[str, Field]]] = {
    1: {
        "iod1": (6, 10, False, 1), "toe_s": (16, 14, False, 60), "m0": (30, 32, True, 2**-31 * ICD_PI),
        "e": (62, 32, False, 2**-33), "sqrt_a": (94, 32, False, 2**-19),
    },
    2: {
        "iod2": (6, 10, False, 1), "omega0": (16, 32, True, 2**-31 * ICD_PI), "i0": (48, 32, True, 2**-31 * ICD_PI),
        "omega": (80, 32, True, 2**-31 * ICD_PI), "idot": (112, 14, True, 2**-43 * ICD_PI),
    },
    3: {
        "iod3": (6, 10, False, 1), "omega_dot": (16, 24, True, 2**-43 * ICD_PI),
        "delta_n": (40, 16, True, 2**-43 * ICD_PI), "cuc": (56, 16, True, 2**-29), "cus": (72, 16, True, 2**-29),
        "crc": (88, 16, True, 2**-5), "crs": (104, 16, True, 2**-5), "sisa": (120, 8, False, 1),
    },
    4: {
        "iodnav": (6, 10, False, 1), "sender": (16, 6, False, 1), "cic": (22, 16, True, 2**-29),
        "cis": (38, 16, True, 2**-29), "toc_s": (54, 14, False, 60), "af0": (68, 31, True, 2**-34),
        "af1": (99, 21, True, 2**-46), "af2": (120, 6, True, 2**-59),
    },
    5: {
        "bgd_e5a": (47, 10, True, 2**-32), "bgd_e5b": (57, 10, True, 2**-32), "e5b_health": (67, 2, False, 1),
        "e1b_health": (69, 2, False, 1), "e5b_invalid": (71, 1, False, 1), "e1b_invalid": (72, 1, False, 1),
        "tow_s": (85, 20, False, 1),
    },
}  # fmt: skip
"""Galileo OS SIS ICD tables 42 to 46, words of type 1 to 5."""

Pieces = tuple[tuple[int, int, int], ...]
"""Part, first bit and width of each piece of a field, the most significant first."""
_PARITY: Final = ((26, 4), *((22, 8),) * 9)
"""Bits of information and of parity in each word of BeiDou's D1 and D2: BDS-SIS-ICD-B1I figures 5-7 and 5-8."""
_BEIDOU_BITS: Final = sum(bits for bits, _ in _PARITY)
_FIRST_OF_D1: Final[dict[str, Pieces]] = {
    "health": ((1, 38, 1),), "aodc": ((1, 39, 5),), "ura": ((1, 44, 4),), "toc_s": ((1, 61, 17),),
    "tgd1": ((1, 78, 10),), "tgd2": ((1, 88, 10),), "a2": ((1, 162, 11),), "a0": ((1, 173, 24),),
    "a1": ((1, 197, 22),), "aode": ((1, 219, 5),),
}  # fmt: skip
_D1: Final[dict[str, Pieces]] = _FIRST_OF_D1 | {
    "delta_n": ((2, 38, 16),), "cuc": ((2, 54, 18),), "m0": ((2, 72, 32),), "e": ((2, 104, 32),),
    "cus": ((2, 136, 18),), "crc": ((2, 154, 18),), "crs": ((2, 172, 18),), "sqrt_a": ((2, 190, 32),),
    "toe_s": ((2, 222, 2), (3, 38, 15)), "i0": ((3, 53, 32),), "cic": ((3, 85, 18),), "omega_dot": ((3, 103, 24),),
    "cis": ((3, 127, 18),), "idot": ((3, 145, 14),), "omega0": ((3, 159, 32),), "omega": ((3, 191, 32),),
}  # fmt: skip
"""Subframes 1 to 3 without parity, figures 5-9 to 5-11."""
_D2: Final[dict[str, Pieces]] = {
    "health": ((1, 42, 1),), "aodc": ((1, 43, 5),), "ura": ((1, 48, 4),), "toc_s": ((1, 65, 17),),
    "tgd1": ((1, 82, 10),), "tgd2": ((1, 92, 10),), "a0": ((3, 80, 24),), "a1": ((3, 104, 4), (4, 42, 18)),
    "a2": ((4, 60, 11),), "aode": ((4, 71, 5),), "delta_n": ((4, 76, 16),), "cuc": ((4, 92, 14), (5, 42, 4)),
    "m0": ((5, 46, 32),), "cus": ((5, 78, 18),), "e": ((5, 96, 10), (6, 42, 22)), "sqrt_a": ((6, 64, 32),),
    "cic": ((6, 96, 10), (7, 42, 8)), "cis": ((7, 50, 18),), "toe_s": ((7, 68, 17),),
    "i0": ((7, 85, 21), (8, 42, 11)), "crc": ((8, 53, 18),), "crs": ((8, 71, 18),),
    "omega_dot": ((8, 89, 19), (9, 42, 5)), "omega0": ((9, 47, 32),), "omega": ((9, 79, 27), (10, 42, 5)),
    "idot": ((10, 47, 14),),
}  # fmt: skip
"""Pages 1 to 10 of subframe 1 without parity, figures 5-14."""
_BEIDOU_SCALES: Final[dict[str, tuple[bool, float]]] = {
    "health": (False, 1), "aodc": (False, 1), "ura": (False, 1), "aode": (False, 1), "toc_s": (False, 8),
    "toe_s": (False, 8), "tgd1": (True, 1e-10), "tgd2": (True, 1e-10), "a0": (True, 2**-33), "a1": (True, 2**-50),
    "a2": (True, 2**-66), "e": (False, 2**-33), "sqrt_a": (False, 2**-19), "crc": (True, 2**-6), "crs": (True, 2**-6),
    **dict.fromkeys(("cuc", "cus", "cic", "cis"), (True, 2**-31)),
    **dict.fromkeys(("m0", "i0", "omega0", "omega"), (True, 2**-31 * ICD_PI)),
    **dict.fromkeys(("delta_n", "omega_dot", "idot"), (True, 2**-43 * ICD_PI)),
}  # fmt: skip
"""Signed, and what the last bit is worth: tables 5-7 to 5-10."""
_BEIDOU_KLOBUCHAR: Final = {False: 98, True: 42}
"""First bit of the eight parameters, which are scaled as GPS's: in subframe 1 (D1), in page 2 (D2)."""
_D2_PAGES: Final = (1, 3, 4, 5, 6, 7, 8, 9, 10)


class SubframeCollector:
    """Puts a receiver's navigation bits together.

    Attributes:
        kepler: Records made so far, (1,) each.
        glonass: The same of GLONASS.
        klobuchar_gps: (8,) NaN until known.
        klobuchar_beidou: (8,) the same.
        channels: GLONASS frequency channel by slot.
    """

    def __init__(self) -> None:
        self.kepler: list[NDArray[Any]] = []
        self.glonass: list[NDArray[Any]] = []
        self.klobuchar_gps = np.full(8, np.nan)
        self.klobuchar_beidou = np.full(8, np.nan)
        self.channels: dict[int, int] = {}
        self._parts: dict[int, dict[int, tuple[int, int]]] = {}
        self._frames: dict[int, tuple[int, dict[int, int]]] = {}
        self._issued: set[tuple[int, int, int]] = set()

    def _complete(
        self, sat: int, number: int, bits: int, time_ns: int, count: int
    ) -> dict[int, tuple[int, int]] | None:
        """Keep a part; all parts of the satellite, if the first to the last are there and not old."""
        parts = self._parts.setdefault(sat, {})
        parts[number] = (time_ns, bits)
        fresh = [number for number, (kept_ns, _) in parts.items() if time_ns - kept_ns <= _PARTS_AGE_MAX_NS]
        return parts if set(range(1, count + 1)) <= set(fresh) else None

    def take_lnav(self, sat: int, words: list[int], time_ns: int) -> None:
        """Take ten words of 30 bits of a GPS or QZSS subframe, received at about an instant of GPST."""
        bits = 0
        for word in words:
            bits = bits << 24 | (word >> 6 & 0xFFFFFF)
        number = _field(bits, 240, (43, 3, False, 1))
        if number == 4 and _field(bits, 240, (50, 6, False, 1)) == _KLOBUCHAR_PAGE and sat < signals.PRN_PER_SYSTEM:
            self.klobuchar_gps = np.array([_field(bits, 240, place) for place in _KLOBUCHAR])
        if number not in _LNAV:
            return
        parts = self._complete(sat, int(number), bits, time_ns, 3)
        if parts is None:
            return
        value = {name: _field(parts[part][1], 240, place) for part in _LNAV for name, place in _LNAV[part].items()}
        one_issue = value["iode"] == value["iode3"] == value["iodc_low"]
        if one_issue and self._is_new(sat, int(value["iode"]), int(value["toe_s"])) and 2500 < value["sqrt_a"] < 10_000:
            sent_s = _field(parts[1][1], 240, (24, 17, False, 6)) - 6
            self.kepler.append(_lnav_record(sat, value, nearest_week(round(sent_s * NS), time_ns), time_ns))

    def take_string(self, sat: int, bits: int, channel: int, time_ns: int) -> None:
        """Take a GLONASS string as 128 bits, the idle bit first, sent on a frequency channel."""
        self.channels[sat % signals.PRN_PER_SYSTEM + 1] = channel
        number = int(_field(bits, _STRING_BITS, (1, 4, False, 1)))
        parts = self._complete(sat, number, bits, time_ns, 4) if number in _GLONASS else None
        if parts is None or number != 4 or any(time_ns - parts[part][0] > _STRINGS_NS for part in _GLONASS):
            return  # they carry no issue: one that was lost would be taken from the frame before
        value = {
            name: _field(parts[part][1], _STRING_BITS, place, magnitude=True)
            for part in _GLONASS
            for name, place in _GLONASS[part].items()
        }
        vectors = {
            name: [_field(parts[axis][1], _STRING_BITS, place, magnitude=True) for axis in (1, 2, 3)]
            for name, place in _VECTOR.items()
        }
        record = _state_record(sat, channel, value, vectors, time_ns)
        if self._is_new(sat, int(value["age"]), int(record["toe_ns"][0])):
            self.glonass.append(record)

    def take_inav(self, sat: int, even: int, odd: int, time_ns: int) -> None:
        """Take an even and an odd page of Galileo's I/NAV, `PAGE_BITS` each."""
        if even >> 118 != 0 or odd >> 118 != 2 or not _is_whole(even, odd):  # page parts, nominal pages alone
            return
        bits = (even >> 6 & (1 << 112) - 1) << 16 | odd >> 102 & 0xFFFF
        number = int(_field(bits, _WORD_BITS, (0, 6, False, 1)))
        parts = self._complete(sat, number, bits, time_ns, len(_INAV)) if number in _INAV else None
        if parts is None:
            return
        value = {
            name: _field(parts[part][1], _WORD_BITS, place) for part in _INAV for name, place in _INAV[part].items()
        }
        one_issue = value["iod1"] == value["iod2"] == value["iod3"] == value["iodnav"]
        own = value["sender"] == sat % signals.PRN_PER_SYSTEM + 1
        if one_issue and own and self._is_new(sat, int(value["iodnav"]), int(value["toe_s"])):
            self._keep(1046, sat, value, nearest_week(int(value["tow_s"]) * NS, time_ns), time_ns)

    def take_beidou(self, sat: int, bits: int, time_ns: int, *, geostationary: bool) -> None:
        """Take a subframe of D1, or of D2 (`geostationary`), as `without_parity` gives it."""
        number = int(_field(bits, _BEIDOU_BITS, (15, 3, False, 1)))
        page = int(_field(bits, _BEIDOU_BITS, (38, 4, False, 1))) if geostationary else number
        if number == 1 and page == (2 if geostationary else 1):
            first = _BEIDOU_KLOBUCHAR[geostationary]
            self.klobuchar_beidou = np.array(
                [
                    _field(bits, _BEIDOU_BITS, (first + 8 * index, 8, True, scale))
                    for index, (_, _, _, scale) in enumerate(_KLOBUCHAR)
                ]
            )
        wanted, layout, step_s = (_D2_PAGES, _D2, 3) if geostationary else ((1, 2, 3), _D1, 6)
        if page not in wanted or (geostationary and number != 1):
            return
        began_s = (int(_field(bits, _BEIDOU_BITS, (18, 20, False, 1))) - step_s * (page - 1)) % (WEEK_NS // NS)
        kept_s, parts = self._frames.get(sat, (began_s, {}))
        parts = parts if kept_s == began_s else {}
        parts[page] = bits
        self._frames[sat] = began_s, parts
        if len(parts) < len(wanted):
            return
        value = {name: _joined(parts, pieces, *_BEIDOU_SCALES[name]) for name, pieces in layout.items()}
        if self._is_new(sat, int(value["aode"]) << 5 | int(value["aodc"]), int(value["toe_s"])):
            self._keep(1042, sat, value, nearest_week((began_s + BDT_OFFSET_S) * NS, time_ns), time_ns)

    def _keep(self, number: int, sat: int, value: Mapping[str, float], sent_ns: int, time_ns: int) -> None:
        """Make a record by way of the RTCM message of the same data, if it is that of an orbit."""
        if not 2500 < value["sqrt_a"] < 10_000:
            return
        whole = {name: int(value[name]) for name in _WHOLE if name in value}
        record = to_record(
            Message(number, dict(value) | whole | {"satellite": sat % signals.PRN_PER_SYSTEM + 1}), time_ns
        )
        record["transmitted_ns"] = sent_ns
        self.kepler.append(record)

    def _is_new(self, sat: int, issue: int, time: int) -> bool:
        known = (sat, issue, time) in self._issued
        self._issued.add((sat, issue, time))
        return not known


def _field(bits: int, size: int, place: Field, *, magnitude: bool = False) -> float:
    """A field of a message as a number; signed ones in two's complement, or as sign and magnitude (GLONASS)."""
    first, width, signed, scale = place
    value = bits >> (size - first - width) & ((1 << width) - 1)
    if signed and value >> (width - 1):
        value = -(value & ((1 << (width - 1)) - 1)) if magnitude else value - (1 << width)
    return value * scale


_WHOLE: Final = ("ura", "sisa", "health", "e1b_health", "e1b_invalid", "e5b_health", "e5b_invalid")
"""Fields that are indices or bits."""


def without_parity(words: list[int]) -> int:
    """The bits of information of ten BeiDou words of 30 bits."""
    bits = 0
    for word, (count, parity) in zip(words, _PARITY, strict=True):
        bits = bits << count | word >> parity & (1 << count) - 1
    return bits


def _is_whole(even: int, odd: int) -> bool:
    """Whether the checksum of two pages is right: of the even one up to its tail, of the odd one up to the checksum."""
    told = odd >> 14 & 0xFFFFFF
    return crc24q(((even >> 6) << 82 | odd >> 38).to_bytes(25, "big")) == told


def _joined(parts: Mapping[int, int], pieces: Pieces, signed: bool, scale: float) -> float:
    """A field of BeiDou's, put together of its pieces."""
    bits = size = 0
    for part, first, width in pieces:
        bits = bits << width | parts[part] >> (_BEIDOU_BITS - first - width) & (1 << width) - 1
        size += width
    return _field(bits, size, (0, size, signed, scale))


def _lnav_record(sat: int, value: Mapping[str, float], sent_ns: int, time_ns: int) -> NDArray[Any]:
    record = np.zeros(1, KEPLER)
    for name in record.dtype.names or ():
        if name in value:
            record[name] = value[name]
        elif name.startswith(("isc_", "tgd_b")):
            record[name] = np.nan
    toe_ns = nearest_week(round(value["toe_s"] * NS), time_ns, WEEK_NS)
    record["sat"], record["message"] = sat, NavMessage.LNAV
    record["iodc"] = value["iodc_high"] + value["iodc_low"]
    record["toe_ns"], record["transmitted_ns"] = toe_ns, sent_ns
    record["toc_ns"] = nearest_week(round(value["toc_s"] * NS), toe_ns, WEEK_NS)
    record["accuracy_m"] = _URA_M[int(value["ura"])]
    record["fit_s"] = _LONG_FIT_S if value["fit"] else 0
    return record


def _state_record(
    sat: int, channel: int, value: Mapping[str, float], vectors: Mapping[str, list[float]], time_ns: int
) -> NDArray[Any]:
    record = np.zeros(1, GLONASS_STATE)
    near_ns = to_utc(time_ns)
    reference_utc_ns = nearest_week(round((value["tb_s"] - GLONASST_UTC_S) * NS), near_ns, DAY_NS)
    sent_s = value["tk_h"] + value["tk_m"] + value["tk_30"] - GLONASST_UTC_S
    record["sat"], record["channel"], record["health"] = sat, channel, value["health"]
    record["iode"] = value["tb_s"] // 900
    record["toe_ns"] = from_utc(reference_utc_ns)
    record["transmitted_ns"] = from_utc(nearest_week(round(sent_s * NS), near_ns, DAY_NS))
    for name, axes in vectors.items():
        record[name] = axes
    record["clock_bias_s"], record["clock_drift"] = -value["tau"], value["gamma"]
    record["delta_tau_s"], record["age_days"] = value["delta_tau"], value["age"]
    record["accuracy_m"] = _ACCURACY_M[int(value["ft"])]
    return record
