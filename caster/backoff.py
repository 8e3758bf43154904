"""How long to wait before connecting again: longer after each failure, and never in step with others."""

import random
from collections.abc import Callable

__all__ = ["Backoff"]


class Backoff:
    """Waits that double up to a limit, each shortened by chance to as little as a half.

    Args:
        first_s: The first wait.
        max_s: The longest.
        draw: A number from 0 to 1 at random.
    """

    def __init__(self, first_s: float, max_s: float, draw: Callable[[], float] = random.random) -> None:
        self._first_s = first_s
        self._max_s = max_s
        self._draw = draw
        self._next_s = first_s

    def next_s(self) -> float:
        """The wait after one more failure."""
        wait_s = min(self._next_s, self._max_s)
        self._next_s = min(2.0 * self._next_s, self._max_s)
        return wait_s * (1.0 - 0.5 * self._draw())

    def reset(self) -> None:
        """A connection has proved itself."""
        self._next_s = self._first_s
