import re
from typing import Any

import pytest

from alerting.terminal import line, printer

EVENT: dict[str, Any] = {
    "state": "active",
    "priority": "high",
    "title": "SpO2 low",
    "code": "59408-5",
    "value": 84.0,
    "limit_value": 90.0,
    "patient_id": "hospital/1",
    "location_unit": "ICU",
    "location_bed": "4",
    "observed_at": 1_700_000_000_000,
}


def words(text: str) -> str:
    return re.sub(r" +", " ", text)


def test_a_line_says_what_where_and_since_when() -> None:
    assert words(line(EVENT)) == "2023-11-14 22:13:20Z high active SpO2 low 84 % limit 90 hospital/1 ICU 4"


def test_a_line_does_without_what_is_not_known() -> None:
    known = {name: EVENT[name] for name in ("state", "priority", "title", "patient_id", "observed_at")}
    assert words(line({**known, "code": "unknown"})) == "2023-11-14 22:13:20Z high active SpO2 low hospital/1"


@pytest.mark.parametrize(
    ("event", "said"),
    [
        (
            {"state": "acknowledged", "reason": "acknowledged", "actor": "nurse", "note": "on my way"},
            "acknowledged SpO2 low hospital/1 ICU 4 by nurse: on my way",
        ),
        (
            {"state": "acknowledged", "reason": "acknowledged", "actor": "nurse"},
            "acknowledged SpO2 low hospital/1 ICU 4 by nurse",
        ),
        (
            {"state": "silenced", "reason": "silenced", "muted_by": "s1"},
            "silenced SpO2 low hospital/1 ICU 4 by silence s1",
        ),
        (
            {"state": "silenced", "reason": "inhibited", "muted_by": "lead-off"},
            "silenced SpO2 low hospital/1 ICU 4 by rule lead-off",
        ),
        (
            {"state": "escalated", "reason": "unanswered", "escalation_step": 2},
            "escalated SpO2 low hospital/1 ICU 4 step 2",
        ),
        (
            {"state": "latched", "reason": "cleared_unacknowledged"},
            "latched SpO2 low hospital/1 ICU 4 waits for somebody to acknowledge it",
        ),
        (
            {"state": "superseded", "reason": "entered_in_error"},
            "superseded SpO2 low hospital/1 ICU 4 the reading was taken back",
        ),
        ({"state": "resolved", "reason": "cleared", "value": 95.0}, "resolved SpO2 low 95 % hospital/1 ICU 4"),
    ],
)
def test_a_line_says_who_or_what_moved_the_alert(event: dict[str, Any], said: str) -> None:
    given = {name: value for name, value in EVENT.items() if name not in ("value", "limit_value")}
    assert words(line({**given, **event})) == f"2023-11-14 22:13:20Z high {said}"


@pytest.mark.parametrize(
    ("event", "said"),
    [
        ({"kind": "score", "value": 8.0, "limit_value": 7.0}, "8 points limit 7"),
        ({"kind": "silence", "code": "59408-5", "value": 120.0, "limit_value": 120.0}, "2 min limit 120"),
        ({"kind": "combination", "value": 2.0, "limit_value": 2.0}, "2 conditions limit 2"),
        ({"kind": "device"}, ""),
    ],
)
def test_a_line_of_a_rule_that_is_no_limit_has_its_own_measure(event: dict[str, Any], said: str) -> None:
    given = {name: value for name, value in EVENT.items() if name not in ("value", "limit_value", "code")}
    said = f" {said}" if said else ""
    assert words(line({**given, **event})) == f"2023-11-14 22:13:20Z high active SpO2 low{said} hospital/1 ICU 4"


def test_what_a_device_sends_cannot_style_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    printer()({**EVENT, "patient_id": "[red]x[/red]"})
    printer()({**EVENT, "patient_id": "a\x1b[31m\nb"})
    out = capsys.readouterr().out
    assert "[red]x[/red]" in out
    assert "\x1b[31m" not in out
    assert len(out.splitlines()) == 2
