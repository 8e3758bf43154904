"""What a stream carries, told from the first bits of its frames: for the sourcetable and the operator.

Counting a frame costs about a microsecond: the message type is its first 12 bits; only a station position (1005, 1006)
and, now and then, a signal mask are read further. Field layouts: RTCM 10403.3, messages 1005 and 1006, MSM header.
"""

import math
from dataclasses import dataclass, field

from solver.constants import WGS84_A_M, WGS84_F

__all__ = ["MessageStats", "Traffic", "ends_epoch", "frame_type"]

_BURST_S = 0.04  # frames of a type that come closer than this belong to one epoch (receivers reach 20 Hz)
_GAP_WEIGHT = 0.2
_BITRATE_WINDOW_S = 30.0
_FORGET_GAPS = 5.0  # a type that has not come for so many of its gaps (and a minute) is no longer carried
_MASK_EVERY = 60
_TYPES_MAX = 200

_MSM_SYSTEMS = {107: "GPS", 108: "GLO", 109: "GAL", 110: "SBAS", 111: "QZS", 112: "BDS", 113: "IRS"}
_LEGACY_SYSTEMS = {**dict.fromkeys(range(1001, 1005), "GPS"), **dict.fromkeys(range(1009, 1013), "GLO")}
_LEGACY_CARRIER = {1001: 1, 1002: 1, 1003: 2, 1004: 2, 1009: 1, 1010: 1, 1011: 2, 1012: 2}
_SYSTEM_ORDER = ("GPS", "GLO", "GAL", "BDS", "QZS", "SBAS", "IRS")


def frame_type(frame: bytes) -> int:
    """The message type of an RTCM 3 frame: the first 12 bits of its payload; 0 for an empty frame."""
    return (frame[3] << 4) | (frame[4] >> 4) if len(frame) >= 8 else 0


def msm_system(kind: int) -> str:
    """The system of a multiple signal message, or an empty text."""
    return _MSM_SYSTEMS.get(kind // 10, "") if 1 <= kind % 10 <= 7 else ""


def _more_masks() -> bytes:
    """By message type: the bit of the tenth byte of a frame that says that more of the epoch follow; 0: no such type.

    The bit is DF393 of MSM and DF005 of GPS at bit 54 of the payload, DF034's successor DF035 of GLONASS at bit 51.
    """
    gps = {kind: 0x02 for kind in range(4096) if msm_system(kind) or 1001 <= kind <= 1004}
    return bytes((gps | dict.fromkeys(range(1009, 1013), 0x10)).get(kind, 0) for kind in range(4096))


_MORE_MASKS = _more_masks()


def ends_epoch(frame: bytes) -> bool | None:
    """Whether an observation frame is the last of its epoch; None for frames without observations."""
    mask = _MORE_MASKS[frame_type(frame)]
    return (len(frame) < 13 or not frame[9] & mask) if mask else None


@dataclass(slots=True)
class MessageStats:
    """Count and rhythm of one message type; times in s since 1970 UTC."""

    count: int = 0
    byte_count: int = 0
    last_s: float = -math.inf
    gap_s: float = 0.0

    def add(self, size: int, now_s: float) -> None:
        """Count one frame."""
        gap = now_s - self.last_s
        self.count += 1
        self.byte_count += size
        if gap < 0.0 or gap > _BURST_S:  # a clock that was set back starts anew
            if 0.0 < gap < math.inf:
                self.gap_s += _GAP_WEIGHT * (gap - self.gap_s) if self.gap_s else gap
            self.last_s = now_s


@dataclass(slots=True)
class Traffic:
    """What one stream carries.

    Attributes:
        messages: By type.
        frame_count: Count since the start.
        byte_count: Count since the start.
        position_ecef_m: Of the last 1005 or 1006, or None.
        last_s: When the last bytes came, s since 1970 UTC; 0 before.
    """

    messages: dict[int, MessageStats] = field(default_factory=dict)
    frame_count: int = 0
    byte_count: int = 0
    position_ecef_m: tuple[float, float, float] | None = None
    last_s: float = 0.0
    _multi_band: set[str] = field(default_factory=set)
    _window_start_s: float = 0.0
    _window_bytes: int = 0
    _bitrate: float = 0.0

    def count(self, kind: int, frame: bytes, received_unix_ns: int) -> None:
        """Count one frame of a message type."""
        self.frame_count += 1
        self.count_bytes(len(frame), received_unix_ns)
        stats = self.messages.get(kind)
        if stats is None:
            if len(self.messages) >= _TYPES_MAX:
                return
            stats = self.messages[kind] = MessageStats()
        stats.add(len(frame), self.last_s)
        if kind in (1005, 1006) and len(frame) >= 25:
            self.position_ecef_m = _station_position(frame)
        elif stats.count % _MASK_EVERY == 1 and (system := msm_system(kind)) and _has_second_band(frame):
            self._multi_band.add(system)

    def count_bytes(self, size: int, received_unix_ns: int) -> None:
        """Count bytes alone, of a stream that is not RTCM."""
        self.last_s = now_s = received_unix_ns * 1e-9
        self.byte_count += size
        elapsed = now_s - self._window_start_s
        if not 0.0 <= elapsed < _BITRATE_WINDOW_S:
            if 0.0 <= elapsed < 10 * _BITRATE_WINDOW_S:
                self._bitrate = self._window_bytes * 8 / elapsed
            self._window_start_s, self._window_bytes = now_s, 0
        self._window_bytes += size

    def bitrate(self) -> int:
        """Bits a second over the last half minute, or over what there is."""
        elapsed = self.last_s - self._window_start_s
        if self._bitrate or elapsed < 1.0:
            return round(self._bitrate)
        return round(self._window_bytes * 8 / elapsed)

    def carried(self) -> dict[int, MessageStats]:
        """The message types that still come, in order."""
        return {
            kind: stats
            for kind, stats in sorted(self.messages.items())
            if self.last_s - stats.last_s <= max(60.0, _FORGET_GAPS * stats.gap_s)
        }

    def format_details(self) -> str:
        """Message types and their intervals in seconds, as the sourcetable wants them: `1005(10),1077(1)`."""
        return ",".join(
            f"{kind}({_interval(stats.gap_s)})" if stats.gap_s else str(kind) for kind, stats in self.carried().items()
        )

    def systems(self) -> list[str]:
        """The satellite systems whose observations are carried."""
        kinds = self.carried()
        found = {msm_system(kind) or _LEGACY_SYSTEMS.get(kind, "") for kind in kinds}
        return [system for system in _SYSTEM_ORDER if system in found]

    def carrier(self) -> int:
        """Carrier phase: 0 none, 1 one band, 2 two or more."""
        kinds = self.carried()
        legacy = max((_LEGACY_CARRIER.get(kind, 0) for kind in kinds), default=0)
        phase = {msm_system(kind) for kind in kinds if msm_system(kind) and kind % 10 != 1}
        return max(legacy, 2 if phase & self._multi_band else int(bool(phase)))

    def position_deg(self) -> tuple[float, float] | None:
        """Latitude and longitude of the station's stated position."""
        return None if self.position_ecef_m is None else _geodetic_deg(*self.position_ecef_m)


def _interval(gap_s: float) -> str:
    return str(round(gap_s)) if gap_s >= 0.75 else f"{gap_s:.1g}"


def _station_position(frame: bytes) -> tuple[float, float, float] | None:
    """Antenna reference point of 1005 and 1006: X, Y, Z of 38 bits in 0.1 mm; None where all are zero."""
    payload = int.from_bytes(frame[3:22], "big")  # 152 bits
    x, y, z = (_signed38(payload >> (152 - end)) * 1e-4 for end in (72, 112, 152))
    return (x, y, z) if x or y or z else None


def _signed38(value: int) -> int:
    value &= (1 << 38) - 1
    return value - (1 << 38) if value >> 37 else value


def _has_second_band(frame: bytes) -> bool:
    """The signal mask (DF395, bits 137 to 168) has signals outside of the first band.

    In every system's signal table the ids 2 to 7 and 30 to 32 are the L1, E1, G1 or B1 band, all others are not.
    """
    if len(frame) < 3 + 22 + 3:
        return False
    mask = (int.from_bytes(frame[3:25], "big") >> (176 - 169)) & 0xFFFFFFFF
    return any(mask >> (32 - signal) & 1 for signal in range(8, 30))


def _geodetic_deg(x: float, y: float, z: float) -> tuple[float, float]:
    """Latitude and longitude on WGS 84 by Bowring's formula, good to well under a metre near the ground."""
    p = math.hypot(x, y)
    b = WGS84_A_M * (1.0 - WGS84_F)
    e2 = WGS84_F * (2.0 - WGS84_F)
    theta = math.atan2(z * WGS84_A_M, p * b)
    latitude = math.atan2(z + e2 / (1.0 - e2) * b * math.sin(theta) ** 3, p - e2 * WGS84_A_M * math.cos(theta) ** 3)
    return math.degrees(latitude), math.degrees(math.atan2(y, x))
