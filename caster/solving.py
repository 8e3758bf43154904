"""One rover's epochs to positions, in the solver's threads: by its carriers, by its codes, or alone.

Near a base (`REACH_M`) the filter of `solver.rtk` answers, which has the codes' position in it: fixed where the
integers are known, float before. Where it has nothing, or nothing better than codes have, and where only codes are
asked for, `solver.dgnss` does; without a base, it positions the rover alone.

Rules: a rover's `RoverSolver` is used by one thread at a time, a `Workspace` by one thread alone. Between epochs a
rover's filter is folded: thousands of them are held. What was learnt with one base is of no use with another.
"""

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from enum import IntEnum
from typing import Final

import numpy as np

from caster.stationinfo import BaseEpoch
from caster.workers import Workers
from solver import dgnss, rtk
from solver.model import SLIP, Ephemerides, Epoch, Fix, Quality
from solver.timescale import NS

__all__ = ["AGE_MAX_S", "Carriers", "Effort", "RoverSolver"]

AGE_MAX_S: Final = 30.0
"""Oldest corrections used: they drift by centimetres in this time."""
REACH_M: Final = 110e3
"""How far a base may be for carriers to be worth their time: the farthest that is measured, 101 km
(`bench/results/rtk.md`); integers take minutes there."""
FLOAT_SIGMA_MAX_M: Final = 2.0
"""A float solution that knows itself less well is no better than codes, which are not thrown off by carriers."""
_CODES: Final = dgnss.DgnssOptions(age_max_s=AGE_MAX_S)
_CARRIERS: Final = rtk.RtkOptions(age_max_s=AGE_MAX_S)


class Effort(IntEnum):
    """What is made of an epoch for which there is a base."""

    CODES = 0
    """Codes, smoothed by how the carriers move: sub-metre positions."""
    HASTE = 1
    """The codes of this epoch alone, as there is no time for its carriers."""
    CARRIERS = 2
    """Integers, and centimetres where they are found."""


class Carriers:
    """What carriers are followed with: kernels that have been loaded, and a workspace for each thread.

    Args:
        workers: Where kernels are loaded.
        load: Loads them.

    Attributes:
        compiled: There are compiled kernels to be loaded in a moment; whoever starts the service says so. Until then
            rovers get positions by codes, and nobody waits for a compiler.
    """

    def __init__(self, workers: Workers, load: Callable[[], object]) -> None:
        self.compiled = False
        self._workers = workers
        self._load = load
        self._is_loading = False
        self._are_loaded = False
        self._own = threading.local()

    def are_ready(self) -> bool:
        """Whether the kernels are there; the first to ask lets a thread load them, once they are compiled."""
        if self.compiled and not self._is_loading:
            self._is_loading = True
            self._workers.submit("kernels", self._load, self._on_loaded)
        return self._are_loaded

    def workspace(self) -> rtk.Workspace:
        """That of the present thread."""
        if not hasattr(self._own, "workspace"):
            self._own.workspace = rtk.Workspace()
        workspace: rtk.Workspace = self._own.workspace
        return workspace

    def _on_loaded(self, _: object) -> None:
        self._are_loaded = True


class RoverSolver:
    """What is known of one rover.

    Args:
        carriers: Kernels and workspaces.
    """

    def __init__(self, carriers: Carriers) -> None:
        self._carriers = carriers
        self._coded: dgnss.DgnssState | None = None
        self._filter: rtk.RtkState | None = None
        self._base: tuple[int, list[float]] = (-1, [])
        self._followed_ns = -1
        self._place_m: list[float] | None = None

    def solve(
        self, epoch: Epoch, before_ns: int, base: BaseEpoch | None, ephemerides: Ephemerides, effort: Effort
    ) -> Fix:
        """Position one epoch.

        Args:
            epoch: Observations.
            before_ns: The rover's epoch before, which its slips are told since; it may not have come here.
            base: The base's latest epoch; None: there is none.
            ephemerides: Broadcast orbits and clocks.
            effort: What to make of it.
        """
        fix = None
        if effort is not Effort.CODES and base is not None and self._is_near(base):
            fix = self._relative(epoch, before_ns, base, ephemerides, effort)
        if fix is None:
            corrected = base.corrections(ephemerides) if base is not None else None
            self._coded, fix = dgnss.advance(self._coded, epoch, corrected, ephemerides, _CODES)
        if fix.quality:
            self._place_m = fix.position_ecef_m.tolist()
        return fix

    def _is_near(self, base: BaseEpoch) -> bool:
        return self._place_m is not None and math.dist(self._place_m, base.position_ecef_m.tolist()) < REACH_M

    def _relative(
        self, epoch: Epoch, before_ns: int, base: BaseEpoch, ephemerides: Ephemerides, effort: Effort
    ) -> Fix | None:
        """The position relative to the base; None where codes by themselves are better."""
        workspace, state = self._carriers.workspace(), self._state_for(epoch, base)
        given = (state, epoch, base.epoch, base.position_ecef_m, ephemerides, _CARRIERS, workspace)
        state.unfold(workspace)
        if effort is Effort.HASTE:
            fix = rtk.process_codes(*given)
        else:
            if before_ns > self._followed_ns:
                given = (state, _bridged(epoch, self._followed_ns), *given[2:])
            fix = rtk.process(*given)
            self._followed_ns = epoch.time_ns
        state.fold()
        if not fix.quality or (fix.quality is Quality.FLOAT and not _is_sure(fix)):
            return None
        self._coded = None
        return replace(fix, age_s=-fix.age_s) if fix.age_s < 0 else fix

    def _state_for(self, epoch: Epoch, base: BaseEpoch) -> rtk.RtkState:
        """The filter, a new one for another base or another place of it, and where time has gone back."""
        told = base.station_id, base.position_ecef_m.tolist()
        if self._filter is None or told != self._base or epoch.time_ns <= self._followed_ns:
            self._filter, self._base, self._followed_ns = rtk.RtkState(), told, -1
            self._filter.fold()
        return self._filter


def _is_sure(fix: Fix) -> bool:
    return float(np.trace(fix.position_covariance_m2)) < FLOAT_SIGMA_MAX_M**2


def _bridged(epoch: Epoch, since_ns: int) -> Epoch:
    """An epoch as it is seen from one that others were left out after: what slipped in them, slips now."""
    if since_ns < 0:
        return epoch
    spans = epoch.lock_s * NS >= epoch.time_ns - since_ns
    return replace(epoch, flags=epoch.flags | np.where(spans, 0, SLIP).astype(np.uint8))
