"""The Delta writes: each is right, and safe to repeat."""

from datetime import UTC, datetime, timedelta

import deltalake
import pytest

from lakehouse import delta, reader, render
from lakehouse.checkpoint import position
from lakehouse.delta import Write
from lakehouse.table import Column, Table
from lakehouse.tables import DEVICE_MESSAGE, TABLES

PLACE = Table(
    layer="gold",
    name="place",
    grain="one place",
    columns=(
        Column("id", "STRING", "which", nullable=False),
        Column("at", "INT", "where", nullable=False),
        Column("said", "STRING", "what"),
        Column("order", "INT", "of equal ones, the first"),
    ),
    key=("id", "at"),
)


@pytest.fixture
def place(spark, frame, tmp_path):
    """A table with three rows: a function that makes rows, its path, and one that reads it."""
    path = tmp_path / "place"
    delta.create(spark, PLACE, path)

    def rows(*values: tuple):
        padded = [(*value, 0)[:4] for value in values]
        return frame(padded, render.schema(PLACE.columns))

    def kept() -> list[tuple]:
        return sorted(tuple(row) for row in delta.read(spark, path).select("id", "at", "said").collect())

    delta.append(rows(("a", 1, "old"), ("b", 1, "old"), ("c", 2, "old")), path, Write("seed", 0))
    return rows, path, kept


OLD = [("a", 1, "old"), ("b", 1, "old"), ("c", 2, "old")]


def test_an_append_counts_once_for_each_identity(place):
    rows, path, kept = place
    for _ in range(2):
        delta.append(rows(("d", 1, "new")), path, Write("append", 0))
    assert kept() == [*OLD, ("d", 1, "new")]
    delta.append(rows(("d", 1, "new")), path, Write("append", 1))
    delta.append(rows(("e", 1, "new")), path, Write("another", 0))
    assert kept() == [*OLD, ("d", 1, "new"), ("d", 1, "new"), ("e", 1, "new")]


def test_insert_missing_adds_what_is_not_there_and_of_equal_keys_the_first(place):
    rows, path, kept = place
    new = rows(("a", 1, "new"), ("a", 2, "new", 5), ("a", 2, "earlier", 3), ("d", 1, "new"))
    write = {"table": PLACE, "path": path, "first_by": ("order",)}

    delta.insert_missing(new, write=Write("insert", 0), **write)
    expected = sorted([*OLD, ("a", 2, "earlier"), ("d", 1, "new")])
    assert kept() == expected
    delta.insert_missing(rows(("z", 1, "never")), write=Write("insert", 0), **write)
    delta.insert_missing(new, write=Write("insert", 1), **write)
    delta.insert_missing(new.where("false"), write=Write("insert", 2), **write)
    assert kept() == expected
    delta.insert_missing(rows(("z", 1, "now")), write=Write("insert", 3), **write)
    assert kept() == [*expected, ("z", 1, "now")]


def test_insert_missing_removes_no_file_so_that_the_table_stays_a_stream_s_source(place):
    rows, path, _ = place
    before = set(deltalake.DeltaTable(path).file_uris())
    delta.insert_missing(rows(("a", 1, "new"), ("d", 1, "new")), PLACE, path, Write("i", 0), first_by=("order",))
    assert before < set(deltalake.DeltaTable(path).file_uris())


def test_insert_missing_looks_only_where_it_is_told_to(place):
    rows, path, kept = place
    new = rows(("a", 1, "seen"), ("c", 2, "unseen"))
    delta.insert_missing(new, PLACE, path, Write("i", 0), first_by=("order",), within="at = 1")
    assert kept() == [*OLD, ("c", 2, "unseen")]


def test_replace_where_puts_rows_in_place_of_what_fulfils_the_condition(place):
    rows, path, kept = place
    for _ in range(2):
        delta.replace_where(rows(("d", 1, "new")), path, "at = 1", Write("replace", 0))
    assert kept() == [("c", 2, "old"), ("d", 1, "new")]
    delta.replace_where(rows(), path, "at = 1", Write("replace", 0))
    assert kept() == [("c", 2, "old"), ("d", 1, "new")]
    delta.replace_where(rows(), path, "at = 1", Write("replace", 1))
    assert kept() == [("c", 2, "old")]


def test_replace_where_refuses_rows_that_do_not_fulfil_the_condition(place):
    rows, path, kept = place
    with pytest.raises(Exception, match="DELTA_REPLACE_WHERE_MISMATCH"):
        delta.replace_where(rows(("d", 2, "new")), path, "at = 1", Write("replace", 0))
    assert kept() == OLD


@pytest.mark.parametrize("mostly_new", [False, True])
def test_replace_keys_puts_each_row_in_place_of_its_key_s_and_leaves_none_where_it_is_gone(place, mostly_new):
    rows, path, kept = place
    new = rows(("a", 1, "new"), ("b", 1, None), ("d", 9, "new"), ("e", 9, None))
    for version in (0, 0, 1):
        delta.replace_keys(new, PLACE, path, Write("keys", version), gone="s.said IS NULL", mostly_new=mostly_new)
        assert kept() == [("a", 1, "new"), ("c", 2, "old"), ("d", 9, "new")]
    delta.replace_keys(rows(("a", 1, "third")), PLACE, path, Write("keys", 1), gone="s.said IS NULL")
    assert kept()[0] == ("a", 1, "new")
    delta.replace_keys(rows(("a", 1, "third")), PLACE, path, Write("keys", 2), gone="s.said IS NULL")
    assert kept()[0] == ("a", 1, "third")


def test_replace_keys_adds_what_the_table_has_nothing_of_and_again_changes_nothing(place):
    rows, path, kept = place
    new = rows(("d", 9, "new"), ("e", 9, None))
    for version, operation in ((0, "WRITE"), (0, "WRITE"), (1, "MERGE")):
        delta.replace_keys(
            new, PLACE, path, Write("keys", version), gone="s.said IS NULL", within="t.at > 2", mostly_new=True
        )
        assert kept() == [*OLD, ("d", 9, "new")]
        assert deltalake.DeltaTable(path).history(1)[0]["operation"] == operation


def test_the_identity_of_a_merge_does_not_outlive_it(place, spark):
    rows, path, kept = place
    delta.replace_keys(rows(("a", 1, "new")), PLACE, path, Write("keys", 7), gone="false")
    with pytest.raises(Exception, match="DELTA_MERGE_UNRESOLVED_EXPRESSION"):
        delta.replace_keys(rows(("a", 1, "new")), PLACE, path, Write("keys", 8), gone="s.no_such_column")
    rows(("x", 1, "later")).write.format("delta").mode("append").save(str(path))
    assert ("x", 1, "later") in kept()
    assert spark.conf.get("spark.databricks.delta.write.txnAppId", None) is None


def test_a_table_is_read_as_it_was_at_a_version(place, spark):
    rows, path, kept = place
    delta.append(rows(("d", 1, "new")), path, Write("append", 0))
    then = sorted(tuple(row) for row in delta.read(spark, path, 1).select("id", "at", "said").collect())
    assert (then, kept()) == (OLD, [*OLD, ("d", 1, "new")])


def test_create_leaves_a_table_that_is_there_as_it_is(place, spark):
    _, path, kept = place
    delta.create(spark, PLACE, path)
    assert kept() == OLD
    assert deltalake.DeltaTable(path).version() == 1


def test_every_declared_table_opens_without_spark_as_it_is_declared(empty_tables):
    for table in TABLES:
        opened = reader.open_table(empty_tables, table)
        assert [field.name for field in opened.schema().fields] == [column.name for column in table.columns]
        assert [field.nullable for field in opened.schema().fields] == [column.nullable for column in table.columns]
        assert opened.metadata().description == table.grain
        assert opened.metadata().configuration.items() >= render.table_properties(table).items()
        assert opened.to_pyarrow_dataset().count_rows() == 0
        assert reader.query(empty_tables, f"SELECT * FROM {table.full_name}").num_rows == 0


def test_a_range_holds_for_spark_from_its_first_microsecond_to_before_its_end(frame):
    start = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
    condition = delta.within("at", [start], timedelta(minutes=1))
    tick = timedelta(microseconds=1)
    instants = [start - tick, start, start + timedelta(minutes=1) - tick, start + timedelta(minutes=1)]
    rows = frame([(n, at) for n, at in enumerate(instants)], "n INT, at TIMESTAMP")
    assert sorted(row.n for row in rows.where(condition).collect()) == [1, 2]
    assert rows.where(delta.within("at", [], timedelta(minutes=1))).count() == 0


def test_a_checkpoint_says_which_version_of_its_source_is_read_whole(spark, lake, records, tmp_path):
    path = lake.data.table(DEVICE_MESSAGE)
    files = records(*(b"%d" % n for n in range(4))).repartition(4, "offset")

    def read(name: str) -> list[int | None]:
        """The version that is whole after each batch of two files."""
        checkpoint, found = tmp_path / name, []
        stream = spark.readStream.format("delta").option("maxFilesPerTrigger", 2).load(str(path))

        def at_start_of(_rows: object, _batch_id: int) -> None:
            at = position(checkpoint)
            found.append(at.delta_version() if at else None)

        query = stream.writeStream.foreachBatch(at_start_of).option("checkpointLocation", str(checkpoint))
        query.trigger(availableNow=True).start().awaitTermination()
        return [*found, position(checkpoint).delta_version()]

    delta.append(files, path, Write("a", 0))
    number = len(deltalake.DeltaTable(path).file_uris())
    assert number > 2
    # The first snapshot is whole at its end only.
    assert read("one")[-2:] == [-1, 1]
    delta.append(files, path, Write("a", 1))
    assert read("one")[-2:] == [1, 2]
    assert read("two")[-2:] == [-1, 2]
