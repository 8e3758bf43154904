"""Observation messages as others that simpler or older receivers understand.

* `lower_msm`: MSM to a kind that carries less: MSM7 to MSM5 or MSM4, and so on.
* `LegacyEncoder`: MSM of GPS and GLONASS to 1004 and 1012.
* `without_multiple`: the same message, but the last of its epoch.

All work on the integers of the wire, so a value changes by no more than the coarser field's rounding (RTCM 10403.3
section 3.5.16, tables 3.5-80 to 89; section 3.5.2 and 3.5.4 for the legacy messages).
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isnan
from typing import Any, Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from caster.codec.rtcm import msm_kernels as rows
from caster.codec.rtcm.encoder import EXTENDED_UNKNOWN
from caster.codec.rtcm.framing import make_frame, message_type, payload_of
from caster.codec.rtcm.layouts import GLONASS_LEGACY
from caster.codec.rtcm.legacy import CODE_INVALID_M, PHASE_INVALID_M, ROLLOVER_CYCLES
from caster.codec.rtcm.messages import Message, decode, encode
from caster.codec.rtcm.msm import Msm, decode_msm, encode_msm
from solver.constants import SPEED_OF_LIGHT_MPS
from solver.signals import GLONASS, GPS, PRN_PER_SYSTEM, frequency_hz, signal

__all__ = ["LegacyEncoder", "lower_msm", "without_multiple"]

_SHORT_KIND_MAX: Final = 5
"""MSM1 to 5 have short fields, MSM6 and 7 long ones."""
_WITH_RATES: Final = (5, 7)
_LOWER: Final = {1: (3, 4, 5, 6, 7), 2: (3, 4, 5, 6, 7), 3: (4, 5, 6, 7), 4: (5, 6, 7), 5: (6, 7), 6: (7,), 7: ()}
"""Which kinds can be sent as a kind: those that have its ranges, and in no coarser form."""

_FINE_RATE_INVALID: Final = -(1 << 14)

_MULTIPLE_BYTE: Final = 6
_MULTIPLE_BIT: Final = {False: 0x02, True: 0x10}
"""Where DF393 and DF005 (GPS) are in a payload, and DF005 of GLONASS."""


def without_multiple(frame: bytes) -> bytes:
    """An observation message as the last of its epoch: its multiple message bit cleared."""
    payload = bytearray(payload_of(frame))
    payload[_MULTIPLE_BYTE] &= ~_MULTIPLE_BIT[message_type(frame) in GLONASS_LEGACY]
    return make_frame(bytes(payload))


def lower_msm(frame: bytes, kind: int) -> bytes:
    """A multiple signal message as one of a kind that carries less; the frame itself where it carries no more.

    A rate that the message does not have (MSM6 to 5) is sent as not valid.

    Args:
        frame: MSM of any kind.
        kind: 1 to 7, as in MSM7.

    Raises:
        FormatError: the message's masks and its length do not fit together.
    """
    if message_type(frame) % 10 not in _LOWER[kind]:
        return frame
    message = decode_msm(frame)
    head, satellites, raw = message.head.copy(), message.satellites.copy(), message.raw.copy()
    head[rows.TYPE] += kind - message.kind
    head[rows.SIZE] = 0  # zeros that a receiver has appended are not sent on
    if message.kind > _SHORT_KIND_MAX >= kind:
        _shorten(raw)
    if kind in _WITH_RATES and message.kind not in _WITH_RATES:
        satellites[rows.EXTENDED] = EXTENDED_UNKNOWN if message.system == GLONASS else 0
        satellites[rows.ROUGH_RATE] = rows.ROUGH_RATE_INVALID
        raw[rows.FINE_RATE] = _FINE_RATE_INVALID
    return encode_msm(replace(message, type=int(head[rows.TYPE]), head=head, satellites=satellites, raw=raw))


def _lock_shorter() -> NDArray[np.int32]:
    """Indicator DF402 by indicator DF407; reserved ones promise nothing."""
    found = np.zeros(1024, np.int32)
    found[: len(rows.LOCK_LONG)] = np.searchsorted(rows.LOCK_SHORT, rows.LOCK_LONG, "right") - 1
    return found


_LOCK_SHORTER: Final = _lock_shorter()
_CN0_SHORTER: Final = np.array([0, *(min(max((cn0 + 8) >> 4, 1), 63) for cn0 in range(1, 1024))], np.int32)
"""DF403 (1 dB-Hz) by DF408 (1/16 dB-Hz); 0 means that it is not known."""


def _shorten(raw: NDArray[np.int32]) -> None:
    """The long fields of MSM6 and 7 as the short ones: DF405 to 400, 406 to 401, 407 to 402, 408 to 403."""
    _round_off(raw[rows.FINE_RANGE], 20, 5)
    _round_off(raw[rows.FINE_PHASE], 24, 2)
    raw[rows.LOCK] = _LOCK_SHORTER[raw[rows.LOCK]]
    raw[rows.CNR] = _CN0_SHORTER[raw[rows.CNR]]


def _round_off(field: NDArray[np.int32], bits: int, drop_bits: int) -> None:
    """Round to a coarser unit in place; the most negative number means "not valid" before and after."""
    invalid = field == -(1 << (bits - 1))
    lower = -(1 << (bits - 1 - drop_bits))
    field += 1 << (drop_bits - 1)
    field >>= drop_bits
    np.maximum(field, lower + 1, out=field)
    np.minimum(field, -lower - 1, out=field)
    field[invalid] = lower


_Values: TypeAlias = Sequence[float]
"""One cell's values, by the rows of `msm_kernels`."""
_L1: Final = {GPS: (("G1C", 0), ("G1P", 1), ("G1W", 1)), GLONASS: (("R1C", 0), ("R1P", 1))}
_L2: Final = {
    GPS: (("G2W", 3), ("G2P", 1), ("G2L", 0), ("G2X", 0), ("G2S", 0), ("G2C", 0)),
    GLONASS: (("R2C", 0), ("R2P", 1)),
}
"""Signals that the legacy messages know, the preferred first, with their indicators DF010, DF016, DF039, DF046.

Of GPS L2, receivers that speak only legacy messages track P(Y).
"""
_NUMBER: Final = {GPS: 1004, GLONASS: 1012}
_AMBIGUITY_M: Final = {GPS: SPEED_OF_LIGHT_MPS * 1e-3, GLONASS: SPEED_OF_LIGHT_MPS * 2e-3}
_CODE_STEP_M: Final = 0.02
_PHASE_LIMIT_M: Final = 262.14
"""DF012 has 20 bits of 0.5 mm."""
_CODE_LIMIT_M: Final = 163.8
_CN0_STEP: Final = 0.25
_PLACES: Final = {GPS: 32, GLONASS: 24}
"""Satellites that DF009 and DF038 know; beyond them are SBAS and what is reserved."""
_LOCK_LEGACY: Final = rows.LOCK_LEGACY.tolist()
_GLONASS_TIME: Final = (1 << 27) - 1
_SATELLITES_MAX: Final = 31
"""DF006 has 5 bits."""


class LegacyEncoder:
    """Sends one station's MSM of GPS and GLONASS as 1004 and 1012.

    A legacy message has one signal of L1 and one of L2 for each satellite, and its phase as a difference to the code
    that must stay within 262 m: the encoder rolls it by 1500 cycles where it leaves, as DF012 has it. A phase that may
    be off by half a cycle is not sent, since there is no bit to say so. A GLONASS satellite needs its frequency
    channel, from MSM5, MSM7 or 1020: before it is known the satellite is left out.
    """

    def __init__(self) -> None:
        self._rolls: dict[int, int] = {}
        self._channels: dict[int, int] = {}

    def learn(self, frame: bytes) -> None:
        """Take a GLONASS ephemeris, which tells a frequency channel.

        Raises:
            FormatError: the message is too short.
        """
        message = decode(frame)
        if isinstance(message, Message) and message.type == 1020:
            sat = GLONASS * PRN_PER_SYSTEM + int(message.fields["satellite"]) - 1
            self._channels[sat] = int(message.fields["channel_code"]) - 7

    def convert(self, frame: bytes) -> bytes | None:
        """A multiple signal message (MSM4 to 7) as a legacy one; None where it has nothing that can be sent.

        Raises:
            FormatError: the message's masks and its length do not fit together.
        """
        message = decode_msm(frame)
        if message.system not in _NUMBER or message.kind < 4:
            return None
        self._channels |= message.glonass_channels()
        satellites = [fields for fields in map(self._satellite, *self._grouped(message)) if fields]
        if not satellites:
            return None
        fields = {
            "station": message.station,
            "epoch": message.epoch & _GLONASS_TIME if message.system == GLONASS else message.epoch,
            "multiple": int(message.multiple),
            "smoothed": int(message.smoothing[0]),
            "smoothing": message.smoothing[1],
            "satellites": satellites[:_SATELLITES_MAX],
        }
        return encode(Message(_NUMBER[message.system], fields))

    def _grouped(self, message: Msm) -> tuple[list[int], list[dict[int, _Values]]]:
        """Each satellite, and its values by signal; a phase that may be off by half a cycle is taken away."""
        values = message.values.copy()
        values[rows.PHASE_RANGE_M, message.half_cycle] = np.nan
        groups: dict[int, dict[int, _Values]] = {}
        for sat, code, cell in zip(message.sat.tolist(), message.signal.tolist(), values.T.tolist(), strict=True):
            groups.setdefault(sat, {})[code] = cell
        return list(groups), list(groups.values())

    def _satellite(self, sat: int, by_signal: Mapping[int, _Values]) -> dict[str, Any] | None:
        """The fields of one satellite, or None where it cannot be sent."""
        system = sat // PRN_PER_SYSTEM
        l1 = _first(_L1[system], by_signal)
        channel = self._channels.get(sat) if system == GLONASS else None
        if l1 is None or sat % PRN_PER_SYSTEM >= _PLACES[system] or (system == GLONASS and channel is None):
            return None
        code, indicator, values = l1
        ambiguity, rest_m = divmod(values[rows.PSEUDORANGE_M], _AMBIGUITY_M[system])
        sent_m = ambiguity * _AMBIGUITY_M[system] + round(rest_m / _CODE_STEP_M) * _CODE_STEP_M
        fields = {
            "satellite": sat % PRN_PER_SYSTEM + 1,
            "l1_code": indicator,
            "l1_pseudorange_m": rest_m,
            "l1_ambiguity_m": ambiguity * _AMBIGUITY_M[system],
            "l1_phase_less_code_m": self._phase_m(sat, code, channel, values, sent_m),
            "l1_lock": _lock(values),
            "l1_cn0_dbhz": _cn0(values),
        }
        if channel is not None:
            fields["channel_code"] = channel + 7
        return fields | self._second(sat, channel, _first(_L2[system], by_signal), sent_m)

    def _second(
        self, sat: int, channel: int | None, l2: tuple[int, int, _Values] | None, sent_m: float
    ) -> dict[str, Any]:
        if l2 is None:
            absent = {"l2_less_l1_code_m": CODE_INVALID_M, "l2_phase_less_l1_code_m": PHASE_INVALID_M}
            return {"l2_code": 0, "l2_lock": 0, "l2_cn0_dbhz": 0, **absent}
        code, indicator, values = l2
        less_m = values[rows.PSEUDORANGE_M] - sent_m
        return {
            "l2_code": indicator,
            "l2_less_l1_code_m": less_m if abs(less_m) <= _CODE_LIMIT_M else CODE_INVALID_M,
            "l2_phase_less_l1_code_m": self._phase_m(sat, code, channel, values, sent_m),
            "l2_lock": _lock(values),
            "l2_cn0_dbhz": _cn0(values),
        }

    def _phase_m(self, sat: int, code: int, channel: int | None, values: _Values, sent_m: float) -> float:
        """Phase less the code as sent, rolled by 1500 cycles into its field; the same roll for as long as it fits."""
        less_m = values[rows.PHASE_RANGE_M] - sent_m
        if isnan(less_m):
            return PHASE_INVALID_M
        step_m = ROLLOVER_CYCLES * SPEED_OF_LIGHT_MPS / frequency_hz(code, channel)
        key = sat << 8 | code
        rolls = self._rolls.get(key, 0)
        if abs(less_m + rolls * step_m) > _PHASE_LIMIT_M:
            rolls = self._rolls[key] = -round(less_m / step_m)
        return less_m + rolls * step_m


def _first(known: tuple[tuple[str, int], ...], by_signal: Mapping[int, _Values]) -> tuple[int, int, _Values] | None:
    """Signal, indicator and values of the first of some signals that has a pseudorange, and one that can be."""
    for name, indicator in known:
        values = by_signal.get(signal(name))
        if values is not None and values[rows.PSEUDORANGE_M] > 0:  # nor NaN
            return signal(name), indicator, values
    return None


def _lock(values: _Values) -> int:
    lock_ms = values[rows.LOCK_MS]
    return 0 if isnan(lock_ms) else bisect_right(_LOCK_LEGACY, lock_ms) - 1


def _cn0(values: _Values) -> float:
    """As the field DF015 can have it: 0.25 dB-Hz a step, 0 where not known."""
    cn0_dbhz = values[rows.CN0_DBHZ]
    return 0.0 if isnan(cn0_dbhz) else min(cn0_dbhz, 255 * _CN0_STEP)
