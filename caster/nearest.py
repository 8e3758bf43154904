"""Which station serves a rover: the nearest healthy one, with hysteresis.

A rover between two stations must not be handed to and fro, since each change restarts its receiver's ambiguities: it
stays with its station until another is nearer by more than `HYSTERESIS_M`, or its own is no longer healthy.
"""

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["HYSTERESIS_M", "SEARCH_RADIUS_M", "StationMap"]

HYSTERESIS_M: Final = 500.0
"""By how much another station must be nearer; Millipede's default."""
SEARCH_RADIUS_M: Final = 1_000_000.0
"""Beyond it a station's corrections are of no use to a rover."""


class StationMap:
    """The healthy stations and where they are; frozen, rebuilt when one of them changes.

    Args:
        names: Of n mountpoints.
        positions_ecef_m: (n, 3).
    """

    def __init__(self, names: Sequence[str] = (), positions_ecef_m: NDArray[np.float64] | None = None) -> None:
        self._names = list(names)
        self._places = np.empty((0, 3)) if positions_ecef_m is None else np.asarray(positions_ecef_m).reshape(-1, 3)
        self._index = {name: place for place, name in enumerate(self._names)}

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._index

    def equals(self, names: Sequence[str], positions_ecef_m: NDArray[np.float64]) -> bool:
        """Whether a map of these stations would be the same."""
        return self._names == list(names) and np.array_equal(self._places, positions_ecef_m.reshape(-1, 3))

    def distance_m(self, name: str, here_ecef_m: NDArray[np.float64]) -> float:
        """Straight distance from a station of the map to a place (3,)."""
        return float(np.linalg.norm(self._places[self._index[name]] - here_ecef_m))

    def choose(self, here_ecef_m: NDArray[np.float64] | None, current: str | None = None) -> str | None:
        """The station for a rover.

        Args:
            here_ecef_m: (3,) where the rover is; None: not known, and then the first station of the map serves.
            current: The station that serves it now.

        Returns:
            A name, or None where no healthy station is in reach.
        """
        if not self._names:
            return None
        if here_ecef_m is None:
            return current if current in self._index else self._names[0]
        distances_m = np.sqrt(((self._places - here_ecef_m) ** 2).sum(axis=1))
        best = int(distances_m.argmin())
        if distances_m[best] > SEARCH_RADIUS_M:
            return None
        if current in self._index and distances_m[self._index[current]] - distances_m[best] <= HYSTERESIS_M:
            return current
        return self._names[best]
