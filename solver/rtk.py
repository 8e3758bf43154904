"""Real-time kinematic positioning of a rover against one base, epoch by epoch.

`RtkOptions` says how, `RtkState` holds what is known so far of one rover, `process` takes one epoch of each receiver
and answers with a `Fix`. The state is changed in place: it is the one mutable thing here, and belongs to one rover.
`process_all` takes a recording; `process_codes` is for a service that has no time for an epoch's carriers. The work is
done by a few kernel calls (`solver.kernels.epoch`), or for a recording by one for many (`solver.kernels.follow`),
during which other threads run.

An epoch goes through these steps (`docs/topics/ambiguity-resolution.md` tells why):
pair the signals of rover and base; solve the code differences robustly; find slips; update the float filter (or, in
instantaneous mode, take this epoch alone); hold, search and test the integers; check what the fixed carriers say.
"""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from solver.jit import Address
from solver.kernels import afresh, codes, epoch, learning
from solver.kernels.differencing import SATELLITES_MAX, Columns
from solver.kernels.follow import LINKS_MIN, AloneSteps, FilterSteps, Given, Known, Seen, follow, follow_alone
from solver.kernels.linalg import pack, unpack
from solver.kernels.rover import KNOWN, OPTIONS, RESULT, Filter, Work, workspace
from solver.kernels.rtk import NOTE, WHITE_PRIOR
from solver.model import GLONASS_STATE, KEPLER, Ephemerides, Epoch, Fix, Quality
from solver.signals import SIGNAL_COUNT, SIGNALS_PER_SYSTEM
from solver.timescale import NS
from solver.track import Track, track

__all__ = ["ONE_MAKE_CHANNEL_BIAS_M", "RtkOptions", "RtkState", "Workspace", "process", "process_all", "process_codes"]

Floats = NDArray[np.float64]

ONE_MAKE_CHANNEL_BIAS_M: Final = 0.003
"""As `RtkOptions.channel_bias_m` between receivers of one make, which hardly differ (Wanninger 2012): two u-blox M8P by
0 ± 1 mm, two mosaic-X5 by 1 ± 3."""
_FIRST_WANDER: Final = 0.3
_FIRST_STATES: Final = 96
_SPARE_STATES: Final = 16
_PART: Final = 256
"""Epochs of a rover that are followed at once."""
_AHEAD: Final = 2
"""Parts that are followed, or wait to be, while the fixes of one are taken: the thread goes on with the next without
waiting for who takes them to let go of the interpreter."""


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
        phase_memory_s: How long errors of the carriers last.
        code_memory_s: How long those of the codes do.
        ionosphere_ppm: Differential zenith ionosphere, 1 sigma, mm per km of baseline.
        zenith_ppm: Differential zenith wet delay, 1 sigma, mm per km of baseline.
        record: (1,) of x: the same for the kernels.
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
    record: NDArray[Any] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        record = np.array([tuple(getattr(self, name) for name in OPTIONS.names or ())], OPTIONS)
        object.__setattr__(self, "record", record)


class RtkState:
    """What is known of one rover: the filter, the integers, and how noisy its data are.

    Attributes:
        record: (1,) of y.
        filter: Its arrays are longer than what `record` says is used of them.
        usage: How often signals of rover and base were paired (`solver.kernels.differencing.pair_signals`).
    """

    def __init__(self) -> None:
        self.record = np.zeros(1, KNOWN)
        self.record["time_ns"] = -1
        self.record["origin_m"] = self.record["base_m"] = np.nan
        self.record["code_factor"], self.record["code_redundancy"] = 2.0, learning.REDUNDANCY_MEMORY
        self.record["fixed_factor"] = learning.QUIET_FACTOR
        self.record["phase_factor"] = self.record["white_factor"] = self.record["ionosphere_factor"] = 1.0
        self.record["white_epochs"] = WHITE_PRIOR
        self.record["signal_factor"] = 1.0
        self.record["wander"] = _FIRST_WANDER
        self.record["channel_m2"] = np.inf
        self.usage = np.zeros((SIGNAL_COUNT, SIGNALS_PER_SYSTEM))
        self.filter = _empty_filter(_FIRST_STATES)
        self._folded: Filter | None = None

    def fold(self) -> None:
        """Keep of the filter what is needed of it, in less than half of the memory, until `unfold`."""
        n, (x, p, keys, notes) = int(self.record["count"][0]), self.filter
        lower = np.empty(n * (n + 1) // 2)
        pack(n, p, lower)
        self._folded = Filter(x[:n].copy(), lower, keys[:n].copy(), notes[:n].copy())
        self.filter = _NO_FILTER

    def unfold(self, workspace: "Workspace") -> None:
        """Have the filter again, in the arrays of a workspace, until `fold`."""
        folded, self._folded = self._folded, None
        if folded is None:
            return
        n = len(folded.x)
        if n > len(workspace.filter.x):
            workspace.filter = _empty_filter(n + _SPARE_STATES)
        self.filter = workspace.filter
        unpack(n, folded.p, self.filter.p)
        self.filter.x[:n], self.filter.keys[:n], self.filter.notes[:n] = folded.x, folded.keys, folded.notes

    def reserve(self, states: int) -> None:
        """Make room for so many states, keeping those there are."""
        if states <= len(self.filter.x):
            return
        old, used = self.filter, int(self.record["count"][0])
        self.filter = _empty_filter(states + _SPARE_STATES)
        self.filter.p[:used, :used] = old.p[:used, :used]
        for new, known in ((self.filter.x, old.x), (self.filter.keys, old.keys), (self.filter.notes, old.notes)):
            new[:used] = known[:used]

    def follow(self, base_m: Floats) -> None:
        """Move along with a base that moves: what is known is where the rover is relative to it."""
        known = self.record[0]
        if np.isfinite(known["base_m"][0]):
            known["origin_m"] += base_m - known["base_m"]
        known["base_m"] = base_m


def _empty_filter(states: int) -> Filter:
    return Filter(np.zeros(states), np.zeros((states, states)), np.zeros(states, np.int32), np.zeros(states, NOTE))


_NO_FILTER: Final = _empty_filter(0)


class Workspace:
    """Arrays that every epoch writes anew: one set serves all rovers of a thread.

    Attributes:
        arrays: What kernels write on.
        filter: For rovers whose own is folded.
    """

    def __init__(self) -> None:
        self.arrays = workspace()
        self.filter = _empty_filter(_FIRST_STATES)


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
    work, found = (workspace or Workspace()).arrays, np.zeros(1, RESULT)
    if options.moving_base:
        state.follow(base_position_ecef_m if base_now_m is None else base_now_m)
    if _locate(state, rover, base, base_position_ecef_m, ephemerides, options, work, found):
        state.reserve(int(found["states"][0]))
        if options.instantaneous:
            _stand_alone(rover.time_ns, state, options, work, found)
        else:
            epoch.predict(rover.time_ns, options.record, state.record, state.filter, work, found)
            left, held = epoch.update(options.record, state.record, state.filter, work)
            epoch.fix(rover.time_ns, left, held, options.record, state.record, state.filter, work, found)
            if found["quality"][0] == Quality.FLOAT:  # a call that has nothing to do takes 0.1 ms as well
                afresh.look_afresh(options.record, state.record, state.filter, work, found)
    return _fix(rover.time_ns, (rover.time_ns - base.time_ns) / NS, options, found[0], work.sats)


def process_codes(
    state: RtkState, rover: Epoch, base: Epoch, base_position_ecef_m: Floats, ephemerides: Ephemerides,
    options: RtkOptions, workspace: Workspace,
) -> Fix:  # fmt: skip
    """Position a rover at one epoch by its codes alone, in a quarter of the time that `process` takes.

    The arguments are those of `process`. The filter stays where it is: the next epoch that is given to `process` finds
    a gap, over which the carriers go on where their lock times span it.

    Returns:
        The position, `Quality.DGNSS`, or a reason.
    """
    work, found = workspace.arrays, np.zeros(1, RESULT)
    if _locate(state, rover, base, base_position_ecef_m, ephemerides, options, work, found):
        codes.settle(options.record, work, found)
    return _fix(rover.time_ns, (rover.time_ns - base.time_ns) / NS, options, found[0], work.sats)


def _locate(
    state: RtkState, rover: Epoch, base: Epoch, base_m: Floats, ephemerides: Ephemerides, options: RtkOptions,
    work: Work, found: NDArray[Any],
) -> bool:  # fmt: skip
    """Form the links of an epoch; whether there are enough of them."""
    if abs(rover.time_ns - base.time_ns) > options.age_max_s * NS:
        return False
    found["links"], found["satellites"], found["states"] = epoch.locate(
        rover.time_ns, Columns.of(rover), base.time_ns, Columns.of(base), base_m, ephemerides.kepler,
        ephemerides.glonass, ephemerides.klobuchar_gps, ephemerides.klobuchar_beidou, options.signals, state.usage,
        options.record, state.record, state.filter, work,
    )  # fmt: skip
    return bool(found["links"][0] >= LINKS_MIN)


def _stand_alone(time_ns: int, state: RtkState, options: RtkOptions, work: Work, found: NDArray[Any]) -> None:
    """Take an epoch by itself; where the ionosphere matters and integers are not sure, once more with less of it."""
    for quiet in epoch.QUIETER:
        left = epoch.stand_alone(quiet, options.record, state.record, work, found)
        epoch.fix(time_ns, left, 0, options.record, state.record, state.filter, work, found)
        if found["quality"][0] == Quality.FIX or not work.now["ionosphere_m"][0]:
            return


def _fix(time_ns: int, age_s: float, options: RtkOptions, result: Any, satellites: NDArray[np.int16]) -> Fix:
    """The fix of a `RESULT`, or why there is none; `satellites` are those of the links, or more."""
    if result["quality"] == Quality.NONE:
        why = f"{result['links']} common signals with orbits above the mask"
        if abs(age_s) > options.age_max_s:
            why = "no base data yet" if math.isinf(age_s) else f"base data are {age_s:.0f} s old"
        return Fix(time_ns, Quality.NONE, why)
    return Fix(
        time_ns,
        Quality(result["quality"]),
        position_ecef_m=result["position_m"],
        position_covariance_m2=result["position_m2"],
        velocity_ecef_mps=result["velocity_mps"],
        velocity_covariance_m2s2=result["velocity_m2s2"],
        satellites=satellites[: result["satellites"]].copy(),
        age_s=age_s,
        ratio=float(result["ratio"]),
        dop=result["dop"],
    )


def process_all(
    state: RtkState, rover: Sequence[Epoch], base: Sequence[Epoch], base_of: NDArray[np.int64], base_ecef_m: Floats,
    ephemerides: Ephemerides, options: RtkOptions,
) -> Iterator[Fix]:  # fmt: skip
    """The fixes of a recording, as `process` makes them from epoch to epoch.

    Args:
        state: What is known of the rover; changed.
        rover: Epochs, in order of time.
        base: Epochs, at least one.
        base_of: (rover epochs,) which of them is the latest at each of the rover's; negative: there is none.
        base_ecef_m: (3,) antenna of the base.
        ephemerides: Broadcast orbits and clocks.
        options: How.
    """
    workspace = Workspace()

    def part(first: int) -> _Way:
        of = base_of[first : first + _PART]
        needed = np.flatnonzero(np.bincount(np.maximum(of, 0)))  # np.unique loads NumPy's masked arrays
        some = track([base[place] for place in needed.tolist()])
        of = np.where(of >= 0, np.searchsorted(needed, of), -1)
        epochs = track(rover[first : first + _PART])
        return _Way(state, epochs, some, of, base_ecef_m, ephemerides, options, workspace)

    ways: deque[Future[_Way]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="rtk") as pool:
        for first in range(0, len(rover), _PART):
            ways.append(pool.submit(part(first).follow))
            if len(ways) > _AHEAD:
                yield from ways.popleft().result().fixes()
        for way in ways:
            yield from way.result().fixes()


@cache
def _filter_steps() -> FilterSteps:
    """The kernels of the filter, compiled."""
    how, known = np.zeros(1, OPTIONS), np.zeros(1, KNOWN)
    around = (how, known, _empty_filter(1), workspace())
    return FilterSteps(
        _locate_step(),
        Address(epoch.predict, 0, *around, np.zeros(1, RESULT)),
        Address(epoch.update, *around),
        Address(epoch.fix, 0, 0, 0, *around, np.zeros(1, RESULT)),
        Address(afresh.look_afresh, *around, np.zeros(1, RESULT)),
    )


@cache
def _alone_steps() -> AloneSteps:
    """The kernels of epochs by themselves, compiled."""
    how, known, work, found = np.zeros(1, OPTIONS), np.zeros(1, KNOWN), workspace(), np.zeros(1, RESULT)
    return AloneSteps(
        _locate_step(),
        Address(epoch.stand_alone, 1.0, how, known, work, found),
        Address(epoch.fix, 0, 0, 0, how, known, _empty_filter(1), work, found),
    )


def _locate_step() -> Address:
    rows = Columns.of(Epoch.empty(0))
    return Address(
        epoch.locate, 0, rows, 0, rows, np.zeros(3), np.empty(0, KEPLER), np.empty(0, GLONASS_STATE), np.zeros(8),
        np.zeros(8), _all_signals(), RtkState().usage, np.zeros(1, OPTIONS), np.zeros(1, KNOWN), _empty_filter(1),
        workspace(),
    )  # fmt: skip


class _Way:
    """A rover's way through some epochs (n).

    Args:
        state: What is known of the rover; changed.
        rover: Its epochs.
        base: Epochs of the base.
        base_of: (n,) which of them belongs to each of the rover's; negative: none does.
        base_m: (3,) antenna of the base.
        ephemerides: Broadcast orbits and clocks.
        options: How.
        workspace: Scratch arrays.
    """

    def __init__(
        self, state: RtkState, rover: Track, base: Track, base_of: NDArray[np.int64], base_m: Floats,
        ephemerides: Ephemerides, options: RtkOptions, workspace: Workspace,
    ) -> None:  # fmt: skip
        self._state, self._options, self._work = state, options, workspace.arrays
        self._rover, self._base, self._base_of = Seen.of(rover), Seen.of(base), base_of
        self._given = Given(
            options.record, options.signals, base_m, ephemerides.kepler, ephemerides.glonass,
            ephemerides.klobuchar_gps, ephemerides.klobuchar_beidou,
        )  # fmt: skip
        self._found = np.empty(len(base_of), RESULT)
        self._used = np.empty((len(base_of), SATELLITES_MAX), np.int16)

    def follow(self) -> Self:
        """Let the kernel follow the rover, with room for as many states as it needs."""
        state, around = self._state, (self._rover, self._base_of, self._base, self._given)
        written = (self._work, self._found, self._used)
        if self._options.instantaneous:
            follow_alone(_alone_steps(), *around, Known(state.usage, state.record, state.filter), *written)
            return self
        done, located = 0, False
        while True:
            known = Known(state.usage, state.record, state.filter)
            done = follow(_filter_steps(), done, located, *around, known, *written)
            if done == len(self._base_of):
                return self
            state.reserve(int(self._found["states"][done]))
            located = True

    def fixes(self) -> Iterator[Fix]:
        """The fixes of what was found."""
        for k, of in enumerate(self._base_of.tolist()):
            time_ns = int(self._rover.time_ns[k])
            age_s = (time_ns - int(self._base.time_ns[of])) / NS if of >= 0 else math.inf
            yield _fix(time_ns, age_s, self._options, self._found[k], self._used[k])
