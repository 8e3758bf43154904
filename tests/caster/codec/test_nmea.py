"""Sentences of a solution, read back by pynmeagps and gpsd."""

import json
import math
import subprocess
from dataclasses import replace
from datetime import datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynmeagps import NMEAReader

from caster.codec.nmea import KINDS, sentences, text
from solver.kernels.geodesy import ecef_from_geodetic
from solver.model import Fix, Quality
from solver.signals import satellite_of_name
from solver.timescale import NS, from_datetime, to_datetime, to_utc

SATELLITES = "G01 G32 R03 R24 E11 E36 C01 C21 C60 J02 S20 I03".split()
COVARIANCE_ECEF_M2 = np.array([[0.9, -0.2, 0.1], [-0.2, 0.5, 0.05], [0.1, 0.05, 0.4]])
FIX = Fix(  # at a published place: 35.13469901 136.97757549 104.8626
    time_ns=from_datetime(datetime(2024, 6, 24, 8, 20, 18)),
    quality=Quality.DGNSS,
    position_ecef_m=np.array([-3817681.3800, 3562839.9783, 3650158.3757]),
    position_covariance_m2=COVARIANCE_ECEF_M2,
    velocity_ecef_mps=np.array([1.0, 2.0, 0.5]),
    satellites=np.array([satellite_of_name(name) for name in SATELLITES], np.int16),
    age_s=1.04,
    dop=np.array([2.0, 1.5, 0.8, 1.2]),
)


def read(data, kind):
    """The messages of one kind, as pynmeagps reads them; it raises for a wrong checksum."""
    messages = [NMEAReader.parse(line + b"\r\n") for line in data.split(b"\r\n") if line]
    return [message for message in messages if message.msgID == kind]


def test_every_kind_is_sent_once_in_order_and_gsa_once_for_each_system():
    kinds = [line[3:6].decode() for line in sentences(FIX).split(b"\r\n") if line]
    assert kinds == ["GGA", "RMC", "GST"] + ["GSA"] * 6 + ["ZDA", "VTG"]
    assert list(dict.fromkeys(kinds)) == list(KINDS)


def test_pynmeagps_reads_the_published_position_from_gga():
    (gga,) = read(sentences(FIX, station=7), "GGA")
    assert abs(gga.lat - 35.13469901) < 1e-8
    assert abs(gga.lon - 136.97757549) < 1e-8
    assert abs(gga.alt + gga.sep - 104.8626) < 1e-3
    assert (gga.quality, gga.numSV, gga.HDOP, gga.diffAge, gga.diffStation) == (2, 12, 0.8, 1.0, 7)
    assert gga.time.isoformat() == "08:20:00"  # 18 leap seconds after GPST


def test_rmc_zda_and_vtg_tell_date_and_motion():
    (rmc,), (zda,), (vtg,) = (read(sentences(FIX), kind) for kind in ("RMC", "ZDA", "VTG"))
    east_mps = -math.sin(math.radians(136.97757549)) * 1.0 + math.cos(math.radians(136.97757549)) * 2.0
    assert (rmc.status, rmc.posMode, rmc.date.isoformat()) == ("A", "D", "2024-06-24")
    assert (zda.day, zda.month, zda.year) == (24, 6, 2024)
    assert rmc.spd * math.sin(math.radians(rmc.cog)) * 1852 / 3600 == pytest.approx(east_mps, abs=1e-3)
    assert vtg.sogk == pytest.approx(rmc.spd * 1.852, abs=2e-3)
    assert vtg.cogt == rmc.cog


def test_gst_is_the_covariance_in_local_axes():
    (gst,) = read(sentences(FIX), "GST")
    lat, lon = math.radians(35.13469901), math.radians(136.97757549)
    east = np.array([-math.sin(lon), math.cos(lon), 0.0])
    north = np.array([-math.sin(lat) * math.cos(lon), -math.sin(lat) * math.sin(lon), math.cos(lat)])
    horizontal = np.array([east, north]) @ COVARIANCE_ECEF_M2 @ np.array([east, north]).T
    variances, axes = np.linalg.eigh(horizontal)
    assert gst.stdLong**2 == pytest.approx(horizontal[0, 0], rel=1e-3)
    assert gst.stdLat**2 == pytest.approx(horizontal[1, 1], rel=1e-3)
    assert (gst.stdMinor**2, gst.stdMajor**2) == pytest.approx(tuple(variances), rel=1e-3)
    azimuth_deg = math.degrees(math.atan2(axes[0, 1], axes[1, 1])) % 180.0
    assert gst.orient == pytest.approx(azimuth_deg, abs=0.06)
    assert gst.stdLat**2 + gst.stdLong**2 + gst.stdAlt**2 == pytest.approx(np.trace(COVARIANCE_ECEF_M2), rel=1e-3)


def test_gsa_lists_satellites_by_system_with_the_ids_of_version_4_11():
    listed = {}
    for gsa in read(sentences(FIX), "GSA"):
        ids = [getattr(gsa, f"svid_{slot:02d}") for slot in range(1, 13)]
        listed[int(str(gsa.systemId), 16)] = [number for number in ids if number != ""]
        assert (gsa.navMode, gsa.PDOP, gsa.HDOP, gsa.VDOP) == (3, 1.5, 0.8, 1.2)
    assert listed == {1: [1, 32, 33], 2: [67, 88], 3: [11, 36], 4: [1, 21, 60], 5: [2], 6: [3]}


def test_more_than_twelve_satellites_of_a_system_take_a_second_gsa():
    many = np.array([satellite_of_name(f"C{number}") for number in range(20, 45)], np.int16)
    messages = read(sentences(replace(FIX, satellites=many)), "GSA")
    counts = [sum(getattr(gsa, f"svid_{slot:02d}") != "" for slot in range(1, 13)) for gsa in messages]
    assert counts == [12, 12, 1]


@pytest.mark.parametrize(
    ("quality", "gga", "mode"),
    [(Quality.SINGLE, 1, "A"), (Quality.DGNSS, 2, "D"), (Quality.FIX, 4, "R"), (Quality.FLOAT, 5, "F")],
)
def test_quality_is_told_by_the_numbers_of_nmea(quality, gga, mode):
    data = sentences(replace(FIX, quality=quality))
    assert read(data, "GGA")[0].quality == gga
    assert read(data, "RMC")[0].posMode == mode


def test_an_epoch_without_a_solution_still_tells_the_time():
    data = sentences(Fix(FIX.time_ns, Quality.NONE, "too few satellites"))
    (gga,), (rmc,), (zda,), (gsa,) = (read(data, kind) for kind in ("GGA", "RMC", "ZDA", "GSA"))
    assert (gga.quality, gga.lat, gga.time.isoformat()) == (0, "", "08:20:00")
    assert (rmc.status, rmc.posMode, zda.year, gsa.navMode) == ("V", "N", 2024, 1)


def test_a_single_solution_names_no_station_and_no_age():
    (gga,) = read(sentences(replace(FIX, quality=Quality.SINGLE, age_s=math.nan), station=7), "GGA")
    assert (gga.diffAge, gga.diffStation) == ("", "")


def test_a_time_just_before_midnight_rounds_into_the_next_day():
    late = from_datetime(datetime(2024, 1, 1, 0, 0, 18)) - 1
    (rmc,) = read(sentences(replace(FIX, time_ns=late)), "RMC")
    assert (rmc.date.isoformat(), rmc.time.isoformat()) == ("2024-01-01", "00:00:00")


def at(latitude_deg, longitude_deg, height_m=0.0):
    place = ecef_from_geodetic(math.radians(latitude_deg), math.radians(longitude_deg), height_m)
    return replace(FIX, position_ecef_m=np.array(place))


def test_minutes_that_round_to_sixty_carry_into_the_degrees():
    assert b",1300.0000000,N,00100.0000000,W," in sentences(at(13 - 1e-12, -1 + 1e-12), kinds=["GGA"])


def test_gpsd_reads_position_height_error_and_corrections():
    data = b"".join(sentences(replace(FIX, time_ns=FIX.time_ns + second * NS), station=7) for second in range(4))
    output = subprocess.run(["gpsdecode"], input=data, capture_output=True, check=True, timeout=20).stdout
    reports = [json.loads(line) for line in output.splitlines()]
    tpv = [report for report in reports if report["class"] == "TPV"]
    gst = [report for report in reports if report["class"] == "GST"]
    assert tpv and gst
    assert abs(tpv[-1]["lat"] - 35.13469901) < 2e-9 + 1e-8
    assert abs(tpv[-1]["lon"] - 136.97757549) < 2e-9 + 1e-8
    assert abs(tpv[-1]["altHAE"] - 104.8626) < 1e-3
    assert (tpv[-1]["mode"], tpv[-1]["status"], tpv[-1]["dgpsAge"], tpv[-1]["dgpsSta"]) == (3, 2, 1.0, 7)
    assert tpv[-1]["time"].startswith("2024-06-24T08:20:0")


@given(st.floats(-89.9, 89.9), st.floats(-180, 180), st.floats(-500, 9000), st.integers(10**18, 16 * 10**17))
def test_pynmeagps_reads_back_any_place_and_time(latitude_deg, longitude_deg, height_m, time_ns):
    data = sentences(replace(at(latitude_deg, longitude_deg, height_m), time_ns=time_ns), kinds=["GGA", "ZDA"])
    (gga,), (zda,) = read(data, "GGA"), read(data, "ZDA")
    assert gga.lat == pytest.approx(latitude_deg, abs=2e-9)
    assert (gga.lon - longitude_deg + 180.0) % 360.0 == pytest.approx(180.0, abs=2e-9)
    assert gga.alt == pytest.approx(height_m, abs=2e-4)
    told = datetime(zda.year, zda.month, zda.day, zda.time.hour, zda.time.minute, zda.time.second)
    assert abs((told - to_datetime(to_utc(time_ns))).total_seconds()) <= 1.0


def test_a_warning_for_a_person_is_sent_as_text_that_pynmeagps_reads():
    (short,) = read(text("send RTCM 3, not UBX"), "TXT")
    assert (short.numMsg, short.msgNum, short.msgType, short.text) == (1, 1, 1, "send RTCM 3  not UBX")
    parts = read(text("word " * 30), "TXT")
    assert "".join(part.text for part in parts).split() == ["word"] * 30
    assert all(len(line) <= 80 for line in text("x" * 500).split(b"\r\n"))
