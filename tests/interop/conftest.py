"""Programs that we did not write, run against a real caster."""

from tests.caster.conftest import service, start

__all__ = ["service", "start"]
