"""Adding a few rows to a declared table without Spark: what a command has to say of itself."""

from collections.abc import Mapping, Sequence
from typing import Any

from lakehouse.datadir import DataDir
from lakehouse.reader import open_table
from lakehouse.table import Table


def add(data: DataDir, table: Table, rows: Sequence[Mapping[str, Any]]) -> None:
    """Add rows by column name; a column that is left out is NULL. Raises TableMissingError."""
    import deltalake
    import pyarrow as pa

    opened = open_table(data, table)
    columns = opened.to_pyarrow_dataset().schema
    deltalake.write_deltalake(opened, pa.Table.from_pylist([dict(row) for row in rows], schema=columns), mode="append")
