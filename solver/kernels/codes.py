"""What one epoch tells without its carriers: a position by codes, a velocity by Doppler."""

from typing import Final

import numpy as np

from solver.jit import kernel, part
from solver.kernels import Records
from solver.kernels.dilution import dilute_links
from solver.kernels.rover import Record, Work
from solver.kernels.rtk import solve_rates
from solver.model import Quality

__all__ = ["forget_velocity", "measure_rates", "settle"]

DGNSS: Final = int(Quality.DGNSS)
DOPPLER_FLOOR_MPS: Final = 0.03


@part
def forget_velocity(found: Record) -> None:
    """Where there is no Doppler, there is none."""
    for axis in range(3):
        found.velocity_mps[axis] = np.nan
        for other in range(3):
            found.velocity_m2s2[axis, other] = np.nan


@part
def measure_rates(how: Record, now: Record, work: Work, found: Record) -> bool:
    """Write the rover's velocity by Doppler; returns whether there is one."""
    velocity, spread = np.empty(3), np.empty((3, 3))
    redundancy, factor = solve_rates(now.count, work.links, how.doppler_noise_mps, velocity, spread)
    if redundancy < 1:
        return False
    for axis in range(3):
        for other in range(3):
            spread[axis, other] *= max(1.0, factor)
        spread[axis, axis] += DOPPLER_FLOOR_MPS**2
    found.velocity_mps[:] = velocity
    found.velocity_m2s2[:, :] = spread
    return True


@kernel
def settle(options: Records, work: Work, result: Records) -> None:
    """Write the position of this epoch's codes alone; the filter stays at an earlier epoch.

    Args:
        options: (1,) of `OPTIONS`.
        work: As `locate` left it.
        result: (1,) of `RESULT`, written.
    """
    how, now, found = options[0], work.now[0], result[0]
    forget_velocity(found)
    measure_rates(how, now, work, found)
    found.quality, found.ratio = DGNSS, 0.0
    for axis in range(3):
        found.position_m[axis] = now.origin_m[axis] + work.position[axis]
        for other in range(3):
            found.position_m2[axis, other] = now.code_scale * work.position_m2[axis, other]
    dilute_links(now.count, work.links, found.position_m, found.dop)
