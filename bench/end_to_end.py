"""From a station's frame to a rover's fix: rovers upload real observations to `dipper serve` and get NMEA back.

The base and the rover of nagoya-1m (a metre apart) are streamed as RTCM 3 at 1 Hz (`bench.streams`): the base to a
station's mountpoint, the rover's observations by each of N rovers to `FIX`. The clock runs from before a rover sends an
epoch until it has read that epoch's GGA. The service is an own process with its defaults, begun for each row, whose
kernels are compiled but not loaded; the load client shares the machine with it. What the service cannot do in time
shows: epochs without an answer, answers that came more than a second late.

RTKLIB's `rtkrcv` takes part as one rover, with its base from the same mountpoint.
"""

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from bench.accuracy import SETS
from bench.casters import CASTERS, PASSWORD, ROVER, Running, Setup, logged_errors
from bench.errors import Truth, errors_of
from bench.processes import BenchError, Usage, Worker, free_port, machine_busy_s
from bench.rtkrcv import running_rtkrcv
from bench.streams import Streams, live_streams
from bench.uploads import Answer, StationPlan, StationReport, UploadPlan, UploadReport, run_station, run_uploads
from caster.codec.ntrip import Credentials, parse_gga
from solver.kernels.geodesy import ecef_from_geodetic
from solver.timescale import NS, to_utc

__all__ = ["MOUNT", "Answered", "Row", "figures_of", "run", "serve_rovers", "write_results"]

MOUNT: Final = "BASE"
ROVERS: Final = ("1", "100", "1000")
LEAD_S: Final = 3
"""The station streams before the rovers begin, as stations do."""
SETTLE_S: Final = 10
"""The rovers' first seconds, whose answers are not timed one by one: the service loads its kernels in them."""
WINDOW_S: Final = 10
"""What is counted, for each `--repeat`."""
_LATE_S: Final = 1.0
_LOGIN: Final = Credentials(ROVER, PASSWORD)
_DAY_MS: Final = 86_400_000
_FIX, _FLOAT, _DGNSS, _SINGLE = 4, 5, 2, 1
_HEAD: Final = """# From a station's frame to a rover's fix

`python -m bench end-to-end`, {cores} virtual cores, the load client on them too. A base at 1 Hz, and rovers that upload
their observations to `FIX` at 1 Hz, evenly over the second (nagoya-1m, RTCM MSM7 of all systems), each row on a service
with its defaults that has just begun. ms: from before an epoch is sent until its GGA has been read. Late: answers after
more than a second. Fixed, float, dgnss, single: of all epochs sent. RMS: horizontal, m, of the fixed ones and of all.
First: from a rover's first byte to its first position, median and longest of all rovers, and to the first that is fixed
(median). Station: from before a frame is sent until a rover of the station has it. CPU: per cent of one core.

"""


@dataclass(frozen=True, slots=True)
class Row:
    """So many rovers on one service. Times as the names say; shares are per cent of the epochs sent, or of one core."""

    receiver: str
    rovers: int
    seconds: int
    p50_ms: float
    p99_ms: float
    max_ms: float
    answered_percent: float
    late_percent: float
    fixed_percent: float
    float_percent: float
    dgnss_percent: float
    single_percent: float
    fixed_rms_m: float
    rms_m: float
    first_s: float
    first_s_max: float
    first_fixed_s: float
    station_p50_ms: float
    station_p99_ms: float
    cpu_percent: float
    rss_mb: float
    client_percent: float
    others_percent: float
    remarks: str


@dataclass(frozen=True, slots=True)
class Answered:
    """Answers that belong to an epoch, one a row.

    Attributes:
        rover, epoch: (n,) whose, and which.
        latency_s: (n,) since it was sent.
        quality: (n,) GGA's.
        error_m: (n,) horizontal; NaN without a position.
    """

    rover: NDArray[np.int64]
    epoch: NDArray[np.int64]
    latency_s: NDArray[np.float64]
    quality: NDArray[np.int64]
    error_m: NDArray[np.float64]

    def only(self, chosen: NDArray[np.bool_]) -> "Answered":
        """Some of them."""
        return Answered(*(getattr(self, field.name)[chosen] for field in fields(self)))

    @classmethod
    def of(cls, report: UploadReport, streams: Streams) -> "Answered":
        """Match answers with what was sent, by the time of day in the GGA; of several to one epoch, the first."""
        epoch_of = {_day_ms(time_ns): number for number, time_ns in enumerate(streams.times_ns)}
        rows: dict[tuple[int, int], tuple[float, int, float]] = {}
        for answer in report.answers:
            gga = parse_gga(answer.line)
            epoch = epoch_of.get(round(gga.utc_s * 1000.0)) if gga is not None and gga.utc_s is not None else None
            key = (answer.rover, -1 if epoch is None else epoch)
            if gga is not None and key in report.sent_ns and key not in rows:
                latency_s = (answer.received_ns - report.sent_ns[key]) / NS
                rows[key] = latency_s, gga.quality, _error_m(answer, streams.truth)
        table = np.array([(*key, *row) for key, row in rows.items()]).reshape(-1, 5)
        whole = table[:, [0, 1, 3]].astype(np.int64)
        return cls(whole[:, 0], whole[:, 1], table[:, 2], whole[:, 2], table[:, 4])


def _day_ms(time_ns: int) -> int:
    return round(to_utc(time_ns) / 1e6) % _DAY_MS


def _error_m(answer: Answer, truth: Truth) -> float:
    """How far a position is from the truth, horizontally; NaN where there is none."""
    gga = parse_gga(answer.line)
    if gga is None or not gga.has_position or gga.latitude_deg is None or gga.longitude_deg is None:
        return float("nan")
    latitude, longitude = np.radians([gga.latitude_deg, gga.longitude_deg]).tolist()
    ((east_m, north_m, _),) = errors_of([(0, np.array(ecef_from_geodetic(latitude, longitude, gga.height_m)))], truth)
    return float(np.hypot(east_m, north_m))


def run(peers: dict[str, Path], names: Iterable[str] = (), *, repeat: int, note: Callable[[str], None]) -> list[Row]:
    """Serve each number of rovers that is named, or the usual ones; `repeat` makes the window longer."""
    try:
        streams = live_streams(SETS[0])
    except BenchError as error:
        note(str(error))
        return []
    programs = [peers.get(name) or shutil.which(name) for name in ("rtkrcv", "str2str")]
    if None in programs:
        note("rtkrcv is left out: it or str2str is not installed")
    rows = []
    for count in map(_count, list(names) or ROVERS):
        note(f"{count:,} rovers ...")
        rows.append(serve_rovers(streams, count, WINDOW_S * repeat))
        if count == 1 and None not in programs:
            note("rtkrcv ...")
            rtkrcv, str2str = (Path(str(program)) for program in programs)
            rows.append(serve_rovers(streams, count, WINDOW_S * repeat, (rtkrcv, str2str)))
    return rows


def _count(name: str) -> int:
    if not name.isdecimal() or not int(name):
        raise BenchError(f"{name}: parts are numbers of rovers, such as {', '.join(ROVERS)}")
    return int(name)


def serve_rovers(
    streams: Streams, rovers: int, window_s: int, rtkrcv: tuple[Path, Path] | None = None, settle_s: int = SETTLE_S
) -> Row:
    """One row: a service, a station and so many rovers.

    Args:
        streams: What is sent.
        rovers: How many.
        window_s: Seconds that are counted, no more than the recording has.
        rtkrcv: Its programs, where it shall be the one rover instead of the service's.
        settle_s: The rovers' first seconds, which are not counted.

    Raises:
        BenchError: Something does not come up.
    """
    first = LEAD_S + settle_s
    epochs = min(first + window_s, len(streams.times_ns))
    dipper = CASTERS[0]
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-")))
        setup = Setup((MOUNT,), rovers + 2)
        running = stack.enter_context(dipper.run(Path(sys.executable), setup, folder))
        plan = StationPlan(running.push_port, MOUNT, streams.base[:epochs], _LOGIN, PASSWORD)
        station = Worker(run_station, plan)
        stack.callback(station.end)
        _ask(station, "the station")
        listen = None if rtkrcv is None else (free_port(), free_port())
        upload = UploadPlan(running.port, "FIX", rovers, streams.rover[:epochs], LEAD_S, _LOGIN, listen)
        uploads = Worker(run_uploads, upload)
        stack.callback(uploads.end)
        pid = running.pid
        if rtkrcv is not None and listen is not None:
            mount = f"ntrip://{ROVER}:{PASSWORD}@127.0.0.1:{running.port}/{MOUNT}"
            pid = stack.enter_context(running_rtkrcv(rtkrcv, mount, (*listen, free_port(), free_port()), folder))
        _ask(uploads, "a rover")
        return _measured(streams, rovers, range(first, epochs), running, station, uploads, pid)


def _ask(worker: Worker, who: str) -> None:
    """Wait until a load process has its connections."""
    if why := worker.receive():
        raise BenchError(f"{who} was refused: {why}")


@dataclass(frozen=True, slots=True)
class _Reading:
    """What has been used up to an instant: the service (or its peer), the load client, the machine; s and MB."""

    at_s: float
    server: Usage
    client_s: float
    busy_s: float

    @classmethod
    def now(cls, pid: int, workers: Iterable[Worker]) -> "_Reading":
        client_s = sum(Usage.of(worker.process.pid or 0).cpu_s for worker in workers)
        return cls(time.monotonic(), Usage.of(pid), client_s, machine_busy_s())


def _measured(
    streams: Streams, rovers: int, window: range, running: Running, station: Worker, uploads: Worker, pid: int
) -> Row:
    """Start the beat, and look at what has been used at both ends of the window, and at what came at the end."""
    workers = (station, uploads)
    start_s = time.monotonic() + 1.0
    for worker in workers:
        worker.pipe.send(start_s)
    time.sleep(max(0.0, start_s + window.start - time.monotonic()))
    before = _Reading.now(pid, workers)
    time.sleep(max(0.0, start_s + window.stop - time.monotonic()))
    after = _Reading.now(pid, workers)
    sent: StationReport = station.receive()
    report: UploadReport = uploads.receive()
    seconds = after.at_s - before.at_s
    server = (after.server.cpu_s - before.server.cpu_s) / seconds
    client = (after.client_s - before.client_s) / seconds
    others = max(0.0, (after.busy_s - before.busy_s) / seconds - server - client)
    return Row(
        receiver="dipper" if pid == running.pid else "rtkrcv",
        rovers=rovers,
        seconds=len(window),
        **figures_of(report, streams, window),
        **_station_figures(sent, window),
        cpu_percent=round(100.0 * server, 1),
        rss_mb=round(after.server.rss_mb, 1),
        client_percent=round(100.0 * client, 1),
        others_percent=round(100.0 * others, 1),
        remarks="; ".join(filter(None, [*_remarks(report, sent), logged_errors(running.log)])),
    )


def figures_of(report: UploadReport, streams: Streams, window: range) -> dict[str, float]:
    """What the rovers had, by the names of `Row`'s columns: answers of the window's epochs, and the first of all."""
    answers = Answered.of(report, streams)
    inside = answers.only((answers.epoch >= window.start) & (answers.epoch < window.stop))
    sent = sum(epoch in window for _, epoch in report.sent_ns)
    percent = 100.0 / max(1, sent)
    fixed = inside.quality == _FIX
    p50_s, p99_s, max_s = np.percentile(inside.latency_s, [50, 99, 100]) if len(inside.epoch) else [np.nan] * 3
    shares = {
        f"{name}_percent": round(percent * float((inside.quality == quality).sum()), 2)
        for name, quality in (("fixed", _FIX), ("float", _FLOAT), ("dgnss", _DGNSS), ("single", _SINGLE))
    }
    first = _first_s(answers.only(answers.quality > 0), report)
    first_fixed = _first_s(answers.only(answers.quality == _FIX), report)
    return {
        "p50_ms": round(1000.0 * p50_s, 2),
        "p99_ms": round(1000.0 * p99_s, 2),
        "max_ms": round(1000.0 * max_s, 2),
        "answered_percent": round(percent * len(inside.epoch), 2),
        "late_percent": round(percent * float((inside.latency_s > _LATE_S).sum()), 2),
        **shares,
        "fixed_rms_m": _rms(inside.error_m[fixed]),
        "rms_m": _rms(inside.error_m),
        "first_s": round(float(np.median(first)), 2),
        "first_s_max": round(float(first.max()), 2),
        "first_fixed_s": round(float(np.median(first_fixed)), 2),
    }


def _first_s(answers: Answered, report: UploadReport) -> NDArray[np.float64]:
    """Of each rover, from its first byte to the first of these answers; infinite where it has none."""
    began_ns: dict[int, int] = {}
    for (rover, _), sent_ns in report.sent_ns.items():
        began_ns[rover] = min(sent_ns, began_ns.get(rover, sent_ns))
    first_s = dict.fromkeys(began_ns, np.inf)
    for rover, epoch, latency_s in zip(
        answers.rover.tolist(), answers.epoch.tolist(), answers.latency_s.tolist(), strict=True
    ):
        since_s = latency_s + (report.sent_ns[rover, epoch] - began_ns[rover]) / NS
        first_s[rover] = min(first_s[rover], since_s)
    return np.array([*first_s.values()])


def _rms(errors_m: NDArray[np.float64]) -> float:
    known = errors_m[np.isfinite(errors_m)]
    return round(float(np.sqrt((known**2).mean())), 4) if len(known) else float("nan")


def _station_figures(sent: StationReport, window: range) -> dict[str, float]:
    """What the station's follower had, by the names of `Row`'s columns."""
    inside = np.array(sent.latencies_ms)[window.start : window.stop]
    came = inside[np.isfinite(inside)]
    p50_ms, p99_ms = np.percentile(came, [50, 99]).tolist() if len(came) else [np.nan] * 2
    return {"station_p50_ms": round(p50_ms, 2), "station_p99_ms": round(p99_ms, 2)}


def _remarks(report: UploadReport, sent: StationReport) -> Iterable[str]:
    if report.late_s_max > 0.1:
        yield f"a rover was {1000 * report.late_s_max:.0f} ms late with its sending: the machine was overloaded"
    if report.closed:
        yield f"{report.closed} rovers were closed"
    if lost := int(np.isnan(sent.latencies_ms).sum()):
        yield f"{lost} of the station's epochs did not reach its rover"


def write_results(rows: list[Row], folder: Path) -> None:
    """Write the table."""
    if not rows:
        return
    names = [field.name for field in fields(Row)]
    lines = [[name.replace("_percent", " %").replace("_", " ") for name in names], ["---"] * len(names)]
    lines += [[_text(getattr(row, name)) for name in names] for row in rows]
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    (folder / "end-to-end.md").write_text(_HEAD.format(cores=os.cpu_count()) + table)


def _text(value: Any) -> str:
    if isinstance(value, float) and not np.isfinite(value):
        return "-"
    return f"{value:,}" if isinstance(value, int | float) else str(value)
