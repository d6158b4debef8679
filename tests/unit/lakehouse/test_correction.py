import json
import math
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lakehouse.correction import (
    NO_VALUE,
    Change,
    ChangeError,
    CorrectionError,
    as_sent,
    correction,
    judged_row,
)
from lakehouse.message import encode

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
OBSERVED = datetime(2026, 3, 1, 11, 0, 0, 500_000, tzinfo=UTC)


def row(observation: dict[str, Any], *beside: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A quarantined row of a message that held this observation, and others beside it."""
    raw = json.dumps({"observations": [*beside, observation]}).encode()
    return {
        "observation_id": b"i" * 16,
        "version": b"v" * 16,
        "patient_id": "mrn/1",
        "encounter_id": None,
        "device_id": "monitor-1",
        "source": "ward",
        "location_unit": "ICU",
        "location_bed": None,
        "code": observation.get("code"),
        "value_code": observation.get("value_code"),
        "unit": None,
        "status": "final",
        "observed_at": OBSERVED,
        "recorded_at": OBSERVED,
        "source_code": observation.get("source_code"),
        "source_value": observation.get("value"),
        "source_unit": observation.get("source_unit", observation.get("unit")),
        "record_id": observation.get("record_id"),
        "failed_constraints": ["unknown_unit"],
        "topic": "vitals",
        "partition": 0,
        "offset": 7,
        "raw": raw,
    } | changes


WARM = {"code": "8310-5", "value": 37.2, "unit": "grad"}


def test_a_corrected_message_says_what_changed_and_keeps_all_that_makes_the_identity() -> None:
    made = correction([row(WARM | {"record_id": "r1"})], Change(unit="Cel"), NOW)
    message = dict(made.message)
    assert message.pop("message_id").startswith("quarantine/")
    assert message == {
        "schema_version": 1,
        "patient_id": "mrn/1",
        "device_id": "monitor-1",
        "source": "ward",
        "location": {"unit": "ICU"},
        "observed_at": "2026-03-01T11:00:00.500000Z",
        "recorded_at": "2026-03-01T12:00:00Z",
        "status": "corrected",
        "observations": [{"code": "8310-5", "value": 37.2, "unit": "Cel", "record_id": "r1"}],
    }
    assert (made.before["unit"], made.after["unit"], made.another) == ("grad", "Cel", False)
    encode(message | {"message_id": "m"})


def test_the_same_fix_has_the_same_message_id_whenever_it_is_given_and_another_fix_another() -> None:
    def sent(change: Change, now: datetime, **changes: Any) -> str:
        return str(correction([row(WARM, **changes)], change, now).message["message_id"])

    first = sent(Change(unit="Cel"), NOW)
    assert sent(Change(unit="Cel"), NOW + timedelta(days=1)) == first
    others = {
        sent(Change(unit="degf"), NOW),
        sent(Change(), NOW),
        sent(Change(unit="Cel"), NOW, version=b"w" * 16),
        sent(Change(unit="Cel", scale=2), NOW),
    }
    assert len(others | {first}) == 5


def test_a_correction_is_recorded_after_what_it_mends_even_where_dates_lie_in_the_future() -> None:
    shifted = row(WARM, recorded_at=datetime(2150, 1, 1, tzinfo=UTC))
    assert correction([shifted], Change(unit="Cel"), NOW).message["recorded_at"] == "2150-01-01T00:00:00.001000Z"


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (Change(scale=0.1), {"code": "8310-5", "value": 3.72, "unit": "grad"}),
        (Change(value=36.5, unit="Cel"), {"code": "8310-5", "value": 36.5, "unit": "Cel"}),
        (Change(value_code="A", code="67775-7"), {"code": "67775-7", "value_code": "A"}),
        (Change(), WARM),
    ],
)
def test_what_is_changed_of_an_observation(change: Change, after: dict[str, Any]) -> None:
    assert correction([row(WARM)], change, NOW).after == after


def test_a_replay_keeps_the_status() -> None:
    assert correction([row(WARM, status="amended")], Change(), NOW).message["status"] == "amended"


def test_a_code_that_is_part_of_the_identity_makes_another_observation_and_withdraws_the_first() -> None:
    made = correction([row(WARM | {"code": "99999-9"})], Change(code="8310-5"), NOW)
    assert made.another
    assert [(message["status"], message["observations"][0]["code"]) for message in made.messages] == [
        ("corrected", "8310-5"),
        ("entered-in-error", "99999-9"),
    ]
    assert made.messages[1]["message_id"] == f"{made.messages[0]['message_id']}/withdrawn"
    for known in ({"record_id": "r1"}, {"source_code": "211"}):
        assert not correction([row(WARM | {"code": "99999-9"} | known)], Change(code="8310-5"), NOW).another


@pytest.mark.parametrize(
    ("sent", "withdrawn"),
    [
        (WARM, WARM),
        ({"code": "8867-4", "value": math.nan}, {"code": "8867-4", "value_code": NO_VALUE}),
        ({"code": "8867-4"}, {"code": "8867-4", "value_code": NO_VALUE}),
        ({"code": "8867-4", "value": 1.0, "value_code": "A"}, {"code": "8867-4", "value_code": "A"}),
    ],
)
def test_what_is_withdrawn_is_what_was_sent_as_far_as_the_contract_can_say_it(
    sent: dict[str, Any], withdrawn: dict[str, Any]
) -> None:
    (message,) = correction([row(sent)], Change(entered_in_error=True), NOW).messages
    assert (message["status"], message["observations"]) == ("entered-in-error", [withdrawn])
    encode(message)


def test_the_observation_is_found_among_the_others_of_its_message() -> None:
    beside = ({"code": "8310-5", "value": 37.3, "unit": "grad"}, {"code": "8867-4", "value": 37.2, "unit": "grad"})
    assert as_sent(row(WARM, *beside)) == WARM
    assert as_sent(row({"code": 12, "value": 5, "unit": "x"}, code="12")) == {"code": "12", "value": 5.0, "unit": "x"}


AMBIGUOUS = [row({"code": "8867-4", "value": value, "unit": "/min"}, unit="/min") for value in (70.0, 80.0)]


@pytest.mark.parametrize(
    ("versions", "change", "said"),
    [
        (
            [row(WARM, raw=None)],
            Change(unit="Cel"),
            "bronze no longer keeps its record (vitals, partition 0, offset 7)",
        ),
        ([row(WARM, source_value=1.0)], Change(unit="Cel"), "does not hold it"),
        ([row({"code": "8867-4", "value_code": "x"})], Change(scale=2), "no number to scale"),
        ([row(WARM, failed_constraints=["clock_ahead"])], Change(), "it can only be entered in error"),
        (AMBIGUOUS, Change(), "several values under this id"),
        (AMBIGUOUS, Change(scale=2), "several values under this id"),
    ],
)
def test_what_cannot_be_sent_again_says_why(versions: list[dict[str, Any]], change: Change, said: str) -> None:
    with pytest.raises(CorrectionError) as error:
        correction(versions, change, NOW)
    assert said in str(error.value)


def test_of_an_ambiguous_value_the_true_one_can_be_given() -> None:
    assert correction(AMBIGUOUS, Change(value=75.0), NOW).after["value"] == 75.0


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"value": 1.0, "scale": 2.0}, "only one of these"),
        ({"entered_in_error": True, "unit": "Cel"}, "nothing else of it can be changed"),
        ({"scale": 0.0}, "times 0"),
    ],
)
def test_a_change_that_contradicts_itself_is_none(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ChangeError, match=said):
        Change(**given)


def test_a_message_is_judged_as_silver_would_make_it() -> None:
    made = correction([row(WARM | {"value": 98.6})], Change(unit="degF"), NOW)
    judged = judged_row(made.message, NOW)
    assert (judged["value"], judged["unit"], judged["source_value"], judged["observed_at"]) == (
        37.0,
        "Cel",
        98.6,
        OBSERVED,
    )
