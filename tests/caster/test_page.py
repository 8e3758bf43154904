"""The page for browsers: what there is, how to connect, and nothing of what others wrote that a browser would run."""

import asyncio
import subprocess
from pathlib import Path
from shutil import which

import pytest

from caster.codec.ntrip import Record
from caster.config import CasterInfo
from caster.page import ROWS_MAX, Visitor, example_of, host_of, page, rows_of
from tests.caster.conftest import Service, StartService, frame

VISITOR = Visitor("192.0.2.7", 3, 20, 600.0)
BROWSER = "HTTP/1.1\r\nHost: caster.example.org:2101\r\nUser-Agent: Mozilla/5.0\r\nAccept: text/html\r\n\r\n"


def record(name: str, **fields: object) -> Record:
    return Record.of("STR", mountpoint=name, identifier=name, authentication="B", misc="none", **fields)


def test_every_stream_is_told_with_state_and_login() -> None:
    offline = Record.of("STR", mountpoint="B", identifier="Town", country="CHN", authentication="N", misc="x;offline")
    rows = rows_of([Record.of("CAS", host="h"), record("A", format_details="1005(10),1077(1)", nmea=1), offline])
    assert "1 of 2 streams online" in rows
    assert "<td>A<td><td class=online>online<td>user and password, your position (GGA)" in rows
    assert "<td>B<td>Town CHN<td class=offline>offline<td>open" in rows
    assert "1005(10), 1077(1)" in rows


def test_text_of_others_is_shown_and_not_run() -> None:
    evil = "<script>alert(1)</script>"
    rows = rows_of([Record.of("STR", mountpoint=evil, identifier=evil, format_details=evil, authentication=evil)])
    whole = page(CasterInfo(identifier=evil, operator=evil), rows, evil, evil, 2101, None, VISITOR, evil)
    assert "<script" not in whole and "&lt;script&gt;" in whole


def test_a_large_network_has_a_page_of_bounded_length() -> None:
    rows = rows_of([record(f"S{number}") for number in range(ROWS_MAX + 5)])
    assert rows.count("<tr><td>S") == ROWS_MAX and "and 5 more" in rows


def test_quirk_18_a_visitor_learns_what_is_held_against_him_and_where_tls_is() -> None:
    whole = page(CasterInfo(), rows_of([]), "A", "::1", 2101, 2102, VISITOR, "")
    assert "192.0.2.7" in whole and "in the last 10 minutes: 3; 20 keep an address out" in whole
    assert "2102 with TLS" in whole and "ntrip://USER:PASSWORD@[::1]:2101/A" in whole
    assert "No stream yet" in whole


@pytest.mark.parametrize(
    ("header", "host"),
    [("c.example:2101", "c.example"), ("[::1]:2101", "::1"), ("", "default"), ("[", "default"), ("a:x", "a")],
)
def test_the_caster_s_name_is_the_one_that_the_visitor_used(header: str, host: str) -> None:
    assert host_of(header, "default") == host


def test_the_example_is_a_stream_that_can_be_had() -> None:
    assert example_of([Record.of("STR", mountpoint="A", misc="offline"), record("B")]) == "B"
    assert example_of([]) == "MOUNTPOINT"


async def test_a_browser_gets_the_page_at_every_address(service: Service) -> None:
    await service.feed("TOWN")
    for path, status, words in (
        ("", b"HTTP/1.0 200 OK", b"ntrip://USER:PASSWORD@caster.example.org"),
        ("TOWN", b"HTTP/1.0 200 OK", b"TOWN is a stream for receivers."),
        ("NOWHERE", b"HTTP/1.0 404 Not Found", b"There is no mountpoint NOWHERE."),
    ):
        answer = await service.ask(f"GET /{path} {BROWSER}".encode())
        assert answer.startswith(status) and words in answer and b"Content-Type: text/html" in answer


async def test_the_rows_are_made_once_for_many_visitors(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    made = list[object]()
    monkeypatch.setattr("caster.server.rows_of", lambda records: made.append(records) or rows_of(records))
    for _ in range(5):
        await service.ask(f"GET / {BROWSER}".encode())
    assert len(made) == 1


@pytest.mark.skipif(which("chromium") is None, reason="no chromium")
async def test_a_real_browser_shows_it(start: StartService, tmp_path: Path) -> None:
    service = await start()
    source = await service.feed("TOWN")
    await source.send(frame(1005) + frame(1077))
    command = [
        "chromium", "--headless", "--no-sandbox", "--disable-gpu", f"--user-data-dir={tmp_path}", "--dump-dom",
        f"http://127.0.0.1:{service.port}/",
    ]  # fmt: skip
    shown = await _run(command)
    assert "TOWN" in shown and "How to connect" in shown


async def _run(command: list[str]) -> str:
    process = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    return out.decode()
