"""Post-processing: recordings in, a fix per epoch out. `dipper solve` prints what comes from here.

Each mode is a function from a `Job` to fixes; `MODES` names them; it imports its own solver alone. Corrections come
from the latest base epoch that is not later than the rover's, as a rover in the field would have it.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from caster.epochs import StationDescription
from caster.errors import ConfigError, SourceError
from solver.constants import WGS84_A_M
from solver.jit import was_compiled
from solver.model import Ephemerides, Epoch, Fix, Quality
from solver.observed import Selection
from solver.signals import SIGNAL_COUNT, SIGNALS_PER_SYSTEM, SYSTEMS, signal
from solver.spp import SppOptions, solve, solve_all
from solver.timescale import NS, to_datetime
from stations.collector import collector_paused
from stations.compressed import Reader, read_plain
from stations.recordings import EARTH_RADIUS_MIN_M, Recording, Session, UndatedError

if TYPE_CHECKING:
    from solver.rtk import RtkOptions

__all__ = [
    "MODES",
    "Job",
    "Summary",
    "base_position",
    "is_one_make",
    "latest_base",
    "load_kernels",
    "prepare",
    "run",
    "signal_mask",
]

_TOLERANCE_NS: Final = 5_000_000
_SAME_INSTANT_NS: Final = 25_000_000
"""How far a base's time tag may lie behind a rover's of the same instant, as RTKLIB allows: receivers that do not steer
their clocks are off by milliseconds. Each is modelled at its own tag."""
_MAKE_LETTERS: Final = 4
_NO_MAKES: Final = {"", "NONE", "UNKN"}
_FAR_M: Final = 100.0
_CENTIMETRES: Final = ("kinematic", "moving-base", "static")
"""Modes that are good enough for antennas to matter."""
_CHECK_EPOCHS: Final = 20
_BASE_AGE_MAX_NS: Final = 60 * NS
"""As of `solver.rtk.RtkOptions.age_max_s`, which is the longest of all modes."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be solved.

    Attributes:
        mode: A key of `MODES`.
        rover: Epochs to solve, in order.
        base: Epochs of the base, in order; empty where the mode needs none.
        base_ecef_m: (3,) of the base; NaN where there is none.
        ephemerides: Broadcast data of all files.
        selection: Which observations may be used.
        instantaneous: Ambiguities are resolved from each epoch alone (modes that resolve any).
        warnings: What the user should know about the input.
        one_make: Rover and base are known to be receivers of one make.
    """

    mode: str
    rover: list[Epoch]
    base: list[Epoch]
    base_ecef_m: NDArray[np.float64]
    ephemerides: Ephemerides
    selection: Selection
    instantaneous: bool = False
    warnings: list[str] = field(default_factory=list)
    one_make: bool = False


@dataclass(slots=True)
class Summary:
    """What came of a job, counted as the fixes pass."""

    epochs: int = 0
    qualities: Counter[Quality] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    first_ns: int | None = None
    first_fix_ns: int | None = None

    def add(self, fix: Fix) -> None:
        """Count a fix."""
        self.epochs += 1
        self.qualities[fix.quality] += 1
        self.first_ns = fix.time_ns if self.first_ns is None else self.first_ns
        if fix.quality == Quality.FIX and self.first_fix_ns is None:
            self.first_fix_ns = fix.time_ns
        if fix.quality == Quality.NONE:
            self.reasons[fix.reason] += 1

    def line(self, elapsed_s: float) -> str:
        """The last line of `dipper solve`."""
        solved = self.epochs - self.qualities[Quality.NONE]
        shares = ", ".join(
            f"{quality.name.lower()} {100.0 * count / max(self.epochs, 1):.1f} %"
            for quality, count in sorted(self.qualities.items())
            if quality != Quality.NONE
        )
        first = "none"
        if self.first_fix_ns is not None and self.first_ns is not None:
            first = f"{(self.first_fix_ns - self.first_ns) / NS:.0f} s"
        fix_rate = 100.0 * self.qualities[Quality.FIX] / max(solved, 1)
        return (
            f"{self.epochs} epochs, availability {100.0 * solved / max(self.epochs, 1):.1f} % ({shares or 'none'}), "
            f"fix rate {fix_rate:.1f} %, time to first fix {first}, {self.epochs / max(elapsed_s, 1e-9):.0f} epochs/s"
        )


@collector_paused()
def prepare(
    mode: str,
    rover: list[Path],
    base: list[Path],
    navigation: list[Path],
    selection: Selection,
    base_ecef_m: NDArray[np.float64] | None = None,
    span_ns: tuple[int | None, int | None] = (None, None),
    interval_s: float = 0.0,
    instantaneous: bool = False,
    antex: Path | None = None,
    read: Reader = read_plain,
    antennas: tuple[str, str] = ("", ""),
) -> Job:
    """Read the files of a job; `read` gives the content of one, unpacked.

    With `antex`, its epochs are those of the antennas' reference points; `antennas` name the rover's and the base's,
    where the files do not.

    Raises:
        ConfigError: the mode is not known, lacks what it needs, or a stated antenna is not calibrated.
        DipperError: a file cannot be read or holds nothing of use.
    """
    if mode not in MODES:
        raise ConfigError(f"--mode {mode}: not one of {', '.join(sorted(MODES))}")
    if not base and mode != "single":
        raise ConfigError(f"--mode {mode} needs --base")
    if any(antennas) and not antex:
        raise ConfigError("--rover-antenna and --base-antenna name calibrations of --antex FILE, which is not given")
    session = Session(read)
    for path in navigation:
        session.read_navigation(path)
    moving, fixed = _read_both(session, rover, base)
    ephemerides = session.ephemerides.snapshot()
    if not len(ephemerides.kepler) + len(ephemerides.glonass):
        raise SourceError("no ephemerides: give a navigation file by --nav")
    warnings = session.warnings + moving.warnings + fixed.warnings
    job = Job(
        mode=mode,
        rover=_thinned(moving.epochs, span_ns, interval_s),
        base=fixed.epochs,
        base_ecef_m=np.full(3, np.nan),
        ephemerides=ephemerides,
        selection=selection,
        instantaneous=instantaneous,
        warnings=warnings,
        one_make=is_one_make(moving.station.receiver, fixed.station.receiver),
    )
    if not job.rover:
        raise SourceError("no epoch of the rover lies between --start and --end")
    if base and mode != "moving-base":
        _compare_spans(job.rover, job.base, warnings)
        job = replace(job, base_ecef_m=base_position(fixed, ephemerides, base_ecef_m, warnings))
    return _with_antennas(job, antex, (moving.station, fixed.station), antennas)


def _with_antennas(
    job: Job, antex: Path | None, stations: tuple[StationDescription, StationDescription], stated: tuple[str, str]
) -> Job:
    """A job with its antennas' calibrations applied, where there are any, or a warning that they matter.

    Raises:
        ConfigError: A stated antenna is not in the file.
        DipperError: The file cannot be read.
    """
    if antex and job.mode == "single":
        job.warnings.append("--antex: single positions are metres off: not applied")
    elif antex:
        from stations.antennas import calibrated

        return calibrated(job, antex, stations, stated)
    elif job.mode in _CENTIMETRES:
        _compare_antennas(stations[0].antenna, stations[1].antenna, job.warnings)
    return job


def is_one_make(rover: str, base: str) -> bool:
    """Whether two receivers' names, as RINEX and 1033 have them, begin alike: U-BLOX, u-blox; SEPT, Septentrio."""
    makes = {"".join(filter(str.isalpha, name)).upper()[:_MAKE_LETTERS] for name in (rover, base)}
    return len(makes) == 1 and not makes & _NO_MAKES


def _compare_antennas(rover: str, base: str, warnings: list[str]) -> None:
    """Warn of two antennas whose phase centres lie differently, where nothing is corrected."""
    names = [" ".join(name.split()) for name in (rover, base)]
    if all(names) and names[0] != names[1]:
        warnings.append(f"{names[0]} and {names[1]} differ in height by centimetres to decimetres: give --antex FILE")


def _read_both(session: Session, rover: list[Path], base: list[Path]) -> tuple[Recording, Recording]:
    """The rover's and the base's files; either says for the other which week it is."""
    try:
        moving = session.read(rover)
    except UndatedError:
        if not base:
            raise
        fixed = session.read(base)
        return session.read(rover, stated_ns=fixed.epochs[0].time_ns), fixed
    return moving, session.read(base, stated_ns=moving.epochs[0].time_ns) if base else Recording()


def _compare_spans(rover: list[Epoch], base: list[Epoch], warnings: list[str]) -> None:
    """Warn of a base that did not observe while the rover did."""
    if rover[0].time_ns > base[-1].time_ns + _BASE_AGE_MAX_NS or rover[-1].time_ns < base[0].time_ns:
        warnings.append(f"the base observed {_span(base)}, the rover {_span(rover)}: not at the same time")


def _span(epochs: list[Epoch]) -> str:
    first, last = (f"{to_datetime(epochs[place].time_ns):%Y-%m-%d %H:%M:%S}" for place in (0, -1))
    return f"from {first} to {last}"


def _thinned(epochs: list[Epoch], span_ns: tuple[int | None, int | None], interval_s: float) -> list[Epoch]:
    """Epochs within a span and on whole multiples of an interval; where none is on one, at least so far apart."""
    start, end = span_ns
    inside = [
        epoch for epoch in epochs if (start is None or epoch.time_ns >= start) and (end is None or epoch.time_ns <= end)
    ]
    step_ns = round(interval_s * NS)
    if not step_ns:
        return inside
    if whole := [epoch for epoch in inside if (epoch.time_ns + _TOLERANCE_NS) % step_ns <= 2 * _TOLERANCE_NS]:
        return whole
    apart: list[Epoch] = []  # as of a receiver that samples on whole seconds of BDT, which are 14 s off
    for epoch in inside:
        if not apart or epoch.time_ns - apart[-1].time_ns >= step_ns - _TOLERANCE_NS:
            apart.append(epoch)
    return apart


def base_position(
    base: Recording, ephemerides: Ephemerides, stated: NDArray[np.float64] | None, warnings: list[str]
) -> NDArray[np.float64]:
    """The base's position: as stated, else as its stream or header says, if its own observations agree.

    Raises:
        ConfigError: What is stated is no place on the earth.
        SourceError: It is not told, and cannot be solved for.
    """
    if stated is not None:
        if not float(np.linalg.norm(stated)) > EARTH_RADIUS_MIN_M:
            place = " ".join(f"{value:g}" for value in stated)
            raise ConfigError(f"--base-position {place}: inside of the earth: it takes X Y Z from its centre, m")
        return stated
    fixes = [solve(epoch, ephemerides) for epoch in base.epochs[:: max(1, len(base.epochs) // _CHECK_EPOCHS)]]
    own = [fix.position_ecef_m for fix in fixes if fix.quality]
    told = base.position_ecef_m
    if not own:
        if np.isfinite(told).all():
            return told
        raise SourceError("the base's position is not told, and cannot be solved for: give --base-position X Y Z")
    average = np.median(own, axis=0)
    away_m = float(np.linalg.norm(told - average))
    if away_m < _FAR_M:
        if not base.surveyed:
            warnings.append(
                "the base's position is its RINEX header's, which may be metres off; --base-position states it"
            )
        return told
    where = "is not told" if np.isnan(away_m) else f"is {away_m:.0f} m from where its observations put it"
    warnings.append(f"the base's position {where}: taken from them, metres off; --base-position states it")
    return average


def run(job: Job) -> Iterator[Fix]:
    """The fixes of a job, one for each epoch of the rover."""
    yield from MODES[job.mode](job)


_KERNELS: Final = {"single": "spp", "dgnss": "dgnss", "kinematic": "follow"}
"""Modules of `solver.kernels` that modes call first of all."""


def load_kernels(mode: str, instantaneous: bool) -> None:
    """Load what a mode will call, by letting it solve an epoch of nothing; best while files are read.

    Nothing is done where that would mean to compile it: somebody who has mistyped a file's name does not wait for it.
    """
    if mode in _KERNELS and was_compiled(f"solver.kernels.{_KERNELS[mode]}"):
        nothing = Epoch.empty(0)
        place = np.array([WGS84_A_M, 0.0, 0.0])
        list(run(Job(mode, [nothing], [nothing], place, Ephemerides(), Selection(), instantaneous)))


def _single(job: Job) -> Iterator[Fix]:
    """Each epoch by itself, starting from the one before."""
    yield from solve_all(job.rover, job.ephemerides, SppOptions(job.selection))


def _dgnss(job: Job) -> Iterator[Fix]:
    """Codes corrected by the base's."""
    from solver.dgnss import DgnssOptions, advance_all

    latest = latest_base(job)
    base, options = _completed(job, latest), DgnssOptions(SppOptions(job.selection))
    yield from advance_all(job.rover, base, latest, job.base_ecef_m, job.ephemerides, options)


def latest_base(job: Job) -> NDArray[np.int64]:
    """(rover epochs,) the base's epoch of each rover epoch's instant, or else the latest before; -1: there is none."""
    base_ns = np.array([epoch.time_ns for epoch in job.base], np.int64)
    rover_ns = np.array([epoch.time_ns for epoch in job.rover], np.int64)
    if not len(base_ns):
        return np.full(len(rover_ns), -1)
    latest = np.searchsorted(base_ns, rover_ns + _SAME_INSTANT_NS, side="right") - 1
    before_ns = base_ns[np.maximum(latest - 1, 0)]
    nearer = (latest > 0) & (base_ns[latest] - rover_ns > rover_ns - before_ns)  # at short intervals
    return latest - nearer


def _completed(job: Job, latest: NDArray[np.int64]) -> list[Epoch]:
    """Epochs of a base at rest that the rover needs; what one lost is taken from those before."""
    from solver.base_stream import BaseStream

    return BaseStream().complete_all(job.base[: latest.max() + 1], job.base_ecef_m, job.ephemerides)


def _options(job: Job) -> "RtkOptions":
    """How a job's ambiguities are resolved epoch by epoch."""
    from solver.rtk import ONE_MAKE_CHANNEL_BIAS_M, RtkOptions

    options = RtkOptions(
        instantaneous=job.instantaneous,
        signals=signal_mask(job.selection),
        elevation_mask_rad=job.selection.elevation_mask,
    )
    return replace(options, channel_bias_m=ONE_MAKE_CHANNEL_BIAS_M) if job.one_make else options


def _relative(job: Job) -> Iterator[Fix]:
    """Ambiguities resolved against the base; single positions where the base is of no use."""
    from solver.rtk import RtkState, process_all

    latest, alone = latest_base(job), SppOptions(job.selection)
    base = _completed(job, latest) or job.base[:1]
    fixes = process_all(RtkState(), job.rover, base, latest, job.base_ecef_m, job.ephemerides, _options(job))
    for epoch, fix in zip(job.rover, fixes, strict=True):
        if fix.quality:
            yield fix
        else:
            single = solve(epoch, job.ephemerides, alone)
            yield replace(single, reason=single.reason or fix.reason)


def signal_mask(selection: Selection) -> NDArray[np.bool_]:
    """Signals that a selection allows."""
    if selection.signals:
        mask = np.zeros(SIGNAL_COUNT, np.bool_)
        mask[[signal(name) for name in selection.signals]] = True
    else:
        mask = np.ones(SIGNAL_COUNT, np.bool_)
    mask &= np.repeat([letter in selection.systems for letter in SYSTEMS], SIGNALS_PER_SYSTEM)
    return mask


def _kinematic(job: Job) -> Iterator[Fix]:
    """A rover that moves."""
    return _relative(job)


def _static(job: Job) -> Iterator[Fix]:
    """A rover at rest: one fix of all data."""
    from stations.static import fix_of, solve_session

    yield fix_of(solve_session(job))


def _moving_base(job: Job) -> Iterator[Fix]:
    """A rover relative to a base that moves as well; single positions where there is no vector."""
    from solver.moving_base import MovingBaseState, process_moving
    from solver.rtk import Workspace

    options, alone = _options(job), SppOptions(job.selection)
    state, workspace = MovingBaseState(), Workspace()
    for epoch, of in zip(job.rover, latest_base(job).tolist(), strict=True):
        fix = Fix(epoch.time_ns, Quality.NONE, "no base data yet")
        if of >= 0:
            fix = process_moving(state, epoch, job.base[of], job.ephemerides, options, alone, workspace)
        if not fix.quality:
            single = solve(epoch, job.ephemerides, alone)
            fix = replace(single, reason=single.reason or fix.reason)
        yield fix


MODES: Final[dict[str, Callable[[Job], Iterator[Fix]]]] = {
    "single": _single,
    "dgnss": _dgnss,
    "kinematic": _kinematic,
    "static": _static,
    "moving-base": _moving_base,
}
