"""How good a station's recorded stream is: signals, rates, gaps, slips, strength, code multipath, and its position.

Code multipath of a signal is the usual combination of its code with the phases of two bands (Estey and Meertens 1999,
"TEQC"): MP = P1 - (1 + 2 / (a - 1)) L1 + 2 / (a - 1) L2 with a = (f1 / f2)^2 and phases in metres; its ambiguity is
constant along an arc without slips, so the arc's mean is taken off and the rest is noise and multipath of the code.

Slips that the receiver does not report are found in the geometry-free phase L1 - L2, which moves smoothly with the
ionosphere (Blewitt 1990; TEQC's "IOD"): a step that its rate before does not explain, beyond 5 cm, what an ionosphere
can do in the time, and six times the arc's own noise. It does not tell which of the two bands slipped.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from solver import signals
from solver.constants import SPEED_OF_LIGHT_MPS
from solver.kernels.geodesy import enu_axes, geodetic_from_ecef
from solver.model import SLIP, Ephemerides, Epoch, Quality
from solver.spp import solve
from solver.timescale import NS

__all__ = ["Report", "SignalReport", "examine"]

ARC_EPOCHS_MIN: Final = 20
"""Shorter arcs say more of their own mean than of multipath."""
MOST: Final = 0.8
"""Part of the most frequent signal's phases that another band has to have to serve in a combination."""
ARC_GAP_S: Final = 60.0
STEP_M: Final = 0.05
DRIFT_MPS: Final = 0.002
"""How fast the ionosphere may change its rate: 0.1 m a minute, twice what a disturbed one does."""
STEP_NOISE: Final = 9.0
"""Times the median of the arc's second differences: six sigma."""
_BLUNDER_M: Final = 20.0
_GAP_FACTOR: Final = 1.5
_POSITIONS_MAX: Final = 200


@dataclass(frozen=True, slots=True)
class SignalReport:
    """One signal of all satellites.

    Attributes:
        signal: Its number.
        satellites: How many satellites had it.
        observations: How many rows it has.
        complete: Part of them with range and phase.
        slips: Slips that the receiver reported, or that made the combination jump.
        silent: Slips of this band or of the other one of its combination that nobody reported.
        cn0_dbhz: Mean strength; NaN where there is none.
        multipath_m: RMS of the code multipath combination; NaN where no second band makes one.
    """

    signal: int
    satellites: int
    observations: int
    complete: float
    slips: int
    silent: int
    cn0_dbhz: float
    multipath_m: float


@dataclass(frozen=True, slots=True)
class Report:
    """A recording's quality.

    Attributes:
        epochs: How many there are.
        interval_s: The usual step between them.
        span_s: From the first to the last.
        gaps: Steps of more than one and a half times the usual one: seconds since the first epoch, and length.
        satellites: Mean number of satellites an epoch, by system letter.
        signals: By signal, in order.
        offset_enu_m: Mean of single point positions less the stated position; NaN where either is missing.
        scatter_enu_m: Their standard deviations.
        positions: How many single point positions were made.
    """

    epochs: int
    interval_s: float
    span_s: float
    gaps: list[tuple[float, float]]
    satellites: dict[str, float]
    signals: list[SignalReport]
    offset_enu_m: NDArray[np.float64] = field(default_factory=lambda: np.full(3, np.nan))
    scatter_enu_m: NDArray[np.float64] = field(default_factory=lambda: np.full(3, np.nan))
    positions: int = 0

    @property
    def availability(self) -> float:
        """Part of the epochs that the interval promises within the span."""
        promised = round(self.span_s / self.interval_s) + 1 if self.interval_s > 0 else self.epochs
        return self.epochs / promised if promised else 0.0


def examine(epochs: Sequence[Epoch], ephemerides: Ephemerides, stated_ecef_m: NDArray[np.float64]) -> Report:
    """Examine a recording.

    Args:
        epochs: In order of time, one at least.
        ephemerides: For single point positions; without any there are none.
        stated_ecef_m: (3,) where the station says that it stands; NaN: it does not.
    """
    times_s = np.array([(epoch.time_ns - epochs[0].time_ns) / NS for epoch in epochs])
    steps_s = np.diff(times_s)
    interval_s = float(np.median(steps_s[steps_s > 0])) if (steps_s > 0).any() else float("nan")
    gaps = [(float(times_s[k]), float(steps_s[k])) for k in np.flatnonzero(steps_s > _GAP_FACTOR * interval_s)]
    seen: Counter[str] = Counter()
    for epoch in epochs:
        seen.update(signals.SYSTEMS[sat // signals.PRN_PER_SYSTEM] for sat in set(epoch.sat.tolist()))
    offset, scatter, count = _positions(epochs, ephemerides, stated_ecef_m)
    return Report(
        len(epochs),
        interval_s,
        float(times_s[-1]),
        gaps,
        {letter: seen[letter] / len(epochs) for letter in signals.SYSTEMS if seen[letter]},
        _signals(epochs),
        offset,
        scatter,
        count,
    )


@dataclass(frozen=True, slots=True)
class _Columns:
    """All rows of all epochs, ordered by satellite, signal and time."""

    time_s: NDArray[np.float64]
    sat: NDArray[np.int64]
    signal: NDArray[np.int64]
    range_m: NDArray[np.float64]
    phase_m: NDArray[np.float64]
    frequency_hz: NDArray[np.float64]
    cn0_dbhz: NDArray[np.float64]
    slip: NDArray[np.bool_]


def _columns(epochs: Sequence[Epoch]) -> _Columns:
    def joined(name: str) -> NDArray[np.float64]:
        return np.concatenate([getattr(epoch, name) for epoch in epochs]).astype(np.float64)

    sizes = [len(epoch) for epoch in epochs]
    time_s = np.repeat([(epoch.time_ns - epochs[0].time_ns) / NS for epoch in epochs], sizes)
    sat, code, frequency_hz = joined("sat"), joined("signal"), joined("frequency_hz")
    phase_m = joined("phase_cycles") * (SPEED_OF_LIGHT_MPS / frequency_hz)
    slip = (joined("flags").astype(np.int64) & SLIP) > 0
    order = np.lexsort((time_s, code, sat))
    return _Columns(
        time_s[order],
        sat[order].astype(np.int64),
        code[order].astype(np.int64),
        joined("pseudorange_m")[order],
        phase_m[order],
        frequency_hz[order],
        joined("cn0_dbhz")[order],
        slip[order],
    )


def _signals(epochs: Sequence[Epoch]) -> list[SignalReport]:
    rows = _columns(epochs)
    multipath_m, jumps, silent = _multipath(rows)
    reports = []
    for code in np.unique(rows.signal).tolist():
        mine = rows.signal == code
        both = np.isfinite(rows.range_m[mine]) & np.isfinite(rows.phase_m[mine])
        known = multipath_m[mine & np.isfinite(multipath_m)]
        strength = rows.cn0_dbhz[mine & np.isfinite(rows.cn0_dbhz)]
        reports.append(
            SignalReport(
                code,
                len(np.unique(rows.sat[mine])),
                int(mine.sum()),
                float(both.mean()),
                int((rows.slip | jumps)[mine].sum()),
                int(silent[mine].sum()),
                float(strength.mean()) if len(strength) else float("nan"),
                float(np.sqrt(np.mean(known**2))) if len(known) else float("nan"),
            )
        )
    return reports


def _multipath(rows: _Columns) -> tuple[NDArray[np.float64], NDArray[np.bool_], NDArray[np.bool_]]:
    """(n,) the combination of each row less its arc's mean, NaN where there is none; where it jumps; silent slips."""
    result = np.full(len(rows.sat), np.nan)
    jumps, silent = np.zeros(len(rows.sat), bool), np.zeros(len(rows.sat), bool)
    for sat in np.unique(rows.sat).tolist():
        of_sat = np.flatnonzero(rows.sat == sat)
        partner = {code: of_sat[rows.signal[of_sat] == code] for code in np.unique(rows.signal[of_sat]).tolist()}
        for code, own in partner.items():
            other = _other_band(code, partner, rows)
            if other is not None:
                _combine(rows, own, other, result, jumps, silent)
    return result, jumps, silent


def _other_band(code: int, partner: dict[int, NDArray[np.int64]], rows: _Columns) -> NDArray[np.int64] | None:
    """Rows of the signal in the band farthest away: near ones blow up the phases' noise. It has to have most phases."""
    counts = {
        other: int(np.isfinite(rows.phase_m[places]).sum())
        for other, places in partner.items()
        if signals.BAND[other] != signals.BAND[code]
    }
    least = max(ARC_EPOCHS_MIN, MOST * max(counts.values(), default=0))
    apart = {
        other: abs(float(np.log(signals.FREQUENCY_HZ[other] / signals.FREQUENCY_HZ[code])))
        for other, count in counts.items()
        if count >= least
    }
    return partner[max(apart, key=lambda other: apart[other])] if apart else None


def _combine(
    rows: _Columns,
    own: NDArray[np.int64],
    other: NDArray[np.int64],
    result: NDArray[np.float64],
    jumps: NDArray[np.bool_],
    silent: NDArray[np.bool_],
) -> None:
    """Fill in one signal of one satellite."""
    _, mine, theirs = np.intersect1d(rows.time_s[own], rows.time_s[other], return_indices=True)
    first, second = own[mine], other[theirs]
    factor = 2.0 / ((rows.frequency_hz[first] / rows.frequency_hz[second]) ** 2 - 1.0)
    value = rows.range_m[first] - (1.0 + factor) * rows.phase_m[first] + factor * rows.phase_m[second]
    good = np.isfinite(value)
    first, second, value = first[good], second[good], value[good]
    if len(value) < 2:
        return
    apart = np.diff(rows.time_s[first]) > ARC_GAP_S
    flagged = (rows.slip[first] | rows.slip[second])[1:]
    jumped = (np.abs(np.diff(value)) > _BLUNDER_M) & ~apart & ~flagged
    jumps[first[1:][jumped]] = True
    steps = ~jumped & _steps(rows.time_s[first], rows.phase_m[first] - rows.phase_m[second], apart | flagged)
    silent[first[1:][steps]] = True
    for arc in np.split(np.arange(len(value)), np.flatnonzero(apart | flagged | jumped | steps) + 1):
        if len(arc) >= ARC_EPOCHS_MIN:
            result[first[arc]] = value[arc] - value[arc].mean()


def _steps(
    time_s: NDArray[np.float64], difference_m: NDArray[np.float64], broken: NDArray[np.bool_]
) -> NDArray[np.bool_]:
    """(n - 1,) where a geometry-free phase steps by what the rate before does not explain.

    A step shows in the second difference twice, once with either sign: the first is it.
    """
    step_s = np.diff(time_s)
    rate = np.where(broken, np.nan, np.diff(difference_m) / step_s)
    excess_m = np.full(len(rate), np.nan)
    excess_m[1:] = (rate[1:] - rate[:-1]) * step_s[1:]
    known = np.abs(excess_m[np.isfinite(excess_m)])
    if len(known) < ARC_EPOCHS_MIN:
        return np.zeros(len(rate), np.bool_)
    limit_m = np.maximum(STEP_M + DRIFT_MPS * step_s, STEP_NOISE * float(np.median(known)))
    large: NDArray[np.bool_] = np.abs(np.nan_to_num(excess_m)) > limit_m
    echo = np.zeros(len(rate), np.bool_)
    echo[1:] = large[:-1] & (np.nan_to_num(excess_m[1:] * excess_m[:-1]) < 0.0)
    return large & ~echo


def _positions(
    epochs: Sequence[Epoch], ephemerides: Ephemerides, stated_ecef_m: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Mean and scatter of single point positions less the stated one, east, north, up."""
    step = max(1, len(epochs) // _POSITIONS_MAX)
    fixes = [solve(epoch, ephemerides) for epoch in epochs[::step]] if len(ephemerides.kepler) else []
    found = np.array([fix.position_ecef_m for fix in fixes if fix.quality != Quality.NONE]).reshape(-1, 3)
    if not len(found):
        return np.full(3, np.nan), np.full(3, np.nan), 0
    axes = np.empty((3, 3))
    latitude, longitude, _ = geodetic_from_ecef(*found[0].tolist())
    enu_axes(latitude, longitude, axes)
    enu = (found - (stated_ecef_m if np.isfinite(stated_ecef_m).all() else np.nan)) @ axes.T
    return enu.mean(axis=0), ((found - found.mean(axis=0)) @ axes.T).std(axis=0), len(found)
