"""`dipper token`: who may use the administration interface."""

import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from stations.commands.account import checked_name, last_moment
from stations.commands.database import ConfigFile, DataDir, with_database

if TYPE_CHECKING:
    from caster.database import Database
    from caster.tokens import TokenStore

__all__ = ["app"]

app = typer.Typer(
    help="Tokens of the administration interface.",
    no_args_is_help=True,
    epilog="Example: dipper token add dashboard --read-only",
)

Name = Annotated[str, typer.Argument(help="The token's name, for you.")]


@app.command()
def add(
    name: Name,
    read_only: Annotated[bool, typer.Option("--read-only", help="It may look and change nothing.")] = False,
    expires: Annotated[str, typer.Option(help="Last day (UTC), as 2027-01-31.")] = "",
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Make a token and print it, once.

    Example: dipper token add dashboard --read-only
    """
    checked_name(name)
    end, now = last_moment(expires), datetime.now(UTC)
    text = with_database(data_dir, config, lambda database: _store(database).add(name, now, end, read_only=read_only))
    typer.echo(text)


@app.command(name="list")
def list_tokens(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """List all tokens, by name; what they are is not kept.

    Example: dipper token list
    """
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "may", "created (UTC)", "expires", box=None)
    for token in with_database(data_dir, config, lambda database: _store(database).all()):
        expires = f"{token.expires:%Y-%m-%d}" if token.expires else ""
        table.add_row(token.name, "read" if token.read_only else "change", f"{token.created:%Y-%m-%d %H:%M}", expires)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@app.command()
def remove(name: Name, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Remove a token; it is refused from now on.

    Example: dipper token remove dashboard
    """
    with_database(data_dir, config, lambda database: _store(database).remove(name))
    typer.echo(f"removed token {name}")


def _store(database: "Database") -> "TokenStore":
    from caster.tokens import TokenStore

    return TokenStore(database)
