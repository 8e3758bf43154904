"""Recordings cut into epochs, truth, and what NMEA says of a position, for tests that replay them."""

import math
from pathlib import Path

import numpy as np
from pynmeagps import NMEAReader

from caster.traffic import ends_epoch
from solver.kernels.geodesy import ecef_from_geodetic, enu_axes, geodetic_from_ecef
from tests.captures import frames_of

STROMLO_ROVER_ECEF_M = np.array([-4467074.3577, 2683011.9038, -3667008.2845])
NAGOYA_ROVER_ECEF_M = np.array([-3817681.3800, 3562839.9783, 3650158.3757])


def epochs_of(path: Path) -> list[bytes]:
    """An RTCM 3 recording, the frames of each epoch and what lies between joined."""
    epochs, frames = [], []
    for frame in frames_of(path):
        frames.append(frame)
        if ends_epoch(frame):
            epochs.append(b"".join(frames))
            frames = []
    return epochs


def stromlo(shared_data: Path, receiver: str) -> list[bytes]:
    """The epochs of "STR17" (base) or "STR24" (rover, 70 m away)."""
    return epochs_of(shared_data / "str-stromlo-70m" / f"week-rollover-{receiver}.rtcm3.gz")


def messages(data: bytes, kind: str) -> list:
    """The NMEA messages of a kind, as pynmeagps reads them; it raises for a wrong checksum."""
    lines = [line + b"\r\n" for line in data.split(b"\r\n") if line[3:6] == kind.encode()]
    return [NMEAReader.parse(line) for line in lines]


def errors_enu_m(data: bytes, truth_ecef_m, quality: int | None = None):
    """East, north and up errors (n, 3) of the GGA sentences that have a position, of one quality or any."""
    lat, lon, _ = geodetic_from_ecef(*truth_ecef_m.tolist())
    axes = np.empty((3, 3))
    enu_axes(lat, lon, axes)
    places = [
        ecef_from_geodetic(math.radians(gga.lat), math.radians(gga.lon), float(gga.alt + gga.sep))
        for gga in messages(data, "GGA")
        if gga.quality and quality in (None, gga.quality)
    ]
    return (np.array(places).reshape(-1, 3) - truth_ecef_m) @ axes.T
