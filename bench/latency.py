"""Latencies by the million in bounded memory: a histogram whose buckets are 2 % wide."""

import array
import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

__all__ = ["Latencies"]

_RATIO: Final = 1.02
_EDGES_US: Final = _RATIO ** np.arange(math.ceil(math.log(1e9, _RATIO)))  # from 1 us to 1000 s
_FOLD_AT: Final = 100_000


class Latencies:
    """Collects latencies and tells their percentiles to within 2 %; the longest is exact."""

    def __init__(self) -> None:
        self._new_us = array.array("q")
        self._counts: NDArray[np.int64] = np.zeros(len(_EDGES_US) + 1, np.int64)
        self._max_us = 0

    def add_ns(self, latency_ns: int) -> None:
        """Count one."""
        self._new_us.append(latency_ns // 1000)
        if len(self._new_us) >= _FOLD_AT:
            self._fold()

    def merge(self, other: "Latencies") -> None:
        """Count all that another process has counted."""
        self._fold()
        other._fold()
        self._counts += other._counts
        self._max_us = max(self._max_us, other._max_us)

    def percentile_ms(self, percent: float) -> float:
        """The latency in ms that `percent` of all stay within; NaN where there are none."""
        self._fold()
        total = int(self._counts.sum())
        if not total:
            return math.nan
        place = int(np.searchsorted(np.cumsum(self._counts), total * percent / 100.0))
        return min(float(_EDGES_US[min(place, len(_EDGES_US) - 1)]), float(self._max_us)) / 1000.0

    @property
    def count(self) -> int:
        """How many there are."""
        self._fold()
        return int(self._counts.sum())

    @property
    def max_ms(self) -> float:
        """The longest, ms."""
        self._fold()
        return self._max_us / 1000.0

    def _fold(self) -> None:
        if self._new_us:
            values = np.frombuffer(self._new_us, np.int64)
            self._counts += np.bincount(np.searchsorted(_EDGES_US, values), minlength=len(self._counts))
            self._max_us = max(self._max_us, int(values.max()))
            self._new_us = array.array("q")
