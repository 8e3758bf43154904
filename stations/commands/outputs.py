"""Files that commands write."""

from collections.abc import Iterable
from pathlib import Path

import typer

__all__ = ["spare_inputs"]


def spare_inputs(inputs: Iterable[Path], *outputs: Path | None) -> None:
    """Refuse to write over a file that is to be read.

    Raises:
        BadParameter: They are one.
    """
    read = [path for path in inputs if path.exists()]
    for output in outputs:
        if output is not None and output.exists() and any(output.samefile(path) for path in read):
            raise typer.BadParameter(f"{output} is to be read, and would be written over")
