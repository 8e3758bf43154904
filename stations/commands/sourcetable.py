"""`dipper sourcetable`: the table of a caster, readable."""

import asyncio
import shutil
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from caster.errors import DipperError, RefusedError, RemoteProtocolError
from stations.commands.addresses import wrong_usage

if TYPE_CHECKING:
    from caster.codec.ntrip import Record

__all__ = ["fetch_table", "sourcetable"]

_TIMEOUT_S = 20.0
_PLAIN = ";*|!()<>=~+,:/"  # of an expression: sent as they are, as other programs do
# Of the sourcetable's fields; the last one has no natural end, and a terminal cuts it off.
_COLUMNS = ("mountpoint", "identifier", "nav_system", "country", "latitude", "longitude", "authentication", "bitrate",
            "misc", "format_details")  # fmt: skip
_TITLES = {"nav_system": "systems", "authentication": "login", "bitrate": "bit/s", "misc": "note",
           "format_details": "messages"}  # fmt: skip
_LETTERS = {"GPS": "G", "GLO": "R", "GAL": "E", "BDS": "C", "QZS": "J", "SBAS": "S", "IRS": "I"}
_ABOUT = {
    "CAS": ("caster", ("identifier", "operator", "country", "host", "port", "misc")),
    "NET": ("network", ("identifier", "operator", "web_net", "web_str", "web_reg", "misc")),
}
_NOTHING = ("", "none", "0", "0.0.0.0")
_IDENTIFIER_MAX, _NOTE_MAX = 24, 30
_LOGINS = {"N": "none", "B": "basic", "D": "digest"}


def sourcetable(
    url: Annotated[str, typer.Argument(help="ntrip://[USER:PASSWORD@]HOST[:PORT], or ntrips://")],
    match: Annotated[str, typer.Option(help="Only rows whose fields equal these, as 'STR;;;;;;;;CHN'.")] = "",
    filter_: Annotated[str, typer.Option("--filter", help="Only rows that pass, as 'STR;;;;;;;;;>30'.")] = "",
    ntrip: Annotated[int, typer.Option(min=1, max=2, help="The protocol's version.")] = 2,
    raw: Annotated[bool, typer.Option("--raw", help="Print the records as they came.")] = False,
) -> None:
    """Print a caster's table of streams.

    Example: dipper sourcetable ntrip://localhost:2101 --match 'STR;;;;;;;;CHN'
    """
    from caster.codec.ntrip import parse_query

    query = "&".join(
        f"{name}={quote(value, _PLAIN)}" for name, value in (("match", match), ("filter", filter_)) if value
    )
    try:
        parse_query(f"{query}&strict" if query else "")
    except RemoteProtocolError as error:
        raise typer.BadParameter(str(error), param_hint="--match, --filter") from None
    records = asyncio.run(fetch_table(url, query if ntrip == 2 else "", ntrip))
    # Many casters pass over the question; asking again here changes nothing where they did not.
    chosen = parse_query(query).select(records)
    if raw:
        typer.echo("\n".join(record.line() for record in chosen))
    else:
        _print(chosen)


async def fetch_table(url: str, query: str = "", version: int = 2) -> "list[Record]":
    """Ask a caster for its table.

    Raises:
        BadParameter: The URL is none.
        DipperError: The caster cannot be reached.
        RefusedError: The caster refuses.
    """
    from caster.codec.ntrip import Refused, ReplyReader, TableReceived, get_request
    from stations.uplink import connect, parse_target

    with wrong_usage():
        target = parse_target(url)
    host, port = target.host, target.port
    question, login = f"?{query}" if query else "", target.credentials
    request = get_request(question, f"{host}:{port}", version=version, credentials=login)
    reply = ReplyReader()
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await connect(host, port, tls=target.tls)
            try:
                writer.write(request)
                while True:
                    data = await reader.read(65536)
                    for event in reply.receive_data(data) if data else reply.receive_eof():
                        if isinstance(event, TableReceived):
                            return list(event.records)
                        reason = event.reason if isinstance(event, Refused) else "it sends no table"
                        raise RefusedError(f"{host}:{port}: {reason}")
                    if not data:
                        raise DipperError(f"{host}:{port}: closed before the table was whole")
            finally:
                writer.close()
    except (OSError, TimeoutError) as error:
        raise DipperError(f"{host}:{port}: {error or 'no answer'}") from None


def _print(records: "Iterable[Record]") -> None:
    rows = [[_TITLES.get(name, name) for name in _COLUMNS]]
    for record in records:
        if record.kind == "STR":
            rows.append([_shown(record, name) for name in _COLUMNS])
        else:
            typer.echo(_about(record))
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    room = shutil.get_terminal_size().columns if sys.stdout.isatty() else None
    for row in rows if len(rows) > 1 else ():
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True) if width).rstrip()
        typer.echo(line if room is None or len(line) <= room else f"{line[: room - 1]}…")
    if len(rows) == 1:
        typer.echo("no streams")


def _shown(record: "Record", name: str) -> str:
    text = _printable(record[name])
    match name:
        case "authentication":
            return _LOGINS.get(text, text)
        case "misc":
            return "" if text.lower() == "none" else text[:_NOTE_MAX]
        case "identifier":
            return text[:_IDENTIFIER_MAX]
        case "nav_system":  # RINEX's letters: a word for each would be wider than all the rest
            return "".join(_LETTERS.get(system.strip().upper(), f" {system} ") for system in text.split("+")).strip()
    return text


def _about(record: "Record") -> str:
    """What a caster says of itself and of its networks."""
    kind, names = _ABOUT.get(record.kind, (record.kind, ()))
    told = [record[name] for name in names] if names else record.fields
    return f"{kind:8} " + "  ".join(_printable(field) for field in told if field not in _NOTHING)


def _printable(text: str) -> str:
    """Text of another caster for a terminal, which must take no command from it."""
    return "".join(character if character.isprintable() else "?" for character in text)
