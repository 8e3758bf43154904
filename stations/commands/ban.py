"""`dipper ban`: who is kept out of the service."""

import re
import sys
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import TYPE_CHECKING, Annotated

import typer

from stations.commands.addresses import wrong_usage
from stations.commands.database import ConfigFile, DataDir, with_database

if TYPE_CHECKING:
    from caster.bans import BanStore
    from caster.database import Database

__all__ = ["app"]

app = typer.Typer(
    help="Who is kept out; a running service follows within seconds.",
    no_args_is_help=True,
    epilog="Example: dipper ban add 198.51.100.0/24 --for 7d --reason 'write to ops@example.org'",
)

_UNIT_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN_MAX = timedelta(days=36_525)  # a century; calendars end
_SPAN = re.compile(r"(\d{1,7})([smhd])")

Network = Annotated[str, typer.Argument(help="An address (IPv6: its /64), or a network such as 192.0.2.0/24.")]


@app.command(name="list")
def list_bans(
    everything: Annotated[bool, typer.Option("--all", help="Bans that have ended, too.")] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """List who is kept out, since when, until when and why.

    Example: dipper ban list
    """
    from rich.console import Console
    from rich.table import Table

    now = datetime.now(UTC)
    table = Table("network", "by", "since (UTC)", "until (UTC)", "reason", box=None)
    for ban in with_database(data_dir, config, lambda database: _store(database).all()):
        if everything or ban.is_in_force(now):
            by = "service" if ban.automatic else "operator"
            until = f"{ban.until:%Y-%m-%d %H:%M:%S}" if ban.until else "for good"
            table.add_row(ban.network, by, f"{ban.created:%Y-%m-%d %H:%M:%S}", until, ban.reason)
    Console(width=None if sys.stdout.isatty() else 300).print(table)


@app.command()
def add(
    network: Network,
    reason: Annotated[str, typer.Option(help="What the client is told.")] = "by the operator",
    span: Annotated[str, typer.Option("--for", help="For so long, as 30m, 12h or 7d; for good where not given.")] = "",
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Keep a network out and end its sessions; trusted networks of the configuration stay in.

    Example: dipper ban add 192.0.2.7 --for 7d --reason 'sends 10 Hz NMEA; write to ops@example.org'
    """
    from caster.bans import Ban, network_of
    from caster.config import load_config

    now = datetime.now(UTC)
    with wrong_usage():
        name = network_of(network)
    ban = Ban(name, reason[:200], now, now + _span(span) if span else None)
    with_database(data_dir, config, lambda database: _store(database).put(ban))
    typer.echo(str(ban))
    listen = load_config(config, data_dir=data_dir).listen
    for key, networks in (("trusted", listen.trusted), ("proxies", listen.proxies)):
        for exempt in networks:
            if exempt.overlaps(ip_network(name)):
                typer.echo(f"note: listen.{key} names {exempt}, which is let in all the same")


@app.command()
def remove(network: Network, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Lift a ban.

    Example: dipper ban remove 192.0.2.7
    """
    from caster.bans import network_of

    with wrong_usage():
        name = network_of(network)
    with_database(data_dir, config, lambda database: _store(database).remove(name))
    typer.echo(f"lifted the ban on {name}")


def _store(database: "Database") -> "BanStore":
    from caster.bans import BanStore

    return BanStore(database)


def _span(text: str) -> timedelta:
    match = _SPAN.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"--for is a time such as 30m, 12h or 7d, not {text!r}")
    span = timedelta(seconds=int(match[1]) * _UNIT_S[match[2]])
    if span > _SPAN_MAX:
        raise typer.BadParameter(f"--for {text} is longer than {_SPAN_MAX.days} days: without --for a ban has no end")
    return span
