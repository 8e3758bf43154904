"""`python -m bench NAME...`: run benchmarks by name, with their peers in the same run; without a name, list them.

A benchmark is a module of `bench` with `run(peers, names, *, repeat, note)` that returns rows (dataclasses, all of one
type); `NAME:PART` runs a part of it alone. A peer that is not installed is left out, and the output says so. A module
with `write_results(rows, folder)` renews its tables in `bench/results` when it is run as a whole.
"""

import dataclasses
import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table

BENCHMARKS: Final = {
    "decode": "RTCM 3 to numbers: messages a second, beside pyrtcm, convbin and RTKLIB",
    "solve": "epochs a second of each kind of solution",
    "day": "`dipper solve` on a day's recording as a process, beside both RTKLIBs",
    "batch": "rovers at 1 Hz that one process serves",
    "accuracy": "positions against truth, beside rnx2rtkp",
    "rtk": "fixed positions and wrong ones against truth, beside rnx2rtkp",
    "bands": "positions by one band alone: what antennas put into millimetres",
    "honesty": "errors of fixed and float positions in units of what comes with them",
    "static": "one position of a whole session against known coordinates, beside rnx2rtkp",
    "publish": "one frame to many sockets, beside the bare kernel send",
    "fanout": "thousands of rovers on one caster",
    "ingest": "thousands of stations on one caster",
    "network": "network corrections",
    "end-to-end": "from a station's frame to a rover's fix",
    "start": "`dipper serve` from its start to listening, and to a rover's first position",
}
RESULTS: Final = Path(__file__).parent / "results"
_WIDTH: Final = 240  # of what is not a terminal: a table of sixteen columns stays readable


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Benchmarks, each NAME or NAME:PART.")] = None,
    peer: Annotated[list[str] | None, typer.Option(help="A peer's program, NAME=PATH.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Where the rows go as JSON.")] = None,
    repeat: Annotated[int, typer.Option(min=1, help="Runs of each.")] = 3,
) -> None:
    """Run benchmarks with their peers in the same run.

    Example: python -m bench decode --json decode.json
    """
    console = Console() if sys.stdout.isatty() else Console(width=_WIDTH)
    if not names:
        console.print(_listing())
        return
    peers = {name: Path(path) for name, _, path in (text.partition("=") for text in peer or [])}
    record: dict[str, Any] = {}
    for name, parts in _wanted(names).items():
        module = _load(name)
        rows = module.run(peers, parts, repeat=repeat, note=lambda text: console.print(text, style="dim"))
        console.print(table_of(name, rows))
        if not parts and hasattr(module, "write_results"):
            module.write_results(rows, RESULTS)
        record[name] = [dataclasses.asdict(row) for row in rows]
    if json_file is not None:
        json_file.write_text(json.dumps(record, indent=1) + "\n")


def _module(name: str) -> str:
    return f"bench.{name.replace('-', '_')}"


def _listing() -> Table:
    table = Table(title="python -m bench NAME...")
    table.add_column("name")
    table.add_column("measures")
    for name, what in BENCHMARKS.items():
        if importlib.util.find_spec(_module(name)):
            table.add_row(name, what)
    return table


def _wanted(names: list[str]) -> dict[str, list[str]]:
    """Parts by benchmark, in the order asked for."""
    wanted: dict[str, list[str]] = {}
    for text in names:
        name, _, part = text.partition(":")
        if name not in BENCHMARKS or not importlib.util.find_spec(_module(name)):
            raise typer.BadParameter(f"no benchmark {name!r}")
        wanted.setdefault(name, []).extend([part] if part else [])
    return wanted


def _load(name: str) -> Any:
    return importlib.import_module(_module(name))


def table_of(title: str, rows: list[Any]) -> Table:
    """Rows as a table, a column for each field but those that are data for a figure (`repr=False`)."""
    table = Table(title=title)
    fields = [field.name for field in dataclasses.fields(rows[0]) if field.repr] if rows else []
    for field in fields:
        table.add_column(
            field.replace("_", " "), justify="left" if isinstance(getattr(rows[0], field), str) else "right"
        )
    for row in rows:
        values = (getattr(row, field) for field in fields)
        table.add_row(
            *(f"{value:,.4g}" if isinstance(value, float) and value < 1e4 else _text(value) for value in values)
        )
    return table


def _text(value: Any) -> str:
    return f"{value:,.0f}" if isinstance(value, float | int) else str(value)


if __name__ == "__main__":
    typer.run(main)
