"""What a solution says of itself, held against errors that are known."""

import numpy as np
import pytest

from bench.errors import honesty_of
from solver.model import Fix, Quality
from solver.timescale import NS

PLACE_M = np.array([6_378_137.0, 0.0, 0.0])  # east is y, north is z


def drawn(count: int, sigma_m: float, velocity_mps: float = 0.0) -> list[Fix]:
    """Fixes a second apart with normal errors, that say one metre of themselves."""
    error_m = np.random.default_rng(7).normal(0.0, sigma_m, (count, 3))
    velocity = np.array([0.0, velocity_mps, 0.0])
    return [
        Fix(
            time_ns=second * NS,
            quality=Quality.DGNSS,
            position_ecef_m=PLACE_M + error_m[second],
            position_covariance_m2=np.eye(3),
            velocity_ecef_mps=velocity,
            hpl_m=2.0,
        )
        for second in range(count)
    ]


@pytest.mark.parametrize("sigma_m", [0.5, 1.0, 3.0])
def test_errors_are_told_in_units_of_what_the_solution_says(sigma_m: float) -> None:
    """A Rayleigh-distributed error of sigma stays below 2 m with 1 - exp(-2 / sigma^2)."""
    honesty = honesty_of(drawn(4000, sigma_m), {-1: PLACE_M})
    assert honesty.error_per_sigma == pytest.approx(sigma_m, rel=0.03)
    assert honesty.bounded_percent == pytest.approx(100 * (1 - np.exp(-2 / sigma_m**2)), abs=2)


def test_heights_and_the_ellipse_of_95_per_cent_are_told_apart() -> None:
    honest = honesty_of(drawn(4000, 1.0), {-1: PLACE_M})
    assert honest.known == 4000
    assert honest.ellipse_percent == pytest.approx(95.0, abs=1.0)
    assert honest.height_per_sigma == pytest.approx(1.0, rel=0.03)
    assert honesty_of(drawn(4000, 3.0), {-1: PLACE_M}).ellipse_percent == pytest.approx(28.3, abs=2.0)


def test_a_step_that_doppler_does_not_know_needs_no_truth() -> None:
    honesty = honesty_of(drawn(50, 0.0, velocity_mps=0.3), {})
    assert honesty.step_95_m == honesty.step_50_m == pytest.approx(0.3)
    assert np.isnan(honesty.bounded_percent)
