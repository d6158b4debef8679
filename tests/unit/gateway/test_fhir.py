import json
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway import fhir
from gateway.fhir_error import FhirError
from gateway.site import Site
from lakehouse.topics import CLINICAL_RESOURCE, VITALS

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LOINC, MDC, UCUM = "http://loinc.org", "urn:iso:std:iso:11073:10101", "http://unitsofmeasure.org"


def concept(*codes: str, system: str = LOINC) -> dict[str, Any]:
    return {"coding": [{"system": system, "code": code} for code in codes]}


def quantity(value: float, code: str, unit: str | None = None) -> dict[str, Any]:
    return {"value": value, "system": UCUM, "code": code, "unit": unit or code}


def observation(**changes: Any) -> dict[str, Any]:
    content = {
        "resourceType": "Observation",
        "id": "hr-1",
        "status": "final",
        "code": concept("8867-4"),
        "subject": {"reference": "Patient/4711"},
        "effectiveDateTime": "2026-03-01T13:00:00+01:00",
        "valueQuantity": quantity(118, "/min", "beats/minute"),
        **changes,
    }
    return {name: value for name, value in content.items() if value is not None}


def sent(resource: dict[str, Any], site: Site | None = None) -> dict[str, Any]:
    content: dict[str, Any] = orjson.loads(
        fhir.take(resource, resource["resourceType"], site or Site(), NOON).records[0].value
    )
    return content


def refusal(resource: dict[str, Any], site: Site | None = None) -> tuple[int, str, str | None]:
    with pytest.raises(FhirError) as caught:
        fhir.take(resource, "Observation", site or Site(), NOON)
    issue = caught.value.issues[0]
    return caught.value.status, issue.code, issue.expression


def entry(resource: dict[str, Any], full_url: str | None = None, method: str = "POST") -> dict[str, Any]:
    kind = resource["resourceType"]
    url = kind if method == "POST" else f"{kind}/{resource['id']}"
    named = {"fullUrl": full_url} if full_url else {}
    return {**named, "resource": resource, "request": {"method": method, "url": url}}


def bundle(*entries: dict[str, Any], kind: str = "transaction") -> dict[str, Any]:
    return {"resourceType": "Bundle", "type": kind, "entry": list(entries)}


def test_an_observation_is_a_device_message() -> None:
    message = sent(
        observation(
            encounter={"reference": "https://ehr.example/fhir/Encounter/e-9/_history/2"},
            device={"reference": "Device/monitor-7"},
            issued="2026-03-01T12:00:05.25Z",
        )
    )

    assert message.pop("message_id").startswith("fhir/Observation/")
    assert message == {
        "schema_version": 1,
        "patient_id": "fhir/4711",
        "encounter_id": "fhir/e-9",
        "device_id": "monitor-7",
        "source": "fhir",
        "observed_at": "2026-03-01T12:00:00Z",
        "recorded_at": "2026-03-01T12:00:05.250000Z",
        "status": "final",
        "observations": [
            {"code": "8867-4", "value": 118.0, "unit": "/min", "source_unit": "beats/minute", "record_id": "hr-1"}
        ],
    }


def test_each_component_of_a_panel_is_an_observation_of_one_message() -> None:
    panel = observation(
        id="bp-1",
        code=concept("85354-9"),
        valueQuantity=None,
        component=[
            {"code": concept("8480-6"), "valueQuantity": quantity(107, "mm[Hg]")},
            {"code": concept("8462-4"), "dataAbsentReason": concept("not-performed")},
        ],
    )

    assert sent(panel)["observations"] == [
        {"code": "8480-6", "value": 107.0, "unit": "mm[Hg]", "record_id": "bp-1/8480-6"},
        {"code": "8462-4", "value_code": "absent:not-performed", "record_id": "bp-1/8462-4"},
    ]


def test_a_correction_is_another_message_of_the_same_value_known_now() -> None:
    first = sent(observation(id=None, identifier=[{"system": "urn:ehr", "value": "o-1"}]))
    corrected = sent(
        observation(
            id=None,
            identifier=[{"system": "urn:ehr", "value": "o-1"}],
            status="corrected",
            valueQuantity=quantity(81, "/min"),
        )
    )

    same = ("patient_id", "device_id", "source", "observed_at")
    assert [corrected[name] for name in same] == [first[name] for name in same]
    assert corrected["observations"][0]["record_id"] == first["observations"][0]["record_id"]
    assert (first.get("recorded_at"), corrected["recorded_at"]) == (None, "2026-03-01T12:00:00Z")
    assert first["message_id"] != corrected["message_id"]


def test_what_is_sent_twice_is_one_message() -> None:
    without_id = observation(id=None)

    assert sent(without_id) == sent(dict(reversed(list(without_id.items()))))


def test_a_withdrawal_names_what_it_withdraws() -> None:
    assert sent(observation(status="entered-in-error"))["status"] == "entered-in-error"
    assert refusal(observation(status="entered-in-error", valueQuantity=None))[:2] == (422, "required")


@pytest.mark.parametrize(
    ("changes", "reading"),
    [
        # Of several codes the vocabulary's first counts; a monitor's MDC code is translated and kept.
        ({"code": concept("2708-6", "59408-5")}, {"code": "59408-5", "value": 118.0, "unit": "/min"}),
        (
            {"code": concept("150456", system=MDC)},
            {"code": "59408-5", "value": 118.0, "unit": "/min", "source_code": "150456"},
        ),
        # What nobody knows goes as it is: silver names it.
        ({"code": concept("99999-9")}, {"code": "99999-9", "value": 118.0, "unit": "/min"}),
        ({"code": {"text": "mood"}}, {"code": "mood", "value": 118.0, "unit": "/min"}),
        ({"valueQuantity": {"value": 37.2}}, {"code": "8867-4", "value": 37.2}),
        (
            {"valueQuantity": {**quantity(200, "/min"), "comparator": ">"}},
            {"code": "8867-4", "value_code": ">200 /min"},
        ),
        ({"valueQuantity": None, "valueInteger": 80}, {"code": "8867-4", "value": 80}),
        ({"valueQuantity": None}, {"code": "8867-4", "value_code": "absent:unknown"}),
        (
            {"code": concept("67775-7"), "valueQuantity": None, "valueCodeableConcept": {"text": "Responds to pain"}},
            {"code": "67775-7", "value_code": "P"},
        ),
        (
            {"code": concept("67775-7"), "valueQuantity": None, "valueString": "not alert"},
            {"code": "67775-7", "value_code": "not alert"},
        ),
    ],
)
def test_a_value_goes_as_it_is_meant(changes: dict[str, Any], reading: dict[str, Any]) -> None:
    (found,) = sent(observation(**changes))["observations"]

    assert {name: value for name, value in found.items() if name not in ("record_id", "source_unit")} == reading


@pytest.mark.parametrize(
    ("changes", "observed_at"),
    [
        ({"effectiveDateTime": "2026-03-01T12:00:00.123456789-05:00"}, "2026-03-01T17:00:00.123456Z"),
        ({"effectiveDateTime": None, "effectiveInstant": "2026-03-01T12:00:00Z"}, "2026-03-01T12:00:00Z"),
        (
            {"effectiveDateTime": None, "effectivePeriod": {"start": "2026-03-01T11:00:00Z"}},
            "2026-03-01T11:00:00Z",
        ),
        ({"effectiveDateTime": None, "issued": "2026-03-01T10:00:00Z"}, "2026-03-01T10:00:00Z"),
        ({"effectiveDateTime": "2026-03-01"}, "2026-02-28T23:00:00Z"),
    ],
)
def test_a_time_becomes_an_instant(changes: dict[str, Any], observed_at: str) -> None:
    assert sent(observation(**changes), Site(zone=ZoneInfo("Europe/Berlin")))["observed_at"] == observed_at


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"status": "registered"}, (422, "not-supported", "Observation.status")),
        ({"effectiveDateTime": "2026-03"}, (422, "value", "Observation.effectiveDateTime")),
        ({"effectiveDateTime": "2026-03-01T12:00:00"}, (400, "value", "Observation.effectiveDateTime")),
        ({"effectiveDateTime": None}, (422, "required", "Observation.effective")),
        ({"subject": {"reference": "Group/1"}}, (422, "required", "Observation.subject")),
        ({"subject": {"reference": "urn:uuid:0c3d"}}, (422, "not-found", None)),
        ({"code": None}, (400, "required", "Observation.code")),
        ({"unheard": 1}, (400, "structure", "Observation.unheard")),
        ({"resourceType": "Practitioner"}, (422, "not-supported", "resourceType")),
        (
            {"valueQuantity": None, "valuePeriod": {"start": "2026"}},
            (422, "not-supported", "Observation.valuePeriod"),
        ),
    ],
)
def test_what_cannot_be_taken_is_told_where(changes: dict[str, Any], expected: tuple[int, str, str | None]) -> None:
    assert refusal(observation(**changes)) == expected


def test_references_inside_a_bundle_are_resolved_and_ids_come_from_identifiers() -> None:
    patient = {
        "resourceType": "Patient",
        "identifier": [{"value": "ssn"}, {"value": "4711", "type": concept("MR")}],
        "birthDate": "1950-02",
    }
    stay = {
        "resourceType": "Encounter",
        "status": "in-progress",
        "class": {"code": "IMP"},
        "subject": {"reference": "urn:uuid:aaaa"},
    }
    value = observation(id=None, subject={"reference": "urn:uuid:aaaa"}, encounter={"reference": "urn:uuid:bbbb"})
    sent_bundle = bundle(entry(value), entry(patient, "urn:uuid:aaaa"), entry(stay, "urn:uuid:bbbb"))

    kind, taken = fhir.take_bundle(sent_bundle, Site("hospital"), NOON)

    assert kind == "transaction"
    measured, who, where = (one for one in taken if isinstance(one, fhir.Taken))
    assert (who.location, where.location) == ("Patient/4711", "Encounter/bbbb")
    message = orjson.loads(measured.records[0].value)
    assert (message["patient_id"], message["encounter_id"]) == ("hospital/4711", "hospital/bbbb")
    assert message["observations"][0]["record_id"] == measured.resource_id
    assert orjson.loads(where.records[0].value) == {
        "schema_version": 1,
        "patient_id": "hospital/4711",
        "source": "hospital",
        "resource": {**stay, "id": "bbbb", "subject": {"reference": "Patient/4711"}},
    }
    assert [one.records[0].topic for one in (measured, who, where)] == [
        VITALS.name,
        CLINICAL_RESOURCE.name,
        CLINICAL_RESOURCE.name,
    ]
    assert {one.records[0].key for one in (measured, who, where)} == {b"hospital/4711"}


def test_of_a_batch_the_good_entries_are_taken_and_of_a_transaction_none() -> None:
    entries = (entry(observation()), entry(observation(status="registered")), entry(observation(), method="DELETE"))

    _, results = fhir.take_bundle(bundle(*entries, kind="batch"), Site(), NOON)
    with pytest.raises(FhirError) as caught:
        fhir.take_bundle(bundle(*entries), Site(), NOON)

    assert [r.location if isinstance(r, fhir.Taken) else r.issues[0].expression for r in results] == [
        "Observation/hr-1",
        "Bundle.entry[1].Observation.status",
        "Bundle.entry[2].request.method",
    ]
    assert caught.value.status == 422
    assert [issue.expression for issue in caught.value.issues] == [
        "Bundle.entry[1].Observation.status",
        "Bundle.entry[2].request.method",
    ]


@pytest.mark.parametrize(
    "resource",
    [
        {"resourceType": "Condition", "id": "c-1", "subject": {"reference": "Patient/4711"}},
        {"resourceType": "AllergyIntolerance", "id": "a-1", "patient": {"reference": "Patient/4711"}},
        {
            "resourceType": "Appointment",
            "id": "p-1",
            "status": "booked",
            "participant": [
                {"status": "accepted", "actor": {"identifier": {"value": "doctor"}}},
                {"status": "accepted", "actor": {"reference": "Patient/4711"}},
            ],
        },
        {
            "resourceType": "MedicationRequest",
            "id": "m-1",
            "status": "active",
            "intent": "order",
            "medicationCodeableConcept": {"text": "paracetamol"},
            "subject": {"identifier": {"value": "4711"}},
        },
        {
            "resourceType": "DocumentReference",
            "id": "d-1",
            "status": "current",
            "subject": {"reference": "Patient/4711"},
            "content": [{"attachment": {"title": "letter"}}],
            "meta": {"lastUpdated": "2026-03-01T12:00:00+01:00"},
        },
        # A panel that only names others measures nothing: it is kept as it is.
        observation(valueQuantity=None, hasMember=[{"reference": "Observation/hr-2"}]),
    ],
)
def test_other_resources_go_whole_under_their_patient(resource: dict[str, Any]) -> None:
    taken = fhir.take(resource, resource["resourceType"], Site(), NOON)

    known = {"recorded_at": "2026-03-01T11:00:00Z"} if "meta" in resource else {}
    assert (taken.records[0].topic, taken.records[0].key) == (CLINICAL_RESOURCE.name, b"fhir/4711")
    assert orjson.loads(taken.records[0].value) == {
        "schema_version": 1,
        "patient_id": "fhir/4711",
        "source": "fhir",
        "resource": resource,
        **known,
    }


def test_a_body_that_is_nested_without_end_is_refused() -> None:
    with pytest.raises(FhirError, match="nested"):
        fhir.read(b'{"a":' * 100 + b"1" + b"}" * 100)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([*observation(), "component", "meta", "identifier", "device", "issued"]), JSON)
def test_whatever_stands_in_an_observation_it_is_taken_or_refused(name: str, value: Any) -> None:
    damaged = {**observation(), name: value}
    for content in (bundle(entry(observation()) | {"resource": damaged}), bundle() | {"entry": value}):
        assert status(content) in (None, 400, 422)


def status(content: dict[str, Any]) -> int | None:
    """Why a Bundle is refused; None for one that is taken."""
    try:
        fhir.take_bundle(content, Site(), NOON)
    except FhirError as error:
        return error.status
    return None


@given(st.binary(max_size=200) | JSON.map(json.dumps).map(str.encode))
def test_any_bytes_are_a_resource_or_a_refusal(body: bytes) -> None:
    with suppress(FhirError):
        assert fhir.take(fhir.read(body), "Observation", Site(), NOON).records[0].value
