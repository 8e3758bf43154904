"""Calibrated antennas in every mode of `dipper solve`."""

from dataclasses import replace

import numpy as np
import pytest
from typer.testing import CliRunner

from caster.errors import ConfigError, FormatError
from solver.kernels.geodesy import ecef_from_geodetic
from solver.model import Quality
from solver.observed import Selection
from stations.antennas import antennas_of
from stations.cli import app
from stations.solve import prepare, run
from tests.caster.codec.antex_sample import SAMPLE, antenna, frequency, line
from tests.solver.recordings import errors_enu_m

NAGOYA_BASE = np.array(ecef_from_geodetic(np.radians(35.134707705), np.radians(136.977577939), 104.853))
STROMLO_ROVER = np.array([-4467074.3577, 2683011.9038, -3667008.2845])
STROMLO_BASE = np.array([-4467102.3061, 2683039.5304, -3666949.9820])
ZEGV = np.array([3908910.3663, 330932.7742, 5012262.5786])


def antex(*antennas: str) -> bytes:
    head = line("     1.4            M", "ANTEX VERSION / SYST") + line("A", "PCV TYPE / REFANT")
    return (head + line("", "END OF HEADER") + "".join(antennas)).encode()


MADE_UP = antex(
    antenna("HIGHANT         NONE", "", 0.0, frequency("G01", (20.0, 10.0, 100.0), [0.0] * 19, {})),
    antenna("FLATANT         NONE", "", 0.0, frequency("G01", (0.0, 0.0, 0.0), [0.0] * 19, {})),
)
"""Two antennas that do not exist, alike in all frequencies: the phase centre is 100 mm over the one's reference point,
10 mm east and 20 mm north, and in the other's."""


def nagoya(shared_data, mode):
    folder = shared_data / "matrtklib-static-2024-1m"
    return [mode, [folder / "rover.obs.xz"], [folder / "base.obs.xz"], [folder / "base.nav.xz"], Selection("GEC")]


@pytest.mark.parametrize(("mode", "instantaneous"), [
    ("kinematic", False), ("kinematic", True), ("static", False), ("dgnss", False), ("moving-base", False),
])  # fmt: skip
def test_in_every_mode_positions_are_those_of_the_reference_points(shared_data, tmp_path, mode, instantaneous):
    """What is the same for all frequencies and directions but a shift of the antenna is a shift of the position."""
    (path := tmp_path / "made-up.atx").write_bytes(MADE_UP)
    how = {"base_ecef_m": NAGOYA_BASE, "instantaneous": instantaneous}
    names = ("HIGHANT NONE", "FLATANT NONE")
    without = list(run(prepare(*nagoya(shared_data, mode), **how)))
    with_it = list(run(prepare(*nagoya(shared_data, mode), **how, antex=path, antennas=names)))
    if mode == "moving-base":
        without, with_it = (
            [replace(fix, position_ecef_m=NAGOYA_BASE + fix.baseline_ecef_m) for fix in fixes]
            for fixes in (without, with_it)
        )
    moved = [
        errors_enu_m([fix.position_ecef_m], other.position_ecef_m)[0]
        for fix, other in zip(with_it, without, strict=True)
    ]
    assert np.median(moved, axis=0) == pytest.approx([-0.01, -0.02, -0.1], abs=5e-4)
    assert np.abs(np.array(moved) - [-0.01, -0.02, -0.1]).max() < 0.005


def published(l1_mm, l1_zenith_mm, l2_mm, l2_zenith_mm):
    """Offset and variations of both frequencies as the IGS printed them."""
    bands = (("G01", l1_mm, l1_zenith_mm), ("G02", l2_mm, l2_zenith_mm))
    return "".join(frequency(band, offset, [float(word) for word in text.split()], {}) for band, offset, text in bands)


STROMLO = antex(
    antenna("LEIAR25.R3      NONE", "", 0.0, published(
        (0.41, 0.11, 162.23),
        "0.00 0.24 0.89 1.79 2.71 3.41 3.70 3.51 2.86 1.89 0.78 -0.31 "
        "-1.22 -1.86 -2.13 -1.88 -0.91 0.97 3.76",
        (0.18, -0.51, 159.51),
        "0.00 -0.12 -0.47 -0.97 -1.56 -2.18 -2.85 -3.54 -4.22 -4.78 -5.05 -4.90 "
        "-4.24 -3.10 -1.59 0.24 2.42 5.17 8.67",
    )),
    antenna("ASH701945C_M    NONE", "", 0.0, published(
        (0.60, -0.46, 91.24),
        "0.00 -0.24 -0.92 -1.97 -3.28 -4.69 -6.05 -7.19 -7.97 -8.30 -8.14 -7.46 "
        "-6.27 -4.54 -2.20 0.87 4.79 9.56 14.88",
        (-0.10, -0.62, 120.06),
        "0.00 -0.13 -0.52 -1.10 -1.82 -2.62 -3.43 -4.21 -4.85 -5.23 -5.25 -4.83 "
        "-3.98 -2.75 -1.23 0.59 2.86 5.83 9.66",
    )),
)  # fmt: skip
"""Means of the two types as the IGS published them in 2011 (SINEX code IGS05_1627), without their azimuths."""


def stromlo(shared_data, systems):
    folder = shared_data / "str-stromlo-70m"
    rover, base = (folder / f"week-rollover-{name}.rtcm3.gz" for name in ("STR24", "STR17"))
    return ["kinematic", [rover], [base], [folder / "convbin-STR17.nav.gz"], Selection(systems), STROMLO_BASE]


def test_the_height_between_two_types_of_antennas_is_right(shared_data, tmp_path):
    """The streams' own messages name both; 5 cm without calibrations, as known before."""
    (path := tmp_path / "two.atx").write_bytes(STROMLO)
    up = {}
    for systems in "GC":
        for file in (None, path):
            fixes = run(prepare(*stromlo(shared_data, systems), antex=file))
            fixed = [fix.position_ecef_m for fix in fixes if fix.quality == Quality.FIX]
            assert len(fixed) > 1100
            up[systems, file] = errors_enu_m(fixed, STROMLO_ROVER).mean(axis=0)[2]
    assert up["G", None] > 0.045
    assert abs(up["G", path]) < 0.005
    assert up["C", None] > 0.030
    assert abs(up["C", path]) < 0.010, "by the nearest frequencies of GPS"


def test_signals_that_take_another_frequency_are_told(shared_data, tmp_path):
    (path := tmp_path / "two.atx").write_bytes(STROMLO)
    told = prepare(*stromlo(shared_data, "CE"), antex=path).warnings
    (rovers,) = [text for text in told if text.startswith("LEIAR25.R3 NONE")]
    assert "C2 as G1 (14 MHz off), C6 as G2 (41 MHz off), C7 as G2 (20 MHz off), E5 as G2 (51 MHz off)" in rovers
    assert "E1 as" not in rovers
    assert "G5 as" not in rovers, "not selected"


def test_an_antenna_that_is_not_in_the_file_is_told(tmp_path):
    path = tmp_path / "some.atx"
    path.write_bytes(SAMPLE)
    warnings: list[str] = []
    assert antennas_of(path, [("TESTANT         DOME", ""), ("OTHERANT", "")], warnings) is not None
    assert not warnings
    assert antennas_of(path, [("TESTANT         DOME", ""), ("", "")], warnings) is None
    assert "an antenna that is not named: none is applied" in warnings[0]


def test_a_radome_that_was_not_calibrated_is_told(tmp_path):
    path = tmp_path / "some.atx"
    path.write_bytes(SAMPLE)
    warnings: list[str] = []
    assert antennas_of(path, [("OTHERANT        SNOW", "")], warnings) is not None
    assert warnings == [f"{path}: OTHERANT SNOW: calibrated without its radome alone, which is taken"]


def test_a_stated_antenna_must_be_in_the_file(shared_data, tmp_path):
    (path := tmp_path / "made-up.atx").write_bytes(MADE_UP)
    with pytest.raises(ConfigError, match=r"made-up\.atx: no calibration of NOSUCHANT NONE"):
        prepare(*nagoya(shared_data, "kinematic"), NAGOYA_BASE, antex=path, antennas=("NOSUCHANT NONE", ""))
    words = ["solve", "--mode", "single", "--rover", __file__, "--rover-antenna", "HIGHANT"]
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2


def test_calibrations_are_not_written_over(tmp_path):
    (path := tmp_path / "made-up.atx").write_bytes(MADE_UP)
    words = ["solve", "--mode", "kinematic", "--rover", __file__, "--base", __file__, "--antex", str(path)]
    result = CliRunner().invoke(app, [*words, "--output", str(path)])
    assert "would be written over" in result.output.replace("\n", " ")
    assert path.read_bytes() == MADE_UP


def test_antennas_of_two_types_that_nothing_corrects_are_told(shared_data):
    """Delft to Eijsden, 164 km: the height is 21 cm off, and 1 cm with both antennas' calibrations."""
    folder = shared_data / "nl-network-2021001"
    told = {}
    for mode, name in (("static", "delf"), ("static", "rovn"), ("kinematic", "delf"), ("dgnss", "delf")):
        rover, base = (folder / f"{who}001_00-12h.21o.xz" for who in (name, "zegv"))
        navigation = [folder / "AMEL00NLD_R_20210010000_01D_MN.rnx.xz"]
        warnings = prepare(mode, [rover], [base], navigation, Selection(), ZEGV).warnings
        told[mode, name] = [text for text in warnings if "--antex" in text]
    differ = "TRM29659.00 UNAV and SEPCHOKE_B3E6 SPKE differ in height by centimetres to decimetres: give --antex FILE"
    assert told.pop(("static", "delf")) == told.pop(("kinematic", "delf")) == [differ]
    assert not any(told.values())


def test_a_file_that_is_no_antenna_file_is_named(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"nothing of antennas in here")
    with pytest.raises(FormatError, match=r"notes\.txt: line 1: not an ANTEX file"):
        antennas_of(path, [], [])
