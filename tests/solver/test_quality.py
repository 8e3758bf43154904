"""Protection levels against a hand-made covariance."""

import numpy as np
import pytest

from solver.kernels.geodesy import ecef_from_geodetic, enu_axes
from solver.quality import enu_covariance, protection_levels


def test_levels_are_the_factors_times_the_semi_major_axis_and_the_height_s_deviation():
    position = np.array(ecef_from_geodetic(0.5, 2.0, 10.0))
    axes = np.empty((3, 3))
    enu_axes(0.5, 2.0, axes)
    turn = np.array([[np.cos(0.4), np.sin(0.4), 0.0], [-np.sin(0.4), np.cos(0.4), 0.0], [0.0, 0.0, 1.0]])
    enu = turn.T @ np.diag([4.0, 1.0, 9.0]) @ turn
    covariance = axes.T @ enu @ axes
    assert enu_covariance(position, covariance) == pytest.approx(enu)
    assert protection_levels(position, covariance) == pytest.approx((6.0 * 2.0, 5.33 * 3.0))
