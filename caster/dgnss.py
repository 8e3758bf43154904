"""The open `dgnss` service: the corrections of the nearest healthy station, for everybody.

A rover follows the fan-out of a station's own mountpoint, so a thousand rovers of one station cost what they would cost
there, and the station's 1005/1006 and 1033 come first whenever a rover is moved to another. A GGA sentence is optional:
without one the first healthy station in the order of names serves. Where no station is healthy the rover stays
connected and is served as soon as one is.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from caster.codec.ntrip import Gga
from caster.config import MountConfig
from caster.engine import Engine
from caster.mountpoints import Mountpoint, Mountpoints, Rover
from solver.kernels.geodesy import ecef_from_geodetic

__all__ = ["MOVED_MIN_M", "DgnssMountpoint", "place_of"]

MOVED_MIN_M = 100.0
"""A rover that moved by less is not looked at again: well below the hysteresis, and cheap at 10 Hz."""


@dataclass(slots=True)
class _Served:
    """A rover, its station, and where it last said that it is."""

    rover: Rover
    station: str | None = None
    place_ecef_m: NDArray[np.float64] | None = None


def place_of(gga: Gga | None) -> NDArray[np.float64] | None:
    """Where a GGA sentence says that a rover is, (3,) ECEF m; None where it does not."""
    if gga is None or gga.latitude_deg is None or gga.longitude_deg is None:
        return None
    latitude_rad, longitude_rad = np.radians((gga.latitude_deg, gga.longitude_deg)).tolist()
    return np.array(ecef_from_geodetic(latitude_rad, longitude_rad, float(gga.height_m)))


class DgnssMountpoint(Mountpoint):
    """A mountpoint that hands each rover the nearest healthy station's stream.

    Attributes:
        switches: How often a rover was moved from one station to another.
    """

    def __init__(self, engine: Engine, config: MountConfig, mountpoints: Mountpoints) -> None:
        super().__init__(config, mountpoints)
        self.switches = 0
        self._engine = engine
        self._rovers: dict[int, _Served] = {}
        engine.on_map.append(self._serve_all)

    @property
    def is_live(self) -> bool:
        """Some station is healthy."""
        return len(self._engine.stations_map) > 0

    @property
    def refusal(self) -> str:
        """No station is healthy; one that has just begun has yet to say where it stands."""
        why = "is offline: no station is healthy (each has to send, and to say where it stands in 1005 or 1006)"
        return "" if self.is_live else why

    def on_subscribe(self, rover: Rover) -> None:
        """A rover comes, with its place in the request's head or without."""
        self._rovers[rover.number] = served = _Served(rover, place_ecef_m=place_of(rover.gga))
        self._serve(served)

    def on_gga(self, rover: Rover, gga: Gga) -> None:
        """A rover says where it is."""
        served, place = self._rovers.get(rover.number), place_of(gga)
        if served is None or place is None:
            return
        moved = served.place_ecef_m is None or float(np.linalg.norm(place - served.place_ecef_m)) > MOVED_MIN_M
        if moved:
            served.place_ecef_m = place
            self._serve(served)

    def on_leave(self, rover: Rover) -> None:
        """A rover has gone."""
        self._rovers.pop(rover.number, None)

    def close(self) -> None:
        """Let go of the engine."""
        self._engine.on_map.remove(self._serve_all)

    @property
    def rover_count(self) -> int:
        """Rovers that it has, served or waiting."""
        return len(self._rovers)

    def station_of(self, rover: Rover) -> str | None:
        """The station that serves a rover."""
        served = self._rovers.get(rover.number)
        return served.station if served else None

    def _serve_all(self) -> None:
        """Stations came, went, moved or changed their health."""
        for served in self._rovers.values():
            self._serve(served)

    def _serve(self, served: _Served) -> None:
        chosen = self._engine.stations_map.choose(served.place_ecef_m, served.station)
        if chosen == served.station:
            return
        mountpoint = self.mountpoints.get(chosen) if chosen is not None else None
        self.switches += served.station is not None and mountpoint is not None
        served.station = chosen
        served.rover.follow(mountpoint.mount if mountpoint is not None else None)
