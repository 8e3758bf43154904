"""Loads with names and bounded times, put on our caster and its peers in turn, in the same run.

The client checks every frame: a row without `lost` and `torn` means that every rover got every frame, whole and in
order. `others` is what the rest of the machine did meanwhile: where it is large, latencies say little, and processor
time per frame more.
"""

import dataclasses
import json
import os
import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from bench.casters import Caster, Setup, find_casters, logged_errors
from bench.load import Load, LoadPlan, Measured, running_load
from bench.processes import BenchError

__all__ = ["Row", "Scenario", "count_all", "count_while_connecting", "record", "run_scenario", "run_scenarios"]

RESULTS: Final = Path(__file__).resolve().parent / "results"


@dataclass(frozen=True, slots=True)
class Row:
    """One caster under one load, as it is printed and recorded; shares are per cent of one core, times are ms."""

    scenario: str
    caster: str
    p50_ms: float
    p99_ms: float
    p99_ms_range: str
    max_ms: float
    cpu_percent: float
    cpu_us_per_frame: float
    rss_mb: float
    connects_per_s: float
    frames: int
    lost: int
    torn: int
    closed: int
    client_percent: float
    others_percent: float
    remarks: str


def count_all(load: Load, seconds: float) -> Iterator[Measured]:
    """Connect everybody, and count."""
    load.connect()
    yield load.measure(seconds)


def count_while_connecting(load: Load, seconds: float) -> Iterator[Measured]:
    """The rovers of the first process stream; the others connect, all at once, while all are watched."""
    load.connect(range(1))
    yield load.measure(seconds, meanwhile=lambda: load.connect(range(1, load.fleets)))


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load.

    Attributes:
        name: As it is asked for.
        title: What it is.
        rovers, mounts, rate_hz: The load; `rovers` in all.
        seconds: Of the window that is counted.
        measure: How.
        stalled, tls, churn_s, flap_s: As in `LoadPlan`.
        workers: Processes of the caster.
        fleets: Processes of the client.
        slow: Only run when it is asked for by name.
    """

    name: str
    title: str
    rovers: int
    mounts: int
    rate_hz: float
    seconds: float
    measure: Callable[[Load, float], Iterable[Measured]] = count_all
    stalled: int = 0
    tls: bool = False
    churn_s: float = 0.0
    flap_s: float = 0.0
    workers: int = 1
    fleets: int = 2
    slow: bool = False

    def mount_names(self) -> tuple[str, ...]:
        """Names like those of real stations."""
        return tuple(f"B{number:04}" for number in range(self.mounts))

    def plan(self) -> LoadPlan:
        """The load."""
        return LoadPlan(
            self.mount_names(),
            self.rovers,
            self.rate_hz,
            fleets=self.fleets,
            stalled=self.stalled,
            tls=self.tls,
            churn_s=self.churn_s,
            flap_s=self.flap_s,
        )


def run_scenarios(
    scenarios: Iterable[Scenario],
    peers: dict[str, Path],
    names: Iterable[str],
    *,
    repeat: int,
    note: Callable[[str], None],
    keep: Callable[[list[Row]], None],
) -> list[Row]:
    """Run scenarios on all casters that can take part.

    Args:
        scenarios: Those that there are.
        peers: Programs by caster's name, for those that are not on the path.
        names: Of the scenarios; all quick ones where there are none.
        repeat: So many runs of each, casters in turn; the row is the run whose p99 is the median.
        note: Is told what goes on, and who is left out.
        keep: Gets the rows of each scenario as soon as they are there.

    Raises:
        BenchError: A scenario or a peer is not known.
    """
    casters, left_out = find_casters(peers)
    for line in left_out:
        note(line)
    rows = []
    for scenario in _chosen(scenarios, names):
        new = list(_run_all(scenario, casters, repeat, note))
        keep(new)
        rows += new
    return rows


def _chosen(scenarios: Iterable[Scenario], names: Iterable[str]) -> list[Scenario]:
    known = {scenario.name: scenario for scenario in scenarios}
    wanted = list(names) or [name for name, scenario in known.items() if not scenario.slow]
    for name in wanted:
        if name not in known:
            raise BenchError(f"there is no scenario {name}; there are {', '.join(known)}")
    return [known[name] for name in wanted]


def _run_all(
    scenario: Scenario, casters: list[tuple[Caster, Path]], repeat: int, note: Callable[[str], None]
) -> Iterator[Row]:
    runs: dict[str, list[Row]] = {}
    for number in range(repeat):
        for caster, path in casters:
            note(f"{scenario.title}: {caster.name}, run {number + 1} of {repeat}")
            try:
                for row in run_scenario(scenario, caster, path):
                    runs.setdefault(caster.name, []).append(row)
            except BenchError as error:
                note(f"{scenario.name}: {caster.name} is left out: {error}")
    for rows in runs.values():
        yield _middle(rows)


def _middle(rows: list[Row]) -> Row:
    """The run with the median p99, and how far the others are from it."""
    p99s = [row.p99_ms for row in rows]
    middle = rows[p99s.index(statistics.median_low(p99s))]
    return dataclasses.replace(middle, p99_ms_range=f"{min(p99s):g} to {max(p99s):g}")


def run_scenario(scenario: Scenario, caster: Caster, path: Path) -> list[Row]:
    """Put one caster under one load.

    Raises:
        BenchError: It cannot take part, or does not do what a caster must.
    """
    setup = Setup(scenario.mount_names(), scenario.rovers + scenario.mounts, scenario.tls, scenario.workers)
    if reason := caster.why_not(setup):
        raise BenchError(reason)
    with (
        tempfile.TemporaryDirectory(prefix="bench-") as folder,
        caster.run(path, setup, Path(folder)) as running,
        running_load(scenario.plan(), running) as load,
    ):
        rows = [
            _row(scenario.name, caster.name, measured, scenario.stalled)
            for measured in scenario.measure(load, scenario.seconds)
        ]
        return [_with_errors(row, running.log) for row in rows]


def _row(scenario: str, caster: str, measured: Measured, stalled: int) -> Row:
    rovers = measured.rovers
    remarks = list(measured.remarks)
    if rovers.refused:
        told = ", ".join(f"{count} by {words!r}" for words, count in rovers.refusals.most_common(3))
        remarks.append(f"{rovers.refused} rovers were refused: {told}")
    if stalled:
        remarks.append(f"{rovers.stalled_closed} of {stalled} stalled rovers had been closed")
    return Row(
        scenario=scenario,
        caster=caster,
        p50_ms=round(rovers.latencies.percentile_ms(50.0), 2),
        p99_ms=round(rovers.latencies.percentile_ms(99.0), 2),
        p99_ms_range="",
        max_ms=round(rovers.latencies.max_ms, 2),
        cpu_percent=round(100.0 * measured.server_share, 1),
        cpu_us_per_frame=round(1e6 * measured.server_share * measured.seconds / max(1, rovers.frames), 2),
        rss_mb=round(measured.rss_mb, 1),
        connects_per_s=round(measured.connects_per_s),
        frames=rovers.frames,
        lost=rovers.lost + rovers.undelivered,
        torn=rovers.torn,
        closed=rovers.closed,
        client_percent=round(100.0 * measured.client_share, 1),
        others_percent=round(100.0 * measured.others_share, 1),
        remarks="; ".join(remarks),
    )


def _with_errors(row: Row, log: Path) -> Row:
    """Our own caster must have logged no error."""
    return dataclasses.replace(row, remarks="; ".join(filter(None, [row.remarks, logged_errors(log)])))


def record(name: str, title: str, rows: list[Row], scenarios: Iterable[Scenario], bars: str) -> None:
    """Keep the rows of a run in `bench/results`, by scenario, for reading and for machines; others stay as they are."""
    path = RESULTS / f"{name}.json"
    kept: list[dict[str, object]] = json.loads(path.read_text())["rows"] if path.exists() else []
    new = {(row.scenario, row.caster) for row in rows}
    kept = [row for row in kept if (row["scenario"], row["caster"]) not in new] + [asdict(row) for row in rows]
    order = {scenario.name: place for place, scenario in enumerate(scenarios)}
    kept.sort(key=lambda row: order.get(str(row["scenario"]), len(order)))
    path.write_text(json.dumps({"cores": os.cpu_count(), "rows": kept}, indent=1) + "\n")
    titles = "\n".join(f"- `{scenario.name}`: {scenario.title}" for scenario in scenarios)
    path.with_suffix(".md").write_text(f"# {title}\n\n{_HOW}\n\n{bars}\n\n{titles}\n\n{_markdown(kept)}\n")


_HOW: Final = """\
Written by `python -m bench`. The load client shares the cores with the caster. Times are from the source's sending to
the rover's reading, ms; shares are per cent of one core; memory is MB. `lost` frames never came, `torn` came broken,
`closed` rovers were sent away; `others` is what the rest of the machine did meanwhile. A row is the run with the median
p99 of its runs, whose p99 lie in the range given."""


def _markdown(rows: list[dict[str, object]]) -> str:
    names = [field.name for field in dataclasses.fields(Row)]
    lines = [names, ["---"] * len(names), *([str(row.get(name, "")) for name in names] for row in rows)]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
