"""`dipper demo`: a whole service on this computer, with real observations."""

import contextlib
import os
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from caster.errors import SourceError
from stations.commands.running import aside, compile_apart, run_to_end

if TYPE_CHECKING:
    import subprocess

    from rich.console import Console

    from stations.demo import Demo

__all__ = ["demo"]

PATIENCE_S = 30.0
"""So long the rovers have for their first corrected position, however few seconds were asked for."""
REFRESH_S = 0.5
LINE_EVERY_S = 5.0


def demo(
    seconds: Annotated[float | None, typer.Option(min=1, help="Stop after so long; without: Ctrl-C.")] = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Of the caster, on the loopback; 0: any free one.")] = 0,
) -> None:
    """Run caster, station and rovers on this computer and show them: nothing to configure, no hardware.

    Example: dipper demo --seconds 30
    """
    import logging

    import structlog
    from rich.console import Console

    from stations.demo import Demo, find_recordings

    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    console = Console()
    running = Demo(find_recordings(), port)
    if not run_to_end(_run(running, console, seconds)):
        console.print()
        sys.stdout.flush()
        os._exit(0)  # a thread may still be compiling: it cannot be ended, and Python would trip over it
    if not running.answers.positions:
        raise SourceError("the demonstration ended without a position")


async def _run(running: "Demo", console: "Console", seconds: float | None) -> None:
    import asyncio

    from caster.warmup import prune_cache, warm_up
    from caster.warmup_steps import service_steps
    from stations.demo import compile_reading
    from stations.demo_view import summary, where_to_look

    started_s = time.monotonic()
    helpers: list[subprocess.Popen[bytes]] = []
    async with running:
        _say(console, f"The caster listens on {running.address}.")
        longest_first = dict(reversed(list(service_steps().items())))  # the other process takes the rest meanwhile
        try:
            await aside(lambda: warm_up(longest_first, console, lambda: helpers.append(compile_reading())))
            _say(console, "Reading the recordings.")
            for helper in helpers:
                await aside(helper.wait)
        finally:
            console.show_cursor()  # which a progress bar that is left behind has hidden
            for helper in helpers:
                helper.kill()
                helper.wait()
        await running.start_peers()
        compiling = asyncio.create_task(compile_apart(running.service.carriers, says=False), name="carriers")
        _say(console, "Station and rovers begin.")
        if not console.is_terminal:
            _say(console, *where_to_look(running))
        try:
            await _show(running, console, started_s, seconds)
        finally:  # Ctrl-C ends it as well
            compiling.cancel()
            await asyncio.wait([compiling])
            _say(console, *summary(running))
    await asyncio.to_thread(prune_cache)


async def _show(running: "Demo", console: "Console", started_s: float, seconds: float | None) -> None:
    """Show what happens until the time is over; on something that is no terminal, a line now and then."""
    import asyncio

    from rich.live import Live

    from stations.demo_view import line, tables

    shown_s, shown_quality = 0.0, 0
    patience_s = time.monotonic() - started_s + PATIENCE_S
    with Live(console=console, auto_refresh=False) if console.is_terminal else contextlib.nullcontext() as live:
        while True:
            elapsed_s, answers = time.monotonic() - started_s, running.answers
            running.check_peers()
            if live is not None:
                live.update(tables(running), refresh=True)
            elif answers.quality != shown_quality or elapsed_s - shown_s >= LINE_EVERY_S:
                _say(console, line(running, elapsed_s))
                shown_s, shown_quality = elapsed_s, answers.quality
            if seconds is not None and elapsed_s >= (seconds if answers.corrected else max(seconds, patience_s)):
                return
            await asyncio.sleep(REFRESH_S)


def _say(console: "Console", *lines: str) -> None:
    """Print lines as they are, however narrow the console."""
    for line in lines:
        console.print(line, highlight=False, markup=False, soft_wrap=True)
