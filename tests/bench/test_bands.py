"""The benchmark of single bands: what it says of antennas."""

import pytest

from bench import bands


@pytest.fixture(scope="module")
def rows(shared_data):
    return bands.run({}, ["nagoya-1m"], note=lambda text: None)


def test_each_band_that_resolves_by_itself_has_a_row_and_all_together_one(rows):
    assert {row.band for row in rows if row.system == "C"} == {"B1I", "B2I", "B3I", "all"}
    assert all(row.fixed >= 30 and row.fixed == len(row.errors_mm) for row in rows)


def test_lower_bands_lie_apart_from_the_upper_one_by_more_than_they_scatter(rows):
    by_band = {row.band: row for row in rows if row.system == "C"}
    for lower in (by_band["B2I"], by_band["B3I"]):
        assert by_band["B1I"].mean_e_mm - lower.mean_e_mm > lower.scatter_e_mm
    assert by_band["B1I"].h_rms_mm < 1.5


def test_the_figure_and_the_table_are_written(rows, tmp_path):
    pytest.importorskip("matplotlib")
    bands.write_results(rows, tmp_path)
    assert (tmp_path / "bands.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "bands.md").read_text().count("nagoya-1m") == len(rows)
