"""Fan-out: thousands of rovers on one caster, ours and its peers under the same load in the same run."""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Final

from bench.scenarios import Row, Scenario, count_while_connecting, record, run_scenarios

__all__ = ["SCENARIOS", "run"]

SCENARIOS: Final = (
    Scenario("small", "30 rovers on one mount, 10 Hz", 30, 1, 10.0, 10.0),
    Scenario("one-mount", "10,000 rovers on one mount, 1 Hz", 10_000, 1, 1.0, 20.0),
    Scenario("fast", "5,000 rovers on one mount, 10 Hz", 5_000, 1, 10.0, 15.0),
    Scenario("many-mounts", "10,800 rovers on 2,700 mounts, 1 Hz", 10_800, 2_700, 1.0, 20.0),
    Scenario("connects", "2,000 rovers stream, 6,000 connect", 8_000, 1, 1.0, 10.0, count_while_connecting, fleets=4),
    Scenario("not-stalled", "3,000 rovers, 10 Hz", 3_000, 1, 10.0, 15.0),
    Scenario("stalled", "the same, and 1,000 that stop reading", 4_000, 1, 10.0, 75.0, stalled=1_000),
    Scenario("tls", "2,000 rovers by TLS, 1 Hz", 2_000, 1, 1.0, 15.0, tls=True),
    Scenario("workers", "21,000 rovers, held by 2 worker processes, 1 Hz", 21_000, 1, 1.0, 20.0, workers=2),
    Scenario(
        "soak", "an hour, 5,000 rovers that come and go, a source that flaps", 5_000, 10, 1.0, 3600.0,
        churn_s=120.0, flap_s=60.0, slow=True,
    ),
)  # fmt: skip

_BARS: Final = (
    "Bars: `one-mount` p50 80, p99 200 ms, 13 % of a core, 150 MB; `fast` p99 85 ms, 45 %; `many-mounts` p99 4 ms,\n"
    "25 %; `connects` 4,000 a second; `stalled` p99 within 1.5 times that of `not-stalled`, and the stalled are closed."
)


def run(peers: dict[str, Path], names: Iterable[str] = (), *, repeat: int, note: Callable[[str], None]) -> list[Row]:
    """Run scenarios, all quick ones without names, on all casters that can take part, and record the rows."""
    keep = partial(record, "fanout", "Fan-out", scenarios=SCENARIOS, bars=_BARS)
    return run_scenarios(SCENARIOS, peers, names, repeat=repeat, note=note, keep=keep)
