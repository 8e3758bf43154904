"""The archive's files are found and read back, whatever happened to them."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from caster.archive_store import INDEX_ROW, ArchiveFile, data_path, files, index_path, read_frames, whole_end
from caster.errors import FormatError
from tests.caster.conftest import frame

EIGHT = datetime(2026, 5, 15, 8, tzinfo=UTC)
EIGHT_NS = round(EIGHT.timestamp()) * 10**9


def write(path, data: bytes, rows=()) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    if rows:
        index_path(path).write_bytes(b"".join(INDEX_ROW.pack(*row) for row in rows))


def test_a_file_is_named_by_mountpoint_and_utc_hour_or_day(tmp_path):
    path = data_path(tmp_path, "STR1", EIGHT_NS + 59 * 60 * 10**9)
    assert path == tmp_path / "STR1" / "2026" / "STR1_2026051508.rtcm3"
    assert data_path(tmp_path, "STR1", EIGHT_NS, daily=True).name == "STR1_20260515.rtcm3"
    assert data_path(tmp_path, "STR1", EIGHT_NS, raw=True).suffix == ".raw"


@pytest.mark.parametrize("mount", [".", "..", "...", ".a", "A_2026051508", "a.b"])
def test_no_name_of_a_mountpoint_leads_out_of_the_folder_or_is_lost(tmp_path, mount):
    path = data_path(tmp_path, mount, EIGHT_NS)
    assert path.resolve().is_relative_to(tmp_path.resolve() / path.parts[-3])
    write(path, frame(1005))
    assert [file.mount for file in files(tmp_path)] == [mount] == [file.mount for file in files(tmp_path, mount)]


def test_files_are_listed_in_order_by_mountpoint_and_time_span(tmp_path):
    for mount in ("B", "A"):
        for hour in range(4):
            write(data_path(tmp_path, mount, EIGHT_NS + hour * 3600 * 10**9), frame(1005))
    write(tmp_path / "A" / "2026" / "notes.txt", b"somebody's own")
    write(tmp_path / "A" / "2026" / "A_20269999.rtcm3", b"no such day")
    assert [(file.mount, file.start.hour) for file in files(tmp_path)] == [(m, h) for m in "AB" for h in (8, 9, 10, 11)]
    assert [file.start.hour for file in files(tmp_path, "A", EIGHT.replace(hour=9), EIGHT.replace(hour=11))] == [9, 10]
    assert files(tmp_path / "none") == []


def test_frames_come_back_with_their_times_of_reception(tmp_path):
    path = data_path(tmp_path, "A", EIGHT_NS)
    one, two, three = frame(1005), frame(1077, b"x" * 50), frame(1087)
    write(path, one + two + three, [(EIGHT_NS, 0), (EIGHT_NS + 10**9, len(one))])
    (file,) = files(tmp_path)
    assert list(read_frames(file)) == [(EIGHT_NS, one), (EIGHT_NS + 10**9, two), (EIGHT_NS + 10**9, three)]
    late = EIGHT.replace(second=1)
    assert [data for _, data in read_frames(file, start=late)] == [two, three]
    assert [data for _, data in read_frames(file, end=late)] == [one]


@pytest.mark.parametrize("rows", [(), ((EIGHT_NS, 0), (EIGHT_NS + 1, 10**6))])
def test_an_index_that_is_missing_or_points_past_the_end_does_no_harm(tmp_path, rows):
    path = data_path(tmp_path, "A", EIGHT_NS)
    write(path, frame(1005), rows)
    assert list(read_frames(files(tmp_path)[0])) == [(EIGHT_NS, frame(1005))]


def test_a_torn_index_row_is_passed_over(tmp_path):
    path = data_path(tmp_path, "A", EIGHT_NS)
    write(path, frame(1005), [(EIGHT_NS + 5, 0)])
    with index_path(path).open("ab") as file:
        file.write(b"torn")
    assert list(read_frames(files(tmp_path)[0])) == [(EIGHT_NS + 5, frame(1005))]


def test_a_stream_that_is_not_rtcm_has_no_frames(tmp_path):
    write(data_path(tmp_path, "A", EIGHT_NS, raw=True), b"UBX")
    with pytest.raises(FormatError, match="not RTCM"):
        list(read_frames(files(tmp_path)[0]))


@given(st.integers(1, 5), st.integers(0, 25))
def test_the_end_of_the_last_whole_frame_is_found(tmp_path_factory, count, torn):
    path = tmp_path_factory.mktemp("archive") / "A_2026051508.rtcm3"
    whole = frame(1077) * count
    path.write_bytes(whole + frame(1087)[:torn])
    assert whole_end(path) == len(whole)


@given(st.binary(max_size=3000), st.binary(max_size=100))
def test_any_bytes_in_data_and_index_are_survived(tmp_path_factory, data, index):
    path = tmp_path_factory.mktemp("archive") / "A_2026051508.rtcm3"
    path.write_bytes(data)
    index_path(path).write_bytes(index)
    assert 0 <= whole_end(path) <= len(data)
    assert all(found in data for _, found in read_frames(ArchiveFile("A", path, EIGHT, EIGHT, len(data))))
