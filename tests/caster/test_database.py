"""The database: opened where it can be, migrated without loss, the same on SQLite and PostgreSQL."""

import asyncio
import sqlite3
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from caster.accounts import Account, AccountStore
from caster.database import HEAD, Database
from caster.errors import ConfigError
from caster.migrations import alembic_config, migrate
from caster.schema import METADATA
from tests.caster.postgres import Cluster

FIRST_TABLES = """
CREATE TABLE accounts (
    name VARCHAR(100) NOT NULL, role VARCHAR(20) NOT NULL, password_hash VARCHAR(200) NOT NULL,
    mounts VARCHAR(1000) NOT NULL, max_sessions INTEGER NOT NULL, expires DATETIME, disabled BOOLEAN NOT NULL,
    created DATETIME NOT NULL, PRIMARY KEY (name)
);
INSERT INTO accounts VALUES ('base', 'station', '$argon2id$x', 'AB*,C', 3, '2031-01-31 23:59:59.000000', 0,
    '2026-01-01 00:00:00.000000');
INSERT INTO accounts VALUES ('operator', 'operator', '$argon2id$y', '*', 0, NULL, 1, '2026-02-03 04:05:06.000007');
"""


def differences(connection: Connection) -> list[object]:
    """Between the tables that there are and those that the program thinks that there are."""
    return list(compare_metadata(MigrationContext.configure(connection), METADATA))


def test_the_newest_migration_is_the_one_that_the_program_knows() -> None:
    script = ScriptDirectory.from_config(alembic_config(None))  # type: ignore[arg-type]
    assert script.get_current_head() == HEAD


async def test_an_empty_database_gets_the_newest_tables(database: Database) -> None:
    async with database.connect() as connection:
        assert await connection.run_sync(differences) == []
        assert (await connection.execute(text("SELECT version_num FROM alembic_version"))).scalars().all() == [HEAD]


async def test_the_migrations_make_the_same_tables(database_url: str) -> None:
    database = Database(database_url)
    async with database.begin() as connection:
        await connection.exec_driver_sql("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL PRIMARY KEY)")
        await connection.run_sync(lambda sync: migrate(sync, "none"))
    async with database.connect() as connection:
        assert await connection.run_sync(differences) == []
    await database.open()
    await database.close()


async def test_a_file_of_the_first_version_is_migrated_without_loss(tmp_path: Path) -> None:
    path = tmp_path / "dipper.sqlite3"
    with sqlite3.connect(path) as first:
        first.executescript(FIRST_TABLES)
    first.close()
    database = Database(f"sqlite:///{path}")
    await database.open()
    async with database.connect() as connection:
        assert await connection.run_sync(differences) == []
    base, operator = await AccountStore(database).all()
    assert (base.name, base.mounts, base.max_sessions, str(base.expires)) == (
        "base", "AB*,C", 3, "2031-01-31 23:59:59+00:00",
    )  # fmt: skip
    assert (operator.role, operator.disabled, operator.created.microsecond) == ("operator", True, 7)
    await database.close()


async def test_a_migration_that_fails_leaves_the_file_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "dipper.sqlite3"
    with sqlite3.connect(path) as first:
        first.executescript(FIRST_TABLES)
    first.close()
    before = _dump(path)

    def fail(connection: Connection, version: str) -> None:
        migrate(connection, version)
        raise OSError("the power fails")

    monkeypatch.setattr("caster.migrations.migrate", fail)
    database = Database(f"sqlite:///{path}")
    with pytest.raises(ConfigError, match="the power fails"):
        await database.open()
    await database.close()
    assert _dump(path) == before


def _dump(path: Path) -> list[str]:
    connection = sqlite3.connect(path)
    lines = list(connection.iterdump())
    connection.close()
    return lines


async def test_many_that_start_at_once_make_the_tables_once(database_url: str) -> None:
    databases = [Database(database_url) for _ in range(8)]
    await asyncio.gather(*(database.open() for database in databases))
    await AccountStore(databases[0]).add(Account("a", "rover", ""))
    assert len(await AccountStore(databases[7]).all()) == 1
    for database in databases:
        await database.close()


async def test_a_database_of_a_newer_version_is_refused(database: Database, database_url: str) -> None:
    async with database.begin() as connection:
        await connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    newer = Database(database_url)
    with pytest.raises(ConfigError, match=r"9999.*does not know"):
        await newer.open()
    await newer.close()


@pytest.mark.parametrize("url", ["nonsense", "sqlite:////no/such/folder/a.sqlite3", "oracle+none://x", "mysql://x/y"])
async def test_a_database_that_cannot_be_opened_is_named(url: str) -> None:
    with pytest.raises(ConfigError):
        broken = Database(url)
        try:
            await broken.open()
        finally:
            await broken.close()


async def test_an_error_does_not_show_the_password() -> None:
    database = Database("postgresql://me:secret@/nothing?host=/no/such/folder")
    with pytest.raises(ConfigError, match="me:") as caught:
        await database.open()
    assert "secret" not in str(caught.value)
    await database.close()


async def test_a_database_that_the_server_has_not_is_named(postgres: Cluster) -> None:
    url = await postgres.new_database()
    database = Database(url.replace("/test", "/missing"))
    with pytest.raises(ConfigError, match="does not exist"):
        await database.open()
    await database.close()


async def test_a_server_that_was_restarted_is_reached_again(postgres: Cluster) -> None:
    database = Database(await postgres.new_database())
    await database.open()
    postgres.stop()
    postgres.start()
    await AccountStore(database).add(Account("a", "rover", ""))
    await database.close()


def test_a_driver_that_is_not_installed_is_named_with_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncpg", None)
    with pytest.raises(ConfigError, match=r"postgresql needs another package: pip install asyncpg"):
        Database("postgresql://host/name")
