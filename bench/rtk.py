"""Fixes against truth: `dipper solve --mode kinematic` and rnx2rtkp on the same recordings, in one run.

A wrong fix is one that is called fixed and lies more than 25 cm off horizontally or 50 cm vertically: coarse on
purpose, since some truths are good to a few centimetres only and antenna types add a few more to the height; the errors
of the fixed epochs are beside it, and the share of fixes more than 5 cm off horizontally. A run of every set renews the
table in `bench/results` and leaves the text above it. rnx2rtkp runs with its defaults for the mode (ambiguities
continuous or instantaneous, two bands, ratio 3, no GLONASS ambiguities), with our elevation mask, systems and base;
RTKLIB-EX as `bench.rtklib_ex` tells.
"""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench import rtklib_ex
from bench.accuracy import DATA, ELEVATION_MASK_DEG, Set, job_of, rows_of_sets, systems_mask, unpacked
from bench.errors import errors_of
from caster.codec.solution import read_pos
from solver.model import Quality
from solver.timescale import NS
from stations.solve import run as solve_job

__all__ = ["Row", "run", "write_results"]

WRONG_H_M: Final = 0.25
WRONG_V_M: Final = 0.50
OFF_M: Final = 0.05
MODES: Final = ("kinematic", "instantaneous")
_TIMEOUT_S: Final = 600


@dataclass(frozen=True, slots=True)
class Row:
    """One solver on one recording.

    Fixes are of all epochs of the rover, `known_fix_percent` of those that have a truth; wrong ones, and those more
    than 5 cm off horizontally, are of the fixes that have one.
    """

    set: str
    mode: str
    systems: str
    solver: str
    epochs: int
    available_percent: float
    fix_percent: float
    known_fix_percent: float
    wrong_percent: float
    off_percent: float
    first_fix_s: float
    fix_h_rms_mm: float
    fix_v_rms_mm: float
    under_1m_percent: float
    seconds: float


def run(peers: dict[str, Path], names: list[str], *, repeat: int = 1, note: Callable[[str], None] = print) -> list[Row]:
    """Solve every set, or those named, in both modes; `peers` may name another `rnx2rtkp` or `convbin`."""
    return rows_of_sets(peers, names, note, _rows)


def _rows(item: Set, programs: dict[str, str]) -> Iterator[Row]:
    """Both solvers, both modes, all systems of one set."""
    with tempfile.TemporaryDirectory() as name:
        files = unpacked(item, Path(name), programs["convbin"])
        for mode in MODES:
            for systems in item.systems:
                ours = _ours(item, mode, systems)
                yield ours
                if programs["rnx2rtkp"] and files:
                    yield _theirs(item, mode, systems, programs["rnx2rtkp"], files, ours.epochs)
                if rtklib_ex.available() and files:
                    yield _of_ex(item, mode, systems, files, ours.epochs)


def _ours(item: Set, mode: str, systems: str) -> Row:
    """Our row."""
    began = time.monotonic()
    job = job_of(item, "kinematic", systems, instantaneous=mode == "instantaneous")
    fixes = [(fix.time_ns, fix.position_ecef_m, int(fix.quality)) for fix in solve_job(job) if fix.quality]
    return _row(item, mode, systems, "dipper", fixes, len(job.rover), job.rover[0].time_ns, time.monotonic() - began)


def _theirs(item: Set, mode: str, systems: str, program: str, files: list[Path], expected: int) -> Row:
    """The row of rnx2rtkp."""
    rover, base, *navigation = files
    out, options = rover.with_suffix(".pos"), rover.with_suffix(".conf")
    integers = "instantaneous" if mode == "instantaneous" else "continuous"
    options.write_text(
        "pos1-posmode=kinematic\npos1-frequency=l1+l2\npos1-ionoopt=brdc\npos1-tropopt=saas\n"
        f"pos1-navsys={systems_mask(systems)}\npos2-armode={integers}\npos2-gloarmode=off\n"
    )
    command = [program, "-k", str(options), "-p", "2", "-m", str(ELEVATION_MASK_DEG), "-o", str(out)]
    if item.base_ecef_m:
        command += ["-r", *(f"{value:.4f}" for value in item.base_ecef_m)]
    command += [str(rover), str(base), *map(str, navigation)]
    return _of_process(item, mode, systems, "rnx2rtkp", command, out, expected)


def _of_ex(item: Set, mode: str, systems: str, files: list[Path], expected: int) -> Row:
    """The row of RTKLIB-EX."""
    out = files[0].with_suffix(".ex.pos")
    command = rtklib_ex.command(
        "kinematic", out, files, systems_mask(systems), ELEVATION_MASK_DEG, item.base_ecef_m, mode == "instantaneous"
    )
    return _of_process(item, mode, systems, "RTKLIB-EX", command, out, expected)


def _of_process(item: Set, mode: str, systems: str, solver: str, command: list[str], out: Path, expected: int) -> Row:
    """The row of a solution file that a program writes."""
    out.unlink(missing_ok=True)
    began = time.monotonic()
    subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
    seconds = time.monotonic() - began
    text = out.read_text() if out.exists() else ""
    fixes: list[tuple[int, NDArray[np.float64], int]] = []
    if "Q" in text:
        solution = read_pos(text)
        fixes = list(zip(solution.time_ns.tolist(), solution.position_ecef_m, solution.quality.tolist(), strict=True))
    start_ns = fixes[0][0] if fixes else 0
    return _row(item, mode, systems, solver, fixes, expected, start_ns, seconds)


def _row(
    item: Set, mode: str, systems: str, solver: str, fixes: list[tuple[int, NDArray[np.float64], int]], expected: int,
    start_ns: int, seconds: float,
) -> Row:  # fmt: skip
    """The figures of one solution."""
    truth = item.truth(DATA / item.folder)
    fixed = [(time_ns, position) for time_ns, position, quality in fixes if quality == Quality.FIX]
    errors = errors_of(fixed, truth)
    everything = errors_of([(time_ns, position) for time_ns, position, _ in fixes], truth)
    h, v = np.hypot(errors[:, 0], errors[:, 1]), np.abs(errors[:, 2])
    nothing = float("nan")
    return Row(
        set=item.name,
        mode=mode,
        systems=systems,
        solver=solver,
        epochs=expected,
        available_percent=100.0 * len(fixes) / max(expected, 1),
        fix_percent=100.0 * len(fixed) / max(expected, 1),
        known_fix_percent=100.0 * len(h) / max(expected if -1 in truth else len(truth), 1),
        wrong_percent=100.0 * float(((h > WRONG_H_M) | (v > WRONG_V_M)).mean()) if len(h) else nothing,
        off_percent=100.0 * float((h > OFF_M).mean()) if len(h) else nothing,
        first_fix_s=(fixed[0][0] - start_ns) / NS if fixed else nothing,
        fix_h_rms_mm=1e3 * float(np.sqrt((h**2).mean())) if len(h) else nothing,
        fix_v_rms_mm=1e3 * float(np.sqrt((v**2).mean())) if len(h) else nothing,
        under_1m_percent=100.0 * float((np.hypot(everything[:, 0], everything[:, 1]) < 1.0).mean())
        if len(everything)
        else nothing,
        seconds=seconds,
    )


_COLUMNS: Final = {
    "set": ("set", ""), "mode": ("mode", ""), "systems": ("systems", ""), "solver": ("solver", ""),
    "epochs": ("epochs", ".0f"), "available %": ("available_percent", ".1f"), "fix %": ("fix_percent", ".1f"),
    "of truth %": ("known_fix_percent", ".1f"), "wrong %": ("wrong_percent", ".2f"),
    "H > 5 cm %": ("off_percent", ".2f"), "first fix s": ("first_fix_s", ".0f"),
    "H RMS mm": ("fix_h_rms_mm", ".1f"), "V RMS mm": ("fix_v_rms_mm", ".1f"),
    "all H < 1 m %": ("under_1m_percent", ".1f"), "s": ("seconds", ".1f"),
}  # fmt: skip
"""Fields of a row and how they are written, by the table's heads."""


def to_markdown(rows: list[Row]) -> str:
    """The rows as a table."""
    lines = [list(_COLUMNS), ["--:" if form else "---" for _, form in _COLUMNS.values()]]
    lines += [[_written(getattr(row, name), form) for name, form in _COLUMNS.values()] for row in rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _written(value: Any, form: str) -> str:
    return "" if value != value else format(value, form)


def write_results(rows: list[Row], folder: Path) -> None:
    """Renew the table below the text that tells of the sets."""
    path = folder / "rtk.md"
    text, _, _ = path.read_text().partition("| set |")
    path.write_text(text + to_markdown(rows))
