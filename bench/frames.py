"""The load's RTCM 3 frames: 800 bytes of a vendor's message type with a sequence number and the time of sending.

A caster sees ordinary frames with a good CRC-24Q (RTCM 10403.3 section 4.2); a rover can tell from one frame alone that
it is whole, which one it is, and how long it took: CLOCK_MONOTONIC is one clock for all processes of a machine.

Only 16 bytes differ between two frames. CRC-24Q starts from zero and is linear, so that a frame's CRC is the CRC of the
template xor one table entry per byte that differs. Load processes thus need no compiled kernels.
"""

import struct
from typing import Final, NamedTuple

__all__ = ["FRAME_BYTES", "PREAMBLE", "Stamp", "check_frame", "make_frame"]

FRAME_BYTES: Final = 800
PREAMBLE: Final = b"\xd3"
_MESSAGE_TYPE: Final = 4094  # reserved for a vendor (RTCM 10403.3 table 3.6-1); no caster looks inside
_STAMP: Final = struct.Struct(">IIq")
_STAMP_AT: Final = 5  # behind the frame's header and the 12 bits of message type, padded to 2 bytes
_CRC_AT: Final = FRAME_BYTES - 3


class Stamp(NamedTuple):
    """What a frame says of itself.

    Attributes:
        mount: Number of the mountpoint.
        sequence: Counts a mountpoint's frames from 0.
        sent_ns: CLOCK_MONOTONIC when the source sent it, ns.
    """

    mount: int
    sequence: int
    sent_ns: int


def _shift(crc: int, bits: int) -> int:
    """CRC-24Q after so many zero bits more."""
    for _ in range(bits):
        crc = (crc << 1) ^ (0x1864CFB if crc & 0x800000 else 0)
    return crc


def _crc(data: bytes) -> int:
    crc = 0
    for byte in data:
        crc = _shift(crc ^ (byte << 16), 8)
    return crc


def _crc_tables() -> list[list[int]]:
    """For each byte of the stamp: what each of its values adds to the CRC at the end of the frame."""
    tables: list[list[int]] = []
    basis = [_shift(1 << (16 + bit), 8 * (_CRC_AT - _STAMP_AT - _STAMP.size + 1)) for bit in range(8)]
    for _ in range(_STAMP.size):
        table = [0] * 256
        for value in range(1, 256):
            low = value & -value
            table[value] = table[value ^ low] ^ basis[low.bit_length() - 1]
        tables.insert(0, table)
        basis = [_shift(crc, 8) for crc in basis]
    return tables


_HEAD: Final = struct.pack(">BHH", PREAMBLE[0], FRAME_BYTES - 6, _MESSAGE_TYPE << 4)
_FILLER: Final = bytes((7 * place + 1) & 0x7F for place in range(_CRC_AT - _STAMP_AT - _STAMP.size))
_TEMPLATE_CRC: Final = _crc(_HEAD + bytes(_STAMP.size) + _FILLER)
_TABLES: Final = _crc_tables()


def make_frame(stamp: Stamp) -> bytes:
    """A whole frame."""
    packed = _STAMP.pack(*stamp)
    return b"".join((_HEAD, packed, _FILLER, _crc_with(packed).to_bytes(3, "big")))


def check_frame(frame: bytes) -> Stamp | None:
    """What a frame says of itself, or None where a single byte of it is wrong."""
    if len(frame) != FRAME_BYTES or not frame.startswith(_HEAD) or frame[_STAMP_AT + _STAMP.size : _CRC_AT] != _FILLER:
        return None
    packed = frame[_STAMP_AT : _STAMP_AT + _STAMP.size]
    if int.from_bytes(frame[_CRC_AT:], "big") != _crc_with(packed):
        return None
    return Stamp(*_STAMP.unpack(packed))


def _crc_with(packed: bytes) -> int:
    crc = _TEMPLATE_CRC
    for table, byte in zip(_TABLES, packed, strict=True):
        crc ^= table[byte]
    return crc
