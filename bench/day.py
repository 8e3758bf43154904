"""A day's recording as a whole process: `dipper solve` from the raw RTCM files to the `.pos` file, beside both RTKLIBs.

The day is `bench.accuracy`'s tibet-418m: 5,742 epochs of BeiDou by two receivers, 15 s apart. Our kernels are compiled
before; reading, decompression and the start of Python count. rnx2rtkp and RTKLIB-EX read plain RINEX that convbin has
made of the same files, which is not counted. Ours uses all four bands there are, convbin keeps three of them.
"""

import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import rtklib_ex
from bench.accuracy import DATA, ELEVATION_MASK_DEG, SETS, Set, systems_mask, unpacked

__all__ = ["Row", "run", "write_results"]

MODES: Final = {"single": "0", "dgnss": "1", "kinematic": "2"}
"""By their names here: rnx2rtkp's numbers."""
_SYSTEMS: Final = "C"
_EX_BANDS: Final = {"RTKLIB-EX": 2, "RTKLIB-EX, all bands": 4}
"""As many bands as 2.4.3 takes, and all that the files hold, as ours does: B3I is its fourth."""
_TIMEOUT_S: Final = 600
_HEAD: Final = """# A day's recording as a process

`python -m bench day --repeat {repeat}`, {cores} virtual cores; medians, the solvers taking turns. tibet-418m: 5,742
epochs of BeiDou and those of its base. Ours is `dipper solve` on packed RTCM with compiled kernels and all four bands;
the peers read plain RINEX, of which convbin keeps three bands: they use two of them, as they do by default, or all.
Wall time beyond processor time is other work on the machine.

| mode | solver | positions | wall s | processor s |
|---|---|--:|--:|--:|
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One solver in one mode; `epochs` it wrote a position of."""

    mode: str
    solver: str
    epochs: int
    wall_s: float
    cpu_s: float
    repeat: int


def run(peers: dict[str, Path], names: list[str], *, repeat: int = 3, note: Callable[[str], None] = print) -> list[Row]:
    """Measure each mode, or those named; `peers` may name another `rnx2rtkp` or `convbin`."""
    item = next(item for item in SETS if item.name == "tibet-418m")
    if not (DATA / item.folder).is_dir():
        note(f"no recording at {DATA / item.folder}")
        return []
    programs = {name: str(peers.get(name) or shutil.which(name) or "") for name in ("rnx2rtkp", "convbin")}
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        files = unpacked(item, Path(name), programs["convbin"])
        for mode in names or MODES:
            out = Path(name) / "out.pos"
            commands = _commands(item, mode, out, files, programs["rnx2rtkp"])
            _seconds(commands["dipper"])  # compiles
            runs: dict[str, list[tuple[float, float, int]]] = {solver: [] for solver in commands}
            for _ in range(repeat):
                for solver, command in commands.items():
                    out.unlink(missing_ok=True)
                    runs[solver].append((*_seconds(command), _positions(out)))
            note(f"{mode} done")
            rows += [
                Row(
                    mode,
                    solver,
                    took[0][2],
                    statistics.median(run[0] for run in took),
                    statistics.median(run[1] for run in took),
                    repeat,
                )
                for solver, took in runs.items()
            ]
    return rows


def _commands(item: Set, mode: str, out: Path, files: list[Path], rnx2rtkp: str) -> dict[str, list[str]]:
    """What to run, by solver."""
    folder = DATA / item.folder
    base = [f"{value:.4f}" for value in item.base_ecef_m or ()]
    ours = [sys.executable, "-m", "stations", "solve", "--mode", mode, "--rover", str(folder / item.rover)]
    ours += ["--systems", _SYSTEMS, "--elevation-mask", str(ELEVATION_MASK_DEG), "--output", str(out)]
    ours += ["--base", str(folder / item.base), "--base-position", *base] if mode != "single" else []
    commands = {"dipper": ours}
    if not files:
        return commands
    used = [files[0], *files[2:]] if mode == "single" else files
    systems = systems_mask(_SYSTEMS)
    if rnx2rtkp:
        options = out.with_suffix(".conf")
        options.write_text(
            "pos1-frequency=l1+l2\npos1-ionoopt=brdc\npos1-tropopt=saas\npos2-armode=continuous\n"
            f"pos1-navsys={systems}\n"
        )
        theirs = [rnx2rtkp, "-k", str(options), "-p", MODES[mode], "-m", str(ELEVATION_MASK_DEG), "-o", str(out)]
        commands["rnx2rtkp"] = [*theirs, *(["-r", *base] if mode != "single" else []), *map(str, used)]
    if rtklib_ex.available():
        for name, bands in _EX_BANDS.items():
            commands[name] = rtklib_ex.command(
                mode, out, used, systems, ELEVATION_MASK_DEG, item.base_ecef_m, bands=bands
            )
    return commands


def _seconds(command: list[str]) -> tuple[float, float]:
    """Wall and processor time of a process."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False, env=_environment())
    wall_s, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return wall_s, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _environment() -> dict[str, str]:
    """Python may keep bytecode, as it does of installed packages, wherever the benchmark itself may not."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}


def _positions(out: Path) -> int:
    """How many positions a solution file has."""
    return sum(line[:1] not in "%\n" for line in out.read_text().splitlines(True)) if out.exists() else 0


def write_results(rows: list[Row], folder: Path) -> None:
    """Write the table."""
    lines = [f"| {r.mode} | {r.solver} | {r.epochs:,} | {r.wall_s:.2f} | {r.cpu_s:.2f} |\n" for r in rows]
    head = _HEAD.format(repeat=rows[0].repeat if rows else 0, cores=os.cpu_count())
    (folder / "day.md").write_text(head + "".join(lines))
