"""Starting a declared flow as a streaming query, and keeping its progress where people and reports find it."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lakehouse import progress
from lakehouse.checkpoint import KafkaOffsets, Position, position
from lakehouse.datadir import DataDir
from lakehouse.delta import Write
from lakehouse.pipeline import ALERT_LIMITS, Flow
from lakehouse.reader import open_table
from lakehouse.table import Table
from streaming.config import StreamConfig

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.listener import StreamingQueryListener
    from pyspark.sql.streaming.query import StreamingQuery
    from pyspark.sql.streaming.readwriter import DataStreamWriter

    from lakehouse.storage import Place

_METRICS = "batch"


def observed(rows: "DataFrame") -> "DataFrame":
    """The rows, with their count and the span of received_at reported in each batch's progress."""
    from pyspark.sql import functions as F  # noqa: N812

    return rows.observe(
        _METRICS,
        F.count(F.lit(1)).alias("rows"),
        F.unix_millis(F.min("received_at")).alias("oldest_received_at"),
        F.unix_millis(F.max("received_at")).alias("newest_received_at"),
    )


@contextmanager
def held(rows: "DataFrame") -> Iterator["DataFrame"]:
    """The rows, worked out once and kept for the block, without the plan that they come from.

    A cached frame keeps its plan, and each step on it would have all of parsing and constraints analysed again: more
    than the work itself for a small batch.
    """
    kept = keep(rows)
    try:
        yield kept
    finally:
        release(kept)


def keep(rows: "DataFrame") -> "DataFrame":
    """The rows, as :func:`held`, until :func:`release`."""
    return rows.localCheckpoint(eager=True)


def release(kept: "DataFrame") -> None:
    """Let go of what :func:`keep` has made."""
    kept._jdf.queryExecution().analyzed().rdd().unpersist(False)


def kafka_start(data: DataDir, flow: Flow) -> KafkaOffsets | None:
    """The offsets at which the flow's generation begins; None for the earliest, or where its checkpoint knows more."""
    begins = _begins(data, flow)
    return begins.kafka() if begins else None


def read_table(spark: "SparkSession", table: Table, flow: Flow, config: StreamConfig, *, max_mib: int) -> "DataFrame":
    """A Delta table as a stream, from where the flow's generation begins; a micro-batch is ``max_mib`` for each heap.

    Versions that take rows away are passed over: retention deletes what is old, and a restore what is undone.
    """
    reader = (
        spark.readStream.format("delta")
        .option("maxBytesPerTrigger", f"{max_mib * config.heaps}m")
        .option("skipChangeCommits", "true")
    )
    begins = _begins(config.data, flow)
    read = begins.delta_version() if begins else None
    if read is not None:
        # Delta begins at no version that is not there yet. To read the newest once more changes nothing.
        newest = open_table(config.data, table).version()
        reader = reader.option("startingVersion", str(min(read + 1, newest)))
    return reader.load(str(config.data.table(table)))


def _begins(data: DataDir, flow: Flow) -> Position | None:
    at = position(data.checkpoint(flow))
    return at if at is not None and at.batch_id < 0 else None


def start(
    writer: "DataStreamWriter", flow: Flow, config: StreamConfig, path: "Place | None" = None
) -> "StreamingQuery":
    """Start a micro-batch query under the flow's name, trigger and newest checkpoint."""
    assert flow.trigger is not None  # noqa: S101 (every streaming flow declares one)
    configured = (
        writer.queryName(flow.name)
        .option("checkpointLocation", str(config.data.checkpoint(flow)))
        .trigger(processingTime=f"{flow.trigger.total_seconds():g} seconds")
    )
    return configured.start(str(path)) if path else configured.start()


def identities(data: DataDir, flow: Flow) -> Callable[[str, int], Write]:
    """A function (action, batch id) -> identity of that write, for the generation of checkpoint the flow starts with.

    A new generation counts its batches anew, so it is part of the identity: Delta would else skip its first batches.
    """
    generation = data.checkpoint(flow).name
    return lambda action, batch_id: Write(f"{flow.name}/{generation}/{action}", batch_id)


def progress_listener(data: DataDir) -> "StreamingQueryListener":
    """A listener that appends each query's progress to its file: rows, lag, durations, span of received_at."""
    from pyspark.sql.streaming.listener import (
        QueryIdleEvent,
        QueryProgressEvent,
        QueryStartedEvent,
        QueryTerminatedEvent,
        StreamingQueryListener,
    )

    class Listener(StreamingQueryListener):
        names: dict[str, str]

        def __init__(self) -> None:
            self.names = {}

        def onQueryStarted(self, event: QueryStartedEvent) -> None:  # noqa: N802
            self.names[str(event.id)] = event.name or str(event.id)

        def onQueryProgress(self, event: QueryProgressEvent) -> None:  # noqa: N802
            name = event.progress.name or str(event.progress.id)
            if name == ALERT_LIMITS.name:
                # It tells its own: a real-time batch ends once an hour.
                return
            progress.append(data.progress(name), progress_record(json.loads(event.progress.json), datetime.now(UTC)))

        def onQueryIdle(self, event: QueryIdleEvent) -> None:  # noqa: N802
            name = self.names.get(str(event.id), str(event.id))
            progress.append(data.progress(name), {"at": datetime.now(UTC).isoformat(), "idle": True})

        def onQueryTerminated(self, event: QueryTerminatedEvent) -> None:  # noqa: N802
            name = self.names.get(str(event.id), str(event.id))
            record = {"at": datetime.now(UTC).isoformat(), "stopped": True, "error": event.exception}
            progress.append(data.progress(name), record)

    return Listener()


def progress_record(event: dict[str, Any], now: datetime) -> progress.Record:
    """One progress line of Spark's own report: counts are records, durations ms, instants epoch ms."""
    metrics = event.get("observedMetrics", {}).get(_METRICS, {})
    durations = event.get("durationMs", {})
    return {
        "at": now.isoformat(),
        "idle": False,
        "batch_id": event["batchId"],
        "rows": event["numInputRows"],
        "rows_per_second": event.get("processedRowsPerSecond", 0.0),
        "lag": _lag(event["sources"]),
        "duration_ms": durations.get("triggerExecution", 0),
        "durations_ms": durations,
        "committed_at": int(now.timestamp() * 1000),
        "oldest_received_at": metrics.get("oldest_received_at"),
        "newest_received_at": metrics.get("newest_received_at"),
    }


def _lag(sources: list[dict[str, Any]]) -> int | None:
    """Records that were there and not read yet when the batch was planned; None for a source that does not say.

    Kafka says it in offsets, but for real-time mode, whose latest offset is the one it began with. Delta counts the
    files it left for later: none of them means no records either.
    """
    metrics = [source.get("metrics", {}) for source in sources]
    if all("avgOffsetsBehindLatest" in said for said in metrics):
        behind = [_offsets_behind(source) for source in sources]
        return None if min(behind, default=0) < 0 else sum(behind)
    nothing_left = all(said.get("numFilesOutstanding") == "0" for said in metrics)
    return 0 if nothing_left else None


def _offsets_behind(source: dict[str, Any]) -> int:
    latest, end = source.get("latestOffset") or {}, source.get("endOffset") or {}
    return sum(
        offset - end.get(topic, {}).get(partition, 0)
        for topic, partitions in latest.items()
        for partition, offset in partitions.items()
    )
