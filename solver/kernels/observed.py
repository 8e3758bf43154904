"""Rows of an epoch that can be used, grouped by satellite."""

import math

import numpy as np

from solver.jit import kernel
from solver.kernels import Bools, Float64Array, Int16Array, Int32Array, Records
from solver.signals import BEIDOU, PRN_PER_SYSTEM, SIGNAL_COUNT, signal

__all__ = ["choose_rows", "old_beidou"]

_RANGE_MIN_M, _RANGE_MAX_M = 1.0e7, 8.0e7
"""Pseudoranges outside of this are no satellite's: the nearest flies at 19,000 km, and a clock is off by < 0.1 s."""
_BEIDOU3_ONLY = np.zeros(SIGNAL_COUNT, np.bool_)
for _name in ("1D", "1P", "1X", "5D", "5P", "5X", "7D", "7P", "7Z"):
    _BEIDOU3_ONLY[signal("C" + _name)] = True


@kernel
def choose_rows(
    row_sat: Int16Array, row_signal: Int16Array, row_pseudorange_m: Float64Array, frequency_hz: Float64Array,
    satellites: Bools, signals: Bools, kept: Bools, sat: Int16Array, first: Int32Array, pseudorange_m: Float64Array,
    modern: Bools,
) -> int:  # fmt: skip
    """Mark the rows that can be used and group them by satellite; the number of satellites is returned.

    Args:
        row_sat: (m,) and so on: columns of the epoch.
        row_signal: (m,).
        row_pseudorange_m: (m,).
        frequency_hz: (m,).
        satellites: (SATELLITE_COUNT,) whether each is wanted.
        signals: (SIGNAL_COUNT,) likewise.
        kept: (m,) written.
        sat: (m,) written as far as there are satellites: each of them.
        first: (m + 1,) written one further: first row of each among those kept.
        pseudorange_m: (m,) written likewise: that row's.
        modern: (m,) written likewise: whether any of its rows is of a signal that BeiDou-3 alone sends.
    """
    count = 0
    rows = 0
    for row in range(len(row_sat)):
        range_m = row_pseudorange_m[row]
        sane = _RANGE_MIN_M < range_m < _RANGE_MAX_M and math.isfinite(frequency_hz[row])
        kept[row] = sane and satellites[row_sat[row]] and signals[row_signal[row]]
        if not kept[row]:
            continue
        if count == 0 or sat[count - 1] != row_sat[row]:
            sat[count], first[count], pseudorange_m[count], modern[count] = row_sat[row], rows, range_m, False
            count += 1
        modern[count - 1] |= _BEIDOU3_ONLY[row_signal[row]]
        rows += 1
    first[count] = rows
    return count


@kernel
def old_beidou(kepler: Records, sat: Int16Array, index: Int32Array, modern: Bools, out: Float64Array) -> None:
    """Write sqrt_a and i0 of the BeiDou satellites of which no signal of BDS-3 is seen (g, 2); 0 for others."""
    for g in range(len(sat)):
        out[g, 0], out[g, 1] = 0.0, 0.0
        if sat[g] // PRN_PER_SYSTEM == BEIDOU and not modern[g] and index[g] >= 0:
            out[g, 0], out[g, 1] = kepler[index[g]].sqrt_a, kepler[index[g]].i0
