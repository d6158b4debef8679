"""The verdict of a table's declared constraints on a few rows, without Spark.

The same texts that Spark evaluates and Delta enforces; only what DuckDB spells otherwise is respelled. A test holds the
two equal.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from lakehouse.table import Table

_DOUBLE = re.compile(r"'[^']*'|\b(\d+(?:\.\d+)?)D\b")
"""A text, which stays as it is, or a number that Spark is told to take as a double."""


def duckdb_sql(spark_sql: str) -> str:
    """A constraint's condition as DuckDB reads it: ``1.5D`` is a cast there, and so is ``double('Infinity')``."""
    spelled = _DOUBLE.sub(lambda found: f"CAST({found[1]} AS DOUBLE)" if found[1] else found[0], spark_sql)
    return spelled.replace("double('Infinity')", "CAST('Infinity' AS DOUBLE)")


def broken(table: Table, rows: Iterable[Mapping[str, Any]]) -> list[list[str]]:
    """The names of the constraints that each row breaks, in declared order; none for a good row.

    A row has the columns that the constraints name; one that it leaves out is NULL.
    """
    import duckdb
    import pyarrow as pa

    types = {"STRING": pa.string(), "DOUBLE": pa.float64(), "INT": pa.int32(), "TIMESTAMP": pa.timestamp("us", "UTC")}
    named = set(re.findall(r"\$(\w+)", " ".join(constraint.holds for constraint in table.constraints)))
    schema = pa.schema([(c.name, types[c.type]) for c in table.columns if c.name in named])
    judged = pa.Table.from_pylist([dict(row) for row in rows], schema)
    verdicts = ", ".join(duckdb_sql(constraint.sql()) for constraint in table.constraints)
    with duckdb.connect(":memory:") as database:
        database.register("judged", judged)
        answers = database.sql(f"SELECT {verdicts} FROM judged").fetchall()  # noqa: S608 - declared conditions
    names = [constraint.name for constraint in table.constraints]
    return [[name for name, holds in zip(names, answer, strict=True) if not holds] for answer in answers]
