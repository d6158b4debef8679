"""Declared against actual: tables, topics and checkpoints. ``ward plan`` shows it, ``ward apply`` converges."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse import render
from lakehouse.checkpoint import position
from lakehouse.datadir import DataDir
from lakehouse.pipeline import Flow
from lakehouse.reader import TableMissingError, open_table
from lakehouse.table import Table

if TYPE_CHECKING:
    from deltalake import DeltaTable
    from deltalake.schema import DataType
    from pyspark.sql import SparkSession

_CHECK = "delta.constraints."
_SPARK_TYPE = {
    "string": "STRING",
    "integer": "INT",
    "long": "BIGINT",
    "double": "DOUBLE",
    "boolean": "BOOLEAN",
    "binary": "BINARY",
    "timestamp": "TIMESTAMP",
    "date": "DATE",
}
"""Delta's names of the types that declarations use."""


@dataclass(frozen=True)
class Step:
    """One difference. ``statement`` mends it (SQL, or the name of an action); None where a person must decide."""

    kind: str
    name: str
    found: str
    statement: str | None


def table_steps(data: DataDir, tables: Iterable[Table]) -> tuple[Step, ...]:
    """What differs between declared tables and those of the data dir, read without Spark."""
    return tuple(step for table in tables for step in _table_steps(data, table))


def _table_steps(data: DataDir, table: Table) -> list[Step]:
    path = data.table(table)
    try:
        actual = open_table(data, table)
    except TableMissingError:
        return [Step("table", table.full_name, "missing", render.create_table(table, str(path)))]
    return [*_columns(actual, table, f"delta.`{path}`"), *_properties(actual, table, f"delta.`{path}`")]


def _columns(actual: "DeltaTable", table: Table, target: str) -> list[Step]:
    present = {field.name: _type(field.type) for field in actual.schema().fields}
    declared = {column.name: column.type for column in table.columns}
    steps = [
        Step(
            "table",
            table.full_name,
            f"column {column.name} is missing",
            f"ALTER TABLE {target} ADD COLUMNS (`{column.name}` {column.type} COMMENT {render.literal(column.comment)})"
            if column.nullable
            else None,
        )
        for column in table.columns
        if column.name not in present
    ]
    extra = [f"column {name} is not declared" for name in sorted(present.keys() - declared.keys())]
    other = [
        f"column {name} is {present[name]}, declared {wanted}"
        for name, wanted in declared.items()
        if present.get(name, wanted) != wanted
    ]
    return steps + [Step("table", table.full_name, found, None) for found in (*extra, *other)]


def _type(given: "DataType") -> str:
    """A column's type under Spark's name, as declarations have it."""
    if isinstance(given.type, str) and given.type in _SPARK_TYPE:
        return _SPARK_TYPE[given.type]
    if (fields := getattr(given, "fields", None)) is not None:
        return f"STRUCT<{', '.join(f'{field.name}: {_type(field.type)}' for field in fields)}>"
    element = getattr(given, "element_type", None)
    return f"ARRAY<{_type(element)}>" if element is not None else str(given)


def _properties(actual: "DeltaTable", table: Table, target: str) -> list[Step]:
    declared = render.table_properties(table)
    present = actual.metadata().configuration
    steps: list[Step] = []
    for name, wanted in declared.items():
        if _same(present.get(name), wanted):
            continue
        if name.startswith(_CHECK):
            steps += _constraint(table, target, name.removeprefix(_CHECK), wanted, name in present)
        else:
            change = f"ALTER TABLE {target} SET TBLPROPERTIES ('{name}' = {render.literal(wanted)})"
            steps.append(Step("table", table.full_name, f"{name} is {present.get(name)}, declared {wanted}", change))
    for name in present:
        if name.startswith(_CHECK) and name not in declared:
            drop = f"ALTER TABLE {target} DROP CONSTRAINT {name.removeprefix(_CHECK)}"
            steps.append(
                Step("table", table.full_name, f"constraint {name.removeprefix(_CHECK)} is not declared", drop)
            )
    return steps


def _same(present: str | None, wanted: str) -> bool:
    """Whether two texts differ by white space alone: Delta keeps an added constraint with spaces of its own."""
    return present is not None and "".join(present.split()) == "".join(wanted.split())


def _constraint(table: Table, target: str, name: str, condition: str, present: bool) -> list[Step]:
    add = f"ALTER TABLE {target} ADD CONSTRAINT {name} CHECK ({condition})"
    if not present:
        return [Step("table", table.full_name, f"constraint {name} is missing", add)]
    drop = f"ALTER TABLE {target} DROP CONSTRAINT {name}"
    return [
        Step("table", table.full_name, f"constraint {name} differs", drop),
        Step("table", table.full_name, f"constraint {name} is declared anew", add),
    ]


def checkpoint_lines(data: DataDir, flows: Iterable[Flow]) -> tuple[str, ...]:
    """A line for each flow that keeps a checkpoint: its generation and how far it has come."""
    lines = []
    for flow in flows:
        if flow.checkpoint:
            folder = data.checkpoint(flow)
            at = position(folder)
            committed = at is not None and at.batch_id >= 0
            come = f"batch {at.batch_id}" if at and committed else "nothing committed yet"
            come += ", one under way" if at and at.in_flight else ""
            lines.append(f"checkpoint {flow.name}: generation {folder.name}, {come}")
    return tuple(lines)


def apply_tables(spark: "SparkSession", steps: Iterable[Step]) -> None:
    """Run the statements of the steps that have one, in order."""
    for step in steps:
        if step.statement:
            spark.sql(step.statement)
