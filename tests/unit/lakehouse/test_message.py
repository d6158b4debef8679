import json

import pytest

from lakehouse.message import ContractError, encode, key, validate
from tests.fixtures.vitals import heart_rate, message

FULL = message(
    heart_rate(source_code="hr", source_unit="bpm", record_id="1"),
    {"code": "67775-7", "value_code": "A"},
    encounter_id="stay/1",
    location={"unit": "ICU", "bed": "4"},
    recorded_at="2026-03-01T12:00:05.123+01:00",
    device_status={"battery": 88.5, "lead_off": False},
)


@pytest.mark.parametrize("sent", [message(), FULL], ids=["smallest", "fullest"])
def test_a_message_of_the_contract_is_encoded_as_it_is(sent):
    assert json.loads(encode(sent)) == sent


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"schema_version": 2}, "schema_version"),
        ({"schema_version": ...}, "schema_version"),
        ({"message_id": ""}, "message_id"),
        ({"message_id": 5}, "message_id"),
        ({"patient_id": "mrn"}, "patient_id"),
        ({"patient_id": "/1"}, "patient_id"),
        ({"observed_at": "2026-03-01T12:00:00"}, "observed_at"),
        ({"observed_at": "2026-03-01 12:00:00Z"}, "observed_at"),
        ({"recorded_at": "yesterday"}, "recorded_at"),
        ({"status": "guess"}, "status"),
        ({"observations": []}, "observations"),
        ({"observations": [heart_rate()] * 257}, "observations"),
        ({"observations": [{"value": 1}]}, "code"),
        ({"observations": [{"code": "8867-4"}]}, "observations"),
        ({"observations": [heart_rate(value_code="A")]}, "observations"),
        ({"observations": [heart_rate("72")]}, "value"),
        ({"observations": [heart_rate(colour="red")]}, "colour"),
        ({"device_status": {"battery": 101}}, "battery"),
        ({"location": {"ward": "7"}}, "ward"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_message_that_breaks_the_contract_is_refused_by_the_name_of_its_field(changes, named):
    with pytest.raises(ContractError, match=named):
        validate(message(**changes))


def test_what_json_cannot_say_is_refused():
    for value in (float("nan"), float("inf")):
        with pytest.raises(ContractError):
            encode(message(heart_rate(value)))


def test_all_of_one_patient_has_one_key():
    assert key(message(patient_id="mrn/é")) == "mrn/é".encode()
