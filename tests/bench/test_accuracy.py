"""The accuracy benchmark itself: it measures what it says, beside the peer where there is one."""

import shutil

import numpy as np
import pytest

from bench.accuracy import SETS, Row, run, to_markdown


def test_a_set_gives_a_row_for_each_solver_mode_and_choice_of_systems(shared_data):
    rows = run({}, ["fujisawa-5km"], note=lambda text: None)
    solvers = {"dipper"} | ({"rnx2rtkp"} if shutil.which("rnx2rtkp") else set())
    assert {(row.solver, row.mode, row.systems) for row in rows} == {
        (solver, mode, systems) for solver in solvers for mode in ("single", "dgnss") for systems in ("G", "GEJ")
    }
    assert all(row.epochs == 60 and row.available_percent > 99.0 for row in rows)
    ours = {row.mode: row for row in rows if row.solver == "dipper" and row.systems == "GEJ"}
    assert ours["dgnss"].h_rms_m < 0.2 < ours["single"].h_rms_m
    assert ours["dgnss"].bounded_percent == pytest.approx(100.0)


def test_a_table_has_a_line_for_each_row():
    row = Row("a", "single", "G", "dipper", 9, 100.0, 1.0, 2.0, 3.0, 4.0, 50.0, float("nan"), 0.1)
    lines = to_markdown([row, row]).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith("| a | single | G | dipper | 9 | 100.0 | 1.000 | 2.000 | 3.000 | 4.000 | 50.0 |  | 0.1")


def test_every_set_has_a_name_of_its_own_and_a_base_on_the_ground():
    assert len({item.name for item in SETS}) == len(SETS)
    for item in SETS:
        assert item.base_ecef_m is None or 6.34e6 < np.linalg.norm(item.base_ecef_m) < 6.39e6
