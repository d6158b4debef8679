"""Gold: each transition of each alert, from the topic ``alerts``, once; and each alert as it stands."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from lakehouse import delta, render
from lakehouse.pipeline import Flow
from lakehouse.tables import ALERT, ALERT_EVENT, READINGS
from lakehouse.topics import ALERTS
from lakehouse.transforms.alert import alert
from streaming import query, record_rows
from streaming.config import StreamConfig

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

_MADE = {
    "emitted_at": "received_at",
    "observed_at": "timestamp_millis(record.observed_at)",
    "message_received_at": "timestamp_millis(record.message_received_at)",
    "readings": "transform(record.readings, r -> named_struct('code', r.code, 'value', r.value,"
    " 'value_code', r.value_code, 'observed_at', timestamp_millis(r.observed_at), 'message_id', r.message_id))",
}
_FIELDS = f"observed_at BIGINT, message_received_at BIGINT, readings {READINGS.replace('TIMESTAMP', 'BIGINT')}"


def build(records: "DataFrame") -> "DataFrame":
    """Records of ``alerts`` to gold.alert_event rows; a record that is no event gives a row without its key."""
    return record_rows.rows(records, ALERT_EVENT, _MADE, _FIELDS)


def start(spark: "SparkSession", flow: Flow, config: StreamConfig) -> "StreamingQuery":
    """Start the flow."""
    return record_rows.start(spark, flow, config, (ALERTS,), write_batch(flow, config))


def write_batch(flow: Flow, config: StreamConfig) -> Callable[["DataFrame", int], None]:
    """The function that lands one batch. The router may send an event again after a crash: its key is the same."""
    identity = query.identities(config.data, flow)

    def write(records: "DataFrame", batch_id: int) -> None:
        # What is no event, or breaks a rule of the table, stays in the topic: `ward verify` counts it.
        with query.held(build(records).where(render.whole(ALERT_EVENT))) as events:
            path = config.data.table(ALERT_EVENT)
            delta.insert_missing(events, ALERT_EVENT, path, identity("alert_event", batch_id), first_by=("emitted_at",))
            _stand(events, config, identity("alert", batch_id))

    return write


def _stand(events: "DataFrame", config: StreamConfig, write: delta.Write) -> None:
    """Derive the alerts of these events anew from all their transitions."""
    from pyspark.sql import functions as F  # noqa: N812

    touched = F.broadcast(events.select("alert_id").distinct())
    all_events = delta.read(events.sparkSession, config.data.table(ALERT_EVENT)).join(touched, "alert_id", "left_semi")
    delta.replace_keys(alert(all_events), ALERT, config.data.table(ALERT), write, gone="false")
