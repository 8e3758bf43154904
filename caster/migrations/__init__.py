"""Steps from the tables of older versions to those of `caster.schema`, run by Alembic.

One module in `versions` for each step, named by its number and what it brings.
"""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Connection

from caster.errors import ConfigError

__all__ = ["alembic_config", "migrate"]

_FIRST = "0001"


def alembic_config(connection: Connection) -> Config:
    """Alembic's settings for a connection, whose transaction is the caller's."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    config.attributes["connection"] = connection
    return config


def migrate(connection: Connection, version: str) -> None:
    """Bring the tables to the newest form.

    Args:
        connection: In a transaction, which the caller commits.
        version: What the database is at; empty for the first versions of this program, which did not say.

    Raises:
        ConfigError: The database is of a newer version of this program.
    """
    config = alembic_config(connection)
    try:
        if not version:
            command.stamp(config, _FIRST)
        command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigError(
            f"the database is at version {version!r}, which this program does not know: {error}"
        ) from None
