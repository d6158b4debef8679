"""Who is told what and when, of messages, the clock and commands, through the engine."""

from typing import Any

from alerting.command import Acknowledge, Silence
from tests.fixtures.bedside import Bedside, ms, pack_of, rule

HANDLING: dict[str, dict[str, Any]] = {
    "high": {"channels": ["nurse"], "escalation": [{"after_s": 120, "channels": ["charge-nurse"]}], "group_s": 10},
    "medium": {"channels": ["nurse"], "group_s": 120},
    "low": {"channels": ["biomed"], "group_s": 600},
}


def limit(rule_id: str, signal: str, above: float, priority: str, **fields: Any) -> dict[str, Any]:
    declared = {"signal": signal, "direction": "above", "limit": above, "clear_margin": 1, "priority": priority}
    return rule(rule_id, "limit", **{**declared, **fields})


FAST = limit("fast", "heart_rate", 120, "medium")
PANTING = limit("panting", "respiratory_rate", 30, "medium")
PRESSURE = limit("pressure", "systolic_bp", 180, "high")
FEVER = limit("fever", "temperature", 38.5, "low")
ALL = pack_of(FAST, PANTING, PRESSURE, FEVER, **HANDLING)


def acknowledge(ward: Bedside, rule_id: str, at: float, *, said: float | None = None) -> None:
    name = ward.engine.patients[ward.patient].alerts[rule_id].alert_id
    command = Acknowledge("c", ms(at if said is None else said), "nurse on duty", ward.patient, name)
    ward.engine.command(command, ms(at), {0})


def told(ward: Bedside) -> list[tuple[float, str, tuple[str, ...], list[str]]]:
    """Seconds, reason, channels and rules."""
    return [
        ((one.at - ms(0)) / 1000, one.reason, one.channels, [alert.rule_id for alert in one.alerts])
        for one in ward.told
    ]


def test_the_first_alert_is_told_at_once_and_those_after_it_together_when_the_group_time_is_over() -> None:
    ward = Bedside(ALL)
    ward.hears(0, heart_rate=130.0)
    ward.hears(5, temperature=39.0)
    ward.hears(6, respiratory_rate=40.0)
    for at in (119, 120, 121, 600, 605):
        ward.ticks(at)
    assert told(ward) == [
        (0, "raised", ("nurse",), ["fast"]),
        (120, "grouped", ("biomed", "nurse"), ["panting", "fever"]),
    ]


def test_an_alert_of_a_higher_priority_does_not_wait_and_takes_along_what_waits() -> None:
    ward = Bedside(ALL)
    ward.hears(0, heart_rate=130.0)
    ward.hears(1, respiratory_rate=40.0)
    ward.hears(2, systolic_bp=200.0)
    # As urgent as what was told last, the next one waits for its own group time.
    ward.hears(3, respiratory_rate=16.0)
    ward.hears(4, respiratory_rate=40.0)
    ward.ticks(122)
    assert told(ward) == [
        (0, "raised", ("nurse",), ["fast"]),
        (2, "grouped", ("nurse",), ["pressure", "panting"]),
        (122, "escalated", ("charge-nurse",), ["pressure"]),
    ]
    ward.ticks(242)
    assert told(ward)[3:] == [(242, "grouped", ("nurse",), ["panting"])]


def test_what_ended_or_was_taken_on_before_it_was_told_is_named_and_not_told() -> None:
    ward = Bedside(ALL)
    ward.hears(0, heart_rate=130.0)
    ward.hears(1, respiratory_rate=40.0, temperature=39.0)
    ward.hears(2, respiratory_rate=16.0)
    acknowledge(ward, "fever", 3)
    ward.moved()
    ward.ticks(700)
    assert told(ward) == [
        (0, "raised", ("nurse",), ["fast"]),
        (2, "ended_before_told", (), ["panting"]),
        (3, "ended_before_told", (), ["fever"]),
    ]


def test_what_is_silenced_before_it_was_told_is_named_and_told_when_the_silence_ends() -> None:
    ward = Bedside(ALL)
    ward.hears(0, heart_rate=130.0)
    ward.hears(1, respiratory_rate=40.0)
    silence = Silence("s", ms(2), "dr on duty", "physiotherapy", ms(300), rule_id="panting")
    ward.engine.command(silence, ms(2), {0})
    ward.moved()
    for at in (150, 299, 300):
        ward.ticks(at)
    assert told(ward) == [
        (0, "raised", ("nurse",), ["fast"]),
        (2, "ended_before_told", (), ["panting"]),
        (300, "raised", ("nurse",), ["panting"]),
    ]


def test_an_escalation_is_told_to_its_channels_and_stops_when_somebody_acknowledges() -> None:
    for answered, expected in ((119, []), (121, [(120, "escalated", ("charge-nurse",), ["pressure"])])):
        ward = Bedside(ALL)
        ward.hears(0, systolic_bp=200.0)
        for at in range(1, 400):
            if at == answered:
                acknowledge(ward, "pressure", at)
            ward.ticks(at)
        assert told(ward)[1:] == expected


def test_who_acknowledges_by_a_clock_that_is_hours_ahead_holds_back_nothing_that_comes_after() -> None:
    ward = Bedside(ALL)
    ward.hears(0, heart_rate=130.0)
    ward.hears(1, respiratory_rate=40.0)
    acknowledge(ward, "fast", 2, said=3 * 3600)
    ward.moved()
    ward.ticks(120)
    assert told(ward) == [(0, "raised", ("nurse",), ["fast"]), (120, "grouped", ("nurse",), ["panting"])]


def test_what_a_device_sends_at_once_after_a_fault_of_the_network_is_told() -> None:
    ward = Bedside(pack_of({**FAST, "delay_s": 15}))
    # The broker gives one instant to all that comes in one batch.
    for at in range(20):
        ward.hears(at, received=20, heart_rate=130.0)
    assert [(event["state"], event["reason"]) for event in ward.events] == [
        ("pending", "breach"),
        ("active", "sustained"),
    ]
    assert told(ward) == [(20, "raised", ("nurse",), ["fast"])]


def test_what_stops_being_inhibited_in_the_instant_in_which_it_began_is_told() -> None:
    ward = Bedside(pack_of(FAST, {**PANTING, "inhibits": ["fast"], "channels": []}))
    ward.hears(0, received=5, heart_rate=130.0, respiratory_rate=40.0)
    ward.hears(1, received=5, respiratory_rate=16.0)
    assert [(event["rule_id"], event["state"]) for event in ward.events] == [
        ("fast", "active"),
        ("panting", "active"),
        ("fast", "silenced"),
        ("panting", "resolved"),
        ("fast", "active"),
    ]
    assert told(ward) == [(5, "raised", ("nurse",), ["fast"])]


def test_a_rule_that_tells_nobody_is_not_told() -> None:
    ward = Bedside(pack_of({**FAST, "channels": []}))
    ward.hears(0, heart_rate=130.0)
    ward.ticks(1000)
    assert (len(ward.events), ward.told) == (1, [])


def test_an_alert_is_told_with_its_value_its_limit_and_where_it_comes_from() -> None:
    ward = Bedside(ALL)
    for minute in range(4):
        ward.hears(minute * 60, heart_rate=80.0 + 10 * minute, location_unit="ICU", location_bed="4")
    ward.hears(240, heart_rate=130.0, location_unit="ICU", location_bed="4")
    (one,) = ward.told
    (alert,) = one.alerts
    assert (one.location_unit, one.location_bed, one.message_received_at, one.pack) == ("ICU", "4", ms(240), "tried@1")
    assert (alert.value, alert.limit_value, alert.since, alert.state) == (130.0, 120.0, ms(240), "active")
    assert (alert.trend, alert.trend_from, alert.trend_s) == ("rising", 80.0, 240)


def test_a_flood_is_told_rarely_and_names_every_alert() -> None:
    ward, again = Bedside(ALL), Bedside(ALL)
    for one in (ward, again):
        for at in range(1000):
            one.hears(at, heart_rate=130.0 if at % 2 else 80.0)
        one.ticks(1200)
    opened = [event["alert_id"] for event in ward.events if event["sequence"] == 0]
    assert len(opened) == len(set(opened)) == 500
    raised = [at for at, _, channels, _ in told(ward) if channels]
    # Nothing of what was told is open any more when the next one comes: it is told, but once a minute.
    assert raised == [*range(1, 1000, 60), 1200]
    assert {alert.alert_id for one in ward.told for alert in one.alerts} == set(opened)
    # The same again is the same to the letter, and no two decisions share a name.
    assert (ward.told, ward.events) == (again.told, again.events)
    assert len({one.notification_id for one in ward.told}) == len(ward.told)
