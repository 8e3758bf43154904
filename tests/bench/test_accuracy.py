"""The accuracy benchmark itself: it measures what it says, beside the peer where there is one."""

import shutil
from dataclasses import replace

import numpy as np
import pytest

from bench.accuracy import SETS, Row, run, to_markdown, write_results
from bench.errors import errors_of


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


NAN = float("nan")


def test_a_table_has_a_line_for_each_row():
    row = Row("a", "single", "G", "dipper", 9, 100.0, 1.0, 2.0, 3.0, 4.0, 50.0, NAN, NAN, 0.25, 0.1)
    lines = to_markdown([row, row]).splitlines()
    assert len(lines) == 4
    assert lines[2].startswith(
        "| a | single | G | dipper | 9 | 100.0 | 1.000 | 2.000 | 3.000 | 4.000 | 50.0 |  |  | 0.25 | 0.1"
    )


def test_every_set_has_a_name_of_its_own_and_a_base_on_the_ground():
    assert len({item.name for item in SETS}) == len(SETS)
    for item in SETS:
        assert item.base_ecef_m is None or 6.34e6 < np.linalg.norm(item.base_ecef_m) < 6.39e6


def test_each_mode_has_a_file_of_its_own_with_the_remarks(tmp_path):
    row = Row("a", "single", "G", "dipper", 9, 100.0, 1.0, 2.0, 3.0, 4.0, 50.0, NAN, NAN, 0.25, 0.1)
    write_results([row, replace(row, mode="dgnss")], tmp_path)
    for mode, other in (("single", "dgnss"), ("dgnss", "single")):
        text = (tmp_path / f"accuracy-{mode}.md").read_text()
        assert f"| a | {mode} |" in text and f"| a | {other} |" not in text
        assert "* barcelona-car:" in text


def test_truth_of_a_walk_and_a_drive_is_found_at_the_epochs_of_the_receivers(shared_data):
    sets = {item.name: item for item in SETS}
    walk = sets["galway-walk"].truth(shared_data / "jd-walk-20181009")
    assert len(walk) == 621
    time_ns = min(walk) * 1_000_000 - 9_000_000
    near = errors_of([(time_ns, walk[min(walk)] + 1.0), (time_ns + 500_000_000, walk[min(walk)])], walk)
    assert np.linalg.norm(near, axis=1) == pytest.approx([3**0.5])
    drive = sets["barcelona-car"].truth(shared_data / "mosaic-car-barcelona")
    base = np.array(sets["barcelona-car"].base_ecef_m)
    assert all(13e3 < np.linalg.norm(place - base) < 16e3 for place in drive.values())
