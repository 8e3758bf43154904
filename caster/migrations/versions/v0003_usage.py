"""Groups with quotas, and what accounts have used."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """To this version."""
    op.add_column("accounts", sa.Column("group_name", sa.String(100)))
    op.create_table(
        "groups",
        sa.Column("name", sa.String(100), primary_key=True),
        sa.Column("max_sessions", sa.Integer, nullable=False),
        sa.Column("day_bytes", sa.BigInteger, nullable=False),
        sa.Column("month_bytes", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "sessions",
        sa.Column("id", sa.String(40), primary_key=True),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("account", sa.String(100), nullable=False),
        sa.Column("mount", sa.String(100), nullable=False),
        sa.Column("address", sa.String(50), nullable=False),
        sa.Column("agent", sa.String(80), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True), nullable=False),
        sa.Column("updated", sa.DateTime(timezone=True), nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("sent_bytes", sa.BigInteger, nullable=False),
        sa.Column("received_bytes", sa.BigInteger, nullable=False),
        sa.Column("dropped", sa.BigInteger, nullable=False),
        sa.Column("latitude_deg", sa.Float),
        sa.Column("longitude_deg", sa.Float),
        sa.Column("quality", sa.Integer),
        sa.Column("reason", sa.String(200), nullable=False),
    )
    op.create_index("sessions_by_account", "sessions", ["account", "started"])
    op.create_index("sessions_by_time", "sessions", ["updated"])
    op.create_table(
        "usage_days",
        sa.Column("day", sa.Date, primary_key=True),
        sa.Column("account", sa.String(100), primary_key=True),
        sa.Column("sessions", sa.BigInteger, nullable=False),
        sa.Column("seconds", sa.Float, nullable=False),
        sa.Column("sent_bytes", sa.BigInteger, nullable=False),
        sa.Column("received_bytes", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """From this version."""
    op.drop_table("usage_days")
    op.drop_table("sessions")
    op.drop_table("groups")
    op.drop_column("accounts", "group_name")
