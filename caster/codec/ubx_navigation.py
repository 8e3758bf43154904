"""Navigation bits in UBX logs (RXM-SFRBX): GPS and QZSS LNAV subframes, GLONASS strings, to ephemerides.

A message's fields are tables of place, width and scale. The parts of one satellite are collected until they make a
whole of one issue. Full weeks and days come from the receiver's time. Galileo, BeiDou and CNAV bits are left alone:
their ephemerides come from a navigation file. IS-GPS-200 section 20.3.3 (figure 20-1); GLONASS ICD edition 5.1 table
4.5; words as u-blox packs them, UBX-22008968 section 3.17.9.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from caster.codec.ubx import satellite_of
from solver import signals
from solver.constants import ICD_PI
from solver.model import GLONASS_STATE, KEPLER, NavMessage
from solver.timescale import DAY_NS, GLONASST_UTC_S, NS, WEEK_NS, from_utc, nearest_week, to_utc

__all__ = ["SubframeCollector"]

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


class SubframeCollector:
    """Puts a receiver's navigation bits together.

    Attributes:
        kepler: Records made so far, (1,) each.
        glonass: The same of GLONASS.
        klobuchar_gps: (8,) NaN until known.
        channels: GLONASS frequency channel by slot.
    """

    def __init__(self) -> None:
        self.kepler: list[NDArray[Any]] = []
        self.glonass: list[NDArray[Any]] = []
        self.klobuchar_gps = np.full(8, np.nan)
        self.channels: dict[int, int] = {}
        self._parts: dict[int, dict[int, tuple[int, int]]] = {}
        self._issued: set[tuple[int, int, int]] = set()

    def take(self, payload: bytes, time_ns: int) -> None:
        """Take a RXM-SFRBX payload, received at about an instant of GPST."""
        if len(payload) < 8 or len(payload) < 8 + 4 * payload[4]:
            return
        sat = satellite_of(payload[0], payload[1])
        words = [int(word) for word in np.frombuffer(payload, "<u4", payload[4], 8)]
        system = sat // signals.PRN_PER_SYSTEM if sat >= 0 else -1
        if system in (signals.GPS, signals.QZSS) and len(words) == 10 and payload[2] == 0:
            self._take_lnav(sat, words, time_ns)
        elif system == signals.GLONASS and len(words) == 4:
            self.channels[sat % signals.PRN_PER_SYSTEM + 1] = payload[3] - 7
            self._take_string(sat, words, payload[3] - 7, time_ns)

    def _complete(
        self, sat: int, number: int, bits: int, time_ns: int, count: int
    ) -> dict[int, tuple[int, int]] | None:
        """Keep a part; all parts of the satellite, if the first to the last are there and not old."""
        parts = self._parts.setdefault(sat, {})
        parts[number] = (time_ns, bits)
        fresh = [number for number, (kept_ns, _) in parts.items() if time_ns - kept_ns <= _PARTS_AGE_MAX_NS]
        return parts if set(range(1, count + 1)) <= set(fresh) else None

    def _take_lnav(self, sat: int, words: list[int], time_ns: int) -> None:
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

    def _take_string(self, sat: int, words: list[int], channel: int, time_ns: int) -> None:
        bits = words[0] << 96 | words[1] << 64 | words[2] << 32 | words[3]
        number = int(_field(bits, _STRING_BITS, (1, 4, False, 1)))
        parts = self._complete(sat, number, bits, time_ns, 4) if number in _GLONASS else None
        if parts is None or number != 4 or parts[4][0] - parts[1][0] > 15 * NS:
            return
        value = {
            name: _field(parts[part][1], _STRING_BITS, place, magnitude=True)
            for part in _GLONASS
            for name, place in _GLONASS[part].items()
        }
        if self._is_new(sat, int(value["tb_s"]), int(value["age"])):
            vectors = {
                name: [_field(parts[axis][1], _STRING_BITS, place, magnitude=True) for axis in (1, 2, 3)]
                for name, place in _VECTOR.items()
            }
            self.glonass.append(_state_record(sat, channel, value, vectors, time_ns))

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
