"""Whether enough satellites check the integers of a rover in motion.

Wrong integers suit as many satellites as it takes to determine a position and a clock for each system. Each satellite
beyond these either contradicts them or suits them by chance, and so does each epoch.
"""

from typing import Final

import numpy as np

from solver.jit import part
from solver.kernels.rover import Record, Work
from solver.signals import PRN_PER_SYSTEM

__all__ = ["AT_ONCE_MIN", "CHECKING_MIN", "check", "checking"]

CHECKING_MIN: Final = 1
AT_ONCE_MIN: Final = 3
"""Checking satellites that prove integers in one epoch. Of fixes just won in Barcelona 53, 24 and 9 per cent were wrong
with none, one and two of them; with three, and in the second epoch with any, none of 69 and of 91."""


@part
def check(is_fixed: bool, patience: int, known: Record, now: Record, work: Work) -> bool:
    """Whether an epoch's integers are proven: checked, by three satellites or in as many epochs as it takes to be held.

    Args:
        is_fixed: Known integers make the position a fix.
        patience: Epochs running after which they are proven.
        known: Of `KNOWN`, `checked` counts these epochs.
        now: The epoch.
        work: With its links and their integers.
    """
    count = checking(now.count, work)
    known.checked = known.checked + 1 if is_fixed and count >= CHECKING_MIN else 0
    return bool(known.checked >= patience or (known.checked > 0 and count >= AT_ONCE_MIN))


@part
def checking(count: int, work: Work) -> int:
    """Number of satellites with known integers beyond those that determine a position and each system's clock.

    Args:
        count: Number of links, in the order of their satellites.
        work: With the links and their integers.
    """
    found, last, system = -3, -1, -1
    for k in range(count):
        sat = work.links[k].sat
        if np.isnan(work.known[k]) or sat == last:
            continue
        if sat // PRN_PER_SYSTEM == system:
            found += 1
        last, system = sat, sat // PRN_PER_SYSTEM
    return found
