"""GGA sentences among a rover's upstream bytes (quirk 7 of the field)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caster.codec.ntrip.gga import Gga, GgaExtractor, gga_line, parse_gga

LINE = b"$GPGGA,092725.00,4717.11399,N,00833.91590,E,1,08,1.01,499.6,M,48.0,M,,*5B"


def test_a_published_sentence_is_read() -> None:
    """The example of u-blox' protocol specification."""
    gga = parse_gga(LINE)
    assert gga is not None and gga.has_position
    assert gga.latitude_deg == pytest.approx(47 + 17.11399 / 60)
    assert gga.longitude_deg == pytest.approx(8 + 33.91590 / 60)
    assert gga.height_m == pytest.approx(547.6)
    assert (gga.quality, gga.satellites, gga.hdop) == (1, 8, 1.01)
    assert gga.utc_s == 9 * 3600 + 27 * 60 + 25


@pytest.mark.parametrize("talker", ["GP", "GN", "BD", "GB", "GA", "GL"])
@pytest.mark.parametrize("end", [b"\r\n", b"\n", b"\r"])
def test_quirk_07_every_talker_and_line_end(talker: str, end: bytes) -> None:
    line = f"${talker}GGA,120000,3000.0,S,12000.0,W,4,20,0.6,10,M,,M,,".encode()
    (gga,) = GgaExtractor().receive_data(line + end)
    assert (gga.latitude_deg, gga.longitude_deg, gga.height_m, gga.line) == (-30.0, -120.0, 10.0, line)


def test_quirk_07_a_wrong_checksum_is_counted_and_passed_over() -> None:
    extractor = GgaExtractor()
    assert extractor.receive_data(LINE[:-1] + b"C\r\n" + LINE + b"\r\n") == [parse_gga(LINE)]
    assert extractor.bad == 1


@pytest.mark.parametrize("body", [b"$GPGGA,,,,,,0,,,,,,,,", b"$GPGGA,120000,,,,,0,00,99.9,,,,,,"])
def test_quirk_07_a_sentence_without_fix_has_no_position(body: bytes) -> None:
    (gga,) = GgaExtractor().receive_data(body + b"\r\n")
    assert gga.latitude_deg is None and gga.quality == 0 and not gga.has_position


def test_quirk_07_quality_0_is_no_position() -> None:
    (gga,) = GgaExtractor().receive_data(b"$GPGGA,120000,3000.0,N,12000.0,E,0,,,,,,,,\r\n")
    assert not gga.has_position


def test_quirk_07_a_whole_nmea_mix_and_binary_garbage() -> None:
    mix = b"\xb5\x62\x01\x07GGA,\xff$GPRMC,1*00\r\n" + LINE + b"\r\n\xd3\x00\x13GG$GPGSV,GGA,\r\n" + LINE + b"\r\n"
    extractor = GgaExtractor()
    found = [gga for byte in mix for gga in extractor.receive_data(bytes([byte]))]
    assert [gga.line for gga in found] == [LINE, LINE]


def test_an_endless_sentence_is_passed_over() -> None:
    extractor = GgaExtractor()
    assert extractor.receive_data(b"$GPGGA," + b"9" * 10_000) == []
    assert len(extractor._tail) <= 128
    assert extractor.receive_data(b"\r\n" + LINE + b"\r\n") == [parse_gga(LINE)]


def test_a_sentence_cut_off_by_the_next_is_lost_alone() -> None:
    assert [g.line for g in GgaExtractor().receive_data(LINE[:30] + b"\r\n" + LINE + b"\r\n")] == [LINE]


@given(st.floats(-90, 90), st.floats(-180, 180), st.floats(-1000, 9000), st.floats(0, 86400), st.integers(0, 8))
def test_a_built_sentence_reads_back(lat: float, lon: float, height: float, utc_s: float, quality: int) -> None:
    line = gga_line(lat, lon, height, utc_s, quality)
    (gga,) = GgaExtractor().receive_data(line)
    assert gga.latitude_deg == pytest.approx(lat, abs=1e-8)
    assert gga.longitude_deg == pytest.approx(lon, abs=1e-8)
    assert gga.height_m == pytest.approx(height, abs=1e-3)
    assert len(line) <= 128


@given(st.lists(st.sampled_from([LINE + b"\r\n", b"noise", b"$GPGGA,", b"GGA,", b"\r\n"]) | st.binary(max_size=40)))
def test_any_split_finds_the_same_sentences(parts: list[bytes]) -> None:
    wire = b"".join(parts)
    whole = GgaExtractor().receive_data(wire)
    piecewise: list[Gga] = []
    extractor = GgaExtractor()
    for at in range(0, len(wire), 7):
        piecewise += extractor.receive_data(wire[at : at + 7])
        assert len(extractor._tail) <= 140
    assert piecewise == whole


@given(st.text(alphabet="GPA0123456789.,*$NSEWM-+einf ", max_size=120))
def test_any_text_is_a_sentence_or_none(text: str) -> None:
    gga = parse_gga("$GPGGA," + text)
    assert gga is None or gga.latitude_deg is None or abs(gga.latitude_deg) <= 90


def test_a_talker_with_a_line_end_inside_is_none():
    """As fuzzing has found it: it was read where the line came whole, and passed over where it came in pieces."""
    data = b"$\nNGGA,120000.00,3030.00,N,11418.00,E,1,12,1.0,50.0,M,0.0,M,,\r\n"
    assert GgaExtractor().receive_data(data) == [] and parse_gga(data) is None
