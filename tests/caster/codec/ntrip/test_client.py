"""The client's side: what it sends, and the answers of every caster that we know of."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caster.codec.ntrip.auth import Credentials
from caster.codec.ntrip.chunked import LAST_CHUNK, encode_chunk
from caster.codec.ntrip.client import (
    ClientReply,
    Refused,
    ReplyReader,
    StreamData,
    StreamEnded,
    StreamOpened,
    TableReceived,
    get_request,
    post_request,
    source_request,
)
from caster.codec.ntrip.request import Request, RequestReader
from caster.errors import LocalProtocolError, RemoteProtocolError

FRAME = b"\xd3\x00\x04\x4c\xe0\x00\x80\xed\xed\xd6"
V2_HEAD = b"HTTP/1.1 200 OK\r\nNtrip-Version: Ntrip/2.0\r\nContent-Type: gnss/data\r\n\r\n"
TABLE = b"STR;A;b\r\nENDSOURCETABLE\r\n"


def collect(data: bytes, step: int = 1 << 20, *, eof: bool = False) -> list[ClientReply]:
    """Feed in steps; join neighbouring data events."""
    reader = ReplyReader()
    events: list[ClientReply] = []
    for at in range(0, len(data), step):
        events += reader.receive_data(data[at : at + step])
    events += reader.receive_eof() if eof else []
    joined: list[ClientReply] = []
    for event in events:
        if isinstance(event, StreamData) and joined and isinstance(joined[-1], StreamData):
            joined[-1] = StreamData(joined[-1].data + event.data)
        else:
            joined.append(event)
    return joined


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("head", "version"),
    [
        (b"ICY 200 OK\r\n", 1),
        (b"ICY 200 OK\r\n\r\n", 1),
        (b"ICY 200 OK\n", 1),
        (b"OK\r\n", 1),
        (b"ICY 200 OK\r\nServer: NTRIP Trimble\r\nDate: today\r\n\r\n", 1),
        (b"ICY 200 OK\r\nServer: NTRIP Trimble\r\n", 1),
        (b"HTTP/1.0 200 OK\r\nServer: x\r\n\r\n", 1),
        (V2_HEAD, 2),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + V2_HEAD, 2),
        (b"HTTP/1.1 200 OKNtrip-Version: Ntrip/2.0\r\nServer: PyGNSS\r\n\r\n", 2),
    ],
)
def test_quirk_24_every_caster_s_way_to_say_yes(head: bytes, version: int, step: int) -> None:
    opened, data = collect(head + FRAME * 3, step)
    assert isinstance(opened, StreamOpened) and opened.version == version
    assert data == StreamData(FRAME * 3)


@pytest.mark.parametrize("step", [1, 5, 1 << 20])
def test_a_chunked_stream_comes_without_its_coding(step: int) -> None:
    head = V2_HEAD[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
    wire = head + encode_chunk(FRAME) + encode_chunk(FRAME) + LAST_CHUNK
    assert collect(wire, step)[1:] == [StreamData(FRAME * 2), StreamEnded()]


@pytest.mark.parametrize("step", [1, 1 << 20])
@pytest.mark.parametrize(
    "head",
    [
        b"SOURCETABLE 200 OK\r\nContent-Length: 25\r\n\r\n",
        b"SOURCETABLE 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"SOURCETABLE 200 OK\r\nServer: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Type: gnss/sourcetable\r\nContent-Length: 25\r\n\r\n",
    ],
)
def test_a_table_is_whole_by_its_length_or_its_mark(head: bytes, step: int) -> None:
    (table,) = collect(head + TABLE, step)
    assert isinstance(table, TableReceived) and table.records[0]["mountpoint"] == "A"


def test_a_chunked_table_and_one_that_ends_with_the_connection() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: gnss/sourcetable\r\nTransfer-Encoding: chunked\r\n\r\n"
    (chunked,) = collect(head + encode_chunk(TABLE[:9]) + encode_chunk(TABLE[9:]), 3)
    (cut,) = collect(b"SOURCETABLE 200 OK\r\n\r\nSTR;A;b", eof=True)
    assert isinstance(chunked, TableReceived) and isinstance(cut, TableReceived)
    assert chunked == cut or chunked.records[0]["mountpoint"] == cut.records[0]["mountpoint"]


@pytest.mark.parametrize(
    ("wire", "status"),
    [
        (b"HTTP/1.0 401 Unauthorized\r\nServer: x\r\n\r\n", 401),
        (b"HTTP/1.1 404 Not Found\r\n\r\n", 404),
        (b"ERROR - Bad Password\r\n", 0),
        (b"HTTP/1.0 401 Unauthorized", 401),
        (b"ERROR", 0),
    ],
)
def test_a_refusal_has_a_status_and_a_reason(wire: bytes, status: int) -> None:
    (refused,) = collect(wire, eof=True)
    assert isinstance(refused, Refused) and refused.status == status and refused.reason


@pytest.mark.parametrize("step", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("lines", "body", "reason"),
    [
        (b"Content-Type: text/plain\r\nContent-Length: 17\r\n", b"nobody feeds it\r\n", "Gone: nobody feeds it"),
        (b"Content-Type: text/plain\r\nContent-Length: 900\r\n", b"cut o", "Gone: cut o"),
        (b"Content-Type: text/plain\r\nContent-Length: 900\r\n", b"x" * 900, "Gone: " + "x" * 500),
        (b"Content-Type: text/plain\r\nContent-Length: 4\r\n", b"\x1b[2J", "Gone"),
        (b"Content-Type: text/html\r\nContent-Length: 6\r\n", b"<html>", "Gone"),
        (b"Content-Type: text/plain\r\n", b"no length", "Gone"),
        (b"Content-Type: text/plain\r\nContent-Length: 0\r\n", b"", "Gone"),
    ],
)
def test_a_refusal_tells_the_caster_s_own_words(lines: bytes, body: bytes, reason: str, step: int) -> None:
    assert collect(b"HTTP/1.1 410 Gone\r\n" + lines + b"\r\n" + body, step, eof=True) == [Refused(410, reason)]


@pytest.mark.parametrize("wire", [b"SSH-2.0-OpenSSH\r\n", b"x" * 20_000, b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 5000])
def test_what_is_no_caster_is_named(wire: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        ReplyReader().receive_data(wire)


def test_a_connection_closed_without_an_answer_is_named() -> None:
    with pytest.raises(RemoteProtocolError, match="without an answer"):
        ReplyReader().receive_eof()


def test_our_requests_are_what_our_reader_reads() -> None:
    who = Credentials("user", "p:w")
    requests = [
        get_request("M", "h:2101", version=1, credentials=who),
        get_request("M", "h:2101", credentials=who, gga="$GPGGA,1"),
        source_request("M", "pw", record="town;RTCM 3"),
        post_request("M", "h:2101", credentials=who, record="STR;M"),
    ]
    read = [RequestReader().receive_data(data) for data in requests]
    seen = [(r.method, r.mount, r.version, r.credentials or r.password) for r in read if isinstance(r, Request)]
    assert seen == [("GET", "M", 1, who), ("GET", "M", 2, who), ("SOURCE", "M", 1, "pw"), ("POST", "M", 2, who)]


def test_a_line_end_in_a_request_is_our_mistake() -> None:
    with pytest.raises(LocalProtocolError):
        get_request("M\r\nX: y", "h")


@given(
    st.sampled_from([b"", b"ICY 200 OK\r\n", V2_HEAD, b"HTTP/1.1 200 OK\r\n", b"SOURCETABLE 200 OK\r\n\r\n"]),
    st.binary(max_size=500),
    st.integers(1, 40),
)
def test_any_bytes_give_events_or_the_documented_error(head: bytes, data: bytes, step: int) -> None:
    try:
        collect(head + data, step, eof=True)
    except RemoteProtocolError:
        pass


def test_a_recorded_chunked_stream_comes_apart_into_its_frames(shared_data: Path) -> None:
    wire = (shared_data / "rtcm3-captures" / "pygnssutils-ntrip_encode_chunked.bin").read_bytes()
    wire = V2_HEAD[:-2] + b"Transfer-Encoding: chunked\r\n\r\n" + wire
    whole = collect(wire)
    assert whole == collect(wire, 11)
    data = b"".join(event.data for event in whole if isinstance(event, StreamData))
    at = 0
    while at + 3 < len(data) and data[at] == 0xD3:
        at += ((data[at + 1] & 3) << 8) + data[at + 2] + 6
    assert at >= len(data) > 60_000
