"""Recordings as epochs: RINEX, CRINEX and RTCM 3 files (also where RTCM lies in a receiver's own log), unpacked or not.

What a file is shows in its first bytes, never in its name. Whatever ephemerides it holds go to a pool that all files of
a session share, so that one which has none (a base's stream) is served by another (the rover's, a navigation file).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from caster.codec.rinex.navigation import read_navigation
from caster.codec.rinex.observation import ObservationFile
from caster.codec.rtcm.framing import FrameReader
from caster.epochs import EpochAssembler
from caster.errors import FormatError, SourceError
from caster.tracking import new_channels
from solver.ephemeris import EphemerisStore
from solver.model import Epoch
from solver.signals import GLONASS, PRN_PER_SYSTEM
from stations.compressed import read_plain

__all__ = ["Recording", "Session"]

_RECORDS_PER_SATELLITE = 2_000
"""A day of Galileo at ten minutes in two messages is 300; a week of files still fits."""
_RINEX_LABEL = b"RINEX VERSION / TYPE"
_PIECE = 1 << 20
_T = TypeVar("_T")


@dataclass(slots=True)
class Recording:
    """What one receiver recorded.

    Attributes:
        epochs: In order of time.
        position_ecef_m: (3,) antenna, by 1005, 1006 or the RINEX header; NaN where it is not told.
        surveyed: Whether the position is a service's (RTCM) rather than a header's, which may be metres off.
        warnings: What was wrong with the files.
    """

    epochs: list[Epoch] = field(default_factory=list)
    position_ecef_m: NDArray[np.float64] = field(default_factory=lambda: np.full(3, np.nan))
    surveyed: bool = False
    warnings: list[str] = field(default_factory=list)


class Session:
    """Files of one session, with the ephemerides and GLONASS channels that they share.

    Attributes:
        ephemerides: All that were found so far.
        warnings: What was wrong with the navigation files.
    """

    def __init__(self) -> None:
        self.ephemerides = EphemerisStore(_RECORDS_PER_SATELLITE)
        self.warnings: list[str] = []
        self._channels = new_channels()

    def read_navigation(self, path: Path) -> None:
        """Take the ephemerides of a file, whatever else it holds.

        Raises:
            DipperError: the file cannot be read, or holds none.
        """
        data = read_plain(path)
        before = len(self.ephemerides)
        if _is_rinex(data):
            navigation = _named(path, read_navigation, data)
            self.ephemerides.update(navigation.ephemerides)
            self.warnings += [f"{path}: {warning}" for warning in navigation.warnings]
        else:
            self._read_rtcm(data, Recording(), None)
        if len(self.ephemerides) == before:
            raise SourceError(f"{path}: no ephemerides in it")
        for record in self.ephemerides.snapshot().glonass:
            if record["sat"] // PRN_PER_SYSTEM == GLONASS:
                self._channels[record["sat"] % PRN_PER_SYSTEM] = record["channel"]

    def read(self, paths: list[Path], stated_ns: int | None = None) -> Recording:
        """Read the files of one receiver.

        Args:
            paths: Files, in any order.
            stated_ns: An instant within half a week of them, for streams that do not tell the week.

        Raises:
            DipperError: a file cannot be read, or no observations are in any of them.
        """
        recording = Recording()
        for path in paths:
            data = read_plain(path)
            if _is_rinex(data):
                self._read_rinex(path, data, recording)
            else:
                self._read_rtcm(data, recording, stated_ns)
        if not recording.epochs:
            raise SourceError(
                f"{', '.join(map(str, paths))}: no observations of RINEX or RTCM 3 (MSM4 to 7, 1001 to 1012)"
            )
        recording.epochs.sort(key=lambda epoch: epoch.time_ns)
        return recording

    def _read_rinex(self, path: Path, data: bytes, recording: Recording) -> None:
        """Take the epochs of a RINEX file; a navigation file among the observations gives its ephemerides."""
        if data[20:21] in b"NGH" and data[20:21]:
            self.read_navigation(path)
            return
        file = _named(path, ObservationFile, data)
        known = {slot + 1: int(channel) for slot, channel in enumerate(self._channels) if -7 <= channel <= 6}
        recording.epochs += list(file.epochs(known))
        recording.warnings += [f"{path}: {warning}" for warning in file.warnings]
        position = file.header.position_ecef_m
        if np.isfinite(position).all() and not recording.surveyed:
            recording.position_ecef_m = position

    def _read_rtcm(self, data: bytes, recording: Recording, stated_ns: int | None) -> None:
        """Take the epochs, the ephemerides and the position of an RTCM 3 stream."""
        reader = FrameReader()
        assembler = EpochAssembler(stated_ns, ephemerides=self.ephemerides, channels=self._channels)
        for start in range(0, len(data), _PIECE):
            for frame in reader.feed(data[start : start + _PIECE]):
                recording.epochs += assembler.push(frame)
        for frame in reader.finish():
            recording.epochs += assembler.push(frame)
        recording.epochs += assembler.finish()
        if np.isfinite(assembler.station.position_ecef_m).all():
            recording.position_ecef_m, recording.surveyed = assembler.station.position_ecef_m, True
        if assembler.counters.undated:
            recording.warnings.append(f"{assembler.counters.undated} messages of a date that no message tells")


def _is_rinex(data: bytes) -> bool:
    """Whether a file's first line is that of a RINEX file."""
    return _RINEX_LABEL in data[:200]


def _named(path: Path, reader: Callable[[bytes], _T], data: bytes) -> _T:
    """Call a reader, and name the file in its complaint."""
    try:
        return reader(data)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
