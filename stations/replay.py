"""A recorded RTCM 3 stream cut into its epochs, so that it can be sent again at the speed at which it was made."""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Iterator
from typing import Final

from caster.codec.rtcm import message_type

__all__ = ["epoch_groups", "frame_tow_s", "paced"]

WEEK_S: Final = 604_800.0
GAP_MAX_S: Final = 3600.0
"""A longer step of the time tags is not waited for: the recording has been cut or its clock was set."""
_BITS_TO_TIME: Final = 24  # message number and station id, RTCM 10403.3 tables 3.5-1 and 3.5-78
_BEIDOU: Final = 112
_BDT_OFFSET_S: Final = 14.0


def frame_tow_s(frame: bytes) -> float | None:
    """GPST seconds of week of an observation message's epoch; None of others and of GLONASS, which counts days."""
    number = message_type(frame)
    legacy = 1001 <= number <= 1004
    msm = 1071 <= number <= 1137 and 1 <= number % 10 <= 7 and not 1081 <= number <= 1087
    if not (legacy or msm) or len(frame) < 13:
        return None
    milliseconds = int.from_bytes(frame[6:10], "big") >> 2
    offset_s = _BDT_OFFSET_S if number // 10 == _BEIDOU else 0.0
    return (milliseconds / 1000 + offset_s) % WEEK_S


def epoch_groups(frames: Iterable[bytes]) -> Iterator[tuple[float, bytes]]:
    """Seconds since the first epoch, and the joined frames of one epoch and of what came after them.

    A step of the time tags backwards or by more than `GAP_MAX_S` counts as none.
    """
    elapsed_s, last_s = 0.0, None
    group: list[bytes] = []
    for frame in frames:
        tow_s = frame_tow_s(frame)
        if tow_s is not None and tow_s != last_s:
            step_s = 0.0 if last_s is None else (tow_s - last_s + WEEK_S / 2) % WEEK_S - WEEK_S / 2
            if last_s is not None and step_s > 0:
                yield elapsed_s, b"".join(group)
                group = []
                elapsed_s += step_s if step_s <= GAP_MAX_S else 0.0
            if step_s >= 0 or step_s < -GAP_MAX_S:
                last_s = tow_s
        group.append(frame)
    if group:
        yield elapsed_s, b"".join(group)


async def paced(groups: Iterable[tuple[float, bytes]], speed: float) -> AsyncGenerator[bytes, None]:
    """Give each group at its time, `speed` times as fast as it was recorded; 0: as fast as it is taken."""
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    for elapsed_s, data in groups:
        wait_s = start_s + elapsed_s / speed - loop.time() if speed else 0.0
        await asyncio.sleep(max(0.0, wait_s))
        yield data
