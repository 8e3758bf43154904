"""The load client against a real caster: RTKLIB's."""

import shutil
from pathlib import Path

import pytest

from bench.casters import CASTERS
from bench.processes import BenchError, need_descriptors
from bench.scenarios import Scenario, run_scenario


@pytest.mark.skipif(shutil.which("str2str") is None, reason="RTKLIB is not installed")
def test_every_rover_of_str2str_gets_every_frame() -> None:
    caster = next(caster for caster in CASTERS if caster.name == "str2str")
    program = shutil.which("str2str")
    assert program is not None
    scenario = Scenario("test", "8 rovers", rovers=8, mounts=1, rate_hz=10.0, seconds=1.0)
    (row,) = run_scenario(scenario, caster, Path(program))
    assert row.frames >= 8 * 10
    assert (row.lost, row.torn, row.closed) == (0, 0, 0)
    assert 0.0 < row.p50_ms <= row.p99_ms <= row.max_ms < 10_000.0


def test_more_connections_than_the_machine_allows_are_refused_with_the_limit() -> None:
    with pytest.raises(BenchError, match=r"needs \d+ open files in one process, and the limit here is \d+"):
        need_descriptors(1 << 40, "the caster")
