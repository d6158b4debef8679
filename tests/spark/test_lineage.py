"""The runs of flows as lineage, by real queries."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession

from lakehouse.datadir import DataDir
from lakehouse.lineage import Sender
from lakehouse.pipeline import DEVICE_MESSAGE
from lakehouse.topics import TOPICS
from streaming.config import StreamConfig
from streaming.lineage import FlowRuns


class Receiver:
    def __init__(self) -> None:
        self.taken: list[tuple[str, str, str | None]] = []

    def emit(self, event: Any) -> None:
        error = event.run.facets.get("errorMessage")
        self.taken.append((event.job.name, event.eventType.value, error and error.message))


def test_a_query_that_begins_goes_on_fails_and_begins_anew_is_told(spark: SparkSession, tmp_path: Path) -> None:
    receiver, now = Receiver(), [datetime(2026, 3, 1, 12, tzinfo=UTC)]
    sender = Sender(receiver)
    names = {topic.name: topic.name for topic in TOPICS}
    config = StreamConfig(DataDir(tmp_path), "127.0.0.1:9092", names, tmp_path, 1, "1g")
    runs = FlowRuns(sender, config, lambda: now[0])
    broken = threading.Event()

    def batch(_rows: Any, _number: int) -> None:
        if broken.is_set():
            raise ValueError("what a patient sent")

    def begin() -> Any:
        rows = spark.readStream.format("rate").load()
        return rows.writeStream.foreachBatch(batch).trigger(processingTime="100 milliseconds").start()

    query = begin()
    runs.look({DEVICE_MESSAGE: query})
    runs.look({DEVICE_MESSAGE: query})
    now[0] += timedelta(hours=1)
    runs.look({DEVICE_MESSAGE: query})
    broken.set()
    with pytest.raises(StreamingQueryException, match="what a patient sent"):
        query.awaitTermination(60)
    broken.clear()
    another = begin()
    runs.look({DEVICE_MESSAGE: another})
    another.stop()
    runs.close()

    name = "device_message"
    kinds = [(job, kind) for job, kind, _ in receiver.taken]
    assert kinds == [(name, "START"), (name, "RUNNING"), (name, "FAIL"), (name, "START"), (name, "COMPLETE")]
    errors = [error for _, _, error in receiver.taken if error]
    assert len(errors) == 1
    assert "patient" not in errors[0]


def test_without_a_receiver_nothing_is_told(tmp_path: Path) -> None:
    config = StreamConfig(DataDir(tmp_path), "127.0.0.1:9092", {}, tmp_path, 1, "1g")
    runs = FlowRuns(None, config, lambda: datetime.now(UTC))
    runs.look({DEVICE_MESSAGE: object()})  # type: ignore[dict-item]
    runs.close()
