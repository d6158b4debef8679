"""Kafka as Spark reads and writes it."""

import json
from typing import TYPE_CHECKING

from lakehouse import kafka_access
from lakehouse.checkpoint import KafkaOffsets
from lakehouse.topics import MAX_RECORD_BYTES

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.readwriter import DataStreamWriter


def read(
    spark: "SparkSession",
    bootstrap: str,
    topics: list[str],
    *,
    fetch_wait_ms: int,
    max_records: int | None = None,
    since: KafkaOffsets | None = None,
) -> "DataFrame":
    """A stream of records: topic, partition, offset, received_at, key, value.

    Without ``since`` it begins at the earliest record: what was sent before the first start counts too. Offsets that
    retention has taken do not stop it; ``ward verify`` reports them as lost. ``max_records`` bounds a micro-batch.
    """
    options = {
        **reaching(bootstrap),
        "subscribe": ",".join(topics),
        "startingOffsets": starting(since) if since else "earliest",
        "failOnDataLoss": "false",
        "kafka.isolation.level": "read_committed",
        "kafka.fetch.max.wait.ms": str(fetch_wait_ms),
        "kafka.max.partition.fetch.bytes": str(2 * MAX_RECORD_BYTES),
    }
    if max_records is not None:
        options["maxOffsetsPerTrigger"] = str(max_records)
    return as_records(spark.readStream.format("kafka").options(**options).load())


def reaching(bootstrap: str) -> dict[str, str]:
    """Where and as whom Spark connects, as options of its source and its sink. Raises AccessError."""
    return {f"kafka.{name}": value for name, value in kafka_access.java(bootstrap).items()}


def starting(offsets: KafkaOffsets) -> str:
    """Offsets as Spark's Kafka source takes them."""
    return json.dumps(
        {topic: {str(number): at for number, at in partitions.items()} for topic, partitions in offsets.items()}
    )


def as_records(raw: "DataFrame") -> "DataFrame":
    """Kafka's own columns under the names the lakehouse uses."""
    return raw.selectExpr("topic", "partition", "offset", "timestamp AS received_at", "key", "value")


def write(
    rows: "DataFrame", bootstrap: str, topic: str, *, linger_ms: int, delivery_timeout_s: int
) -> "DataStreamWriter":
    """A writer of rows with ``key`` and ``value`` to one topic, acknowledged by every replica."""
    return (
        rows.writeStream.format("kafka")
        .options(**reaching(bootstrap))
        .option("topic", topic)
        .option("kafka.acks", "all")
        .option("kafka.linger.ms", str(linger_ms))
        .option("kafka.delivery.timeout.ms", str(delivery_timeout_s * 1000))
    )
