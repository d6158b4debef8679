"""Rules of every kind in one pack: packs and limits that change, corrections, and a router that is started again."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alerting.command import Acknowledge, Silence
from alerting.lifecycle import OPEN
from alerting.limits import LimitError, OwnLimits
from lakehouse.vocabulary import signal_by_name
from tests.fixtures.bedside import T0, Bedside, Transition, ms, pack_of, rule

HR = signal_by_name()["heart_rate"].code
STEPS = [{"after_s": 120, "channels": ["charge-nurse"]}, {"after_s": 300, "channels": ["rapid-response"]}]
HANDLING: dict[str, dict[str, Any]] = {
    "high": {"channels": ["nurse"], "escalation": STEPS, "group_s": 10},
    "medium": {"channels": ["nurse"], "escalation": STEPS[:1], "group_s": 60},
    "low": {"channels": ["biomed"], "group_s": 300},
}
HIGH = rule("fast", "limit", signal="heart_rate", direction="above", limit=120, clear_margin=5)
LOW = rule("slow", "limit", signal="heart_rate", direction="below", limit=40, clear_margin=5, latching=True)
SPO2 = rule("spo2-low", "limit", signal="spo2", direction="below", limit=90, clear_margin=2, priority="high")
NEWS2 = rule("news2", "score", score="news2", at_least=5, clear_margin=1)
TECHNICAL: dict[str, Any] = {"category": "technical", "priority": "low"}
ALL = pack_of(
    {**HIGH, "delay_s": 15, "resolve_after_s": 30},
    {**LOW, "delay_s": 10},
    {**SPO2, "delay_s": 15},
    NEWS2,
    rule("falling", "rate", signal="systolic_bp", direction="fall", change=40, window_s=600, clear_margin=10),
    rule(
        "shock",
        "combination",
        conditions=[
            {"signal": "heart_rate", "direction": "above", "limit": 110},
            {"signal": "systolic_bp", "direction": "below", "limit": 100, "clear_margin": 5},
        ],
        within_s=900,
        inhibits=["fast"],
    ),
    rule("silent", "silence", after_s=60, **TECHNICAL),
    rule("spo2-silent", "silence", signal="spo2", after_s=120, **TECHNICAL),
    rule("flat", "flat_line", signal="heart_rate", after_s=20, readings=5, **TECHNICAL),
    rule("probe-off", "no_value", signal="spo2", delay_s=30, inhibits=["spo2-silent"], **TECHNICAL),
    rule("lead-off", "device", measure="lead_off", inhibits=["fast", "slow"], **TECHNICAL),
    rule("battery", "device", measure="battery", limit=20, clear_margin=10, **TECHNICAL),
    rule("skew", "device", measure="clock_skew", limit=120, clear_margin=60, delay_s=300, **TECHNICAL),
    **HANDLING,
)


def own(high: float, code: str = HR) -> OwnLimits:
    return OwnLimits("hospital/1", code, high, None, set_at=T0)


# Packs and limits


def test_a_pack_that_cannot_take_own_limits_is_in_force_all_the_same_and_gives_them_back_when_it_goes() -> None:
    ward = Bedside(pack_of(HIGH, SPO2))
    spo2 = OwnLimits("hospital/1", signal_by_name()["spo2"].code, None, 85, set_at=T0)
    ward.engine.limit("hospital/1", HR, own(140))
    ward.engine.limit("hospital/1", spo2.code, spo2)
    assert ward.changes_to(pack_of(LOW, SPO2, version=2), 1) == (own(140),)
    assert ward.hears(2, heart_rate=150.0, spo2=87.0) == []
    assert ward.changes_to(pack_of(HIGH, SPO2), 3) == ()
    assert ward.hears(4, heart_rate=130.0, spo2=87.0) == []
    assert ward.hears(5, heart_rate=141.0) == [("fast", "active", "own_limit_breach")]


def test_own_limits_that_the_pack_cannot_take_keep_no_others_from_being_set_and_taken_back() -> None:
    ward = Bedside(pack_of(HIGH, SPO2))
    ward.engine.limit("hospital/1", HR, own(140))
    ward.changes_to(pack_of(LOW, SPO2, version=2), 1)
    code = signal_by_name()["spo2"].code
    ward.engine.limit("hospital/1", code, OwnLimits("hospital/1", code, None, 85, set_at=T0))
    assert ward.hears(2, spo2=87.0) == []
    ward.engine.limit("hospital/1", code, None)
    assert ward.hears(3, spo2=87.0) == [("spo2-low", "active", "breach")]
    with pytest.raises(LimitError):
        ward.engine.limit("hospital/1", HR, own(140))


def test_an_own_limit_leaves_the_other_limit_of_the_signal_as_the_unit_has_it() -> None:
    of_unit = {"STEP": {"limit": 30, "clear_margin": 2, "rationale": "r"}}
    ward = Bedside(pack_of(HIGH, {**LOW, "units": of_unit}))
    ward.engine.limit("hospital/1", HR, own(140))
    assert ward.hears(0, heart_rate=35.0, location_unit="STEP") == []
    assert ward.hears(1, heart_rate=35.0, location_unit="ICU") == [("slow", "active", "breach")]


def test_an_alert_of_a_rule_that_is_unknown_here_is_told_as_a_high_one_is() -> None:
    ward = Bedside(pack_of(HIGH, **HANDLING))
    odd = ward.message(0, heart_rate=130.0)
    ward.engine.evaluate(0, odd._replace(readings=tuple(each._replace(rule="newer") for each in odd.readings)))
    assert ward.moved() == [("newer", "active", "breach")]
    ward.ticks(120)
    assert [(one.reason, one.priority, one.channels) for one in ward.told] == [
        ("raised", "high", ("nurse",)),
        ("escalated", "high", ("charge-nurse",)),
    ]


# Places


def test_a_message_that_does_not_say_where_the_patient_is_moves_nobody_out_of_a_silenced_unit() -> None:
    ward = Bedside(pack_of(HIGH, SPO2))
    ward.engine.command(Silence("s", T0, "dr on duty", "works", ms(900), location_unit="ICU"), T0, {0})
    here: dict[str, Any] = {"location_unit": "ICU", "location_bed": "4"}
    assert ward.hears(0, heart_rate=130.0, **here)[1:] == [("fast", "silenced", "silenced")]
    assert ward.hears(1, temperature=37.0) == []
    assert ward.hears(2, spo2=80.0)[1:] == [("spo2-low", "silenced", "silenced")]
    assert {(event["location_unit"], event["location_bed"]) for event in ward.events} == {("ICU", "4")}
    # Another unit does.
    assert ward.hears(3, heart_rate=131.0, location_unit="RESP") == [
        ("fast", "active", "unmuted"),
        ("spo2-low", "active", "unmuted"),
    ]


# Commands that a router reads again


def test_a_silence_that_ended_before_the_last_message_mutes_nothing_when_it_is_read_again() -> None:
    ward = Bedside(pack_of(HIGH))
    ward.hears(1000, heart_rate=130.0)
    ward.engine.command(Silence("s", T0, "dr on duty", "works", ms(900), patient_id="hospital/1"), T0, {0})
    assert ward.moved() == []


def test_an_acknowledgement_that_is_read_again_changes_nothing_else() -> None:
    ward = Bedside(pack_of(HIGH, SPO2))
    ward.hears(0, heart_rate=130.0)
    name = ward.engine.patients["hospital/1"].alerts["fast"].alert_id
    command = Acknowledge("c", ms(1), "nurse", "hospital/1", name)
    ward.engine.command(command, ms(1), {0})
    ward.engine.command(Silence("s", ms(2), "dr", "works", ms(90), patient_id="hospital/1"), ms(2), {0})
    ward.hears(100, spo2=80.0)
    assert ward.moved() == []
    assert not ward.engine.command(command, ms(1), {0})
    assert ward.moved() == []


# Corrections of what a score rests on


def of_round(ward: Bedside, at: float, **values: float) -> list[Transition]:
    return [found for name, value in values.items() for found in ward.hears(at, received=at + 60, **{name: value})]


@pytest.mark.parametrize(
    ("what", "correction", "expected"),
    [
        ("another breach", {"respiratory_rate": 27.0, "status": "corrected"}, []),
        ("no breach", {"respiratory_rate": 16.0, "status": "corrected"}, [("news2", "superseded", "corrected")]),
        ("less, and still one", {"temperature": 37.0, "status": "corrected"}, []),
        ("error, and still one", {"temperature": 39.5, "status": "entered-in-error"}, []),
        (
            "error",
            {"respiratory_rate": 26.0, "status": "entered-in-error"},
            [("news2", "superseded", "entered_in_error")],
        ),
    ],
)
def test_a_score_is_superseded_only_where_it_does_not_hold_without_what_was_wrong(
    what: str, correction: dict[str, Any], expected: list[Transition]
) -> None:
    ward = Bedside(pack_of(NEWS2))
    # 3, 2 and 2 points.
    found = of_round(ward, 0, respiratory_rate=26.0, temperature=39.5, heart_rate=110.0, oxygen_flow=0.0, spo2=95.0)
    assert found == [("news2", "active", "breach")]
    assert ward.hears(0, received=120, **correction) == expected, what


# Whatever comes

VALUES: dict[str, list[float | str | None]] = {
    "heart_rate": [35.0, 80.0, 80.0, 80.0, 112.0, 118.0, 130.0, None],
    "spo2": [80.0, 91.0, 97.0, None],
    "systolic_bp": [85.0, 97.0, 120.0, 150.0],
    "respiratory_rate": [16.0, 26.0],
    "oxygen_flow": [0.0, 2.0],
    "consciousness": ["A", "V", "X"],
    "temperature": [37.0, 39.5],
}
FIELDS = st.fixed_dictionaries(
    {},
    optional={
        **{name: st.sampled_from(values) for name, values in VALUES.items()},
        "lead_off": st.booleans(),
        "battery": st.sampled_from([10.0, 25.0, 90.0]),
        "device_id": st.sampled_from(["monitor-1", "monitor-2"]),
        "status": st.sampled_from(["final", "final", "corrected", "entered-in-error"]),
        "location_unit": st.sampled_from(["ICU", "RESP"]),
    },
)
STEP = st.tuples(
    st.sampled_from(["message", "message", "message", "messages", "tick", "acknowledge"]),
    # How long after the one before, at the broker, and how far off the device's clock is.
    st.sampled_from([0.0, 0.4, 1.0, 5.0, 20.0, 70.0, 400.0, 4000.0]),
    st.sampled_from([0.0, 0.0, 0.0, -1.5, 4.0, 200.0, -700.0]),
    FIELDS,
)


def play(ward: Bedside, steps: list[tuple[str, float, float, dict[str, Any]]], restarts: frozenset[int]) -> None:
    clock = 0.0
    for number, (what, later, off, fields) in enumerate(steps):
        if number in restarts:
            ward.restarts()
        clock += later
        if what == "tick":
            ward.ticks(clock)
        elif what == "acknowledge":
            patient = ward.engine.patients.get(ward.patient)
            for alert in list(patient.alerts.values()) if patient else ():
                command = Acknowledge("c", ms(clock), "nurse", ward.patient, alert.alert_id)
                ward.engine.command(command, ms(clock), {0})
            ward.moved()
        else:
            for _ in range(12 if what == "messages" else 1):
                clock += what == "messages"
                ward.hears(clock + off, received=clock, **fields)


@settings(deadline=None)
@given(st.lists(STEP, max_size=25), st.frozensets(st.integers(0, 24), max_size=6))
def test_a_router_that_is_started_again_decides_and_tells_what_one_that_went_on_does(
    steps: list[tuple[str, float, float, dict[str, Any]]], restarts: frozenset[int]
) -> None:
    went_on, started_again = Bedside(ALL), Bedside(ALL)
    play(went_on, steps, frozenset())
    play(started_again, steps, restarts)
    assert started_again.events == went_on.events
    assert started_again.told == went_on.told


@settings(deadline=None)
@given(st.lists(STEP, max_size=25))
def test_whatever_comes_one_alert_of_a_rule_is_open_at_most_and_each_is_told_or_named_or_muted(
    steps: list[tuple[str, float, float, dict[str, Any]]],
) -> None:
    ward = Bedside(ALL)
    play(ward, steps, frozenset())
    stories: dict[str, list[dict[str, Any]]] = {}
    open_by_rule: dict[str, str] = {}
    for event in ward.events:
        story = stories.setdefault(event["alert_id"], [])
        assert event["sequence"] == len(story)
        assert open_by_rule.get(event["rule_id"], event["alert_id"]) == event["alert_id"] or story
        if event["state"] in OPEN:
            open_by_rule[event["rule_id"]] = event["alert_id"]
        elif open_by_rule.get(event["rule_id"]) == event["alert_id"]:
            del open_by_rule[event["rule_id"]]
        story.append(event)
    named = {alert.alert_id for one in ward.told for alert in one.alerts}
    patient = ward.engine.patients.get(ward.patient)
    waiting = {name for group in patient.groups.values() for name in group.waiting} if patient else set()
    for alert_id, story in stories.items():
        became_active = [n for n, event in enumerate(story) if event["state"] == "active"]
        heard_of = alert_id in named | waiting
        # One that was muted in the instant in which it became active, and never after, is told to nobody.
        muted = all(n + 1 < len(story) and story[n + 1]["state"] == "silenced" for n in became_active)
        assert heard_of or muted
        taken_on = [n for n, event in enumerate(story) if event["state"] == "acknowledged"]
        assert not any(event["state"] == "escalated" for n in taken_on for event in story[n:])
    assert len({one.notification_id for one in ward.told}) == len(ward.told)
