"""The PROXY header: the specification's own examples, and anything else."""

import socket
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caster.codec.proxy import ProxyHeader, ProxyReader
from caster.errors import RemoteProtocolError

SIGNATURE = bytes.fromhex("0d0a0d0a000d0a515549540a")  # section 2.2 of the specification


def read(data: bytes) -> tuple[ProxyHeader | None, bytes]:
    """The header and the bytes after it, read as a socket would be: never more than is wanted."""
    reader, at = ProxyReader(), 0
    while at < len(data):
        piece = data[at : at + reader.wanted]
        at += len(piece)
        header = reader.receive_data(piece)
        if header is not None:
            return header, data[at:]
    return None, b""


def binary(command: int, family: int, body: bytes) -> bytes:
    return SIGNATURE + bytes([0x20 | command, family]) + struct.pack(">H", len(body)) + body


V4 = socket.inet_aton("192.0.2.7") + socket.inet_aton("192.0.2.1") + struct.pack(">HH", 56324, 443)
V6 = socket.inet_pton(socket.AF_INET6, "2001:db8::7") + bytes(16) + struct.pack(">HH", 56324, 443)


@pytest.mark.parametrize(
    ("wire", "address", "port"),
    [
        (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255", 65535),
        (b"PROXY TCP6 2001:db8::7 ::1 56324 443\r\n", "2001:db8::7", 56324),
        (b"PROXY UNKNOWN\r\n", "", 0),
        (b"PROXY UNKNOWN " + b"ffff:f...f " * 4 + b"65535 65535\r\n", "", 0),
        (binary(1, 0x11, V4), "192.0.2.7", 56324),
        (binary(1, 0x21, V6), "2001:db8::7", 56324),
        (binary(1, 0x11, V4 + b"\x04\x00\x03abc"), "192.0.2.7", 56324),
        (binary(0, 0x11, V4), "", 0),
        (binary(1, 0x00, b""), "", 0),
        (binary(1, 0x31, bytes(216)), "", 0),
    ],
)
def test_a_header_is_read_and_nothing_after_it_is_taken(wire: bytes, address: str, port: int) -> None:
    assert read(wire + b"\x16\x03\x01rest") == (ProxyHeader(address, port), b"\x16\x03\x01rest")
    assert read(wire[:-1]) == (None, b"")


@pytest.mark.parametrize(
    "wire",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x00",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n",
        b"PROXY TCP4 ::1 ::1 1 2\r\n",
        b"PROXY TCP4 1.2.3.4 5.6.7.8 65536 1\r\n",
        b"PROXY UDP4 1.2.3.4 5.6.7.8 1 1\r\n",
        b"PROXY " + b"x" * 200,
        SIGNATURE + b"\x11\x11\x00\x0c" + V4,
        SIGNATURE + b"\x22\x11\x00\x0c" + V4,
        binary(1, 0x11, V4[:-1]),
        binary(1, 0x21, bytes(3000)),
    ],
)
def test_anything_else_is_refused(wire: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        read(wire)


@given(st.binary(max_size=300), st.sampled_from([b"", b"PROXY ", b"PROXY TCP4 ", SIGNATURE, SIGNATURE + b"\x21\x11"]))
def test_no_bytes_do_more_than_be_refused(tail: bytes, start: bytes) -> None:
    data = start + tail
    try:
        header, rest = read(data)
    except RemoteProtocolError:
        return
    assert data.endswith(rest)
    assert header is not None or len(data) < 16 + 2048


@given(st.ip_addresses(), st.integers(0, 65535), st.binary(max_size=40))
def test_what_is_written_is_read(address: object, port: int, rest: bytes) -> None:
    family = "TCP6" if ":" in str(address) else "TCP4"
    assert read(f"PROXY {family} {address} {address} {port} 1\r\n".encode() + rest) == (
        ProxyHeader(str(address), port),
        rest,
    )
