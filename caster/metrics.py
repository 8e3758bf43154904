"""Metrics for Prometheus and an answer to "are you well?", on a listener of their own.

Strategy: nothing is counted for metrics that the service does not keep anyway. `families` reads the counters of mounts,
server and health monitor when somebody asks; only two things are measured as they happen, both once per publish or
less: the time from a source's read to the last rover's write (`LatencyTap`) and the loop's lag (`LagMeter`). The text
is built piece by piece with a turn of the loop between two of them, so that a scrape of thousands of mounts stalls
no stream; a thread would be worse, since each of the fan-out's sends gives it the interpreter's lock.

`docs/monitoring.md` lists the metrics; a test compares.
"""

import asyncio
import json
import math
import time
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import format_datetime
from http import HTTPStatus
from itertools import accumulate
from typing import Any, Final, Protocol

from prometheus_client import CONTENT_TYPE_LATEST, GC_COLLECTOR, PROCESS_COLLECTOR, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from caster.codec.ntrip import Request, RequestReader
from caster.config import Limits, MetricsConfig
from caster.errors import RemoteProtocolError
from caster.health import HealthMonitor
from caster.hub import Mount
from caster.mountpoints import Mountpoint, Mountpoints
from caster.sockets import bind

__all__ = ["Histogram", "LagMeter", "LatencyTap", "MetricsServer", "Sources", "families"]

_PUBLISH_BOUNDS_S: Final = (0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_LAG_BOUNDS_S: Final = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
_LAG_PERIOD_S: Final = 0.25
_REQUEST_TIMEOUT_S: Final = 10.0
_CLIENTS_MAX: Final = 20
_SLICE: Final = 100
_LABELLED_SLICE: Final = 10


class Histogram:
    """Counts of values by upper bounds, cheap to add to.

    Attributes:
        sum: Of all values.
    """

    __slots__ = ("_bounds", "_counts", "sum")

    def __init__(self, bounds: Sequence[float]) -> None:
        self._bounds = tuple(bounds)
        self._counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def add(self, value: float) -> None:
        """Count one value."""
        self._counts[bisect_left(self._bounds, value)] += 1
        self.sum += value

    @property
    def count(self) -> int:
        """How many values were added."""
        return sum(self._counts)

    def family(self, name: str, text: str) -> HistogramMetricFamily:
        """As a metric."""
        bounds = [*map(str, self._bounds), "+Inf"]
        buckets = list(zip(bounds, map(float, accumulate(self._counts)), strict=True))
        return HistogramMetricFamily(name, text, buckets=buckets, sum_value=self.sum)


class LatencyTap:
    """The time from a source's read to the last rover's socket write, of every publish of every mount.

    Taps are called after the rovers' writes; this one before the others, whose time is not the rovers'.
    """

    def __init__(self, clock_ns: Callable[[], int] = time.time_ns) -> None:
        self.histogram = Histogram(_PUBLISH_BOUNDS_S)
        self._clock_ns = clock_ns

    def __call__(self, mount: Mount, frames: Sequence[bytes], received_unix_ns: int) -> None:
        """Measure one publish."""
        self.histogram.add(max(0, self._clock_ns() - received_unix_ns) * 1e-9)

    def watch(self, mountpoint: Mountpoint) -> None:
        """Measure a mountpoint's publishes from now on."""
        mountpoint.mount.tap(self, first=True)


class LagMeter:
    """How late the event loop is: the time by which a timer is called too late.

    Attributes:
        last_s: The last lag.
    """

    def __init__(self) -> None:
        self.histogram = Histogram(_LAG_BOUNDS_S)
        self.last_s = 0.0
        self._due_s = math.inf

    async def run(self) -> None:
        """Measure four times a second."""
        loop = asyncio.get_running_loop()
        while True:
            self._due_s = loop.time() + _LAG_PERIOD_S
            await asyncio.sleep(_LAG_PERIOD_S)
            self.last_s = max(0.0, loop.time() - self._due_s)
            self.histogram.add(self.last_s)


class SessionCounters(Protocol):
    """What the server counts."""

    @property
    def accepted(self) -> int:
        """Connections accepted since the start."""

    @property
    def open(self) -> Mapping[tuple[str, str], int]:
        """Open sessions by mountpoint and kind."""

    @property
    def ended(self) -> Mapping[tuple[str, str], int]:
        """Sessions ended since the start, by kind and reason."""

    @property
    def ended_at(self) -> Mapping[tuple[str, str], int]:
        """Sessions of rovers and sources ended since the start, by mountpoint and reason."""


class Sessions(Protocol):
    """The server, as far as it is shown here."""

    @property
    def counters(self) -> SessionCounters:
        """What has happened."""

    @property
    def connections(self) -> Collection[Any]:
        """All open connections."""


@dataclass(frozen=True, slots=True)
class Sources:
    """Where the values come from.

    Attributes:
        mountpoints: All mountpoints.
        monitor: The stations' health.
        latency: The publish latency.
        lag: The loop's lag.
        sessions: The server, if there is one.
        more: Further metrics, such as those of the archive.
    """

    mountpoints: Mountpoints
    monitor: HealthMonitor
    latency: LatencyTap
    lag: LagMeter
    sessions: Sessions | None = None
    more: Sequence[Callable[[], Iterator[Metric]]] = ()


@dataclass(frozen=True, slots=True)
class _Row:
    """A metric with one value per mountpoint or station."""

    name: str
    kind: type[CounterMetricFamily] | type[GaugeMetricFamily]
    text: str
    value: Callable[[Any], float]

    def family(self, items: Sequence[tuple[str, Any]]) -> Metric:
        """The metric of all items; values that are not known are left out."""
        family = self.kind(self.name, self.text, labels=["mount"])
        for name, item in items:
            if not math.isnan(value := float(self.value(item))):
                family.add_metric([name], value)
        return family


_MOUNT_ROWS: Final = (
    _Row("dipper_rovers", GaugeMetricFamily, "Rovers that follow the mountpoint's stream.", lambda m: len(m.mount)),
    _Row("dipper_mount_live", GaugeMetricFamily, "Whether the mountpoint can serve a rover.", lambda m: m.is_live),
    _Row("dipper_frames", CounterMetricFamily, "RTCM frames published.", lambda m: m.mount.traffic.frame_count),
    _Row("dipper_stream_bytes", CounterMetricFamily, "Bytes published.", lambda m: m.mount.traffic.byte_count),
    _Row("dipper_sent_bytes", CounterMetricFamily, "Bytes sent to rovers.", lambda m: m.mount.sent_bytes),
    _Row("dipper_dropped", CounterMetricFamily, "Publishes that a slow rover lost.", lambda m: m.mount.dropped),
    _Row("dipper_publishes", CounterMetricFamily, "Publishes, each one send per rover.", lambda m: m.mount.published),
    _Row(
        "dipper_last_data_timestamp_seconds",
        GaugeMetricFamily,
        "When the last bytes came.",
        lambda m: m.mount.traffic.last_s or math.nan,
    ),
)
_STATION_ROWS: Final = (
    _Row("dipper_station_epochs", CounterMetricFamily, "Epochs seen.", lambda h: h.epochs),
    _Row("dipper_station_epochs_missed", CounterMetricFamily, "Epochs missing.", lambda h: h.epochs_missed),
    _Row("dipper_station_rate_hertz", GaugeMetricFamily, "Epochs a second.", lambda h: h.rate_hz),
    _Row("dipper_station_latency_seconds", GaugeMetricFamily, "Observation to reception.", lambda h: h.latency_s),
    _Row("dipper_station_silent_seconds", GaugeMetricFamily, "Since the last bytes.", lambda h: h.silent_s),
    _Row(
        "dipper_station_position_age_seconds",
        GaugeMetricFamily,
        "Since the last 1005 or 1006.",
        lambda h: h.position_age_s,
    ),
    _Row("dipper_station_moved_meters", GaugeMetricFamily, "From the place of before.", lambda h: h.moved_m),
)
_RELAY_ROWS: Final = (
    _Row("dipper_relay_opened", CounterMetricFamily, "Streams opened at other casters.", lambda m: m.connects),
    _Row("dipper_relay_failures", CounterMetricFamily, "Streams refused, broken or silent.", lambda m: m.failures),
)
_SERVICE_ROWS: Final = (
    _Row(
        "dipper_fix_rovers_shed", GaugeMetricFamily, "Rovers without centimetres, for lack of time.", lambda m: m.shed
    ),
    _Row("dipper_fix_answers_hasty", CounterMetricFamily, "Answers by codes, for lack of time.", lambda m: m.hasty),
)


def families(sources: Sources) -> Iterator[Metric]:
    """The service's metrics, one at a time; a metric of many mounts comes in pieces, one after the other."""
    mountpoints = [(mountpoint.name, mountpoint) for mountpoint in sources.mountpoints]
    for row in _MOUNT_ROWS:
        yield from map(row.family, _slices(mountpoints))
    reports = [(report.mount, report) for report in sources.monitor.reports]
    for row in _STATION_ROWS:
        yield from map(row.family, _slices(reports))
    for some in _slices(reports, _LABELLED_SLICE):
        yield _by_label("dipper_station_satellites", "Satellites of the last epoch.", "system", some, "satellites")
    for some in _slices(reports, _LABELLED_SLICE):
        yield _by_label("dipper_station_cn0_dbhz", "Mean C/N0 of the last epoch.", "signal", some, "cn0_dbhz")
    alarms = GaugeMetricFamily("dipper_station_alarm", "Raised alarms.", labels=["mount", "alarm"])
    for mount, raised in sources.monitor.alarms.items():
        for name in raised:
            alarms.add_metric([mount, name], 1.0)
    yield alarms
    raised_count = CounterMetricFamily("dipper_station_alarms_raised", "Alarms raised.", labels=["mount", "alarm"])
    for labels, count in sorted(sources.monitor.raised_count.items()):
        raised_count.add_metric(labels, count)
    yield raised_count
    relays = [(name, mountpoint) for name, mountpoint in mountpoints if hasattr(mountpoint, "connects")]
    for row in _RELAY_ROWS:
        yield from map(row.family, _slices(relays))
    services = [(name, mountpoint) for name, mountpoint in mountpoints if hasattr(mountpoint, "answers")]
    for row in _SERVICE_ROWS:
        yield from map(row.family, _slices(services))
    yield _answer_family(services)
    if sources.sessions is not None:
        yield from _session_families(sources.sessions)
    yield sources.latency.histogram.family("dipper_publish_seconds", "From a source's read to the last rover's write.")
    yield sources.lag.histogram.family("dipper_loop_lag_seconds", "By how much the event loop's timers are late.")
    for more in sources.more:
        yield from more()


def _slices(items: Sequence[tuple[str, Any]], size: int = _SLICE) -> Iterator[Sequence[tuple[str, Any]]]:
    for start in range(0, max(1, len(items)), size):
        yield items[start : start + size]


def _by_label(name: str, text: str, label: str, reports: Sequence[tuple[str, Any]], attribute: str) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["mount", label])
    for mount, report in reports:
        for key, value in getattr(report, attribute).items():
            family.add_metric([mount, key], value)
    return family


def _answer_family(services: Sequence[tuple[str, Any]]) -> Metric:
    family = CounterMetricFamily("dipper_fix_answers", "Epochs answered.", labels=["mount", "quality"])
    for name, mountpoint in services:
        for quality, count in sorted(mountpoint.answers.items()):
            family.add_metric([name, quality.name.lower()], count)
    return family


def _session_families(sessions: Sessions) -> Iterator[Metric]:
    yield GaugeMetricFamily("dipper_connections", "Open connections.", value=len(sessions.connections))
    yield CounterMetricFamily("dipper_connections_accepted", "Connections.", value=sessions.counters.accepted)
    ended = CounterMetricFamily("dipper_sessions_ended", "Sessions that ended.", labels=["kind", "reason"])
    for (kind, reason), count in sorted(sessions.counters.ended.items()):
        ended.add_metric([kind, reason], count)
    yield ended
    ended_at = CounterMetricFamily(
        "dipper_mount_sessions_ended", "Sessions that ended, by mountpoint.", labels=["mount", "reason"]
    )
    for labels, count in sorted(sessions.counters.ended_at.items()):
        ended_at.add_metric(labels, count)
    yield ended_at
    open_now = GaugeMetricFamily(
        "dipper_sessions", "Open sessions by the mountpoint that they asked for.", labels=["mount", "kind"]
    )
    for labels, count in sorted(sessions.counters.open.items()):
        open_now.add_metric(labels, count)
    yield open_now


class _One(Collector):
    """A registry of one family, as the text writer wants it."""

    def __init__(self, family: Metric) -> None:
        self._family = family

    def collect(self) -> Iterator[Metric]:
        yield self._family


class MetricsServer:
    """The listener: `GET /metrics` and `GET /healthz`.

    Args:
        config: Where to listen, and what is well.
        sources: Where the values come from.

    Attributes:
        port: The port listened on (of interest where the configuration says 0).
    """

    def __init__(self, config: MetricsConfig, sources: Sources) -> None:
        self.port = 0
        self._config = config
        self._sources = sources
        self._started_s = time.monotonic()
        self._listeners: list[asyncio.Server] = []
        self._clients = 0
        self._pages: dict[str, Callable[[], Any]] = {"metrics": self._metrics, "healthz": self._healthz}

    async def start(self) -> None:
        """Listen.

        Raises:
            ConfigError: An address cannot be listened on.
        """
        port = self._config.port or 0
        for host in self._config.hosts:
            sock = bind("metrics", host, port, Limits(), has_other=bool(self._listeners))
            if sock is not None:
                self._listeners.append(await asyncio.start_server(self._serve, sock=sock, limit=16384))
                self.port = port = sock.getsockname()[1]

    async def stop(self) -> None:
        """Stop listening; a page that is being sent is sent to its end."""
        for listener in self._listeners:
            listener.close()
        for listener in self._listeners:
            await listener.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._clients += 1
        try:
            async with asyncio.timeout(_REQUEST_TIMEOUT_S):
                writer.write(await self._answer(reader))
                await writer.drain()
        except (TimeoutError, OSError):
            writer.transport.abort()
        finally:
            self._clients -= 1
            writer.close()
            with suppress(OSError):
                await writer.wait_closed()

    async def _answer(self, reader: asyncio.StreamReader) -> bytes:
        if self._clients > _CLIENTS_MAX:
            return _page(503, "too many clients\n")
        try:
            request = await _read_request(reader)
        except RemoteProtocolError as error:
            return _page(error.status, f"{error}\n")
        if request is None:
            return b""
        page = self._pages.get(request.mount)
        if request.method != "GET" or page is None:
            return _page(404, "there is /metrics and /healthz\n")
        answer: bytes = await page()
        return answer

    async def _metrics(self) -> bytes:
        text, name = bytearray(), ""
        for family in families(self._sources):
            piece = generate_latest(_One(family))
            if family.name == name:  # its head has been written
                piece = piece.split(b"\n", 2)[2]
            text += piece
            name = family.name
            await asyncio.sleep(0)
        for collector in (PROCESS_COLLECTOR, GC_COLLECTOR):
            text += generate_latest(collector)
        return _page(200, text.decode(), CONTENT_TYPE_LATEST)

    async def _healthz(self) -> bytes:
        """Well is a loop that keeps its time; the stations' alarms are told, and are no reason to restart a service."""
        lag_s = self._sources.lag.last_s
        well = lag_s <= self._config.lag_max_s
        state = {
            "status": "ok" if well else "late",
            "uptime_s": round(time.monotonic() - self._started_s, 1),
            "loop_lag_s": round(lag_s, 4),
            "rovers": self._rover_count(),
            "mounts": sum(1 for _ in self._sources.mountpoints),
            "stations": len(self._sources.monitor.reports),
            "alarms": {mount: sorted(alarms) for mount, alarms in sorted(self._sources.monitor.alarms.items())},
        }
        return _page(200 if well else 503, json.dumps(state) + "\n", "application/json")

    def _rover_count(self) -> int:
        """All rovers, those of services and relays included."""
        sessions = self._sources.sessions
        counts = sessions.counters.open.items() if sessions else ()
        return sum(count for (_, kind), count in counts if kind == "rover")


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    head = RequestReader()
    while data := await reader.read(4096):
        request = head.receive_data(data)
        if isinstance(request, Request):
            return request
        if request is not None:
            raise RemoteProtocolError("no TLS is spoken on this port")
    return None


def _page(status: int, text: str, content_type: str = "text/plain; charset=utf-8") -> bytes:
    body = text.encode()
    lines = [
        f"HTTP/1.1 {status} {HTTPStatus(status).phrase}",
        f"Date: {format_datetime(datetime.now(UTC), usegmt=True)}",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        "Connection: close",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode() + body
