"""`dipper solve`: positions from recordings."""

import sys
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import IO, TYPE_CHECKING, Annotated, Final

import typer
from typer.core import TyperCommand

from caster.errors import ConfigError, DipperError
from stations.collector import collector_paused
from stations.commands.addresses import wrong_usage
from stations.commands.outputs import spare_inputs

if TYPE_CHECKING:
    from solver.model import Fix
    from stations.solve import Job

__all__ = ["ManyValues", "solve"]

_TOGETHER: Final = 256
"""Fixes that are written at once; solving them takes some 0.03 s."""
_MANY = ("--rover", "--base", "--nav", "--signals")


class ManyValues(TyperCommand):
    """A command whose options of files take any number of them: `--rover A B` is `--rover A --rover B`."""

    def parse_args(self, ctx, args):  # type: ignore[no-untyped-def]
        """Spread the values before they are parsed."""
        return super().parse_args(ctx, spread(list(args)))


def spread(args: list[str]) -> list[str]:
    """Repeat the option before each of its values."""
    out: list[str] = []
    option, taken = "", 0
    for word in args:
        if word.startswith("--"):
            option, taken = word.partition("=")[0] if "=" not in word else "", 0
        elif option in _MANY:
            out += [option] if taken else []
            taken += 1
        out.append(word)
    return out


def solve(
    mode: Annotated[
        str,
        typer.Option(
            help="single, dgnss; kinematic, moving-base and static resolve ambiguities, static gives one position."
        ),
    ],
    rover: Annotated[list[Path], typer.Option(help="Rover: RINEX, CRINEX, RTCM 3, UBX, SBF; compressed or not.")],
    base: Annotated[list[Path] | None, typer.Option(help="Observations of the base.")] = None,
    nav: Annotated[
        list[Path] | None, typer.Option(help="Navigation files, where the others hold no ephemerides.")
    ] = None,
    systems: Annotated[str, typer.Option(help="RINEX letters of the systems to use.")] = "GREJC",
    signals: Annotated[list[str] | None, typer.Option(help="Signals to use alone, such as C2I G1C.")] = None,
    base_position: Annotated[
        tuple[float, float, float] | None, typer.Option(help="ECEF of the base's antenna, m.")
    ] = None,
    elevation_mask: Annotated[float, typer.Option(min=0.0, max=80.0, help="Degrees.")] = 10.0,
    instantaneous: Annotated[bool, typer.Option("--instantaneous", help="Resolve each epoch by itself.")] = False,
    antex: Annotated[Path | None, typer.Option(help="An ANTEX file: calibrations of both antennas.")] = None,
    rover_antenna: Annotated[
        str, typer.Option(help="The rover's type, as 'LEIAR25.R3 NONE', where its files tell none or another.")
    ] = "",
    base_antenna: Annotated[str, typer.Option(help="The same of the base.")] = "",
    start: Annotated[str, typer.Option(help="First epoch, GPST, as 2024-06-24T08:20:00.")] = "",
    end: Annotated[str, typer.Option(help="Last epoch.")] = "",
    interval: Annotated[float, typer.Option(min=0.0, max=86_400.0, help="Seconds between epochs; 0: all.")] = 0.0,
    output: Annotated[Path | None, typer.Option(help="Where to write; the terminal if not given.")] = None,
    form: Annotated[str, typer.Option("--format", help="pos (RTKLIB's), nmea or csv.")] = "pos",
    plot: Annotated[
        Path | None, typer.Option(help="A figure of the solution: .png, .pdf or .svg; needs matplotlib.")
    ] = None,
) -> None:
    """Solve recordings for positions.

    Example: dipper solve --mode dgnss --rover rover.obs.gz --base base.rtcm3 --nav brdc.rnx --output rover.pos

    Example: dipper solve --mode kinematic --rover r.obs --base b.obs --antex igs20.atx --rover-antenna 'AOAD/M_T NONE'
    """
    from stations.compressed import ReadAhead

    inputs = [*rover, *(base or []), *(nav or [])]
    spare_inputs([*inputs, *([antex] if antex else [])], output, plot)
    ahead = ReadAhead(inputs)  # while the solver is loaded
    if form not in _WRITERS:
        raise typer.BadParameter(f"{form}: not one of {', '.join(_WRITERS)}", param_hint="--format")
    if plot is not None:
        from stations.plots import check_plotting

        with wrong_usage():
            check_plotting(plot)
    with collector_paused():
        import numpy as np

        from solver.observed import Selection
        from stations.solve import load_kernels, prepare

        Thread(target=load_kernels, args=(mode, instantaneous), name="kernels").start()  # while files are read
        wanted = Selection(systems.upper(), _signals(signals or [], systems), float(np.radians(elevation_mask)))
        place = np.array(base_position) if base_position else None
        span = (_instant(start), _instant(end))
        try:
            job = prepare(
                mode, rover, base or [], nav or [], wanted, place, span, interval, instantaneous, antex, ahead.read,
                (rover_antenna, base_antenna),
            )  # fmt: skip
        except ConfigError as error:
            raise typer.BadParameter(str(error)) from None
    for warning in job.warnings[:20]:
        typer.echo(f"dipper: {warning}", err=True)
    if output is None:
        _solve(job, form, sys.stdout, rover, plot)
    else:
        with output.open("w", newline="") as file:
            _solve(job, form, file, rover, plot)


def _signals(names: list[str], systems: str) -> frozenset[str]:
    """Signal names, comma separated or not.

    Raises:
        BadParameter: a name is that of no signal.
    """
    from solver.signals import SYSTEMS, signal

    if unknown := [letter for letter in systems.upper() if letter not in SYSTEMS]:
        raise typer.BadParameter(f"no such system: {unknown[0]}; known are {SYSTEMS}", param_hint="--systems")
    chosen = frozenset(name for word in names for name in word.split(",") if name)
    if wrong := sorted(name for name in chosen if signal(name) < 0):
        raise typer.BadParameter(f"no such signal: {wrong[0]}; write them as C2I, G1C", param_hint="--signals")
    return chosen


def _instant(text: str) -> int | None:
    """An instant of GPST as text; None where there is none."""
    from solver.timescale import from_datetime

    try:
        return from_datetime(datetime.fromisoformat(text)) if text else None
    except ValueError:
        raise typer.BadParameter(f"{text}: not a time such as 2024-06-24T08:20:00") from None


def _solve(job: "Job", form: str, file: IO[str], inputs: list[Path], plot: Path | None) -> None:
    """Solve, write as it goes, end with the summary line, and draw.

    Raises:
        DipperError: no epoch could be solved.
    """
    from solver.model import Quality
    from stations.solve import Summary

    head, lines = _WRITERS[form]
    file.write(head([str(path) for path in inputs], (job.rover[0].time_ns, job.rover[-1].time_ns)))
    summary, began = Summary(), time.monotonic()
    title = f"{job.mode}: {', '.join(path.name for path in inputs)}"
    if job.mode == "static":
        _solve_static(job, lines, file, plot, title)
        return
    drawn: list[Fix] = []
    coming = _shown(job)
    while fixes := list(islice(coming, _TOGETHER)):
        file.write(lines(fixes))
        for fix in fixes:
            summary.add(fix)
        if plot is not None:
            drawn += fixes
    typer.echo(summary.line(time.monotonic() - began), err=True)
    if summary.epochs == summary.qualities[Quality.NONE]:
        raise DipperError(f"no solution at all: {summary.reasons.most_common(1)[0][0]}")
    if plot is not None:
        from stations.plots import plot_fixes

        plot_fixes(drawn, job.rover, plot, title)


def _solve_static(
    job: "Job", lines: "Callable[[list[Fix]], str]", file: IO[str], plot: Path | None, title: str
) -> None:
    """One position of the whole session.

    Raises:
        DipperError: there is none.
    """
    from stations.static import fix_of, line_of, solve_session

    began = time.monotonic()
    solution = solve_session(job)
    if not solution.quality:
        raise DipperError(f"no solution at all: {solution.reason}")
    file.write(lines([fix_of(solution)]))
    typer.echo(line_of(solution, len(job.rover), time.monotonic() - began), err=True)
    if plot is not None:
        from stations.plots import plot_static

        plot_static(solution, job.rover, plot, title)


def _shown(job: "Job") -> "Iterator[Fix]":
    """The fixes, with a progress bar where the error output is a terminal."""
    from stations.solve import run

    if not sys.stderr.isatty():
        yield from run(job)
        return
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(run(job), description=job.mode, total=len(job.rover), console=console, transient=True)


def _pos_head(inputs: list[str], span_ns: tuple[int, int]) -> str:
    from caster.codec.solution import pos_header

    return pos_header("Big Dipper", inputs, span_ns)


def _pos_lines(fixes: "list[Fix]") -> str:
    from caster.codec.solution import pos_lines

    return pos_lines(fixes)


def _nmea_lines(fixes: "list[Fix]") -> str:
    from caster.codec.nmea import sentences

    return b"".join(map(sentences, fixes)).decode()


def _csv_head(inputs: list[str], span_ns: tuple[int, int]) -> str:
    from caster.codec.solution import csv_header

    return csv_header()


def _csv_lines(fixes: "list[Fix]") -> str:
    from caster.codec.solution import csv_line

    return "".join(map(csv_line, fixes))


_WRITERS: dict[str, tuple[Callable[[list[str], tuple[int, int]], str], Callable[["list[Fix]"], str]]] = {
    "pos": (_pos_head, _pos_lines),
    "nmea": (lambda inputs, span_ns: "", _nmea_lines),
    "csv": (_csv_head, _csv_lines),
}
