"""The page that a person's browser gets: what streams there are, how to connect, and how the caster sees the visitor.

Pure text from values, without scripts or anything from elsewhere. What clients and stations wrote is escaped.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Final
from urllib.parse import urlsplit

from caster.codec.ntrip import Record
from caster.config import CasterInfo

__all__ = ["ROWS_MAX", "Visitor", "example_of", "host_of", "page", "rows_of"]

ROWS_MAX: Final = 500
"""Streams on the page; the sourcetable has all."""

_STYLE: Final = """
:root{color-scheme:light dark;--line:#8884;--soft:#888;--on:#1a7f37;--off:#b35900}
body{font:16px/1.5 system-ui,sans-serif;max-width:70rem;margin:2rem auto;padding:0 1rem}
h1{margin:0;font-size:1.8rem}h2{font-size:1.1rem;margin:2rem 0 .5rem}p{margin:.3rem 0}
small,.soft{color:var(--soft)}.wide{overflow-x:auto}
table{border-collapse:collapse;width:100%;font-size:.9rem}
th{text-align:left;font-weight:600;color:var(--soft)}
th,td{padding:.35rem .8rem .35rem 0;border-bottom:1px solid var(--line);vertical-align:top;white-space:nowrap}
td.messages{white-space:normal;min-width:16rem;font-size:.8rem;color:var(--soft)}
td:first-child{font-weight:600}.online{color:var(--on)}.offline{color:var(--off)}
pre{border:1px solid var(--line);border-radius:.4rem;padding:.7rem 1rem;overflow-x:auto;font-size:.85rem;margin:.5rem 0}
"""


@dataclass(frozen=True, slots=True)
class Visitor:
    """How the caster sees the one who looks.

    Attributes:
        address: Where from.
        wrong_passwords: Counted against the address at present.
        wrong_passwords_max: So many ban it; 0: none do.
        window_s: Over which they are counted.
    """

    address: str
    wrong_passwords: int
    wrong_passwords_max: int
    window_s: float


def host_of(header: str, default: str) -> str:
    """The name by which a client has found this caster, from its `Host` header; another where it has none."""
    try:
        return urlsplit(f"//{header}").hostname or default
    except ValueError:
        return default


def rows_of(records: Sequence[Record]) -> str:
    """The streams of a sourcetable as rows of the page's table; it may be kept for as long as the records are."""
    streams = [record for record in records if record.kind == "STR"]
    rows = [_row(record) for record in streams[:ROWS_MAX]]
    if len(streams) > ROWS_MAX:
        rows.append(f"<tr><td colspan=7 class=soft>and {len(streams) - ROWS_MAX} more: the sourcetable has them all")
    online = sum(not _is_offline(record) for record in streams)
    head = "<th>Mountpoint<th>Place<th>State<th>Login<th>Systems<th>Position<th>Messages (every so many seconds)"
    table = f"<div class=wide><table><tr>{head}{''.join(rows)}</table></div>"
    return f"<h2>{online} of {len(streams)} streams online</h2>{table if streams else _NO_STREAMS}"


def example_of(records: Sequence[Record]) -> str:
    """A mountpoint to show how to connect to: one that is online, if there is any."""
    streams = sorted((record for record in records if record.kind == "STR"), key=_is_offline)
    return streams[0]["mountpoint"] if streams else "MOUNTPOINT"


def page(
    info: CasterInfo, rows: str, example: str, host: str, port: int, tls_port: int | None, visitor: Visitor, notice: str
) -> str:
    """The whole page.

    Args:
        info: What the caster says of itself.
        rows: From `rows_of`.
        example: A mountpoint to show how to connect to.
        host: The caster's name or address.
        port: Its port.
        tls_port: Its first port with TLS, or None.
        visitor: Who looks.
        notice: Words about what was asked for, or an empty text.
    """
    title = escape(info.identifier)
    operator = f"<p class=soft>{escape(info.operator)}" if info.operator else ""
    told = f"<p><strong>{escape(notice)}</strong>" if notice else ""
    return (
        f"<!DOCTYPE html><html lang=en><meta charset=utf-8><title>{title}</title>"
        "<meta name=viewport content='width=device-width'><link rel=icon href='data:,'>"
        f"<style>{_STYLE}</style><h1>{title}</h1>{operator}"
        "<p>This is an NTRIP caster: it sends corrections and observations of GNSS stations to receivers and programs."
        f"{told}{rows}{_how_to(example, host, port, tls_port)}{_about(visitor)}</html>\n"
    )


_NO_STREAMS: Final = "<p>No stream yet: a station makes its mountpoint by pushing to it."


def _row(record: Record) -> str:
    state = "offline" if _is_offline(record) else "online"
    login = {"N": "open", "B": "user and password"}.get(record["authentication"], record["authentication"])
    identifier = "" if record["identifier"] == record["mountpoint"] else record["identifier"]
    place = " ".join(filter(None, [identifier, record["country"]]))
    position = ", ".join(filter(None, [record["latitude"], record["longitude"]]))
    if record["nmea"] == "1":
        login += ", your position (GGA)"
    cells = (record["mountpoint"], place, None, login, record["nav_system"].replace("+", " "), position)
    texts = [f"<td class={state}>{state}" if cell is None else f"<td>{escape(cell)}" for cell in cells]
    messages = escape(record["format_details"].replace(",", ", "))
    return f"<tr>{''.join(texts)}<td class=messages>{messages}"


def _is_offline(record: Record) -> bool:
    return "offline" in record["misc"].split(";")


def _how_to(example: str, host: str, port: int, tls_port: int | None) -> str:
    where = f"{f'[{host}]' if ':' in host else host}:{port}"
    tls = f", or port {tls_port} with TLS" if tls_port is not None else ""
    lines = [
        "# RTKLIB",
        f"str2str -in ntrip://USER:PASSWORD@{where}/{example} -out corrections.rtcm3",
        "# gpsd",
        f"gpsd -N ntrip://USER:PASSWORD@{where}/{example} /dev/ttyACM0",
        "# the table of streams, and a stream to look at",
        f"curl -H 'Ntrip-Version: Ntrip/2.0' http://{where}/",
        f"curl -N -u USER:PASSWORD -H 'Ntrip-Version: Ntrip/2.0' http://{where}/{example}",
        "# a web page of yours",
        f"new WebSocket('ws://{where}/{example}?token=' + encodeURIComponent(btoa('USER:PASSWORD')))",
    ]
    return (
        "<h2>How to connect</h2><p>In a receiver or an app: NTRIP client, version 1 or 2, "
        f"host <b>{escape(host)}</b>, port <b>{port}</b>{tls}, and a mountpoint of the table. "
        "Open ones need no user and no password; capital and small letters differ."
        f"<pre>{escape(chr(10).join(lines))}</pre>"
    )


def _about(visitor: Visitor) -> str:
    minutes = visitor.window_s / 60
    limit = f"; {visitor.wrong_passwords_max} keep an address out for a while" if visitor.wrong_passwords_max else ""
    return (
        f"<h2>You</h2><p>You come from <b>{escape(visitor.address)}</b>. Wrong passwords from there in the last "
        f"{minutes:g} minutes: {visitor.wrong_passwords}{limit}."
    )
