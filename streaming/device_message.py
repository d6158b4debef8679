"""Bronze: every record of the device topics as it came, raw bytes, exactly once."""

from typing import TYPE_CHECKING

from lakehouse.pipeline import Flow
from lakehouse.tables import DEVICE_MESSAGE
from lakehouse.topics import CLINICAL_RESOURCE, VITALS
from streaming import kafka, query
from streaming.config import StreamConfig

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

MAX_RECORDS = 200_000
"""A micro-batch's bound for each heap. At 1 kB a record 200 MB pass through; less would pay Delta's fixed cost more."""


def build(records: "DataFrame") -> "DataFrame":
    """Kafka records to bronze.device_message rows."""
    return records.select(*(column.name for column in DEVICE_MESSAGE.columns))


def start(spark: "SparkSession", flow: Flow, config: StreamConfig) -> "StreamingQuery":
    """Start the flow. Delta's sink notes query and batch id in its commit: a batch that runs again writes nothing."""
    topics = [config.topic(VITALS), config.topic(CLINICAL_RESOURCE)]
    since = query.kafka_start(config.data, flow)
    most = MAX_RECORDS * config.heaps
    records = kafka.read(spark, config.bootstrap, topics, fetch_wait_ms=500, max_records=most, since=since)
    rows = query.observed(build(records))
    writer = rows.writeStream.format("delta").outputMode("append")
    return query.start(writer, flow, config, path=config.data.table(DEVICE_MESSAGE))
