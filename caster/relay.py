"""A mountpoint that is pulled from other casters: always, or only while rovers follow it, with fail-over.

Strategy: one task per mountpoint goes through the sources in the order of preference until one gives data, and passes
it on as a station's. When a source is lost or silent, the next one is tried at once; after all have failed, the task
waits, longer each time. While a later source serves, the first one is tried now and then, and taken back as soon as it
has an open stream. On demand, the connection begins with the first rover and ends some time (`linger_s`) after the
last one has gone, so that a rover that reconnects does not cost the upstream caster anything.

A rover of a relay on demand is let in at once and waits for the first data.
"""

import asyncio
import time
from typing import Final

import structlog

from caster.backoff import Backoff
from caster.codec.ntrip import gga_line
from caster.config import MountConfig
from caster.errors import DipperError
from caster.mountpoints import Mountpoints, StationMountpoint
from caster.upstream import Feed, Upstream

__all__ = ["RelayMountpoint"]

_log = structlog.get_logger(__name__)

_TICK_S: Final = 1.0
_GGA_PERIOD_S: Final = 10.0
_PROVED_S: Final = 10.0
_RETRY_S: Final = (1.0, 60.0)


class _Session:
    """The upstream caster as the source of the mountpoint."""

    account = "relay"
    number = 0

    def __init__(self, feed: Feed) -> None:
        self.address = str(feed.upstream)
        self.agent = f"NTRIP {feed.version} caster"
        self.closed = ""

    def close(self, reason: str) -> None:
        """End this connection; the relay goes on with the next."""
        self.closed = self.closed or reason


class RelayMountpoint(StationMountpoint):
    """A stream of another caster.

    Attributes:
        connects: How often a source was opened.
        failures: How often one refused, broke off or fell silent.
    """

    takes_sources = False

    def __init__(self, config: MountConfig, mountpoints: Mountpoints) -> None:
        super().__init__(config, mountpoints)
        self.connects = 0
        self.failures = 0
        self.retry = Backoff(*_RETRY_S)
        self._wanted = asyncio.Event()
        self._deserted_s: float | None = None
        self._told: dict[Upstream, str] = {}
        self._task: asyncio.Task[None] | None = None
        self.mount.on_demand = self._wanted.set
        self._start()

    @property
    def is_live(self) -> bool:
        """It can serve: on demand, always."""
        return self.config.on_demand or super().is_live

    @property
    def is_idle(self) -> bool:
        """On demand, no stream is expected while nobody asks for it."""
        return self.config.on_demand and not self._wanted.is_set()

    def on_config(self, config: MountConfig) -> None:
        """Other sources or another way are taken at once; a stream that stays is not touched."""
        relay = ("sources", "on_demand", "gga", "ca_file")
        changed = any(getattr(config, key) != getattr(self.config, key) for key in relay)
        super().on_config(config)
        if changed:
            self._stop()
            self._start()

    def close(self) -> None:
        """The mountpoint is removed or the service ends."""
        self._stop()
        super().close()

    def _start(self) -> None:
        self._upstreams = [Upstream.parse(url) for url in self.config.sources]
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"relay {self.name}")

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    # ----- the task

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            if self.config.on_demand and not self.mount.demand:
                self._wanted.clear()
                await self._wanted.wait()
            self._wanted.set()
            self._deserted_s = None
            began_s = loop.time()
            try:
                await self._follow_the_first_that_answers()
            except Exception:  # one relay's bug must not end it for good
                _log.exception("relay failed", mount=self.name)
            if loop.time() - began_s > _PROVED_S:
                self.retry.reset()
            elif not self._is_deserted():
                await asyncio.sleep(self.retry.next_s())

    async def _follow_the_first_that_answers(self) -> None:
        """Go through the sources; return after each has failed once, or nobody wants the stream any more."""
        for place, upstream in enumerate(self._upstreams):
            feed = await self._open(upstream)
            while feed is not None:
                feed = await self._follow(feed, 0 if feed.upstream == self._upstreams[0] else place)
            if self._is_deserted():
                return

    async def _open(self, upstream: Upstream) -> Feed | None:
        try:
            feed = await Feed.open(upstream, gga=self._gga(), ca_file=self.config.ca_file)
        except DipperError as error:
            self._complain(upstream, str(error))
            return None
        self.connects += 1
        self._told.pop(upstream, None)
        return feed

    async def _follow(self, feed: Feed, place: int) -> Feed | None:
        """Pass a stream on until it ends; return a better one where there is one by then."""
        session = _Session(feed)
        self.source, self.source_last_s = session, _now_s()
        self.on_source(session)
        _log.info("relay connected", mount=self.name, source=session.address, ntrip=feed.version)
        probe: asyncio.Task[Feed | None] | None = None
        reason, ticks, data_bytes = "", 0, 0
        try:
            while not reason:
                ticks += 1
                if place and probe is None and ticks * _TICK_S >= self.config.failback_s:
                    probe = asyncio.create_task(self._open(self._upstreams[0]), name=f"relay {self.name} probe")
                if probe is not None and probe.done():
                    better, probe = probe.result(), None
                    if better is not None:
                        reason = "the preferred source is back"
                        return better
                    ticks = 0
                count, reason = await self._pass_on_for_a_tick(feed, session)
                data_bytes += count
                if self._gga() and ticks % round(_GGA_PERIOD_S / _TICK_S) == 0:
                    feed.send(self._gga())
            return None
        finally:
            if probe is not None:
                probe.cancel()
            feed.close()
            self.on_source_gone(session)
            self.source = None
            reason = reason or "the relay stops"
            _log.info("relay ended", mount=self.name, source=session.address, reason=reason, bytes=data_bytes)

    async def _pass_on_for_a_tick(self, feed: Feed, session: _Session) -> tuple[int, str]:
        """Pass on what comes within a tick; return how many bytes that were, and why the stream ends, if it does."""
        count = 0
        try:
            async with asyncio.timeout(_TICK_S):
                while not session.closed:
                    data = await feed.read()
                    if not data:
                        return count, "ended by the source"
                    count += len(data)
                    self.source_last_s = _now_s()
                    self.on_source_data(session, data, time.time_ns())
        except TimeoutError:
            pass
        except DipperError as error:
            self._complain(feed.upstream, str(error))
            return count, "connection lost"
        if _now_s() - self.source_last_s > self.mountpoints.config.limits.source_idle_s:
            self.failures += 1
            return count, "source idle"
        return count, session.closed or ("nobody follows" if self._is_deserted() else "")

    def _is_deserted(self) -> bool:
        """On demand, and nobody has followed for the linger time."""
        if not self.config.on_demand or self.mount.demand:
            self._deserted_s = None
            return False
        self._deserted_s = _now_s() if self._deserted_s is None else self._deserted_s
        return _now_s() - self._deserted_s >= self.config.linger_s

    def _gga(self) -> bytes:
        if not self.config.gga:
            return b""
        latitude_deg, longitude_deg, height_m = self.config.gga
        return gga_line(latitude_deg, longitude_deg, height_m, time.time() % 86_400)

    def _complain(self, upstream: Upstream, reason: str) -> None:
        """Say it once for as long as the reason stays the same."""
        self.failures += 1
        if self._told.get(upstream) != reason:
            self._told[upstream] = reason
            _log.warning("relay source failed", mount=self.name, reason=reason)


def _now_s() -> float:
    return asyncio.get_running_loop().time()
