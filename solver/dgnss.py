"""Code-differential positions: a base's corrections, the rover's codes, and its carrier from epoch to epoch.

A base at a known place turns each of its signals into a correction (`corrections`): measured less modelled code and
phase. A rover subtracts them from the same signal of the same satellite, with the same ephemeris, so that orbit, clock
and most of the atmosphere cancel; one unknown receiver bias per signal takes what the two receivers have in common.

The filter (`advance`) works in the position domain. Time-differenced carrier and Doppler tell how far the rover has
moved since its last epoch, to centimetres or decimetres; codes then pull the position, robustly, with a weight that
counts the slow change of multipath. So a position is smoothed over minutes while the carrier holds on any four
satellites, whichever they are, and slips of single satellites cost nothing (a Hatch filter would start anew).

Live epochs and whole recordings (`advance_all`) take the same way; the kernels (`kernels.dgnss`) come back for epochs
that need a single position: at the start, where there are no corrections, and where the rover is lost.
"""

import math
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from solver.kernels.dgnss import ANEW, BIASES, FILTER, FOLLOW, GAP_NS, LOST_EPOCHS, PERSIST, correct_all, follow
from solver.kernels.spp import POINT, SOLVED, TOO_FEW
from solver.model import Ephemerides, Epoch, Fix, Quality
from solver.observed import Selection, wanted
from solver.signals import SATELLITE_COUNT
from solver.spp import SppOptions, solve
from solver.track import Track, track

__all__ = ["Corrections", "DgnssOptions", "DgnssState", "advance", "advance_all", "corrections"]

_FOUND_SHARE, _FOUND_SATELLITES = 0.6, 7
"""Found again: so many of a new position's codes agree, of so many satellites."""
_OF_BASE: Final = Selection(systems="GRESJCI", elevation_mask=float(np.radians(5.0)))
_SHARE_MIN: Final = 256
"""Epochs of a base that are worth a thread of their own."""
_PART: Final = 512
"""Epochs of a rover that are followed at once."""
_NOWHERE: Final = np.full(3, np.nan)


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
    """What a base saw beyond its model, by satellite and signal, at one epoch or at many (c epochs, k rows).

    Attributes:
        time_ns: (c,) int64, the base's time tags.
        position_ecef_m: (3,) of the base.
        first: (c + 1,) int64, first row of each epoch.
        count: (c,) int64, rows of each epoch.
        key: (k,) int64, satellite * SIGNAL_COUNT + signal, in order within an epoch.
        rows: (k, 3) measured less modelled pseudorange (m), the base's clock included; the same of the carrier,
            ambiguity included, NaN where there is none; for how long the carrier has been locked (s).
        index_of: (c, SATELLITE_COUNT) int32, ephemeris of each satellite; negative: none.
    """

    time_ns: NDArray[np.int64]
    position_ecef_m: NDArray[np.float64]
    first: NDArray[np.int64]
    count: NDArray[np.int64]
    key: NDArray[np.int64]
    rows: NDArray[np.float64]
    index_of: NDArray[np.int32]


@dataclass(frozen=True, slots=True)
class DgnssState:
    """What is known of a rover after an epoch.

    Attributes:
        filter: (1,) `solver.kernels.dgnss.FILTER`.
        signals: (b,) int16, signals that have a bias, in the order of the unknowns.
        bias_m: (b,) of these signals, against the first signal ever used.
        covariance: (6 + b, 6 + b) of position, velocity and biases.
        trail_key: (t,) satellite and signal of the last epoch's rows.
        trail: (t, 2) their phases and range rates.
        single: The last fix without corrections.
    """

    filter: NDArray[Any]
    signals: NDArray[np.int16]
    bias_m: NDArray[np.float64]
    covariance: NDArray[np.float64]
    trail_key: NDArray[np.int64]
    trail: NDArray[np.float64]
    single: Fix | None


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
    return _corrections(track([epoch]), position_ecef_m, ephemerides, selection or _OF_BASE, 1)


def _corrections(
    base: Track, position_ecef_m: NDArray[np.float64], ephemerides: Ephemerides, selection: Selection, threads: int
) -> Corrections:
    """Corrections of a base's epochs."""
    m, satellites, signals = len(base.sat), *wanted(selection)
    made = Corrections(
        base.time_ns, position_ecef_m, base.first_row, np.empty(len(base), np.int64), np.empty(m, np.int64),
        np.empty((m, 3)), np.empty((len(base), SATELLITE_COUNT), np.int32),
    )  # fmt: skip

    def part(place: int) -> None:
        some = slice(len(base) * place // threads, len(base) * (place + 1) // threads)
        correct_all(
            base.time_ns[some], base.first_row[some.start : some.stop + 1], base.sat, base.signal, base.frequency_hz,
            base.pseudorange_m, base.phase_cycles, base.lock_s, base.flags, ephemerides.kepler, ephemerides.glonass,
            satellites, signals, position_ecef_m, selection.elevation_mask, made.key, made.rows, made.count[some],
            made.index_of[some],
        )  # fmt: skip

    if threads == 1:
        part(0)
    else:
        with ThreadPoolExecutor(threads, thread_name_prefix="corrections") as pool:
            list(pool.map(part, range(threads)))
    return made


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
    base_of = np.array([0 if corrected else -1])
    follower = _Follower(state, [epoch], corrected or _NONE, base_of, ephemerides, options or DgnssOptions())
    (fix,) = follower.fixes()
    return follower.state(), fix


def advance_all(
    rover: Sequence[Epoch], base: Sequence[Epoch], base_of: NDArray[np.int64], base_ecef_m: NDArray[np.float64],
    ephemerides: Ephemerides, options: DgnssOptions,
) -> Iterator[Fix]:  # fmt: skip
    """The fixes of a recording, as `advance` makes them from epoch to epoch.

    Args:
        rover: Epochs, in order of time.
        base: Epochs.
        base_of: (rover epochs,) which of them is the latest at each of the rover's; negative: there is none.
        base_ecef_m: (3,) antenna of the base.
        ephemerides: Broadcast orbits and clocks.
        options: How to solve.
    """
    if not rover:
        return
    needed = np.unique(base_of[base_of >= 0])
    corrected = _NONE
    if len(needed):
        threads = min(os.cpu_count() or 1, max(len(needed) // _SHARE_MIN, 1))
        table = track([base[place] for place in needed.tolist()])
        corrected = _corrections(table, base_ecef_m, ephemerides, _OF_BASE, threads)
    place_of = np.where(base_of >= 0, np.searchsorted(needed, base_of), -1)
    yield from _Follower(None, rover, corrected, place_of, ephemerides, options).fixes()


_NONE: Final = Corrections(
    np.empty(0, np.int64), _NOWHERE, np.zeros(1, np.int64), np.empty(0, np.int64), np.empty(0, np.int64),
    np.empty((0, 3)), np.empty((0, SATELLITE_COUNT), np.int32),
)  # fmt: skip


def _ahead(parts: Iterator[tuple[range, list[Fix]]]) -> Iterator[tuple[range, list[Fix]]]:
    """Let a thread work parts out, ahead of who takes them.

    Another always waits there already: the thread goes on without waiting for the interpreter to be let go of.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="dgnss") as pool:
        coming = deque(pool.submit(next, parts, None) for _ in range(2))
        while (part := coming.popleft().result()) is not None:
            coming.append(pool.submit(next, parts, None))
            yield part


class _Follower:
    """A rover on its way through some epochs."""

    def __init__(
        self, state: DgnssState | None, rover: Sequence[Epoch], corrected: Corrections, base_of: NDArray[np.int64],
        ephemerides: Ephemerides, options: DgnssOptions,
    ) -> None:  # fmt: skip
        self._rover, self._table = rover, track(rover)
        self._corrected, self._base_of, self._ephemerides, self._options = corrected, base_of, ephemerides, options
        self._points = np.empty(len(rover), POINT)
        self._used = np.empty((len(rover), SATELLITE_COUNT), np.bool_)
        self._single = state.single if state else None
        # Room for all signals and rows that may come.
        known = state.signals if state else np.empty(0, np.int16)
        signals = len(np.union1d(known, self._table.signal))
        rows = int(np.diff(self._table.first_row).max())
        self._filter = state.filter.copy() if state else np.zeros(1, FILTER)
        self._signals, self._bias_m = np.zeros(signals, np.int16), np.zeros(signals)
        self._covariance = np.zeros((BIASES + signals, BIASES + signals))
        self._trail_key = np.empty(max(rows, len(state.trail_key) if state else 0), np.int64)
        self._trail = np.empty((len(self._trail_key), 2))
        if state:
            self._signals[: len(known)], self._bias_m[: len(known)] = known, state.bias_m
            self._covariance[: len(state.covariance), : len(state.covariance)] = state.covariance
            self._trail_key[: len(state.trail_key)], self._trail[: len(state.trail)] = state.trail_key, state.trail

    def state(self) -> DgnssState | None:
        """What is known now."""
        if not self._filter[0]["known"]:
            return None
        b, t = int(self._filter[0]["biases"]), int(self._filter[0]["trail"])
        return DgnssState(
            self._filter, self._signals[:b].copy(), self._bias_m[:b].copy(),
            self._covariance[: BIASES + b, : BIASES + b].copy(), self._trail_key[:t].copy(), self._trail[:t].copy(),
            self._single,
        )  # fmt: skip

    def fixes(self) -> Iterator[Fix]:
        """A fix of each epoch."""
        parts = self._parts()
        for solved, alone in _ahead(parts) if len(self._rover) > _PART else parts:
            yield from map(self._fix, solved)
            yield from alone

    def _parts(self) -> Iterator[tuple[range, list[Fix]]]:
        """Go on; the epochs that the kernel has solved, and the fix of one at which it has stopped."""
        count, done = len(self._rover), 0
        while done < count:
            first, end = done, min(done + _PART, count)
            stop = self._follow(first, end, FOLLOW, _NOWHERE)
            alone = [self._alone(stop)] if stop < end else []
            done = stop + len(alone)
            yield range(first, stop), alone

    def _follow(self, first: int, stop: int, how: int, start_m: NDArray[np.float64]) -> int:
        """Let the kernel follow the rover; the epoch that it went to, exclusive, is returned."""
        table, made, spp = self._table, self._corrected, self._options.spp
        options = np.array((spp.selection.elevation_mask, self._options.age_max_s, self._options.acceleration_mps2))
        return follow(
            first, stop, how, table.time_ns, table.first_row, table.sat, table.signal, table.frequency_hz,
            table.pseudorange_m, table.phase_cycles, table.doppler_hz, table.cn0_dbhz, table.lock_s, table.flags,
            self._ephemerides.kepler, self._ephemerides.glonass, *wanted(spp.selection), self._base_of, made.time_ns,
            made.first, made.count, made.key, made.rows, made.index_of, made.position_ecef_m, options, start_m,
            self._filter, self._signals, self._bias_m, self._covariance, self._trail_key, self._trail, self._points,
            self._used,
        )  # fmt: skip

    def _alone(self, k: int) -> Fix:
        """The fix of an epoch at which the kernel has stopped."""
        epoch, spp, base = self._rover[k], self._options.spp, int(self._base_of[k])
        age_s = (epoch.time_ns - int(self._corrected.time_ns[base])) * 1e-9 if base >= 0 else math.inf
        if not abs(age_s) <= self._options.age_max_s:
            why = "no corrections" if base < 0 else f"corrections are {age_s:.0f} s old"
            fix = solve(epoch, self._ephemerides, spp, self._single)
            return replace(fix, reason="; ".join(filter(None, (why, fix.reason))))
        single = solve(epoch, self._ephemerides, spp, self._single, self._corrected.index_of[base])
        self._single = single if single.quality else self._single
        if self._is_followed(epoch.time_ns):
            if self._filter[0]["lost"] >= LOST_EPOCHS and self._found(k, single):
                return self._fix(k)
            self._follow(k, k + 1, PERSIST, _NOWHERE)
        else:
            self._filter[0]["known"], self._bias_m[:] = False, 0.0
            if not single.quality:
                return single
            self._follow(k, k + 1, ANEW, single.position_ecef_m)
        point = self._points[k]
        if point["status"] == SOLVED:
            return self._fix(k)
        few = f"{point['detail']:.0f} satellites in common with the base"
        return replace(single, reason=few if point["status"] == TOO_FEW else "the geometry is singular")

    def _is_followed(self, time_ns: int) -> bool:
        """Whether the state is one that an epoch can follow."""
        return bool(self._filter[0]["known"]) and 0 < time_ns - int(self._filter[0]["time_ns"]) < GAP_NS

    def _found(self, k: int, single: Fix) -> bool:
        """Begin anew if the codes of a new position agree: either the position was wrong or most codes are."""
        kept = (self._filter, self._signals, self._bias_m, self._covariance, self._trail_key, self._trail)
        copies = [array.copy() for array in kept]
        start_m = single.position_ecef_m if single.quality else self._filter[0]["position_ecef_m"].copy()
        self._follow(k, k + 1, ANEW, start_m)
        point, share = self._points[k], float(self._filter[0]["share"])
        if point["status"] == SOLVED and share > _FOUND_SHARE and point["count"] >= _FOUND_SATELLITES:
            self._filter[0]["lost"] = 0
            return True
        for array, copy in zip(kept, copies, strict=True):
            array[...] = copy
        return False

    def _fix(self, k: int) -> Fix:
        """The fix of an epoch that was solved."""
        point, time_ns = self._points[k], int(self._table.time_ns[k])
        return Fix(
            time_ns, Quality.DGNSS, position_ecef_m=point["position_ecef_m"],
            position_covariance_m2=point["position_covariance_m2"], velocity_ecef_mps=point["velocity_ecef_mps"],
            velocity_covariance_m2s2=point["velocity_covariance_m2s2"],
            satellites=np.flatnonzero(self._used[k]).astype(np.int16),
            age_s=abs(time_ns - int(self._corrected.time_ns[self._base_of[k]])) * 1e-9,
            hpl_m=float(point["hpl_m"]), vpl_m=float(point["vpl_m"]), dop=point["dop"],
        )  # fmt: skip
