"""The legacy observation messages 1001 to 1004 (GPS, SBAS) and 1009 to 1012 (GLONASS) as the columns that MSM has.

RTCM 10403.3 section 3.5.2 and 3.5.4, data fields DF009 to DF020 and DF038 to DF050. The phase comes as a difference to
the pseudorange that the sender keeps small by steps of 1500 cycles; `epochs` puts such steps back.
"""

from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from caster.codec.rtcm import msm_kernels as rows
from caster.codec.rtcm.layouts import GLONASS_LEGACY
from caster.codec.rtcm.messages import Message
from solver.signals import GLONASS, GPS, PRN_PER_SYSTEM, SBAS, signal

__all__ = ["CODE_INVALID_M", "PHASE_INVALID_M", "ROLLOVER_CYCLES", "cells"]

ROLLOVER_CYCLES: Final = 1500
"""DF012: the step by which a sender keeps phase less pseudorange within its 20 bits."""
_L1: Final = {GPS: ("G1C", "G1P"), SBAS: ("S1C", "S1C"), GLONASS: ("R1C", "R1P")}
_L2: Final = {GPS: ("G2X", "G2P", "G2D", "G2W"), SBAS: (), GLONASS: ("R2C", "R2P")}
"""Signals by code indicator DF010, DF016, DF039, DF046; P(Y) followed directly is 2P, cross-correlated 2D, else 2W."""
PHASE_INVALID_M: Final = -(1 << 19) * 0.0005
CODE_INVALID_M: Final = -(1 << 13) * 0.02
_SBAS_FIRST: Final = 40
"""DF009 is 40 for SBAS PRN 120."""


def cells(message: Message) -> tuple[NDArray[np.int32], NDArray[np.float64], dict[int, int]]:
    """The columns of a legacy observation message.

    Returns:
        (RAW_ROWS, n) int32 and (VALUE_ROWS, n) float64 as in `msm.Msm`, with satellite, signal and half-cycle flag
        alone set in the first; and GLONASS channel by satellite. Satellites of no system are left out.
    """
    found: list[tuple[int, int, float, float, float, float]] = []
    channels: dict[int, int] = {}
    for fields in message.fields["satellites"]:
        system, slot = _satellite(message.type, fields["satellite"])
        if slot < 0:
            continue
        sat = system * PRN_PER_SYSTEM + slot
        if "channel_code" in fields and fields["channel_code"] <= 20:
            channels[sat] = fields["channel_code"] - 7
        found += _bands(system, sat, fields)
    raw = np.zeros((rows.RAW_ROWS, len(found)), np.int32)
    values = np.full((rows.VALUE_ROWS, len(found)), np.nan)
    for column, (sat, code, pseudorange_m, phase_m, cn0_dbhz, lock_ms) in enumerate(found):
        raw[rows.CELL_SATELLITE, column], raw[rows.CELL_SIGNAL, column] = sat, code
        values[:, column] = pseudorange_m, phase_m, np.nan, cn0_dbhz or np.nan, lock_ms
    return raw, values, channels


def _satellite(number: int, identity: int) -> tuple[int, int]:
    """System and place in it of DF009 or DF038; a negative place where there is no such satellite."""
    if number in GLONASS_LEGACY:
        return GLONASS, identity - 1 if identity <= 24 else -1
    if identity >= _SBAS_FIRST:
        return SBAS, identity - _SBAS_FIRST
    return GPS, identity - 1 if identity <= 32 else -1


def _bands(system: int, sat: int, fields: Mapping[str, Any]) -> list[tuple[int, int, float, float, float, float]]:
    """Satellite, signal, pseudorange, phase range, C/N0 and lock time of L1 and, where sent, L2."""
    if "l1_ambiguity_m" not in fields:  # 1001 1003 1009 1011 send the pseudorange modulo one or two light milliseconds
        return []
    base_m = fields["l1_pseudorange_m"] + fields["l1_ambiguity_m"]
    lock_ms = float(rows.LOCK_LEGACY[fields["l1_lock"]])
    l1 = signal(_L1[system][fields["l1_code"]])
    phase_m = _sum_or_nan(base_m, fields["l1_phase_less_code_m"], PHASE_INVALID_M)
    found = [(sat, l1, base_m, phase_m, fields["l1_cn0_dbhz"], lock_ms)]
    code = fields.get("l2_code", 4)
    if code < len(_L2[system]):
        pseudorange_m = _sum_or_nan(base_m, fields["l2_less_l1_code_m"], CODE_INVALID_M)
        phase_m = _sum_or_nan(base_m, fields["l2_phase_less_l1_code_m"], PHASE_INVALID_M)
        lock_ms = float(rows.LOCK_LEGACY[fields["l2_lock"]])
        if not (np.isnan(pseudorange_m) and np.isnan(phase_m)):
            l2 = signal(_L2[system][code])
            found.append((sat, l2, pseudorange_m, phase_m, fields["l2_cn0_dbhz"], lock_ms))
    return found


def _sum_or_nan(base_m: float, difference_m: float, invalid_m: float) -> float:
    return base_m + difference_m if difference_m != invalid_m else float("nan")
