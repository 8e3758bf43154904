"""A test rover: takes a mount's stream as a receiver would, and counts what it gets.

It sends its position as GGA (in the request's header and in the stream) every ten seconds, or uploads a recording's
observations on the same connection, and looks at what comes: RTCM messages by type, the rate and gaps of their epochs,
how late they are, NMEA fixes by state.
"""

import asyncio
import contextlib
import re
from collections import Counter
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from typing import BinaryIO, Final

from pynmeagps import NMEAReader
from pynmeagps.exceptions import NMEAMessageError, NMEAParseError, NMEATypeError

from caster.codec.ntrip import (
    Refused,
    ReplyReader,
    StreamData,
    StreamEnded,
    TableReceived,
    get_request,
    gga_line,
)
from caster.codec.rtcm import FrameReader, message_type
from caster.errors import RefusedError, RemoteProtocolError, SourceError
from stations.replay import WEEK_S, frame_tow_s
from stations.uplink import Target, connect

__all__ = ["Place", "Rover", "Tally"]

GGA_EVERY_S: Final = 10.0
"""As receivers do; casters forget a rover's place after some minutes."""
AFTER_UPLOAD_S: Final = 5.0
"""How long answers are waited for when the upload is through."""
_SENTENCE: Final = re.compile(rb"\$[A-Z]{3,6},[ -#%-~]{0,240}\r?\n")
_SENTENCE_MAX: Final = 256
_QUALITY: Final = {0: "none", 1: "single", 2: "dgnss", 4: "fix", 5: "float", 6: "estimated"}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rover says it is: degrees and metres above the ellipsoid."""

    latitude_deg: float
    longitude_deg: float
    height_m: float


@dataclass(slots=True)
class Tally:
    """What came, counted.

    Attributes:
        received: Bytes of the stream.
        messages: RTCM messages by number.
        epochs: Distinct observation epochs, by their time tags.
        steps_s: The steps between them.
        latencies_s: Age of each epoch when it came, where it is less than a minute: recordings have none.
        sentences: NMEA sentences by kind, such as "GGA".
        bad_sentences: Those that pynmeagps refuses, for their checksum or what they say.
        fixes: GGA sentences by fix state.
        last_gga: The last one, without its line end.
    """

    received: int = 0
    messages: Counter[int] = field(default_factory=Counter)
    epochs: int = 0
    steps_s: list[float] = field(default_factory=list)
    latencies_s: list[float] = field(default_factory=list)
    sentences: Counter[str] = field(default_factory=Counter)
    bad_sentences: int = 0
    fixes: Counter[str] = field(default_factory=Counter)
    last_gga: str = ""
    _frames: FrameReader = field(default_factory=FrameReader)
    _text: bytes = b""
    _last_s: float | None = None

    def take(self, data: bytes, now_tow_s: float | None = None) -> None:
        """Count a piece of the stream.

        Args:
            data: Bytes of any split.
            now_tow_s: GPST seconds of week at which it came; None leaves latency out.
        """
        self.received += len(data)
        for frame in self._frames.feed(data):
            self.messages[message_type(frame)] += 1
            tow_s = frame_tow_s(frame)
            if tow_s is not None and tow_s != self._last_s:
                self._take_epoch(tow_s, now_tow_s)
        self._text += data
        place = 0
        for found in _SENTENCE.finditer(self._text):
            place = found.end()
            self._take_sentence(found[0])
        self._text = self._text[place:][-_SENTENCE_MAX:]

    def _take_sentence(self, line: bytes) -> None:
        try:
            message = NMEAReader.parse(line)
        except (NMEAMessageError, NMEAParseError, NMEATypeError, ValueError):
            message = None
        if message is None:
            self.bad_sentences += 1
            return
        self.sentences[message.msgID] += 1
        if message.msgID == "GGA":
            self.fixes[_QUALITY.get(message.quality, str(message.quality))] += 1
            self.last_gga = line.decode("ascii").rstrip()

    def _take_epoch(self, tow_s: float, now_tow_s: float | None) -> None:
        self.epochs += 1
        if self._last_s is not None:
            self.steps_s.append((tow_s - self._last_s + WEEK_S / 2) % WEEK_S - WEEK_S / 2)
        self._last_s = tow_s
        if now_tow_s is not None:
            late_s = (now_tow_s - tow_s + WEEK_S / 2) % WEEK_S - WEEK_S / 2
            if -1.0 < late_s < 60.0:
                self.latencies_s.append(late_s)

    @property
    def interval_s(self) -> float:
        """The usual step between epochs; NaN while there are fewer than two."""
        forward = sorted(step for step in self.steps_s if step > 0)
        return forward[len(forward) // 2] if forward else float("nan")

    @property
    def gaps(self) -> int:
        """Steps of more than one and a half times the usual one."""
        return sum(step > 1.5 * self.interval_s for step in self.steps_s)

    @property
    def longest_gap_s(self) -> float:
        """The longest step between epochs."""
        return max(self.steps_s, default=float("nan"))

    def summary(self) -> list[str]:
        """Lines for people."""
        lines = [f"{self.received} bytes"]
        if self.messages:
            kinds = "  ".join(f"{number}: {count}" for number, count in sorted(self.messages.items()))
            lines.append(f"messages  {kinds}")
        if self.epochs:
            steps = f", every {self.interval_s:g} s, {self.gaps} gaps, longest step {self.longest_gap_s:g} s"
            lines.append(f"epochs    {self.epochs}{steps if self.steps_s else ''}")
        if self.latencies_s:
            ordered = sorted(self.latencies_s)
            median, worst = ordered[len(ordered) // 2], ordered[-1]
            lines.append(f"latency   median {median:.2f} s, worst {worst:.2f} s")
        if self.sentences or self.bad_sentences:
            kinds = "  ".join(f"{kind}: {count}" for kind, count in sorted(self.sentences.items()))
            lines.append(f"sentences {kinds}{f'  bad: {self.bad_sentences}' if self.bad_sentences else ''}")
        if self.fixes:
            total = sum(self.fixes.values())
            states = "  ".join(f"{state}: {count}" for state, count in self.fixes.most_common())
            lines += [f"fixes     {total}  {states}", f"last      {self.last_gga}"]
        return lines


@dataclass(slots=True)
class Rover:
    """One session at one mount.

    Attributes:
        target: Caster, mount, credentials.
        version: NTRIP version, 1 or 2.
        place: What to send as GGA; None sends none.
        utc_s: Gives seconds of the UTC day, for the GGA's time.
        tow_s: Gives GPST seconds of week, for latencies.
        output: Takes the stream's bytes, if given.
        tally: What came so far.
        is_closed: The caster has ended the stream.
    """

    target: Target
    version: int
    utc_s: Callable[[], float]
    tow_s: Callable[[], float]
    place: Place | None = None
    output: BinaryIO | None = None
    tally: Tally = field(default_factory=Tally)
    is_closed: bool = False

    async def run(self, upload: AsyncIterator[bytes] | None = None, seconds: float | None = None) -> None:
        """Be at the mount until the time is over, the caster closes, or an upload and its answers are through.

        Raises:
            SourceError: there is no caster, or it said nothing of use.
            RefusedError: it refuses.
        """
        target = self.target
        reader, writer = await connect(target.host, target.port, tls=target.tls)
        opened = asyncio.Event()
        listener = asyncio.create_task(self._listen(reader, opened), name=f"listen to {target}")
        sender = asyncio.create_task(self._speak(writer, opened, upload), name=f"speak to {target}")
        try:
            writer.write(self._request())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await asyncio.wait({listener, sender}, return_when=asyncio.FIRST_COMPLETED)
            if listener.done():
                listener.result()
            if sender.done():
                sender.result()
        finally:
            for task in (listener, sender):
                task.cancel()
            await asyncio.gather(listener, sender, return_exceptions=True)
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    def _request(self) -> bytes:
        target = self.target
        gga = self._gga().decode() if self.place is not None else ""
        host = f"{target.host}:{target.port}"
        return get_request(target.mount, host, version=self.version, credentials=target.credentials, gga=gga)

    def _gga(self) -> bytes:
        assert self.place is not None
        return gga_line(self.place.latitude_deg, self.place.longitude_deg, self.place.height_m, self.utc_s())

    async def _listen(self, reader: asyncio.StreamReader, opened: asyncio.Event) -> None:
        """Take what comes until the caster ends it."""
        replies = ReplyReader()
        while True:
            try:
                data = await reader.read(65_536)
                events = replies.receive_data(data) if data else replies.receive_eof()
            except OSError as error:
                raise SourceError(f"{self.target}: {error.strerror or error}") from None
            except RemoteProtocolError as error:
                raise SourceError(f"{self.target}: {error}") from None
            for event in events:
                if isinstance(event, StreamData):
                    self._take(event.data)
                elif isinstance(event, Refused):
                    raise RefusedError(f"{self.target}: refused: {event.reason or event.status}", event.status)
                elif isinstance(event, TableReceived):
                    raise RefusedError(f"{self.target}: the caster has no such mount and sent its sourcetable", 404)
                elif isinstance(event, StreamEnded):
                    self.is_closed = True
                    return
                else:
                    opened.set()
            if not data:
                self.is_closed = True
                return

    def _take(self, data: bytes) -> None:
        self.tally.take(data, self.tow_s())
        if self.output is not None:
            self.output.write(data)

    async def _speak(
        self, writer: asyncio.StreamWriter, opened: asyncio.Event, upload: AsyncIterator[bytes] | None
    ) -> None:
        """Send the position now and then, or the upload; ends when the answers to an upload have had their time."""
        await opened.wait()
        if upload is not None:
            async for piece in upload:
                await _send(writer, piece, str(self.target))
            await asyncio.sleep(AFTER_UPLOAD_S)
            return
        while True:
            if self.place is not None:
                await _send(writer, self._gga(), str(self.target))
            await asyncio.sleep(GGA_EVERY_S)


async def _send(writer: asyncio.StreamWriter, data: bytes, name: str) -> None:
    try:
        writer.write(data)
        await writer.drain()
    except OSError as error:
        raise SourceError(f"{name}: {error.strerror or error}") from None
