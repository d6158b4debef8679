"""Maintenance of real tables: what goes and what stays."""

from datetime import UTC, datetime, timedelta

import pytest

from lakehouse import delta, maintenance
from lakehouse.delta import Write
from lakehouse.maintenance import KEPT, join, maintain, tried
from lakehouse.tables import DEVICE_MESSAGE, VITAL_SIGN_MINUTE

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def bronze(lake, records):
    """A bronze table of three commits; the first record is beyond its retention."""
    path = lake.data.table(DEVICE_MESSAGE)
    for number, age in enumerate((timedelta(days=401), timedelta(days=399), timedelta())):
        delta.append(records(b"{}", first=number, received_at=NOW - age), path, Write("seed", number))
    return path


def offsets(spark, path) -> list[int]:
    return sorted(row["offset"] for row in delta.read(spark, path).collect())


def test_old_rows_go_files_are_joined_and_what_no_kept_version_needs_is_taken_away(spark, bronze):
    # Delta refuses to keep less than a week, and the files of this test are seconds old.
    spark.conf.set("spark.databricks.delta.retentionDurationCheck.enabled", "false")
    try:
        would = tried(spark, DEVICE_MESSAGE, bronze, NOW)
        assert (would.expired_rows, would.files) == (1, 3)
        assert offsets(spark, bronze) == [0, 1, 2]
        kept = maintain(spark, DEVICE_MESSAGE, bronze, NOW, KEPT)
        done = maintain(spark, DEVICE_MESSAGE, bronze, NOW, timedelta())
    finally:
        spark.conf.unset("spark.databricks.delta.retentionDurationCheck.enabled")
    assert (kept.table, kept.expired_rows, kept.files_before, kept.files) == ("bronze.device_message", 1, 3, 1)
    assert (kept.vacuumed_files, done.expired_rows, done.files_before) == (0, 0, 1)
    assert done.bytes > 0
    assert done.vacuumed_files >= 3
    assert offsets(spark, bronze) == [1, 2]
    assert len([file for file in bronze.rglob("*.parquet") if "_delta_log" not in file.parts]) == 1


def test_a_table_that_is_older_than_its_declaration_is_clustered_as_declared(spark, lake):
    path = lake.data.table(VITAL_SIGN_MINUTE)
    spark.sql(f"ALTER TABLE delta.`{path}` CLUSTER BY (minute)")

    maintain(spark, VITAL_SIGN_MINUTE, path, NOW, KEPT)

    (found,) = spark.sql(f"DESCRIBE DETAIL delta.`{path}`").select("clusteringColumns").collect()
    assert found[0] == ["patient_id", "minute"]


def minutes(spark, path, day: int) -> None:
    minute = f"TIMESTAMP '2026-03-0{day} 12:00:00'"
    spark.sql(f"INSERT INTO delta.`{path}` SELECT 'a/1', '8867-4', {minute}, '/min', 1L, 1D, 1D, 1D, 1D, 1D")


def test_what_has_been_clustered_to_its_size_is_left_alone(spark, lake, monkeypatch):
    path = lake.data.table(VITAL_SIGN_MINUTE)
    monkeypatch.setitem(maintenance._NIGHTLY, maintenance.LEFT_ALONE, "1")
    for day in (1, 2):
        minutes(spark, path, day)
        done = maintain(spark, VITAL_SIGN_MINUTE, path, NOW, KEPT)
    assert done.files == 2


def test_what_has_come_within_an_hour_is_joined_apart_and_at_night_with_the_rest(spark, lake, monkeypatch):
    path = lake.data.table(VITAL_SIGN_MINUTE)
    monkeypatch.setitem(maintenance._HOURLY, maintenance.LEFT_ALONE, "1")
    files = []
    for day in (1, 2, 3, 4):
        minutes(spark, path, day)
        if day % 2 == 0:
            join(spark, path)
            files.append(len(delta.read(spark, path).inputFiles()))
    assert files == [1, 2]
    assert maintain(spark, VITAL_SIGN_MINUTE, path, NOW, KEPT).files == 1
    assert delta.read(spark, path).count() == 4
