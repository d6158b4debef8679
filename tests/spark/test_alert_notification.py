"""Records of the topics alert.notification and alert.delivery to their gold tables, each once."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, get_args

import pytest

from alerting.notification import Delivery, Notification, Status, Told, encode, encode_delivery
from lakehouse import delta
from lakehouse.pipeline import ALERT_NOTIFICATION as FLOW
from lakehouse.tables import ALERT_DELIVERY, ALERT_NOTIFICATION, DELIVERY_STATUSES
from streaming.alert_notification import deliveries, notifications, write_batch
from tests.fixtures.vitals import NOW

TOLD = Told("a" * 32, 2, "spo2-low", "SpO2 low", "high", "physiological", "active", 1772366400000, value=84.0)
NOTIFICATION = Notification(
    notification_id="n1",
    patient_id="mrn/1",
    reason="escalated",
    step=1,
    priority="high",
    channels=("nurse", "doctor"),
    at=1772366400123,
    pack="adult@1",
    alerts=(TOLD, replace(TOLD, alert_id="b" * 32, sequence=0)),
    location_unit="ICU",
    message_received_at=1772366399456,
)
DELIVERY = Delivery("n1", "mrn/1", "nurse", "undeliverable", 7, 1772366405123, ("a" * 32,), error="refused")


@pytest.fixture
def both(records: Callable) -> Callable:
    """Records of both topics in one frame, as the query has them."""

    def make(decided: list[bytes | None], ended: list[bytes | None], first: int = 0) -> Any:
        one = records(*decided, topic="alert.notification", received_at=NOW)
        return one.union(records(*ended, topic="alert.delivery", received_at=NOW, first=first))

    return make


def utc(row: Any) -> dict[str, Any]:
    return {
        name: value.astimezone(UTC).replace(tzinfo=None) if isinstance(value, datetime) else value
        for name, value in row.asDict().items()
    }


def instant(seconds: int, millis: int) -> datetime:
    return datetime(2026, 3, 1, 12, 0, seconds, millis * 1000)  # noqa: DTZ001 - as utc() gives them


def test_a_decision_becomes_a_row_with_the_alerts_it_tells(both: Callable) -> None:
    rows = notifications(both([encode(NOTIFICATION)], []))
    assert rows.columns == [column.name for column in ALERT_NOTIFICATION.columns]
    assert [utc(row) for row in rows.collect()] == [
        {
            "notification_id": "n1",
            "patient_id": "mrn/1",
            "reason": "escalated",
            "step": 1,
            "priority": "high",
            "channels": ["nurse", "doctor"],
            "pack": "adult@1",
            "alert_ids": ["a" * 32, "b" * 32],
            "sequences": [2, 0],
            "location_unit": "ICU",
            "location_bed": None,
            "message_received_at": datetime(2026, 3, 1, 11, 59, 59, 456000),  # noqa: DTZ001
            "decided_at": instant(0, 123),
            "emitted_at": NOW.replace(tzinfo=None),
        }
    ]


def test_a_delivery_becomes_a_row_with_its_status_and_error(both: Callable) -> None:
    rows = deliveries(both([], [encode_delivery(DELIVERY)]))
    assert rows.columns == [column.name for column in ALERT_DELIVERY.columns]
    assert [utc(row) for row in rows.collect()] == [
        {
            "notification_id": "n1",
            "channel": "nurse",
            "patient_id": "mrn/1",
            "status": "undeliverable",
            "attempts": 7,
            "error": "refused",
            "digest_id": None,
            "alert_ids": ["a" * 32],
            "ended_at": instant(5, 123),
            "emitted_at": NOW.replace(tzinfo=None),
        }
    ]


def test_each_lands_once_however_often_it_is_sent_the_last_status_counts_and_what_is_neither_lands_not(
    spark: Any, both: Callable, lake: Any
) -> None:
    write = write_batch(FLOW, lake)

    def landed() -> tuple[list[str], list[tuple[str, str, str]]]:
        decided = delta.read(spark, lake.data.table(ALERT_NOTIFICATION)).select("notification_id").collect()
        ended = delta.read(spark, lake.data.table(ALERT_DELIVERY)).select("notification_id", "channel", "status")
        return sorted(row[0] for row in decided), sorted(tuple(row) for row in ended.collect())

    one, other = encode(NOTIFICATION), encode(replace(NOTIFICATION, notification_id="n2"))
    failed, worked = encode_delivery(DELIVERY), encode_delivery(replace(DELIVERY, status="delivered", error=None))
    doctor = encode_delivery(replace(DELIVERY, channel="doctor", status="unconfigured", attempts=0))
    wrong = encode_delivery(DELIVERY).replace(b"undeliverable", b"lost")
    write(both([one, one, b"{", None, b"[]"], []), 0)
    assert landed() == (["n1"], [])
    write(both([], [failed, doctor, wrong, b"{", None]), 1)
    assert landed() == (["n1"], [("n1", "doctor", "unconfigured"), ("n1", "nurse", "undeliverable")])
    write(both([one, other], [failed, worked], first=10), 2)
    write(both([one, other], [failed, worked], first=10), 2)
    assert landed() == (["n1", "n2"], [("n1", "doctor", "unconfigured"), ("n1", "nurse", "delivered")])


def test_the_table_takes_every_status_that_the_notifier_gives() -> None:
    assert get_args(Status) == DELIVERY_STATUSES
