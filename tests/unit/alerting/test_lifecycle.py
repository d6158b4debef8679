from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from alerting.bands import arms, band_of
from alerting.evaluation import Evaluation, Reading
from alerting.lifecycle import Alerts, Definition, Event, State, alert_id, define, step
from alerting.pack import load

ADULT = load("adult")
ARMS = arms(ADULT)
HR, SPO2 = "8867-4", "59408-5"
T0 = 1_700_000_000_000


def definition(rule_id: str) -> Definition:
    rule = ADULT.rule(rule_id)
    assert rule is not None
    return define(rule)


def delayed(rule_id: str) -> Definition:
    return Definition(rule_id, "Heart rate high", "medium", "physiological", delay_ms=15_000)


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
        "observed_at": T0,
        "message_id": "m0",
        "message_received_at": T0 + 1000,
    }
    resolved = {
        **opened,
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
    assert set(events[0]) == {column.name for column in ALERT_EVENT.columns} - {"emitted_at"} | {"schema_version"}


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


def test_every_state_but_the_last_has_a_way_out() -> None:
    from alerting.lifecycle import NEXT, OPEN

    assert {state for state, _ in NEXT} == OPEN == set(State) - {State.RESOLVED}
