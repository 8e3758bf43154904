r"""The head of a client's request, read as rovers, base stations, browsers and port scanners send it.

The strategy: collect bytes until the blank line that ends the head (CRLF or LF), within limits of bytes and lines, then
parse it once. `RequestReader.receive_data` returns a `Request`, a `TlsHello`, or None for "need more"; what follows the
head in the same bytes is in `trailing`.

What is read, by NTRIP 1.0 and 2.0 and by what receivers make of them:

* `GET /MOUNT HTTP/1.0` (a rover; also without version, without slash, with an absolute URI, with a query)
* `SOURCE password /MOUNT` (a version 1 base station; the password may be empty and may hold spaces)
* `POST /MOUNT HTTP/1.1` (a version 2 base station)

The protocol is version 2 only where an `Ntrip-Version` header says so (or the method is POST, or the client asks for
WebSocket, which version 1 have not); the HTTP version says nothing.
"""

import re
from dataclasses import dataclass, field
from functools import lru_cache
from urllib.parse import unquote

from caster.codec.ntrip.auth import Credentials, decode_text, parse_basic
from caster.errors import RemoteProtocolError

__all__ = ["HEAD_BYTES_MAX", "HEAD_LINES_MAX", "Request", "RequestReader", "TlsHello"]

HEAD_BYTES_MAX = 8192  # what Millipede and most web servers allow
HEAD_LINES_MAX = 64

_HEAD_END = re.compile(rb"\r?\n[ \t]*\r?\n")
_REQUEST_LINE = re.compile(
    r"(?P<method>[A-Za-z]+)[ \t]+(?P<target>.*?)(?:[ \t]+(?P<http>(?:HTTP|RTSP)/\d+(?:\.\d+)?))?",
)
_HEADER_LINE = re.compile(r"(?P<name>[!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*:[ \t]*(?P<value>.*)")
_ABSOLUTE_URI = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?]*")
_BASE64_LINE = re.compile(r"[ \t]*[A-Za-z0-9+/=_-]+")
_VERSION_2 = re.compile(r"ntrip/2(\.\d+)?", re.IGNORECASE)


class TlsHello:
    """A TLS handshake arrived where plain text is spoken."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a client asks.

    Attributes:
        method: GET, SOURCE, POST or another in capitals.
        mount: Name of the mountpoint, unquoted, without slashes; empty where the sourcetable is asked for.
        query: What follows the first `?` of the target, as it came (it may hold `;`).
        version: NTRIP version, 1 or 2.
        headers: Values by lower-case name; repeated headers are joined by a comma.
        credentials: From a Basic `Authorization` header.
        password: The word of a SOURCE line that stands alone for the mount; None for other methods.
        http: The HTTP version as written, such as `HTTP/1.1`; empty where the request line has none.
    """

    method: str
    mount: str
    query: str = ""
    version: int = 1
    headers: dict[str, str] = field(default_factory=dict)
    credentials: Credentials | None = None
    password: str | None = None
    http: str = ""

    @property
    def agent(self) -> str:
        """The client's name of itself: `User-Agent`, or `Source-Agent` of a version 1 base station."""
        return self.headers.get("user-agent") or self.headers.get("source-agent", "")

    @property
    def gga(self) -> str:
        """The `Ntrip-GGA` header's sentence, or an empty text."""
        return self.headers.get("ntrip-gga", "")

    @property
    def stream_record(self) -> str:
        """What a base station says of its own stream (`Ntrip-STR`, or RTKLIB's `STR`), or an empty text."""
        return self.headers.get("ntrip-str") or self.headers.get("str", "")

    @property
    def chunked(self) -> bool:
        """The body comes in the chunked coding."""
        return "chunked" in self.headers.get("transfer-encoding", "").lower()

    @property
    def expects_continue(self) -> bool:
        """The client waits for `100 Continue` before it sends its body, as curl does."""
        return self.headers.get("expect", "").lower() == "100-continue"

    def lasting(self) -> "Request":
        """What is of interest once it is answered: thousands that stream the same need not each keep a head."""
        return _lasting(self.method, self.mount, self.query, self.version, self.agent, self.http)

    @property
    def from_browser(self) -> bool:
        """A person looks at us: the client accepts HTML and does not call itself an NTRIP client."""
        return "text/html" in self.headers.get("accept", "") and not self.agent.upper().startswith("NTRIP")


@lru_cache(maxsize=4096)
def _lasting(method: str, mount: str, query: str, version: int, agent: str, http: str) -> Request:
    """A request whose one header is the client's name of itself: one object for all who asked for the same."""
    return Request(method, mount, query, version, {"user-agent": agent}, http=http)


class RequestReader:
    """Collects a request's head from bytes of any split.

    Args:
        bytes_max: Longest head in bytes: a security limit.
        lines_max: Most lines of a head: a security limit.

    Attributes:
        trailing: Bytes that came after the head, once a request was returned.
    """

    def __init__(self, bytes_max: int = HEAD_BYTES_MAX, lines_max: int = HEAD_LINES_MAX) -> None:
        self._bytes_max = bytes_max
        self._lines_max = lines_max
        self._head = bytearray()
        self._searched = 0
        self.trailing = b""

    def receive_data(self, data: bytes) -> Request | TlsHello | None:
        """Feed bytes; return the request once its head is whole, None before.

        Raises:
            RemoteProtocolError: The bytes are no request, or its head passes a limit.
        """
        self._head += data
        if self._head.startswith(b"\x16\x03") or self._head == b"\x16":
            return TlsHello() if len(self._head) > 1 else None
        self._drop_leading_blank_lines()
        end = _HEAD_END.search(self._head, self._searched)
        self._check_limits(end.start() if end else len(self._head))
        if end is None:
            self._searched = max(0, len(self._head) - 64)
            return None
        self.trailing = bytes(self._head[end.end() :])
        return parse_head(bytes(self._head[: end.start()]))

    def receive_eof(self) -> Request | None:
        """The client will send no more for now: accept a whole request line without a blank line after it.

        A `GET /` in the manner of HTTP/0.9 has no headers and no blank line.

        Raises:
            RemoteProtocolError: The bytes are no request.
        """
        if b"\n" not in self._head:
            return None
        return parse_head(bytes(self._head))

    def _drop_leading_blank_lines(self) -> None:
        if self._head.startswith((b"\r", b"\n")):  # RFC 9112 section 2.2: ignore them
            self._head = self._head.lstrip(b"\r\n")

    def _check_limits(self, size: int) -> None:
        if size > self._bytes_max:
            raise RemoteProtocolError(f"the request head is longer than {self._bytes_max} bytes", 431)
        if self._head.count(b"\n", 0, size) >= self._lines_max:
            raise RemoteProtocolError(f"the request head has more than {self._lines_max} lines", 431)
        if self._head and not self._head[:1].isalpha():
            raise RemoteProtocolError(f"no request begins with {bytes(self._head[:16])!r}")


def parse_head(head: bytes) -> Request:
    """Parse a whole request head, without its blank line.

    Raises:
        RemoteProtocolError: It is no request.
    """
    lines = decode_text(head).replace("\r\n", "\n").split("\n")
    match = _REQUEST_LINE.fullmatch(lines[0].rstrip())
    if match is None:
        raise RemoteProtocolError(f"{lines[0][:60]!r} is no request line")
    method, target, http = match["method"].upper(), match["target"], match["http"] or ""
    headers = _parse_headers(lines[1:])
    if method == "SOURCE":
        password, _, mount = target.rpartition(" ")
        return Request(method, _mount_name(mount), headers=headers, password=password.strip(), http=http)
    path, _, query = _ABSOLUTE_URI.sub("", target, count=1).partition("?")
    return Request(
        method,
        _mount_name(path),
        query,
        2 if method == "POST" or _is_version_2(headers) else 1,
        headers,
        parse_basic(headers.get("authorization", "")),
        http=http,
    )


def _is_version_2(headers: dict[str, str]) -> bool:
    """The client says so, or wants WebSocket, which begins in HTTP/1.1 alone."""
    return (
        bool(_VERSION_2.fullmatch(headers.get("ntrip-version", "")))
        or "websocket" in headers.get("upgrade", "").lower()
    )


def _mount_name(path: str) -> str:
    return unquote(path).strip().strip("/")


def _parse_headers(lines: list[str]) -> dict[str, str]:
    """Read header lines; lines that are none are skipped, since receivers send them and mean no harm."""
    headers: dict[str, str] = {}
    name = ""
    for line in lines:
        match = _HEADER_LINE.fullmatch(line.rstrip())
        if match and not line[:1].isspace():
            name, value = match["name"].lower(), match["value"]
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        elif name and (line[:1].isspace() or (name == "authorization" and _BASE64_LINE.fullmatch(line))):
            # A folded line, or base64 that was broken after 76 characters.
            headers[name] += (" " if name != "authorization" else "") + line.strip()
    return headers
