"""Recordings as epochs: RINEX, CRINEX, RTCM 3, UBX and SBF files, unpacked or not.

What a file is shows in its first bytes, never in its name. A log that holds a receiver's raw measurements and its RTCM
(a u-blox base logs both) is read by what has more epochs. Whatever ephemerides it holds go to a pool that all files of
a session share, so that one which has none (a base's stream) is served by another (the rover's, a navigation file).
"""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from caster.codec import sbf
from caster.codec.sbf_navigation import RAW_NAVIGATION, take_raw
from caster.codec.subframes import SubframeCollector
from caster.codec.ubx import RAW, RAWX, SFRB, SFRBX, SYNC, measured_epoch, ubx_messages
from caster.codec.ubx_navigation import take_bits
from caster.epochs import EpochAssembler, StationDescription
from caster.errors import FormatError, SourceError
from caster.recorded import RecordingAssembler
from caster.tracking import Tracking, new_channels
from solver.ephemeris import EphemerisStore
from solver.kernels.geodesy import enu_axes, geodetic_from_ecef
from solver.model import Epoch
from solver.signals import GLONASS, PRN_PER_SYSTEM
from stations.compressed import Reader, read_plain
from stations.framefiles import DATE_ASSUMED, written_ns

if TYPE_CHECKING:
    from caster.codec.rinex.header import Header

__all__ = ["Recording", "Session", "UndatedError", "station_of_header"]

_RECORDS_PER_SATELLITE = 2_000
"""A day of Galileo at ten minutes in two messages is 300; a week of files still fits."""
_RINEX_LABEL = b"RINEX VERSION / TYPE"
_WARNINGS_MAX = 100
_EARLY_MAX = 1000
"""Navigation messages that are kept until the first epoch tells their date."""
EARTH_RADIUS_MIN_M = 6.3e6
_UBLOX, _SEPTENTRIO = "u-blox", "Septentrio"
"""Makes of the receivers that a log of their own messages is of."""
_PACKED: Final = "its observations are in SBF's Meas3 blocks, which are not read: let the receiver log MeasEpoch"
_DATE_BY_OTHERS: Final = "nothing in it says which week it is: taken as that of the other files"
_T = TypeVar("_T")


class UndatedError(SourceError):
    """Observations, but nothing says of which week: it has to be stated."""


@dataclass(slots=True)
class Recording:
    """What one receiver recorded.

    Attributes:
        epochs: In order of time.
        station: Station, antenna and receiver, as the files tell.
        position_ecef_m: (3,) antenna reference point, by 1005, 1006 or the RINEX header; NaN where it is not told.
        surveyed: Whether the position is a service's (RTCM) rather than a header's, which may be metres off.
        warnings: What was wrong with the files.
    """

    epochs: list[Epoch] = field(default_factory=list)
    station: StationDescription = field(default_factory=StationDescription)
    position_ecef_m: NDArray[np.float64] = field(default_factory=lambda: np.full(3, np.nan))
    surveyed: bool = False
    warnings: list[str] = field(default_factory=list)


class Session:
    """Files of one session, with the ephemerides and GLONASS channels that they share.

    Args:
        read: What gives the content of a file, unpacked, and adds to its complaints.

    Attributes:
        ephemerides: All that were found so far.
        warnings: What was wrong with the navigation files.
    """

    def __init__(self, read: Reader = read_plain) -> None:
        self._read_plain = read
        self.ephemerides = EphemerisStore(_RECORDS_PER_SATELLITE)
        self.warnings: list[str] = []
        self._channels = new_channels()
        self._undated = 0
        self._packed = False

    def read_navigation(self, path: Path) -> None:
        """Take the ephemerides of a file, whatever else it holds.

        Raises:
            DipperError: the file cannot be read, or holds none.
        """
        data = self._read_plain(path, self.warnings)
        own = Session()  # what another file has said before counts as well
        own._channels = self._channels
        if _is_rinex(data):
            from caster.codec.rinex.navigation import read_navigation

            navigation = _named(path, read_navigation, data)
            own.ephemerides.update(navigation.ephemerides)
            self.warnings += [f"{path}: {warning}" for warning in navigation.warnings]
        else:
            own._read_stream(path, data, Recording(), None)
        if not len(own.ephemerides):
            raise SourceError(f"{path}: no ephemerides in it")
        self.ephemerides.update(own.ephemerides.snapshot())
        for record in self.ephemerides.snapshot().glonass:
            if record["sat"] // PRN_PER_SYSTEM == GLONASS:
                self._channels[record["sat"] % PRN_PER_SYSTEM] = record["channel"]

    def read(self, paths: list[Path], stated_ns: int | None = None) -> Recording:
        """Read the files of one receiver.

        Args:
            paths: Files, in any order.
            stated_ns: An instant within half a week of them, for streams that do not tell the week; what is known of
                ephemerides tells it as well.

        Raises:
            UndatedError: there are observations, but nothing says of which week they are.
            DipperError: a file cannot be read, or no observations are in any of them.
        """
        recording = Recording()
        self._undated, self._packed = 0, False
        for path in paths:
            data = self._read_plain(path, recording.warnings)
            if _is_rinex(data):
                self._read_rinex(path, data, recording)
            else:
                self._read_stream(path, data, recording, stated_ns)
        names = ", ".join(map(str, paths))
        if not recording.epochs and self._undated:
            raise UndatedError(f"{names}: nothing in it says which week it is, nor do navigation files")
        if not recording.epochs and self._packed:
            raise SourceError(f"{names}: {_PACKED}")
        if not recording.epochs:
            why = f"; {recording.warnings[0]}" if recording.warnings else ""
            raise SourceError(f"{names}: no observations of RINEX, RTCM 3 (MSM4 to 7, 1001 to 1012), UBX or SBF{why}")
        recording.epochs = _each_once(recording.epochs)
        return recording

    def _read_rinex(self, path: Path, data: bytes, recording: Recording) -> None:
        """Take the epochs of a RINEX file; a navigation file among the observations gives its ephemerides."""
        if data[20:21] in b"NGH" and data[20:21]:
            self.read_navigation(path)
            return
        from caster.codec.rinex.observation import ObservationFile

        file = _named(path, ObservationFile, data)
        known = {slot + 1: int(channel) for slot, channel in enumerate(self._channels) if -7 <= channel <= 6}
        recording.epochs += list(file.epochs(known))
        recording.warnings += [f"{path}: {warning}" for warning in file.warnings]
        if not recording.surveyed:
            recording.station = station_of_header(file.header)
            recording.position_ecef_m = recording.station.position_ecef_m

    def _read_stream(self, path: Path, data: bytes, recording: Recording, stated_ns: int | None) -> None:
        """Take the epochs, the ephemerides and the position of a stream of RTCM 3 frames, UBX messages, SBF blocks."""
        warnings: list[str] = []
        raw, make = self._read_ubx(data, warnings) if SYNC in data else [], _UBLOX
        if not raw and sbf.SYNC in data:
            raw, make = self._read_sbf(data, warnings), _SEPTENTRIO
            data = sbf.outside_blocks(data)
        known_ns = self._known_ns()
        assembler, rtcm = self._read_rtcm(path, data, raw[0].time_ns if raw else stated_ns, known_ns)
        if assembler.time_ns is None and known_ns is not None:
            assembler, rtcm = self._read_rtcm(path, data, known_ns, known_ns)
            warnings += [_DATE_BY_OTHERS] if rtcm else []
        self._undated += assembler.counters.undated
        recording.epochs += raw if len(raw) > len(rtcm) else rtcm
        if np.isfinite(assembler.station.position_ecef_m).all():
            recording.station = assembler.station
            recording.position_ecef_m, recording.surveyed = assembler.station.position_ecef_m, True
        if raw:
            recording.station = replace(recording.station, receiver=make)
        assumed = [DATE_ASSUMED] if assembler.date_is_assumed and known_ns is None else []
        recording.warnings += [f"{path}: {warning}" for warning in [*warnings, *assumed, *_complaints(assembler)]]

    def _read_rtcm(
        self, path: Path, data: bytes, stated_ns: int | None, known_ns: int | None
    ) -> tuple[EpochAssembler, list[Epoch]]:
        """Epochs of a stream's RTCM 3, of a week that is stated, told, or the last one before what is known."""
        assembler = RecordingAssembler(
            stated_ns,
            before_ns=written_ns(path) if known_ns is None else known_ns,
            ephemerides=self.ephemerides,
            channels=self._channels,
        )
        return assembler, assembler.read(data)

    def _known_ns(self) -> int | None:
        """An instant in the midst of the ephemerides that are known; None where there are none."""
        known = self.ephemerides.snapshot()
        times = np.concatenate([known.kepler["toe_ns"], known.glonass["toe_ns"]])
        return int(np.median(times)) if len(times) else None

    def _read_ubx(self, data: bytes, warnings: list[str]) -> list[Epoch]:
        """Epochs of the receiver's own messages; its navigation bits go to the pool."""
        tracking, subframes = Tracking(), SubframeCollector()
        epochs: list[Epoch] = []
        early: list[tuple[int, bytes]] = []
        for kind, payload in ubx_messages(data):
            if kind in (RAW, RAWX):
                try:
                    epochs.append(measured_epoch(kind, payload, tracking))
                except FormatError as error:
                    _warn(warnings, error)
                    continue
                for waiting in early:
                    take_bits(subframes, *waiting, epochs[-1].time_ns)
                early.clear()
            elif kind in (SFRB, SFRBX) and epochs:
                take_bits(subframes, kind, payload, epochs[-1].time_ns)
            elif kind in (SFRB, SFRBX) and len(early) < _EARLY_MAX:
                early.append((kind, payload))
        self._take_subframes(subframes)
        return [epoch for epoch in epochs if len(epoch)]

    def _take_subframes(self, subframes: SubframeCollector) -> None:
        """Put what a receiver's navigation bits said to the pool."""
        for record in (*subframes.kepler, *subframes.glonass):
            self.ephemerides.add(record)
        self.ephemerides.add_klobuchar("gps", subframes.klobuchar_gps)
        self.ephemerides.add_klobuchar("beidou", subframes.klobuchar_beidou)
        for slot, channel in subframes.channels.items():
            self._channels[slot - 1] = channel

    def _read_sbf(self, data: bytes, warnings: list[str]) -> list[Epoch]:
        """Epochs of a Septentrio receiver's measurements; its navigation blocks go to the pool."""
        tracking, subframes = Tracking(), SubframeCollector()
        epochs: list[Epoch] = []
        packed = False
        for number, block in sbf.sbf_blocks(data):
            packed |= number == sbf.MEAS_3
            try:
                if number == sbf.MEAS_EPOCH:
                    epochs.append(sbf.meas_epoch(block, tracking, self._channels))
                elif number in sbf.NAVIGATION:
                    self.ephemerides.add(sbf.navigation(number, block))
                elif number in RAW_NAVIGATION:
                    take_raw(subframes, number, block)
                elif number in sbf.IONOSPHERE:
                    self.ephemerides.add_klobuchar(sbf.IONOSPHERE[number], sbf.ionosphere(block))
            except FormatError as error:
                _warn(warnings, error)
        self._take_subframes(subframes)
        if packed and not epochs:
            self._packed = True
            warnings.append(_PACKED)
        return [epoch for epoch in epochs if len(epoch)]


def _warn(warnings: list[str], error: FormatError) -> None:
    """Note what was wrong with a message, each thing once."""
    if str(error) not in warnings and len(warnings) < _WARNINGS_MAX:
        warnings.append(str(error))


def _each_once(epochs: list[Epoch]) -> list[Epoch]:
    """Epochs in order of time; where files overlap, the fuller one of those with one time tag."""
    epochs.sort(key=lambda epoch: (epoch.time_ns, -len(epoch)))
    return [epoch for place, epoch in enumerate(epochs) if not place or epoch.time_ns != epochs[place - 1].time_ns]


def station_of_header(header: "Header") -> StationDescription:
    """What a RINEX header says of a station, the position moved from the marker to the antenna reference point."""
    position = header.position_ecef_m.copy()
    if np.linalg.norm(np.nan_to_num(position)) > EARTH_RADIUS_MIN_M:
        axes = np.empty((3, 3))
        latitude, longitude, _ = geodetic_from_ecef(*position.tolist())
        enu_axes(latitude, longitude, axes)
        up_m, east_m, north_m = header.antenna_delta_m
        position += axes.T @ np.array([east_m, north_m, up_m])
    else:
        position[:] = np.nan
    return replace(
        StationDescription(),
        position_ecef_m=position,
        antenna_height_m=float(header.antenna_delta_m[0]),
        antenna=header.antenna_type,
        antenna_serial=header.antenna_serial,
        receiver=header.receiver_type,
        firmware=header.receiver_version,
        receiver_serial=header.receiver_serial,
    )


def _complaints(assembler: EpochAssembler) -> list[str]:
    counters = assembler.counters
    told = {
        f"damaged messages, the last: {assembler.last_fault}": counters.faulty,
        "observation messages came after their epoch": counters.late,
        "messages of a date that no message tells": counters.undated,
        "messages have ranges modulo a millisecond alone": counters.modulo,
        "times the stream began again at another time": counters.restarts,
    }
    return [f"{count} {text}" for text, count in told.items() if count]


def _is_rinex(data: bytes) -> bool:
    """Whether a file's first line is that of a RINEX file."""
    return _RINEX_LABEL in data[:200]


def _named(path: Path, reader: Callable[[bytes], _T], data: bytes) -> _T:
    """Call a reader, and name the file in its complaint."""
    try:
        return reader(data)
    except FormatError as error:
        raise FormatError(f"{path}: {error}") from None
