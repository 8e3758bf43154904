"""Positions by one band of one system alone: what two antennas' phase centres and reflections put into millimetres.

Antennas at rest, solved as if in motion, by each band on its own and by all bands together. Means that differ from band
to band by more than they scatter are nothing that a solver can know without calibrations of the antennas: they are the
floor of what these sets can show. The figure needs matplotlib.
"""

import importlib.util
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.accuracy import DATA, Set, job_of, rows_of_sets
from bench.errors import errors_of
from solver.model import Quality
from solver.signals import BAND, SIGNALS_PER_SYSTEM, SYSTEMS, signal_name
from stations.solve import Job
from stations.solve import run as solve_job

__all__ = ["Row", "run", "write_results"]

SETS: Final = ("nagoya-1m", "stromlo-70m")
_NAMES: Final = {
    "G": {1: "L1", 2: "L2", 5: "L5"},
    "E": {1: "E1", 5: "E5a", 6: "E6", 7: "E5b", 8: "E5"},
    "C": {1: "B1C", 2: "B1I", 5: "B2a", 6: "B3I", 7: "B2I", 8: "B2"},
}
"""Bands by RINEX digit (RINEX 4.01, tables 4, 6 and 9)."""
_FIXED_MIN: Final = 30
_HEAD: Final = """# Positions by one band alone

`python -m bench bands`: fixed epochs of antennas at rest (`kinematic`), millimetres from the truth. Bands whose means
differ by more than they scatter tell of antennas and reflections, not of the solver; the truths are combinations of
bands themselves. Bands that are hardly ever resolved on their own are left out.

| set | system | band | fixed | mean E N U mm | scatter E N U mm | H RMS mm |
|---|---|---|--:|--:|--:|--:|
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One band, or all of them, of one system on one set; `errors_mm` are the fixed epochs' east, north, up (n, 3)."""

    set: str
    system: str
    band: str
    fixed: int
    mean_e_mm: float
    mean_n_mm: float
    mean_u_mm: float
    scatter_e_mm: float
    scatter_n_mm: float
    scatter_u_mm: float
    h_rms_mm: float
    errors_mm: list[list[float]] = field(repr=False)


def run(peers: dict[str, Path], names: list[str], *, repeat: int = 1, note: Callable[[str], None] = print) -> list[Row]:
    """Solve every set at rest that has short baselines, or those named."""
    return rows_of_sets(peers, names or list(SETS), note, _rows)


def _rows(item: Set, programs: dict[str, str]) -> Iterator[Row]:
    """All bands of all systems of one set."""
    truth = item.truth(DATA / item.folder)
    for system in _NAMES:
        job = job_of(item, "kinematic", system)
        for band, signals in {**_signals(job, system), "all": frozenset[str]()}.items():
            fixes = solve_job(replace(job, selection=replace(job.selection, signals=signals)))
            fixed = [(fix.time_ns, fix.position_ecef_m) for fix in fixes if fix.quality == Quality.FIX]
            if len(fixed) >= _FIXED_MIN:
                yield _row(item.name, system, band, 1e3 * errors_of(fixed, truth))


def _signals(job: Job, system: str) -> dict[str, frozenset[str]]:
    """The names of the signals of each band that both receivers have."""
    first = SYSTEMS.index(system) * SIGNALS_PER_SYSTEM
    seen = [
        set(BAND[epoch.signal[epoch.signal // SIGNALS_PER_SYSTEM == SYSTEMS.index(system)]].tolist())
        for epoch in (job.rover[0], job.base[0])
    ]
    return {
        _NAMES[system][band]: frozenset(
            signal_name(number) for number in range(first, first + SIGNALS_PER_SYSTEM) if BAND[number] == band
        )
        for band in sorted(seen[0] & seen[1])
    }


def _row(name: str, system: str, band: str, errors_mm: NDArray[np.float64]) -> Row:
    """The figures of one band."""
    rms_mm = float(np.sqrt((errors_mm[:, :2] ** 2).sum(axis=1).mean()))
    mean_e, mean_n, mean_u = errors_mm.mean(axis=0).tolist()
    scatter_e, scatter_n, scatter_u = errors_mm.std(axis=0).tolist()
    return Row(
        name, system, band, len(errors_mm), mean_e, mean_n, mean_u, scatter_e, scatter_n, scatter_u, rms_mm,
        errors_mm.tolist(),
    )  # fmt: skip


def write_results(rows: list[Row], folder: Path) -> None:
    """Write the table and, where matplotlib is installed, the figure."""
    lines = [
        f"| {r.set} | {r.system} | {r.band} | {r.fixed} | {r.mean_e_mm:.1f} {r.mean_n_mm:.1f} {r.mean_u_mm:.1f}"
        f" | {r.scatter_e_mm:.1f} {r.scatter_n_mm:.1f} {r.scatter_u_mm:.1f} | {r.h_rms_mm:.1f} |\n"
        for r in rows
    ]
    (folder / "bands.md").write_text(_HEAD + "".join(lines) + "\n![East and north by band](bands.png)\n")
    if importlib.util.find_spec("matplotlib"):
        _draw(rows, folder / "bands.png")


def _draw(rows: list[Row], path: Path) -> None:
    """East and north of every epoch, coloured by band: a row of panels for each set."""
    from matplotlib.figure import Figure

    sets, systems = list(dict.fromkeys(r.set for r in rows)), list(dict.fromkeys(r.system for r in rows))
    figure = Figure(figsize=(4.0 * len(systems), 4.0 * len(sets)), dpi=80, layout="constrained")
    panels: Any = figure.subplots(len(sets), len(systems), squeeze=False)
    for row in rows:
        axes, errors = panels[sets.index(row.set), systems.index(row.system)], np.array(row.errors_mm)
        axes.scatter(errors[:, 0], errors[:, 1], s=2, label=f"{row.band}: {row.h_rms_mm:.1f} mm")
        axes.set(title=f"{row.set}, {row.system}", xlabel="east mm", ylabel="north mm", xlim=(-15, 15), ylim=(-15, 15))
        axes.legend(loc="lower right", markerscale=4, fontsize="small", title="RMS")
        axes.grid(alpha=0.3)
    for axes in panels.flat:
        axes.axhline(0.0, color="black", linewidth=0.5)
        axes.axvline(0.0, color="black", linewidth=0.5)
    figure.savefig(path)
