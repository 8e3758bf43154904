"""The `dipper` command: its sub-commands by noun, and how errors become exit codes.

Exit 0: done; 1: the work failed, with one line on stderr that names what and where; 2: wrong usage. Each sub-command
lives in a module of `stations.commands` that imports what is slow to load (numba, SQLAlchemy) inside its function, so
that `dipper --help` answers at once.
"""

import errno
import sys
from typing import Annotated, Final

import typer

from caster.errors import DipperError
from stations.commands import account, archive, ban, group, positions, station, token
from stations.commands.check_config import check_config
from stations.commands.decode import decode
from stations.commands.demo import demo
from stations.commands.rover import rover
from stations.commands.serve import serve
from stations.commands.solve import ManyValues, solve
from stations.commands.sourcetable import sourcetable

__all__ = ["app", "main"]

_OUTPUT_ERRORS: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
"""What befalls a file while it is written, when Python no longer tells its name."""

app = typer.Typer(
    name="dipper",
    help="Big Dipper: an open GNSS high-precision positioning service.",
    epilog="Example: dipper demo --seconds 60",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _say_version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"Big Dipper {version('bigdipper')}")
        raise typer.Exit


@app.callback()
def dipper(
    version: Annotated[
        bool, typer.Option("--version", help="Say which version this is.", callback=_say_version, is_eager=True)
    ] = False,
) -> None:
    """What belongs to no command alone."""


app.command()(demo)
app.command()(serve)
app.command()(check_config)
app.add_typer(account.app, name="account")
app.add_typer(group.app, name="group")
app.add_typer(ban.app, name="ban")
app.add_typer(positions.app, name="positions")
app.add_typer(token.app, name="token")
app.add_typer(station.app, name="station")
app.command()(rover)
app.add_typer(archive.app, name="archive")
app.command()(sourcetable)
app.command(cls=ManyValues)(solve)
app.command()(decode)


_SPARED: Final = ("scipy.linalg", "coverage")
"""What numba imports where it is installed: SciPy for its BLAS, which no kernel uses, and coverage, which, where it
measures, is there already. 0.4 s and 0.05 s of each start, the second with 4 MB of memory."""


def main() -> None:
    """Run the command line."""
    for spared in _SPARED:
        sys.modules.setdefault(spared, None)  # type: ignore[arg-type]
    try:
        app()
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
