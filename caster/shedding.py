"""Which rovers' carriers are followed where there is not time for all: fewer and fewer, then more again.

A position by codes takes a quarter of the time of one by carriers (`solver.rtk.process_codes`). Two things make room.
An epoch that has waited for `LATE_S` before a thread takes it is answered by its codes, so that a hiccup is made up
for at once. Where epochs wait so long again and again, a quarter of the rovers that are followed, those that came last,
are shed: they get positions by codes until there is time again, rather than every rover now and then. Rovers come back
some at a time while nothing waits. That is the control of congestion by additive increase and multiplicative decrease,
which is stable and settles near what the machine can do (Chiu 1989).
"""

import math
from collections.abc import Hashable
from typing import Final

import structlog

__all__ = ["CALM_S", "LATE_LOOKS", "LATE_S", "Shedding"]

LATE_S: Final = 0.4
"""An epoch that has waited for so long is late; the next of its rover may come before this one is answered."""
CALM_S: Final = 0.15
"""Where no epoch waits for longer, there is time for more rovers; those of a whole second may come at once."""
LATE_LOOKS: Final = 2
"""So many looks running must have seen late epochs: loading kernels or cleaning memory is no overload."""
_KEPT: Final = 0.75
_MORE: Final = 0.03
"""Share of all rovers that come back at a look."""

_log = structlog.get_logger(__name__)


class Shedding:
    """The rovers whose carriers are wanted, in the order in which they came, and how many of them are followed.

    All but `note` belongs to the event loop.

    Attributes:
        shed: Those for which there is no time now.
    """

    def __init__(self) -> None:
        self.shed: set[Hashable] = set()
        self._rovers: dict[Hashable, None] = {}
        self._waited_s = 0.0
        self._late_looks = 0

    def join(self, rover: Hashable) -> None:
        """A rover has come: where others were shed, it has to wait as well."""
        self._rovers[rover] = None
        if self.shed:
            self.shed.add(rover)

    def leave(self, rover: Hashable) -> None:
        """A rover has gone."""
        self._rovers.pop(rover, None)
        self.shed.discard(rover)

    def note(self, waited_s: float) -> None:
        """An epoch has waited so long for a thread; threads tell it, and one that is overwritten does no harm."""
        self._waited_s = max(self._waited_s, waited_s)

    def look(self) -> None:
        """Shed rovers or take some back, by how long epochs have waited since the last look."""
        waited_s, self._waited_s = self._waited_s, 0.0
        self._late_looks = self._late_looks + 1 if waited_s > LATE_S else 0
        count, followed = len(self._rovers), len(self._rovers) - len(self.shed)
        if self._late_looks >= LATE_LOOKS and followed:
            self._late_looks, was_shed = 0, bool(self.shed)
            self._follow(int(_KEPT * followed))
            if not was_shed:
                _log.warning("rovers shed", rovers=count, shed=len(self.shed), waited_s=round(waited_s, 2))
        elif self.shed and waited_s < CALM_S:
            self._follow(followed + math.ceil(_MORE * count))
            if not self.shed:
                _log.info("rovers followed again", rovers=count)

    def _follow(self, count: int) -> None:
        self.shed = set(list(self._rovers)[count:])
