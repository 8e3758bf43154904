"""Threads that solve while the event loop serves: one waiting job for each key, the newest.

The loop hands over a job under a key (a rover, a station). While a key's job waits, a newer one takes its place: a
stale epoch is replaced, never queued, so the backlog is bounded by the number of keys, and a slow machine solves fewer
epochs instead of older ones. Jobs of one key never run at the same time, so a key's state needs no lock. Keys are
served in the order in which they came. Results go back to the loop; the jobs spend their time in kernels that release
the interpreter lock.
"""

import asyncio
import os
import threading
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Final, NamedTuple, Self

import structlog

__all__ = ["THREADS_MAX", "Workers"]

THREADS_MAX: Final = 8
"""More threads than this only wait for the interpreter lock between their kernels."""

_log = structlog.get_logger(__name__)


class _Job(NamedTuple):
    """What to do off the loop, and what to do with the result on it."""

    work: Callable[[], Any]
    done: Callable[[Any], None]


class Workers:
    """A pool of solver threads; used as an async context manager on the loop that it serves.

    Args:
        threads: How many; by default one for each core.

    Attributes:
        finished: Count of jobs whose result was handed to the loop.
        replaced: Count of jobs that a newer one of their key took the place of.
        failed: Count of jobs that raised; each is logged and ends nothing else.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.finished = 0
        self.replaced = 0
        self.failed = 0
        self._count = min(threads or os.cpu_count() or 1, THREADS_MAX)
        self._waiting: dict[Hashable, _Job] = {}
        self._running: set[Hashable] = set()
        self._wake = threading.Condition()
        self._closing = False
        self._threads: list[threading.Thread] = []
        self._loop: asyncio.AbstractEventLoop | None = None

    async def __aenter__(self) -> Self:
        self._loop = asyncio.get_running_loop()
        self._threads = [threading.Thread(target=self._run, name=f"solver-{k}") for k in range(self._count)]
        for thread in self._threads:
            thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        with self._wake:
            self._closing = True
            self._waiting.clear()
            self._wake.notify_all()
        for thread in self._threads:
            await asyncio.to_thread(thread.join)

    @property
    def backlog(self) -> int:
        """Jobs that wait."""
        return len(self._waiting)

    def submit(self, key: Hashable, work: Callable[[], Any], done: Callable[[Any], None]) -> None:
        """Run `work()` in a thread and `done(result)` on the loop; takes the place of the key's waiting job."""
        with self._wake:
            self.replaced += key in self._waiting
            self._waiting[key] = _Job(work, done)  # a replaced job keeps its turn
            if key not in self._running:
                self._wake.notify()

    def cancel(self, key: Hashable) -> None:
        """Forget the key's waiting job; one that runs ends, and its result is still handed over."""
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
                        return key, self._waiting.pop(key)
                self._wake.wait()
        return None

    def _finish(self, key: Hashable, deliver: Callable[[], None] | None) -> None:
        with self._wake:
            self._running.discard(key)
            self.failed += deliver is None
            self.finished += deliver is not None
            if key in self._waiting:
                self._wake.notify()
            if deliver is not None and self._loop is not None and not self._closing:
                self._loop.call_soon_threadsafe(deliver)
