from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from alerting.bands import arms, band_of
from alerting.command import Silence
from alerting.evaluation import Evaluation, Reading
from alerting.kinds import Rule
from alerting.limits import OwnLimits
from alerting.pack import Pack
from alerting.why_not import Answer, Evidence, Question, span_needed, why_not
from tests.fixtures.packs import kinds_pack

KINDS = kinds_pack()
ARMS = arms(KINDS)
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NOON_MS = round(NOON.timestamp() * 1000)
HR, SPO2, RR = "8867-4", "59408-5", "9279-1"
Row = dict[str, Any]


def message(seconds: float, *values: tuple[str, float | None], late: float = 0, **more: Any) -> Evaluation:
    """A message observed so many seconds after noon; a value of None is one that a sensor did not give."""
    readings = []
    for code, value in values:
        band = band_of(ARMS, code, value)
        fault = "sensor_disconnected" if value is None else None
        readings.append(Reading(code, band.band, value, band.rule, band.limit, None, fault))
    at = NOON_MS + round(seconds * 1000)
    made = Evaluation(
        pack=KINDS.label,
        message_id=f"m{seconds:g}",
        patient_id="hospital/7",
        device_id="monitor-1",
        source="simulator",
        status="final",
        partition=0,
        offset=round((seconds + late + 100_000) * 10),
        observed_at=at,
        received_at=at + round(late * 1000),
        readings=tuple(readings),
    )
    return made._replace(**more)


def every(start: int, stop: int, step: int, *values: tuple[str, float | None]) -> list[Evaluation]:
    return [message(second, *values) for second in range(start, stop, step)]


def at(seconds: float) -> datetime:
    return NOON + timedelta(seconds=seconds)


def event(sequence: int, state: str, reason: str, seconds: float, **more: Any) -> Row:
    return {
        "alert_id": "aa11",
        "sequence": sequence,
        "state": state,
        "reason": reason,
        "rule_id": "spo2-low",
        "title": "SpO2 low",
        "kind": "limit",
        "pack": "kinds@1",
        "priority": "high",
        "category": "physiological",
        "patient_id": "hospital/7",
        "location_unit": None,
        "location_bed": None,
        "device_id": "monitor-1",
        "code": SPO2,
        "value": None,
        "limit_value": 90.0,
        "observed_at": at(seconds),
        "message_id": None,
        "message_received_at": None,
        "escalation_step": None,
        "muted_by": None,
        "actor": None,
        "note": None,
        "emitted_at": at(seconds),
        **more,
    }


def decided(seconds: float, *channels: str, reason: str = "raised", sequence: int = 1) -> Row:
    return {
        "notification_id": f"n{seconds:g}",
        "reason": reason,
        "step": 0,
        "channels": list(channels),
        "alert_ids": ["aa11"],
        "sequences": [sequence],
        "decided_at": at(seconds),
    }


def ended(seconds: float, status: str, channel: str = "nurse", **more: Any) -> Row:
    row = {"notification_id": f"n{seconds:g}", "channel": channel, "status": status, "attempts": 1}
    return {**row, "error": None, "digest_id": None, "ended_at": at(seconds + 1), **more}


def ask(rule_id: str = "spo2-low", seconds: float = 0, **evidence: Any) -> Answer:
    given = {"pack": KINDS, "silences": {}, **evidence}
    return why_not(Question("hospital/7", rule_id, NOON_MS + round(seconds * 1000)), Evidence(**given))


RULE_SPO2 = "the rule: spo2 below 90 %, for 15 s, kinds@1"
RULE_HR = "the rule: heart_rate above 120 /min, for 15 s, kinds@1"


# No alert that was


def test_a_rule_that_the_pack_has_not() -> None:
    first = "nobody could be told: kinds@1 has no rule spo2-lo"
    assert ask("spo2-lo") == Answer("no_rule", (first, "did you mean spo2-low or spo2-silent?"))
    listed = ask("zzz").lines[1]
    assert listed.startswith("its rules: heart-rate-high, heart-rate-low, ")


def test_a_device_that_was_not_heard_then() -> None:
    evaluations = [message(-600, (SPO2, 97.0)), message(-599, (HR, 80.0)), message(500, (SPO2, 97.0))]
    assert ask(evaluations=evaluations, remarks=("a remark",)) == Answer(
        "nothing_heard",
        (
            "nobody was told: nothing was heard of hospital/7 between 2026-03-01 11:58:00Z and 2026-03-01 12:02:00Z",
            "the last message before that came 2026-03-01 11:50:01Z",
            "the last of it that the rule could judge: 97 % (clear, message m-600, 2026-03-01 11:50:00Z)",
            "the next message came 2026-03-01 12:08:20Z",
            RULE_SPO2,
            "a remark",
        ),
    )
    assert ask().lines[1] == "nor in the 1 h 2 min 45 s before"


def test_of_a_moment_that_has_just_been_it_is_said_that_values_may_be_on_their_way() -> None:
    way = "some of it may not have landed in silver.observation yet: ask again in two minutes"
    assert ask(until=NOON_MS).lines[-1] == way
    assert way not in ask(until=NOON_MS + 120_000).lines


def test_a_signal_that_did_not_come_then() -> None:
    verdict = "nobody was told: 2 messages came then, none with SpO2 (pulse oximetry)"
    assert ask(evaluations=every(0, 2, 1, (HR, 80.0))) == Answer("no_signal", (verdict, RULE_SPO2))


def test_values_that_were_quarantined() -> None:
    assert ask(evaluations=every(0, 2, 1, (HR, 80.0), (SPO2, None))) == Answer(
        "quarantined",
        (
            "nobody was told: every value of SpO2 (pulse oximetry) that came then was quarantined",
            (
                "quarantined then: 2 values of SpO2 (pulse oximetry), sensor_disconnected: the value is"
                " what a monitor sends"
                " for: no reading"
            ),
            "the first of them: message m0, observed 2026-03-01 12:00:00Z",
            RULE_SPO2,
        ),
    )


def test_values_that_came_too_late() -> None:
    evaluations = [message(0, (SPO2, 80.0), late=1200), message(1, (SPO2, 80.0), late=1200)]
    assert ask(evaluations=evaluations) == Answer(
        "late",
        (
            "nobody was told: the values came 20 min late",
            (
                "80 % (breach, message m0, 2026-03-01 12:00:00Z), observed 2026-03-01 12:00:00Z, at the broker"
                " 2026-03-01 12:20:00Z"
            ),
            "a message of more than 10 min ago opens nothing: it tells of the past",
            RULE_SPO2,
        ),
    )


def test_a_value_that_was_overtaken_by_later_ones_that_end_an_alert() -> None:
    evaluations = [
        *every(-400, -340, 5, (SPO2, 80.0)),
        *every(-340, -280, 5, (SPO2, 97.0)),
        message(-320, (SPO2, 85.0), late=319),
    ]
    assert ask(evaluations=evaluations).kind == "late"
    assert ask(evaluations=evaluations).lines[0] == (
        "nobody was told: the values came after later ones, which were no breach"
    )


def test_values_that_were_no_breach_with_the_nearest_of_them() -> None:
    evaluations = [message(-1, (HR, 99.0)), message(0, (HR, 112.0)), message(1, (HR, None))]
    assert ask("heart-rate-high", evaluations=evaluations) == Answer(
        "no_breach",
        (
            "nobody was told: none of 3 messages then had a breach; it tells of heart_rate above 120 /min",
            "nearest to it: 112 /min (clear, message m0, 2026-03-01 12:00:00Z)",
            (
                "quarantined then: 1 value of Heart rate, sensor_disconnected: the value is what a"
                " monitor sends for: no"
                " reading"
            ),
            RULE_HR,
        ),
    )
    below = [message(-1, (HR, 60.0)), message(0, (HR, 55.0)), message(1, (HR, 70.0))]
    assert ask("heart-rate-low", evaluations=below).lines[1].startswith("nearest to it: 55 /min (clear")


def test_values_in_the_margin() -> None:
    assert ask("heart-rate-high", evaluations=every(-10, 10, 1, (HR, 118.0))) == Answer(
        "margin",
        (
            "nobody was told: values were in the margin, which opens nothing; it tells of heart_rate above 120 /min",
            "nearest to it: 118 /min (margin, message m-10, 2026-03-01 11:59:50Z)",
            RULE_HR,
        ),
    )


def test_a_limit_of_the_patients_own_is_named() -> None:
    own = OwnLimits("hospital/7", HR, 140.0, None, NOON_MS - 60_000, "dr on duty")
    later = replace(own, set_at=NOON_MS + 60_000)
    evaluations = [message(0, (HR, 115.0))]
    assert ask("heart-rate-high", evaluations=evaluations, own=[own]).lines[0] == (
        "nobody was told: none of 1 message then had a breach; the limit is the patient's own, above 140 /min, set"
        " 2026-03-01 11:59:00Z by dr on duty"
    )
    assert (
        "it tells of heart_rate above 120 /min" in ask("heart-rate-high", evaluations=evaluations, own=[later]).lines[0]
    )


def test_a_breach_that_was_too_short_by_the_values_alone() -> None:
    evaluations = [*every(-60, -5, 5, (SPO2, 97.0)), *every(-5, 5, 1, (SPO2, 85.0)), *every(5, 60, 5, (SPO2, 97.0))]
    assert ask(evaluations=evaluations) == Answer(
        "too_short",
        (
            (
                "nobody was told at 2026-03-01 12:00:00Z: it ended (cleared) after 10 s, before it had"
                " lasted for the rule's"
                " 15 s (gold.alert_event has no such alert: so say the values)"
            ),
            "  2026-03-01 11:59:55Z  pending: breach, 85 %",
            "  2026-03-01 12:00:05Z  resolved: cleared, 97 %",
            RULE_SPO2,
        ),
    )


def test_an_alert_that_should_have_been_and_is_not_recorded() -> None:
    evaluations = every(-60, 60, 1, (SPO2, 85.0))
    answer = ask(evaluations=evaluations)
    assert (answer.kind, answer.lines[0]) == (
        "not_recorded",
        (
            "by these rules an alert was active at 2026-03-01 12:00:00Z, but gold.alert_event has no"
            " such alert: router and"
            " alert flow did not run then, or another pack or other limits were in force, or it has not landed"
        ),
    )
    assert answer.lines[1:3] == (
        "  2026-03-01 11:59:00Z  pending: breach, 85 %",
        "  2026-03-01 11:59:15Z  active: sustained",
    )
    absent = ask(evaluations=evaluations, missing=("gold.alert_event",))
    assert "but gold.alert_event is not there: router" in absent.lines[0]


@pytest.mark.parametrize(
    ("rule_id", "evaluations", "kind", "nearest"),
    [
        ("news2-high", [message(-1, (RR, 26.0)), message(0, (RR, 26.0), (SPO2, 90.0))], "margin", "6 points (margin"),
        ("news2-high", [message(0, (RR, 26.0))], "no_breach", "3 points (clear"),
        ("shock-suspected", [message(0, (HR, 130.0), ("8480-6", 120.0))], "no_breach", "1 condition (clear"),
        (
            "systolic-bp-falling",
            [message(second, ("8480-6", value)) for second, value in ((-600, 150.0), (-300, 135.0), (0, 130.0))],
            "no_breach",
            "20 mm[Hg] (clear",
        ),
        ("battery-low", [message(0, (HR, 80.0), battery=25.0)], "margin", "25 (margin"),
        ("clock-skew", [message(0, (HR, 80.0), late=-50)], "no_breach", "50 (clear"),
        ("heart-rate-flat", every(-120, 0, 10, (HR, 80.0)), "margin", "1 min 50 s (margin"),
    ],
)
def test_every_other_kind_is_judged_by_its_own_measure(
    rule_id: str, evaluations: list[Evaluation], kind: str, nearest: str
) -> None:
    answer = ask(rule_id, evaluations=evaluations)
    assert (answer.kind, answer.lines[1].startswith(f"nearest to it: {nearest}")) == (kind, True), answer


def test_a_rule_without_a_measure_says_that_none_was_a_breach() -> None:
    answer = ask("spo2-probe-off", evaluations=every(0, 3, 1, (SPO2, 97.0)))
    verdict = "nobody was told: none of 3 messages then had a breach; it tells of spo2 without a value"
    assert (answer.kind, answer.lines[0]) == ("no_breach", verdict)


def test_a_rate_without_a_past_cannot_be_judged() -> None:
    answer = ask("systolic-bp-falling", evaluations=[message(0, ("8480-6", 100.0))])
    assert answer.lines[:2] == (
        "nobody was told: 1 message came then, and nothing in them that the rule could judge",
        "too little was known before, or it was taken back",
    )


def test_a_silence_is_judged_by_how_often_it_was_heard() -> None:
    dense = every(-100, -29, 10, (HR, 80.0))
    assert ask("device-silent", evaluations=[*dense, *every(20, 200, 10, (HR, 80.0))]) == Answer(
        "no_breach",
        (
            "nobody was told: the silence had lasted 30 s of 1 min",
            "heard last at 2026-03-01 11:59:30Z",
            "heard again at 2026-03-01 12:00:20Z",
            "the rule: no message for 1 min, kinds@1",
        ),
    )
    sparse = every(-1200, -299, 300, (HR, 80.0))
    assert ask("device-silent", evaluations=sparse).lines[0] == (
        "nobody was told: it came about every 5 min; only what comes three times within 1 min is missed"
    )
    once = ask("spo2-silent", evaluations=[message(-300, (SPO2, 97.0)), message(-10, (HR, 80.0))])
    assert once.lines[0] == "nobody was told: it had come once; only what comes three times within 2 min is missed"
    never = ask("spo2-silent", evaluations=dense)
    assert (never.kind, never.lines[0]) == (
        "nothing_heard",
        "nobody was told: no spo2 came before 2026-03-01 12:00:00Z either, and only what was heard is missed",
    )
    gone = every(-300, -99, 10, (HR, 80.0))
    assert ask("device-silent", evaluations=gone).kind == "not_recorded"
    # What has not landed yet is no silence.
    assert ask("device-silent", evaluations=gone, until=NOON_MS - 60_000).kind == "no_breach"


# An alert that was

OPENED = [event(0, "pending", "breach", -30, value=85.0), event(1, "active", "sustained", -15, value=84.0)]
TOLD = [decided(-15, "nurse")]
DELIVERED = [ended(-15, "delivered")]


def test_a_breach_that_ended_before_its_delay() -> None:
    events = [OPENED[0], event(1, "resolved", "cleared", -22, value=95.0)]
    assert ask(events=events) == Answer(
        "too_short",
        (
            (
                "nobody was told at 2026-03-01 12:00:00Z: it ended (cleared) after 8 s, before it had"
                " lasted for the rule's 15 s"
            ),
            "SpO2 low (high, physiological), rule spo2-low of kinds@1",
            "patient hospital/7, device monitor-1",
            "alert aa11",
            "  2026-03-01 11:59:30Z  pending       breach: 85 % (limit 90), by the clock, written 2026-03-01 11:59:30Z",
            (
                "  2026-03-01 11:59:38Z  resolved      cleared: 95 % (limit 90), by the clock, written"
                " 2026-03-01 11:59:38Z"
            ),
            "who was told",
            "  nobody: it was never active",
        ),
    )


SILENCE = Silence("s1", NOON_MS - 60_000, "dr on duty", "dressing", NOON_MS + 600_000, location_unit="ICU")
MUTED = [*OPENED, event(2, "silenced", "silenced", -10, muted_by="s1")]
INHIBITED = [*OPENED, event(2, "silenced", "inhibited", -10, muted_by="lead-off")]


@pytest.mark.parametrize(
    ("seconds", "evidence", "kind", "verdict"),
    [
        (
            -20,
            {"events": OPENED},
            "pending",
            (
                "nobody was told at 2026-03-01 11:59:40Z: it was pending; it became active at"
                " 2026-03-01 11:59:45Z, when it had"
                " lasted for the rule's 15 s"
            ),
        ),
        (
            0,
            {"events": OPENED[:1]},
            "pending",
            (
                "nobody was told at 2026-03-01 12:00:00Z: it is pending since 2026-03-01 11:59:30Z, and"
                " has not lasted for the"
                " rule's 15 s"
            ),
        ),
        (
            0,
            {"events": MUTED, "silences": {"s1": SILENCE}},
            "silenced",
            (
                "nobody was told at 2026-03-01 12:00:00Z: it was muted by silence s1 of unit ICU by dr on duty, until"
                " 2026-03-01 12:10:00Z: dressing"
            ),
        ),
        (
            0,
            {"events": MUTED},
            "silenced",
            "nobody was told at 2026-03-01 12:00:00Z: it was muted by silence s1, no longer on alert.command",
        ),
        (
            0,
            {"events": INHIBITED},
            "inhibited",
            (
                "nobody was told at 2026-03-01 12:00:00Z: it was muted by an open alert of rule lead-off,"
                " which explains it"
            ),
        ),
        (
            60,
            {"events": [*INHIBITED, event(3, "resolved", "cleared", 30)]},
            "inhibited",
            (
                "nobody was told at 2026-03-01 12:01:00Z: it was muted by an open alert of rule lead-off,"
                " which explains it"
            ),
        ),
        (
            0,
            {"events": OPENED, "notifications": [decided(60, "nurse", reason="grouped")]},
            "waiting",
            (
                "nobody was told at 2026-03-01 12:00:00Z: it waited to be told together with others of"
                " the patient, until"
                " 2026-03-01 12:01:00Z"
            ),
        ),
        (
            0,
            {"events": OPENED, "notifications": [decided(60, reason="ended_before_told")]},
            "ended_before_told",
            (
                "nobody was told at 2026-03-01 12:00:00Z: it waited to be told with others, and before"
                " that it had ended, was"
                " acknowledged or muted"
            ),
        ),
        (
            0,
            {"events": OPENED, "notifications": TOLD, "deliveries": DELIVERED},
            "told",
            (
                "somebody was told: nurse, delivered 2026-03-01 11:59:46Z, 1 attempt; charge-nurse"
                " would be next, 2 min after it"
                " became active, unless somebody acknowledges it first"
            ),
        ),
        (
            0,
            {
                "events": [*OPENED, event(2, "acknowledged", "acknowledged", -5, actor="nurse on duty")],
                "notifications": TOLD,
                "deliveries": DELIVERED,
            },
            "told",
            (
                "somebody was told: nurse, delivered 2026-03-01 11:59:46Z, 1 attempt; nobody further,"
                " since nurse on duty"
                " acknowledged it"
            ),
        ),
        (
            0,
            {
                "events": OPENED,
                "notifications": TOLD,
                "deliveries": [ended(-15, "undeliverable", error="503", attempts=9)],
            },
            "undelivered",
            (
                "nobody was told: nurse was to be told at 2026-03-01 11:59:45Z, NOT delivered, given up"
                " 2026-03-01 11:59:46Z"
                " after 9 attempts: 503"
            ),
        ),
        (
            0,
            {"events": OPENED, "notifications": TOLD, "deliveries": [ended(-15, "unconfigured")]},
            "unconfigured",
            (
                "nobody was told: nurse was to be told at 2026-03-01 11:59:45Z, NOT delivered: the"
                " channels file has no such"
                " channel (2026-03-01 11:59:46Z)"
            ),
        ),
        (
            0,
            {"events": OPENED, "notifications": TOLD},
            "delivery_unknown",
            (
                "nobody was told: nurse was to be told at 2026-03-01 11:59:45Z, not known yet; `ward"
                " notify` tells people and"
                " records it, gold.alert_delivery has it half a minute later"
            ),
        ),
        (
            0,
            {"events": OPENED, "notifications": TOLD, "missing": ("gold.alert_delivery",)},
            "delivery_unknown",
            "nurse was to be told: how that ended is not known, gold.alert_delivery is not there",
        ),
        (
            0,
            {"events": OPENED, "missing": ("gold.alert_notification", "gold.alert_delivery")},
            "not_known",
            "it was active at 2026-03-01 12:00:00Z; who was told is not known: gold.alert_notification is not there",
        ),
        (
            0,
            {"events": OPENED},
            "not_known",
            (
                "it was active at 2026-03-01 12:00:00Z, and gold.alert_notification has no decision on"
                " it: none was made, or it"
                " has not landed yet (half a minute)"
            ),
        ),
        (
            0,
            {"events": OPENED, "pack": Pack.model_validate(KINDS.model_dump(exclude={"notification"}))},
            "tells_nobody",
            "nobody was told at 2026-03-01 12:00:00Z: kinds@1 names no channel for this rule",
        ),
    ],
)
def test_an_alert_that_stood_then_says_what_became_of_it(
    seconds: float, evidence: dict[str, Any], kind: str, verdict: str
) -> None:
    answer = ask(seconds=seconds, **evidence)
    assert (answer.kind, answer.lines[0]) == (kind, verdict)
    assert "alert aa11" in answer.lines


def test_an_alert_of_a_rule_that_the_pack_has_no_longer_is_still_told_of() -> None:
    gone = Pack.model_validate({**KINDS.model_dump(), "rules": [KINDS.rules[0].model_dump()]})
    answer = ask(events=OPENED, notifications=TOLD, deliveries=DELIVERED, pack=gone)
    assert (answer.kind, answer.lines[0]) == (
        "told",
        "somebody was told: nurse, delivered 2026-03-01 11:59:46Z, 1 attempt",
    )


def test_of_a_moment_before_an_alert_opened_it_is_said_what_became_of_it() -> None:
    at_once = [event(0, "active", "breach", 60, value=84.0)]
    asked = ask(events=at_once, notifications=[decided(60, "nurse", sequence=0)], deliveries=[ended(60, "delivered")])
    assert asked.kind == "told"
    waited = [decided(90, "nurse", reason="grouped", sequence=0)]
    assert ask(events=at_once, notifications=waited).kind == "waiting"


def test_what_was_told_of_another_alert_of_the_rule_is_left_out() -> None:
    others = [{**row, "alert_id": "bb22", "emitted_at": at(-900), "observed_at": at(-900)} for row in OPENED[:1]]
    over = {**others[0], "sequence": 1, "state": "resolved", "reason": "cleared"}
    of_other = [{**decided(-890, "doctor"), "alert_ids": ["bb22"]}]
    answer = ask(events=[*others, over, *OPENED], notifications=of_other)
    assert (answer.kind, answer.lines[-1]) == (
        "not_known",
        "  nobody: gold.alert_notification has nothing of it: the rule tells nobody, or it lands within half a minute",
    )


def test_an_alert_of_long_ago_is_not_the_one_asked_for() -> None:
    over = [*OPENED, event(2, "resolved", "cleared", 0)]
    assert ask(seconds=110, events=over, notifications=TOLD, deliveries=DELIVERED).kind == "told"
    assert ask(seconds=130, events=over, notifications=TOLD, deliveries=DELIVERED).kind == "nothing_heard"


def test_an_alert_of_a_shifted_clock_is_found_by_that_clock() -> None:
    century = timedelta(days=36_500)
    shifted = [{**row, "observed_at": row["observed_at"] + century} for row in OPENED]
    asked = Question("hospital/7", "spo2-low", NOON_MS + round(century.total_seconds() * 1000))
    found = Evidence(pack=KINDS, events=shifted, notifications=TOLD, deliveries=DELIVERED)
    assert why_not(asked, found).kind == "told"
    early = Question("hospital/7", "spo2-low", asked.at - 20_000)
    assert why_not(early, found).kind == "pending"


@pytest.mark.parametrize(
    ("rule_id", "back", "ahead"),
    [
        ("spo2-low", timedelta(hours=1, minutes=2, seconds=45), timedelta(minutes=2, seconds=45)),
        ("systolic-bp-falling", timedelta(hours=1, minutes=8), timedelta(minutes=8)),
        ("news2-high", timedelta(hours=6, minutes=8), timedelta(minutes=8)),
    ],
)
def test_as_much_of_the_past_is_looked_at_as_the_rule_needs(rule_id: str, back: timedelta, ahead: timedelta) -> None:
    rule: Rule | None = KINDS.rule(rule_id)
    assert rule is not None
    assert span_needed(rule) == (back, ahead)
