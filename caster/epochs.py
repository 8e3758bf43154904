"""Frames of one RTCM 3 stream to epochs: all that a receiver measured at one instant, with the full time.

`EpochAssembler` takes frames as they come, each with its time of reception if there is one, and gives an `Epoch` when
it is complete: when its last message says so (multiple-message bit), when the epoch time changes, or when `expire` is
called later than the time-out. The bit is believed only after two epochs that had one such message each, since some
senders never set it, and not before as many messages have come as in the epoch before, since some send the last
message first. A live stream's is believed from the first epoch on where messages before it said that more follow, until
one comes late. On the way the assembler learns what else the stream says: the station's position and equipment,
GLONASS channels, ephemerides. It has no clock: times of reception are arguments.

Rules: until the date is known (`caster.codec.rtcm.timing`), messages are kept, up to a limit; a damaged message is
counted and loses nothing else; time runs forward, an epoch earlier than the last by more than a little starts afresh.
"""

from collections import deque
from dataclasses import dataclass, field, replace
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from caster.codec.rtcm import msm_kernels as rows
from caster.codec.rtcm.ephemeris import to_record
from caster.codec.rtcm.framing import message_type
from caster.codec.rtcm.layouts import EPHEMERIS_TYPES, GLONASS_LEGACY, LEGACY_TYPES
from caster.codec.rtcm.legacy import ROLLOVER_CYCLES, cells
from caster.codec.rtcm.messages import Message, decode
from caster.codec.rtcm.msm import Msm, is_msm
from caster.codec.rtcm.timing import StreamClock, epoch_gpst_ns, tow_ns
from caster.errors import FormatError
from caster.tracking import Part, Tracking, assemble, carrier_hz, new_channels
from solver.constants import SPEED_OF_LIGHT_MPS
from solver.ephemeris import EphemerisStore
from solver.model import Epoch
from solver.signals import BEIDOU, GLONASS, GPS, PRN_PER_SYSTEM
from solver.timescale import BDT_OFFSET_S, DAY_NS, NS, WEEK_NS, nearest_week

__all__ = ["STATION_TYPES", "AssemblerCounters", "EpochAssembler", "Heading", "StationDescription"]

UNDATED_MESSAGES_MAX: Final = 4000
"""Messages kept until the date is known (some minutes of a full stream, 4 MB at most)."""
TIMEOUT_NS: Final = NS // 2
"""How long after its first message an epoch is waited for, unless stated."""
RESTART_NS: Final = 10 * NS
"""An epoch earlier than the last by more than this means that the stream starts again."""
MULTIPLE_BIT_PROOFS: Final = 2
"""Epochs in a row in which one message said that it was the last, before that closes epochs."""
POSITION_TOLERANCE_M: Final = 0.001
"""A station that moves by more than this is reported; positions come in tenths of a millimetre."""
WHOLE_RANGES_RANK: Final = 4
"""MSM4 and up have whole ranges; those of MSM1 to 3 are modulo a light millisecond."""
_BIAS_INVALID_M: Final = -655.36
_STATION_FIELDS: Final[dict[int, tuple[str, ...]]] = {
    1005: ("station",),
    1006: ("station", "antenna_height_m"),
    1007: ("station", "antenna"),
    1008: ("station", "antenna", "antenna_serial"),
    1033: ("station", "antenna", "antenna_serial", "receiver", "firmware", "receiver_serial"),
    1230: ("station",),
}
"""What is taken over from each message about the station, as it is."""
STATION_TYPES: Final = tuple(_STATION_FIELDS)


@dataclass(frozen=True, slots=True)
class StationDescription:
    """What a stream's 1005 to 1008, 1033 and 1230 said last.

    Attributes:
        station: Reference station id.
        position_ecef_m: (3,) antenna reference point; NaN: not sent yet.
        antenna_height_m: Of the reference point above the marker; NaN: not sent.
        virtual: DF141: the station does not exist physically.
        antenna, antenna_serial, receiver, firmware, receiver_serial: Descriptors; empty: not sent.
        glonass_bias_m: (4,) code-phase bias of L1 C/A, L1 P, L2 C/A, L2 P (1230); NaN: not sent.
        moves: How often the position changed.
        moved_m: How far it moved the last time.
    """

    station: int = 0
    position_ecef_m: NDArray[np.float64] = field(default_factory=lambda: np.full(3, np.nan))
    antenna_height_m: float = float("nan")
    virtual: bool = False
    antenna: str = ""
    antenna_serial: str = ""
    receiver: str = ""
    firmware: str = ""
    receiver_serial: str = ""
    glonass_bias_m: NDArray[np.float64] = field(default_factory=lambda: np.full(4, np.nan))
    moves: int = 0
    moved_m: float = 0.0


@dataclass(slots=True)
class AssemblerCounters:
    """What an assembler has met.

    Attributes:
        epochs: Epochs given.
        faulty: Messages whose content is impossible.
        late: Observation messages of an epoch that was closed already, or of an earlier one.
        modulo: Observation messages that carry ranges modulo a light millisecond alone (MSM1 to 3).
        undated: Messages that were dropped because the date was not known.
        restarts: Times that the stream went back in time, or that its date turned out to be another.
    """

    epochs: int = 0
    faulty: int = 0
    late: int = 0
    modulo: int = 0
    undated: int = 0
    restarts: int = 0


class Heading(NamedTuple):
    """What says which epoch a multiple signal message belongs to, and its observations.

    Attributes:
        system: Index into `solver.signals.SYSTEMS`.
        epoch: Epoch time as sent (`msm.Msm`).
        multiple: More messages of this epoch follow.
        part: Its observations: a `Part`, or what stands for them in an assembler that makes its epochs otherwise.
    """

    system: int
    epoch: int
    multiple: bool
    part: Any


class EpochAssembler:
    """Assembles the epochs of one stream.

    Attributes:
        station: What is known of the station.
        ephemerides: The pool that the stream's ephemerides go to; several assemblers may share one.
        channels: (64,) int8, GLONASS channel by place in the system; several assemblers may share one.
        counters: What was met so far.
        last_fault: Why the last faulty message was refused.
        date_is_assumed: The stream counts its weeks to 1024 alone; it may be that much older.
    """

    def __init__(
        self,
        stated_ns: int | None = None,
        *,
        before_ns: int | None = None,
        ephemerides: EphemerisStore | None = None,
        channels: NDArray[np.int8] | None = None,
        timeout_ns: int = TIMEOUT_NS,
    ) -> None:
        """Start with nothing known.

        Args:
            stated_ns: An instant of GPST within half a week of the stream's start, where somebody knows it and the
                stream may not say it.
            before_ns: An instant of GPST that all of the stream is older than, to choose among weeks 1024 apart.
            ephemerides: Where ephemerides go; a pool of its own if not given.
            channels: Table of GLONASS channels to share.
            timeout_ns: How long an epoch is waited for after the reception of its first message.
        """
        self.station = StationDescription()
        self.ephemerides = EphemerisStore() if ephemerides is None else ephemerides
        self.channels = new_channels() if channels is None else channels
        self.counters = AssemblerCounters()
        self.last_fault = ""
        self.date_is_assumed = False
        self._timeout_ns = timeout_ns
        self._stated_ns = stated_ns
        self._station_frames: dict[int, bytes] = {}
        self._clock = StreamClock(before_ns)
        self._dated_by_stream = False
        self._now_ns: int | None = stated_ns
        self._tow_ns: int | None = None
        self._undated: deque[tuple[Heading | Message, int | None]] = deque()
        self._received_ns: int | None = None
        self._open: list[Any] = []
        self._open_ns = 0
        self._open_received_ns: int | None = None
        self._ends = 0
        self._proofs = 0
        self._is_doubted = False
        self._usual_count = 0
        self._closed_ns: int | None = None
        self._lead_ns: int | None = None
        self._tracking = Tracking()
        self._rollovers: dict[tuple[int, int], float] = {}

    @property
    def time_ns(self) -> int | None:
        """The stream's own time: that of its latest message; None while the date is not known."""
        return self._now_ns

    def push(self, frame: bytes, received_ns: int | None = None) -> list[Epoch]:
        """Take one whole frame and return the epochs that it completes, oldest first.

        Args:
            frame: From `FrameReader`.
            received_ns: When it came, GPST, where the stream is live.
        """
        if self._tells_nothing_new(frame):
            return []
        try:
            message = decode(frame)
        except FormatError as error:
            self.counters.faulty += 1
            self.last_fault = str(error)
            return []
        return self.push_message(message, received_ns)

    def _tells_nothing_new(self, frame: bytes) -> bool:
        """Whether a frame need not be decoded: the station's words again, or a date that is known."""
        number = message_type(frame)
        if number in _STATION_FIELDS:
            same = self._station_frames.get(number) == frame
            self._station_frames[number] = frame
            return same
        return self._dated_by_stream and not (is_msm(number) or number in LEGACY_TYPES or number in EPHEMERIS_TYPES)

    def push_message(self, message: Msm | Message, received_ns: int | None = None) -> list[Epoch]:
        """Take one decoded message and return the epochs that it completes, oldest first."""
        if isinstance(message, Msm):
            self._learn_channels(message.glonass_channels())
            part = Part(message.kind, message.raw, message.values)
            return self.push_heading(Heading(message.system, message.epoch, message.multiple, part), received_ns)
        self._learn(message)
        return self._date(message, received_ns) + self._take_dated(message, received_ns)

    def push_heading(self, heading: Heading, received_ns: int | None = None) -> list[Epoch]:
        """Take the observations of one multiple signal message and return the epochs that it completes."""
        time_ns = tow_ns(heading.system, heading.epoch)
        self._tow_ns = self._tow_ns if time_ns is None else time_ns
        self._state(received_ns)
        return self._take_dated(heading, received_ns)

    def _take_dated(self, message: Heading | Message, received_ns: int | None) -> list[Epoch]:
        """Take a message, after those that waited for the date where it is known just now; without one, keep it."""
        if self._now_ns is None or (self._day_is_open() and _tells_no_day(message)):
            self._keep(message, received_ns)
            return []
        epochs = self._replay() if self._undated else []
        return epochs + self._take(message, received_ns)

    def _day_is_open(self) -> bool:
        """Whether all that is known of the date is a statement, good to half a week, and no time of week is."""
        return self._now_ns == self._stated_ns and self._tow_ns is None and self._received_ns is None

    def expire(self, now_ns: int) -> list[Epoch]:
        """Close the epoch that has waited longer than the time-out.

        Args:
            now_ns: The present on the clock that the times of reception are of.
        """
        if self._open and self._open_received_ns is not None and now_ns - self._open_received_ns > self._timeout_ns:
            return self._close()
        return []

    def finish(self) -> list[Epoch]:
        """End the stream: date it by weak evidence where there is no better, and close what is open."""
        epochs: list[Epoch] = []
        if self._now_ns is None:
            self._now_ns, self.date_is_assumed = self._clock.weak_evidence(), self._clock.is_assumed
        epochs += self._replay() if self._undated else []
        return epochs + self._close()

    # What the stream says beside observations.

    def _learn(self, message: Message) -> None:
        """Take what holds whatever the date is: the station, GLONASS channels, the time of week."""
        if message.type in (1001, 1002, 1003, 1004):
            self._tow_ns = tow_ns(GPS, message.fields["epoch"])
        elif message.type == 1020:
            fields = message.fields
            self._learn_channels({GLONASS * PRN_PER_SYSTEM + fields["satellite"] - 1: fields["channel_code"] - 7})
        elif message.type in _STATION_FIELDS:
            self._learn_station(message.type, message.fields)

    def _learn_channels(self, told: dict[int, int]) -> None:
        for sat, channel in told.items():
            if -7 <= channel <= 6 and sat // PRN_PER_SYSTEM == GLONASS:
                self.channels[sat % PRN_PER_SYSTEM] = channel

    def _learn_station(self, number: int, fields: dict[str, Any]) -> None:
        known = {name: fields[name] for name in _STATION_FIELDS[number]}
        if number == 1230:
            bias = np.array([fields["bias_m"].get(name, np.nan) for name in ("1C", "1P", "2C", "2P")])
            known["glonass_bias_m"] = np.where(bias == _BIAS_INVALID_M, np.nan, bias)
        if number in (1005, 1006):
            position = np.array([fields["x_m"], fields["y_m"], fields["z_m"]])
            known |= {"position_ecef_m": position, "virtual": bool(fields["virtual"])}
            moved_m = float(np.linalg.norm(position - self.station.position_ecef_m))
            if moved_m > POSITION_TOLERANCE_M:  # not so while the old position is NaN
                known |= {"moves": self.station.moves + 1, "moved_m": moved_m}
        self.station = replace(self.station, **known)

    # The date.

    def _date(self, message: Message, received_ns: int | None) -> list[Epoch]:
        """Find the date, or put right one that was only stated; return the epoch that a restart closes."""
        if self._dated_by_stream:
            self._state(received_ns)
            return []
        proof_ns = self._clock.evidence(message, self._tow_ns, self._stated_ns)
        self._state(received_ns)
        if proof_ns is None:
            return []
        self._dated_by_stream = True
        if self._now_ns is not None and abs(proof_ns - self._now_ns) <= WEEK_NS // 2:
            return []
        epochs = self._restart() if self._now_ns is not None else []
        self._now_ns = proof_ns
        return epochs

    def _state(self, received_ns: int | None) -> None:
        """Take a time of reception as the date where there is no other, and across a long silence of the stream."""
        if received_ns is None:
            return
        if self._now_ns is None:
            self._now_ns = self._stated_ns = received_ns
        elif self._received_ns is not None and received_ns - self._received_ns > DAY_NS // 2:
            self._now_ns += received_ns - self._received_ns
        self._received_ns = received_ns

    def _keep(self, message: Heading | Message, received_ns: int | None) -> None:
        self._undated.append((message, received_ns))
        if len(self._undated) > UNDATED_MESSAGES_MAX:
            self._undated.popleft()
            self.counters.undated += 1

    def _replay(self) -> list[Epoch]:
        """Take the messages that were kept, now that the date is known."""
        kept, self._undated = self._undated, deque()
        if self._now_ns is None:
            self.counters.undated += len(kept)
            return []
        if self._now_ns == self._stated_ns and self._tow_ns is not None:
            self._now_ns = nearest_week(self._tow_ns, self._now_ns)
        return [epoch for message, received_ns in kept for epoch in self._take(message, received_ns)]

    # Observations.

    def _take(self, message: Heading | Message, received_ns: int | None) -> list[Epoch]:
        if isinstance(message, Heading):
            if message.part.rank < WHOLE_RANGES_RANK:
                self.counters.modulo += 1
                return []
            return self._add(message.part, message.system, message.epoch, message.multiple, received_ns)
        if message.type in LEGACY_TYPES:
            system = GLONASS if message.type in GLONASS_LEGACY else GPS
            part, multiple = self._legacy_part(message), bool(message.fields["multiple"])
            return self._add(part, system, message.fields["epoch"], multiple, received_ns)
        if message.type in EPHEMERIS_TYPES:
            self._take_ephemeris(message)
        return []

    def _take_ephemeris(self, message: Message) -> None:
        assert self._now_ns is not None
        try:
            self.ephemerides.add(to_record(message, self._now_ns))
        except ValueError as error:
            self.counters.faulty += 1
            self.last_fault = f"RTCM 3 message {message.type}: {error}"

    def _add(self, part: Any, system: int, epoch: int, multiple: bool, received_ns: int | None) -> list[Epoch]:
        """Put a message's observations into the open epoch, or close that and open the next."""
        assert self._now_ns is not None
        by_day = self._closed_ns is not None or bool(self._open)
        time_ns = epoch_gpst_ns(system, epoch, self._now_ns, legacy=part.rank == 0, by_day=by_day)
        if system == BEIDOU:
            time_ns -= self._beidou_lead(time_ns)
        epochs: list[Epoch] = []
        if self._open and time_ns != self._open_ns:
            epochs = self._change(time_ns)
            if time_ns < self._open_ns and self._open:
                return epochs
        elif not self._open and self._closed_ns is not None and time_ns <= self._closed_ns:
            if time_ns > self._closed_ns - RESTART_NS:
                self._proofs, self._is_doubted = 0, True
                self.counters.late += 1
                return []
            epochs = self._restart()
        self._now_ns = time_ns
        if not self._open:
            self._open_ns, self._open_received_ns = time_ns, received_ns
        self._open.append(part)
        self._ends += not multiple
        if self._is_complete(multiple, received_ns is not None):
            epochs += self._close()
        return epochs

    def _is_complete(self, multiple: bool, is_live: bool) -> bool:
        """Whether the message just taken is known to be the open epoch's last."""
        if not self._ends or len(self._open) < self._usual_count:
            return False
        told = is_live and not multiple and self._ends == 1 and len(self._open) > 1 and not self._is_doubted
        return told or self._proofs >= MULTIPLE_BIT_PROOFS

    def _beidou_lead(self, time_ns: int) -> int:
        """How much a sender's BeiDou epochs are ahead: by BDT's offset where it counts GPST (Trimble NETR9 of 2012)."""
        if self._lead_ns is None and self._open and time_ns - self._open_ns in (0, BDT_OFFSET_S * NS):
            self._lead_ns = time_ns - self._open_ns
        return self._lead_ns or 0

    def _change(self, time_ns: int) -> list[Epoch]:
        """The epoch time is another: close the open epoch, unless the message is a straggler of an earlier one."""
        if self._open_ns - RESTART_NS < time_ns < self._open_ns:
            self.counters.late += 1
            return []
        if time_ns < self._open_ns:
            return self._restart()
        return self._close()

    def _restart(self) -> list[Epoch]:
        """Forget what held across epochs: the stream begins again at another time."""
        epochs = self._close()
        self.counters.restarts += 1
        self._closed_ns = None
        self._proofs = 0
        self._tracking = Tracking()
        self._rollovers.clear()
        return epochs

    def _close(self) -> list[Epoch]:
        """Make the open epoch's `Epoch`."""
        if not self._open:
            return []
        self._proofs = self._proofs + 1 if self._ends == 1 else 0
        self._usual_count = len(self._open)
        parts, self._open, self._ends = self._open, [], 0
        self._closed_ns = self._open_ns
        self.counters.epochs += 1
        return self._make(self._open_ns, parts)

    def _make(self, time_ns: int, parts: list[Any]) -> list[Epoch]:
        """The epoch of some messages' observations."""
        return [assemble(time_ns, parts, self.channels, self._tracking)]

    def _legacy_part(self, message: Message) -> Part:
        """A legacy message's observations, its phases as continuous as the sender's 1500-cycle steps let them be."""
        raw, values, channels = cells(message)
        self._learn_channels(channels)
        sat, signal = raw[rows.CELL_SATELLITE], raw[rows.CELL_SIGNAL]
        step_m = ROLLOVER_CYCLES * SPEED_OF_LIGHT_MPS / carrier_hz(sat, signal, self.channels)
        phase_m = values[rows.PHASE_RANGE_M]
        difference_m = phase_m - values[rows.PSEUDORANGE_M]
        for column, key in enumerate(zip(sat.tolist(), signal.tolist(), strict=True)):
            now_m = difference_m[column]
            steps = (self._rollovers.get(key, now_m) - now_m) / step_m[column]
            if np.isfinite(steps):
                phase_m[column] += round(steps) * step_m[column]
                self._rollovers[key] = now_m + round(steps) * step_m[column]
        return Part(0, raw, values)


def _tells_no_day(message: Heading | Message) -> bool:
    """Whether a message is one of GLONASS's legacy ones, which tell the time of day alone."""
    return isinstance(message, Message) and message.type in GLONASS_LEGACY
