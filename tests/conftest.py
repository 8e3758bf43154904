"""Where the tests find recordings that are not part of the project."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

# A first example may compile a kernel, and a busy machine may be slow to make one: the test's time-out is the limit.
settings.register_profile("kernels", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("kernels")

SHARED_DATA = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real recordings beside the checkout."""
    if not SHARED_DATA.is_dir():
        pytest.skip(f"no recordings at {SHARED_DATA}")
    return SHARED_DATA
