"""Ephemeris messages 1019 1020 1041 1042 1044 1045 1046 to the solver's records and back.

The messages carry a week count that is cut to some bits, or a time of day, so full times need an instant that is
known otherwise: `near_ns`. The systems' scales: GPS, QZSS, NavIC and Galileo count in GPST's seconds, BeiDou 14 s
later, GLONASS in UTC + 3 h. Sources: IS-GPS-200 section 20.3.3, IS-QZSS-PNT, NavIC SPS ICD, BDS-SIS-ICD-B1I section
5.2, Galileo OS SIS ICD section 5.1, GLONASS ICD edition 5.1 section 4.4; week counts RTCM 10403.3 DF076, DF289, DF429,
DF489.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from caster.codec.rtcm.messages import Message
from caster.errors import LocalProtocolError
from solver.model import GLONASS_STATE, KEPLER, NavMessage
from solver.signals import BEIDOU, GALILEO, GLONASS, GPS, NAVIC, QZSS, satellite
from solver.timescale import (
    BDT_OFFSET_S,
    BDT_WEEK_OFFSET,
    DAY_NS,
    GLONASST_UTC_S,
    GST_WEEK_OFFSET,
    NS,
    WEEK_NS,
    from_utc,
    nearest_week,
    to_utc,
)

__all__ = ["KEPLER_TYPES", "KeplerType", "from_record", "glonass_date_ns", "to_record"]

_URA_M: Final = (2.0, 2.8, 4.0, 5.7, 8.0, 11.3, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 2048.0, 4096.0)
"""IS-GPS-200 section 20.3.3.3.1.3, nominal values; index 15 promises nothing. BeiDou and NavIC use the same."""
_SISA_STEPS: Final = ((50, 0.01, 0.0), (75, 0.02, 0.5), (100, 0.04, 1.0), (126, 0.16, 2.0))
_SISA_M: Final = tuple(
    next(
        base + (index - (0, 50, 75, 100)[row]) * step
        for row, (top, step, base) in enumerate(_SISA_STEPS)
        if index < top
    )
    for index in range(126)
)
"""Galileo OS SIS ICD table 'SISA index values'; larger indices promise nothing."""
_GLONASS_ACCURACY_M: Final = (1.0, 2.0, 2.5, 4.0, 5.0, 7.0, 10.0, 12.0, 14.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0)
"""GLONASS ICD edition 5.1 table 4.4, F_T; index 15 promises nothing."""
_FIRST_N4: Final = 3
"""Some satellites send the four years from 2000; RTCM 3 is of 2004."""
GLONASS_CHANNEL_BASE: Final = -7
"""Channel of code 0 in DF040."""


@dataclass(frozen=True, slots=True)
class KeplerType:
    """How one Keplerian message differs from the others.

    Attributes:
        system: Index into `solver.signals.SYSTEMS`.
        weeks: The week count's period.
        week_offset: GPS week of the system's week 0.
        offset_s: How much later than GPST its second 0 of a week is.
        names: Record field by message field, where they differ.
        accuracy: Name of the accuracy's index and metres by index.
    """

    system: int
    weeks: int
    week_offset: int = 0
    offset_s: int = 0
    names: Mapping[str, str] | None = None
    accuracy: tuple[str, tuple[float, ...]] = ("ura", _URA_M)


_GPS_NAMES: Final = {"tgd": "tgd1"}
_BEIDOU_NAMES: Final = {"a0": "af0", "a1": "af1", "a2": "af2", "aode": "iode", "aodc": "iodc"}
_GALILEO_NAMES: Final = {"bgd_e5a": "tgd1", "bgd_e5b": "tgd2", "iodnav": "iode"}
KEPLER_TYPES: Final = {
    1019: KeplerType(GPS, 1024, names=_GPS_NAMES),
    1041: KeplerType(NAVIC, 1024, names=_GPS_NAMES | {"iodec": "iode"}),
    1042: KeplerType(BEIDOU, 8192, BDT_WEEK_OFFSET, BDT_OFFSET_S, _BEIDOU_NAMES),
    1044: KeplerType(QZSS, 1024, names=_GPS_NAMES),
    1045: KeplerType(GALILEO, 4096, GST_WEEK_OFFSET, names=_GALILEO_NAMES, accuracy=("sisa", _SISA_M)),
    1046: KeplerType(GALILEO, 4096, GST_WEEK_OFFSET, names=_GALILEO_NAMES, accuracy=("sisa", _SISA_M)),
}
_SAME_NAMES: Final = frozenset((
    "sqrt_a", "e", "i0", "omega0", "omega", "m0", "delta_n", "omega_dot", "cuc", "cus", "crc", "crs", "cic", "cis",
    "af0", "af1", "af2", "iode", "iodc", "tgd1", "tgd2", "toe_s",
))  # fmt: skip
_NOTHING: Final[dict[str, Any]] = {
    **dict.fromkeys(KEPLER.names or (), 0),
    **dict.fromkeys(("isc_l1ca", "isc_l2c", "isc_l5i", "isc_l5q", "isc_l1cd", "isc_l1cp", "isc_b2ad"), np.nan),
    "transmitted_ns": -1,
}
"""What a record holds, in its order, where a message does not tell."""
_HEALTH_BITS: Final = {  # place and width in the record's health word, as in RINEX 4 table A8
    "e1b_invalid": (0, 1), "e1b_health": (1, 2), "e5a_invalid": (3, 1), "e5a_health": (4, 2),
    "e5b_invalid": (6, 1), "e5b_health": (7, 2),
}  # fmt: skip
_SYSTEM_TYPES: Final = {GPS: 1019, NAVIC: 1041, BEIDOU: 1042, QZSS: 1044, GALILEO: 1046}
_GPS_FIT_S: Final = 4 * 3600


def to_record(message: Message, near_ns: int) -> NDArray[Any]:
    """Make a record of `KEPLER` or `GLONASS_STATE` (shape (1,)) of an ephemeris message.

    Args:
        message: One of the ephemeris messages.
        near_ns: An instant of GPST within half a week (GLONASS: half a day) of the ephemeris's time.

    Raises:
        LocalProtocolError: the message is no ephemeris.
        ValueError: it is of a satellite that its system does not have.
    """
    if message.type == 1020:
        return _to_glonass(message.fields, near_ns)
    if message.type not in KEPLER_TYPES:
        raise LocalProtocolError(f"message {message.type} is no ephemeris")
    return _to_kepler(message.type, message.fields, near_ns)


def _to_kepler(number: int, fields: Mapping[str, Any], near_ns: int) -> NDArray[Any]:
    kind, row = KEPLER_TYPES[number], _NOTHING.copy()
    names = kind.names or {}
    for name, value in fields.items():
        target = names.get(name, name)
        if target in _SAME_NAMES:
            row[target] = value
    row["sat"] = satellite(kind.system, fields["satellite"])
    row["i_dot"] = fields["idot"]
    row["message"] = _nav_message(number, fields)
    row["health"] = _health(fields)
    row["toe_ns"] = nearest_week(int((fields["toe_s"] + kind.offset_s) * NS), near_ns)
    row["toc_ns"] = nearest_week(int((fields["toc_s"] + kind.offset_s) * NS), row["toe_ns"])
    index, metres = fields[kind.accuracy[0]], kind.accuracy[1]
    row["accuracy_m"] = metres[index] if index < len(metres) else np.nan
    row["fit_s"] = fields.get("fit_interval", 0) and 1.5 * _GPS_FIT_S
    return np.array([tuple(row.values())], KEPLER)


def _nav_message(number: int, fields: Mapping[str, Any]) -> NavMessage:
    if number == 1042:  # geostationary satellites alone send D2; they are told by their orbit, never by number
        still = fields["sqrt_a"] > 6000 and abs(fields["i0"]) < 0.3
        return NavMessage.D2 if still else NavMessage.D1
    return {1045: NavMessage.FNAV, 1046: NavMessage.INAV}.get(number, NavMessage.LNAV)


def _health(fields: Mapping[str, Any]) -> int:
    if "l5_flag" in fields:
        return int(fields["l5_flag"]) << 1 | int(fields["s_flag"])
    if "health" in fields:
        return int(fields["health"])
    return sum(int(fields[name]) << place for name, (place, _) in _HEALTH_BITS.items() if name in fields)


def glonass_date_ns(fields: Mapping[str, Any]) -> int | None:
    """GPST of the frame's start, from its four-year interval, day and tk; None where it does not send the date."""
    if fields["n_4"] < _FIRST_N4 or not (fields["n_t"] and fields["additional"] and fields["m"]):
        return None
    years = 4 * (fields["n_4"] - 1)  # since 1996, which is 16 years of 365.25 days after 1980-01-01
    days = (16 + years) * 1461 // 4 - 5 + fields["n_t"] - 1
    return from_utc(days * DAY_NS + (_tk_s(fields) - GLONASST_UTC_S) * NS)


def _tk_s(fields: Mapping[str, Any]) -> int:
    return int(fields["tk_h"]) * 3600 + int(fields["tk_min"]) * 60 + int(fields["tk_s"])


def _glonass_ns(time_of_day_s: float, near_ns: int) -> int:
    """The GPST instant nearest to another at which GLONASS time of day is this."""
    utc_ns = nearest_week(int(time_of_day_s - GLONASST_UTC_S) * NS, to_utc(near_ns), DAY_NS)
    return from_utc(utc_ns)


def _to_glonass(fields: Mapping[str, Any], near_ns: int) -> NDArray[Any]:
    record = np.zeros(1, GLONASS_STATE)
    row = record[0]
    row["sat"] = satellite(GLONASS, fields["satellite"])
    row["channel"] = fields["channel_code"] + GLONASS_CHANNEL_BASE
    row["health"] = fields["bn"] | fields["ln_third"] << 1
    row["iode"] = fields["tb_s"] // 900
    row["toe_ns"] = _glonass_ns(fields["tb_s"], near_ns)
    row["transmitted_ns"] = _glonass_ns(_tk_s(fields), int(row["toe_ns"]))
    for axis, letter in enumerate("xyz"):
        row["position_m"][axis] = fields[f"{letter}_m"]
        row["velocity_mps"][axis] = fields[f"v{letter}_mps"]
        row["acceleration_mps2"][axis] = fields[f"a{letter}_mps2"]
    row["clock_bias_s"] = -fields["tau_n_s"]
    row["clock_drift"] = fields["gamma_n"]
    row["delta_tau_s"] = fields["delta_tau_n_s"]
    row["age_days"] = fields["e_n"]
    index = fields["f_t"]
    row["accuracy_m"] = _GLONASS_ACCURACY_M[index] if index < len(_GLONASS_ACCURACY_M) else np.nan
    return record


def from_record(record: NDArray[Any]) -> Message:
    """Make the message that sends a record of `KEPLER` (LNAV, I/NAV, F/NAV, D1, D2) or `GLONASS_STATE`.

    Args:
        record: () or (1,) structured array.

    Raises:
        LocalProtocolError: RTCM 3 has no message for it, or a value does not fit.
    """
    row = np.atleast_1d(record)[0]
    if row.dtype == GLONASS_STATE:
        return _from_glonass(row)
    system = int(row["sat"]) // 64
    fnav = row["message"] == NavMessage.FNAV
    number = 1045 if fnav else _SYSTEM_TYPES.get(system, 0)
    if not number or row["message"] not in _SENDABLE:
        raise LocalProtocolError(f"RTCM 3 has no message for ephemeris {row['message']} of system {system}")
    return Message(number, _from_kepler(number, row))


_SENDABLE: Final = (NavMessage.LNAV, NavMessage.INAV, NavMessage.FNAV, NavMessage.D1, NavMessage.D2)
_UNSENT: Final = {"l2_code": 1, "l2p_off": 0, "reserved": 0}
"""What our records do not keep: codes on L2 (1: P) and the data flag on L2 P."""


def _from_kepler(number: int, row: Any) -> dict[str, Any]:
    kind = KEPLER_TYPES[number]
    names = {target: name for name, target in (kind.names or {}).items()}
    fields: dict[str, Any] = {names.get(name, name): row[name].item() for name in _SAME_NAMES} | _UNSENT
    toe_ns, toc_ns = int(row["toe_ns"]), int(row["toc_ns"])
    sent_ns = int(row["transmitted_ns"]) if row["transmitted_ns"] >= 0 else toe_ns
    week = (sent_ns - kind.offset_s * NS) // WEEK_NS - kind.week_offset
    health = int(row["health"])
    fields |= {
        "satellite": int(row["sat"]) % 64 + 1,
        "idot": row["i_dot"].item(),
        "week": week % kind.weeks,
        "toe_s": (toe_ns // NS - kind.offset_s) % (WEEK_NS // NS),
        "toc_s": (toc_ns // NS - kind.offset_s) % (WEEK_NS // NS),
        kind.accuracy[0]: _index_of(row["accuracy_m"].item(), kind.accuracy[1], 255 if "sisa" in kind.accuracy else 15),
        "fit_interval": int(row["fit_s"] > _GPS_FIT_S),
        "l5_flag": health >> 1 & 1,
        "s_flag": health & 1,
        "health": min(health, 1) if kind.system == BEIDOU else health & 63,
    }
    fields |= {name: health >> place & ((1 << width) - 1) for name, (place, width) in _HEALTH_BITS.items()}
    return fields


def _index_of(accuracy_m: float, metres: tuple[float, ...], none: int) -> int:
    """The smallest index that promises no more than an accuracy; `none` where it is NaN or too large."""
    return next((index for index, value in enumerate(metres) if accuracy_m <= value * 1.0001), none)


def _from_glonass(row: Any) -> Message:
    toe_utc_ns = to_utc(int(row["toe_ns"])) + GLONASST_UTC_S * NS
    sent_utc_ns = toe_utc_ns
    if row["transmitted_ns"] >= 0:
        sent_utc_ns = to_utc(int(row["transmitted_ns"])) + GLONASST_UTC_S * NS
    day = sent_utc_ns // DAY_NS + 5 - 16 * 1461 // 4  # days since 1996-01-01
    tk_s = sent_utc_ns % DAY_NS // NS
    health = int(row["health"])
    fields: dict[str, Any] = dict.fromkeys(_GLONASS_UNSENT, 0) | {
        "satellite": int(row["sat"]) % 64 + 1,
        "channel_code": int(row["channel"]) - GLONASS_CHANNEL_BASE,
        "tk_h": tk_s // 3600, "tk_min": tk_s // 60 % 60, "tk_s": tk_s % 60 // 30 * 30,
        "bn": health & 1, "ln_third": health >> 1 & 1, "tb_s": toe_utc_ns % DAY_NS // NS,
        "gamma_n": row["clock_drift"].item(), "tau_n_s": -row["clock_bias_s"].item(),
        "delta_tau_n_s": float(np.nan_to_num(row["delta_tau_s"])), "e_n": int(row["age_days"]),
        "f_t": _index_of(row["accuracy_m"].item(), _GLONASS_ACCURACY_M, 15), "m": 1,
        "n_t": day % 1461 + 1, "n_4": day // 1461 + 1, "additional": 1, "n_a": day % 1461 + 1,
    }  # fmt: skip
    for axis, letter in enumerate("xyz"):
        fields[f"{letter}_m"] = row["position_m"][axis].item()
        fields[f"v{letter}_mps"] = row["velocity_mps"][axis].item()
        fields[f"a{letter}_mps2"] = row["acceleration_mps2"][axis].item()
    return Message(1020, fields)


_GLONASS_UNSENT: Final = (
    "almanac_health", "almanac_health_known", "p1", "p2", "p3", "p", "p4", "tau_c_s", "tau_gps_s", "ln_fifth",
    "reserved",
)  # fmt: skip
