"""Base stations of the load: many sources in one process, each pushing one frame per period, evenly spread in time."""

import contextlib
import socket
import time
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Final, Literal

from bench.frames import Stamp, make_frame

__all__ = ["PushPlan", "PushReport", "run_pushers"]

_TIMEOUT_S: Final = 10.0
_SHORTEST_SLEEP_S: Final = 50e-6


@dataclass(frozen=True, slots=True)
class PushPlan:
    """What is pushed, and where to.

    Attributes:
        host, port: Where to push.
        mount_names: The mountpoints; number i has phase i / n of the period.
        rate_hz: Frames a second of each.
        protocol: NTRIP 1 `SOURCE`, or `raw` bytes for a caster that takes its one stream from a plain connection.
        password: Of the sources.
        flap_s: The first source comes anew after each so many seconds; 0: never.
    """

    host: str
    port: int
    mount_names: tuple[str, ...]
    rate_hz: float
    protocol: Literal["ntrip1", "raw"] = "ntrip1"
    password: str = ""
    flap_s: float = 0.0


@dataclass(frozen=True, slots=True)
class PushReport:
    """What was pushed.

    Attributes:
        last_sequences: By number of the mountpoint.
        frames: How many were sent in all.
        late_s_max: How far a sending came behind its time at worst: large where the machine is overloaded.
        refused: Sources that the caster refused or threw out.
        cpu_s: The process's own CPU time.
    """

    last_sequences: dict[int, int]
    frames: int
    late_s_max: float
    refused: int
    cpu_s: float


class _Source:
    def __init__(self, number: int, plan: PushPlan) -> None:
        self.number = number
        self.plan = plan
        self.sequence = -1
        self.socket: socket.socket | None = None

    def connect(self) -> bool:
        """Push from now on; False where the caster refuses."""
        plan = self.plan
        try:
            self.socket = socket.create_connection((plan.host, plan.port), timeout=_TIMEOUT_S)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if plan.protocol == "raw":
                return True
            name = plan.mount_names[self.number]
            self.socket.sendall(f"SOURCE {plan.password} /{name}\r\nSource-Agent: NTRIP Bench/1\r\n\r\n".encode())
            if self.socket.recv(1024).startswith((b"ICY 200 OK", b"OK")):
                return True
        except OSError:
            pass
        self.close()
        return False

    def push(self) -> bool:
        """Send the next frame; False where the caster has gone."""
        self.sequence += 1
        if self.socket is None:
            return False
        try:
            self.socket.sendall(make_frame(Stamp(self.number, self.sequence, time.monotonic_ns())))
        except OSError:
            self.close()
            return False
        return True

    def close(self) -> None:
        """Leave."""
        if self.socket is not None:
            self.socket.close()
            self.socket = None


def run_pushers(plan: PushPlan, pipe: Connection) -> None:
    """The main function of the sources' process: connect, say so, push until told, report, and wait for the end."""
    sources = [_Source(number, plan) for number in range(len(plan.mount_names))]
    try:
        refused = sum(not source.connect() for source in sources)
        pipe.send(refused)
        pipe.send(_push_until_told(plan, sources, pipe, refused))
        pipe.recv()  # stay connected until all is counted: rovers of a mountpoint without a source are sent away
    except (EOFError, BrokenPipeError):  # the benchmark itself has gone
        pass
    finally:
        for source in sources:
            source.close()
        pipe.close()


def _push_until_told(plan: PushPlan, sources: list[_Source], pipe: Connection, refused: int) -> PushReport:
    cpu_s, late_s_max, frames = time.process_time(), 0.0, 0
    gap_s = 1.0 / plan.rate_hz / len(sources)
    due_s = flap_due_s = time.monotonic()
    while not pipe.poll():  # a round: every source once
        for source in sources:
            due_s += gap_s
            if (wait_s := due_s - time.monotonic()) > _SHORTEST_SLEEP_S:
                time.sleep(wait_s)
            late_s_max = max(late_s_max, -wait_s)
            frames += (sent := source.push())
            refused += not sent
        if plan.flap_s and due_s - flap_due_s > plan.flap_s:
            flap_due_s = due_s
            sources[0].close()
            with contextlib.suppress(OSError):
                refused += not sources[0].connect()
    pipe.recv()
    last = {source.number: source.sequence for source in sources}
    return PushReport(last, frames, late_s_max, refused, time.process_time() - cpu_s)
