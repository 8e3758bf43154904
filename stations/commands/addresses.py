"""Addresses on the command line: a wrong one is wrong usage."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import typer

from caster.errors import ConfigError

if TYPE_CHECKING:
    from stations.uplink import Target

__all__ = ["mount_address", "shown", "wrong_usage"]


@contextmanager
def wrong_usage() -> Iterator[None]:
    """Tell what is no address, or no setting, as wrong usage.

    Raises:
        BadParameter: it is none.
    """
    try:
        yield
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from None


def mount_address(text: str) -> "Target":
    """Read `ntrip://[USER:PASS@]HOST[:PORT]/MOUNT`.

    Raises:
        BadParameter: it is something else, or names no mount.
    """
    from stations.uplink import parse_target

    with wrong_usage():
        target = parse_target(text)
    if not target.mount:
        raise typer.BadParameter("the address names no mount: ntrip://HOST:PORT/MOUNT")
    return target


def shown(address: str) -> str:
    """A source's address without the login in it."""
    return re.sub(r"//[^/@]*@", "//", address)
