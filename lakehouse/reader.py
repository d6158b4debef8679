"""Reading the lakehouse without Spark: the Delta log by deltalake, Arrow in between, SQL by an in-memory DuckDB.

Nothing is downloaded and nothing is written: DuckDB loads no extension and sees no file but those of the tables named.
"""

import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from lakehouse.datadir import DataDir
from lakehouse.table import Table
from lakehouse.tables import TABLES

if TYPE_CHECKING:
    import deltalake
    import duckdb
    import pyarrow as pa

_DUCKDB: dict[str, str | bool | int | float | list[str]] = {
    "enable_external_access": False,
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    # A reader stands beside a stream on few cores: two threads answer a day's series and leave the others room.
    "threads": 2,
}


class TableMissingError(LookupError):
    """A declared table is not in the data dir yet; the text says which command makes it."""

    def __init__(self, table: Table, data: DataDir) -> None:
        super().__init__(
            f"{table.full_name} is not in {data.root} yet: `ward apply --data-dir {data.root}` makes the tables,"
            f" `ward up --data-dir {data.root}` makes and fills them"
        )
        self.table = table


class VersionMissingError(LookupError):
    """A table has no such version, or no longer keeps its files."""


def open_table(data: DataDir, table: Table, version: int | None = None) -> "deltalake.DeltaTable":
    """The declared table as it is now, or as it was at a version. Raises TableMissingError and VersionMissingError."""
    import deltalake
    from deltalake.exceptions import DeltaError, TableNotFoundError

    path = data.table(table)
    if not deltalake.DeltaTable.is_deltatable(str(path)):
        raise TableMissingError(table, data)
    try:
        return deltalake.DeltaTable(path, version=version)
    except TableNotFoundError as error:
        raise TableMissingError(table, data) from error
    except DeltaError as error:
        if version is None:
            raise
        raise VersionMissingError(f"{table.full_name} cannot be read at version {version}: {error}") from error


def tables_in(sql: str) -> tuple[Table, ...]:
    """The declared tables that a query names, as ``layer.name``, in the order of their declaration."""
    words = set(re.findall(r"\b[a-z]\w*\.[a-z]\w*\b", sql))
    return tuple(table for table in TABLES if table.full_name in words)


def connect(
    data: DataDir, tables: Iterable[Table], versions: Mapping[Table, int] | None = None
) -> "duckdb.DuckDBPyConnection":
    """An in-memory DuckDB in which each table is a view named as it is declared, ``silver.observation``.

    Each is as it is now, or as it was at its version in ``versions``. A view reads nothing until it is queried; columns
    and conditions are pushed down to the files, so that those whose statistics rule them out stay closed. Instants are
    UTC.
    """
    import duckdb

    # Opened before there is a connection: a table that is missing must not leave one behind.
    opened = [(table, open_table(data, table, (versions or {}).get(table)).to_pyarrow_dataset()) for table in tables]
    connection = duckdb.connect(":memory:", config=_DUCKDB)
    try:
        connection.execute("SET TimeZone = 'UTC'")
        for table, dataset in opened:
            arrow_name = f"{table.layer}__{table.name}"
            connection.register(arrow_name, dataset)
            connection.execute(f'CREATE SCHEMA IF NOT EXISTS "{table.layer}"')
            connection.execute(f'CREATE VIEW "{table.layer}"."{table.name}" AS FROM "{arrow_name}"')
    except BaseException:
        connection.close()
        raise
    return connection


def query(data: DataDir, sql: str, params: Mapping[str, Any] | None = None) -> "pa.Table":
    """The answer to one SELECT over declared tables (``FROM gold.alert_event``); ``$name`` takes a parameter.

    Only the tables that it names are opened, each at its newest version. Raises TableMissingError.
    """
    with connect(data, tables_in(sql)) as connection:
        return connection.sql(sql, params=dict(params or {})).to_arrow_table()
