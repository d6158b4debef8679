"""The only Delta IO: creating declared tables and the few ways in which flows write them, each safe to repeat."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, Any, cast

from lakehouse import render
from lakehouse.table import Table

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.types import StructType

    from lakehouse.storage import Place

Range = tuple[datetime, datetime]

MOST_RANGES = 32
"""In one condition. Delta asks the statistics of each file for every arm, in one Java method of 64 KB at most: it has
room for some fifty."""

_APP_ID = "spark.databricks.delta.write.txnAppId"
_VERSION = "spark.databricks.delta.write.txnVersion"


@dataclass(frozen=True)
class Write:
    """The identity of one write: Delta skips a second one of the same ``app_id`` and ``version``.

    One ``app_id`` writes one table once a batch; a second write under it would vanish silently.
    """

    app_id: str
    version: int


def create(spark: "SparkSession", table: Table, path: "Place") -> None:
    """Create a declared table where it does not exist yet, with its CHECK constraints."""
    from delta.tables import DeltaTable

    if DeltaTable.isDeltaTable(spark, str(path)):
        return
    spark.sql(render.create_table(table, str(path)))


def read(spark: "SparkSession", path: "Place", version: int | None = None) -> "DataFrame":
    """One table, now or at a version."""
    reader = spark.read.format("delta")
    if version is not None:
        reader = reader.option("versionAsOf", version)
    return reader.load(str(path))


def frame(spark: "SparkSession", table: Table, rows: Iterable[Mapping[str, Any]]) -> "DataFrame":
    """Rows that were made in the driver, by the columns of a table; one that a row leaves out is NULL."""
    import pyarrow as pa
    from pyspark.sql.pandas.types import to_arrow_schema
    from pyspark.sql.types import DataType

    schema = to_arrow_schema(cast("StructType", DataType.fromDDL(render.schema(table.columns))), timezone="UTC")
    # By Arrow: rows as Python has them would go through a Python worker, which an executor has not.
    made: DataFrame = spark.createDataFrame(pa.Table.from_pylist([dict(row) for row in rows], schema))
    return made


def restore(spark: "SparkSession", path: "Place", version: int) -> None:
    """Make the table what it was at a version, by a new version. It has been that already: nothing is done.

    Rows that come back by a version which takes none away are news to a stream that reads the table; a version that
    takes rows away is passed over by streams with ``skipChangeCommits``.
    """
    from delta.tables import DeltaTable

    table = DeltaTable.forPath(spark, str(path))
    if table.history(1).select("version").first()[0] != version:
        table.restoreToVersion(version)


def append(rows: "DataFrame", path: "Place", write: Write) -> None:
    """Add rows."""
    options = {"txnAppId": write.app_id, "txnVersion": str(write.version)}
    rows.write.format("delta").mode("append").options(**options).save(str(path))


def insert_missing(
    rows: "DataFrame", table: Table, path: "Place", write: Write, *, first_by: tuple[str, ...], within: str = "true"
) -> None:
    """Add the rows whose key the table does not have; of rows that share a key, the first by ``first_by``.

    ``within`` is a condition on the table that bounds where such keys can be: the rest stays unread. Nearly all keys
    are new and stand once, which a 64-bit hash shows: only rows whose hash is taken or shared are compared by key. It
    is a read and an append and removes no file; every declared table has one writer, so nothing comes between the two.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    key = list(table.key)
    hashed = F.xxhash64(*key).alias("hash")
    marked = rows.select("*", hashed)
    hashes = marked.select("hash")
    # Sent to every task, the hashes are looked up while the table's files are read, without a sort of either.
    target = read(rows.sparkSession, path).where(within).select(*key, hashed)
    alike = target.join(F.broadcast(hashes), "hash", "left_semi").persist()
    shared = hashes.groupBy("hash").count().where("count > 1").select("hash")
    doubtful = shared.union(alike.select("hash")).distinct().persist()
    try:
        if doubtful.isEmpty():
            append(rows, path, write)
            return
        nth = F.row_number().over(Window.partitionBy(*key).orderBy(*first_by))
        several = marked.join(F.broadcast(doubtful), "hash", "left_semi").withColumn("nth", nth).where("nth = 1")
        missing = several.join(F.broadcast(alike.select(*key)), key, "left_anti").select(*rows.columns)
        alone = marked.join(F.broadcast(doubtful), "hash", "left_anti").select(*rows.columns)
        append(alone.union(missing.coalesce(1)), path, write)
    finally:
        doubtful.unpersist()
        alike.unpersist()


def replace_where(rows: "DataFrame", path: "Place", condition: str, write: Write) -> None:
    """Put ``rows`` in place of all that fulfils ``condition``, in one commit."""
    options = {"txnAppId": write.app_id, "txnVersion": str(write.version), "replaceWhere": condition}
    rows.write.format("delta").mode("overwrite").options(**options).save(str(path))


def replace_keys(
    rows: "DataFrame",
    table: Table,
    path: "Place",
    write: Write,
    *,
    gone: str,
    within: str = "true",
    mostly_new: bool = False,
) -> None:
    """Put each row in place of the one with its key; where ``gone`` holds of the new row, leave none.

    ``within`` is a condition on the table ``t`` that bounds where such keys can be, ``gone`` one on the rows ``s``.
    ``mostly_new``: the table may well have none of these keys, as in history. Then looking first is worth it, since
    adding rows is a third of the work of a MERGE; it takes the rows twice, so they should be held.
    """
    if mostly_new and _has_none(rows, table, path, within):
        append(rows.alias("s").where(f"NOT ({gone})"), path, write)
    else:
        _merge(rows, table, path, write, gone, within)


def _has_none(rows: "DataFrame", table: Table, path: "Place", within: str) -> bool:
    """Whether the table has none of the keys, by their hashes; some that share a hash only pass for the same."""
    from pyspark.sql import functions as F  # noqa: N812

    hashed = F.xxhash64(*table.key).alias("hash")
    target = read(rows.sparkSession, path).alias("t").where(within).select(hashed)
    return bool(target.join(F.broadcast(rows.select(hashed)), "hash", "left_semi").isEmpty())


def _merge(rows: "DataFrame", table: Table, path: "Place", write: Write, gone: str, within: str) -> None:
    differs = " OR ".join(f"NOT (s.`{c.name}` <=> t.`{c.name}`)" for c in table.columns if c.name not in table.key)
    with _transaction(rows.sparkSession, write):
        (
            _target(rows, path)
            .merge(rows.alias("s"), f"({within}) AND {_same_key(table)}")
            .whenMatchedDelete(gone)
            .whenMatchedUpdateAll(differs)
            .whenNotMatchedInsertAll(f"NOT ({gone})")
            .execute()
        )


def _target(rows: "DataFrame", path: "Place"):  # type: ignore[no-untyped-def]  # delta-spark has no types
    from delta.tables import DeltaTable

    return DeltaTable.forPath(rows.sparkSession, str(path)).alias("t")


def _same_key(table: Table) -> str:
    return " AND ".join(f"t.`{name}` = s.`{name}`" for name in table.key)


@contextmanager
def told(spark: "SparkSession", conf: Mapping[str, str]) -> Iterator[None]:
    """Have the session told this for the block alone."""
    for name, value in conf.items():
        spark.conf.set(name, value)
    try:
        yield
    finally:
        for name in conf:
            spark.conf.unset(name)


def _transaction(spark: "SparkSession", write: Write) -> AbstractContextManager[None]:
    """MERGE takes its identity from the session, so it is set for this one write alone."""
    return told(spark, {_APP_ID: write.app_id, _VERSION: str(write.version)})


def within(column: str, instants: Iterable[datetime], step: timedelta, most: int = MOST_RANGES) -> str:
    """A condition that holds for every span of ``step`` that starts at one of ``instants``, as a few ranges.

    A list of ranges, since one late value would stretch a single one over the whole table. When there are more than
    ``most``, the narrowest gaps are closed: the condition may then hold for more, never for less.
    """
    return between(column, merged((start, start + step) for start in instants), most)


def between(column: str, ranges: Sequence[Range], most: int = MOST_RANGES, *, until: str | None = None) -> str:
    """A condition that holds for every instant of these merged ranges, each without its end; else as :func:`within`.

    With ``until``, rows that stand for the span from ``until`` to ``column`` are held against the ranges.
    """
    if len(ranges) > most:
        ranges = _closed(ranges, most)
    arms = [f"({column} >= {timestamp(low)} AND {until or column} < {timestamp(high)})" for low, high in ranges]
    return " OR ".join(arms) or "false"


def merged(ranges: Iterable[Range]) -> list[Range]:
    """The same ranges in order, those that meet or overlap as one."""
    found: list[Range] = []
    for low, high in sorted(set(ranges)):
        if found and low <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], high))
        else:
            found.append((low, high))
    return found


def _closed(ranges: Sequence[Range], most: int) -> list[Range]:
    gaps = sorted(range(1, len(ranges)), key=lambda i: ranges[i][0] - ranges[i - 1][1], reverse=True)
    cuts = [0, *sorted(gaps[: most - 1]), len(ranges)]
    return [(ranges[low][0], ranges[high - 1][1]) for low, high in pairwise(cuts)]


def timestamp(instant: datetime) -> str:
    """An instant as a SQL literal; one without a zone is UTC."""
    aware = instant if instant.tzinfo else instant.replace(tzinfo=UTC)
    return f"TIMESTAMP '{aware.astimezone(UTC).isoformat(sep=' ')}'"
