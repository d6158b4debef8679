"""Backfill: rows of published files from the spool into bronze, beside what comes from Kafka.

From bronze on they are records like any other. So history takes the same way as what is live, in the same process.
"""

from collections import Counter
from typing import TYPE_CHECKING

from lakehouse.pipeline import Flow
from lakehouse.spool import Spool
from lakehouse.tables import DEVICE_MESSAGE
from streaming import observation, query
from streaming.config import StreamConfig

if TYPE_CHECKING:
    import pyarrow as pa
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

MAX_FILES = 4
"""A micro-batch's bound, as many records as one from Kafka has at most."""

_SPOOLED = "topic STRING, partition INT, offset BIGINT, key BINARY, value BINARY"


def build(spooled: "DataFrame") -> "DataFrame":
    """Rows of the spool to bronze.device_message rows: they are received when they land."""
    from pyspark.sql import functions as F  # noqa: N812

    received = spooled.withColumn("received_at", F.current_timestamp())
    return received.select(*(column.name for column in DEVICE_MESSAGE.columns))


def start(spark: "SparkSession", flow: Flow, config: StreamConfig) -> "StreamingQuery":
    """Start the flow."""
    inbox = Spool(config.data).inbox
    inbox.mkdir(parents=True, exist_ok=True)
    spooled = (
        spark.readStream.schema(_SPOOLED)
        .option("maxFilesPerTrigger", MAX_FILES)
        .option("recursiveFileLookup", "true")
        .parquet(str(inbox))
    )
    writer = query.observed(build(spooled)).writeStream.format("delta").outputMode("append")
    return query.start(writer, flow, config, path=config.data.table(DEVICE_MESSAGE))


def judged(spark: "SparkSession", spooled: "pa.Table") -> Counter[str]:
    """What would become of these rows: observations, dead letters by reason, quarantined ones by what they break."""
    from pyspark.sql import functions as F  # noqa: N812

    rows = observation.build(build(spark.createDataFrame(spooled, _SPOOLED)))
    fate = (
        "CASE WHEN dead_letter_reason IS NOT NULL THEN concat('dead letter: ', dead_letter_reason)"
        " WHEN size(failed_constraints) > 0 THEN concat('quarantine: ', array_join(failed_constraints, ', '))"
        " ELSE 'observation' END"
    )
    return Counter({row["fate"]: row["count"] for row in rows.groupBy(F.expr(fate).alias("fate")).count().collect()})
