"""A simulated pair of receivers: round orbits, clocks, ambiguities, noise, and everything else known."""

from dataclasses import dataclass, field
from functools import cache

import numpy as np
from numpy.typing import NDArray

from solver.constants import SPEED_OF_LIGHT_MPS
from solver.kernels.atmosphere import niell_mapping, zenith_troposphere
from solver.kernels.geodesy import azimuth_elevation, enu_axes, geodetic_from_ecef
from solver.kernels.orbit import kepler_state, travel
from solver.model import KEPLER, Ephemerides, Epoch
from solver.signals import BEIDOU, GALILEO, GPS, frequency_hz, satellite, signal
from solver.timescale import NS, from_week

START_NS = from_week(2200, 100_000)
BASE_M = np.array([-2845676.0, 4661619.0, 3283215.0])
SIGNALS = {GPS: ("G1C", "G2W"), GALILEO: ("E1C", "E5Q"), BEIDOU: ("C2I", "C6I")}
PLANES = {GPS: (6, 5), GALILEO: (3, 8), BEIDOU: (3, 8)}


def ephemerides() -> Ephemerides:
    """A constellation of GPS, Galileo and BeiDou satellites on circles."""
    records = []
    for system, (planes, slots) in PLANES.items():
        for number in range(planes * slots):
            record = np.zeros(1, KEPLER)
            plane, slot = divmod(number, slots)
            record["sat"] = satellite(system, number + 1)
            record["message"] = {GPS: 0, GALILEO: 3, BEIDOU: 5}[system]
            record["toe_ns"] = record["toc_ns"] = START_NS
            record["toe_s"] = 100_000.0 - (14.0 if system == BEIDOU else 0.0)
            record["sqrt_a"] = np.sqrt(26_560e3 + 1_000e3 * system)
            record["i0"] = 0.96
            record["omega0"] = 2 * np.pi * plane / planes
            record["m0"] = 2 * np.pi * (slot / slots + plane / planes / slots) + 0.3 * system
            record["accuracy_m"] = 2.0
            record["af0"] = 1e-5 * (number - 7)
            records.append(record)
    return Ephemerides(kepler=np.sort(np.concatenate(records), order=["sat", "toe_ns"]))


@dataclass
class Receiver:
    """A simulated receiver.

    Attributes:
        position_m: (3,) where it is.
        seed: Of its noise.
        code_m, phase_m: Noise, 1 sigma.
        clock_s: Clock error.
        slips: Cycles by satellite and signal, to be added to the ambiguities.
        ionosphere_m: Zenith ionosphere at L1.
        velocity_mps: For the Doppler.
        multipath_m: Of the carriers at 30 degrees, 1 sigma; its correlation falls to 1 / e in a minute.
    """

    position_m: NDArray[np.float64]
    seed: int = 0
    code_m: float = 0.3
    phase_m: float = 0.002
    clock_s: float = 1e-4
    slips: dict[tuple[int, int], float] = field(default_factory=dict)
    ionosphere_m: float = 0.0
    velocity_mps: tuple[float, float, float] = (0.0, 0.0, 0.0)
    multipath_m: float = 0.0

    def observe(self, known: Ephemerides, time_ns: int) -> Epoch:
        """What it measures at a time tag."""
        rng = np.random.default_rng((self.seed, time_ns % 2**32))
        rows = []
        for index in range(len(known.kepler)):
            for name in SIGNALS[int(known.kepler["sat"][index]) // 64]:
                row = self._row(known, index, name, time_ns, rng)
                if row:
                    rows.append(row)
        rows.sort()
        sat, sig, hz, code, phase, doppler = (np.array(column) for column in zip(*rows, strict=True))
        n = len(rows)
        return Epoch(
            time_ns, sat.astype(np.int16), sig.astype(np.int16), hz, code, phase, doppler, np.full(n, 45, np.float32),
            np.full(n, np.nan, np.float32), np.zeros(n, np.uint8),
        )  # fmt: skip

    def _row(
        self, known: Ephemerides, index: int, name: str, time_ns: int, rng: np.random.Generator
    ) -> tuple[float, ...] | None:
        """Satellite, signal, frequency, code, phase and Doppler; None below the horizon."""
        sat, sig = int(known.kepler["sat"][index]), signal(name)
        hz = frequency_hz(sig)
        state, axes = np.empty(8), np.empty((3, 3))
        flight_s = 0.075
        for _ in range(4):
            kepler_state(known.kepler, index, time_ns, -flight_s - self.clock_s, state)
            distance, x, y, z = travel(state, *self.position_m)
            flight_s = distance / SPEED_OF_LIGHT_MPS
        lat, lon, height = geodetic_from_ecef(*self.position_m)
        enu_axes(lat, lon, axes)
        _, elevation = azimuth_elevation(axes, x, y, z)
        if elevation < 0.1:
            return None
        dry, wet = zenith_troposphere(lat, height, 0.7)
        dry_map, wet_map = niell_mapping(time_ns, lat, height, elevation)
        sine = 6371 / 6721 * np.cos(elevation)
        delay = self.ionosphere_m / np.sqrt(1 - sine**2) * (1575.42e6 / hz) ** 2
        common = distance + dry * dry_map + wet * wet_map + SPEED_OF_LIGHT_MPS * (self.clock_s - state[6])
        wavelength = SPEED_OF_LIGHT_MPS / hz
        cycles = 7 * sat + 3 * sig + self.seed * 11 + self.slips.get((sat, sig), 0.0)
        spread = 0.5 + 0.5 / np.sin(elevation)
        if self.multipath_m:
            slow = slow_errors(self.seed, sat, sig)[(time_ns - START_NS) // NS]
            cycles += self.multipath_m * spread / 1.5 * slow / wavelength
        vx, vy, vz = self.velocity_mps
        rate = x * (vx - state[3]) + y * (vy - state[4]) + z * (vz - state[5]) + SPEED_OF_LIGHT_MPS * state[7]
        return (
            sat, sig, hz, common + delay + rng.normal() * self.code_m * spread,
            (common - delay + rng.normal() * self.phase_m * spread) / wavelength + cycles, rate / wavelength,
        )  # fmt: skip


@cache
def slow_errors(seed: int, sat: int, sig: int) -> NDArray[np.float64]:
    """A Gauss-Markov process of unit variance for each second of ten minutes."""
    noise = np.random.default_rng((seed, sat, sig)).normal(size=600)
    keep = np.exp(-1.0 / 60.0)
    values = [noise[0]]
    for value in noise[1:]:
        values.append(keep * values[-1] + np.sqrt(1.0 - keep * keep) * value)
    return np.array(values)


def seconds(count: int, step_s: int = 1) -> list[int]:
    """Time tags."""
    return [START_NS + k * step_s * NS for k in range(count)]
