from dataclasses import replace
from pathlib import Path
from textwrap import indent

import orjson

from alerting.message_text import body, clean, digest_body, digest_fields, digest_title, fields, instant, title
from alerting.notification import Notification, Told

SPO2 = Told(
    alert_id="a" * 32,
    sequence=0,
    rule_id="spo2-low",
    title="SpO2 low",
    priority="high",
    category="physiological",
    state="active",
    since=1772366400000,
    code="59408-5",
    value=84.0,
    limit_value=90.0,
    trend="falling",
    trend_from=91.0,
    trend_s=120,
)
HEART = replace(
    SPO2,
    alert_id="b" * 32,
    rule_id="heart-rate-high",
    title="Heart rate high",
    priority="medium",
    since=1772366100000,
    code="8867-4",
    value=131.5,
    limit_value=120.0,
    trend="steady",
    trend_from=None,
    trend_s=None,
)
SENSOR = Told("c" * 32, 1, "lead-off", "Lead off", "low", "technical", "active", 1772366300000)
ONE = Notification(
    notification_id="n" * 32,
    patient_id="hospital/4711",
    reason="raised",
    step=0,
    priority="high",
    channels=("nurse",),
    at=1772366401000,
    pack="adult@1",
    alerts=(SPO2,),
    location_unit="ICU",
    location_bed="ICU-03",
)
SEVERAL = replace(ONE, alerts=(SENSOR, HEART, SPO2), reason="escalated", step=2)


def test_the_title_says_priority_what_where_and_who() -> None:
    assert title(ONE) == "HIGH SpO2 low, ICU ICU-03, hospital/4711"
    assert title(SEVERAL) == "HIGH SpO2 low and 2 more, ICU ICU-03, hospital/4711"
    assert title(replace(ONE, location_unit=None, location_bed=None)) == "HIGH SpO2 low, hospital/4711"
    assert title(replace(ONE, alerts=(), location_unit=None)) == "HIGH raised, ICU-03, hospital/4711"


def test_the_body_says_what_a_nurse_needs_and_how_to_acknowledge() -> None:
    assert body(ONE) == (
        "SpO2 low (high, physiological), active\n"
        "  SpO2 (pulse oximetry): 84 %, limit 90 %\n"
        "  since 2026-03-01 12:00:00 UTC\n"
        "  falling from 91 % 2 min ago\n"
        "  acknowledge: ward alerts ack aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"
        "\n"
        "Raised at 2026-03-01 12:00:01 UTC, escalation step 0, rules adult@1."
    )


def test_the_page_shows_a_message_as_it_is() -> None:
    page = (Path(__file__).resolve().parents[3] / "docs" / "notification.md").read_text(encoding="utf-8")
    assert indent(f"{title(ONE)}\n\n{body(ONE)}\n", "    ") in page


def test_several_alerts_stand_in_the_order_of_their_urgency() -> None:
    assert body(SEVERAL) == (
        "SpO2 low (high, physiological), active\n"
        "  SpO2 (pulse oximetry): 84 %, limit 90 %\n"
        "  since 2026-03-01 12:00:00 UTC\n"
        "  falling from 91 % 2 min ago\n"
        "  acknowledge: ward alerts ack aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"
        "\n"
        "Heart rate high (medium, physiological), active\n"
        "  Heart rate: 131.5 /min, limit 120 /min\n"
        "  since 2026-03-01 11:55:00 UTC\n"
        "  steady\n"
        "  acknowledge: ward alerts ack bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\n"
        "\n"
        "Lead off (low, technical), active\n"
        "  since 2026-03-01 11:58:20 UTC\n"
        "  acknowledge: ward alerts ack cccccccccccccccccccccccccccccccc\n"
        "\n"
        "Escalated at 2026-03-01 12:00:01 UTC, escalation step 2, rules adult@1."
    )


def test_a_code_that_the_vocabulary_does_not_have_and_a_limit_alone_are_told_without_a_unit() -> None:
    odd = replace(ONE, alerts=(replace(SPO2, code="0-0", trend=None), replace(SPO2, value=None, trend=None)))
    assert [line for line in body(odd).splitlines() if "limit" in line] == [
        "  0-0: 84, limit 90",
        "  SpO2 (pulse oximetry): limit 90 %",
    ]


def test_a_digest_has_a_line_for_each_the_most_urgent_first() -> None:
    other = replace(ONE, patient_id="hospital/1", priority="medium", alerts=(HEART,), at=1772366300000)
    low = replace(ONE, priority="low", alerts=(SENSOR,), at=1772366200000, location_unit=None, location_bed=None)
    assert digest_title([low, other, ONE]) == "HIGH 3 notifications on 2 patients"
    assert digest_title([low]) == "LOW 1 notification on 1 patient"
    assert digest_body([low, other, ONE], "Told together.") == (
        "Told together.\n"
        "\n"
        "2026-03-01 12:00:01 UTC  HIGH SpO2 low, ICU ICU-03, hospital/4711: 84 %\n"
        "2026-03-01 11:58:20 UTC  MEDIUM Heart rate high, ICU ICU-03, hospital/1: 131.5 /min\n"
        "2026-03-01 11:56:40 UTC  LOW Lead off, hospital/4711\n"
        "\n"
        "Acknowledge: ward alerts ack ALERT_ID; ids: ward alerts list"
    )


def test_a_long_digest_says_how_many_it_does_not_spell_out_and_its_fields_have_them_all() -> None:
    many = [replace(ONE, notification_id=f"{number}") for number in range(1060)]
    lines = digest_body(many, "Told together.").splitlines()
    assert len([line for line in lines if "SpO2 low" in line]) == 50
    assert "and 1010 more; all open alerts: ward alerts list" in lines
    assert len(digest_fields("d", many)["notifications"]) == 1060


def test_a_webhook_gets_the_facts_as_fields() -> None:
    found = fields(SEVERAL)
    assert {name: found[name] for name in ("notification_id", "patient_id", "priority", "step", "alert_ids")} == {
        "notification_id": "n" * 32,
        "patient_id": "hospital/4711",
        "priority": "high",
        "step": 2,
        "alert_ids": ["c" * 32, "b" * 32, "a" * 32],
    }
    assert orjson.loads(orjson.dumps(found))["alerts"][2]["value"] == 84.0


def test_no_text_from_outside_adds_a_line_or_a_header_or_hides_what_follows() -> None:
    evil = replace(
        ONE,
        patient_id="hospital/1\r\nBcc: all@example.org",
        location_bed="03\n\nHIGH Cardiac arrest\u202egnp.exe\x00\x1b[2J",
        location_unit="I\u2028CU\t",
        reason="raised\nX: y",
        pack="adult@1\r",
        alerts=(replace(SPO2, title="SpO2\nlow", state="act\rive", trend="fall\ning", alert_id="a\nb", code="0\n0"),),
    )
    assert title(evil) == ("HIGH SpO2 low, I CU 03 HIGH Cardiac arrest gnp.exe [2J, hospital/1 Bcc: all@example.org")
    assert body(evil).splitlines() == [
        "SpO2 low (high, physiological), act ive",
        "  0 0: 84, limit 90",
        "  since 2026-03-01 12:00:00 UTC",
        "  fall ing from 91 2 min ago",
        "  acknowledge: ward alerts ack a b",
        "",
        "Raised x: y at 2026-03-01 12:00:01 UTC, escalation step 0, rules adult@1.",
    ]
    assert "\n" not in title(evil)
    assert len(digest_body([evil], "Told.").splitlines()) == 5


def test_a_text_that_is_too_long_is_cut_and_names_in_any_script_stay() -> None:
    assert clean("x" * 100) == "x" * 79 + "…"
    assert clean("Ünit Ж 病棟") == "Ünit Ж 病棟"


def test_an_instant_beyond_any_calendar_stays_a_number() -> None:
    assert instant(10**17) == "100000000000000000 ms"
