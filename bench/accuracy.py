"""Positions against truth: `dipper solve` and rnx2rtkp on the same recordings with the same options, in one run.

Recordings and truth are those of `../shared/data` beside the checkout; a set that is not there is left out, and the
notes say so. rnx2rtkp reads RINEX alone: raw streams are converted by convbin first, which loses what it cannot decode.
A run of every set writes its tables to `bench/results`, one of each mode.
Availability is of the epochs that the rover recorded; errors are of the epochs that have a truth.
"""

import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from bench.errors import UNKNOWN, Honesty, Truth, errors_of, honesty_of
from caster.codec.solution import Solution, read_pos
from solver.kernels.geodesy import ecef_from_geodetic
from solver.model import Quality
from solver.observed import Selection
from stations.compressed import read_plain
from stations.solve import Job, prepare
from stations.solve import run as solve_job

__all__ = [
    "DATA",
    "ELEVATION_MASK_DEG",
    "SETS",
    "Row",
    "Set",
    "errors_of",
    "job_of",
    "rows_of_sets",
    "run",
    "systems_mask",
    "to_markdown",
    "unpacked",
    "write_results",
]

_AnyRow = TypeVar("_AnyRow")

DATA: Final = Path(__file__).resolve().parents[2] / "shared" / "data"
ELEVATION_MASK_DEG: Final = 10.0
_MODES: Final = {"single": "0", "dgnss": "1"}
_CONFIGURATION: Final = "pos1-ionoopt=brdc\npos1-tropopt=saas\npos1-sateph=brdc\n"
_SYSTEM_BITS: Final = {"G": 1, "R": 4, "E": 8, "J": 16, "C": 32}
_TIMEOUT_S: Final = 600
_WEEK_MS: Final = 604_800_000
_GGA_FIXED: Final = 4

_HEAD: Final = """# Accuracy beside rnx2rtkp: {mode}

Written by `python -m bench accuracy`. Both solvers: elevation mask 10 degrees, broadcast orbits and ionosphere,
Saastamoinen, the same base coordinates; all other options are each program's defaults. Our seconds include reading the
raw or packed files, where rnx2rtkp reads plain RINEX; other work on the machine makes them rough.

* Within protection level: share of epochs whose horizontal error the level that came with the position bounds.
* H error / σ: horizontal errors in units of the covariance that came with them, RMS; 1 is an honest covariance.
* Step: by how much a position's step since the epoch before differs from the way by Doppler; needs no truth.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One solver on one recording; errors in metres."""

    set: str
    mode: str
    systems: str
    solver: str
    epochs: int
    available_percent: float
    h_rms_m: float
    h_95_m: float
    v_rms_m: float
    v_95_m: float
    under_1m_percent: float
    bounded_percent: float
    error_per_sigma: float
    step_95_m: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Set:
    """A recording with truth: files in its folder, the base's ECEF, and where the truth comes from.

    `peer_files` are the rover, the base and navigation as RINEX where rnx2rtkp cannot read our input; `convert_at`, the
    GPST date of raw RTCM that convbin makes RINEX of. `remark` goes under the table.
    """

    name: str
    folder: str
    rover: str
    base: str
    navigation: tuple[str, ...]
    truth: Callable[[Path], Truth]
    base_ecef_m: tuple[float, float, float] | None = None
    systems: tuple[str, ...] = ("G", "C", "GEJC", "GREJC")
    interval_s: float = 0.0
    convert_at: str = ""
    peer_files: tuple[str, ...] = ()
    remark: str = ""


def at_rest(x_m: float, y_m: float, z_m: float) -> Callable[[Path], Truth]:
    """The truth of an antenna that does not move."""
    return lambda folder: {-1: np.array([x_m, y_m, z_m])}


def _car(folder: Path) -> Truth:
    """Shanghai: week, seconds of week, ECEF."""
    rows = np.genfromtxt(folder / "reference_trajectory.csv", delimiter=",", skip_header=1)
    return {round(row[0]) * _WEEK_MS + round(row[1] * 1000): row[2:5] for row in rows}


def _walk(folder: Path) -> Truth:
    """Galway: week, seconds of week, GGA quality, ECEF; the epochs that the receiver itself has fixed."""
    rows = np.genfromtxt(folder / "reference_gga.csv", delimiter=",", usecols=range(6))
    rows = rows[rows[:, 2] == _GGA_FIXED]
    return {round(row[0]) * _WEEK_MS + round(row[1] * 1000): row[3:6] for row in rows}


def _drive(folder: Path) -> Truth:
    """Barcelona: week, seconds of week, latitude and longitude in degrees, height."""
    text = read_plain(folder / "reference_trajectory.csv.xz").decode()
    rows = np.genfromtxt(text.splitlines(), delimiter=",", usecols=range(5))
    return {
        round(week) * _WEEK_MS + round(tow_s * 1000): np.array(ecef_from_geodetic(lat, lon, height_m)).reshape(3)
        for week, tow_s, lat, lon, height_m in rows * (1, 1, *np.radians((1, 1)), 1)
    }


_NAGOYA_BASE: Final = ecef_from_geodetic(np.radians(35.134707705), np.radians(136.977577939), 104.853)
_ZEGV: Final = at_rest(3_908_910.3663, 330_932.7742, 5_012_262.5786)
_STR2: Final = at_rest(-4_467_074.3577, 2_683_011.9038, -3_667_008.2845)
_STR1: Final = (-4_467_102.3061, 2_683_039.5304, -3_666_949.9820)
_NL_NAV: Final = ("AMEL00NLD_R_20210010000_01D_MN.rnx.xz", "CBW100NLD_R_20210010000_01D_MN.rnx.xz")
_BDS_BASE: Final = (-492_863.4, 5_551_481.4, 3_092_895.3)

SETS: Final = (
    Set(
        "nagoya-1m", "matrtklib-static-2024-1m", "rover.obs.xz", "base.obs.xz", ("base.nav.xz",),
        at_rest(-3_817_681.3800, 3_562_839.9783, 3_650_158.3757), _NAGOYA_BASE,
    ),
    Set(
        "stromlo-70m", "str-stromlo-70m", "week-rollover-STR24.rtcm3.gz", "week-rollover-STR17.rtcm3.gz", (), _STR2,
        _STR1, convert_at="2018/07/14 23:45:00",
        remark="rnx2rtkp's converter mistakes the week after the roll-over, so it sees half of the base's epochs.",
    ),
    Set(
        "fujisawa-5km", "cssrlib-static-2021078-5km", "SEPT078M1.21O.xz", "3034078M1.21O.xz", ("SEPT078M.21P.xz",),
        at_rest(-3_962_108.6730, 3_381_309.5740, 3_668_678.6380), (-3_959_400.6310, 3_385_704.5330, 3_667_523.1110),
        ("G", "GEJ"),
    ),
    Set(
        "dutch-35km", "nl-network-2021001", "zegv001_00-12h.21o.xz", "delf001_00-12h.21o.xz", _NL_NAV, _ZEGV,
        (3_924_687.7327, 301_132.7684, 5_001_910.8144), ("G", "GR"),
    ),
    Set(
        "dutch-101km", "nl-network-2021001", "zegv001_00-12h.21o.xz", "rovn001_00-12h.21o.xz", _NL_NAV, _ZEGV,
        (3_859_571.8076, 413_007.6749, 5_044_091.5729), ("G", "GR"),
    ),
    Set(
        "tibet-418m", "bds-monitor-418m", "540423496360.2026-05-15.rtcm3.xz", "540423494727.2026-05-15.rtcm3.xz", (),
        at_rest(_BDS_BASE[0] - 236.553, _BDS_BASE[1] - 68.861, _BDS_BASE[2] - 337.870), _BDS_BASE, ("C",), 0.0,
        "2026/05/15 00:00:00",
        remark="truth is relative to a base that is known to metres; BeiDou alone, hills all around.",
    ),
    Set(
        "shanghai-car", "shanghai-car-vrs", "rover.rtcm3.xz", "base-vrs.rtcm3.xz", (), _car,
        (-2_845_676.4110, 4_661_619.4022, 3_283_215.3241), ("C", "GEJC", "GREJC"), 0.0, "2023/05/19 06:30:00",
        remark="the converter drops B2a; the solver takes it.",
    ),
    Set(
        "galway-walk", "jd-walk-20181009", "rover-20181009-1221.ubx.gz", "base-20181009-1220.ubx.gz", (), _walk,
        (3_774_696.5547, -596_647.9083, 5_089_485.6511), ("G", "GR"),
        peer_files=("convbin-rover.obs.gz", "convbin-base.obs.gz", "convbin-base.nav.gz"),
        remark="single frequency; truth is the receiver's own RTK where it is fixed. We take the base's RTCM, which is"
        " denser; rnx2rtkp its UBX by convbin, which has fewer damaged epochs.",
    ),
    Set(
        "barcelona-car", "mosaic-car-barcelona", "CARD00ESP_R_20203341240_20M_01S_MO.rnx.xz",
        "MARE00ESP_R_20203341240_20M_01S_MO.rnx.xz", ("CARD00ESP_R_20203340900_15H_MN.rnx.xz",), _drive,
        (4_777_633.8947, 203_108.9850, 4_206_595.1487), ("G", "C", "GEC", "GREC"),
        remark="the reference is a third party's and itself wrong by metres in places: its rows show robustness"
        " (availability, gross errors), not rank.",
    ),
)  # fmt: skip


def run(peers: dict[str, Path], names: list[str], *, repeat: int = 1, note: Callable[[str], None] = print) -> list[Row]:
    """Solve every set, or those named, in both modes; `peers` may name another `rnx2rtkp` or `convbin`."""
    return rows_of_sets(peers, names, note, _rows)


def rows_of_sets(
    peers: dict[str, Path],
    names: list[str],
    note: Callable[[str], None],
    rows_of: Callable[[Set, dict[str, str]], Iterable[_AnyRow]],
) -> list[_AnyRow]:
    """The rows of every set, or of those named, whose recordings are there; the peers' programs are found by name."""
    programs = {name: str(peers.get(name) or shutil.which(name) or "") for name in ("rnx2rtkp", "convbin")}
    if not programs["rnx2rtkp"]:
        note("rnx2rtkp is not installed: left out")
    rows: list[_AnyRow] = []
    for item in SETS:
        if names and item.name not in names:
            continue
        if not (DATA / item.folder).is_dir():
            note(f"{item.name}: no recording at {DATA / item.folder}: left out")
            continue
        note(f"{item.name} ...")
        rows += rows_of(item, programs)
    return rows


def _rows(item: Set, programs: dict[str, str]) -> Iterator[Row]:
    """Both solvers, both modes, all systems of one set."""
    folder = DATA / item.folder
    truth = item.truth(folder)
    with tempfile.TemporaryDirectory() as name:
        files = unpacked(item, Path(name), programs["convbin"])
        for mode in _MODES:
            for systems in item.systems:
                row, expected = _ours(item, mode, systems, truth)
                yield row
                if programs["rnx2rtkp"] and files:
                    yield _theirs(item, mode, systems, truth, programs["rnx2rtkp"], files, expected)


def _ours(item: Set, mode: str, systems: str, truth: Truth) -> tuple[Row, int]:
    """Our row, and how many epochs there were."""
    began = time.monotonic()
    job = job_of(item, mode, systems)
    fixes = [fix for fix in solve_job(job) if fix.quality != Quality.NONE]
    seconds = time.monotonic() - began
    errors = errors_of([(fix.time_ns, fix.position_ecef_m) for fix in fixes], truth)
    honesty = honesty_of(fixes, truth)
    return _row(item, mode, systems, "dipper", errors, len(fixes), len(job.rover), honesty, seconds), len(job.rover)


def _theirs(item: Set, mode: str, systems: str, truth: Truth, program: str, files: list[Path], expected: int) -> Row:
    """The row of rnx2rtkp, with our elevation mask, systems and base."""
    rover, base, *navigation = files
    out = rover.with_suffix(".pos")
    options = rover.with_suffix(".conf")
    options.write_text(_CONFIGURATION + f"pos1-navsys={systems_mask(systems)}\n")
    command = [program, "-k", str(options), "-p", _MODES[mode], "-m", str(ELEVATION_MASK_DEG), "-o", str(out)]
    if item.interval_s:
        command += ["-ti", str(item.interval_s)]
    if item.base_ecef_m and mode != "single":
        command += ["-r", *(f"{value:.4f}" for value in item.base_ecef_m)]
    command += [str(rover), *([str(base)] if mode != "single" else []), *map(str, navigation)]
    out.unlink(missing_ok=True)
    began = time.monotonic()
    subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
    seconds = time.monotonic() - began
    text = out.read_text() if out.exists() else ""
    solution: Solution | None = read_pos(text) if "Q" in text else None
    fixes = list(zip(solution.time_ns.tolist(), solution.position_ecef_m, strict=True)) if solution else []
    return _row(item, mode, systems, "rnx2rtkp", errors_of(fixes, truth), len(fixes), expected, UNKNOWN, seconds)


def job_of(item: Set, mode: str, systems: str, *, instantaneous: bool = False) -> Job:
    """A set as `dipper solve` reads it."""
    folder = DATA / item.folder
    return prepare(
        mode,
        [folder / item.rover],
        [folder / item.base] if mode != "single" else [],
        [folder / name for name in item.navigation],
        Selection(systems=systems, elevation_mask=float(np.radians(ELEVATION_MASK_DEG))),
        np.array(item.base_ecef_m) if item.base_ecef_m else None,
        interval_s=item.interval_s,
        instantaneous=instantaneous,
    )


def systems_mask(systems: str) -> int:
    """RTKLIB's number for a choice of systems."""
    return sum(_SYSTEM_BITS[letter] for letter in systems)


def unpacked(item: Set, folder: Path, convbin: str) -> list[Path]:
    """Rover, base and navigation as plain RINEX; empty where raw streams cannot be converted."""
    files: list[Path] = []
    navigation: list[Path] = []
    rover, base, *others = item.peer_files or (item.rover, item.base, *item.navigation)
    for role, name in (("rover", rover), ("base", base)):
        plain = folder / f"{role}.bin"
        plain.write_bytes(read_plain(DATA / item.folder / name))
        if item.convert_at:
            if not convbin:
                return []
            observation, ephemerides = folder / f"{role}.obs", folder / f"{role}.nav"
            command = [convbin, "-r", "rtcm3", "-v", "3.04", "-od", "-os", "-tr", *item.convert_at.split()]
            command += ["-o", str(observation), "-n", str(ephemerides), str(plain)]
            subprocess.run(command, capture_output=True, timeout=_TIMEOUT_S, check=False)
            navigation += [ephemerides] if ephemerides.exists() else []
            plain = observation
        files.append(plain)
    for number, name in enumerate(others):
        navigation.append(folder / f"{number}.nav")
        navigation[-1].write_bytes(read_plain(DATA / item.folder / name))
    return files + navigation


def _row(
    item: Set, mode: str, systems: str, solver: str, errors: NDArray[np.float64], solved: int, expected: int,
    honesty: Honesty, seconds: float,
) -> Row:  # fmt: skip
    """The figures of one solution."""
    h, v = (np.hypot(errors[:, 0], errors[:, 1]), np.abs(errors[:, 2])) if len(errors) else (np.full(1, np.nan),) * 2
    return Row(
        set=item.name,
        mode=mode,
        systems=systems,
        solver=solver,
        epochs=expected,
        available_percent=100.0 * solved / max(expected, 1),
        h_rms_m=float(np.sqrt((h**2).mean())),
        h_95_m=float(np.percentile(h, 95)),
        v_rms_m=float(np.sqrt((v**2).mean())),
        v_95_m=float(np.percentile(v, 95)),
        under_1m_percent=100.0 * float((h < 1.0).mean()),
        bounded_percent=honesty.bounded_percent,
        error_per_sigma=honesty.error_per_sigma,
        step_95_m=honesty.step_95_m,
        seconds=seconds,
    )


def to_markdown(rows: list[Row]) -> str:
    """The rows as a table for `bench/results`."""
    head = (
        "| set | mode | systems | solver | epochs | available % | H RMS m | H 95 % m | V RMS m | V 95 % m | H < 1 m %"
        " | within protection level % | H error / σ | step 95 % m | s |\n"
        "|---|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n"
    )
    lines = [
        f"| {r.set} | {r.mode} | {r.systems} | {r.solver} | {r.epochs} | {r.available_percent:.1f} | {r.h_rms_m:.3f}"
        f" | {r.h_95_m:.3f} | {r.v_rms_m:.3f} | {r.v_95_m:.3f} | {r.under_1m_percent:.1f}"
        f" | {_known(r.bounded_percent, '.1f')} | {_known(r.error_per_sigma, '.2f')} | {_known(r.step_95_m, '.2f')}"
        f" | {r.seconds:.1f} |\n"
        for r in rows
    ]
    return head + "".join(lines)


def _known(value: float, form: str) -> str:
    return "" if np.isnan(value) else format(value, form)


def write_results(rows: list[Row], folder: Path) -> None:
    """Write a table of each mode, with what has to be known of its sets."""
    remarks = "".join(f"* {item.name}: {item.remark}\n" for item in SETS if item.remark)
    for mode in _MODES:
        table = to_markdown([row for row in rows if row.mode == mode])
        (folder / f"accuracy-{mode}.md").write_text(_HEAD.format(mode=mode) + remarks + "\n" + table)
