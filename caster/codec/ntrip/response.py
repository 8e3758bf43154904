"""What a caster answers, byte for byte as the clients in the field need it.

Version 1 clients get `ICY 200 OK` (RTKLIB hangs up on anything that holds `HTTP/`), the sourcetable in place of an
unknown mount, and words that begin with `ERROR` for a base station. Version 2 clients get HTTP/1.1 with
`Ntrip-Version: Ntrip/2.0` in exactly this spelling: BKG's ntripserver falls back to version 1 otherwise.
The time is an argument: a codec has no clock.
"""

from datetime import datetime
from email.utils import format_datetime
from http import HTTPStatus

from caster.codec.ntrip.request import Request

__all__ = ["CONTINUE", "NTRIP_FLAGS", "page", "refusal", "source_accepted", "stream_opened", "table"]

CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"

# Only what `caster.codec.ntrip.query` evaluates; no RTSP, no RTP.
NTRIP_FLAGS = "st_filter,st_auth,st_match,st_strict"

_ICY = b"ICY 200 OK\r\n\r\n"
_ICY_BARE = b"ICY 200 OK\r\n"
# RTKLIB takes all that follows the first line for data: a blank line would be two bytes of noise in its recordings.
# Everybody else (MAVProxy among them) waits for the blank line.
_NO_BLANK_LINE_AGENTS = ("NTRIP RTKLIB",)

# Version 1 has no codes for a base station, only words; RTKLIB and BKG's ntripserver look for "ERROR".
_SOURCE_ERRORS = {
    401: "ERROR - Bad Password",
    404: "ERROR - Bad Mountpoint",
    409: "ERROR - Mount Point Taken or Invalid",
}
_EXTRA_HEADERS = {
    503: ("Retry-After: 10",),
    405: ("Allow: GET, POST, SOURCE",),
    426: ("Upgrade: websocket", "Sec-WebSocket-Version: 13"),
}


def stream_opened(request: Request, server: str, now: datetime, *, chunked: bool = False) -> bytes:
    """The head before a stream of corrections."""
    if request.version == 1:
        return _ICY_BARE if request.agent.startswith(_NO_BLANK_LINE_AGENTS) else _ICY
    lines = [
        "Cache-Control: no-store, no-cache, max-age=0",
        "Pragma: no-cache",
        "Content-Type: gnss/data",
        *(["Transfer-Encoding: chunked"] if chunked else []),
    ]
    return _head(2, 200, server, now, lines)


def source_accepted(request: Request, server: str, now: datetime) -> bytes:
    """The answer that lets a base station send."""
    if request.method == "SOURCE":
        return _ICY
    return _head(2, 200, server, now, ["Content-Type: gnss/data"])


def table(request: Request, text: bytes, server: str, now: datetime) -> bytes:
    """The sourcetable, head and body."""
    if request.version == 1:
        lines = ["Content-Type: text/plain", f"Content-Length: {len(text)}"]
        return _lines("SOURCETABLE 200 OK", *_common(server, now), *lines) + text
    lines = [f"Ntrip-Flags: {NTRIP_FLAGS}", "Content-Type: gnss/sourcetable", f"Content-Length: {len(text)}"]
    return _head(2, 200, server, now, lines) + text


def page(html: str, server: str, now: datetime, status: int = 200) -> bytes:
    """A page for a person's browser."""
    body = html.encode()
    return (
        _head(1, status, server, now, ["Content-Type: text/html; charset=utf-8", f"Content-Length: {len(body)}"]) + body
    )


def refusal(
    status: int, reason: str, server: str, now: datetime, request: Request | None = None, realm: str = ""
) -> bytes:
    """An error answer in the client's own form; `request` is None where the head could not be read."""
    if request is not None and request.method == "SOURCE":
        word = _SOURCE_ERRORS.get(status, f"ERROR - {reason}")
        return f"{word}\r\n\r\n".encode()
    version = request.version if request else 1
    body = f"{reason}\r\n".encode()
    lines = [
        *([f'WWW-Authenticate: Basic realm="/{realm}"'] if status == 401 else []),
        *_EXTRA_HEADERS.get(status, ()),
        "Content-Type: text/plain; charset=utf-8",
        f"Content-Length: {len(body)}",
    ]
    return _head(version, status, server, now, lines) + body


def _head(version: int, status: int, server: str, now: datetime, lines: list[str]) -> bytes:
    first = f"HTTP/1.{1 if version == 2 else 0} {status} {HTTPStatus(status).phrase}"
    return _lines(first, *(["Ntrip-Version: Ntrip/2.0"] if version == 2 else []), *_common(server, now), *lines)


def _common(server: str, now: datetime) -> list[str]:
    return [f"Server: {server}", f"Date: {format_datetime(now, usegmt=True)}", "Connection: close"]


def _lines(*lines: str) -> bytes:
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1", "replace")
