"""How far a float position is said to be off beyond what its filter says."""

import numpy as np
import pytest
from numpy.typing import NDArray

from solver.kernels.fixing import COUNT, NORM
from solver.kernels.rover import KNOWN, NOW, workspace
from solver.kernels.straying import note_integers, note_step, starts, widen

MEMORY_S = 100.0
STEP_M2 = np.diag([0.01, 0.01, 0.04]) ** 2


def stated(
    factors: tuple[float, ...] = (), norm: float = 1.0, tried: int = 6, epochs: int = 100, dt_s: float = 1.0
) -> NDArray[np.float64]:
    """Variances that come with a filter's of 1 m² for each axis, after steps and integers like these."""
    known, now, work, covariance = np.zeros(1, KNOWN), np.zeros(1, NOW), workspace(), np.eye(3)
    starts(known[0])
    now["dt_s"] = dt_s
    for factor in factors:
        note_step(factor, STEP_M2, MEMORY_S, known[0], now[0])
    work.report[COUNT], work.report[NORM] = tried, norm * tried
    for _ in range(epochs):
        note_integers(known[0], work)
    widen(known[0], covariance)
    return np.diag(covariance)


def test_steps_as_noisy_as_expected_and_integers_that_fit_leave_the_filter_s_covariance() -> None:
    assert stated((1.0, 0.3, 0.9), norm=0.6) == pytest.approx([1.0, 1.0, 1.0])


def test_an_epoch_of_carriers_that_no_displacement_explains_moves_the_position_at_random() -> None:
    """A car under a bridge: carriers that were good to millimetres disagree by 15 of their sigmas for two epochs."""
    assert stated((201.0,)) == pytest.approx(1.0 + 200.0 * np.diag(STEP_M2))
    assert stated((201.0, 101.0)) == pytest.approx(1.0 + 300.0 * np.diag(STEP_M2), rel=1e-2)


def test_that_is_forgotten_as_codes_tell_anew_where_the_antenna_is() -> None:
    assert stated((201.0, *(1.0,) * 300)) == pytest.approx(1.0 + 200.0 * np.exp(-3.0) * np.diag(STEP_M2))


def test_epochs_far_apart_tell_nothing_of_steps() -> None:
    assert stated((201.0,), dt_s=30.0) == pytest.approx([1.0, 1.0, 1.0])


def test_integers_further_off_than_the_filter_lets_them_widen_its_covariance() -> None:
    assert stated(norm=9.0) == pytest.approx([9.0, 9.0, 9.0], rel=1e-3)
    assert stated(norm=9.0, epochs=1) == pytest.approx([1.8, 1.8, 1.8])


def test_a_single_integer_tells_nothing() -> None:
    assert stated(norm=9.0, tried=1) == pytest.approx([1.0, 1.0, 1.0])
