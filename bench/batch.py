"""Rovers that one process serves with fixed positions at 1 Hz, each from its own raw observations, on all cores.

Every rover is the real one of `bench.solve`'s recording (a metre from its base; GPS, Galileo and BeiDou, two bands),
begun at another second of it, with its own filter. A second's epochs
are given in one call (`solver.batch`), and the wall time of the call tells how many rovers a second holds. With
"from RTCM" each rover's MSM7 frames are decoded first, one by one, as the caster does on its event loop. rnx2rtkp and
RTKLIB-EX serve one rover a process, and have no such call: their epochs a second are in `python -m bench solve`.
"""

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from bench.accuracy import DATA, SETS
from caster.codec.rtcm import MsmEncoder
from caster.epochs import EpochAssembler
from solver.batch import Batch, Task
from solver.model import Epoch, Quality
from solver.observed import Selection
from solver.rtk import RtkOptions, RtkState
from solver.timescale import NS
from stations.solve import Job, prepare, signal_mask

__all__ = ["Row", "run", "write_results"]

ROVERS: Final = 1000
SECONDS: Final = 4
WARM_SECONDS: Final = 1
"""Each rover's first epochs, in which its filter grows, are not timed."""
_SYSTEMS: Final = "GEC"
_HEAD: Final = """# Rovers at 1 Hz in one process

`python -m bench batch`, {cores} virtual cores. {rovers} rovers, each the real one of nagoya-1m (GPS, Galileo and
BeiDou, two bands) begun at another of its 301 seconds, with a filter of its own; `solver.batch.Batch.process` once for
each second of data. Wall and CPU time are of one second's call, the medians; real time means a wall time of 1 s. Rovers
a core are those of its CPU time. Other work on the machine shows as wall time beyond CPU time over threads.

| mode | input | threads | rovers | wall s | longest | CPU s | fix % | rovers in real time | rovers a core |
|---|---|--:|--:|--:|--:|--:|--:|--:|--:|
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One way of serving the rovers; times are of one second of data."""

    mode: str
    input: str
    threads: int
    rovers: int
    wall_s: float
    wall_s_max: float
    cpu_s: float
    fix_percent: float
    rovers_in_real_time: int
    rovers_per_core: int


def run(peers: dict[str, Path], names: list[str], *, repeat: int = 1, note: Callable[[str], None] = print) -> list[Row]:
    """Measure each mode with one thread and with one for each core; `names` may name modes."""
    item = SETS[0]
    folder = DATA / item.folder
    if not folder.is_dir():
        note(f"no recording at {folder}")
        return []
    job = prepare(
        "kinematic", [folder / item.rover], [folder / item.base], [folder / name for name in item.navigation],
        Selection(systems=_SYSTEMS), np.array(item.base_ecef_m),
    )  # fmt: skip
    rows: list[Row] = []
    cores = os.cpu_count() or 1
    for mode in names or ("instantaneous", "kinematic"):
        for threads in sorted({1, cores}):
            note(f"{mode}, {threads} threads ...")
            rows.append(_measure(job, mode, threads, SECONDS * repeat))
    note("kinematic from RTCM ...")
    rows.append(_measure(job, "kinematic", cores, SECONDS * repeat, _frames(job)))
    return rows


def _measure(job: Job, mode: str, threads: int, seconds: int, frames: list[list[bytes]] | None = None) -> Row:
    """Serve the rovers for so many seconds."""
    options = RtkOptions(instantaneous=mode == "instantaneous", bands_max=2, signals=signal_mask(job.selection))
    states = [RtkState() for _ in range(ROVERS)]
    assemblers = [EpochAssembler(job.rover[0].time_ns) for _ in range(ROVERS)] if frames else []
    walls, cpus, fixed = [], [], 0
    with Batch(threads) as batch:
        for second in range(WARM_SECONDS + seconds):
            began, began_cpu = time.perf_counter(), time.process_time()
            tasks = _tasks(job, states, second, assemblers, frames)
            fixes = batch.process(tasks, job.ephemerides, options)
            if second >= WARM_SECONDS:
                walls.append(time.perf_counter() - began)
                cpus.append(time.process_time() - began_cpu)
                fixed += sum(fix.quality == Quality.FIX for fix in fixes)
    wall, cpu = statistics.median(walls), statistics.median(cpus)
    source = "RTCM frames" if frames else "epochs"
    return Row(
        mode, source, threads, ROVERS, wall, max(walls), cpu, 100.0 * fixed / (ROVERS * seconds), round(ROVERS / wall),
        round(ROVERS / cpu),
    )  # fmt: skip


def _tasks(
    job: Job, states: list[RtkState], second: int, assemblers: list[EpochAssembler], frames: list[list[bytes]] | None
) -> list[Task]:
    """Each rover's epoch of a second; a rover that comes to the recording's end goes on at its beginning."""
    tasks: list[Task] = []
    for number in range(len(states)):
        place = (number + second) % len(job.rover)
        if place == 0:
            states[number] = RtkState()
        rover = job.rover[place]
        if frames is not None:
            rover = _decoded(assemblers[number], frames[place], rover)
        tasks.append(Task(states[number], rover, job.base[place], job.base_ecef_m))
    return tasks


def _decoded(assembler: EpochAssembler, frames: list[bytes], expected: Epoch) -> Epoch:
    """The epoch of some frames; of the rover's first ones, which do not tell yet that they are all, as it was sent."""
    epochs = [epoch for frame in frames for epoch in assembler.push(frame)]
    return epochs[-1] if epochs and abs(epochs[-1].time_ns - expected.time_ns) < NS // 2 else expected


def _frames(job: Job) -> list[list[bytes]]:
    """The rover's epochs as MSM7."""
    encoder = MsmEncoder(kind=7)
    return [encoder.encode(epoch) for epoch in job.rover]


def write_results(rows: list[Row], folder: Path) -> None:
    """Write the table."""
    lines = [
        f"| {r.mode} | {r.input} | {r.threads} | {r.rovers:,} | {r.wall_s:.2f} | {r.wall_s_max:.2f} | {r.cpu_s:.2f}"
        f" | {r.fix_percent:.1f} | {r.rovers_in_real_time:,} | {r.rovers_per_core:,} |\n"
        for r in rows
    ]
    (folder / "batch.md").write_text(_HEAD.format(cores=os.cpu_count(), rovers=f"{ROVERS:,}") + "".join(lines))
