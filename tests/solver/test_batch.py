"""A batch positions each rover exactly as it would be alone."""

import numpy as np
import pytest

from solver.batch import Batch, Task
from solver.model import Quality
from solver.rtk import RtkOptions, RtkState, process
from tests.solver.test_rtk import BASE, KNOWN, baseline

OPTIONS = RtkOptions()


def receivers(count: int) -> list[baseline.Receiver]:
    return [baseline.Receiver(baseline.BASE_M + np.array([20.0 * k, 5.0, -3.0]), seed=k) for k in range(1, count + 1)]


@pytest.mark.parametrize("threads", [1, 3])
def test_many_rovers_get_what_each_would_get_alone(threads: int) -> None:
    rovers, times = receivers(20), baseline.seconds(3)
    together, alone = [RtkState() for _ in rovers], [RtkState() for _ in rovers]
    with Batch(threads) as batch:
        for time_ns in times:
            base = BASE.observe(KNOWN, time_ns)
            epochs = [rover.observe(KNOWN, time_ns) for rover in rovers]
            tasks = [Task(state, epoch, base, BASE.position_m) for state, epoch in zip(together, epochs, strict=True)]
            fixes = batch.process(tasks, KNOWN, OPTIONS)
            for fix, state, epoch in zip(fixes, alone, epochs, strict=True):
                expected = process(state, epoch, base, BASE.position_m, KNOWN, OPTIONS)
                assert fix.quality == expected.quality == Quality.FIX
                np.testing.assert_array_equal(fix.position_ecef_m, expected.position_ecef_m)


def test_no_rovers_get_no_fixes() -> None:
    with Batch(2) as batch:
        assert batch.process([], KNOWN, OPTIONS) == []


def test_what_a_thread_raises_is_raised() -> None:
    epoch = BASE.observe(KNOWN, baseline.seconds(1)[0])
    broken = Task(RtkState(), epoch, None, BASE.position_m)  # type: ignore[arg-type]
    with Batch(2) as batch, pytest.raises(AttributeError):
        batch.process([broken], KNOWN, OPTIONS)
