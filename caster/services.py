"""The solver's services as the caster takes them in: the engine, and the kinds of mountpoints that it feeds."""

from collections.abc import Mapping
from functools import partial

from caster.dgnss import DgnssMountpoint
from caster.engine import Engine
from caster.mountpoints import KindFactory, Mountpoints
from caster.positioning import FixMountpoint

__all__ = ["PositioningService"]


class PositioningService:
    """Corrections and positions, for `caster.app.Caster`.

    Args:
        threads: Of the solver; by default one for each core.

    Attributes:
        engine: Stations, ephemerides and solver threads.
        kinds: Factories of mountpoints, by the name of the kind.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.engine = Engine(threads)
        self.kinds: Mapping[str, KindFactory] = {
            "dgnss": partial(DgnssMountpoint, self.engine),
            "fix": partial(FixMountpoint, self.engine),
        }

    def attach(self, mountpoints: Mountpoints) -> None:
        """Start, and follow the stations among the mountpoints."""
        self.engine.start()
        self.engine.attach(mountpoints)

    def close(self) -> None:
        """End threads and tasks."""
        self.engine.close()
