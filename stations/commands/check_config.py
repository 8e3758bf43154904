"""`dipper check-config`: what is wrong in a configuration, by key."""

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["check_config"]


def check_config(file: Annotated[Path, typer.Argument(help="The TOML file.")]) -> None:
    """Say what is wrong in a configuration file, by key.

    Example: dipper check-config /etc/dipper.toml
    """
    from caster.config import load_config

    config = load_config(file)
    typer.echo(f"{file}: good; port {config.listen.port}, data in {config.data_dir}, {len(config.mounts)} mount rules")
