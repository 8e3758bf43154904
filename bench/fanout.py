"""Fan-out: thousands of rovers on one caster, ours and its peers under the same load in the same run.

Each scenario has a name, a bounded time, and a bar (DESIGN, issue of the caster's performance); the client checks every
frame, so a row without `lost` or `torn` means that every rover got every frame, whole and in order.
"""

import statistics
import tempfile
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.casters import Caster, Setup, find_casters
from bench.load import Load, LoadPlan, Measured, running_load
from bench.processes import BenchError

__all__ = ["SCENARIOS", "Row", "Scenario", "run", "run_scenario"]


@dataclass(frozen=True, slots=True)
class Row:
    """One caster under one load, as it is printed and recorded; shares are per cent of one core, times are ms."""

    scenario: str
    caster: str
    p50_ms: float
    p99_ms: float
    max_ms: float
    cpu_percent: float
    rss_mb: float
    connects_per_s: float
    frames: int
    lost: int
    torn: int
    closed: int
    client_percent: float
    others_percent: float
    remarks: str


@dataclass(frozen=True, slots=True)
class Scenario:
    """One load.

    Attributes:
        name: As it is asked for.
        title: What it is.
        rovers, mounts, rate_hz: The load; `rovers` in all.
        seconds: Of the window that is counted.
        measure: How; most scenarios connect everybody and count.
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
    measure: Callable[[Load, float], Iterable[tuple[str, Measured]]]
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


def _plain(load: Load, seconds: float) -> Iterator[tuple[str, Measured]]:
    load.connect()
    yield "", load.measure(seconds)


def _connecting(load: Load, seconds: float) -> Iterator[tuple[str, Measured]]:
    """The first fleet streams; the others connect, all at once, while it is watched."""
    load.connect(range(1))
    yield "", load.measure(seconds, meanwhile=lambda: load.connect(range(1, load.fleets)))


SCENARIOS: Final = (
    Scenario("small", "30 rovers, 1 mount, 10 Hz", 30, 1, 10.0, 10.0, _plain),
    Scenario("one-mount", "10,000 rovers, 1 mount, 1 Hz", 10_000, 1, 1.0, 20.0, _plain),
    Scenario("fast", "5,000 rovers, 1 mount, 10 Hz", 5_000, 1, 10.0, 15.0, _plain),
    Scenario("many-mounts", "10,800 rovers, 2,700 mounts, 1 Hz", 10_800, 2_700, 1.0, 20.0, _plain),
    Scenario("connects", "2,000 stream at 10 Hz while 6,000 connect", 8_000, 1, 10.0, 10.0, _connecting, fleets=4),
    Scenario("not-stalled", "3,000 rovers, 10 Hz", 3_000, 1, 10.0, 15.0, _plain),
    Scenario("stalled", "the same, and 1,000 that read nothing", 4_000, 1, 10.0, 75.0, _plain, stalled=1_000),
    Scenario("tls", "2,000 rovers by TLS, 1 Hz", 2_000, 1, 1.0, 15.0, _plain, tls=True),
    Scenario("workers", "19,000 rovers on 2 worker processes, 1 Hz", 19_000, 1, 1.0, 20.0, _plain, workers=2),
    Scenario(
        "soak", "5,000 rovers that come and go, a source that flaps, an hour", 5_000, 10, 1.0, 3600.0, _plain,
        churn_s=120.0, flap_s=60.0, slow=True,
    ),
)  # fmt: skip


def run(
    peers: dict[str, Path], names: Iterable[str] = (), *, repeat: int = 1, note: Callable[[str], None]
) -> list[Row]:
    """Run scenarios on all casters that can take part.

    Args:
        peers: Programs by caster's name, for those that are not on the path.
        names: Of the scenarios; all quick ones where there are none.
        repeat: So many runs of each, casters in turn; the row is the run whose p99 is the median.
        note: Is told what goes on, and who is left out.

    Raises:
        BenchError: A scenario or a peer is not known.
    """
    casters, left_out = find_casters(peers)
    for line in left_out:
        note(line)
    return [row for scenario in _chosen(names) for row in _run_all(scenario, casters, repeat, note)]


def _chosen(names: Iterable[str]) -> list[Scenario]:
    known = {scenario.name: scenario for scenario in SCENARIOS}
    wanted = list(names) or [scenario.name for scenario in SCENARIOS if not scenario.slow]
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
    """The run with the median p99."""
    median = statistics.median_low(row.p99_ms for row in rows)
    return next((row for row in rows if row.p99_ms == median), rows[0])


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
        return [_row(scenario.name + suffix, caster.name, m) for suffix, m in scenario.measure(load, scenario.seconds)]


def _row(scenario: str, caster: str, measured: Measured) -> Row:
    rovers = measured.rovers
    remarks = list(measured.remarks)
    if rovers.refused:
        remarks.append(f"{rovers.refused} rovers were refused")
    if rovers.stalled_closed:
        remarks.append(f"{rovers.stalled_closed} stalled rovers were closed")
    return Row(
        scenario=scenario,
        caster=caster,
        p50_ms=round(rovers.latencies.percentile_ms(50.0), 2),
        p99_ms=round(rovers.latencies.percentile_ms(99.0), 2),
        max_ms=round(rovers.latencies.max_ms, 2),
        cpu_percent=round(100.0 * measured.server_share, 1),
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
