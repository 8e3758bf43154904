"""Messages between the caster and the processes that hold rovers' sockets for it: sans-IO.

    | kind  | 3 zero bytes | size of the data | number            | data |
    | 8 bit | 24 bit       | 32 bit           | 64 bit            |      |     (little-endian, as the machine's own)

The number is that of a session, or of a fan-out for `PUBLISH`. Sockets themselves go beside, by SCM_RIGHTS (unix(7)).
"""

import struct
from enum import IntEnum
from typing import Final

__all__ = ["FANOUT", "LINK_BYTES_MAX", "OFFER", "SIZE", "Kind", "MessageReader", "pack"]

_HEAD: Final = struct.Struct("<BxxxIQ")
OFFER: Final = struct.Struct("<QQ")
"""Beside a socket: the session's number and the most bytes that may wait for it."""
FANOUT: Final = struct.Struct("<Q")
SIZE: Final = struct.Struct("<Q")
LINK_BYTES_MAX: Final = 8 << 20
"""What may wait for the other process; publishes and rovers' upstream bytes beyond it are dropped as a whole."""


class Kind(IntEnum):
    """What a message is. The first are the caster's, those from `ADOPTED` on the other side's."""

    SEND = 1  # to one rover
    PUBLISH = 2  # to all rovers of a fan-out
    JOIN = 3  # the rover is one of the fan-out's
    LEAVE = 4
    CLOSE = 5  # when all is sent
    ABORT = 6
    ADOPTED = 7  # the socket is held
    RECEIVED = 8
    EOF = 9
    LOST = 10  # data: not empty after an error
    STALLED = 11
    RESUMED = 12
    DROPPED = 13  # a publish of this size did not fit into the rover's backlog


def pack(kind: Kind, number: int, data: bytes = b"") -> bytes:
    """A message as bytes."""
    return _HEAD.pack(kind, len(data), number) + data


class MessageReader:
    """Turns bytes into messages; both ends are ours, so nothing else is expected."""

    def __init__(self) -> None:
        self._pending = b""

    def receive_data(self, data: bytes) -> list[tuple[Kind, int, bytes]]:
        """Take the next bytes; return the messages that they complete."""
        buffer = self._pending + data if self._pending else data
        messages, place = [], 0
        while len(buffer) - place >= _HEAD.size:
            kind, size, number = _HEAD.unpack_from(buffer, place)
            stop = place + _HEAD.size + size
            if stop > len(buffer):
                break
            messages.append((Kind(kind), number, buffer[place + _HEAD.size : stop]))
            place = stop
        self._pending = buffer[place:]
        return messages
