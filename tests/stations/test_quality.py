from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from solver.constants import SPEED_OF_LIGHT_MPS
from solver.model import SLIP, Ephemerides, Epoch
from solver.signals import frequency_hz, satellite, signal, signal_name
from solver.timescale import NS, from_week
from stations.cli import app
from stations.quality import Report, examine
from stations.recordings import Session
from tests.caster.codec.rinex.samples import package_file

CODES = ("G1C", "G2W")
MULTIPATH_M = (0.3, 0.5)


def epochs_of_one_satellite(times: list[int], slips: tuple[int, ...] = (), silent: tuple[int, ...] = ()) -> list[Epoch]:
    """Two signals whose codes have noise of `MULTIPATH_M`, under a moving satellite and a changing ionosphere.

    At the times in `slips` the first phase jumps by 10,000 cycles and says so; at those in `silent` it does not.
    """
    rng = np.random.default_rng(1)
    frequencies = np.array([frequency_hz(signal(code)) for code in CODES])
    offset = np.array([1000.0, -2000.0])
    epochs = []
    for time in times:
        offset[0] += 10_000 * (time in slips or time in silent)
        ionosphere_m = (5 + 0.01 * time) * (frequencies[0] / frequencies) ** 2
        range_m = 2.2e7 + 500.0 * time
        phase_m = range_m - ionosphere_m
        flags = np.array([SLIP * (time in slips), 0], np.uint8)
        epochs.append(
            Epoch(
                from_week(2200, float(time)),
                np.full(2, satellite(0, 7), np.int16),
                np.array([signal(code) for code in CODES], np.int16),
                frequencies,
                range_m + ionosphere_m + rng.normal(0, MULTIPATH_M, 2),
                phase_m * frequencies / SPEED_OF_LIGHT_MPS + offset,
                np.zeros(2),
                np.array([45, 35], np.float32),
                np.full(2, 99, np.float32),
                flags,
            )
        )
    return epochs


def report_of(epochs: list[Epoch]) -> Report:
    return examine(epochs, Ephemerides(), np.full(3, np.nan))


def test_code_multipath_is_found_through_slips_and_a_moving_ionosphere() -> None:
    report = report_of(epochs_of_one_satellite(list(range(2000)), slips=(500, 900)))
    assert [signal_name(one.signal) for one in report.signals] == list(CODES)
    assert [one.multipath_m for one in report.signals] == pytest.approx(MULTIPATH_M, rel=0.06)
    assert [one.slips for one in report.signals] == [2, 0]
    assert [one.cn0_dbhz for one in report.signals] == [45, 35]


def test_a_slip_that_nobody_reports_is_found_by_its_jump() -> None:
    report = report_of(epochs_of_one_satellite(list(range(1000)), silent=(300,)))
    assert report.signals[0].slips == 1
    assert report.signals[0].multipath_m == pytest.approx(MULTIPATH_M[0], rel=0.1)


def test_gaps_and_availability_follow_from_the_usual_step() -> None:
    report = report_of(epochs_of_one_satellite([0, 1, 2, 3, 10, 11, 12]))
    assert (report.interval_s, report.span_s, report.gaps) == (1.0, 12.0, [(3.0, 7.0)])
    assert report.availability == pytest.approx(7 / 13)
    assert report.satellites == {"G": 1.0}


def test_one_epoch_alone_is_a_report() -> None:
    report = report_of(epochs_of_one_satellite([5]))
    assert (report.epochs, report.gaps, report.positions) == (1, [], 0)
    assert np.isnan(report.signals[0].multipath_m)


def test_a_real_stations_position_is_near_the_stated_one(shared_data: Path) -> None:
    session = Session()
    recording = session.read([shared_data / "str-stromlo-70m/week-rollover-STR17.rtcm3.gz"])
    report = examine(recording.epochs[:300], session.ephemerides.snapshot(), recording.position_ecef_m)
    assert np.hypot(*report.offset_enu_m[:2]) < 3
    assert report.positions > 100
    assert all(0 < one.multipath_m < 2 for one in report.signals if np.isfinite(one.multipath_m))
    assert recording.epochs[1].time_ns - recording.epochs[0].time_ns == NS


def test_the_command_prints_a_row_for_each_signal() -> None:
    result = CliRunner().invoke(app, ["station", "check", str(package_file("cssrlib", "data/SEPT078M1.21O"))])
    assert result.exit_code == 0, result.output
    for name in ("G1C", "G2W", "E5Q", "J1C", "60 epochs", "single positions"):
        assert name in result.output


def test_a_cycle_that_slips_unseen_is_found_by_the_geometry_free_phase() -> None:
    epochs = epochs_of_one_satellite(list(range(300)))
    for epoch in epochs[150:]:
        epoch.phase_cycles[0] += 1.0
    report = report_of(epochs)
    assert [(one.slips, one.silent) for one in report.signals] == [(0, 1), (0, 1)]
    assert report.signals[0].multipath_m == pytest.approx(MULTIPATH_M[0], rel=0.1)


def test_reported_slips_and_a_moving_ionosphere_are_no_silent_slips() -> None:
    report = report_of(epochs_of_one_satellite(list(range(0, 9000, 30)), slips=(3000, 6000)))
    assert [one.silent for one in report.signals] == [0, 0]


# gnssmultipath 2.2.0 (PyPI), `rms_multipath_range1_averaged` of the same file, no elevation cut-off.
OUTSIDE_M = {"G1C": 0.334, "G2W": 0.336, "G2L": 0.376, "G5Q": 0.177, "E1C": 0.146, "E5Q": 0.146, "E7Q": 0.157}


def test_code_multipath_is_what_another_program_finds(shared_data: Path) -> None:
    session = Session()
    recording = session.read([shared_data / "matrtklib-static-2024-1m" / "rover.obs.xz"])
    report = examine(recording.epochs, Ephemerides(), recording.position_ecef_m)
    found = {signal_name(one.signal): one.multipath_m for one in report.signals}
    assert {name: found[name] for name in OUTSIDE_M} == pytest.approx(OUTSIDE_M, rel=0.05)
