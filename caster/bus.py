"""MQTT: mounts out to topics and in from topics, rovers by topic, and the service's state as retained JSON.

    PREFIX/streams/MOUNT                         whole RTCM 3 frames, those of an epoch in one message
    PREFIX/rovers/NAME/up                        a rover's bytes: observations, GGA
    PREFIX/rovers/NAME/down                      what the service answers: NMEA, or corrections
    PREFIX/rovers/NAME/fix                       its last position, JSON, retained
    PREFIX/casters/CASTER/state                  online or not, JSON, retained (the broker tells when it is lost)
    PREFIX/casters/CASTER/stations/MOUNT/health  JSON, retained
    PREFIX/casters/CASTER/stations/MOUNT/alarms/NAME   JSON, retained

Streams carry no caster's name: who follows one need not know whether a caster or the station itself publishes it. A
caster does not hear its own messages (MQTT 5 "no local") and does not publish what it has from the broker, so that
several casters share one broker without loops.

Strategy: taps put messages into an `Outbox` that is bounded in bytes and drops the oldest stream message first; one
task sends. While the broker is away, stream messages are not kept (stale corrections are worse than none), and of
each retained topic the last value waits. Nothing else of the service notices. `docs/mqtt.md`.
"""

import asyncio
import json
import math
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any, Final

import aiomqtt
import structlog
from paho.mqtt.subscribeoptions import SubscribeOptions
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from caster.alarms import Alarm
from caster.backoff import Backoff
from caster.codec.ntrip import Gga, GgaExtractor
from caster.config import MqttConfig
from caster.errors import ConfigError, RefusedError
from caster.health import StationHealth
from caster.hub import Mount
from caster.mountpoints import Mountpoint, Mountpoints, StationMountpoint

__all__ = ["Bus", "Outbox"]

_log = structlog.get_logger(__name__)

_MESSAGE_BYTES_MAX: Final = 64 << 10
_INCOMING_MAX: Final = 10_000
_PROVED_S: Final = 10.0
_GOODBYE_S: Final = 2.0
_TIMEOUT_S: Final = 10.0
_NAME_MAX: Final = 95  # with "mqtt:" before it, what the database keeps of an account's name


@dataclass(frozen=True, slots=True)
class _Outgoing:
    topic: str
    payload: bytes
    retain: bool


class Outbox:
    """Messages that wait for the broker.

    Args:
        bytes_max: Most that may wait in streams.

    Attributes:
        dropped: Stream messages that were not sent.
    """

    def __init__(self, bytes_max: int) -> None:
        self.dropped = 0
        self._bytes_max = bytes_max
        self._streams: deque[_Outgoing] = deque()
        self._bytes = 0
        self._last: dict[str, bytes] = {}
        self._news: dict[str, None] = {}
        self._open = False
        self._filled = asyncio.Event()

    def stream(self, topic: str, payload: bytes) -> None:
        """Take a message that is worth nothing later."""
        if not self._open:
            self.dropped += 1
            return
        self._streams.append(_Outgoing(topic, payload, False))
        self._bytes += len(payload)
        while self._bytes > self._bytes_max:
            self._bytes -= len(self._streams.popleft().payload)
            self.dropped += 1
        self._filled.set()

    def retain(self, topic: str, payload: bytes) -> None:
        """Take the last value of a retained topic."""
        self._last[topic] = payload
        self._news[topic] = None
        self._filled.set()

    def open(self) -> None:
        """The broker is there, and may have forgotten everything."""
        self._open = True
        self._news = dict.fromkeys(self._last)
        self._filled.set()

    def close(self) -> None:
        """The broker is away."""
        self._open = False
        self.dropped += len(self._streams)
        self._streams.clear()
        self._bytes = 0

    async def next(self) -> _Outgoing:
        """The next message: streams before states."""
        while not (self._streams or self._news):
            self._filled.clear()
            await self._filled.wait()
        if self._streams:
            message = self._streams.popleft()
            self._bytes -= len(message.payload)
            return message
        topic = next(iter(self._news))
        del self._news[topic]
        return _Outgoing(topic, self._last[topic], True)


class _Peer:
    """A station or rover that speaks MQTT: a session as mountpoints see it.

    Attributes:
        account: `mqtt:` and its name in topics; no account of the database has a colon.
    """

    agent = "MQTT"

    def __init__(self, number: int, name: str, mountpoint: Mountpoint) -> None:
        self.number = number
        self.account = f"mqtt:{name}"
        self.address = name
        self.mountpoint = mountpoint
        self.last_s = 0.0
        self.closed = ""

    def close(self, reason: str) -> None:
        """End the session; it is forgotten at the next sweep, and begins anew with the next message."""
        self.closed = self.closed or reason


class _Rover(_Peer):
    """A rover by topic."""

    def __init__(self, number: int, name: str, mountpoint: Mountpoint, outbox: Outbox, topic: str) -> None:
        super().__init__(number, name, mountpoint)
        self.gga: Gga | None = None
        self.sent = GgaExtractor()
        self.received = GgaExtractor()
        self._outbox = outbox
        self._topic = topic
        self._mount: Mount | None = None

    def send(self, data: bytes) -> bool:
        """Publish what the service answers; a position in it also as the last fix."""
        self._outbox.stream(f"{self._topic}/down", data)
        for gga in self.sent.receive_data(data):
            self._outbox.retain(f"{self._topic}/fix", _json(_fix(gga)))
        return True

    def follow(self, mount: Mount | None) -> None:
        """Follow a mount's fan-out instead of the present one."""
        if self._mount is not None:
            self._mount.untap(self._tap)
        self._mount = mount
        if mount is not None:
            if greeting := mount.greeting():
                self.send(greeting)
            mount.tap(self._tap)

    def _tap(self, mount: Mount, frames: Sequence[bytes], received_unix_ns: int) -> None:
        self.send(b"".join(frames))


class Bus:
    """The connection to the broker.

    Args:
        config: Broker, topics and limits.
        mountpoints: All mountpoints.
        source_idle_s: A station that sends nothing for so long is gone.

    Attributes:
        connected: The broker is there.
        outbox: What waits for it.
        received: Messages taken from it.
        refused: Messages from it that were of no use.
    """

    def __init__(self, config: MqttConfig, mountpoints: Mountpoints, source_idle_s: float = 60.0) -> None:
        self.connected = False
        self.outbox = Outbox(config.queue_bytes)
        self.received = 0
        self.refused = 0
        self._sent = 0
        self._config = config
        self._mountpoints = mountpoints
        self._source_idle_s = source_idle_s
        self._backoff = Backoff(config.retry_min_s, config.retry_max_s)
        self._sources: dict[str, _Peer] = {}
        self._rovers: dict[str, _Rover] = {}
        self._told: set[str] = set()
        self._numbers = 0
        self._root = f"{config.prefix}/casters/{config.caster_name}"
        self._tls = _tls_context(config)
        self._stopping = False

    # ----- out

    def watch(self, mountpoint: Mountpoint) -> None:
        """Publish a mountpoint's frames, if stations feed it and the configuration names it."""
        names = self._config.publish
        if isinstance(mountpoint, StationMountpoint) and any(fnmatchcase(mountpoint.name, name) for name in names):
            mountpoint.mount.tap(self._tap)

    def on_health(self, health: StationHealth) -> None:
        """Publish a station's health."""
        self.outbox.retain(f"{self._root}/stations/{health.mount}/health", _json(health.as_dict()))

    def on_alarm(self, alarm: Alarm) -> None:
        """Publish an alarm that is raised or cleared."""
        self.outbox.retain(f"{self._root}/stations/{alarm.mount}/alarms/{alarm.name}", _json(asdict(alarm)))

    def metrics(self) -> Iterator[Metric]:
        """For Prometheus."""
        yield GaugeMetricFamily("dipper_mqtt_connected", "The broker is there.", value=self.connected)
        counts = {
            "sent": self._sent,
            "received": self.received,
            "refused": self.refused,
            "dropped": self.outbox.dropped,
        }
        for name, count in counts.items():
            yield CounterMetricFamily(f"dipper_mqtt_messages_{name}", f"Messages {name}.", value=count)

    def _tap(self, mount: Mount, frames: Sequence[bytes], received_unix_ns: int) -> None:
        if mount.name not in self._sources:  # what came from the broker does not go back to it
            self.outbox.stream(f"{self._config.prefix}/streams/{mount.name}", b"".join(frames))

    # ----- the connection

    async def run(self) -> None:
        """Keep the connection until cancelled, after `stop`."""
        loop = asyncio.get_running_loop()
        told = False
        while not self._stopping:
            began_s = loop.time()
            try:
                await self._session()
            except* (aiomqtt.MqttError, OSError) as errors:
                if not told or self.connected:
                    _log.warning("no MQTT broker", broker=self._broker, error=str(errors.exceptions[0]))
                told = True
            finally:
                self.connected = False
                self.outbox.close()
            if loop.time() - began_s > _PROVED_S:
                self._backoff.reset()
            await asyncio.sleep(self._backoff.next_s())

    def stop(self) -> None:
        """Connect no more: a group whose task fails as it is cancelled swallows the cancellation."""
        self._stopping = True

    @property
    def _broker(self) -> str:
        return f"{self._config.host}:{self._config.port}"

    async def _session(self) -> None:
        config = self._config
        state = f"{self._root}/state"
        client = aiomqtt.Client(
            config.host,
            config.port,
            username=config.user or None,
            password=config.password.get_secret_value() or None,
            protocol=aiomqtt.ProtocolVersion.V5,
            will=aiomqtt.Will(state, _json({"online": False}), qos=1, retain=True),
            timeout=_TIMEOUT_S,
            keepalive=20,
            max_queued_incoming_messages=_INCOMING_MAX,
            tls_context=self._tls,
        )
        async with client:
            for topic in self._topics():
                await client.subscribe(topic, options=SubscribeOptions(qos=0, noLocal=True))
            self.connected = True
            self.outbox.retain(state, _json({"online": True, "since_unix_s": round(time.time(), 3)}))
            self.outbox.open()
            _log.info("MQTT broker connected", broker=self._broker)
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(self._send(client), name="send to MQTT")
                    tasks.create_task(self._receive(client), name="receive from MQTT")
                    tasks.create_task(self._sweep(), name="sweep MQTT sessions")
            except asyncio.CancelledError:
                with suppress(aiomqtt.MqttError):
                    await client.publish(state, _json({"online": False}), qos=1, retain=True, timeout=_GOODBYE_S)
                raise

    def _topics(self) -> Iterator[str]:
        if self._config.subscribe:
            yield f"{self._config.prefix}/streams/+"
        if self._config.rovers:
            yield f"{self._config.prefix}/rovers/+/up"

    async def _send(self, client: aiomqtt.Client) -> None:
        while True:
            message = await self.outbox.next()
            await client.publish(message.topic, message.payload, qos=int(message.retain), retain=message.retain)
            self._sent += 1

    # ----- in

    async def _receive(self, client: aiomqtt.Client) -> None:
        handlers: dict[str, Callable[[str, bytes], None]] = {"streams": self._take_stream, "rovers": self._take_rover}
        skip = len(self._config.prefix) + 1
        async for message in client.messages:
            kind, _, name = str(message.topic)[skip:].partition("/")
            payload = message.payload if isinstance(message.payload, bytes) else b""
            name = name.removesuffix("/up")
            if not 0 < len(payload) <= _MESSAGE_BYTES_MAX or len(name) > _NAME_MAX or kind not in handlers:
                self.refused += 1
                continue
            self.received += 1
            try:
                handlers[kind](name, payload)
            except RefusedError as error:
                self._refuse(name, str(error))
            except Exception:  # a peer's bytes must not end the others' connection
                _log.exception("MQTT message failed", topic=str(message.topic))

    def _take_stream(self, name: str, payload: bytes) -> None:
        """A station's bytes: the first message is its login, which the broker has let pass."""
        if not any(fnmatchcase(name, pattern) for pattern in self._config.subscribe):
            return
        source = self._sources.get(name)
        if source is None or source.mountpoint.source is not source:
            source = self._open_source(name)
        source.last_s = source.mountpoint.source_last_s = _now_s()
        source.mountpoint.on_source_data(source, payload, time.time_ns())

    def _open_source(self, name: str) -> _Peer:
        mountpoint = self._mountpoints.for_source(name)
        if mountpoint.source is not None:
            raise RefusedError(f"mountpoint {name} is fed already", 409)
        source = self._sources[name] = _Peer(self._number(), name, mountpoint)
        mountpoint.source = source
        mountpoint.on_source(source)
        self._told.discard(name)
        _log.info("source by MQTT", mount=name)
        return source

    def _take_rover(self, name: str, payload: bytes) -> None:
        rover = self._rovers.get(name) or self._open_rover(name)
        rover.last_s = _now_s()
        rover.mountpoint.on_uplink(rover, payload)
        for gga in rover.received.receive_data(payload):
            rover.gga = gga
            rover.mountpoint.on_gga(rover, gga)
            self._mountpoints.tell_position("gga", rover.mountpoint, rover, gga)

    def _open_rover(self, name: str) -> _Rover:
        mountpoint = self._mountpoints.get(self._config.rovers)
        if mountpoint is None:
            raise RefusedError(f"mqtt.rovers: there is no mountpoint {self._config.rovers}", 404)
        if len(self._rovers) >= self._config.rovers_max:
            raise RefusedError(f"there are {self._config.rovers_max} rovers by MQTT, the most that are allowed", 503)
        topic = f"{self._config.prefix}/rovers/{name}"
        rover = self._rovers[name] = _Rover(self._number(), name, mountpoint, self.outbox, topic)
        mountpoint.on_subscribe(rover)
        return rover

    def _refuse(self, name: str, reason: str) -> None:
        """Say it once for each name; a station that is refused goes on sending."""
        self.refused += 1
        if name not in self._told and len(self._told) < _INCOMING_MAX:
            self._told.add(name)
            _log.warning("refused by MQTT", name=name, reason=reason)

    def _number(self) -> int:
        """Sessions by MQTT count downwards: the server's count upwards."""
        self._numbers -= 1
        return self._numbers

    # ----- the end of sessions

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(1.0)
            self.sweep(_now_s())

    def sweep(self, now_s: float) -> None:
        """Forget stations and rovers that were closed, or have sent nothing for long."""
        for name, source in list(self._sources.items()):
            if source.closed or now_s - source.last_s > self._source_idle_s:
                del self._sources[name]
                self._end_source(source)
        for name, rover in list(self._rovers.items()):
            if rover.closed or now_s - rover.last_s > self._config.rover_idle_s:
                del self._rovers[name]
                rover.follow(None)
                rover.mountpoint.on_leave(rover)
                _log.info("rover ended", reason=rover.closed or "idle", account=rover.account, address=name)

    def close(self) -> None:
        """The service ends."""
        self.sweep(math.inf)

    def _end_source(self, source: _Peer) -> None:
        if source.mountpoint.source is source:
            source.mountpoint.on_source_gone(source)
            source.mountpoint.source = None
        _log.info("source ended", reason=source.closed or "source idle", mount=source.address, account=source.account)


def _now_s() -> float:
    return asyncio.get_running_loop().time()


def _json(values: dict[str, Any]) -> bytes:
    return json.dumps(values).encode()


def _fix(gga: Gga) -> dict[str, Any]:
    return {
        "latitude_deg": gga.latitude_deg,
        "longitude_deg": gga.longitude_deg,
        "height_m": round(gga.height_m, 4),
        "quality": gga.quality,
        "satellites": gga.satellites,
        "hdop": gga.hdop,
        "utc_s": gga.utc_s,
    }


def _tls_context(config: MqttConfig) -> ssl.SSLContext | None:
    """The context for a broker that speaks TLS.

    Raises:
        ConfigError: The certificates cannot be read.
    """
    if not config.tls:
        return None
    try:
        return ssl.create_default_context(cafile=str(config.ca_file) if config.ca_file else None)
    except OSError as error:
        raise ConfigError(f"mqtt.ca_file: {config.ca_file}: {error.strerror or error}") from None
