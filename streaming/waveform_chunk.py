"""Silver: bronze records of waveforms to chunks, each once, and to dead letters.

Samples are unpacked and held against the contract in the driver, in Python: there is one reader of messages, and
executors need none. Each write carries its own identity, so that a batch which runs again changes nothing.
"""

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from lakehouse import delta
from lakehouse.ecg.stored import Row, sort_out
from lakehouse.pipeline import Flow
from lakehouse.table import Table
from lakehouse.tables import WAVEFORM_CHUNK, WAVEFORM_DEAD_LETTER, WAVEFORM_MESSAGE
from streaming import query
from streaming.config import StreamConfig

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

MAX_MIB = 8
"""A batch's bound on bronze bytes (compressed): some 20,000 seconds of a lead, which the driver holds at once."""

_MINUTE = timedelta(minutes=1)
_NEEDS = ("topic", "partition", "offset", "received_at", "value")
_COORDINATES = ("topic", "partition", "offset")


def start(spark: "SparkSession", flow: Flow, config: StreamConfig) -> "StreamingQuery":
    """Start the flow on bronze as a stream."""
    records = query.read_table(spark, WAVEFORM_MESSAGE, flow, config, max_mib=MAX_MIB)
    writer = query.observed(records).writeStream.foreachBatch(write_batch(flow, config))
    return query.start(writer, flow, config)


def write_batch(flow: Flow, config: StreamConfig) -> Callable[["DataFrame", int], None]:
    """The function that lands one batch of bronze records in the flow's tables."""
    identity = query.identities(config.data, flow)

    def write(records: "DataFrame", batch_id: int) -> None:
        spark, found = records.sparkSession, sort_out(records.select(*_NEEDS).toArrow().to_pylist())

        def land(table: Table, rows: tuple[Row, ...], instant: str, first_by: tuple[str, ...]) -> None:
            if rows:
                # By key, as all else: what is sent again, and what a batch that is cut off has landed, is there.
                near = delta.within(instant, {row[instant].replace(second=0, microsecond=0) for row in rows}, _MINUTE)
                path, mark = config.data.table(table), identity(table.name, batch_id)
                delta.insert_missing(delta.frame(spark, table, rows), table, path, mark, first_by=first_by, within=near)

        land(WAVEFORM_DEAD_LETTER, found.dead, "received_at", ("received_at",))
        land(WAVEFORM_CHUNK, found.chunks, "started_at", _COORDINATES)

    return write
