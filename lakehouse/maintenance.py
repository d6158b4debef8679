"""Maintenance of tables: rows beyond their retention, small files, and files that no version needs any more.

A table on a local disk has one safe writer: for :func:`maintain` the lakehouse application stands still, and
:func:`join` is its own doing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from lakehouse.delta import timestamp, told
from lakehouse.table import Table

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

    from lakehouse.storage import Place

KEPT = timedelta(days=30)
"""How long files stay that only older versions need. It outlasts a stream that stands still over holidays, and is how
far back a table can be read as of a time."""

_MB = 1024 * 1024
LEFT_ALONE = "spark.databricks.delta.optimize.clustering.mergeStrategy.minCubeSize.threshold"
"""Delta's name for the size in bytes from which on what was clustered together is not written anew."""
_FILES = {
    # A reader of one patient opens a few files, and in them a few groups of rows: half a million, some 4 MB.
    "spark.databricks.delta.optimize.maxFileSize": str(128 * _MB),
    "spark.databricks.io.skipping.mdc.sortWithinFiles": "true",
    "parquet.block.size": str(4 * _MB),
}
# Delta's 100 GB would write all of it anew each night.
_NIGHTLY = {**_FILES, LEFT_ALONE: str(1024 * _MB)}
_HOURLY = {**_FILES, LEFT_ALONE: str(16 * _MB)}

_RETENTION = "delta.deletedFileRetentionDuration"


@dataclass(frozen=True)
class Maintained:
    """What was done to one table, or would be: ``files`` and ``bytes`` are of its newest version."""

    table: str
    expired_rows: int
    files_before: int
    files: int
    bytes: int
    vacuumed_files: int


def maintain(spark: "SparkSession", table: Table, path: "Place", now: datetime, kept: timedelta) -> Maintained:
    """Delete rows beyond the table's retention, join and cluster its files, and vacuum what is older than ``kept``."""
    files_before, _ = _size(spark, path)
    expired = _expire(spark, table, path, now)
    _cluster(spark, table, path)
    _optimize(spark, path, _NIGHTLY)
    _keep(spark, path, kept)
    there = _data_files(path)
    spark.sql(f"VACUUM delta.`{path}`")
    files, size = _size(spark, path)
    return Maintained(table.full_name, expired, files_before, files, size, there - _data_files(path))


def join(spark: "SparkSession", path: "Place") -> None:
    """Join and cluster the files that have come since, and no more: seconds, while :func:`maintain` takes minutes."""
    _optimize(spark, path, _HOURLY)


def _optimize(spark: "SparkSession", path: "Place", conf: Mapping[str, str]) -> None:
    with told(spark, conf):
        spark.sql(f"OPTIMIZE delta.`{path}`")


def tried(spark: "SparkSession", table: Table, path: "Place", now: datetime) -> Maintained:
    """What :func:`maintain` would do, as far as it is known before: rows, not what comes of files."""
    files, size = _size(spark, path)
    expired = spark.read.format("delta").load(str(path)).where(_beyond(table, now)).count() if table.retention else 0
    return Maintained(table.full_name, expired, files, files, size, 0)


def _beyond(table: Table, now: datetime) -> str:
    assert table.retention is not None  # noqa: S101 - asked of tables that have one
    return f"received_at < {timestamp(now - table.retention)}"


def _expire(spark: "SparkSession", table: Table, path: "Place", now: datetime) -> int:
    if table.retention is None:
        return 0
    deleted = spark.sql(f"DELETE FROM delta.`{path}` WHERE {_beyond(table, now)}").first()  # noqa: S608 - a declared one
    return int(deleted["num_affected_rows"]) if deleted else 0


def _cluster(spark: "SparkSession", table: Table, path: "Place") -> None:
    """Have the table clustered as it is declared: it may be older than its declaration."""
    present: Any = spark.sql(f"DESCRIBE DETAIL delta.`{path}`").select("clusteringColumns").first()
    if table.cluster_by and tuple(present[0]) != table.cluster_by:
        spark.sql(f"ALTER TABLE delta.`{path}` CLUSTER BY ({', '.join(table.cluster_by)})")


def _keep(spark: "SparkSession", path: "Place", kept: timedelta) -> None:
    """Tell the table how long to keep files: VACUUM goes by its property, and passes over what it is asked."""
    wanted = f"interval {int(kept.total_seconds() // 3600)} hours"
    properties: Any = spark.sql(f"DESCRIBE DETAIL delta.`{path}`").select("properties").first()
    if properties[0].get(_RETENTION) != wanted:
        spark.sql(f"ALTER TABLE delta.`{path}` SET TBLPROPERTIES ('{_RETENTION}' = '{wanted}')")


def _data_files(path: "Place") -> int:
    return sum(1 for file in path.rglob("*.parquet") if "_delta_log" not in file.parts)


def _size(spark: "SparkSession", path: "Place") -> tuple[int, int]:
    detail: Any = spark.sql(f"DESCRIBE DETAIL delta.`{path}`").select("numFiles", "sizeInBytes").first()
    return int(detail["numFiles"]), int(detail["sizeInBytes"])
