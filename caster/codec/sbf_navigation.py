"""Navigation bits in SBF logs: GPSRawCA, QZSRawL1CA, GLORawCA, GALRawINAV and BDSRaw to the messages of `subframes`.

Receivers log them in the place of the decoded blocks, or beside. Septentrio mosaic-X5 reference guide, section 4.2.2:
bits begin at the highest of the first word; GPS's words of 30 bits have one word each, BeiDou's run on.
"""

import struct
from typing import Final

from caster.codec.sbf import satellite_of
from caster.codec.subframes import PAGE_BITS, SubframeCollector, without_parity
from solver import signals
from solver.timescale import from_week, is_week

__all__ = ["RAW_NAVIGATION", "take_raw"]

_LNAV, _QZSS, _GLONASS, _INAV, _BEIDOU = 4017, 4066, 4026, 4023, 4047
RAW_NAVIGATION: Final = {_LNAV: 10, _QZSS: 10, _GLONASS: 3, _INAV: 8, _BEIDOU: 10}
"""Words of 32 bits by block number."""
_HEAD: Final = struct.Struct("<8xIHBBxBBx")  # TOW in ms, week, SVID, whether the check passed, signal, frequency
_TOW_MAX_MS: Final = 604_800_000
_CHANNEL_BASE: Final = 8
_EVEN_BITS: Final = 114
"""Of an I/NAV page without its tail, which the block leaves out of the even one."""
_SYSTEM: Final = {_LNAV: signals.GPS, _QZSS: signals.QZSS, _GLONASS: signals.GLONASS, _INAV: signals.GALILEO,
                  _BEIDOU: signals.BEIDOU}  # fmt: skip
_GEOSTATIONARY: Final = (1, 2, 3, 4, 5, 59, 60, 61, 62, 63)
"""PRNs of D2, BDS-SIS-ICD-B1I section 5.1.1: the block does not tell which message it holds."""


def take_raw(collector: SubframeCollector, number: int, block: bytes) -> None:
    """Give the bits of a block, head included, to a collector, if the receiver found them whole."""
    count = RAW_NAVIGATION[number]
    if len(block) < _HEAD.size + 4 * count:
        return
    tow_ms, week, svid, passed, _, frequency = _HEAD.unpack_from(block)
    sat = satellite_of(svid)
    timed = tow_ms < _TOW_MAX_MS and is_week(week)
    if not passed or not timed or sat // signals.PRN_PER_SYSTEM != _SYSTEM[number]:
        return
    time_ns = from_week(week, tow_ms / 1000)
    words = list(struct.unpack_from(f"<{count}I", block, _HEAD.size))
    bits = int.from_bytes(b"".join(word.to_bytes(4, "big") for word in words), "big")
    if number in (_LNAV, _QZSS):
        collector.take_lnav(sat, words, time_ns)
    elif number == _GLONASS:
        collector.take_string(sat, bits << 32, frequency - _CHANNEL_BASE, time_ns)
    elif number == _INAV:
        pages = bits >> 32 * count - _EVEN_BITS - PAGE_BITS
        even, odd = pages >> PAGE_BITS, pages & (1 << PAGE_BITS) - 1
        collector.take_inav(sat, even << PAGE_BITS - _EVEN_BITS, odd, time_ns)
    else:
        parts = [bits >> 32 * count - 30 * (place + 1) & (1 << 30) - 1 for place in range(10)]
        prn = sat % signals.PRN_PER_SYSTEM + 1
        collector.take_beidou(sat, without_parity(parts), time_ns, geostationary=prn in _GEOSTATIONARY)
