"""One packer and one unpacker for all messages whose layout is a table (`layouts`).

A layout is a tuple of `Field`s in the order of the wire. Kinds: `u` unsigned, `s` two's complement, `g` sign and
magnitude (GLONASS), `text` an 8-bit count and that many bytes of Latin-1, `utf8` as many bytes as the field named in
`count` says, `group` a sub-layout repeated as often as that, and `mask` an entry for each of its set bits.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from caster.errors import FormatError, LocalProtocolError

__all__ = ["Field", "Layout", "pack", "unpack"]

Layout = tuple["Field", ...]
_NUMBER_BITS: Final = 12


@dataclass(frozen=True, slots=True)
class Field:
    """One entry of a layout.

    Attributes:
        name: Its key, with the unit of the value.
        kind: One of the module's list.
        bits: Its width; of each entry for a `mask`.
        scale: What one count is worth.
        layout: The entries of a `group`.
        names: The keys of a `mask`'s entries, of its highest bit first.
        count: Name of the field that says how many.
    """

    name: str
    kind: str
    bits: int = 0
    scale: float = 1
    layout: Layout = ()
    names: tuple[str, ...] = ()
    count: str = ""

    def value(self, raw: int) -> float:
        """What a field's bits mean; division is the exact way where one count is a fraction (0.02 m is 1/50 m)."""
        top = 1 << (self.bits - 1)
        if self.kind == "s" and raw & top:
            raw -= top << 1
        elif self.kind == "g" and raw & top:
            raw = top - raw
            if raw == 0:
                return -0.0  # a code of its own
        if self.scale >= 1:
            return raw * self.scale
        parts = 1 / self.scale
        return raw / parts if parts.is_integer() else raw * self.scale

    def raw(self, value: float) -> int:
        """The bits that mean a value, or the nearest that they can mean."""
        count = round(value / self.scale)
        top = 1 << (self.bits - 1)
        low, high = {"u": (0, (top << 1) - 1), "s": (-top, top - 1), "g": (1 - top, top - 1)}[self.kind]
        if not low <= count <= high:
            raise LocalProtocolError(f"{self.name} = {value} does not fit into {self.bits} bits")
        if self.kind == "g" and (count < 0 or str(value) == "-0.0"):
            return top - count
        return count & ((top << 1) - 1)


class _Reader:
    """Takes bits from the front of a payload."""

    __slots__ = ("left", "value")

    def __init__(self, payload: bytes) -> None:
        self.value = int.from_bytes(payload, "big")
        self.left = len(payload) * 8

    def take(self, bits: int) -> int:
        self.left -= bits
        if self.left < 0:
            raise FormatError("its fields ask for more bits than its length holds")
        return (self.value >> self.left) & ((1 << bits) - 1)

    def take_bytes(self, size: int) -> bytes:
        return self.take(8 * size).to_bytes(size, "big")


class _Writer:
    """Puts bits behind one another."""

    __slots__ = ("size", "value")

    def __init__(self) -> None:
        self.value = 0
        self.size = 0

    def put(self, bits: int, value: int) -> None:
        self.value = self.value << bits | value
        self.size += bits

    def payload(self) -> bytes:
        spare = -self.size % 8
        return (self.value << spare).to_bytes((self.size + spare) // 8, "big")


def unpack(layout: Layout, payload: bytes) -> tuple[dict[str, Any], bytes]:
    """Decode a payload, from behind its message number.

    Returns:
        The values by name, and the whole bytes behind the last field.

    Raises:
        FormatError: the payload is too short.
    """
    reader = _Reader(payload)
    reader.take(_NUMBER_BITS)
    values = _take_all(reader, layout)
    return values, payload[len(payload) - reader.left // 8 :]


def _take_all(reader: _Reader, layout: Layout) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in layout:
        if len(field.kind) == 1:
            values[field.name] = field.value(reader.take(field.bits))
        else:
            values[field.name] = _take_compound(reader, field, values)
    return values


def _take_compound(reader: _Reader, field: Field, values: Mapping[str, Any]) -> Any:
    if field.kind == "text":
        return reader.take_bytes(reader.take(8)).decode("latin-1")
    if field.kind == "utf8":
        return reader.take_bytes(values[field.count]).decode("utf-8", "surrogateescape")
    if field.kind == "group":
        return [_take_all(reader, field.layout) for _ in range(values[field.count])]
    entry = Field(field.name, "s", field.bits, field.scale)
    present = reader.take(len(field.names))
    bits = (present >> place & 1 for place in reversed(range(len(field.names))))
    return {name: entry.value(reader.take(field.bits)) for name, bit in zip(field.names, bits, strict=True) if bit}


def pack(layout: Layout, number: int, values: Mapping[str, Any]) -> bytes:
    """Encode a message number and values by name into a payload; counts are taken from what they count.

    Raises:
        LocalProtocolError: a value is missing or does not fit.
    """
    writer = _Writer()
    writer.put(_NUMBER_BITS, number)
    _put_all(writer, layout, values)
    return writer.payload()


def _put_all(writer: _Writer, layout: Layout, values: Mapping[str, Any]) -> None:
    counts = {field.count: _size(field, values) for field in layout if field.count}
    for field in layout:
        if field.name not in values and field.name not in counts:
            raise LocalProtocolError(f"{field.name} is missing")
        if len(field.kind) == 1:
            writer.put(field.bits, field.raw(counts[field.name] if field.name in counts else values[field.name]))
        else:
            _put_compound(writer, field, values[field.name])


def _size(field: Field, values: Mapping[str, Any]) -> int:
    value = values.get(field.name, ())
    return len(value.encode("utf-8", "surrogateescape") if field.kind == "utf8" else value)


def _put_compound(writer: _Writer, field: Field, value: Any) -> None:
    if field.kind in ("text", "utf8"):
        data = value.encode(*(("latin-1", "replace") if field.kind == "text" else ("utf-8", "surrogateescape")))
        if len(data) > 255:
            raise LocalProtocolError(f"{field.name} has more than 255 bytes")
        if field.kind == "text":
            writer.put(8, len(data))
        writer.put(8 * len(data), int.from_bytes(data, "big"))
    elif field.kind == "group":
        for entry in value:
            _put_all(writer, field.layout, entry)
    else:
        entry = Field(field.name, "s", field.bits, field.scale)
        writer.put(len(field.names), sum((name in value) << place for place, name in enumerate(reversed(field.names))))
        for name in field.names:
            if name in value:
                writer.put(field.bits, entry.raw(value[name]))
