"""Static positioning: one position from a whole session of two receivers at rest, by least squares with integers.

Strategy: single differences of all epochs at once (`kernels.static`), whose unknowns are the position, zenith wet
delays and the ionosphere over both ends at knots in time, and an ambiguity for each arc of a carrier. Clocks, biases
and what the ionosphere differs by in each epoch are removed exactly. Weights, and the time that carrier errors last,
are taken from the residuals, and the session is solved again. Integers are those combinations of ambiguities that
bootstrapping fixes at a low failure rate after decorrelation (`kernels.ambiguity`); the rest stays float.
`docs/topics/static.md` tells why, and what was measured.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from solver.kernels.ambiguity import bootstrapped_failure_rate, decorrelate, first_of_reliable_subset
from solver.kernels.geodesy import geodetic_from_ecef
from solver.kernels.static import DELAYS, ROW, accumulate, bootstrap, cut_slides, residuals
from solver.model import Ephemerides, Epoch, Quality
from solver.session import Measuring, Session, StaticOptions, approximate_position, keep_long_arcs, pair_epochs
from solver.signals import GLONASS, PRN_PER_SYSTEM
from solver.timescale import NS

__all__ = ["StaticOptions", "StaticSolution", "solve_static"]

Floats = NDArray[np.float64]

_NO_DELAY_M: Final = 0.004
"""Differential zenith ionosphere (1 sigma) below which it is noise rather than an unknown: some 8 km of baseline."""
_IONOSPHERE_S: Final = 1800.0
_IONOSPHERE_LASTS_S: Final = 14_400.0
_KNOT_S: Final = 7200.0
_ZENITH_S: Final = 14_400.0
_ZENITH_WALK_M: Final = 0.01
"""Of an absolute zenith delay, in an hour."""
_LASTING_S: Final = {"code": 100.0, "phase": 60.0}
"""How long errors last, before the residuals have told."""
_REDUNDANCY_MIN: Final = 0.02
_MEDIAN_OF_NORMAL: Final = 0.6745
_CUTS_MAX: Final = 4
_LEVEL_S, _SLIDE_S, _SLIDE_CYCLES = 240.0, 180.0, 0.45
"""A carrier that stands so far from where it was, on average over minutes before and after, has slipped meanwhile."""
_TOLD_MIN: Final = 0.1
_HARDLY: Final = 0.01
_CORRELATION_MAX_S: Final = 900.0
_FACTOR_MIN, _FACTOR_MAX = 0.02, 400.0
_CODE_FACTOR_MIN, _PHASE_FACTOR_MIN = 0.25, 1.0
_HUBER, _REJECT = 2.5, 6.0
_AMBIGUITY_CYCLES: Final = 100.0
_CLEAR_CYCLES: Final = 0.12
_FIXED_MIN, _TRIES = 4, 10
_WORSE_MAX: Final = 1.5
"""Integers that raise the phases' mean square by more than this are not those of the carriers."""


@dataclass(frozen=True, slots=True)
class StaticSolution:
    """One position of a session, or the reason why there is none.

    Attributes:
        quality: FIX, FLOAT or NONE.
        reason: Why there is no solution, or no fixed one.
        position_ecef_m: (3,) antenna reference point of the rover, in the frame of the base's coordinates.
        covariance_m2: (3, 3) ECEF, of the baseline: the base's coordinates are taken as exact.
        start_ns: First epoch used, GPST.
        end_ns: Last epoch used.
        epochs: How many were used.
        satellites: (s,) int16.
        ambiguities: How many could have been fixed.
        fixed: How many combinations of them were.
        failure_rate: Of the fixed ones.
        ratio: Squared norm of the second best integers over that of the best.
        phase_rms_m: Of the weighted phase residuals, as if at the zenith.
        correlation_s: How long errors of the phases last, as seen in the residuals.
        zenith_m: (knots, 2) wet zenith delay of rover and base less the model.
        time_ns: (epochs,) of the rows.
        rows: Of `solver.kernels.static.ROW`, with residuals.
    """

    quality: Quality
    reason: str = ""
    position_ecef_m: Floats = field(default_factory=lambda: np.full(3, np.nan))
    covariance_m2: Floats = field(default_factory=lambda: np.full((3, 3), np.nan))
    start_ns: int = 0
    end_ns: int = 0
    epochs: int = 0
    satellites: NDArray[np.int16] = field(default_factory=lambda: np.empty(0, np.int16))
    ambiguities: int = 0
    fixed: int = 0
    failure_rate: float = float("nan")
    ratio: float = 0.0
    phase_rms_m: float = float("nan")
    correlation_s: float = float("nan")
    zenith_m: Floats = field(default_factory=lambda: np.empty((0, 2)))
    time_ns: NDArray[np.int64] = field(default_factory=lambda: np.empty(0, np.int64))
    rows: NDArray[Any] = field(default_factory=lambda: np.empty(0, ROW))


def solve_static(
    rover: Sequence[Epoch], base: Sequence[Epoch], base_ecef_m: Floats, ephemerides: Ephemerides,
    options: StaticOptions | None = None,
) -> StaticSolution:  # fmt: skip
    """Position an antenna at rest by all epochs that it has in common with a base.

    Args:
        rover: Its epochs, in order.
        base: The base's epochs, in order.
        base_ecef_m: (3,) the base's antenna reference point.
        ephemerides: Broadcast orbits and clocks.
        options: How.
    """
    chosen = options or StaticOptions()
    pairs = pair_epochs(rover, base)
    if not pairs:
        return StaticSolution(Quality.NONE, "rover and base have no epoch in common")
    measuring = Measuring(base_ecef_m, ephemerides, chosen)
    origin_m = approximate_position(pairs, measuring)
    if origin_m is None:
        return StaticSolution(Quality.NONE, "no position from the codes")
    session = measuring.session(pairs, origin_m)
    if session is None:
        return StaticSolution(Quality.NONE, "no carriers in common that last")
    return _Adjustment(session, chosen).solve()


class _Adjustment:
    """A session's least squares: weights, normal equations, integers, residuals, until they agree."""

    def __init__(self, session: Session, options: StaticOptions) -> None:
        self.session, self.options, rows = session, options, session.rows
        self.law = {"code": 1.0 / rows["code_w"], "phase": 1.0 / rows["phase_w"]}  # variances
        self.factor = {"code": np.full(session.groups, 2.0), "phase": np.full(session.groups, 4.0)}
        self.robust = {"code": np.ones(len(rows)), "phase": np.ones(len(rows))}
        self.lasting_s = dict(_LASTING_S)
        span_s = float(session.time_ns[-1] - session.time_ns[0]) / NS
        self.knots = max(2, round(span_s / _KNOT_S) + 1)
        self.knot_s = max(span_s, 1.0) / (self.knots - 1)
        self.place = (session.time_ns - session.time_ns[0]) / NS / self.knot_s
        self.baseline_m = float(np.linalg.norm(session.origin_m - session.base_m))
        delay_m = options.ionosphere_ppm * 1e-6 * self.baseline_m
        lasting = max(1.0, _IONOSPHERE_S / session.interval_s)
        self.ionosphere_m2 = delay_m**2 * lasting if delay_m > _NO_DELAY_M else 0.0
        self._start_ambiguities()

    def _start_ambiguities(self) -> None:
        """Take whole cycles off the phases of each arc, so that its ambiguity is small; choose the references."""
        rows, arcs = self.session.rows, self.session.arcs
        used = rows["arc"] >= 0
        arc = rows["arc"][used]
        apart = ((rows["phase_m"] - rows["code_m"]) / rows["wavelength_m"])[used]
        size, coded = np.bincount(arc, minlength=arcs), np.isfinite(apart)
        number = np.maximum(np.bincount(arc[coded], minlength=arcs), 1)
        whole = np.round(np.bincount(arc[coded], apart[coded], arcs) / number)
        rows["phase_m"][used] -= whole[arc] * rows["wavelength_m"][used]
        self.arc_group, self.arc_sat = np.zeros(arcs, np.int64), np.zeros(arcs, np.int64)
        self.arc_group[arc], self.arc_sat[arc] = rows["group"][used], rows["sat"][used]
        self.reference = np.zeros(arcs, np.bool_)
        size = np.where(self.session.standing[self.arc_sat], 1, size)
        for group in np.unique(self.arc_group):
            self.reference[np.argmax(size * (self.arc_group == group))] = True

    def solve(self) -> StaticSolution:
        """Learn from the carriers how good the codes are, find the integers, learn what they leave, solve once more."""
        for _ in range(_CUTS_MAX):
            self._weigh(cautious=True)
            self.session.rows["code_w"] *= _HARDLY
            self._residuals(self._float()[0])
            self._learn()
            if not self._cut_arcs():
                break
        for _ in range(2):
            self._weigh(cautious=True)
            x, q = self._float()
            float_ms = self._residuals(x)
            fixed = self._fix(x, q)
            if fixed is not None and self._residuals(fixed.condition(x, q)[0]) > max(_WORSE_MAX * float_ms, 1.0):
                fixed = None
                self._residuals(x)
            if fixed is not None:
                self._release_standing(*fixed.condition(x, q))
            self._learn()
        self._weigh(cautious=False)
        x, q = self._float()
        if fixed is not None:
            x, q = fixed.condition(x, q)
        self._residuals(x)
        return self._solution(x, q, fixed)

    def _cut_arcs(self) -> bool:
        """Cut arcs where slow slips show in the residuals, and drop those that are no good; whether there were any."""
        session, rows = self.session, self.session.rows
        order = np.flatnonzero(np.isfinite(rows["phase_v"]))
        order = order[np.lexsort((rows["epoch"][order], rows["arc"][order]))]
        window, guard = (max(2, round(length_s / session.interval_s)) for length_s in (_LEVEL_S, _SLIDE_S))
        before = (rows["arc"] >= 0).sum()
        cut_slides(order, rows, window, guard, _SLIDE_CYCLES, session.arcs)
        arc = rows["arc"][order]
        square = np.bincount(arc[arc >= 0], (rows["phase_v"][order] / rows["wavelength_m"][order])[arc >= 0] ** 2)
        count = np.bincount(arc[arc >= 0])
        bad = np.flatnonzero(square > count * _SLIDE_CYCLES**2 / 4.0)
        rows["arc"][np.isin(rows["arc"], bad)] = -1
        if (rows["arc"] >= 0).sum() == before:
            return False
        session.arcs = keep_long_arcs(rows, session.time_ns)
        self._start_ambiguities()
        return True

    def _weigh(self, cautious: bool) -> None:
        """Weights of all rows by the noise law, the groups' variance factors, robustness, and how long errors last.

        Slow errors hide in ambiguities as long as these are float, so what residuals show is too good to be used there.
        """
        rows, dt_s = self.session.rows, self.session.interval_s
        least = {"code": _CODE_FACTOR_MIN, "phase": _PHASE_FACTOR_MIN}
        for kind, lasting_s in self.lasting_s.items():
            factor = np.maximum(self.factor[kind], least[kind] if cautious else _FACTOR_MIN)
            lasting_s = max(lasting_s, _LASTING_S[kind]) if cautious else lasting_s
            inflation = factor[rows["group"]] * max(1.0, lasting_s / dt_s)
            rows[kind + "_w"] = self.robust[kind] / (self.law[kind] * inflation)

    def _float(self) -> tuple[Floats, Floats]:
        """Float solution and its covariance."""
        session, start = self.session, 3 + DELAYS * self.knots
        size = start + session.arcs
        normal, rhs = np.zeros((size, size)), np.zeros(size)
        accumulate(session.first, self.place, session.rows, session.groups, self.knots, self.ionosphere_m2, normal, rhs)
        normal[range(3), range(3)] += 1e-4
        self._observe_zeniths(normal)
        self._observe_ionosphere(normal)
        loose = np.where(self.reference, 1e8, _AMBIGUITY_CYCLES**-2.0)
        normal[range(start, size), range(start, size)] += loose
        scale = 1.0 / np.sqrt(np.diag(normal))
        q: Floats = np.linalg.inv(normal * np.outer(scale, scale)) * np.outer(scale, scale)
        return np.dot(q, rhs), q

    def _observe_zeniths(self, normal: Floats) -> None:
        """What is known of zenith delays: the difference of both ends is a Gauss-Markov process, the base's a walk."""
        rover, base = 3, 3 + self.knots
        height_m = [geodetic_from_ecef(*place.tolist())[2] for place in (self.session.origin_m, self.session.base_m)]
        options = self.options
        sigma = math.hypot(
            options.zenith_ppm * 1e-6 * self.baseline_m, options.zenith_per_height * (height_m[0] - height_m[1])
        )
        sigma = min(max(sigma, 1e-4), 0.1)
        keep = math.exp(-self.knot_s / _ZENITH_S)
        walk_m2 = _ZENITH_WALK_M**2 * self.knot_s / 3600.0
        for k in range(self.knots):
            difference = {rover + k: 1.0, base + k: -1.0}
            if k == 0:
                _observe(normal, difference, sigma**2)
                _observe(normal, {base: 1.0}, 0.1**2)
                continue
            _observe(normal, difference | {rover + k - 1: -keep, base + k - 1: keep}, sigma**2 * (1.0 - keep**2))
            _observe(normal, {base + k: 1.0, base + k - 1: -1.0}, walk_m2)

    def _observe_ionosphere(self, normal: Floats) -> None:
        """What is known of the zenith ionosphere over both ends beyond the expected (1 sigma); it changes in hours.

        Left out, it shortens baselines by up to 2 ppm (Georgiadou 1988a): an ionosphere that is the same
        over both is seen at different elevations.
        """
        first = 3 + 2 * self.knots
        keep = math.exp(-self.knot_s / _IONOSPHERE_LASTS_S)
        for k in range(self.knots):
            change = {first + k: 1.0, first + k - 1: -keep} if k else {first: 1.0}
            _observe(normal, change, self.session.ionosphere_m**2 * (1.0 - keep**2 if k else 1.0))

    def _residuals(self, x: Floats) -> float:
        """Fill in the residuals; mean square of the phases' by their weights."""
        session = self.session
        residuals(session.first, self.place, session.rows, session.groups, self.knots, self.ionosphere_m2, x)
        rows = session.rows
        return float(np.nanmean(rows["phase_v"] ** 2 * rows["phase_w"]))

    def _learn(self) -> None:
        """Take variance factors, robust weights and the lasting of errors from the residuals."""
        rows = self.session.rows
        for kind in ("code", "phase"):
            shown = np.sqrt(self.law[kind] * np.maximum(rows[kind + "_r"], _REDUNDANCY_MIN))
            size = np.abs(rows[kind + "_v"]) / shown
            for group in range(self.session.groups):
                told = (rows["group"] == group) & np.isfinite(size) & (rows[kind + "_r"] > _TOLD_MIN)
                if told.sum() > 10:
                    mine = size[told]
                    square = float(np.median(mine) / _MEDIAN_OF_NORMAL) ** 2
                    self.factor[kind][group] = min(max(square, _FACTOR_MIN), _FACTOR_MAX)
            size /= np.sqrt(self.factor[kind][rows["group"]])
            with np.errstate(divide="ignore", invalid="ignore"):
                robust = np.where(size > _HUBER, _HUBER / size, 1.0)
            robust[size > _REJECT] = 1e-6  # left in so that it has a residual, and can come back
            self.robust[kind] = np.where(np.isfinite(size), robust, self.robust[kind])
            told = np.where(rows[kind + "_r"] > _TOLD_MIN, rows[kind + "_v"] / shown, np.nan)
            self.lasting_s[kind] = _correlation_s(self.session, told)

    def _free_arcs(self) -> NDArray[np.int64]:
        """Arcs whose ambiguities are integers relative to their group's reference.

        Not those of GLONASS, whose channels differ; nor of geostationary satellites, whose multipath stands as well.
        """
        whole = (self.arc_sat // PRN_PER_SYSTEM != GLONASS) & ~self.session.standing[self.arc_sat]
        return np.flatnonzero(whole & ~self.reference)

    def _release_standing(self, x: Floats, q: Floats) -> None:
        """Let those geostationary satellites be fixed next time whose every arc is an integer, as the others tell."""
        place = 3 + DELAYS * self.knots
        for sat in np.unique(self.arc_sat[self.session.standing[self.arc_sat]]).tolist():
            arcs = place + np.flatnonzero((self.arc_sat == sat) & ~self.reference)
            astray = np.abs(x[arcs] - np.round(x[arcs]))
            if len(arcs) and astray.max() < _CLEAR_CYCLES and q[arcs, arcs].max() < _CLEAR_CYCLES**2:
                self.session.standing[sat] = False

    def _fix(self, x: Floats, q: Floats) -> "_Integers | None":
        """Fix what combinations of ambiguities can be, and condition everything on them."""
        start = 3 + DELAYS * self.knots
        free = self._free_arcs()
        m = len(free)
        if m == 0:
            return None
        places = start + free
        u, zt, d = np.zeros((m, m)), np.zeros((m, m)), np.zeros(m)
        if not decorrelate(m, q[np.ix_(places, places)].copy(), u, d, zt):
            return None
        z_float = zt @ x[places]
        first, z, w = _bootstrap_consistently(m, u, d, z_float, self.options.failure_rate)
        if m - first < _FIXED_MIN:
            return None
        failure = bootstrapped_failure_rate(m, first, d * max(1.0, float(np.mean(w[first:] ** 2 / d[first:]))))
        norm = float(np.sum(w[first:] ** 2 / d[first:]))
        second = norm + float(np.min((1.0 - 2.0 * np.abs(w[first:])) / d[first:]))
        ratio = min(second / max(norm, 1e-12), 999.9)
        return _Integers(places, zt[first:], z[first:], failure, ratio)

    def _solution(self, x: Floats, q: Floats, fixed: "_Integers | None") -> StaticSolution:
        session, rows = self.session, self.session.rows
        ms = np.nanmean(rows["phase_v"] ** 2 * self.robust["phase"] / self.law["phase"])
        return StaticSolution(
            Quality.FIX if fixed else Quality.FLOAT,
            "" if fixed else "no integers were sure enough",
            session.origin_m + x[:3],
            q[:3, :3].copy(),
            int(session.time_ns[0]),
            int(session.time_ns[-1]),
            len(session.time_ns),
            np.unique(rows["sat"]),
            len(self._free_arcs()),
            len(fixed.integers) if fixed else 0,
            fixed.failure_rate if fixed else math.nan,
            fixed.ratio if fixed else 0.0,
            float(np.sqrt(ms)) * 2.0 * self.options.phase_noise_m,
            self.lasting_s["phase"],
            x[3 : 3 + 2 * self.knots].reshape(2, -1).T.copy(),
            session.time_ns,
            rows,
        )


@dataclass(frozen=True, slots=True)
class _Integers:
    """Integers of combinations (`design`) of the ambiguities at some places of the unknowns."""

    places: NDArray[np.int64]
    design: Floats
    integers: Floats
    failure_rate: float
    ratio: float

    def condition(self, x: Floats, q: Floats) -> tuple[Floats, Floats]:
        """A float solution and its covariance, given these integers."""
        joint = q[:, self.places] @ self.design.T
        gain = np.linalg.solve(self.design @ joint[self.places], joint.T).T
        conditioned: Floats = x - gain @ (self.design @ x[self.places] - self.integers)
        return conditioned, q - gain @ joint.T


def _bootstrap_consistently(
    m: int, u: Floats, d: Floats, z_float: Floats, failure_rate: float
) -> tuple[int, Floats, Floats]:
    """The largest set of combinations that bootstrapping fixes reliably, with a covariance as large as they show.

    Integers further off than the covariance allows tell that it is too small. It is scaled up until they agree, by the
    square of what they show, since the worst are further off than the average.

    Returns:
        The first one fixed, and the integers and remainders (m,) from there on.
    """
    factor, z, w = 1.0, np.zeros(m), np.zeros(m)
    for _ in range(_TRIES):
        first = first_of_reliable_subset(m, d * factor, failure_rate)
        bootstrap(m, first, u, z_float, z, w)
        if first == m:
            break
        shown = float(np.mean(w[first:] ** 2 / d[first:])) ** 2
        if shown <= 1.01 * factor:
            return first, z, w
        factor = shown if factor == 1.0 else max(shown, 1.5 * factor)
    return m, z, w


def _observe(normal: Floats, row: dict[int, float], variance: float) -> None:
    """Add an observation of zero."""
    for i, a in row.items():
        for j, b in row.items():
            normal[i, j] += a * b / variance


def _correlation_s(session: Session, v: Floats) -> float:
    """How long errors of the phases last: the integral of their autocorrelation, both sides."""
    rows, dt_s = session.rows, session.interval_s
    used = np.flatnonzero(np.isfinite(v))
    order = used[np.lexsort((rows["epoch"][used], rows["arc"][used]))]
    arc, epoch, value = rows["arc"][order], rows["epoch"][order], np.clip(v[order], -10.0, 10.0)
    total = dt_s
    for lag in range(1, min(int(_CORRELATION_MAX_S / dt_s), len(order) - 1) + 1):
        near = (arc[lag:] == arc[:-lag]) & (epoch[lag:] - epoch[:-lag] == lag)
        if near.sum() < 10:
            break
        before, after = value[:-lag][near], value[lag:][near]
        r = float((before * after).sum() / math.sqrt(max((before**2).sum() * (after**2).sum(), 1e-30)))
        if r < 0.05:
            break
        total += 2.0 * dt_s * r
    return max(total, dt_s)
