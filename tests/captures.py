"""Real RTCM 3 recordings for the tests: which there are, and their frames."""

import gzip
import lzma
from functools import cache
from pathlib import Path

from caster.codec.rtcm import FrameReader, message_type

CAPTURES = (
    "1012_first.rtcm", "beidou_invalid_fine_pseudorange.rtcm", "eph.rtcm", "geo++_JAV.rtcm", "geo++_LEI.rtcm",
    "geo++_SEP1.rtcm", "geo++_TRM.rtcm", "glo_day_rollover.rtcm", "hemi.rtcm", "javad.rtcm", "leica.rtcm",
    "mixed-msm-legacy.rtcm", "msm.rtcm", "msm7.rtcm", "openntrip-sept-polarx5.rtcm3", "piksi-5Hz.rtcm3",
    "pygnssutils-ntrip_encode_chunked.bin", "pygnssutils-ublox-base-mixed.log", "pyrtcm-pygpsdata-1230.bin",
    "pyrtcm-pygpsdata-NTRIP-4076.log", "pyrtcm-pygpsdata-NTRIP-USCL00CHL0.log", "pyrtcm-pygpsdata-RTCM3.log",
    "sept.rtcm", "test_bds_eph.rtcm", "test_gal_eph.rtcm", "test_glo_eph.rtcm", "trimble.rtcm",
)  # fmt: skip
"""Short captures, in `rtcm3-captures`."""
LONG = (
    "str-stromlo-70m/week-rollover-STR17.rtcm3.gz",
    "str-stromlo-70m/week-rollover-STR24.rtcm3.gz",
    "bds-monitor-418m/540423494727.2026-05-15.rtcm3.xz",
    "shanghai-car-vrs/base-vrs.rtcm3.xz",
    "shanghai-car-vrs/rover.rtcm3.xz",
)
"""Recordings of minutes to a day."""


@cache
def read(path: Path) -> bytes:
    """A file's bytes, decompressed."""
    openers = {".gz": gzip.open, ".xz": lzma.open}
    with openers.get(path.suffix, open)(path, "rb") as file:
        return file.read()


@cache
def frames_of(path: Path) -> tuple[bytes, ...]:
    """All good frames of a recording."""
    reader = FrameReader()
    return tuple(reader.feed(read(path)) + reader.finish())


def all_recordings(shared_data: Path) -> list[Path]:
    """Every recording, the short ones first."""
    return [shared_data / "rtcm3-captures" / name for name in CAPTURES] + [shared_data / name for name in LONG]


def sample_of(path: Path, per_type: int) -> list[bytes]:
    """Frames spread over a recording, at most `per_type` of each message type."""
    by_type: dict[int, list[bytes]] = {}
    for frame in frames_of(path):
        by_type.setdefault(message_type(frame), []).append(frame)
    return [frame for group in by_type.values() for frame in group[:: max(1, -(-len(group) // per_type))]]
