"""`dipper account`: people and base stations, and what they may do."""

import secrets
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from caster.errors import DipperError
from stations.commands.database import ConfigFile, DataDir, with_database

if TYPE_CHECKING:
    from caster.accounts import AccountStore

__all__ = ["app"]

app = typer.Typer(help="People and base stations, and what they may do.", no_args_is_help=True)

_T = TypeVar("_T")

Name = Annotated[str, typer.Argument(help="The account's name; without a colon.")]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


@app.command()
def add(
    name: Name,
    role: Annotated[str, typer.Option(help="rover, station or operator.")] = "rover",
    mounts: Annotated[str, typer.Option(help="Patterns of mountpoints, separated by commas.")] = "*",
    max_sessions: Annotated[int, typer.Option(min=0, help="Most sessions at a time; 0: no limit.")] = 0,
    expires: Annotated[str, typer.Option(help="Last day (UTC), as 2027-01-31.")] = "",
    password_stdin: PasswordStdin = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Add an account; without --password-stdin a password is made up and printed once.

    Example: dipper account add base1 --role station --mounts 'BASE1*'
    """
    from caster.accounts import Account, hash_password

    password = _read_password(password_stdin)
    account = Account(
        _checked_name(name), _checked_role(role), hash_password(password), mounts, max_sessions, _last_moment(expires),
        created=datetime.now(UTC),
    )  # fmt: skip
    _with_store(data_dir, config, lambda store: store.add(account))
    typer.echo(f"added {role} {name}" + ("" if password_stdin else f", password {password}"))


@app.command(name="list")
def list_accounts(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """List all accounts.

    Example: dipper account list
    """
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "role", "mounts", "max sessions", "expires", "state", box=None)
    now = datetime.now(UTC)
    for account in _with_store(data_dir, config, lambda store: store.all()):
        state = "disabled" if account.disabled else "expired" if account.why_closed(now) else "active"
        limit = str(account.max_sessions or "")
        expires = f"{account.expires:%Y-%m-%d}" if account.expires else ""
        table.add_row(account.name, account.role, account.mounts, limit, expires, state)
    Console(width=None if sys.stdout.isatty() else 200).print(table)


@app.command()
def remove(name: Name, data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """Remove an account.

    Example: dipper account remove base1
    """
    _with_store(data_dir, config, lambda store: store.remove(name))
    typer.echo(f"removed {name}")


@app.command()
def passwd(
    name: Name, password_stdin: PasswordStdin = False, data_dir: DataDir = None, config: ConfigFile = None
) -> None:
    """Give an account a new password; the old one is refused from now on.

    Example: dipper account passwd base1
    """
    from caster.accounts import hash_password

    password = _read_password(password_stdin)
    hashed = hash_password(password)
    _with_store(data_dir, config, lambda store: store.change(name, password_hash=hashed))
    typer.echo(f"changed {name}" + ("" if password_stdin else f", password {password}"))


@app.command()
def disable(
    name: Name,
    undo: Annotated[bool, typer.Option("--undo", help="Let the account in again.")] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Keep an account but let it in no more; sessions that are open go on.

    Example: dipper account disable base1
    """
    _with_store(data_dir, config, lambda store: store.change(name, disabled=not undo))
    typer.echo(f"{'enabled' if undo else 'disabled'} {name}")


def _with_store(data_dir: Path | None, config: Path | None, work: "Callable[[AccountStore], Awaitable[_T]]") -> _T:
    from caster.accounts import AccountStore

    return with_database(data_dir, config, lambda database: work(AccountStore(database)))


def _read_password(from_stdin: bool) -> str:
    if not from_stdin:
        return secrets.token_urlsafe(12)
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise DipperError("no password came on standard input")
    return password


def _checked_name(name: str) -> str:
    if not 1 <= len(name) <= 100 or ":" in name or not name.isprintable():
        raise typer.BadParameter("a name has 1 to 100 printable characters and no colon")
    return name


def _checked_role(role: str) -> str:
    from caster.accounts import ROLES

    if role not in ROLES:
        raise typer.BadParameter(f"--role is one of {', '.join(ROLES)}, not {role!r}")
    return role


def _last_moment(day: str) -> datetime | None:
    """The end of the last day of an account."""
    if not day:
        return None
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(hour=23, minute=59, second=59, tzinfo=UTC)
    except ValueError:
        raise typer.BadParameter(f"--expires is a day such as 2027-01-31, not {day!r}") from None
