"""`dipper account`: people and base stations, and what they may do."""

import secrets
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from caster.errors import DipperError
from stations.commands.database import ConfigFile, DataDir, with_database

if TYPE_CHECKING:
    from rich.table import Table

    from caster.accounts import AccountStore, Group
    from caster.database import Database

__all__ = ["COUNT_MAX", "app", "checked_name", "last_moment"]

app = typer.Typer(
    help="People and base stations, and what they may do.",
    no_args_is_help=True,
    epilog="Example: dipper account add base1 --role station --mounts 'BASE1*'",
)

COUNT_MAX = 2**31 - 1
"""Of sessions, as in the administration interface: PostgreSQL's integers."""

_T = TypeVar("_T")

Name = Annotated[str, typer.Argument(help="The account's name; without a colon.")]
PasswordStdin = Annotated[bool, typer.Option("--password-stdin", help="Read the password from standard input.")]


@app.command()
def add(
    name: Name,
    role: Annotated[str, typer.Option(help="rover, station or operator.")] = "rover",
    mounts: Annotated[str, typer.Option(help="Patterns of mountpoints, separated by commas.")] = "*",
    max_sessions: Annotated[int, typer.Option(min=0, max=COUNT_MAX, help="Most sessions at a time; 0: no limit.")] = 0,
    expires: Annotated[str, typer.Option(help="Last day (UTC), as 2027-01-31.")] = "",
    group: Annotated[str, typer.Option(help="Group whose quotas it shares.")] = "",
    password_stdin: PasswordStdin = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Add an account; without --password-stdin a password is made up and printed once.

    Example: dipper account add base1 --role station --mounts 'BASE1*'
    """
    from caster.accounts import Account, AccountStore, hash_password

    password = _read_password(password_stdin)
    account = Account(
        checked_name(name), _checked_role(role), hash_password(password), mounts, max_sessions, last_moment(expires),
        created=datetime.now(UTC),
    )  # fmt: skip

    async def work(database: "Database") -> None:
        await AccountStore(database).add(replace(account, group=await _group(database, group)))

    with_database(data_dir, config, work)
    typer.echo(f"added {role} {name}" + ("" if password_stdin else f", password {password}"))


@app.command(name="list")
def list_accounts(data_dir: DataDir = None, config: ConfigFile = None) -> None:
    """List all accounts.

    Example: dipper account list
    """
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "role", "mounts", "max sessions", "expires", "group", "state", box=None)
    now = datetime.now(UTC)
    for account in _with_store(data_dir, config, lambda store: store.all()):
        state = "disabled" if account.disabled else "expired" if account.why_closed(now) else "active"
        limit = str(account.max_sessions or "")
        expires = f"{account.expires:%Y-%m-%d}" if account.expires else ""
        group = account.group.name if account.group else ""
        table.add_row(account.name, account.role, account.mounts, limit, expires, group, state)
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
def change(
    name: Name,
    mounts: Annotated[str | None, typer.Option(help="Patterns of mountpoints, separated by commas.")] = None,
    max_sessions: Annotated[
        int | None, typer.Option(min=0, max=COUNT_MAX, help="Most sessions at a time; 0: no limit.")
    ] = None,
    expires: Annotated[str | None, typer.Option(help="Last day (UTC), as 2027-01-31; empty: none.")] = None,
    group: Annotated[str | None, typer.Option(help="Group whose quotas it shares; empty: none.")] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Change what an account may do; what is not given stays as it is.

    Example: dipper account change rover7 --group surveyors --expires 2027-12-31
    """
    from caster.accounts import AccountStore

    given: dict[str, object] = {"mounts": mounts, "max_sessions": max_sessions}
    values = {key: value for key, value in given.items() if value is not None}
    if expires is not None:
        values["expires"] = last_moment(expires)

    async def work(database: "Database") -> None:
        if group is not None:
            found = await _group(database, group)
            values["group_name"] = found.name if found else None
        if not values:
            raise DipperError("nothing to change was given")
        await AccountStore(database).change(name, **values)

    with_database(data_dir, config, work)
    typer.echo(f"changed {name}")


@app.command()
def usage(
    name: Annotated[str, typer.Argument(help="Only this account.")] = "",
    by: Annotated[str, typer.Option(help="day, month, account or session.")] = "month",
    since: Annotated[datetime | None, typer.Option("--from", formats=["%Y-%m-%d"], help="First day (UTC).")] = None,
    until: Annotated[datetime | None, typer.Option("--to", formats=["%Y-%m-%d"], help="Last day (UTC).")] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Show what accounts have used; a running service writes every few minutes.

    Example: dipper account usage rover7 --by day --from 2026-05-01
    """
    from rich.console import Console

    from caster.usage import UsageStore
    from stations.usage import BY_DAYS, session_table, sum_table

    if by not in (*BY_DAYS, "session"):
        raise typer.BadParameter(f"--by is day, month, account or session, not {by!r}")

    async def work(database: "Database") -> "Table":
        store = UsageStore(database)
        if by == "session":
            return session_table(await store.sessions(name), since, until)
        days = (moment.date() if moment else None for moment in (since, until))
        return sum_table(await store.days(name, *days), by)

    Console(width=None if sys.stdout.isatty() else 300).print(with_database(data_dir, config, work))


@app.command()
def disable(
    name: Name,
    undo: Annotated[bool, typer.Option("--undo", help="Let the account in again.")] = False,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Keep an account but let it in no more; a running service ends its sessions within seconds.

    Example: dipper account disable base1
    """
    _with_store(data_dir, config, lambda store: store.change(name, disabled=not undo))
    typer.echo(f"{'enabled' if undo else 'disabled'} {name}")


def _with_store(data_dir: Path | None, config: Path | None, work: "Callable[[AccountStore], Awaitable[_T]]") -> _T:
    from caster.accounts import AccountStore

    return with_database(data_dir, config, lambda database: work(AccountStore(database)))


async def _group(database: "Database", name: str) -> "Group | None":
    from caster.accounts import GroupStore

    return await GroupStore(database).get(name) if name else None


def _read_password(from_stdin: bool) -> str:
    if not from_stdin:
        return secrets.token_urlsafe(12)
    password = sys.stdin.readline().rstrip("\r\n")
    if not password:
        raise DipperError("no password came on standard input")
    return password


def checked_name(name: str) -> str:
    """The name of an account, a group or a token.

    Raises:
        BadParameter: It is none.
    """
    if not 1 <= len(name) <= 100 or ":" in name or not name.isprintable():
        raise typer.BadParameter("a name has 1 to 100 printable characters and no colon")
    return name


def _checked_role(role: str) -> str:
    from caster.accounts import ROLES

    if role not in ROLES:
        raise typer.BadParameter(f"--role is one of {', '.join(ROLES)}, not {role!r}")
    return role


def last_moment(day: str) -> datetime | None:
    """The end of the last day of an account."""
    if not day:
        return None
    try:
        return datetime.strptime(day, "%Y-%m-%d").replace(hour=23, minute=59, second=59, tzinfo=UTC)
    except ValueError:
        raise typer.BadParameter(f"--expires is a day such as 2027-01-31, not {day!r}") from None
