"""People and base stations: who may read or feed which mountpoint, in the database.

The `dipper account` commands and the running service work on the same database; `caster.logins` answers logins.

Parameters of argon2id: OWASP Password Storage Cheat Sheet (19 MiB, 2 iterations, 1 lane).
"""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from caster.database import Database
from caster.errors import DipperError
from caster.schema import ACCOUNTS, CHANGES, GROUPS

__all__ = ["ROLES", "Account", "AccountStore", "Group", "GroupStore", "hash_password", "verify_password"]

ROLES = ("rover", "station", "operator")
_QUERY = (
    select(
        *(column for column in ACCOUNTS.columns if column.name != "group_name"),
        *(column.label(f"group_{column.name}") for column in GROUPS.columns),
    )
    .select_from(ACCOUNTS.outerjoin(GROUPS, ACCOUNTS.c.group_name == GROUPS.c.name))
    .order_by(ACCOUNTS.c.name)
)
_CHANGED = "accounts"
_NAMES_AT_ONCE = 200  # a few milliseconds of the event loop
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


@dataclass(frozen=True, slots=True)
class Group:
    """Accounts that share quotas; 0 is no limit.

    Attributes:
        name: Unique.
        max_sessions: Most sessions of all members at a time.
        day_bytes: Most bytes, both ways, of all members in a day (UTC).
        month_bytes: The same in a calendar month.
    """

    name: str
    max_sessions: int = 0
    day_bytes: int = 0
    month_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Account:
    """A person or a base station.

    Attributes:
        name: Unique; without a colon, which Basic authentication could not carry.
        role: `rover` reads, `station` feeds and reads, `operator` does all.
        password_hash: argon2id, in its own notation.
        mounts: Patterns of mountpoints' names (`*`, `?`, `[...]`), separated by commas.
        max_sessions: Most sessions at a time; 0 for no limit.
        expires: The account ends then (UTC), or None.
        disabled: The account may do nothing for now.
        created: UTC.
        group: Whose quotas it shares, or None.
    """

    name: str
    role: str
    password_hash: str
    mounts: str = "*"
    max_sessions: int = 0
    expires: datetime | None = None
    disabled: bool = False
    created: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    group: Group | None = None

    def covers(self, mount: str) -> bool:
        """One of the account's patterns matches the mountpoint's name."""
        return self.role == "operator" or any(fnmatchcase(mount, pattern) for pattern in self._patterns())

    def may_feed(self, mount: str) -> bool:
        """It may be the base station of the mountpoint."""
        return self.role in ("station", "operator") and self.covers(mount)

    def why_closed(self, now: datetime) -> str:
        """Why the account may do nothing; empty where it may."""
        if self.disabled:
            return f"the account {self.name} is disabled"
        if self.expires is not None and now >= self.expires:
            return f"the account {self.name} expired on {self.expires:%Y-%m-%d}"
        return ""

    def narrowness(self, mount: str) -> int:
        """How closely the account's patterns name a mountpoint: literal characters, a whole name above all."""
        matching = [pattern for pattern in self._patterns() if fnmatchcase(mount, pattern)]
        return max((1000 if p == mount else len(p.strip("*?")) for p in matching), default=0)

    def _patterns(self) -> list[str]:
        return [pattern.strip() for pattern in self.mounts.split(",")]


def hash_password(password: str) -> str:
    """The argon2id hash of a new password; takes some 20 ms of one core."""
    return _HASHER.hash(password)


def verify_password(password_hash: str, password: str) -> bool:
    """Whether the hash is that of the password; takes as long."""
    try:
        return _HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


class AccountStore:
    """The accounts in the database.

    Args:
        database: Opened by its owner.

    Attributes:
        errors: What every method may raise where the database is away.
    """

    def __init__(self, database: Database) -> None:
        self.errors = database.errors
        self._database = database

    async def add(self, account: Account) -> None:
        """Keep a new account.

        Raises:
            DipperError: The name is taken.
        """
        try:
            async with self._database.begin() as connection:
                await connection.execute(ACCOUNTS.insert().values(**_row(account)))
        except IntegrityError:
            raise DipperError(f"there is an account {account.name} already") from None

    async def all(self) -> list[Account]:
        """All accounts, by name."""
        return await self._select(_QUERY)

    async def get(self, name: str) -> Account | None:
        """One account, or None."""
        return next(iter(await self._select(_QUERY.where(ACCOUNTS.c.name == name))), None)

    async def stations(self) -> list[Account]:
        """The accounts that may feed mountpoints."""
        return await self._select(_QUERY.where(ACCOUNTS.c.role.in_(("station", "operator"))))

    async def has_role(self, role: str) -> bool:
        """There is an account with a role."""
        return bool(await self._select(_QUERY.where(ACCOUNTS.c.role == role).limit(1)))

    async def change(self, name: str, **values: object) -> None:
        """Change columns of an account.

        Raises:
            DipperError: There is no such account.
        """
        async with self._database.begin() as connection:
            result = await connection.execute(ACCOUNTS.update().where(ACCOUNTS.c.name == name).values(**values))
            await _tell_change(self._database, connection)
        _require(result.rowcount, name)

    async def some(self, names: Collection[str]) -> dict[str, Account]:
        """The accounts of some names, as far as there are any."""
        wanted, found = list(names), list[Account]()
        for start in range(0, len(wanted), _NAMES_AT_ONCE):
            query = _QUERY.where(ACCOUNTS.c.name.in_(wanted[start : start + _NAMES_AT_ONCE]))
            found += await self._select(query)
        return {account.name: account for account in found}

    async def changes(self) -> int:
        """How often accounts or groups were changed or removed so far."""
        async with self._database.connect() as connection:
            count = await connection.scalar(select(CHANGES.c.count).where(CHANGES.c.name == _CHANGED))
        return count or 0

    async def _select(self, query: Any) -> list[Account]:
        async with self._database.connect() as connection:
            return [_account(row._mapping) for row in await connection.execute(query)]

    async def remove(self, name: str) -> None:
        """Remove an account.

        Raises:
            DipperError: There is no such account.
        """
        async with self._database.begin() as connection:
            result = await connection.execute(ACCOUNTS.delete().where(ACCOUNTS.c.name == name))
            await _tell_change(self._database, connection)
        _require(result.rowcount, name)


class GroupStore:
    """The groups in the database.

    Args:
        database: Opened by its owner.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, group: Group) -> None:
        """Keep a group; one with the same name is changed."""
        values = {name: getattr(group, name) for name in GROUPS.columns.keys()}
        async with self._database.begin() as connection:
            await connection.execute(self._database.replace(GROUPS), values)
            await _tell_change(self._database, connection)

    async def all(self) -> list[Group]:
        """All groups, by name."""
        async with self._database.connect() as connection:
            return [Group(**row._mapping) for row in await connection.execute(select(GROUPS).order_by(GROUPS.c.name))]

    async def get(self, name: str) -> Group:
        """One group.

        Raises:
            DipperError: There is no such group.
        """
        async with self._database.connect() as connection:
            row = (await connection.execute(select(GROUPS).where(GROUPS.c.name == name))).first()
        if row is None:
            raise DipperError(f"there is no group {name}")
        return Group(**row._mapping)

    async def remove(self, name: str) -> None:
        """Remove a group; its members stay, without quotas.

        Raises:
            DipperError: There is no such group.
        """
        async with self._database.begin() as connection:
            await connection.execute(ACCOUNTS.update().where(ACCOUNTS.c.group_name == name).values(group_name=None))
            result = await connection.execute(GROUPS.delete().where(GROUPS.c.name == name))
            await _tell_change(self._database, connection)
        if not result.rowcount:
            raise DipperError(f"there is no group {name}")


async def _tell_change(database: Database, connection: AsyncConnection) -> None:
    """Count a change, in its own transaction, for the services that have read what it changed."""
    await connection.execute(database.add_up(CHANGES, ("count",)), {"name": _CHANGED, "count": 1})


def _require(rowcount: int, name: str) -> None:
    if not rowcount:
        raise DipperError(f"there is no account {name}")


def _row(account: Account) -> dict[str, object]:
    values = {name: getattr(account, name) for name in ACCOUNTS.columns.keys() if name != "group_name"}
    return {**values, "group_name": account.group.name if account.group else None}


def _account(row: Any) -> Account:
    values = dict(row)
    group = Group(*(values.pop(f"group_{column.name}") for column in GROUPS.columns))
    return Account(**values, group=group if group.name else None)
