"""Group delays against the interface documents' equations."""

import math

import numpy as np
import pytest

from solver.kernels.code_bias import beidou2_code_bias, delay_sigma, group_delay
from solver.model import GLONASS_STATE, KEPLER, NavMessage
from solver.signals import satellite_of_name, signal
from solver.timescale import from_week

NONE = np.empty(0, GLONASS_STATE)
F1, F2, F5 = 1575.42, 1227.60, 1176.45


def record(message: str, **fields: float) -> np.ndarray:
    eph = np.zeros(1, KEPLER)
    eph["message"] = NavMessage[message]
    for name in KEPLER.names or ():
        if name.startswith("isc_"):
            eph[name] = np.nan
    for name, value in fields.items():
        eph[name] = value
    return eph


CASES = [
    ("LNAV", "G1W", {"tgd1": 1.0}, 1.0),
    ("LNAV", "G1C", {"tgd1": 1.0}, 1.0),
    ("LNAV", "G2W", {"tgd1": 1.0}, (F1 / F2) ** 2),
    ("LNAV", "J2L", {"tgd1": 1.0}, (F1 / F2) ** 2),
    ("CNAV", "G1C", {"tgd1": 1.0, "isc_l1ca": 0.25}, 0.75),
    ("CNAV", "G2L", {"tgd1": 1.0, "isc_l2c": -0.25}, 1.25),
    ("CNAV", "G5Q", {"tgd1": 1.0, "isc_l5q": 0.5}, 0.5),
    ("INAV", "E1C", {"tgd1": 2.0, "tgd2": 1.0}, 1.0),
    ("INAV", "E7Q", {"tgd1": 2.0, "tgd2": 1.0}, (F1 / 1207.14) ** 2),
    ("FNAV", "E1C", {"tgd1": 2.0, "tgd2": 1.0}, 2.0),
    ("FNAV", "E5Q", {"tgd1": 2.0, "tgd2": 1.0}, 2.0 * (F1 / F5) ** 2),
    ("D1", "C2I", {"tgd1": 1.0, "tgd2": 3.0}, 1.0),
    ("D2", "C7I", {"tgd1": 1.0, "tgd2": 3.0}, 3.0),
    ("D1", "C6I", {"tgd1": 1.0, "tgd2": 3.0}, 0.0),
    ("CNV1", "C1P", {"tgd_b1cp": 1.0}, 1.0),
    ("CNV1", "C1D", {"tgd_b1cp": 1.0, "isc_l1cd": 0.5}, 1.5),
    ("CNV2", "C5P", {"tgd_b2ap": 2.0}, 2.0),
    ("CNV3", "C7D", {"tgd_b2bi": 2.0}, 2.0),
    ("CNV1", "C6I", {"tgd_b1cp": 1.0}, 0.0),
    ("LNAV", "G5Q", {"tgd1": 1.0}, 1.0),
    ("D1", "C1P", {"tgd1": 1.0, "tgd2": 3.0}, 1.0),
]


@pytest.mark.parametrize("message, name, fields, expected", CASES)
def test_each_signal_has_the_delay_of_its_interface_document(message, name, fields, expected):
    assert group_delay(record(message, **fields), NONE, 0, signal(name)) == pytest.approx(expected)


@pytest.mark.parametrize("pair", [("E1C", "E5Q"), ("E1C", "E7Q")])
def test_both_galileo_messages_lead_to_the_same_ionosphere_free_range(pair):
    """I/NAV and F/NAV clocks differ by BGD(E1,E5a) - BGD(E1,E5b) at E1, so clock minus delay must not."""
    terms = {"tgd1": 4e-9, "tgd2": 5e-9}
    for name in pair:
        inav = group_delay(record("INAV", **terms), NONE, 0, signal(name))
        fnav = group_delay(record("FNAV", **terms), NONE, 0, signal(name))
        assert fnav - inav == pytest.approx(terms["tgd1"] - terms["tgd2"], abs=1e-20)


def test_glonass_l2_leaves_late_by_delta_tau_where_it_is_sent():
    eph = np.zeros(2, GLONASS_STATE)
    eph["delta_tau_s"] = [3e-9, np.nan]
    kepler = np.empty(0, KEPLER)
    assert group_delay(kepler, eph, 0, signal("R2C")) == 3e-9
    assert group_delay(kepler, eph, 1, signal("R2C")) == 0.0
    assert group_delay(kepler, eph, 0, signal("R1C")) == 0.0


def test_the_bias_of_beidou_2_is_the_table_s_and_that_of_others_nothing():
    meo, igso, geo = (5282.6, 0.96), (6493.3, 0.96), (6493.3, 0.09)
    c11, c21 = satellite_of_name("C11"), satellite_of_name("C21")
    b1i, b3i, old, new = signal("C2I"), signal("C6I"), from_week(2009, 0.0), from_week(2420, 0.0)
    assert beidou2_code_bias(c11, *meo, b1i, old, math.radians(70.0)) == pytest.approx(0.69)
    assert beidou2_code_bias(c11, *meo, b1i, old, math.pi / 2) == pytest.approx(1.05)
    assert beidou2_code_bias(c11, *igso, b3i, old, math.radians(15.0)) == pytest.approx(-0.22)
    assert beidou2_code_bias(c11, *geo, b1i, old, 1.0) == 0.0
    assert beidou2_code_bias(c11, *meo, signal("C1P"), old, 1.0) == 0.0
    assert beidou2_code_bias(c21, *meo, b1i, old, 1.0) == 0.0
    assert beidou2_code_bias(c11, *meo, b1i, new, 1.0) == 0.0


def test_b2a_does_not_take_the_delay_of_b2i():
    """Receivers of 2026 repeat TGD1 as TGD2 of BDS-3, which sends no B2I: that put B2a of C33 25 m off."""
    assert group_delay(record("D1", tgd1=-45e-9, tgd2=-45e-9), NONE, 0, signal("C5P")) == 0.0


@pytest.mark.parametrize(
    "message, name, told",
    [
        ("LNAV", "G1C", True), ("LNAV", "G2W", True), ("LNAV", "G5Q", False), ("CNAV", "G5Q", True),
        ("INAV", "E5Q", True), ("D1", "C6I", True), ("D1", "C5P", False), ("CNV2", "C5P", True),
    ],
)  # fmt: skip
def test_a_delay_that_no_message_tells_is_known_to_be_unsure(message, name, told):
    assert (delay_sigma(record(message), 0, signal(name)) == 0.0) == told
