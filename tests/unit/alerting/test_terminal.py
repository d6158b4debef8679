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


def test_what_a_device_sends_cannot_style_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    printer()({**EVENT, "patient_id": "[red]x[/red]"})
    assert "[red]x[/red]" in capsys.readouterr().out
