"""Real-time kinematic positioning of a rover against one base, epoch by epoch.

`RtkOptions` says how, `RtkState` holds what is known so far of one rover, `process` takes one epoch of each receiver
and answers with a `Fix`. The state is changed in place: it is the one mutable thing here, and belongs to one rover.

An epoch goes through these steps (`docs/topics/ambiguity-resolution.md` tells why):
pair the signals of rover and base; solve the code differences robustly; find slips; update the float filter (or, in
instantaneous mode, take this epoch alone); hold, search and test the integers; check what the fixed carriers say.
"""

import math
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from numpy.typing import NDArray

from solver.kernels import differencing, fixing, kalman, rtk
from solver.kernels.orbit import satellite_states, select_ephemerides
from solver.model import HALF_CYCLE, SLIP, Ephemerides, Epoch, Fix, Quality
from solver.signals import SIGNAL_COUNT, SIGNALS_PER_SYSTEM
from solver.timescale import NS

__all__ = ["RtkOptions", "RtkState", "Workspace", "process"]

Floats = NDArray[np.float64]

_GLONASS: Final = 1
_CHANNELS: Final = [kalman.CHANNEL_BIAS, kalman.CHANNEL_BIAS + 1]
_FIRST_STATES: Final = 96
_NO_DELAY_M: Final = 0.004
"""Differential zenith ionosphere (1 sigma) below which it is noise rather than a state: some 2 km of baseline."""


_INNOVATION_LIMIT: Final = 4.0
_HOLD_EPOCHS: Final = 10
_HOLD_CYCLES: Final = 0.1
_GAP_S: Final = 300.0
_FIXED_SIGMA_M: Final = 0.1
"""A position that integers make no better than this is called float."""
_SLIP_M: Final = 0.02
_SHARES: Final = (0.75, 0.55, 0.4, 0.3)
_WHOLE_MIN: Final = 4
_PART_MIN: Final = 5
_RISK_MAX: Final = 0.3
_PART_RISK_MAX: Final = 0.01
"""Failure rate beyond which a part is not fixed: several parts are tried, and each has its own chance to be wrong."""
_START_M: Final = 20.0
_MULTIPATH_S: Final = 5.0
_QUIET_FACTOR: Final = 0.5
_PHASE_OF_CODE: Final = 0.25
"""Least variance factor of the carriers for that of the codes: slow multipath of an antenna at rest does not show in
its carriers' innovations, but codes tell of it. Geodetic antennas have code factors of 0.2 to 0.5, patch antennas of 4
to 10."""
_PHASE_BY_CODE_MAX: Final = 2.0
_STANDING_MPS: Final = 0.5
_UNQUIET_FACTOR: Final = 1.0
"""Variance factor of the carriers that tells of multipath which matters."""
_STANDING_RADS: Final = 1e-5
"""Slowest turn of the line of sight of an IGSO is 3e-5 rad/s, fastest of a GEO 3e-6: a GEO's multipath stands still,
does not average out in hours, and makes its ambiguity look like one that is no integer."""
_STATIC_MEMORY_S: Final = 100.0
"""How long multipath of an antenna at rest lasts: its correlation falls to a half in two minutes."""
_CHANNEL_KNOWN_M: Final = 0.002
_CLIMB: Final = 4e-5
"""Error of the zenith delay for each metre of height difference: 40 per cent of 0.2 m of wet delay over a scale height
of 2 km, which is how much humidity departs from the standard's."""
_REACH_M: Final = 30.0
"""How far a rover may have moved before its motion tells less of where it is than a code solution does."""
_MEMORY_NS: Final = 120 * NS
_IONOSPHERE_S: Final = 1800.0
_ZENITH_S: Final = 7200.0


def _all_signals() -> NDArray[np.bool_]:
    return np.ones(SIGNAL_COUNT, np.bool_)


@dataclass(frozen=True, slots=True)
class RtkOptions:
    """How to position; the defaults are for all receivers and places.

    Attributes:
        static: The rover does not move.
        instantaneous: Each epoch stands alone.
        moving_base: The base's position is that of its epoch, metres off: what is followed is where the rover is
            relative to it (`solver.moving_base`).
        signals: (SIGNAL_COUNT,) bool, signals of the rover to use.
        bands_max: Most bands of a satellite.
        elevation_mask_rad: Satellites below are left out.
        cn0_min_dbhz: Signals that are weaker at either receiver are left out.
        age_max_s: A base epoch older than that is of no use.
        acceleration_mps2: Of the rover, 1 sigma.
        failure_rate: Of bootstrapping, that a set of ambiguities to be fixed may have.
        ratio_floor: Least ratio of squared norms for an acceptance.
        channel_bias_m: Prior of the receivers' phase bias for each GLONASS channel number, 1 sigma: makes differ by up
            to 5 cm (Wanninger 2012). Below 2 mm it counts as known, and GLONASS is fixed in single epochs too.
        phase_noise_m: Carrier noise of one receiver at the zenith, per component of the noise law.
        code_noise_m: The same of the code; scaled by what the data show.
        doppler_noise_mps: The same of Doppler.
        ionosphere_ppm: Differential zenith ionosphere, 1 sigma, mm per km of baseline.
        zenith_ppm: Differential zenith wet delay, 1 sigma, mm per km of baseline.
    """

    static: bool = False
    instantaneous: bool = False
    moving_base: bool = False
    signals: NDArray[np.bool_] = field(default_factory=_all_signals)
    bands_max: int = 3
    elevation_mask_rad: float = math.radians(10.0)
    cn0_min_dbhz: float = 25.0
    age_max_s: float = 60.0
    acceleration_mps2: float = 3.0
    failure_rate: float = 1e-3
    ratio_floor: float = 1.5
    channel_bias_m: float = 0.02
    phase_noise_m: float = 0.0015
    code_noise_m: float = 0.2
    doppler_noise_mps: float = 0.05
    phase_memory_s: float = 30.0
    code_memory_s: float = 100.0
    ionosphere_ppm: float = 0.5
    zenith_ppm: float = 0.2


class RtkState:
    """What is known of one rover: the filter, the integers, and how noisy its data are.

    Attributes:
        time_ns: Last epoch processed; -1: none.
        origin_m: (3,) approximate position that the filter's position is an offset from.
        base_m: (3,) the base's position at the last epoch, where it moves; NaN at first.
        code_factor: Variance factor of the code, as seen so far; likewise phase_factor.
        ionosphere_factor: Variance factor of the differential ionosphere, as seen so far: a quiet one is assumed first.
        channels: (2,) phase bias for each GLONASS channel number in two bands, m, as found so far, and variances.
        code_redundancy: How many observations the code's factor stands for; a limit lets it follow changes.
    """

    def __init__(self) -> None:
        self.time_ns = -1
        self.origin_m = np.full(3, np.nan)
        self.base_m = np.full(3, np.nan)
        self.code_factor = 2.0
        self.code_redundancy = 30.0
        self.ionosphere_factor = 1.0
        self.phase_factor = 1.0
        self.channels = np.zeros(2), np.full(2, np.inf)
        self.usage = np.zeros((SIGNAL_COUNT, SIGNALS_PER_SYSTEM))
        self.count = 0
        self.x, self.p = np.zeros(_FIRST_STATES), np.zeros((_FIRST_STATES, _FIRST_STATES))
        self.keys, self.notes = np.zeros(_FIRST_STATES, np.int32), np.zeros(_FIRST_STATES, rtk.NOTE)

    def allocate(self, capacity: int) -> None:
        """Make room for so many states, keeping those there are."""
        old = self.count
        x, p = np.zeros(capacity), np.zeros((capacity, capacity))
        keys, notes = np.zeros(capacity, np.int32), np.zeros(capacity, rtk.NOTE)
        x[:old], p[:old, :old] = self.x[:old], self.p[:old, :old]
        keys[:old], notes[:old] = self.keys[:old], self.notes[:old]
        self.x, self.p, self.keys, self.notes = x, p, keys, notes

    def follow(self, base_m: Floats) -> None:
        """Move along with a base that moves: what is known is where the rover is relative to it."""
        if np.isfinite(self.base_m[0]):
            self.origin_m += base_m - self.base_m
        self.base_m = base_m.copy()

    def recall_channels(self, sigma_m: float) -> None:
        """Let a new filter start from the GLONASS biases that the last one found: they belong to the receivers."""
        found_m, variance_m2 = self.channels
        for place, value, variance in zip(_CHANNELS, found_m, variance_m2, strict=True):
            self.x[place] = value
            self.p[place, place] = min(4.0 * variance + _CHANNEL_KNOWN_M**2, sigma_m**2)


class Workspace:
    """Arrays that every epoch writes anew: one set serves all rovers of a thread."""

    def __init__(self) -> None:
        links, sats = differencing.LINKS_MAX, differencing.SATELLITES_MAX
        self.links = np.zeros(links, differencing.LINK)
        self.sats = np.zeros(sats, np.int16)
        self.code_rows = np.zeros((sats, 2), np.int32)
        self.index = np.zeros(sats, np.int32)
        self.rover_states, self.base_states = np.zeros((sats, 8)), np.zeros((sats, 8))
        self.order = np.zeros(links, np.int64)
        self.weight, self.innovations = np.zeros(links), np.zeros(links)
        self.ambiguity, self.ionosphere = np.zeros(links, np.int32), np.zeros(links, np.int32)
        self.member, self.reference = np.zeros(links, np.int32), np.zeros(differencing.GROUPS_MAX, np.int32)
        self.position, self.position_m2 = np.zeros(3), np.zeros((3, 3))
        self.velocity, self.velocity_m2s2 = np.full(3, np.nan), np.full((3, 3), np.nan)
        self.a, self.q = np.zeros(links), np.zeros((links, links))
        self.b, self.qba, self.qb = np.zeros(3), np.zeros((3, links)), np.zeros((3, 3))
        self.fixed, self.report = np.zeros(links), np.zeros(5)


def process(
    state: RtkState, rover: Epoch, base: Epoch, base_position_ecef_m: Floats, ephemerides: Ephemerides,
    options: RtkOptions, workspace: Workspace | None = None, base_now_m: Floats | None = None,
) -> Fix:  # fmt: skip
    """Position a rover at one epoch.

    Args:
        state: What is known of the rover; changed.
        rover: The rover's epoch.
        base: The base's epoch, of the same instant or older.
        base_position_ecef_m: (3,) the base's antenna.
        ephemerides: Broadcast orbits and clocks.
        options: How.
        workspace: Scratch arrays to be used again; for callers with many rovers.
        base_now_m: (3,) where a moving base is by the rover's epoch; None: where it was at its own.

    Returns:
        The position, in the frame of the base's; `Quality.NONE` and a reason where there is none.
    """
    work = workspace or Workspace()
    if options.moving_base:
        state.follow(base_position_ecef_m if base_now_m is None else base_now_m)
    age_s = (rover.time_ns - base.time_ns) / NS
    if abs(age_s) > options.age_max_s:
        return Fix(rover.time_ns, Quality.NONE, f"base data are {age_s:.0f} s old")
    epoch = _Epoch(state, rover, base, base_position_ecef_m, ephemerides, options, work)
    if epoch.count < 4:
        return Fix(rover.time_ns, Quality.NONE, f"{epoch.count} common signals with orbits above the mask")
    return epoch.solve()


class _Epoch:
    """One epoch being solved: the links of rover and base, and the steps over them."""

    def __init__(
        self, state: RtkState, rover: Epoch, base: Epoch, base_m: Floats, ephemerides: Ephemerides,
        options: RtkOptions, work: Workspace,
    ) -> None:  # fmt: skip
        self.state, self.rover, self.base, self.base_m = state, rover, base, base_m
        self.options, self.work = options, work
        self.links = work.links
        self.all_links, self.places = differencing.pair_signals(
            rover.sat, rover.signal, rover.pseudorange_m, base.sat, base.signal, base.pseudorange_m,
            options.signals, state.usage, options.bands_max, work.links, work.sats, work.code_rows,
        )  # fmt: skip
        self.count = 0
        self._place_satellites(ephemerides)
        self._locate()

    def _place_satellites(self, ephemerides: Ephemerides) -> None:
        """Orbits and clocks at emission of what rover and base received, from the same ephemerides."""
        work, n = self.work, self.places
        sats, index = work.sats[:n], work.index[:n]
        select_ephemerides(ephemerides.kepler, ephemerides.glonass, self.rover.time_ns, sats, index)
        for epoch, column, states in ((self.rover, 0, work.rover_states), (self.base, 1, work.base_states)):
            codes = epoch.pseudorange_m[work.code_rows[:n, column]]
            satellite_states(ephemerides.kepler, ephemerides.glonass, epoch.time_ns, sats, index, codes, states)

    def _locate(self) -> None:
        """Find an approximate position, the links above the mask there, and the robust code solution."""
        state, options, work = self.state, self.options, self.work
        dt_s = self.dt_s
        known = bool(np.isfinite(state.origin_m[0])) and dt_s <= 60.0
        self.origin_m = state.origin_m + dt_s * state.x[3:6] if known else self.base_m.copy()
        for _ in range(5):
            self._difference()
            redundancy, factor = rtk.solve_codes(
                self.all_links, self.links, work.position, work.position_m2, work.weight
            )
            if redundancy < 0:
                return
            if np.abs(work.position).max() < 100.0:
                break
            self.origin_m += work.position
        self.baseline_m = math.dist(self.origin_m, self.base_m)
        delay_m = options.ionosphere_ppm * 1e-6 * self.baseline_m * math.sqrt(state.ionosphere_factor)
        self.ionosphere_m = delay_m if delay_m > _NO_DELAY_M else 0.0
        noise = np.array([state.code_factor, state.phase_factor])
        self.count = rtk.keep_links(
            self.all_links, options.elevation_mask_rad, options.cn0_min_dbhz,
            delay_m, noise, self.links,
        )  # fmt: skip
        rtk.sort_links(self.count, self.links, work.order)
        redundancy, factor = rtk.solve_codes(self.count, self.links, work.position, work.position_m2, work.weight)
        if redundancy < 0:
            self.count = 0
            return
        # The epoch's own variance factor tells as much as its redundancy, the factor so far as much as thirty.
        self.code_scale = (30.0 + redundancy * factor) / (30.0 + redundancy)
        gain = redundancy / (state.code_redundancy + redundancy)
        state.code_factor = min(max(state.code_factor * (1.0 + gain * (min(factor, 4.0) - 1.0)), 0.25), 400.0)
        state.code_redundancy = min(state.code_redundancy + redundancy, 30.0 * max(redundancy, 1))

    @property
    def dt_s(self) -> float:
        """Seconds since the last epoch; a day where there was none."""
        return (self.rover.time_ns - self.state.time_ns) / NS if self.state.time_ns >= 0 else 86_400.0

    def _difference(self) -> None:
        """Observed less modelled differences at the approximate position."""
        rover, base, work = self.rover, self.base, self.work
        differencing.link_geometry(
            rover.time_ns, base.time_ns, self.all_links, self.places, self.origin_m, self.base_m,
            work.rover_states, work.base_states, self.links,
        )  # fmt: skip
        options = self.options
        noise = np.array([options.phase_noise_m, options.code_noise_m, 36.0])
        differencing.link_observations(
            self.all_links, rover.frequency_hz, rover.pseudorange_m, rover.phase_cycles, rover.doppler_hz,
            rover.cn0_dbhz, rover.flags, base.pseudorange_m, base.phase_cycles, base.cn0_dbhz, base.flags, noise,
            self.links,
        )  # fmt: skip

    def solve(self) -> Fix:
        """Run the epoch's filter or take it alone, then fix."""
        fix = self._instantaneous() if self.options.instantaneous else self._filtered()
        self.state.time_ns = self.rover.time_ns
        return fix

    def _usable(self) -> NDArray[np.bool_]:
        """Links whose ambiguities may be fixed."""
        links = self.links[: self.count]
        usable: NDArray[np.bool_] = np.isfinite(links["phase_m"]) & (links["flags"] & HALF_CYCLE == 0)
        if self.options.instantaneous and self.options.channel_bias_m > _CHANNEL_KNOWN_M:
            usable &= links["sat"] // 64 != _GLONASS
        if self.state.phase_factor > _UNQUIET_FACTOR and np.abs(self.state.x[3:6]).max() < _STANDING_MPS:
            usable &= ~(links["turn_rads"] < _STANDING_RADS)
        return usable

    def _instantaneous(self) -> Fix:
        work, n = self.work, self.count
        self.state.origin_m = self.origin_m + work.position
        usable = self._usable()
        position_m2 = work.position_m2 * self.code_scale
        rtk.choose_references(n, self.links, work.order, usable, np.zeros(n, np.bool_), work.reference)
        m = rtk.instantaneous_differences(
            n, self.links, work.reference, usable, self.ionosphere_m, work.position, position_m2,
            work.member, work.a, work.q, work.b, work.qba, work.qb,
        )  # fmt: skip
        work.innovations[:n] = 0.0
        accepted = self._resolve(m) or self._resolve_part(m, work.member)
        if accepted and math.sqrt(np.trace(work.qb)) < _FIXED_SIGMA_M:
            return self._fix(Quality.FIX, work.b, work.qb)
        return self._fix(Quality.DGNSS, work.position, position_m2)

    def _resolve(self, m: int, least: int = _WHOLE_MIN) -> bool:
        work, options = self.work, self.options
        return fixing.resolve(
            m, work.a, work.q, work.b, work.qba, work.qb, options.failure_rate, _RISK_MAX, options.ratio_floor, least,
            work.fixed, work.report,
        )  # fmt: skip

    def _resolve_part(self, left: int, free: NDArray[np.int32], least: int = _PART_MIN) -> bool:
        """Try those without channel biases, then ever fewer, the noisiest first to go: one bad carrier spoils a set."""
        work = self.work
        links = self.links[free[:left]]
        by_quality = np.argsort(links["phase_m2"] * (1.0 + work.innovations[free[:left]] ** 2))
        parts = [np.sort(by_quality[: int(left * share)]) for share in _SHARES]
        alike = np.flatnonzero(links["sat"] // 64 != _GLONASS)
        if len(alike) < left:
            parts.insert(0, alike)
        for part in parts:
            m = len(part)
            if m < least:
                continue
            a, q, qba = work.a[part], work.q[np.ix_(part, part)], np.ascontiguousarray(work.qba[:, part])
            if fixing.resolve(
                m, a, q, work.b, qba, work.qb, self.options.failure_rate, _PART_RISK_MAX, self.options.ratio_floor,
                least, work.fixed, work.report,
            ):  # fmt: skip
                fixed = np.full(left, np.nan)
                fixed[part] = work.fixed[:m]
                work.fixed[:left] = fixed
                return True
        work.fixed[:left] = np.nan
        return False

    def _fix(self, quality: Quality, offset: Floats, covariance: Floats) -> Fix:
        return Fix(
            self.rover.time_ns,
            quality,
            position_ecef_m=self.origin_m + offset,
            position_covariance_m2=covariance.copy(),
            velocity_ecef_mps=self.work.velocity.copy(),
            velocity_covariance_m2s2=self.work.velocity_m2s2.copy(),
            satellites=np.unique(self.links["sat"][: self.count]),
            age_s=(self.rover.time_ns - self.base.time_ns) / NS,
            ratio=float(self.work.report[fixing.RATIO]),
        )

    def _filtered(self) -> Fix:
        work, state = self.work, self.state
        slipped = self._time_update()
        self._synchronise(slipped)
        n = state.count
        carried = int((state.notes["locked"][kalman.BASE_STATES : n] > 1).sum())
        inflation = max(1.0, self.options.code_memory_s / self.dt_s) if carried >= 4 else 1.0
        rtk.observe_links(
            n, self.count, self.links, work.order, work.weight / self.code_scale, inflation,
            self._lasting(), work.ambiguity,
            work.ionosphere, state.notes, _INNOVATION_LIMIT, state.x, state.p, work.innovations,
        )  # fmt: skip
        state.phase_factor = rtk.noise_factor(
            self.count, work.innovations, work.ambiguity, state.notes, state.phase_factor
        )
        state.phase_factor = max(state.phase_factor, min(_PHASE_BY_CODE_MAX, _PHASE_OF_CODE * state.code_factor))
        if self.ionosphere_m:
            state.ionosphere_factor = rtk.ionosphere_factor(
                n, state.x, state.p, state.keys, self.ionosphere_m, state.ionosphere_factor
            )
        fix = self._fix_integers()
        found = fix.position_ecef_m - self.origin_m
        rtk.remember_phases(self.count, self.links, work.ambiguity, found, state.notes)
        state.channels = state.x[_CHANNELS].copy(), np.diag(state.p)[_CHANNELS].copy()
        state.origin_m = self.origin_m + state.x[:3]
        state.x[:3] = 0.0
        return fix

    def _time_update(self) -> NDArray[np.bool_]:
        """Move the filter to this epoch and find the slips; it starts anew after a long gap."""
        state, options, work = self.state, self.options, self.work
        dt_s = self.dt_s
        if state.count == 0 or dt_s > _GAP_S:
            self._start()
            dt_s = 0.0
        slipped: NDArray[np.bool_] = (self.links["flags"][: self.count] & SLIP) != 0
        rtk.weigh_fades(self.count, self.links, dt_s, state.count, state.keys, state.notes, slipped)
        rtk.sort_links(self.count, self.links, work.order)
        if options.static:
            state.x[:3] += state.origin_m - self.origin_m
        elif 0.5 * options.acceleration_mps2 * dt_s**2 < _REACH_M:
            kalman.move(state.count, dt_s, options.acceleration_mps2, state.x, state.p)
            state.x[:3] += state.origin_m - self.origin_m
        else:
            for axis in range(3):
                kalman.reset_state(state.count, state.x, state.p, axis, work.position[axis], _REACH_M**2)
                kalman.reset_state(state.count, state.x, state.p, 3 + axis, 0.0, _REACH_M**2)
        rtk.decay_atmosphere(
            state.count, dt_s, self.ionosphere_m, _IONOSPHERE_S, self.zenith_m, _ZENITH_S, state.x, state.p, state.keys
        )
        rtk.time_differences(
            self.count, self.links, self.rover.time_ns, state.time_ns, state.count, state.keys, state.notes, _SLIP_M,
            slipped, work.b, work.qb,
        )  # fmt: skip
        redundancy, factor = rtk.solve_rates(
            self.count, self.links, options.doppler_noise_mps, work.velocity, work.velocity_m2s2
        )
        if redundancy >= 1 and not options.static:
            work.velocity_m2s2[:] = work.velocity_m2s2 * max(1.0, factor) + np.eye(3) * 0.03**2
            if not options.moving_base:  # Doppler is of the rover alone, the filter's velocity relative to the base
                rtk.observe_vector(state.count, 3, work.velocity, work.velocity_m2s2, state.x, state.p)
        else:
            work.velocity[:] = work.velocity_m2s2[:] = np.nan
        return slipped

    def _start(self) -> None:
        """A filter that knows nothing but what is normal."""
        state, options = self.state, self.options
        state.count = kalman.BASE_STATES
        state.x[:] = 0.0
        state.p[:] = 0.0
        state.origin_m = self.origin_m.copy()
        state.x[:3] = self.work.position
        speed = 0.0 if options.static else 30.0
        sigma = [_REACH_M] * 3 + [speed] * 3 + [self.zenith_m] * 2 + [options.channel_bias_m] * 2
        np.fill_diagonal(state.p[:10, :10], np.square(sigma))
        state.recall_channels(options.channel_bias_m)

    @property
    def zenith_m(self) -> float:
        """Standard deviation of either end's wet zenith delay, beyond the model, that matters on this baseline."""
        climb_m = float(np.linalg.norm(self.origin_m) - np.linalg.norm(self.base_m))
        return min(0.1, math.hypot(self.options.zenith_ppm * 1e-6 * self.baseline_m, _CLIMB * climb_m))

    def _synchronise(self, slipped: NDArray[np.bool_]) -> None:
        """Make the filter's states those of this epoch's links."""
        state, work, n = self.state, self.work, self.count
        need = state.count + n + self.places
        if need > len(state.x):
            state.allocate(min(need + 16, 400))
        links = self.links[:n]
        lock_s = np.minimum(self.rover.lock_s[links["rover_row"]], self.base.lock_s[links["base_row"]])
        state.count = rtk.synchronise_states(
            n, self.links, self.rover.time_ns, state.time_ns, lock_s.astype(np.float64), slipped, _START_M,
            self.ionosphere_m, self._wander(), _MEMORY_NS, state.count, state.x, state.p, state.keys, state.notes,
            work.ambiguity, work.ionosphere,
        )  # fmt: skip

    def _wander(self) -> float:
        """Variance that an ambiguity gains in this epoch, in units of its carrier's: multipath is not white.

        Where carriers are no noisier than the noise law's best, there is little multipath to take account of; errors at
        long intervals are independent anyhow.
        """
        if self.options.static:
            return 0.0
        dt_s = self.dt_s
        return dt_s / self.options.phase_memory_s * self._close * self._unquiet

    def _lasting(self) -> float:
        """How much less than its own information a carrier's epoch tells, because errors of the last ones are in it.

        n epochs dt apart, with errors correlated by exp(-t / T), are worth n dt / (2 T + dt) independent ones.
        At short intervals an ambiguity that wanders stands for the same.
        """
        dt_s = max(self.dt_s, 0.05)
        memory_s, apart = self.options.phase_memory_s, (1.0 - self._close) ** 2
        if self.options.static:
            memory_s, apart = _STATIC_MEMORY_S, 1.0
        return 1.0 + 2.0 * memory_s / dt_s * math.exp(-dt_s / memory_s) * apart * self._unquiet

    @property
    def _close(self) -> float:
        """1 where epochs follow so closely that errors change little from one to the next, 0 where they do not."""
        return math.exp(-((self.dt_s / _MULTIPATH_S) ** 2))

    @property
    def _unquiet(self) -> float:
        """0 where the carriers show no multipath, 1 where they show much."""
        state = self.state
        by_code = _PHASE_OF_CODE * (state.code_factor - 1.0)
        return min(1.0, max(4.0 * (state.phase_factor - _QUIET_FACTOR), by_code))

    def _fix_integers(self) -> Fix:
        """Condition the float solution on what is held and what can be fixed, and check it."""
        state, work, n = self.state, self.work, self.count
        place, notes = work.ambiguity[:n], state.notes
        usable = self._usable() & (place >= 0) & (np.abs(work.innovations[:n]) < _INNOVATION_LIMIT)
        held = usable & (notes["agreed"][place] >= _HOLD_EPOCHS)
        used = np.where(usable, place, -1).astype(np.int32)
        rtk.choose_references(n, self.links, work.order, usable, held, work.reference)
        m = fixing.double_differences(
            n,
            self.links,
            used,
            work.reference,
            state.x,
            state.p,
            work.member,
            work.a,
            work.q,
            work.b,
            work.qba,
            work.qb,
        )
        free, known = np.empty(n, np.int32), np.full(n, np.nan)
        tally = np.zeros(2)
        left = fixing.condition_on_held(
            m, work.member, self.links, work.reference, used, notes, _HOLD_EPOCHS, 4.0, work.a, work.q, work.b,
            work.qba, work.qb, free, known, tally,
        )  # fmt: skip
        least = (1, 2) if tally[0] >= _WHOLE_MIN else (_WHOLE_MIN, _PART_MIN)  # single ones may join those held
        accepted = self._resolve(left, least[0]) or self._resolve_part(left, free, least[1])
        fixing.record_integers(n, self.links, work.reference, used, notes, _HOLD_EPOCHS, left, free, work.fixed, known)
        sigma_m = math.sqrt(max(np.trace(work.qb), 0.0))
        fixing.hold_integers(
            state.count,
            n,
            self.links,
            work.reference,
            used,
            notes,
            known,
            _HOLD_EPOCHS,
            _HOLD_CYCLES**2,
            state.x,
            state.p,
        )
        if (accepted or tally[0] >= _WHOLE_MIN) and sigma_m < _FIXED_SIGMA_M:
            return self._fix(Quality.FIX, work.b, work.qb)
        return self._fix(Quality.FLOAT, state.x[:3], state.p[:3, :3])
