"""`dipper solve --mode moving-base` on real recordings."""

from dataclasses import replace

import numpy as np

from caster.codec.solution import csv_header, csv_line
from solver.kernels.geodesy import ecef_from_geodetic
from solver.model import Quality
from solver.observed import Selection
from stations.recordings import Session
from stations.solve import Job, prepare, run

NAGOYA_BASE = np.array(ecef_from_geodetic(np.radians(35.134707705), np.radians(136.977577939), 104.853))
NAGOYA_ROVER = np.array([-3817681.3800, 3562839.9783, 3650158.3757])
SHANGHAI_VRS = np.array([-2_845_676.4110, 4_661_619.4022, 3_283_215.3241])


def test_two_antennas_a_metre_apart_give_a_vector_without_any_coordinates(shared_data):
    folder = shared_data / "matrtklib-static-2024-1m"
    job = prepare(
        "moving-base", [folder / "rover.obs.xz"], [folder / "base.obs.xz"], [folder / "base.nav.xz"],
        Selection(systems="GEC"),
    )  # fmt: skip
    fixes = list(run(job))
    assert {fix.quality for fix in fixes} == {Quality.FIX}
    errors = np.array([fix.baseline_ecef_m - (NAGOYA_ROVER - NAGOYA_BASE) for fix in fixes])
    assert np.abs(errors).max() < 0.008
    columns = csv_header().strip().split(",")
    row = dict(zip(columns, csv_line(fixes[-1]).strip().split(","), strict=True))
    assert abs(float(row["length_m"]) - 0.990) < 0.005
    assert abs(float(row["heading_deg"]) - 193.0) < 0.5


def test_a_base_of_one_band_whose_time_tags_are_milliseconds_behind_gives_the_vector_of_one_at_rest(shared_data):
    """Two M8P, 10 ms apart, the base's Doppler turned: none was fixed rightly.

    One in six messages is lost, which a base at rest makes good for; a vector to one that may have moved is called
    fixed where both observed at one instant.
    """
    folder = shared_data / "jd-walk-20181009"
    job = prepare(
        "kinematic", [folder / "rover-20181009-1221.ubx.gz"], [folder / "base-20181009-1220.ubx.gz"], [],
        Selection(systems="GR"),
    )  # fmt: skip
    vectors = zip(run(job), run(replace(job, mode="moving-base")), strict=True)
    errors = [
        np.linalg.norm(moving.baseline_ecef_m - (resting.position_ecef_m - job.base_ecef_m))
        for resting, moving in vectors
        if moving.quality == resting.quality == Quality.FIX
    ]
    assert len(errors) > 600
    assert np.median(errors) < 0.01
    assert max(errors) < 0.25


def test_a_car_as_the_base_sees_the_station_it_drives_past(shared_data):
    """The Shanghai drive with the roles exchanged: the base moves at up to 15 m/s through a city, the rover stands."""
    folder = shared_data / "shanghai-car-vrs"
    session = Session()
    moving = session.read([folder / "rover.rtcm3.xz"])
    standing = session.read([folder / "base-vrs.rtcm3.xz"], stated_ns=moving.epochs[0].time_ns)
    job = Job(
        "moving-base", standing.epochs, moving.epochs, np.full(3, np.nan), session.ephemerides.snapshot(),
        Selection(systems="GEJC"),
    )  # fmt: skip
    rows = np.genfromtxt(folder / "reference_trajectory.csv", delimiter=",", skip_header=1)
    car = {round(row[0]) * 604_800_000 + round(row[1] * 1000): row[2:5] for row in rows}
    errors = [
        np.linalg.norm(fix.baseline_ecef_m - (SHANGHAI_VRS - car[fix.time_ns // 1_000_000]))
        for fix in run(job)
        if fix.quality == Quality.FIX and fix.age_s == 0 and fix.time_ns // 1_000_000 in car
    ]
    assert len(errors) > 300
    assert np.median(errors) < 0.10, "the reference is good to 4 cm"
    assert np.mean(np.array(errors) > 0.5) < 0.01
