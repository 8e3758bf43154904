"""Questions to the sourcetable: match, filter, auth, strict."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caster.codec.ntrip.query import parse_query
from caster.codec.ntrip.sourcetable import Record
from caster.errors import RemoteProtocolError

TABLE = [
    Record.of("CAS", host="caster", port=2101, country="DEU"),
    Record.of("NET", identifier="EUREF"),
    Record.of("STR", mountpoint="WTZR", format="RTCM 3.3", nav_system="GPS+GLO", country="DEU", latitude=49.14,
              longitude=12.88, bitrate=9600),
    Record.of("STR", mountpoint="WUH2", format="RTCM 3.2", nav_system="GPS+BDS", country="CHN", latitude=30.53,
              longitude=114.36, bitrate=4800),
    Record.of("STR", mountpoint="BJFS", format="RTCM 3.2", nav_system="GPS", country="CHN", latitude=39.61,
              longitude=115.89),
]  # fmt: skip


def ask(query: str, allowed: set[str] | None = None) -> list[str]:
    mounts = allowed or set()
    return [record.fields[1] for record in parse_query(query).select(TABLE, mounts.__contains__)]


@pytest.mark.parametrize(
    ("query", "answer"),
    [
        ("", ["caster", "EUREF", "WTZR", "WUH2", "BJFS"]),
        ("match=STR;;;;;;;;CHN", ["WUH2", "BJFS"]),
        ("match=STR;;;;;;;;chn", []),
        ("match=CAS", ["caster"]),
        ("match=;WTZR", ["WTZR"]),
        ("match=STR;;;;;;;;CHN&match=STR;BJFS", ["BJFS"]),
        ("match=STR;;;;;;;;XXX", []),
        ("filter=STR;W*", ["WTZR", "WUH2"]),
        ("filter=STR;;;;;;*BDS*|*GLO*", ["WTZR", "WUH2"]),
        ("filter=STR;;;;;;!(*BDS*|*GLO*)", ["BJFS"]),
        ("filter=STR;!W*", ["BJFS"]),
        ("filter=STR;;;;;;;;;>30", ["WTZR", "WUH2", "BJFS"]),
        ("filter=STR;;;;;;;;;>30%2B<40", ["WUH2", "BJFS"]),
        ("filter=STR;;;;;;;;;>30+<40", ["WUH2", "BJFS"]),
        ("filter=STR;;;;;;;;;<35|>45", ["WTZR", "WUH2"]),
        ("filter=STR;;;;;;;;;!>45", ["WUH2", "BJFS"]),
        ("filter=STR;;;;;;;;;>=39.61;<=115.89", ["WTZR", "BJFS"]),
        ("filter=STR;;;;;;;;;=30.53", ["WUH2"]),
        ("filter=STR;;;;;;;;;~40.1;~116", ["BJFS"]),
        ("filter=STR;;;;;;;;;~31", ["WUH2"]),
        ("filter=STR;;;;;;;;;;;;;;;;;>5000", ["WTZR"]),
        ("filter=STR;(", ["WTZR", "WUH2", "BJFS"]),
        ("filter=STR;;;;;;;;;abc", ["WTZR", "WUH2", "BJFS"]),
        ("match=STR&filter=STR;;;;;;;;CHN;~20;~110", ["WUH2"]),
    ],
)
def test_a_question_gets_its_rows(query: str, answer: list[str]) -> None:
    assert ask(query) == answer


def test_auth_leaves_only_what_the_credentials_open() -> None:
    assert ask("match=STR&auth", {"WUH2"}) == ["WUH2"]


@pytest.mark.parametrize(
    "query",
    ["filter=STR;(", "filter=STR;;;;;;;;;abc", "filter=;x", "match=STR" + ";" * 30, "filter=STR;" + "(" * 40],
)
def test_strict_refuses_a_bad_expression(query: str) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_query(query + "&strict").select(TABLE)
    assert caught.value.status == 400


@pytest.mark.parametrize(("query", "status"), [("auth", 501), ("strict", 501), ("STR;x", 404), ("x" * 3000, 400)])
def test_other_questions_are_refused_as_the_bkg_caster_does(query: str, status: int) -> None:
    with pytest.raises(RemoteProtocolError) as caught:
        parse_query(query)
    assert caught.value.status == status


@given(st.text(alphabet="STR;!|()*~<>=+.0123456789abc&%", max_size=200), st.sampled_from(["match=", "filter="]))
def test_any_question_gets_rows_or_the_documented_error(text: str, name: str) -> None:
    for tail in ("", "&strict"):
        try:
            rows = parse_query(name + text + tail).select(TABLE)
        except RemoteProtocolError:
            continue
        assert all(row in TABLE for row in rows)
