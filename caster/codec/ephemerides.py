"""Collections of broadcast ephemerides: putting several together."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from solver.model import GLONASS_STATE, KEPLER, Ephemerides

__all__ = ["merge"]


def merge(parts: Iterable[Ephemerides]) -> Ephemerides:
    """All ephemerides of several collections, each once, ordered by satellite and toe; the first ionosphere known.

    Two records are the same when satellite, message, issue and both reference times are; of these the one that was sent
    last is kept: satellites correct group delays and health without a new issue.
    """
    parts = list(parts)
    kepler = np.concatenate([np.empty(0, KEPLER), *(part.kepler for part in parts)])
    glonass = np.concatenate([np.empty(0, GLONASS_STATE), *(part.glonass for part in parts)])
    return Ephemerides(
        _unique(kepler, ("sat", "toe_ns", "message", "toc_ns", "iode", "iodc")),
        _unique(glonass, ("sat", "toe_ns", "iode")),
        _first_known([part.klobuchar_gps for part in parts]),
        _first_known([part.klobuchar_beidou for part in parts]),
    )


def _unique(records: NDArray[Any], keys: tuple[str, ...]) -> NDArray[Any]:
    """Records ordered by their keys, the last sent of equal ones alone."""
    order = np.lexsort([records[key] for key in ("transmitted_ns", *reversed(keys))])
    records = records[order]
    same = np.ones(max(0, len(records) - 1), bool)
    for key in keys:
        same &= records[key][1:] == records[key][:-1]
    kept: NDArray[Any] = records[np.concatenate([~same, np.ones(min(1, len(records)), bool)])]
    return kept


def _first_known(candidates: list[NDArray[np.float64]]) -> NDArray[np.float64]:
    return next((values for values in candidates if np.isfinite(values).all()), np.full(8, np.nan))
