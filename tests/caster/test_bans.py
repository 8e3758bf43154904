"""Bans: offences add up, bans end, grow, survive, and follow the commands; nobody trusted is met."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caster.bans import Ban, Bans, BanStore, Offence, network_of, origin_of
from caster.config import BansConfig
from caster.database import Database
from caster.errors import DipperError

START = datetime(2026, 5, 15, 8, 0, tzinfo=UTC)
GUEST = "192.0.2.7"


class Times:
    """A monotonic clock and a wall clock that go together unless somebody sets the latter."""

    seconds = 0.0
    wall_offset_s = 0.0

    def clock(self) -> float:
        return self.seconds

    def now(self) -> datetime:
        return START + timedelta(seconds=self.seconds + self.wall_offset_s)


@pytest.fixture
def times() -> Times:
    return Times()


@pytest.fixture
def bans(database: Database, times: Times) -> Bans:
    return make(database, times)


def make(database: Database, times: Times, **config: float) -> Bans:
    limits = BansConfig(**{"wrong_passwords": 3, "bad_requests": 5, **config})  # type: ignore[arg-type]
    return Bans(limits, BanStore(database), lambda a: a.startswith("127."), times.clock, times.now)


def guess(bans: Bans, address: str = GUEST, count: int = 3, sessions: int = 0) -> None:
    for _ in range(count):
        bans.offend(address, Offence.PASSWORD, lambda: sessions)


def test_the_last_offence_of_the_limit_bans_with_a_reason_and_an_end(bans: Bans) -> None:
    guess(bans, count=2)
    assert bans.find(GUEST) is None
    guess(bans, count=1)
    ban = bans.find(GUEST)
    assert ban is not None
    assert str(ban) == "192.0.2.7/32 is banned until 2026-05-15 08:15:00 UTC: 3 wrong passwords within 600 s"
    assert bans.find("192.0.2.8") is None


def test_kinds_of_offences_and_windows_are_counted_apart(bans: Bans, times: Times) -> None:
    guess(bans, count=2)
    bans.offend(GUEST, Offence.REQUEST, lambda: 0)
    times.seconds = 601.0
    guess(bans, count=2)
    assert bans.find(GUEST) is None and bans.count(GUEST, Offence.PASSWORD) == 2


def test_a_ban_ends_and_the_next_one_is_twice_as_long(bans: Bans, times: Times) -> None:
    lengths = []
    for _ in range(9):
        guess(bans)
        ban = bans.find(GUEST)
        assert ban is not None and ban.until is not None
        lengths.append((ban.until - ban.created).total_seconds())
        times.seconds += lengths[-1]
        assert bans.find(GUEST) is None
    assert lengths == [900.0, 1800.0, 3600.0, 7200.0, 14400.0, 28800.0, 57600.0, 86400.0, 86400.0]


def test_whoever_is_trusted_is_never_banned(bans: Bans) -> None:
    guess(bans, "127.0.0.1", 100)
    assert bans.find("127.0.0.1") is None


def test_many_rovers_behind_one_address_have_the_limit_of_each(bans: Bans) -> None:
    guess(bans, count=29, sessions=9)
    assert bans.find(GUEST) is None
    guess(bans, count=1, sessions=9)
    assert bans.find(GUEST) is not None


def test_a_limit_of_zero_counts_nothing(database: Database, times: Times) -> None:
    bans = make(database, times, wrong_passwords=0)
    guess(bans, count=100)
    assert bans.find(GUEST) is None


def test_ipv6_is_counted_and_banned_by_its_64(bans: Bans) -> None:
    for k in range(3):
        bans.offend(f"2001:db8:1:2::{k}", Offence.PASSWORD, lambda: 0)
    assert bans.find("2001:db8:1:2:ffff::9") is not None
    assert bans.find("2001:db8:1:3::1") is None


def test_the_addresses_that_are_remembered_are_bounded(database: Database, times: Times) -> None:
    bans = make(database, times, origins=10)
    for k in range(200):
        bans.offend(f"192.0.2.{k}", Offence.PASSWORD, lambda: 0)
    assert len(bans._counts) == 10


def test_the_reason_is_told_once_a_second(bans: Bans, times: Times) -> None:
    guess(bans)
    ban = bans.find(GUEST)
    assert ban is not None
    assert [bans.explains(ban) for _ in range(3)] == [True, False, False]
    times.seconds = 1.5
    assert bans.explains(ban)


async def test_bans_survive_a_restart_and_remember_how_many_there_were(
    bans: Bans, database: Database, times: Times
) -> None:
    guess(bans)
    await bans.exchange()
    again = make(database, times)
    await again.load()
    assert again.find(GUEST) == bans.find(GUEST)
    times.seconds = 1000.0
    guess(again)
    ban = again.find(GUEST)
    assert ban is not None and ban.count == 2


async def test_a_running_service_follows_the_commands(bans: Bans, database: Database) -> None:
    store, told = BanStore(database), []
    bans.on_command.append(lambda: told.append(1))
    await bans.load()
    await bans.exchange()
    assert told == []
    await store.put(Ban("198.51.100.0/24", "test", START))
    await bans.exchange()
    ban = bans.find("198.51.100.200")
    assert ban is not None and str(ban) == "198.51.100.0/24 is banned for good: test" and told == [1]
    await store.remove("198.51.100.0/24")
    await bans.exchange()
    assert bans.find("198.51.100.200") is None
    with pytest.raises(DipperError, match=r"there is no ban on 198\.51\.100\.0/24"):
        await store.remove("198.51.100.0/24")


async def test_what_could_not_be_written_still_counts_and_is_written_later(
    bans: Bans, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    await bans.load()
    guess(bans)

    async def fail(*bans: Ban) -> None:
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(bans._store, "put", fail)
        with pytest.raises(OSError, match="disk full"):
            await bans.exchange()
    await bans.load()
    assert bans.find(GUEST) is not None
    await bans.exchange()
    assert [ban.network for ban in await BanStore(database).all()] == ["192.0.2.7/32"]


async def test_ended_bans_are_forgotten_in_time(bans: Bans, database: Database, times: Times) -> None:
    guess(bans)
    await bans.exchange()
    times.seconds = 900.0 + 86_401.0
    await bans.exchange()
    assert await BanStore(database).all() == []


def test_a_wall_clock_that_is_set_back_counts_no_window_longer(bans: Bans, times: Times) -> None:
    guess(bans, count=2)
    times.wall_offset_s, times.seconds = -86_400.0, 601.0
    guess(bans, count=2)
    assert bans.find(GUEST) is None


@pytest.mark.parametrize(
    ("text", "network"),
    [
        ("192.0.2.7", "192.0.2.7/32"),
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.7/32"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:db8::1/128", "2001:db8::1/128"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_networks_are_written_in_one_way(text: str, network: str) -> None:
    assert network_of(text) == network


@pytest.mark.parametrize("text", ["", "here", "192.0.2.300", "192.0.2.0/33", "2001:db8::/x"])
def test_what_is_no_network_is_named(text: str) -> None:
    with pytest.raises(DipperError, match="is neither an address nor a network"):
        network_of(text)


@given(st.ip_addresses().map(str))
def test_every_address_has_an_origin_that_is_its_own(address: str) -> None:
    origin = origin_of(address)
    assert origin_of(origin.partition("/")[0]) == origin
