"""Python's collector of garbage, paused while much is made that stays."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["collector_paused"]


@contextmanager
def collector_paused() -> Iterator[None]:
    """Looking through all that is there again and again takes a fifth of reading, and of loading the solver.

    It is not looked at afterwards either, as long as the process lives.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.freeze()
            gc.enable()
