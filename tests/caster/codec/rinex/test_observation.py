import math
from pathlib import Path

import numpy as np
import pyrtklib5 as rtklib
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from caster.codec.rinex.header import Header
from caster.codec.rinex.observation import ObservationFile
from caster.codec.rinex.types import layout_of
from caster.errors import FormatError
from solver.model import HALF_CYCLE, SLIP, Epoch
from solver.signals import satellite_name, satellite_of_name, signal, signal_name
from solver.timescale import NS, to_datetime
from tests.caster.codec.rinex.samples import BODY_3, HEADER_3, content, labelled, package_file
from tests.naive import rinex as naive

HEADER_2 = labelled(
    ("     2.11           OBSERVATION DATA    M (MIXED)", "RINEX VERSION / TYPE"),
    ("     7    L1    L2    C1    P2    P1    S1    S2", "# / TYPES OF OBSERV"),
    ("  2021     1     1     0     0    0.0000000     GPS", "TIME OF FIRST OBS"),
    ("", "END OF HEADER"),
)
BODY_2 = """\
 21  1  1  0  0  0.0000000  0  2G07R24
 126298057.858 6  98414080.64743  24033720.416    24033721.351    24033719.353
        40.000          22.0004
 111982965.979 8                  21309646.971
        48.000
 21  1  1  0  0 30.0000000  0 13G01G02G03G04G05G06G07G08G09G10G11G12
                                G13
"""


def epochs_of(text: str) -> list[Epoch]:
    return list(ObservationFile(text.encode()).epochs())


def row(epoch: Epoch, sat: str, code: str) -> int:
    """The row of a satellite's signal in an epoch."""
    places = np.flatnonzero((epoch.sat == satellite_of_name(sat)) & (epoch.signal == signal(sat[0] + code)))
    assert len(places) == 1
    return int(places[0])


def test_a_mixed_file_becomes_epochs_ordered_by_satellite_and_signal() -> None:
    first, second = epochs_of(HEADER_3 + BODY_3)
    assert to_datetime(first.time_ns).isoformat() == "2023-05-19T01:30:00"
    assert second.time_ns - first.time_ns == NS
    names = [(satellite_name(s), signal_name(c)) for s, c in zip(first.sat, first.signal, strict=True)]
    assert names == [("G05", "G1C"), ("R24", "R1C"), ("C21", "C2I"), ("C21", "C1P")]
    gps = row(first, "G05", "1C")
    assert (first.pseudorange_m[gps], first.phase_cycles[gps]) == (20000000.123, 105000000.125)
    assert (first.doppler_hz[gps], first.cn0_dbhz[gps]) == (1234.567, 45.25)
    assert first.frequency_hz[row(first, "R24", "1C")] == 1602e6 - 4 * 562_500


def test_the_loss_of_lock_digit_restarts_the_lock_time_and_marks_half_cycles() -> None:
    first, second = epochs_of(HEADER_3 + BODY_3)
    assert first.flags[row(first, "R24", "1C")] == SLIP
    assert second.flags[row(second, "R24", "1C")] == HALF_CYCLE
    assert second.lock_s[row(second, "R24", "1C")] == 1.0
    assert second.flags[row(second, "G05", "1C")] == SLIP
    assert second.lock_s[row(second, "G05", "1C")] == 0.0


def test_the_strength_digit_stands_in_where_there_is_no_strength() -> None:
    first, _ = epochs_of(HEADER_3 + BODY_3)
    assert first.cn0_dbhz[row(first, "R24", "1C")] == 39.0
    assert math.isnan(first.cn0_dbhz[row(first, "C21", "2I")])


def test_types_that_name_no_signal_are_named_and_skipped() -> None:
    reader = ObservationFile((HEADER_3 + BODY_3).encode())
    assert len(list(reader.epochs())) == 2
    assert [w for w in reader.warnings if "no such signal" in w] == [
        "header: no such signal: C C9Z",
        "header: no such signal: C L9Z",
    ]


def test_receiver_channels_and_ionosphere_delays_in_columns_are_no_unknown_signals() -> None:
    """Septentrio's converter declares X1 for each system, of which every run told."""
    layout, unknown = layout_of(Header(version=3.04, observation_types={"G": ["C1C", "X1", "I1", "C9Z"]}))
    assert unknown == ["G C9Z"]
    assert (layout.slot[0, :4] >= 0).tolist() == [True, False, False, False]


def test_the_header_says_what_stood_there() -> None:
    header = ObservationFile((HEADER_3 + BODY_3).encode()).header
    assert (header.marker_name, header.receiver_type, header.receiver_version) == ("TEST", "SEPT POLARX5", "5.4.0")
    assert (header.antenna_type, header.antenna_serial) == ("TRM59800.00     SCIS", "678")
    assert header.position_ecef_m.tolist() == [-2862000.0, 4683000.0, 3240000.0]
    assert header.antenna_delta_m.tolist() == [1.5, 0.01, -0.02]
    assert (header.interval_s, header.leap_s, header.glonass_channel) == (1.0, 18, {1: 1, 24: -4})


def test_rinex_2_phases_belong_to_the_code_of_their_band() -> None:
    reader = ObservationFile((HEADER_2 + BODY_2).encode())
    first = next(reader.epochs())
    gps, glonass = row(first, "G07", "2W"), row(first, "R24", "1C")
    assert (first.phase_cycles[gps], first.pseudorange_m[gps]) == (98414080.647, 24033721.351)
    assert first.flags[gps] == 0  # the digit 4 speaks of anti-spoofing
    assert first.pseudorange_m[row(first, "G07", "1W")] == 24033719.353
    assert math.isnan(first.phase_cycles[row(first, "G07", "1W")])
    assert (first.phase_cycles[glonass], first.cn0_dbhz[glonass]) == (111982965.979, 48.0)


def test_rinex_2_phases_go_to_the_code_that_a_satellite_has() -> None:
    """A header with C2 and P2: L2 and its strength are P2's, but where a satellite has C2 alone they are C2's."""
    types = "     7    L1    L2    C1    P2    P1    S1    S2"
    header = HEADER_2.replace(types, "     5    L2    C2    P2    S2    C1".ljust(len(types)))
    values = (
        "  98414080.647    24033720.416    24033721.351          40.000    24033719.353\n"
        "  82971205.113    21309646.971                          38.000    21309644.000\n"
    )
    text = header + " 21  1  1  0  0  0.0000000  0  2G07R24\n" + values
    (epoch,) = epochs_of(text)
    precise, civil = row(epoch, "G07", "2W"), row(epoch, "R24", "2C")
    assert (epoch.phase_cycles[precise], epoch.cn0_dbhz[precise]) == (98414080.647, 40.0)
    assert math.isnan(epoch.phase_cycles[row(epoch, "G07", "2X")])
    assert (epoch.phase_cycles[civil], epoch.pseudorange_m[civil]) == (82971205.113, 21309646.971)
    assert epoch.cn0_dbhz[civil] == 38.0
    assert not ((epoch.sat == satellite_of_name("R24")) & (epoch.signal == signal("R2P"))).any()


def test_rinex_2_epochs_continue_over_lines_and_a_cut_file_gives_what_it_has() -> None:
    reader = ObservationFile((HEADER_2 + BODY_2 + "  26298057.858\n\n" * 5).encode())
    assert len(list(reader.epochs())) == 2
    assert any("fewer satellites" in warning for warning in reader.warnings)


@pytest.mark.parametrize(
    ("version", "code", "expected"),
    [("3.02", "1I", "C2I"), ("3.02", "1X", "C2X"), ("3.03", "2I", "C2I"), ("3.04", "1X", "C1X"), ("4.01", "1P", "C1P")],
)
def test_beidou_band_1_is_b1i_before_version_3_04(version: str, code: str, expected: str) -> None:
    header = labelled(
        (f"     {version}           OBSERVATION DATA    C", "RINEX VERSION / TYPE"),
        (f"C    1 C{code}", "SYS / # / OBS TYPES"),
        ("", "END OF HEADER"),
    )
    (epoch,) = epochs_of(header + "> 2023 05 19 01 30  0.0000000  0  1\nC21  21000000.500\n")
    assert signal_name(int(epoch.signal[0])) == expected
    # Without a header line of its own, the time scale of a BeiDou file is BDT.
    assert to_datetime(epoch.time_ns).isoformat() == "2023-05-19T01:30:14"


def test_scale_factors_divide_the_values() -> None:
    scaled = HEADER_3.replace(labelled(("    18", "LEAP SECONDS")), labelled(("G  100   1 L1C", "SYS / SCALE FACTOR")))
    first, _ = epochs_of(scaled + BODY_3)
    assert first.phase_cycles[row(first, "G05", "1C")] == 1050000.00125
    assert first.pseudorange_m[row(first, "G05", "1C")] == 20000000.123


def test_utc_time_tags_become_gpst() -> None:
    utc = HEADER_3.replace("    0.0000000     GPS", "    0.0000000     GLO")
    assert to_datetime(epochs_of(utc + BODY_3)[0].time_ns).isoformat() == "2023-05-19T01:30:18"


def test_header_records_between_epochs_take_effect_from_there() -> None:
    event = "> 2023 05 19 01 30  0.5000000  4  2\n" + labelled(
        ("G    1 C5Q", "SYS / # / OBS TYPES"), ("the rest of the day", "COMMENT")
    )
    lines = BODY_3.splitlines(keepends=True)
    first, second = epochs_of(HEADER_3 + "".join(lines[:4]) + event + "".join(lines[4:]))
    assert len(first) == 4
    assert second.pseudorange_m[row(second, "G05", "5Q")] == 20000001.123


def test_external_events_are_skipped_and_power_failures_are_slips() -> None:
    lines = BODY_3.splitlines(keepends=True)
    text = "".join(lines[:4]) + "> 2023 05 19 01 30  0.7000000  5  1\nan event\n" + "".join(lines[4:])
    first, second = epochs_of(HEADER_3 + text.replace(" 01 30  1.0000000  0", " 01 30  1.0000000  1"))
    assert not first.flags[row(first, "G05", "1C")]
    assert second.flags[row(second, "R24", "1C")] == SLIP | HALF_CYCLE


def test_cycle_slip_records_mark_the_next_observation() -> None:
    lines = BODY_3.splitlines(keepends=True)
    slip = "> 2023 05 19 01 30  0.0000000  6  1\nR24" + 25 * " " + "1.000\n"
    first, second = epochs_of(HEADER_3 + "".join(lines[:4]) + slip + "".join(lines[4:]))
    assert first.flags[row(first, "G05", "1C")] == 0
    assert second.flags[row(second, "R24", "1C")] == SLIP | HALF_CYCLE


def test_a_damaged_line_is_named_and_the_rest_is_read() -> None:
    reader = ObservationFile((HEADER_3 + BODY_3.replace("  1234.567", "  12x4.567")).encode())
    first, second = reader.epochs()
    assert math.isnan(first.doppler_hz[row(first, "G05", "1C")])
    assert second.doppler_hz[row(second, "G05", "1C")] == 1233.567
    assert f"line {HEADER_3.count(chr(10)) + 2}: not a number" in reader.warnings


def test_a_lost_epoch_line_costs_its_epoch_alone() -> None:
    reader = ObservationFile((HEADER_3 + BODY_3.replace("> 2023 05 19 01 30  0", "? 2023 05 19 01 30  0")).encode())
    assert [to_datetime(epoch.time_ns).second for epoch in reader.epochs()] == [1]
    assert f"line {HEADER_3.count(chr(10)) + 1}: not an epoch line; skipped to the next one" in reader.warnings


@pytest.mark.parametrize("count", ["0 3", "0  3  ", "0 3\r"])
def test_a_count_one_column_early_is_a_count(count: str) -> None:
    epochs = epochs_of(HEADER_3 + BODY_3.replace("0  3\n", count + "\n"))
    assert [len(epoch) for epoch in epochs] == [len(epoch) for epoch in epochs_of(HEADER_3 + BODY_3)]


def test_windows_line_ends_change_nothing() -> None:
    for unix, windows in zip(
        epochs_of(HEADER_3 + BODY_3), epochs_of((HEADER_3 + BODY_3).replace("\n", "\r\n")), strict=True
    ):
        np.testing.assert_array_equal(unix.phase_cycles, windows.phase_cycles)
        np.testing.assert_array_equal(unix.flags, windows.flags)


@pytest.mark.parametrize("text", ["", "hello\n", HEADER_3[:500], HEADER_3.replace("OBSERVATION", "NAVIGATION ")])
def test_what_is_no_observation_file_is_refused(text: str) -> None:
    with pytest.raises(FormatError):
        ObservationFile(text.encode())


@settings(max_examples=300, deadline=None)
@given(st.data(), st.sampled_from([HEADER_3 + BODY_3, HEADER_2 + BODY_2]))
def test_damage_anywhere_gives_epochs_or_a_named_error(data: st.DataObject, text: str) -> None:
    raw = bytearray(text.encode())
    for _ in range(data.draw(st.integers(1, 20))):
        place = data.draw(st.integers(0, len(raw) - 1))
        raw[place : place + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
        raw = raw or bytearray(b"\n")
    damaged = bytes(raw[: data.draw(st.integers(0, len(raw)))])
    try:
        reader = ObservationFile(damaged)
    except FormatError:
        return
    for epoch in reader.epochs():
        assert np.all(np.diff(epoch.sat.astype(int)) >= 0)
        assert not np.isinf(epoch.pseudorange_m).any()
    assert len(reader.warnings) <= 1000


def assert_equal_to_naive(path: Path) -> None:
    """Every value of a RINEX 3 file is that of the naive reader."""
    data = content(path)
    cells = 0
    reader = ObservationFile(data)
    for epoch, (line, satellites) in zip(reader.epochs(), naive.read_epochs(data.decode()), strict=True):
        assert to_datetime(epoch.time_ns).strftime("> %Y %m %d %H %M %S") == line[:21].replace("  ", " 0")
        cells += len(epoch)
        for index in range(len(epoch)):
            values = satellites[satellite_name(epoch.sat[index])]
            code = signal_name(int(epoch.signal[index]))[1:]
            for letter, column in zip(
                "CLDS", (epoch.pseudorange_m, epoch.phase_cycles, epoch.doppler_hz, epoch.cn0_dbhz), strict=True
            ):
                expected = values.get(letter + code)
                if expected is None:
                    assert letter == "S" or math.isnan(column[index])
                else:
                    assert column[index] == column.dtype.type(expected[0])
            if "L" + code in values:
                lock = int(values["L" + code][1] or 0)
                assert bool(epoch.flags[index] & SLIP) == bool(lock & 1)
                assert bool(epoch.flags[index] & HALF_CYCLE) == bool(lock & 2)
    assert cells > 1000
    assert reader.problems == 0


def test_a_public_recording_is_read_to_the_last_value() -> None:
    assert_equal_to_naive(package_file("cssrlib", "data/SEPT078M1.21O"))


def test_a_beidou_recording_is_read_to_the_last_value(shared_data: Path) -> None:
    assert_equal_to_naive(shared_data / "matrtklib-static-2024-1m/rover.obs.xz")


def rtklib_observations(path: Path, folder: Path) -> dict[tuple[int, str, str], tuple[float, float, float, float]]:
    """What RTKLIB reads from a file: range, phase, Doppler, strength by time, satellite and RINEX code."""
    plain = folder / "plain.obs"
    plain.write_bytes(content(path))
    observations, navigation, station = rtklib.obs_t(), rtklib.nav_t(), rtklib.sta_t()
    assert rtklib.readrnx(str(plain), 1, "", observations, navigation, station) > 0
    found = {}
    for index in range(observations.n):
        one = observations.data[index]
        name = rtklib.Arr1Dchar(8)
        rtklib.satno2id(one.sat, name)
        moment = (one.time.time - 315_964_800) * NS + round(one.time.sec * 1e9)
        for band in range(rtklib.NFREQ):
            if one.P[band] or one.L[band]:
                sat = f"S{int(name.ptr) - 100}" if name.ptr.isdecimal() else name.ptr
                key = (moment, sat, rtklib.code2obs(one.code[band]))
                found[key] = (one.P[band], one.L[band], one.D[band], one.SNR[band])
    return found


@pytest.mark.parametrize(
    "name",
    ["nl-network-2021001/zegv001_00-12h.21o.xz", "mosaic-car-barcelona/CARD00ESP_R_20203341240_20M_01S_MO.rnx.xz"],
)
def test_rtklib_reads_the_same_values(name: str, shared_data: Path, tmp_path: Path) -> None:
    """RTKLIB keeps one signal a band; each that it has must be ours too (by band where RINEX 2 has no codes)."""
    theirs = rtklib_observations(shared_data / name, tmp_path)
    reader = ObservationFile(content(shared_data / name))
    ours = {
        (epoch.time_ns, satellite_name(sat), signal_name(int(code))[1:]): index_values
        for epoch in reader.epochs()
        for sat, code, *index_values in zip(
            epoch.sat, epoch.signal, epoch.pseudorange_m, epoch.phase_cycles, epoch.doppler_hz, strict=True
        )
    }
    by_band = {(time, sat, code[0]): v for (time, sat, code), v in ours.items() if not math.isnan(v[1])}
    compared = 0
    for (time, sat, code), (pseudorange, phase, doppler, _) in theirs.items():
        if phase:
            assert by_band[time, sat, code[0]][1] == phase or ours[time, sat, code][1] == phase, (time, sat, code)
        if (time, sat, code) in ours:
            compared += 1
            values = ours[time, sat, code]
            assert np.nan_to_num(values[0]) == pseudorange, (time, sat, code)
            assert code[0] != "1" or np.float32(np.nan_to_num(values[2])) == np.float32(doppler)
    assert compared > 50_000
