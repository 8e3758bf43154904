"""Signal and satellite tables against pyrtcm's and RTKLIB's."""

import numpy as np
import pyrtcm.rtcmtables as pyrtcm_tables
import pyrtklib5 as rtklib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from solver import signals

PYRTCM_SIGNALS = {
    "G": pyrtcm_tables.GPS_SIG_MAP,
    "R": pyrtcm_tables.GLONASS_SIG_MAP,
    "E": pyrtcm_tables.GALILEO_SIG_MAP,
    "S": pyrtcm_tables.SBAS_SIG_MAP,
    "J": pyrtcm_tables.QZSS_SIG_MAP,
    "C": pyrtcm_tables.BEIDOU_SIG_MAP,
    "I": pyrtcm_tables.IRNSS_SIG_MAP,
}
RTKLIB_SYSTEMS = {
    "G": rtklib.SYS_GPS,
    "R": rtklib.SYS_GLO,
    "E": rtklib.SYS_GAL,
    "S": rtklib.SYS_SBS,
    "J": rtklib.SYS_QZS,
    "C": rtklib.SYS_CMP,
    "I": rtklib.SYS_IRN,
}


@pytest.mark.parametrize("letter", signals.SYSTEMS)
def test_msm_signal_ids_are_those_of_pyrtcm(letter: str) -> None:
    """Every id that pyrtcm names stands for the same RINEX code here."""
    system = signals.SYSTEMS.index(letter)
    ours = {slot: signals.RINEX_CODE[system * 32 + slot - 1] for slot in PYRTCM_SIGNALS[letter]}
    assert ours == {slot: code for slot, (_, code) in PYRTCM_SIGNALS[letter].items()}


@pytest.mark.parametrize("name", [signals.signal_name(n) for n, code in enumerate(signals.RINEX_CODE) if code])
def test_carrier_frequencies_are_those_of_rtklib(name: str) -> None:
    """RTKLIB gives each code that it knows the same frequency."""
    code = rtklib.obs2code(name[1:])
    frequency_hz = rtklib.code2freq(RTKLIB_SYSTEMS[name[0]], code, 0)
    if code == 0 or frequency_hz == 0:
        pytest.skip(f"RTKLIB has no {name}")
    assert signals.frequency_hz(signals.signal(name), 0) == frequency_hz


@pytest.mark.parametrize(("name", "code"), [("R1C", "1C"), ("R2P", "2P")])
@pytest.mark.parametrize("channel", [-7, 0, 6])
def test_glonass_channels_shift_the_carrier_as_in_rtklib(name: str, code: str, channel: int) -> None:
    expected_hz = rtklib.code2freq(rtklib.SYS_GLO, rtklib.obs2code(code), channel)
    assert signals.frequency_hz(signals.signal(name), channel) == pytest.approx(expected_hz, abs=1e-3)


def test_a_glonass_carrier_without_its_channel_is_not_known() -> None:
    assert np.isnan(signals.frequency_hz(signals.signal("R1C")))
    assert signals.frequency_hz(signals.signal("R3X")) == 1202.025e6


def test_every_signal_name_leads_back_to_its_number() -> None:
    numbers = [n for n, code in enumerate(signals.RINEX_CODE) if code]
    assert [signals.signal(signals.signal_name(n)) for n in numbers] == numbers
    assert signals.signal("G9Z") == -1


@given(st.integers(0, signals.SATELLITE_COUNT - 1))
def test_every_satellite_name_leads_back_to_its_number(sat: int) -> None:
    assert signals.satellite_of_name(signals.satellite_name(sat)) == sat


@pytest.mark.parametrize("name", ["", "X01", "G00", "G65", "Gxx", "S19", "C-1", "G"])
def test_a_name_of_no_satellite_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="no such satellite"):
        signals.satellite_of_name(name)
