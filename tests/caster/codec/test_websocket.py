"""The server's side of WebSocket against wsproto's client, byte by byte."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    TextMessage,
)
from wsproto.events import Request as Upgrade

from caster.codec.ntrip import Credentials, Request, RequestReader
from caster.codec.websocket import (
    GOING_AWAY,
    ClientReader,
    Received,
    credentials_of,
    encode_message,
    is_upgrade,
    upgraded,
)
from caster.errors import RemoteProtocolError

NOW = datetime(2026, 11, 22, tzinfo=UTC)
HEAD = {"upgrade": "websocket", "sec-websocket-version": "13", "sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}


def request(query: str = "", credentials: Credentials | None = None, **headers: str) -> Request:
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Request("GET", "M", query, 2, HEAD | names, credentials, http="HTTP/1.1")


def client(subprotocols: tuple[str, ...] = ()) -> tuple[WSConnection, Request]:
    """A client that has sent its request, and the request as we read it."""
    connection = WSConnection(ConnectionType.CLIENT)
    head = connection.send(Upgrade(host="caster", target="/M?token=x", subprotocols=list(subprotocols)))
    read = RequestReader().receive_data(head)
    assert isinstance(read, Request)
    return connection, read


def opened(subprotocols: tuple[str, ...] = ()) -> WSConnection:
    connection, read = client(subprotocols)
    connection.receive_data(upgraded(read, "NTRIP Test/1", NOW))
    (event,) = connection.events()
    assert isinstance(event, AcceptConnection) and event.subprotocol == (subprotocols[0] if subprotocols else None)
    return connection


def test_a_client_takes_our_answer():
    _, read = client()
    assert is_upgrade(read) and read.version == 2 and read.mount == "M"
    opened()
    opened(("ntrip", "other"))


def test_the_answer_has_the_accept_of_the_standard_s_example():
    """RFC 6455 section 1.3."""
    assert b"\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in upgraded(request(), "s", NOW)


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"sec_websocket_version": "8"}, 426), ({"sec_websocket_key": ""}, 400), ({"sec_websocket_key": "a\r\nb"}, 400)],
)
def test_a_request_that_lacks_something_is_refused(headers, status):
    with pytest.raises(RemoteProtocolError) as error:
        upgraded(request(**headers), "s", NOW)
    assert error.value.status == status


def test_a_plain_request_is_no_upgrade():
    assert not is_upgrade(Request("GET", "M", headers={"upgrade": "h2c"}))
    assert not is_upgrade(Request("POST", "M", headers={"upgrade": "websocket"}))


def test_a_login_comes_by_header_or_by_token_in_either_alphabet():
    who = Credentials("us>er", "pa?s:s~~")
    token = base64.b64encode(b"us>er:pa?s:s~~").decode()
    assert "+" in token or "/" in token
    for text in (token, token.replace("+", "-").replace("/", "_").rstrip("="), token.replace("+", "%2B")):
        assert credentials_of(request(f"x=1&token={text}")) == who
    assert credentials_of(request(credentials=who)) == who
    assert credentials_of(request("token=none")) is None and credentials_of(request()) is None


@pytest.mark.parametrize("size", [0, 1, 125, 126, 127, 65_535, 65_536, 100_000])
def test_a_message_of_any_size_arrives_as_one(size):
    connection = opened()
    data = bytes(range(256)) * (size // 256 + 1)
    connection.receive_data(encode_message(data[:size]))
    (event,) = connection.events()
    assert isinstance(event, BytesMessage) and event.message_finished and event.data == data[:size]


def received(reader: ClientReader, wire: bytes, step: int) -> list[Received]:
    return [reader.receive_data(wire[at : at + step]) for at in range(0, len(wire), step)]


@given(st.lists(st.binary(max_size=300), max_size=6), st.integers(1, 50))
def test_what_a_client_sends_comes_out_in_any_split(parts, step):
    connection, reader = opened(), ClientReader()
    wire = b"".join(connection.send(BytesMessage(part)) for part in parts)
    found = received(reader, wire, step)
    assert b"".join(one.data for one in found) == b"".join(parts)
    assert not any(one.answer or one.closed for one in found)


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_text_message_is_a_line(step):
    """A page sends a sentence without its line end."""
    connection, reader = opened(), ClientReader()
    wire = connection.send(TextMessage("$GPGGA,1")) + connection.send(TextMessage("$GPGGA,2\r\n"))
    assert b"".join(one.data for one in received(reader, wire, step)) == b"$GPGGA,1\r\n$GPGGA,2\r\n\r\n"


def events_after(connection: WSConnection, answer: bytes) -> list[Event]:
    connection.receive_data(answer)
    return list(connection.events())


def test_a_ping_is_answered_between_two_messages():
    connection, reader = opened(), ClientReader()
    (one,) = received(reader, connection.send(Ping(b"here")), 1000)
    events = events_after(connection, encode_message(b"1") + one.answer + encode_message(b"2"))
    assert [type(event) for event in events] == [BytesMessage, Pong, BytesMessage]


def test_a_close_is_answered_once_and_what_follows_is_not_read():
    connection, reader = opened(), ClientReader()
    (one,) = received(reader, connection.send(CloseConnection(1000, "bye")), 1000)
    assert one.closed
    (event,) = events_after(connection, one.answer)
    assert isinstance(event, CloseConnection) and event.code == 1000
    assert reader.receive_data(b"more") == Received(b"", b"", True) and reader.close(GOING_AWAY, "x") == b""


def test_our_close_tells_the_reason_cut_to_what_fits():
    connection = opened()
    (event,) = events_after(connection, ClientReader().close(GOING_AWAY, "ä" * 100))
    assert isinstance(event, CloseConnection) and (event.code, event.reason) == (GOING_AWAY, "ä" * 61)


@given(st.lists(st.binary(max_size=200), max_size=5))
def test_garbage_closes_and_raises_nothing(parts):
    reader = ClientReader()
    for part in parts:
        assert isinstance(reader.receive_data(part), Received)


def test_a_frame_without_mask_or_text_that_is_none_closes_with_a_code():
    for wire in (b"\x82\x01a", b"\x81\x81\0\0\0\0\xff"):
        one = ClientReader().receive_data(wire)
        assert one.closed and one.answer[:1] == b"\x88"


def test_a_huge_message_is_passed_on_in_pieces_and_not_kept():
    reader, piece = ClientReader(), b"x" * 1000
    reader.receive_data(b"\x82\xff" + (1 << 40).to_bytes(8, "big") + b"\0\0\0\0")
    assert all(reader.receive_data(piece).data == piece for _ in range(50))
