"""Which integers of a rover in motion are believed."""

import numpy as np
import pytest

from solver.kernels.checked import AT_ONCE_MIN, check, checking
from solver.kernels.rover import KNOWN, Work, workspace
from solver.signals import BEIDOU, GALILEO, GPS, PRN_PER_SYSTEM

PATIENCE = 2


def with_integers(bands: int = 1, **satellites: int) -> Work:
    """Links of so many satellites of each system, all with integers."""
    work, k = workspace(), 0
    for name, count in satellites.items():
        first = {"gps": GPS, "galileo": GALILEO, "beidou": BEIDOU}[name] * PRN_PER_SYSTEM
        for sat in range(first, first + count):
            work.links["sat"][k : k + bands] = sat
            k += bands
    work.now["count"] = k
    return work


@pytest.mark.parametrize(
    ("satellites", "expected"),
    [
        ({"gps": 4}, 0),
        ({"gps": 5}, 1),
        ({"gps": 3, "galileo": 2}, 0),
        ({"gps": 3, "galileo": 2, "bands": 3}, 0),
        ({"gps": 3, "galileo": 3}, 1),
        ({"gps": 4, "beidou": 1}, 0),
        ({"gps": 2, "galileo": 2, "beidou": 2}, 0),
    ],
)
def test_satellites_check_beyond_a_position_and_a_clock_for_each_system(
    satellites: dict[str, int], expected: int
) -> None:
    work = with_integers(**satellites)
    assert checking(int(work.now["count"][0]), work) == expected


def test_satellites_without_integers_check_nothing() -> None:
    work = with_integers(gps=6)
    work.known[2] = np.nan
    assert checking(6, work) == 1


def proven(epochs: list[tuple[bool, int]]) -> list[bool]:
    """What is proven in epochs that are fixed or not, with integers of so many GPS satellites."""
    known = np.zeros(1, KNOWN)
    seen = []
    for is_fixed, satellites in epochs:
        work = with_integers(gps=satellites)
        seen.append(bool(check(is_fixed, PATIENCE, known[0], work.now[0], work)))
    return seen


def test_what_one_satellite_checks_is_proven_in_the_second_epoch() -> None:
    """A quarter of such fixes of a car in a city were wrong in their first epoch, none in their second."""
    assert proven([(True, 5), (True, 5), (True, 5)]) == [False, True, True]


def test_what_three_satellites_check_is_proven_at_once() -> None:
    assert proven([(True, 4 + AT_ONCE_MIN)]) == [True]


def test_what_nothing_checks_or_is_no_fix_is_not_proven_and_begins_anew() -> None:
    assert proven([(True, 4), (True, 4)]) == [False, False]
    assert proven([(True, 5), (True, 5), (True, 4), (True, 5)]) == [False, True, False, False]
    assert proven([(True, 5), (True, 5), (False, 9), (True, 5)]) == [False, True, False, False]
