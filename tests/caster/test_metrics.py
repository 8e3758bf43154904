"""Metrics are what the service counts anyway, in Prometheus' format, on a port of their own."""

import asyncio
import json
import socket
import struct
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from caster.config import Config, HealthConfig, MetricsConfig, MountConfig
from caster.errors import ConfigError
from caster.health import HealthMonitor
from caster.metrics import Histogram, LagMeter, LatencyTap, MetricsServer, Sources, families
from caster.mountpoints import Mountpoints
from tests.caster.conftest import STATION, Service, StartService, frame

DOCS = Path(__file__).resolve().parents[2] / "docs" / "monitoring.md"
METRICS = {"metrics.port": 0}


async def page(port: int, target: str, method: str = "GET") -> tuple[int, str]:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"{method} {target} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    head, _, body = (await asyncio.wait_for(reader.read(), 10)).partition(b"\r\n\r\n")
    writer.close()
    await writer.wait_closed()
    return int(head.split()[1]), body.decode()


def metrics_port(service: Service) -> int:
    metrics = service.caster.operations.metrics
    assert metrics is not None
    return metrics.port


async def samples(service: Service) -> dict[tuple[str, ...], float]:
    """Values by name and labels' values."""
    status, text = await page(metrics_port(service), "/metrics")
    assert status == 200
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def test_there_is_no_listener_unless_one_is_configured(service: Service) -> None:
    assert service.caster.operations.metrics is None


async def test_frames_rovers_bytes_and_sessions_are_shown(start: StartService) -> None:
    service = await start(**METRICS)
    source = await service.feed("OPEN")
    rover = await service.connect(b"GET /OPEN HTTP/1.0\r\n\r\n")
    await rover.until(b"\r\n\r\n")
    mount = service.caster.mountpoints.get("OPEN").mount
    await service.wait(lambda: len(mount) == 1)
    data = frame(1077) + frame(1087)
    await source.send(data)
    await rover.read(len(data))
    values = await samples(service)
    assert values["dipper_rovers", "OPEN"] == values["dipper_mount_live", "OPEN"] == 1
    assert values["dipper_frames_total", "OPEN"] == 2
    assert values["dipper_stream_bytes_total", "OPEN"] == len(data) == values["dipper_sent_bytes_total", "OPEN"]
    assert values["dipper_dropped_total", "OPEN"] == 0
    assert values["dipper_connections",] == 2
    assert values["dipper_sessions", "rover", "OPEN"] == values["dipper_sessions", "source", "OPEN"] == 1
    reset = struct.pack("ii", 1, 0)
    rover.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, reset)
    rover.writer.transport.abort()
    await service.ended("rover", "connection lost")
    values = await samples(service)
    assert values["dipper_sessions_ended_total", "rover", "connection lost"] == 1
    assert values["dipper_mount_sessions_ended_total", "OPEN", "connection lost"] == 1
    assert ("dipper_sessions", "rover", "OPEN") not in values
    assert values["dipper_rovers", "OPEN"] == 0
    assert values["dipper_sent_bytes_total", "OPEN"] == len(data)


async def test_relays_and_their_rovers_are_counted_too(start: StartService, tmp_path: Path) -> None:
    far = await start(**{"accounts.url": f"sqlite:///{tmp_path / 'far.sqlite3'}"})
    await far.feed("OPEN")
    relay = {"name": "NET", "kind": "rover-relay", "open": True, "gga": [31.25, 121.5, 17.0]}
    sources = [f"ntrip://127.0.0.1:{far.port}/NOWHERE", f"ntrip://127.0.0.1:{far.port}/OPEN"]
    here = await start(**METRICS, mounts=[{**relay, "sources": sources}])
    await here.connect(b"GET /NET HTTP/1.0\r\n\r\n")
    await here.wait(lambda: here.caster.mountpoints.get("NET").connects == 1)
    values = await samples(here)
    assert values["dipper_relay_opened_total", "NET"] == values["dipper_relay_failures_total", "NET"] == 1
    assert values["dipper_sessions", "rover", "NET"] == 1
    _, text = await page(metrics_port(here), "/healthz")
    assert '"rovers": 1,' in text


async def test_the_time_from_a_sources_read_to_the_rovers_write_is_measured(start: StartService) -> None:
    service = await start(**METRICS, **{"limits.epoch_join_s": 0})
    source = await service.feed("OPEN")
    await source.send(frame(1077) + frame(1005))
    await service.wait(lambda: service.caster.mountpoints.get("OPEN").mount.published > 0)
    values = await samples(service)
    assert values["dipper_publish_seconds_bucket", "+Inf"] == values["dipper_publish_seconds_count",] >= 1
    assert 0 < values["dipper_publish_seconds_sum",] < 1


async def test_the_state_of_the_process_is_shown(start: StartService) -> None:
    values = await samples(await start(**METRICS))
    assert values["process_resident_memory_bytes",] > 1e6 and values["process_open_fds",] > 3


async def test_the_service_says_that_it_is_well(start: StartService) -> None:
    service = await start(**METRICS)
    await service.feed("OPEN")
    status, text = await page(metrics_port(service), "/healthz")
    state = json.loads(text)
    assert (status, state["status"], state["rovers"]) == (200, "ok", 0)
    assert state["alarms"] == {} and state["stations"] >= 1


async def test_a_loop_that_is_late_is_not_well() -> None:
    lag = LagMeter()
    lag.last_s = 3.0
    server = MetricsServer(MetricsConfig(hosts=("127.0.0.1",), port=0), sources(lag))
    await server.start()
    status, text = await page(server.port, "/healthz")
    await server.stop()
    assert (status, json.loads(text)["status"]) == (503, "late")


@pytest.mark.parametrize(
    ("target", "method", "status"), [("/", "GET", 404), ("/metrics", "POST", 404), ("/metrics", "\x01", 400)]
)
async def test_anything_else_is_refused(start: StartService, target: str, method: str, status: int) -> None:
    service = await start(**METRICS)
    assert (await page(metrics_port(service), target, method))[0] == status


async def test_a_client_that_leaves_or_says_nothing_harms_nobody(start: StartService) -> None:
    service = await start(**METRICS)
    _, silent = await asyncio.open_connection("127.0.0.1", metrics_port(service))
    _, gone = await asyncio.open_connection("127.0.0.1", metrics_port(service))
    gone.close()
    await gone.wait_closed()
    assert (await page(metrics_port(service), "/healthz"))[0] == 200
    silent.close()
    await silent.wait_closed()


async def test_a_port_that_is_taken_is_named_in_the_error(start: StartService) -> None:
    service = await start(**METRICS)
    port = metrics_port(service)
    with pytest.raises(ConfigError, match=rf"metrics: 127\.0\.0\.1 port {port}: .*metrics.port names another port"):
        await MetricsServer(MetricsConfig(port=port), sources()).start()


async def test_the_loops_lag_is_measured() -> None:
    lag = LagMeter()
    task = asyncio.create_task(lag.run())
    async with asyncio.timeout(10):
        while not lag.histogram.count:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    task.cancel()
    assert 0 <= lag.last_s < 5


def sources(lag: LagMeter | None = None) -> Sources:
    mountpoints = Mountpoints(Config(mounts=(MountConfig(name="A"), MountConfig(name="B"))), {})
    mountpoints.open()
    return Sources(mountpoints, HealthMonitor(HealthConfig(), mountpoints), LatencyTap(), lag or LagMeter())


def test_a_histogram_counts_values_up_to_each_bound() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (0.5, 1.0, 1.5, 2.0, 99.0):
        histogram.add(value)
    family = histogram.family("x", "text")
    assert [sample.value for sample in family.samples if sample.name == "x_bucket"] == [2.0, 4.0, 5.0]
    assert histogram.sum == 104.0 and histogram.count == 5


def test_stations_health_and_alarms_are_shown() -> None:
    now_s = 1e9
    mountpoints = Mountpoints(Config(mounts=(MountConfig(name="A"),)), {})
    mountpoints.open()
    monitor = HealthMonitor(HealthConfig(hold_s=0), mountpoints, lambda: now_s)
    now_s += 100
    monitor.look()
    found = {family.name: family for family in families(Sources(mountpoints, monitor, LatencyTap(), LagMeter()))}
    assert [sample.labels for sample in found["dipper_station_alarm"].samples] == [{"mount": "A", "alarm": "silent"}]
    assert [sample.value for sample in found["dipper_station_alarms_raised"].samples] == [1]
    assert found["dipper_station_silent_seconds"].samples[0].value == 100
    assert found["dipper_station_latency_seconds"].samples == []


async def test_metrics_of_many_mounts_have_one_head_and_all_their_values(start: StartService) -> None:
    service = await start(**METRICS, **{"limits.mounts": 1000})
    for number in range(350):
        service.caster.mountpoints.for_source(f"S{number}")
    _, text = await page(metrics_port(service), "/metrics")
    assert text.count("# TYPE dipper_rovers gauge\n") == text.count("# HELP dipper_rovers ") == 1
    values = await samples(service)
    assert all(("dipper_rovers", f"S{number}") in values for number in range(350))


async def test_every_metric_is_documented(start: StartService) -> None:
    service = await start(**METRICS)
    await (await service.feed("OPEN", STATION.password)).send(frame(1005))
    _, text = await page(metrics_port(service), "/metrics")
    names = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE dipper")}
    documented = DOCS.read_text()
    assert len(names) > 20
    assert [name for name in sorted(names) if f"`{name}" not in documented] == []
