"""Counts of changes, by which a service knows that accounts or groups are no longer what it has read."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    """To this version."""
    op.create_table(
        "changes",
        sa.Column("name", sa.String(20), primary_key=True),
        sa.Column("count", sa.BigInteger, nullable=False),
    )


def downgrade() -> None:
    """From this version."""
    op.drop_table("changes")
