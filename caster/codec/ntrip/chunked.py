"""The chunked transfer coding of HTTP/1.1 (RFC 9112 section 7.1), as NTRIP 2 streams use it.

The decoder hands payload on as it arrives and never waits for the end of a chunk: a source may announce a chunk of any
size, and BKG's ntripserver spreads one chunk over several sends. Extensions and trailers are skipped, within a limit.
"""

from caster.errors import RemoteProtocolError

__all__ = ["LAST_CHUNK", "ChunkedDecoder", "encode_chunk"]

LAST_CHUNK = b"0\r\n\r\n"

_HEX_DIGITS_MAX = 16  # a longer size would not fit 64 bits


class ChunkedDecoder:
    """Takes the chunked coding off a stream of bytes.

    Args:
        line_max: Longest size line or trailer line, in bytes, and most bytes of all trailers together.

    Attributes:
        done: The last chunk and its trailers have been read; later bytes are ignored.
    """

    def __init__(self, line_max: int = 1024) -> None:
        self._line_max = line_max
        self._line = bytearray()
        self._left = 0  # payload bytes still to come in this chunk
        self._state = "size"
        self._trailer_bytes = 0
        self.done = False

    def receive_data(self, data: bytes) -> bytes:
        """Feed bytes of any split; return the payload in them.

        Raises:
            RemoteProtocolError: The bytes are not chunked coding.
        """
        if self._state == "data" and len(data) <= self._left:  # the common case: no copy
            self._left -= len(data)
            self._state = "data" if self._left else "end"
            return data
        payload: list[bytes] = []
        at = 0
        while at < len(data) and not self.done:
            if self._state == "data":
                part = data[at : at + self._left]
                payload.append(part)
                at += len(part)
                self._left -= len(part)
                self._state = "data" if self._left else "end"
            else:
                at = self._take_line(data, at)
        return b"".join(payload)

    def _take_line(self, data: bytes, at: int) -> int:
        """Collect one line from `data[at:]`, act on it when whole, and return where the next byte is."""
        newline = data.find(b"\n", at)
        stop = len(data) if newline < 0 else newline + 1
        self._line += data[at:stop]
        if len(self._line) > self._line_max:
            raise RemoteProtocolError(f"chunked coding: a size line is longer than {self._line_max} bytes")
        if newline >= 0:
            line = bytes(self._line).strip()
            self._line.clear()
            self._on_line(line)
        return stop

    def _on_line(self, line: bytes) -> None:
        if self._state == "size":
            self._left = _chunk_size(line)
            self._state = "data" if self._left else "trailer"
        elif self._state == "end":
            if line:
                raise RemoteProtocolError("chunked coding: a chunk is longer than its size line says")
            self._state = "size"
        else:
            self._trailer_bytes += len(line)
            if self._trailer_bytes > self._line_max:
                raise RemoteProtocolError(f"chunked coding: trailers are longer than {self._line_max} bytes")
            self.done = not line


def encode_chunk(data: bytes) -> bytes:
    """Wrap bytes as one chunk; nothing for no bytes, since an empty chunk would end the stream."""
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip()
    if not digits or len(digits) > _HEX_DIGITS_MAX or digits.strip(b"0123456789abcdefABCDEF"):
        raise RemoteProtocolError(f"chunked coding: {line[:40]!r} is no chunk size")
    return int(digits, 16)
