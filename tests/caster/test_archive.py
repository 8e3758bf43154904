"""The archive keeps whole frames, and never holds up the service."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from caster.archive import Archive
from caster.archive_store import data_path, files, read_frames
from caster.codec.rtcm.framing import FrameReader
from caster.config import ArchiveConfig, Config, MountConfig
from caster.errors import ConfigError
from caster.mountpoints import Mountpoints
from tests.caster.conftest import StartService, frame

NOW_NS = 1_778_832_000 * 10**9  # 2026-05-15 08:00:00 UTC
FRAMES = (frame(1005), frame(1077, b"x" * 400), frame(1087, b"y" * 300))


class Kept:
    """An archive of two mounts, with a clock that the test turns."""

    def __init__(self, folder: Path, **config) -> None:
        self.folder = folder
        self.now_ns = NOW_NS
        self.mountpoints = Mountpoints(Config(mounts=(MountConfig(name="A"), MountConfig(name="B"))), {})
        self.mountpoints.open()
        self.archive = Archive(ArchiveConfig(enabled=True, free_bytes_min=0, **config), folder, self.now_s)
        for mountpoint in self.mountpoints:
            self.archive.watch(mountpoint)

    def now_s(self) -> float:
        return self.now_ns * 1e-9

    def publish(self, *names: str, after_s: float = 0.0) -> None:
        self.now_ns += round(after_s * 1e9)
        for name in names:
            self.mountpoints.get(name).mount.publish(FRAMES, self.now_ns)

    def content(self) -> dict[str, bytes]:
        return {file.path.name: file.path.read_bytes() for file in files(self.folder)}


@contextmanager
def longest_file(size: int):
    """No file of this process can grow beyond a size: writes fail half-way, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_each_mounts_frames_go_to_its_file_of_the_hour(tmp_path):
    kept = Kept(tmp_path)
    kept.publish("A", "B")
    kept.publish("A", after_s=3599)
    kept.publish("A", after_s=1)
    kept.archive.flush()
    data = b"".join(FRAMES)
    assert kept.content() == {
        "A_2026051508.rtcm3": 2 * data, "A_2026051509.rtcm3": data, "B_2026051508.rtcm3": data,
    }  # fmt: skip
    assert kept.archive.written_bytes == 4 * len(data) and kept.archive.shed_bytes == 0


def test_later_frames_are_appended_and_indexed_by_the_time_of_reception(tmp_path):
    kept = Kept(tmp_path, period="day")
    for _ in range(3):
        kept.publish("A", after_s=10)
        kept.archive.flush()
    (file,) = files(tmp_path)
    times = [received for received, _ in read_frames(file)]
    assert times == [NOW_NS + k * 10**10 for k in (1, 1, 1, 2, 2, 2, 3, 3, 3)]


def test_only_the_mounts_that_are_named_are_kept(tmp_path):
    kept = Kept(tmp_path, mounts=("B*",))
    kept.publish("A", "B")
    kept.archive.flush()
    assert list(kept.content()) == ["B_2026051508.rtcm3"]


def test_a_full_queue_sheds_frames_and_says_so_once(tmp_path):
    kept = Kept(tmp_path, queue_bytes=65_536)
    size = sum(map(len, FRAMES))
    with capture_logs() as logs:
        for _ in range(200):
            kept.publish("A")
        kept.archive.flush()
        kept.publish("A")
        kept.archive.flush()
        kept.archive.flush()
    assert [log["event"] for log in logs] == ["the archive sheds frames", "the archive goes on"]
    assert logs[0]["reason"] == "the queue is full" and logs[1]["lost_bytes"] == kept.archive.shed_bytes > 0
    assert kept.archive.written_bytes + kept.archive.shed_bytes == 201 * size


def test_a_write_that_fails_half_way_leaves_whole_frames_and_the_others_files(tmp_path):
    kept = Kept(tmp_path)
    size = sum(map(len, FRAMES))
    kept.publish("A")
    kept.archive.flush()
    with capture_logs() as logs, longest_file(size + 100):
        kept.publish("A")
        kept.archive.flush()
    assert kept.content()["A_2026051508.rtcm3"] == b"".join(FRAMES)
    assert (logs[0]["event"], logs[0]["reason"]) == ("the archive sheds frames", os.strerror(27))
    kept.publish("A")
    kept.archive.flush()
    assert kept.content()["A_2026051508.rtcm3"] == 2 * b"".join(FRAMES)
    assert kept.archive.shedding == "" and kept.archive.shed_bytes == size


def test_the_last_bytes_of_the_disk_are_left_to_the_service(tmp_path):
    kept = Kept(tmp_path)
    kept.archive = Archive(ArchiveConfig(enabled=True, free_bytes_min=1 << 50), tmp_path, kept.now_s)
    kept.archive.watch(kept.mountpoints.get("A"))
    kept.publish("A")
    kept.archive.flush()
    assert kept.content() == {} and kept.archive.shedding == "the disk is nearly full"


def test_a_folder_that_was_removed_is_made_again(tmp_path):
    kept = Kept(tmp_path / "archive")
    kept.publish("A")
    kept.archive.flush()
    assert len(kept.content()) == 1


def test_a_torn_frame_of_a_crash_is_cut_off_before_more_is_appended(tmp_path):
    path = data_path(tmp_path, "A", NOW_NS)
    path.parent.mkdir(parents=True)
    path.write_bytes(FRAMES[0] + FRAMES[1][:100])
    kept = Kept(tmp_path)
    kept.publish("A")
    kept.archive.flush()
    assert path.read_bytes() == FRAMES[0] + b"".join(FRAMES)


def test_files_that_are_too_old_are_removed_with_their_folders(tmp_path):
    kept = Kept(tmp_path, keep_days=2)
    kept.publish("A", "B")
    kept.archive.flush()
    kept.publish("A", after_s=49.5 * 3600)
    kept.archive.flush()
    kept.archive.clean()
    assert list(kept.content()) == ["A_2026051709.rtcm3"]
    assert not (tmp_path / "B").exists()


def test_the_oldest_files_are_removed_where_all_are_too_large(tmp_path):
    size = sum(map(len, FRAMES))
    kept = Kept(tmp_path, keep_bytes=2 * size)
    for _ in range(4):
        kept.publish("A", after_s=3600)
    kept.archive.flush()
    kept.now_ns += 3600 * 10**9
    kept.archive.clean()
    assert list(kept.content()) == ["A_2026051511.rtcm3", "A_2026051512.rtcm3"]


def test_the_file_that_is_being_written_is_never_removed(tmp_path):
    kept = Kept(tmp_path, keep_bytes=0)
    kept.publish("A")
    kept.archive.flush()
    kept.archive.clean()
    assert len(kept.content()) == 1


def test_the_thread_writes_by_itself_and_all_when_it_is_stopped(tmp_path):
    kept = Kept(tmp_path, flush_s=0.01)
    kept.archive.start()
    kept.publish("A")
    deadline = time.monotonic() + 10
    while not kept.archive.written_bytes and time.monotonic() < deadline:
        threading.Event().wait(0.005)
    assert kept.archive.written_bytes
    kept.publish("B")
    kept.archive.stop()
    assert len(kept.content()) == 2


def test_a_folder_that_cannot_be_made_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"archive\.folder: .*file"):
        Archive(ArchiveConfig(), tmp_path / "file" / "archive").start()


KILLED = """
import sys, time
from pathlib import Path
from tests.caster.test_archive import Kept
kept = Kept(Path(sys.argv[1]), flush_s=0.005)
kept.archive.start()
while True:
    kept.publish("A", "B", after_s=0.001)
    if kept.archive.written_bytes > 200_000:
        print("written", flush=True)
        time.sleep(0.0005)
"""


def test_a_process_that_is_killed_leaves_whole_frames_and_the_next_one_cuts_a_torn_last_one(tmp_path):
    """The kernel may end a write between two pages when the process is killed."""
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path)], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"written\n"
    process.send_signal(signal.SIGKILL)
    process.wait(10)
    process.stdout.close()
    before = {file.mount: list(read_frames(file)) for file in files(tmp_path)}
    assert len(before["A"]) > 100
    kept = Kept(tmp_path)
    kept.publish("A", "B")
    kept.archive.flush()
    for file in files(tmp_path):
        reader = FrameReader()
        frames = reader.feed(file.path.read_bytes())
        assert reader.pending_bytes == reader.counters.skipped_bytes == 0
        assert frames == [data for _, data in before.get(file.mount, [])] + list(FRAMES)


async def test_a_service_keeps_what_its_stations_send(start: StartService, tmp_path):
    service = await start(**{"archive.enabled": True, "archive.flush_s": 0.02, "archive.free_bytes_min": 0})
    source = await service.feed("STR1")
    await source.send(frame(1005) + frame(1033))
    await service.wait(lambda: service.caster.operations.archive.written_bytes > 0)
    (file,) = files(tmp_path / "archive")
    assert file.mount == "STR1" and file.path.read_bytes() == frame(1005) + frame(1033)
