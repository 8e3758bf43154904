"""Answers byte for byte, and as our own and others' readers take them."""

from datetime import UTC, datetime
from http.client import HTTPResponse
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caster.codec.ntrip import Refused, ReplyReader, Request, StreamOpened, TableReceived, build_table, response
from caster.codec.ntrip.sourcetable import Record

NOW = datetime(2026, 11, 22, 10, 49, 56, tzinfo=UTC)
SERVER = "NTRIP BigDipper/0.1"
V1 = Request("GET", "M", headers={"user-agent": "NTRIP x"})
V2 = Request("GET", "M", version=2, http="HTTP/1.1")
SOURCE = Request("SOURCE", "M", password="x")
POST = Request("POST", "M", version=2, http="HTTP/1.1")
TABLE = build_table([Record.of("STR", mountpoint="M", identifier="Town")])


class _Socket:
    """What `http.client` reads an answer from."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, *_: object) -> BytesIO:
        return BytesIO(self._data)


def as_http(data: bytes, method: str = "GET") -> tuple[HTTPResponse, bytes]:
    """The answer as Python's HTTP client, which we did not write, understands it."""
    reply = HTTPResponse(_Socket(data), method=method)  # type: ignore[arg-type]
    reply.begin()
    body = reply.read()
    return reply, body


def test_a_version_1_stream_opens_with_icy_alone() -> None:
    assert response.stream_opened(V1, SERVER, NOW) == b"ICY 200 OK\r\n\r\n"
    assert response.stream_opened(V1, SERVER, NOW, chunked=True) == b"ICY 200 OK\r\n\r\n"


@pytest.mark.parametrize("agent", ["NTRIP RTKLIB/2.4.3", "NTRIP RTKLIB/EX 2.5.0"])
def test_rtklib_gets_no_blank_line(agent: str) -> None:
    request = Request("GET", "M", headers={"user-agent": agent})
    assert response.stream_opened(request, SERVER, NOW) == b"ICY 200 OK\r\n"


def test_a_version_2_stream_opens_with_the_whole_head() -> None:
    assert response.stream_opened(V2, SERVER, NOW, chunked=True) == (
        b"HTTP/1.1 200 OK\r\n"
        b"Ntrip-Version: Ntrip/2.0\r\n"
        b"Server: NTRIP BigDipper/0.1\r\n"
        b"Date: Sun, 22 Nov 2026 10:49:56 GMT\r\n"
        b"Connection: close\r\n"
        b"Cache-Control: no-store, no-cache, max-age=0\r\n"
        b"Pragma: no-cache\r\n"
        b"Content-Type: gnss/data\r\n"
        b"Transfer-Encoding: chunked\r\n"
        b"\r\n"
    )
    assert b"Transfer-Encoding" not in response.stream_opened(V2, SERVER, NOW)


def test_a_base_station_is_let_in_in_its_own_words() -> None:
    assert response.source_accepted(SOURCE, SERVER, NOW) == b"ICY 200 OK\r\n\r\n"
    assert response.source_accepted(POST, SERVER, NOW).startswith(b"HTTP/1.1 200 OK\r\nNtrip-Version: Ntrip/2.0\r\n")


@pytest.mark.parametrize("request_", [V1, V2], ids=["v1", "v2"])
def test_the_table_comes_whole_with_its_length(request_: Request) -> None:
    head, _, body = response.table(request_, TABLE, SERVER, NOW).partition(b"\r\n\r\n")
    assert body == TABLE and f"\r\nContent-Length: {len(TABLE)}".encode() in head
    assert head.startswith(b"SOURCETABLE 200 OK\r\n" if request_ is V1 else b"HTTP/1.1 200 OK\r\n")
    assert (b"Ntrip-Flags: st_filter,st_auth,st_match,st_strict\r\n" in head) == (request_ is V2)


@pytest.mark.parametrize("request_", [V1, V2], ids=["v1", "v2"])
def test_our_own_client_reads_the_table_and_the_stream(request_: Request) -> None:
    (table,) = ReplyReader().receive_data(response.table(request_, TABLE, SERVER, NOW))
    assert isinstance(table, TableReceived) and table.records[0]["identifier"] == "Town"
    (opened, *_) = ReplyReader().receive_data(response.stream_opened(request_, SERVER, NOW) + b"\xd3")
    assert isinstance(opened, StreamOpened) and opened.version == request_.version


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (401, b"ERROR - Bad Password\r\n\r\n"),
        (403, b"ERROR - too many logins\r\n\r\n"),
        (404, b"ERROR - Bad Mountpoint\r\n\r\n"),
        (409, b"ERROR - Mount Point Taken or Invalid\r\n\r\n"),
        (503, b"ERROR - too many logins\r\n\r\n"),
    ],
)
def test_a_version_1_base_station_is_refused_with_a_word_of_error(status: int, text: bytes) -> None:
    assert response.refusal(status, "too many logins", SERVER, NOW, SOURCE) == text


@pytest.mark.parametrize("request_", [None, V1, V2, POST], ids=["unread", "v1", "v2", "post"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 431, 500, 501, 503])
def test_a_refusal_is_good_http_that_tells_the_reason(status: int, request_: Request | None) -> None:
    reply, body = as_http(response.refusal(status, "the reason, plainly", SERVER, NOW, request_, "M"))
    assert (reply.status, body) == (status, b"the reason, plainly\r\n")
    assert reply.version == (11 if request_ in (V2, POST) else 10)
    assert reply.headers["Connection"] == "close"
    assert (reply.headers["WWW-Authenticate"] == 'Basic realm="/M"') == (status == 401)
    assert (reply.headers["Retry-After"] == "10") == (status == 503)


def test_a_page_is_html_with_its_length_in_bytes() -> None:
    reply, body = as_http(response.page("<p>北斗</p>", SERVER, NOW))
    assert body.decode() == "<p>北斗</p>"
    assert reply.headers["Content-Type"] == "text/html; charset=utf-8"


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=100), st.sampled_from([400, 401, 503]))
def test_a_reason_of_any_text_keeps_the_form(reason: str, status: int) -> None:
    reply, body = as_http(response.refusal(status, reason, SERVER, NOW, V2, "M"))
    assert (reply.status, body.decode()) == (status, reason + "\r\n")
    (refused,) = ReplyReader().receive_data(response.refusal(status, reason, SERVER, NOW, V2, "M"))[:1]
    assert isinstance(refused, Refused) and refused.status == status
