"""Figures of solutions: where, how sure, by what. They need matplotlib, the optional extra `bigdipper[plot]`.

Figures are drawn without matplotlib's global state or a display. Colours of fix states are the same in all panels.
"""

import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from caster.errors import ConfigError, DipperError, SourceError
from solver.kernels.geodesy import enu_axes, geodetic_from_ecef
from solver.model import Epoch, Fix, Quality
from solver.signals import PRN_PER_SYSTEM, SYSTEMS, satellite_name
from solver.static import StaticSolution
from solver.timescale import to_datetime

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["check_plotting", "plot_fixes", "plot_static"]

Floats = NDArray[np.float64]

SUFFIXES: Final = (".png", ".pdf", ".svg")
_COLOURS: Final = {
    Quality.FIX: "tab:green",
    Quality.FLOAT: "tab:orange",
    Quality.DGNSS: "tab:blue",
    Quality.SINGLE: "tab:red",
}
_SYSTEM_COLOURS: Final = dict(zip(SYSTEMS, ("C0", "C3", "C2", "C7", "C4", "C1", "C5"), strict=True))
_POINTS_MAX: Final = 20_000
_SIZE_INCHES: Final = (12.0, 10.0)
_DPI: Final = 110
_MINIMUM_SPREAD_M: Final = 1e-3


def check_plotting(path: Path) -> None:
    """Refuse a figure that could not be drawn, before hours of solving.

    Raises:
        ConfigError: the name has no suffix of a picture.
        DipperError: matplotlib is not installed, or the folder is not there.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise DipperError("--plot needs matplotlib: pip install matplotlib")
    if path.suffix.lower() not in SUFFIXES:
        raise ConfigError(f"--plot {path}: not one of {', '.join(SUFFIXES)}")
    if not path.parent.is_dir():
        raise SourceError(f"--plot {path}: no folder {path.parent}")


def plot_fixes(fixes: Sequence[Fix], epochs: Sequence[Epoch], path: Path, title: str) -> None:
    """Draw a track: map, east-north-up over time, standard deviations, satellites, C/N0.

    Args:
        fixes: Of all epochs, those without a position included.
        epochs: The rover's.
        path: Where to write.
        title: Above it all.

    Raises:
        SourceError: there is no position to draw, or the file cannot be written.
    """
    solved = [fix for fix in fixes if fix.quality != Quality.NONE]
    if not solved:
        raise SourceError("--plot: no position to draw")
    solved = solved[:: -(-len(solved) // _POINTS_MAX)]
    places = np.array([fix.position_ecef_m for fix in solved])
    origin = np.median(places, axis=0)
    axes = _axes(origin)
    enu = (places - origin) @ axes.T
    deviations = np.sqrt([np.diag(axes @ fix.position_covariance_m2 @ axes.T).clip(0.0) for fix in solved])
    times, states = _dates([fix.time_ns for fix in solved]), np.array([fix.quality for fix in solved])
    figure = _figure(title)
    grid = figure.add_gridspec(4, 2, width_ratios=(1.0, 1.3))
    _draw_map(figure.add_subplot(grid[:2, 0]), enu, states)
    _draw_components([figure.add_subplot(grid[row, 1]) for row in range(3)], times, enu, states)
    _draw_deviations(figure.add_subplot(grid[2, 0]), times, deviations)
    _draw_satellites(figure.add_subplot(grid[3, 0]), times, np.array([len(fix.satellites) for fix in solved]), states)
    _draw_strength(figure.add_subplot(grid[3, 1]), epochs)
    _save(figure, path)


def plot_static(solution: StaticSolution, epochs: Sequence[Epoch], path: Path, title: str) -> None:
    """Draw a session: residuals of the carriers over time and elevation, their spread, zenith delays, C/N0.

    Raises:
        SourceError: there are no residuals, or the file cannot be written.
    """
    rows = solution.rows[np.isfinite(solution.rows["phase_v"])]
    if not len(rows):
        raise SourceError(f"--plot: no carriers were used: {solution.reason}")
    rows = rows[:: -(-len(rows) // _POINTS_MAX)]
    times, letters = _dates(solution.time_ns[rows["epoch"]].tolist()), rows["sat"] // PRN_PER_SYSTEM
    residual_mm = 1e3 * rows["phase_v"]
    figure = _figure(title)
    grid = figure.add_gridspec(3, 2)
    over_time, by_elevation = figure.add_subplot(grid[0, :]), figure.add_subplot(grid[1, 0])
    for system in np.unique(letters).tolist():
        mine = letters == system
        style: dict[str, Any] = {"s": 3, "color": _SYSTEM_COLOURS[SYSTEMS[system]], "label": SYSTEMS[system]}
        over_time.scatter(times[mine], residual_mm[mine], **style)
        by_elevation.scatter(np.degrees(rows["elevation"][mine]), residual_mm[mine], **style)
    _name(over_time, "carrier residuals", "mm")
    _short_dates(over_time)
    over_time.legend(loc="upper right", markerscale=3, ncols=7, fontsize="small")
    _name(by_elevation, "carrier residuals by elevation", "mm", "degrees")
    limit = float(np.percentile(np.abs(residual_mm), 99.5)) or 1.0
    spread = figure.add_subplot(grid[1, 1])
    spread.hist(residual_mm, bins=80, range=(-limit, limit), color="tab:gray")
    _name(spread, f"{solution.quality.name.lower()}, {solution.fixed} of {solution.ambiguities} combinations", "", "mm")
    _draw_arcs(figure.add_subplot(grid[2, 0]), times, rows)
    _draw_strength(figure.add_subplot(grid[2, 1]), epochs)
    _save(figure, path)


def _figure(title: str) -> "Figure":
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_INCHES, dpi=_DPI, layout="constrained")
    FigureCanvasAgg(figure)
    figure.suptitle(title)
    return figure


def _save(figure: "Figure", path: Path) -> None:
    try:
        figure.savefig(path)
    except OSError as error:
        raise SourceError(f"--plot {path}: {error.strerror or error}") from None


def _name(axes: "Axes", title: str, y_label: str, x_label: str = "") -> None:
    axes.set_title(title, fontsize="medium")
    axes.set_ylabel(y_label)
    axes.set_xlabel(x_label)
    axes.grid(alpha=0.3)


def _draw_map(axes: "Axes", enu: Floats, states: NDArray[Any]) -> None:
    """East and north, at one scale, coloured by fix state with its share."""
    for state, colour in _COLOURS.items():
        mine = states == state
        if mine.any():
            label = f"{state.name.lower()} {100.0 * mine.mean():.1f} %"
            axes.scatter(enu[mine, 0], enu[mine, 1], s=4, color=colour, label=label)
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(loc="best", markerscale=3, fontsize="small")
    _name(axes, "track from the median position", "north m", "east m")


def _draw_components(panels: "list[Axes]", times: NDArray[Any], enu: Floats, states: NDArray[Any]) -> None:
    """East, north and up over time."""
    for column, (axes, name) in enumerate(zip(panels, ("east", "north", "up"), strict=True)):
        for state, colour in _COLOURS.items():
            mine = states == state
            axes.scatter(times[mine], enu[mine, column], s=3, color=colour)
        spread_m = max(float(enu[:, column].std()), _MINIMUM_SPREAD_M)
        _name(axes, f"{name}, spread {spread_m:.3f} m", "m")
        _short_dates(axes)


def _draw_deviations(axes: "Axes", times: NDArray[Any], deviations: Floats) -> None:
    """The solution's own standard deviations."""
    for column, name in enumerate(("east", "north", "up")):
        axes.semilogy(times, np.maximum(deviations[:, column], 1e-4), ".", markersize=2, label=name)
    axes.legend(loc="best", markerscale=4, fontsize="small")
    _name(axes, "its own standard deviations", "m")
    _short_dates(axes)


def _draw_satellites(axes: "Axes", times: NDArray[Any], counts: NDArray[Any], states: NDArray[Any]) -> None:
    """How many satellites, coloured by fix state."""
    for state, colour in _COLOURS.items():
        mine = states == state
        axes.scatter(times[mine], counts[mine], s=3, color=colour)
    axes.set_ylim(0, 1.15 * max(int(counts.max()), 1))
    _name(axes, "satellites in the solution", "")
    _short_dates(axes)


def _draw_strength(axes: "Axes", epochs: Sequence[Epoch]) -> None:
    """Mean C/N0 of each system over time."""
    sample = epochs[:: max(1, -(-len(epochs) // 2_000))]
    times = _dates([epoch.time_ns for epoch in sample])
    for system, letter in enumerate(SYSTEMS):
        means = [_mean_of(epoch.cn0_dbhz[epoch.sat // PRN_PER_SYSTEM == system]) for epoch in sample]
        if np.isfinite(means).any():
            axes.plot(times, means, linewidth=1, color=_SYSTEM_COLOURS[letter], label=letter)
    if axes.lines:
        axes.legend(loc="best", ncols=7, fontsize="small")
    _name(axes, "mean C/N0", "dB-Hz")
    _short_dates(axes)


def _draw_arcs(axes: "Axes", times: NDArray[Any], rows: NDArray[Any]) -> None:
    """When which satellite's carriers were used."""
    satellites = np.unique(rows["sat"])
    places = np.searchsorted(satellites, rows["sat"])
    colours = [_SYSTEM_COLOURS[SYSTEMS[sat // PRN_PER_SYSTEM]] for sat in rows["sat"].tolist()]
    axes.scatter(times, places, s=1, c=colours)
    step = -(-len(satellites) // 20)
    names = [satellite_name(sat) for sat in satellites.tolist()]
    axes.set_yticks(range(0, len(satellites), step), names[::step], fontsize="x-small")
    _name(axes, "carriers used", "")
    _short_dates(axes)


def _short_dates(axes: "Axes") -> None:
    """Times without the date on every tick."""
    from matplotlib.dates import AutoDateLocator, ConciseDateFormatter

    locator = AutoDateLocator()
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator))


def _dates(times_ns: Sequence[int]) -> NDArray[Any]:
    """GPST as datetimes, which matplotlib knows how to label."""
    return np.array([to_datetime(int(time_ns)) for time_ns in times_ns], dtype="datetime64[us]")


def _mean_of(values: NDArray[np.float32]) -> float:
    known = values[np.isfinite(values) & (values > 0.0)]
    return float(known.mean()) if len(known) else float("nan")


def _axes(position_m: Floats) -> Floats:
    axes = np.empty((3, 3))
    latitude, longitude, _ = geodetic_from_ecef(*position_m.tolist())
    enu_axes(latitude, longitude, axes)
    return axes
