"""`dipper check-config`: what is wrong in a configuration, by key."""

from pathlib import Path
from typing import Annotated

import typer

from caster.errors import ConfigError

__all__ = ["check_config"]


def check_config(file: Annotated[Path, typer.Argument(help="The TOML file.")]) -> None:
    """Say what is wrong in a configuration file, by key.

    Example: dipper check-config /etc/dipper.toml
    """
    from caster.app import check
    from caster.config import load_config
    from caster.services import PositioningService

    config = load_config(file)
    try:
        notes = check(config, [PositioningService()])
    except ConfigError as error:
        raise ConfigError(f"{file}: {error}") from None
    for note in notes:
        typer.echo(f"note: {note}")
    typer.echo(f"{file}: good; port {config.listen.port}, data in {config.data_dir}, {len(config.mounts)} mount rules")
