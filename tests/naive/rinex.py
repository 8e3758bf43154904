"""An obvious reader of RINEX 3 observation bodies, for comparison with the fast one: string slices alone."""

from collections.abc import Iterator


def read_epochs(text: str) -> Iterator[tuple[str, dict[str, dict[str, tuple[float, str, str]]]]]:
    """Epoch lines, and by satellite and type: value, loss of lock digit, strength digit."""
    head, _, body = text.partition("END OF HEADER")
    types: dict[str, list[str]] = {}
    system = ""
    for line in head.splitlines():
        if line[60:].strip() == "SYS / # / OBS TYPES":
            system = line[0].strip() or system
            types.setdefault(system, []).extend(line[6:60].split())
    lines = iter(body.splitlines()[1:])
    for line in lines:
        assert line[0] == ">"
        satellites = [next(lines) for _ in range(int(line[32:35]))]
        yield line, {sat[:3]: _values(sat, types[sat[0]]) for sat in satellites}


def _values(line: str, types: list[str]) -> dict[str, tuple[float, str, str]]:
    fields = [line[3 + 16 * index : 19 + 16 * index] for index in range(len(types))]
    return {
        name: (float(field[:14]), field[14:15].strip(), field[15:16].strip())
        for name, field in zip(types, fields, strict=True)
        if field[:14].strip() and float(field[:14]) != 0
    }
