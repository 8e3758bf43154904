"""Alarms told to people: by webhook and e-mail, to the operators and to a station's owner.

Strategy: every addressee has a `Mailbox`. An alarm waits there for a moment (`gather_s`), so that the hundred alarms of
one broken line make one message; what is raised and cleared within that time is not told at all. The same alarm of the
same station is told again after `repeat_s` at the earliest, so that one which comes and goes says so twice a quarter of
an hour, not twice a minute; whatever its last state is, it is told in the end. There is a limit of messages an hour;
what is over it waits and comes in one. A message that cannot be delivered is tried again, longer and longer apart.

Rules: a mailbox has no clock and no I/O; deliveries are tasks of their own, so that no addressee, and nothing else of
the service, waits for one that is away.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from typing import Final, TypeAlias

import structlog
from prometheus_client.core import CounterMetricFamily
from prometheus_client.metrics_core import Metric

from caster.alarms import Alarm
from caster.backoff import Backoff
from caster.config import AlertsConfig, Config
from caster.delivery import post, send_mail
from caster.errors import DipperError
from caster.mountpoints import Mountpoints

__all__ = ["Alerts", "Mailbox"]

_log = structlog.get_logger(__name__)

_HOUR_S: Final = 3600.0
_TICK_S: Final = 1.0
_Key: TypeAlias = tuple[str, str]


@dataclass(slots=True)
class _Waiting:
    alarm: Alarm
    since_s: float


@dataclass(slots=True)
class _Told:
    raised: bool
    raised_s: float


class Mailbox:
    """What one addressee is to be told, and when.

    Args:
        config: How often.

    Attributes:
        dropped: Alarms that found the mailbox full.
    """

    def __init__(self, config: AlertsConfig) -> None:
        self.config = config
        self.dropped = 0
        self._waiting: dict[_Key, _Waiting] = {}
        self._told: dict[_Key, _Told] = {}
        self._sent_s: deque[float] = deque()

    def __len__(self) -> int:
        """How many alarms wait."""
        return len(self._waiting)

    def offer(self, alarm: Alarm, now_s: float) -> None:
        """Take an alarm that was raised or cleared."""
        key = (alarm.mount, alarm.name)
        told = self._told.get(key)
        if alarm.raised == (told is not None and told.raised):  # back to what was told last
            self._waiting.pop(key, None)
        elif key in self._waiting:
            self._waiting[key].alarm = alarm
        elif len(self._waiting) >= self.config.queue_max:
            self.dropped += 1
        else:
            self._waiting[key] = _Waiting(alarm, now_s)

    def take(self, now_s: float) -> list[Alarm]:
        """What is to be told now, in one message; it counts as told."""
        self._forget(now_s)
        if len(self._sent_s) >= self.config.hourly_max:
            return []
        ready = [key for key, waiting in self._waiting.items() if now_s >= self._due_s(key, waiting)]
        if ready:
            self._sent_s.append(now_s)
        return [self._tell(key, now_s) for key in ready]

    def _due_s(self, key: _Key, waiting: _Waiting) -> float:
        told = self._told.get(key)
        again_s = told.raised_s + self.config.repeat_s if told is not None and waiting.alarm.raised else 0.0
        return max(waiting.since_s + self.config.gather_s, again_s)

    def _tell(self, key: _Key, now_s: float) -> Alarm:
        alarm = self._waiting.pop(key).alarm
        self._told[key] = _Told(alarm.raised, now_s if alarm.raised else self._told[key].raised_s)
        return alarm

    def _forget(self, now_s: float) -> None:
        while self._sent_s and now_s - self._sent_s[0] >= _HOUR_S:
            self._sent_s.popleft()
        if not self._waiting:
            old = [
                k for k, told in self._told.items() if not told.raised and now_s - told.raised_s > self.config.repeat_s
            ]
            for key in old:
                del self._told[key]


_Deliver: TypeAlias = Callable[[Sequence[Alarm]], Awaitable[None]]


class Alerts:
    """Tells alarms to webhooks, operators and owners.

    Args:
        config: Addresses and limits.
        mountpoints: Say who owns a station.

    Attributes:
        sent: Messages delivered.
        failed: Deliveries that did not work, each try counted.
        given_up: Messages that were dropped after the last try.
    """

    def __init__(self, config: Config, mountpoints: Mountpoints) -> None:
        self.sent = self.failed = self.given_up = 0
        self._config = config
        self._mountpoints = mountpoints
        self._mailboxes: dict[str, Mailbox] = {}
        self._deliveries: dict[str, asyncio.Task[None]] = {}
        self._news = asyncio.Event()

    def on_alarm(self, alarm: Alarm) -> None:
        """Take an alarm that was raised or cleared; returns at once."""
        if not any(fnmatchcase(alarm.name, pattern) for pattern in self._config.alerts.alarms):
            return
        for address in self._addressees(alarm.mount):
            mailbox = self._mailboxes.setdefault(address, Mailbox(self._config.alerts))
            mailbox.offer(alarm, asyncio.get_running_loop().time())
            self._news.set()

    def reload(self, config: Config) -> None:
        """Take other addresses and limits; what waits for an address that is no longer there is dropped."""
        self._config = config
        known = {address for m in self._mountpoints for address in self._addressees(m.name)}
        self._mailboxes = {address: box for address, box in self._mailboxes.items() if address in known}
        for mailbox in self._mailboxes.values():
            mailbox.config = config.alerts

    def metrics(self) -> Iterator[Metric]:
        """For Prometheus."""
        dropped = sum(mailbox.dropped for mailbox in self._mailboxes.values())
        yield CounterMetricFamily("dipper_alerts_sent", "Messages about alarms delivered.", value=self.sent)
        yield CounterMetricFamily("dipper_alerts_failed", "Deliveries that did not work.", value=self.failed)
        lost = self.given_up + dropped
        yield CounterMetricFamily("dipper_alerts_lost", "Messages and alarms that nobody was told.", value=lost)

    async def run(self) -> None:
        """Deliver until cancelled."""
        try:
            while True:
                await self._news.wait()
                self._start_deliveries(asyncio.get_running_loop().time())
                if not any(self._mailboxes.values()):
                    self._news.clear()
                await asyncio.sleep(_TICK_S)
        finally:
            tasks = list(self._deliveries.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _addressees(self, mount: str) -> list[str]:
        """Webhooks by their address, operators by an empty one, an owner by the mail address."""
        config, mountpoint = self._config.alerts, self._mountpoints.get(mount)
        owner = mountpoint.config.owner if mountpoint is not None and config.owners and config.smtp_host else ""
        return [*config.webhooks, *([""] if config.recipients else []), *([owner] if owner else [])]

    def _start_deliveries(self, now_s: float) -> None:
        for address, mailbox in self._mailboxes.items():
            if address in self._deliveries or not (alarms := mailbox.take(now_s)):
                continue
            task = asyncio.create_task(self._deliver(self._way(address), alarms), name="tell alarms")
            self._deliveries[address] = task
            task.add_done_callback(partial(self._end_delivery, address))

    def _end_delivery(self, address: str, _task: asyncio.Task[None]) -> None:
        del self._deliveries[address]

    def _way(self, address: str) -> _Deliver:
        if "://" in address:
            return partial(self._post, address)
        return partial(self._mail, [address] if address else list(self._config.alerts.recipients))

    async def _deliver(self, send: _Deliver, alarms: Sequence[Alarm]) -> None:
        """Try until it works, or for the last time."""
        config = self._config.alerts
        backoff, told = Backoff(config.retry_min_s, config.retry_max_s), ""
        for _ in range(config.attempts_max):
            try:
                await send(alarms)
                self.sent += 1
                return
            except DipperError as error:
                self.failed += 1
                if str(error) != told:
                    told = str(error)
                    _log.warning("alarms cannot be told", reason=told)
            await asyncio.sleep(backoff.next_s())
        self.given_up += 1
        _log.error("alarms were not told", reason=told, alarms=len(alarms))

    async def _post(self, url: str, alarms: Sequence[Alarm]) -> None:
        await post(self._config.alerts, url, {
            "caster": self._config.caster.identifier,
            "text": "\n".join(map(_line, alarms)),
            "alarms": [asdict(alarm) for alarm in alarms],
        })  # fmt: skip

    async def _mail(self, to: Sequence[str], alarms: Sequence[Alarm]) -> None:
        name = self._config.caster.identifier
        text = "\n".join([*map(_line, alarms), "", f"-- \n{name}, told by Big Dipper"])
        await send_mail(self._config.alerts, to, f"[{name}] {_subject(alarms)}", text)


def _subject(alarms: Sequence[Alarm]) -> str:
    if len(alarms) == 1:
        return f"{alarms[0].mount}: {_state(alarms[0])}"
    mounts = sorted({alarm.mount for alarm in alarms})
    which = ", ".join(mounts[:3]) + (f" and {len(mounts) - 3} more" if len(mounts) > 3 else "")
    return f"{len(alarms)} changes: {which}"


def _state(alarm: Alarm) -> str:
    return f"{alarm.name}{'' if alarm.raised else ' is over'}"


def _line(alarm: Alarm) -> str:
    """`2026-05-15 08:00:31 UTC  STR1  silent: no data for 31 s`."""
    when = datetime.fromtimestamp(alarm.time_s, UTC)
    more = alarm.text if alarm.raised else f"it lasted {alarm.time_s - alarm.since_s:.0f} s"
    return f"{when:%Y-%m-%d %H:%M:%S} UTC  {alarm.mount}  {_state(alarm)}: {more}"
