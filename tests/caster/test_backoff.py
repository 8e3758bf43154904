"""Waits grow to a limit and are never in step."""

from caster.backoff import Backoff


def test_waits_double_up_to_the_limit_and_begin_anew_after_a_reset():
    backoff = Backoff(1.0, 10.0, lambda: 0.0)
    assert [backoff.next_s() for _ in range(6)] == [1.0, 2.0, 4.0, 8.0, 10.0, 10.0]
    backoff.reset()
    assert backoff.next_s() == 1.0


def test_chance_shortens_a_wait_by_up_to_a_half():
    assert Backoff(8.0, 10.0, lambda: 1.0).next_s() == 4.0
    assert len({Backoff(8.0, 10.0).next_s() for _ in range(10)}) > 1
