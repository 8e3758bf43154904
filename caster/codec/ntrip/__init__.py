"""NTRIP 1 and 2, both sides, as pure state machines: bytes in, events out; text built by functions.

Read in this order: `request` (what a client asks), `response` (what a caster answers), `chunked` (HTTP/1.1 transfer
coding), `auth` (Basic credentials), `gga` (a rover's position among its upstream bytes), `sourcetable` and `query` (the
table of streams and the `?match=`/`?filter=` expressions), `client` (the other side of all of these).

Specifications: NTRIP 1.0 (RTCM 10410.0), NTRIP 2.0 (RTCM 10410.1 with amendment 1), HTTP/1.1 (RFC 9112), Basic
authentication (RFC 7617). Where receivers in the field differ from them, the readers follow the field and a test names
the difference. Every reader takes a size limit; bad bytes raise `RemoteProtocolError` or `FormatError`, nothing else.
"""

from caster.codec.ntrip.auth import Credentials, basic_header, parse_basic
from caster.codec.ntrip.chunked import LAST_CHUNK, ChunkedDecoder, encode_chunk
from caster.codec.ntrip.client import (
    ClientReply,
    Refused,
    ReplyReader,
    StreamData,
    StreamEnded,
    StreamOpened,
    TableReceived,
    get_request,
    post_request,
    source_request,
)
from caster.codec.ntrip.gga import Gga, GgaExtractor, gga_line, parse_gga
from caster.codec.ntrip.query import TableQuery, parse_query
from caster.codec.ntrip.request import Request, RequestReader, TlsHello
from caster.codec.ntrip.sourcetable import Record, build_table, parse_table

__all__ = [
    "LAST_CHUNK",
    "ChunkedDecoder",
    "ClientReply",
    "Credentials",
    "Gga",
    "GgaExtractor",
    "Record",
    "Refused",
    "ReplyReader",
    "Request",
    "RequestReader",
    "StreamData",
    "StreamEnded",
    "StreamOpened",
    "TableQuery",
    "TableReceived",
    "TlsHello",
    "basic_header",
    "build_table",
    "encode_chunk",
    "get_request",
    "gga_line",
    "parse_basic",
    "parse_gga",
    "parse_query",
    "parse_table",
    "post_request",
    "source_request",
]
