"""The chunked transfer coding, both ways."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caster.codec.ntrip.chunked import LAST_CHUNK, ChunkedDecoder, encode_chunk
from caster.errors import RemoteProtocolError


@given(st.lists(st.binary(max_size=300), max_size=12), st.lists(st.integers(0, 4000), max_size=30))
def test_chunks_survive_any_split(parts: list[bytes], cuts: list[int]) -> None:
    wire = b"".join(map(encode_chunk, parts)) + LAST_CHUNK
    decoder, out, at = ChunkedDecoder(), b"", 0
    for cut in [*sorted(cut % (len(wire) + 1) for cut in cuts), len(wire)]:
        out += decoder.receive_data(wire[at:cut])
        at = cut
    assert out == b"".join(parts)
    assert decoder.done


def test_quirk_06_extensions_upper_case_hex_and_trailers_are_read() -> None:
    decoder = ChunkedDecoder()
    assert decoder.receive_data(b"A;name=value\r\n0123456789\r\n000b \nhello world\n0\r\nX: y\r\n\r\nignored") == (
        b"0123456789hello world"
    )
    assert decoder.done


def test_quirk_06_payload_is_handed_on_before_its_chunk_ends() -> None:
    decoder = ChunkedDecoder()
    assert decoder.receive_data(b"ffffffff\r\nabc") == b"abc"
    assert decoder.receive_data(b"def") == b"def"


@pytest.mark.parametrize("wire", [b"xyz\r\n", b"\r\n", b"-1\r\n", b"3\r\nabcd\r\n", b"1" * 20 + b"\r\n", b"0x3\r\n"])
def test_what_is_no_chunk_is_refused(wire: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="chunked coding"):
        ChunkedDecoder().receive_data(wire)


@pytest.mark.parametrize("wire", [b"1;" + b"x" * 100, b"0\r\n" + b"a: b\r\n" * 20])
def test_lines_and_trailers_have_a_limit(wire: bytes) -> None:
    with pytest.raises(RemoteProtocolError, match="longer than 64 bytes"):
        ChunkedDecoder(line_max=64).receive_data(wire)


@given(st.binary())
def test_any_bytes_give_payload_or_the_documented_error(data: bytes) -> None:
    try:
        assert len(ChunkedDecoder().receive_data(data)) <= len(data)
    except RemoteProtocolError:
        pass
