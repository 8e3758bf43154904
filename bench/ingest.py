"""Ingest: thousands of base stations on one caster, every frame's CRC checked; a rover watches some of the mounts."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

from bench.scenarios import Row, Scenario, record, run_scenarios

__all__ = ["SCENARIOS", "run"]

SCENARIOS: Final = (
    Scenario("national", "2,710 stations at 1 Hz, a rover each on 100 mounts", 100, 2_710, 1.0, 20.0, fleets=1),
    Scenario("next", "6,951 stations at 1 Hz, a rover each on 100 mounts", 100, 6_951, 1.0, 20.0, fleets=1),
)

_REMARK: Final = "Processor time per frame counts the rovers' frames, not the stations'."


def run(peers: dict[str, Path], names: Iterable[str] = (), *, repeat: int, note: Callable[[str], None]) -> list[Row]:
    """Run scenarios, all without names, on all casters that can take part, and record the rows."""
    keep = partial(record, "ingest", "Ingest", scenarios=SCENARIOS, bars=_REMARK)
    return run_scenarios(SCENARIOS, peers, names, repeat=repeat, note=note, keep=keep)
