"""Septentrio SBF logs: measurements (MeasEpoch) to epochs, decoded navigation and ionosphere blocks to records.

A log is a byte stream of blocks, perhaps among NMEA and RTCM 3; blocks are found by their sync bytes and kept when the
checksum holds. MeasEpoch is gathered to numpy rows, since an object per measurement costs a hundred times more; the
rare navigation blocks are read through pysbf2 and take the way of the RTCM ephemerides from there. Of a receiver with
several antennas the main one alone is read. Septentrio mosaic-X5 reference guide, section 4.1 (block structure, SVID
and signal numbers: 4.1.9, 4.1.10) and 4.2.1 (measurement blocks).
"""

import binascii
import struct
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from caster.codec.rtcm.ephemeris import to_record
from caster.codec.rtcm.messages import Message
from caster.errors import FormatError
from caster.tracking import Tracking, carrier_hz
from solver import signals
from solver.constants import ICD_PI, SPEED_OF_LIGHT_MPS
from solver.model import HALF_CYCLE, SLIP, Epoch
from solver.timescale import GLONASST_UTC_S, NS, from_week, is_week, to_utc

__all__ = [
    "IONOSPHERE", "MEAS_3", "MEAS_EPOCH", "NAVIGATION", "SYNC", "ionosphere", "meas_epoch", "navigation",
    "outside_blocks", "satellite_of", "sbf_blocks",
]  # fmt: skip

SYNC: Final = b"$@"
MEAS_EPOCH: Final = 4027
MEAS_3: Final = 4109
"""Meas3Ranges: measurements in a form that no public document describes."""
IONOSPHERE: Final = {5893: "gps", 4120: "beidou"}
"""GPSIon and BDSIon by number."""
_HEAD: Final = struct.Struct("<2sHHH")  # sync, CRC, number and revision, length
_NUMBER_BITS: Final = 0x1FFF
_EPOCH_HEAD: Final = struct.Struct("<IHBBBBBx")  # TOW in ms, week, N1, sub-block lengths, flags, clock jumps
_TOW_MAX_MS: Final = 604_800_000

_FIRST: Final = np.dtype(
    [
        ("channel", "u1"), ("type", "u1"), ("svid", "u1"), ("misc", "u1"), ("code", "<u4"), ("doppler", "<i4"),
        ("carrier_low", "<u2"), ("carrier_high", "i1"), ("cn0", "u1"), ("lock_s", "<u2"), ("info", "u1"), ("n2", "u1"),
    ]
)  # fmt: skip
_SECOND: Final = np.dtype(
    [
        ("type", "u1"), ("lock_s", "u1"), ("cn0", "u1"), ("offsets", "u1"), ("carrier_high", "i1"), ("info", "u1"),
        ("code", "<u2"), ("carrier_low", "<u2"), ("doppler", "<u2"),
    ]
)  # fmt: skip
_MILLI, _DOPPLER_HZ, _CN0_DBHZ, _CN0_BASE_DBHZ = 1e-3, 1e-4, 0.25, 10.0
_NO_DOPPLER: Final = -(2**31)
_HALF_BIT: Final = 4
_EXTENDED: Final = 31
"""A signal index that says that the number is 32 more than the high bits of ObsInfo."""
_CHANNEL_BASE: Final = 8
_E6B_USED: Final = 0x40

_SVIDS: Final = (
    (1, 37, signals.GPS, 0), (38, 61, signals.GLONASS, 37), (63, 68, signals.GLONASS, 38),
    (71, 106, signals.GALILEO, 70), (120, 140, signals.SBAS, 100), (141, 180, signals.BEIDOU, 140),
    (181, 190, signals.QZSS, 180), (191, 197, signals.NAVIC, 190), (198, 215, signals.SBAS, 157),
    (216, 222, signals.NAVIC, 208), (223, 245, signals.BEIDOU, 182),
)  # fmt: skip
"""First and last SVID, system, and what to take off: section 4.1.9. SBAS counts from PRN 100."""
_SIGNALS: Final = {
    0: "G1C", 1: "G1W", 2: "G2W", 3: "G2L", 4: "G5Q", 5: "G1L", 6: "J1C", 7: "J2L", 8: "R1C", 9: "R1P", 10: "R2P",
    11: "R2C", 12: "R3Q", 13: "C1P", 14: "C5P", 15: "I5A", 17: "E1C", 19: "E6C", 20: "E5Q", 21: "E7Q", 22: "E8Q",
    24: "S1C", 25: "S5I", 26: "J5Q", 28: "C2I", 29: "C7I", 30: "C6I", 32: "J1L", 33: "J1Z", 34: "C7D",
}  # fmt: skip
"""RINEX code by signal number, section 4.1.10."""
_E6B: Final = signals.signal("E6B")
_FDMA: Final = (8, 9, 10, 11)
_FULL_CN0: Final = (1, 2)
"""Signals whose C/N0 comes without the offset of 10 dB-Hz: GPS P(Y)."""


def _satellites() -> NDArray[np.int16]:
    table = np.full(256, -1, np.int16)
    for first, last, system, less in _SVIDS:
        for svid in range(first, last + 1):
            try:
                table[svid] = signals.satellite(system, svid - less)
            except ValueError:  # numbers that are kept for satellites to come
                continue
    table.flags.writeable = False
    return table


def _signal_numbers() -> NDArray[np.int16]:
    table = np.full(64, -1, np.int16)
    for number, name in _SIGNALS.items():
        table[number] = signals.signal(name)
    table.flags.writeable = False
    return table


_SATELLITE: Final = _satellites()
_SIGNAL: Final = _signal_numbers()


def satellite_of(svid: int) -> int:
    """The satellite of an SVID; -1 where we know none."""
    return int(_SATELLITE[svid & 255])


def sbf_blocks(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Number and bytes, head included, of each whole block with a right checksum (CRC-CCITT from the number on)."""
    for place in _blocks(data):
        _, _, number, length = _HEAD.unpack_from(data, place)
        yield number & _NUMBER_BITS, data[place : place + length]


def outside_blocks(data: bytes) -> bytes:
    """What a log holds beside its blocks: inside of some (DiffCorrIn) are the messages of another receiver."""
    pieces, end = [], 0
    for place in _blocks(data):
        pieces.append(data[end:place])
        end = place + _HEAD.unpack_from(data, place)[3]
    return b"".join((*pieces, data[end:]))


def _blocks(data: bytes) -> Iterator[int]:
    """Where whole blocks begin."""
    place = data.find(SYNC)
    while place >= 0 and place + _HEAD.size <= len(data):
        _, crc, _, length = _HEAD.unpack_from(data, place)
        block = data[place : place + length]
        if length % 4 == 0 and _HEAD.size < length == len(block) and binascii.crc_hqx(block[4:], 0) == crc:
            yield place
            place = data.find(SYNC, place + length)
        else:
            place = data.find(SYNC, place + 1)


def meas_epoch(block: bytes, tracking: Tracking, channels: NDArray[np.int8]) -> Epoch:
    """The epoch of a MeasEpoch block.

    Args:
        block: With its head.
        tracking: What is remembered of the receiver's carriers, from one epoch to the next.
        channels: GLONASS frequency channel by place in the system; what the block tells is written to it.

    Raises:
        FormatError: the block is not as long as it says.
    """
    if len(block) < _HEAD.size + _EPOCH_HEAD.size:
        raise FormatError(f"SBF MeasEpoch of {len(block)} bytes has no header")
    tow_ms, week, count, size_1, size_2, flags, _ = _EPOCH_HEAD.unpack_from(block, _HEAD.size)
    if tow_ms >= _TOW_MAX_MS or size_1 < _FIRST.itemsize or size_2 < _SECOND.itemsize:
        raise FormatError(f"SBF MeasEpoch with sub-blocks of {size_1} and {size_2} bytes at {tow_ms} ms")
    if not is_week(week):
        raise FormatError("SBF MeasEpoch before the receiver knew the week")
    first, second, parent = _rows(block, count, size_1, size_2)
    values = _first_values(first, flags, channels)
    values = {name: np.concatenate((part, more)) for (name, part), more in zip(
        values.items(), _second_values(second, parent, values, flags, channels).values(), strict=True)}  # fmt: skip
    return _epoch(from_week(week, tow_ms / 1000), values, channels, tracking)


def _rows(
    block: bytes, count: int, size_1: int, size_2: int
) -> tuple[NDArray[np.void], NDArray[np.void], NDArray[np.intp]]:
    """Rows of the sub-blocks, and the first row that each of the second kind belongs to."""
    place = _HEAD.size + _EPOCH_HEAD.size
    heads: list[int] = []
    tails: list[int] = []
    parent: list[int] = []
    for row in range(count):
        below = block[place + _FIRST.itemsize - 1] if place + size_1 <= len(block) else 256
        heads.append(place)
        tails += range(place + size_1, place + size_1 + below * size_2, size_2)
        parent += [row] * below
        place += size_1 + below * size_2
        if place > len(block):
            raise FormatError(f"SBF MeasEpoch of {len(block)} bytes cannot hold {count} channels")
    data = np.frombuffer(block, np.uint8)
    return _gather(data, heads, _FIRST), _gather(data, tails, _SECOND), np.array(parent, np.intp)


def _gather(data: NDArray[np.uint8], places: list[int], dtype: np.dtype[np.void]) -> NDArray[np.void]:
    index = np.array(places, np.intp)[:, None] + np.arange(dtype.itemsize)
    return np.ascontiguousarray(data[index]).view(dtype)[:, 0]


def _common(rows: NDArray[np.void], svid: NDArray[np.uint8], flags: int) -> dict[str, NDArray[Any]]:
    """Satellite (-1: none that we know, or another antenna), signal, C/N0, lock and half-cycle bit of rows."""
    low = rows["type"] & 31
    number = np.where(low == _EXTENDED, (rows["info"] >> 3) + 32, low)
    signal = _SIGNAL[number]
    signal = np.where((signal == signals.signal("E6C")) & bool(flags & _E6B_USED), np.int16(_E6B), signal)
    sat = np.where((rows["type"] >> 5 == 0) & (signal >= 0), _SATELLITE[svid], np.int16(-1))
    sat = np.where(sat // signals.PRN_PER_SYSTEM == signal // signals.SIGNALS_PER_SYSTEM, sat, np.int16(-1))
    cn0 = rows["cn0"] * _CN0_DBHZ + np.where(np.isin(number, _FULL_CN0), 0, _CN0_BASE_DBHZ)
    return {
        "sat": sat,
        "signal": np.maximum(signal, 0),
        "cn0": np.where(rows["cn0"] < 255, cn0, np.nan),
        "lock_s": np.where(rows["lock_s"] == np.iinfo(rows["lock_s"].dtype).max, 0, rows["lock_s"]).astype(float),
        "half": rows["info"] & _HALF_BIT,
        "fdma": np.where(np.isin(number, _FDMA), rows["info"] >> 3, 0),
    }


def _first_values(rows: NDArray[np.void], flags: int, channels: NDArray[np.int8]) -> dict[str, NDArray[Any]]:
    """Whole measurements: the first signal of each satellite."""
    values = _common(rows, rows["svid"], flags)
    told = (values["fdma"] > 0) & (values["sat"] >= 0)
    channels[values["sat"][told] % signals.PRN_PER_SYSTEM] = values["fdma"][told].astype(int) - _CHANNEL_BASE
    code = (rows["misc"] & 15).astype(np.int64) << 32 | rows["code"]
    range_m = np.where(code > 0, code * _MILLI, np.nan)
    doppler_hz = np.where(rows["doppler"] != _NO_DOPPLER, rows["doppler"] * _DOPPLER_HZ, np.nan)
    return values | _measured(rows, values, range_m, doppler_hz, channels)


def _second_values(
    rows: NDArray[np.void], parent: NDArray[np.intp], first: Mapping[str, NDArray[Any]], flags: int,
    channels: NDArray[np.int8],
) -> dict[str, NDArray[Any]]:  # fmt: skip
    """Measurements told as differences from the satellite's first signal."""
    svid = np.zeros(len(rows), np.uint8)
    values = _common(rows, svid, flags)
    known = _SIGNAL[np.where(rows["type"] & 31 == _EXTENDED, (rows["info"] >> 3) + 32, rows["type"] & 31)] >= 0
    same = first["signal"][parent] // signals.SIGNALS_PER_SYSTEM == values["signal"] // signals.SIGNALS_PER_SYSTEM
    values["sat"] = np.where(known & same & (rows["type"] >> 5 == 0), first["sat"][parent], np.int16(-1))
    code = _signed(rows["offsets"] & 7, 3) * 65536 + rows["code"]
    range_m = first["range"][parent] + np.where(code != -4 * 65536, code * _MILLI, np.nan)
    offset = _signed(rows["offsets"] >> 3, 5) * 65536 + rows["doppler"]
    ratio = carrier_hz(values["sat"], values["signal"], channels) / first["frequency"][parent]
    doppler_hz = first["doppler"][parent] * ratio + np.where(offset != -16 * 65536, offset * _DOPPLER_HZ, np.nan)
    return values | _measured(rows, values, range_m, doppler_hz, channels)


def _signed(bits: NDArray[Any], width: int) -> NDArray[np.int64]:
    """Two's complement of some bits."""
    value = bits.astype(np.int64)
    return np.where(value >> (width - 1), value - (1 << width), value)


def _measured(
    rows: NDArray[np.void], values: Mapping[str, NDArray[Any]], range_m: NDArray[np.float64],
    doppler_hz: NDArray[np.float64], channels: NDArray[np.int8],
) -> dict[str, NDArray[Any]]:  # fmt: skip
    """Range, Doppler, frequency and the phase, which is told as its difference from the range."""
    frequency_hz = carrier_hz(values["sat"], values["signal"], channels)
    carrier = rows["carrier_high"].astype(np.int64) * 65536 + rows["carrier_low"]
    phase = range_m * frequency_hz / SPEED_OF_LIGHT_MPS + np.where(carrier != -128 * 65536, carrier * _MILLI, np.nan)
    return {"range": range_m, "doppler": doppler_hz, "frequency": frequency_hz, "phase": phase}


def _epoch(time_ns: int, values: Mapping[str, NDArray[Any]], channels: NDArray[np.int8], tracking: Tracking) -> Epoch:
    """Rows in order, each signal once.

    Lock times are whole seconds cut off, so a second more is what bounds them.
    """
    sat, signal = values["sat"], values["signal"]
    keys = sat.astype(np.int64) * signals.SIGNALS_PER_SYSTEM + signal % signals.SIGNALS_PER_SYSTEM
    keys, order = np.unique(np.where(sat >= 0, keys, -1), return_index=True)
    order, keys = order[keys >= 0], keys[keys >= 0]
    row = {name: value[order] for name, value in values.items()}
    has_phase = np.isfinite(row["phase"])
    slip = np.zeros(len(order), np.uint8)
    slip[has_phase] = tracking.update(time_ns, keys[has_phase], (row["lock_s"][has_phase] + 1) * 1000)
    half = has_phase & (row["half"] > 0)
    return Epoch(
        time_ns,
        row["sat"].astype(np.int16),
        row["signal"].astype(np.int16),
        row["frequency"],
        row["range"],
        row["phase"],
        row["doppler"],
        row["cn0"].astype(np.float32),
        np.where(has_phase, row["lock_s"], 0).astype(np.float32),
        np.where(slip, SLIP, 0).astype(np.uint8) | np.where(half, HALF_CYCLE, 0).astype(np.uint8),
    )


_PI_SCALED: Final = {
    "m0": "M_0", "omega0": "OMEGA_0", "i0": "i_0", "omega": "omega", "omega_dot": "OMEGADOT", "idot": "IDOT",
    "delta_n": "DEL_N",
}  # fmt: skip
"""RTCM field by the field that has it in semicircles."""
_ORBIT: Final = {
    "sqrt_a": "SQRT_A", "e": "e", "cuc": "C_uc", "cus": "C_us", "crc": "C_rc", "crs": "C_rs", "cic": "C_ic",
    "cis": "C_is", "toe_s": "t_oe", "toc_s": "t_oc",
}  # fmt: skip
_CLOCK: Final = {"af0": "a_f0", "af1": "a_f1", "af2": "a_f2"}
_LNAV: Final = _CLOCK | {
    "ura": "URA", "health": "health", "iodc": "IODC", "iode": "IODE2", "tgd": "T_gd", "fit_interval": "FitIntFlg",
}  # fmt: skip
_BEIDOU: Final = {
    "a0": "a_f0", "a1": "a_f1", "a2": "a_f2", "ura": "URA", "health": "SatH1", "aodc": "IODC", "aode": "IODE",
    "tgd1": "T_GD1", "tgd2": "T_GD2",
}  # fmt: skip
_GALILEO: Final = _CLOCK | {
    "iodnav": "IODnav", "e1b_invalid": "L1-Bdvs", "e1b_health": "L1-Bhs", "e5a_invalid": "E5advs",
    "e5a_health": "E5ahs", "e5b_invalid": "E5bdvs", "e5b_health": "E5bhs", "bgd_e5a": "BGD_L1E5a",
}  # fmt: skip
_INAV: Final = _GALILEO | {"sisa": "SISA_L1E5b", "bgd_e5b": "BGD_L1E5b"}
_FNAV: Final = _GALILEO | {"sisa": "SISA_L1E5a"}
_GLONASS: Final = {
    "x_m": "X", "y_m": "Y", "z_m": "Z", "vx_mps": "Dx", "vy_mps": "Dy", "vz_mps": "Dz", "ax_mps2": "Ddx",
    "ay_mps2": "Ddy", "az_mps2": "Ddz", "gamma_n": "gamma", "tau_n_s": "tau", "delta_tau_n_s": "dtau", "e_n": "E",
    "ln_third": "l",
}  # fmt: skip
_GALILEO_TYPES: Final = {2: (1046, _INAV), 16: (1045, _FNAV)}
_KEPLER_TYPES: Final = {5891: (1019, _LNAV), 4095: (1044, _LNAV), 4081: (1042, _BEIDOU)}
_GLONAV: Final = 4004
NAVIGATION: Final = frozenset((*_KEPLER_TYPES, 4002, _GLONAV))
"""GPSNav, QZSNav, BDSNav, GALNav, GLONav."""
_NOT_SENT: Final = -2e10
_NO_ACCURACY: Final = 15


def navigation(number: int, block: bytes) -> NDArray[Any]:
    """The record (1,) of `KEPLER` or `GLONASS_STATE` that a navigation block tells.

    Raises:
        FormatError: the block is too short, or its satellite, message or a value is none that can be.
    """
    told = _parsed(block)
    try:
        sat = satellite_of(told["SVID"] if "SVID" in told else told["PRN"])
        if sat < 0 or told["TOW"] >= _TOW_MAX_MS or not is_week(told["WNc"]):
            raise FormatError(f"SBF navigation block {number} of an unknown satellite or time")
        make = _state if number == _GLONAV else _orbit
        return make(number, told, sat, from_week(told["WNc"], told["TOW"] / 1000))
    except (KeyError, OverflowError, ValueError) as error:
        raise FormatError(f"SBF navigation block {number}: {error!r}") from None


def _orbit(number: int, told: Mapping[str, Any], sat: int, time_ns: int) -> NDArray[Any]:
    """A Keplerian record, by way of the RTCM message of the same data."""
    rtcm, names = _KEPLER_TYPES.get(number) or _GALILEO_TYPES[told["Source"]]
    fields = {name: _sent(told[theirs]) for name, theirs in (_ORBIT | names).items()}
    fields |= {name: told[theirs] * ICD_PI for name, theirs in _PI_SCALED.items()}
    return to_record(Message(rtcm, fields | {"satellite": sat % signals.PRN_PER_SYSTEM + 1}), time_ns)


def _state(number: int, told: Mapping[str, Any], sat: int, time_ns: int) -> NDArray[Any]:
    """A GLONASS record; the frame's own time is that of its reception."""
    tk_s = (to_utc(time_ns) // NS + GLONASST_UTC_S) % 86_400
    fields = {name: _sent(told[theirs]) for name, theirs in _GLONASS.items()} | {
        "satellite": sat % signals.PRN_PER_SYSTEM + 1, "channel_code": told["FreqNr"] - 1, "bn": told["B"] >> 2 & 1,
        "tb_s": told["tb"] * 60, "tk_h": tk_s // 3600, "tk_min": tk_s // 60 % 60, "tk_s": tk_s % 60,
        "f_t": _NO_ACCURACY,
    }  # fmt: skip
    record = to_record(Message(1020, fields), time_ns)
    record["accuracy_m"] = told["F_T"]
    return record


def ionosphere(block: bytes) -> NDArray[np.float64]:
    """(8,) Klobuchar's alphas and betas of a GPSIon or BDSIon block.

    Raises:
        FormatError: the block is too short.
    """
    told = _parsed(block)
    return np.array([told[f"{name}_{index}"] for name in ("alpha", "beta") for index in range(4)], np.float64)


def _parsed(block: bytes) -> dict[str, Any]:
    """A block's fields by pysbf2's names."""
    from pysbf2 import SBFReader  # a third of what reading any other recording would have to load

    try:
        return dict(vars(SBFReader.parse(block)))
    except Exception as error:  # pysbf2 lets errors of struct and of lookups through
        raise FormatError(f"SBF block of {len(block)} bytes: {error}") from None


def _sent(value: Any) -> Any:
    """A field; 0 where the receiver has none."""
    return 0.0 if value == _NOT_SENT else value
