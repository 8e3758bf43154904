"""`dipper archive`: what the caster has kept of the stations' streams, and files made from it."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from caster.errors import DipperError

__all__ = ["app"]

app = typer.Typer(
    help="List and export the archive of raw frames.",
    no_args_is_help=True,
    epilog="Example: dipper archive export STR1 --from 2026-05-15T08:00 --to 2026-05-15T10:00 --output STR1.obs",
)

_TIMES = ["%Y-%m-%d", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H:%M:%S"]
Since = Annotated[datetime | None, typer.Option("--from", formats=_TIMES, help="Received at this time (UTC) or later.")]
Until = Annotated[datetime | None, typer.Option("--to", formats=_TIMES, help="Received before this time (UTC).")]
ConfigFile = Annotated[Path | None, typer.Option("--config", help="The caster's configuration.")]
DataDir = Annotated[Path | None, typer.Option(help="The caster's data directory.", envvar="DIPPER_DATA_DIR")]


@app.command("list")
def list_(
    mount: Annotated[str, typer.Argument(help="Only this mountpoint.")] = "",
    since: Since = None,
    until: Until = None,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """List the files of the archive.

    Example: dipper archive list STR1 --from 2026-05-15
    """
    from rich.console import Console
    from rich.table import Table

    from caster.archive_store import files

    folder = _folder(config, data_dir)
    found = files(folder, mount, _utc(since), _utc(until))
    table = Table("mount", "from (UTC)", "to (UTC)", "bytes", "file", box=None)
    for file in found:
        span = (f"{moment:%Y-%m-%d %H:%M}" for moment in (file.start, file.end))
        table.add_row(file.mount, *span, str(file.size), str(file.path.relative_to(folder)))
    console = Console()
    console.width = console.width if console.is_terminal else 400
    console.print(table)
    console.print(f"{len(found)} files, {sum(file.size for file in found)} bytes, in {folder}", markup=False)


@app.command()
def export(
    mount: Annotated[str, typer.Argument(help="The mountpoint.")],
    output: Annotated[Path, typer.Option(help="The file to write.")],
    since: Since = None,
    until: Until = None,
    form: Annotated[str, typer.Option("--format", help="rinex or rtcm.")] = "rinex",
    navigation: Annotated[Path | None, typer.Option(help="RINEX navigation file to write, too.")] = None,
    interval: Annotated[
        float, typer.Option(min=0.0, max=86_400.0, help="Keep epochs at multiples of so many seconds.")
    ] = 0.0,
    config: ConfigFile = None,
    data_dir: DataDir = None,
) -> None:
    """Write a time span of a station as one RINEX 3.04 or RTCM 3 file.

    Example: dipper archive export STR1 --from 2026-05-15T08:00 --to 2026-05-15T10:00 --output STR1.obs
    """
    from caster.archive_export import export_rinex, export_rtcm

    if form not in ("rinex", "rtcm"):
        raise typer.BadParameter(f"{form!r} is neither rinex nor rtcm", param_hint="--format")
    folder, start, end = _folder(config, data_dir), _utc(since), _utc(until)
    try:
        if form == "rtcm":
            typer.echo(f"{output}: {export_rtcm(folder, mount, output, start, end)} frames")
        else:
            count = export_rinex(folder, mount, output, navigation, start, end, interval)
            typer.echo(f"{output}: {count} epochs")
    except OSError as error:
        raise DipperError(f"{error.filename}: {error.strerror}") from None


def _folder(config: Path | None, data_dir: Path | None) -> Path:
    from caster.config import load_config

    return load_config(config, data_dir=data_dir).archive_folder


def _utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment else None
