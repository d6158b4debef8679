"""Events of the topic alerts to gold.alert_event, each once."""

from collections.abc import Callable
from datetime import datetime

import pytest
from pyspark.sql import Row

from lakehouse import delta
from lakehouse.pipeline import ALERT_EVENT as FLOW
from lakehouse.tables import ALERT, ALERT_EVENT
from streaming.alert_event import build, write_batch
from tests.fixtures.alert_event import EVENT, event
from tests.fixtures.vitals import NOW


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
        **dict.fromkeys(("escalation_step", "muted_by", "actor", "note")),
        "readings": [
            Row(
                code="8867-4",
                value=121.0,
                value_code=None,
                observed_at=datetime(2026, 3, 1, 12, 0, 0, 123000),  # noqa: DTZ001 (Spark's, in UTC)
                message_id="m1",
            )
        ],
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


def test_an_alert_stands_as_its_transitions_add_up_whenever_they_land(spark, alerts, lake):
    write = write_batch(FLOW, lake)

    def standing() -> list[tuple]:
        rows = delta.read(spark, lake.data.table(ALERT)).orderBy("alert_id")
        names = ("state", "sequence", "value", "acknowledged_by", "escalations")
        instants = ("active_at", "acknowledged_at", "ended_at")
        sql = (*names, *(f"{name} IS NOT NULL AS {name}" for name in instants))
        return [tuple(row) for row in rows.selectExpr(*sql).collect()]

    opened = event(state="pending")
    escalated = event(sequence=2, state="escalated", value=None, escalation_step=1)
    write(alerts(opened, escalated, event(alert_id="1" * 32)), 0)
    assert standing() == [
        ("escalated", 2, 121.0, None, 1, False, False, False),
        ("active", 0, 121.0, None, 0, True, False, False),
    ]
    taken = event(sequence=3, state="acknowledged", value=None, actor="nurse", note="on my way")
    write(alerts(event(sequence=1, value=130.0), taken, event(sequence=4, state="resolved", value=90.0)), 1)
    assert standing()[0] == ("resolved", 4, 121.0, "nurse", 1, True, True, True)
    again = standing()
    write(alerts(event(sequence=1, value=130.0), taken), 1)
    write(alerts(opened), 2)
    assert standing() == again
