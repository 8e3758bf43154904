"""People and base stations: who may read or feed which mountpoint.

`AccountStore` keeps accounts in a database (SQLAlchemy 2, asynchronous; SQLite by default, any other by URL); the
`dipper account` commands and the running service work on the same database. `Authenticator` answers logins:

* Passwords are argon2 hashes, verified in two threads, never in the event loop.
* A password that was verified is remembered by a fast salted hash, in memory, bounded and for a limited time, so that a
  storm of reconnections costs nothing; so is one that was wrong, for a short time. A new password counts at once, since
  what is remembered names the argon2 hash that it was verified with.
* What the database says of an account is believed for `refresh_s`.
* An unknown name costs the same time as a wrong password.
* A version 1 base station sends a password alone. It is compared with the station accounts whose pattern covers the
  mountpoint, the narrowest pattern first, at most `source_candidates` of them.

Parameters of argon2id: OWASP Password Storage Cheat Sheet (19 MiB, 2 iterations, 1 lane).
"""

import asyncio
import hashlib
import secrets
import sqlite3
from collections import Counter, OrderedDict
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import partial
from typing import Any, TypeVar

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from sqlalchemy import Boolean, Column, DateTime, Integer, MetaData, String, Table, event, select
from sqlalchemy.exc import IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from caster.codec.ntrip import Credentials
from caster.config import AccountsConfig
from caster.errors import ConfigError, DipperError, RefusedError

__all__ = ["ROLES", "Account", "AccountStore", "Authenticator", "hash_password"]

ROLES = ("rover", "station", "operator")
PASSWORD_MAX = 256
_T = TypeVar("_T")
_WRONG_S = 10.0  # how long a wrong password is remembered
_ANSWER_S = 5.0  # how long the end of the service waits for the database

_METADATA = MetaData()
_ACCOUNTS = Table(
    "accounts",
    _METADATA,
    Column("name", String(100), primary_key=True),
    Column("role", String(20), nullable=False),
    Column("password_hash", String(200), nullable=False),
    Column("mounts", String(1000), nullable=False),
    Column("max_sessions", Integer, nullable=False),
    Column("expires", DateTime(timezone=True)),
    Column("disabled", Boolean, nullable=False),
    Column("created", DateTime(timezone=True), nullable=False),
)
_HASHER = PasswordHasher(time_cost=2, memory_cost=19_456, parallelism=1)


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
    """

    name: str
    role: str
    password_hash: str
    mounts: str = "*"
    max_sessions: int = 0
    expires: datetime | None = None
    disabled: bool = False
    created: datetime = datetime(2026, 1, 1, tzinfo=UTC)

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


def _verify(password_hash: str, password: str) -> bool:
    try:
        return _HASHER.verify(password_hash, password)
    except (VerificationError, InvalidHashError):
        return False


class AccountStore:
    """The database of accounts.

    Args:
        url: SQLAlchemy's URL of the database, with an asynchronous driver.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        try:
            self._engine: AsyncEngine = create_async_engine(url, connect_args=_connect_args(url))
        except (SQLAlchemyError, ModuleNotFoundError, ValueError) as error:
            raise ConfigError(f"accounts.url: {error}") from None
        if url.startswith("sqlite"):
            event.listen(self._engine.sync_engine, "connect", _share_sqlite)

    async def open(self) -> None:
        """Make the tables where they are missing.

        Raises:
            ConfigError: The database cannot be opened.
        """
        try:
            if self._url.startswith("sqlite"):
                self._try_file()
            async with self._engine.begin() as connection:
                await connection.run_sync(_METADATA.create_all)
        except (SQLAlchemyError, OSError, sqlite3.Error) as error:
            raise ConfigError(f"the account database {self._url}: {error}") from None

    def _try_file(self) -> None:
        """Open the file once without aiosqlite, whose thread outlives a failure and then trips over the closed loop."""
        arguments: tuple[Any, Any] = self._engine.dialect.create_connect_args(self._engine.url)
        sqlite3.connect(*arguments[0], **arguments[1]).close()

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    async def add(self, account: Account) -> None:
        """Keep a new account.

        Raises:
            DipperError: The name is taken.
        """
        try:
            async with self._engine.begin() as connection:
                await connection.execute(_ACCOUNTS.insert().values(**_row(account)))
        except IntegrityError:
            raise DipperError(f"there is an account {account.name} already") from None

    async def all(self) -> list[Account]:
        """All accounts, by name."""
        async with self._engine.connect() as connection:
            rows = await connection.execute(select(_ACCOUNTS).order_by(_ACCOUNTS.c.name))
            return [_account(row._mapping) for row in rows]

    async def get(self, name: str) -> Account | None:
        """One account, or None."""
        async with self._engine.connect() as connection:
            row = (await connection.execute(select(_ACCOUNTS).where(_ACCOUNTS.c.name == name))).first()
            return _account(row._mapping) if row else None

    async def stations(self) -> list[Account]:
        """The accounts that may feed mountpoints."""
        query = select(_ACCOUNTS).where(_ACCOUNTS.c.role.in_(("station", "operator"))).order_by(_ACCOUNTS.c.name)
        async with self._engine.connect() as connection:
            return [_account(row._mapping) for row in await connection.execute(query)]

    async def change(self, name: str, **values: object) -> None:
        """Change columns of an account.

        Raises:
            DipperError: There is no such account.
        """
        async with self._engine.begin() as connection:
            result = await connection.execute(_ACCOUNTS.update().where(_ACCOUNTS.c.name == name).values(**values))
        _require(result.rowcount, name)

    async def remove(self, name: str) -> None:
        """Remove an account.

        Raises:
            DipperError: There is no such account.
        """
        async with self._engine.begin() as connection:
            result = await connection.execute(_ACCOUNTS.delete().where(_ACCOUNTS.c.name == name))
        _require(result.rowcount, name)


class Authenticator:
    """Answers logins and counts sessions; belongs to one event loop.

    Args:
        store: Where the accounts are.
        config: How long what is known is believed.
        clock: Monotonic seconds.
    """

    def __init__(self, store: AccountStore, config: AccountsConfig, clock: Callable[[], float]) -> None:
        self._store = store
        self._config = config
        self._clock = clock
        self._threads = ThreadPoolExecutor(2, thread_name_prefix="passwords")
        self._key = secrets.token_bytes(32)
        self._known: OrderedDict[str, tuple[Account | None, float]] = OrderedDict()
        self._stations: tuple[list[Account], float] = ([], 0.0)
        self._verified: OrderedDict[bytes, tuple[bool, float]] = OrderedDict()
        self._verifying: dict[bytes, asyncio.Future[bool]] = {}
        self._asking: dict[str, asyncio.Task[Any]] = {}
        self._sessions: Counter[str] = Counter()
        self._unknown = hash_password(secrets.token_hex())

    async def close(self) -> None:
        """End the threads once the database has answered: the driver's thread would trip over a closed loop."""
        if self._asking:
            _, late = await asyncio.wait(self._asking.values(), timeout=_ANSWER_S)
            for task in late:
                task.cancel()
        self._threads.shutdown(wait=True, cancel_futures=True)

    def forget(self) -> None:
        """Believe nothing that was read from the database (the configuration was read again)."""
        self._known.clear()
        self._stations = ([], 0.0)

    async def login(self, credentials: Credentials | None) -> Account:
        """The account of a name and a password.

        Raises:
            RefusedError: 401 where they are missing or wrong, 403 where the account is disabled or has expired.
        """
        if credentials is None:
            raise RefusedError("this mountpoint needs a user name and a password", 401)
        account = await self._account(credentials.user)
        good = await self._check(account.password_hash if account else self._unknown, credentials.password)
        if account is None or not good:
            raise RefusedError("wrong user name or password", 401)
        return _opened(account)

    async def login_source(self, mount: str, password: str) -> Account:
        """The station account that a version 1 base station's password alone belongs to.

        Some stations send `user:password` in the place of the password; they are taken at their word first.

        Raises:
            RefusedError: 401 where no account that covers the mountpoint has the password, 403 where it is closed.
        """
        user, colon, rest = password.partition(":")
        if colon:
            named = await self._account(user)
            if named and named.may_feed(mount) and await self._check(named.password_hash, rest):
                return _opened(named)
        candidates = [account for account in await self._all_stations() if account.may_feed(mount)]
        candidates.sort(key=lambda account: -account.narrowness(mount))
        for account in candidates[: self._config.source_candidates]:
            if await self._check(account.password_hash, password):
                return _opened(account)
        if not candidates:
            await self._check(self._unknown, password)
        raise RefusedError("wrong password for this mountpoint", 401)

    def begin_session(self, account: Account) -> None:
        """Count a session of an account.

        Raises:
            RefusedError: The account has as many as it may (403).
        """
        if account.max_sessions and self._sessions[account.name] >= account.max_sessions:
            raise RefusedError(f"the account {account.name} has {account.max_sessions} sessions, its limit", 403)
        self._sessions[account.name] += 1

    def end_session(self, name: str) -> None:
        """A session of an account has ended."""
        self._sessions[name] -= 1
        if self._sessions[name] <= 0:
            del self._sessions[name]

    async def _account(self, name: str) -> Account | None:
        """The account of a name; what is known is renewed at half its time, so that nobody waits for it in a storm."""
        now, refresh_s = self._clock(), self._config.refresh_s
        known = self._known.get(name)
        if known is None or now >= known[1]:
            return await self._ask_once(f"account {name}", partial(self._learn, name))
        if now >= known[1] - refresh_s / 2 and f"account {name}" not in self._asking:
            self._ask(f"account {name}", partial(self._learn, name))
        return known[0]

    async def _learn(self, name: str) -> Account | None:
        asked = self._clock()
        account = await self._store.get(name[:100])
        _keep(self._known, name, (account, asked + self._config.refresh_s), self._config.verified_count)
        return account

    async def _all_stations(self) -> list[Account]:
        if self._clock() >= self._stations[1]:
            stations = await self._ask_once("stations", self._store.stations)
            self._stations = (stations, self._clock() + self._config.refresh_s)
        return self._stations[0]

    async def _ask_once(self, question: str, ask: Callable[[], Coroutine[None, None, _T]]) -> _T:
        """Ask the database; a storm of connections asks the same only once."""
        return await asyncio.shield(self._asking.get(question) or self._ask(question, ask))

    def _ask(self, question: str, ask: Callable[[], Coroutine[None, None, _T]]) -> asyncio.Task[_T]:
        task = self._asking[question] = asyncio.create_task(ask(), name=question)
        task.add_done_callback(lambda _: self._asking.pop(question))
        return task

    async def _check(self, password_hash: str, password: str) -> bool:
        """Verify a password, or remember that it was; equal questions at the same time are verified once."""
        if len(password) > PASSWORD_MAX:
            return False
        key = hashlib.blake2b(f"{password_hash}\0{password}".encode(), key=self._key, digest_size=16).digest()
        now = self._clock()
        remembered = self._verified.get(key)
        if remembered is not None and now < remembered[1]:
            return remembered[0]
        waiting = self._verifying.get(key)
        if waiting is None:
            work = partial(_verify, password_hash, password)
            waiting = self._verifying[key] = asyncio.get_running_loop().run_in_executor(self._threads, work)
            waiting.add_done_callback(lambda future: self._remember(key, future))
        return await asyncio.shield(waiting)

    def _remember(self, key: bytes, future: asyncio.Future[bool]) -> None:
        del self._verifying[key]
        if future.cancelled() or future.exception() is not None:
            return
        good = future.result()
        until = self._clock() + (self._config.verified_s if good else _WRONG_S)
        _keep(self._verified, key, (good, until), self._config.verified_count)


def _keep(cache: OrderedDict[Any, Any], key: object, value: object, count_max: int) -> None:
    """Put a value into a bounded cache; the oldest gives way."""
    cache.pop(key, None)
    cache[key] = value
    while len(cache) > count_max:
        cache.popitem(last=False)


def _opened(account: Account) -> Account:
    why = account.why_closed(datetime.now(UTC))
    if why:
        raise RefusedError(why, 403)
    return account


def _require(rowcount: int, name: str) -> None:
    if not rowcount:
        raise DipperError(f"there is no account {name}")


def _row(account: Account) -> dict[str, object]:
    return {column.name: getattr(account, column.name) for column in _ACCOUNTS.columns}


def _account(row: Any) -> Account:
    values = dict(row)
    for name in ("expires", "created"):  # SQLite keeps no time zone; all of ours are UTC
        if values[name] is not None and values[name].tzinfo is None:
            values[name] = values[name].replace(tzinfo=UTC)
    return Account(**values)


def _connect_args(url: str) -> dict[str, object]:
    return {"timeout": 10} if url.startswith("sqlite") else {}


def _share_sqlite(connection: Any, _record: object) -> None:
    """Let the service read while a command writes."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode=WAL")
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
