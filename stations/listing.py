"""Messages of an RTCM 3 recording for people and programs: one JSON object each, and tables of them all.

JSON numbers are what the message means, in the units that their names say; null where it sends no value. `tow_s` is in
GPST for every system.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from rich.table import Table

from caster.codec.rtcm import FrameReader, Message, Msm, message_type
from caster.codec.rtcm import msm_kernels as rows
from caster.codec.rtcm.ephemeris import KEPLER_TYPES
from caster.codec.rtcm.layouts import GLONASS_LEGACY, LAYOUTS, LEGACY_TYPES
from caster.codec.rtcm.legacy import cells
from caster.codec.rtcm.timing import epoch_gpst_ns, tow_ns
from caster.tracking import carrier_hz
from solver.constants import SPEED_OF_LIGHT_MPS
from solver.signals import GLONASS, GPS, satellite, satellite_name, signal_name
from solver.timescale import NS, to_datetime, week_and_tow
from stations.framefiles import Facts

__all__ = ["Lister", "TypeSummary"]

_NAMES = {
    1005: "station position", 1006: "station position and antenna height", 1007: "antenna", 1008: "antenna and serial",
    1013: "system parameters", 1019: "GPS ephemeris", 1020: "GLONASS ephemeris", 1029: "text", 1032: "physical station",
    1033: "receiver and antenna", 1041: "NavIC ephemeris", 1042: "BeiDou ephemeris", 1044: "QZSS ephemeris",
    1045: "Galileo F/NAV ephemeris", 1046: "Galileo I/NAV ephemeris", 1230: "GLONASS code-phase biases",
}  # fmt: skip
_SYSTEM_NAMES = ("GPS", "GLONASS", "Galileo", "SBAS", "QZSS", "BeiDou", "NavIC")


@dataclass(slots=True)
class TypeSummary:
    """What came of one message type."""

    count: int = 0
    size: int = 0
    faults: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    epochs: int = 0
    satellites: set[int] = field(default_factory=set)
    signals: set[int] = field(default_factory=set)
    detail: str = ""


class Lister:
    """Takes a recording's messages in turn.

    Attributes:
        types: Summaries by message type.
    """

    def __init__(self, facts: Facts, reader: FrameReader) -> None:
        self.types: dict[int, TypeSummary] = {}
        self._reader = reader
        self._channels = facts.channels
        self._near_ns = facts.time_ns
        self._running = False
        self._last_fault = ""

    def take(self, frame: bytes, message: Msm | Message) -> None:
        """Count one message."""
        kind = self._count(frame)
        time_ns = self._time_ns(message)
        if time_ns is not None:
            self._near_ns, self._running = time_ns, True
            kind.epochs += time_ns != kind.last_ns
            kind.first_ns = time_ns if kind.first_ns is None else kind.first_ns
            kind.last_ns = time_ns
        if isinstance(message, Msm):
            kind.satellites.update(message.sat.tolist())
            kind.signals.update(message.signal.tolist())
        elif message.type in LEGACY_TYPES:
            raw = cells(message)[0]
            kind.satellites.update(raw[rows.CELL_SATELLITE].tolist())
            kind.signals.update(raw[rows.CELL_SIGNAL].tolist())
        elif sat := _ephemeris_satellite(message):
            kind.satellites.add(satellite(*sat))
        else:
            kind.detail = _detail(message) or kind.detail

    def take_fault(self, frame: bytes, reason: str) -> None:
        """Count one message whose content is impossible."""
        self._count(frame).faults += 1
        self._last_fault = reason

    def _count(self, frame: bytes) -> TypeSummary:
        kind = self.types.setdefault(message_type(frame), TypeSummary())
        kind.count += 1
        kind.size += len(frame)
        return kind

    def _time_ns(self, message: Msm | Message) -> int | None:
        """Full GPST of an observation message; None for others, and while the date is not known."""
        found = _epoch_of(message)
        if found is None or self._near_ns is None:
            return None
        system, epoch = found
        return epoch_gpst_ns(system, epoch, self._near_ns, legacy=isinstance(message, Message), by_day=self._running)

    def as_json(self, message: Msm | Message) -> dict[str, Any]:
        """One message as an object of JSON."""
        if isinstance(message, Msm):
            observed = {"station": message.station, **self._time_json(message), "mm": message.multiple}
            return {
                "type": message.type,
                **observed,
                "cells": self._cells_json(message.raw, message.values, message.kind),
            }
        if message.type in LEGACY_TYPES:
            return self._legacy_json(message)
        named: dict[str, Any] = {"type": message.type}
        if sat := _ephemeris_satellite(message):
            named["sat"] = satellite_name(satellite(*sat))
        if message.type not in LAYOUTS:
            return named | {"bytes": len(message.rest), "payload": message.rest.hex()}
        return named | message.fields

    def _legacy_json(self, message: Message) -> dict[str, Any]:
        raw, values, channels = cells(message)
        for sat, channel in channels.items():
            self._channels[sat % 64] = channel
        observed = {"station": message.fields["station"], **self._time_json(message)}
        observed |= {"mm": bool(message.fields["multiple"]), "cells": self._cells_json(raw, values, 7)}
        if message.type % 2:  # pseudoranges modulo a light millisecond: as they are sent
            observed["satellites"] = message.fields["satellites"]
        return {"type": message.type, **observed}

    def _time_json(self, message: Msm | Message) -> dict[str, Any]:
        time_ns = self._time_ns(message)
        if time_ns is not None:
            week, tow_s = week_and_tow(time_ns)
            return {"gps_week": week, "tow_s": tow_s}
        found = _epoch_of(message)
        of_week_ns = tow_ns(*found) if found else None
        return {"gps_week": None, "tow_s": None if of_week_ns is None else of_week_ns / NS}

    def _cells_json(self, raw: Any, values: Any, kind: int) -> list[dict[str, Any]]:
        sat, code = raw[rows.CELL_SATELLITE], raw[rows.CELL_SIGNAL]
        per_metre = carrier_hz(sat, code, self._channels) / SPEED_OF_LIGHT_MPS
        modulo = kind < 4
        ranges = ("pseudorange_modulo_m", "phase_range_modulo_m") if modulo else ("pseudorange_m", "phase_cycles")
        table = {
            "sat": [satellite_name(number) for number in sat.tolist()],
            "signal": [signal_name(number)[1:] for number in code.tolist()],
            ranges[0]: _numbers(values[rows.PSEUDORANGE_M]),
            ranges[1]: _numbers(values[rows.PHASE_RANGE_M] * (1.0 if modulo else per_metre)),
            "lock_time_ms": [None if math.isnan(lock) else int(lock) for lock in values[rows.LOCK_MS].tolist()],
            "half_cycle": (raw[rows.HALF_CYCLE] > 0).tolist(),
            "cn0_dbhz": _numbers(values[rows.CN0_DBHZ]),
            "doppler_hz": _numbers(-values[rows.RATE_MPS] * per_metre),
        }
        if modulo:
            table |= {"pseudorange_m": [None] * len(sat), "phase_cycles": [None] * len(sat)}
        return [dict(zip(table, row, strict=True)) for row in zip(*table.values(), strict=True)]

    def summary(self) -> dict[str, Any]:
        """What was in the recording, damage included."""
        counters = self._reader.counters
        return {
            "frames": counters.frames,
            "bad_crc": counters.bad_crc,
            "skipped_bytes": counters.skipped_bytes,
            "faulty": sum(kind.faults for kind in self.types.values()),
            "last_fault": self._last_fault,
            "types": {str(number): kind.count for number, kind in sorted(self.types.items())},
        }

    def tables(self, title: str) -> Iterator[Table | str]:
        """What was in the recording, for people."""
        table = Table(title=title)
        for name in ("type", "messages", "bytes", "interval", "satellites", "what"):
            table.add_column(name, justify="left" if name == "what" else "right")
        for number, kind in sorted(self.types.items()):
            table.add_row(*_table_row(number, kind))
        yield table
        times = [kind for kind in self.types.values() if kind.first_ns is not None and kind.last_ns is not None]
        if times:
            first, last = min(kind.first_ns or 0 for kind in times), max(kind.last_ns or 0 for kind in times)
            yield f"{to_datetime(first)} to {to_datetime(last)} GPST"
        counters = self._reader.counters
        yield f"{counters.frames} frames, {counters.bad_crc} with a bad CRC, {counters.skipped_bytes} bytes of no frame"
        if faults := sum(kind.faults for kind in self.types.values()):
            yield f"{faults} impossible messages, the last: {self._last_fault}"


def _epoch_of(message: Msm | Message) -> tuple[int, int] | None:
    """System and epoch field of an observation message."""
    if isinstance(message, Msm):
        return message.system, message.epoch
    if message.type in LEGACY_TYPES:
        return GLONASS if message.type in GLONASS_LEGACY else GPS, message.fields["epoch"]
    return None


def _ephemeris_satellite(message: Message) -> tuple[int, int] | None:
    """System and number of an ephemeris's satellite; None where it is no ephemeris or no satellite has that number."""
    system = (
        GLONASS if message.type == 1020 else KEPLER_TYPES[message.type].system if message.type in KEPLER_TYPES else -1
    )
    if system < 0 or not 1 <= message.fields["satellite"] <= 64:
        return None
    return system, message.fields["satellite"]


def _numbers(values: Any) -> list[float | None]:
    """Numbers for JSON, which has no NaN."""
    return [None if math.isnan(value) else value for value in np.asarray(values, float).tolist()]


def _detail(message: Message) -> str:
    fields = message.fields
    if message.type in (1005, 1006, 1032):
        return "X {x_m:.4f}  Y {y_m:.4f}  Z {z_m:.4f} m".format(**fields)
    if message.type in (1007, 1008, 1033):
        return ", ".join(fields[name] for name in ("receiver", "firmware", "antenna") if fields.get(name))
    if message.type == 1230:
        return ", ".join(f"{name} {bias:+.2f} m" for name, bias in fields["bias_m"].items())
    return str(fields.get("text", "")).strip("\0")


def _table_row(number: int, kind: TypeSummary) -> tuple[str, ...]:
    interval = ""
    if kind.epochs > 1 and kind.first_ns is not None and kind.last_ns is not None:
        interval = f"{(kind.last_ns - kind.first_ns) / NS / (kind.epochs - 1):.4g} s"
    what = _NAMES.get(number, "")
    if 1071 <= number <= 1137:
        what = f"{_SYSTEM_NAMES[(number - 1071) // 10]} MSM{number % 10}"
    elif number in LEGACY_TYPES:
        what = f"{_SYSTEM_NAMES[GLONASS if number in GLONASS_LEGACY else GPS]} observations"
    signals = " ".join(signal_name(code)[1:] for code in sorted(kind.signals))
    text = ": ".join(part for part in (what, signals or kind.detail) if part)
    satellites = str(len(kind.satellites)) if kind.satellites else ""
    return str(number), str(kind.count), str(kind.size), interval, satellites, text
