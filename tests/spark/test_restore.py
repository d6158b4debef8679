"""Tables that go back, and the streams that read them."""

import json
from datetime import UTC, datetime

import pytest

from lakehouse import delta
from lakehouse.checkpoint import position
from lakehouse.delta import Write
from lakehouse.pipeline import EARLY_WARNING_SCORE, OBSERVATION
from lakehouse.tables import DEVICE_MESSAGE
from lakehouse.tables import OBSERVATION as SILVER
from streaming import observation, query
from tests.fixtures.vitals import encoded, heart_rate
from wardhouse import backup

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEPT = ("device_message", "alert_event", "alert_notification", "audit_event")


@pytest.fixture
def land(lake, records):
    """Land one heart rate for each of these seconds, in one version of silver."""
    write, batches = observation.write_batch(OBSERVATION, lake), iter(range(100))

    def make(*seconds: int) -> None:
        values = (encoded(heart_rate(), observed_at=f"2026-03-01T11:00:{second:02}Z") for second in seconds)
        write(records(*values, first=seconds[0]), next(batches))

    return make


def scored(lake, version: int) -> None:
    """The score flow's checkpoint says that it has read silver up to this version."""
    source = {"reservoirId": "x", "reservoirVersion": version + 1, "index": -1}
    for folder, text in (("offsets", f"v1\n{{}}\n{json.dumps(source)}"), ("commits", "v1\n{}")):
        (lake.data.checkpoint(EARLY_WARNING_SCORE) / folder).mkdir(parents=True)
        (lake.data.checkpoint(EARLY_WARNING_SCORE) / folder / "0").write_text(text)


def seconds(frame) -> list[int]:
    return sorted(row[0] for row in frame.selectExpr("second(observed_at)").collect())


def restored(spark, lake) -> backup.Restoration:
    planned = backup.plan(lake.data, backup.read(lake.data, "one"), KEPT, "", {})
    backup.restore(spark, lake.data, planned, NOON)
    return planned


def news(spark, lake) -> list[int]:
    """What the score flow finds new in silver when it starts."""
    found: list[int] = []
    rows = query.read_table(spark, SILVER, EARLY_WARNING_SCORE, lake, max_mib=1024)
    folder = lake.data.checkpoint(EARLY_WARNING_SCORE)
    writer = rows.writeStream.foreachBatch(lambda batch, _: found.extend(seconds(batch)))
    writer.option("checkpointLocation", str(folder)).trigger(availableNow=True).start().awaitTermination()
    return sorted(found)


@pytest.mark.parametrize(("read", "left"), [(1, [2, 3]), (3, []), (None, [1, 2, 3])], ids=["two", "none", "all"])
def test_a_flow_goes_on_with_what_it_had_not_read_when_the_backup_was_made(spark, lake, land, read, left):
    for second in (1, 2, 3):
        land(second)
    if read is not None:
        scored(lake, read)
    # A generation of the flow before it, so that there is something to back up.
    lake.data.checkpoint(OBSERVATION).mkdir(parents=True)
    backup.make(lake.data, "one", NOON)
    land(4)
    land(5, 6)
    restored(spark, lake)
    assert seconds(delta.read(spark, lake.data.table(SILVER))) == [1, 2, 3]
    assert news(spark, lake) == left
    land(7)
    assert news(spark, lake) == [7]
    at = position(lake.data.checkpoint(EARLY_WARNING_SCORE))
    assert at is not None
    assert at.batch_id >= 0


def test_where_files_were_merged_since_the_flow_reads_the_table_as_a_whole(spark, lake, land):
    for second in (1, 2, 3):
        land(second)
    scored(lake, 2)
    spark.sql(f"OPTIMIZE delta.`{lake.data.table(SILVER)}`")
    backup.make(lake.data, "one", NOON)
    land(4)
    planned = restored(spark, lake)
    assert not planned.following
    assert news(spark, lake) == [1, 2, 3]


def test_a_restore_again_changes_nothing_and_each_has_its_generation(spark, lake, land):
    land(1)
    land(2)
    scored(lake, 1)
    backup.make(lake.data, "one", NOON)
    land(3)
    restored(spark, lake)
    restored(spark, lake)
    assert [path.name for path in lake.data.generations(EARLY_WARNING_SCORE)] == ["3", "2", "1"]
    assert seconds(delta.read(spark, lake.data.table(SILVER))) == [1, 2]
    assert news(spark, lake) == [2]


def test_dead_letters_land_once_however_often_bronze_is_read(spark, lake, records):
    batch = records(b"{", None, encoded())
    observation.write_batch(OBSERVATION, lake)(batch, 0)
    (lake.data.checkpoints / OBSERVATION.name / "2").mkdir(parents=True)
    observation.write_batch(OBSERVATION, lake)(batch, 0)
    for table, count in (("dead_letter", 2), ("observation", 1)):
        assert delta.read(spark, lake.data.table_root / "silver" / table).count() == count


def test_a_version_that_vacuum_has_taken_is_not_restored(lake, land):
    land(1)
    lake.data.checkpoint(OBSERVATION).mkdir(parents=True)
    backup.make(lake.data, "one", NOON)
    for file in lake.data.table(SILVER).glob("*.parquet"):
        file.unlink()
    with pytest.raises(backup.BackupError, match=r"VACUUM has taken 1 files of silver\.observation at version 1"):
        backup.plan(lake.data, backup.read(lake.data, "one"), KEPT, "", {})


def test_rows_of_files_that_came_after_a_backup_are_not_given_up(lake, records):
    lake.data.checkpoint(OBSERVATION).mkdir(parents=True)
    backup.make(lake.data, "one", NOON)
    delta.append(records(encoded(), topic="file:x/y@z"), lake.data.table(DEVICE_MESSAGE), Write("x", 1))
    with pytest.raises(backup.BackupError, match=r"1 rows of files were backfilled since.*--keep device_message"):
        backup.plan(lake.data, backup.read(lake.data, "one"), (), "", {})
