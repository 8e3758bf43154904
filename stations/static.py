"""One position from a whole session: `dipper solve --mode static`, and each baseline of a survey.

A session without integers, or without carriers, still has an answer: float, or the average of single positions with
an uncertainty in metres; the reason comes with it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from solver.kernels.geodesy import enu_axes, geodetic_from_ecef
from solver.model import Ephemerides, Epoch, Fix, Quality
from solver.observed import Selection
from solver.spp import SppOptions, solve
from solver.static import StaticOptions, StaticSolution, solve_static

if TYPE_CHECKING:
    from stations.solve import Job

__all__ = ["SingleAverage", "average_singles", "enu_deviations_m", "fix_of", "line_of", "solve_session"]

SINGLE_BIAS_ENU_M: Final = (1.2, 1.2, 1.5)
"""What no averaging takes off single positions (broadcast orbits, ionosphere, troposphere), 1 sigma: averages of eight
recordings of Japan, Australia and the Netherlands are off by 0.4, 1.2, 1.2 m RMS east, north and up."""
_EPOCHS_MAX: Final = 1500


@dataclass(frozen=True, slots=True)
class SingleAverage:
    """An average of single positions.

    Attributes:
        position_ecef_m: (3,).
        covariance_m2: (3, 3) ECEF: the average's own, and the bias that all single positions share.
        epochs: How many positions were averaged.
        scatter_enu_m: (3,) standard deviation of one of them.
    """

    position_ecef_m: NDArray[np.float64]
    covariance_m2: NDArray[np.float64]
    epochs: int
    scatter_enu_m: NDArray[np.float64]


def average_singles(
    epochs: Sequence[Epoch], ephemerides: Ephemerides, selection: Selection | None = None
) -> SingleAverage | None:
    """The robust average of single positions; None where there are none. Long recordings are thinned."""
    options = SppOptions(selection or Selection())
    sample = epochs[:: max(1, -(-len(epochs) // _EPOCHS_MAX))]
    fixes = [fix for fix in (solve(epoch, ephemerides, options) for epoch in sample) if fix.quality]
    if not fixes:
        return None
    found = np.array([fix.position_ecef_m for fix in fixes])
    position: NDArray[np.float64] = np.median(found, axis=0)
    axes = _axes(position)
    enu = (found - position) @ axes.T
    scatter = np.maximum(np.median(np.abs(enu), axis=0) / 0.6745, 0.01)
    # Errors of single positions last for minutes, so that the average is as good as a tenth of them.
    variance = scatter**2 / max(1.0, len(found) / 10.0) + np.square(SINGLE_BIAS_ENU_M)
    return SingleAverage(position, axes.T @ np.diag(variance) @ axes, len(found), scatter)


def solve_session(job: "Job") -> StaticSolution:
    """The whole-arc solution of a job; the average of single positions where carriers give none."""
    from stations.solve import signal_mask

    options = StaticOptions(signals=signal_mask(job.selection), elevation_mask_rad=job.selection.elevation_mask)
    solution = solve_static(job.rover, job.base, job.base_ecef_m, job.ephemerides, options)
    if solution.quality:
        return solution
    average = average_singles(job.rover, job.ephemerides, job.selection)
    if average is None:
        return solution
    return replace(
        solution,
        quality=Quality.SINGLE,
        position_ecef_m=average.position_ecef_m,
        covariance_m2=average.covariance_m2,
        start_ns=job.rover[0].time_ns,
        end_ns=job.rover[-1].time_ns,
        epochs=average.epochs,
    )


def fix_of(solution: StaticSolution) -> Fix:
    """The solution as a fix at its last epoch, for the writers of solution files."""
    return Fix(
        solution.end_ns,
        solution.quality,
        solution.reason,
        position_ecef_m=solution.position_ecef_m,
        position_covariance_m2=solution.covariance_m2,
        satellites=solution.satellites,
        age_s=0.0,
        ratio=solution.ratio,
    )


def line_of(solution: StaticSolution, epochs: int, elapsed_s: float) -> str:
    """The last line of a static job."""
    share = 100.0 * solution.epochs / max(epochs, 1)
    fixed = f"{solution.fixed} of {solution.ambiguities} ambiguity combinations fixed"
    reason = f" ({solution.reason})" if solution.reason else ""
    deviations = " ".join(f"{1e3 * value:.1f}" for value in enu_deviations_m(solution))
    return (
        f"{epochs} epochs, {share:.1f} % of them in one {solution.quality.name.lower()} solution{reason}: {fixed}, "
        f"standard deviations E N U {deviations} mm, carriers {1e3 * solution.phase_rms_m:.1f} mm RMS, "
        f"{epochs / max(elapsed_s, 1e-9):.0f} epochs/s"
    )


def enu_deviations_m(solution: StaticSolution) -> list[float]:
    """Standard deviations east, north, up."""
    axes = _axes(solution.position_ecef_m)
    variances: list[float] = np.diag(axes @ solution.covariance_m2 @ axes.T).tolist()
    return [math.sqrt(value) if value >= 0.0 else math.nan for value in variances]


def _axes(position_m: NDArray[np.float64]) -> NDArray[np.float64]:
    axes = np.empty((3, 3))
    latitude, longitude, _ = geodetic_from_ecef(*position_m.tolist())
    enu_axes(latitude, longitude, axes)
    return axes
