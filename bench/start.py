"""How long `dipper serve` takes from its start until it listens, and until a rover has positions.

Warm: every kernel has been compiled before, as after the first start of a version. Cold: nothing has, in an empty
`NUMBA_CACHE_DIR`. It listens when it has taken a connection and answered with its whole sourcetable. A station and a
rover (nagoya-1m, 1 Hz) come as soon as it listens: when the rover has its first position, and its first differential
one, the service's kernels are there.
"""

import os
import socket
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.accuracy import SETS
from bench.casters import PASSWORD, ROVER, Setup, prepare_dipper
from bench.end_to_end import MOUNT
from bench.processes import BenchError, Worker, started
from bench.streams import Streams, live_streams
from bench.uploads import StationPlan, UploadPlan, UploadReport, run_station, run_uploads
from caster.codec.ntrip import Credentials, get_request, parse_gga
from solver.timescale import NS

__all__ = ["Row", "run", "write_results"]

_LISTEN_TIMEOUT_S: Final = 120.0
_WATCH_S: Final = {"warm": 15, "cold": 100}
"""For how long a rover uploads; a cold start compiles for most of it."""
_LOOK_S: Final = 0.005
_LOGIN: Final = Credentials(ROVER, PASSWORD)
_CORRECTED: Final = (2, 4, 5)
_HEAD: Final = """# From a start to service

`python -m bench start`, {cores} virtual cores; s from the start of the process, medians with their range. Listening: it
has answered with its sourcetable (bars: 3 s warm, 60 s cold). First position, first differential one: of a rover that
came when it listened, as did a station, both at 1 Hz, so that they are whole seconds later at best. Warm: kernels were
compiled by an earlier start; cold: by this one.

| start | runs | listening s | range | first position s | first differential s |
|---|--:|--:|---|--:|--:|
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One kind of start; medians of its runs, s."""

    start: str
    runs: int
    listening_s: float
    listening_range: str
    position_s: float
    differential_s: float


@dataclass(frozen=True, slots=True)
class _Start:
    """One start: s until it listened, and until the rover's first position and first differential one."""

    listening_s: float
    position_s: float
    differential_s: float


def run(peers: dict[str, Path], names: Iterable[str] = (), *, repeat: int, note: Callable[[str], None]) -> list[Row]:
    """Start it warm `repeat` times and cold once, or as named."""
    try:
        streams = live_streams(SETS[0])
    except BenchError as error:
        note(f"{error}: without positions")
        streams = None
    rows = []
    for kind in names or _WATCH_S:
        if kind not in _WATCH_S:
            raise BenchError(f"{kind}: parts are {', '.join(_WATCH_S)}")
        note(f"{kind} ...")
        runs = [_start(kind, streams) for _ in range(1 if kind == "cold" else repeat)]
        listening = [run.listening_s for run in runs]
        rows.append(
            Row(
                kind,
                len(runs),
                round(statistics.median(listening), 2),
                f"{min(listening):.2f} to {max(listening):.2f}",
                round(statistics.median(run.position_s for run in runs), 2),
                round(statistics.median(run.differential_s for run in runs), 2),
            )
        )
    return rows


def _start(kind: str, streams: Streams | None) -> _Start:
    """Start it once in a folder of its own, with accounts made before."""
    with tempfile.TemporaryDirectory(prefix="bench-") as name:
        folder = Path(name)
        service = prepare_dipper(Path(sys.executable), Setup((MOUNT,), 2), folder)
        cache = {"NUMBA_CACHE_DIR": str(folder / "kernels")} if kind == "cold" else {}
        began_s = time.monotonic()
        with started(service.command, service.log, **cache):
            listening_s = _wait_for_table(service.port) - began_s
            firsts = _first_positions(service.port, streams, _WATCH_S[kind]) if streams is not None else _NEVER
    return _Start(listening_s, *(at_s - began_s for at_s in firsts))


_NEVER: Final = (float("nan"), float("nan"))


def _wait_for_table(port: int) -> float:
    """Wait until the whole sourcetable comes; when that was (CLOCK_MONOTONIC)."""
    deadline_s = time.monotonic() + _LISTEN_TIMEOUT_S
    while time.monotonic() < deadline_s:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=_LISTEN_TIMEOUT_S) as connection:
                connection.sendall(get_request("", "127.0.0.1", version=1))
                table = b""
                while data := connection.recv(65_536):
                    table += data
            if b"ENDSOURCETABLE" in table:
                return time.monotonic()
        except OSError:
            time.sleep(_LOOK_S)
    raise BenchError(f"dipper serve gave no sourcetable within {_LISTEN_TIMEOUT_S:.0f} s")


def _first_positions(port: int, streams: Streams, seconds: int) -> tuple[float, float]:
    """When a rover that comes now has its first position, and its first differential one (CLOCK_MONOTONIC)."""
    workers = (
        Worker(run_station, StationPlan(port, MOUNT, streams.base[:seconds], _LOGIN, PASSWORD)),
        Worker(run_uploads, UploadPlan(port, "FIX", 1, streams.rover[:seconds], 0, _LOGIN)),
    )
    try:
        for worker in workers:
            if why := worker.receive():
                raise BenchError(f"refused: {why}")
        start_s = time.monotonic()
        for worker in workers:
            worker.pipe.send(start_s)
        report: UploadReport = workers[1].receive(2.0 * seconds + 60.0)
        workers[0].receive()
    finally:
        for worker in workers:
            worker.end()
    ggas = [(answer.received_ns / NS, parse_gga(answer.line)) for answer in report.answers]
    positions = [(at_s, gga.quality) for at_s, gga in ggas if gga is not None and gga.has_position]
    return (
        min((at_s for at_s, _ in positions), default=float("nan")),
        min((at_s for at_s, quality in positions if quality in _CORRECTED), default=float("nan")),
    )


def write_results(rows: list[Row], folder: Path) -> None:
    """Write the table."""
    lines = [
        f"| {r.start} | {r.runs} | {r.listening_s:.2f} | {r.listening_range} | {r.position_s:.2f}"
        f" | {r.differential_s:.2f} |\n"
        for r in rows
    ]
    (folder / "start.md").write_text(_HEAD.format(cores=os.cpu_count()) + "".join(lines))
