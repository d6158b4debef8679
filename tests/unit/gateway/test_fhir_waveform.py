from datetime import UTC, datetime
from typing import Any

import pytest

from gateway import fhir
from gateway.fhir_error import FhirError
from gateway.site import Site
from lakehouse.ecg.message import decode, read
from lakehouse.topics import WAVEFORM
from tests.unit.gateway.test_fhir import MDC, concept, observation

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
LEAD_I, LEAD_II = "131329", "131330"


def samples(data: str) -> dict[str, Any]:
    origin = {"value": 0, "system": "http://unitsofmeasure.org", "code": "mV"}
    return {"origin": origin, "period": 4, "factor": 0.005, "dimensions": 1, "data": data}


def ecg(**changes: Any) -> dict[str, Any]:
    leads = [(LEAD_I, "1 2 3"), (LEAD_II, "-4 E 6")]
    component = [{"code": concept(code, system=MDC), "valueSampledData": samples(data)} for code, data in leads]
    whole = {"code": concept("11524-6"), "valueQuantity": None, "component": component}
    return observation(**{**whole, "device": {"reference": "Device/monitor-7"}, **changes})


def taken(content: dict[str, Any]) -> fhir.Taken:
    return fhir.take(content, "Observation", Site(), NOON)


def refusal(**changes: Any) -> tuple[int, str]:
    with pytest.raises(FhirError) as caught:
        taken(ecg(**changes))
    return caught.value.status, caught.value.issues[0].diagnostics


def test_each_lead_is_a_message_of_the_topic_of_waveforms() -> None:
    one, two = taken(ecg()).records
    assert {record.topic for record in (one, two)} == {WAVEFORM.name}
    assert {record.key for record in (one, two)} == {b"fhir/4711"}
    message = read(two.value)
    assert message.source == "fhir"
    assert (message.chunk.signal, message.chunk.device_id, message.chunk.rate) == (LEAD_II, "monitor-7", 250.0)
    assert message.chunk.started_at == NOON
    assert [round(value, 3) for value in message.chunk.millivolts()[[0, 2]]] == [-0.02, 0.03]
    assert decode(one.value).samples.tolist() == [1, 2, 3]


def test_what_is_sent_again_is_the_same_message_and_another_one_is_another() -> None:
    first, again = (taken(ecg()).records[0].message_id for _ in range(2))
    other = taken(ecg(effectiveDateTime="2026-03-01T13:00:01+01:00")).records[0].message_id
    assert first == again != other


def test_what_cannot_be_landed_is_refused_with_what_to_do() -> None:
    assert "it has samples and other values" in refusal(valueString="sinus rhythm")[1]
    beside = [*ecg()["component"], {"code": concept("8867-4"), "valueString": "80"}]
    assert "it has samples and other values" in refusal(component=beside)[1]
    assert "status entered-in-error" in refusal(status="entered-in-error")[1]
    unknown = [{"code": concept("8867-4"), "valueSampledData": samples("1 2")}]
    assert "code has no lead of an ECG" in refusal(component=unknown)[1]
