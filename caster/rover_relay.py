"""A mountpoint behind which each rover has a connection of its own to another caster: for virtual stations upstream.

An upstream network makes a virtual station for each rover from its GGA sentences, so its rovers cannot share a stream.
Strategy: one task per rover waits for the rover's first position, opens the first source that answers, passes the
rover's positions up at a bounded pace, and whole frames down. A source that is lost or silent is followed by the next;
after all have failed there is a wait, longer each time. The rover stays connected meanwhile.

Rules: `rovers_max` bounds the connections; positions go up at most every `_GGA_MIN_S`, since networks ban who sends ten
a second, and the last one again every `_GGA_MAX_S`, since others close who falls silent.
"""

import asyncio
import time
from typing import Final

import structlog

from caster.backoff import Backoff
from caster.codec.ntrip import Gga, gga_line
from caster.codec.rtcm import FrameReader
from caster.config import MountConfig
from caster.errors import DipperError
from caster.mountpoints import Mountpoint, Mountpoints, Rover
from caster.upstream import Feed, Upstream

__all__ = ["RoverRelayMountpoint"]

_log = structlog.get_logger(__name__)

_TICK_S: Final = 1.0
_GGA_MIN_S: Final = 5.0
_GGA_MAX_S: Final = 10.0
_RETRY_S: Final = (1.0, 60.0)
_PROVED_S: Final = 10.0
_PLACE_S: Final = 60.0
"""A rover that does not say where it is must not hold a place for ever."""


class _Link:
    """One rover and its way upstream.

    Attributes:
        placed: A position is known.
        gga: The latest sentence for upstream, empty before.
    """

    def __init__(self, rover: Rover, mountpoint: "RoverRelayMountpoint") -> None:
        self.rover = rover
        self.placed = asyncio.Event()
        self.gga = b""
        self._mountpoint = mountpoint
        self._sent = b""
        self._sent_s = 0.0
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"rover relay {rover.number}")

    def place(self, gga: bytes) -> None:
        """Take a position."""
        self.gga = gga
        self.placed.set()

    def close(self) -> None:
        """The rover has gone, or other sources are to be taken."""
        self._task.cancel()

    async def _run(self) -> None:
        try:
            await asyncio.wait_for(self.placed.wait(), _PLACE_S)
        except TimeoutError:
            self.rover.close("no position")
            return
        backoff = Backoff(*_RETRY_S)
        while True:
            began_s = _now_s()
            for upstream in self._mountpoint.upstreams:
                try:
                    await self._follow(upstream)
                except DipperError as error:
                    self._mountpoint.complain(upstream, str(error))
                except Exception:  # one stream's bug must not end the rover's session
                    _log.exception("rover relay failed", mount=self._mountpoint.name)
            if _now_s() - began_s > _PROVED_S:
                backoff.reset()
            await asyncio.sleep(backoff.next_s())

    async def _follow(self, upstream: Upstream) -> None:
        """Pass a source's stream on until it ends, breaks or falls silent."""
        feed = await Feed.open(upstream, gga=self.gga, ca_file=self._mountpoint.config.ca_file)
        self._sent, self._sent_s = self.gga, _now_s()
        self._mountpoint.opened(upstream)
        reader, heard_s = FrameReader(), _now_s()
        idle_s = self._mountpoint.mountpoints.config.limits.source_idle_s
        try:
            while _now_s() - heard_s <= idle_s:
                try:
                    data = await asyncio.wait_for(feed.read(), _TICK_S)
                except TimeoutError:
                    data = None
                if data == b"":
                    return
                if data is not None:
                    heard_s = _now_s()
                    self._pass_down(data, reader)
                self._pass_up(feed)
            self._mountpoint.complain(upstream, f"{upstream}: nothing came for {idle_s:g} s")
        finally:
            feed.close()

    def _pass_down(self, data: bytes, reader: FrameReader) -> None:
        frames = [data] if self._mountpoint.config.raw else reader.feed(data)
        if frames:
            self.rover.send(b"".join(frames))
            self._mountpoint.sample(self.rover, frames)

    def _pass_up(self, feed: Feed) -> None:
        """A new position after a while, the old one again after a longer while."""
        waited_s = _now_s() - self._sent_s
        if waited_s >= _GGA_MAX_S or (self.gga != self._sent and waited_s >= _GGA_MIN_S):
            feed.send(self.gga)
            self._sent, self._sent_s = self.gga, _now_s()


class RoverRelayMountpoint(Mountpoint):
    """A mountpoint that opens a stream upstream for each rover.

    Attributes:
        upstreams: Where, the preferred first.
        connects: How often a source was opened.
        failures: How often one refused, broke off or fell silent.
    """

    needs_gga = True

    def __init__(self, config: MountConfig, mountpoints: Mountpoints) -> None:
        super().__init__(config, mountpoints)
        self.connects = 0
        self.failures = 0
        self.upstreams = [Upstream.parse(url) for url in config.sources]
        self._links: dict[int, _Link] = {}
        self._told: dict[Upstream, str] = {}
        self._sampled: int | None = None

    @property
    def refusal(self) -> str:
        """As many rovers as may be are there."""
        return f"has {self.config.rovers_max} rovers, the most that are allowed" if self._is_full else ""

    @property
    def rover_count(self) -> int:
        """Rovers that it has, served or waiting."""
        return len(self._links)

    @property
    def _is_full(self) -> bool:
        return len(self._links) >= self.config.rovers_max

    def on_subscribe(self, rover: Rover) -> None:
        """A rover comes; its stream begins with its first position, or with the configured one."""
        if self._is_full:  # several were let in at the same time
            rover.close("too many rovers")
            return
        self._links[rover.number] = link = _Link(rover, self)
        if self.config.gga:
            link.place(gga_line(*self.config.gga, time.time() % 86_400))

    def on_gga(self, rover: Rover, gga: Gga) -> None:
        """A rover says where it is; a sentence without a position says nothing."""
        link = self._links.get(rover.number)
        if link is None or gga.latitude_deg is None or gga.longitude_deg is None:
            return
        if gga.line.startswith(b"$") and b"*" in gga.line:
            link.place(gga.line + b"\r\n")
        else:  # a header's sentence may lack both
            now_s = time.time() % 86_400 if gga.utc_s is None else gga.utc_s
            link.place(gga_line(gga.latitude_deg, gga.longitude_deg, gga.height_m, now_s, max(gga.quality, 1)))

    def on_leave(self, rover: Rover) -> None:
        """A rover has gone, and its stream with it."""
        link = self._links.pop(rover.number, None)
        if link is not None:
            link.close()
        if self._sampled == rover.number:
            self._sampled = None

    def on_config(self, config: MountConfig) -> None:
        """Other sources serve the rovers that come; those who are there keep theirs."""
        super().on_config(config)
        self.upstreams = [Upstream.parse(url) for url in config.sources]

    def close(self) -> None:
        """The mountpoint is removed or the service ends."""
        for link in self._links.values():
            link.close()

    # ----- called by the links

    def sample(self, rover: Rover, frames: list[bytes]) -> None:
        """One rover's stream at a time is counted, for the sourcetable."""
        if self._sampled is None:
            self._sampled = rover.number
        if self._sampled == rover.number:
            self.mount.publish(frames, time.time_ns())

    def opened(self, upstream: Upstream) -> None:
        """A source was opened."""
        self.connects += 1
        self._told.pop(upstream, None)

    def complain(self, upstream: Upstream, reason: str) -> None:
        """Say it once for as long as the reason stays the same."""
        self.failures += 1
        if self._told.get(upstream) != reason:
            self._told[upstream] = reason
            _log.warning("relay source failed", mount=self.name, reason=reason)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
