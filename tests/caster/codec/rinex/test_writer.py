import re
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caster.codec.rinex.header import Header
from caster.codec.rinex.navigation import read_navigation
from caster.codec.rinex.observation import ObservationFile
from caster.codec.rinex.writer import write_navigation, write_observations
from solver.model import HALF_CYCLE, SLIP, Ephemerides, Epoch, NavMessage
from solver.signals import RINEX_CODE, SIGNALS_PER_SYSTEM, frequency_hz, satellite
from solver.timescale import from_week
from tests.caster.codec.rinex.samples import content, package_file
from tests.caster.codec.rinex.test_navigation import BEIDOU_CNV1, HEADER_4, RINEX_2_GLONASS

COLUMNS = ("sat", "signal", "frequency_hz", "pseudorange_m", "phase_cycles", "doppler_hz", "cn0_dbhz", "flags")


def assert_same(ours: list[Epoch], theirs: list[Epoch]) -> None:
    assert [epoch.time_ns for epoch in ours] == [epoch.time_ns for epoch in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        for column in COLUMNS:
            np.testing.assert_array_equal(getattr(mine, column), getattr(other, column), err_msg=column)


def again(epochs: list[Epoch], header: Header) -> list[Epoch]:
    return list(ObservationFile("".join(write_observations(epochs, header)).encode()).epochs())


def test_a_real_file_written_and_read_again_is_the_same() -> None:
    reader = ObservationFile(content(package_file("cssrlib", "data/SEPT078M1.21O")))
    epochs = list(reader.epochs())
    assert_same(again(epochs, reader.header), epochs)


def test_a_signal_that_rinex_has_no_name_for_is_left_out() -> None:
    """A Trimble NETR9 of 2012 sends QZSS's SAIF by a number that MSM has reserved since."""
    (epoch, *_) = ObservationFile(content(package_file("cssrlib", "data/SEPT078M1.21O"))).epochs()
    nameless = next(place for place, code in enumerate(RINEX_CODE[:SIGNALS_PER_SYSTEM]) if not code)
    signal = epoch.signal.copy()
    signal[1] = nameless
    text = "".join(write_observations([replace(epoch, signal=signal)], Header()))
    (back,) = ObservationFile(text.encode()).epochs()
    assert len(back) == len(epoch) - 1
    assert " C " not in text


def test_all_systems_and_glonass_channels_survive(shared_data: Path) -> None:
    reader = ObservationFile(content(shared_data / "mosaic-car-barcelona/CARD00ESP_R_20203341240_20M_01S_MO.rnx.xz"))
    epochs = list(reader.epochs())[:100]
    written = again(epochs, reader.header)
    assert_same(written, epochs)
    text = "".join(write_observations(epochs, reader.header))
    assert ObservationFile(text.encode()).header.marker_name == "CARD"


@st.composite
def epochs_of_anything(draw: st.DrawFn) -> Epoch:
    numbers = [n for n in range(len(RINEX_CODE)) if RINEX_CODE[n]]
    pairs = draw(st.sets(st.tuples(st.integers(1, 32), st.sampled_from(numbers)), min_size=1, max_size=40))
    rows = sorted(
        (satellite(code // SIGNALS_PER_SYSTEM, prn + (19 if code // SIGNALS_PER_SYSTEM == 3 else 0)), code)
        for prn, code in pairs
    )
    size = len(rows)

    def column(low: int, high: int) -> np.ndarray:
        values = draw(st.lists(st.integers(low, high), min_size=size, max_size=size))
        return np.array([value / 1000 if value else np.nan for value in values])

    channel = {prn: prn % 14 - 7 for prn in range(1, 33)}
    phase = column(-(10**12) + 1, 10**13 - 1)
    doppler_hz = column(-(10**8), 10**8)
    range_m = column(1, 10**11)
    flags = np.where(np.isnan(phase), 0, draw(st.sampled_from([0, SLIP, HALF_CYCLE, SLIP | HALF_CYCLE])))
    return Epoch(
        from_week(2300, draw(st.integers(0, 604_799))),
        np.array([sat for sat, _ in rows], np.int16),
        np.array([code for _, code in rows], np.int16),
        np.array([frequency_hz(code, channel[sat % 64 + 1]) if sat // 64 == 1 else frequency_hz(code)
                  for sat, code in rows]),
        range_m,
        phase,
        doppler_hz,
        column(1, 99_000).astype(np.float32),
        np.zeros(size, np.float32),
        flags.astype(np.uint8),
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(epochs_of_anything())
def test_any_epoch_survives_writing_and_reading(epoch: Epoch) -> None:
    (back,) = again([epoch], Header())
    for column in COLUMNS:
        np.testing.assert_array_equal(getattr(back, column), getattr(epoch, column), err_msg=column)


def assert_same_orbits(ours: Ephemerides, theirs: Ephemerides) -> None:
    for mine, other in ((ours.kepler, theirs.kepler), (ours.glonass, theirs.glonass)):
        assert len(mine) == len(other)
        for name in mine.dtype.names or ():
            np.testing.assert_allclose(
                mine[name].astype(float), other[name].astype(float), rtol=1e-12, atol=1e-300, err_msg=name
            )
    np.testing.assert_array_equal(ours.klobuchar_gps, theirs.klobuchar_gps)
    np.testing.assert_array_equal(ours.klobuchar_beidou, theirs.klobuchar_beidou)


@pytest.mark.parametrize(
    "name",
    [
        "nl-network-2021001/CBW100NLD_R_20210010000_01D_MN.rnx.xz",
        "mosaic-car-barcelona/CARD00ESP_R_20203340900_15H_MN.rnx.xz",
    ],
)
def test_ephemerides_of_all_systems_survive(name: str, shared_data: Path) -> None:
    ephemerides = read_navigation(content(shared_data / name)).ephemerides
    assert_same_orbits(read_navigation("".join(write_navigation(ephemerides)).encode()).ephemerides, ephemerides)


def test_messages_that_the_version_does_not_know_are_left_out() -> None:
    ephemerides = read_navigation((HEADER_4 + BEIDOU_CNV1).encode()).ephemerides
    assert ephemerides.kepler["message"].tolist() == [NavMessage.CNV1]
    assert "C21" not in "".join(write_navigation(ephemerides))


def test_leap_seconds_are_those_of_the_records() -> None:
    ephemerides = read_navigation(RINEX_2_GLONASS.encode()).ephemerides
    assert "    15                                                      LEAP SECONDS" in "".join(
        write_navigation(ephemerides)
    )


def test_rnx2rtkp_positions_from_files_that_we_wrote_as_from_the_originals(tmp_path: Path) -> None:
    observations = content(package_file("cssrlib", "data/SEPT078M1.21O"))
    navigation = content(package_file("cssrlib", "data/SEPT078M.21P"))
    reader = ObservationFile(observations)
    # RTKLIB takes Galileo's I/NAV or F/NAV as they happen to come, so that the order of records shows: leave it out.
    head, end, body = navigation.decode().partition("END OF HEADER       \n")
    navigation = (head + end + re.sub(r"(?m)^E.*\n(?: .*\n)+", "", body)).encode()
    (tmp_path / "a.obs").write_bytes(observations)
    (tmp_path / "a.nav").write_bytes(navigation)
    (tmp_path / "b.obs").write_text("".join(write_observations(list(reader.epochs()), reader.header)))
    (tmp_path / "b.nav").write_text("".join(write_navigation(read_navigation(navigation).ephemerides)))
    tracks = []
    for name in "ab":
        command = ["rnx2rtkp", "-p", "0", "-e", "-sys", "G,J", f"{name}.obs", f"{name}.nav"]
        output = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60).stdout
        tracks.append([line.split()[2:5] for line in output.splitlines() if not line.startswith("%")])
    assert len(tracks[0]) == 60
    np.testing.assert_allclose(np.array(tracks[0], float), np.array(tracks[1], float), atol=2e-4)
