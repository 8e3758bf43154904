"""Code-differential positions: a base's corrections, the rover's codes, and its carrier from epoch to epoch.

A base at a known place turns each of its signals into a correction (`corrections`): measured less modelled code and
phase. A rover subtracts them from the same signal of the same satellite, with the same ephemeris, so that orbit, clock
and most of the atmosphere cancel; one unknown receiver bias per signal takes what the two receivers have in common.

The filter (`advance`) works in the position domain. Time-differenced carrier and Doppler tell how far the rover has
moved since its last epoch, to centimetres or decimetres; codes then pull the position, robustly, with a weight that
counts the slow change of multipath. So a position is smoothed over minutes while the carrier holds on any four
satellites, whichever they are, and slips of single satellites cost nothing (a Hatch filter would start anew).
"""

import math
from dataclasses import dataclass, field, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from solver.kernels.dgnss import (
    BIASES,
    ELEVATION,
    MOTION_UNKNOWNS,
    MU,
    VELOCITY,
    absorb,
    advance_trail,
    code_rows,
    correct,
    differences,
    inform,
    match_keys,
    model_ranges,
    motion_rows,
    predict,
    rate_weights,
)
from solver.kernels.least_squares import robust_solve
from solver.model import Ephemerides, Epoch, Fix, Quality
from solver.observed import Observed, Selection, observe
from solver.quality import protection_levels
from solver.signals import SATELLITE_COUNT, SIGNAL_COUNT
from solver.spp import Solution, SppOptions, solve_observed

__all__ = ["Corrections", "DgnssOptions", "DgnssState", "advance", "corrections"]

_GAP_NS: Final = 120_000_000_000
_MULTIPATH_S_MAX, _MULTIPATH_S_MIN, _MULTIPATH_M = 20.0, 2.0, 10.0
"""Correlation of code multipath: the time of an antenna at rest, and the way of one that moves past its reflectors."""
_SCALE_MEMORY, _SCALE_MIN, _SCALE_MAX = 0.95, 0.3, 6.0
_FIRST_SCALE: Final = 3.0
"""One epoch does not show how much all of its codes err alike: its standard deviation is widened by this."""
_DRIFT_MPS, _REFLECTED_MPS = 0.01, 0.5
"""How far a position drifts in a second with good carriers, and with reflected ones."""
_SHARE_MEMORY, _SHARE_MIN = 0.7, 0.2
_LOST_SHARE, _LOST_EPOCHS = 0.4, 10
_FOUND_SHARE, _FOUND_SATELLITES = 0.6, 7
"""Lost: fewer codes than this agree with the position, so long. Found again: so many of a new position's agree."""
_OF_BASE: Final = Selection(systems="GRESJCI", elevation_mask=float(np.radians(5.0)))
_LOCK_TOLERANCE_S: Final = 0.05
_OBSERVED_BY_MOTION: Final = np.array([VELOCITY, VELOCITY + 1, VELOCITY + 2, -1, -1])
_NO_TRAIL: Final = np.empty((0, 2))


@dataclass(frozen=True, slots=True)
class DgnssOptions:
    """How to solve.

    Attributes:
        spp: Options of the first position and of epochs without corrections; its selection holds here too.
        age_max_s: Corrections older than this are not used.
        acceleration_mps2: Standard deviation of the change of velocity in a second.
    """

    spp: SppOptions = field(default_factory=SppOptions)
    age_max_s: float = 30.0
    acceleration_mps2: float = 2.0


@dataclass(frozen=True, slots=True)
class Corrections:
    """What a base saw beyond its model, by satellite and signal (k rows).

    Attributes:
        time_ns: The base's time tag.
        position_ecef_m: (3,) of the base.
        key: (k,) int64, satellite * SIGNAL_COUNT + signal, in order.
        rows: (k, 3) measured less modelled pseudorange (m), the base's clock included; the same of the carrier,
            ambiguity included, NaN where there is none; for how long the carrier has been locked (s).
        index_of: (SATELLITE_COUNT,) int32, ephemeris of each satellite; negative: none.
    """

    time_ns: int
    position_ecef_m: NDArray[np.float64]
    key: NDArray[np.int64]
    rows: NDArray[np.float64]
    index_of: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class _Trail:
    """What is kept of an epoch for the differences of the next: keys in order, phases and rates (m, 2)."""

    key: NDArray[np.int64]
    rows: NDArray[np.float64]
    base_time_ns: int


@dataclass(frozen=True, slots=True)
class DgnssState:
    """What is known of a rover after an epoch.

    Attributes:
        time_ns: The epoch.
        position_ecef_m: (3,)
        velocity_mps: (3,) mean since the epoch before.
        signals: Signals that have a bias, in the order of the unknowns.
        bias_m: (b,) of these signals, against the first signal ever used.
        covariance: (6 + b, 6 + b) of position, velocity and biases.
        scale: Factor of the code's standard deviation, as its residuals have it.
        share: Share of the codes' weight that outlier rejection has left, of late.
        lost: Epochs in a row whose codes disagreed with the position.
        trail: Phases and rates of the epoch.
        single: The last fix without corrections.
    """

    time_ns: int
    position_ecef_m: NDArray[np.float64]
    velocity_mps: NDArray[np.float64]
    signals: tuple[int, ...]
    bias_m: NDArray[np.float64]
    covariance: NDArray[np.float64]
    scale: float
    share: float
    lost: int
    trail: _Trail
    single: Fix


def corrections(
    epoch: Epoch, position_ecef_m: NDArray[np.float64], ephemerides: Ephemerides, selection: Selection | None = None
) -> Corrections:
    """Corrections of a base epoch; made once, used by any number of rovers.

    Args:
        epoch: The base's observations.
        position_ecef_m: (3,) its antenna.
        ephemerides: Broadcast orbits and clocks.
        selection: Which observations may be used; its elevation mask is the base's.
    """
    chosen = selection or _OF_BASE
    seen = observe(epoch, ephemerides, chosen)
    model = np.empty((len(seen.sat), 6))
    model_ranges(epoch.time_ns, position_ecef_m, seen.states, model)
    rows, m = seen.epoch, len(seen.epoch)
    key, table = np.empty(m, np.int64), np.empty((m, 3))
    count = correct(
        seen.sat, seen.first, rows.signal, model, chosen.elevation_mask, rows.frequency_hz, rows.pseudorange_m,
        rows.phase_cycles, rows.lock_s, rows.flags, key, table,
    )  # fmt: skip
    index_of = np.full(SATELLITE_COUNT, -1, np.int32)
    index_of[seen.sat] = seen.index
    return Corrections(epoch.time_ns, position_ecef_m, key[:count], table[:count], index_of)


def _keys(epoch: Epoch) -> NDArray[np.int64]:
    """Key of each row."""
    return epoch.sat.astype(np.int64) * SIGNAL_COUNT + epoch.signal


def advance(
    state: DgnssState | None,
    epoch: Epoch,
    corrected: Corrections | None,
    ephemerides: Ephemerides,
    options: DgnssOptions | None = None,
) -> tuple[DgnssState | None, Fix]:
    """Take one epoch of a rover.

    Args:
        state: What is known so far; None at first.
        epoch: The rover's observations.
        corrected: The latest corrections of a base; None: there are none.
        ephemerides: Broadcast orbits and clocks, the same that the corrections were made with.
        options: How to solve; None: the defaults.

    Returns:
        What is known now, and the fix: `Quality.DGNSS`, or single with the reason why it is not better, or none.
    """
    chosen = options or DgnssOptions()
    age_s = (epoch.time_ns - corrected.time_ns) * 1e-9 if corrected else math.inf
    if corrected is None or not abs(age_s) <= chosen.age_max_s:
        why = "no corrections" if corrected is None else f"corrections are {age_s:.0f} s old"
        alone = observe(epoch, ephemerides, chosen.spp.selection)
        fix = solve_observed(alone, ephemerides, chosen.spp, state.single if state else None).fix
        return state, replace(fix, reason="; ".join(filter(None, (why, fix.reason))))
    seen = observe(epoch, ephemerides, chosen.spp.selection, corrected.index_of)
    single = solve_observed(seen, ephemerides, chosen.spp, state.single if state else None)
    if state is not None and not 0 < epoch.time_ns - state.time_ns < _GAP_NS:
        state = None
    if state is None and not single.fix.quality:
        return None, single.fix
    if state is not None and state.lost >= _LOST_EPOCHS:
        # Either the position is wrong or most codes are, as between high buildings: believe codes that agree.
        anew, fix = _Step(state, seen, corrected, chosen, single, fresh=True).solve()
        if anew is not None and anew.share > _FOUND_SHARE and len(fix.satellites) >= _FOUND_SATELLITES:
            return replace(anew, lost=0), fix
    return _Step(state, seen, corrected, chosen, single, fresh=state is None).solve()


class _Step:
    """One epoch's work: matched rows, the motion from carriers and Doppler, then the position from codes."""

    def __init__(
        self, state: DgnssState | None, seen: Observed, corrected: Corrections, options: DgnssOptions, single: Solution,
        fresh: bool,
    ) -> None:  # fmt: skip
        self.options, self.corrected, self.single, self.seen = options, corrected, single, seen
        self.epoch = seen.epoch
        self.state = state
        self.fresh = fresh
        self.dt_s = (self.epoch.time_ns - state.time_ns) * 1e-9 if state is not None else 1.0
        self.age_s = abs(self.epoch.time_ns - corrected.time_ns) * 1e-9
        if state is None or fresh:
            fix = single.fix if single.fix.quality or state is None else None
            self.start = (fix.position_ecef_m if fix else state.position_ecef_m).copy()  # type: ignore[union-attr]
            self.velocity = np.zeros(3)
        else:
            self.start = state.position_ecef_m + state.velocity_mps * self.dt_s
            self.velocity = state.velocity_mps
        self.model, self.rows = np.empty((len(seen.sat), 6)), np.empty((len(seen.epoch), 7))
        self.usable = self._difference()
        self._place_biases()

    def _difference(self) -> NDArray[np.bool_]:
        """Write what each row measures beyond the base and the model; which rows may be used is returned."""
        epoch, seen, base = self.epoch, self.seen, self.corrected
        match = np.empty(len(epoch), np.int64)
        match_keys(epoch.sat, epoch.signal, base.key, True, match)
        model_ranges(epoch.time_ns, self.start, seen.states, self.model)
        differences(
            seen.first, match, self.model, base.rows, epoch.frequency_hz, epoch.pseudorange_m, epoch.phase_cycles,
            epoch.doppler_hz, epoch.cn0_dbhz, epoch.lock_s, epoch.flags, self.rows,
        )  # fmt: skip
        high = self.model[:, ELEVATION] > self.options.spp.selection.elevation_mask
        usable: NDArray[np.bool_] = (match >= 0) & high[seen.group]
        return usable

    def _place_biases(self) -> None:
        """Give each signal in use its unknown; the first signal ever used is the reference and has none."""
        counts = np.bincount(self.epoch.signal[self.usable], minlength=SIGNAL_COUNT)
        known = self.state.signals if self.state is not None else ()
        if not known and counts.any():
            known = (int(np.argmax(counts)),)
        found = np.flatnonzero(counts).tolist()
        self.signals = (*known, *(signal for signal in found if signal not in known))
        place = np.full(SIGNAL_COUNT, -1)
        place[list(self.signals)] = np.arange(len(self.signals))
        self.place = place[self.epoch.signal]
        self.n = BIASES + len(self.signals)

    def solve(self) -> tuple[DgnssState | None, Fix]:
        """The state and fix of this epoch."""
        satellites = len(np.unique(self.epoch.sat[self.usable])) if self.fresh else 4
        if satellites < 4:
            return self.state, replace(self.single.fix, reason=f"{satellites} satellites in common with the base")
        x, covariance = np.zeros(self.n), np.empty((self.n, self.n))
        known, acceleration = self.state is not None, self.options.acceleration_mps2
        before = self.state.covariance if self.state is not None else covariance
        predict(before, self.dt_s, acceleration, known, self.fresh, covariance)
        self._motion(x, covariance)
        return self._position(x, covariance)

    def _motion(self, x: NDArray[np.float64], covariance: NDArray[np.float64]) -> None:
        """Update by time-differenced carrier and by Doppler."""
        m, g = len(self.epoch), len(self.seen.sat)
        a, y, sigma, weight = np.empty((2 * m, MOTION_UNKNOWNS)), np.empty(2 * m), np.empty(2 * m), np.empty(2 * m)
        common, before, trail, base_step_s = np.empty((2 * g, 2)), np.full(m, -1), _NO_TRAIL, 0.0
        first = np.concatenate([self.seen.first, self.seen.first[1:] + np.int32(m)])
        if self.state is not None and not self.fresh:
            trail = self.state.trail.rows
            match_keys(self.epoch.sat, self.epoch.signal, self.state.trail.key, False, before)
            base_step_s = abs(self.corrected.time_ns - self.state.trail.base_time_ns) * 1e-9
        locks = (float(np.float32(step_s - _LOCK_TOLERANCE_S)) for step_s in (self.dt_s, base_step_s))
        times = np.array([self.dt_s, *locks, self.options.acceleration_mps2])
        motion_rows(
            first, self.model, self.rows, self.usable, before, trail, self.velocity, times, a, y, sigma, common
        )  # fmt: skip
        _update(a, y, sigma, np.zeros(2 * m), first, common, 1.0, _OBSERVED_BY_MOTION, x, covariance, weight)
        carriers = sigma[:m] > 0.0
        rejected = 1.0 - float(weight[:m][carriers].mean()) if carriers.any() else 0.0
        # Where many carriers are reflections, some of those that agree are too, and agree with each other.
        drift_m = (_DRIFT_MPS + _REFLECTED_MPS * rejected) * math.sqrt(self.dt_s)
        covariance[range(3), range(3)] += drift_m**2

    def _position(self, x: NDArray[np.float64], covariance: NDArray[np.float64]) -> tuple[DgnssState | None, Fix]:
        """Update by the codes, and make the state and fix."""
        m, seen, state = len(self.epoch), self.seen, self.state
        biases = np.zeros(len(self.signals))
        if state is not None:
            biases[: len(state.bias_m)] = state.bias_m
        scale = state.scale if state is not None else 1.0
        place = np.array([0, 1, 2, -1, *range(BIASES, self.n)])
        a, y, sigma, weight = np.zeros((m, len(place))), np.empty(m), np.empty(m), np.empty(m)
        common = np.empty((len(seen.sat), 2))
        how = np.array([self.age_s, math.dist(self.start, self.corrected.position_ecef_m), scale])
        code_rows(
            seen.sat, seen.first, self.model, self.rows, self.usable, self.place, biases, how, a, y, sigma, common
        )  # fmt: skip
        speed_mps = math.hypot(*(self.velocity + x[VELOCITY : VELOCITY + 3]).tolist())
        memory_s = min(max(_MULTIPATH_M / max(speed_mps, 0.1), _MULTIPATH_S_MIN), _MULTIPATH_S_MAX)
        slow = 1.0 if state is None or self.fresh else (1.0 + 2.0 * memory_s / self.dt_s) / state.share
        mu = np.ascontiguousarray(self.rows[:, MU])
        chi2, freedom = _update(a, y, sigma, mu, seen.first, common, slow, place, x, covariance, weight)
        if chi2 < 0.0:
            return state, replace(self.single.fix, reason="the geometry is singular")
        used = np.empty(len(seen.sat), np.bool_)
        share = rate_weights(seen.first, weight, self.usable, used)
        misfit = math.sqrt(max(chi2, 0.0) / freedom) if freedom > 1.0 else 1.0
        if self.fresh:
            covariance *= (_FIRST_SCALE * max(1.0, misfit) / max(share, _SHARE_MIN)) ** 2
        new = self._next_state(x, covariance, biases, scale, misfit, share, freedom)
        return new, self._fix(new, seen.sat[used])

    def _next_state(
        self, x: NDArray[np.float64], covariance: NDArray[np.float64], biases: NDArray[np.float64], scale: float,
        misfit: float, share: float, freedom: float,
    ) -> DgnssState:  # fmt: skip
        """What is known after this epoch."""
        position = self.start + x[:3]
        model_ranges(self.epoch.time_ns, position, self.seen.states, self.model)
        trail = np.empty((len(self.epoch), 2))
        advance_trail(self.seen.first, self.model, self.rows, trail)
        if freedom > 4.0:
            target = min(max(scale * misfit, _SCALE_MIN), _SCALE_MAX)
            memory = 0.5 if self.state is None else _SCALE_MEMORY
            scale = memory * scale + (1.0 - memory) * target
        lost = 0 if share > _LOST_SHARE or self.state is None else self.state.lost + 1
        memory_share, before = (0.0, share) if self.state is None or self.fresh else (_SHARE_MEMORY, self.state.share)
        return DgnssState(
            time_ns=self.epoch.time_ns,
            position_ecef_m=position,
            velocity_mps=self.velocity + x[VELOCITY : VELOCITY + 3],
            signals=self.signals,
            bias_m=biases + x[BIASES:],
            covariance=covariance,
            scale=scale,
            share=max(memory_share * before + (1.0 - memory_share) * share, _SHARE_MIN),
            lost=lost,
            trail=_Trail(_keys(self.epoch), trail, self.corrected.time_ns),
            single=self.single.fix,
        )

    def _fix(self, state: DgnssState, used: NDArray[np.int16]) -> Fix:
        """The fix of a state."""
        position_m2 = state.covariance[:3, :3].copy()
        hpl_m, vpl_m = protection_levels(state.position_ecef_m, position_m2)
        return replace(
            self.single.fix,
            time_ns=self.epoch.time_ns,
            quality=Quality.DGNSS,
            reason="",
            position_ecef_m=state.position_ecef_m,
            position_covariance_m2=position_m2,
            velocity_ecef_mps=state.velocity_mps,
            velocity_covariance_m2s2=state.covariance[3:6, 3:6].copy(),
            satellites=used,
            age_s=self.age_s,
            hpl_m=hpl_m,
            vpl_m=vpl_m,
        )


def _update(
    a: NDArray[np.float64], y: NDArray[np.float64], sigma: NDArray[np.float64], mu: NDArray[np.float64],
    first: NDArray[np.int32], common: NDArray[np.float64], slow: float, place: NDArray[np.int64],
    x: NDArray[np.float64], covariance: NDArray[np.float64], weight: NDArray[np.float64],
) -> tuple[float, float]:  # fmt: skip
    """Update what is known robustly by rows as of `robust_solve`, whose figures are returned.

    Where the system is singular, (-1, 0) is returned and nothing is changed.
    """
    u = len(place)
    prior, prior_b, found, after = np.empty((u, u)), np.empty(u), np.empty(u), np.empty((u, u))
    if not inform(covariance, x, place, slow, prior, prior_b):
        return -1.0, 0.0
    chi2, freedom = robust_solve(a, y, sigma, mu, first, common, prior, prior_b, found, after, weight, True)
    if chi2 >= 0.0:
        absorb(place, slow, prior, found, after, x, covariance)
    return chi2, freedom
