"""The PROXY protocol's header, versions 1 and 2: who it really is that connects through a load balancer.

Source: The PROXY protocol, versions 1 & 2, HAProxy Technologies, 2020/03/05, sections 2.1 (text) and 2.2 (binary).
The reader says how many bytes it wants next and never wants one more than the header has, so that what follows (a TLS
hello, say) can be left in the socket for others.
"""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from caster.errors import RemoteProtocolError

__all__ = ["ProxyHeader", "ProxyReader"]

_SIGNATURE: Final = b"\r\n\r\n\x00\r\nQUIT\n"
_HEAD_2: Final = 16  # signature, version and command, family, length
_LINE_MAX: Final = 107  # section 2.1: the longest line with its CRLF
_LENGTH_MAX: Final = 2048  # of version 2's addresses and extensions: a security limit
_FAMILIES_1: Final = {"TCP4": IPv4Address, "TCP6": IPv6Address}
_SIZES_2: Final = {0x11: 4, 0x21: 16}  # TCP over IPv4 and over IPv6: bytes of an address


@dataclass(frozen=True, slots=True)
class ProxyHeader:
    """What the proxy says.

    Attributes:
        address: The client's address; empty where the proxy speaks for itself or does not know.
        port: The client's port, or 0.
    """

    address: str = ""
    port: int = 0


class ProxyReader:
    """Reads one header from bytes of any split."""

    def __init__(self) -> None:
        self._data = bytearray()

    @property
    def wanted(self) -> int:
        """How many bytes may be read next, at most; at least 1 until the header is whole."""
        if len(self._data) < len(_SIGNATURE):
            return len(_SIGNATURE) - len(self._data)
        if self._data[0] != _SIGNATURE[0]:
            return 1
        return self._size_2() - len(self._data)

    def receive_data(self, data: bytes) -> ProxyHeader | None:
        """Feed at most `wanted` bytes; return the header once it is whole.

        Raises:
            RemoteProtocolError: It is none.
        """
        self._data += data
        if _SIGNATURE.startswith(self._data[: len(_SIGNATURE)]):
            return self._receive_2()
        if b"PROXY ".startswith(self._data[:6]):
            return self._receive_1()
        raise RemoteProtocolError("a trusted proxy sent no PROXY header")

    def _receive_1(self) -> ProxyHeader | None:
        if self._data.endswith(b"\r\n"):
            return _parse_line(self._data[:-2])
        if len(self._data) >= _LINE_MAX:
            raise RemoteProtocolError(f"the PROXY line is longer than {_LINE_MAX} bytes")
        return None

    def _receive_2(self) -> ProxyHeader | None:
        if len(self._data) < _HEAD_2 or len(self._data) < self._size_2():
            return None
        version, command = self._data[12] >> 4, self._data[12] & 15
        if version != 2 or command > 1:
            raise RemoteProtocolError(f"PROXY version and command {self._data[12]:#04x} are not known")
        size = _SIZES_2.get(self._data[13])
        if command == 0 or size is None:
            return ProxyHeader()
        body = self._data[_HEAD_2:]
        if len(body) < 2 * size + 4:
            raise RemoteProtocolError("the PROXY header is too short for its addresses")
        port = int.from_bytes(body[2 * size : 2 * size + 2], "big")
        return ProxyHeader(str(ip_address(bytes(body[:size]))), port)

    def _size_2(self) -> int:
        if len(self._data) < _HEAD_2:
            return _HEAD_2
        length = int.from_bytes(self._data[14:16], "big")
        if length > _LENGTH_MAX:
            raise RemoteProtocolError(f"the PROXY header is longer than {_LENGTH_MAX} bytes")
        return _HEAD_2 + length


def _parse_line(line: bytearray) -> ProxyHeader:
    """`PROXY TCP4 192.0.2.1 192.0.2.2 56324 443`, or `PROXY UNKNOWN` and anything."""
    words = line.decode("latin-1").split(" ")
    if words[1] == "UNKNOWN":
        return ProxyHeader()
    family = _FAMILIES_1.get(words[1])
    try:
        if family is None or len(words) != 6:
            raise ValueError
        source, port = family(words[2]), int(words[4])
        family(words[3])
    except ValueError:
        raise RemoteProtocolError(f"{bytes(line)!r} is no PROXY line") from None
    if not 0 <= port <= 65535:
        raise RemoteProtocolError(f"{bytes(line)!r} is no PROXY line")
    return ProxyHeader(str(source), port)
