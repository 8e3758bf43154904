"""The `dipper` command: its sub-commands by noun, and how errors become exit codes.

Exit 0: done; 1: the work failed, with one line on stderr that names what and where; 2: wrong usage. Each sub-command
lives in a module of `stations.commands`, which is imported where the sub-command is called, or help of them all is
wanted. What is slow to load (numba, SQLAlchemy) such a module imports inside its function, so that `dipper --help`
answers at once.
"""

import errno
import os
import sys
from importlib import import_module
from typing import Annotated, Final

import typer

from caster.errors import DipperError

__all__ = ["application", "main"]

_COMMANDS: Final = (
    "demo", "serve", "check-config", "account", "group", "ban", "positions", "token", "station", "rover", "archive",
    "sourcetable", "solve", "decode",
)  # fmt: skip
"""As help lists them."""
_OUTPUT_ERRORS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What befalls a file while it is written, when Python no longer tells its name."""
_SPARED: Final = ("scipy.linalg", "coverage")
"""What numba imports where it is installed: SciPy for its BLAS, which no kernel uses, and coverage, which, where it
measures, is there already. 0.4 s and 0.05 s of each start, the second with 4 MB of memory."""


_BLAS_THREADS: Final = "1"
"""NumPy's BLAS would start more when it is loaded, which takes 0.06 s; no matrix here is large enough to need them."""


def application(name: str = "") -> typer.Typer:
    """The command line, of all commands or, where one of them is named, of that alone."""
    app = typer.Typer(
        name="dipper",
        help="Big Dipper: an open GNSS high-precision positioning service.",
        epilog="Example: dipper demo --seconds 60",
        no_args_is_help=True,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(dipper)
    for command in (name,) if name in _COMMANDS else _COMMANDS:
        module = import_module(f"stations.commands.{command.replace('-', '_')}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=command)
        else:
            app.command(command, cls=getattr(module, "ManyValues", None))(getattr(module, command.replace("-", "_")))
    return app


def __getattr__(name: str) -> typer.Typer:
    """`app`: that of all commands, made where somebody asks for it."""
    if name != "app":
        raise AttributeError(name)
    return application()


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"Big Dipper {version('bigdipper')}")
        raise typer.Exit


def dipper(
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """What belongs to no command alone."""


def main() -> None:
    """Run the command line."""
    os.environ.setdefault("OPENBLAS_NUM_THREADS", _BLAS_THREADS)
    for spared in _SPARED:
        sys.modules.setdefault(spared, None)  # type: ignore[arg-type]
    try:
        application(*sys.argv[1:2])()
    except DipperError as error:
        typer.echo(f"dipper: {error}", err=True)
        sys.exit(1)
    except BrokenPipeError:  # the reader of our output has gone, as `head` does
        sys.stderr.close()
        sys.exit(1)
    except OSError as error:
        if error.filename is None and error.errno not in _OUTPUT_ERRORS:  # nobody named a file: a fault of ours
            raise
        typer.echo(f"dipper: {error.filename or 'what was to be written'}: {error.strerror}", err=True)
        sys.exit(1)
