"""The position log."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """To this version."""
    op.create_table(
        "positions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=True),
        sa.Column("time", sa.DateTime(timezone=True), nullable=False),
        sa.Column("kind", sa.String(10), nullable=False),
        sa.Column("account", sa.String(100), nullable=False),
        sa.Column("mount", sa.String(100), nullable=False),
        sa.Column("session", sa.BigInteger, nullable=False),
        sa.Column("latitude_deg", sa.Float, nullable=False),
        sa.Column("longitude_deg", sa.Float, nullable=False),
        sa.Column("height_m", sa.Float, nullable=False),
        sa.Column("quality", sa.Integer, nullable=False),
        sa.Column("satellites", sa.Integer, nullable=False),
        sa.Column("hdop", sa.Float),
    )
    op.create_index("positions_by_time", "positions", ["time"])
    op.create_index("positions_by_account", "positions", ["account", "time"])


def downgrade() -> None:
    """From this version."""
    op.drop_table("positions")
