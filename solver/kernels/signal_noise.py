"""How much noisier one signal's carriers are than another's, as carriers with known integers tell.

Antennas' patterns, multipath and tracking loops differ by signal, and no noise law knows by how much. Residuals of
fixed positions do: their squares, each group's over its redundancy, are its variance in units of what was assumed
(Förstner 1979). Errors last for minutes, so many epochs tell no more than the satellites of one. Hence a signal's
variance lies between what it shows itself and what all do, nearer to the former the larger its redundancy in an epoch
is: logarithms of variance factors have a variance of 2 / redundancy, and differ by 0.6 (1 sigma) between signals
(empirical Bayes).
"""

import math
from typing import Final

import numpy as np

from solver.jit import part
from solver.kernels import Float64Array, Records
from solver.kernels.differencing import GROUPS_MAX, rover_signal
from solver.kernels.linalg import cholesky, cholesky_inverse
from solver.kernels.rover import Record, Work

__all__ = ["fixed_squares", "learn_signals"]

GAIN: Final = 0.02
PRIOR_REDUNDANCY: Final = 6.0
"""What the expectation of equal signals is worth: 2 / 0.6². The signals of three pairs of receivers differ so."""
REDUNDANCY_MIN: Final = 0.5


@part
def fixed_squares(
    count: int, links: Records, known: Float64Array, offset: Float64Array, square: Float64Array,
    redundancy: Float64Array,
) -> None:  # fmt: skip
    """Squares of the residuals of fixed carriers, and how much of their errors these show, by group.

    GLONASS is left out, for its channel biases.

    Args:
        count: Number of links.
        links: (count,).
        known: (count,) integers up to each group's datum, cycles; NaN: not known.
        offset: (3,) position that they give, an offset from the approximate one.
        square: (GROUPS_MAX,) out, in units of the links' variances.
        redundancy: (GROUPS_MAX,) out; 0: the group tells nothing.
    """
    mean, weight = np.zeros((GROUPS_MAX, 4)), np.zeros(GROUPS_MAX)  # of unit vectors and residuals
    row, residual = np.zeros((count, 3)), np.empty(count)
    square[:] = 0.0
    redundancy[:] = 0.0
    for k in range(count):
        group = links[k].group
        residual[k] = np.nan if links[k].channel != 0.0 else links[k].phase_m - links[k].wavelength_m * known[k]
        for axis in range(3):
            residual[k] += links[k].unit[axis] * offset[axis]
        if not math.isnan(residual[k]):
            weight[group] += 1.0 / links[k].phase_m2
            mean[group, 3] += residual[k] / links[k].phase_m2
            for axis in range(3):
                mean[group, axis] += links[k].unit[axis] / links[k].phase_m2
    normal, inverse = np.zeros((3, 3)), np.empty((3, 3))
    for k in range(count):
        if math.isnan(residual[k]):
            continue
        for axis in range(3):
            row[k, axis] = links[k].unit[axis] - mean[links[k].group, axis] / weight[links[k].group]
            for other in range(axis + 1):
                normal[axis, other] += row[k, axis] * row[k, other] / links[k].phase_m2
    if not cholesky(normal, 3):
        return
    cholesky_inverse(normal, inverse, 3)
    for k in range(count):
        group = links[k].group
        if math.isnan(residual[k]):
            continue
        hidden = 1.0 / weight[group]  # variance of the estimate at the carrier
        for axis in range(3):
            for other in range(3):
                hidden += row[k, axis] * inverse[axis, other] * row[k, other]
        square[group] += (residual[k] - mean[group, 3] / weight[group]) ** 2 / links[k].phase_m2
        redundancy[group] += 1.0 - hidden / links[k].phase_m2


@part
def learn_signals(known: Record, now: Record, work: Work) -> None:
    """Follow the signals' variance factors, beside that of all; longer baselines leave the ionosphere in residuals."""
    if now.ionosphere_m > 0.0:
        return
    square, redundancy = np.empty(GROUPS_MAX), np.empty(GROUPS_MAX)
    shown = np.full(GROUPS_MAX, np.nan)  # logarithms of variances
    fixed_squares(now.count, work.links, work.known, work.b, square, redundancy)
    total, level = 0.0, 0.0
    for k in range(now.count):
        group, signal = work.links[k].group, rover_signal(work.links[k])
        if redundancy[group] < REDUNDANCY_MIN or not math.isnan(shown[group]):
            continue
        gain = GAIN if known.signal_redundancy[signal] > 0.0 else 1.0
        assumed = known.signal_factor[signal] * now.phase_scale
        known.signal_square[signal] += gain * (square[group] * assumed - known.signal_square[signal])
        known.signal_redundancy[signal] += gain * (redundancy[group] - known.signal_redundancy[signal])
        shown[group] = math.log(known.signal_square[signal] / known.signal_redundancy[signal])
        total += known.signal_redundancy[signal]
        level += known.signal_redundancy[signal] * shown[group]
    for k in range(now.count):
        group, signal = work.links[k].group, rover_signal(work.links[k])
        if not math.isnan(shown[group]):
            told = known.signal_redundancy[signal]
            known.signal_factor[signal] = math.exp((shown[group] - level / total) * told / (told + PRIOR_REDUNDANCY))
