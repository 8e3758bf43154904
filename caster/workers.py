"""Threads that solve while the event loop serves, bounded for each rover and station.

The loop hands over jobs under a key (a rover, a station). Jobs of one key run one at a time and in order, so a key's
state needs no lock. Epochs that arrive together, as over a mobile network, are all solved; a job that has waited
for `STALE_S` while a newer one of its key waits behind it is stale and dropped, and so is the oldest beyond
`BURST_MAX`: a machine that is too slow solves fewer epochs, not older ones. Keys take turns. Results go back to the
loop, all that are there at once; the jobs spend their time in kernels that release the interpreter lock.
"""

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Final, NamedTuple

import structlog

__all__ = ["BURST_MAX", "STALE_S", "THREADS_MAX", "Workers"]

THREADS_MAX: Final = 8
"""More threads than this only wait for the interpreter lock between their kernels."""
STALE_S: Final = 0.5
"""A rover that moves wants its latest place; what has waited for longer only delays it."""
BURST_MAX: Final = 32
"""Jobs that may wait under one key."""
CLOSE_WAIT_S: Final = 2.0
"""A solver's job takes milliseconds; only one that compiles its kernels takes longer, and nobody waits for that."""

_log = structlog.get_logger(__name__)


class _Job(NamedTuple):
    """What to do off the loop, and what to do with the result on it."""

    work: Callable[[], Any]
    done: Callable[[Any], None]
    submitted_s: float


class Workers:
    """A pool of solver threads, which `start` begins on the loop that it is to serve.

    Args:
        threads: How many; by default one for each core.

    Attributes:
        finished: Count of jobs whose result was handed to the loop.
        dropped: Count of jobs that were stale, or the oldest of too many.
        failed: Count of jobs that raised; each is logged and ends nothing else.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.finished = 0
        self.dropped = 0
        self.failed = 0
        self._waiting: dict[Hashable, deque[_Job]] = {}
        self._running: set[Hashable] = set()
        self._results: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._closing = False
        count = min(threads or os.cpu_count() or 1, THREADS_MAX)
        self._threads = [threading.Thread(target=self._run, name=f"solver-{k}", daemon=True) for k in range(count)]
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self) -> None:
        """Begin; called on the loop that the results go to."""
        self._loop = asyncio.get_running_loop()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Drop what waits and end the threads; one that is still at a job ends after it, unheard."""
        with self._wake:
            self._closing = True
            self._waiting.clear()
            self._wake.notify_all()
        for thread in self._threads:
            thread.join(CLOSE_WAIT_S)

    @property
    def backlog(self) -> int:
        """Jobs that wait."""
        return sum(map(len, self._waiting.values()))

    def submit(self, key: Hashable, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Run `work()` in a thread and then `done(result)` on the loop, after what waits under the same key."""
        with self._wake:
            jobs = self._waiting.setdefault(key, deque())
            if len(jobs) == BURST_MAX:
                jobs.popleft()
                self.dropped += 1
            jobs.append(_Job(work, done, time.monotonic()))
            if key not in self._running:
                self._wake.notify()

    def cancel(self, key: Hashable) -> None:
        """Forget what waits under a key; a job that runs ends, and its result is still handed over."""
        with self._wake:
            self._waiting.pop(key, None)

    def _run(self) -> None:
        while (taken := self._take()) is not None:
            key, job = taken
            try:
                result = job.work()
            except Exception:
                _log.exception("solver job failed", key=str(key))
                self._finish(key, None)
            else:
                self._finish(key, partial(job.done, result))

    def _take(self) -> tuple[Hashable, _Job] | None:
        """Wait for a job whose key is not being worked on; None at the end."""
        with self._wake:
            while not self._closing:
                for key in self._waiting:
                    if key not in self._running:
                        self._running.add(key)
                        return key, self._next_of(key)
                self._wake.wait()
        return None

    def _next_of(self, key: Hashable) -> _Job:
        """The first job of a key that is not stale; the key goes to the end of the row."""
        jobs = self._waiting.pop(key)
        while len(jobs) > 1 and time.monotonic() - jobs[0].submitted_s > STALE_S:
            jobs.popleft()
            self.dropped += 1
        job = jobs.popleft()
        if jobs:
            self._waiting[key] = jobs
        return job

    def _finish(self, key: Hashable, deliver: Callable[[], None] | None) -> None:
        with self._wake:
            self._running.discard(key)
            self.failed += deliver is None
            self.finished += deliver is not None
            if key in self._waiting:
                self._wake.notify()
            if deliver is not None and self._loop is not None and not self._closing:
                self._results.append(deliver)
                if len(self._results) == 1:  # waking the loop takes a system call
                    self._loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        """Hand the results that there are to whoever wants them; runs on the loop."""
        with self._wake:
            results, self._results = self._results, deque()
        for deliver in results:
            try:
                deliver()
            except Exception:
                _log.exception("what is done with a result failed")
