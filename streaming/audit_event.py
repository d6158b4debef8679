"""Gold: who read or ordered what of whom, from the topic ``audit``, each record once."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from lakehouse import delta, render
from lakehouse.pipeline import Flow
from lakehouse.tables import AUDIT_EVENT
from lakehouse.topics import AUDIT
from streaming import query, record_rows
from streaming.config import StreamConfig

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

_MADE = {"asked_at": "timestamp_millis(record.at)", "emitted_at": "received_at"}


def build(records: "DataFrame") -> "DataFrame":
    """Records of ``audit`` to gold.audit_event rows; a record that is none gives a row without its key."""
    return record_rows.rows(records, AUDIT_EVENT, _MADE, "at BIGINT")


def start(spark: "SparkSession", flow: Flow, config: StreamConfig) -> "StreamingQuery":
    """Start the flow."""
    return record_rows.start(spark, flow, config, (AUDIT,), write_batch(flow, config))


def write_batch(flow: Flow, config: StreamConfig) -> Callable[["DataFrame", int], None]:
    """The function that lands one batch. A record that waited on a disk may come again: its key is the same."""
    identity = query.identities(config.data, flow)

    def write(records: "DataFrame", batch_id: int) -> None:
        # What is no record of ours, or breaks a rule of the table, stays in the topic: `ward verify` counts it.
        with query.held(build(records).where(render.whole(AUDIT_EVENT))) as events:
            if not events.isEmpty():
                path, mark = config.data.table(AUDIT_EVENT), identity("audit_event", batch_id)
                delta.insert_missing(events, AUDIT_EVENT, path, mark, first_by=("emitted_at",))

    return write
