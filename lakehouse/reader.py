"""Reading the lakehouse without Spark: the Delta log by deltalake, Arrow in between, SQL by an in-memory DuckDB.

Nothing is downloaded and nothing is written: DuckDB loads no extension and sees no file but those of the tables named.
"""

import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import lru_cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from lakehouse import delta_log, files, storage
from lakehouse.datadir import DataDir
from lakehouse.files import Bounds
from lakehouse.table import Table
from lakehouse.tables import TABLES

if TYPE_CHECKING:
    import deltalake
    import duckdb
    import pyarrow as pa

    from lakehouse.storage import Place

_DUCKDB: dict[str, str | bool | int | float | list[str]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    # A reader stands beside a stream on few cores: two threads answer a day's series and leave the others room.
    "threads": 2,
}


Named = Table | str
"""A declared table, or a table by its full name: ``mart.vital_sign_hourly`` is declared by its dbt model alone."""


class TableMissingError(LookupError):
    """A table is not in the data dir yet; the text says which command makes it."""

    def __init__(self, table: Table, data: DataDir) -> None:
        made_by = (
            f"`ward dbt build --data-dir {data.root}` makes the marts"
            if table.layer == "mart"
            else f"`ward apply --data-dir {data.root}` makes the tables,"
            f" `ward up --data-dir {data.root}` makes and fills them"
        )
        super().__init__(f"{table.full_name} is not in {data.root} yet: {made_by}")
        self.table = table


class TableEmptyError(LookupError):
    """A table is there and has no row; the text says which commands fill it."""

    def __init__(self, table: Table, data: DataDir) -> None:
        filled_by = (
            f"`ward dbt build --data-dir {data.root}` builds the marts from what silver and gold hold"
            if table.layer == "mart"
            else f"`ward up --data-dir {data.root}` fills it from simulated patients, `ward replay` and `ward backfill`"
            " from published ones (a backfill raises no alerts)"
        )
        super().__init__(f"{table.full_name} in {data.root} has no rows: {filled_by}")
        self.table = table


class VersionMissingError(LookupError):
    """A table has no such version, or no longer keeps its files."""


def table_named(name: Named) -> Table:
    """The declared table of this full name; for any other, such as a mart, a table of which only the name is known.

    Raises DeclarationError for a text that is no table's full name.
    """
    if isinstance(name, Table):
        return name
    layer, _, own = name.partition(".")
    unknown = Table(layer, own, grain="as its model in dbt_project says", columns=(), key=())
    return next((table for table in TABLES if table.full_name == name), unknown)


def tables_there(data: DataDir) -> tuple[str, ...]:
    """Full names of the tables that the data dir has, marts included, in order."""
    logs = data.table_root.glob("*/*/_delta_log")
    return tuple(sorted(f"{log.parts[-3]}.{log.parts[-2]}" for log in logs))


def open_table(
    data: DataDir, name: Named, version: int | None = None, at: datetime | None = None
) -> "deltalake.DeltaTable":
    """The table as it is now, at a Delta version, or as it had been committed ``at`` an instant.

    Raises TableMissingError, VersionMissingError and LogError, and ValueError for an instant without a zone or beside
    a version.
    """
    import deltalake
    from deltalake.exceptions import DeltaError, TableNotFoundError

    if at is not None and (version is not None or at.tzinfo is None):
        raise ValueError("give a version, or an instant with its zone")
    table = table_named(name)
    path = data.table(table)
    options = storage.delta_options(path)
    if not deltalake.DeltaTable.is_deltatable(str(path), options):
        raise TableMissingError(table, data)
    try:
        opened = deltalake.DeltaTable(str(path), version=version, storage_options=options)
        if at is not None:
            opened.load_as_version(at)
    except TableNotFoundError as error:
        raise TableMissingError(table, data) from error
    except DeltaError as error:
        delta_log.require_whole(path)
        if version is None and at is None:
            raise
        wanted = f"version {version}" if at is None else f"{at.isoformat()}"
        raise VersionMissingError(f"{table.full_name} cannot be read at {wanted}: {error}") from error
    # For an instant before the first commit there is, Delta gives that one: rows that nobody had then.
    if at is not None and (first := committed_at(data, table, opened.version())) > at:
        raise VersionMissingError(
            f"{table.full_name} cannot be read at {at.isoformat()}: its log begins at {first.isoformat()}"
        )
    return opened


def require_rows(data: DataDir, *names: Named) -> None:
    """See that each of these tables is there and has rows; the error says what to do.

    Raises TableMissingError and TableEmptyError.
    """
    for name in names:
        # Counted from the footers of the files: no row is read.
        if open_table(data, name).to_pyarrow_dataset().count_rows() == 0:
            raise TableEmptyError(table_named(name), data)


def committed_at(data: DataDir, table: Table, version: int) -> datetime:
    """When a version that there is was committed: as in Delta, the time of its file in the log.

    deltalake's ``history`` does not serve: of a table that was opened at a version, it tells the newest commits.
    """
    entries = (data.table(table) / "_delta_log").glob(f"{version:020}.*")
    return datetime.fromtimestamp(min(entry.stat().st_mtime for entry in entries), UTC)


def open(  # noqa: A001 - always read as reader.open
    data: DataDir, table: Named, *, version: int | None = None, at: datetime | None = None
) -> "duckdb.DuckDBPyRelation":
    """Any table as a DuckDB relation: now, at a Delta version, or as it had been committed ``at`` an instant.

    A relation reads nothing before it is asked: ``.filter("code = '8867-4'")``, then ``.to_arrow_table()``, ``.df()``
    for pandas, or ``.to_arrow_reader()`` for more rows than fit in memory. Instants are UTC. Raises as
    :func:`open_table`.
    """
    opened = open_table(data, table, version, at)
    return connection().from_arrow(opened.to_pyarrow_dataset())


def connection(spill: Path | None = None, readable: Iterable[Path] = ()) -> "duckdb.DuckDBPyConnection":
    """An in-memory DuckDB that sees no file but those below ``readable``.

    What does not fit into a gigabyte goes to ``spill``, where it is given: there each connection makes a folder of its
    own when it needs one, and takes it away when it is closed.
    """
    import duckdb

    roomy: dict[str, str | bool | int | float | list[str]] = {}
    if spill is not None:
        spill.mkdir(parents=True, exist_ok=True)
        roomy = {"temp_directory": str(spill / uuid4().hex), "memory_limit": "1GB"}
    opened = duckdb.connect(":memory:", config={**_DUCKDB, **roomy})
    opened.execute("SET allowed_directories = $folders", {"folders": [f"{folder}/" for folder in readable]})
    opened.execute("SET enable_external_access = false")
    return _settled(opened)


def _settled(opened: "duckdb.DuckDBPyConnection") -> "duckdb.DuckDBPyConnection":
    """The connection with what holds for it alone, not for others to the same DuckDB."""
    opened.execute("SET TimeZone = 'UTC'")
    # It would draw one across what a command prints. In a notebook without ipywidgets it is off, and may not be set.
    if opened.execute("SELECT current_setting('enable_progress_bar')").fetchall() == [(True,)]:
        opened.execute("SET enable_progress_bar = false")
    return opened


def tables_in(sql: str) -> tuple[Table, ...]:
    """The tables that a query names, as ``layer.name``: declared ones in the order of their declaration, then marts."""
    words = set(re.findall(r"\b[a-z]\w*\.[a-z]\w*\b", sql))
    marts = sorted(word for word in words if word.startswith("mart."))
    return (*(table for table in TABLES if table.full_name in words), *map(table_named, marts))


def connect(
    data: DataDir, tables: Iterable[Table], versions: Mapping[Table, int] | None = None, spill: Path | None = None
) -> "duckdb.DuckDBPyConnection":
    """An in-memory DuckDB in which each table is a view named as it is declared, ``silver.observation``.

    Each is as it is now, or as it was at its version in ``versions``. A view reads nothing until it is queried; columns
    and conditions are pushed down to the files, so that those whose statistics rule them out stay closed. Instants are
    UTC. ``spill`` is as for :func:`connection`.
    """
    # Opened before there is a connection: a table that is missing must not leave one behind.
    opened = [(table, _source(data, table, (versions or {}).get(table), None)) for table in tables]
    database = connection(spill)
    try:
        _show(database, opened)
    except BaseException:
        database.close()
        raise
    return database


@contextmanager
def asked(
    data: DataDir, tables: Iterable[Table], bounds: Bounds | None = None
) -> "Iterator[duckdb.DuckDBPyConnection]":
    """As :func:`connect`, for a question or two: all such share one DuckDB, for one of their own takes 20 ms to start.

    With ``bounds`` a view may lack rows outside of them: files of the newest version are chosen by these alone, and
    DuckDB reads them itself, some twenty times as fast as through Arrow where few rows of a file are wanted. The query
    still has to say the condition.
    """
    opened = [(table, _source(data, table, None, bounds)) for table in tables]
    database = _settled(_shared(data.table_root, os.getpid()).cursor())
    own = f"question_{next(_questions)}"
    try:
        # Views of several questions have the same names: each question has a catalog of its own.
        database.execute(f"ATTACH ':memory:' AS {own}")
        database.execute(f"USE {own}")
        try:
            _show(database, opened)
            yield database
        finally:
            database.execute("USE memory")
            database.execute(f"DETACH {own}")
    finally:
        database.close()


_questions = count()


@lru_cache(maxsize=4)
def _shared(root: "Place", _process: int) -> "duckdb.DuckDBPyConnection":
    """The DuckDB of all questions to one data dir. A process that was forked cannot use its parent's.

    What it has read of files it keeps in memory, as far as there is room.
    """
    shared = connection(readable=[root] if isinstance(root, Path) else [])
    shared.execute("SET memory_limit = '2GB'")
    return shared


def _show(database: "duckdb.DuckDBPyConnection", opened: "Iterable[tuple[Table, tuple[Any, str]]]") -> None:
    """Make a view of each table."""
    for table, (source, read) in opened:
        arrow_name = f"{table.layer}__{table.name}"
        database.register(arrow_name, source)
        database.execute(f'CREATE SCHEMA IF NOT EXISTS "{table.layer}"')
        database.execute(f'CREATE VIEW "{table.layer}"."{table.name}" AS FROM "{arrow_name}"{read}')


def _source(data: DataDir, table: Table, version: int | None, bounds: Bounds | None) -> tuple[Any, str]:
    """What DuckDB registers as a table, and what a view reads beside it."""
    if bounds is not None and version is None:
        found = files.newest(data.table(table), lambda: open_table(data, table))
        if found is not None:
            # The names of columns and their types are those of the table: a file may be older than a column.
            listed = ", ".join("'" + path.replace("'", "''") + "'" for path in found.within(bounds))
            parquet = f" UNION ALL BY NAME FROM read_parquet([{listed}], union_by_name = true)"
            return found.empty, parquet if listed else ""
    return open_table(data, table, version).to_pyarrow_dataset(), ""


def query(data: DataDir, sql: str, params: Mapping[str, Any] | None = None, bounds: Bounds | None = None) -> "pa.Table":
    """The answer to one SELECT over declared tables and marts (``FROM gold.alert_event``); ``$name`` takes a parameter.

    Only the tables that it names are opened, each at its newest version. ``bounds`` are as for :func:`asked`. Raises
    TableMissingError.
    """
    with asked(data, tables_in(sql), bounds) as database:
        return database.sql(sql, params=dict(params or {})).to_arrow_table()
