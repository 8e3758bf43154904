"""The caster over real sockets: what each kind of client gets, one quirk of the field after the other."""

import asyncio
import socket
import ssl
import struct
from datetime import UTC, datetime

import pytest
from structlog.testing import capture_logs

from caster.codec.ntrip import Credentials, encode_chunk, get_request, parse_table, post_request
from caster.server import Server
from tests.caster.conftest import OTHER_STATION, ROVER, STATION, Service, StartService, frame

FRAMES = frame(1006) + frame(1077) + frame(1127)
GGA = b"$GPGGA,092725.00,4717.11399,N,00833.91590,E,1,08,1.01,499.6,M,48.0,M,,*5B\r\n"


def get(mount: str, version: int = 1, who: Credentials | None = ROVER, **more: str) -> bytes:
    return get_request(mount, "caster", version=version, credentials=who, **more)


async def test_quirk_01_a_bare_get_gets_the_table(service: Service) -> None:
    assert (await service.ask(b"GET /\r\n")).startswith(b"SOURCETABLE 200 OK\r\n")


@pytest.mark.parametrize("version_header", ["NTRIP/2.0", "ntrip/2.0", "", None])
async def test_quirk_02_version_2_is_decided_by_its_header_alone(service: Service, version_header: str | None) -> None:
    lines = "" if version_header is None else f"Ntrip-Version: {version_header}\r\n"
    answer = await service.ask(f"GET / HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 200 OK" if version_header else b"SOURCETABLE 200 OK")


async def test_quirk_03_a_browser_gets_a_page(service: Service) -> None:
    await service.feed("TOWN")
    answer = await service.ask(b"GET / HTTP/1.1\r\nUser-Agent: Mozilla/5.0\r\nAccept: text/html\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 200 OK") and b"text/html" in answer and b"TOWN" in answer


async def test_quirk_03_a_client_without_a_name_is_served(service: Service) -> None:
    await service.feed("OPEN")
    rover = await service.connect(b"GET /OPEN HTTP/1.0\r\n\r\n")
    assert await rover.until(b"\r\n\r\n") == b"ICY 200 OK\r\n\r\n"


@pytest.mark.parametrize("target", ["http://caster:2101/OPEN", "OPEN", "//OPEN", "/OPEN%20", "/OPEN?x=y;z"])
async def test_quirk_04_a_mount_is_found_by_every_form_of_target(service: Service, target: str) -> None:
    await service.feed("OPEN")
    rover = await service.connect(f"GET {target} HTTP/1.0\r\n\r\n".encode())
    assert await rover.until(b"\r\n") == b"ICY 200 OK\r\n"


@pytest.mark.parametrize(
    "line", ["SOURCE pa ss M", "SOURCE pa ss /M", "SOURCE pa ss /M HTTP/1.1", "SOURCE base:pa ss /M", "source pa ss M"]
)
async def test_quirk_05_every_form_of_source_line_is_let_in(service: Service, line: str) -> None:
    source = await service.connect(f"{line}\r\nSTR:\r\n\r\n".encode())
    assert await source.until(b"\r\n\r\n") == b"ICY 200 OK\r\n\r\n"
    assert service.caster.mountpoints.get("M") is not None


async def test_quirk_05_an_empty_password_is_refused(service: Service) -> None:
    assert await service.ask(b"SOURCE  /M\r\n\r\n") == b"ERROR - Bad Password\r\n\r\n"


@pytest.mark.parametrize("chunked", [True, False])
@pytest.mark.parametrize("lines", ["", "Content-Length: 0\r\n", "Content-Length: 999999999999\r\n"])
async def test_quirk_06_a_post_is_taken_chunked_or_not(service: Service, chunked: bool, lines: str) -> None:
    head = (
        post_request("M", "caster", credentials=STATION, chunked=chunked)
        .decode()
        .replace("Connection:", lines + "Connection:")
    )
    source = await service.connect(head.encode())
    answer = await source.until(b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 OK\r\nNtrip-Version: Ntrip/2.0\r\n")
    rover = await service.follow()
    for part in (FRAMES[:7], FRAMES[7:]):
        await source.send(encode_chunk(part) if chunked else part)
    assert await rover.read(len(FRAMES)) == FRAMES


async def test_quirk_06_a_source_that_ends_without_last_chunk_ends_in_form(service: Service) -> None:
    source = await service.connect(post_request("M", "caster", credentials=STATION))
    await source.until(b"\r\n\r\n")
    await source.send(b"fff\r\n" + FRAMES)
    await source.close()
    await service.ended("source", "ended by the source")


async def test_quirk_06_expect_100_continue_is_answered_first(service: Service) -> None:
    head = post_request("M", "caster", credentials=STATION).replace(b"\r\n\r\n", b"\r\nExpect: 100-continue\r\n\r\n")
    source = await service.connect(head)
    assert await source.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (await source.until(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("parts", [[GGA], [GGA[:9], GGA[9:]], [b"\xd3\x00\xff\xb5\x62garbage\x00" + GGA]])
async def test_quirk_07_a_rover_s_position_is_read_from_its_stream(service: Service, parts: list[bytes]) -> None:
    await service.feed()
    rover = await service.connect(get("M") + parts[0])
    await rover.until(b"\r\n\r\n")
    for part in parts[1:]:
        await rover.send(part)
    await service.wait(lambda: any(gga_count(c) for c in service.caster.server.connections))


def gga_count(connection: object) -> int:
    return getattr(getattr(connection, "_handler", None), "gga_count", 0)


async def test_quirk_07_a_rover_s_position_is_read_from_its_header(service: Service) -> None:
    await service.feed()
    await service.connect(get("M", 2, gga=GGA.decode()[:-5]))
    await service.wait(lambda: any(gga_count(c) for c in service.caster.server.connections))


async def test_quirk_08_a_half_closed_rover_still_gets_its_stream(service: Service) -> None:
    source = await service.feed()
    rover = await service.connect(get("M"))
    rover.writer.write_eof()
    await rover.until(b"\r\n\r\n")
    mountpoint = service.caster.mountpoints.get("M")
    assert mountpoint is not None
    await service.wait(lambda: len(mountpoint.mount) > 0)
    await source.send(FRAMES)
    assert await rover.read(len(FRAMES)) == FRAMES


async def test_quirk_08_a_line_that_is_dead_is_found_out_silent_or_not(start: StartService) -> None:
    service = await start(**{"limits.keepalive_s": 7.0})
    await service.feed()
    (connection,) = service.caster.server.connections
    sock = connection.transport.get_extra_info("socket")
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 7
    assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000


async def test_quirk_09_a_tls_hello_on_the_plain_port_is_closed_and_counted(service: Service) -> None:
    context = ssl.create_default_context()
    with pytest.raises((ssl.SSLError, ConnectionError)):
        await asyncio.open_connection("127.0.0.1", service.port, ssl=context)
    await service.ended("request", "TLS on the plain port")


async def test_quirk_09_reconnects_and_port_scans_cost_nobody_anything(service: Service) -> None:
    source = await service.feed()
    rover = await service.follow()
    for _ in range(50):
        peer = await service.connect()
        peer.writer.transport.abort()
    await source.send(FRAMES)
    assert await rover.read(len(FRAMES)) == FRAMES
    await service.wait(lambda: len(service.caster.server.connections) == 2)


async def test_quirk_10_a_header_flood_is_refused(service: Service) -> None:
    answer = await service.ask(b"GET /M HTTP/1.0\r\nX: " + b"a" * 9000)
    assert answer.startswith(b"HTTP/1.0 431 ")
    await service.ended("request", "bad request")


async def test_quirk_10_garbage_writes_no_line_of_log(service: Service) -> None:
    with capture_logs() as logs:
        for data in (b"\xff\x00" * 100 + b"\r\n\r\n", b"GET / HTTP/1.0\r\n" + b"a: b\r\n" * 100, b"GET\r\n\r\n"):
            assert (await service.ask(data)).startswith(b"HTTP/1.0 4")
        await service.ended("request", "bad request", 3)
    assert logs == []


@pytest.mark.parametrize("head", [b"Authorization: Digest username=rover", b"Authorization: Basic !!", b"X: y"])
async def test_quirk_11_without_usable_credentials_the_answer_asks_for_basic(service: Service, head: bytes) -> None:
    await service.feed()
    answer = await service.ask(b"GET /M HTTP/1.0\r\n" + head + b"\r\n\r\n")
    assert answer.startswith(b"HTTP/1.0 401 Unauthorized\r\n") and b'WWW-Authenticate: Basic realm="/M"\r\n' in answer


async def test_quirk_11_a_password_with_a_colon_opens_and_case_of_mounts_matters(service: Service) -> None:
    await service.feed()
    rover = await service.connect(get("M"))
    assert await rover.until(b"\r\n") == b"ICY 200 OK\r\n"
    assert (await service.ask(get("m"))).startswith(b"SOURCETABLE 200 OK")


async def test_quirk_12_a_version_1_stream_begins_with_icy_and_a_blank_line(service: Service) -> None:
    source = await service.feed()
    rover = await service.follow()
    await source.send(FRAMES)
    assert await rover.read(len(FRAMES)) == FRAMES


async def test_quirk_12_rtklib_gets_no_blank_line_since_it_would_record_it(service: Service) -> None:
    source = await service.feed()
    rover = await service.connect(get("M", agent="NTRIP RTKLIB/2.4.3"))
    assert await rover.until(b"\r\n") == b"ICY 200 OK\r\n"
    mountpoint = service.caster.mountpoints.get("M")
    assert mountpoint is not None
    await service.wait(lambda: len(mountpoint.mount) > 0)
    await source.send(FRAMES)
    assert await rover.read(len(FRAMES)) == FRAMES


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("SOURCE wrong /M", b"ERROR - Bad Password\r\n\r\n"),
        ("SOURCE pa ss /no spaces", b"ERROR - Bad Password\r\n\r\n"),
        ("SOURCE pa ss /b@d", b"ERROR - Bad Mountpoint\r\n\r\n"),
    ],
)
async def test_quirk_13_a_refused_source_gets_a_word_of_error(service: Service, line: str, answer: bytes) -> None:
    assert await service.ask(f"{line}\r\n\r\n".encode()) == answer


async def test_quirk_14_a_version_1_client_gets_the_table_for_an_unknown_mount(service: Service) -> None:
    answer = await service.ask(get("NOWHERE"))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"SOURCETABLE 200 OK\r\n") and body.endswith(b"ENDSOURCETABLE\r\n")


async def test_quirk_15_a_version_2_stream_has_the_header_that_bkg_looks_for(service: Service) -> None:
    source = await service.feed()
    rover = await service.connect(get("M", 2))
    head = await rover.until(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK\r\nNtrip-Version: Ntrip/2.0\r\n")
    assert b"Transfer-Encoding: chunked\r\n" in head and b"Content-Type: gnss/data\r\n" in head
    mountpoint = service.caster.mountpoints.get("M")
    assert mountpoint is not None
    await service.wait(lambda: len(mountpoint.mount) > 0)
    await source.send(FRAMES)
    wire = encode_chunk(FRAMES)
    assert await rover.read(len(wire)) == wire


@pytest.mark.parametrize("version", [1, 2])
async def test_quirk_16_the_table_has_its_exact_length_and_end(service: Service, version: int) -> None:
    await service.feed()
    head, _, body = (await service.ask(get("", version))).partition(b"\r\n\r\n")
    assert f"Content-Length: {len(body)}\r\n".encode() in head + b"\r\n"
    assert body.endswith(b"\r\nENDSOURCETABLE\r\n")
    assert [record.fields[:2] for record in parse_table(body)] == [("CAS", "0.0.0.0"), ("STR", "M")]


async def test_quirk_17_the_last_station_messages_come_at_connect(service: Service) -> None:
    source = await service.feed()
    first = await service.follow()
    await source.send(FRAMES + frame(1033))
    await first.read(len(FRAMES + frame(1033)))
    late = await service.connect(get("M"))
    await late.until(b"\r\n\r\n")
    assert await late.read(len(frame(1006) + frame(1033))) == frame(1006) + frame(1033)


async def test_quirk_18_a_wrong_password_is_answered_late_and_always_alike(start: StartService) -> None:
    service = await start(**{"limits.refusal_delay_s": 0.3})
    await service.feed()
    loop = asyncio.get_running_loop()
    answers = set()
    for name in ("rover", "nobody"):
        began = loop.time()
        answers.add((await service.ask(get("M", who=Credentials(name, "wrong")))).split(b"\r\n")[0])
        assert loop.time() - began >= 0.3
    assert answers == {b"HTTP/1.0 401 Unauthorized"}


async def test_quirk_19_a_second_source_is_refused(service: Service) -> None:
    await service.feed()
    assert await service.ask(b"SOURCE pa ss /M\r\n\r\n") == b"ERROR - Mount Point Taken or Invalid\r\n\r\n"
    answer = await service.ask(post_request("M", "caster", credentials=STATION))
    assert answer.startswith(b"HTTP/1.1 409 Conflict\r\nNtrip-Version: Ntrip/2.0\r\n")


async def test_quirk_19_the_same_account_takes_over_from_a_silent_connection(start: StartService) -> None:
    service = await start(**{"limits.takeover_s": 0.0})
    dead = await service.feed()
    answer = await service.ask(f"SOURCE {OTHER_STATION.password} /M\r\n\r\n".encode())
    assert answer == b"ERROR - Mount Point Taken or Invalid\r\n\r\n"
    rover = await service.follow()
    fresh = await service.feed()
    assert await dead.all() == b""
    await fresh.send(FRAMES)
    assert await rover.read(len(FRAMES)) == FRAMES
    assert service.caster.server.counters.ended["source", "taken over"] == 1


@pytest.mark.parametrize(("version", "first"), [(1, b"HTTP/1.0 503"), (2, b"HTTP/1.1 503")])
async def test_quirk_20_an_offline_mount_is_shown_and_named(service: Service, version: int, first: bytes) -> None:
    source = await service.feed()
    await source.close()
    await service.ended("source", "ended by the source")
    answer = await service.ask(get("M", version))
    assert answer.startswith(first) and b"mountpoint M is offline" in answer
    assert b"STR;M;" in await service.ask(get("", version)) and b"offline\r\n" in await service.ask(get(""))


async def test_quirk_21_and_22_a_client_that_never_reads_stalls_nobody_and_sees_no_torn_frame(
    start: StartService,
) -> None:
    service = await start(**{"limits.socket_buffer_bytes": 4096, "limits.backlog_bytes": 8192})
    source = await service.feed()
    sleeper = await service.connect()
    sleeper.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sleeper.writer.transport.pause_reading()  # type: ignore[attr-defined]
    await sleeper.send(get("M"))
    reader = await service.connect(get("M"))
    await reader.until(b"\r\n\r\n")
    mountpoint = service.caster.mountpoints.get("M")
    assert mountpoint is not None
    await service.wait(lambda: len(mountpoint.mount) == 2)
    sent = [frame(1077, struct.pack(">I", n) + bytes(600)) for n in range(3000)]
    for data in sent:
        await source.send(data)
        assert await reader.read(len(data)) == data
    await source.close()
    await service.ended("source", "ended by the source")
    sleeper.writer.transport.resume_reading()  # type: ignore[attr-defined]
    await sleeper.until(b"\r\n\r\n")
    got = bytearray()
    while True:
        try:
            got += await asyncio.wait_for(sleeper.reader.read(65536), 0.5)
        except TimeoutError:
            break
    size = len(sent[0])
    numbers = [int.from_bytes(got[at + 5 : at + 9], "big") for at in range(0, len(got), size)]
    assert len(got) % size == 0 and 0 < len(numbers) < len(sent)
    assert [bytes(got[at : at + size]) for at in range(0, len(got), size)] == [sent[n] for n in numbers]


async def test_quirk_22_rovers_that_come_and_go_leave_the_others_stream_whole(service: Service) -> None:
    source, steady = await service.feed(), await service.follow()
    sent = [frame(1077, struct.pack(">I", number) + bytes(300)) for number in range(200)]
    for number, data in enumerate(sent):
        passer = await service.connect(get("M", 1 + number % 2))
        await passer.until(b"\r\n")
        await source.send(data)
        if number % 3:
            passer.writer.transport.abort()
        assert await steady.read(len(data)) == data


async def test_a_rover_that_stays_behind_is_closed_by_name(start: StartService) -> None:
    service = await start(**{"limits.socket_buffer_bytes": 4096, "limits.write_timeout_s": 0.2})
    source = await service.feed()
    sleeper = await service.connect(get("M"))
    sleeper.writer.transport.pause_reading()  # type: ignore[attr-defined]
    sock = sleeper.writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # else a system may take it all
    mountpoint = service.caster.mountpoints.get("M")
    assert mountpoint is not None
    await service.wait(lambda: len(mountpoint.mount) == 1)
    for _ in range(8000):
        await source.send(frame(1077, bytes(900)))
    await service.ended("rover", "too slow")


async def test_quirk_22b_nothing_sticks_to_the_head(start: StartService) -> None:
    service = await start(**{"limits.header_gap_s": 0.2})
    source = await service.feed()
    await source.send(FRAMES)
    mountpoint = service.caster.mountpoints.get("M")
    assert mountpoint is not None
    await service.wait(lambda: mountpoint.mount.published > 0)
    rover = await service.connect(get("M", 2))
    first = await asyncio.wait_for(rover.reader.read(65536), 10)
    assert first.startswith(b"HTTP/1.1 200 OK") and first.endswith(b"\r\n\r\n")
    wire = encode_chunk(frame(1006))
    assert await rover.read(len(wire)) == wire


async def test_quirk_23_a_client_s_kind_or_a_mount_may_have_plain_streams(start: StartService) -> None:
    service = await start(
        agents=[{"agent": "*openmower*", "output": "identity"}],
        mounts=[{"name": "PLAIN", "output": "identity"}, {"name": "FORCED", "output": "chunked"}],
    )
    for mount in ("M", "PLAIN", "FORCED"):
        await service.feed(mount)
    heads = {}
    for mount, agent in (
        ("M", "NTRIP OpenMower/1"),
        ("M", "NTRIP x"),
        ("PLAIN", "NTRIP x"),
        ("FORCED", "NTRIP openmower"),
    ):
        rover = await service.connect(get(mount, 2, agent=agent))
        heads[mount, agent] = b"chunked" in await rover.until(b"\r\n\r\n")
    assert list(heads.values()) == [False, True, False, True]


async def test_other_methods_are_not_implemented(service: Service) -> None:
    assert (await service.ask(b"PUT /M HTTP/1.1\r\nNtrip-Version: Ntrip/2.0\r\n\r\n")).startswith(b"HTTP/1.1 501 ")


async def test_version_2_refusals_have_codes(service: Service) -> None:
    await service.feed()
    assert (await service.ask(get("NOWHERE", 2))).startswith(b"HTTP/1.1 404 Not Found\r\nNtrip-Version: Ntrip/2.0")
    assert (await service.ask(get("M", 2, who=None))).startswith(b"HTTP/1.1 401 ")
    assert (await service.ask(post_request("M", "c", credentials=ROVER))).startswith(b"HTTP/1.1 403 ")
    assert (await service.ask(post_request("M", "c"))).startswith(b"HTTP/1.1 401 ")


async def test_the_table_answers_questions(service: Service) -> None:
    for mount in ("AB1", "AB2", "OPEN9"):
        await service.feed(mount)

    async def ask(query: str, who: Credentials | None = None) -> list[str]:
        body = (await service.ask(get("?" + query, 2, who))).partition(b"\r\n\r\n")[2]
        return [record["mountpoint"] for record in parse_table(body)]

    assert await ask("match=STR;AB2") == ["AB2"]
    assert await ask("filter=STR;AB*") == ["AB1", "AB2"]
    assert await ask("match=STR&auth") == ["OPEN9"]
    assert await ask("match=STR&auth", ROVER) == ["AB1", "AB2", "OPEN9"]
    assert (await service.ask(get("?strict", 2))).startswith(b"HTTP/1.1 501 ")
    assert b"Ntrip-Flags: st_filter,st_auth,st_match,st_strict\r\n" in await service.ask(get("", 2))


async def test_a_mount_that_has_just_been_pushed_to_is_in_the_table_at_once(service: Service) -> None:
    async def mounts() -> list[str]:
        body = (await service.ask(get("?match=STR", 2, ROVER))).partition(b"\r\n\r\n")[2]
        return [record["mountpoint"] for record in parse_table(body)]

    await service.feed("AB1")
    assert await mounts() == ["AB1"]
    await service.feed("AB2")
    assert await mounts() == ["AB1", "AB2"]


async def test_a_silent_client_is_closed_after_the_head_time_out(start: StartService) -> None:
    service = await start(**{"limits.head_timeout_s": 0.2})
    assert (await service.ask(b"GET /M HT")).startswith(b"HTTP/1.0 408 ")


async def test_an_idle_source_is_closed(start: StartService) -> None:
    service = await start(**{"limits.source_idle_s": 0.2})
    source = await service.feed()
    assert await source.all() == b""
    await service.ended("source", "source idle")


async def test_connections_are_limited_in_all_and_per_address(start: StartService) -> None:
    service = await start(**{"limits.connections_per_address": 2, "listen.trusted": [], "limits.connections": 3})
    await service.connect(b"GET /")
    await service.connect(b"GET /")
    assert b"too many connections from this address" in await service.ask(b"")
    await service.ended("request", "too many connections from this address")


async def test_a_session_limit_counts_only_open_sessions(service: Service) -> None:
    source = await service.feed()
    await service.caster.store.change("rover", max_sessions=1)
    rover = await service.follow()
    assert (await service.ask(get("M", 2))).startswith(b"HTTP/1.1 403 ")
    await rover.close()
    while not service.caster.server.counters.ended.total():
        await source.send(FRAMES)  # a send tells a client that has gone from one that has half-closed
        await asyncio.sleep(0.01)
    await service.follow()


async def test_an_account_that_has_expired_or_is_disabled_is_told_so(service: Service) -> None:
    await service.feed()
    await service.caster.store.change("rover", expires=datetime(2026, 1, 1, tzinfo=UTC))
    answer = await service.ask(get("M", 2))
    assert answer.startswith(b"HTTP/1.1 403 ") and b"the account rover expired on 2026-01-01" in answer
    await service.caster.store.change("rover", expires=None, disabled=True)
    await asyncio.sleep(2 * service.caster.config.accounts.refresh_s)
    assert b"the account rover is disabled" in await service.ask(get("M", 2))


async def test_a_rover_that_closes_later_has_gone(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("caster.session._HALF_CLOSE_S", 0.0)
    await service.feed()
    rover = await service.follow()
    await rover.close()
    await service.ended("rover", "closed by the client")


async def test_stopping_closes_everybody_in_form(start: StartService) -> None:
    service = await start()
    await service.feed()
    rover = await service.follow()
    server: Server = service.caster.server
    await server.stop()
    assert await rover.all() == b""
    assert (
        server.counters.ended["rover", "the caster stops"] == server.counters.ended["source", "the caster stops"] == 1
    )
