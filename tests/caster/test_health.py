"""The health of stations is told from their streams, and alarms from that."""

import asyncio
import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from caster.codec.rtcm import make_frame
from caster.config import Config, HealthConfig, MountConfig
from caster.health import HealthMonitor, StationHealth, StationWatch, epoch_tod_ms
from caster.mountpoints import AliasMountpoint, Mountpoints, StationMountpoint
from caster.traffic import frame_type
from tests.captures import frames_of

START_S = datetime(2018, 7, 14, 23, 50, tzinfo=UTC).timestamp()


class Service:
    """A station's mount under watch, and a clock that the test turns."""

    def __init__(self, **limits: float) -> None:
        self.now_s = START_S
        mounts = (MountConfig(name="STR1"),)
        self.mountpoints = Mountpoints(Config(mounts=mounts), {})
        self.mountpoints.open()
        self.monitor = HealthMonitor(HealthConfig(**limits), self.mountpoints, lambda: self.now_s)
        self.position = position_frame(1e6)
        self.alarms = []
        self.monitor.on_alarm.append(self.alarms.append)
        self.mount = self.mountpoints.get("STR1").mount

    def publish(self, *frames: bytes, at_s: float | None = None) -> None:
        self.now_s = self.now_s if at_s is None else at_s
        self.mount.publish(frames, round(self.now_s * 1e9))

    def look(self, at_s: float | None = None) -> StationHealth:
        self.now_s = self.now_s if at_s is None else at_s
        self.monitor.look()
        return self.monitor.reports[0]

    def run(self, seconds: int, payload=None) -> StationHealth:
        """Publish an epoch every second (unless `payload` says None) and look every ten."""
        for _ in range(seconds):
            self.now_s += 1.0
            frame = (payload or gps_frame)(self.now_s)
            if frame is not None:
                self.publish(frame)
            if frame is not None and self.position is not None and round(self.now_s) % 20 == 0:
                self.publish(self.position)
            if round(self.now_s) % 10 == 0:
                self.look()
        return self.monitor.reports[0]

    def raised(self) -> list[str]:
        return [alarm.name for alarm in self.alarms if alarm.raised]


def gps_tow_ms(unix_s: float) -> int:
    return round((unix_s - 315_964_800 + 18) % 604_800 * 1000)


def msm_frame(kind: int, epoch: int, satellites: int = 8) -> bytes:
    """An MSM4 message of some satellites with one signal at 45 dB-Hz."""
    bits = f"{kind:012b}{1:012b}{epoch:030b}0" + "0" * 18
    bits += "1" * satellites + "0" * (64 - satellites) + "01" + "0" * 30 + "1" * satellites
    bits += f"{70:08b}" * satellites + f"{512:010b}" * satellites
    bits += f"{1:015b}" * satellites + f"{1:022b}" * satellites + f"{5:04b}" * satellites + "0" * satellites
    bits += f"{45:06b}" * satellites
    bits += "0" * (-len(bits) % 8)
    return make_frame(int(bits, 2).to_bytes(len(bits) // 8, "big"))


def gps_frame(unix_s: float, satellites: int = 8) -> bytes:
    return msm_frame(1074, gps_tow_ms(unix_s - 0.2), satellites)


def position_frame(x_m: float, y_m: float = -5e6, z_m: float = 3e6) -> bytes:
    x, y, z = (round(value * 1e4) & (1 << 38) - 1 for value in (x_m, y_m, z_m))
    bits = f"{1005:012b}{1:012b}" + "0" * 10 + f"{x:038b}" + "00" + f"{y:038b}" + "00" + f"{z:038b}"
    return make_frame(int(bits, 2).to_bytes(19, "big"))


def test_a_healthy_station_is_described_and_raises_no_alarm():
    service = Service()
    health = service.run(60)
    assert health.interval_s == 1.0 and health.rate_hz == pytest.approx(1.0, abs=0.01)
    assert health.satellites == {"G": 8} and health.cn0_dbhz == {"G1C": 45.0}
    assert health.latency_s == pytest.approx(0.2, abs=0.01)
    assert (health.epochs, health.epochs_missed, health.completeness) == (60, 0, 1.0)
    assert health.position_age_s == 0.0 and health.moved_m == 0.0
    assert service.alarms == []


def test_a_real_stations_epochs_satellites_and_signals_are_counted(shared_data):
    """Septentrio's MSM7 stream over the end of a GPS week, compared with RTKLIB's decode of it: 1126 epochs."""
    service = Service()
    for frame in frames_of(shared_data / "str-stromlo-70m" / "week-rollover-STR17.rtcm3.gz"):
        service.publish(frame)
    health = service.look(START_S + 1)
    assert health.epochs - 1 <= 1126 <= health.epochs + 1 and health.epochs_missed == 0
    assert health.interval_s == 1.0 and health.epochs_backward == 0
    assert set(health.satellites) == {"G", "R", "E", "C", "J"}
    assert {"G1C", "G2W", "C2I", "C7I", "C6I", "E5Q"} <= set(health.cn0_dbhz)
    assert all(20 < value < 60 for value in health.cn0_dbhz.values())


def test_legacy_observations_are_counted_by_their_satellite_number_field(shared_data):
    service = Service()
    for frame in frames_of(shared_data / "rtcm3-captures" / "1012_first.rtcm"):
        service.publish(frame)
    health = service.look(START_S + 1)
    assert health.epochs == 148
    assert set(health.satellites) == {"G", "R"} and all(4 <= count <= 12 for count in health.satellites.values())


@pytest.mark.parametrize(
    ("kind", "epoch", "tod_ms"),
    [
        (1004, 86_400_000 * 3 + 5000, 5000),
        (1077, 86_400_000 * 3 + 5000, 5000),
        (1127, 86_400_000 * 3 - 9000, 5000),
        (1127, (1 << 30) - 9000, 5000),
        (1087, (3 << 27) + 10_800_000 - 18_000 + 5000, 5000),
    ],
)
def test_every_systems_time_is_brought_to_the_gpst_day(kind, epoch, tod_ms):
    frame = msm_frame(kind, epoch)
    assert frame_type(frame) == kind
    assert epoch_tod_ms(frame, kind, leap_s=18) == tod_ms


def test_a_silent_station_raises_one_alarm_and_clears_it_when_it_is_back():
    service = Service()
    service.run(30)
    service.run(60, lambda _: None)
    assert service.raised() == ["silent"]
    service.run(60)
    assert [(alarm.name, alarm.raised) for alarm in service.alarms] == [("silent", True), ("silent", False)]


def test_a_station_that_never_came_is_silent_too():
    service = Service()
    service.run(60, lambda _: None)
    assert service.raised() == ["silent"]
    assert math.isnan(service.look().latency_s)


def test_a_stream_that_repeats_one_epoch_is_stuck():
    service = Service()
    service.run(30)
    frame = gps_frame(service.now_s)
    service.run(120, lambda _: frame)
    assert "stuck" in service.raised() and "silent" not in service.raised()
    assert service.look().stuck_s == pytest.approx(119.0)


def test_missing_epochs_are_counted_and_raise_an_alarm():
    service = Service()
    service.run(30)
    health = service.run(90, lambda now_s: None if round(now_s) % 4 == 0 else gps_frame(now_s))
    assert health.epochs_missed == pytest.approx(22, abs=1)
    assert service.raised() == ["gaps"]


def test_a_station_that_changes_to_a_slower_rate_has_no_gaps_for_long():
    service = Service()
    service.run(30)
    health = service.run(300, lambda now_s: gps_frame(now_s) if round(now_s) % 5 == 0 else None)
    assert health.interval_s == 5.0 and health.epochs_missed == 5 * 4
    assert "gaps" not in service.monitor.alarms.get("STR1", {})


def test_few_satellites_and_weak_signals_raise_their_alarms():
    service = Service(cn0_min_dbhz=50)
    service.run(60, lambda now_s: gps_frame(now_s, satellites=3))
    assert service.raised() == ["satellites", "cn0"]


def test_a_late_stream_is_late_and_a_replayed_one_is_not():
    service = Service()
    service.run(60, lambda now_s: gps_frame(now_s - 8.0))
    assert service.raised() == ["latency"]
    replay = Service()
    assert math.isnan(replay.run(60, lambda now_s: gps_frame(now_s - 30_000.0)).latency_s)
    assert replay.raised() == []


def test_a_station_without_a_position_is_told_so_even_when_it_sends_zeros():
    service = Service()
    service.position = position_frame(0, 0, 0)
    service.run(150)
    assert "position" in service.raised()


def test_a_moved_antenna_raises_an_alarm_until_the_new_place_is_believed():
    service = Service(moved_keep_s=300)
    service.run(30)
    service.position = position_frame(1e6 + 12.5)
    assert service.run(60).moved_m == pytest.approx(12.5)
    assert service.raised() == ["moved"]
    service.run(400)
    assert "moved" not in service.monitor.alarms.get("STR1", {})


def test_alarms_are_written_to_the_log_with_their_fields():
    service = Service()
    with capture_logs() as logs:
        service.run(60, lambda _: None)
        service.run(60)
    raised, cleared = (log for log in logs if log["event"].startswith("station alarm"))
    assert (raised["mount"], raised["alarm"], raised["log_level"]) == ("STR1", "silent", "warning")
    assert (cleared["event"], cleared["log_level"]) == ("station alarm cleared", "info")
    assert cleared["lasted_s"] > 0


def test_stations_that_appear_later_are_watched_and_what_stations_do_not_feed_is_not():
    service = Service()
    service.mountpoints.for_source("NEW")
    service.monitor.watch(AliasMountpoint(MountConfig(name="A", kind="alias", target="NEW"), service.mountpoints))
    service.monitor.watch(StationMountpoint(MountConfig(name="R", raw=True), service.mountpoints))
    assert [report.mount for report in service.monitor.reports] == ["STR1", "NEW"]


def test_a_mountpoint_that_was_removed_is_no_longer_watched():
    service = Service()
    service.mountpoints.reload(Config(mounts=(MountConfig(name="STR1", kind="alias", target="X"),)))
    service.monitor.look()
    assert service.monitor.reports == []


def test_an_idle_mountpoint_is_not_silent():
    class Idle(StationMountpoint):
        is_idle = True

    service = Service()
    idle = Idle(MountConfig(name="IDLE"), service.mountpoints)
    watch = StationWatch(idle, HealthConfig(), START_S)
    assert [alarm for k in range(20) for alarm in watch.look(START_S + 10 * k)] == []


def test_a_listeners_bug_is_logged_and_stops_nothing():
    service = Service()
    service.monitor.on_alarm.insert(0, lambda alarm: 1 / 0)
    with capture_logs() as logs:
        service.run(60, lambda _: None)
    assert service.raised() == ["silent"]
    assert any(log["event"] == "health listener failed" for log in logs)


def test_what_is_not_known_is_null_in_json():
    values = StationHealth("M", 1.0).as_dict()
    assert values["latency_s"] is None and values["satellites"] == {}


async def test_the_monitor_looks_at_every_station_in_each_period():
    service = Service(period_s=0.01)
    for number in range(45):
        service.mountpoints.for_source(f"S{number}")
    seen = set()
    done = asyncio.Event()
    service.monitor.on_report.append(lambda health: (seen.add(health.mount), len(seen) == 46 and done.set()))
    task = asyncio.create_task(service.monitor.run())
    await asyncio.wait_for(done.wait(), 30)
    task.cancel()


@given(st.lists(st.tuples(st.sampled_from([1004, 1012, 1077, 1087, 1127, 1019]), st.binary(max_size=60)), max_size=30))
def test_any_frames_are_survived(contents):
    service = Service()
    for kind, rest in contents:
        service.publish(make_frame(bytes((kind >> 4, (kind & 15) << 4)) + rest))
    assert service.look(START_S + 10).epochs <= len(contents)
