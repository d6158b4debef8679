"""Records of a topic, JSON each, to rows of the table that keeps them."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from lakehouse import render
from lakehouse.pipeline import Flow
from lakehouse.table import Table
from lakehouse.topics import Topic
from streaming import kafka, query
from streaming.config import StreamConfig

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

MAX_RECORDS = 200_000
"""A micro-batch's bound."""

_FETCH_WAIT_MS = 500  # a row of gold may be half a second late; a fetch costs processor time


def start(
    spark: "SparkSession",
    flow: Flow,
    config: StreamConfig,
    topics: tuple[Topic, ...],
    write_batch: Callable[["DataFrame", int], None],
) -> "StreamingQuery":
    """Start a flow whose batches of records of these topics ``write_batch`` lands."""
    names, since = [config.topic(topic) for topic in topics], query.kafka_start(config.data, flow)
    records = kafka.read(
        spark, config.bootstrap, names, fetch_wait_ms=_FETCH_WAIT_MS, max_records=MAX_RECORDS, since=since
    )
    return query.start(query.observed(records).writeStream.foreachBatch(write_batch), flow, config)


def rows(records: "DataFrame", table: Table, made: Mapping[str, str], fields: str, *kept: str) -> "DataFrame":
    """The rows; a record that is none gives a row without its key.

    A column is the field of its name, or what ``made`` says: an expression over ``record`` and ``received_at``.
    ``fields`` are those of the JSON that only ``made`` names; ``kept`` are columns of the Kafka record.
    """
    plain = [column for column in table.columns if column.name not in made]
    schema = render.literal(f"{render.schema(plain)}, {fields}")
    parsed = records.selectExpr(f"from_json(CAST(value AS STRING), {schema}) AS record", "received_at", *kept)
    return parsed.selectExpr(*(f"{made.get(c.name, f'record.{c.name}')} AS {c.name}" for c in table.columns), *kept)
