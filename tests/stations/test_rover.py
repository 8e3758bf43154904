"""What the test rover counts of a stream, however it is cut, and whatever is in it."""

from hypothesis import given
from hypothesis import strategies as st

from caster.codec.ntrip import gga_line
from stations.rover import Tally
from tests.caster.conftest import frame

GGA = gga_line(31.2, 121.5, 20.0, 43_200.0)
RMC = b"$GPRMC,083559.00,A,4717.11437,N,00833.91522,E,0.004,77.52,091202,,,A,V*2D\r\n"
"""u-blox M8 Receiver Description, section 31.2.15."""


@given(st.lists(st.integers(1, 40), max_size=20))
def test_frames_and_sentences_are_counted_by_kind_in_any_split(cuts: list[int]) -> None:
    stream, tally = frame(1077) + GGA + RMC + frame(1005) + GGA[:-4] + b"0\r\n" + GGA, Tally()
    place = 0
    for cut in [*cuts, len(stream)]:
        tally.take(stream[place : place + cut])
        place += cut
    assert tally.messages == {1077: 1, 1005: 1}
    assert tally.sentences == {"GGA": 2, "RMC": 1}
    assert tally.bad_sentences == 1
    assert sum(tally.fixes.values()) == 2
    assert tally.last_gga == GGA.decode().rstrip()
    assert "sentences GGA: 2  RMC: 1  bad: 1" in tally.summary()


@given(st.lists(st.one_of(st.binary(max_size=300), st.just(b"$GPGGA,"), st.just(b"*00\r\n"), st.just(GGA))))
def test_any_bytes_are_counted_without_an_error_and_in_bounded_memory(pieces: list[bytes]) -> None:
    tally = Tally()
    for piece in pieces:
        tally.take(piece)
    assert tally.received == sum(map(len, pieces))
    assert len(tally._text) <= 256
    assert tally.sentences["GGA"] <= pieces.count(GGA)
