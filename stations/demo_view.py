"""The demonstration on the terminal: tables that live, plain lines elsewhere, and what was seen at the end."""

import math
import statistics

from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table

from caster.dgnss import DgnssMountpoint
from caster.mountpoints import Mountpoint
from caster.positioning import FixMountpoint
from stations.demo import BASE, Answers, Demo

__all__ = ["line", "summary", "tables", "where_to_look"]

QUALITY = {0: "no position", 1: "single", 2: "differential", 4: "fixed", 5: "float"}


def where_to_look(demo: Demo) -> list[str]:
    """How to connect one's own software."""
    address = demo.address
    return [
        f"sourcetable  dipper sourcetable ntrip://{address}, or http://{address}/ in a browser",
        f"station      str2str -in ntrip://{address}/{BASE} -out station.rtcm3",
        f"corrections  gpsd -N -n ntrip://{address}/DGNSS",
        "             RTKNAVI, RTKRCV, QGIS, a receiver: NTRIP client, no user, no password, mountpoint DGNSS",
        f"positions    dipper rover ntrip://{address}/FIX --upload FILE",
    ]


def tables(demo: Demo) -> RenderableType:
    """What is going on now."""
    look = Panel("\n".join(where_to_look(demo)), title="Where to look", title_align="left", expand=False)
    return Group(_mounts(demo), _rovers(demo), look)


def line(demo: Demo, elapsed_s: float) -> str:
    """What is going on now, in one line."""
    carried = demo.corrected.tally
    return f"{elapsed_s:4.0f} s  {position_text(demo.answers)}  |  corrections: {carried.epochs} epochs"


def position_text(answers: Answers) -> str:
    """The uploading rover's last answer."""
    gga = answers.last
    if gga is None or gga.latitude_deg is None or gga.longitude_deg is None:
        return "no position yet"
    distance_m = answers.distance_m(gga)
    where = f"{gga.latitude_deg:.7f} {gga.longitude_deg:.7f} {gga.height_m:.2f} m"
    away = "" if distance_m is None else f", {distance_m:.2f} m from the reference"
    return f"{where}  {QUALITY.get(gga.quality, '?')}, {gga.satellites} satellites{away}"


def summary(demo: Demo) -> list[str]:
    """What was seen."""
    answers, tally = demo.answers, demo.corrected.tally
    station = demo.service.engine.stations[BASE].info
    states = ", ".join(f"{count} {QUALITY.get(quality, '?')}" for quality, count in sorted(answers.qualities.items()))
    lines = [
        f"station {BASE}: {station.epochs_seen} epochs decoded for rovers",
        f"rover with corrections: {tally.epochs} epochs of {len(tally.messages)} message types, {tally.received} bytes",
        f"rover with positions: {sum(answers.qualities.values())} answers ({states or 'none'})",
    ]
    if answers.distances_m:
        median_m = statistics.median(answers.distances_m)
        lines.append(f"median distance from the reference trajectory, itself good to about a metre: {median_m:.2f} m")
    return lines


def _mounts(demo: Demo) -> Table:
    table = Table("mount", "kind", "rovers", "systems", "bit/s", "state", title="Mountpoints", title_justify="left")
    for mountpoint in demo.caster.mountpoints:
        traffic = mountpoint.mount.traffic
        rovers = len(mountpoint.mount) + _served_apart(mountpoint)
        fault = demo.service.engine.fault(mountpoint.name) if mountpoint.name == BASE else ""
        state = fault or ("live" if mountpoint.is_live else "waits for a station")
        systems, bitrate = "+".join(traffic.systems()), str(traffic.bitrate() or "")
        table.add_row(mountpoint.name, mountpoint.config.kind, str(rovers), systems, bitrate, state)
    return table


def _served_apart(mountpoint: Mountpoint) -> int:
    """Rovers of a service, which follow another mountpoint's stream or none."""
    if isinstance(mountpoint, DgnssMountpoint):
        return mountpoint.rover_count
    return len(mountpoint.tracks) if isinstance(mountpoint, FixMountpoint) else 0


def _rovers(demo: Demo) -> Table:
    table = Table("rover", "gets", "now", "latency", title="Rovers", title_justify="left")
    for track in demo.fix_mountpoint.tracks.values():
        latency = "" if math.isnan(track.latency_s) else f"{track.latency_s * 1e3:.0f} ms"
        source = f"NMEA, corrected by {track.base}" if track.base else "NMEA"
        table.add_row("car CARD, uploads observations", source, position_text(demo.answers), latency)
    tally = demo.corrected.tally
    table.add_row(
        "rover that takes corrections", "RTCM 3 of DGNSS", f"{tally.epochs} epochs, {tally.received} bytes", ""
    )
    return table
