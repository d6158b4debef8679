"""The life cycle as a whole: whatever readings, people, rules and the clock do, in any order, no alert is lost."""

from dataclasses import replace
from itertools import pairwise
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from alerting.lifecycle import (
    NEXT,
    OPENED,
    Alert,
    Definition,
    Event,
    Finding,
    Level,
    Moved,
    Origin,
    State,
    Trigger,
    abandon,
    acknowledge,
    pass_time,
    settle,
    take,
    withdraw_rules,
)

T0 = 1_700_000_000_000
DEFINITIONS = {
    one.rule_id: one
    for one in (
        Definition("plain", "Plain", "low", "physiological"),
        Definition("delayed", "Delayed", "medium", "physiological", delay_ms=15_000, resolve_after_ms=10_000),
        Definition(
            "latching", "Latching", "high", "physiological", latching=True, escalation=(Level(30_000, ("charge",)),)
        ),
        Definition("cause", "Cause", "medium", "technical", inhibits=("plain", "latching")),
    )
}
RULES = st.sampled_from(sorted(DEFINITIONS))
FOR_GOOD = {State.RESOLVED, State.SUPERSEDED}
LONG = 3_600_000
"""Longer than every delay and step."""


class LifeCycle(RuleBasedStateMachine):
    """One patient; every instant is later than the one before, as what comes late changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.alerts: dict[str, Alert] = {}
        self.told: dict[str, list[Event]] = {}
        self.last_band: dict[str, str] = {}
        self.silenced: set[str] = set()
        self.now = T0
        self.messages = 0

    def whence(self, *, message: bool = False) -> Origin:
        self.messages += message
        name = f"m{self.messages}" if message else None
        return Origin("hospital/1", self.now, "adult@1", device_id="monitor-1", message_id=name)

    def moved(self, moved: Moved) -> None:
        for event in moved.events:
            self.told.setdefault(event["alert_id"], []).append(event)
        self.alerts = dict(moved.alerts)

    def settled(self) -> None:
        """As the engine does after each step."""
        self.moved(settle(self.alerts, lambda name: "s1" if name in self.silenced else None, self.whence()))

    @rule(seconds=st.integers(1, 40))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds * 1000
        self.moved(pass_time(self.alerts, self.whence()))
        self.settled()

    @rule(bands=st.dictionaries(RULES, st.sampled_from(["breach", "breach", "clear", "clear", "margin"]), min_size=1))
    def a_message_comes(self, bands: dict[str, Any]) -> None:
        self.now += 1000
        findings = [Finding(name, band, self.now, value=1.0, limit=2.0) for name, band in bands.items()]
        self.moved(take(self.alerts, findings, self.whence(message=True), DEFINITIONS.__getitem__))
        self.last_band |= bands
        self.settled()

    @rule(name=RULES, band=st.sampled_from(["breach", "clear"]), back=st.integers(0, 60))
    def a_late_value_comes_for_an_open_alert(self, name: str, band: Any, back: int) -> None:
        alert = self.alerts.get(name)
        if alert is not None and alert.open:
            finding = Finding(name, band, alert.seen_at - back * 1000)
            before = dict(self.alerts)
            self.moved(take(self.alerts, [finding], self.whence(message=True), DEFINITIONS.__getitem__))
            assert self.alerts == before

    @rule(name=RULES)
    def somebody_acknowledges(self, name: str) -> None:
        if name in self.alerts:
            done = acknowledge(self.alerts, self.alerts[name].alert_id, self.whence(), actor="nurse", note=None)
            self.moved(done)
            self.settled()

    @rule(name=RULES)
    def somebody_silences_or_ends_a_silence(self, name: str) -> None:
        self.silenced ^= {name}
        self.settled()

    @rule(name=RULES)
    def a_pack_comes_without_a_rule(self, name: str) -> None:
        self.moved(withdraw_rules(self.alerts, set(DEFINITIONS) - {name}, self.whence()))
        self.last_band.pop(name, None)
        self.settled()

    @precondition(lambda self: self.messages > 8)
    @rule()
    def nothing_is_heard_for_a_day(self) -> None:
        self.moved(abandon(self.alerts, self.whence()))
        self.last_band.clear()

    @invariant()
    def every_alert_is_held_or_was_ended_in_words(self) -> None:
        held = {alert.alert_id: alert for alert in self.alerts.values()}
        for name, events in self.told.items():
            assert name in held or events[-1]["state"] in FOR_GOOD
        for name, alert in held.items():
            assert self.told[name][-1]["state"] == alert.state
            assert [event["sequence"] for event in self.told[name]] == list(range(alert.sequence + 1))

    @invariant()
    def every_step_that_was_told_is_one_that_there_is(self) -> None:
        for events in self.told.values():
            assert events[0]["reason"] == OPENED
            for before, after in pairwise(events):
                assert NEXT[State(before["state"]), Trigger(after["reason"])] == after["state"]

    @invariant()
    def a_breach_that_nothing_contradicts_has_an_open_alert(self) -> None:
        for name, band in self.last_band.items():
            if band == "breach":
                alert = self.alerts[name]
                ended = self.told[alert.alert_id][-1]["reason"]
                assert (alert.open and alert.state is not State.LATCHED) or ended == Trigger.ACKNOWLEDGED, alert

    @invariant()
    def who_is_sure_to_be_told_is_told_in_time(self) -> None:
        """Left alone for an hour, a breach that stands is no longer pending and a latching alert waits for somebody."""
        later = pass_time(self.alerts, replace(self.whence(), now=self.now + LONG)).alerts
        for name, alert in later.items():
            if self.last_band.get(name) == "breach":
                assert alert.state is not State.PENDING
        for events in self.told.values():
            sounded = any(event["state"] in ("active", "escalated") for event in events)
            taken_on = any(event["reason"] == Trigger.ACKNOWLEDGED for event in events)
            if events[0]["rule_id"] == "latching" and sounded and not taken_on:
                assert events[-1]["reason"] not in (Trigger.CLEARED, Trigger.SUSTAINED)

    @invariant()
    def nobody_is_muted_without_a_reason(self) -> None:
        for name, alert in self.alerts.items():
            if alert.state in (State.ACTIVE, State.ESCALATED):
                assert name not in self.silenced
            # What is about to end anyway does not sound once more.
            if alert.state is State.SILENCED and alert.clear_since is None:
                causes = [one for one in self.alerts.values() if one.open and name in one.definition.inhibits]
                assert name in self.silenced or causes


LifeCycle.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestNoAlertIsLost = LifeCycle.TestCase
