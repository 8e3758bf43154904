"""The collector of garbage is paused, and goes on as it was."""

import gc

import pytest

from stations.collector import collector_paused


def test_nothing_is_collected_while_much_is_made() -> None:
    assert gc.isenabled()
    with collector_paused():
        assert not gc.isenabled()
        with collector_paused():
            assert not gc.isenabled()
        assert not gc.isenabled(), "it is paused until the outer work is done"
    assert gc.isenabled() and gc.get_freeze_count()


def test_the_collector_goes_on_after_a_failure() -> None:
    with pytest.raises(ValueError, match="in between"), collector_paused():
        raise ValueError("in between")
    assert gc.isenabled()
