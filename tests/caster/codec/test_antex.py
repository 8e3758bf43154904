import pytest
from hypothesis import given
from hypothesis import strategies as st

from caster.codec.antex import read_antex
from caster.errors import FormatError
from tests.caster.codec.antex_sample import SAMPLE


def test_receivers_antennas_are_read_and_satellites_left_out():
    antennas = read_antex(SAMPLE)
    assert [(one.name, one.serial) for one in antennas] == [
        ("TESTANT         DOME", ""),
        ("OTHERANT        NONE", ""),
        ("OTHERANT        NONE", "4711"),
    ]
    first = antennas[0].bands["G1"]
    assert first.offset_enu_m.tolist() == pytest.approx([0.0012, 0.0005, 0.0881])
    assert first.variation_m.shape == (5, 19)
    assert antennas[0].bands["G2"].variation_m.shape == (1, 19)
    assert first.variation_m[1, 12] == pytest.approx(0.016)


@pytest.mark.parametrize(("data", "told"), [
    (b"", "line 1: not an ANTEX file"),
    (b"RINEX", "line 1: not an ANTEX file"),
    (SAMPLE[: len(SAMPLE) // 2], "no end"),
    (SAMPLE.replace(b"     0.0  90.0   5.0", b"     0.0  90.0   0.0"), "no such zenith angles"),
    (SAMPLE.replace(b"   88.10", b"   xx.10"), "could not convert"),
    (SAMPLE.replace(b"   G02   ", b"   GXX   "), "line 17"),
    (SAMPLE.replace(b"    4.50", b"        "), "not 5 x 19 values"),
])  # fmt: skip
def test_what_cannot_be_read_is_an_error_that_says_where(data, told):
    with pytest.raises(FormatError, match=told):
        read_antex(data)


@given(st.binary(max_size=300), st.integers(0, len(SAMPLE)), st.integers(0, 100))
def test_garbage_is_read_or_refused_by_name(garbage, place, cut):
    data = SAMPLE[:place] + garbage + SAMPLE[place + cut :]
    try:
        antennas = read_antex(data)
    except FormatError:
        return
    assert all(antenna.bands for antenna in antennas)


def test_antennas_that_are_wanted_alone_are_read():
    assert [one.name for one in read_antex(SAMPLE, ["TESTANT"])] == ["TESTANT         DOME"]
    assert read_antex(SAMPLE, ["NOSUCHANT"]) == []
