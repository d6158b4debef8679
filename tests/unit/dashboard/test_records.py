from typing import Any

import pytest

from dashboard.records import Record, record


@pytest.mark.parametrize(
    ("resource", "line"),
    [
        (
            {
                "resourceType": "Condition",
                "code": {"coding": [{"code": "I50"}, {"display": "Heart failure"}]},
                "clinicalStatus": {"coding": [{"code": "active"}]},
                "onsetDateTime": "2026-02",
            },
            Record("Condition", "Heart failure", "active", "2026-02"),
        ),
        (
            {
                "resourceType": "Appointment",
                "description": "Control",
                "status": "booked",
                "start": "2026-03-02T09:00:00Z",
            },
            Record("Appointment", "Control", "booked", "2026-03-02T09:00:00Z"),
        ),
        (
            {
                "resourceType": "MedicationRequest",
                "medicationCodeableConcept": {"text": "Furosemide"},
                "authoredOn": "2026",
            },
            Record("MedicationRequest", "Furosemide", None, "2026"),
        ),
        (
            {"resourceType": "DocumentReference", "category": [{}, {"text": "Letter"}], "date": "2026-03-01"},
            Record("DocumentReference", "Letter", None, "2026-03-01"),
        ),
        (
            {"resourceType": "AllergyIntolerance", "code": "odd", "status": 7},
            Record("AllergyIntolerance", "odd", None, None),
        ),
        ({"resourceType": "Condition", "code": {"coding": "odd"}}, Record("Condition", None, None, None)),
    ],
)
def test_a_resource_is_one_line_whatever_it_says_or_leaves_out(resource: dict[str, Any], line: Record) -> None:
    assert record(resource) == line
