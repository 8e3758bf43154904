"""Recorded observations as an RTCM 3 stream: what a base station that made the recording would have sent.

Each epoch becomes MSM7. The station's position and equipment (1006, 1033) come first and every ten seconds; broadcast
ephemerides (1019, 1020, 1042, 1044 to 1046) of the satellites in view at the start, when they change, and every minute.
Messages that RTCM 3 cannot hold (CNAV and its kin) are left out.
"""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from caster.codec.rtcm import MsmEncoder
from caster.codec.rtcm.ephemeris import from_record
from caster.codec.rtcm.messages import Message, encode
from caster.epochs import StationDescription
from caster.errors import LocalProtocolError
from solver.model import Ephemerides, Epoch
from solver.signals import GLONASS, PRN_PER_SYSTEM
from solver.timescale import NS

__all__ = ["encode_epochs", "navigation_beside", "station_frames"]

STATION_EVERY_NS: Final = 10 * NS
EPHEMERIDES_EVERY_NS: Final = 60 * NS
EPHEMERIS_AGE_MAX_NS: Final = 4 * 3600 * NS
"""Beyond this from its reference time no satellite still sends an ephemeris."""
GAP_MAX_S: Final = 3600.0
_HEIGHT_MAX_M: Final = 6.5535
_TEXT_MAX: Final = 31
_COMPRESSED: Final = re.compile(r"\.(gz|xz|bz2|zip|z)$", re.IGNORECASE)
_NAVIGATION: Final = re.compile(r"\.nav$|\.\d\d[nglpqfh]$|_[GRECJIM]N\.rnx$", re.IGNORECASE)


def encode_epochs(
    epochs: Iterable[Epoch], station: StationDescription, ephemerides: Ephemerides
) -> Iterator[tuple[float, bytes]]:
    """Seconds since the first epoch, and the frames of each epoch.

    Args:
        epochs: In order of time; a step backwards or of more than an hour is not waited for.
        station: What to send in 1006 and 1033; nothing where its position is not known.
        ephemerides: What to choose the satellites' ephemerides from.
    """
    encoder = MsmEncoder(station.station)
    fixed = b"".join(station_frames(station))
    chooser = _Chooser(ephemerides)
    elapsed_s, last_ns, station_ns = 0.0, None, None
    for epoch in epochs:
        step_s = 0.0 if last_ns is None else (epoch.time_ns - last_ns) / NS
        elapsed_s += step_s if 0 < step_s <= GAP_MAX_S else 0.0
        last_ns = epoch.time_ns
        frames = [b"".join(encoder.encode(epoch))]
        if station_ns is None or not 0 <= epoch.time_ns - station_ns < STATION_EVERY_NS:
            frames.insert(0, fixed)
            station_ns = epoch.time_ns
        frames.append(chooser.frames(epoch))
        yield elapsed_s, b"".join(frames)


def station_frames(station: StationDescription) -> list[bytes]:
    """Messages 1006 and 1033 of a station; none where its position is not known."""
    if not np.isfinite(station.position_ecef_m).all():
        return []
    height_m = station.antenna_height_m if 0 <= station.antenna_height_m <= _HEIGHT_MAX_M else 0.0
    x_m, y_m, z_m = station.position_ecef_m.tolist()
    position = {
        "station": station.station, "itrf_year": 0, "gps": 1, "glonass": 1, "galileo": 1,
        "virtual": int(station.virtual), "x_m": x_m, "single_oscillator": 1, "reserved": 0, "y_m": y_m,
        "quarter_cycle": 0, "z_m": z_m, "antenna_height_m": height_m,
    }  # fmt: skip
    texts = ("antenna", "antenna_serial", "receiver", "firmware", "receiver_serial")
    described: dict[str, Any] = {name: _ascii(getattr(station, name)) for name in texts}
    described |= {"station": station.station, "antenna_setup": 0}
    return [encode(Message(1006, position)), encode(Message(1033, described))]


def navigation_beside(path: Path) -> list[Path]:
    """Navigation files in an observation file's folder whose names begin with the same four characters."""
    marker = path.name[:4].lower()
    return sorted(
        other
        for other in path.parent.iterdir()
        if other != path
        and other.name[:4].lower() == marker
        and _NAVIGATION.search(_COMPRESSED.sub("", other.name))
        and other.is_file()
    )


def _ascii(text: str) -> str:
    return text.encode("ascii", "replace").decode()[:_TEXT_MAX]


class _Chooser:
    """Chooses which ephemerides are to be sent with an epoch."""

    def __init__(self, ephemerides: Ephemerides) -> None:
        self._sets: dict[tuple[int, int], list[NDArray[Any]]] = {}
        for record in ephemerides.kepler:
            self._sets.setdefault((int(record["sat"]), int(record["message"])), []).append(record)
        for record in ephemerides.glonass:
            if record["sat"] // PRN_PER_SYSTEM == GLONASS:
                self._sets.setdefault((int(record["sat"]), -1), []).append(record)
        self._sent: dict[tuple[int, int], tuple[int, int]] = {}

    def frames(self, epoch: Epoch) -> bytes:
        """Frames of the ephemerides that are due."""
        seen = set(epoch.sat.tolist())
        due = []
        for key, records in self._sets.items():
            if key[0] not in seen:
                continue
            record = min(records, key=lambda one: abs(int(one["toe_ns"]) - epoch.time_ns))
            toe_ns = int(record["toe_ns"])
            sent_toe_ns, sent_ns = self._sent.get(key, (-1, 0))
            fresh = sent_toe_ns == toe_ns and 0 <= epoch.time_ns - sent_ns < EPHEMERIDES_EVERY_NS
            if abs(toe_ns - epoch.time_ns) <= EPHEMERIS_AGE_MAX_NS and not fresh:
                self._sent[key] = (toe_ns, epoch.time_ns)
                due.append(_frame(record))
        return b"".join(due)


def _frame(record: NDArray[Any]) -> bytes:
    """An ephemeris' frame; empty where RTCM 3 has no message for it or a value does not fit."""
    try:
        return encode(from_record(record))
    except LocalProtocolError:
        return b""
