"""Who is simulated: the same people for one seed, a bed each, and resources that FHIR R4 allows."""

import re
from collections import Counter
from datetime import UTC, date, datetime

import pytest

from streaming.simulator.cohort import cohort, resources

START = datetime(2026, 3, 1, 8, tzinfo=UTC)


def test_a_larger_cohort_of_one_seed_keeps_the_people_of_a_smaller() -> None:
    small, large = cohort(3, 5, START), cohort(3, 50, START)
    assert (large.resting[:5] == small.resting).all()
    assert [(p.id, p.gender, p.birth_date) for p in large.patients[:5]] == [
        (p.id, p.gender, p.birth_date) for p in small.patients
    ]


def test_units_are_filled_in_proportion_and_no_bed_twice() -> None:
    patients = cohort(3, 100, START).patients
    assert Counter(patient.unit for patient in patients) == {"ICU": 10, "STEP": 15, "MED": 45, "SURG": 30}
    assert len({patient.bed for patient in patients}) == 100


def test_units_and_beds_may_be_given() -> None:
    patients = cohort(3, 3, START, {"RESP": 2, "ICU": 1}).patients
    assert sorted((patient.unit, patient.bed) for patient in patients) == [
        ("ICU", "ICU-01"),
        ("RESP", "RESP-01"),
        ("RESP", "RESP-02"),
    ]


def test_more_patients_than_beds_are_an_error() -> None:
    with pytest.raises(ValueError, match="4 patients do not fit into 3 beds"):
        cohort(3, 4, START, {"RESP": 2, "ICU": 1})


def test_resources_are_a_patient_and_an_inpatient_encounter_of_this_run() -> None:
    [patient] = cohort(3, 1, START).patients
    assert 18 <= (date(2025, 1, 1) - patient.birth_date).days / 365 <= 96
    person, stay = resources(patient)
    assert person == {
        "resourceType": "Patient",
        "id": "3-00001",
        "active": True,
        "identifier": [{"system": "urn:wardhouse:sim", "value": "3-00001"}],
        "name": [{"text": "Simulated patient 3-00001"}],
        "gender": patient.gender,
        "birthDate": patient.birth_date.isoformat(),
    }
    assert stay == {
        "resourceType": "Encounter",
        "id": "3-00001-20260301T080000",
        "status": "in-progress",
        "class": {"system": "http://terminology.hl7.org/CodeSystem/v3-ActCode", "code": "IMP"},
        "subject": {"reference": "Patient/3-00001"},
        "period": {"start": patient.admitted_at.isoformat()},
        "location": [{"location": {"display": f"{patient.unit} {patient.bed}"}, "status": "active"}],
    }
    assert patient.encounter_id == "sim/" + stay["id"]
    # The form that FHIR R4 asks of an id.
    assert all(re.fullmatch(r"[A-Za-z0-9\-.]{1,64}", resource["id"]) for resource in (person, stay))
