"""A rover's own position: GGA sentences found among whatever it sends up.

Rovers send GGA alone, or all their NMEA at 10 Hz, or raw observations (UBX, RTCM) with sentences in between, split over
segments anywhere. The extractor looks for `GGA,` with `bytes.find`, which skips the rest at memory speed, keeps at most
one sentence's length between calls, and parses by hand: no library call for a sentence that is thrown away.

Sentence layout: NMEA 0183 GGA; any talker (GP GN BD GB GA GL ...). A checksum may be missing, but a wrong one is
refused.
"""

from functools import reduce
from operator import xor
from typing import NamedTuple

__all__ = ["SENTENCE_MAX", "Gga", "GgaExtractor", "framed", "gga_line", "parse_gga"]

SENTENCE_MAX = 128  # bytes; NMEA says 82, receivers with more decimals send more


class Gga(NamedTuple):
    """What a GGA sentence says.

    Attributes:
        latitude_deg: North positive; None without a position.
        longitude_deg: East positive; None without a position.
        height_m: Ellipsoidal height: altitude plus geoid separation (0 where the sentence leaves them out).
        quality: Fix quality: 0 none, 1 single, 2 differential, 4 fixed, 5 float, 6 estimated.
        satellites: Number used; 0 where not given.
        hdop: Horizontal dilution of precision; None where not given.
        utc_s: Seconds of the UTC day; None where not given.
        line: The sentence as it came, without its line end.
    """

    latitude_deg: float | None
    longitude_deg: float | None
    height_m: float
    quality: int
    satellites: int
    hdop: float | None
    utc_s: float | None
    line: bytes

    @property
    def has_position(self) -> bool:
        """The sentence holds a position that a receiver found (quality above 0)."""
        return self.latitude_deg is not None and self.longitude_deg is not None and self.quality > 0


class GgaExtractor:
    """Finds GGA sentences in a rover's upstream bytes.

    Args:
        sentence_max: Longest sentence in bytes; longer ones are passed over.

    Attributes:
        bad: Count of sentences that looked like GGA and could not be read.
    """

    __slots__ = ("_sentence_max", "_tail", "bad")

    def __init__(self, sentence_max: int = SENTENCE_MAX) -> None:
        self._sentence_max = sentence_max
        self._tail = b""
        self.bad = 0

    def receive_data(self, data: bytes) -> list[Gga]:
        """Feed bytes of any split; return the sentences that ended in them, oldest first."""
        data = self._tail + data
        found: list[Gga] = []
        at = 0
        while (mark := data.find(b"GGA,", at)) >= 0:
            start = mark - 3
            end = _line_end(data, mark, mark + self._sentence_max)
            if end < 0 and len(data) - mark < self._sentence_max:
                self._tail = data[max(at, start) :]
                return found
            at = end if end >= 0 else mark + 4
            if start >= 0 and data[start : start + 1] == b"$" and data[start + 1 : mark].isalnum() and end >= 0:
                self._take(data[start:end], found)
        self._tail = data[max(at, len(data) - 6) :]  # "$GPGGA" may be cut anywhere
        return found

    def _take(self, line: bytes, found: list[Gga]) -> None:
        gga = parse_gga(line)
        if gga is None:
            self.bad += 1
        else:
            found.append(gga)


def parse_gga(line: bytes | str) -> Gga | None:
    """Read one sentence, with or without `$`, checksum and line end; None where it is no GGA."""
    raw = line.encode("ascii", "replace") if isinstance(line, str) else line
    raw = raw.strip()
    body, star, checksum = raw.removeprefix(b"$").partition(b"*")
    if star and not _checksum_matches(body, checksum):
        return None
    try:
        return _read_fields(body.decode("ascii").split(","), raw)
    except ValueError:  # a field is no number, or the bytes are no ASCII
        return None


def gga_line(latitude_deg: float, longitude_deg: float, height_m: float, utc_s: float, quality: int = 1) -> bytes:
    """A GGA sentence with CRLF, for a client that tells a caster where it is (geoid separation left at 0)."""
    hours, rest = divmod(utc_s % 86400.0, 3600.0)
    minutes, seconds = divmod(rest, 60.0)
    seconds = min(seconds, 59.99)  # 59.996 would print as 60.00
    latitude, longitude = _degrees_minutes(latitude_deg, 2, "NS"), _degrees_minutes(longitude_deg, 3, "EW")
    body = (
        f"GPGGA,{int(hours):02d}{int(minutes):02d}{seconds:05.2f},{latitude},{longitude},"
        f"{quality},12,1.0,{height_m:.3f},M,0.000,M,,"
    ).encode()
    return framed(body)


def framed(body: bytes) -> bytes:
    """The NMEA sentence of a body: dollar sign, checksum (NMEA 0183 section 5.3.1: xor of all between), line end."""
    return b"$%b*%02X\r\n" % (body, _checksum(body))


def _degrees_minutes(degrees: float, width: int, hemispheres: str) -> str:
    whole, minutes = divmod(round(abs(degrees) * 60.0, 7), 60.0)
    return f"{int(whole):0{width}d}{minutes:010.7f},{hemispheres[degrees < 0]}"


def _line_end(data: bytes, start: int, stop: int) -> int:
    """Where the line that holds `start` ends (at CR or LF), or -1."""
    ends = [end for end in (data.find(b"\r", start, stop), data.find(b"\n", start, stop)) if end >= 0]
    return min(ends, default=-1)


def _read_fields(fields: list[str], line: bytes) -> Gga | None:
    if len(fields) < 10 or len(fields[0]) != 5 or not (fields[0].isalnum() and fields[0].endswith("GGA")):
        return None
    latitude = _angle(fields[2], fields[3], "N", "S", 90.0)
    longitude = _angle(fields[4], fields[5], "E", "W", 180.0)
    separation = fields[11] if len(fields) > 11 else ""
    return Gga(
        latitude if longitude is not None else None,
        longitude if latitude is not None else None,
        _number(fields[9]) + _number(separation),
        int(fields[6] or 0),
        int(fields[7] or 0),
        _number(fields[8]) if fields[8] else None,
        _seconds_of_day(fields[1]) if fields[1] else None,
        line,
    )


def _number(text: str) -> float:
    """A finite number, 0 for an empty field."""
    value = float(text or 0)
    if not -1e9 < value < 1e9:
        raise ValueError(text)
    return value


def _angle(text: str, hemisphere: str, positive: str, negative: str, limit_deg: float) -> float | None:
    """Degrees from `dddmm.mmm`; None for an empty field."""
    if not text:
        return None
    whole, minutes = divmod(_number(text), 100.0)
    degrees = whole + minutes / 60.0
    if hemisphere not in (positive, negative) or minutes >= 60.0 or not 0.0 <= degrees <= limit_deg:
        raise ValueError(text)
    return -degrees if hemisphere == negative else degrees


def _seconds_of_day(text: str) -> float:
    hours, minutes, seconds = int(text[:2]), int(text[2:4]), _number(text[4:])
    return hours * 3600.0 + minutes * 60.0 + seconds


def _checksum(body: bytes) -> int:
    return reduce(xor, body, 0)


def _checksum_matches(body: bytes, text: bytes) -> bool:
    try:
        return int(text[:2], 16) == _checksum(body)
    except ValueError:
        return False
