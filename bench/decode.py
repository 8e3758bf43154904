"""RTCM 3 to numbers: how many messages a second ours and its peers decode from the same bytes, in turns, on one core.

Time is processor time, since the machine may have other work. Peers: pyrtcm (an object a message), RTKLIB's `convbin`
(the whole process with its RINEX output, for want of a decoder alone), RTKLIB-EX's `input_rtcm3` by pyrtklib5 (a Python
call a byte, which is most of its time). Ours: a whole recording to arrays in one call, and a frame at a time as live
streams come, MSM alone and every message.
"""

import gzip
import io
import resource
import shutil
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, replace
from json import dumps
from pathlib import Path
from typing import Final

import numpy as np

from caster.codec.rtcm import FrameReader, MsmEncoder, decode, decode_msm, decode_msm_batch, is_msm, message_type
from caster.codec.rtcm.framing import frame_spans
from solver.model import Epoch
from solver.signals import frequency_hz, satellite_of_name, signal
from solver.timescale import from_week

__all__ = ["Row", "run"]

RECORDING: Final = Path(__file__).resolve().parents[2] / "shared/data/str-stromlo-70m/week-rollover-STR17.rtcm3.gz"
RESULTS: Final = Path(__file__).resolve().parent / "results"
PYRTCM_MESSAGES_MAX: Final = 2000
"""A sample, evenly spread, is enough of a decoder that takes a millisecond a message."""

RUN_S_MIN: Final = 0.5
"""A decoder that is faster takes the recording several times in a run."""


@dataclass(frozen=True, slots=True)
class Row:
    """One decoder on one recording.

    Attributes:
        decoder: Whose, and in which way.
        messages: Messages decoded in one run.
        messages_per_s, megabytes_per_s: Of the median run, processor time.
        spread_percent: Slowest less fastest run, of the median.
        times_slower: Than ours to arrays at once; by message.
        remarks: What else the time holds.
    """

    decoder: str
    messages: int
    messages_per_s: float
    megabytes_per_s: float
    spread_percent: float
    times_slower: float
    remarks: str


Work = Callable[[], tuple[int, int]]
"""Decodes once and returns the messages and bytes decoded."""


def run(peers: dict[str, Path], names: Iterable[str] = (), *, repeat: int, note: Callable[[str], None]) -> list[Row]:
    """Measure all decoders in turns and record the table in `bench/results`.

    Args:
        peers: `convbin` by path, where it is not on the path; `recording` is a file to take instead.
        names: Not used: there is one recording.
        repeat: Runs of each, after one that does not count.
        note: Is told what goes on, and who is left out.
    """
    path = peers.get("recording", RECORDING)
    data = _read(path) if path.is_file() else _synthetic()
    note(f"{path.name if path.is_file() else 'a made stream of five systems'}: {len(data):,} bytes")
    decoders = _ours(data) | _pyrtcm(data, note) | _convbin(data, peers, note) | _rtklib_ex(data, note)
    seconds: dict[str, list[float]] = {name: [] for name in decoders}
    counts: dict[str, tuple[int, int]] = {}
    for turn in range(repeat + 1):
        for name, (work, _) in decoders.items():
            counts[name], run_s = _timed(work)
            if turn:
                seconds[name].append(run_s)
    rows = [_row(name, remarks, counts[name], seconds[name]) for name, (_, remarks) in decoders.items()]
    rows = [_compared(row, rows[0]) for row in rows]
    _record(rows, path.name if path.is_file() else "made stream")
    return rows


def _timed(work: Work) -> tuple[tuple[int, int], float]:
    """Run a decoder for `RUN_S_MIN` at least; what it counted, and seconds of processor time for each time."""
    started_s = _processor_s()
    times = 0
    while True:
        count = work()
        times += 1
        spent_s = _processor_s() - started_s
        if spent_s >= RUN_S_MIN:
            return count, spent_s / times


def _processor_s() -> float:
    """Processor time of this process and of the children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def _row(name: str, remarks: str, count: tuple[int, int], seconds: list[float]) -> Row:
    middle_s = statistics.median(seconds)
    spread = (max(seconds) - min(seconds)) / middle_s * 100
    return Row(name, count[0], count[0] / middle_s, count[1] / middle_s / 1e6, spread, 1.0, remarks)


def _compared(row: Row, best: Row) -> Row:
    return replace(row, times_slower=best.messages_per_s / row.messages_per_s)


def _read(path: Path) -> bytes:
    data = path.read_bytes()
    return gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data


def _synthetic() -> bytes:
    """MSM7 of five systems, 1 Hz, about as many cells as a reference station sends."""
    names = [(f"{letter}{number:02d}", code) for letter, codes, count in
             (("G", "1C 2W 5Q", 10), ("R", "1C 2C", 8), ("E", "1C 7Q 5Q", 8), ("J", "1C 5Q", 2), ("C", "2I 6I 7I", 12))
             for number in range(1, count + 1) for code in codes.split()]  # fmt: skip
    sat = np.array([satellite_of_name(name) for name, _ in names], np.int16)
    code = np.array([signal(name[0] + code) for name, code in names], np.int16)
    order = np.lexsort((code, sat))
    sat, code = sat[order], code[order]
    frequency = np.array([frequency_hz(int(number), 1) for number in code])
    encoder, frames = MsmEncoder(1), []
    for second in range(1000):
        range_m = (2.2e7 + 100.0 * second) + 1e5 * (sat % 64).astype(np.float64)
        zeros = np.zeros(len(sat))
        frames += encoder.encode(
            Epoch(from_week(2300, second), sat, code, frequency, range_m, range_m * frequency / 299_792_458,
                  zeros - 300, zeros.astype(np.float32) + 45, zeros.astype(np.float32) + second, zeros.astype(np.uint8))
        )  # fmt: skip
    return b"".join(frames)


def _ours(data: bytes) -> dict[str, tuple[Work, str]]:
    array = np.frombuffer(bytearray(data), np.uint8)

    def batch() -> tuple[int, int]:
        batch = decode_msm_batch(array, frame_spans(array)[0])
        return len(batch), len(data)

    def single() -> tuple[int, int]:
        count = 0
        for frame in _frames(data):
            if is_msm(message_type(frame)):
                decode_msm(frame)
                count += 1
        return count, len(data)

    def every() -> tuple[int, int]:
        count = 0
        for frame in _frames(data):
            decode(frame)
            count += 1
        return count, len(data)

    return {
        "ours, recording to arrays": (batch, "framing, CRC and MSM"),
        "ours, MSM a frame at a time": (single, "framing, CRC and MSM, as a live stream"),
        "ours, every message": (every, "framing, CRC and all types, an object a message"),
    }


def _frames(data: bytes) -> Iterable[bytes]:
    reader = FrameReader()
    for start in range(0, len(data), 4096):
        yield from reader.feed(data[start : start + 4096])


def _pyrtcm(data: bytes, note: Callable[[str], None]) -> dict[str, tuple[Work, str]]:
    try:
        from pyrtcm import RTCMReader
    except ImportError:
        note("pyrtcm is left out: not installed")
        return {}
    frames = list(_frames(data))
    sample = b"".join(frames[:: -(-len(frames) // PYRTCM_MESSAGES_MAX)])

    def work() -> tuple[int, int]:
        return sum(1 for _ in RTCMReader(io.BytesIO(sample))), len(sample)

    return {"pyrtcm": (work, "every type, a sample of the recording")}


def _convbin(data: bytes, peers: dict[str, Path], note: Callable[[str], None]) -> dict[str, tuple[Work, str]]:
    program = peers.get("convbin") or shutil.which("convbin")
    if program is None:
        note("convbin is left out: not installed; --peer convbin=PATH")
        return {}
    frames = len(frame_spans(np.frombuffer(bytearray(data), np.uint8))[0])

    def work() -> tuple[int, int]:
        with tempfile.TemporaryDirectory(prefix="bench-") as folder:
            source = Path(folder, "in.rtcm3")
            source.write_bytes(data)
            command = [str(program), "-r", "rtcm3", "-od", "-os", "-o", f"{folder}/o", "-n", f"{folder}/n", str(source)]
            subprocess.run(command, check=True, capture_output=True, timeout=600)
        return frames, len(data)

    return {"convbin": (work, "the whole process, RINEX writing included")}


def _rtklib_ex(data: bytes, note: Callable[[str], None]) -> dict[str, tuple[Work, str]]:
    try:
        import pyrtklib5  # type: ignore[import-untyped]
    except ImportError:
        note("RTKLIB-EX is left out: pyrtklib5 is not installed")
        return {}
    frames = len(frame_spans(np.frombuffer(bytearray(data), np.uint8))[0])

    def work() -> tuple[int, int]:
        rtcm = pyrtklib5.rtcm_t()
        pyrtklib5.init_rtcm(rtcm)
        for byte in data:
            pyrtklib5.input_rtcm3(rtcm, byte)
        pyrtklib5.free_rtcm(rtcm)
        return frames, len(data)

    return {"RTKLIB-EX by pyrtklib5": (work, "a Python call a byte")}


def _record(rows: list[Row], recording: str) -> None:
    """Write the table as Markdown and JSON."""
    RESULTS.mkdir(exist_ok=True)
    lines = ["# RTCM 3 decoding", "", f"`python -m bench decode` on {recording}, one core, processor time.", ""]
    lines += [
        "| decoder | messages | messages/s | MB/s | spread | times slower | remarks |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    lines += [
        f"| {row.decoder} | {row.messages:,} | {row.messages_per_s:,.0f} | {row.megabytes_per_s:.1f} "
        f"| {row.spread_percent:.0f} % | {row.times_slower:.1f} | {row.remarks} |"
        for row in rows
    ]
    (RESULTS / "decode.md").write_text("\n".join(lines) + "\n")
    (RESULTS / "decode.json").write_text(dumps([asdict(row) for row in rows], indent=1) + "\n")
