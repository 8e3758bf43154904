"""Whether positions are as good as they say: kinematic errors in units of the covariance that came with them.

Where the truth is good, errors from it; where it is not, or beside it, differences between solutions of different
systems, which share no observation, in units of both covariances together; and steps beside Doppler.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import numpy as np

from bench.accuracy import DATA, Set, job_of, rows_of_sets
from bench.errors import Truth, honesty_of
from solver.model import Fix, Quality
from stations.solve import run as solve_job

__all__ = ["Row", "run", "to_markdown", "write_results"]

TRUTH_SIGMA_M: Final = {"shanghai-car": 0.04, "galway-walk": 0.01, "barcelona-car": float("nan")}
"""How good a truth is, an axis, where that matters: added to the covariance. NaN: it is none."""
APART: Final = {"barcelona-car": ("GR", "E"), "shanghai-car": ("GEJ", "C")}
"""Systems that are solved apart and compared."""
STATES: Final = (("fixed", Quality.FIX), ("float", Quality.FLOAT))
KNOWN_MIN: Final = 10
"""Fewer positions than these say nothing."""

_HEAD: Final = """# Errors in units of what positions say of themselves

`python -m bench honesty`: `dipper solve --mode kinematic`, elevation mask 10 degrees. Errors horizontally and in height
in units of the covariance that came with them, RMS: 1 is an honest covariance, and its ellipse of 95 per cent has that
many of the errors. *A beside B*: differences between the positions by two systems apart, in units of both covariances.
Errors last for seconds and minutes, so that few are independent, and one wrong fix of a hundred shows. Step: how much
a step since the epoch before differs from the way by Doppler (mean of the velocities at its ends, so turns
and stops of a car show: 0.1 m for 1 m/s³).

* stromlo-70m, dutch-35km, dutch-101km: heights hold centimetres of antenna types that differ, and the rest millimetres.
* tibet-418m: the truth is 9 cm off in height.
* shanghai-car, galway-walk: 4 cm and 1 cm (1 sigma, an axis) are added to the covariance, which the truths are good to.
* barcelona-car: the reference is off by metres and says nothing.

"""


@dataclass(frozen=True, slots=True)
class Row:
    """Positions of one state; errors in units of sigmas."""

    set: str
    systems: str
    state: str
    known: int
    error_per_sigma: float
    ellipse_percent: float
    height_per_sigma: float
    step_50_m: float
    step_95_m: float


def run(peers: dict[str, Path], names: list[str], *, repeat: int = 1, note: Callable[[str], None] = print) -> list[Row]:
    """Solve every set, or those named."""
    return rows_of_sets(peers, names, note, lambda item, programs: _rows(item))


def _rows(item: Set) -> Iterator[Row]:
    """Those of one set."""
    sigma_m = TRUTH_SIGMA_M.get(item.name, 0.0)
    truth = {} if np.isnan(sigma_m) else item.truth(DATA / item.folder)
    for systems in item.systems:
        fixes = _wider(_solved(item, systems), np.nan_to_num(sigma_m))
        for state, quality in STATES:
            yield from _row(item, systems, state, [fix for fix in fixes if fix.quality == quality], truth)
    if item.name in APART:
        one, other = APART[item.name]
        yield from _beside(item, f"{one} beside {other}", _solved(item, one), _solved(item, other))


def _solved(item: Set, systems: str) -> list[Fix]:
    """Positions by some systems."""
    return [fix for fix in solve_job(job_of(item, "kinematic", systems)) if fix.quality != Quality.NONE]


def _wider(fixes: Iterable[Fix], sigma_m: float) -> list[Fix]:
    """Positions with what the truth may be off in their covariances."""
    more = np.eye(3) * sigma_m**2
    return [replace(fix, position_covariance_m2=fix.position_covariance_m2 + more) for fix in fixes]


def _beside(item: Set, systems: str, fixes: Sequence[Fix], others: Sequence[Fix]) -> Iterator[Row]:
    """Differences of two solutions, where both are fixed, and where one is not."""
    by_time = {fix.time_ns: fix for fix in others}
    pairs = [(fix, by_time[fix.time_ns]) for fix in fixes if fix.time_ns in by_time]
    truth: Truth = {round(other.time_ns / 1e6): other.position_ecef_m for _, other in pairs}
    for state, is_fixed in (("fixed", True), ("float", False)):
        some = [
            replace(fix, position_covariance_m2=fix.position_covariance_m2 + other.position_covariance_m2)
            for fix, other in pairs
            if (fix.quality == other.quality == Quality.FIX) == is_fixed
        ]
        yield from _row(item, systems, state, some, truth)


def _row(item: Set, systems: str, state: str, fixes: list[Fix], truth: Truth) -> Iterator[Row]:
    """The row of some positions, if there are enough of them."""
    honesty = honesty_of(fixes, truth)
    if len(fixes) < KNOWN_MIN or 0 < honesty.known < KNOWN_MIN:
        return
    yield Row(
        set=item.name,
        systems=systems,
        state=state,
        known=honesty.known or len(fixes),
        error_per_sigma=honesty.error_per_sigma,
        ellipse_percent=honesty.ellipse_percent,
        height_per_sigma=honesty.height_per_sigma,
        step_50_m=honesty.step_50_m,
        step_95_m=honesty.step_95_m,
    )


def to_markdown(rows: list[Row]) -> str:
    """The rows as a table for `bench/results`."""
    head = (
        "| set | systems | state | positions | H error / σ | within the ellipse % | V error / σ | step median m"
        " | step 95 % m |\n|---|---|---|--:|--:|--:|--:|--:|--:|\n"
    )
    return head + "".join(
        f"| {r.set} | {r.systems} | {r.state} | {r.known} | {_known(r.error_per_sigma, '.2f')}"
        f" | {_known(r.ellipse_percent, '.0f')} | {_known(r.height_per_sigma, '.2f')} | {_known(r.step_50_m, '.3f')}"
        f" | {_known(r.step_95_m, '.3f')} |\n"
        for r in rows
    )


def _known(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form)


def write_results(rows: list[Row], folder: Path) -> None:
    """Write the table, with what has to be known of its sets."""
    (folder / "honesty.md").write_text(_HEAD + to_markdown(rows))
