"""Alarms with hysteresis: a value that stays bad for a while raises one, and only a value that stays good clears it.

Strategy: a rule is a row of a table: which value, which limit, which limit to come back to. An alarm changes only after
its value has been past the limit for the hold time without a break, so one late frame says nothing and a value that
swings about its limit says it once. A value that is not known (NaN) changes nothing.

Rules: no clock and no I/O here; the time is an argument, and what became of an alarm is the return value.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

__all__ = ["Alarm", "AlarmBoard", "Rule"]

Report = TypeVar("Report")


@dataclass(frozen=True, slots=True)
class Rule(Generic[Report]):
    """When an alarm is raised and cleared.

    Attributes:
        name: Of the alarm, one word.
        value: Reads the value from a report; NaN: not known.
        limit: Past it, the alarm is raised.
        clear: Back at it, the alarm is cleared; on the good side of `limit`.
        text: What is wrong, with `{value}` and `{limit}`.
    """

    name: str
    value: Callable[[Report], float]
    limit: float
    clear: float
    text: str

    def is_bad(self, value: float, *, raised: bool) -> bool:
        """Whether a value is on the bad side of the limit that counts now."""
        if self.limit >= self.clear:
            return value > self.clear if raised else value > self.limit
        return value < self.clear if raised else value < self.limit


@dataclass(frozen=True, slots=True)
class Alarm:
    """An alarm that was raised or cleared.

    Attributes:
        name: Of the rule.
        mount: The mountpoint concerned.
        raised: True: raised; False: cleared.
        time_s: When, s since 1970 UTC.
        since_s: When the alarm was raised, s since 1970 UTC.
        value: The value that decided.
        limit: The limit that it passed.
        text: What is wrong, in words.
    """

    name: str
    mount: str
    raised: bool
    time_s: float
    since_s: float
    value: float
    limit: float
    text: str


@dataclass(slots=True)
class _State:
    raised: bool = False
    since_s: float = 0.0
    turning_s: float | None = None


@dataclass(slots=True)
class AlarmBoard(Generic[Report]):
    """The alarms of one mountpoint.

    Attributes:
        mount: Its name.
        rules: Which alarms there are.
        hold_s: How long a value must stay past a limit.
    """

    mount: str
    rules: tuple[Rule[Report], ...]
    hold_s: float
    _states: dict[str, _State] = field(default_factory=dict)

    @property
    def raised(self) -> Mapping[str, float]:
        """The raised alarms: since when (s since 1970 UTC) by name."""
        return {name: state.since_s for name, state in self._states.items() if state.raised}

    def judge(self, report: Report, now_s: float) -> list[Alarm]:
        """Hold a report against all rules; return the alarms that it raises or clears."""
        changed = (self._judge(rule, rule.value(report), now_s) for rule in self.rules)
        return [alarm for alarm in changed if alarm is not None]

    def _judge(self, rule: Rule[Report], value: float, now_s: float) -> Alarm | None:
        if math.isnan(value):
            return None
        state = self._states.get(rule.name)
        if state is None:
            state = self._states[rule.name] = _State()
        if rule.is_bad(value, raised=state.raised) == state.raised:
            state.turning_s = None
            return None
        if state.turning_s is None or state.turning_s > now_s:  # the clock may have been set back
            state.turning_s = now_s
        if now_s - state.turning_s < self.hold_s:
            return None
        since_s = state.since_s if state.raised else state.turning_s
        state.raised, state.since_s, state.turning_s = not state.raised, since_s, None
        limit = rule.limit if state.raised else rule.clear
        text = rule.text.format(value=value, limit=limit)
        return Alarm(rule.name, self.mount, state.raised, now_s, since_s, value, limit, text)
