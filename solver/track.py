"""A receiver's epochs one after the other in one table, as kernels take a whole recording at once."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from solver.model import Epoch

__all__ = ["Track", "track"]


@dataclass(frozen=True, slots=True)
class Track:
    """Observations of one receiver (e epochs, m rows); columns as of `solver.model.Epoch`.

    Attributes:
        time_ns: (e,) int64, GPST.
        first_row: (e + 1,) int64, first row of each epoch.
        sat: (m,) and so on.
        signal: (m,)
        frequency_hz: (m,)
        pseudorange_m: (m,)
        phase_cycles: (m,)
        doppler_hz: (m,)
        cn0_dbhz: (m,)
        lock_s: (m,)
        flags: (m,)
    """

    time_ns: NDArray[np.int64]
    first_row: NDArray[np.int64]
    sat: NDArray[np.int16]
    signal: NDArray[np.int16]
    frequency_hz: NDArray[np.float64]
    pseudorange_m: NDArray[np.float64]
    phase_cycles: NDArray[np.float64]
    doppler_hz: NDArray[np.float64]
    cn0_dbhz: NDArray[np.float32]
    lock_s: NDArray[np.float32]
    flags: NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.time_ns)


def track(epochs: Sequence[Epoch]) -> Track:
    """The table of some epochs, at least one; that of a single one shares its arrays."""
    if len(epochs) == 1:
        epoch = epochs[0]
        return Track(
            np.array([epoch.time_ns]), np.array([0, len(epoch)]), epoch.sat, epoch.signal, epoch.frequency_hz,
            epoch.pseudorange_m, epoch.phase_cycles, epoch.doppler_hz, epoch.cn0_dbhz, epoch.lock_s, epoch.flags,
        )  # fmt: skip
    first_row = np.zeros(len(epochs) + 1, np.int64)
    np.cumsum([len(epoch) for epoch in epochs], out=first_row[1:])
    return Track(
        np.array([epoch.time_ns for epoch in epochs]),
        first_row,
        np.concatenate([epoch.sat for epoch in epochs]),
        np.concatenate([epoch.signal for epoch in epochs]),
        np.concatenate([epoch.frequency_hz for epoch in epochs]),
        np.concatenate([epoch.pseudorange_m for epoch in epochs]),
        np.concatenate([epoch.phase_cycles for epoch in epochs]),
        np.concatenate([epoch.doppler_hz for epoch in epochs]),
        np.concatenate([epoch.cn0_dbhz for epoch in epochs]),
        np.concatenate([epoch.lock_s for epoch in epochs]),
        np.concatenate([epoch.flags for epoch in epochs]),
    )
