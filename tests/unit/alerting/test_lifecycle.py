from collections import Counter, defaultdict
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.bands import arms, band_of
from alerting.detection import limits
from alerting.engine import define
from alerting.evaluation import Evaluation, Reading
from alerting.lifecycle import (
    NEXT,
    OPEN,
    Alerts,
    Definition,
    Event,
    Level,
    Moved,
    Origin,
    State,
    Trigger,
    abandon,
    acknowledge,
    alert_id,
    origin,
    pass_time,
    settle,
    take,
    take_back,
    withdraw_rules,
)
from alerting.pack import load

ADULT = load("adult")
ARMS = arms(ADULT)
HR, SPO2 = "8867-4", "59408-5"
T0 = 1_700_000_000_000


def definition(rule_id: str) -> Definition:
    """The rule of the default pack as if it knew neither delay nor steps."""
    rule = ADULT.rule(rule_id)
    assert rule is not None
    return replace(define(ADULT, rule), delay_ms=0, resolve_after_ms=0, latching=False, escalation=())


def delayed(rule_id: str) -> Definition:
    return Definition(rule_id, "Heart rate high", "medium", "physiological", delay_ms=15_000)


def step(alerts: Alerts, one: Evaluation, definition_of: Any) -> Moved:
    """What the engine does with the bands of one message."""
    whence = origin(one)
    if one.status == "entered-in-error":
        return take_back(alerts, one, whence)
    back = take_back(alerts, one, whence) if one.status in ("amended", "corrected") else Moved(alerts)
    done = take(back.alerts, limits(one, back.alerts), whence, definition_of)
    return replace(done, events=(*back.events, *done.events))


def message(at: float, *values: tuple[str, float | None], late: float = 0, **fields: Any) -> Evaluation:
    """A message observed ``at`` seconds and received ``late`` seconds after that."""
    observed = T0 + round(at * 1000)
    readings = []
    for code, value in values:
        found = band_of(ARMS, code, value)
        readings.append(Reading(code, found.band, value, found.rule, found.limit))
    given_fields: dict[str, Any] = {
        "pack": "adult@1",
        "message_id": f"m{at:g}",
        "patient_id": "hospital/1",
        "device_id": "monitor-1",
        "source": "simulator",
        "status": "final",
        "partition": 0,
        "offset": 0,
        "observed_at": observed,
        "received_at": observed + round(late * 1000),
        "readings": tuple(readings),
        "location_unit": "ICU",
        "location_bed": "4",
    }
    return Evaluation(**{**given_fields, **fields})


def play(
    *messages: Evaluation, definition_of: Any = definition, alerts: Alerts | None = None
) -> tuple[Alerts, list[Event]]:
    alerts = alerts or {}
    events: list[Event] = []
    for one in messages:
        done = step(alerts, one, definition_of)
        alerts = done.alerts
        events += done.events
    return alerts, events


def transitions(*messages: Evaluation, definition_of: Any = definition) -> list[tuple[str, str, str]]:
    return [(e["rule_id"], e["state"], e["reason"]) for e in play(*messages, definition_of=definition_of)[1]]


def test_a_breach_opens_and_a_normal_value_resolves_with_every_column_told() -> None:
    _, events = play(message(0, (HR, 130.0), late=1), message(10, (HR, 100.0), late=2))
    opened = {
        "schema_version": 1,
        "alert_id": alert_id("hospital/1", "heart-rate-high", "m0", T0),
        "sequence": 0,
        "state": "active",
        "reason": "breach",
        "rule_id": "heart-rate-high",
        "title": "Heart rate high",
        "kind": "limit",
        "pack": "adult@1",
        "priority": "medium",
        "category": "physiological",
        "patient_id": "hospital/1",
        "location_unit": "ICU",
        "location_bed": "4",
        "device_id": "monitor-1",
        "code": HR,
        "value": 130.0,
        "limit_value": 120.0,
        "readings": [{"code": HR, "value": 130.0, "observed_at": T0, "message_id": "m0"}],
        "observed_at": T0,
        "message_id": "m0",
        "message_received_at": T0 + 1000,
    }
    resolved = {
        **{name: value for name, value in opened.items() if name != "readings"},
        "sequence": 1,
        "state": "resolved",
        "reason": "cleared",
        "value": 100.0,
        "observed_at": T0 + 10_000,
        "message_id": "m10",
        "message_received_at": T0 + 12_000,
    }
    assert events == [opened, resolved]


def test_the_columns_are_those_of_the_alert_event_table() -> None:
    from lakehouse.tables import ALERT_EVENT

    _, events = play(message(0, (HR, 130.0)))
    told = {"escalation_step", "muted_by", "actor", "note"}
    assert set(events[0]) == {c.name for c in ALERT_EVENT.columns} - {"emitted_at"} - told | {"schema_version"}


def test_an_alert_id_is_32_hexadecimal_digits_that_never_change() -> None:
    assert alert_id("hospital/1", "spo2-low", "m0", T0) == "cd8dbfa417c99a42d40fc4713b806130"


def test_a_device_that_reuses_a_message_id_still_raises_its_next_alarm() -> None:
    messages = [message(at, (HR, value), message_id="m") for at, value in ((0, 130.0), (10, 80.0), (20, 130.0))]
    _, events = play(*messages)
    assert [event["state"] for event in events] == ["active", "resolved", "active"]
    assert len({event["alert_id"] for event in events}) == 2


@pytest.mark.parametrize(
    ("what", "second"),
    [
        ("a second breach", message(10, (HR, 140.0))),
        ("a value in the margin", message(10, (HR, 117.0))),
        ("no usable value", message(10, (HR, None))),
        ("another signal", message(10, (SPO2, 98.0))),
        ("no readings", message(10)),
        ("an earlier normal value", message(-1, (HR, 80.0))),
        ("a normal value of the same instant", message(0, (HR, 80.0), message_id="other")),
        ("a normal value that was entered in error", message(10, (HR, 80.0), status="entered-in-error")),
    ],
)
def test_an_alert_stays_open_after(what: str, second: Evaluation) -> None:
    alerts, events = play(message(0, (HR, 130.0)), second)
    assert [event["state"] for event in events] == ["active"], what
    assert alerts["heart-rate-high"].open


def test_a_margin_value_does_not_open() -> None:
    assert transitions(message(0, (HR, 118.0))) == []


def test_a_value_entered_in_error_does_not_open() -> None:
    assert transitions(message(0, (HR, 200.0), status="entered-in-error")) == []


def test_a_late_normal_value_does_not_resolve_what_a_later_breach_kept_open() -> None:
    assert transitions(message(0, (HR, 130.0)), message(20, (HR, 130.0)), message(10, (HR, 80.0), late=12)) == [
        ("heart-rate-high", "active", "breach")
    ]


def test_a_late_breach_does_not_reopen() -> None:
    assert transitions(message(0, (HR, 130.0)), message(20, (HR, 80.0)), message(10, (HR, 140.0), late=12)) == [
        ("heart-rate-high", "active", "breach"),
        ("heart-rate-high", "resolved", "cleared"),
    ]


def test_a_new_breach_after_a_resolution_is_another_alert() -> None:
    _, events = play(message(0, (HR, 130.0)), message(20, (HR, 80.0)), message(30, (HR, 140.0)))
    assert [(event["alert_id"], event["sequence"]) for event in events] == [
        (alert_id("hospital/1", "heart-rate-high", "m0", T0), 0),
        (alert_id("hospital/1", "heart-rate-high", "m0", T0), 1),
        (alert_id("hospital/1", "heart-rate-high", "m30", T0 + 30_000), 0),
    ]


@pytest.mark.parametrize("value", [35.0, 42.0])
def test_a_value_beyond_or_near_the_opposite_limit_resolves(value: float) -> None:
    found = transitions(message(0, (HR, 130.0)), message(10, (HR, value)))
    assert found[:2] == [("heart-rate-high", "active", "breach"), ("heart-rate-high", "resolved", "cleared")]
    assert found[2:] == ([("heart-rate-low", "active", "breach")] if value < 40 else [])


def test_one_message_may_open_several_alerts() -> None:
    assert transitions(message(0, (HR, 130.0), (SPO2, 80.0))) == [
        ("heart-rate-high", "active", "breach"),
        ("spo2-low", "active", "breach"),
    ]


def test_a_message_that_comes_much_later_than_it_was_observed_opens_nothing() -> None:
    done = step({}, message(0, (HR, 130.0), late=601), definition)
    assert (done.events, done.stale) == ((), 1)
    assert transitions(message(0, (HR, 130.0), late=600)) == [("heart-rate-high", "active", "breach")]


def test_a_source_with_a_shifted_clock_is_never_too_late() -> None:
    assert transitions(message(0, (HR, 130.0), late=10**9, source="mimic-iv")) == [
        ("heart-rate-high", "active", "breach")
    ]


def test_a_rule_with_a_delay_is_pending_until_the_breach_has_lasted() -> None:
    assert transitions(
        message(0, (HR, 130.0)),
        message(14, (HR, 130.0)),
        message(15, (HR, 130.0)),
        message(16, (HR, 130.0)),
        message(30, (HR, 80.0)),
        definition_of=delayed,
    ) == [
        ("heart-rate-high", "pending", "breach"),
        ("heart-rate-high", "active", "sustained"),
        ("heart-rate-high", "resolved", "cleared"),
    ]


def test_a_breach_shorter_than_the_delay_never_becomes_active() -> None:
    assert transitions(message(0, (HR, 130.0)), message(14, (HR, 80.0)), definition_of=delayed) == [
        ("heart-rate-high", "pending", "breach"),
        ("heart-rate-high", "resolved", "cleared"),
    ]


def test_an_alert_keeps_the_rule_that_opened_it() -> None:
    alerts, _ = play(message(0, (HR, 130.0)))
    _, events = play(message(10, (HR, 80.0), pack="adult@2"), alerts=alerts, definition_of=delayed)
    assert [(e["pack"], e["priority"], e["limit_value"]) for e in events] == [("adult@1", "medium", 120.0)]


VALUES = st.sampled_from(
    [(HR, 130.0), (HR, 118.0), (HR, 80.0), (HR, 42.0), (HR, 30.0), (HR, None), (SPO2, 80.0), (SPO2, 99.0)]
)
MESSAGES = st.lists(
    st.builds(
        lambda at, number, values, late: message(at, *values, late=late, message_id=f"m{at}.{number}"),
        st.integers(0, 30),
        st.integers(0, 2),
        st.lists(VALUES, max_size=2),
        st.sampled_from([0, 1, 700]),
    ),
    max_size=30,
)
DEFINITIONS = st.sampled_from(
    [definition, lambda rule_id: Definition(rule_id, rule_id, "low", "physiological", delay_ms=5000)]
)


@given(MESSAGES, DEFINITIONS)
def test_whatever_comes_no_rule_has_two_open_alerts_and_sequences_are_dense(
    messages: list[Evaluation], definition_of: Any
) -> None:
    _, events = play(*messages, definition_of=definition_of)
    states: defaultdict[str, list[tuple[int, str]]] = defaultdict(list)
    open_now: Counter[str] = Counter()
    for event in events:
        states[event["alert_id"]].append((event["sequence"], event["state"]))
        open_now[event["rule_id"]] += {0: 1}.get(event["sequence"], 0) - (event["state"] == "resolved")
        assert open_now[event["rule_id"]] in (0, 1)
    for found in states.values():
        assert [sequence for sequence, _ in found] == list(range(len(found)))
        assert all(state != "resolved" for _, state in found[:-1])


@given(MESSAGES)
def test_every_message_twice_in_a_row_is_every_message_once(messages: list[Evaluation]) -> None:
    assert play(*(one for each in messages for one in (each, each)))[1] == play(*messages)[1]


# What people, other alerts and the clock do to an alert.

CLOCK = Origin("hospital/1", T0, "adult@1", "ICU", "4", "monitor-1")
STEPS = (Level(120_000, ("charge-nurse",)), Level(300_000, ("rapid-response",)))


def at(seconds: float) -> Origin:
    return replace(CLOCK, now=T0 + round(seconds * 1000))


def opened(**fields: Any) -> Alerts:
    """A heart rate of 130 at T0, under a rule with these fields."""
    rule = replace(definition("heart-rate-high"), escalation=STEPS, **fields)
    return play(message(0, (HR, 130.0)), definition_of=lambda _: rule)[0]


def told(moved: Moved) -> list[tuple[str, str]]:
    return [(event["state"], event["reason"]) for event in moved.events]


def no_silence(_: str) -> None:
    return None


def test_a_breach_that_nothing_follows_becomes_active_after_its_delay() -> None:
    pending = opened(delay_ms=15_000)
    assert told(pass_time(pending, at(14.9))) == []
    active = pass_time(pending, at(15))
    assert told(active) == [("active", "sustained")]
    assert active.alerts["heart-rate-high"].active_at == T0 + 15_000


def test_an_end_must_last_where_the_rule_says_so() -> None:
    alerts = opened(resolve_after_ms=30_000)
    rule = alerts["heart-rate-high"].definition
    clear, events = play(message(10, (HR, 80.0)), message(39, (HR, 80.0)), alerts=alerts, definition_of=lambda _: rule)
    assert events == []
    assert [e["state"] for e in play(message(40, (HR, 80.0)), alerts=clear)[1]] == ["resolved"]
    # A breach in between begins it anew.
    again, _ = play(message(39, (HR, 130.0)), message(41, (HR, 80.0)), alerts=alerts)
    assert told(pass_time(again, at(70))) == []
    assert told(pass_time(again, at(71))) == [("resolved", "cleared")]


def test_nobody_answers_and_the_steps_are_told_one_after_another() -> None:
    alerts = opened()
    assert told(pass_time(alerts, at(119))) == []
    first = pass_time(alerts, at(120))
    assert [(e["state"], e["reason"], e["escalation_step"]) for e in first.events] == [("escalated", "unanswered", 1)]
    assert told(pass_time(first.alerts, at(299))) == []
    second = pass_time(first.alerts, at(300))
    assert [(e["state"], e["escalation_step"]) for e in second.events] == [("escalated", 2)]
    assert told(pass_time(second.alerts, at(10_000))) == []


@pytest.mark.parametrize("escalated", [False, True])
def test_who_acknowledges_ends_the_escalation_and_a_normal_value_then_resolves(escalated: bool) -> None:
    alerts = pass_time(opened(), at(130)).alerts if escalated else opened()
    name = alerts["heart-rate-high"].alert_id
    taken = acknowledge(alerts, name, at(140), actor="nurse on duty", note="on my way")
    (event,) = taken.events
    assert (event["state"], event["actor"], event["note"]) == ("acknowledged", "nurse on duty", "on my way")
    assert told(acknowledge(taken.alerts, name, at(141), actor="another", note=None)) == []
    assert told(pass_time(taken.alerts, at(10_000))) == []
    _, events = play(message(200, (HR, 80.0)), alerts=taken.alerts)
    assert [e["state"] for e in events] == ["resolved"]


def test_an_alert_of_another_name_is_not_acknowledged() -> None:
    assert told(acknowledge(opened(), "0" * 32, at(1), actor="nurse", note=None)) == []


def test_a_silence_mutes_and_its_end_sounds_again_with_the_steps_anew() -> None:
    alerts = opened()
    muted = settle(alerts, lambda _: "silence-1", at(10))
    assert [(e["state"], e["reason"], e["muted_by"]) for e in muted.events] == [("silenced", "silenced", "silence-1")]
    assert told(settle(muted.alerts, lambda _: "silence-1", at(11))) == []
    assert told(pass_time(muted.alerts, at(10_000))) == []
    sounding = settle(muted.alerts, no_silence, at(500))
    assert told(sounding) == [("active", "unmuted")]
    assert told(pass_time(sounding.alerts, at(619))) == []
    assert told(pass_time(sounding.alerts, at(620))) == [("escalated", "unanswered")]


def test_an_open_alert_mutes_those_that_its_rule_inhibits_until_it_ends() -> None:
    def of(rule_id: str) -> Definition:
        return replace(definition(rule_id), inhibits=("spo2-low",) if rule_id == "heart-rate-high" else ())

    both, _ = play(message(0, (HR, 130.0), (SPO2, 80.0)), definition_of=of)
    muted = settle(both, no_silence, at(0))
    assert [(e["rule_id"], e["reason"], e["muted_by"]) for e in muted.events] == [
        ("spo2-low", "inhibited", "heart-rate-high")
    ]
    clear, _ = play(message(10, (HR, 80.0), (SPO2, 80.0)), alerts=muted.alerts, definition_of=of)
    assert [(e["rule_id"], e["state"]) for e in settle(clear, no_silence, at(10)).events] == [("spo2-low", "active")]


def test_a_latching_alert_stays_until_somebody_acknowledges_it() -> None:
    alerts = opened(latching=True)
    latched, events = play(message(10, (HR, 80.0)), alerts=alerts)
    assert [(e["state"], e["reason"]) for e in events] == [("latched", "cleared_unacknowledged")]
    _, again = play(message(20, (HR, 131.0)), alerts=latched)
    assert [(e["state"], e["reason"]) for e in again] == [("active", "breached_again")]
    name = alerts["heart-rate-high"].alert_id
    assert told(acknowledge(latched, name, at(30), actor="nurse", note=None)) == [("resolved", "acknowledged")]
    # One that was acknowledged first does not latch.
    taken = acknowledge(alerts, name, at(5), actor="nurse", note=None)
    assert [e["state"] for e in play(message(10, (HR, 80.0)), alerts=taken.alerts)[1]] == ["resolved"]


@pytest.mark.parametrize(
    ("what", "message_", "expected"),
    [
        ("entered in error", message(0, (HR, 130.0), status="entered-in-error"), ["superseded"]),
        ("corrected to a normal value", message(0, (HR, 80.0), status="corrected", message_id="c"), ["superseded"]),
        ("amended to a value in the margin", message(0, (HR, 118.0), status="amended", message_id="c"), ["superseded"]),
        ("corrected to another breach", message(0, (HR, 140.0), status="corrected", message_id="c"), []),
        ("another signal's correction", message(0, (SPO2, 99.0), status="corrected", message_id="c"), []),
        ("another instant's", message(-5, (HR, 80.0), status="corrected", message_id="c"), []),
        ("another device's", message(0, (HR, 80.0), status="corrected", device_id="monitor-2"), []),
    ],
)
def test_an_alert_whose_reading_is_taken_back_is_superseded(
    what: str, message_: Evaluation, expected: list[str]
) -> None:
    assert [e["state"] for e in play(message_, alerts=opened())[1]] == expected, what


def test_an_alert_that_a_later_breach_confirms_is_not_superseded_and_a_resolved_one_is() -> None:
    error = message(0, (HR, 130.0), status="entered-in-error")
    confirmed, _ = play(message(10, (HR, 131.0)), alerts=opened())
    assert play(error, alerts=confirmed)[1] == []
    resolved, _ = play(message(10, (HR, 80.0)), alerts=opened())
    assert [(e["state"], e["reason"]) for e in play(error, alerts=resolved)[1]] == [("superseded", "entered_in_error")]


def test_a_rule_that_the_pack_no_longer_has_closes_its_alert() -> None:
    assert told(withdraw_rules(opened(), {"heart-rate-high"}, at(5))) == []
    assert told(withdraw_rules(opened(), {"spo2-low"}, at(5))) == [("resolved", "rule_withdrawn")]


def test_an_alert_of_a_patient_who_is_gone_is_abandoned() -> None:
    assert told(abandon(opened(), at(90_000))) == [("resolved", "abandoned")]


def test_every_open_state_has_a_way_to_its_end_and_what_is_superseded_has_none() -> None:
    assert {state for state, _ in NEXT} == set(State) - {State.SUPERSEDED}
    for state in OPEN:
        reached, front = {state}, {state}
        while front:
            front = {after for (before, _), after in NEXT.items() if before in front} - reached
            reached |= front
        assert {State.RESOLVED, State.SUPERSEDED} <= reached
    assert all((state, Trigger.ENTERED_IN_ERROR) in NEXT for state in set(State) - {State.SUPERSEDED})
