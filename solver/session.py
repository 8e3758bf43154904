"""A session of two receivers at rest as rows of observed less modelled differences, with the arcs of their carriers.

`StaticOptions` says what is used and how it is modelled; `Measuring` turns pairs of epochs into a `Session`, which
`solver.static` adjusts. Tides move both antennas.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from solver.kernels import differencing, rtk
from solver.kernels.atmosphere import overhead_ionosphere
from solver.kernels.orbit import is_beidou_geo, satellite_states, select_ephemerides
from solver.kernels.robust import ITERATIONS
from solver.kernels.static import ROW, ROWS_MAX, arcs_of_phases
from solver.model import HALF_CYCLE, SLIP, Ephemerides, Epoch
from solver.observed import Selection
from solver.signals import BEIDOU, PRN_PER_SYSTEM, SATELLITE_COUNT, SIGNAL_COUNT
from solver.spp import SppOptions, solve
from solver.tides import solid_tide_m
from solver.timescale import NS

__all__ = ["Measuring", "Session", "StaticOptions", "approximate_position", "keep_long_arcs", "pair_epochs"]

Floats = NDArray[np.float64]

_PAIR_NS: Final = 100_000_000
"""How far time tags of one epoch may be apart: receivers that do not steer their clocks are off by milliseconds."""
_NO_TIDES: Final = np.zeros((2, 3))
_SAMPLE: Final = 25
_LOOK_NS: Final = 3600 * NS
_GAP_S: Final = 300.0
_ARC_MIN_S: Final = 300.0
_ARCS_MAX: Final = 1500
_CODE_WEIGHT_MIN: Final = 0.1


@dataclass(frozen=True, slots=True)
class StaticOptions:
    """How to solve; the defaults are for all receivers and places.

    Attributes:
        signals: (SIGNAL_COUNT,) bool, signals of the rover to use.
        bands_max: Most bands of a satellite.
        elevation_mask_rad: Satellites below are left out.
        cn0_min_dbhz: Signals that are weaker at either receiver are left out.
        epochs_max: Longer sessions are thinned to so many epochs.
        failure_rate: Of bootstrapping the integers that are fixed.
        tides: Move both antennas with the solid-earth tides, so that the coordinates are free of them.
        phase_noise_m: Carrier noise of one receiver at the zenith, per component of the noise law, to begin with.
        code_noise_m: The same of the code.
        ionosphere_ppm: Differential zenith ionosphere, 1 sigma, mm per km of baseline.
        zenith_ppm: Differential zenith wet delay, 1 sigma, mm per km of baseline.
        zenith_per_height: The same per metre of height difference.
    """

    signals: NDArray[np.bool_] = field(default_factory=lambda: np.ones(SIGNAL_COUNT, np.bool_))
    bands_max: int = 3
    elevation_mask_rad: float = math.radians(10.0)
    cn0_min_dbhz: float = 25.0
    epochs_max: int = 3000
    failure_rate: float = 1e-3
    tides: bool = True
    phase_noise_m: float = 0.0015
    code_noise_m: float = 0.3
    ionosphere_ppm: float = 0.5
    zenith_ppm: float = 0.2
    zenith_per_height: float = 2e-5


def pair_epochs(rover: Sequence[Epoch], base: Sequence[Epoch]) -> list[tuple[Epoch, Epoch]]:
    """Epochs of both receivers with the same time tag, or nearly so."""
    pairs = []
    place = 0
    for epoch in rover:
        while place < len(base) and base[place].time_ns < epoch.time_ns - _PAIR_NS:
            place += 1
        if place < len(base) and base[place].time_ns <= epoch.time_ns + _PAIR_NS:
            pairs.append((epoch, base[place]))
    return pairs


def approximate_position(pairs: list[tuple[Epoch, Epoch]], measuring: "Measuring") -> Floats | None:
    """The rover's position by the codes of some epochs, some decimetres off."""
    sample = pairs[:: max(1, len(pairs) // _SAMPLE)]
    alone = SppOptions(Selection(elevation_mask=measuring.options.elevation_mask_rad))
    single = [solve(rover, measuring.ephemerides, alone) for rover, _ in sample]
    found = [fix.position_ecef_m for fix in single if fix.quality]
    if not found:
        return None
    origin_m: Floats = np.median(found, axis=0)
    for _ in range(2):
        offsets = [measuring.code_offset(pair, origin_m) for pair in sample]
        known = [offset for offset in offsets if offset is not None]
        if not known:
            return None
        origin_m = origin_m + np.median(known, axis=0)
    return origin_m


@dataclass(slots=True)
class Session:
    """All rows of a session; see `solver.kernels.static`.

    `ionosphere_m` is how far the expected zenith delay at L1 over both ends may be off, 1 sigma.
    """

    time_ns: NDArray[np.int64]
    first: NDArray[np.int64]
    rows: NDArray[Any]
    groups: int
    arcs: int
    standing: NDArray[np.bool_]
    origin_m: Floats
    base_m: Floats
    ionosphere_m: float

    @property
    def interval_s(self) -> float:
        """The usual step."""
        return float(np.median(np.diff(self.time_ns))) / NS if len(self.time_ns) > 1 else 1.0


class Measuring:
    """Turns pairs of epochs into rows."""

    def __init__(self, base_m: Floats, ephemerides: Ephemerides, options: StaticOptions) -> None:
        self.base_m, self.ephemerides, self.options = base_m, ephemerides, options
        links, sats = differencing.LINKS_MAX, differencing.SATELLITES_MAX
        self.links, self.sats = np.zeros(links, differencing.LINK), np.zeros(sats, np.int16)
        self.code_rows, self.index = np.zeros((sats, 2), np.int32), np.zeros(sats, np.int32)
        self.states = np.zeros((2, sats, 8))
        self.usage, self.measured = np.zeros((SIGNAL_COUNT, 32)), 0
        self.noise = np.array([options.phase_noise_m, options.code_noise_m, 36.0])

    def measure(self, pair: tuple[Epoch, Epoch], origin_m: Floats, tides_m: Floats = _NO_TIDES) -> NDArray[Any]:
        """The links of an epoch above the mask, observed less modelled; `tides_m` (2, 3) moves rover and base."""
        rover, base = pair
        count, places = differencing.pair_signals(
            rover.sat, rover.signal, rover.pseudorange_m, base.sat, base.signal, base.pseudorange_m,
            self.options.signals, self.usage, self.measured, self.options.bands_max, self.links, self.sats,
            self.code_rows,
        )  # fmt: skip
        self.measured += 1
        known, sats, index = self.ephemerides, self.sats[:places], self.index[:places]
        thickness_m, _ = self._overhead_ionosphere(rover.time_ns)
        select_ephemerides(known.kepler, known.glonass, rover.time_ns, sats, index)
        for which, epoch in enumerate(pair):
            codes = epoch.pseudorange_m[self.code_rows[:places, which]]
            satellite_states(known.kepler, known.glonass, epoch.time_ns, sats, index, codes, self.states[which])
        differencing.link_geometry(
            rover.time_ns, base.time_ns, count, places, origin_m + tides_m[0], self.base_m + tides_m[1],
            self.states[0], self.states[1], self.links,
        )  # fmt: skip
        differencing.link_observations(
            count, differencing.Columns.of(rover), differencing.Columns.of(base), self.noise, thickness_m, self.links
        )
        links: NDArray[Any] = self.links[:count]
        low = links["elevation"] >= self.options.elevation_mask_rad
        weak = (links["cn0_dbhz"] < self.options.cn0_min_dbhz).any(axis=1)
        return np.asarray(links[low & ~weak & np.isfinite(links["code_m"])])

    def code_offset(self, pair: tuple[Epoch, Epoch], origin_m: Floats) -> Floats | None:
        """How far from the origin one epoch's codes put the rover."""
        links = self.measure(pair, origin_m)
        offset, covariance, weight = np.empty(3), np.empty((3, 3)), np.empty(len(links))
        if len(links) < 4 or rtk.solve_codes(len(links), links, ITERATIONS, offset, covariance, weight)[0] < 0:
            return None
        return offset

    def session(self, pairs: list[tuple[Epoch, Epoch]], origin_m: Floats) -> Session | None:
        """The rows of all epochs, with their arcs; thinned."""
        time_ns = np.array([rover.time_ns for rover, _ in pairs], np.int64)
        tides_m = np.zeros((len(pairs), 2, 3))
        if self.options.tides:
            tides_m[:] = np.stack([solid_tide_m(time_ns, origin_m), solid_tide_m(time_ns, self.base_m)], axis=1)
        parts = []
        for number, pair in enumerate(pairs):
            parts.append(self._rows(self.measure(pair, origin_m, tides_m[number]), number))
        rows = np.concatenate(parts)
        if not len(rows):
            return None
        rows["group"] = np.unique(rows["sat"] // PRN_PER_SYSTEM * 1024 + rows["key"] % 1024, return_inverse=True)[1]
        keys, rows["key"] = np.unique(rows["key"], return_inverse=True)
        first = np.searchsorted(rows["epoch"], np.arange(len(pairs) + 1))
        arcs_of_phases(first, (time_ns - time_ns[0]) / NS, rows, len(keys), _GAP_S)
        step = -(-len(pairs) // self.options.epochs_max)
        rows, time_ns = rows[rows["epoch"] % step == 0], time_ns[::step]
        rows["epoch"] //= step
        arcs = keep_long_arcs(rows, time_ns)
        if not arcs:
            return None
        first = np.searchsorted(rows["epoch"], np.arange(len(time_ns) + 1))
        return Session(
            time_ns, first, rows, int(rows["group"].max()) + 1, arcs, self._standing(), origin_m, self.base_m,
            self._unsure_ionosphere_m(time_ns),
        )  # fmt: skip

    def _overhead_ionosphere(self, time_ns: int) -> tuple[float, float]:
        """Zenith delay at L1 that is expected over the base, and how far it may be off (1 sigma)."""
        known, (x_m, y_m, z_m) = self.ephemerides, self.base_m.tolist()
        return overhead_ionosphere(time_ns, x_m, y_m, z_m, known.klobuchar_gps, known.klobuchar_beidou)

    def _unsure_ionosphere_m(self, time_ns: NDArray[np.int64]) -> float:
        """The most that it may be off, in looks an hour apart."""
        looks = range(int(time_ns[0]), int(time_ns[-1]) + _LOOK_NS, _LOOK_NS)
        return max(self._overhead_ionosphere(look)[1] for look in looks)

    def _standing(self) -> NDArray[np.bool_]:
        """(SATELLITE_COUNT,) satellites of BeiDou that stand still in the sky."""
        standing = np.zeros(SATELLITE_COUNT, np.bool_)
        for record in self.ephemerides.kepler:
            if record["sat"] // PRN_PER_SYSTEM == BEIDOU:
                standing[record["sat"]] |= is_beidou_geo(record["sqrt_a"], record["i0"])
        return standing

    def _rows(self, links: NDArray[Any], number: int) -> NDArray[Any]:
        """The links of an epoch as rows of a session; weights are those of the noise law, codes astray are left out."""
        links = links[:ROWS_MAX]
        offset, covariance, weight = np.empty(3), np.empty((3, 3)), np.ones(len(links))
        if len(links) and rtk.solve_codes(len(links), links, ITERATIONS, offset, covariance, weight)[0] < 1:
            weight[:] = 1.0
        rows = np.zeros(len(links), ROW)
        for name in ("sat", "key", "wavelength_m", "elevation", "unit", "wet_rover", "wet_base", "code_m", "phase_m"):
            rows[name] = links[name]
        rows["epoch"] = number
        rows["flags"] = links["flags"] & SLIP
        rows["phase_m"][links["flags"] & HALF_CYCLE != 0] = np.nan
        rows["code_m"][weight < _CODE_WEIGHT_MIN] = np.nan
        rows["ionosphere"] = links["ionosphere"] * links["slant"]
        rows["common_ionosphere"] = links["ionosphere"] * (links["slant"] - links["slant_base"])
        rows["code_w"], rows["phase_w"] = 1.0 / links["code_m2"], 1.0 / links["phase_m2"]
        return rows


def keep_long_arcs(rows: NDArray[Any], time_ns: NDArray[np.int64]) -> int:
    """Number the arcs that last anew, from 0; the others' rows lose their arc. Returns how many there are."""
    used = np.flatnonzero(rows["arc"] >= 0)
    if not len(used):
        return 0
    arcs, count = np.unique(rows["arc"][used], return_counts=True)
    start_s, end_s = np.full(arcs[-1] + 1, np.inf), np.full(arcs[-1] + 1, -np.inf)
    time_s = (time_ns - time_ns[0])[rows["epoch"][used]] / NS
    np.minimum.at(start_s, rows["arc"][used], time_s)
    np.maximum.at(end_s, rows["arc"][used], time_s)
    last_s = (end_s - start_s)[arcs]
    long = (last_s >= min(_ARC_MIN_S, 0.1 * float(time_s[-1]))) & (count >= 3)
    longest = np.argsort(-count * long, kind="stable")[:_ARCS_MAX]
    numbers = np.full(arcs[-1] + 1, -1, np.int32)
    numbers[np.sort(arcs[longest][long[longest]])] = np.arange(int(long[longest].sum()))
    rows["arc"][used] = numbers[rows["arc"][used]]
    return int(long[longest].sum())
