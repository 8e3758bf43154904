"""What the service knows of one station: where it stands, what it measured last, and whether it can be used.

A station's own message (RTCM 1005, 1006) says where it stands, and it may be wrong: real stations send zeros, move by
tens of metres within a day, or keep another site's coordinates. So a place off the earth's surface is refused, a change
is counted and drops the epochs measured before it, and a place that the station's own observations contradict makes it
unhealthy until they agree.
"""

from collections import deque
from typing import Final

import numpy as np
from numpy.typing import NDArray

from solver.base_stream import BaseStream
from solver.dgnss import Corrections, corrections
from solver.model import Ephemerides, Epoch
from solver.timescale import NS

__all__ = ["EPOCHS_MAX", "FRAME_AGE_MAX_S", "BaseEpoch", "StationInfo"]

EPOCHS_MAX: Final = 600
"""Epochs kept of a station that is decoded: a recording that a rover uploads may have been started minutes later."""
FRAME_AGE_MAX_S: Final = 15.0
"""A station that has been silent for longer serves nobody; slow stations send every 10 s."""
EARTH_RADIUS_M: Final = (6_340_000.0, 6_400_000.0)
"""Distances from the earth's centre at which an antenna can stand, with some kilometres to spare."""
MOVE_MIN_M: Final = 0.001
"""Coordinates come in steps of 0.1 mm; less than this is no move."""
OWN_POSITION_LIMIT_M: Final = 100.0
"""A single point solution of an undisturbed station is good to some metres, a survey-in to some ten."""
OWN_POSITION_STRIKES: Final = 3
"""One solution may be wrong; so many in turn are not."""


class BaseEpoch:
    """An epoch of a station and the place that it was measured at; what rovers need of it is computed once for all.

    Attributes:
        epoch: Observations.
        position_ecef_m: (3,) of the antenna reference point.
        station_id: RTCM station id.
    """

    __slots__ = ("_corrections", "epoch", "position_ecef_m", "station_id")

    def __init__(self, epoch: Epoch, position_ecef_m: NDArray[np.float64], station_id: int) -> None:
        self.epoch = epoch
        self.position_ecef_m = position_ecef_m
        self.station_id = station_id
        self._corrections: tuple[Ephemerides, Corrections] | None = None

    def corrections(self, ephemerides: Ephemerides) -> Corrections:
        """Its code corrections by these ephemerides.

        Solver threads call it: where two of them find none, both compute the same, and either is kept.
        """
        made = self._corrections
        if made is None or made[0] is not ephemerides:
            made = ephemerides, corrections(self.epoch, self.position_ecef_m, ephemerides)
            self._corrections = made
        return made[1]


class StationInfo:
    """One station's place, latest epochs and health.

    Attributes:
        name: Of its mountpoint.
        position_ecef_m: (3,) antenna reference point, as the station says; None: not said yet.
        station_id: RTCM station id of its last position.
        moves: How often it has said another place than before.
        positions_refused: How often it has said a place where no antenna can stand.
        epochs_seen: Epochs decoded.
    """

    __slots__ = (
        "_epochs",
        "_frame_s",
        "_lossy",
        "_strikes",
        "epochs_seen",
        "moves",
        "name",
        "position_ecef_m",
        "positions_refused",
        "station_id",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.position_ecef_m: NDArray[np.float64] | None = None
        self.station_id = 0
        self.moves = 0
        self.positions_refused = 0
        self.epochs_seen = 0
        self._epochs: deque[BaseEpoch] = deque()
        self._lossy = BaseStream()
        self._frame_s = -np.inf
        self._strikes = 0

    def take_frame(self, now_s: float) -> None:
        """Note that the station is alive."""
        self._frame_s = now_s

    def take_position(self, position_ecef_m: NDArray[np.float64], station_id: int) -> bool:
        """Take the place that the station says; whether it is a new one."""
        self.station_id = station_id
        if not EARTH_RADIUS_M[0] < float(np.linalg.norm(position_ecef_m)) < EARTH_RADIUS_M[1]:
            self.positions_refused += 1
            return False
        if self.position_ecef_m is not None:
            if float(np.linalg.norm(position_ecef_m - self.position_ecef_m)) < MOVE_MIN_M:
                return False
            self.moves += 1
            self.forget_epochs()
        self._strikes = 0
        self.position_ecef_m = np.array(position_ecef_m, np.float64)
        return True

    def take_epoch(self, epoch: Epoch, ephemerides: Ephemerides, epochs_max: int = EPOCHS_MAX) -> None:
        """Keep an epoch, if it is known where it was measured, and at most so many.

        Systems whose messages were lost are carried on from the seconds before. An epoch that is older than the last
        comes from a restarted stream, and what is kept is dropped.
        """
        self.epochs_seen += 1
        if self._epochs and epoch.time_ns <= self._epochs[-1].epoch.time_ns:
            self.forget_epochs()
        if self.position_ecef_m is not None:
            whole = self._lossy.complete(epoch, self.position_ecef_m, ephemerides)
            self._epochs.append(BaseEpoch(whole, self.position_ecef_m, self.station_id))
        while len(self._epochs) > epochs_max:
            self._epochs.popleft()

    def take_own_position(self, solved_ecef_m: NDArray[np.float64]) -> bool:
        """Compare the place that the station says with one solved from its observations; whether they agree."""
        if self.position_ecef_m is None:
            return True
        agrees = float(np.linalg.norm(solved_ecef_m - self.position_ecef_m)) <= OWN_POSITION_LIMIT_M
        self._strikes = 0 if agrees else self._strikes + 1
        return agrees

    def epoch_for(self, time_ns: int, age_max_s: float) -> BaseEpoch | None:
        """The latest epoch that is not later than an instant, or else the first later one, within `age_max_s`."""
        chosen = None
        for held in reversed(self._epochs):
            chosen = held
            if held.epoch.time_ns <= time_ns:
                break
        if chosen is None or abs(time_ns - chosen.epoch.time_ns) > age_max_s * NS:
            return None
        return chosen

    def last_epoch(self) -> Epoch | None:
        """The latest epoch; None: the station is not decoded, or has measured nothing yet."""
        return self._epochs[-1].epoch if self._epochs else None

    def forget_epochs(self) -> None:
        """Drop the epochs, as nobody needs them any more."""
        self._epochs.clear()
        self._lossy = BaseStream()

    def fault(self, now_s: float) -> str:
        """Why the station cannot serve rovers; empty where it can."""
        if now_s - self._frame_s > FRAME_AGE_MAX_S:
            return "silent"
        if self.position_ecef_m is None:
            return "says a place off the earth's surface" if self.positions_refused else "has not said where it stands"
        if self._strikes >= OWN_POSITION_STRIKES:
            return f"stands over {OWN_POSITION_LIMIT_M:.0f} m from where it says"
        return ""
