"""The archive: every station's raw frames in hourly or daily files, without ever holding up the service.

Strategy: a tap puts references to the frames into a queue that is bounded in bytes; a thread wakes up every few seconds
and appends each mount's frames to its file with one write. No file stays open, and no frame is copied in the event
loop. Files and index: `caster.archive_store`.

When the queue is full, the disk is full or a write fails, the archive sheds frames, counts them, and says so once; the
service goes on. A write that fails half-way is taken back, so that files hold whole frames; where a kill or a crash in
the middle of a write leaves a torn one at the end, it is cut off before more is appended. Retention removes the oldest
files, by age and by total size.
"""

import os
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Final

import structlog
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from caster.archive_store import INDEX_ROW, ArchiveFile, data_path, files, index_path, whole_end
from caster.config import ArchiveConfig
from caster.errors import ConfigError
from caster.hub import Mount
from caster.mountpoints import Mountpoint, StationMountpoint

__all__ = ["Archive"]

_log = structlog.get_logger(__name__)

_INDEX_GAP_NS: Final = 10**9
_RETENTION_PERIOD_S: Final = 600.0
_DAY_S: Final = 86_400.0
_Item = tuple[str, bool, int, Sequence[bytes]]


class Archive:
    """Writes what the mounts publish.

    Args:
        config: Limits.
        root: The archive's folder.
        clock: The present, s since 1970 UTC.

    Attributes:
        written_bytes: Bytes in files, since the start.
        shedding: Why frames are being shed now; empty: they are not.
    """

    def __init__(self, config: ArchiveConfig, root: Path, clock: Callable[[], float] = time.time) -> None:
        self.written_bytes = 0
        self.shedding = ""
        self._config = config
        self._root = root
        self._clock = clock
        self._queue: deque[_Item] = deque()
        # Each count is written by one thread alone, so that no lock is needed: the first two by the event loop's.
        self._put_bytes = 0
        self._overflowed_bytes = 0
        self._taken_bytes = 0
        self._unwritten_bytes = 0
        self._overflowed_before = 0
        self._told_bytes = 0
        self._known: dict[Path, int] = {}
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._cleaned_s = 0.0

    @property
    def shed_bytes(self) -> int:
        """Bytes that were not archived, since the start."""
        return self._overflowed_bytes + self._unwritten_bytes

    def start(self) -> None:
        """Begin to write.

        Raises:
            ConfigError: The folder cannot be made.
        """
        try:
            self._root.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(f"archive.folder: {self._root}: {error.strerror}") from None
        self._thread = threading.Thread(target=self._run, name="archive", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Write what waits, and end; blocks for as long as that takes."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def watch(self, mountpoint: Mountpoint) -> None:
        """Archive a mountpoint from now on, if stations feed it and the configuration names it."""
        if isinstance(mountpoint, StationMountpoint) and any(
            fnmatchcase(mountpoint.name, name) for name in self._config.mounts
        ):
            raw = mountpoint.config.raw
            mountpoint.mount.tap(lambda mount, frames, received: self.put(mount, frames, received, raw=raw))

    def put(self, mount: Mount, frames: Sequence[bytes], received_unix_ns: int, *, raw: bool = False) -> None:
        """Take the frames of one publish, or shed them where too much waits already."""
        size = sum(map(len, frames))
        if self._put_bytes - self._taken_bytes + size > self._config.queue_bytes:
            self._overflowed_bytes += size
            return
        self._put_bytes += size
        self._queue.append((mount.name, raw, received_unix_ns, frames))

    def metrics(self) -> Iterator[Metric]:
        """For Prometheus."""
        yield CounterMetricFamily("dipper_archive_written_bytes", "Bytes archived.", value=self.written_bytes)
        yield CounterMetricFamily("dipper_archive_shed_bytes", "Bytes that were not archived.", value=self.shed_bytes)
        waiting = self._put_bytes - self._taken_bytes
        yield GaugeMetricFamily("dipper_archive_queue_bytes", "Bytes that wait to be written.", value=waiting)

    def flush(self) -> None:
        """Write all that waits; called by the archive's own thread."""
        refusal = self._refusal()
        batches: dict[Path, list[_Item]] = {}
        for _ in range(len(self._queue)):
            item = self._queue.popleft()
            mount, raw, received_unix_ns, frames = item
            self._taken_bytes += sum(map(len, frames))
            daily = self._config.period == "day"
            batches.setdefault(data_path(self._root, mount, received_unix_ns, daily=daily, raw=raw), []).append(item)
        for path, items in batches.items():
            refusal = self._write(path, items) if not refusal else self._shed(items, refusal)
        overflowed, self._overflowed_before = self._overflowed_before, self._overflowed_bytes
        if self._overflowed_before > overflowed:
            refusal = refusal or "the queue is full"
        self._tell(refusal)

    def clean(self) -> None:
        """Remove the files that are too old, then the oldest ones until the rest is small enough."""
        now_s = self._clock()
        found = sorted(files(self._root), key=lambda file: file.end)
        total = sum(file.size for file in found)
        for file in found:
            old = now_s - file.end.timestamp() > self._config.keep_days * _DAY_S
            if file.end.timestamp() > now_s or not (old or total > self._config.keep_bytes):
                break
            _remove(file)
            total -= file.size
        self._known = {path: last for path, last in self._known.items() if now_s - last * 1e-9 < 2 * _DAY_S}

    def _run(self) -> None:
        while True:
            stopping = self._stop.wait(self._config.flush_s)
            try:
                self.flush()
                if self._clock() - self._cleaned_s >= _RETENTION_PERIOD_S:
                    self._cleaned_s = self._clock()
                    self.clean()
            except Exception:  # whatever happens here, the next frames get their chance
                _log.exception("archive failed")
            if stopping:
                return

    def _refusal(self) -> str:
        """Why nothing may be written now: the last bytes of the disk are for the service itself."""
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            free = shutil.disk_usage(self._root).free
        except OSError as error:
            return error.strerror or "no disk"
        return "the disk is nearly full" if free < self._config.free_bytes_min else ""

    def _write(self, path: Path, items: list[_Item]) -> str:
        """Append to one file; return why that failed, or an empty text."""
        data = b"".join(frame for *_, frames in items for frame in frames)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if path not in self._known:
                _mend(path)
            offset = _append(path, data)
            self._known[path] = self._index(path, offset, items, self._known.get(path, 0))
        except OSError as error:
            return self._shed(items, error.strerror or "the disk fails")
        self.written_bytes += len(data)
        return ""

    def _index(self, path: Path, offset: int, items: list[_Item], last_ns: int) -> int:
        """Add rows to the index, at most one a second; return the time of the last one."""
        rows = bytearray()
        for _, _, received_unix_ns, frames in items:
            if abs(received_unix_ns - last_ns) >= _INDEX_GAP_NS:  # the clock may have been set back
                rows += INDEX_ROW.pack(received_unix_ns, offset)
                last_ns = received_unix_ns
            offset += sum(map(len, frames))
        if rows:
            _append(index_path(path), bytes(rows))
        return last_ns

    def _shed(self, items: list[_Item], reason: str) -> str:
        self._unwritten_bytes += sum(len(frame) for *_, frames in items for frame in frames)
        return reason

    def _tell(self, reason: str) -> None:
        """Say when shedding begins and ends."""
        if reason and not self.shedding:
            _log.error("the archive sheds frames", reason=reason, folder=str(self._root))
        elif self.shedding and not reason:
            lost, self._told_bytes = self.shed_bytes - self._told_bytes, self.shed_bytes
            _log.warning("the archive goes on", lost_bytes=lost, after=self.shedding)
        self.shedding = reason


def _append(path: Path, data: bytes) -> int:
    """Append bytes as a whole or not at all; return where they begin.

    Raises:
        OSError: They could not be written.
    """
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    try:
        offset = os.fstat(file).st_size
        view = memoryview(data)
        try:
            while view:
                view = view[os.write(file, view) :]
        except OSError:
            os.ftruncate(file, offset)
            raise
        return offset
    finally:
        os.close(file)


def _mend(path: Path) -> None:
    """Cut a torn last frame: a kill or a crash may end a write between two pages."""
    if path.suffix != ".rtcm3" or not path.exists():
        return
    end = whole_end(path)
    if end < path.stat().st_size:
        _log.warning("a torn frame was cut off", file=str(path), torn_bytes=path.stat().st_size - end)
        os.truncate(path, end)


def _remove(file: ArchiveFile) -> None:
    for path in (file.path, index_path(file.path)):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # others' files, or later ones
        file.path.parent.rmdir()
        file.path.parent.parent.rmdir()
