"""The tables of the database, as the newest migration leaves them.

A change here needs a migration in `caster/migrations/versions`; a test compares the two on every kind of database.
Times are UTC.
"""

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Date,
    DateTime,
    Float,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    TypeDecorator,
)
from sqlalchemy.engine import Dialect

__all__ = [
    "ACCOUNTS",
    "BANS",
    "CHANGES",
    "GROUPS",
    "METADATA",
    "POSITIONS",
    "SESSIONS",
    "TOKENS",
    "USAGE_DAYS",
    "UtcDateTime",
]


class UtcDateTime(TypeDecorator[datetime]):
    """An instant with its time zone, which SQLite would lose; one without is taken as UTC."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        """To the database."""
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)

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
    Column("group_name", String(100)),
)

GROUPS = Table(
    "groups",
    METADATA,
    Column("name", String(100), primary_key=True),
    Column("max_sessions", Integer, nullable=False),
    Column("day_bytes", BigInteger, nullable=False),
    Column("month_bytes", BigInteger, nullable=False),
)

# How often something was changed, so that whoever keeps a copy of it may know.
CHANGES = Table(
    "changes",
    METADATA,
    Column("name", String(20), primary_key=True),
    Column("count", BigInteger, nullable=False),
)

SESSIONS = Table(
    "sessions",
    METADATA,
    Column("id", String(40), primary_key=True),
    Column("kind", String(10), nullable=False),
    Column("account", String(100), nullable=False),
    Column("mount", String(100), nullable=False),
    Column("address", String(50), nullable=False),
    Column("agent", String(80), nullable=False),
    Column("started", UtcDateTime, nullable=False),
    Column("updated", UtcDateTime, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("sent_bytes", BigInteger, nullable=False),
    Column("received_bytes", BigInteger, nullable=False),
    Column("dropped", BigInteger, nullable=False),
    Column("latitude_deg", Float),
    Column("longitude_deg", Float),
    Column("quality", Integer),
    Column("reason", String(200), nullable=False),
    Index("sessions_by_account", "account", "started"),
    Index("sessions_by_time", "updated"),
)

USAGE_DAYS = Table(
    "usage_days",
    METADATA,
    Column("day", Date, primary_key=True),
    Column("account", String(100), primary_key=True),
    Column("sessions", BigInteger, nullable=False),
    Column("seconds", Float, nullable=False),
    Column("sent_bytes", BigInteger, nullable=False),
    Column("received_bytes", BigInteger, nullable=False),
)

POSITIONS = Table(
    "positions",
    METADATA,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True, autoincrement=True),
    Column("time", UtcDateTime, nullable=False),
    Column("kind", String(10), nullable=False),
    Column("account", String(100), nullable=False),
    Column("mount", String(100), nullable=False),
    Column("session", BigInteger, nullable=False),
    Column("latitude_deg", Float, nullable=False),
    Column("longitude_deg", Float, nullable=False),
    Column("height_m", Float, nullable=False),
    Column("quality", Integer, nullable=False),
    Column("satellites", Integer, nullable=False),
    Column("hdop", Float),
    Index("positions_by_time", "time"),
    Index("positions_by_account", "account", "time"),
)

TOKENS = Table(
    "tokens",
    METADATA,
    Column("name", String(100), primary_key=True),
    Column("token_hash", String(64), nullable=False, unique=True),
    Column("created", UtcDateTime, nullable=False),
    Column("expires", UtcDateTime),
    Column("read_only", Boolean, nullable=False),
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
