"""The processes of a benchmark: started, waited for, measured from /proc, and ended by their ids."""

import contextlib
import multiprocessing
import os
import resource
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from pathlib import Path
from typing import Any, Final

from caster.errors import DipperError

__all__ = [
    "BenchError",
    "Usage",
    "Worker",
    "free_port",
    "machine_busy_s",
    "need_descriptors",
    "started",
    "wait_idle",
    "wait_listening",
]

_TICK_S: Final = 1.0 / os.sysconf("SC_CLK_TCK")
_END_TIMEOUT_S: Final = 10.0
_ORDER_TIMEOUT_S: Final = 60.0
_IDLE_S: Final = 1.0
_IDLE_SHARE: Final = 0.05
_SPARE_DESCRIPTORS: Final = 64


class BenchError(DipperError):
    """A benchmark cannot run here, or a caster did not do what it must."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process and its children have used.

    Attributes:
        cpu_s: User and system time so far.
        rss_mb: Memory in use, MB (10^6 bytes).
    """

    cpu_s: float
    rss_mb: float

    @classmethod
    def of(cls, pid: int) -> "Usage":
        """Read it of a process and all its descendants; of a process that has gone it is zero."""
        cpu_s, rss_mb = 0.0, 0.0
        for member in _family(pid):
            with contextlib.suppress(OSError):
                fields = Path(f"/proc/{member}/stat").read_text().rpartition(")")[2].split()
                cpu_s += (int(fields[11]) + int(fields[12])) * _TICK_S
                rss_mb += int(fields[21]) * resource.getpagesize() / 1e6
        return cls(cpu_s, rss_mb)


class Worker:
    """A process of the load client: runs `function(plan, pipe)`, with the other end of the pipe here.

    Attributes:
        plan: What it was told to do.
        pipe: Our end.
        process: Itself.
    """

    def __init__(self, function: Any, plan: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self.plan = plan
        self.pipe: Connection
        self.pipe, theirs = context.Pipe()
        self.process: SpawnProcess = context.Process(target=function, args=(plan, theirs), daemon=True)
        self.process.start()
        theirs.close()

    def receive(self, timeout_s: float = _ORDER_TIMEOUT_S) -> Any:
        """Its next message.

        Raises:
            BenchError: There is none within that time, or the process has ended.
        """
        if not self.pipe.poll(timeout_s):
            raise BenchError(f"a process of the load client did not answer within {timeout_s:.0f} s")
        try:
            return self.pipe.recv()
        except EOFError:
            raise BenchError("a process of the load client has ended") from None

    def end(self, farewell: Any = None) -> None:
        """End the process: by a last message that it waits for, or by force."""
        with contextlib.suppress(OSError):
            self.pipe.send(farewell)
        self.process.join(5.0)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()
        self.pipe.close()


def _family(pid: int) -> Iterator[int]:
    yield pid
    with contextlib.suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                yield from _family(int(child))


def machine_busy_s() -> float:
    """CPU time that all processes of the machine have used since it started, s, all cores together."""
    fields = [int(text) for text in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return (sum(fields) - fields[3] - fields[4]) * _TICK_S  # all but idle and waiting for a disk


def need_descriptors(count: int, what: str) -> None:
    """Raise the soft limit of open files as far as needed; children inherit it.

    Raises:
        BenchError: The hard limit is lower.
    """
    need = count + _SPARE_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and need > hard:
        raise BenchError(f"{what} needs {need} open files in one process, and the limit here is {hard} (ulimit -Hn)")
    if soft != resource.RLIM_INFINITY and need > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (need, hard))


_PORTS: Final = iter(range(21000 + os.getpid() % 5000, 32000))


def free_port() -> int:
    """A TCP port that nothing listens on right now, below the range that connections take theirs from; never twice."""
    for port in _PORTS:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            with contextlib.suppress(OSError):
                probe.bind(("127.0.0.1", port))
                return port
    raise BenchError("no free TCP port")


@contextlib.contextmanager
def started(command: Sequence[str | Path], log: Path, **environment: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program for the length of a `with` block; its output goes to a file."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=os.environ | environment,
        )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(_END_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def wait_listening(process: subprocess.Popen[bytes], port: int, log: Path, timeout_s: float) -> None:
    """Wait until a port takes connections.

    Raises:
        BenchError: The process has ended, or the time is over; with the last lines of its output.
    """
    deadline_s = time.monotonic() + timeout_s
    while process.poll() is None and time.monotonic() < deadline_s:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1.0):
            return
        time.sleep(0.05)
    state = "still does not listen" if process.poll() is None else f"ended with {process.returncode}"
    tail = " | ".join(log.read_text(errors="replace").splitlines()[-5:])
    raise BenchError(f"{Path(str(process.args[0])).name} {state} on port {port}: {tail}")  # type: ignore[index]


def wait_idle(pid: int, timeout_s: float = 120.0) -> None:
    """Wait until a process has done next to nothing for a second: it may still compile or load things in a thread."""
    deadline_s, used_s = time.monotonic() + timeout_s, -1.0
    while time.monotonic() < deadline_s and Usage.of(pid).cpu_s - used_s > _IDLE_SHARE * _IDLE_S:
        used_s = Usage.of(pid).cpu_s
        time.sleep(_IDLE_S)
