import asyncio
from itertools import pairwise

import pytest

from stations.replay import epoch_groups, frame_tow_s, paced
from tests.stations.conftest import observation_frame


@pytest.mark.parametrize(
    ("number", "expected"), [(1077, 100.0), (1097, 100.0), (1127, 114.0), (1004, 100.0), (1087, None), (1005, None)]
)
def test_the_time_of_an_observation_message_is_gpst(number: int, expected: float | None) -> None:
    assert frame_tow_s(observation_frame(100.0, number)) == expected


def test_frames_of_an_epoch_stay_together_with_what_follows_them() -> None:
    frames = [observation_frame(1005, 1005), *(observation_frame(t, n) for t in (10, 11) for n in (1077, 1087, 1097))]
    groups = list(epoch_groups(frames))
    assert [elapsed_s for elapsed_s, _ in groups] == [0.0, 1.0]
    assert groups[0][1] == b"".join(frames[:4])


@pytest.mark.parametrize("times", [[604_798, 604_799, 0, 1], [10, 11, 9, 12, 13]])
def test_time_runs_on_over_the_end_of_the_week_and_stragglers(times: list[int]) -> None:
    elapsed = [elapsed_s for elapsed_s, _ in epoch_groups(observation_frame(t) for t in times)]
    assert elapsed == sorted(elapsed)
    assert elapsed[-1] == 3.0


def test_a_recording_that_was_cut_is_not_waited_for() -> None:
    elapsed = [elapsed_s for elapsed_s, _ in epoch_groups(observation_frame(t) for t in (10, 11, 100_000, 100_001))]
    assert elapsed == [0.0, 1.0, 1.0, 2.0]


async def test_pieces_come_at_their_time_divided_by_the_speed() -> None:
    loop = asyncio.get_running_loop()
    start_s = loop.time()
    came = [(piece, loop.time() - start_s) async for piece in paced([(0.0, b"a"), (2.0, b"b"), (4.0, b"c")], 100.0)]
    assert [piece for piece, _ in came] == [b"a", b"b", b"c"]
    assert came[1][1] >= 0.019
    assert came[2][1] >= 0.039


def test_groups_lose_and_repeat_nothing() -> None:
    frames = [observation_frame(t % 50, n) for t in range(80) for n in (1077, 1087)]
    groups = [group for _, group in epoch_groups(frames)]
    assert b"".join(groups) == b"".join(frames)
    assert all(a != b for a, b in pairwise(groups))
