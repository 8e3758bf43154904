"""The benchmark of what positions say of themselves."""

import pytest

from bench import honesty


@pytest.mark.slow
def test_a_recording_gives_errors_in_units_of_sigmas_and_solutions_apart(shared_data):
    rows = honesty.run({}, ["shanghai-car"], note=lambda text: None)
    fixed = next(row for row in rows if row.systems == "C" and row.state == "fixed")
    assert fixed.known > 500
    assert 0.7 < fixed.error_per_sigma < 1.3
    assert 90.0 < fixed.ellipse_percent <= 100.0
    assert {row.state for row in rows if "beside" in row.systems} == {"fixed", "float"}
    assert "GEJ beside C" in honesty.to_markdown(rows)
