"""The client's side: requests of rovers and base stations, and the answers of all casters that we know of.

Build a request (`get_request`, `source_request`, `post_request`), send it, and feed a `ReplyReader` with what comes
back; it returns events:

* `StreamOpened`, then `StreamData` for each piece, `StreamEnded` at the end of a chunked stream;
* `TableReceived` for a sourcetable (asked for, or a version 1 caster's answer to a mount that it does not have);
* `Refused` with status and reason; where a short text follows, as our caster sends it, the reason holds it too.

Answers understood: `ICY 200 OK`, a bare `OK`, `HTTP/1.x`, `SOURCETABLE 200 OK`, `ERROR ...`; with LF alone; with and
without blank line or header lines after `ICY 200 OK`; and the status line `HTTP/1.1 200 OKNtrip-Version: Ntrip/2.0`
of pygnssutils' server.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, field

from caster.codec.ntrip.auth import Credentials, basic_header, decode_text
from caster.codec.ntrip.chunked import ChunkedDecoder
from caster.codec.ntrip.sourcetable import END, TABLE_BYTES_MAX, Record, parse_table
from caster.errors import LocalProtocolError, RemoteProtocolError

__all__ = [
    "AGENT",
    "ClientReply",
    "Refused",
    "ReplyReader",
    "StreamData",
    "StreamEnded",
    "StreamOpened",
    "TableReceived",
    "get_request",
    "post_request",
    "source_request",
]

AGENT = "NTRIP BigDipper/0.1"
REPLY_BYTES_MAX = 16384
_DETAIL_BYTES_MAX = 500

_STATUS_LINE = re.compile(r"(?P<form>HTTP/\d\.\d|ICY|SOURCETABLE) +(?P<status>\d{3})(?P<reason>.*)", re.IGNORECASE)
_GLUED_HEADER = re.compile(r"(?P<reason>.*?)(?P<header>Ntrip-Version: .*)", re.IGNORECASE)
_ICY_HEADER = re.compile(rb"[A-Za-z][A-Za-z-]{1,39}:[\x20-\x7e\t]*\r?\n")
_ICY_HEADER_BEGIN = re.compile(rb"\r?|[A-Za-z][A-Za-z-]{0,39}(:[\x20-\x7e\t]{0,200}\r?)?")


@dataclass(frozen=True, slots=True)
class StreamOpened:
    """The caster sends the stream (to a rover) or takes it (from a base station).

    Attributes:
        version: The NTRIP version of the answer.
        headers: By lower-case name.
    """

    version: int
    headers: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StreamData:
    """Bytes of the stream, without any transfer coding."""

    data: bytes


@dataclass(frozen=True, slots=True)
class StreamEnded:
    """The caster ended the stream in form, by a last chunk."""


@dataclass(frozen=True, slots=True)
class TableReceived:
    """A sourcetable."""

    records: tuple[Record, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The caster refused; status 0 where its answer has none (`ERROR - ...`)."""

    status: int
    reason: str


ClientReply = StreamOpened | StreamData | StreamEnded | TableReceived | Refused


def get_request(
    mount: str,
    host: str,
    *,
    version: int = 2,
    credentials: Credentials | None = None,
    gga: str = "",
    agent: str = AGENT,
) -> bytes:
    """A rover's request; an empty mount asks for the sourcetable, `?match=...` for a part of it."""
    common = [f"User-Agent: {agent}", *_authorization(credentials)]
    if version == 1:
        return _request(f"GET /{mount} HTTP/1.0", *common)
    lines = [f"Host: {host}", "Ntrip-Version: Ntrip/2.0", *common, "Accept: */*", "Connection: close"]
    return _request(f"GET /{mount} HTTP/1.1", *lines, *([f"Ntrip-GGA: {gga.strip()}"] if gga else []))


def source_request(mount: str, password: str, *, agent: str = AGENT, record: str = "") -> bytes:
    """A version 1 base station's request; `record` is what it says of its stream, after the mount's name."""
    return _request(f"SOURCE {password} /{mount}", f"Source-Agent: {agent}", f"STR: {record}")


def post_request(
    mount: str,
    host: str,
    *,
    credentials: Credentials | None = None,
    agent: str = AGENT,
    record: str = "",
    chunked: bool = True,
) -> bytes:
    """A version 2 base station's request; `record` is a whole STR record."""
    return _request(
        f"POST /{mount} HTTP/1.1",
        f"Host: {host}",
        "Ntrip-Version: Ntrip/2.0",
        f"User-Agent: {agent}",
        *_authorization(credentials),
        *([f"Ntrip-STR: {record}"] if record else []),
        "Content-Type: gnss/data",
        "Connection: close",
        *(["Transfer-Encoding: chunked"] if chunked else []),
    )


class ReplyReader:
    """Reads a caster's answer and the stream after it, from bytes of any split.

    Args:
        head_max: Longest head in bytes: a security limit.
        table_max: Longest sourcetable in bytes: a security limit.
    """

    def __init__(self, head_max: int = REPLY_BYTES_MAX, table_max: int = TABLE_BYTES_MAX) -> None:
        self._head_max = head_max
        self._table_max = table_max
        self._buffer = bytearray()
        self._state = "head"
        self._chunks: ChunkedDecoder | None = None
        self._table_length: int | None = None
        self._refused = Refused(0, "")
        self._detail_bytes = 0

    def receive_data(self, data: bytes) -> list[ClientReply]:
        """Feed bytes; return the events in them.

        Raises:
            RemoteProtocolError: The bytes are no answer of a caster, or pass a limit.
        """
        if self._state == "stream":
            return self._stream(data)
        if self._state == "done":
            return []
        self._buffer += self._chunks.receive_data(data) if self._chunks else data
        return self._readers[self._state]()

    @property
    def _readers(self) -> dict[str, Callable[[], list[ClientReply]]]:
        return {
            "head": self._read_head,
            "icy": self._read_icy_headers,
            "table": self._read_table,
            "refused": self._read_detail,
        }

    def receive_eof(self) -> list[ClientReply]:
        """The caster closed the connection: return what an end of file completes (a table, a refusal).

        Raises:
            RemoteProtocolError: It closed before it had answered.
        """
        state, self._state = self._state, "done"
        if state == "table":
            return self._table(bytes(self._buffer))
        if state == "icy":
            return [StreamData(bytes(self._buffer))] if self._buffer else []
        if state == "head":
            return self._eof_in_head()
        if state == "refused":
            return [self._with_detail()]
        return []

    def _eof_in_head(self) -> list[ClientReply]:
        first = decode_text(bytes(self._buffer[:200])).partition("\n")[0].strip()
        if not first:
            raise RemoteProtocolError("the caster closed the connection without an answer", 502)
        match = _STATUS_LINE.fullmatch(first)
        return [Refused(int(match["status"]) if match else 0, first)]

    def _read_head(self) -> list[ClientReply]:
        if self._buffer.startswith((b"\r", b"\n")):
            self._buffer = self._buffer.lstrip(b"\r\n")
        line, newline, _ = bytes(self._buffer[: self._head_max]).partition(b"\n")
        if not newline:
            return self._need_more()
        first = decode_text(line).strip()
        if first == "OK" or re.fullmatch(r"ICY +200.*", first):
            del self._buffer[: len(line) + 1]
            self._state = "icy"
            return [StreamOpened(1), *self._read_icy_headers()]
        if first.upper().startswith("ERROR"):
            self._state = "done"
            return [Refused(0, first)]
        return self._read_http_head(first)

    def _need_more(self) -> list[ClientReply]:
        if len(self._buffer) >= self._head_max:
            raise RemoteProtocolError(f"the caster's answer has a head longer than {self._head_max} bytes", 502)
        return []

    def _read_http_head(self, first: str) -> list[ClientReply]:
        match = _STATUS_LINE.fullmatch(first)
        if match is None:
            raise RemoteProtocolError(f"{first[:60]!r} is no answer of a caster", 502)
        end = re.search(rb"\r?\n\r?\n", self._buffer[: self._head_max])
        if end is None:
            return self._need_more()
        lines = decode_text(bytes(self._buffer[: end.start()])).splitlines()[1:]
        glued = _GLUED_HEADER.fullmatch(match["reason"])
        headers = _headers([glued["header"], *lines] if glued else lines)
        reason = (glued["reason"] if glued else match["reason"]).strip()
        del self._buffer[: end.end()]
        return self._on_http_head(match["form"].upper(), int(match["status"]), reason, headers)

    def _on_http_head(self, form: str, status: int, reason: str, headers: dict[str, str]) -> list[ClientReply]:
        if status == 100:  # the real answer follows
            return self._read_head() if self._buffer else []
        if status != 200:
            return self._on_refusal(Refused(status, reason), headers)
        if "chunked" in headers.get("transfer-encoding", "").lower():
            self._chunks = ChunkedDecoder()
        if form == "SOURCETABLE" or "sourcetable" in headers.get("content-type", "").lower():
            length = headers.get("content-length", "")
            self._table_length = int(length) if re.fullmatch(r"\d{1,9}", length) and int(length) > 0 else None
            return self._enter_table()
        self._state = "stream"
        version = 2 if "ntrip/2" in headers.get("ntrip-version", "").lower() else 1
        rest, self._buffer = bytes(self._buffer), bytearray()
        return [StreamOpened(version, headers), *(self._stream(rest) if rest else [])]

    def _on_refusal(self, refused: Refused, headers: dict[str, str]) -> list[ClientReply]:
        """Wait for the body where it is a short text for people."""
        length = headers.get("content-length", "")
        if not (headers.get("content-type", "").startswith("text/plain") and length.isdecimal() and len(length) < 4):
            self._state = "done"
            return [refused]
        self._refused, self._detail_bytes, self._state = refused, min(int(length), _DETAIL_BYTES_MAX), "refused"
        return self._read_detail()

    def _read_detail(self) -> list[ClientReply]:
        if len(self._buffer) < self._detail_bytes:
            return []
        self._state = "done"
        return [self._with_detail()]

    def _with_detail(self) -> Refused:
        """The refusal with the first line of the text after it."""
        text = decode_text(bytes(self._buffer[: self._detail_bytes])).strip().partition("\n")[0].strip()
        refused = self._refused
        if not text.isprintable() or not text or text == refused.reason:
            return refused
        return Refused(refused.status, f"{refused.reason}: {text}" if refused.reason else text)

    def _read_icy_headers(self) -> list[ClientReply]:
        """Skip what may follow `ICY 200 OK`: header lines and a blank line, or data at once."""
        while self._buffer:
            if re.match(rb"\r?\n", self._buffer):
                del self._buffer[: self._buffer.index(b"\n") + 1]
                break
            header = _ICY_HEADER.match(self._buffer)
            if header is None:
                if len(self._buffer) < 256 and _ICY_HEADER_BEGIN.fullmatch(self._buffer):
                    return []
                break
            del self._buffer[: header.end()]
        else:
            return []
        self._state = "stream"
        rest, self._buffer = bytes(self._buffer), bytearray()
        return [StreamData(rest)] if rest else []

    def _stream(self, data: bytes) -> list[ClientReply]:
        if self._chunks is None:
            return [StreamData(data)] if data else []
        payload = self._chunks.receive_data(data)
        events: list[ClientReply] = [StreamData(payload)] if payload else []
        if self._chunks.done:
            self._state = "done"
            events.append(StreamEnded())
        return events

    def _enter_table(self) -> list[ClientReply]:
        self._state = "table"
        if self._chunks is not None:
            self._buffer = bytearray(self._chunks.receive_data(bytes(self._buffer)))
        return self._read_table()

    def _read_table(self) -> list[ClientReply]:
        if len(self._buffer) > self._table_max:
            raise RemoteProtocolError(f"the sourcetable is longer than {self._table_max} bytes", 502)
        # Some casters count wrong, so the end mark also ends the table.
        whole = self._table_length is not None and len(self._buffer) >= self._table_length
        if not whole and f"{END}\r\n".encode() not in self._buffer[-len(END) - 16 :]:
            return []
        self._state = "done"
        return self._table(bytes(self._buffer))

    def _table(self, text: bytes) -> list[ClientReply]:
        return [TableReceived(tuple(parse_table(text, self._table_max)))]


def _authorization(credentials: Credentials | None) -> list[str]:
    return [f"Authorization: {basic_header(credentials)}"] if credentials else []


def _request(*lines: str) -> bytes:
    if any("\r" in line or "\n" in line for line in lines):
        raise LocalProtocolError("a request's line holds a line end")
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def _headers(lines: list[str]) -> dict[str, str]:
    pairs = (line.partition(":") for line in lines)
    return {name.strip().lower(): value.strip() for name, colon, value in pairs if colon}
