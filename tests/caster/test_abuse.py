"""Abuse over real sockets: whoever floods, guesses or sends garbage meets a limit, and the others notice nothing."""

import asyncio
import time
from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import event

from caster.bans import Ban, BanStore, Offence
from caster.codec.ntrip import Credentials, get_request
from caster.usage import UsageStore
from tests.caster.conftest import ROVER, Peer, Service, StartService, frame

FRAMES = frame(1006) + frame(1077) + frame(1127)
UNTRUSTED = {"listen.trusted": [], "limits.refusal_delay_s": 0.01, "limits.refusal_delay_max_s": 0.02}
WRONG = get_request("M", "caster", version=2, credentials=Credentials("rover", "wrong"))
RIGHT = get_request("M", "caster", version=2, credentials=ROVER)


async def ask_quietly(service: Service, data: bytes) -> bytes:
    """The answer, or what came of it before the connection was cut."""
    try:
        return await service.ask(data)
    except (OSError, asyncio.IncompleteReadError):
        return b""


async def test_a_storm_of_wrong_passwords_ends_in_a_ban_that_names_itself(start: StartService) -> None:
    service = await start(**UNTRUSTED, **{"bans.wrong_passwords": 5})
    service.caster.bans._clock = lambda: 1000.0  # the reason is told once a second
    await service.feed()
    for _ in range(10):  # the base station's session doubles the limit
        assert b" 401 " in await service.ask(WRONG)
    answer = await service.ask(RIGHT)
    assert answer.startswith(b"HTTP/1.1 429 ") and b"127.0.0.1/32 is banned until" in answer
    assert b"10 wrong passwords within 600 s" in answer
    assert await ask_quietly(service, RIGHT) == b""
    assert service.caster.server.counters.ended["request", "banned"] == 1
    source = await ask_quietly(service, b"SOURCE x /M\r\n\r\n")
    assert source in (b"", b"ERROR - " + str(service.caster.bans.find("127.0.0.1")).encode() + b"\r\n\r\n")


async def test_the_ban_is_in_the_database_and_a_lifted_one_lets_in_again(start: StartService) -> None:
    service = await start(**UNTRUSTED, **{"bans.wrong_passwords": 1, "bans.refresh_s": 0.02})
    await service.feed()
    for _ in range(2):
        await service.ask(WRONG)
    store = BanStore(service.caster.database)
    async with asyncio.timeout(10):
        while not (bans := await store.all()):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert bans[0].automatic
    await store.remove("127.0.0.1/32")
    await service.wait(lambda: service.caster.bans.find("127.0.0.1") is None)
    rover = await service.connect(RIGHT)
    assert (await rover.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")


async def test_an_operator_s_ban_ends_sessions_and_an_automatic_one_does_not(start: StartService) -> None:
    service = await start(**UNTRUSTED, **{"bans.refresh_s": 0.02, "bans.bad_requests": 1})
    await service.feed()
    rover = await service.follow()
    for _ in range(3):  # with two sessions open, the third is one too many
        await ask_quietly(service, b"GARBAGE\r\n\r\n")
    await service.wait(lambda: service.caster.bans.find("127.0.0.1") is not None)
    await asyncio.sleep(0.1)
    assert service.caster.server.counters.ended["rover", "banned"] == 0
    now = service.caster.server.utc()
    await BanStore(service.caster.database).put(Ban("127.0.0.0/8", "enough", now))
    await service.ended("rover", "banned")
    assert await rover.all() == b""


async def test_wrong_passwords_wait_in_the_tarpit_each_time_longer(start: StartService) -> None:
    service = await start(**{"listen.trusted": [], "limits.refusal_delay_s": 0.05, "limits.refusal_delay_max_s": 0.4})
    await service.feed()
    took = []
    for _ in range(5):
        began = time.monotonic()
        await service.ask(WRONG)
        took.append(time.monotonic() - began)
    for least, delay in zip((0.05, 0.1, 0.2, 0.4, 0.4), took, strict=True):
        assert least <= delay
    await service.wait(lambda: service.caster.server._delayed == 0)


async def test_the_tarpit_holds_no_task(start: StartService) -> None:
    service = await start(**{"limits.refusal_delay_s": 60.0})
    await service.feed()
    for _ in range(20):
        await service.connect(WRONG)
    await service.wait(lambda: service.caster.server._delayed == 20)
    assert len(service.caster.server._handshakes) == 0


async def test_a_full_tarpit_refuses_at_once(start: StartService) -> None:
    service = await start(**{"limits.refusal_delay_s": 60.0, "limits.delayed": 2})
    await service.feed()
    for _ in range(2):
        await service.connect(WRONG)
    await service.wait(lambda: service.caster.server._delayed == 2)
    assert b" 401 " in await service.ask(WRONG)


async def test_a_storm_of_guesses_lets_another_address_log_in_between(start: StartService) -> None:
    """Each guess costs a hash; the address that guesses waits for itself alone."""
    service = await start(**{"listen.proxies": ["127.0.0.0/8"], "bans.wrong_passwords": 0})
    guesser = b"PROXY TCP4 192.0.2.1 192.0.2.9 1 2101\r\n"
    source = b"PROXY TCP4 198.51.100.1 192.0.2.9 1 2101\r\n"
    base = await service.connect(source + b"SOURCE pa ss /M\r\n\r\n")
    await base.until(b"\r\n\r\n")
    logins = service.caster.authenticator
    for k in range(150):
        login = get_request("M", "x", version=2, credentials=Credentials("rover", f"guess {k}"))
        await service.connect(guesser + login)
    await service.wait(lambda: len(logins._verifying) > 20)
    rover = await service.connect(source + RIGHT)
    assert (await rover.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    assert len(logins._verifying) > 0, "the guesses were still waiting"


async def test_a_connection_flood_from_one_address_is_limited_and_banned(start: StartService) -> None:
    service = await start(**UNTRUSTED, **{"limits.connections_per_address": 5, "bans.floods": 20})
    source = await service.feed()
    rover = await service.follow()
    peers = [await service.connect() for _ in range(3)]
    for _ in range(70):  # two sessions, so three times the limit
        await ask_quietly(service, b"")
    assert service.caster.bans.find("127.0.0.1") is not None
    assert service.caster.server.counters.ended["request", "too many connections from this address"] in (60, 61)
    await source.send(FRAMES)
    assert await rover.read(len(FRAMES)) == FRAMES
    for peer in peers:
        await peer.close()


async def test_addresses_behind_a_proxy_are_counted_as_the_real_ones(start: StartService) -> None:
    service = await start(**{"listen.proxies": ["127.0.0.0/8"], "bans.wrong_passwords": 3, "limits.refusal_delay_s": 0})
    base = await service.connect(b"PROXY TCP4 198.51.100.1 192.0.2.9 1 2101\r\nSOURCE pa ss /M\r\n\r\n")
    await base.until(b"\r\n\r\n")
    for k in range(3):  # one /64
        assert b" 401 " in await service.ask(f"PROXY TCP6 2001:db8::{k + 1} ::1 1 2101\r\n".encode() + WRONG)
    assert b" 429 " in await service.ask(b"PROXY TCP6 2001:db8::dead:beef ::1 1 2101\r\n" + RIGHT)
    rover = await service.connect(b"PROXY TCP4 203.0.113.5 192.0.2.9 1 2101\r\n" + RIGHT)
    assert (await rover.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
    assert service.caster.bans.find("127.0.0.1") is None


async def test_a_header_flood_costs_its_limit_and_ends_in_a_ban(start: StartService) -> None:
    service = await start(**UNTRUSTED, **{"bans.bad_requests": 4})
    for k in range(4):
        flood = b"GET /M HTTP/1.0\r\n" + (b"X: y\r\n" * 5000 if k % 2 else b"X: " + b"y" * 30_000)
        answer = await ask_quietly(service, flood)
        assert not answer or answer.startswith(b"HTTP/1.0 431 ")
    await service.wait(lambda: service.caster.bans.find("127.0.0.1") is not None)
    assert service.caster.bans.offences[Offence.REQUEST] == 4


async def test_slowloris_is_cut_off_by_the_head_time_out(start: StartService) -> None:
    service = await start(**UNTRUSTED, **{"limits.head_timeout_s": 0.5, "bans.bad_requests": 2})
    peers = [await service.connect(b"GET /M HTTP/1.0\r\nX-A") for _ in range(2)]

    async def drip(peer: Peer) -> None:
        with suppress(OSError):
            while not peer.reader.at_eof():
                await peer.send(b"a")
                await asyncio.sleep(0.05)

    async with asyncio.timeout(10):
        await asyncio.gather(*map(drip, peers))
    assert service.caster.server.counters.ended["request", "head time-out"] == 2
    assert service.caster.bans.find("127.0.0.1") is not None


async def test_a_tls_hello_and_a_port_scan_are_no_reason_to_forget_the_others(service: Service) -> None:
    source = await service.feed()
    rover = await service.follow()
    for garbage in (b"\x16\x03\x01\x02\x00\x01", b"\x00" * 100, b"\xff\xfe\r\n\r\n", b"SSH-2.0-x\r\n", b""):
        peer = await service.connect(garbage)
        await peer.close()
    await source.send(FRAMES)
    assert await rover.read(len(FRAMES)) == FRAMES


@pytest.mark.parametrize("garbage", [bytes(range(256)) * 64, b"\xd3" * 20_000, b"\xb5b" * 5000, b"GGA," * 5000])
async def test_binary_garbage_upstream_is_swallowed(service: Service, garbage: bytes) -> None:
    source = await service.feed()
    rover = await service.follow()
    for _ in range(10):
        await rover.send(garbage)
    await source.send(FRAMES)
    assert await rover.read(len(FRAMES)) == FRAMES


async def test_ten_hertz_of_nmea_costs_a_stream_nothing(service: Service) -> None:
    gga = b"$GPGGA,092725.00,4717.11399,N,00833.91590,E,1,08,1.01,499.6,M,48.0,M,,*5B\r\n"
    rest = b"$GPRMC,092725.00,A,4717.11437,N,00833.91522,E,0.004,77.52,091202,,,A*57\r\n" * 9
    source = await service.feed()
    rover = await service.follow()
    for _ in range(600):  # a minute of it at once
        rover.writer.write(gga + rest)
    await rover.writer.drain()
    await source.send(FRAMES)
    assert await rover.read(len(FRAMES)) == FRAMES
    (session,) = [c._handler for c in service.caster.server.connections if getattr(c._handler, "kind", "") == "rover"]
    await service.wait(lambda: getattr(session, "gga_count", 0) == 600)


async def test_a_storm_of_sources_for_one_mount_lets_one_in_and_disturbs_it_never(service: Service) -> None:
    source = await service.feed()
    rover = await service.follow()
    answers = []
    for k in range(20):
        answers.append(await service.ask(b"SOURCE pa ss /M\r\n\r\n" + FRAMES))
        await source.send(frame(1077, bytes([k]) * 20))
        assert await rover.read(len(frame(1077))) == frame(1077, bytes([k]) * 20)
    assert set(answers) == {b"ERROR - Mount Point Taken or Invalid\r\n\r\n"}


async def test_a_client_that_never_reads_its_refusal_is_closed(start: StartService) -> None:
    """It asks for a table larger than all buffers, and takes nothing of it."""
    mounts = [{"name": f"M{k}", "identifier": "x" * 2000} for k in range(2000)]
    service = await start(**{"mounts": mounts, "limits.write_timeout_s": 1.0})
    peer = await service.connect()
    peer.reader._transport.pause_reading()  # type: ignore[attr-defined]
    await peer.send(b"GET / HTTP/1.0\r\n\r\n")
    await service.ended("request", "answered")
    await service.wait(lambda: not service.caster.server.connections)


async def test_a_full_disk_stops_no_stream_and_what_waited_is_written_later(start: StartService) -> None:
    """SQLite says what it says on a full disk once the file may not grow."""
    service = await start(**{"positions.enabled": True, "bans.refresh_s": 600.0})
    caster, database = service.caster, service.caster.database
    usage, positions = caster.usage, caster.positions
    assert usage is not None and positions is not None
    source = await service.feed()

    pages = 1  # no smaller than the file is

    def on_checkout(connection: Any, _record: object, _proxy: object) -> None:
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA max_page_count = {pages}")
        cursor.close()

    event.listen(database._engine.sync_engine, "checkout", on_checkout)
    gga = b"$GPGGA,092725.00,4717.11399,N,00833.91590,E,1,08,1.01,499.6,M,48.0,M,,*5B\r\n"
    rovers = []
    for _ in range(60):  # more than what a page holds
        rover = await service.follow()
        await rover.send(gga)
        rovers.append(rover)
    await service.wait(lambda: len(positions._waiting) == 60)
    await usage.look(caster.server.connections)
    await usage.flush()
    await positions.flush()
    assert usage._is_failing and len(positions._waiting) == 60
    await source.send(FRAMES)
    for rover in rovers:
        assert await rover.read(len(FRAMES)) == FRAMES
    pages = 1_000_000
    await usage.look(caster.server.connections)
    await usage.flush()
    await positions.flush()
    assert not usage._is_failing and len(positions._waiting) == 0
    assert len(await UsageStore(database).sessions()) == 61


async def test_a_wall_clock_that_jumps_ends_no_session_and_loses_no_frame(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = await service.feed()
    rover = await service.follow()
    present_ns = time.time_ns
    for day in (0, 1, -1, 365, -20 * 365):
        offset_ns = day * 86_400 * 10**9
        monkeypatch.setattr(time, "time_ns", lambda offset_ns=offset_ns: present_ns() + offset_ns)
        monkeypatch.setattr(time, "time", lambda offset_ns=offset_ns: (present_ns() + offset_ns) * 1e-9)
        await source.send(FRAMES)
        assert await rover.read(len(FRAMES)) == FRAMES
        service.caster.operations.monitor.look()
        assert b"ENDSOURCETABLE" in await service.ask(b"GET / HTTP/1.0\r\n\r\n")
    assert service.caster.server.counters.ended["rover", "internal error"] == 0
