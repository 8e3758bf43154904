"""What is compiled before a rover needs it: the way of an epoch from its frames to NMEA, once, under a made-up sky.

A constellation of evenly spread circular orbits gives ranges to a place on the equator; what they are does not matter,
only that every kernel of the service is called with the types that it will be called with.
"""

import math
import os
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from caster.codec import nmea
from caster.codec.rtcm import FrameReader, make_frame
from caster.epochs import EpochAssembler
from caster.fanin import compile_receives
from caster.fanout import compile_sends
from caster.warmup import prune_cache, warm_up
from solver import dgnss, rtk, spp
from solver.constants import SPEED_OF_LIGHT_MPS, WGS84_A_M
from solver.model import KEPLER, Ephemerides, Epoch
from solver.observed import Selection, observe
from solver.signals import FREQUENCY_HZ, signal
from solver.timescale import NS, WEEK_NS

__all__ = ["load_carriers", "loop_steps", "main", "service_steps"]

_TIME_NS: Final = 2300 * WEEK_NS
_PLACE_ECEF_M: Final = np.array([WGS84_A_M, 0.0, 0.0])
_SIGNALS: Final = (signal("G1C"), signal("G2W"))
_MSM_TYPE: Final = 1077
_ELEVATION_SINE_MIN: Final = 0.2
_NICENESS: Final = 10


def loop_steps() -> Mapping[str, Callable[[], None]]:
    """The steps that must be done before the service listens: these kernels are called in the event loop itself."""
    return {"frames": _frames, "epochs": _epochs}


def service_steps() -> Mapping[str, Callable[[], None]]:
    """The steps of `caster.warmup.warm_up` for a service that decodes, positions and corrects."""
    return {**loop_steps(), "positions": _positions, "corrections": _corrections}


def load_carriers() -> None:
    """What rovers' carriers are followed by, fixed and float; it compiles for as long as all else together."""
    ephemerides, state, workspace = _ephemerides(), rtk.RtkState(), rtk.Workspace()
    for second, ratio_floor in enumerate((1.0, math.inf)):
        epoch = _epoch(_TIME_NS + second * NS)
        options = rtk.RtkOptions(ratio_floor=ratio_floor)
        given = (state, epoch, epoch, _PLACE_ECEF_M, ephemerides, options, workspace)
        state.fold()
        state.unfold(workspace)
        rtk.process_codes(*given)
        rtk.process(*given)


def _frames() -> None:
    FrameReader().feed(_empty_msm(0))
    compile_receives()
    compile_sends()


def _epochs() -> None:
    """Four epochs of a message without satellites: three to believe its last-message bit, one to be closed by it."""
    assembler = EpochAssembler(_TIME_NS)
    for second in range(4):
        assembler.push(_empty_msm(second))


def _positions() -> None:
    nmea.sentences(spp.solve(_epoch(_TIME_NS), _ephemerides()))


def _corrections() -> None:
    ephemerides, state = _ephemerides(), None
    for second in range(2):
        epoch = _epoch(_TIME_NS + second * NS)
        corrected = dgnss.corrections(epoch, _PLACE_ECEF_M, ephemerides)
        state, _ = dgnss.advance(state, epoch, corrected, ephemerides)


def _empty_msm(second: int) -> bytes:
    """An MSM7 frame without a satellite: header and empty masks (169 bits)."""
    head = _MSM_TYPE << (169 - 12) | second * 1000 << (169 - 54)
    return make_frame((head << 7).to_bytes(22, "big"))


def _ephemerides() -> Ephemerides:
    """Thirty-two satellites in circular orbits of GPS's size, in four planes."""
    records = np.zeros(32, KEPLER)
    number = np.arange(32)
    records["sat"] = number
    records["toe_ns"] = records["toc_ns"] = _TIME_NS
    records["transmitted_ns"] = -1
    records["sqrt_a"] = 5153.7
    records["i0"] = np.radians(55.0)
    records["omega0"] = number % 4 * np.pi / 2
    records["m0"] = number // 4 * np.pi / 4 + number % 4 * np.pi / 16
    records["accuracy_m"] = 2.0
    for name in ("isc_l1ca", "isc_l2c", "isc_l5i", "isc_l5q", "isc_l1cd", "isc_l1cp", "isc_b2ad"):
        records[name] = np.nan
    return Ephemerides(records)


def _epoch(time_ns: int) -> Epoch:
    """What a receiver would measure of the satellites over its horizon."""
    every = _rows(time_ns, np.arange(32, dtype=np.int16), np.full(32, 2.2e7))
    seen = observe(every, _ephemerides(), Selection())
    sight = seen.states[:, :3] - _PLACE_ECEF_M
    range_m = np.sqrt((sight**2).sum(axis=1))
    high = sight[:, 0] / range_m > _ELEVATION_SINE_MIN
    return _rows(time_ns, seen.sat[high], range_m[high])


def _rows(time_ns: int, sat: NDArray[np.int16], range_m: NDArray[np.float64]) -> Epoch:
    """An epoch with both signals of each satellite."""
    signals = np.tile(np.array(_SIGNALS, np.int16), len(sat))
    frequency_hz, ranges_m = FREQUENCY_HZ[signals], np.repeat(range_m, len(_SIGNALS))
    rows = len(signals)
    return Epoch(
        time_ns=time_ns,
        sat=np.repeat(sat, len(_SIGNALS)),
        signal=signals,
        frequency_hz=frequency_hz,
        pseudorange_m=ranges_m,
        phase_cycles=ranges_m * frequency_hz / SPEED_OF_LIGHT_MPS,
        doppler_hz=np.zeros(rows),
        cn0_dbhz=np.full(rows, 45.0, np.float32),
        lock_s=np.full(rows, 100.0, np.float32),
        flags=np.zeros(rows, np.uint8),
    )


def main() -> None:
    """Compile all that a service needs into the cache that processes share, out of the way of the service itself."""
    os.nice(_NICENESS)
    warm_up({**service_steps(), "carriers": load_carriers}, Console(stderr=True))
    prune_cache()


if __name__ == "__main__":
    main()
