"""Compile every kernel of the service before a rover needs it, and keep the folder of compiled code small.

numba compiles a kernel on its first call: seconds each, once for a version of the sources, then a load from the cache.
`warm_up` makes those first calls in the order in which the service would, on tiny inputs, and shows a progress bar when
it takes longer than a moment. What the event loop itself calls is compiled before `serve` listens, since a loop that
compiles serves nobody; the solver's kernels in a thread once the listener is up, so that stations and rovers are
already served while it gets ready.
"""

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from numba.core.dispatcher import Dispatcher
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from solver.jit import cache_root

__all__ = ["CACHE_BYTES_MAX", "SHOWN_AFTER_S", "compiled_folders", "prune_cache", "warm_up"]

CACHE_BYTES_MAX: Final = 256 << 20
"""Compiled code kept of other versions of the sources; one version has about 20 MB."""
SHOWN_AFTER_S: Final = 2.0
"""A warm start takes about one and shows nothing."""

_one_at_a_time: Final = threading.Lock()


def warm_up(
    steps: Mapping[str, Callable[[], None]],
    console: Console | None = None,
    on_cold: Callable[[], object] = lambda: None,
    notice: str = "Compiling kernels, once for this version; this takes less than a minute.",
) -> dict[str, float]:
    """Run each step once, with a progress bar where they take longer than a moment.

    Args:
        steps: What to run, by the name to show.
        console: Where to show it; None: nowhere.
        on_cold: Called once where there is something to compile: numba compiles on one core, so another process can
            compile what comes later meanwhile.
        notice: What to say instead of the bar where the console is no terminal.

    Returns:
        Seconds that each step took.
    """
    seconds: dict[str, float] = {}
    with _one_at_a_time, _late_progress(console, on_cold, notice) as progress:
        task = progress.add_task("", total=len(steps))
        for name, step in steps.items():
            progress.update(task, description=name)
            started_s = time.perf_counter()
            step()
            seconds[name] = time.perf_counter() - started_s
            progress.advance(task)
    return seconds


@contextmanager
def _late_progress(console: Console | None, on_cold: Callable[[], object], notice: str) -> Iterator[Progress]:
    """A progress bar that appears after `SHOWN_AFTER_S`; one plain line where the console is no terminal."""
    title = TextColumn("Compiling kernels, once: {task.description}")
    progress = Progress(title, BarColumn(), TimeElapsedColumn(), console=console, transient=True)

    def show() -> None:
        on_cold()
        if console is not None and console.is_terminal:
            progress.start()
        elif console is not None:
            console.print(notice, soft_wrap=True)

    timer = threading.Timer(SHOWN_AFTER_S, show)
    timer.start()
    try:
        yield progress
    finally:
        timer.cancel()
        timer.join()
        if progress.live.is_started:
            progress.stop()


def compiled_folders() -> set[Path]:
    """The folders of the cache that this process has compiled code in or loaded it from."""
    root = cache_root()
    paths = (Path(path) for module in _project_modules() for path in _cache_paths(module))
    return {root / path.relative_to(root).parts[0] for path in paths if path.is_relative_to(root)}


def prune_cache(bytes_max: int = CACHE_BYTES_MAX) -> int:
    """Mark the folders in use as used now, and delete the longest unused of the others beyond a size.

    Returns:
        How many folders were deleted.
    """
    used = compiled_folders()
    for folder in used:
        folder.touch()
    others = [folder for folder in cache_root().iterdir() if folder.is_dir() and folder not in used]
    kept_bytes = deleted = 0
    for folder in sorted(others, key=lambda folder: folder.stat().st_mtime, reverse=True):
        kept_bytes += sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
        if kept_bytes > bytes_max:
            shutil.rmtree(folder, ignore_errors=True)
            deleted += 1
    return deleted


def _project_modules() -> Iterator[object]:
    packages = ("solver", "caster", "stations")
    return (module for name, module in list(sys.modules.items()) if name.partition(".")[0] in packages)


def _cache_paths(module: object) -> Iterator[str]:
    """The cache folders of a module's own kernels that have been called."""
    for kernel in vars(module).values():
        if isinstance(kernel, Dispatcher) and kernel.signatures:
            yield str(kernel.stats.cache_path)
