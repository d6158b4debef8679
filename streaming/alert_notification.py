"""Gold: each decision to tell somebody, and how that ended on each channel, from the two topics in one query."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from lakehouse import delta, render
from lakehouse.pipeline import Flow
from lakehouse.tables import ALERT_DELIVERY, ALERT_NOTIFICATION
from lakehouse.topics import ALERT_DELIVERY as DELIVERIES
from lakehouse.topics import ALERT_NOTIFICATION as NOTIFICATIONS
from streaming import query, record_rows
from streaming.config import StreamConfig

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

_NOTIFICATION = {
    "alert_ids": "record.alerts.alert_id",
    "sequences": "record.alerts.sequence",
    "message_received_at": "timestamp_millis(record.message_received_at)",
    "decided_at": "timestamp_millis(record.at)",
    "emitted_at": "received_at",
}
_DELIVERY = {"ended_at": "timestamp_millis(record.at)", "emitted_at": "received_at"}
"""Columns that are not a field of the record under their own name."""

_FIELDS = "at BIGINT, message_received_at BIGINT, alerts ARRAY<STRUCT<alert_id: STRING, sequence: INT>>"


def notifications(records: "DataFrame") -> "DataFrame":
    """Records of ``alert.notification`` to gold.alert_notification rows; what is none gives a row without its key."""
    return record_rows.rows(records, ALERT_NOTIFICATION, _NOTIFICATION, _FIELDS)


def deliveries(records: "DataFrame") -> "DataFrame":
    """Records of ``alert.delivery`` to gold.alert_delivery rows; what is none gives a row without its key."""
    return record_rows.rows(records, ALERT_DELIVERY, _DELIVERY, _FIELDS)


def start(spark: "SparkSession", flow: Flow, config: StreamConfig) -> "StreamingQuery":
    """Start the flow."""
    return record_rows.start(spark, flow, config, (NOTIFICATIONS, DELIVERIES), write_batch(flow, config))


def write_batch(flow: Flow, config: StreamConfig) -> Callable[["DataFrame", int], None]:
    """The function that lands one batch. Either record may come again after a crash: its key is the same."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    identity = query.identities(config.data, flow)

    def of(records: "DataFrame", topic: str) -> "DataFrame":
        return records.where(F.col("topic") == topic)

    def write(records: "DataFrame", batch_id: int) -> None:
        # What is no such record, or breaks a rule of the table, stays in the topic.
        with query.held(records) as kept:
            decided = notifications(of(kept, config.topic(NOTIFICATIONS))).where(render.whole(ALERT_NOTIFICATION))
            if not decided.isEmpty():
                path, mark = config.data.table(ALERT_NOTIFICATION), identity("alert_notification", batch_id)
                delta.insert_missing(decided, ALERT_NOTIFICATION, path, mark, first_by=("emitted_at",))
            ended = record_rows.rows(of(kept, config.topic(DELIVERIES)), ALERT_DELIVERY, _DELIVERY, _FIELDS, "offset")
            ended = ended.where(render.whole(ALERT_DELIVERY))
            if not ended.isEmpty():
                # A key is in one partition: the highest offset is the last word.
                nth = F.row_number().over(Window.partitionBy(*ALERT_DELIVERY.key).orderBy(F.desc("offset")))
                last = ended.withColumn("nth", nth).where("nth = 1").drop("nth", "offset")
                path, mark = config.data.table(ALERT_DELIVERY), identity("alert_delivery", batch_id)
                delta.replace_keys(last, ALERT_DELIVERY, path, mark, gone="false")

    return write
