"""Events of the topic alerts to gold.alert_event, each once."""

import json
from collections.abc import Callable

import pytest

from lakehouse import delta
from lakehouse.pipeline import ALERT_EVENT as FLOW
from lakehouse.tables import ALERT_EVENT
from streaming.alert_event import build, write_batch
from tests.fixtures.vitals import NOW

EVENT = {
    "schema_version": 1,
    "alert_id": "0" * 32,
    "sequence": 0,
    "state": "active",
    "reason": "breach",
    "rule_id": "heart-rate-high",
    "title": "Heart rate high",
    "pack": "adult@1",
    "priority": "medium",
    "category": "physiological",
    "patient_id": "mrn/1",
    "location_unit": "ICU",
    "location_bed": "4",
    "device_id": "monitor-1",
    "code": "8867-4",
    "value": 121.0,
    "limit_value": 120.0,
    "observed_at": 1772366400123,
    "message_id": "m1",
    "message_received_at": 1772366401456,
}


def event(**changes: object) -> bytes:
    return json.dumps({k: v for k, v in (EVENT | changes).items() if v is not None}).encode()


@pytest.fixture
def alerts(records) -> Callable:
    return lambda *values: records(*values, topic="alerts", received_at=NOW)


def test_an_event_becomes_a_row_with_the_instants_of_its_milliseconds_and_of_the_broker(alerts):
    rows = build(alerts(event(), event(sequence=1, value=None, location_bed=None)))

    instants = ("observed_at", "message_received_at", "emitted_at")
    found = rows.selectExpr("*", *(f"CAST({name} AS STRING) AS {name}_text" for name in instants)).drop(*instants)
    expected = {k: v for k, v in EVENT.items() if k not in ("schema_version", *instants)} | {
        "observed_at_text": "2026-03-01 12:00:00.123",
        "message_received_at_text": "2026-03-01 12:00:01.456",
        "emitted_at_text": "2026-03-01 12:00:10",
    }
    assert [row.asDict() for row in found.collect()] == [
        expected,
        expected | {"sequence": 1, "value": None, "location_bed": None},
    ]
    assert rows.columns == [column.name for column in ALERT_EVENT.columns]


def test_an_event_lands_once_however_often_it_is_sent_and_what_is_none_lands_not(spark, alerts, lake):
    write = write_batch(FLOW, lake)

    def landed() -> list[tuple]:
        rows = delta.read(spark, lake.data.table(ALERT_EVENT))
        return sorted(tuple(row) for row in rows.select("alert_id", "sequence", "state").collect())

    first, second = ("0" * 32, 0, "active"), ("0" * 32, 1, "resolved")
    write(alerts(event(), event(), b"{", None, b"[]", event(sequence=None), event(alert_id=None)), 0)
    assert landed() == [first]
    write(alerts(event(), event(sequence=1, state="resolved")), 1)
    assert landed() == [first, second]
    write(alerts(event(), event(sequence=1, state="resolved")), 1)
    write(alerts(b"no event"), 2)
    assert landed() == [first, second]


def test_an_event_that_breaks_a_constraint_of_the_table_does_not_stop_the_flow(spark, alerts, lake):
    broken = [event(priority="dire"), event(sequence=-1), event(rule_id=None), event(category="odd", sequence=2)]
    write_batch(FLOW, lake)(alerts(*broken, event(sequence=3)), 0)
    rows = delta.read(spark, lake.data.table(ALERT_EVENT)).select("sequence")
    assert [row.sequence for row in rows.collect()] == [3]
