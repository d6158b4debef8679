"""Records of FHIR resources to patients, encounters, others and dead letters."""

import json
from datetime import date, datetime

import pytest

from lakehouse import delta
from lakehouse.delta import Write
from lakehouse.tables import CLINICAL_RESOURCE, DEAD_LETTER, ENCOUNTER, PATIENT
from lakehouse.transforms.clinical_resource import of_resources, parse, resources
from streaming import clinical_resource
from tests.fixtures.vitals import NOW, encoded_patient, resource_record

BORN = {"birthDate": "1961-05-07", "gender": "female"}
STAY = {
    "resourceType": "Encounter",
    "id": "e1",
    "status": "finished",
    "class": {"code": "ACUTE"},
    "type": [{"text": "EMERGENCY"}],
    "subject": {"reference": "https://ehr.example/fhir/Patient/7"},
    "partOf": {"reference": "Encounter/e0"},
    "period": {"start": "2026-03-01T08:00:00+01:00", "end": "2026-03-02"},
    "location": [{"location": {"display": "MICU"}}],
    "hospitalization": {
        "admitSource": {"text": "EMERGENCY ROOM"},
        "dischargeDisposition": {"text": "DIED", "coding": [{"code": "exp"}]},
    },
}


def read(records, table, *values: bytes) -> list[dict]:
    rows = resources(parse(records(*values, topic="clinical.resource")), table).collect()
    return [row.asDict() for row in rows]


def test_a_patient_keeps_what_is_known_of_birth_and_death(records):
    known, partly, dead = read(
        records,
        PATIENT,
        encoded_patient("7", **BORN),
        encoded_patient("8", birthDate="1961-05"),
        encoded_patient("9", birthDate="1961", deceasedDateTime="2025-12-31T23:00:00+02:00", deceasedBoolean=True),
    )
    assert known | {"version": None} == {
        "patient_id": "mrn/7",
        "version": None,
        "gender": "female",
        "birth_year": 1961,
        "birth_date": date(1961, 5, 7),
        "deceased_on": None,
        "resource": json.dumps({"resourceType": "Patient", "id": "7", **BORN}, separators=(",", ":")),
        "source": "ehr",
        "recorded_at": NOW.replace(tzinfo=None),
        "recorded_at_inferred": True,
        "received_at": NOW.replace(tzinfo=None),
        "topic": "clinical.resource",
        "partition": 0,
        "offset": 0,
    }
    assert (partly["birth_year"], partly["birth_date"]) == (1961, None)
    assert (dead["birth_year"], dead["birth_date"], dead["deceased_on"]) == (1961, None, date(2025, 12, 31))


def test_an_encounter_names_its_patient_and_what_it_is_part_of_with_their_system(records):
    (row,) = read(records, ENCOUNTER, resource_record(STAY, recorded_at="2026-03-02T10:00:00Z"))
    assert {name: row[name] for name in [column.name for column in ENCOUNTER.columns if column.name in row][:13]} | {
        "version": None
    } == {
        "encounter_id": "mrn/e1",
        "version": None,
        "patient_id": "mrn/7",
        "part_of": "mrn/e0",
        "status": "finished",
        "class": "ACUTE",
        "type": "EMERGENCY",
        "location": "MICU",
        "started_at": datetime(2026, 3, 1, 7),  # noqa: DTZ001 - as Spark gives it
        "ended_at": datetime(2026, 3, 2),  # noqa: DTZ001
        "admit_source": "EMERGENCY ROOM",
        "discharge_disposition": "DIED",
        "died": True,
    }
    assert (row["recorded_at"], row["recorded_at_inferred"]) == (datetime(2026, 3, 2, 10), False)  # noqa: DTZ001


def test_another_resource_is_kept_whole(records):
    condition = {"resourceType": "Condition", "id": "c", "code": {"text": "Sepsis"}}
    condition |= {"subject": {"reference": "Patient/7"}, "encounter": {"reference": "Encounter/e1"}}
    (row,) = read(records, CLINICAL_RESOURCE, resource_record(condition))
    assert (row["resource_type"], row["resource_id"], row["encounter_id"]) == ("Condition", "mrn/c", "mrn/e1")
    assert json.loads(row["resource"]) == condition


BAD = {
    "tombstone": (None, None),
    "empty": (b"", None),
    "malformed_json": (b"{", "{"),
    "not_utf8": (b"\xff{}", None),
    "missing_field": (b"{}", "schema_version, patient_id, source, resource.resourceType, resource.id"),
    "unknown_schema_version": (resource_record(STAY, schema_version=2), "2"),
    "invalid_patient_id": (resource_record(STAY, "7"), "7"),
    "bad_timestamp": (encoded_patient("7", birthDate="07.05.1961"), "birthDate"),
    "other_patient": (resource_record(STAY, "mrn/8"), "mrn/7 in a record of mrn/8"),
}


def test_a_record_that_is_no_resource_is_a_dead_letter_with_its_reason(records):
    values = [value for value, _ in BAD.values()]
    rows = parse(records(*values, topic="clinical.resource")).orderBy("offset").collect()
    found = {row["dead_letter_reason"]: row["dead_letter_detail"] for row in rows}
    assert found == {reason: detail for reason, (_, detail) in BAD.items()}


@pytest.mark.parametrize(
    ("bad", "detail"),
    [
        ({"period": {"start": "2026-02-30T08:00:00Z"}}, "period.start"),
        ({"period": {"start": "2026-03-01T08:00:00"}}, "period.start"),
        ({"status": None}, "resource.status"),
    ],
)
def test_an_encounter_with_a_bad_field_is_a_dead_letter_that_names_it(records, bad, detail):
    (row,) = parse(records(resource_record({**STAY, **bad}), topic="clinical.resource")).collect()
    assert row["dead_letter_detail"] == detail


@pytest.mark.parametrize(
    ("topic", "holds"),
    [
        ("clinical.resource", True),
        ("vitals", False),
        ("file:mimic-iv/resource/patients.csv.gz@0123456789abcdef", True),
        ("file:mimic-iv/chartevents.csv.gz@0123456789abcdef", False),
    ],
)
def test_resources_are_told_from_messages_by_their_topic(spark, topic, holds):
    assert (
        spark.sql(f"SELECT {of_resources('clinical.resource')} AS holds FROM (SELECT '{topic}' AS topic)").first()[
            "holds"
        ]
        is holds
    )


def test_a_batch_lands_each_version_once(lake, records, spark):
    def land(batch: int, *values: bytes, first: int = 0) -> list[int]:
        found = records(*values, topic="clinical.resource", first=first)
        clinical_resource.land(found, lake, lambda action: Write(action, batch))
        tables = (PATIENT, ENCOUNTER, CLINICAL_RESOURCE, DEAD_LETTER)
        return [delta.read(spark, lake.data.table(table)).count() for table in tables]

    first = (encoded_patient("7", **BORN), resource_record(STAY), encoded_patient("7", **BORN), b"{")
    assert land(0, *first) == [1, 1, 0, 1]
    assert land(0, *first) == [1, 1, 0, 1]
    later = (encoded_patient("7", **BORN), encoded_patient("7", gender="female", birthDate="1961-05-08"))
    assert land(1, *later, first=10) == [2, 1, 0, 1]
