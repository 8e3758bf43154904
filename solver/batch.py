"""Many rovers in one call: real-time kinematic positions over all cores.

A rover's state is its own, so any number of rovers are solved side by side. Each thread takes a few of them at a time,
and has one workspace for all that it ever takes. The kernels release the interpreter lock, and there is a tenth of an
epoch's time of Python around them (`python -m bench batch`).
"""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from types import TracebackType
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from solver.model import Ephemerides, Epoch, Fix
from solver.rtk import RtkOptions, RtkState, Workspace, process

__all__ = ["Batch", "Task"]

_SHARE: Final = 8
"""Rovers that a thread takes at once: few, so that all threads end together."""


class Task(NamedTuple):
    """One epoch of one rover.

    Attributes:
        state: What is known of the rover; changed. No two tasks of a call may have the same.
        rover: The rover's epoch.
        base: Its base's epoch; many rovers may share one.
        base_ecef_m: (3,) the base's antenna.
    """

    state: RtkState
    rover: Epoch
    base: Epoch
    base_ecef_m: NDArray[np.float64]


class Batch:
    """Threads that position many rovers in one call; a context manager.

    Args:
        threads: How many; by default one for each core.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or os.cpu_count() or 1
        self._workspaces = [Workspace() for _ in range(self.threads)]
        self._pool = ThreadPoolExecutor(self.threads, thread_name_prefix="batch")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def process(self, tasks: Sequence[Task], ephemerides: Ephemerides, options: RtkOptions) -> list[Fix]:
        """Position the rover of each task, as `solver.rtk.process` does one.

        Args:
            tasks: In any order, of any bases.
            ephemerides: Broadcast orbits and clocks.
            options: How.

        Returns:
            A fix for each task, in their order.
        """
        fixes: list[Fix | None] = [None] * len(tasks)
        shares = count(0, _SHARE)

        def take(workspace: Workspace) -> None:
            while (first := next(shares)) < len(tasks):
                for place, task in enumerate(tasks[first : first + _SHARE], first):
                    fixes[place] = process(
                        task.state, task.rover, task.base, task.base_ecef_m, ephemerides, options, workspace
                    )

        list(self._pool.map(take, self._workspaces))  # raises what a thread has raised
        return [fix for fix in fixes if fix is not None]
