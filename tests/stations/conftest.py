"""The field's tests run against the real caster."""

import signal
from pathlib import Path

import pytest

from caster.codec.rtcm import make_frame
from tests.caster.conftest import service, start

__all__ = ["service", "start"]


def heed_interrupts() -> None:
    """For a new process: what a shell starts in the background ignores SIGINT, and so would its children."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def observation_frame(tow_s: float, number: int = 1077, fill: bytes = bytes(20)) -> bytes:
    """A frame with an MSM header's beginning: number, station 0 and time of week."""
    head = (number << 42 | round(tow_s * 1000)) << 2
    return make_frame(head.to_bytes(7, "big") + fill)


@pytest.fixture
def recording(tmp_path: Path) -> Path:
    """Ten seconds of two messages each, with a gap of two seconds in the middle and garbage between frames."""
    path = tmp_path / "base.rtcm3"
    epochs = [0, 1, 2, 3, 6, 7, 8, 9]
    path.write_bytes(
        b"".join(
            observation_frame(100 + t) + b"$GNGGA,noise\r\n" + observation_frame(100 + t - 14, 1127) for t in epochs
        )
    )
    return path
