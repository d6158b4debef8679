"""What is made from a table declaration: DDL, schema, and the conditions that split good rows from bad. Pure text."""

from collections.abc import Iterable

from lakehouse.table import Column, Constraint, Table

TABLE_PROPERTIES = {
    # Readers without Spark (deltalake, DuckDB) open neither deletion vectors nor v2 checkpoints.
    "delta.enableDeletionVectors": "false",
    "delta.checkpointPolicy": "classic",
    # A commit every 10 s: a checkpoint each 8 minutes instead of each 100 s, and the log stays quick to read.
    "delta.checkpointInterval": "50",
}


def schema(columns: Iterable[Column]) -> str:
    """The columns as a Spark DDL schema, for from_json, createDataFrame and readers."""
    return ", ".join(f"`{column.name}` {column.type}" for column in columns)


def create_table(table: Table, location: str) -> str:
    """The CREATE TABLE IF NOT EXISTS statement of a table kept at ``location``, CHECK constraints included."""
    columns = ",\n  ".join(
        f"`{c.name}` {c.type}{'' if c.nullable else ' NOT NULL'} COMMENT {literal(c.comment)}" for c in table.columns
    )
    properties = ", ".join(f"{literal(name)} = {literal(value)}" for name, value in table_properties(table).items())
    cluster = f"\nCLUSTER BY ({', '.join(table.cluster_by)})" if table.cluster_by else ""
    return (
        f"CREATE TABLE IF NOT EXISTS delta.`{location}` (\n  {columns}\n) USING DELTA{cluster}\n"
        f"COMMENT {literal(table.grain)}\nTBLPROPERTIES ({properties})"
    )


def table_properties(table: Table) -> dict[str, str]:
    """Delta table properties: CHECK constraints, and the columns worth statistics (keys, times, codes)."""
    worth = {*table.key, *table.cluster_by, "received_at", "observed_at", "recorded_at", "code", "patient_id", "minute"}
    kinds = ("STRING", "INT", "BIGINT", "TIMESTAMP", "DOUBLE")
    columns = [column.name for column in table.columns if column.name in worth and column.type in kinds]
    statistics = {"delta.dataSkippingStatsColumns": ",".join(columns)}
    # As properties, constraints come with the table in its first commit; ALTER TABLE would take one commit for each.
    checks = {f"delta.constraints.{constraint.name}": constraint.sql() for constraint in table.constraints}
    return {**TABLE_PROPERTIES, **statistics, **checks}


def literal(text: str) -> str:
    """A SQL string literal."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def whole(table: Table) -> str:
    """SQL that holds for the rows a table takes: nothing is NULL that must not be, and no constraint is broken."""
    present = [f"`{column.name}` IS NOT NULL" for column in table.columns if not column.nullable]
    return " AND ".join([*present, *(f"({constraint.sql()})" for constraint in table.constraints)])


def failed_constraints(constraints: Iterable[Constraint], prefix: str = "") -> str:
    """SQL for the names of the constraints that a row breaks, in declared order; an empty array for a good row."""
    arms = ", ".join(f"CASE WHEN NOT ({c.sql(prefix)}) THEN '{c.name}' END" for c in constraints)
    return f"array_compact(array({arms}))"


def first_fault(constraints: Iterable[Constraint], prefix: str = "") -> str:
    """SQL for the name of the first constraint that a row breaks; NULL for a good row."""
    arms = " ".join(f"WHEN NOT ({c.sql(prefix)}) THEN '{c.name}'" for c in constraints)
    return f"CASE {arms} END"
