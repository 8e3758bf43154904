"""`dipper positions`: where rovers said that they were, and where the service put them."""

import sys
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from caster.errors import DipperError
from stations.commands.database import ConfigFile, DataDir, with_database

if TYPE_CHECKING:
    from caster.database import Database

__all__ = ["app"]

app = typer.Typer(
    help="The log of positions.",
    no_args_is_help=True,
    epilog="Example: dipper positions export --output day.csv --from 2026-05-15 --to 2026-05-16",
)

_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
_KINDS = ("gga", "fix")


@app.callback()
def positions() -> None:
    """The log of positions, which `[positions]` of the configuration switches on."""


@app.command()
def export(
    output: Annotated[Path, typer.Option(help="The file to write; - for standard output.")],
    form: Annotated[str, typer.Option("--format", help="csv or geojson.")] = "csv",
    account: Annotated[str, typer.Option(help="Only of this account.")] = "",
    mount: Annotated[str, typer.Option(help="Only at this mountpoint.")] = "",
    kind: Annotated[str, typer.Option(help="gga: what rovers sent; fix: what the service computed.")] = "",
    since: Annotated[
        datetime | None, typer.Option("--from", formats=_TIMES, help="Received then (UTC) or later.")
    ] = None,
    until: Annotated[datetime | None, typer.Option("--to", formats=_TIMES, help="Received before then (UTC).")] = None,
    data_dir: DataDir = None,
    config: ConfigFile = None,
) -> None:
    """Write positions as a CSV table or as GeoJSON points.

    Example: dipper positions export --output rover7.geojson --format geojson --account rover7 --from 2026-05-15
    """
    from caster.positions import PositionFilter, PositionStore
    from stations.positions import WRITERS

    if form not in WRITERS or kind not in ("", *_KINDS):
        raise typer.BadParameter(f"--format is one of {', '.join(WRITERS)}; --kind is gga or fix")
    wanted = PositionFilter(account, mount, kind, _utc(since), _utc(until))
    with ExitStack() as stack:
        try:
            opened = stack.enter_context(output.open("w", encoding="utf-8", newline="")) if str(output) != "-" else None
        except OSError as error:
            raise DipperError(f"{output}: {error.strerror}") from None
        writer = stack.enter_context(WRITERS[form](opened or sys.stdout))

        async def work(database: "Database") -> None:
            async for rows in PositionStore(database).batches(wanted):
                writer.write(rows)

        with_database(data_dir, config, work)
    typer.echo(f"{output}: {writer.count} positions", err=True)


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment else None
