"""A derived mountpoint: what is left out, converted and thinned out, once for all rovers."""

import itertools
from pathlib import Path
from typing import Any

import pytest
from structlog.testing import capture_logs

from caster.codec.rtcm import FrameReader, MsmEncoder, message_type
from caster.config import MountConfig, load_config
from caster.derived import Derivation, DerivedMountpoint
from caster.errors import ConfigError
from caster.traffic import ends_epoch
from solver.timescale import NS
from tests.caster.codec.rtcm.test_encoder import TIME_NS, an_epoch
from tests.caster.conftest import Peer, Service, StartService, frame

LEAP_S = 18
STATION = frame(1005, bytes.fromhex("000000000001a13b8600000001f4b1c90000000022334455")[:17])
NAMES = [("G05", "1C"), ("R09", "1C"), ("E11", "1C"), ("C21", "2I")]


def epoch_frames(seconds: float = 0.0, names: list[tuple[str, str]] = NAMES) -> list[bytes]:
    return MsmEncoder(1, 7).encode(an_epoch(names, TIME_NS + round(seconds * NS)))


def derivation(**settings: Any) -> Derivation:
    return Derivation(MountConfig(name="D", kind="derived", source="M", **settings))


def kinds(frames: list[bytes]) -> list[int]:
    return [message_type(each) for each in frames]


def test_types_are_kept_and_dropped_by_number_and_range():
    frames = [STATION, *epoch_frames(), frame(4072)]
    assert kinds(derivation(drop=[4072, "1090-1099"]).take(frames, LEAP_S)) == [1005, 1077, 1087, 1127]
    assert kinds(derivation(keep=["1000-1019", 1077]).take(frames, LEAP_S)) == [1005, 1077]
    assert kinds(derivation(keep=["1000-1099"], drop=[1087]).take(frames, LEAP_S)) == [1005, 1077, 1097]


def test_what_passes_unchanged_is_the_same_object():
    frames = [STATION, *epoch_frames()]
    assert all(a is b for a, b in zip(derivation().take(frames, LEAP_S), frames, strict=True))


def test_the_last_message_that_is_left_says_that_the_epoch_ends():
    """Else receivers that go by the multiple message bit wait for a message that never comes."""
    made = derivation(drop=["1120-1127"]).take(epoch_frames() + epoch_frames(1.0), LEAP_S)
    assert kinds(made) == [1077, 1087, 1097] * 2
    assert [ends_epoch(each) for each in made] == [False, False, True] * 2
    legacy = derivation(convert="legacy").take(epoch_frames(), LEAP_S)
    assert kinds(legacy) == [1004, 1012] and [ends_epoch(each) for each in legacy] == [False, True]


def test_half_an_epoch_does_not_end_it():
    first, *rest = epoch_frames()
    assert [ends_epoch(each) for each in derivation(drop=[1127]).take([first], LEAP_S)] == [False]
    assert kinds(derivation(drop=[1077, 1127]).take([first, rest[-1]], LEAP_S)) == []


@pytest.mark.parametrize(("rate_s", "interval_s", "kept"), [(1.0, 5.0, 4), (0.1, 1.0, 2), (0.2, 1.0, 4), (1.0, 0, 20)])
def test_epochs_are_thinned_out_by_the_gnss_second(rate_s, interval_s, kept):
    thinning = derivation(interval_s=interval_s)
    epochs = [thinning.take(epoch_frames(k * rate_s), LEAP_S) for k in range(20)]
    sent = [k for k, made in enumerate(epochs) if made]
    assert len(sent) == kept and all(kinds(epochs[k]) == [1077, 1087, 1097, 1127] for k in sent)
    step = max(1, round(interval_s / rate_s))
    assert {b - a for a, b in itertools.pairwise(sent)} == {step}


def test_thinning_is_by_the_time_of_day_of_gpst_in_every_system():
    """The epoch is of second 51,219 of the GPST day; BeiDou and GLONASS count theirs otherwise."""
    thinning = derivation(interval_s=30.0)
    sent = [k for k in range(40) if thinning.take(epoch_frames(k), LEAP_S)]
    assert [(TIME_NS // NS + k) % 86_400 % 30 for k in sent] == [0] * len(sent) and sent


def test_an_unsteered_clock_is_within_the_tolerance():
    thinning = derivation(interval_s=1.0)
    assert thinning.take(epoch_frames(0.007), LEAP_S) and thinning.take(epoch_frames(0.993), LEAP_S)
    assert not thinning.take(epoch_frames(0.5), LEAP_S)


def test_station_messages_are_not_thinned_out():
    assert kinds(derivation(interval_s=3600.0).take([STATION, *epoch_frames(1.0)], LEAP_S)) == [1005]


def test_a_message_that_cannot_be_converted_is_counted_and_the_others_go_on():
    broken, lowering = frame(1077, b"\xff" * 30), derivation(convert="msm4")
    assert kinds(lowering.take([broken, *epoch_frames()], LEAP_S)) == [1074, 1084, 1094, 1124]
    assert lowering.faulty == 1


# ----- in the caster


MOUNTS = [
    {"name": "LOW", "kind": "derived", "source": "M", "convert": "msm4", "drop": ["1090-1099"], "open": True},
    {"name": "OLD", "kind": "derived", "source": "M", "convert": "legacy", "open": True},
    {"name": "M", "open": True, "country": "CHN"},
]


async def follow(service: Service, mount: str, count: int = 1) -> Peer:
    peer = await service.connect(f"GET /{mount} HTTP/1.0\r\n\r\n".encode())
    assert await peer.until(b"\r\n\r\n") == b"ICY 200 OK\r\n\r\n"
    found = service.caster.mountpoints.get(mount)
    await service.wait(lambda: len(found.mount) == count)
    return peer


async def test_rovers_of_each_mountpoint_get_its_own_stream(start: StartService) -> None:
    service = await start(mounts=MOUNTS)
    source = await service.feed("M")
    peers = {name: await follow(service, name) for name in ("M", "LOW", "OLD")}
    frames = [STATION, *epoch_frames()]
    await source.send(b"".join(frames))
    assert await peers["M"].read(sum(map(len, frames))) == b"".join(frames)
    for name, types in (("LOW", [1005, 1074, 1084, 1124]), ("OLD", [1005, 1004, 1012])):
        reader, got = FrameReader(), []
        while len(got) < len(types):
            got += reader.feed(await peers[name].read(1))
        assert kinds(got) == types


async def test_it_is_made_once_for_all_rovers(start: StartService, monkeypatch: pytest.MonkeyPatch) -> None:
    service = await start(mounts=MOUNTS)
    source = await service.feed("M")
    peers = [await follow(service, "LOW", count) for count in (1, 2, 3)]
    calls = []
    low = service.caster.mountpoints.get("LOW")
    take = low.derivation.take
    monkeypatch.setattr(low.derivation, "take", lambda *a: calls.append(a) or take(*a))
    await source.send(b"".join(epoch_frames()))
    assert len({await peer.read(100) for peer in peers}) == 1 and len(calls) == 1


async def test_the_row_of_the_sourcetable_says_what_is_sent(start: StartService) -> None:
    service = await start(mounts=MOUNTS)
    source = await service.feed("M")
    await source.send(b"".join([STATION, *epoch_frames()]))
    old = service.caster.mountpoints.get("OLD")
    await service.wait(lambda: old.mount.published > 0)
    record = old.record()
    assert (record["mountpoint"], record["format"], record["format_details"]) == ("OLD", "RTCM 3.1", "1004,1005,1012")
    assert (record["nav_system"], record["country"], record["solution"]) == ("GPS+GLO", "CHN", "0")
    assert record["latitude"] == service.caster.mountpoints.get("M").record()["latitude"] != ""


async def test_it_is_offline_while_its_station_is_and_forgets_it(start: StartService) -> None:
    service = await start(mounts=MOUNTS)
    assert b"503" in await service.ask(b"GET /LOW HTTP/1.1\r\nNtrip-Version: Ntrip/2.0\r\n\r\n")
    source = await service.feed("M")
    await source.send(STATION)
    low = service.caster.mountpoints.get("LOW")
    await service.wait(lambda: low.mount.greeting() == STATION)
    await source.close()
    await service.wait(lambda: not low.is_live)
    assert low.mount.greeting() == b"" and "offline" in low.record()["misc"]


async def test_its_station_may_come_later_by_pushing(start: StartService) -> None:
    service = await start(mounts=[{"name": "LATE", "kind": "derived", "source": "NEW", "open": True}])
    late = service.caster.mountpoints.get("LATE")
    assert not late.is_live
    source = await service.feed("NEW")
    peer = await follow(service, "LATE")
    await source.send(STATION)
    assert await peer.read(len(STATION)) == STATION


async def test_a_rover_of_a_stream_made_of_a_relay_on_demand_starts_the_relay(
    start: StartService, tmp_path: Path
) -> None:
    up = await start()
    source = await up.feed("OPEN")
    url = f"ntrip://127.0.0.1:{up.port}/OPEN"
    here = await start(
        mounts=[
            {"name": "R", "kind": "relay", "sources": [url], "on_demand": True},
            {"name": "D", "kind": "derived", "source": "R", "convert": "msm4", "open": True},
        ],
        **{"accounts.url": f"sqlite+aiosqlite:///{tmp_path / 'here.sqlite3'}"},
    )
    peer = await follow(here, "D")
    upstream = up.caster.mountpoints.get("OPEN").mount
    await up.wait(lambda: len(upstream) == 1)
    await source.send(STATION)
    assert await peer.read(len(STATION)) == STATION


@pytest.mark.parametrize("source", [{"raw": True}, {"kind": "alias", "target": "X"}])
async def test_a_source_that_has_no_frames_is_told_so(start: StartService, source: dict[str, Any]) -> None:
    with capture_logs() as logs:
        service = await start(mounts=[*MOUNTS[:1], {"name": "M", **source}])
    assert not service.caster.mountpoints.get("LOW").is_live
    assert [log["source"] for log in logs if log["event"] == "no derived stream"] == ["M"]


async def test_another_conversion_is_taken_when_the_configuration_is_read_again(start: StartService) -> None:
    service = await start(mounts=MOUNTS)
    source = await service.feed("M")
    peer = await follow(service, "LOW")
    rules = tuple(
        rule.model_copy(update={"convert": "msm5", "drop": ()}) if rule.name == "LOW" else rule
        for rule in service.caster.config.mounts
    )
    service.caster.reload(service.caster.config.model_copy(update={"mounts": rules}))
    await source.send(b"".join(epoch_frames()))
    assert message_type(await peer.read(100)) == 1075
    low = service.caster.mountpoints.get("LOW")
    assert isinstance(low, DerivedMountpoint)
    assert service.caster.mountpoints.get("M").mount.derived.count(low.mount) == 1


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ('kind = "derived"', "source: a derived mountpoint needs"),
        ('source = "M"', "others have none"),
        ('kind = "derived"\nsource = "D"', "made of itself"),
        ('kind = "derived"\nsource = "M"\nkeep = ["10x"]', "keep"),
        ('kind = "derived"\nsource = "M"\nkeep = [4096]', "from 0 to 4095"),
        ('kind = "derived"\nsource = "M"\ninterval_s = 7', "a day must be"),
        ('kind = "derived"\nsource = "M"\nconvert = "msm9"', "convert"),
    ],
)
def test_a_wrong_configuration_names_the_key(tmp_path: Path, lines: str, message: str) -> None:
    (tmp_path / "c.toml").write_text(f'[[mounts]]\nname = "D"\n{lines}\n')
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path / "c.toml")
