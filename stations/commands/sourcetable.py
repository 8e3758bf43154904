"""`dipper sourcetable`: the table of a caster, readable."""

import asyncio
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from caster.errors import DipperError, RefusedError

if TYPE_CHECKING:
    from caster.codec.ntrip import Record

__all__ = ["fetch_table", "sourcetable"]

_TIMEOUT_S = 20.0
_COLUMNS = ("mountpoint", "identifier", "format", "format_details", "nav_system", "country", "latitude", "longitude",
            "authentication", "bitrate", "misc")  # fmt: skip


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

    query = "&".join(f"{name}={value}" for name, value in (("match", match), ("filter", filter_)) if value)
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
        DipperError: The URL is none, or the caster cannot be reached.
        RefusedError: The caster refuses.
    """
    from caster.codec.ntrip import Refused, ReplyReader, TableReceived, get_request
    from stations.uplink import connect, parse_target

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
    from rich.console import Console
    from rich.table import Table

    console = Console(width=None if sys.stdout.isatty() else 240)
    table = Table(*(name.replace("_", " ") for name in _COLUMNS), box=None)
    for record in records:
        if record.kind == "STR":
            table.add_row(*(record[name] for name in _COLUMNS))
        else:
            console.print(" ".join(field for field in record.fields if field), markup=False)
    console.print(table)
