"""The fan-out: one mount's frames to all its subscribers, synchronously and without copies.

Strategy: `Mount.publish` gets the frames that arrived together, joins them once, and hands the same bytes object to
every rover's transport: one send per rover and publish. Nothing awaits, so no rover can hold up another. A rover whose
socket takes no more has a bounded backlog in its transport; what does not fit is dropped as a whole: a rover may lose
frames but never sees a torn one, and a rover that stays behind is closed by name (`caster.session`).
`docs/topics/fan-out.md` tells what was measured and why this shape was taken.

The archive, the epoch assembler and the health monitor are plain callables (`Mount.tap`) that see the same frames.

Rules: no `await` here, no decoding beyond a frame's first bits, no clock: the time of reception is an argument.
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import TypeAlias

import structlog

from caster.codec.ntrip import encode_chunk
from caster.traffic import Traffic, frame_type

__all__ = ["Mount", "Subscriber", "Tap"]

_log = structlog.get_logger(__name__)

# What is sent again to every rover that connects, in this order: antenna and position, receiver, GLONASS biases.
STATION_TYPES = (1005, 1006, 1007, 1008, 1033, 1013, 1230)
# RTCM 10403.3, first fields of the ephemeris messages: bits of the satellite number after the 12-bit message type.
EPHEMERIS_SATELLITE_BITS = {1019: 6, 1020: 6, 1041: 6, 1042: 6, 1044: 4, 1045: 6, 1046: 6}


class Subscriber:
    """One rover's outlet: bounded, and never torn.

    The owner of the transport sets its write buffer limits to zero and calls `stall` and `resume` from the protocol's
    `pause_writing` and `resume_writing`, so that a rover that keeps up costs no look at its buffer.

    Attributes:
        chunked: Wrap what is sent in HTTP's chunked coding.
        stalled_since: When the socket stopped taking bytes (the loop's time, s); None while it takes them.
        sent_bytes: Stream bytes handed to the transport.
        dropped: Publishes that did not fit into the backlog.
    """

    __slots__ = (
        "_backlog_max",
        "_pending",
        "_write",
        "chunked",
        "dropped",
        "sent_bytes",
        "stalled_since",
    )

    def __init__(self, transport: asyncio.WriteTransport, backlog_max: int, *, chunked: bool = False) -> None:
        self._write = transport.write
        self._pending = transport.get_write_buffer_size
        self._backlog_max = backlog_max
        self.chunked = chunked
        self.stalled_since: float | None = None
        self.sent_bytes = 0
        self.dropped = 0

    def send(self, data: bytes) -> bool:
        """Send whole frames; False where the rover is too far behind and loses them."""
        return self.send_wire(encode_chunk(data) if self.chunked else data)

    def send_wire(self, wire: bytes) -> bool:
        """Send bytes that are already in the rover's form."""
        if self.stalled_since is not None and self._pending() + len(wire) > self._backlog_max:
            self.dropped += 1
            return False
        self._write(wire)
        self.sent_bytes += len(wire)
        return True

    def stall(self, now_s: float) -> None:
        """The socket takes no more for now."""
        self.stalled_since = now_s

    def resume(self) -> None:
        """The socket has taken all."""
        self.stalled_since = None


class Mount:
    """One stream and everybody who follows it.

    Args:
        name: The mountpoint's name.
        raw: The stream is not RTCM 3: nothing is cached or counted by message type.
        send_ephemerides: New rovers get the last ephemeris of each satellite, too.

    Attributes:
        traffic: What the stream carries.
        published: Count of publishes.
    """

    def __init__(self, name: str, *, raw: bool = False, send_ephemerides: bool = False) -> None:
        self.name = name
        self.traffic = Traffic()
        self.published = 0
        self._raw = raw
        self._send_ephemerides = send_ephemerides
        self._plain: set[Subscriber] = set()
        self._chunked: set[Subscriber] = set()
        self._taps: tuple[Tap, ...] = ()
        self._dropped = 0
        self._sent_bytes = 0
        self._station: dict[int, bytes] = {}
        self._ephemerides: dict[tuple[int, int], bytes] = {}

    def __len__(self) -> int:
        """How many rovers follow the stream."""
        return len(self._plain) + len(self._chunked)

    @property
    def dropped(self) -> int:
        """Publishes that rovers lost since the start, because their backlog was full."""
        return self._dropped + sum(rover.dropped for group in (self._plain, self._chunked) for rover in group)

    @property
    def sent_bytes(self) -> int:
        """Bytes sent to all rovers since the start."""
        return self._sent_bytes + sum(rover.sent_bytes for group in (self._plain, self._chunked) for rover in group)

    def publish(self, frames: Sequence[bytes], received_unix_ns: int) -> None:
        """Send frames that arrived together to every subscriber.

        Args:
            frames: Whole frames, in order (for a raw mount: any bytes).
            received_unix_ns: When they were received, ns since 1970 UTC.
        """
        if not frames:
            return
        self.published += 1
        self._remember(frames, received_unix_ns)
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        for rover in self._plain:
            rover.send_wire(data)
        if self._chunked:
            chunk = encode_chunk(data)
            for rover in self._chunked:
                rover.send_wire(chunk)
        for tap in self._taps:
            self._call(tap, frames, received_unix_ns)

    def attach(self, rover: Subscriber) -> None:
        """Let a rover follow the stream from the next publish on, after the station's description."""
        if rover not in self._plain and rover not in self._chunked:
            self._dropped -= rover.dropped  # what it lost and got elsewhere is not this stream's
            self._sent_bytes -= rover.sent_bytes
        greeting = self.greeting()
        if greeting:
            rover.send(greeting)
        (self._chunked if rover.chunked else self._plain).add(rover)

    def detach(self, rover: Subscriber) -> None:
        """A rover leaves; it is no error if it has left before."""
        if rover in self._plain or rover in self._chunked:
            self._dropped += rover.dropped
            self._sent_bytes += rover.sent_bytes
        self._plain.discard(rover)
        self._chunked.discard(rover)

    def tap(self, tap: "Tap", *, first: bool = False) -> None:
        """Call a function with every publish: `tap(mount, frames, received_unix_ns)`; it must return at once.

        Args:
            tap: The function.
            first: Call it before the others.
        """
        self._taps = (tap, *self._taps) if first else (*self._taps, tap)

    def untap(self, tap: "Tap") -> None:
        """Stop calling a function."""
        self._taps = tuple(other for other in self._taps if other != tap)

    def greeting(self) -> bytes:
        """The last station messages (position, antenna, receiver, biases) as whole frames; empty at first."""
        frames = [self._station[kind] for kind in STATION_TYPES if kind in self._station]
        return b"".join([*frames, *(self._ephemerides.values() if self._send_ephemerides else ())])

    def forget(self) -> None:
        """Drop what was remembered of a station that has gone."""
        self._station.clear()
        self._ephemerides.clear()

    def _remember(self, frames: Sequence[bytes], received_unix_ns: int) -> None:
        if self._raw:
            self.traffic.count_bytes(sum(map(len, frames)), received_unix_ns)
            return
        for frame in frames:
            kind = frame_type(frame)
            self.traffic.count(kind, frame, received_unix_ns)
            if kind in STATION_TYPES:
                self._station[kind] = frame
            elif kind in EPHEMERIS_SATELLITE_BITS:
                self._ephemerides[kind, _satellite_number(frame, EPHEMERIS_SATELLITE_BITS[kind])] = frame

    def _call(self, tap: "Tap", frames: Sequence[bytes], received_unix_ns: int) -> None:
        try:
            tap(self, frames, received_unix_ns)
        except Exception:  # a subscriber's bug must not cost the others their frames
            _log.exception("tap failed", mount=self.name)


Tap: TypeAlias = Callable[[Mount, Sequence[bytes], int], None]


def _satellite_number(frame: bytes, bits: int) -> int:
    """The field after the message type, which begins in the middle of the payload's second byte."""
    return (int.from_bytes(frame[4:6].ljust(2, b"\0"), "big") >> (12 - bits)) & ((1 << bits) - 1)
