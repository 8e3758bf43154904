"""Weeks of ten bits: what a stream that says no more is dated by."""

from caster.codec.rtcm.messages import Message
from caster.codec.rtcm.timing import StreamClock
from solver.timescale import NS, from_week

TODAY_NS = from_week(2446, 0)


def gps_ephemeris(week: int, toe_s: int) -> Message:
    return Message(1019, {"week": week % 1024, "toe_s": toe_s})


def test_a_ten_bit_week_is_the_last_one_before_the_recording_was_written() -> None:
    """A NETR9's stream of 2012-10-14 (RTKLIB's test data) sends week 686: it is not one of 2032."""
    clock = StreamClock(TODAY_NS)
    assert clock.evidence(gps_ephemeris(1710, 7_200), 100 * NS, None) is None
    assert clock.weak_evidence() == from_week(1710, 100)
    assert clock.is_assumed


def test_a_ten_bit_week_is_proof_with_a_stated_instant() -> None:
    stated_ns = from_week(1711, 0)
    assert StreamClock(TODAY_NS).evidence(gps_ephemeris(1710, 7_200), 100 * NS, stated_ns) == from_week(1710, 100)


def test_an_ephemeris_of_the_coming_week_does_not_outdo_one_of_this_week() -> None:
    """A minute before the roll-over the first ephemerides with the new week's toe arrive."""
    before_midnight_ns = 604_740 * NS
    clock = StreamClock(TODAY_NS)
    for ephemeris in (gps_ephemeris(1709, 597_600), gps_ephemeris(1710, 0)):
        clock.evidence(ephemeris, before_midnight_ns, None)
    assert clock.weak_evidence() == from_week(1709, 604_740)
