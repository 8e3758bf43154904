"""The values that pass between the codecs, the solver and the services: frozen, and arrays rather than objects.

`Epoch`: what one receiver measured at one instant. `KEPLER` and `GLONASS_STATE`: broadcast ephemerides as records.
`Fix`: where a receiver was, how sure that is, or why it is not known.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "GLONASS_STATE",
    "HALF_CYCLE",
    "KEPLER",
    "SLIP",
    "Ephemerides",
    "Epoch",
    "Fix",
    "NavMessage",
    "Quality",
]

SLIP: Final = 1
"""Flag: the carrier lost lock since this receiver's previous epoch."""
HALF_CYCLE: Final = 2
"""Flag: the carrier phase may be off by half a cycle (RTCM DF420, RINEX LLI bit 1)."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """Observations of one receiver at one instant, a row for each signal of each satellite (n rows).

    Rows are ordered by satellite, then signal. NaN means "no observation".

    Attributes:
        time_ns: Receiver's time tag, nanoseconds of GPST (`solver.timescale`).
        sat: (n,) int16, satellite (`solver.signals.satellite`).
        signal: (n,) int16, signal (`solver.signals.signal`).
        frequency_hz: (n,) float64, carrier frequency; NaN where a GLONASS channel is not known.
        pseudorange_m: (n,) float64.
        phase_cycles: (n,) float64, RINEX sign: grows with the range.
        doppler_hz: (n,) float64, RINEX sign: positive when approaching.
        cn0_dbhz: (n,) float32.
        lock_s: (n,) float32, shortest time for which the carrier has been locked without a slip.
        flags: (n,) uint8, bits `SLIP` and `HALF_CYCLE`.
    """

    time_ns: int
    sat: NDArray[np.int16]
    signal: NDArray[np.int16]
    frequency_hz: NDArray[np.float64]
    pseudorange_m: NDArray[np.float64]
    phase_cycles: NDArray[np.float64]
    doppler_hz: NDArray[np.float64]
    cn0_dbhz: NDArray[np.float32]
    lock_s: NDArray[np.float32]
    flags: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.sat)

    @classmethod
    def empty(cls, time_ns: int) -> Self:
        """An epoch in which nothing was observed."""
        return cls(time_ns, *(np.empty(0, kind) for kind in "hhddddffB"))


class NavMessage(IntEnum):
    """The broadcast message that an ephemeris came in: it decides which clock and group delays apply."""

    LNAV = 0
    CNAV = 1
    CNAV2 = 2
    INAV = 3
    FNAV = 4
    D1 = 5
    D2 = 6
    CNV1 = 7
    CNV2 = 8
    CNV3 = 9


KEPLER: Final = np.dtype(
    [
        ("sat", np.int16),
        ("message", np.uint8),  # NavMessage
        ("health", np.uint16),  # 0: healthy; otherwise the message's own bits
        ("iode", np.int32),
        ("iodc", np.int32),
        ("toe_ns", np.int64),  # GPST
        ("toc_ns", np.int64),  # GPST
        ("transmitted_ns", np.int64),  # GPST, -1: not known
        ("toe_s", np.float64),  # seconds of the system's own week, as the orbit's node needs it
        ("sqrt_a", np.float64),  # m^0.5
        ("e", np.float64),
        ("i0", np.float64),  # rad, as are all angles here; rates in rad/s
        ("omega0", np.float64),
        ("omega", np.float64),
        ("m0", np.float64),
        ("delta_n", np.float64),
        ("i_dot", np.float64),
        ("omega_dot", np.float64),
        ("cuc", np.float64),
        ("cus", np.float64),
        ("crc", np.float64),  # m
        ("crs", np.float64),  # m
        ("cic", np.float64),
        ("cis", np.float64),
        ("a_dot", np.float64),  # m/s; CNAV family, else 0
        ("delta_n_dot", np.float64),  # rad/s^2; CNAV family, else 0
        ("af0", np.float64),  # s
        ("af1", np.float64),  # s/s
        ("af2", np.float64),  # s/s^2
        ("tgd1", np.float64),  # s: GPS/QZSS/NavIC TGD, Galileo BGD E1-E5a, BeiDou TGD1 (D1/D2)
        ("tgd2", np.float64),  # s: Galileo BGD E1-E5b, BeiDou TGD2 (D1/D2)
        ("tgd_b1cp", np.float64),  # s; BeiDou CNV1, CNV2
        ("tgd_b2ap", np.float64),  # s; BeiDou CNV1, CNV2
        ("tgd_b2bi", np.float64),  # s; BeiDou CNV3
        ("isc_l1ca", np.float64),  # s; CNAV, CNAV2; NaN: not sent
        ("isc_l2c", np.float64),
        ("isc_l5i", np.float64),
        ("isc_l5q", np.float64),
        ("isc_l1cd", np.float64),  # s; CNAV2; BeiDou CNV1: ISC B1Cd
        ("isc_l1cp", np.float64),
        ("isc_b2ad", np.float64),  # s; BeiDou CNV2
        ("accuracy_m", np.float64),  # URA, SISA or SISAI as metres; NaN: none promised
        ("fit_s", np.float64),  # curve fit interval; 0: the system's default
    ]
)
"""Keplerian ephemerides (G E J C I). Fields that a message does not send are 0, or NaN where 0 would mean a value."""

GLONASS_STATE: Final = np.dtype(
    [
        ("sat", np.int16),
        ("channel", np.int8),  # FDMA frequency channel, -7..6; 0 for SBAS
        ("health", np.uint16),  # 0: healthy; GLONASS: B_n's highest bit, 2: l_n
        ("iode", np.int32),  # GLONASS: tb in units of 15 min; SBAS: IODN
        ("toe_ns", np.int64),  # GPST of the state vector
        ("transmitted_ns", np.int64),  # GPST, -1: not known
        ("position_m", np.float64, (3,)),  # PZ-90 (SBAS: WGS 84) ECEF
        ("velocity_mps", np.float64, (3,)),
        ("acceleration_mps2", np.float64, (3,)),  # GLONASS: luni-solar part alone; SBAS: whole
        ("clock_bias_s", np.float64),  # satellite clock minus system time: GLONASS -tau_n, SBAS agf0
        ("clock_drift", np.float64),  # GLONASS gamma_n, SBAS agf1
        ("delta_tau_s", np.float64),  # L2 - L1 hardware delay; NaN: not sent
        ("age_days", np.uint8),
        ("accuracy_m", np.float64),
    ]
)
"""Ephemerides as a state vector (R S)."""


@dataclass(frozen=True, slots=True)
class Ephemerides:
    """Broadcast orbits and clocks, and broadcast ionosphere, as known at some instant.

    Attributes:
        kepler: (k,) records of `KEPLER`, ordered by satellite, then toe.
        glonass: (g,) records of `GLONASS_STATE`, ordered by satellite, then toe.
        klobuchar_gps: (8,) alpha 0-3 (s, s/semicircle ...) and beta 0-3, IS-GPS-200 20.3.3.5.1.7; NaN: not known.
        klobuchar_beidou: (8,) the same of BeiDou D1/D2, BDS-SIS-ICD-B1I section 5.2.4.7; NaN: not known.
    """

    kepler: NDArray[Any] = field(default_factory=lambda: np.empty(0, KEPLER))
    glonass: NDArray[Any] = field(default_factory=lambda: np.empty(0, GLONASS_STATE))
    klobuchar_gps: NDArray[np.float64] = field(default_factory=np.full(8, np.nan).copy)
    klobuchar_beidou: NDArray[np.float64] = field(default_factory=np.full(8, np.nan).copy)


class Quality(IntEnum):
    """What a solution is, numbered as RTKLIB's solution files do."""

    NONE = 0
    FIX = 1
    FLOAT = 2
    DGNSS = 4
    SINGLE = 5


def _unknown(*shape: int) -> Callable[[], NDArray[np.float64]]:
    """What stands for numbers that are not known: one array for all, which nobody can write on."""
    array = np.full(shape, np.nan)
    array.flags.writeable = False
    return lambda: array


_NO_SATELLITES: Final = np.empty(0, np.int16)


@dataclass(frozen=True, slots=True)
class Fix:
    """A receiver's position, velocity and time at one epoch, or the reason why there is none.

    Attributes:
        time_ns: The epoch's time tag, nanoseconds of GPST.
        quality: What kind of solution; `Quality.NONE` with a `reason` where there is none, and then all else is NaN.
        reason: Why there is no solution, or none better; empty where nothing is amiss.
        position_ecef_m: (3,) in the frame of the base's coordinates, or of the broadcast orbits.
        position_covariance_m2: (3, 3) ECEF.
        velocity_ecef_mps: (3,), NaN where there is no Doppler.
        velocity_covariance_m2s2: (3, 3) ECEF.
        clock_m: (7,) receiver clock by system of `solver.signals.SYSTEMS`, as range; NaN where not estimated.
        clock_drift_mps: Receiver clock drift, as range rate.
        satellites: (s,) int16, satellites in the solution.
        age_s: Age of the corrections; NaN where there are none.
        ratio: Ratio of the ambiguity acceptance test; 0 where none was made.
        hpl_m, vpl_m: Horizontal and vertical protection level; NaN where none is given.
        dop: (4,) GDOP, PDOP, HDOP, VDOP.
        baseline_ecef_m: (3,) from a moving base to the rover, what `quality` is then of; NaN where the base stands.
        baseline_covariance_m2: (3, 3) ECEF.
    """

    time_ns: int
    quality: Quality
    reason: str = ""
    position_ecef_m: NDArray[np.float64] = field(default_factory=_unknown(3))
    position_covariance_m2: NDArray[np.float64] = field(default_factory=_unknown(3, 3))
    velocity_ecef_mps: NDArray[np.float64] = field(default_factory=_unknown(3))
    velocity_covariance_m2s2: NDArray[np.float64] = field(default_factory=_unknown(3, 3))
    clock_m: NDArray[np.float64] = field(default_factory=_unknown(7))
    clock_drift_mps: float = float("nan")
    satellites: NDArray[np.int16] = field(default_factory=lambda: _NO_SATELLITES)
    age_s: float = float("nan")
    ratio: float = 0.0
    hpl_m: float = float("nan")
    vpl_m: float = float("nan")
    dop: NDArray[np.float64] = field(default_factory=_unknown(4))
    baseline_ecef_m: NDArray[np.float64] = field(default_factory=_unknown(3))
    baseline_covariance_m2: NDArray[np.float64] = field(default_factory=_unknown(3, 3))
