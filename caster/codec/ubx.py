"""u-blox UBX logs: raw measurements (RXM-RAWX, before generation 8 RXM-RAW) to epochs.

A log is a byte stream of UBX messages among NMEA and RTCM 3; messages are found by their sync bytes and kept when the
checksum holds. Measurements are read with numpy record types, since an object for each costs a hundred times more.
u-blox ZED-F9P interface description (UBX-22008968) sections 3.1 to 3.5, 3.17.6; u-blox 6 receiver description
(GPS.G6-SW-10018) section 38.2. Navigation bits (RXM-SFRBX, RXM-SFRB) are in `ubx_navigation`.
"""

import struct
from collections.abc import Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

from caster.errors import FormatError
from caster.tracking import Tracking
from solver import signals
from solver.model import HALF_CYCLE, SLIP, Epoch
from solver.timescale import from_week, is_week

__all__ = ["RAW", "RAWX", "SFRB", "SFRBX", "SYNC", "measured_epoch", "raw_epoch", "rawx_epoch", "satellite_of",
           "ubx_messages"]  # fmt: skip

SYNC: Final = b"\xb5\x62"
RAW: Final = 0x0210
RAWX: Final = 0x0215
SFRB: Final = 0x0211
SFRBX: Final = 0x0213
LENGTH_MAX: Final = 8192
"""Longest payload that a receiver sends: 255 satellites of the longest kind."""
_OVERHEAD: Final = 8  # sync 2, class and id 2, length 2, checksum 2

_HEAD: Final = struct.Struct("<dHbBBB2x")
_MEASUREMENT: Final = np.dtype(
    [
        ("range", "<f8"), ("phase", "<f8"), ("doppler", "<f4"), ("gnss", "u1"), ("sv", "u1"), ("signal", "u1"),
        ("frequency", "u1"), ("lock_ms", "<u2"), ("cn0", "u1"), ("deviations", "u1", (3,)), ("status", "u1"),
        ("reserved", "u1"),
    ]
)  # fmt: skip
_RANGE_VALID, _PHASE_VALID, _HALF_RESOLVED = 1, 2, 4
_LOCK_MAX_MS: Final = 64_500
"""Longest time that RAWX counts to."""
_RAW_HEAD: Final = struct.Struct("<iHBx")
_RAW_MEASUREMENT: Final = np.dtype(
    [
        ("phase", "<f8"), ("range", "<f8"), ("doppler", "<f4"), ("sv", "u1"), ("quality", "i1"), ("cn0", "i1"),
        ("lli", "u1"),
    ]
)  # fmt: skip
_RANGE_QUALITY, _PHASE_QUALITY = 4, 5
"""From which mesQI on code and Doppler, and the phase as well, are good."""
_LOST, _HALF = 1, 2
_FIRST_SBAS, _GNSS_GPS, _GNSS_SBAS = 120, 0, 1
_SYSTEM: Final = {0: signals.GPS, 1: signals.SBAS, 2: signals.GALILEO, 3: signals.BEIDOU, 5: signals.QZSS,
                  6: signals.GLONASS, 7: signals.NAVIC}  # fmt: skip
"""System by gnssId, section 1.5.2 (IMES, 4, has none)."""
_SIGNAL: Final = {
    "G": {0: "1C", 3: "2L", 4: "2S", 6: "5I", 7: "5Q"},
    "S": {0: "1C"},
    "E": {0: "1C", 1: "1B", 3: "5I", 4: "5Q", 5: "7I", 6: "7Q", 8: "6B", 9: "6C", 10: "6A"},
    "C": {0: "2I", 1: "2I", 2: "7I", 3: "7I", 4: "6I", 5: "1P", 6: "1D", 7: "5P", 8: "5D", 10: "6I"},
    "J": {0: "1C", 1: "1Z", 4: "2S", 5: "2L", 8: "5I", 9: "5Q", 12: "1B"},
    "R": {0: "1C", 2: "2C"},
    "I": {0: "5A"},
}
"""RINEX code by sigId, section 1.5.4; BeiDou D1 and D2 name one signal."""
_SBAS_FIRST_PRN: Final = 100
_GEO_SHIFT_CYCLES: Final = 0.5
"""u-blox's phases of BeiDou's geostationary satellites are half a cycle from those of others: RTKLIB 2.4.3."""
_GLONASS_CHANNEL_BASE: Final = 7

_SIGNAL_TABLE: Final = np.full((256, 256), -1, np.int16)
for _gnss, _system in _SYSTEM.items():
    for _id, _code in _SIGNAL[signals.SYSTEMS[_system]].items():
        _SIGNAL_TABLE[_gnss, _id] = signals.signal(signals.SYSTEMS[_system] + _code)
_SIGNAL_TABLE.flags.writeable = False


def ubx_messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Class and id (class * 256 + id) and payload of each whole message with a right checksum."""
    place = data.find(SYNC)
    while place >= 0 and place + _OVERHEAD <= len(data):
        length = data[place + 4] | data[place + 5] << 8
        end = place + _OVERHEAD + length
        if length <= LENGTH_MAX and end <= len(data) and _checksum(data, place + 2, end - 2) == data[end - 2 : end]:
            yield data[place + 2] << 8 | data[place + 3], data[place + 6 : end - 2]
            place = data.find(SYNC, end)
        else:
            place = data.find(SYNC, place + 1)


def _checksum(data: bytes, start: int, stop: int) -> bytes:
    """Two bytes of the 8-bit Fletcher algorithm, section 3.4."""
    part = np.frombuffer(data, np.uint8, stop - start, start).astype(np.int64)
    return bytes((int(part.sum()) & 255, int(part @ np.arange(len(part), 0, -1)) & 255))


def satellite_of(gnss: int, sv: int) -> int:
    """The satellite of u-blox's numbers; -1 where we know none (IMES, GLONASS satellites not yet identified)."""
    system = _SYSTEM.get(gnss, -1)
    try:
        return signals.satellite(system, sv - _SBAS_FIRST_PRN if system == signals.SBAS else sv)
    except ValueError:
        return -1


def measured_epoch(kind: int, payload: bytes, tracking: Tracking) -> Epoch:
    """The epoch of a RXM-RAWX or RXM-RAW message; what may be wrong is that of `rawx_epoch`."""
    return rawx_epoch(payload, tracking) if kind == RAWX else raw_epoch(payload, tracking)


def raw_epoch(payload: bytes, tracking: Tracking) -> Epoch:
    """The epoch of a RXM-RAW message: GPS and SBAS, L1 alone. It counts no lock times, so they are summed here.

    Args:
        payload: Of the message.
        tracking: What is remembered of the receiver's carriers, from one epoch to the next.

    Raises:
        FormatError: the payload is not as long as it says, or has no time.
    """
    if len(payload) < _RAW_HEAD.size:
        raise FormatError(f"UBX RXM-RAW of {len(payload)} bytes has no header")
    tow_ms, week, count = _RAW_HEAD.unpack_from(payload)
    if len(payload) < _RAW_HEAD.size + count * _RAW_MEASUREMENT.itemsize or not 0 <= tow_ms < 604_801_000:
        raise FormatError(f"UBX RXM-RAW of {len(payload)} bytes cannot hold {count} measurements at {tow_ms} ms")
    time_ns = _known(week, tow_ms / 1000)
    told = np.frombuffer(payload, _RAW_MEASUREMENT, count, _RAW_HEAD.size)
    rows = np.zeros(count, _MEASUREMENT)
    for name in ("phase", "range", "doppler", "sv"):
        rows[name] = told[name]
    rows["cn0"] = np.maximum(told["cn0"], 0)
    rows["gnss"] = np.where(told["sv"] < _FIRST_SBAS, _GNSS_GPS, _GNSS_SBAS)
    rows["status"] = (
        np.where(told["quality"] >= _RANGE_QUALITY, _RANGE_VALID, 0)
        | np.where(told["quality"] >= _PHASE_QUALITY, _PHASE_VALID, 0)
        | np.where(told["lli"] & _HALF, 0, _HALF_RESOLVED)
    )
    rows["lock_ms"] = np.where(told["lli"] & _LOST, 0, _locked_ms(rows, time_ns, tracking))
    return _ordered(time_ns, rows, tracking)


def _locked_ms(rows: NDArray[np.void], time_ns: int, tracking: Tracking) -> NDArray[np.float64]:
    """How long each carrier has been locked, if it has not been lost since the receiver's previous epoch."""
    sat, signal = _names(rows)
    keys = _keys(sat, signal)
    place = np.minimum(np.searchsorted(tracking.keys, keys), max(0, len(tracking.keys) - 1))
    if not len(tracking.keys):
        return np.zeros(len(rows))
    held = (tracking.keys[place] == keys) & (tracking.seen_ns[place] == tracking.previous_ns)
    since_ms = (time_ns - tracking.seen_ns[place]) / 1e6
    return np.where(held, np.clip(tracking.lock_ms[place] + since_ms, 0, _LOCK_MAX_MS), 0)


def rawx_epoch(payload: bytes, tracking: Tracking) -> Epoch:
    """The epoch of a RXM-RAWX message.

    Args:
        payload: Of the message.
        tracking: What is remembered of the receiver's carriers, from one epoch to the next.

    Raises:
        FormatError: the payload is not as long as it says, or has no time.
    """
    if len(payload) < _HEAD.size:
        raise FormatError(f"UBX RXM-RAWX of {len(payload)} bytes has no header")
    tow_s, week, _, count, _, _ = _HEAD.unpack_from(payload)
    if len(payload) < _HEAD.size + count * _MEASUREMENT.itemsize or not 0 <= tow_s < 604_801:
        raise FormatError(f"UBX RXM-RAWX of {len(payload)} bytes cannot hold {count} measurements at {tow_s} s")
    return _ordered(_known(week, tow_s), np.frombuffer(payload, _MEASUREMENT, count, _HEAD.size), tracking)


def _known(week: int, tow_s: float) -> int:
    """The instant of a receiver's week and time.

    Raises:
        FormatError: the receiver does not know the week yet.
    """
    if not is_week(week):
        raise FormatError("UBX RXM-RAW(X) before the receiver knew the week")
    return from_week(week, tow_s)


def _names(rows: NDArray[np.void]) -> tuple[NDArray[np.int16], NDArray[np.int16]]:
    """Satellite and signal of rows; -1 where we know none."""
    numbers = zip(rows["gnss"].tolist(), rows["sv"].tolist(), strict=True)
    sat = np.array([satellite_of(gnss, sv) for gnss, sv in numbers], np.int16)
    return sat, _SIGNAL_TABLE[rows["gnss"], rows["signal"]]


def _keys(sat: NDArray[np.int16], signal: NDArray[np.int16]) -> NDArray[np.int64]:
    keys: NDArray[np.int64] = sat.astype(np.int64) * signals.SIGNALS_PER_SYSTEM + signal % signals.SIGNALS_PER_SYSTEM
    return keys


def _ordered(time_ns: int, rows: NDArray[np.void], tracking: Tracking) -> Epoch:
    """The epoch of rows, each signal once, without those that we do not know."""
    sat, signal = _names(rows)
    keys = _keys(sat, signal)
    _, order = np.unique(np.where((sat >= 0) & (signal >= 0), keys, -1), return_index=True)
    order = order[(sat[order] >= 0) & (signal[order] >= 0)]
    return _epoch(time_ns, rows[order], sat[order], signal[order], keys[order], tracking)


def _epoch(
    time_ns: int,
    rows: NDArray[np.void],
    sat: NDArray[np.int16],
    signal: NDArray[np.int16],
    keys: NDArray[np.int64],
    tracking: Tracking,
) -> Epoch:
    has_phase = (rows["status"] & _PHASE_VALID) > 0
    slip = np.zeros(len(rows), np.uint8)
    slip[has_phase] = tracking.update(time_ns, keys[has_phase], rows["lock_ms"][has_phase].astype(np.float64))
    half = has_phase & ((rows["status"] & _HALF_RESOLVED) == 0)
    return Epoch(
        time_ns,
        sat,
        signal,
        _carrier_hz(signal, rows["frequency"].astype(np.float64) - _GLONASS_CHANNEL_BASE),
        _where(rows["status"] & _RANGE_VALID, rows["range"]),
        _where(has_phase, rows["phase"]) + np.where(_is_geostationary(sat), _GEO_SHIFT_CYCLES, 0),
        _where(np.isfinite(rows["doppler"]), rows["doppler"]),
        _where(rows["cn0"], rows["cn0"]).astype(np.float32),
        np.where(has_phase, rows["lock_ms"] / 1000, 0).astype(np.float32),
        np.where(slip, SLIP, 0).astype(np.uint8) | np.where(half, HALF_CYCLE, 0).astype(np.uint8),
    )


def _is_geostationary(sat: NDArray[np.int16]) -> NDArray[np.bool_]:
    """Whether satellites are BeiDou's of C01 to C05 and C59 to C63, BDS-SIS-ICD-B1I section 5.1.1."""
    system, slot = np.divmod(sat, signals.PRN_PER_SYSTEM)
    of_beidou: NDArray[np.bool_] = (system == signals.BEIDOU) & ((slot < 5) | (slot >= 58))
    return of_beidou


def _where(valid: NDArray[np.generic], values: NDArray[np.generic]) -> NDArray[np.float64]:
    """Values, NaN where they are not valid or no numbers."""
    numbers = values.astype(np.float64)
    return np.where(valid.astype(bool) & np.isfinite(numbers), numbers, np.nan)


def _carrier_hz(signal: NDArray[np.int16], channel: NDArray[np.float64]) -> NDArray[np.float64]:
    step_hz = np.array([signals.GLONASS_CHANNEL_STEP_HZ.get(str(band), 0.0) for band in signals.BAND[signal]])
    of_glonass = signal // signals.SIGNALS_PER_SYSTEM == signals.GLONASS
    return signals.FREQUENCY_HZ[signal] + np.where(of_glonass, step_hz * channel, 0.0)
