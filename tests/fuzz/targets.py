"""What fuzzing feeds: each target takes any bytes, and may raise nothing but what its documentation says.

Targets also check what must hold whatever comes: the same result for every split, bounded memory, round trips.
"""

from collections.abc import Callable, Iterator
from contextlib import suppress

import numpy as np

from caster.codec.ntrip import (
    ChunkedDecoder,
    GgaExtractor,
    ReplyReader,
    Request,
    RequestReader,
    build_table,
    parse_gga,
    parse_query,
    parse_table,
)
from caster.codec.proxy import ProxyReader
from caster.codec.rtcm import FrameReader, decode, encode, is_msm, make_frame, message_type
from caster.codec.rtcm.convert import LegacyEncoder, lower_msm
from caster.codec.rtcm.framing import PAYLOAD_MAX, crc24q
from caster.codec.rtcm.messages import Message
from caster.codec.websocket import ClientReader
from caster.epochs import EpochAssembler
from caster.errors import FormatError, LocalProtocolError, RemoteProtocolError

__all__ = ["TARGETS"]


def pieces(data: bytes) -> Iterator[bytes]:
    """The bytes behind the first, in pieces of the size that the first says."""
    size, rest = (data[0] if data else 0) + 1, data[1:]
    for at in range(0, len(rest), size):
        yield rest[at : at + size]


def outcome(work: Callable[[], object]) -> object:
    """A result, or the text of the error that a codec may raise."""
    try:
        return work()
    except (RemoteProtocolError, FormatError) as error:
        return str(error)


def request(data: bytes) -> None:
    """A client's head: a request, a refusal, or more is needed; never more than the limit is kept."""
    reader = RequestReader(1024, 16)
    with suppress(RemoteProtocolError):
        for piece in pieces(data):
            found = reader.receive_data(piece)
            assert len(reader._head) <= 1024 + 256
            if found is not None:
                if isinstance(found, Request):
                    assert found.version in (1, 2) and "/" not in found.mount[:1]
                    assert isinstance((found.agent, found.gga, found.stream_record, found.chunked), tuple)
                return
        reader.receive_eof()


def chunked(data: bytes) -> None:
    """The coding of bodies: the same bytes in any split."""

    def whole() -> bytes:
        return ChunkedDecoder().receive_data(data[1:])

    def split() -> bytes:
        decoder = ChunkedDecoder()
        return b"".join([decoder.receive_data(piece) for piece in pieces(data)])

    first, second = outcome(whole), outcome(split)
    assert first == second or isinstance(first, str) or isinstance(second, str)
    assert isinstance(first, str) == isinstance(second, str)


def sourcetable(data: bytes) -> None:
    """A table: no row is lost or smuggled in when it is written again, and then nothing changes any more."""
    records = parse_table(data)
    again = parse_table(build_table(records))
    assert [record.kind for record in again] == [record.kind for record in records]
    assert parse_table(build_table(again)) == again
    for record in records:
        assert record.position_deg is None or abs(record.position_deg[0]) <= 90


def query(data: bytes) -> None:
    """A question to a table, and the table."""
    text, _, table = data.partition(b"\n")
    with suppress(RemoteProtocolError):
        parse_query(text.decode("latin-1")).select(parse_table(table))


def gga(data: bytes) -> None:
    """A rover's position among anything: found in any split."""
    whole = GgaExtractor().receive_data(data[1:])
    extractor = GgaExtractor()
    split = []
    for piece in pieces(data):
        split += extractor.receive_data(piece)
        assert len(extractor._tail) <= 512
    assert split == whole
    found = parse_gga(data)
    assert found is None or found.latitude_deg is None or abs(found.latitude_deg) <= 90


def reply(data: bytes) -> None:
    """A caster's answer to us."""
    reader = ReplyReader(1024, 4096)
    with suppress(RemoteProtocolError, FormatError):
        for piece in pieces(data):
            reader.receive_data(piece)
            assert len(reader._buffer) <= 4096 + 1024
        reader.receive_eof()


def proxy(data: bytes) -> None:
    """A PROXY header, read as the gate does: what is wanted, no more."""
    reader, rest = ProxyReader(), data
    with suppress(RemoteProtocolError):
        while rest:
            size = reader.wanted
            assert size > 0
            if reader.receive_data(rest[:size]) is not None:
                return
            rest = rest[size:]


def websocket(data: bytes) -> None:
    """A web client's frames."""
    reader = ClientReader()
    for piece in pieces(data):
        assert len(reader.receive_data(piece).data) <= 4 * len(piece) + 4


def framing(data: bytes) -> None:
    """RTCM frames: good ones alone, the same in any split, and little is kept."""
    whole = FrameReader()
    first = whole.feed(data[1:]) + whole.finish()
    reader = FrameReader()
    second = []
    for piece in pieces(data):
        second += reader.feed(piece)
        assert reader.pending_bytes <= PAYLOAD_MAX + 6
    assert second + reader.finish() == first
    assert all(crc24q(frame) == 0 for frame in first)


def message(data: bytes) -> None:
    """Any payload in a good frame: decoded or refused, and what is decoded is written again."""
    frame = make_frame(data[:PAYLOAD_MAX])
    with suppress(FormatError):
        found = decode(frame)
        if not isinstance(found, Message):
            np.testing.assert_array_equal(found.raw, decode(encode(found)).raw)  # type: ignore[union-attr]
        else:
            with suppress(LocalProtocolError):  # a text that cannot be written as it was read
                assert decode(encode(found)).type == found.type  # type: ignore[union-attr]


def convert(data: bytes) -> None:
    """An observation message in other forms."""
    frame = make_frame(data[:PAYLOAD_MAX])
    if not is_msm(message_type(frame)):
        return
    with suppress(FormatError):
        for kind in range(1, 8):
            lower = lower_msm(frame, kind)
            assert message_type(lower) // 10 == message_type(frame) // 10
        LegacyEncoder().convert(frame)


def epochs(data: bytes) -> None:
    """Frames of one stream to epochs: damaged messages are counted, nothing is raised."""
    assembler = EpochAssembler(0)
    for piece in pieces(data):
        assembler.push(make_frame(piece), 0)
    assembler.finish()


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (
        request, chunked, sourcetable, query, gga, reply, proxy, websocket, framing, message, convert, epochs,
    )
}  # fmt: skip
