"""MQTT over a real broker: streams out and in, rovers by topic, states that stay; and a broker that comes and goes."""

import asyncio
import json
import shutil
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from caster.bus import Bus, Outbox
from caster.codec.ntrip import gga_line
from caster.config import Config, MountConfig, MqttConfig
from caster.errors import ConfigError
from caster.mountpoints import Mountpoint, Mountpoints
from caster.positions import PositionFilter, PositionStore
from tests.caster.broker import Broker, message
from tests.caster.conftest import Service, StartService, frame

FRAMES = frame(1005) + frame(1077)


@pytest.fixture
async def broker(tmp_path) -> AsyncIterator[Broker]:
    broker = Broker(tmp_path)
    await broker.start()
    yield broker
    broker.stop()


class Echo(Mountpoint):
    """A service that answers a rover's bytes."""

    def on_uplink(self, rover, data):
        rover.follow(None)
        rover.send(b"$" + data)


class EchoService:
    kinds = {"echo": Echo}  # noqa: RUF012

    def attach(self, mountpoints):
        pass

    def close(self):
        pass


def mqtt(broker: Broker, **more) -> dict[str, object]:
    values = {
        "host": "127.0.0.1",
        "port": broker.port,
        "caster": "one",
        "retry_min_s": 0.05,
        "retry_max_s": 0.1,
        **more,
    }
    return {f"mqtt.{key}": value for key, value in values.items()}


async def connected(service: Service, state: bool = True) -> Bus:
    bus = service.caster.operations.bus
    assert bus is not None
    await service.wait(lambda: bus.connected is state)
    return bus


async def test_without_a_broker_configured_there_is_no_bus(service: Service) -> None:
    assert service.caster.operations.bus is None


async def test_a_mounts_frames_go_out_whole_one_message_an_epoch(start: StartService, broker: Broker) -> None:
    service = await start(**mqtt(broker, publish=["OPEN*"]))
    await connected(service)
    async with broker.client() as client:
        await client.subscribe("dipper/streams/#")
        await (await service.feed("SECRET")).send(FRAMES)
        await (await service.feed("OPEN")).send(FRAMES)
        found = await message(client)
    assert (str(found.topic), found.payload, found.retain) == ("dipper/streams/OPEN", FRAMES, False)


async def test_a_station_that_speaks_mqtt_feeds_a_mount(start: StartService, broker: Broker) -> None:
    service = await start(**mqtt(broker, subscribe=["OPEN*"]))
    await connected(service)
    async with broker.client() as client:
        await client.publish("dipper/streams/OTHER", FRAMES)
        await client.publish("dipper/streams/OPEN", FRAMES)
        await service.wait(lambda: service.caster.mountpoints.get("OPEN") is not None)
        rover = await service.connect(b"GET /OPEN HTTP/1.0\r\n\r\n")
        await rover.until(b"\r\n\r\n")
        await service.wait(lambda: len(service.caster.mountpoints.get("OPEN").mount) == 1)
        assert await rover.read(len(frame(1005))) == frame(1005)
        for half in (FRAMES[:10], FRAMES[10:]):
            await client.publish("dipper/streams/OPEN", half)
        assert await rover.read(len(FRAMES)) == FRAMES
    assert service.caster.mountpoints.get("OTHER") is None


async def test_a_mount_that_is_fed_already_is_not_fed_by_mqtt(start: StartService, broker: Broker) -> None:
    service = await start(**mqtt(broker, subscribe=["*"]))
    bus = await connected(service)
    await service.feed("OPEN")
    with capture_logs() as logs:
        async with broker.client() as client:
            for _ in range(3):
                await client.publish("dipper/streams/OPEN", FRAMES)
            await service.wait(lambda: bus.refused == 3)
    assert [log["reason"] for log in logs if log["event"] == "refused by MQTT"] == ["mountpoint OPEN is fed already"]
    assert service.caster.mountpoints.get("OPEN").mount.published == 0


async def test_a_station_that_falls_silent_gives_its_mount_back(start: StartService, broker: Broker) -> None:
    service = await start(**mqtt(broker, subscribe=["*"]))
    bus = await connected(service)
    async with broker.client() as client:
        await client.publish("dipper/streams/OPEN", FRAMES)
        await service.wait(lambda: service.caster.mountpoints.get("OPEN") is not None)
    bus.sweep(asyncio.get_running_loop().time() + 61)
    assert service.caster.mountpoints.get("OPEN").source is None


async def test_two_casters_share_a_broker_without_loops(start: StartService, broker: Broker, tmp_path) -> None:
    both = {"publish": ["*"], "subscribe": ["*"]}
    one = await start(**mqtt(broker, **both))
    two = await start(
        **mqtt(broker, **both, caster="two"), **{"accounts.url": f"sqlite+aiosqlite:///{tmp_path / 'two.db'}"}
    )
    for service in (one, two):
        await connected(service)
    source = await one.feed("OPEN")
    async with broker.client() as client:
        await client.subscribe("dipper/streams/#")
        for _ in range(3):
            await source.send(FRAMES)
            assert (await message(client)).payload == FRAMES
        await two.wait(lambda: two.caster.mountpoints.get("OPEN").mount.published >= 3)
        await client.publish("dipper/streams/END", b"x")
        assert str((await message(client)).topic) == "dipper/streams/END"
    assert one.caster.mountpoints.get("OPEN").mount.published == 3


async def test_a_rover_by_topic_is_served_by_the_mountpoint_of_its_kind(start: StartService, broker: Broker) -> None:
    mounts = [{"name": "FIX", "kind": "echo", "open": True}]
    service = await start(EchoService(), **mqtt(broker, rovers="FIX"), mounts=mounts)
    await connected(service)
    line = gga_line(31.25, 121.5, 17.0, utc_s=3600.0).lstrip(b"$")
    async with broker.client() as client:
        await client.subscribe("dipper/rovers/truck-7/#")
        await client.publish("dipper/rovers/truck-7/up", line)
        down = await message(client, "dipper/rovers/+/down")
        fix = json.loads((await message(client, "dipper/rovers/+/fix")).payload)
    assert down.payload == b"$" + line
    assert fix["latitude_deg"] == pytest.approx(31.25) and fix["longitude_deg"] == pytest.approx(121.5)
    async with broker.client() as later:
        await later.subscribe("dipper/rovers/truck-7/fix")
        assert json.loads((await message(later)).payload) == fix


async def test_a_rover_by_topic_follows_a_mounts_stream_until_it_is_idle(start: StartService, broker: Broker) -> None:
    service = await start(**mqtt(broker, rovers="OPEN"))
    bus = await connected(service)
    source = await service.feed("OPEN")
    async with broker.client() as client:
        await client.subscribe("dipper/rovers/+/down")
        await client.publish("dipper/rovers/r/up", gga_line(31.25, 121.5, 17.0, utc_s=3600.0))
        await service.wait(lambda: bus.received == 1)
        await source.send(FRAMES)
        assert (await message(client)).payload == FRAMES
    with capture_logs() as logs:
        bus.sweep(asyncio.get_running_loop().time() + 61)
    assert [(log["event"], log["reason"]) for log in logs] == [("rover ended", "idle")]


async def test_positions_of_rovers_by_topic_are_logged_under_their_names(start: StartService, broker: Broker) -> None:
    mounts = [{"name": "FIX", "kind": "echo", "open": True}]
    service = await start(EchoService(), **mqtt(broker, rovers="FIX"), mounts=mounts, **{"positions.enabled": True})
    bus, log = await connected(service), service.caster.positions
    assert log is not None
    async with broker.client() as client:
        await client.publish("dipper/rovers/truck-7/up", gga_line(31.25, 121.5, 17.0, utc_s=3600.0))
        await service.wait(lambda: bus.received == 1)
    await log.flush()
    batches = PositionStore(service.caster.database).batches(PositionFilter())
    (row,) = [row async for rows in batches for row in rows]
    assert (row.kind, row.account, row.mount, round(row.latitude_deg, 6)) == ("gga", "mqtt:truck-7", "FIX", 31.25)


async def test_state_health_and_alarms_are_retained(start: StartService, broker: Broker) -> None:
    service = await start(**mqtt(broker), **{"health.hold_s": 0, "health.satellites_min": 0})
    await connected(service)
    await (await service.feed("OPEN")).send(FRAMES)
    await service.wait(lambda: service.caster.mountpoints.get("OPEN").mount.published > 0)
    monitor = service.caster.operations.monitor
    monitor._clock = lambda clock=monitor._clock: clock() + 100
    monitor.look()
    async with broker.client() as client:
        await client.subscribe("dipper/casters/#")
        state = json.loads((await message(client, "dipper/casters/one/state")).payload)
        health = json.loads((await message(client, "dipper/casters/one/stations/OPEN/health")).payload)
    async with broker.client() as client:
        await client.subscribe("dipper/casters/one/stations/OPEN/alarms/silent")
        alarm = json.loads((await message(client)).payload)
    assert state["online"] is True
    assert health["mount"] == "OPEN" and health["silent_s"] > 90
    assert alarm["raised"] is True and alarm["mount"] == "OPEN"


async def test_a_caster_that_stops_says_that_it_is_offline(broker: Broker) -> None:
    mountpoints = Mountpoints(Config(mounts=()), {})
    bus = Bus(MqttConfig(host="127.0.0.1", port=broker.port, caster="c"), mountpoints)
    task = asyncio.create_task(bus.run())
    async with broker.client() as client:
        await client.subscribe("dipper/casters/c/state")
        assert json.loads((await message(client)).payload)["online"] is True
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        assert json.loads((await message(client)).payload) == {"online": False}


async def test_a_broker_that_goes_and_comes_back_costs_the_rovers_nothing(start: StartService, broker: Broker) -> None:
    service = await start(**mqtt(broker, publish=["*"]))
    await connected(service)
    source = await service.feed("OPEN")
    rover = await service.connect(b"GET /OPEN HTTP/1.0\r\n\r\n")
    await rover.until(b"\r\n\r\n")
    await service.wait(lambda: len(service.caster.mountpoints.get("OPEN").mount) == 1)
    with capture_logs() as logs:
        broker.stop()
        bus = await connected(service, False)
        await source.send(FRAMES)
        assert await rover.read(len(FRAMES)) == FRAMES
        await service.wait(lambda: bus.outbox.dropped > 0)
        await broker.start()
        await connected(service)
    assert sum(log["event"] == "no MQTT broker" for log in logs) == 1
    async with broker.client() as client:
        await client.subscribe("dipper/#")
        assert (await message(client, "dipper/casters/one/state")).retain
        await source.send(FRAMES)
        assert (await message(client, "dipper/streams/OPEN")).payload == FRAMES


@pytest.fixture
def passwords(tmp_path: Path) -> Path:
    """Mosquitto's file of one login."""
    program, path = shutil.which("mosquitto_passwd"), tmp_path / "passwords"
    if program is None:
        pytest.skip("no mosquitto_passwd")
    subprocess.run([program, "-b", "-c", str(path), "dipper", "pa ss"], check=True, timeout=20)
    path.chmod(0o700)
    return path


async def test_a_broker_that_wants_a_password_gets_it(tmp_path: Path, passwords: Path, start: StartService) -> None:
    broker = Broker(tmp_path, f"allow_anonymous false\npassword_file {passwords}\nuser root\n")
    await broker.start()
    try:
        service = await start(**mqtt(broker, user="dipper", password="pa ss"))
        await connected(service)
    finally:
        broker.stop()


async def test_useless_messages_are_counted_and_harm_nobody(start: StartService, broker: Broker) -> None:
    service = await start(**mqtt(broker, subscribe=["*"], rovers="NONE"))
    bus = await connected(service)
    async with broker.client() as client:
        await client.publish("dipper/streams/OPEN", b"")
        await client.publish("dipper/streams/OPEN", b"x" * 70_000)
        await client.publish("dipper/streams/bad name", FRAMES)
        await client.publish("dipper/rovers/r/up", b"x")
        await service.wait(lambda: bus.refused == 4)
        await client.publish("dipper/streams/OPEN", FRAMES)
        await service.wait(lambda: service.caster.mountpoints.get("OPEN") is not None)
    assert bus.connected


async def test_the_outbox_drops_the_oldest_and_keeps_the_last_states() -> None:
    outbox = Outbox(bytes_max=25)
    outbox.stream("away", b"x")
    outbox.open()
    for number in range(5):
        outbox.stream("s", b"%010d" % number)
        outbox.retain("r", b"%d" % number)
    assert [(await outbox.next()).payload[-1:] for _ in range(3)] == [b"3", b"4", b"4"]
    assert outbox.dropped == 4
    outbox.close()
    outbox.open()
    again = await outbox.next()
    assert (again.topic, again.payload, again.retain) == ("r", b"4", True)


def test_certificates_that_cannot_be_read_are_named(tmp_path) -> None:
    config = MqttConfig(host="x", tls=True, ca_file=tmp_path / "none.pem")
    with pytest.raises(ConfigError, match=r"mqtt\.ca_file: .*none\.pem"):
        Bus(config, Mountpoints(Config(mounts=(MountConfig(name="A"),)), {}))
