import bz2
import gzip
import io
import lzma
import struct
import zipfile
from collections.abc import Callable
from datetime import date, datetime
from pathlib import Path

import hatanaka
import ncompress
import numpy as np
import pytest
from pyubx2 import UBXMessage

from caster.codec.rinex.observation import ObservationFile
from caster.errors import FormatError, SourceError
from solver.observed import Selection
from solver.signals import satellite_name, signal_name
from solver.timescale import NS, from_datetime, to_datetime
from stations.compressed import ReadAhead, read_plain
from stations.recordings import Recording, Session, UndatedError
from stations.solve import prepare
from tests.caster.codec.rinex.samples import BODY_3, HEADER_3, content, package_file
from tests.caster.codec.test_sbf import block, measured


def read(*paths: Path, stated_ns: int | None = None) -> Recording:
    return Session().read(list(paths), stated_ns)


def zipped(data: bytes) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.obs", data)
    return stream.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": bytes, "gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress, "zip": zipped,
    "compress": lambda data: ncompress.compress(data), "crinex": hatanaka.rnx2crx,
    "crinex in compress": lambda data: ncompress.compress(hatanaka.rnx2crx(data)),
}  # fmt: skip


def test_files_that_are_read_ahead_come_out_as_they_are_and_fail_when_they_are_asked_for(tmp_path: Path) -> None:
    good, bad = tmp_path / "good", tmp_path / "bad"
    good.write_bytes(gzip.compress(b"content"))
    ahead = ReadAhead([good, bad, good])
    assert ahead.read(good) == b"content"
    good.write_bytes(b"later")
    assert ahead.read(good) == b"later", "handed out once, then read anew"
    with pytest.raises(SourceError, match="bad"):
        ahead.read(bad)


@pytest.mark.parametrize("packer", PACKERS.values(), ids=PACKERS.keys())
def test_every_compression_is_opened_whatever_the_name(packer: Callable[[bytes], bytes], tmp_path: Path) -> None:
    original = content(package_file("cssrlib", "data/SEPT078M1.21O"))
    path = tmp_path / "file"
    path.write_bytes(packer(original))
    expected = list(ObservationFile(original).epochs())
    epochs = read(path).epochs
    assert len(epochs) == 60
    for mine, other in zip(epochs, expected, strict=True):
        np.testing.assert_array_equal(mine.phase_cycles, other.phase_cycles)


@pytest.mark.parametrize("packer", [gzip.compress, lzma.compress, bz2.compress, zipped])
def test_a_damaged_archive_is_named(packer: Callable[[bytes], bytes], tmp_path: Path) -> None:
    path = tmp_path / "damaged"
    packed = packer(HEADER_3.encode() * 20)
    path.write_bytes(packed[: len(packed) // 2])
    with pytest.raises(SourceError, match="damaged: damaged compressed file"):
        read_plain(path)


STREAMS = [gzip.compress, lzma.compress, bz2.compress]


@pytest.mark.parametrize("packer", STREAMS)
def test_streams_one_after_the_other_are_read_whole_and_padding_behind_them_left_out(
    packer: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path = tmp_path / "hours"
    path.write_bytes(packer(b"first ") + packer(b"second") + bytes(64))
    assert read_plain(path) == b"first second"


@pytest.mark.parametrize("packer", STREAMS)
def test_a_damaged_stream_behind_a_whole_one_is_not_left_out_silently(
    packer: Callable[[bytes], bytes], tmp_path: Path
) -> None:
    path, second = tmp_path / "hours", packer(b"second" * 100)
    path.write_bytes(packer(b"first ") + second[: len(second) // 2])
    with pytest.raises(SourceError, match="hours: damaged compressed file"):
        read_plain(path)


@pytest.mark.parametrize("data", [b"", b"hello\n", b"$GPGGA,,,*00\r\n" * 50])
def test_what_is_no_recording_is_named(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "odd"
    path.write_bytes(data)
    with pytest.raises(SourceError, match="odd: no observations of RINEX, RTCM 3"):
        read(path)


def test_a_missing_file_and_a_bad_header_are_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nothing-there: No such file"):
        read(tmp_path / "nothing-there")
    path = tmp_path / "bad.obs"
    path.write_text(HEADER_3[:700])
    with pytest.raises(FormatError, match=r"bad\.obs: .*END OF HEADER"):
        read(path)


def test_the_station_is_the_antenna_reference_point(tmp_path: Path) -> None:
    path = tmp_path / "a.obs"
    path.write_text(HEADER_3 + BODY_3)
    station = read(path).station
    marker = np.array([-2862000.0, 4683000.0, 3240000.0])
    assert np.linalg.norm(station.position_ecef_m - marker) == pytest.approx(np.hypot(1.5, np.hypot(0.01, 0.02)))
    assert np.linalg.norm(station.position_ecef_m) > np.linalg.norm(marker) + 1.49
    assert (station.antenna, station.receiver, station.antenna_height_m) == (
        "TRM59800.00     SCIS",
        "SEPT POLARX5",
        1.5,
    )


def test_several_files_make_one_recording_and_warnings_name_their_file(tmp_path: Path) -> None:
    observations = package_file("cssrlib", "data/SEPT078M1.21O")
    navigation = package_file("cssrlib", "data/SEPT078M.21P")
    damaged = tmp_path / "damaged.obs"
    damaged.write_text(HEADER_3 + BODY_3.replace("1234.567", "12x4.567"))
    session = Session()
    recording = session.read([damaged, navigation, observations])
    assert len(recording.epochs) == 62
    assert recording.epochs[-1].time_ns > recording.epochs[0].time_ns
    assert len(session.ephemerides) > 100
    assert any(warning.startswith(f"{damaged}: line 16: ") for warning in recording.warnings)


def test_the_same_navigation_file_may_be_given_twice() -> None:
    session, path = Session(), package_file("cssrlib", "data/SEPT078M.21P")
    session.read_navigation(path)
    once = len(session.ephemerides)
    session.read_navigation(path)
    assert len(session.ephemerides) == once > 0


def test_a_mixed_log_gives_the_denser_observations_and_all_ephemerides(shared_data: Path) -> None:
    session = Session()
    recording = session.read(list((shared_data / "jd-walk-20181009").glob("base-*.ubx.gz")))
    assert len(recording.epochs) > 1500  # of RTCM 3; the raw measurements are 529
    assert recording.station.receiver == "u-blox"  # which no message says
    assert np.isfinite(recording.position_ecef_m).all()
    assert len(session.ephemerides.snapshot().kepler) >= 15
    assert len(session.ephemerides.snapshot().glonass) >= 15


def test_rtcm_gives_the_epochs_that_convbin_writes(shared_data: Path) -> None:
    folder = shared_data / "str-stromlo-70m"
    recording = read(folder / "week-rollover-STR24.rtcm3.gz")
    theirs = list(ObservationFile(content(folder / "convbin-STR24.obs.xz")).epochs())
    ours = {epoch.time_ns: epoch for epoch in recording.epochs}
    compared = 0
    for other in theirs[::6]:
        epoch = ours.get(other.time_ns)
        if epoch is None:
            continue
        mine = {key: row for row, key in enumerate(zip(epoch.sat.tolist(), epoch.signal.tolist(), strict=True))}
        for row, key in enumerate(zip(other.sat.tolist(), other.signal.tolist(), strict=True)):
            if key in mine and np.isfinite(other.pseudorange_m[row]):
                assert epoch.pseudorange_m[mine[key]] == pytest.approx(other.pseudorange_m[row], abs=2e-3), (
                    satellite_name(key[0]),
                    signal_name(key[1]),
                )
                compared += 1
    assert compared > 15_000


def test_a_stream_without_a_date_says_so_and_takes_a_stated_one(shared_data: Path) -> None:
    path = shared_data / "shanghai-car-vrs/base-vrs.rtcm3.xz"
    with pytest.raises(UndatedError, match="which week"):
        read(path)
    rover = read(shared_data / "shanghai-car-vrs/rover.rtcm3.xz").epochs[0]
    base = read(path, stated_ns=rover.time_ns)
    assert len(base.epochs) > 500
    assert abs(base.epochs[0].time_ns - rover.time_ns) < 3600 * NS


def test_a_stream_without_a_date_takes_that_of_navigation_files(shared_data: Path) -> None:
    session = Session()
    session.read_navigation(shared_data / "shanghai-car-vrs/rover.rtcm3.xz")
    base = session.read([shared_data / "shanghai-car-vrs/base-vrs.rtcm3.xz"])
    assert to_datetime(base.epochs[0].time_ns).date() == date(2023, 5, 19)
    assert any("taken as that of the other files" in warning for warning in base.warnings)


def test_a_rover_without_a_date_takes_that_of_its_base(shared_data: Path) -> None:
    base, rover = (shared_data / f"shanghai-car-vrs/{name}.rtcm3.xz" for name in ("base-vrs", "rover"))
    job = prepare("dgnss", [base], [rover], [], Selection("GREJC"))
    assert to_datetime(job.rover[0].time_ns).date() == date(2023, 5, 19)


def test_glonass_alone_in_the_first_second_does_not_take_the_day_of_a_rough_statement(shared_data: Path) -> None:
    path = shared_data / "rtcm3-captures/1012_first.rtcm"
    stated_ns = from_datetime(datetime(2017, 10, 29, 12))
    epochs = read(path, stated_ns=stated_ns).epochs
    assert len(epochs) == 148
    assert epochs[-1].time_ns - epochs[0].time_ns == 148 * NS
    assert to_datetime(epochs[0].time_ns).date() == date(2017, 10, 31)


def test_corrections_inside_of_an_sbf_log_are_not_the_receivers_own(shared_data: Path, tmp_path: Path) -> None:
    """DiffCorrIn holds the base's messages as they came: its observations and position are not those of the log."""
    corrections = content(shared_data / "rtcm3-captures/sept.rtcm")[:40_000]
    log = tmp_path / "rover.sbf"
    log.write_bytes(measured() + b"".join(block(5919, corrections[at : at + 200]) for at in range(0, 40_000, 200)))
    assert [len(epoch) for epoch in read(log).epochs] == [5]
    log.write_bytes(block(5919, corrections[:1000]))
    with pytest.raises(SourceError, match="no observations"):
        read(log)


def test_an_sbf_log_of_measurements_that_are_not_read_says_which(tmp_path: Path) -> None:
    log = tmp_path / "rover.sbf"
    log.write_bytes(block(4109, bytes(40)))
    with pytest.raises(SourceError, match="Meas3"):
        read(log)


@pytest.mark.filterwarnings("error")
def test_two_crinex_files_one_behind_the_other_are_read_and_what_is_left_out_is_told(tmp_path: Path) -> None:
    packed = hatanaka.rnx2crx(content(package_file("cssrlib", "data/SEPT078M1.21O")))
    path = tmp_path / "two.crx"
    path.write_bytes(packed + packed)
    recording = read(path)
    assert len(recording.epochs) >= 60
    assert any("crx2rnx" in warning for warning in recording.warnings)


def test_epochs_of_files_that_overlap_are_there_once(tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("a.obs", "b.obs")]
    paths[0].write_text(HEADER_3 + BODY_3)
    paths[1].write_text(HEADER_3 + BODY_3[BODY_3.index("> 2023 05 19 01 30  1") :].replace("  1.0", "  2.0", 1))
    both, twice = read(*paths), read(paths[0], paths[0])
    assert [round(epoch.time_ns / NS) % 60 for epoch in both.epochs] == [0, 1, 2]
    assert [len(epoch) for epoch in twice.epochs] == [len(epoch) for epoch in read(paths[0]).epochs]


def rawx(week: int, tow_s: float) -> bytes:
    measurement = struct.pack("<ddfBBBBHBBBBBx", 2.3e7, 1e8, 1.0, 0, 5, 0, 0, 900, 45, 0, 0, 0, 7)
    payload = struct.pack("<dHbBBB2x", tow_s, week, 18, 1, 1, 1) + measurement
    return bytes(UBXMessage(b"\x02", b"\x15", 0, payload=payload).serialize())


@pytest.mark.parametrize("week", [0, 65_535])
def test_measurements_before_a_receiver_knows_the_week_are_left_out_and_told_once(week: int, tmp_path: Path) -> None:
    log = tmp_path / "cold.ubx"
    log.write_bytes(rawx(week, 10.0) + rawx(week, 11.0) + rawx(2360, 12.0))
    recording = read(log)
    assert [to_datetime(epoch.time_ns).year for epoch in recording.epochs] == [2025]
    assert sum("before the receiver knew the week" in warning for warning in recording.warnings) == 1
    body = bytearray(measured())
    body[12:14] = week.to_bytes(2, "little")
    log.write_bytes(block(4027, bytes(body[8:])) + measured())
    recording = read(log)
    assert [to_datetime(epoch.time_ns).year for epoch in recording.epochs] == [2025]
    assert sum("before the receiver knew the week" in warning for warning in recording.warnings) == 1
