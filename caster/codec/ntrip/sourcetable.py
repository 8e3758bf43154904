r"""The sourcetable: records of streams (STR), casters (CAS) and networks (NET), built and read.

A record is its fields as texts, the type first; names and order of the fields are tables (NTRIP 1.0 section 7, NTRIP
2.0 section 4). A field that holds `;` is quoted by `"`; the last field of a record, `misc`, may hold `;` unquoted.
Real tables have missing trailing fields, empty positions, Latin-1 names and rows of unknown type: the reader skips what
is no record and fills what is missing with empty texts.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

from caster.codec.ntrip.auth import decode_text
from caster.errors import FormatError

__all__ = ["FIELD_NAMES", "MOUNT_NAME_MAX", "TABLE_BYTES_MAX", "Record", "build_table", "parse_record", "parse_table"]

TABLE_BYTES_MAX = 4 << 20  # rtk2go's table, the largest known, has about 1 MB
MOUNT_NAME_MAX = 100
END = "ENDSOURCETABLE"

FIELD_NAMES: dict[str, tuple[str, ...]] = {
    "STR": (
        "type", "mountpoint", "identifier", "format", "format_details", "carrier", "nav_system", "network", "country",
        "latitude", "longitude", "nmea", "solution", "generator", "compr_encryp", "authentication", "fee", "bitrate",
        "misc",
    ),
    "CAS": (
        "type", "host", "port", "identifier", "operator", "nmea", "country", "latitude", "longitude", "fallback_host",
        "fallback_port", "misc",
    ),
    "NET": (
        "type", "identifier", "operator", "authentication", "fee", "web_net", "web_str", "web_reg", "misc",
    ),
}  # fmt: skip
_POSITION = {kind: {name: at for at, name in enumerate(names)} for kind, names in FIELD_NAMES.items()}


@dataclass(frozen=True, slots=True)
class Record:
    """One row: its fields as texts, the type first, as many as its type has."""

    fields: tuple[str, ...]

    @classmethod
    def of(cls, kind: str, **values: object) -> Self:
        """Make a record of a type from its fields by name; floats get four decimals, True and False 1 and 0."""
        unknown = values.keys() - _POSITION[kind].keys()
        if unknown:
            raise FormatError(f"{kind} records have no field {sorted(unknown)[0]!r}")
        return cls((kind, *(_text(values.get(name)) for name in FIELD_NAMES[kind][1:])))

    @property
    def kind(self) -> str:
        """STR, CAS or NET."""
        return self.fields[0]

    def __getitem__(self, name: str) -> str:
        """A field by its name in `FIELD_NAMES`."""
        return self.fields[_POSITION[self.kind][name]]

    def replaced(self, **values: str) -> Self:
        """The record with other texts in some fields."""
        new = {_POSITION[self.kind][name]: value for name, value in values.items()}
        return type(self)(tuple(new.get(place, field) for place, field in enumerate(self.fields)))

    @property
    def position_deg(self) -> tuple[float, float] | None:
        """Latitude and longitude (-180 to 180); None where the record has none."""
        try:
            latitude, longitude = float(self["latitude"]), float(self["longitude"])
        except (KeyError, ValueError):
            return None
        if not (abs(latitude) <= 90.0 and -180.0 <= longitude <= 360.0):
            return None
        return latitude, longitude - 360.0 if longitude > 180.0 else longitude

    def line(self) -> str:
        """The record as a line of a table, without its line end."""
        return ";".join([*map(_quoted, self.fields[:-1]), _one_line(self.fields[-1])])


def build_table(records: Iterable[Record]) -> bytes:
    """A whole table: CRLF lines and the end mark."""
    return "".join(f"{line}\r\n" for line in [*(record.line() for record in records), END]).encode()


def parse_table(text: bytes, bytes_max: int = TABLE_BYTES_MAX) -> list[Record]:
    """Read a table; stops at its end mark, or at the end of the text where that is missing.

    Raises:
        FormatError: The text is longer than `bytes_max`.
    """
    if len(text) > bytes_max:
        raise FormatError(f"the sourcetable is longer than {bytes_max} bytes")
    records: list[Record] = []
    for raw in text.split(b"\n"):
        line = decode_text(raw).strip()
        if line == END:
            break
        record = parse_record(line)
        if record is not None:
            records.append(record)
    return records


def parse_record(line: str) -> Record | None:
    """Read one line; None where it is no record of a known type."""
    kind = line[:4].upper()
    names = FIELD_NAMES.get(kind[:3])
    if names is None or kind[3:] != ";":
        return None
    fields = _split(line, len(names))
    return Record((kind[:3], *fields[1:], *[""] * (len(names) - len(fields))))


def _split(line: str, count: int) -> list[str]:
    """Split at `;` outside of quotes, at most into `count` fields: the last one keeps its `;`."""
    fields: list[str] = []
    rest: str | None = line
    while rest is not None and len(fields) < count - 1:
        if rest.startswith('"') and (close := rest.find('"', 1)) > 0:
            field, rest = rest[1:close], rest[close + 1 :].lstrip(" ")
            rest = rest[1:] if rest.startswith(";") else (rest or None)
        else:
            field, semicolon, tail = rest.partition(";")
            rest = tail if semicolon else None
        fields.append(field.strip())
    return fields if rest is None else [*fields, rest.strip()]


def _quoted(field: str) -> str:
    field = _one_line(field).replace('"', "'")
    return f'"{field}"' if ";" in field else field


def _one_line(field: str) -> str:
    return " ".join(field.split())


def _text(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(int(value))
    return f"{value:.4f}" if isinstance(value, float) else str(value)
