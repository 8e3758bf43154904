"""Multiple signal messages MSM1 to MSM7 of all systems: frames to columns of numbers, and back.

`decode_msm` takes one frame and gives an `Msm`; `decode_msm_batch` takes a whole recording in one kernel call;
`encode_msm` writes an `Msm` again, bit for bit. The integers of the wire stay beside the values that they mean, so
nothing is lost on the way (RTCM 10403.3 section 3.5.16; the kernels are in `msm_kernels`).
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from caster.codec.rtcm import msm_kernels as rows
from caster.codec.rtcm.bits import PADDING, padded
from caster.codec.rtcm.framing import FRAME_OVERHEAD, HEADER_SIZE, make_frame, message_type, payload_of
from caster.errors import FormatError
from solver.constants import SPEED_OF_LIGHT_MPS
from solver.signals import SYSTEMS

__all__ = ["Msm", "MsmBatch", "decode_msm", "decode_msm_batch", "encode_msm", "is_msm", "msm_system"]

_FAULTS: Final = {
    rows.TOO_SHORT: "its masks ask for more bits than its length holds",
    rows.TOO_MANY_CELLS: "satellites times signals are more than 64",
    rows.NOT_MSM: "it is no multiple signal message",
}


@dataclass(frozen=True, slots=True)
class Msm:
    """One multiple signal message; s satellites, n cells.

    Attributes:
        type: Message number, 1071 to 1137.
        station: Reference station id (DF003).
        epoch: Epoch time as sent: ms of the GPS, Galileo, QZSS, NavIC or SBAS week, ms of the BDT week, or GLONASS
            day of week (3 bits; 7: not known) and ms of the GLONASS day (27 bits).
        multiple: More messages of this epoch and station follow (DF393).
        head: (HEADER_ROWS,) int64, the header and masks as sent (rows of `msm_kernels`).
        satellites: (5, s) int32, satellite data as sent.
        raw: (9, n) int32, signal data as sent.
        values: (5, n) float64, what they mean; NaN: invalid or not sent.
    """

    type: int
    station: int
    epoch: int
    multiple: bool
    head: NDArray[np.int64]
    satellites: NDArray[np.int32]
    raw: NDArray[np.int32]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return int(self.raw.shape[1])

    @property
    def system(self) -> int:
        """Index into `solver.signals.SYSTEMS`."""
        return (self.type - 1071) // 10

    @property
    def kind(self) -> int:
        """1 to 7, as in MSM7. The ranges of 1, 2 and 3 are modulo one light millisecond."""
        return self.type % 10

    @property
    def issue(self) -> int:
        """Issue of data station (DF409)."""
        return int(self.head[rows.IODS])

    @property
    def clock_steering(self) -> int:
        """DF411: 0 none, 1 steered to within a millisecond, 2 not known."""
        return int(self.head[rows.STEERING])

    @property
    def external_clock(self) -> int:
        """DF412: 0 internal, 1 external locked, 2 external not locked, 3 not known."""
        return int(self.head[rows.EXTERNAL])

    @property
    def smoothing(self) -> tuple[bool, int]:
        """DF417, whether code is smoothed without the ionosphere's divergence, and DF418, the interval's indicator."""
        return bool(self.head[rows.SMOOTHED]), int(self.head[rows.SMOOTHING])

    @property
    def sat(self) -> NDArray[np.int32]:
        """(n,) satellite of each cell."""
        return self.raw[rows.CELL_SATELLITE, :]

    @property
    def signal(self) -> NDArray[np.int32]:
        """(n,) signal of each cell."""
        return self.raw[rows.CELL_SIGNAL, :]

    @property
    def pseudorange_m(self) -> NDArray[np.float64]:
        """(n,) pseudorange; modulo one light millisecond in MSM1 and MSM3."""
        return self.values[rows.PSEUDORANGE_M, :]

    @property
    def phase_range_m(self) -> NDArray[np.float64]:
        """(n,) carrier phase as a range, growing with it; modulo one light millisecond in MSM2 and MSM3."""
        return self.values[rows.PHASE_RANGE_M, :]

    @property
    def rate_mps(self) -> NDArray[np.float64]:
        """(n,) phase range rate."""
        return self.values[rows.RATE_MPS, :]

    @property
    def cn0_dbhz(self) -> NDArray[np.float64]:
        """(n,) carrier to noise density ratio."""
        return self.values[rows.CN0_DBHZ, :]

    @property
    def lock_ms(self) -> NDArray[np.float64]:
        """(n,) shortest time for which the carrier has been locked."""
        return self.values[rows.LOCK_MS, :]

    @property
    def half_cycle(self) -> NDArray[np.bool_]:
        """(n,) the carrier phase may be off by half a cycle."""
        half_cycle: NDArray[np.bool_] = self.raw[rows.HALF_CYCLE, :] > 0
        return half_cycle

    def phase_cycles(self, frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) carrier phase in cycles for the carriers' frequencies (n,); NaN where a frequency is not known."""
        return self.phase_range_m * (frequency_hz / SPEED_OF_LIGHT_MPS)

    def doppler_hz(self, frequency_hz: NDArray[np.float64]) -> NDArray[np.float64]:
        """(n,) Doppler, positive when approaching, for the carriers' frequencies (n,)."""
        return -self.rate_mps * (frequency_hz / SPEED_OF_LIGHT_MPS)

    def glonass_channels(self) -> dict[int, int]:
        """GLONASS frequency channel by satellite, where MSM5 or MSM7 tells it in the extended information."""
        if SYSTEMS[self.system] != "R":
            return {}
        told = zip(self.satellites[rows.SATELLITE].tolist(), self.satellites[rows.EXTENDED].tolist(), strict=True)
        return {sat: extended - 7 for sat, extended in told if 0 <= extended <= 13}


@dataclass(frozen=True, slots=True)
class MsmBatch:
    """All multiple signal messages of a recording in three tables; `message(i)` is a view of one.

    Attributes:
        header: (HEADER_ROWS, m) int64; its FIRST_* and COUNT rows say which columns a message has.
        satellites: (5, s) int32.
        raw: (9, n) int32.
        values: (5, n) float64.
        faulty: (f, 2) int64, span of each frame that says it is MSM and cannot be.
    """

    header: NDArray[np.int64]
    satellites: NDArray[np.int32]
    raw: NDArray[np.int32]
    values: NDArray[np.float64]
    faulty: NDArray[np.int64]

    def __len__(self) -> int:
        return int(self.header.shape[1])

    def message(self, index: int) -> Msm:
        """One message, without copying."""
        head = self.header[:, index]
        first, cell = int(head[rows.FIRST_SATELLITE]), int(head[rows.FIRST_CELL])
        last, cell_stop = first + int(head[rows.SATELLITE_COUNT]), cell + int(head[rows.CELL_COUNT])
        return _message(
            head, self.satellites[:, first:last], self.raw[:, cell:cell_stop], self.values[:, cell:cell_stop]
        )


def _message(
    head: NDArray[np.int64], satellites: NDArray[np.int32], raw: NDArray[np.int32], values: NDArray[np.float64]
) -> Msm:
    number, station, epoch, multiple = head[:4].tolist()
    return Msm(number, station, epoch, bool(multiple), head, satellites, raw, values)


def is_msm(number: int) -> bool:
    """Whether a message number is one of the multiple signal messages 1071 to 1137."""
    return 1071 <= number <= 1137 and 1 <= number % 10 <= 7


def msm_system(number: int) -> int:
    """System of a multiple signal message's number, as an index into `solver.signals.SYSTEMS`."""
    return (number - 1071) // 10


def decode_msm(frame: bytes) -> Msm:
    """Decode one whole frame.

    Raises:
        FormatError: the message is not MSM, or its masks and its length do not fit together.
    """
    head = np.empty(rows.HEADER_ROWS, np.int64)
    satellites = np.empty((rows.SATELLITE_ROWS, rows.SATELLITES_MAX), np.int32)
    raw = np.empty((rows.RAW_ROWS, rows.CELLS_MAX), np.int32)
    values = np.empty((rows.VALUE_ROWS, rows.CELLS_MAX))
    size = len(payload_of(frame))
    status = rows.unpack(padded(frame), HEADER_SIZE, size, head, satellites, raw, values)
    if status != rows.OK:
        raise FormatError(f"RTCM 3 message {message_type(frame)} of {size} bytes: {_FAULTS[status]}")
    count, cells = int(head[rows.SATELLITE_COUNT]), int(head[rows.CELL_COUNT])
    return _message(head, satellites[:, :count], raw[:, :cells], values[:, :cells])


def decode_msm_batch(data: NDArray[np.uint8], spans: NDArray[np.int64]) -> MsmBatch:
    """Decode all multiple signal messages of a recording at once.

    Args:
        data: (n,) uint8, the recording.
        spans: (m, 2) int64, where its frames are (`framing.frame_spans`).
    """
    data = np.concatenate([data, np.zeros(PADDING, np.uint8)])
    satellite_room, cell_room = _room(data, spans)
    header = np.empty((rows.HEADER_ROWS, len(spans)), np.int64)
    satellites = np.empty((rows.SATELLITE_ROWS, satellite_room), np.int32)
    raw = np.empty((rows.RAW_ROWS, cell_room), np.int32)
    values = np.empty((rows.VALUE_ROWS, cell_room))
    rows.unpack_all(data, spans, header, satellites, raw, values)
    good = header[rows.STATUS] == rows.OK
    faulty = spans[~good & (header[rows.TYPE] > 0)]
    header = header[:, good]
    sizes = header[[rows.SATELLITE_COUNT, rows.CELL_COUNT]].sum(1)
    return MsmBatch(header, satellites[:, : sizes[0]], raw[:, : sizes[1]], values[:, : sizes[1]], faulty)


def _room(data: NDArray[np.uint8], spans: NDArray[np.int64]) -> tuple[int, int]:
    """Columns that surely hold all satellites and all cells of frames at `spans`."""
    bits = np.maximum((spans[:, 1] - spans[:, 0] - FRAME_OVERHEAD) * 8 - rows.HEADER_BITS, 0)
    kind = (data[spans[:, 0] + HEADER_SIZE].astype(np.int64) << 4 | data[spans[:, 0] + HEADER_SIZE + 1] >> 4) % 10
    kind = np.clip(kind, 1, 7) - 1
    satellites = np.minimum(bits // rows.SATELLITE_BITS[kind], rows.SATELLITES_MAX)
    cells = np.minimum(bits // rows.CELL_BITS[kind], rows.CELLS_MAX)
    return int(satellites.sum()) + rows.SATELLITES_MAX, int(cells.sum()) + rows.CELLS_MAX


def encode_msm(message: Msm) -> bytes:
    """Encode one message into a frame, from the integers of the wire that it holds."""
    out = np.zeros(rows.PAYLOAD_BITS_MAX // 8 + PADDING, np.uint8)
    size = rows.pack(message.head, message.satellites, message.raw, out)
    return make_frame(out[:size].tobytes())
