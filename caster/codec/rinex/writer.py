"""RINEX 3.04 observation and navigation files from epochs and ephemerides.

Version 3.04 is what common post-processing reads. Time tags are GPST. Navigation messages that 3.04 cannot hold (the
CNAV family and BeiDou CNV1 to CNV3) are left out. RINEX 3.04 tables A2, A3, A5 to A16.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from caster.codec.rinex.header import Header
from caster.codec.rinex.messages import LAYOUT, STATE
from solver import signals
from solver.model import HALF_CYCLE, SLIP, Ephemerides, Epoch, NavMessage
from solver.timescale import (
    BDT_OFFSET_S,
    BDT_WEEK_OFFSET,
    NS,
    WEEK_NS,
    leap_seconds,
    to_datetime,
    to_utc,
    week_and_tow,
)

__all__ = ["observed_signals", "write_navigation", "write_observations"]

_VERSION: Final = 3.04
_BLANK: Final = " " * 16
_UNKNOWN: Final = 0.999999999999e09
"""For a value that is not known, RINEX 3.04 table A6."""
_SOURCES: Final = {NavMessage.INAV: 0x205, NavMessage.FNAV: 0x102}
"""Galileo data sources, RINEX 3.04 table A8: I/NAV of E1-B and E5b-I with E5b, E1 clocks; F/NAV with E5a, E1 clocks."""
_WRITABLE: Final = (NavMessage.LNAV, NavMessage.INAV, NavMessage.FNAV, NavMessage.D1, NavMessage.D2)


def observed_signals(epochs: Iterable[Epoch]) -> list[int]:
    """All signals that occur in epochs, in rising order, but those that RINEX has no name for."""
    found: set[int] = set()
    for epoch in epochs:
        found.update(np.unique(epoch.signal).tolist())
    return sorted(code for code in found if signals.RINEX_CODE[code])


def write_observations(epochs: Sequence[Epoch], header: Header) -> Iterator[str]:
    """A RINEX 3.04 observation file, in pieces.

    Args:
        epochs: In order of time; they are gone through twice, first for the header's list of signals.
        header: Station, receiver and antenna; types, times and channels are found from the epochs.
    """
    codes = observed_signals(epochs)
    yield "".join(_observation_header(epochs, header, codes))
    slot = {code: slot for slots in _by_system(codes).values() for slot, code in enumerate(slots)}
    for epoch in epochs:
        yield _epoch_text(epoch, slot)


def write_navigation(ephemerides: Ephemerides, leap_s: int | None = None) -> Iterator[str]:
    """A RINEX 3.04 navigation file, in pieces, ordered by satellite and time within each kind.

    Args:
        ephemerides: What is to be written; messages that RINEX 3.04 does not know are left out.
        leap_s: GPST - UTC for the header; by default that of the first record.
    """
    kepler = ephemerides.kepler[np.isin(ephemerides.kepler["message"], _WRITABLE)]
    times = [*kepler["toe_ns"].tolist(), *ephemerides.glonass["toe_ns"].tolist()]
    leap_s = leap_seconds(min(times, default=0)) if leap_s is None else leap_s
    yield _line(f"{_VERSION:9.2f}{'':11}N: GNSS NAV DATA    M: MIXED", "RINEX VERSION / TYPE")
    yield _line("BIG DIPPER", "PGM / RUN BY / DATE")
    for system, values in (("GPS", ephemerides.klobuchar_gps), ("BDS", ephemerides.klobuchar_beidou)):
        if np.isfinite(values).all():
            for half, part in (("A", values[:4]), ("B", values[4:])):
                yield _line(f"{system}{half} " + "".join(f"{value:12.4E}" for value in part), "IONOSPHERIC CORR")
    yield _line(f"{leap_s:6d}", "LEAP SECONDS")
    yield _line("", "END OF HEADER")
    yield from (_kepler_text(record) for record in kepler)
    yield from (_state_text(record) for record in ephemerides.glonass)


def _line(text: str, label: str) -> str:
    return f"{text[:60]:<60}{label:<20}\n"


def _by_system(codes: list[int]) -> dict[str, list[int]]:
    """Signals by system letter."""
    systems: dict[str, list[int]] = {}
    for code in codes:
        systems.setdefault(signals.SYSTEMS[code // signals.SIGNALS_PER_SYSTEM], []).append(code)
    return systems


def _observation_header(epochs: Sequence[Epoch], header: Header, codes: list[int]) -> Iterator[str]:
    yield _line(f"{_VERSION:9.2f}{'':11}OBSERVATION DATA    M: MIXED", "RINEX VERSION / TYPE")
    yield _line("BIG DIPPER", "PGM / RUN BY / DATE")
    yield _line(header.marker_name or "UNKNOWN", "MARKER NAME")
    yield _line(header.marker_number, "MARKER NUMBER")
    yield _line("", "OBSERVER / AGENCY")
    receiver = (header.receiver_serial, header.receiver_type, header.receiver_version)
    yield _line("".join(f"{text[:20]:20}" for text in receiver), "REC # / TYPE / VERS")
    yield _line(f"{header.antenna_serial[:20]:20}{header.antenna_type[:20]:20}", "ANT # / TYPE")
    for values, label in ((header.position_ecef_m, "APPROX POSITION XYZ"),
                          (header.antenna_delta_m, "ANTENNA: DELTA H/E/N")):  # fmt: skip
        yield _line("".join(f"{value:14.4f}" for value in np.nan_to_num(values)), label)
    for letter, found in _by_system(codes).items():
        yield from _types(letter, [kind + signals.RINEX_CODE[code] for code in found for kind in "CLDS"])
    yield _line("DBHZ", "SIGNAL STRENGTH UNIT")
    if np.isfinite(header.interval_s):
        yield _line(f"{header.interval_s:10.3f}", "INTERVAL")
    if len(epochs):
        for epoch, label in ((epochs[0], "TIME OF FIRST OBS"), (epochs[-1], "TIME OF LAST OBS")):
            yield _line(_time_of_observation(epoch.time_ns), label)
    yield from _glonass_slots(_channels(epochs) | header.glonass_channel)
    if len(epochs):
        yield _line(f"{leap_seconds(epochs[0].time_ns):6d}", "LEAP SECONDS")
    yield _line("", "END OF HEADER")


def _types(letter: str, types: list[str]) -> Iterator[str]:
    for start in range(0, len(types), 13):
        head = f"{letter}  {len(types):3d}" if start == 0 else " " * 6
        yield _line(head + "".join(f" {name}" for name in types[start : start + 13]), "SYS / # / OBS TYPES")


def _time_of_observation(time_ns: int) -> str:
    moment, hundred_ns = _moment(time_ns)
    second = f"{moment.second + hundred_ns / 1e7:13.7f}"
    return f"{moment.year:6d}{moment.month:6d}{moment.day:6d}{moment.hour:6d}{moment.minute:6d}{second}{'':5}GPS"


def _moment(time_ns: int) -> tuple[Any, int]:
    """Calendar date to the second, and the rest in 100 ns, rounded as a whole."""
    hundred_ns = (time_ns + 50) // 100
    return to_datetime(hundred_ns // 10**7 * NS), hundred_ns % 10**7


def _channels(epochs: Sequence[Epoch]) -> dict[int, int]:
    """GLONASS channel by slot, from the carrier frequencies."""
    found: dict[int, int] = {}
    for epoch in epochs:
        glonass = epoch.sat // signals.PRN_PER_SYSTEM == signals.GLONASS
        for sat, code, frequency_hz in zip(
            epoch.sat[glonass].tolist(), epoch.signal[glonass].tolist(), epoch.frequency_hz[glonass].tolist(),
            strict=True,
        ):  # fmt: skip
            step_hz = signals.GLONASS_CHANNEL_STEP_HZ.get(str(signals.BAND[code]))
            if step_hz and np.isfinite(frequency_hz):
                offset_hz = frequency_hz - float(signals.FREQUENCY_HZ[code])
                found[sat % signals.PRN_PER_SYSTEM + 1] = round(offset_hz / step_hz)
    return found


def _glonass_slots(channels: dict[int, int]) -> Iterator[str]:
    pairs = [f"R{slot:02d} {channel:2d} " for slot, channel in sorted(channels.items())]
    for start in range(0, len(pairs), 8):
        head = f"{len(pairs):3d} " if start == 0 else " " * 4
        yield _line(head + "".join(pairs[start : start + 8]), "GLONASS SLOT / FRQ #")


def _epoch_text(epoch: Epoch, slot: dict[int, int]) -> str:
    moment, hundred_ns = _moment(epoch.time_ns)
    satellites: dict[int, list[str]] = {}
    rows = zip(
        epoch.sat.tolist(), epoch.signal.tolist(), epoch.pseudorange_m.tolist(), epoch.phase_cycles.tolist(),
        epoch.doppler_hz.tolist(), epoch.cn0_dbhz.tolist(), epoch.flags.tolist(), strict=True,
    )  # fmt: skip
    for sat, code, *values in rows:
        if code not in slot:
            continue
        cells = satellites.setdefault(sat, [])
        cells.extend([4 * _BLANK] * (slot[code] - len(cells)))
        cells.append(_cells(*values))
    second = f"{moment.second:2d}.{hundred_ns:07d}"
    head = f"> {moment:%Y %m %d %H %M} {second}  0{len(satellites):3d}\n"
    return head + "".join(
        f"{signals.satellite_name(sat)}{''.join(cells).rstrip()}\n" for sat, cells in satellites.items()
    )


def _cells(pseudorange_m: float, phase_cycles: float, doppler_hz: float, cn0_dbhz: float, flags: int) -> str:
    """Range, phase, Doppler and strength of one signal, 64 columns."""
    strength = str(min(max(int(cn0_dbhz / 6), 1), 9)) if _fits(cn0_dbhz) else " "
    lock = str((flags & SLIP and 1) | (flags & HALF_CYCLE and 2)) if flags & (SLIP | HALF_CYCLE) else " "
    return (
        (f"{pseudorange_m:14.3f} {strength}" if _fits(pseudorange_m) else _BLANK)
        + (f"{phase_cycles:14.3f}{lock}{strength}" if _fits(phase_cycles) else _BLANK)
        + (f"{doppler_hz:14.3f}  " if _fits(doppler_hz) else _BLANK)
        + (f"{cn0_dbhz:14.3f}  " if _fits(cn0_dbhz) else _BLANK)
    )


def _fits(value: float) -> bool:
    """Whether a value can be written in 14 columns with three decimals; NaN cannot."""
    return -999_999_999.9995 < value < 9_999_999_999.9995


def _record_text(name: str, moment_ns: int, values: Sequence[float]) -> str:
    """A record: satellite, date and three numbers, then four numbers a line."""
    numbers = [f"{value:19.12E}" for value in values]
    lines = [f"{name} {to_datetime(moment_ns):%Y %m %d %H %M %S}" + "".join(numbers[:3])]
    lines += ["    " + "".join(numbers[start : start + 4]) for start in range(3, len(numbers), 4)]
    return "\n".join(lines) + "\n"


def _kepler_text(record: NDArray[Any]) -> str:
    message = NavMessage(int(record["message"]))
    name = signals.satellite_name(int(record["sat"]))
    of_beidou = message in (NavMessage.D1, NavMessage.D2)
    offset_ns = BDT_OFFSET_S * NS if of_beidou else 0
    week = (int(record["toe_ns"]) - offset_ns) // WEEK_NS
    sent_ns = int(record["transmitted_ns"])
    fit_h = float(record["fit_s"]) / 3600
    extra = {
        "l2_codes": 1.0 if name[0] == "G" else 0.0,
        "l2p": 0.0,
        "spare": 0.0,
        "sources": _SOURCES.get(message, 0),
        "week": week - (BDT_WEEK_OFFSET if of_beidou else 0),
        "transmitted_s": _UNKNOWN if sent_ns < 0 else (sent_ns - offset_ns - week * WEEK_NS) / NS,
        "fit": fit_h,
    }
    values = [float(extra[field] if field in extra else record[field]) for field in LAYOUT[message]]
    if not np.isfinite(record["accuracy_m"]):
        values[LAYOUT[message].index("accuracy_m")] = -1.0 if name[0] == "E" else 8192.0
    return _record_text(name, int(record["toc_ns"]) - offset_ns, values)


def _state_text(record: NDArray[Any]) -> str:
    of_glonass = int(record["sat"]) // signals.PRN_PER_SYSTEM == signals.GLONASS
    toe_ns, sent_ns = int(record["toe_ns"]), int(record["transmitted_ns"])
    moment_ns, sent_ns = (to_utc(toe_ns), to_utc(sent_ns)) if of_glonass else (toe_ns, sent_ns)
    vectors = ("position_m", ""), ("velocity_mps", "v"), ("acceleration_mps2", "a")
    value = {prefix + axis: float(record[field][place]) / 1e3 for field, prefix in vectors
             for place, axis in enumerate("xyz")}  # fmt: skip
    value |= {
        "bias": float(record["clock_bias_s"]),
        "drift": float(record["clock_drift"]),
        "frame_s": _UNKNOWN if record["transmitted_ns"] < 0 else week_and_tow(sent_ns)[1],
        "health": float(record["health"]),
        "channel": float(record["channel"] if of_glonass else np.nan_to_num(record["accuracy_m"], nan=32767.0)),
        "age": float(record["age_days"] if of_glonass else record["iode"]),
    }
    name = signals.satellite_name(int(record["sat"]))
    return _record_text(name, moment_ns, [value[field] for field in STATE[:15]])
