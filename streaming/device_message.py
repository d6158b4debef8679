"""Bronze: every record of the device topics as it came, raw bytes, exactly once."""

from typing import TYPE_CHECKING

from lakehouse.pipeline import Flow
from lakehouse.table import Table
from lakehouse.tables import DEVICE_MESSAGE
from lakehouse.topics import CLINICAL_RESOURCE, VITALS, Topic
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
    return land(spark, flow, config, (VITALS, CLINICAL_RESOURCE), DEVICE_MESSAGE, MAX_RECORDS)


def land(
    spark: "SparkSession", flow: Flow, config: StreamConfig, topics: tuple[Topic, ...], table: Table, max_records: int
) -> "StreamingQuery":
    """Start a flow that lands topics as they are; a micro-batch is ``max_records`` for each heap."""
    names, since = [config.topic(topic) for topic in topics], query.kafka_start(config.data, flow)
    most = max_records * config.heaps
    records = kafka.read(spark, config.bootstrap, names, fetch_wait_ms=500, max_records=most, since=since)
    rows = query.observed(build(records))
    writer = rows.writeStream.format("delta").outputMode("append")
    return query.start(writer, flow, config, path=config.data.table(table))
