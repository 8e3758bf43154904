"""The solver's services as the caster takes them in: the engine, and the kinds of mountpoints that it feeds."""

from collections.abc import Mapping
from functools import partial

from caster.dgnss import DgnssMountpoint
from caster.engine import Engine
from caster.mountpoints import KindFactory, Mountpoints
from caster.positioning import FixMountpoint, Means
from caster.shedding import Shedding
from caster.solving import Carriers
from caster.warmup_steps import load_carriers

__all__ = ["PositioningService"]


class PositioningService:
    """Corrections and positions, for `caster.app.Caster`.

    Args:
        threads: Of the solver; by default one for each core.

    Attributes:
        engine: Stations, ephemerides and solver threads.
        carriers: What rovers' carriers are followed with, once somebody says that it is compiled.
        shedding: Which rovers' carriers there is time for.
        kinds: Factories of mountpoints, by the name of the kind.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.engine = Engine(threads)
        self.carriers = Carriers(self.engine.workers, load_carriers)
        self.shedding = Shedding()
        self.kinds: Mapping[str, KindFactory] = {
            "dgnss": partial(DgnssMountpoint, self.engine),
            "fix": partial(FixMountpoint, Means(self.engine, self.carriers, self.shedding)),
        }

    def attach(self, mountpoints: Mountpoints) -> None:
        """Start, and follow the stations among the mountpoints."""
        self.engine.start()
        self.engine.attach(mountpoints)
        self.engine.on_tick.append(lambda _: self.shedding.look())

    def close(self) -> None:
        """End threads and tasks."""
        self.engine.close()
