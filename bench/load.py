"""The load client: rovers and sources in processes of their own, and what they and the caster measured.

One `Load` is one caster under one load: connect all rovers while the sources stream, count over a window, stop the
sources, and ask every rover whether it has got everything. The client shares the machine with the caster, so it
measures its own share of it, and says where a figure is the client's limit rather than the caster's.
"""

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

from bench.casters import PASSWORD, ROVER, Running
from bench.processes import BenchError, Usage, Worker, machine_busy_s, need_descriptors
from bench.pushers import PushPlan, PushReport, run_pushers
from bench.rovers import FleetPlan, FleetReport, Order, run_fleet

__all__ = ["Load", "LoadPlan", "Measured", "running_load"]

_CONNECT_TIMEOUT_S: Final = 120.0
_FIRST_FRAME_TIMEOUT_S: Final = 90.0
_SETTLE_S: Final = 2.0
_DRAIN_S: Final = 2.0
_WAKE_S: Final = 10.0
_SATURATED: Final = 0.85


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """The load on one caster.

    Attributes:
        mount_names: Mountpoints, one source each.
        rovers: Rovers in all, dealt out to the mountpoints in turn.
        rate_hz: Frames a second of each source.
        fleets: Processes for the rovers.
        stalled: So many rovers stop reading once they stream.
        tls: Rovers come by TLS.
        churn_s: Each rover comes anew after about so long; 0: it stays.
        flap_s: One source comes anew after each so many seconds; 0: never.
    """

    mount_names: tuple[str, ...]
    rovers: int
    rate_hz: float
    fleets: int = 2
    stalled: int = 0
    tls: bool = False
    churn_s: float = 0.0
    flap_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Measured:
    """What one load has shown. Shares are of one core.

    Attributes:
        rovers: What all rovers saw within the window.
        pushed: What the sources did in the whole run.
        seconds: The window.
        connects_per_s: Rovers connected a second, before the window.
        server_share: CPU of the caster.
        client_share: CPU of the load client.
        others_share: CPU of everything else on the machine: how far the figures are to be trusted.
        rss_mb: Memory of the caster at the end of the window, MB.
        remarks: What a reader must know of these figures.
    """

    rovers: FleetReport
    pushed: PushReport
    seconds: float
    connects_per_s: float
    server_share: float
    client_share: float
    others_share: float
    rss_mb: float
    remarks: tuple[str, ...]


class Load:
    """Rovers and sources of one caster; see `running_load`."""

    def __init__(self, plan: LoadPlan, caster: Running) -> None:
        self._plan = plan
        self._caster = caster
        self._fleets: list[Worker] = []
        self._pushers: Worker | None = None
        self._connects_per_s = 0.0

    def start(self) -> None:
        """Start the processes and connect the sources.

        Raises:
            BenchError: The caster refuses sources, or this machine cannot hold so many connections.
        """
        plan, caster = self._plan, self._caster
        need_descriptors(plan.rovers // caster.workers + len(plan.mount_names), "the caster")
        push_plan = PushPlan(
            "127.0.0.1", caster.push_port, plan.mount_names, plan.rate_hz, caster.push_protocol, PASSWORD, plan.flap_s
        )
        self._pushers = Worker(run_pushers, push_plan)
        if refused := self._pushers.receive():
            raise BenchError(f"the caster refused {refused} of {len(plan.mount_names)} sources")
        for number in range(plan.fleets):
            share = range(number, plan.rovers, plan.fleets)
            self._fleets.append(Worker(run_fleet, self._fleet_plan(number, share)))

    def _fleet_plan(self, number: int, share: range) -> FleetPlan:
        plan, count = self._plan, len(self._plan.mount_names)
        return FleetPlan(
            host="127.0.0.1",
            port=self._caster.port,
            mounts=tuple(rover // plan.fleets % count for rover in share),
            mount_names=plan.mount_names,
            user=ROVER,
            password=PASSWORD,
            source_host=f"127.0.1.{number + 1}",
            stalled=plan.stalled // plan.fleets,
            tls=plan.tls,
            churn_s=plan.churn_s,
        )

    def end(self) -> None:
        """End all processes."""
        for worker in [*self._fleets, *([self._pushers] if self._pushers else [])]:
            worker.end(Order("stop"))

    @property
    def fleets(self) -> int:
        """How many processes of rovers there are."""
        return len(self._fleets)

    def report(self, last_sequences: dict[int, int] | None = None, fleets: range | None = None) -> FleetReport:
        """Ask the rovers; with the sources' last numbers, for what is missing, too."""
        chosen = self._chosen(fleets)
        for fleet in chosen:
            fleet.pipe.send(Order("report", last_sequences or {}))
        total = FleetReport()
        for fleet in chosen:
            total.add(fleet.receive())
        return total

    def connect(self, fleets: range | None = None) -> None:
        """Connect the rovers of some of the processes, or of all.

        Raises:
            BenchError: Some could not within two minutes.
        """
        chosen = self._chosen(fleets)
        for fleet in chosen:
            fleet.pipe.send(Order("connect"))
        rovers = sum(len(fleet.plan.mounts) for fleet in chosen)
        deadline_s = time.monotonic() + _CONNECT_TIMEOUT_S
        while (report := self.report(fleets=fleets)).connected + report.refused + report.closed < rovers:
            if time.monotonic() > deadline_s:
                raise BenchError(f"{report.connected} of {rovers} rovers are connected after two minutes")
            time.sleep(0.1)
        self._connects_per_s = rovers / report.connect_s if report.connect_s else 0.0

    def measure(self, seconds: float, meanwhile: Callable[[], None] | None = None) -> Measured:
        """Let the rovers that are connected settle, and count for so long; then stop the sources and ask all rovers."""
        self._settle()
        for fleet in self._fleets:
            fleet.pipe.send(Order("reset"))
        began_s, busy_s, usage, client_s = self._reading()
        if meanwhile is not None:
            meanwhile()
        time.sleep(max(0.0, began_s + seconds / 6 - time.monotonic()))
        early = Usage.of(self._caster.pid)
        time.sleep(max(0.0, began_s + seconds - time.monotonic()))
        now_s, now_busy_s, now, now_client_s = self._reading()
        window_s = now_s - began_s
        server, client = (now.cpu_s - usage.cpu_s) / window_s, (now_client_s - client_s) / window_s
        others = max(0.0, (now_busy_s - busy_s) / window_s - server - client)
        busiest = max(self.report(fleets=range(number, number + 1)).cpu_s for number in range(self.fleets)) / window_s
        pushed = self._stop_pushing()
        return Measured(
            rovers=self.report(pushed.last_sequences),
            pushed=pushed,
            seconds=window_s,
            connects_per_s=self._connects_per_s,
            server_share=server,
            client_share=client,
            others_share=others,
            rss_mb=now.rss_mb,
            remarks=(*_remarks(self._plan, pushed, busiest, others), *self._growth(early.rss_mb, now.rss_mb)),
        )

    def _growth(self, early_mb: float, now_mb: float) -> Iterator[str]:
        """Of rovers that come and go: how the caster's memory grew once all had been there."""
        if self._plan.churn_s:
            yield f"memory grew by {now_mb / early_mb - 1:.1%} after the first sixth"

    def _settle(self) -> None:
        """Wait until every rover has had a frame: a first start compiles kernels meanwhile."""
        deadline_s = time.monotonic() + _FIRST_FRAME_TIMEOUT_S
        while (silent := self.report().silent) and time.monotonic() < deadline_s:
            time.sleep(0.2)
        if silent:
            raise BenchError(f"{silent} rovers had no frame within {_FIRST_FRAME_TIMEOUT_S:.0f} s")
        time.sleep(_SETTLE_S)

    def _chosen(self, fleets: range | None) -> list[Worker]:
        return self._fleets if fleets is None else [self._fleets[number] for number in fleets]

    def _reading(self) -> tuple[float, float, Usage, float]:
        """The time, the machine's busy time, the caster's usage, the client's CPU time."""
        workers = [*self._fleets, *([self._pushers] if self._pushers else [])]
        client_s = sum(Usage.of(worker.process.pid or 0).cpu_s for worker in workers)
        return time.monotonic(), machine_busy_s(), Usage.of(self._caster.pid), client_s

    def _stop_pushing(self) -> PushReport:
        assert self._pushers is not None
        if self._plan.churn_s:  # whoever came after the last frame would count as one that has lost it
            for fleet in self._fleets:
                fleet.pipe.send(Order("stay"))
            time.sleep(_SETTLE_S)
        self._pushers.pipe.send(Order("stop"))
        pushed: PushReport = self._pushers.receive()
        for fleet in self._fleets:
            fleet.pipe.send(Order("wake"))
        time.sleep(_DRAIN_S if not self._plan.stalled else _WAKE_S)
        return pushed


def _remarks(plan: LoadPlan, pushed: PushReport, busiest: float, others: float) -> Iterator[str]:
    if busiest > _SATURATED:
        yield f"the load client is saturated ({busiest:.0%} of a core per process): latencies are partly its own"
    if pushed.late_s_max > 0.5 / plan.rate_hz:
        yield f"a source was {1000 * pushed.late_s_max:.0f} ms late: the machine was overloaded"
    if others > 0.2:
        yield f"other programs took {others:.0%} of a core meanwhile"
    if pushed.refused:
        yield f"sources were refused or thrown out {pushed.refused} times"


@contextlib.contextmanager
def running_load(plan: LoadPlan, caster: Running) -> Iterator[Load]:
    """Sources that wait to push and rovers that wait to connect, for the length of a `with` block."""
    load = Load(plan, caster)
    try:
        load.start()
        yield load
    finally:
        load.end()
