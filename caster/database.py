"""The database that the service and the commands share: SQLite by default, PostgreSQL by URL.

`Database.open` brings the tables to the newest form. An empty database gets them at once; an older one is migrated by
Alembic (`caster.migrations`), in one transaction that holds off everybody else who starts at the same time. Alembic is
imported only then: it takes longer to load than the rest of the service's start.
"""

import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, closing
from importlib import import_module
from typing import Any, Final

from sqlalchemy import Connection, Table, event, inspect, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from caster.errors import ConfigError
from caster.schema import METADATA

__all__ = ["HEAD", "Database"]

HEAD: Final = "0006"
"""The newest migration."""

_DRIVERS: Final = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg", "postgres": "postgresql+asyncpg"}
_SQLITE_WAIT_S: Final = 10.0
_SQLITE_RETRY_S: Final = 0.01
_CONNECT_ARGS: Final[dict[str, dict[str, object]]] = {
    "sqlite": {"timeout": _SQLITE_WAIT_S},
    "postgresql": {"timeout": 10, "command_timeout": 30},
}
# Held while tables are made or changed; the number has no meaning but to be ours.
_LOCKS: Final = {"sqlite": "BEGIN IMMEDIATE", "postgresql": "SELECT pg_advisory_xact_lock(20061122)"}


class Database:
    """Connections to one database.

    Args:
        url: SQLAlchemy's URL; the asynchronous driver is found where none is named.

    Attributes:
        errors: What any use may raise: the database is away, its disk is full.

    Raises:
        ConfigError: It is no URL of a database that can be used.
    """

    def __init__(self, url: str) -> None:
        try:
            self._url = _with_driver(make_url(url))
            self._kind = self._url.get_backend_name()
            if self._kind not in _LOCKS:
                raise ConfigError(f"accounts.url: {self._kind} is neither sqlite nor postgresql")
            self._engine: AsyncEngine = create_async_engine(
                self._url, connect_args=_CONNECT_ARGS[self._kind], pool_pre_ping=self._kind != "sqlite"
            )
            self._insert = _insert_of(self._kind)
            self.errors: tuple[type[Exception], ...] = (SQLAlchemyError, OSError, *_driver_errors(self._kind))
        except ModuleNotFoundError as error:
            raise ConfigError(
                f"accounts.url: {url.partition(':')[0]} needs another package: pip install {error.name}"
            ) from None
        except (SQLAlchemyError, ValueError) as error:
            raise ConfigError(f"accounts.url: {error}") from None
        if self._kind == "sqlite":
            event.listen(self._engine.sync_engine, "connect", _settle_sqlite)

    @property
    def url(self) -> str:
        """Where it is, without a password."""
        return self._url.render_as_string()

    async def open(self) -> None:
        """Bring the tables to the newest form.

        Raises:
            ConfigError: The database cannot be opened, or is of a newer version of this program.
        """
        try:
            if self._kind == "sqlite":
                self._try_file()
            async with self.connect() as connection:
                version = await connection.run_sync(_version)
            if version != HEAD:
                async with self.begin() as connection:
                    await connection.exec_driver_sql(_LOCKS[self._kind])
                    await connection.run_sync(_bring_to_head)
        except self.errors as error:
            raise ConfigError(f"the database {self.url}: {_first_line(error)}") from None

    async def close(self) -> None:
        """Close all connections."""
        await self._engine.dispose()

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[AsyncConnection]:
        """A connection to read with."""
        async with self._engine.connect() as connection:
            yield connection

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[AsyncConnection]:
        """A connection whose changes are kept together, or not at all."""
        async with self._engine.begin() as connection:
            yield connection

    def replace(self, table: Table) -> Any:
        """An insert that changes the row with the same primary key where there is one."""
        statement = self._insert(table)
        keys = list(table.primary_key.columns)
        new = {column.name: statement.excluded[column.name] for column in table.columns if column not in keys}
        return statement.on_conflict_do_update(index_elements=keys, set_=new)

    def add_up(self, table: Table, names: Sequence[str]) -> Any:
        """An insert that adds the named columns to those of the row with the same primary key where there is one."""
        statement = self._insert(table)
        sums = {name: table.c[name] + statement.excluded[name] for name in names}
        return statement.on_conflict_do_update(index_elements=list(table.primary_key.columns), set_=sums)

    def _try_file(self) -> None:
        """Open the file once without aiosqlite, whose thread outlives a failure and then trips over the closed loop.

        A log written ahead, which stays the file's way, lets the service read while a command writes. SQLite does not
        wait for others who ask for it in the same moment.
        """
        arguments: tuple[Any, Any] = self._engine.dialect.create_connect_args(self._url)
        deadline = time.monotonic() + _SQLITE_WAIT_S
        with closing(sqlite3.connect(*arguments[0], **arguments[1])) as connection:
            while True:
                try:
                    connection.execute("PRAGMA journal_mode=WAL")
                    return
                except sqlite3.OperationalError as error:
                    if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                        raise
                    time.sleep(_SQLITE_RETRY_S)


def _with_driver(url: URL) -> URL:
    return url.set(drivername=_DRIVERS.get(url.drivername, url.drivername))


def _insert_of(kind: str) -> Callable[[Table], Any]:
    """The insert that knows what to do about a row that is there already; each dialect takes its time to load."""
    insert: Callable[[Table], Any] = import_module(f"sqlalchemy.dialects.{kind}").insert
    return insert


def _driver_errors(kind: str) -> tuple[type[Exception], ...]:
    """Errors of the drivers themselves: SQLAlchemy passes some of them on while it connects."""
    if kind == "sqlite":
        return (sqlite3.Error,)
    import asyncpg

    return asyncpg.PostgresError, asyncpg.InterfaceError


def _version(connection: Connection) -> str:
    """The migration that the database is at; empty where it has not been told."""
    if not inspect(connection).has_table("alembic_version"):
        return ""
    return connection.execute(text("SELECT version_num FROM alembic_version")).scalar() or ""


def _bring_to_head(connection: Connection) -> None:
    """Make or migrate the tables, unless somebody else has done so just now."""
    version, tables = _version(connection), inspect(connection).get_table_names()
    if version == HEAD:
        return
    if tables:
        from caster.migrations import migrate

        migrate(connection, version)
        return
    METADATA.create_all(connection)
    connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)"))
    connection.execute(text("INSERT INTO alembic_version VALUES (:version)"), {"version": HEAD})


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0] or type(error).__name__


def _settle_sqlite(connection: Any, _record: object) -> None:
    """With a log written ahead, no change waits for the disk, and a crash of the machine loses the last at most."""
    cursor = connection.cursor()
    cursor.execute("PRAGMA synchronous=NORMAL")
    cursor.close()
