"""What a satellite adds to each of its code signals: group delays, and the elevation-dependent bias of BDS-2.

A broadcast clock holds for one signal or ionosphere-free pair; every other signal leaves late by its group delay:
pseudorange = range + receiver clock - c (satellite clock - group delay) + ... Which broadcast terms make up the delay
of which signal is a table, `_RULES`; the kernel only sums.

Sources: IS-GPS-200N 20.3.3.3.3.2 and 30.3.3.3.1.1, IS-GPS-705J 20.3.3.3.1.2, IS-GPS-800J 3.5.3.9, Galileo OS SIS ICD
2.1 section 5.1.5, BDS-SIS-ICD-B1I-3.0 5.2.4.10 (clock: B3I), B1C-1.0 7.6.2, B2a-1.0 7.6.2, B2b-1.0 7.5.2, GLONASS ICD
5.1 section 4.4 (delta tau), IRNSS SIS ICD 1.1 section 6.2.1.5; Wanninger & Beer 2015, GPS Solutions 19:639, table 3.
"""

import math
from collections.abc import Iterator

import numpy as np

from solver.jit import kernel
from solver.kernels import Records
from solver.model import NavMessage
from solver.signals import (
    BAND,
    BEIDOU,
    FREQUENCY_HZ,
    GLONASS,
    RINEX_CODE,
    SBAS,
    SIGNAL_COUNT,
    SIGNALS_PER_SYSTEM,
    SYSTEMS,
)

__all__ = ["beidou2_code_bias", "delay_sigma", "group_delay"]

_FIELDS = (
    "tgd1", "tgd2", "tgd_b1cp", "tgd_b2ap", "tgd_b2bi", "isc_l1ca", "isc_l2c", "isc_l5i", "isc_l5q", "isc_l1cd",
    "isc_l1cp", "isc_b2ad",
)  # fmt: skip
_GPS = tuple(NavMessage[name] for name in ("LNAV", "CNAV", "CNAV2"))
_D = (NavMessage.D1, NavMessage.D2)
_CNV = tuple(NavMessage[name] for name in ("CNV1", "CNV2", "CNV3"))

# Systems, messages, RINEX codes, terms. "g" scales by the squared ratio of the system's first band to the signal's own.
# A signal is looked up from the top: the first rule whose terms have all been sent holds; none: no delay is known, 0.
_RULES: tuple[tuple[str, tuple[NavMessage, ...], str, str], ...] = (
    ("GJ", _GPS, "1C", "+tgd1 -isc_l1ca"),
    ("GJ", _GPS, "1S", "+tgd1 -isc_l1cd"),
    ("GJ", _GPS, "1L 1X", "+tgd1 -isc_l1cp"),
    ("GJ", _GPS, "2C 2S 2L 2X", "+tgd1 -isc_l2c"),
    ("GJ", _GPS, "5I", "+tgd1 -isc_l5i"),
    ("GJ", _GPS, "5Q 5X", "+tgd1 -isc_l5q"),
    ("GJ", _GPS, "1C 1P 1W 1Y 1S 1L 1X 1Z 1B 1E", "+tgd1"),
    ("GJ", _GPS, "2P 2W 2Y 2C 2S 2L 2X 2D", "+g*tgd1"),
    ("GJ", _GPS, "5I 5Q 5X", "+tgd1"),
    ("E", (NavMessage.INAV,), "1A 1B 1C 1X 1Z", "+tgd2"),
    ("E", (NavMessage.INAV,), "7I 7Q 7X", "+g*tgd2"),
    ("E", (NavMessage.INAV,), "5I 5Q 5X 8I 8Q 8X 6A 6B 6C 6X 6Z", "+tgd2 -tgd1 +g*tgd1"),
    ("E", (NavMessage.FNAV,), "1A 1B 1C 1X 1Z", "+tgd1"),
    ("E", (NavMessage.FNAV,), "5I 5Q 5X 8I 8Q 8X 6A 6B 6C 6X 6Z", "+g*tgd1"),
    ("E", (NavMessage.FNAV,), "7I 7Q 7X", "+tgd1 -tgd2 +g*tgd2"),
    ("C", _D, "2I 2Q 2X", "+tgd1"),
    ("C", _D, "7I 7Q 7X", "+tgd2"),
    ("C", _CNV, "1D", "+tgd_b1cp +isc_l1cd"),
    ("C", _CNV, "5D", "+tgd_b2ap +isc_b2ad"),
    ("C", _CNV, "1D 1P 1X 2I 2Q 2X", "+tgd_b1cp"),
    ("C", _CNV, "5D 5P 5X", "+tgd_b2ap"),
    ("C", _CNV, "7D 7P 7Z", "+tgd_b2bi"),
    # D1 and D2 say nothing of B1C, B2a and B2b: the first is B1I's neighbour, the others are left at B3I's zero.
    ("C", _D, "1D 1P 1X", "+tgd1"),
    ("I", (NavMessage.LNAV,), "9A 9B 9C 9X", "+tgd1"),
    ("I", (NavMessage.LNAV,), "5A 5B 5C 5X 1D 1P 1X", "+g*tgd1"),
)  # fmt: skip
_FIRST_BAND_HZ = {"G": 1575.42e6, "J": 1575.42e6, "E": 1575.42e6, "C": 1561.098e6, "I": 2492.028e6}
_CHOICES = 2


def _term_weights(number: int, terms: str) -> Iterator[tuple[int, float]]:
    """Field and factor of each term of a rule, for one signal."""
    gain = (_FIRST_BAND_HZ[SYSTEMS[number // SIGNALS_PER_SYSTEM]] / FREQUENCY_HZ[number]) ** 2
    for term in terms.split():
        factor = -1.0 if term[0] == "-" else 1.0
        yield _FIELDS.index(term[1:].removeprefix("g*")), factor * (gain if "g*" in term else 1.0)


def _weights() -> tuple[np.ndarray, np.ndarray]:
    """The rules as arrays: (row, field) factors, and (choice, message, signal) which row holds; -1: none.

    There are few rows. A table of factors by all three would be 0.4 MB in each compiled kernel that asks for a delay.
    """
    rows: list[list[float]] = []
    place = np.full((_CHOICES, len(NavMessage), SIGNAL_COUNT), -1, np.int16)
    count = np.zeros((len(NavMessage), SIGNAL_COUNT), np.int8)
    for systems, messages, codes, terms in _RULES:
        for number, code in enumerate(RINEX_CODE):
            if not code or code not in codes.split() or SYSTEMS[number // SIGNALS_PER_SYSTEM] not in systems:
                continue
            row = [0.0] * len(_FIELDS)
            for field, factor in _term_weights(number, terms):
                row[field] += factor
            if row not in rows:
                rows.append(row)
            for message in messages:
                place[count[message, number], message, number] = rows.index(row)
                count[message, number] += 1
    return np.array(rows), place


_FACTORS, _PLACE = _weights()

_GUESSES: tuple[tuple[str, tuple[NavMessage, ...], str, float], ...] = (
    ("GJ", (NavMessage.LNAV,), "2C 2S 2L 2X 1S 1L 1X", 0.3),
    ("GJ", (NavMessage.LNAV,), "5I 5Q 5X", 1.0),
    ("C", _D, "1D 1P 1X", 0.6),
    ("C", _D, "5D 5P 5X 7D 7P 7Z", 2.0),
)
"""Standard deviation (m) of delays that a message does not tell: how far satellites of one system differ from the rules
above, after the ionosphere-free pair of signals whose delays are told (recordings of 2018 to 2026)."""


def _guess_sigmas() -> np.ndarray:
    """The guesses as an array: (message, signal), 0 where the delay is told."""
    sigma_m = np.zeros((len(NavMessage), SIGNAL_COUNT))
    for systems, messages, codes, guess_m in _GUESSES:
        for number, code in enumerate(RINEX_CODE):
            if code and code in codes.split() and SYSTEMS[number // SIGNALS_PER_SYSTEM] in systems:
                sigma_m[list(messages), number] = guess_m
    return sigma_m


_GUESS_M = _guess_sigmas()


@kernel
def delay_sigma(kepler: Records, row: int, signal: int) -> float:
    """Standard deviation (m) of a signal's group delay where the message does not tell it, else 0; as `group_delay`."""
    system = signal // SIGNALS_PER_SYSTEM
    return 0.0 if system == GLONASS or system == SBAS else float(_GUESS_M[kepler[row].message, signal])


@kernel
def group_delay(kepler: Records, glonass: Records, row: int, signal: int) -> float:
    """Delay (s) of a signal behind the broadcast clock: subtract it from the satellite clock error.

    Args:
        kepler: Records of `KEPLER`.
        glonass: Records of `GLONASS_STATE`.
        row: Row of `kepler`, or of `glonass` for the signals of the systems R and S.
        signal: The signal, `solver.signals.signal`.
    """
    system = signal // SIGNALS_PER_SYSTEM
    if system == GLONASS or system == SBAS:
        delta_tau = glonass[row].delta_tau_s
        return delta_tau if system == GLONASS and BAND[signal] == 2 and not math.isnan(delta_tau) else 0.0
    message = kepler[row].message
    for choice in range(_CHOICES):
        place = _PLACE[choice, message, signal]
        if place < 0:
            break
        delay = _choice_delay(kepler, row, _FACTORS[place])
        if not math.isnan(delay):
            return delay
    return 0.0


@kernel
def _choice_delay(kepler: Records, row: int, factor: np.ndarray) -> float:
    """Sum of the terms in the order of `_FIELDS`; NaN where one of them was not sent."""
    eph = kepler[row]
    terms = (
        eph.tgd1, eph.tgd2, eph.tgd_b1cp, eph.tgd_b2ap, eph.tgd_b2bi, eph.isc_l1ca, eph.isc_l2c, eph.isc_l5i,
        eph.isc_l5q, eph.isc_l1cd, eph.isc_l1cp, eph.isc_b2ad,
    )  # fmt: skip
    total = 0.0
    for k in range(len(terms)):
        if factor[k] != 0.0:
            total += factor[k] * terms[k]
    return total


_BEIDOU2_BIAS_M = np.array(
    [
        [
            [-0.55, -0.40, -0.34, -0.23, -0.15, -0.04, 0.09, 0.19, 0.27, 0.35],
            [-0.71, -0.36, -0.33, -0.19, -0.14, -0.03, 0.08, 0.17, 0.24, 0.33],
            [-0.27, -0.23, -0.21, -0.15, -0.11, -0.04, 0.05, 0.14, 0.19, 0.32],
        ],
        [
            [-0.47, -0.38, -0.32, -0.23, -0.11, 0.06, 0.34, 0.69, 0.97, 1.05],
            [-0.40, -0.31, -0.26, -0.18, -0.06, 0.09, 0.28, 0.48, 0.64, 0.69],
            [-0.22, -0.15, -0.13, -0.10, -0.04, 0.05, 0.14, 0.27, 0.36, 0.47],
        ],
    ]
)
"""Wanninger & Beer 2015: metres to add, by orbit (IGSO, MEO), signal (B1I, B2I, B3I), elevation / 10."""
_BEIDOU2_COLUMN = np.array([-1, -1, 0, -1, -1, -1, 2, 1, -1, -1])
_BEIDOU2_PRN_MAX = 16
_BEIDOU2_END_NS = 1_419_984_000_000_000_000
"""2025-01-05 GPST. From then on the numbers of retired BDS-2 satellites went to BDS-3, which have no such bias."""


@kernel
def beidou2_code_bias(sat: int, sqrt_a: float, i0: float, signal: int, time_ns: int, elevation: float) -> float:
    """Metres to add to a pseudorange of B1I, B2I or B3I for the bias that BDS-2 satellites make; 0 for all others.

    The message does not name the generation: C01 to C16 before 2025 are BDS-2; B1C, B2a and B2b come from BDS-3 alone,
    so that a caller which sees them on a satellite should not call.
    """
    if sat // 64 != BEIDOU or sat % 64 >= _BEIDOU2_PRN_MAX or time_ns >= _BEIDOU2_END_NS:
        return 0.0
    column = _BEIDOU2_COLUMN[BAND[signal]]
    if column < 0 or (sqrt_a > 6000.0 and abs(i0) < 0.3):
        return 0.0
    table = _BEIDOU2_BIAS_M[0 if sqrt_a > 6000.0 else 1, column]
    place = min(max(elevation * 18.0 / math.pi, 0.0), 9.0)
    k = min(int(place), 8)
    return float(table[k] + (place - k) * (table[k + 1] - table[k]))
