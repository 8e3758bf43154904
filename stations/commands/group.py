"""`dipper group`: accounts that share quotas."""

import re
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from stations.commands.account import COUNT_MAX, checked_name
from stations.commands.database import ConfigFile, DataDir, with_database

if TYPE_CHECKING:
    from caster.accounts import GroupStore
    from caster.database import Database

__all__ = ["app", "byte_text"]

app = typer.Typer(
    help="Groups of accounts that share quotas.",
    no_args_is_help=True,
    epilog="Example: dipper group put surveyors --max-sessions 20 --day 2GB --month 50GB",
)

_UNITS = ("B", "kB", "MB", "GB", "TB")
_BYTES = re.compile(r"(\d{1,15})\s*(k|M|G|T)?B?")

Name = Annotated[str, typer.Argument(help="The group's name.")]


@app.command()
def put(
    name: Name,
    max_sessions: Annotated[
        int, typer.Option(min=0, max=COUNT_MAX, help="Most sessions of all members; 0: no limit.")
    ] = 0,
    day: Annotated[str, typer.Option(help="Most bytes of all members in a day (UTC), as 500MB; 0: no limit.")] = "0",
    month: Annotated[str, typer.Option(help="Most bytes of all members in a month, as 20GB; 0: no limit.")] = "0",
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Add a group, or give it other quotas; they count at once.

    Example: dipper group put surveyors --max-sessions 20 --month 50GB
    """
    from caster.accounts import Group

    group = Group(checked_name(name), max_sessions, _bytes(day, "--day"), _bytes(month, "--month"))
    with_database(data_dir, config, lambda database: _store(database).put(group))
    typer.echo(f"group {name}: {_limits(group.max_sessions, group.day_bytes, group.month_bytes)}")


@app.command(name="list")
def list_groups(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """List all groups.

    Example: dipper group list
    """
    from rich.console import Console
    from rich.table import Table

    table = Table("group", "max sessions", "a day", "a month", box=None)
    for group in with_database(data_dir, config, lambda database: _store(database).all()):
        quotas = (byte_text(count) if count else "" for count in (group.day_bytes, group.month_bytes))
        table.add_row(group.name, str(group.max_sessions or ""), *quotas)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@app.command()
def remove(name: Name, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Remove a group; its members stay, without quotas.

    Example: dipper group remove surveyors
    """
    with_database(data_dir, config, lambda database: _store(database).remove(name))
    typer.echo(f"removed group {name}")


def byte_text(count: int) -> str:
    """A number of bytes for people: `1.5 GB`."""
    power = min(max(len(str(abs(count))) - 1, 0) // 3, len(_UNITS) - 1)
    return f"{count / 1000**power:.4g} {_UNITS[power]}"


def _store(database: "Database") -> "GroupStore":
    from caster.accounts import GroupStore

    return GroupStore(database)


def _limits(sessions: int, day_bytes: int, month_bytes: int) -> str:
    parts = [
        f"{sessions} sessions" if sessions else "",
        f"{byte_text(day_bytes)} a day" if day_bytes else "",
        f"{byte_text(month_bytes)} a month" if month_bytes else "",
    ]
    return ", ".join(filter(None, parts)) or "no limits"


def _bytes(text: str, option: str) -> int:
    match = _BYTES.fullmatch(text.strip())
    if match is None:
        raise typer.BadParameter(f"{option} is a number of bytes such as 500MB or 20GB, not {text!r}")
    power = _UNITS.index(f"{match[2] or ''}B")
    return int(match[1]) * int(1000**power)
