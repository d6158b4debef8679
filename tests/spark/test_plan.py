"""Declared against actual tables: each difference is shown, and what has a statement is mended by it."""

from dataclasses import replace

import pytest

from lakehouse import delta
from lakehouse.datadir import DataDir
from lakehouse.table import Column, Constraint, Table
from lakehouse.tables import OBSERVATION, TABLES
from wardhouse.plan import apply_tables, table_steps

READING = Table(
    layer="silver",
    name="reading",
    grain="one reading",
    columns=(Column("id", "STRING", "which", nullable=False), Column("value", "DOUBLE", "how much")),
    key=("id",),
    constraints=(Constraint("negative", "coalesce($value >= 0, false)", "the value is below zero"),),
)
CHANGED = replace(
    READING,
    columns=(*READING.columns, Column("note", "STRING", "what it's about"), Column("at", "TIMESTAMP", "when")),
    constraints=(
        Constraint("negative", "coalesce($value > 0, false)", "the value is not above zero"),
        Constraint("loud", "coalesce($id <> 'A', false)", "the id is in capitals"),
    ),
)


@pytest.fixture
def plan(spark, tmp_path):
    """A way to put rows into the table, the differences between declarations and data dir, and a way to mend them."""
    data = DataDir(tmp_path)

    def put(*values: str) -> None:
        for row in values:
            spark.sql(f"INSERT INTO delta.`{data.table(READING)}` VALUES ({row})")

    def show(*tables: Table) -> list[tuple[str, bool]]:
        return [(step.found, step.statement is not None) for step in table_steps(data, tables)]

    def mend(*tables: Table) -> None:
        apply_tables(spark, table_steps(data, tables))

    return put, show, mend


def test_tables_as_they_are_created_are_as_declared(empty_tables):
    assert table_steps(empty_tables, TABLES) == ()


def test_a_missing_table_is_shown_and_made(plan):
    _, show, mend = plan
    assert show(READING, OBSERVATION) == [("missing", True), ("missing", True)]
    mend(READING, OBSERVATION)
    assert show(READING, OBSERVATION) == []


def test_every_difference_is_shown_and_those_with_a_statement_are_mended_in_place(spark, tmp_path, plan):
    put, show, mend = plan
    mend(READING)
    put("'a', 5")

    assert show(CHANGED) == [
        ("column note is missing", True),
        ("column at is missing", True),
        ("constraint negative differs", True),
        ("constraint negative is declared anew", True),
        ("constraint loud is missing", True),
    ]
    mend(CHANGED)
    assert [found for found, _ in show(CHANGED) if "missing" in found] == []
    assert [tuple(row) for row in delta.read(spark, DataDir(tmp_path).table(READING)).collect()] == [
        ("a", 5.0, None, None)
    ]
    for row, name in (("'b', 0, NULL, NULL", "negative"), ("'A', 1, NULL, NULL", "loud")):
        with pytest.raises(Exception, match=f"CHECK constraint {name} "):
            put(row)

    without = replace(CHANGED, constraints=())
    mend(without)
    put("'A', 0, NULL, NULL")
    assert show(without) == []


def test_what_was_mended_is_as_declared(plan):
    _, show, mend = plan
    mend(READING)
    mend(CHANGED)
    assert show(CHANGED) == []


def test_what_no_statement_mends_without_loss_is_left_to_a_person(plan):
    _, show, mend = plan
    mend(READING)
    wanted = Column("at", "TIMESTAMP", "when", nullable=False)
    differing = replace(READING, columns=(READING.columns[0], wanted), constraints=())
    assert show(differing) == [
        ("column at is missing", False),
        ("column value is not declared", False),
        ("constraint negative is not declared", True),
    ]


def test_a_constraint_that_rows_break_is_not_added_in_silence(plan):
    put, show, mend = plan
    mend(READING)
    put("'a', 5")
    stricter = replace(
        READING, constraints=(*READING.constraints, Constraint("low", "coalesce($value > 9, false)", ""))
    )
    with pytest.raises(Exception, match="DELTA_NEW_CHECK_CONSTRAINT_VIOLATION"):
        mend(stricter)
    assert show(stricter) == [("constraint low is missing", True)]


def test_a_changed_property_is_shown_and_set(spark, tmp_path, plan):
    _, show, mend = plan
    mend(READING)
    spark.sql(
        f"ALTER TABLE delta.`{DataDir(tmp_path).table(READING)}` SET TBLPROPERTIES ('delta.checkpointInterval' = '7')"
    )
    assert show(READING) == [("delta.checkpointInterval is 7, declared 50", True)]
    mend(READING)
    assert show(READING) == []


def test_a_column_of_another_type_is_left_to_a_person(plan):
    _, show, mend = plan
    mend(READING)
    text = replace(READING, columns=(READING.columns[0], Column("value", "STRING", "how much")))
    assert [has_statement for _, has_statement in show(text)] == [False]
