"""A span of the archive becomes an RTCM or a RINEX file."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from caster.archive import Archive
from caster.archive_export import export_rinex, export_rtcm
from caster.codec.rinex.navigation import read_navigation
from caster.codec.rinex.observation import ObservationFile
from caster.config import ArchiveConfig
from caster.errors import SourceError
from caster.hub import Mount
from solver.timescale import from_datetime
from tests.captures import frames_of, read
from tests.caster.conftest import frame

START = datetime(2018, 7, 14, 23, 50, tzinfo=UTC)


@pytest.fixture(scope="module")
def archive(shared_data, tmp_path_factory):
    """Half an hour of a real station in hourly files, received when it was observed."""
    root = tmp_path_factory.mktemp("archive")
    keeper = Archive(ArchiveConfig(free_bytes_min=0), root)
    mount = Mount("STR1")
    frames = frames_of(shared_data / "str-stromlo-70m" / "week-rollover-STR17.rtcm3.gz")
    start_ns = round(START.timestamp() * 1e9)
    for place in range(0, len(frames), 6):
        keeper.put(mount, frames[place : place + 6], start_ns + place * 10**9 // 6)
    keeper.flush()
    return root, frames


def test_all_frames_come_out_as_they_went_in(archive, tmp_path):
    root, frames = archive
    assert export_rtcm(root, "STR1", tmp_path / "out", None, None) == len(frames)
    assert (tmp_path / "out").read_bytes() == b"".join(frames)


def test_a_time_span_is_cut_at_its_ends(archive, tmp_path):
    root, frames = archive
    span = START + timedelta(minutes=5), START + timedelta(minutes=15)
    count = export_rtcm(root, "STR1", tmp_path / "out", *span)
    assert count == 600 * 6
    assert (tmp_path / "out").read_bytes() == b"".join(frames[300 * 6 : 900 * 6])


def test_rinex_has_the_epochs_and_values_that_rtklib_finds_in_the_stream(archive, tmp_path, shared_data):
    """Across the end of the GPS week, compared with RTKLIB's convbin of the same recording."""
    root, _ = archive
    written = export_rinex(root, "STR1", tmp_path / "a.obs", tmp_path / "a.nav", None, None)
    ours = list(ObservationFile((tmp_path / "a.obs").read_bytes()).epochs())
    theirs = list(ObservationFile(read(shared_data / "str-stromlo-70m" / "convbin-STR17.obs.xz")).epochs())
    assert written == len(ours) == len(theirs) == 1126
    for mine, other in list(zip(ours, theirs, strict=True))[:300:50]:
        assert mine.time_ns == other.time_ns
        theirs_by_cell = {(s, g): p for s, g, p in zip(other.sat, other.signal, other.pseudorange_m, strict=True)}
        both = [
            (p, theirs_by_cell[s, g])
            for s, g, p in zip(mine.sat, mine.signal, mine.pseudorange_m, strict=True)
            if (s, g) in theirs_by_cell
        ]
        assert len(both) > 60
        assert np.nanmax(np.abs(np.diff(np.array(both), axis=1))) < 0.002
    steps = np.diff([epoch.time_ns for epoch in ours])
    assert (steps == 10**9).all()
    assert len(read_navigation((tmp_path / "a.nav").read_bytes()).ephemerides.kepler) > 20


def test_a_replay_of_another_year_is_dated_by_itself_from_its_first_epoch_on(archive, tmp_path):
    """Its first epoch comes before the message that tells the date, and got the year of its reception."""
    keeper = Archive(ArchiveConfig(free_bytes_min=0), tmp_path / "archive")
    received = datetime(2026, 11, 27, 22, 26, tzinfo=UTC)
    for number in range(60):
        frames = archive[1][number * 8 : number * 8 + 8]
        keeper.put(Mount("STR1"), frames, round((received + timedelta(seconds=number / 40)).timestamp() * 1e9))
    keeper.flush()
    assert export_rinex(tmp_path / "archive", "STR1", tmp_path / "a.obs", None, None, None) > 50
    times_ns = [epoch.time_ns for epoch in ObservationFile((tmp_path / "a.obs").read_bytes()).epochs()]
    assert times_ns[0] == from_datetime(datetime(2018, 7, 14, 23, 50, 18))
    assert (np.diff(times_ns) == 10**9).all()


def test_epochs_are_thinned_to_an_interval(archive, tmp_path):
    assert export_rinex(archive[0], "STR1", tmp_path / "a.obs", None, None, None, interval_s=30.0) in (37, 38)
    epochs = list(ObservationFile((tmp_path / "a.obs").read_bytes()).epochs())
    assert {epoch.time_ns // 10**9 % 30 for epoch in epochs} == {0}


@pytest.mark.parametrize(("mount", "start"), [("NONE", None), ("STR1", datetime(2030, 1, 1, tzinfo=UTC))])
def test_what_the_archive_does_not_have_is_named(archive, tmp_path, mount, start):
    with pytest.raises(SourceError, match=f"{mount}: nothing in the archive"):
        export_rinex(archive[0], mount, tmp_path / "a.obs", None, start, None)


def test_frames_without_observations_make_no_rinex_file(tmp_path, archive):
    keeper = Archive(ArchiveConfig(free_bytes_min=0), tmp_path / "archive")
    keeper.put(Mount("X"), [frame(1005)], 10**18)
    keeper.flush()
    with pytest.raises(SourceError, match="no epochs"):
        export_rinex(tmp_path / "archive", "X", tmp_path / "a.obs", None, None, None)
