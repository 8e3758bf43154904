"""The health of stations: rate, gaps, satellites, C/N0, latency, position, and alarms on them.

Strategy: a `StationWatch` is a tap on a mount's fan-out. It reads the time of each observation frame (30 bits) and
keeps the frames of the latest epoch; that is all that happens as frames pass. Once in a while `HealthMonitor` walks
over the stations, a few in each turn of the loop, decodes the one epoch that each keeps, and holds the report against
the alarm rules (`caster.alarms`). Counts of frames and bytes and the station's position are the mount's own.

Epochs are told apart by their time in GPST, not by the multiple message bit, which some receivers set wrongly.
Field layouts: RTCM 10403.3, DF004 (GPS time of week), DF034 (GLONASS time of day), DF427 (BDT time of week), MSM head.
"""

import asyncio
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from typing import Any, Final

import numpy as np
import structlog

from caster.alarms import Alarm, AlarmBoard, Rule
from caster.codec.rtcm import decode_msm, is_msm
from caster.config import HealthConfig
from caster.errors import FormatError
from caster.hub import Mount
from caster.mountpoints import Mountpoint, Mountpoints, StationMountpoint
from caster.traffic import ends_epoch, frame_type
from solver.signals import PRN_PER_SYSTEM, SIGNAL_COUNT, SYSTEMS, signal_name
from solver.timescale import BDT_OFFSET_S, GLONASST_UTC_S, from_unix

__all__ = ["HealthMonitor", "StationHealth", "StationWatch", "alarm_rules"]

_log = structlog.get_logger(__name__)

_DAY_MS: Final = 86_400_000
_GPS_EPOCH_UNIX_NS: Final = 315_964_800 * 10**9
_EPOCH_FRAMES_MAX: Final = 64
_REPLAY_S: Final = 3600.0
"""Observations further from the present than this are a replayed recording, of which latency says nothing."""
_INTERVAL_VOTES: Final = 5
_LATENCY_WEIGHT: Final = 0.1
_LOOKED_AT_ONCE: Final = 4
"""Stations in a turn of the loop: a look takes some 0.1 ms, and to wake up for each costs as much again."""
_LEGACY_TYPES: Final = frozenset((1001, 1002, 1003, 1004, 1009, 1010, 1011, 1012))
_LEGACY_COUNT_BIT: Final = {"G": 55, "R": 52}
"""Where the number of satellites (DF006, DF035: 5 bits) begins in 1001 to 1004 and 1009 to 1012."""


@dataclass(frozen=True, slots=True)
class StationHealth:
    """How one station was doing at an instant; NaN: not known.

    Attributes:
        mount: The mountpoint.
        time_s: When, s since 1970 UTC.
        silent_s: Time since the last bytes.
        stuck_s: Time for which the observations' time should have moved on and did not, while frames came.
        rate_hz: Epochs a second since the report before.
        interval_s: The station's own interval between epochs.
        completeness: Part of the epochs since the report before that were there, 0 to 1.
        epochs: Count since the start.
        epochs_missed: Count since the start, by the station's own interval.
        epochs_backward: Count of epochs whose time went back.
        latency_s: From the instant of observation to reception, smoothed; NaN for a replayed recording.
        satellites: Number of satellites by system letter in the last epoch.
        cn0_dbhz: Mean C/N0 by signal, such as `C2I`.
        position_age_s: Since the last 1005 or 1006 with a position.
        moved_m: Distance of the stated position from that of before.
        bitrate: Bits a second.
    """

    mount: str
    time_s: float
    silent_s: float = math.nan
    stuck_s: float = math.nan
    rate_hz: float = math.nan
    interval_s: float = math.nan
    completeness: float = math.nan
    epochs: int = 0
    epochs_missed: int = 0
    epochs_backward: int = 0
    latency_s: float = math.nan
    satellites: dict[str, int] = field(default_factory=dict)
    cn0_dbhz: dict[str, float] = field(default_factory=dict)
    position_age_s: float = math.nan
    moved_m: float = math.nan
    bitrate: int = 0

    @property
    def overdue_s(self) -> float:
        """Silence beyond the station's own interval."""
        return self.silent_s if math.isnan(self.interval_s) else max(0.0, self.silent_s - self.interval_s)

    @property
    def satellite_count(self) -> float:
        """Satellites of all systems; NaN before the first epoch."""
        return float(sum(self.satellites.values())) if self.satellites else math.nan

    @property
    def cn0_mean_dbhz(self) -> float:
        """The mean over signals; NaN where no message has it."""
        return float(np.mean(list(self.cn0_dbhz.values()))) if self.cn0_dbhz else math.nan

    def as_dict(self) -> dict[str, Any]:
        """As plain values for JSON: what is not known is None."""
        values = asdict(self)
        return {key: None if isinstance(value, float) and math.isnan(value) else value for key, value in values.items()}


def alarm_rules(config: HealthConfig) -> tuple[Rule[StationHealth], ...]:
    """The alarms of a station, from the configured limits; each clears at a better value than it was raised at."""
    return (
        Rule("silent", lambda h: h.overdue_s, config.silent_s, config.silent_s / 2, "no data for {value:.0f} s"),
        Rule("stuck", lambda h: h.stuck_s, config.stuck_s, config.stuck_s / 2, "the same epoch for {value:.0f} s"),
        Rule(
            "gaps",
            lambda h: h.completeness,
            config.completeness_min,
            (1 + config.completeness_min) / 2,
            "{value:.0%} of the epochs arrived",
        ),
        Rule(
            "satellites",
            lambda h: h.satellite_count,
            config.satellites_min,
            config.satellites_min + 2,
            "{value:.0f} satellites",
        ),
        Rule(
            "cn0",
            lambda h: h.cn0_mean_dbhz,
            config.cn0_min_dbhz,
            config.cn0_min_dbhz + 2,
            "mean C/N0 {value:.1f} dB-Hz",
        ),
        Rule("latency", lambda h: h.latency_s, config.latency_s, config.latency_s * 0.6, "{value:.1f} s late"),
        Rule(
            "position",
            lambda h: h.position_age_s,
            config.position_age_s,
            config.position_age_s / 2,
            "no position (1005, 1006) for {value:.0f} s",
        ),
        Rule("moved", lambda h: h.moved_m, config.moved_m, config.moved_m / 2, "the antenna moved by {value:.3f} m"),
    )


def epoch_tod_ms(frame: bytes, kind: int, leap_s: int) -> int:
    """The time of an observation frame, ms of the GPST day."""
    word = int.from_bytes(frame[6:10], "big")  # bits 24 to 55 of the payload
    if 1009 <= kind <= 1012 or 1081 <= kind <= 1087:
        tod_ms = word >> 5 if kind <= 1012 else word >> 2 & 0x7FFFFFF
        return (tod_ms + (leap_s - GLONASST_UTC_S) * 1000) % _DAY_MS
    tow_ms = word >> 2
    if tow_ms >= 7 * _DAY_MS:  # in the first 14 s of a GPS week Septentrio sends BeiDou's as a negative number
        tow_ms -= 1 << 30
    return (tow_ms + (BDT_OFFSET_S * 1000 if 1121 <= kind <= 1127 else 0)) % _DAY_MS


class StationWatch:
    """What is kept of one station between two reports: a tap on its mount.

    Args:
        mountpoint: The station's mountpoint.
        config: Limits.
        now_s: The present, s since 1970 UTC.
    """

    def __init__(self, mountpoint: Mountpoint, config: HealthConfig, now_s: float) -> None:
        self.mountpoint = mountpoint
        self.board = AlarmBoard(mountpoint.name, alarm_rules(config), config.hold_s)
        self.report = StationHealth(mountpoint.name, now_s)
        self._config = config
        self._leap_s = _gpst_ns(now_s) // 10**9 - round(now_s) + _GPS_EPOCH_UNIX_NS // 10**9
        self._since_s = now_s
        self._tod_ms = -1
        self._advanced_s = now_s
        self._frames: list[bytes] = []
        self._whole: list[bytes] = []
        self._interval_ms = 0
        self._votes = 0
        self._epochs = 0
        self._missed = 0
        self._backward = 0
        self._latency_s = math.nan
        self._reference_m: tuple[float, float, float] | None = None
        self._moved_since_s = now_s

    def __call__(self, mount: Mount, frames: Sequence[bytes], received_unix_ns: int) -> None:
        """Take the frames of one publish: nearly always of one epoch, which its ends tell."""
        first = self._observation_tod_ms(frames)
        if first < 0:
            return
        if len(frames) == 1 or first == self._observation_tod_ms(reversed(frames)):
            self._take(first, frames, received_unix_ns)
            return
        for frame in frames:
            tod_ms = self._observation_tod_ms((frame,))
            if tod_ms >= 0:
                self._take(tod_ms, (frame,), received_unix_ns)

    def _observation_tod_ms(self, frames: Iterable[bytes]) -> int:
        """The time of the first observation frame, or -1."""
        for frame in frames:
            if ends_epoch(frame) is not None and len(frame) >= 13:
                return epoch_tod_ms(frame, frame_type(frame), self._leap_s)
        return -1

    def _take(self, tod_ms: int, frames: Sequence[bytes], received_unix_ns: int) -> None:
        if tod_ms != self._tod_ms:
            self._open_epoch(tod_ms, received_unix_ns * 1e-9)
        if len(self._frames) < _EPOCH_FRAMES_MAX:
            self._frames += frames

    def reload(self, config: HealthConfig) -> None:
        """Take other limits."""
        self._config = config
        self.board.rules, self.board.hold_s = alarm_rules(config), config.hold_s

    def look(self, now_s: float) -> list[Alarm]:
        """Make a new report; return the alarms that it raises or clears."""
        self.report = self._make_report(now_s)
        return self.board.judge(self.report, now_s)

    def _open_epoch(self, tod_ms: int, received_s: float) -> None:
        self._whole, self._frames = self._frames, []
        step_ms = (tod_ms - self._tod_ms + _DAY_MS // 2) % _DAY_MS - _DAY_MS // 2
        known = self._tod_ms >= 0
        self._tod_ms = tod_ms
        self._epochs += 1
        if known and step_ms < 0:
            self._backward += 1
        elif known:
            self._count_step(step_ms)
            self._advanced_s = received_s
        self._note_latency(received_s)

    def _count_step(self, step_ms: int) -> None:
        """Learn the interval as the shortest step; a longer one is a gap until it has come several times in turn."""
        if not self._interval_ms or step_ms < 0.75 * self._interval_ms:
            self._interval_ms, self._votes = step_ms, 0
        elif step_ms > 1.5 * self._interval_ms:
            self._votes += 1
            self._missed += round(step_ms / self._interval_ms) - 1
            if self._votes >= _INTERVAL_VOTES:
                self._interval_ms, self._votes = step_ms, 0
        else:
            self._votes = 0

    def _note_latency(self, received_s: float) -> None:
        behind_ms = _gpst_ns(received_s) // 10**6 - self._tod_ms
        latency_s = ((behind_ms + _DAY_MS // 2) % _DAY_MS - _DAY_MS // 2) * 1e-3
        if abs(latency_s) > _REPLAY_S:
            self._latency_s = math.nan
        elif math.isnan(self._latency_s):
            self._latency_s = latency_s
        else:
            self._latency_s += _LATENCY_WEIGHT * (latency_s - self._latency_s)

    def _make_report(self, now_s: float) -> StationHealth:
        before, traffic = self.report, self.mountpoint.mount.traffic
        if self.mountpoint.is_idle:
            self._since_s = self._advanced_s = now_s
            return StationHealth(before.mount, now_s, epochs=self._epochs, epochs_missed=self._missed)
        elapsed_s = now_s - before.time_s
        silent_s = max(0.0, now_s - max(traffic.last_s, self._since_s))
        interval_s = self._interval_ms * 1e-3
        flowing = traffic.frame_count > 0 and silent_s <= self._config.silent_s + interval_s
        epochs, missed = self._epochs - before.epochs, self._missed - before.epochs_missed
        satellites, cn0_dbhz = _look_at_epoch(self._whole) if flowing else ({}, {})
        return StationHealth(
            before.mount,
            now_s,
            silent_s,
            max(0.0, now_s - self._advanced_s - interval_s) if flowing and self._epochs else math.nan,
            epochs / elapsed_s if elapsed_s > 0 else math.nan,
            interval_s or math.nan,
            epochs / (epochs + missed) if epochs else math.nan,
            self._epochs,
            self._missed,
            self._backward,
            self._latency_s if flowing else math.nan,
            satellites,
            cn0_dbhz,
            self._position_age_s(now_s) if flowing else math.nan,
            self._moved_m(now_s),
            traffic.bitrate() if flowing else 0,
        )

    def _position_age_s(self, now_s: float) -> float:
        traffic = self.mountpoint.mount.traffic
        sent = [traffic.messages[kind].last_s for kind in (1005, 1006) if kind in traffic.messages]
        if not sent or traffic.position_ecef_m is None:
            return max(0.0, now_s - self._since_s)
        return max(0.0, now_s - max(sent))

    def _moved_m(self, now_s: float) -> float:
        """How far the antenna is from where it was; after some time at the new place, that is where it is."""
        position_m = self.mountpoint.mount.traffic.position_ecef_m
        if position_m is None:
            return math.nan
        self._reference_m = self._reference_m or position_m
        moved_m = math.dist(position_m, self._reference_m)
        if moved_m <= self._config.moved_m:
            self._moved_since_s = now_s
        elif now_s - self._moved_since_s > self._config.moved_keep_s:
            self._reference_m, moved_m = position_m, 0.0
        return moved_m


def _gpst_ns(unix_s: float) -> int:
    return from_unix(round(unix_s * 1e9))


def _look_at_epoch(frames: Sequence[bytes]) -> tuple[dict[str, int], dict[str, float]]:
    """Satellites by system and mean C/N0 by signal of one epoch's frames; what cannot be decoded is left out."""
    satellites: set[int] = set()
    cells, cn0_sum = np.zeros(SIGNAL_COUNT), np.zeros(SIGNAL_COUNT)
    counts: dict[str, int] = {}
    for frame in frames:
        kind = frame_type(frame)
        if is_msm(kind):
            with suppress(FormatError):
                message = decode_msm(frame)
                satellites.update(message.sat.tolist())
                known = message.cn0_dbhz > 0
                cells += np.bincount(message.signal[known], minlength=SIGNAL_COUNT)
                cn0_sum += np.bincount(message.signal[known], message.cn0_dbhz[known], SIGNAL_COUNT)
        elif kind in _LEGACY_TYPES:
            system = "G" if kind < 1009 else "R"
            counts[system] = int.from_bytes(frame[3:11], "big") >> (59 - _LEGACY_COUNT_BIT[system]) & 31
    counts |= Counter(SYSTEMS[sat // PRN_PER_SYSTEM] for sat in satellites)
    means = {signal_name(k): float(cn0_sum[k] / cells[k]) for k in np.flatnonzero(cells).tolist()}
    return counts, dict(sorted(means.items()))


class HealthMonitor:
    """The health of all stations.

    Args:
        config: Limits of the alarms.
        mountpoints: Where the stations are; those that appear later are watched, too.
        clock: The present, s since 1970 UTC.

    Attributes:
        on_alarm: Called with each alarm that is raised or cleared; must return at once.
        on_report: Called with each new report; must return at once.
        raised_count: Alarms raised since the start, by mountpoint and name.
    """

    def __init__(self, config: HealthConfig, mountpoints: Mountpoints, clock: Callable[[], float] = time.time) -> None:
        self.on_alarm: list[Callable[[Alarm], None]] = [_log_alarm]
        self.on_report: list[Callable[[StationHealth], None]] = []
        self.raised_count: Counter[tuple[str, str]] = Counter()
        self._config = config
        self._mountpoints = mountpoints
        self._clock = clock
        self._watches: dict[str, StationWatch] = {}
        for mountpoint in mountpoints:
            self.watch(mountpoint)
        mountpoints.on_new.append(self.watch)

    def watch(self, mountpoint: Mountpoint) -> None:
        """Watch a mountpoint from now on, if it is one that stations feed with RTCM."""
        if isinstance(mountpoint, StationMountpoint) and not mountpoint.config.raw:
            watch = StationWatch(mountpoint, self._config, self._clock())
            self._watches[mountpoint.name] = watch
            mountpoint.mount.tap(watch)

    def reload(self, config: HealthConfig) -> None:
        """Take other limits; alarms that are raised stay so until the new limits clear them."""
        self._config = config
        for watch in self._watches.values():
            watch.reload(config)

    @property
    def reports(self) -> list[StationHealth]:
        """The last report of each station."""
        return [watch.report for watch in self._watches.values()]

    @property
    def alarms(self) -> dict[str, dict[str, float]]:
        """The raised alarms of each station that has any: since when, by mountpoint and name."""
        raised = {name: dict(watch.board.raised) for name, watch in self._watches.items()}
        return {name: alarms for name, alarms in raised.items() if alarms}

    def look(self, names: Sequence[str] | None = None) -> None:
        """Make reports of some stations, or of all, now."""
        now_s = self._clock()
        for name in list(self._watches) if names is None else names:
            watch = self._watches[name]
            if self._mountpoints.get(name) is not watch.mountpoint:  # it was removed
                del self._watches[name]
                continue
            for alarm in watch.look(now_s):
                self.raised_count[alarm.mount, alarm.name] += alarm.raised
                self._tell(self.on_alarm, alarm)
            self._tell(self.on_report, watch.report)

    async def run(self) -> None:
        """Look at every station once in each period, at a few in each turn of the loop."""
        while True:
            names = list(self._watches)
            slices = [names[start : start + _LOOKED_AT_ONCE] for start in range(0, len(names), _LOOKED_AT_ONCE)]
            for some in slices or [[]]:
                await asyncio.sleep(self._config.period_s / max(1, len(slices)))
                self.look([name for name in some if name in self._watches])

    def _tell(self, listeners: Sequence[Callable[[Any], None]], news: Alarm | StationHealth) -> None:
        for listener in listeners:
            try:
                listener(news)
            except Exception:  # a listener's bug must not end the watch over the stations
                _log.exception("health listener failed", mount=news.mount)


def _log_alarm(alarm: Alarm) -> None:
    fields = {"mount": alarm.mount, "alarm": alarm.name, "value": round(alarm.value, 3), "limit": alarm.limit}
    if alarm.raised:
        _log.warning("station alarm", **fields, text=alarm.text)
    else:
        _log.info("station alarm cleared", **fields, lasted_s=round(alarm.time_s - alarm.since_s, 1))
