"""The fan-out: one mount's frames to all its subscribers, synchronously and without copies.

Strategy: `Mount.publish` gets the frames that arrived together, joins them once, and sends the same bytes to every
rover: one send per rover and publish (`caster.fanout`); what stations send in one turn of the event loop is cut into
frames and published together at its end (`Turn`). Nothing awaits, so no rover can hold up another. A rover whose
socket takes no more has a bounded backlog in its transport; what does not fit is dropped as a whole: a rover may lose
frames but never sees a torn one, and a rover that stays behind is closed by name (`caster.session`).
`docs/topics/fan-out.md` tells what was measured and why this shape was taken.

The archive, the epoch assembler and the health monitor are plain callables (`Mount.tap`) that see the same frames.

Rules: no `await` here, no decoding beyond a frame's first bits, no clock: the time of reception is an argument.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeAlias

import structlog

from caster.codec.rtcm import FrameReader, feed_all
from caster.fanout import CODINGS, Coding, Fanout, Subscriber, send_together
from caster.traffic import Traffic, frame_type

__all__ = ["TOGETHER_MAX", "Mount", "Subscriber", "Tap", "Turn"]

_log = structlog.get_logger(__name__)

TOGETHER_MAX = 256
"""Pieces of streams that are read together, and publishes that are sent so: 2,700 stations at 1 Hz have some seven in a
turn, a crowd that catches up more. Each is of one read (64 kB) or one epoch."""

# What is sent again to every rover that connects, in this order: antenna and position, receiver, GLONASS biases.
STATION_TYPES = (1005, 1006, 1007, 1008, 1033, 1013, 1230)
# RTCM 10403.3, first fields of the ephemeris messages: bits of the satellite number after the 12-bit message type.
EPHEMERIS_SATELLITE_BITS = {1019: 6, 1020: 6, 1041: 6, 1042: 6, 1044: 4, 1045: 6, 1046: 6}


class Mount:
    """One stream and everybody who follows it.

    Args:
        name: The mountpoint's name.
        raw: The stream is not RTCM 3: nothing is cached or counted by message type.
        send_ephemerides: New rovers get the last ephemeris of each satellite, too.

    Attributes:
        traffic: What the stream carries.
        published: Count of publishes.
        derived: Streams that are made of this one's frames.
        on_demand: Called when a rover comes, to this stream or to one that is made of it.
    """

    def __init__(self, name: str, *, raw: bool = False, send_ephemerides: bool = False) -> None:
        self.name = name
        self.traffic = Traffic()
        self.published = 0
        self.derived: list[Mount] = []
        self.on_demand: Callable[[], None] | None = None
        self._raw = raw
        self._send_ephemerides = send_ephemerides
        self._fanouts: dict[Coding, Fanout] = {}
        self._taps: tuple[Tap, ...] = ()
        self._dropped = 0
        self._sent_bytes = 0
        self._station: dict[int, bytes] = {}
        self._ephemerides: dict[tuple[int, int], bytes] = {}

    def __len__(self) -> int:
        """How many rovers follow the stream."""
        return sum(map(len, self._fanouts.values()))

    @property
    def demand(self) -> int:
        """How many rovers follow the stream or what is made of it."""
        return len(self) + sum(mount.demand for mount in self.derived)

    @property
    def dropped(self) -> int:
        """Publishes that rovers lost since the start, because their backlog was full."""
        return self._dropped + sum(rover.dropped for rover in self._rovers())

    @property
    def sent_bytes(self) -> int:
        """Bytes sent to all rovers since the start."""
        return self._sent_bytes + sum(rover.sent_bytes for rover in self._rovers())

    def publish(self, frames: Sequence[bytes], received_unix_ns: int) -> None:
        """Send frames that arrived together to every subscriber.

        Args:
            frames: Whole frames, in order (for a raw mount: any bytes).
            received_unix_ns: When they were received, ns since 1970 UTC.
        """
        _publish_all([(self, frames, received_unix_ns)])

    def _take(self, frames: Sequence[bytes], received_unix_ns: int) -> list[tuple[Fanout, bytes]]:
        """Count and remember frames; return what is to be sent to whom."""
        self.published += 1
        self._remember(frames, received_unix_ns)
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        return [(fanout, CODINGS[coding](data)) for coding, fanout in self._fanouts.items()]

    def _tell(self, frames: Sequence[bytes], received_unix_ns: int) -> None:
        for tap in self._taps:
            try:
                tap(self, frames, received_unix_ns)
            except Exception:  # a subscriber's bug must not cost the others their frames
                _log.exception("tap failed", mount=self.name)

    def attach(self, rover: Subscriber) -> None:
        """Let a rover follow the stream from the next publish on, after the station's description."""
        if rover.fanout is None:
            self._dropped -= rover.dropped  # what it lost and got elsewhere is not this stream's
            self._sent_bytes -= rover.sent_bytes
        greeting = self.greeting()
        if greeting:
            rover.send(greeting)
        if rover.fanout is None:
            if rover.coding not in self._fanouts:
                self._fanouts[rover.coding] = Fanout()
            self._fanouts[rover.coding].add(rover)
        self.want()

    def want(self) -> None:
        """Somebody wants the stream, which may have to begin for it."""
        if self.on_demand is not None:
            self.on_demand()

    def detach(self, rover: Subscriber) -> None:
        """A rover leaves; it is no error if it has left before."""
        fanout = self._fanouts.get(rover.coding)
        if fanout is not None and rover.fanout is fanout:
            fanout.discard(rover)
            if not fanout:
                del self._fanouts[rover.coding]
            self._dropped += rover.dropped
            self._sent_bytes += rover.sent_bytes

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
        for mount in self.derived:
            mount.forget()

    def _rovers(self) -> Iterator[Subscriber]:
        return chain.from_iterable(self._fanouts.values())

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


class Turn:
    """What comes in one turn of the event loop: cut into frames and published at its end, all together.

    One look for frames in all that has come costs less than one for each stream. Sends that follow each other cost less
    than the same sends with Python between them: the kernel's code and the reader at the other end stay awake.
    """

    def __init__(self) -> None:
        self._pieces: dict[FrameReader, tuple[bytes, Mount, TakeFrames, int]] = {}
        self._publishes: list[tuple[Mount, Sequence[bytes], int]] = []
        self._ends = False

    def read(self, reader: FrameReader, data: bytes, mount: Mount, take: "TakeFrames", received_unix_ns: int) -> None:
        """Feed a mount's reader at the end of the turn.

        Args:
            reader: Shares its space with the readers of all mounts.
            data: The next bytes.
            mount: Whose they are.
            take: Called with the frames that they complete, if there are any, and when they were received.
            received_unix_ns: ns since 1970 UTC.
        """
        if reader in self._pieces:  # its next bytes must wait for these
            self.end()
        self._end_soon()
        self._pieces[reader] = data, mount, take, received_unix_ns
        if len(self._pieces) >= TOGETHER_MAX:
            self.end()

    def publish(self, mount: Mount, frames: Sequence[bytes], received_unix_ns: int) -> None:
        """As `Mount.publish`, at the end of the turn."""
        self._end_soon()
        self._publishes.append((mount, frames, received_unix_ns))
        if len(self._publishes) >= TOGETHER_MAX:
            self._send()

    def end(self) -> None:
        """Read and publish what waits; it is no error if nothing does."""
        try:
            self._read()
            self._send()
        finally:
            self._ends = False

    def _end_soon(self) -> None:
        if not self._ends:
            self._ends = True
            asyncio.get_running_loop().call_soon(self.end)

    def _read(self) -> None:
        pieces, self._pieces = self._pieces, {}
        if not pieces:
            return
        found = feed_all([(reader, data) for reader, (data, *_) in pieces.items()])
        for frames, (_, mount, take, received) in zip(found, pieces.values(), strict=True):
            if frames:
                try:
                    take(frames, received)
                except Exception:  # one stream's bug must not cost the others of the turn their frames
                    _log.exception("frames lost", mount=mount.name)

    def _send(self) -> None:
        publishes, self._publishes = self._publishes, []
        _publish_all(publishes)


def _publish_all(publishes: Iterable[tuple[Mount, Sequence[bytes], int]]) -> None:
    """Serve all rovers first, then tell the taps."""
    publishes = [publish for publish in publishes if publish[1]]
    sends: list[tuple[Fanout, bytes]] = []
    for mount, frames, received in publishes:
        try:
            sends += mount._take(frames, received)
        except Exception:  # one stream's bug must not cost the others of the turn their frames
            _log.exception("publish failed", mount=mount.name)
    send_together(sends)
    for mount, frames, received in publishes:
        mount._tell(frames, received)


Tap: TypeAlias = Callable[[Mount, Sequence[bytes], int], None]
TakeFrames: TypeAlias = Callable[[list[bytes], int], None]


def _satellite_number(frame: bytes, bits: int) -> int:
    """The field after the message type, which begins in the middle of the payload's second byte."""
    return (int.from_bytes(frame[4:6].ljust(2, b"\0"), "big") >> (12 - bits)) & ((1 << bits) - 1)
