"""Records of the topic audit to gold.audit_event, each once."""

import orjson
from pyspark.sql import Row

from lakehouse import delta
from lakehouse.audit import Event, encode
from lakehouse.pipeline import AUDIT_EVENT as FLOW
from lakehouse.tables import AUDIT_EVENT
from streaming.audit_event import build, write_batch
from tests.fixtures.vitals import NOW

READ = Event("gateway", "key", "screen", "read latest vitals", "done", "mrn/1", at=1772366400123, event_id="e1")
REFUSED = Event("gateway", "nobody", "nobody", "list alerts", "refused", None, "ICU", "give a key", READ.at, "e2")


def test_a_record_lands_once_with_who_what_whom_and_when_and_what_is_none_lands_not(spark, records, lake):
    write = write_batch(FLOW, lake)
    odd = orjson.dumps({**orjson.loads(encode(READ)), "outcome": "perhaps", "event_id": "e3"})
    write(records(encode(READ), encode(READ), b"{", None, odd, topic="audit", received_at=NOW), 0)
    write(records(encode(REFUSED), encode(READ), topic="audit", received_at=NOW), 1)
    write(records(encode(REFUSED), topic="audit", received_at=NOW), 1)

    texts = ("asked_at", "emitted_at")
    rows = delta.read(spark, lake.data.table(AUDIT_EVENT)).orderBy("event_id")
    shown = rows.selectExpr("* EXCEPT (asked_at, emitted_at)", *(f"CAST({name} AS STRING)" for name in texts))
    usual = {"application": "gateway", "asked_at": "2026-03-01 12:00:00.123", "emitted_at": "2026-03-01 12:00:10"}
    nobody = {"actor_kind": "nobody", "actor": "nobody", "action": "list alerts", "outcome": "refused"}
    screen = {"actor_kind": "key", "actor": "screen", "action": "read latest vitals", "outcome": "done"}
    assert [row.asDict() for row in shown.collect()] == [
        {**usual, **screen, "event_id": "e1", "patient_id": "mrn/1", "location_unit": None, "detail": None},
        {**usual, **nobody, "event_id": "e2", "patient_id": None, "location_unit": "ICU", "detail": "give a key"},
    ]


def test_what_is_no_record_gives_a_row_without_its_key(records):
    assert build(records(b"[]", None)).select("event_id").collect() == [Row(event_id=None)] * 2
