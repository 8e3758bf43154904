"""Differences between a rover and its base: which signals are paired, and what the pairs measure.

A *link* is one band of one satellite as both receivers see it: a record of `LINK` with the single difference (rover
minus base) of code and carrier, less everything that is known (satellite clocks, both ranges, the troposphere's
model). What two receivers do to one pair of signals (clocks, code and phase biases, the quarter cycles of other
tracking codes) is common to all links of the pair: the links of one pair are a *group*, and the solver lets each group
have an offset of its own, free in each epoch. That is the same as double differencing inside groups, with the full
covariance and without a reference satellite; nothing is assumed of biases between systems, bands or tracking codes.
"""

import math
from typing import Any, Final, NamedTuple, Self

import numpy as np

from solver.constants import SPEED_OF_LIGHT_MPS
from solver.jit import part
from solver.kernels import Float32Array, Float64Array, Int16Array, Int32Array, Records
from solver.kernels.atmosphere import ionosphere_mapping, niell_coefficients, niell_slant, zenith_troposphere
from solver.kernels.geodesy import azimuth_elevation, elevation_of, enu_axes, geodetic_from_ecef
from solver.kernels.orbit import travel
from solver.model import Epoch
from solver.signals import BAND, PRN_PER_SYSTEM, SIGNAL_COUNT, SIGNALS_PER_SYSTEM, SYSTEMS
from solver.track import Track

__all__ = [
    "BAND_RANK",
    "GROUPS_MAX",
    "LINK",
    "LINKS_MAX",
    "SATELLITES_MAX",
    "Columns",
    "expected_ranges",
    "link_geometry",
    "link_observations",
    "pair_signals",
    "rover_signal",
]

Record = Any

LINKS_MAX: Final = 256
"""Most links of an epoch: 64 satellites with four bands; what comes later in the order of satellites is left out."""
SATELLITES_MAX: Final = 80
GROUPS_MAX: Final = 48

LINK: Final = np.dtype(
    [
        ("key", np.int32),  # satellite, rover's and base's signal in one number: the name of an ambiguity
        ("sat", np.int16),
        ("place", np.int16),  # place of the satellite in the epoch's list of satellites
        ("group", np.int16),
        ("rover_row", np.int16),
        ("base_row", np.int16),
        ("flags", np.uint8),  # SLIP and HALF_CYCLE of either receiver
        ("rank", np.int8),  # of the band within its system, 0 first
        ("channel", np.float64),  # GLONASS frequency channel; 0 for all other systems
        ("wavelength_m", np.float64),
        ("ionosphere", np.float64),  # delay relative to that at L1
        ("elevation", np.float64),
        ("azimuth", np.float64),  # from north by east
        ("unit", np.float64, (3,)),  # from the rover to the satellite
        ("turn_rads", np.float64),  # how fast that direction turns, rad/s
        ("wet_rover", np.float64),  # mapping functions of zenith wet delays
        ("wet_base", np.float64),
        ("tilt", np.float64, (2,)),  # of gradients of the wet delay, north and east; 0 where they do not matter
        ("slant", np.float64),  # mapping function of the ionosphere at the rover
        ("slant_base", np.float64),
        ("code_m", np.float64),
        ("phase_m", np.float64),
        ("rate_mps", np.float64),  # observed less expected range rate of the rover at rest
        ("cn0_dbhz", np.float64, (2,)),  # rover's and base's
        ("lock_s", np.float64),  # the shorter of both; NaN where one is not known
        ("code_m2", np.float64),  # variances
        ("phase_m2", np.float64),
    ]
)


class Columns(NamedTuple):
    """The columns of a `solver.model.Epoch`, as kernels take them."""

    sat: Int16Array
    signal: Int16Array
    frequency_hz: Float64Array
    pseudorange_m: Float64Array
    phase_cycles: Float64Array
    doppler_hz: Float64Array
    cn0_dbhz: Float32Array
    lock_s: Float32Array
    flags: Records

    @classmethod
    def of(cls, epoch: Epoch | Track) -> Self:
        """Those of an epoch, or of many one after the other."""
        return cls(
            epoch.sat, epoch.signal, epoch.frequency_hz, epoch.pseudorange_m, epoch.phase_cycles, epoch.doppler_hz,
            epoch.cn0_dbhz, epoch.lock_s, epoch.flags,
        )  # fmt: skip


_RANKS: Final = {"G": "125", "R": "1243", "E": "15786", "S": "15", "J": "1256", "C": "265718", "I": "951"}
"""RINEX bands by system in the order in which they are taken: the widest spaced pair that most receivers have first."""
BAND_RANK: Final = np.full(SIGNAL_COUNT, 99, np.int8)
for _signal in np.flatnonzero(BAND):
    BAND_RANK[_signal] = _RANKS[SYSTEMS[_signal // SIGNALS_PER_SYSTEM]].find(str(BAND[_signal]))
BAND_RANK.flags.writeable = False

_L1_HZ = 1_575.42e6
_GLONASS_HZ = (1_602.0e6, 1_246.0e6)
_GLONASS_STEP_HZ = (562_500.0, 437_500.0)
_SAME_CODE_BONUS = 1.5
_USAGE_MEMORY = 0.98
_USAGE_EPOCHS = 500


@part
def pair_signals(
    rover_sat: Int16Array, rover_signal: Int16Array, rover_code: Float64Array, base_sat: Int16Array,
    base_signal: Int16Array, base_code: Float64Array, allowed: Records, usage: Float64Array, epoch: int, bands_max: int,
    links: Records, sats: Int16Array, code_rows: Int32Array,
) -> tuple[int, int]:  # fmt: skip
    """Pair the signals of two epochs: for each satellite and band the pair that most satellites share.

    Equal tracking codes are preferred. The counts have a memory of some fifty epochs, so that a choice stays.

    Args:
        rover_sat: (n,) satellites in order, and so on for the rover's and the base's rows.
        rover_signal: (n,).
        rover_code: (n,) pseudoranges.
        base_sat: (m,).
        base_signal: (m,).
        base_code: (m,).
        allowed: (SIGNAL_COUNT,) bool, signals of the rover that may be used.
        usage: (SIGNAL_COUNT, SIGNALS_PER_SYSTEM) how often each rover's signal met each slot of the base; updated.
        epoch: How many epochs the usage is of.
        bands_max: Most bands of a satellite.
        links: (LINKS_MAX,) out, key, sat, place, group and rows are set.
        sats: (SATELLITES_MAX,) out, the satellites of the links.
        code_rows: (SATELLITES_MAX, 2) out, a row of the rover and of the base with a pseudorange of each.

    Returns:
        Number of links and of satellites.
    """
    # Instead of all old counts getting smaller, new ones get larger, and all of them are scaled down now and then.
    if epoch % _USAGE_EPOCHS == 0:
        usage *= _USAGE_MEMORY**_USAGE_EPOCHS
    weight = _USAGE_MEMORY ** -(epoch % _USAGE_EPOCHS)
    j = 0
    for i in range(len(rover_sat)):
        while j < len(base_sat) and base_sat[j] < rover_sat[i]:
            j += 1
        k = j
        while k < len(base_sat) and base_sat[k] == rover_sat[i]:
            if allowed[rover_signal[i]] and _match(rover_signal[i], rover_code[i], base_signal[k], base_code[k]):
                usage[rover_signal[i], base_signal[k] % SIGNALS_PER_SYSTEM] += weight
            k += 1
    count, places, j = 0, 0, 0
    i = 0
    while i < len(rover_sat) and places < len(sats) and count + bands_max <= len(links):
        end = i + 1
        while end < len(rover_sat) and rover_sat[end] == rover_sat[i]:
            end += 1
        while j < len(base_sat) and base_sat[j] < rover_sat[i]:
            j += 1
        added = _pair_satellite(
            i, end, j, rover_sat, rover_signal, rover_code, base_sat, base_signal, base_code, allowed, usage, bands_max,
            links[count:],
        )  # fmt: skip
        for k in range(count, count + added):
            links[k].place = places
        if added:
            sats[places] = rover_sat[i]
            code_rows[places, 0] = links[count].rover_row
            code_rows[places, 1] = links[count].base_row
            count += added
            places += 1
        i = end
    return _number_groups(count, links), places


@part
def _match(rover_signal: int, rover_code: float, base_signal: int, base_code: float) -> bool:
    """Whether two rows of one satellite are of one band and complete.

    It takes no arrays: numba counts references of those that a part is given, each time.
    """
    return bool(BAND[rover_signal] == BAND[base_signal] and not math.isnan(rover_code) and not math.isnan(base_code))


@part
def _pair_satellite(
    start: int, end: int, base_start: int, rover_sat: Int16Array, rover_signal: Int16Array, rover_code: Float64Array,
    base_sat: Int16Array, base_signal: Int16Array, base_code: Float64Array, allowed: Records, usage: Float64Array,
    bands_max: int, links: Records,
) -> int:  # fmt: skip
    """Write the links of one satellite, best bands first; returns their number."""
    count = 0
    for rank in range(8):
        best = 0.0
        for i in range(start, end):
            if BAND_RANK[rover_signal[i]] != rank or not allowed[rover_signal[i]]:
                continue
            k = base_start
            while k < len(base_sat) and base_sat[k] == rover_sat[i]:
                if _match(rover_signal[i], rover_code[i], base_signal[k], base_code[k]):
                    slot = base_signal[k] % SIGNALS_PER_SYSTEM
                    score = usage[rover_signal[i], slot]
                    if rover_signal[i] == base_signal[k]:
                        score *= _SAME_CODE_BONUS
                    if score > best:
                        best = score
                        links[count].key = (np.int32(rover_sat[i]) * 32 + rover_signal[i] % 32) * 32 + slot
                        links[count].sat = rover_sat[i]
                        links[count].rank = rank
                        links[count].rover_row = i
                        links[count].base_row = k
                k += 1
        if best > 0.0:
            count += 1
            if count == bands_max:
                break
    return count


@part
def rover_signal(link: Record) -> int:
    """The signal of the rover that a link is of."""
    return int(link.sat // PRN_PER_SYSTEM * SIGNALS_PER_SYSTEM + link.key // 32 % 32)


@part
def _number_groups(count: int, links: Records) -> int:
    """Give the links of each pair of signals a number, in order of appearance; links beyond GROUPS_MAX are dropped."""
    pairs = np.empty(GROUPS_MAX, np.int32)
    known = 0
    for k in range(count):
        pair = (links[k].sat // 64) * 1024 + links[k].key % 1024
        group = 0
        while group < known and pairs[group] != pair:
            group += 1
        if group == GROUPS_MAX:
            return k
        if group == known:
            pairs[known] = pair
            known += 1
        links[k].group = group
    return count


@part
def link_geometry(
    time_ns: int, base_time_ns: int, count: int, places: int, rover_m: Float64Array, base_m: Float64Array,
    rover_states: Float64Array, base_states: Float64Array, links: Records,
) -> None:  # fmt: skip
    """Set unit vectors, mapping functions and the modelled part of `code_m`, `phase_m` and `rate_mps` of all links.

    Args:
        time_ns: Rover's time tag.
        base_time_ns: Base's time tag.
        count: Number of links.
        places: Number of satellites.
        rover_m: (3,) the rover's approximate position.
        base_m: (3,) the base's position.
        rover_states: (places, 8) satellites when they emitted what the rover received.
        base_states: (places, 8) the same of the base.
        links: (count,) code_m, phase_m and rate_mps become what the model expects, to be taken from what is observed.
    """
    axes, base_axes = np.empty((3, 3)), np.empty((3, 3))
    mapping, base_mapping = np.empty(6), np.empty(6)
    model = np.empty((places, 12))
    lat, lon, height = geodetic_from_ecef(rover_m[0], rover_m[1], rover_m[2])
    base_lat, base_lon, base_height = geodetic_from_ecef(base_m[0], base_m[1], base_m[2])
    dry, wet = zenith_troposphere(lat, height, 0.7)
    base_dry, base_wet = zenith_troposphere(base_lat, base_height, 0.7)
    enu_axes(lat, lon, axes)
    enu_axes(base_lat, base_lon, base_axes)
    niell_coefficients(time_ns, lat, mapping)
    niell_coefficients(base_time_ns, base_lat, base_mapping)
    for k in range(places):
        base_range, x, y, z = travel(base_states[k], base_m[0], base_m[1], base_m[2])
        elevation = elevation_of(base_axes, x, y, z)
        dry_map, wet_map = niell_slant(base_mapping, base_height, elevation)
        base_part = base_range - SPEED_OF_LIGHT_MPS * base_states[k, 6] + dry_map * base_dry + wet_map * base_wet
        model[k, 8] = wet_map
        model[k, 10] = ionosphere_mapping(elevation)
        rover_range, x, y, z = travel(rover_states[k], rover_m[0], rover_m[1], rover_m[2])
        model[k, 11], elevation = azimuth_elevation(axes, x, y, z)
        dry_map, wet_map = niell_slant(mapping, height, elevation)
        rover_part = rover_range - SPEED_OF_LIGHT_MPS * rover_states[k, 6] + dry_map * dry + wet_map * wet
        model[k, 0] = rover_part - base_part
        model[k, 1], model[k, 2], model[k, 3] = x, y, z
        model[k, 4] = elevation
        model[k, 5] = ionosphere_mapping(elevation)
        model[k, 6] = wet_map
        approach = x * rover_states[k, 3] + y * rover_states[k, 4] + z * rover_states[k, 5]
        model[k, 7] = approach - SPEED_OF_LIGHT_MPS * rover_states[k, 7]
        speed2 = rover_states[k, 3] ** 2 + rover_states[k, 4] ** 2 + rover_states[k, 5] ** 2
        model[k, 9] = math.sqrt(max(speed2 - approach * approach, 0.0)) / rover_range
    for k in range(count):
        place = links[k].place
        links[k].code_m = model[place, 0]
        links[k].phase_m = model[place, 0]
        links[k].rate_mps = model[place, 7]
        for axis in range(3):
            links[k].unit[axis] = model[place, 1 + axis]
        links[k].elevation = model[place, 4]
        links[k].azimuth = model[place, 11]
        links[k].slant = model[place, 5]
        links[k].wet_rover = model[place, 6]
        links[k].wet_base = model[place, 8]
        links[k].turn_rads = model[place, 9]
        links[k].slant_base = model[place, 10]


@part
def expected_ranges(time_ns: int, receiver_m: Float64Array, states: Float64Array, ranges: Float64Array) -> None:
    """Write what a receiver at a known place expects of pseudoranges, but for its own clock and the ionosphere.

    Args:
        time_ns: Receiver's time tag.
        receiver_m: (3,) ECEF.
        states: (n, 8) satellites at emission; NaN: the range is NaN.
        ranges: (n,) out, m.
    """
    axes, mapping = np.empty((3, 3)), np.empty(6)
    lat, lon, height = geodetic_from_ecef(receiver_m[0], receiver_m[1], receiver_m[2])
    enu_axes(lat, lon, axes)
    niell_coefficients(time_ns, lat, mapping)
    dry, wet = zenith_troposphere(lat, height, 0.7)
    for k in range(len(states)):
        distance, x, y, z = travel(states[k], receiver_m[0], receiver_m[1], receiver_m[2])
        elevation = elevation_of(axes, x, y, z)
        dry_map, wet_map = niell_slant(mapping, height, elevation)
        ranges[k] = distance - SPEED_OF_LIGHT_MPS * states[k, 6] + dry_map * dry + wet_map * wet


@part
def link_observations(
    count: int, rover: Columns, base: Columns, noise: Float64Array, thickness_m: float, links: Records
) -> None:
    """Turn the modelled differences of `link_geometry` into observed less modelled ones, and set their variances.

    A zenith-and-slant law times one of C/N0: sigma² = a² (1 + 1 / sin² elevation) (1 + 10^((c - C/N0) / 10)), the
    second factor after Hartinger and Brunner 1999; both receivers are taken for equally good.

    Args:
        count: Number of links.
        rover: The rover's rows.
        base: The base's.
        noise: (3,) a of the phase and of the code (m), c (dBHz).
        thickness_m: Zenith ionosphere at L1 that both ends share.
        links: (count,) completed.
    """
    for k in range(count):
        i, j = links[k].rover_row, links[k].base_row
        frequency_hz = rover.frequency_hz[i]
        wavelength = SPEED_OF_LIGHT_MPS / frequency_hz
        links[k].wavelength_m = wavelength
        links[k].ionosphere = (_L1_HZ / frequency_hz) ** 2
        links[k].channel = _glonass_channel(links[k].sat, links[k].rank, frequency_hz)
        delay = thickness_m * links[k].ionosphere * (links[k].slant - links[k].slant_base)
        links[k].code_m = rover.pseudorange_m[i] - base.pseudorange_m[j] - links[k].code_m - delay
        links[k].phase_m = (rover.phase_cycles[i] - base.phase_cycles[j]) * wavelength - links[k].phase_m + delay
        links[k].rate_mps = -rover.doppler_hz[i] * wavelength - links[k].rate_mps
        links[k].flags = rover.flags[i] | base.flags[j]
        lock, base_lock = rover.lock_s[i], base.lock_s[j]
        links[k].lock_s = lock if lock < base_lock or math.isnan(lock) else base_lock
        cn0, base_cn0 = rover.cn0_dbhz[i], base.cn0_dbhz[j]
        links[k].cn0_dbhz[0], links[k].cn0_dbhz[1] = cn0, base_cn0
        sine = math.sin(max(links[k].elevation, 0.05))
        law = (1.0 + 1.0 / (sine * sine)) * 2.0
        if min(cn0, base_cn0) > 0.0:
            law *= 1.0 + 10.0 ** (0.1 * (noise[2] - min(cn0, base_cn0)))
        links[k].phase_m2 = noise[0] * noise[0] * law
        links[k].code_m2 = noise[1] * noise[1] * law


@part
def _glonass_channel(sat: int, rank: int, frequency_hz: float) -> float:
    """FDMA channel that a frequency stands for; 0 for other systems and for CDMA bands."""
    if sat // 64 != 1 or rank > 1:
        return 0.0
    return (frequency_hz - _GLONASS_HZ[rank]) / _GLONASS_STEP_HZ[rank]
