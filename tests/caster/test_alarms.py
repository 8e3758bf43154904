"""An alarm is raised by what stays bad and cleared by what stays good."""

import math

from hypothesis import given
from hypothesis import strategies as st

from caster.alarms import AlarmBoard, Rule

SILENT: Rule[float] = Rule(
    "silent", lambda value: value, 15.0, 5.0, "no data for {value:.0f} s, more than {limit:.0f} s"
)
FEW: Rule[float] = Rule("few", lambda value: value, 5.0, 7.0, "{value:.0f} satellites")


def board(rule: Rule[float], hold_s: float = 10.0) -> AlarmBoard[float]:
    return AlarmBoard("M", (rule,), hold_s)


def changes(rule: Rule[float], values: list[float], hold_s: float = 10.0) -> list[tuple[float, bool]]:
    """The alarms of one value every five seconds."""
    alarms = board(rule, hold_s)
    return [(alarm.time_s, alarm.raised) for k, value in enumerate(values) for alarm in alarms.judge(value, 5.0 * k)]


def test_an_alarm_is_raised_after_the_hold_time_and_names_value_limit_and_mount():
    alarms = board(SILENT)
    assert alarms.judge(20.0, 100.0) == alarms.judge(25.0, 105.0) == []
    (alarm,) = alarms.judge(30.0, 110.0)
    assert (alarm.mount, alarm.name, alarm.raised, alarm.since_s) == ("M", "silent", True, 100.0)
    assert alarm.text == "no data for 30 s, more than 15 s"
    assert dict(alarms.raised) == {"silent": 100.0}


def test_a_short_excursion_raises_nothing():
    assert changes(SILENT, [0, 20, 20, 0, 20, 20, 0]) == []


def test_a_value_between_the_two_limits_keeps_the_state():
    assert changes(SILENT, [20, 20, 20, 10, 10, 10, 10, 20]) == [(10.0, True)]
    assert changes(SILENT, [10] * 10) == []


def test_an_alarm_is_cleared_once_the_value_has_stayed_good():
    assert changes(SILENT, [20, 20, 20, 0, 20, 0, 0, 0, 0]) == [(10.0, True), (35.0, False)]


def test_a_rule_whose_good_side_is_above_works_the_same_way():
    assert changes(FEW, [4, 4, 4, 6, 6, 6, 8, 8, 8]) == [(10.0, True), (40.0, False)]


def test_a_value_that_is_not_known_changes_nothing():
    assert changes(SILENT, [math.nan] * 5) == []
    assert changes(SILENT, [20, math.nan, 20, 20]) == [(10.0, True)]


def test_a_clock_that_is_set_back_only_begins_the_hold_time_anew():
    alarms = board(SILENT)
    assert alarms.judge(20.0, 1000.0) == alarms.judge(20.0, 500.0) == []
    assert [alarm.time_s for alarm in alarms.judge(20.0, 510.0)] == [510.0]


@given(st.lists(st.floats(allow_nan=True), max_size=60), st.sampled_from([SILENT, FEW]))
def test_for_any_values_alarms_are_raised_and_cleared_in_turn(values, rule):
    states = [raised for _, raised in changes(rule, values, hold_s=0.0)]
    assert states == [k % 2 == 0 for k in range(len(states))]
