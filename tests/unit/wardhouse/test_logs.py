import json
import logging
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from wardhouse import logs
from wardhouse.errors import Failure

EVENT: dict[str, Any] = {
    "alert_id": "a-1",
    "state": "active",
    "rule_id": "heart-rate-high",
    "priority": "high",
    "pack": "adult@2",
    "title": "Heart rate high",
    "message_id": "m-1",
    "patient_id": "mrn/1",
    "observed_at": 1_772_366_400_000,
}


@pytest.fixture
def root() -> Iterator[None]:
    """What ``logs.begin`` changes is as it was afterwards."""
    found, client = logging.getLogger(), logging.getLogger("kafka")
    levels = found.level, client.level
    yield
    for handler in [one for one in found.handlers if isinstance(one.formatter, logs.JsonLines)]:
        found.removeHandler(handler)
    found.setLevel(levels[0])
    client.setLevel(levels[1])


def said(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    for line in lines:
        assert datetime.fromisoformat(line.pop("at")).utcoffset() is not None
    return lines


@pytest.mark.usefixtures("root")
def test_what_components_say_becomes_an_object_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.begin({"WARD_LOG_FORMAT": "json"})

    logs.teller("router")("pack adult@2 is in force")
    logging.getLogger("gateway.live").info("two\nlines")

    assert said(capsys) == [
        {"level": "warning", "logger": "router", "message": "pack adult@2 is in force"},
        {"level": "info", "logger": "gateway.live", "message": "two\nlines"},
    ]


@pytest.mark.usefixtures("root")
def test_an_alert_is_told_with_the_id_of_its_message_and_without_its_patient(
    capsys: pytest.CaptureFixture[str],
) -> None:
    logs.begin({"WARD_LOG_FORMAT": "json"})

    logs.shower("router")(EVENT)

    assert said(capsys) == [
        {
            "level": "info",
            "logger": "router",
            "message": "Heart rate high: active",
            "trace_id": "m-1",
            "alert_id": "a-1",
            "state": "active",
            "rule_id": "heart-rate-high",
            "priority": "high",
            "pack": "adult@2",
        }
    ]


@pytest.mark.usefixtures("root")
def test_an_error_keeps_its_stack_in_the_same_line(capsys: pytest.CaptureFixture[str]) -> None:
    logs.begin({"WARD_LOG_FORMAT": "json"})

    try:
        raise ValueError("no such unit")
    except ValueError:
        logging.getLogger("gateway.edge").exception("limits could not be evaluated")

    (line,) = said(capsys)
    assert line["error"].splitlines()[-1] == "ValueError: no such unit"


@pytest.mark.usefixtures("root")
def test_people_get_lines_of_text(capsys: pytest.CaptureFixture[str]) -> None:
    logs.begin({})

    logs.teller("router")("pack adult@2 is in force")
    logs.shower("router")(EVENT)

    told = capsys.readouterr()
    assert told.err == "router: pack adult@2 is in force\n"
    assert "Heart rate high" in told.out
    assert "mrn/1" in told.out


def test_a_form_that_does_not_exist_is_refused_by_name() -> None:
    with pytest.raises(Failure, match="WARD_LOG_FORMAT is xml: give text or json"):
        logs.begin({"WARD_LOG_FORMAT": "xml"})
