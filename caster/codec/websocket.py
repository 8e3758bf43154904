"""WebSocket (RFC 6455) for web clients: the answer to an upgrade, a stream's messages, and what a client sends.

An outgoing message is one unmasked binary frame that depends on nothing but its data, so all clients share it.
`ClientReader` reads a client's side through wsproto: the data of its messages, and what must be answered. Extensions
are not agreed on: corrections hardly compress, and compression would make the bytes each client's own.
"""

import re
import struct
from datetime import datetime
from email.utils import format_datetime
from typing import Final, NamedTuple
from urllib.parse import parse_qs

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.utilities import generate_accept_token

from caster.codec.ntrip.auth import Credentials, parse_basic
from caster.codec.ntrip.request import Request
from caster.errors import RemoteProtocolError

__all__ = ["GOING_AWAY", "ClientReader", "Received", "credentials_of", "encode_message", "is_upgrade", "upgraded"]

GOING_AWAY: Final = 1001
_BINARY_FINAL: Final = 0x82
_KEY: Final = re.compile(r"[A-Za-z0-9+/]{22}==")
_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")
_REASON_BYTES_MAX: Final = 123  # RFC 6455 section 5.5: a control frame has 125 bytes, two are the code


def is_upgrade(request: Request) -> bool:
    """The client wants to go on in WebSocket."""
    return request.method == "GET" and request.headers.get("upgrade", "").lower() == "websocket"


def credentials_of(request: Request) -> Credentials | None:
    """The login: of the header, or of `?token=`, since a page's script cannot set headers of a WebSocket.

    The token is what Basic authentication sends, `btoa("user:password")`, in either alphabet of base64.
    """
    token = parse_qs(request.query).get("token", [""])[-1]
    return request.credentials or parse_basic(f"Basic {token.replace(' ', '+')}")  # an unquoted + reads as a blank


def upgraded(request: Request, server: str, now: datetime) -> bytes:
    """The answer that ends the HTTP part of the connection.

    Raises:
        RemoteProtocolError: The request lacks what RFC 6455 section 4.2.1 asks for.
    """
    key = request.headers.get("sec-websocket-key", "")
    if request.headers.get("sec-websocket-version") != "13":
        raise RemoteProtocolError("the WebSocket version is 13", 426)
    if not _KEY.fullmatch(key):
        raise RemoteProtocolError("Sec-WebSocket-Key is not 16 bytes in base64")
    # A browser that offers protocols hangs up unless it gets one of them.
    offered = request.headers.get("sec-websocket-protocol", "").partition(",")[0].strip()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {generate_accept_token(key.encode()).decode()}",
        *([f"Sec-WebSocket-Protocol: {offered}"] if _TOKEN.fullmatch(offered) else []),
        f"Server: {server}",
        f"Date: {format_datetime(now, usegmt=True)}",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def encode_message(data: bytes) -> bytes:
    """One whole binary message from the server (RFC 6455 section 5.2)."""
    size = len(data)
    if size < 126:
        return bytes((_BINARY_FINAL, size)) + data
    if size < 1 << 16:
        return struct.pack(">BBH", _BINARY_FINAL, 126, size) + data
    return struct.pack(">BBQ", _BINARY_FINAL, 127, size) + data


class Received(NamedTuple):
    """What a client's bytes held.

    Attributes:
        data: Of its messages, text in UTF-8 and each text message ended as a line.
        answer: To be sent now: pongs, or the answer to a close.
        closed: The client closes, or has broken the protocol.
    """

    data: bytes
    answer: bytes
    closed: bool


class ClientReader:
    """Reads a client's side of a connection, from bytes of any split; keeps no more than a frame's head."""

    def __init__(self) -> None:
        self._connection = Connection(ConnectionType.SERVER)

    def receive_data(self, data: bytes) -> Received:
        """Feed bytes."""
        if self._connection.state is not ConnectionState.OPEN:
            return Received(b"", b"", True)
        self._connection.receive_data(data)
        found, answer, closed = bytearray(), b"", False
        for event in self._connection.events():
            if isinstance(event, TextMessage):
                found += event.data.encode() + (b"\r\n" if event.message_finished else b"")
            elif isinstance(event, BytesMessage):
                found += event.data
            elif isinstance(event, Ping):
                answer += self._connection.send(event.response())
            elif isinstance(event, CloseConnection):
                answer += self._connection.send(event.response())
                closed = True
                break
        return Received(bytes(found), answer, closed)

    def close(self, code: int, reason: str) -> bytes:
        """The frame that closes from our side; empty where the client has closed already."""
        if self._connection.state is not ConnectionState.OPEN:
            return b""
        text = reason.encode()[:_REASON_BYTES_MAX].decode(errors="ignore")
        return self._connection.send(CloseConnection(code, text))
