"""The service's event loop: asyncio's own, which gathers what comes within a moment.

Thousands of base stations send one epoch a second each, at instants of their own. A loop that wakes up for each of them
pays for every one with a wake-up of the process and with caches that others have filled since: a quarter of its time
with 2,700 mountpoints (`docs/topics/fan-out.md`). So the loop looks for news at most once in `GATHER_S` and handles
together what has come; network cards and their drivers do the same (interrupt coalescing, ethtool(8) `-C rx-usecs`).
What comes to a loop that has been idle for as long is handled at once.
"""

import asyncio
import selectors
import time
from typing import Final

__all__ = ["GATHER_S", "new_loop"]

GATHER_S: Final = 0.002
"""A rover's corrections take tens of milliseconds through a mobile network, and are a second old when the next come."""


class _GatheringSelector(selectors.EpollSelector):
    def __init__(self) -> None:
        super().__init__()
        self._next_s = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """As its parent, but not before the moment since the last look is over: till then there is nothing new."""
        wait_s = self._next_s - time.monotonic()
        if wait_s > 0.0:
            if timeout is not None and timeout < wait_s:
                if timeout > 0.0:
                    time.sleep(timeout)
                return []
            time.sleep(wait_s)
            timeout = None if timeout is None else timeout - wait_s
        events = super().select(timeout)
        self._next_s = time.monotonic() + GATHER_S
        return events


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop for `asyncio.Runner`."""
    return asyncio.SelectorEventLoop(_GatheringSelector())
