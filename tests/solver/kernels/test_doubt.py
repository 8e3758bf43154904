"""What belies a filter for so long that it starts anew."""

import numpy as np
import pytest

from solver.kernels.doubt import ALLOWED, BELIED, BELIED_ALONE, SURE_M, starts_anew
from solver.kernels.fixing import COUNT, NORM
from solver.kernels.rover import KNOWN, Filter, workspace
from solver.kernels.rtk import NOTE


def followed(epochs, norm=0.0, tried=5, left=6, taken=8, off_m=0.0, is_fixed=True, dt_s=1.0, bands=1.0, sure_m=0.0):
    """For each of so many epochs, whether the filter starts anew; codes are good to 1 m (1 sigma, an axis)."""
    known, work = np.zeros(1, KNOWN), workspace()
    filter_ = Filter(np.zeros(11), np.zeros((11, 11)), np.zeros(11, np.int32), np.zeros(11, NOTE))
    filter_.x[0], filter_.p[0, 0] = off_m, sure_m**2
    work.now["dt_s"], work.now["code_scale"], work.now["bands"] = dt_s, 1.0, bands
    work.position_m2[:] = np.eye(3)
    work.report[NORM], work.report[COUNT] = norm, tried
    return [starts_anew(is_fixed, left, taken, known[0], work.now[0], filter_, work) for _ in range(epochs)]


def test_integers_that_contradict_those_held_for_three_epochs_let_the_filter_start_anew():
    assert followed(4, norm=6 * BELIED) == [False, False, True, True]


def test_so_do_those_that_contradict_a_float_solution_that_wrong_integers_have_spoilt_and_left():
    assert followed(4, norm=6 * BELIED, taken=0, bands=2.0) == [False, False, True, True]


def test_so_do_those_that_almost_contradict_it_for_longer():
    began = followed(60, norm=5 * 1.4 * ALLOWED, taken=0, bands=2.0).index(True)
    assert 5 <= began <= 10


def test_few_integers_contradict_only_a_minority_that_is_held():
    case = {"norm": 6 * BELIED, "tried": 3, "taken": 8, "bands": 2.0}
    assert followed(4, left=12, **case) == [False, False, True, True]
    assert not any(followed(60, left=6, **case))


@pytest.mark.parametrize("case", [{"norm": 4 * ALLOWED}, {"norm": 6 * BELIED, "taken": 0}])
def test_integers_that_fit_or_stand_alone_in_one_band_do_not(case):
    assert not any(followed(60, **case))


def test_all_integers_off_beside_a_float_position_of_one_band_that_is_called_sure_do():
    """Most carriers slipped under a hand, one of them unseen: the walk's GPS was fixed half a metre off for minutes."""
    assert followed(4, norm=6 * BELIED_ALONE, taken=0, sure_m=0.9 * SURE_M) == [False, False, True, True]


@pytest.mark.parametrize("case", [{"sure_m": 0.5}, {"bands": 1.2}, {"norm": 4 * BELIED_ALONE}])
def test_a_start_by_codes_a_band_and_a_half_or_integers_that_fit_do_not(case):
    assert not any(followed(60, **{"norm": 6 * BELIED_ALONE, "taken": 0, "left": 0} | case))


def test_a_float_position_far_from_that_of_codes_for_half_a_minute_does():
    began = followed(120, off_m=8.0, is_fixed=False).index(True)
    assert 20 < began < 90


@pytest.mark.parametrize("case", [{"off_m": 8.0}, {"off_m": 6.0, "is_fixed": False}])
def test_a_fixed_position_or_one_that_multipath_explains_does_not(case):
    assert not any(followed(600, **case))


def test_epochs_far_apart_belie_nothing():
    assert not any(followed(60, norm=100 * BELIED, off_m=50.0, is_fixed=False, dt_s=30.0))
