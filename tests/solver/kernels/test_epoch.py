"""How sure a position with known integers is said to be."""

import numpy as np
import pytest

from solver.kernels.epoch import own_up
from solver.kernels.fixing import COUNT, NORM
from solver.kernels.rover import KNOWN, OPTIONS, workspace


def stated(norm: float, ionosphere_m: float = 0.05, partly: bool = True, count: int = 10) -> tuple[float, bool]:
    """Variance and sureness of a position that integers make good to 3 cm an axis, 1 sigma."""
    how, known, work = np.zeros(1, OPTIONS), np.zeros(1, KNOWN), workspace()
    known["fixed_factor"] = 1.0
    work.now["phase_scale"], work.now["ionosphere_m"], work.now["origin_m"] = 1.0, ionosphere_m, [6.4e6, 0.0, 0.0]
    work.report[NORM], work.report[COUNT] = norm * count, count
    work.qb[:] = np.eye(3) * 0.03**2
    is_sure = own_up(partly, how[0], known[0], work.now[0], work)
    return float(work.qb[0, 0]), bool(is_sure)


def test_a_part_of_the_integers_further_off_than_the_filter_says_widens_what_it_leaves_open_far_away() -> None:
    assert stated(1.0) == (pytest.approx(0.03**2), True)
    assert stated(4.0) == (pytest.approx(0.06**2), False)


@pytest.mark.parametrize("case", [{"ionosphere_m": 0.0}, {"partly": False}, {"count": 2}])
def test_near_by_or_with_few_integers_or_with_all_of_them_it_does_not(case: dict[str, float]) -> None:
    assert stated(4.0, **case) == (pytest.approx(0.03**2), True)  # type: ignore[arg-type]
