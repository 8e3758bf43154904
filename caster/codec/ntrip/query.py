"""Questions to a sourcetable: `GET /?match=STR;;;...&filter=...&auth&strict` (NTRIP 2.0 section 4).

* `match`: the text of each field must be equal; an empty field matches any.
* `filter`: an expression per field. Text fields: `*` wildcard, `|` or, `!` not, `()`. Number fields: `=` `>` `<` `>=`
  `<=`, `!` not, `|` or, `+` and; `~53.1` keeps the rows nearest to a value, and on latitude and longitude together the
  nearest stream on the ground.
* `auth`: only streams that the client's credentials open.
* `strict`: a bad expression is an error; without it a bad expression matches all.

`match` and `filter` may be repeated and combined; every one must hold. A record of another type than the expression's
first field names does not match.
"""

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from urllib.parse import unquote

from caster.codec.ntrip.sourcetable import FIELD_NAMES, Record
from caster.errors import RemoteProtocolError

__all__ = ["QUERY_BYTES_MAX", "TableQuery", "parse_query"]

QUERY_BYTES_MAX = 2048
_TERMS_MAX = 64  # of one field's expression

_NUMBER_FIELDS = frozenset({"carrier", "latitude", "longitude", "nmea", "solution", "bitrate", "port", "fallback_port"})
_NUMBER_TERM = re.compile(r"(!?)(>=|<=|=|>|<|)([+-]?(?:\d+\.?\d*|\.\d+))")
_NEAREST_TERM = re.compile(r"~([+-]?(?:\d+\.?\d*|\.\d+))")
_TEXT_TOKEN = re.compile(r"[|!()]|[^|!()]+")
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "": lambda value, limit: value == limit,
    "=": lambda value, limit: value == limit,
    ">": lambda value, limit: value > limit,
    "<": lambda value, limit: value < limit,
    ">=": lambda value, limit: value >= limit,
    "<=": lambda value, limit: value <= limit,
}
_Test = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class TableQuery:
    """A parsed question.

    Attributes:
        matches: The fields of each `match`.
        filters: The fields of each `filter`.
        auth: Only streams that the client may open.
        strict: Bad expressions are errors.
    """

    matches: tuple[tuple[str, ...], ...] = ()
    filters: tuple[tuple[str, ...], ...] = ()
    auth: bool = False
    strict: bool = False

    def select(self, records: Sequence[Record], allowed: Callable[[str], bool] = lambda _mount: True) -> list[Record]:
        """The records that answer the question, in their order.

        Args:
            records: The whole table.
            allowed: Whether the client's credentials open a mount; asked where `auth` was given.

        Raises:
            RemoteProtocolError: An expression is bad and the question is strict.
        """
        chosen = [record for record in records if all(_matches(record, fields) for fields in self.matches)]
        if self.auth:
            chosen = [record for record in chosen if record.kind == "STR" and allowed(record["mountpoint"])]
        for fields in self.filters:
            chosen = _nearest([r for r in chosen if _passes(r, fields, self.strict)], fields)
        return chosen


def parse_query(raw: str) -> TableQuery:
    """Read what follows the `?` of a target.

    Raises:
        RemoteProtocolError: It is too long, or asks something else than match and filter (status 404 or 501, as BKG's
            professional caster answers).
    """
    if len(raw) > QUERY_BYTES_MAX:
        raise RemoteProtocolError(f"the query is longer than {QUERY_BYTES_MAX} bytes", 400)
    expressions: dict[str, list[tuple[str, ...]]] = {"match": [], "filter": []}
    flags: set[str] = set()
    for part in filter(None, raw.split("&")):
        name, equals, value = part.partition("=")
        if equals and name in expressions:
            expressions[name].append(tuple(field.strip() for field in unquote(value).split(";")))
        elif name in ("auth", "strict"):
            flags.add(name)
        else:
            raise RemoteProtocolError(f"the query part {part[:60]!r} is none of match=, filter=, auth, strict", 404)
    if flags and not any(expressions.values()):
        raise RemoteProtocolError("auth and strict need a match= or filter= beside them", 501)
    matches, filters = (tuple(expressions[name]) for name in ("match", "filter"))
    query = TableQuery(matches, filters, "auth" in flags, "strict" in flags)
    if query.strict:
        _check_strict(query)
    return query


def _check_strict(query: TableQuery) -> None:
    """Refuse what a tolerant evaluation would only pass over."""
    for fields in query.matches + query.filters:
        names = FIELD_NAMES.get(fields[0])
        if names is None:
            raise RemoteProtocolError(f"the query's first field {fields[0][:20]!r} is none of STR, CAS, NET", 400)
        if len(fields) > len(names):
            raise RemoteProtocolError(f"the query has {len(fields)} fields, {fields[0]} records have {len(names)}", 400)
    for fields in query.filters:
        for name, expression in zip(FIELD_NAMES[fields[0]][1:], fields[1:], strict=False):
            if expression and _field_test(name, expression) is None:
                raise RemoteProtocolError(f"{name}: {expression[:60]!r} is no filter expression", 400)


def _matches(record: Record, fields: tuple[str, ...]) -> bool:
    return all(not wanted or wanted == field for wanted, field in zip(fields, record.fields, strict=False))


def _passes(record: Record, fields: tuple[str, ...], strict: bool) -> bool:
    if fields[0] in FIELD_NAMES and fields[0] != record.kind:
        return False
    for name, expression, value in zip(FIELD_NAMES[record.kind], fields, record.fields, strict=False):
        test = _field_test(name, expression) if expression else None
        if test is None and expression and strict:
            raise RemoteProtocolError(f"{name}: {expression[:60]!r} is no filter expression", 400)
        if test is not None and not test(value):
            return False
    return True


def _field_test(name: str, expression: str) -> _Test | None:
    """The test of one field's expression; None where it is no expression."""
    if _NEAREST_TERM.fullmatch(expression):
        return lambda _value: True  # decided among all rows, by `_nearest`
    return _number_test(expression) if name in _NUMBER_FIELDS else _text_test(expression)


def _number_test(expression: str) -> _Test | None:
    alternatives = [re.split(r"(?<=[\d.])\+", part) for part in expression.split("|")]
    terms = [[_NUMBER_TERM.fullmatch(term.strip()) for term in part] for part in alternatives]
    if sum(map(len, terms)) > _TERMS_MAX or any(term is None for part in terms for term in part):
        return None
    found = [[(term[1] == "!", _COMPARE[term[2]], float(term[3])) for term in part if term] for part in terms]

    def test(text: str) -> bool:
        try:
            value = float(text)
        except ValueError:
            return False
        return any(all(compare(value, limit) != negate for negate, compare, limit in part) for part in found)

    return test


def _text_test(expression: str) -> _Test | None:
    """Read `!`, `|`, `()` and `*` by recursive descent: or binds weakest, not strongest."""
    tokens = _TEXT_TOKEN.findall(expression)
    if len(tokens) > _TERMS_MAX:
        return None
    test = _read_or(tokens)
    return None if tokens else test


def _read_or(tokens: list[str]) -> _Test | None:
    tests = [_read_term(tokens)]
    while tokens and tokens[0] == "|":
        tokens.pop(0)
        tests.append(_read_term(tokens))
    good = [test for test in tests if test is not None]
    return (lambda text: any(test(text) for test in good)) if len(good) == len(tests) else None


def _read_term(tokens: list[str]) -> _Test | None:
    if not tokens:
        return None
    token = tokens.pop(0)
    if token == "!":
        return _negated(_read_term(tokens))
    if token == "(":
        inner = _read_or(tokens)
        return inner if tokens and tokens.pop(0) == ")" else None
    if token in ("|", ")"):
        return None
    # A run of stars means the same as one, and would make the expression slow.
    pieces = re.split(r"\*+", token.strip())
    pattern = re.compile(".*?".join(map(re.escape, pieces)), re.DOTALL)
    return (lambda text: pattern.fullmatch(text) is not None) if len(pieces) <= 8 else None


def _negated(test: _Test | None) -> _Test | None:
    return None if test is None else lambda text: not test(text)


def _nearest(records: list[Record], fields: tuple[str, ...]) -> list[Record]:
    """Keep the rows nearest to the `~` values of a filter; all rows where it has none."""
    names = FIELD_NAMES.get(fields[0], FIELD_NAMES["STR"])
    wanted = {
        name: float(match[1])
        for name, expression in zip(names, fields, strict=False)
        if (match := _NEAREST_TERM.fullmatch(expression))
    }
    if not wanted:
        return records
    distances = [_distance(record, wanted) for record in records]
    least = min(distances, default=math.inf)
    return [r for r, distance in zip(records, distances, strict=True) if distance == least < math.inf]


def _distance(record: Record, wanted: dict[str, float]) -> float:
    """How far a row is from the wanted values: on the sphere for a place, else the sum of the fields' differences."""
    if wanted.keys() == {"latitude", "longitude"}:
        position = record.position_deg
        if position is None:
            return math.inf
        return _angle_between_rad(position, (wanted["latitude"], wanted["longitude"]))
    try:
        return sum(abs(float(record[name]) - value) for name, value in wanted.items())
    except (KeyError, ValueError):
        return math.inf


def _angle_between_rad(a_deg: tuple[float, float], b_deg: tuple[float, float]) -> float:
    """The central angle of two places, by the haversine formula."""
    (lat_a, lon_a), (lat_b, lon_b) = (tuple(map(math.radians, place)) for place in (a_deg, b_deg))
    h = math.sin((lat_b - lat_a) / 2) ** 2 + math.cos(lat_a) * math.cos(lat_b) * math.sin((lon_b - lon_a) / 2) ** 2
    return 2.0 * math.asin(min(1.0, math.sqrt(h)))
