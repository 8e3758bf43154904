"""Static positions against known coordinates: `dipper solve --mode static` and rnx2rtkp on the same recordings.

rnx2rtkp runs in its static mode, forward (combined with backward it gives nothing for two of the sets), ambiguities
continuous, ratio 3, no GLONASS ambiguities, two bands; its last position stands for the session. On baselines beyond
20 km it estimates ionosphere and troposphere. Elevation mask, systems and base are ours. No antenna calibrations on
either side.
"""

import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.accuracy import DATA, ELEVATION_MASK_DEG, Set, errors_of, job_of, rows_of_sets, systems_mask, unpacked
from caster.codec.solution import read_pos
from solver.model import Quality
from stations.static import enu_deviations_m, solve_session

__all__ = ["Row", "run", "write_results"]

SETS: Final = ("nagoya-1m", "stromlo-70m", "fujisawa-5km", "dutch-35km", "dutch-101km", "tibet-418m")
TIBET: Final = "tibet-418m"
DAYS: Final = (15, 16, 17)
LONG_M: Final = 20e3
_TIMEOUT_S: Final = 900
_HEAD: Final = """# Static positions against known coordinates

`python -m bench static` on the development machine (two cores, shared: seconds are rough). One position of each whole
session; errors east, north, up of it. Truths of the Dutch stations are headers' (some millimetres to centimetres
horizontally; in height the ten lines between the five stations close to 2 cm with one offset for each of them, up to
17 cm, which headers and phase centres share; the base of the 35 km is its antenna, 5 cm above the marker); that of
tibet is 9 cm off in height, there the days' repetition counts. The height of
stromlo contains the phase centres of two antenna types, 4 cm apart. sigma: the solution's own standard deviations.

"""


@dataclass(frozen=True, slots=True)
class Row:
    """One solver on one session; errors and standard deviations in millimetres."""

    set: str
    systems: str
    solver: str
    quality: str
    e_mm: float
    n_mm: float
    u_mm: float
    sigma_e_mm: float
    sigma_n_mm: float
    sigma_u_mm: float
    seconds: float


def run(peers: dict[str, Path], names: list[str], *, repeat: int = 1, note: Callable[[str], None] = print) -> list[Row]:
    """Solve every set at rest, or those named; `peers` may name another `rnx2rtkp` or `convbin`."""
    return rows_of_sets(peers, names or list(SETS), note, _rows)


def _rows(item: Set, programs: dict[str, str]) -> Iterator[Row]:
    """Both solvers, all systems of one set, and all days of the one that has several."""
    for session in _days(item) if item.name == TIBET else [item]:
        with tempfile.TemporaryDirectory() as name:
            files = unpacked(session, Path(name), programs["convbin"])
            for systems in session.systems:
                yield _ours(session, systems)
                if programs["rnx2rtkp"] and files:
                    yield _theirs(session, systems, programs["rnx2rtkp"], files)


def _days(item: Set) -> list[Set]:
    """The same pair of receivers on each of its days."""
    return [
        replace(
            item,
            name=f"{item.name} 05-{day}",
            rover=item.rover.replace("05-15", f"05-{day}"),
            base=item.base.replace("05-15", f"05-{day}"),
            convert_at=item.convert_at.replace("05/15", f"05/{day}"),
        )
        for day in DAYS
    ]


def _ours(item: Set, systems: str) -> Row:
    """Our row."""
    began = time.monotonic()
    job = job_of(item, "static", systems)
    solution = solve_session(job)
    seconds = time.monotonic() - began
    deviations = 1e3 * np.array(enu_deviations_m(solution))
    return _row(item, systems, "dipper", solution.quality, solution.position_ecef_m, deviations, seconds)


def _theirs(item: Set, systems: str, program: str, files: list[Path]) -> Row:
    """The row of rnx2rtkp."""
    rover, base, *navigation = files
    out, options = rover.with_suffix(".pos"), rover.with_suffix(".conf")
    truth = item.truth(DATA / item.folder)[-1]
    far = item.base_ecef_m is not None and float(np.linalg.norm(truth - np.array(item.base_ecef_m))) > LONG_M
    delays = "pos1-ionoopt=est-stec\npos1-tropopt=est-ztd\n" if far else "pos1-ionoopt=brdc\npos1-tropopt=saas\n"
    options.write_text(
        "pos1-posmode=static\npos1-frequency=l1+l2\n" + delays
        + f"pos1-navsys={systems_mask(systems)}\npos2-armode=continuous\npos2-gloarmode=off\n"
    )  # fmt: skip
    command = [program, "-k", str(options), "-m", str(ELEVATION_MASK_DEG), "-o", str(out)]
    if item.base_ecef_m:
        command += ["-r", *(f"{value:.4f}" for value in item.base_ecef_m)]
    command += [str(rover), str(base), *map(str, navigation)]
    out.unlink(missing_ok=True)
    began = time.monotonic()
    subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
    seconds = time.monotonic() - began
    text = out.read_text() if out.exists() else ""
    nothing = np.full(3, np.nan)
    if "Q" not in text or not len((solution := read_pos(text)).time_ns):
        return _row(item, systems, "rnx2rtkp", Quality.NONE, nothing, nothing, seconds)
    quality = Quality(int(solution.quality[-1]))
    deviations = 1e3 * solution.deviation_enu_m[-1]
    return _row(item, systems, "rnx2rtkp", quality, solution.position_ecef_m[-1], deviations, seconds)


def _row(
    item: Set, systems: str, solver: str, quality: Quality, position_m: NDArray[np.float64],
    deviations_mm: NDArray[np.float64], seconds: float,
) -> Row:  # fmt: skip
    """The figures of one position."""
    east, north, up = 1e3 * errors_of([(0, position_m)], item.truth(DATA / item.folder))[0]
    sigma_e, sigma_n, sigma_u = deviations_mm.tolist()
    kind = quality.name.lower()
    return Row(item.name, systems, solver, kind, east, north, up, sigma_e, sigma_n, sigma_u, seconds)


def write_results(rows: list[Row], folder: Path) -> None:
    """Write the table, with how far the days of one baseline are from their mean."""
    columns = "| set | systems | solver | | E mm | N mm | U mm | sigma E N U mm | s |\n"
    lines = [columns, "|---|---|---|---|--:|--:|--:|--:|--:|\n"]
    lines += [
        f"| {r.set} | {r.systems} | {r.solver} | {r.quality} | {r.e_mm:.1f} | {r.n_mm:.1f} | {r.u_mm:.1f}"
        f" | {r.sigma_e_mm:.1f} {r.sigma_n_mm:.1f} {r.sigma_u_mm:.1f} | {r.seconds:.1f} |\n"
        for r in rows
    ]
    (folder / "static.md").write_text(_HEAD + "".join(lines) + "\n" + "".join(_repetition(rows)))


def _repetition(rows: list[Row]) -> list[str]:
    """A line for each solver: the days' greatest distances from their mean."""
    lines = []
    for solver in dict.fromkeys(row.solver for row in rows):
        days = np.array([(r.e_mm, r.n_mm, r.u_mm) for r in rows if r.solver == solver and r.set.startswith(TIBET)])
        if len(days) > 1:
            apart = days - days.mean(axis=0)
            horizontal, vertical = np.hypot(apart[:, 0], apart[:, 1]).max(), np.abs(apart[:, 2]).max()
            lines.append(
                f"* {solver}: {len(days)} days of {TIBET} are up to {horizontal:.1f} mm horizontally and "
                f"{vertical:.1f} mm vertically from their mean.\n"
            )
    return lines
