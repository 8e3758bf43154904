"""RTCM 3 frames in a stream of bytes: find them, check them, make them (RTCM 10403.3 section 4, transport layer).

    +----------+----------+--------+-----------------+----------+
    | 0xD3     | reserved | length | message payload | CRC-24Q  |
    | 8 bits   | 6, zero  | 10     | 0 to 1023 bytes | 24       |
    +----------+----------+--------+-----------------+----------+

`FrameReader` takes bytes as they come and gives whole frames, good ones only. Where a CRC fails, the search goes on
at the byte after the false preamble, so that a good frame inside is never lost; a preamble with reserved bits set is
taken as garbage, since in a stream mixed with UBX or NMEA it nearly always is, and waiting for its length would delay
the frames behind it. One kernel call scans a chunk, or one of each of many streams (`feed_all`). A byte is checked by
at most 1029 / 3 candidate frames, and at most one incomplete candidate (1029 bytes) is kept: time and memory are
bounded for any input.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from caster.codec.rtcm.bits import padded
from caster.errors import FormatError, LocalProtocolError
from solver.jit import kernel, part

__all__ = [
    "FRAME_OVERHEAD",
    "PAYLOAD_MAX",
    "FrameCounters",
    "FrameReader",
    "ScanSpace",
    "crc24q",
    "feed_all",
    "frame_spans",
    "make_frame",
    "message_type",
    "payload_of",
]

PREAMBLE: Final = 0xD3
HEADER_SIZE: Final = 3
CRC_SIZE: Final = 3
FRAME_OVERHEAD: Final = HEADER_SIZE + CRC_SIZE
PAYLOAD_MAX: Final = 1023
_FIRST_BYTES: Final = 2_048  # what is pending and a small epoch
_KEPT_BYTES: Final = 64 << 10  # between two pieces: a caster reads no more at once


def _crc_tables() -> NDArray[np.uint32]:
    """Tables (8, 256) for eight bytes a step: row k is the CRC-24Q of one byte followed by k zero bytes."""
    tables = np.zeros((8, 256), np.uint32)
    for byte in range(256):
        crc = byte << 16
        for _ in range(8):
            crc = (crc << 1) ^ (0x1864CFB if crc & 0x800000 else 0)
        tables[0, byte] = crc
    for row in range(1, 8):
        for byte in range(256):
            crc = int(tables[row - 1, byte])
            tables[row, byte] = ((crc << 8) & 0xFFFFFF) ^ int(tables[0, crc >> 16])
    return tables


_CRC: Final = _crc_tables()


@kernel
def _crc_of(data: Any, start: int, stop: int) -> int:
    """CRC-24Q of data[start:stop]: polynomial 0x1864CFB, start value 0 (RTCM 10403.3 section 4.2), slicing by 8."""
    crc = np.int64(0)
    place = start
    while place + 8 <= stop:
        crc ^= (np.int64(data[place]) << 16) | (np.int64(data[place + 1]) << 8) | np.int64(data[place + 2])
        crc = (
            np.int64(_CRC[7, crc >> 16])
            ^ np.int64(_CRC[6, (crc >> 8) & 255])
            ^ np.int64(_CRC[5, crc & 255])
            ^ np.int64(_CRC[4, data[place + 3]])
            ^ np.int64(_CRC[3, data[place + 4]])
            ^ np.int64(_CRC[2, data[place + 5]])
            ^ np.int64(_CRC[1, data[place + 6]])
            ^ np.int64(_CRC[0, data[place + 7]])
        )
        place += 8
    while place < stop:
        crc = ((crc << 8) & 0xFFFFFF) ^ np.int64(_CRC[0, (crc >> 16) ^ np.int64(data[place])])
        place += 1
    return int(crc)


@part
def _scan(data: Any, size: int, place: int, final: bool, spans: Any, found: int, counts: Any) -> tuple[int, int]:
    """Find good frames in data[place:size]: their [start, stop) go to `spans` from row `found` on.

    Stops at an incomplete candidate (unless `final`: there is no more to come). Adds to counts: 0 frames that failed
    the CRC, 1 bytes outside of good frames. Returns the next place and the next row.
    """
    while place < size:
        if data[place] == 0xD3 and (place + 1 >= size or data[place + 1] < 4):
            stop = size + 1
            if place + 2 < size:
                stop = place + 6 + int(data[place + 1]) * 256 + int(data[place + 2])
            if stop > size:
                if not final:
                    return place, found
            elif _crc_of(data, place, stop) == 0:  # a CRC over data and its own CRC leaves nothing
                spans[found, 0] = place
                spans[found, 1] = stop
                found += 1
                place = stop
                continue
            else:
                counts[0] += 1
        counts[1] += 1
        place += 1
    return place, found


@kernel
def _scan_all(data: Any, final: bool, spans: Any, pieces: Any) -> None:
    """Find good frames in pieces of `data` (uint8), each of a stream of its own: their [start, stop) go to `spans`.

    A row of `pieces` (n, 5) int64 has, by column: 0 the piece's end, which is given; 1 the next place in it, 2 the row
    of `spans` behind its last frame, 3 frames that failed the CRC, 4 bytes outside of good frames.
    """
    place, found = 0, 0
    for piece in pieces:
        piece[1], found = _scan(data, piece[0], place, final, spans, found, piece[3:])
        piece[2] = found
        place = piece[0]


@dataclass(frozen=True, slots=True)
class FrameCounters:
    """What a reader has seen: good frames, candidates with a bad CRC, and bytes that belong to no good frame.

    A bad candidate may be a damaged frame or a preamble byte by chance in something else.
    """

    frames: int
    bad_crc: int
    skipped_bytes: int


class ScanSpace:
    """Where bytes are scanned: an array that stays, since making one for each piece costs more than to scan it.

    Readers of one thread may share one: thousands of them then find it in the processor's cache.

    Attributes:
        array: uint8.
        bytes: The same, to copy from and to.
        spans: (n, 2) int64, the [start, stop) of frames.
    """

    __slots__ = ("array", "bytes", "spans")

    def __init__(self) -> None:
        self.make_room(_FIRST_BYTES)

    def make_room(self, size: int) -> None:
        """Go on with arrays for so many bytes."""
        self.array = np.empty(size, np.uint8)
        self.bytes = self.array.data
        self.spans = np.empty((size // FRAME_OVERHEAD, 2), np.int64)


class FrameReader:
    """Turns a stream of bytes, in pieces of any size, into whole RTCM 3 frames (header and CRC included).

    Args:
        space: Shared with other readers of the thread; by default its own.
    """

    __slots__ = ("_bad_crc", "_frames", "_pending", "_skipped", "_space")

    def __init__(self, space: ScanSpace | None = None) -> None:
        self._pending = b""
        self._frames = self._bad_crc = self._skipped = 0
        self._space = space or ScanSpace()

    @property
    def counters(self) -> FrameCounters:
        """What has been seen so far."""
        return FrameCounters(self._frames, self._bad_crc, self._skipped)

    @property
    def pending_bytes(self) -> int:
        """Bytes of the incomplete frame that is waited for; at most 1028."""
        return len(self._pending)

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes and return the frames that they complete."""
        return feed_all([(self, data)])[0]

    def finish(self) -> list[bytes]:
        """End the stream: return the frames inside of what looked like the start of a longer one."""
        return feed_all([(self, b"")], final=True)[0]

    def _keep(self, pending: bytes, frames: int, bad_crc: int, skipped: int) -> None:
        """Wait with the rest, and count what was found."""
        self._pending = pending
        self._frames += frames
        self._bad_crc += bad_crc
        self._skipped += skipped


def feed_all(pieces: Sequence[tuple[FrameReader, bytes]], *, final: bool = False) -> list[list[bytes]]:
    """Feed several readers of one space, each with its next bytes: a kernel's call costs more than to scan an epoch.

    Args:
        pieces: Each reader once.
        final: The streams end here.

    Returns:
        The frames that each has completed.
    """
    space = pieces[0][0]._space
    buffers = [reader._pending + data for reader, data in pieces]
    data = b"".join(buffers)
    if len(data) > len(space.bytes):
        space.make_room(2 * len(data))
    space.bytes[: len(data)] = data
    table = np.zeros((len(pieces), 5), np.int64)
    table[:, 0] = list(accumulate(map(len, buffers)))
    _scan_all(space.array, final, space.spans, table)
    rows = table.tolist()
    spans = space.spans[: rows[-1][2]].tolist()
    if len(space.bytes) > _KEPT_BYTES:
        space.make_room(_KEPT_BYTES)
    found, first = [], 0
    for (reader, _), (stop, place, last, bad_crc, skipped) in zip(pieces, rows, strict=True):
        found.append([data[start:end] for start, end in spans[first:last]])
        reader._keep(data[place:stop], last - first, bad_crc, skipped)
        first = last
    return found


def frame_spans(data: NDArray[np.uint8]) -> tuple[NDArray[np.int64], FrameCounters]:
    """Find all frames of a whole recording at once.

    Args:
        data: (n,) uint8.

    Returns:
        (m, 2) int64, the [start, stop) of each good frame; and the counters.
    """
    spans = np.empty((len(data) // FRAME_OVERHEAD, 2), np.int64)
    whole = np.array([[len(data), 0, 0, 0, 0]])
    _scan_all(data, True, spans, whole)
    _, _, frames, bad_crc, skipped = whole[0].tolist()
    return spans[:frames], FrameCounters(frames, bad_crc, skipped)


def crc24q(data: bytes) -> int:
    """CRC-24Q of bytes; of a whole good frame it is 0."""
    return int(_crc_of(padded(data), 0, len(data)))


def make_frame(payload: bytes) -> bytes:
    """Put a message payload into a frame.

    Raises:
        LocalProtocolError: the payload is longer than 1023 bytes.
    """
    if len(payload) > PAYLOAD_MAX:
        raise LocalProtocolError(f"an RTCM 3 payload has at most {PAYLOAD_MAX} bytes, not {len(payload)}")
    head = bytes((PREAMBLE, len(payload) >> 8, len(payload) & 255)) + payload
    return head + crc24q(head).to_bytes(CRC_SIZE, "big")


def payload_of(frame: bytes) -> bytes:
    """The message payload of a whole frame.

    Raises:
        FormatError: the bytes are not one whole frame. The CRC is not checked again.
    """
    if len(frame) < FRAME_OVERHEAD or frame[0] != PREAMBLE:
        raise FormatError(f"not an RTCM 3 frame: {frame[:6].hex()}")
    size = (frame[1] & 3) << 8 | frame[2]
    if len(frame) != size + FRAME_OVERHEAD:
        raise FormatError(f"RTCM 3 frame of {len(frame)} bytes says that its payload has {size}")
    return frame[HEADER_SIZE:-CRC_SIZE]


def message_type(frame: bytes) -> int:
    """The message number (DF002) of a whole frame; 0 where its payload is too short to hold one."""
    if len(frame) < FRAME_OVERHEAD + 2:
        return 0
    return frame[3] << 4 | frame[4] >> 4
