"""The marts that dbt builds, as pages and as whole files that are made while they are sent."""

import re
from collections.abc import Callable, Iterator
from contextlib import closing
from typing import TYPE_CHECKING, Any

from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.deidentify import Key, deidentified, teach
from lakehouse.privacy import PrivacyError, exportable, may_leave

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

_LAYER = "mart."
_NAME = re.compile(r"[a-z][a-z0-9_]*")
_BATCH_ROWS = 20_000
"""Rows that are held at a time: some megabytes of the widest mart."""


class UnknownCohortError(LookupError):
    """There is no mart of this name."""


class IdentifyingCohortError(PermissionError):
    """A mart cannot be shown under pseudonyms; the text says why."""


def listed(data: DataDir, *, leaving: bool = False) -> list[dict[str, Any]]:
    """Each mart: its name, Delta version, rows and columns; only those that may leave, on request."""
    names = [name for name in reader.tables_there(data) if name.startswith(_LAYER)]
    return [_described(data, name.removeprefix(_LAYER)) for name in names if not leaving or may_leave(name)]


def _described(data: DataDir, name: str) -> dict[str, Any]:
    table = reader.open_table(data, _LAYER + name)
    dataset = table.to_pyarrow_dataset()
    return {
        "name": name,
        "version": table.version(),
        # Counted from the footers of the files: no row is read.
        "rows": dataset.count_rows(),
        "columns": [{"name": field.name, "type": str(field.type)} for field in dataset.schema],
    }


def version_of(data: DataDir, name: str, version: int | None) -> int:
    """The Delta version that an answer is of: the one asked for, else the newest.

    Raises UnknownCohortError and VersionMissingError.
    """
    # The name becomes part of a path: only one that is in the folder of marts, and can be there, is looked for.
    if not _NAME.fullmatch(name) or _LAYER + name not in reader.tables_there(data):
        raise UnknownCohortError(f"there is no cohort {name}: GET /api/cohorts shows those that `ward dbt build` made")
    found: int = reader.open_table(data, _LAYER + name, version).version()
    return found


def page(
    data: DataDir, name: str, version: int, limit: int, offset: int, key: Key | None = None
) -> tuple[list[dict[str, Any]], int]:
    """Rows in the order of the columns, which begin with the key, and how many there are in all.

    The same at every request for one version. What does not fit into a gigabyte is sorted on disk. With a key they are
    de-identified: what is said of patients is as in `ward snapshot export`. Raises IdentifyingCohortError.
    """
    dataset = reader.open_table(data, _LAYER + name, version).to_pyarrow_dataset()
    with closing(reader.connection(data.spill)) as database:
        found = database.from_arrow(dataset)
        if key is not None:
            found = _deidentified(data, name, version, found, database, key)
        rows = found.order("ALL").limit(limit, offset).to_arrow_table().to_pylist()
        total = dataset.count_rows() if key is None else found.shape[0]
    return rows, total


def _deidentified(
    data: DataDir,
    name: str,
    version: int,
    rows: "duckdb.DuckDBPyRelation",
    database: "duckdb.DuckDBPyConnection",
    key: Key,
) -> "duckdb.DuckDBPyRelation":
    try:
        table = exportable(_LAYER + name, rows.columns)
    except PrivacyError as error:
        raise IdentifyingCohortError(str(error)) from error
    teach(database, key)
    return deidentified(rows, table, reader.committed_at(data, reader.table_named(_LAYER + name), version))


def whole(data: DataDir, name: str, version: int, media_type: str, key: Key | None = None) -> Iterator[bytes]:
    """All rows as one file of a kind in WRITERS, in pieces; a few megabytes are held at a time, however many there are.

    The rows are in no order. With a key they are de-identified, as of :func:`page`. Raises IdentifyingCohortError.
    """
    if key is not None:
        return _whole_deidentified(data, name, version, media_type, key)
    dataset = reader.open_table(data, _LAYER + name, version).to_pyarrow_dataset()
    # Read-ahead is what would hold whole files of a large mart in memory.
    batches = dataset.scanner(batch_size=_BATCH_ROWS, batch_readahead=1, fragment_readahead=1).to_batches()
    return _file(dataset.schema, batches, WRITERS[media_type])


def _whole_deidentified(data: DataDir, name: str, version: int, media_type: str, key: Key) -> Iterator[bytes]:
    dataset = reader.open_table(data, _LAYER + name, version).to_pyarrow_dataset()
    database = reader.connection(data.spill)
    try:
        rows = _deidentified(data, name, version, database.from_arrow(dataset), database, key)
        batches = rows.to_arrow_reader(_BATCH_ROWS)
    except BaseException:
        database.close()
        raise

    def pieces() -> Iterator[bytes]:
        with closing(database):
            yield from _file(batches.schema, batches, WRITERS[media_type])

    return pieces()


class _Sink:
    """A file that is taken away piece by piece while it is written."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._written = 0

    def write(self, part: Any) -> int:
        content = bytes(part)
        self._parts.append(content)
        self._written += len(content)
        return len(content)

    def tell(self) -> int:
        return self._written

    def flush(self) -> None:
        """Nothing waits here."""

    def close(self) -> None:
        self.closed = True

    def take(self) -> bytes:
        content = b"".join(self._parts)
        self._parts.clear()
        return content


def _file(schema: "pa.Schema", batches: Iterator["pa.RecordBatch"], opened: Callable[..., Any]) -> Iterator[bytes]:
    sink = _Sink()
    with opened(sink, schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            if content := sink.take():
                yield content
    yield sink.take()


def _arrow(sink: _Sink, schema: "pa.Schema") -> Any:
    import pyarrow as pa

    return pa.ipc.new_stream(sink, schema)


def _csv(sink: _Sink, schema: "pa.Schema") -> Any:
    from pyarrow import csv

    return csv.CSVWriter(sink, schema)


def _parquet(sink: _Sink, schema: "pa.Schema") -> Any:
    import pyarrow.parquet as pq

    return pq.ParquetWriter(sink, schema, compression="zstd")


ARROW, CSV, PARQUET = "application/vnd.apache.arrow.stream", "text/csv", "application/vnd.apache.parquet"
WRITERS: dict[str, Callable[..., Any]] = {ARROW: _arrow, CSV: _csv, PARQUET: _parquet}
"""What makes a file, by media type."""
