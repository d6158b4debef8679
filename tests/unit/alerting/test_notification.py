from collections.abc import Callable
from typing import Any

import orjson
import pytest

from alerting.notification import (
    Delivery,
    Notification,
    NotificationError,
    Told,
    decode,
    decode_delivery,
    delivery_key,
    encode,
    encode_delivery,
    key,
)

TOLD = Told(
    alert_id="a" * 32,
    sequence=0,
    rule_id="spo2-low",
    title="SpO2 low",
    priority="high",
    category="physiological",
    state="active",
    since=1772366400000,
    code="59408-5",
    value=84.0,
    limit_value=90.0,
    trend="falling",
    trend_from=91.0,
    trend_s=120,
)
NOTIFICATION = Notification(
    notification_id="n" * 32,
    patient_id="hospital/4711",
    reason="raised",
    step=0,
    priority="high",
    channels=("nurse", "doctor"),
    at=1772366401000,
    pack="adult@1",
    alerts=(TOLD, Told("b" * 32, 1, "lead-off", "Lead off", "low", "technical", "active", 1772366300000)),
    location_unit="ICU",
    message_received_at=1772366400500,
)
DELIVERY = Delivery(
    notification_id="n" * 32,
    patient_id="hospital/4711",
    channel="nurse",
    status="undeliverable",
    attempts=7,
    at=1772366402000,
    alert_ids=("a" * 32, "b" * 32),
    error="connection refused",
)


def test_a_notification_is_the_same_after_its_record_and_what_is_null_is_left_out() -> None:
    assert decode(encode(NOTIFICATION)) == NOTIFICATION
    assert key(NOTIFICATION) == b"hospital/4711"
    record = orjson.loads(encode(NOTIFICATION))
    assert record["schema_version"] == 1
    assert record["channels"] == ["nurse", "doctor"]
    assert "location_bed" not in record
    assert record["alerts"][1] == {
        "alert_id": "b" * 32,
        "sequence": 1,
        "rule_id": "lead-off",
        "title": "Lead off",
        "priority": "low",
        "category": "technical",
        "state": "active",
        "since": 1772366300000,
    }


def test_a_delivery_is_the_same_after_its_record() -> None:
    assert decode_delivery(encode_delivery(DELIVERY)) == DELIVERY
    assert delivery_key(DELIVERY) == b"n" * 32
    assert orjson.loads(encode_delivery(DELIVERY)) == {
        "schema_version": 1,
        "notification_id": "n" * 32,
        "patient_id": "hospital/4711",
        "channel": "nurse",
        "status": "undeliverable",
        "attempts": 7,
        "at": 1772366402000,
        "alert_ids": ["a" * 32, "b" * 32],
        "error": "connection refused",
    }


def test_a_field_that_a_later_version_adds_is_passed_over() -> None:
    record = orjson.loads(encode(NOTIFICATION)) | {"added": 1}
    assert decode(orjson.dumps(record)) == NOTIFICATION


def changed(value: bytes, **changes: Any) -> bytes:
    return orjson.dumps(orjson.loads(value) | changes)


@pytest.mark.parametrize(
    ("read", "value", "error"),
    [
        (decode, None, "not a notification: a tombstone"),
        (decode, b"[]", "not a notification: schema_version None, wanted 1"),
        (decode, changed(encode(NOTIFICATION), schema_version=2), "not a notification: schema_version 2, wanted 1"),
        (decode, changed(encode(NOTIFICATION), step="0"), "not a notification: step: Input should be a valid integer"),
        (
            decode,
            changed(encode(NOTIFICATION), priority="dire", alerts=[{}])[:-1] + b',"channels":"nurse"}',
            "not a notification: priority: Input should be 'high', 'medium' or 'low'; channels: Input should be ",
        ),
        (decode_delivery, b"{", "not a delivery: not JSON: "),
        (
            decode_delivery,
            changed(encode_delivery(DELIVERY), status="lost"),
            "not a delivery: status: Input should be 'delivered', 'undeliverable', 'digested' or 'unconfigured'",
        ),
    ],
)
def test_a_misshapen_record_is_an_error_that_names_the_field(
    read: Callable[[bytes | None], object], value: bytes | None, error: str
) -> None:
    with pytest.raises(NotificationError) as raised:
        read(value)
    assert str(raised.value).startswith(error)
