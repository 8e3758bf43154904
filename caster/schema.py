"""The tables of the database, as the newest migration leaves them.

A change here needs a migration in `caster/migrations/versions`; a test compares the two on every kind of database.
Times are UTC.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Boolean, Column, DateTime, Integer, MetaData, String, Table, TypeDecorator
from sqlalchemy.engine import Dialect

__all__ = ["ACCOUNTS", "BANS", "METADATA", "UtcDateTime"]


class UtcDateTime(TypeDecorator[datetime]):
    """An instant with its time zone, which SQLite would lose."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database."""
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        """From the database."""
        if value is None:
            return None
        moment: datetime = value if value.tzinfo else value.replace(tzinfo=UTC)
        return moment.astimezone(UTC)


METADATA = MetaData()

ACCOUNTS = Table(
    "accounts",
    METADATA,
    Column("name", String(100), primary_key=True),
    Column("role", String(20), nullable=False),
    Column("password_hash", String(200), nullable=False),
    Column("mounts", String(1000), nullable=False),
    Column("max_sessions", Integer, nullable=False),
    Column("expires", UtcDateTime),
    Column("disabled", Boolean, nullable=False),
    Column("created", UtcDateTime, nullable=False),
)

BANS = Table(
    "bans",
    METADATA,
    Column("network", String(50), primary_key=True),
    Column("reason", String(200), nullable=False),
    Column("created", UtcDateTime, nullable=False),
    Column("until", UtcDateTime),
    Column("automatic", Boolean, nullable=False),
    Column("count", Integer, nullable=False),
)
