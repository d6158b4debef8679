"""What a process that is killed leaves in a checkpoint, and a query that begins over it."""

from pathlib import Path

import pytest
from pyspark.errors import StreamingQueryException
from pyspark.sql import SparkSession

from lakehouse.checkpoint import clear_unfinished, position


def test_a_query_begins_although_another_was_killed_while_it_planned_its_first_batch(
    spark: SparkSession, tmp_path: Path
) -> None:
    source, checkpoint = tmp_path / "source", tmp_path / "checkpoint"
    source.mkdir()
    (source / "lines.txt").write_text("one\ntwo\n", encoding="utf-8")

    def run() -> None:
        rows = spark.readStream.text(str(source)).writeStream.format("noop")
        rows.option("checkpointLocation", str(checkpoint)).trigger(availableNow=True).start().awaitTermination()

    left = checkpoint / "offsets" / ".0.9f1c3b1e-5d0a-4f3e-8b1c-1f2d3c4b5a69.TID1.tmp"
    left.parent.mkdir(parents=True)
    left.write_text("v1\n{", encoding="utf-8")
    with pytest.raises(StreamingQueryException, match="should be empty on batch 0"):
        run()
    clear_unfinished(checkpoint)
    run()
    at = position(checkpoint)
    assert at is not None
    assert at.batch_id == 0
