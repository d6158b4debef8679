from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from alerting.answers import explanation, silenced, story, told
from alerting.command import Silence
from alerting.pack import Pack
from tests.fixtures.packs import kinds_pack

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
KINDS = kinds_pack()
Row = dict[str, Any]


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
        "location_unit": "MED",
        "location_bed": "MED-03",
        "device_id": "monitor-1",
        "code": "59408-5",
        "value": None,
        "limit_value": 90.0,
        "readings": None,
        "observed_at": at(seconds),
        "message_id": None,
        "message_received_at": None,
        "escalation_step": None,
        "muted_by": None,
        "actor": None,
        "note": None,
        "emitted_at": at(seconds + 1),
        **more,
    }


def message(number: int, seconds: float, value: float) -> Row:
    return {"value": value, "message_id": f"m{number}", "message_received_at": at(seconds + 0.5)}


READING = {"code": "59408-5", "value": 86.0, "value_code": None, "observed_at": NOON, "message_id": "m0"}
EVENTS = [
    event(0, "pending", "breach", 0, readings=[READING], **message(0, 0, 86.0)),
    event(1, "active", "sustained", 15, **message(15, 15, 84.0)),
    event(2, "escalated", "unanswered", 136, escalation_step=1),
    event(3, "silenced", "silenced", 150, muted_by="s1"),
    event(4, "acknowledged", "acknowledged", 200, actor="nurse on duty", note="on my way"),
    event(5, "resolved", "cleared", 300, **message(300, 300, 95.0)),
]
NOTIFICATIONS: list[Row] = [
    {
        "notification_id": "n1",
        "reason": "raised",
        "step": 0,
        "channels": ["nurse"],
        "alert_ids": ["aa11"],
        "decided_at": at(15.5),
    },
    {
        "notification_id": "n2",
        "reason": "escalated",
        "step": 1,
        "channels": ["charge-nurse", "doctor"],
        "alert_ids": ["aa11", "bb22"],
        "decided_at": at(136),
    },
]


def delivery(notification_id: str, channel: str, status: str, seconds: float, **more: Any) -> Row:
    ended = {"status": status, "attempts": 1, "error": None, "digest_id": None, "ended_at": at(seconds)}
    return {"notification_id": notification_id, "channel": channel, **ended, **more}


DELIVERIES = [
    delivery("n1", "nurse", "delivered", 17, attempts=2),
    delivery("n2", "doctor", "undeliverable", 1036, attempts=12, error="503\nService Unavailable"),
    delivery("n2", "charge-nurse", "unconfigured", 136),
]
SILENCE = Silence(
    "s1",
    1_000,
    "dr on duty",
    "dressing",
    round(at(1800).timestamp() * 1000),
    patient_id="hospital/7",
    rule_id="spo2-low",
)

HEADING = [
    "SpO2 low (high, physiological), rule spo2-low of kinds@1",
    "patient hospital/7, MED MED-03, device monitor-1",
    "alert aa11",
]
TRANSITIONS = [
    "  2026-03-01 12:00:00Z  pending       breach: 86 % (limit 90), message m0, written 2026-03-01 12:00:01Z",
    (
        "  2026-03-01 12:00:15Z  active        lasted as long as the rule's delay: 84 % (limit 90), message m15,"
        " written 2026-03-01 12:00:16Z"
    ),
    (
        "  2026-03-01 12:02:16Z  escalated     nobody had acknowledged it, step 1, by the clock,"
        " written 2026-03-01 12:02:17Z"
    ),
    "  2026-03-01 12:02:30Z  silenced      muted by silence s1, by command or clock, written 2026-03-01 12:02:31Z",
    "  2026-03-01 12:03:20Z  acknowledged  acknowledged, by nurse on duty: on my way, written 2026-03-01 12:03:21Z",
    "  2026-03-01 12:05:00Z  resolved      cleared: 95 % (limit 90), message m300, written 2026-03-01 12:05:01Z",
]


def test_a_story_is_a_line_for_each_transition() -> None:
    assert list(story(EVENTS)) == [*HEADING, *TRANSITIONS]


def test_an_explanation_tells_why_what_who_and_how_it_ended() -> None:
    lines = explanation(EVENTS, NOTIFICATIONS, DELIVERIES, pack=KINDS, silences={"s1": SILENCE})
    assert list(lines) == [
        *HEADING,
        "why it fired",
        "  the rule: spo2 below 90 %, for 15 s",
        "  its reason: Below 90 % the dissociation curve is steep, and a small further fall costs much oxygen.",
        ("  its source: Limits for tests. A limit of 88 instead of 90 removed 63 % of SpO2 alarms in PMC4891882."),
        "  it opened at 86 %, against a limit of 90 %",
        "  it rests on: SpO2 (pulse oximetry) 86 %, observed 2026-03-01 12:00:00Z, message m0",
        "  its message reached the broker 0.5 s after that instant",
        "  and was an event 0.5 s later",
        "what happened",
        *TRANSITIONS,
        "who was told",
        "  2026-03-01 12:00:15Z  raised, nurse: delivered 2026-03-01 12:00:17Z, 2 attempts",
        (
            "  2026-03-01 12:02:16Z  escalated, step 1, charge-nurse, with 1 other alert: NOT delivered: the channels"
            " file has no such channel (2026-03-01 12:02:16Z)"
        ),
        (
            "  2026-03-01 12:02:16Z  escalated, step 1, doctor, with 1 other alert: NOT delivered, given up"
            " 2026-03-01 12:17:16Z after 12 attempts: 503 Service Unavailable"
        ),
        "who acknowledged it",
        "  2026-03-01 12:03:20Z  nurse on duty: on my way",
        "what muted it",
        (
            "  2026-03-01 12:02:30Z  silence s1 of patient hospital/7, rule spo2-low by dr on duty, until"
            " 2026-03-01 12:30:00Z: dressing"
        ),
    ]


def test_an_alert_of_a_device_that_nobody_was_told_of_is_explained_with_what_is_missing() -> None:
    first = event(0, "active", "breach", 0, rule_id="device-silent", kind="silence", code=None, value=60.0)
    first.update(title="No data from the device", priority="low", category="technical", limit_value=60.0)
    muted = {**first, "sequence": 1, "state": "silenced", "reason": "inhibited", "muted_by": "battery-low"}
    lines = explanation([first, muted], [], [], pack=None, silences=None, missing=("gold.alert_notification",))
    assert list(lines) == [
        "No data from the device (low, technical), rule device-silent of kinds@1",
        "patient hospital/7, MED MED-03, device monitor-1",
        "alert aa11",
        "why it fired",
        "  the words of rule device-silent of kinds@1 are not kept here",
        "  it opened at 1 min, against a limit of 1 min",
        "  it rests on no reading: a device or a time tells of it",
        "what happened",
        "  2026-03-01 12:00:00Z  active        breach: 1 min (limit 60), by the clock, written 2026-03-01 12:00:01Z",
        (
            "  2026-03-01 12:00:00Z  silenced      muted: rule battery-low explains it: 1 min (limit 60), by the clock,"
            " written 2026-03-01 12:00:01Z"
        ),
        "who was told",
        "  not known: gold.alert_notification is not there",
        "who acknowledged it",
        "  nobody",
        "what muted it",
        "  2026-03-01 12:00:00Z  an open alert of rule battery-low, which explains it",
    ]


def test_the_words_of_another_version_of_the_pack_are_said_to_be_so() -> None:
    lines = explanation([{**EVENTS[0], "pack": "kinds@0"}], [], [], pack=KINDS, silences={})
    assert lines[4:6] == (
        "  the words are those of kinds@1; the alert was made by kinds@0, which is not kept here",
        "  the rule: spo2 below 90 %, for 15 s",
    )


def test_a_unit_with_a_limit_of_its_own_and_a_limit_of_the_patients_own_are_named() -> None:
    first = {**EVENTS[0], "reason": "own_limit_breach", "location_unit": "RESP"}
    lines = explanation([first], [], [], pack=KINDS, silences={})
    assert "  the rule: spo2 below 86 %, for 15 s" in lines
    assert "  it opened at 86 %, against a limit of the patient's own of 90 %" in lines


@pytest.mark.parametrize(
    ("events", "notifications", "deliveries", "missing", "said"),
    [
        (EVENTS[:1], [], [], (), "nobody: it was never active"),
        ([EVENTS[1], EVENTS[3]], [], [], (), "nobody: it was muted when it became active"),
        (
            EVENTS[:2],
            [],
            [],
            (),
            (
                "nobody: gold.alert_notification has nothing of it: the rule tells nobody, or it lands within half"
                " a minute"
            ),
        ),
        (
            EVENTS,
            [{**NOTIFICATIONS[0], "channels": [], "reason": "ended_before_told"}],
            [],
            (),
            (
                "2026-03-01 12:00:15Z  nobody: it waited to be told with others, and before that it had ended, was"
                " acknowledged or muted"
            ),
        ),
        (
            EVENTS,
            NOTIFICATIONS[:1],
            [],
            (),
            (
                "2026-03-01 12:00:15Z  raised, nurse: not known yet; `ward notify` tells people and records it,"
                " gold.alert_delivery has it half a minute later"
            ),
        ),
        (
            EVENTS,
            NOTIFICATIONS[:1],
            [],
            ("gold.alert_delivery",),
            "2026-03-01 12:00:15Z  raised, nurse: how that ended is not known",
        ),
        (
            EVENTS,
            [{**NOTIFICATIONS[0], "reason": "grouped"}],
            [delivery("n1", "nurse", "digested", 60, digest_id="d1")],
            (),
            "2026-03-01 12:00:15Z  told together, after a wait, nurse: delivered 2026-03-01 12:01:00Z in digest d1",
        ),
    ],
)
def test_who_was_told_always_has_an_answer(
    events: list[Row], notifications: list[Row], deliveries: list[Row], missing: tuple[str, ...], said: str
) -> None:
    assert told(events, notifications, deliveries, pack=KINDS, missing=missing) == (said,)


def test_a_rule_without_channels_is_told_to_nobody() -> None:
    quiet = Pack.model_validate({**KINDS.model_dump(exclude={"notification"})})
    assert told(EVENTS[:2], [], [], pack=quiet) == ("nobody: the rule tells nobody, by kinds@1",)


def test_what_people_and_devices_send_stays_on_one_line() -> None:
    first = {**EVENTS[0], "device_id": "a\nb\x1b[31m", "location_bed": "\u202e1", "message_id": "m\r0"}
    note = {**EVENTS[4], "note": "first\nsecond"}
    lines = story([first, note])
    assert lines[1] == "patient hospital/7, MED 1, device a b [31m"
    assert all(character.isprintable() for line in lines for character in line)
    dirty = Silence("s1", 1, "a\nb", "c\x07d", 2, location_unit="IC\nU")
    assert silenced(dirty) == "silence s1 of unit IC U by a b, until 1970-01-01 00:00:00Z: c d"
