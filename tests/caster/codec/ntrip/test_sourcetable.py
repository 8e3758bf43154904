"""The sourcetable: built, read, and as messy as real ones are."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caster.codec.ntrip.sourcetable import FIELD_NAMES, Record, build_table, parse_record, parse_table
from caster.errors import FormatError

BKG_LINE = (
    "STR;WTZR00DEU0;Bad Koetzting;RTCM 3.3;1006(10),1033(10),1077(1);2;GPS+GLO;EUREF;DEU;49.14;12.88;0;0;"
    "LEICA GR50;none;B;N;9600;BKG"
)


def test_a_real_row_is_read_and_written_back() -> None:
    record = parse_record(BKG_LINE)
    assert record is not None
    assert (record["mountpoint"], record["country"], record["misc"]) == ("WTZR00DEU0", "DEU", "BKG")
    assert record.position_deg == (49.14, 12.88)
    assert record.line() == BKG_LINE


def test_quirk_16_a_table_has_crlf_lines_and_ends_with_its_mark() -> None:
    table = build_table([Record.of("NET", identifier="N", operator="O")])
    assert table == b"NET;N;O;;;;;;\r\nENDSOURCETABLE\r\n"


def test_messy_rows_are_read() -> None:
    text = (
        b"STR;A;\r\nSTR; B ;x;;;;;;;;359.5\nSTR;C;;;;;;;;45.0;270.0\nXYZ;1\n\nHTTP/1.1 200 OK\n"
        b"STR;D;M\xfcnchen\nSTR;E;a;b;c;d;e;f;g;1;2;0;0;h;i;j;k;l;m;n;o\nENDSOURCETABLE\r\nSTR;F\n"
    )
    records = parse_table(text)
    assert [record["mountpoint"] for record in records] == list("ABCDE")
    assert [record.position_deg for record in records[:3]] == [None, None, (45.0, -90.0)]
    assert records[3]["identifier"] == "München"
    assert records[4]["misc"] == "m;n;o"


def test_a_field_with_a_semicolon_is_quoted() -> None:
    record = Record.of("STR", mountpoint="M", identifier="a;b", latitude=1.0, nmea=True)
    assert '"a;b"' in record.line()
    assert parse_record(record.line()) == record


def test_an_unknown_field_is_our_mistake() -> None:
    with pytest.raises(FormatError, match="mountpiont"):
        Record.of("STR", mountpiont="M")


def test_a_table_has_a_limit() -> None:
    with pytest.raises(FormatError, match="longer than 10 bytes"):
        parse_table(b"STR;ABCDEFGH\r\n", bytes_max=10)


texts = st.text(
    st.characters(blacklist_categories=("Cs", "Cc", "Zs", "Zl", "Zp"), blacklist_characters='"'), max_size=12
)


@given(st.sampled_from(list(FIELD_NAMES)), st.data())
def test_a_table_reads_back_what_was_built(kind: str, data: st.DataObject) -> None:
    values = {name: data.draw(texts) for name in FIELD_NAMES[kind][1:]}
    record = Record.of(kind, **values)
    assert parse_table(build_table([record])) == [record]


@given(st.binary(max_size=2000), st.lists(st.text(alphabet='STR;"CAN E\t1', max_size=60)))
def test_any_bytes_are_a_table(data: bytes, lines: list[str]) -> None:
    for record in parse_table(data + b"\n" + "\n".join(lines).encode()):
        assert len(record.fields) == len(FIELD_NAMES[record.kind])
        assert record.line()
