"""From a station's frame to a rover's fix: what is measured is what was sent and what came."""

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from bench import end_to_end, start
from bench.accuracy import SETS
from bench.end_to_end import Answered, figures_of, serve_rovers
from bench.processes import BenchError
from bench.streams import Streams, live_streams
from bench.uploads import Answer, UploadReport
from caster.codec.ntrip import gga_line
from solver.kernels.geodesy import ecef_from_geodetic
from solver.timescale import NS, WEEK_NS, leap_seconds

PLACE_DEG, HEIGHT_M = (35.0, 137.0), 100.0
FIRST_NS = 2400 * WEEK_NS + 30_000 * NS
UTC_S = 30_000 - leap_seconds(FIRST_NS)
PERIOD_NS = 1000 * NS  # between epochs as they are sent here, so that nothing depends on when


def streams() -> Streams:
    """Four epochs of a rover that stands at a known place."""
    truth = {-1: np.array(ecef_from_geodetic(*np.radians(PLACE_DEG).tolist(), HEIGHT_M))}
    return Streams(tuple(FIRST_NS + second * NS for second in range(4)), (b"",) * 4, (b"",) * 4, truth)


def answer(rover: int, epoch: int, after_s: float, quality: int, north_deg: float = 0.0) -> Answer:
    line = gga_line(PLACE_DEG[0] + north_deg, PLACE_DEG[1], HEIGHT_M, UTC_S + epoch, quality)
    return Answer(rover, epoch * PERIOD_NS + round(after_s * NS), line.rstrip())


def report(*answers: Answer, rovers: int = 1) -> UploadReport:
    sent = {(rover, epoch): epoch * PERIOD_NS for rover in range(rovers) for epoch in range(4)}
    return UploadReport(sent_ns=sent, answers=list(answers))


def test_answers_are_matched_with_their_epochs_by_the_time_in_them() -> None:
    late = answer(0, 2, 0.5, 4)
    found = Answered.of(report(late, answer(0, 1, 0.25, 2, north_deg=1e-5)), streams())
    assert found.epoch.tolist() == [2, 1]
    assert found.latency_s.tolist() == [0.5, 0.25]
    assert found.quality.tolist() == [4, 2]
    assert found.error_m == pytest.approx([0.0, 1.11], abs=0.01)


def test_epochs_without_an_answer_and_answers_that_are_late_show() -> None:
    figures = figures_of(report(answer(0, 1, 0.01, 4), answer(0, 2, 1.5, 2)), streams(), range(4))
    assert (figures["answered_percent"], figures["late_percent"]) == (50.0, 25.0)
    assert (figures["fixed_percent"], figures["dgnss_percent"], figures["single_percent"]) == (25.0, 25.0, 0.0)
    assert (figures["p50_ms"], figures["max_ms"]) == (755.0, 1500.0)


def test_what_comes_outside_of_the_window_counts_for_the_first_position_alone() -> None:
    figures = figures_of(report(answer(0, 0, 0.5, 2), answer(0, 3, 0.25, 2)), streams(), range(2, 4))
    assert (figures["answered_percent"], figures["p50_ms"], figures["first_s"]) == (50.0, 250.0, 0.5)
    assert figures["first_fixed_s"] == np.inf


def test_a_rover_that_never_has_a_position_shows_in_the_longest_wait_for_one() -> None:
    figures = figures_of(report(answer(0, 0, 0.5, 1), answer(1, 1, 0.1, 0), rovers=2), streams(), range(4))
    assert figures["first_s_max"] == np.inf
    assert (figures["answered_percent"], figures["single_percent"]) == (25.0, 12.5)


def test_an_answer_to_nothing_that_was_sent_counts_for_nothing() -> None:
    strange = Answer(0, 1, gga_line(*PLACE_DEG, HEIGHT_M, UTC_S + 77).rstrip())
    assert not len(Answered.of(report(strange, answer(5, 1, 0.1, 1)), streams()).epoch)


@pytest.mark.parametrize("module", [end_to_end, start], ids=["end-to-end", "start"])
def test_a_part_that_there_is_none_of_is_named(module: ModuleType, shared_data: Path) -> None:
    with pytest.raises(BenchError, match="many: parts are "):
        module.run({}, ["many"], repeat=1, note=lambda text: None)


def test_a_rover_of_a_real_service_has_a_position_for_every_epoch(shared_data: Path) -> None:
    row = serve_rovers(live_streams(SETS[0]), 1, 3, settle_s=4)
    assert (row.answered_percent, row.remarks) == (100.0, "")
    assert row.fixed_percent + row.float_percent + row.dgnss_percent == 100.0
    assert 0.0 < row.rms_m < 1.0
    assert 0.0 < row.first_s < row.seconds + 4
    assert np.isfinite(row.station_p99_ms)
