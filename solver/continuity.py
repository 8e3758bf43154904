"""Whether fixes go on from one epoch to the next: how wrong integers betray themselves.

Carriers' changes between two epochs tell the displacement to millimetres, whatever their integers are. A chain is a
fixed position that has been carried along by them. A fix that lies elsewhere than the chain of the fixes before it has
other integers, and one of the two is wrong. The new one is not called fixed until it has gone on by itself for some
epochs; the old chain lives on meanwhile, so that a single wrong fix does no more harm than its own epoch.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Continuity"]

_TRUST_EPOCHS = 5
"""Epochs for which a fix that contradicts the ones before it has to go on by itself."""
_CARRIED_MAX_M2 = 0.15**2
"""Variance beyond which a chain says nothing that would tell integers apart: three quarters of a wavelength."""
_GATE_SIGMA = 4.0
_GATE_M = 0.03
"""Besides the sigmas: multipath of a set of carriers that changes."""


@dataclass(slots=True)
class _Chain:
    """A fixed position relative to the base, how sure its transport is, and for how many epochs fixes have met it."""

    position_m: NDArray[np.float64]
    variance_m2: float
    epochs: int

    def meets(self, position_m: NDArray[np.float64], variance_m2: float) -> bool:
        """Whether a fix is where the chain leads; the chain is then led by it."""
        gate_m = _GATE_SIGMA * float(np.sqrt(self.variance_m2 + variance_m2)) + _GATE_M
        if float(np.linalg.norm(position_m - self.position_m)) > gate_m:
            return False
        self.position_m, self.variance_m2 = position_m.copy(), 0.0
        self.epochs += 1
        return True


class Continuity:
    """The chain of fixes that is believed, and one that contradicts it."""

    def __init__(self) -> None:
        self._trusted: _Chain | None = None
        self._rival: _Chain | None = None

    def carry(self, displacement_m: NDArray[np.float64], variance_m2: float) -> None:
        """Move the chains to the next epoch; those that have become too uncertain end.

        Args:
            displacement_m: (3,) of the rover relative to the base, from time differences of the carriers.
            variance_m2: Trace of its covariance; inf where it is not known.
        """
        for chain in (self._trusted, self._rival):
            if chain:
                chain.position_m = chain.position_m + displacement_m
                chain.variance_m2 += variance_m2
        if self._trusted and not self._trusted.variance_m2 < _CARRIED_MAX_M2:
            self._trusted = None
        if self._rival and not self._rival.variance_m2 < _CARRIED_MAX_M2:
            self._rival = None

    def confirm(self, position_m: NDArray[np.float64], variance_m2: float) -> bool:
        """Whether a fix may be called one.

        Args:
            position_m: (3,) of the rover relative to the base.
            variance_m2: Trace of its covariance.
        """
        if self._trusted is None or self._trusted.meets(position_m, variance_m2):
            self._trusted = self._trusted or _Chain(position_m.copy(), 0.0, 1)
            self._rival = None
            return True
        if self._rival is None or not self._rival.meets(position_m, variance_m2):
            self._rival = _Chain(position_m.copy(), 0.0, 1)
        if self._rival.epochs < _TRUST_EPOCHS:
            return False
        self._trusted, self._rival = self._rival, None
        return True
