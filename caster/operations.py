"""What serves the operator rather than the rovers, put together: station health, metrics, the archive, MQTT.

All of it hangs on the mounts as taps or reads their counters. A part that fails is logged and leaves the service as it
is.
"""

import asyncio
from collections.abc import Callable, Coroutine

import structlog

from caster.alerts import Alerts
from caster.archive import Archive
from caster.bus import Bus
from caster.config import Config
from caster.health import HealthMonitor
from caster.metrics import LagMeter, LatencyTap, MetricsServer, Sources
from caster.mountpoints import Mountpoint, Mountpoints
from caster.positions import PositionLog
from caster.rights import RightsWatch
from caster.server import Server
from caster.usage import UsageRecorder

__all__ = ["Operations"]

_log = structlog.get_logger(__name__)


class Operations:
    """Health, metrics, archive and MQTT of one service.

    Args:
        config: The configuration.
        mountpoints: All mountpoints, opened.
        server: The listeners, which need not listen yet.
        rights: Ends sessions whose account lets them no longer.
        usage: Accounts for sessions, if anybody does.
        positions: The log of positions, if there is one.

    Attributes:
        monitor: The stations' health and alarms.
        archive: The archive, or None where none is configured.
        bus: MQTT, or None where no broker is configured.
        alerts: Tells alarms by webhook and e-mail.
        metrics: The listener of the metrics, or None where none is configured.
    """

    def __init__(
        self,
        config: Config,
        mountpoints: Mountpoints,
        server: Server,
        rights: RightsWatch,
        usage: UsageRecorder | None = None,
        positions: PositionLog | None = None,
    ) -> None:
        self._positions = positions
        self._server = server
        self._rights = rights
        self._rights_period_s = config.accounts.refresh_s
        self._usage = usage
        self._latency, self._lag = LatencyTap(), LagMeter()
        _watch_all(mountpoints, self._latency.watch)
        self.archive = Archive(config.archive, config.archive_folder) if config.archive.enabled else None
        if self.archive is not None:
            _watch_all(mountpoints, self.archive.watch)
        self.monitor = HealthMonitor(config.health, mountpoints)
        self.bus = self._make_bus(config, mountpoints)
        self.alerts = Alerts(config, mountpoints)
        self.monitor.on_alarm.append(self.alerts.on_alarm)
        self.metrics: MetricsServer | None = None
        if config.metrics.port is not None:
            parts = (server.bans, positions, self.archive, self.bus, self.alerts)
            more = [part.metrics for part in parts if part is not None]
            sources = Sources(mountpoints, self.monitor, self._latency, self._lag, server, more)
            self.metrics = MetricsServer(config.metrics, sources)
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin.

        Raises:
            ConfigError: The metrics' address cannot be listened on, or the archive's folder cannot be made.
        """
        if self.archive is not None:
            self.archive.start()
        if self.metrics is not None:
            await self.metrics.start()
        self._run(self.monitor.run(), "watch the stations")
        self._run(self._lag.run(), "measure the loop's lag")
        self._run(self.alerts.run(), "tell alarms")
        self._run(self._server.bans.run(), "exchange bans")
        self._run(self._rights.run(self._rights_period_s), "watch the rights of sessions")
        if self._usage is not None:
            self._run(self._usage.run(lambda: self._server.connections), "account for sessions")
        if self._positions is not None:
            self._run(self._positions.run(), "log positions")
        if self.bus is not None:
            self._run(self.bus.run(), "MQTT")

    async def stop(self) -> None:
        """End everything."""
        if self.bus is not None:
            self.bus.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._usage is not None:
            await self._usage.flush()
        if self._positions is not None:
            await self._positions.flush()
        if self.bus is not None:
            self.bus.close()
        if self.metrics is not None:
            await self.metrics.stop()
        if self.archive is not None:
            await asyncio.to_thread(self.archive.stop)

    def reload(self, config: Config) -> None:
        """Take a new configuration: limits of alarms, who is told; listeners and folders stay until the next start."""
        self.monitor.reload(config.health)
        if self._usage is not None:
            self._usage.reload(config.usage)
        self.alerts.reload(config)

    def _make_bus(self, config: Config, mountpoints: Mountpoints) -> Bus | None:
        if not config.mqtt.host:
            return None
        bus = Bus(config.mqtt, mountpoints, config.limits.source_idle_s)
        _watch_all(mountpoints, bus.watch)
        self.monitor.on_report.append(bus.on_health)
        self.monitor.on_alarm.append(bus.on_alarm)
        return bus

    def _run(self, work: Coroutine[None, None, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(_log_failure)


def _watch_all(mountpoints: Mountpoints, watch: Callable[[Mountpoint], None]) -> None:
    """Call a function with every mountpoint, now or when it appears."""
    for mountpoint in mountpoints:
        watch(mountpoint)
    mountpoints.on_new.append(watch)


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.error("a task of the service failed", task=task.get_name(), exc_info=error)
