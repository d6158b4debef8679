from datetime import UTC, datetime
from typing import Any

import orjson
import pytest

from gateway.live import LatestVitals, Patient, Reading, apply, describe

NOON = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp() * 1000)
HEART_RATE = "8867-4"
SPO2 = "59408-5"


def seen(code: str, value: float | None, band: str = "normal", **more: Any) -> dict[str, Any]:
    return {"code": code, "band": band, **({} if value is None else {"value": value}), **more}


def evaluation(second: int, *observations: dict[str, Any], **more: Any) -> dict[str, Any]:
    at = NOON + second * 1000
    return {
        "patient_id": "ward/1",
        "device_id": "monitor-1",
        "observed_at": at,
        "received_at": at + 50,
        "status": "final",
        "observations": list(observations),
        **more,
    }


def after(*evaluations: dict[str, Any]) -> Patient:
    patient = None
    for one in evaluations:
        patient = apply(patient, one)
    assert patient is not None
    return patient


def test_each_signal_shows_its_own_latest_value() -> None:
    patient = after(
        evaluation(0, seen(HEART_RATE, 70.0), seen(SPO2, 97.0), location_unit="ICU", location_bed="3", battery=80.0),
        evaluation(1, seen(HEART_RATE, 131.0, "breach")),
    )

    assert patient == Patient(
        patient_id="ward/1",
        observed_at=NOON + 1000,
        received_at=NOON + 1050,
        device_id="monitor-1",
        unit="ICU",
        bed="3",
        readings={
            HEART_RATE: Reading(HEART_RATE, NOON + 1000, "breach", 131.0),
            SPO2: Reading(SPO2, NOON, "normal", 97.0),
        },
    )


def test_a_late_message_fills_in_a_signal_and_does_not_hide_a_newer_value() -> None:
    patient = after(
        evaluation(9, seen(HEART_RATE, 80.0), location_bed="new"),
        evaluation(5, seen(HEART_RATE, 60.0), seen(SPO2, 97.0), location_bed="old"),
    )

    assert (patient.observed_at, patient.bed) == (NOON + 9000, "new")
    assert patient.readings == {
        HEART_RATE: Reading(HEART_RATE, NOON + 9000, "normal", 80.0),
        SPO2: Reading(SPO2, NOON + 5000, "normal", 97.0),
    }


def test_an_unusable_value_leaves_the_last_good_one_in_place_and_says_why() -> None:
    patient = after(
        evaluation(0, seen(HEART_RATE, 70.0)),
        evaluation(1, seen(HEART_RATE, None, "none", fault="sensor_disconnected")),
    )

    assert patient.readings[HEART_RATE] == Reading(HEART_RATE, NOON, "normal", 70.0, fault="sensor_disconnected")
    assert apply(patient, evaluation(2, seen(HEART_RATE, 71.0))).readings[HEART_RATE].fault is None


def test_a_signal_that_was_never_usable_is_shown_as_such() -> None:
    patient = after(evaluation(0, seen(SPO2, None, "none", fault="sensor_disconnected")))

    assert patient.readings == {SPO2: Reading(SPO2, NOON, "none", fault="sensor_disconnected")}


def test_a_value_entered_in_error_disappears() -> None:
    patient = after(
        evaluation(0, seen(HEART_RATE, 700.0)), evaluation(0, seen(HEART_RATE, 700.0), status="entered-in-error")
    )

    assert patient.readings == {}


def test_patients_are_listed_by_unit_and_bed_and_forgotten_after_a_while() -> None:
    cache = LatestVitals()
    for patient_id, unit, bed, second in (("a/1", "ICU", "2", 0), ("a/2", "ICU", "1", 60), ("a/3", "CCU", "9", 60)):
        record = evaluation(second, seen(HEART_RATE, 70.0), patient_id=patient_id, location_unit=unit, location_bed=bed)
        cache.take(orjson.dumps(record))

    assert [patient.patient_id for patient in cache.patients()] == ["a/3", "a/2", "a/1"]
    assert [patient.patient_id for patient in cache.patients("ICU")] == ["a/2", "a/1"]
    cache.forget(datetime(2026, 3, 1, 12, 0, 30, tzinfo=UTC))
    assert [patient.patient_id for patient in cache.patients()] == ["a/3", "a/2"]


@pytest.mark.parametrize("record", [None, b"", b"not json", b"[]", b'{"patient_id": "a/1"}'])
def test_a_record_that_is_no_evaluation_is_counted_and_harms_nothing(record: bytes | None) -> None:
    cache = LatestVitals()

    cache.take(record)

    assert (cache.unreadable, len(cache)) == (1, 0)


def test_a_coded_value_is_described_by_its_code() -> None:
    patient = after(evaluation(0, {"code": "67775-7", "band": "normal", "value_code": "A"}))

    (reading,) = describe(patient)["readings"]

    assert reading == {
        "code": "67775-7",
        "name": "Level of consciousness (ACVPU)",
        "value": "A",
        "unit": None,
        "band": "normal",
        "fault": None,
        "observed_at": "2026-03-01T12:00:00.000Z",
    }
