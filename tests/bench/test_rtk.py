"""The benchmarks of ambiguity resolution: they measure what they say."""

import pytest

from bench import rtk, solve


@pytest.mark.slow
def test_a_set_gives_fixes_and_wrong_fixes_of_each_mode(shared_data):
    rows = [row for row in rtk.run({}, ["fujisawa-5km"], note=lambda text: None) if row.solver == "dipper"]
    assert {(row.mode, row.systems) for row in rows} == {(m, s) for m in rtk.MODES for s in ("G", "GEJ")}
    both = next(row for row in rows if row.systems == "GEJ" and row.mode == "kinematic")
    assert both.epochs == 60
    assert both.fix_percent == 100.0
    assert both.wrong_percent == both.off_percent == 0.0
    assert both.known_fix_percent == 100.0


@pytest.mark.slow
def test_rates_are_measured_of_solutions_that_are_fixed(shared_data):
    rows = solve.run({}, [], repeat=1, note=lambda text: None)
    ours = [row for row in rows if row.solver == "dipper"]
    assert all(row.fix_percent > 99.0 and row.epochs_per_s > 100.0 for row in ours)


def test_a_table_is_renewed_below_the_text_that_tells_of_it(tmp_path):
    nothing = float("nan")
    row = rtk.Row("walk", "kinematic", "GR", "dipper", 9, 100.0, 0.0, 0.0, *[nothing] * 5, 26.4, 0.8)
    (tmp_path / "rtk.md").write_text("# Fixes\n\nWritten by hand.\n\n| set | old |\n|---|---|\n")
    rtk.write_results([row], tmp_path)
    head, *lines = (tmp_path / "rtk.md").read_text().split("\n\n| set |")
    assert head == "# Fixes\n\nWritten by hand."
    known = "| walk | kinematic | GR | dipper | 9 | 100.0 | 0.0 | 0.0 |"
    assert lines[0].splitlines()[-1] == known + "  |  |  |  |  | 26.4 | 0.8 |"
