"""What FHIR and HL7 v2 bring, as silver has it: units converted, corrections as versions, faults named."""

from datetime import UTC, datetime
from typing import Any

from gateway import fhir, hl7v2
from gateway.hl7v2_records import records as hl7_records
from gateway.site import Site
from lakehouse.tables import ENCOUNTER, PATIENT
from lakehouse.transforms import message as messages
from lakehouse.transforms.clinical_resource import parse, resources
from lakehouse.transforms.observation import accepted, current_versions, observations, quarantined

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SITE = Site("hospital")


def of_fhir(resource: dict[str, Any]) -> bytes:
    (record,) = fhir.take(resource, resource["resourceType"], SITE, NOON).records
    return record.value


def of_hl7(kind: str, *segments: str, control_id: str = "M-1") -> list[bytes]:
    head = rf"MSH|^~\&|MON|ICU|WARD|HOSP|20260301130000+0100||{kind}|{control_id}|P|2.6"
    raw = "\r".join([head, "PID|||4711^^^HOSP^MR||FAMILY^GIVEN||19500203|F", *segments]).encode()
    return [record.value for record in hl7_records(hl7v2.read(raw), SITE, NOON)]


def temperature(value: float, unit: str, **changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": "t-1",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8310-5"}]},
        "subject": {"reference": "Patient/4711"},
        "effectiveDateTime": "2026-03-01T11:00:00Z",
        "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": unit},
        **changes,
    }


def test_values_of_fhir_and_hl7_are_converted_judged_and_corrected_as_all_others(records):
    order = "OBR|1||f-1|x|||20260301110000+0000"
    rows = observations(
        messages.parse(
            records(
                of_fhir(temperature(101.3, "[degF]")),
                of_fhir(temperature(37.4, "Cel", status="corrected")),
                of_fhir(temperature(37.4, "Cel", id="t-2", code={"coding": [{"code": "odd"}]})),
                *of_hl7("ORU^R01", order, "OBX|1|NM|8480-6^^LN||16|kPa|||||F", "OBX|2|NM|8867-4^^LN||0|bpm|||||F"),
                *of_hl7("ORU^R01", order, "OBX|1|NM|8480-6^^LN||17|kPa|||||C", control_id="M-2"),
                *of_hl7("ORU^R01", order, "OBX|1|NM|9279-1^^LN|||bpm|||||X", control_id="M-3"),
            )
        )
    ).cache()

    good = accepted(rows).orderBy("offset")
    assert [(r.patient_id, r.code, r.value, r.unit, r.status) for r in good.collect()] == [
        ("hospital/4711", "8310-5", 38.5, "Cel", "final"),
        ("hospital/4711", "8310-5", 37.4, "Cel", "corrected"),
        ("hospital/4711", "8480-6", 120.01, "mm[Hg]", "final"),
        ("hospital/4711", "8480-6", 127.51, "mm[Hg]", "corrected"),
    ]
    newest = current_versions(good).orderBy("code")
    assert [(r.code, r.value) for r in newest.collect()] == [("8310-5", 37.4), ("8480-6", 127.51)]
    bad = quarantined(rows).orderBy("offset")
    assert [(r.code, r.value_code, list(r.failed_constraints)) for r in bad.collect()] == [
        ("odd", None, ["unknown_code"]),
        ("8867-4", None, ["sensor_disconnected"]),
        ("9279-1", "absent:X", ["unknown_value_code"]),
    ]


def test_an_admission_lands_as_a_patient_and_an_encounter(records):
    visit = "PV1||I|ICU^^7||||||||||||||||V-9" + "|" * 25 + "202603011030+0100"
    parsed = parse(records(*of_hl7("ADT^A01", visit), topic="clinical.resource")).cache()

    (patient,) = resources(parsed, PATIENT).collect()
    (stay,) = resources(parsed, ENCOUNTER).collect()

    assert [row.dead_letter_reason for row in parsed.collect()] == [None, None]
    assert (patient.patient_id, patient.gender, str(patient.birth_date)) == ("hospital/4711", "female", "1950-02-03")
    assert (stay.encounter_id, stay.patient_id, stay.status) == ("hospital/V-9", "hospital/4711", "in-progress")
    assert (stay["class"], stay.location, stay.started_at.isoformat()) == ("IMP", "ICU, 7", "2026-03-01T09:30:00")
