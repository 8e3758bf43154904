"""Navigation bits in UBX logs: the words of RXM-SFRBX and RXM-SFRB to the messages of `subframes`.

UBX-22008968 section 3.17.9, GPS.G6-SW-10018 section 38.4: words as u-blox packs them. Galileo comes as an even and an
odd page of four words each.
"""

from typing import Final

import numpy as np

from caster.codec.subframes import PAGE_BITS, SubframeCollector, without_parity
from caster.codec.ubx import SFRB, satellite_of
from solver import signals

__all__ = ["take_bits"]

_SFRB_BYTES: Final = 42
_GPS_MAX: Final = 32
_LNAV_SIGNALS: Final = (0,)
_INAV_SIGNALS: Final = (0, 1, 5)
"""E1 C (what receivers of generation 8 say), E1 B, E5 bI."""
_D1_SIGNALS: Final = (0, 2, 4)
_D2_SIGNALS: Final = (1, 3, 10)
"""B1I, B2I, B3I, section 1.5.4."""
_GEOSTATIONARY: Final = (1, 2, 3, 4, 5, 59, 60, 61, 62, 63)
"""PRNs of D2, BDS-SIS-ICD-B1I section 5.1.1: receivers of generation 8 name no signal."""


def take_bits(collector: SubframeCollector, kind: int, payload: bytes, time_ns: int) -> None:
    """Give the payload of a RXM-SFRBX or RXM-SFRB, received at about an instant of GPST, to a collector."""
    (_take_sfrb if kind == SFRB else _take_sfrbx)(collector, payload, time_ns)


def _take_sfrb(collector: SubframeCollector, payload: bytes, time_ns: int) -> None:
    """Ten words of GPS, their parity taken off; SBAS, which the message carries as well, is left alone."""
    if len(payload) == _SFRB_BYTES and 1 <= payload[1] <= _GPS_MAX:
        words = [int(word) << 6 for word in np.frombuffer(payload, "<u4", 10, 2)]
        collector.take_lnav(satellite_of(0, payload[1]), words, time_ns)


def _take_sfrbx(collector: SubframeCollector, payload: bytes, time_ns: int) -> None:
    if len(payload) < 8 or len(payload) < 8 + 4 * payload[4]:
        return
    gnss, number, signal, frequency, count = payload[:5]
    sat = satellite_of(gnss, number)
    words = [int(word) for word in np.frombuffer(payload, "<u4", count, 8)]
    system = sat // signals.PRN_PER_SYSTEM if sat >= 0 else -1
    if system in (signals.GPS, signals.QZSS) and count == 10 and signal in _LNAV_SIGNALS:
        collector.take_lnav(sat, words, time_ns)
    elif system == signals.GLONASS and count == 4:
        collector.take_string(sat, _bits(words), frequency - 7, time_ns)
    elif system == signals.GALILEO and count >= 8 and signal in _INAV_SIGNALS:
        unused = 128 - PAGE_BITS
        collector.take_inav(sat, _bits(words[:4]) >> unused, _bits(words[4:8]) >> unused, time_ns)
    elif system == signals.BEIDOU and count == 10 and signal in (*_D1_SIGNALS, *_D2_SIGNALS):
        geostationary = signal in _D2_SIGNALS or (signal == 0 and number in _GEOSTATIONARY)
        collector.take_beidou(sat, without_parity(words), time_ns, geostationary=geostationary)


def _bits(words: list[int]) -> int:
    """Words of 32 bits one behind the other."""
    bits = 0
    for word in words:
        bits = bits << 32 | word
    return bits
