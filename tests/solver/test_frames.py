"""Frames against the parameters and velocities that IGN publishes."""

from datetime import datetime

import numpy as np
import pytest

from solver.frames import FRAMES, decimal_year, to_cgcs2000, to_frame
from solver.timescale import from_datetime

WUHAN = np.array([-2267749.30, 5009154.30, 3221290.70])
POTSDAM = np.array([3800689.6, 882077.4, 5028791.3])
MAS = np.pi / 180.0 / 3600.0 * 1e-3
# itrf.ign.fr, "Transfo-ITRF2020_TRFs": ITRF2020 to the others at 2015.0, mm, ppb, mas and their yearly rates.
PUBLISHED = {
    "ITRF2014": ((-1.4, -0.9, 1.4, -0.42, 0.0), (0.0, -0.1, 0.2, 0.0, 0.0)),
    "ITRF2008": ((0.2, 1.0, 3.3, -0.29, 0.0), (0.0, -0.1, 0.1, 0.03, 0.0)),
    "ITRF2000": ((-0.2, 0.8, -34.2, 2.25, 0.0), (0.1, 0.0, -1.7, 0.11, 0.0)),
    "ITRF97": ((6.5, -3.9, -77.9, 3.98, 0.36), (0.1, -0.6, -3.1, 0.12, 0.02)),
}


@pytest.mark.parametrize("target", sorted(PUBLISHED))
@pytest.mark.parametrize("epoch", [2000.0, 2015.0, 2026.37])
def test_itrfs_are_as_far_apart_as_published(target, epoch):
    at_2015, rates = (np.array(row) for row in PUBLISHED[target])
    x, y, z, ppb, mas = at_2015 + rates * (epoch - 2015.0)
    turned = np.array([-WUHAN[1], WUHAN[0], 0.0]) * mas * MAS
    expected = WUHAN + np.array([x, y, z]) * 1e-3 + ppb * 1e-9 * WUHAN + turned
    assert to_frame(WUHAN, "ITRF2020", epoch, target).position_ecef_m == pytest.approx(expected, abs=2e-5)


@pytest.mark.parametrize("frame", sorted(FRAMES))
def test_there_and_back_is_where_it_was(frame):
    there = to_frame(WUHAN, "ITRF2014", 2024.5, frame)
    back = to_frame(there.position_ecef_m, frame, 2024.5, "ITRF2014")
    assert back.position_ecef_m == pytest.approx(WUHAN, abs=1e-6)


def test_a_site_moves_with_its_plate_as_the_published_rotation_has_it():
    """Altamimi et al. 2023, table 1: Eurasia -0.085, -0.519, 0.753 mas a year."""
    velocity = np.cross(np.array([-0.085, -0.519, 0.753]) * MAS, POTSDAM)
    assert velocity == pytest.approx([-0.0158, 0.0159, 0.0091], abs=1.5e-3), "ITRF2020's own of Potsdam"
    now = to_frame(POTSDAM, "ITRF2020", 2026.0, "ITRF97").position_ecef_m
    placed = to_cgcs2000(POTSDAM, "ITRF2020", 2026.0)
    assert now - placed.position_ecef_m == pytest.approx(26.0 * velocity, abs=1e-3)


def test_china_has_moved_by_most_of_a_metre_and_the_result_says_how_unsure_it_is():
    placed = to_cgcs2000(WUHAN, "ITRF2020", 2026.4)
    moved = np.linalg.norm(placed.position_ecef_m - WUHAN)
    assert 0.6 < moved < 1.1
    assert 0.1 < placed.sigma_m < 0.2
    assert (placed.frame, placed.epoch) == ("CGCS2000", 2000.0)
    measured = to_cgcs2000(WUHAN, "ITRF2020", 2026.4, velocity_mps=np.array([-0.032, -0.008, -0.012]))
    assert measured.sigma_m < 0.03


def test_frames_and_plates_that_are_none_are_refused():
    with pytest.raises(KeyError):
        to_frame(WUHAN, "ITRF3000", 2020.0, "ITRF97")
    with pytest.raises(KeyError):
        to_cgcs2000(WUHAN, "ITRF2020", 2020.0, plate="CHINA")


def test_a_decimal_year_counts_the_days_of_its_year():
    assert decimal_year(from_datetime(datetime(2024, 1, 1))) == 2024.0
    assert decimal_year(from_datetime(datetime(2024, 7, 2))) == pytest.approx(2024.5)
