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

from solver.constants import SPEED_OF_LIGHT_MPS
from solver.kernels.dgnss import ELEVATION, RANGE, RATE, SIGHT, model_ranges
from solver.kernels.least_squares import robust_solve
from solver.model import SLIP, Ephemerides, Epoch, Fix, Quality
from solver.observed import Observed, Selection, observe
from solver.quality import protection_levels
from solver.signals import BAND, GLONASS, SATELLITE_COUNT, SIGNAL_COUNT
from solver.spp import Solution, SppOptions, solve_observed

__all__ = ["Corrections", "DgnssOptions", "DgnssState", "advance", "corrections"]

_POSITION, _VELOCITY, _CLOCK, _PHASE_DRIFT, _DOPPLER_DRIFT, _BIASES = slice(0, 3), slice(3, 6), 6, 7, 8, 9
"""Unknowns: correction to position, to the mean velocity since the last epoch, three clocks, a bias per signal."""
_GAP_NS: Final = 120_000_000_000
_BIAS_M, _BIAS_DRIFT_M = 300.0, 0.01
"""A receiver's bias of one signal against another: what is known before, and how it wanders in a second."""
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
_BASE_SIGMA_M: Final = 0.15


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
        code_m: (k,) measured less modelled pseudorange, the base's clock included.
        phase_m: (k,) the same of the carrier, ambiguity included; NaN where there is none.
        lock_s: (k,) for how long the carrier has been locked.
        index_of: (SATELLITE_COUNT,) int32, ephemeris of each satellite; negative: none.
    """

    time_ns: int
    position_ecef_m: NDArray[np.float64]
    key: NDArray[np.int64]
    code_m: NDArray[np.float64]
    phase_m: NDArray[np.float64]
    lock_s: NDArray[np.float64]
    index_of: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class _Trail:
    """What is kept of an epoch for the differences of the next (m rows, in the order of their keys)."""

    key: NDArray[np.int64]
    phase_m: NDArray[np.float64]
    rate_mps: NDArray[np.float64]
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
    chosen = selection or Selection(systems="GRESJCI", elevation_mask=float(np.radians(5.0)))
    seen = observe(epoch, ephemerides, chosen)
    model = np.empty((len(seen.sat), 6))
    model_ranges(epoch.time_ns, position_ecef_m, seen.states, model)
    rows, group = seen.epoch, seen.group
    wavelength_m = SPEED_OF_LIGHT_MPS / rows.frequency_hz
    good = (model[:, ELEVATION] > chosen.elevation_mask)[group]
    index_of = np.full(SATELLITE_COUNT, -1, np.int32)
    index_of[seen.sat] = seen.index
    return Corrections(
        time_ns=epoch.time_ns,
        position_ecef_m=position_ecef_m,
        key=_keys(rows)[good],
        code_m=(rows.pseudorange_m - model[group, RANGE])[good],
        phase_m=(rows.phase_cycles * wavelength_m - model[group, RANGE])[good],
        lock_s=np.where(rows.flags & SLIP, 0.0, rows.lock_s)[good],
        index_of=index_of,
    )


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
        self.match = _match(_keys(self.epoch), corrected.key)
        self.group = seen.group
        self.model = np.empty((len(seen.sat), 6))
        model_ranges(self.epoch.time_ns, self.start, seen.states, self.model)
        mask = options.spp.selection.elevation_mask
        high = self.model[:, ELEVATION][self.group] > mask
        self.usable = (self.match >= 0) & high
        self._place_biases()

    def _place_biases(self) -> None:
        """Give each signal in use its unknown; the first signal ever used is the reference and has none."""
        found, counts = np.unique(self.epoch.signal[self.usable], return_counts=True)
        known = list(self.state.signals) if self.state is not None else []
        if not known and len(found):
            known = [int(found[np.argmax(counts)])]
        self.known_count = len(known) if self.state is not None else 1
        self.signals = tuple(known + [int(s) for s in found if int(s) not in known])
        place = np.full(SIGNAL_COUNT, -1)
        place[list(self.signals)] = np.arange(len(self.signals))
        self.place = place[self.epoch.signal]
        self.n = _BIASES + len(self.signals)

    def solve(self) -> tuple[DgnssState | None, Fix]:
        """The state and fix of this epoch."""
        satellites = len(np.unique(self.epoch.sat[self.usable]))
        if self.fresh and satellites < 4:
            return self.state, replace(self.single.fix, reason=f"{satellites} satellites in common with the base")
        x, covariance = self._predict()
        x, covariance = self._motion(x, covariance)
        return self._position(x, covariance)

    def _predict(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Corrections (n,) to what was predicted, all zero, and their covariance (n, n)."""
        covariance = np.zeros((self.n, self.n))
        variance = np.full(self.n, _BIAS_M**2)
        variance[_BIASES] = 1e-6  # the reference signal's
        variance[[_CLOCK, _PHASE_DRIFT, _DOPPLER_DRIFT]] = 1e12
        variance[_POSITION], variance[_VELOCITY] = 1e6, 50.0**2
        covariance[np.diag_indices(self.n)] = variance
        state = self.state
        if state is None:
            return np.zeros(self.n), covariance
        keep = np.concatenate([np.arange(6), _BIASES + np.arange(self.known_count)])
        old = state.covariance.copy()
        old[3:6, 3:6] += np.eye(3) * (self.options.acceleration_mps2 * self.dt_s) ** 2
        old[:3, :] += self.dt_s * old[3:6, :]
        old[:, :3] += self.dt_s * old[:, 3:6]
        old[6:, 6:] += np.eye(self.known_count) * _BIAS_DRIFT_M**2 * self.dt_s
        if self.fresh:
            old[:6, :] = 0.0
            old[:, :6] = 0.0
            old[:6, :6] = np.diag(variance[:6])
        covariance[np.ix_(keep, keep)] = old
        return np.zeros(self.n), covariance

    def _motion(
        self, x: NDArray[np.float64], covariance: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Update by time-differenced carrier and by Doppler."""
        sight = -self.model[self.group, SIGHT : SIGHT + 3]
        noise = _noise(self.epoch.cn0_dbhz)
        rows = len(self.epoch)
        a, y, sigma = np.zeros((2 * rows, self.n)), np.full(2 * rows, np.nan), np.zeros(2 * rows)
        phase, rate, averaged = self._differences()
        a[:rows, _VELOCITY], a[:rows, _PHASE_DRIFT] = sight * self.dt_s, self.dt_s
        a[rows:, _VELOCITY], a[rows:, _DOPPLER_DRIFT] = sight, 1.0
        y[:rows], sigma[:rows] = phase, 0.012 * noise + 0.003 * self.dt_s
        y[rows:] = rate - sight @ self.velocity
        lag = np.where(averaged, 0.1, 0.5) * self.options.acceleration_mps2 * self.dt_s
        sigma[rows:] = np.hypot(0.05 * noise, lag)
        first = np.concatenate([self.seen.first, self.seen.first[1:] + rows]).astype(np.int32)
        common = np.full((len(first) - 1, 2), 0.005 + 0.001 * self.dt_s)
        common[:, 1] = 1e-3
        common[len(self.seen.sat) :, 0] = 0.03
        sigma[np.isnan(y)] = 0.0
        x, covariance, weight, _, _ = self._update(a, y, sigma, np.zeros(2 * rows), first, common, x, covariance, 1.0)
        carriers = sigma[:rows] > 0.0
        rejected = 1.0 - float(weight[:rows][carriers].mean()) if carriers.any() else 0.0
        # Where many carriers are reflections, some of those that agree are too, and agree with each other.
        drift_m = (_DRIFT_MPS + _REFLECTED_MPS * rejected) * math.sqrt(self.dt_s)
        covariance[_POSITION, _POSITION] += np.eye(3) * drift_m**2
        return x, covariance

    def _differences(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.bool_]]:
        """Per row: carrier's change less the model's (m), Doppler's range rate less the satellite's (m/s), averaged?"""
        epoch, state = self.epoch, self.state
        wavelength_m = SPEED_OF_LIGHT_MPS / epoch.frequency_hz
        self.rate = -epoch.doppler_hz * wavelength_m - self.model[self.group, RATE]
        self.phase = epoch.phase_cycles * wavelength_m - self._base(self.corrected.phase_m)
        rate = np.where((self.model[:, ELEVATION] > 0.1)[self.group], self.rate, np.nan)
        averaged = np.zeros(len(epoch), bool)
        if state is None or self.fresh:
            return np.full(len(epoch), np.nan), rate, averaged
        before = _match(_keys(epoch), state.trail.key, same_band=False)
        held = (before >= 0) & (epoch.lock_s >= self.dt_s - 0.05) & ((epoch.flags & SLIP) == 0) & self.usable
        base_step_s = abs(self.corrected.time_ns - state.trail.base_time_ns) * 1e-9
        held &= self._base(self.corrected.lock_s) >= base_step_s - 0.05
        change = self.phase - state.trail.phase_m[before] - self.model[self.group, RANGE]
        old_rate = (
            np.where(before >= 0, state.trail.rate_mps[before], np.nan) if len(state.trail.key) else rate * np.nan
        )
        averaged = np.isfinite(old_rate) & np.isfinite(rate)
        rate = np.where(averaged, 0.5 * (rate + old_rate), rate)
        return np.where(held, change, np.nan), rate, averaged

    def _base(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """The base's value for each row; NaN where it has none."""
        if not len(values):
            return np.full(len(self.match), np.nan)
        return np.where(self.match >= 0, values[self.match], np.nan)

    def _position(self, x: NDArray[np.float64], covariance: NDArray[np.float64]) -> tuple[DgnssState | None, Fix]:
        """Update by the codes, and make the state and fix."""
        rows, sat = len(self.epoch), self.epoch.sat
        distance_m = float(np.linalg.norm(self.start - self.corrected.position_ecef_m))
        sine = np.sin(np.fmax(self.model[:, ELEVATION], 0.1))
        a = np.zeros((rows, self.n))
        a[:, _POSITION], a[:, _CLOCK] = -self.model[self.group, SIGHT : SIGHT + 3], 1.0
        a[np.arange(rows), np.where(self.place >= 0, _BIASES + self.place, _BIASES)] = 1.0
        y = self.epoch.pseudorange_m - self._base(self.corrected.code_m) - self.model[self.group, RANGE]
        biases = self.state.bias_m if self.state is not None else np.zeros(1)
        biases = np.append(biases, np.zeros(len(self.signals) - len(biases)))
        y -= np.where(self.place >= 0, biases[self.place], 0.0)
        scale = self.state.scale if self.state is not None else 1.0
        code = 0.3 * np.hypot(1.0 / sine[self.group], _noise(self.epoch.cn0_dbhz)) * scale
        sigma = np.hypot(code, _BASE_SIGMA_M / sine[self.group])
        sigma[~self.usable] = 0.0
        mu = (1_575.42e6 / self.epoch.frequency_hz) ** 2
        common = np.empty((len(self.seen.sat), 2))
        glonass = np.where(self.seen.sat // 64 == GLONASS, 0.5, 0.0)
        common[:, 0] = np.hypot(0.15 / sine, 0.01 * self.age_s) + glonass + 2e-6 * distance_m
        common[:, 1] = 1e-3 + 2e-6 * distance_m
        speed_mps = float(np.linalg.norm(self.velocity + x[_VELOCITY]))
        memory_s = min(max(_MULTIPATH_M / max(speed_mps, 0.1), _MULTIPATH_S_MIN), _MULTIPATH_S_MAX)
        slow = 1.0 if self.state is None or self.fresh else (1.0 + 2.0 * memory_s / self.dt_s) / self.state.share
        x, covariance, weight, chi2, freedom = self._update(
            a, y, sigma, mu, self.seen.first, common, x, covariance, slow
        )
        if chi2 < 0.0:
            return self.state, replace(self.single.fix, reason="the geometry is singular")
        used = np.unique(sat[weight > 0.3])
        share = float(weight[self.usable].mean()) if self.usable.any() else 1.0
        misfit = math.sqrt(max(chi2, 0.0) / freedom) if freedom > 1.0 else 1.0
        if self.fresh:
            covariance = covariance * (_FIRST_SCALE * max(1.0, misfit) / max(share, _SHARE_MIN)) ** 2
        state = self._next_state(x, covariance, biases, scale, misfit, share, freedom)
        return state, self._fix(state, covariance, used)

    def _next_state(
        self, x: NDArray[np.float64], covariance: NDArray[np.float64], biases: NDArray[np.float64], scale: float,
        misfit: float, share: float, freedom: float,
    ) -> DgnssState:  # fmt: skip
        """What is known after this epoch."""
        position = self.start + x[_POSITION]
        model = np.empty((len(self.seen.sat), 6))
        model_ranges(self.epoch.time_ns, position, self.seen.states, model)
        if freedom > 4.0:
            target = min(max(scale * misfit, _SCALE_MIN), _SCALE_MAX)
            memory = 0.5 if self.state is None else _SCALE_MEMORY
            scale = memory * scale + (1.0 - memory) * target
        lost = 0 if share > _LOST_SHARE or self.state is None else self.state.lost + 1
        memory_share, before = (0.0, share) if self.state is None or self.fresh else (_SHARE_MEMORY, self.state.share)
        keep = np.concatenate([np.arange(6), _BIASES + np.arange(len(self.signals))])
        trail = _Trail(
            key=_keys(self.epoch),
            phase_m=self.phase - model[self.group, RANGE],
            rate_mps=self.rate,
            base_time_ns=self.corrected.time_ns,
        )
        return DgnssState(
            time_ns=self.epoch.time_ns,
            position_ecef_m=position,
            velocity_mps=self.velocity + x[_VELOCITY],
            signals=self.signals,
            bias_m=biases + x[_BIASES:],
            covariance=covariance[np.ix_(keep, keep)],
            scale=scale,
            share=max(memory_share * before + (1.0 - memory_share) * share, _SHARE_MIN),
            lost=lost,
            trail=trail,
            single=self.single.fix,
        )

    def _fix(self, state: DgnssState, covariance: NDArray[np.float64], used: NDArray[np.int16]) -> Fix:
        """The fix of a state."""
        hpl_m, vpl_m = protection_levels(state.position_ecef_m, covariance[:3, :3])
        return replace(
            self.single.fix,
            time_ns=self.epoch.time_ns,
            quality=Quality.DGNSS,
            reason="",
            position_ecef_m=state.position_ecef_m,
            position_covariance_m2=covariance[:3, :3],
            velocity_ecef_mps=state.velocity_mps,
            velocity_covariance_m2s2=covariance[3:6, 3:6],
            satellites=used,
            age_s=self.age_s,
            hpl_m=hpl_m,
            vpl_m=vpl_m,
        )

    def _update(
        self, a: NDArray[np.float64], y: NDArray[np.float64], sigma: NDArray[np.float64], mu: NDArray[np.float64],
        first: NDArray[np.int32], common: NDArray[np.float64], x: NDArray[np.float64],
        covariance: NDArray[np.float64], slow: float,
    ) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], float, float]:  # fmt: skip
        """Robust update; `slow` rows in a row count as one, so what was known before weighs that much more."""
        information = np.linalg.inv(covariance) * slow
        information = 0.5 * (information + information.T)
        out, new, weight = np.empty(self.n), np.empty((self.n, self.n)), np.zeros(len(y))
        chi2, freedom = robust_solve(
            a, y, sigma, mu, first, common, information, information @ x, out, new, weight, True
        )
        if chi2 < 0.0:
            return x, covariance, weight, chi2, freedom
        return out, new * slow, weight, chi2, freedom


def _noise(cn0_dbhz: NDArray[np.float32]) -> NDArray[np.float64]:
    """Noise of a measurement by its C/N0, 1 at 48 dB-Hz (Hartinger & Brunner 1999)."""
    strength = np.clip(np.where(cn0_dbhz > 0.0, cn0_dbhz, 42.0), 15.0, 55.0).astype(np.float64)
    noise: NDArray[np.float64] = 10.0 ** ((48.0 - strength) / 20.0)
    return noise


def _match(wanted: NDArray[np.int64], key: NDArray[np.int64], same_band: bool = True) -> NDArray[np.int64]:
    """Place among `key` (in order) of each wanted key; else of the same satellite and band; -1: none."""
    if not len(key):
        return np.full(len(wanted), -1)
    place = np.minimum(np.searchsorted(key, wanted), len(key) - 1)
    found = np.where(key[place] == wanted, place, -1)
    if not same_band or (found >= 0).all():
        return found
    bands, order = np.unique(_band_keys(key), return_index=True)
    near = np.minimum(np.searchsorted(bands, _band_keys(wanted)), len(bands) - 1)
    return np.where((found < 0) & (bands[near] == _band_keys(wanted)), order[near], found)


def _band_keys(key: NDArray[np.int64]) -> NDArray[np.int64]:
    """Satellite and RINEX band of each key as one number."""
    return key // SIGNAL_COUNT * 16 + BAND[key % SIGNAL_COUNT]
