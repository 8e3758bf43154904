"""Epochs a second of ambiguity resolution: one rover on one core, reading left out, and many rovers at once.

The recording is the short baseline of `bench.accuracy`'s first set (a metre; some 35 satellites of GPS, Galileo and
BeiDou). Time is processor time. The peers, rnx2rtkp and RTKLIB-EX, are timed as whole processes, so their rates hold
their reading of RINEX (RTKLIB needs 8 per cent of the time for that with these files).
"""

import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bench import rtklib_ex
from bench.accuracy import DATA, SETS, systems_mask, unpacked
from solver.model import Quality
from solver.observed import Selection
from solver.rtk import RtkOptions, RtkState, Workspace, process
from stations.solve import Job, prepare, signal_mask

__all__ = ["Row", "run"]

ROVERS: Final = 20
"""Rovers that take turns, so that none finds its state in the processor's cache."""
_SYSTEMS: Final = ("G", "C", "GEC")
_TIMEOUT_S: Final = 600


@dataclass(frozen=True, slots=True)
class Row:
    """One way of solving; `fix_percent` of all epochs."""

    solver: str
    mode: str
    systems: str
    bands: int
    rovers: int
    fix_percent: float
    epochs_per_s: float


def run(peers: dict[str, Path], names: list[str], *, repeat: int = 3, note: Callable[[str], None] = print) -> list[Row]:
    """Measure each mode; `peers` may name another `rnx2rtkp`."""
    item = SETS[0]
    folder = DATA / item.folder
    if not folder.is_dir():
        note(f"no recording at {folder}")
        return []
    rows: list[Row] = []
    for systems in _SYSTEMS:
        job = prepare(
            "kinematic", [folder / item.rover], [folder / item.base], [folder / name for name in item.navigation],
            Selection(systems=systems), np.array(item.base_ecef_m),
        )  # fmt: skip
        rows += _ours(job, systems, repeat)
    program = str(peers.get("rnx2rtkp") or shutil.which("rnx2rtkp") or "")
    if not program:
        note("rnx2rtkp is not installed: left out")
    if not rtklib_ex.available():
        note("RTKLIB-EX (pyrtklib5) is not installed: left out")
    return rows + list(_theirs(program))


def _ours(job: Job, systems: str, repeat: int) -> Iterator[Row]:
    """Single-epoch and continuous, two bands and three, one rover and many."""
    for instantaneous, bands, rovers in ((True, 2, 1), (True, 3, 1), (False, 2, 1), (False, 2, ROVERS)):
        options = RtkOptions(instantaneous=instantaneous, bands_max=bands, signals=signal_mask(job.selection))
        _solve(job, options, 1, 3)
        runs = [_solve(job, options, rovers, len(job.rover)) for _ in range(repeat)]
        rate = statistics.median(run[0] for run in runs)
        mode = "instantaneous" if instantaneous else "kinematic"
        yield Row("dipper", mode, systems, bands, rovers, runs[0][1], rate)


def _solve(job: Job, options: RtkOptions, rovers: int, limit: int) -> tuple[float, float]:
    """Epochs a second and per cent of fixes, with rovers taking turns at each epoch."""
    states = [RtkState() for _ in range(rovers)]
    workspace, fixed = Workspace(), 0
    began = time.process_time()
    for rover, base in zip(job.rover[:limit], job.base[:limit], strict=True):
        for state in states:
            fix = process(state, rover, base, job.base_ecef_m, job.ephemerides, options, workspace)
            fixed += fix.quality == Quality.FIX
    count = limit * rovers
    return count / (time.process_time() - began), 100.0 * fixed / count


def _theirs(program: str) -> Iterator[Row]:
    """rnx2rtkp and RTKLIB-EX, two bands, single-epoch ambiguities."""
    item = SETS[0]
    with tempfile.TemporaryDirectory() as name:
        files = unpacked(item, Path(name), "")
        for systems in _SYSTEMS:
            options, out = Path(name) / "options.conf", Path(name) / "out.pos"
            options.write_text(f"pos1-navsys={systems_mask(systems)}\npos2-armode=instantaneous\n")
            if program:
                command = [program, "-k", str(options), "-p", "2", "-f", "2", "-m", "10", "-o", str(out)]
                command += ["-r", *(f"{value:.4f}" for value in item.base_ecef_m or ())]
                yield _of_process("rnx2rtkp", systems, [*command, *map(str, files)], out)
            if rtklib_ex.available():
                command = rtklib_ex.command(
                    "kinematic", out, files, systems_mask(systems), 10.0, item.base_ecef_m, True
                )
                yield _of_process("RTKLIB-EX", systems, command, out)


def _of_process(solver: str, systems: str, command: list[str], out: Path) -> Row:
    """The row of a program that writes a solution file."""
    out.unlink(missing_ok=True)
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    text = out.read_text() if out.exists() else ""
    qualities = [line.split()[5] for line in text.splitlines() if line and line[0] != "%"]
    fixed = 100.0 * qualities.count("1") / max(len(qualities), 1)
    return Row(solver, "instantaneous", systems, 2, 1, fixed, len(qualities) / seconds)
