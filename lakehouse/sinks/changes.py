"""What a table's next version changes, row by row, read from the files that its commit took away and brought.

Gold is rewritten file by file: a commit that corrects one minute brings the file in which it lies anew. The rows that
differ between the files before and after are what changed, whoever wrote them: a flow, an erasure, a restore.
Compaction changes none. Rows flow through DuckDB, which spills to disk.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from lakehouse import delta_log, reader, storage
from lakehouse.datadir import DataDir
from lakehouse.sinks.flat import flat_sql
from lakehouse.table import Table

if TYPE_CHECKING:
    import duckdb
    import pyarrow as pa

    from lakehouse.storage import Place

_BATCH_ROWS = 20_000
"""Rows that are held at a time: a few megabytes."""


class BehindError(RuntimeError):
    """What a sink lacks can no longer be told from the table's log: the sink must be loaded again."""


class UnreadableError(RuntimeError):
    """A table's files cannot be read now; it may be tried again."""


@dataclass(frozen=True)
class Position:
    """How far a sink has a table: up to this version of the table with this id."""

    table_id: str
    version: int


@dataclass(frozen=True)
class Step:
    """From one position to the next, all at once. Without ``before`` the sink gets the whole table anew."""

    table: Table
    before: Position | None
    after: Position
    removed: "tuple[Place, ...]"
    added: "tuple[Place, ...]"


class Rows:
    """The rows of a step, as other databases take them; inside :func:`opened` alone, one kind of them after another."""

    def __init__(self, database: "duckdb.DuckDBPyConnection", table: Table, columns: set[str]) -> None:
        self._database = database
        self._table = table
        self._columns = columns

    def written(self) -> "Iterator[pa.RecordBatch]":
        """Rows that are new or changed: every declared column, in order."""
        yield from self._batches(f"SELECT {flat_sql(self._table.columns, self._columns.__contains__)} FROM written")  # noqa: S608 - declared names

    def gone(self) -> "Iterator[pa.RecordBatch]":
        """Keys that the table has no longer."""
        yield from self._batches(f"SELECT {self._key} FROM gone")  # noqa: S608 - declared names

    def updated(self) -> "Iterator[pa.RecordBatch]":
        """Keys of which the table had another row before."""
        yield from self._batches(f"SELECT {self._key} FROM written SEMI JOIN before USING ({self._key})")  # noqa: S608 - declared names

    def touched(self, by: tuple[str, ...]) -> "Iterator[pa.RecordBatch]":
        """Each value of these columns of the key among rows that are new, changed or gone, once."""
        named = ", ".join(f'"{name}"' for name in by)
        yield from self._batches(f"SELECT {named} FROM written UNION SELECT {named} FROM gone")  # noqa: S608 - declared names

    @property
    def _key(self) -> str:
        return ", ".join(f'"{name}"' for name in self._table.key)

    def _batches(self, sql: str) -> "Iterator[pa.RecordBatch]":
        yield from self._database.sql(sql).to_arrow_reader(_BATCH_ROWS)


def next_step(data: DataDir, table: Table, at: Position | None) -> Step | None:
    """What a sink that stands at this position has to take next; None where it has everything.

    Raises TableMissingError where there is no such table yet, BehindError, and LogError.
    """
    folder = data.table(table)
    if at is not None and not _has_news(folder, at):
        return None
    opened = reader.open_table(data, table)
    newest = Position(str(opened.metadata().id), opened.version())
    if at is None:
        files = opened.file_uris()
        return Step(table, None, newest, (), tuple(map(storage.of_uri, files)))
    if newest.table_id != at.table_id or newest.version < at.version:
        raise BehindError(f"{table.full_name} is not the table any more that was copied: it was made anew")
    return _following(folder, table, at, newest) if newest.version > at.version else None


@contextmanager
def opened(data: DataDir, step: Step) -> Iterator[Rows]:
    """The rows of a step, for as long as the block lasts.

    Raises BehindError where its files are gone, and UnreadableError.
    """
    if missing := [file for file in (*step.removed, *step.added) if not file.exists()]:
        raise BehindError(
            f"{step.table.full_name}: VACUUM has taken {len(missing)} files of version {step.after.version}"
        )
    empty = _empty(data, step.table)
    with (
        _at_hand(data, step) as (readable, removed, added),
        _told(step.table),
        reader.connection(data.spill, readable=[readable]) as database,
    ):
        database.register("empty", empty)
        database.execute(f"CREATE VIEW before AS FROM empty{_files(removed)}")
        database.execute(f"CREATE VIEW after AS FROM empty{_files(added)}")
        key = ", ".join(f'"{name}"' for name in step.table.key)
        # Without files before there is nothing to compare: then no row is held.
        written, gone = (
            ("TEMP TABLE written AS FROM after EXCEPT FROM before", "TEMP TABLE gone AS")
            if step.removed
            else ("VIEW written AS FROM after", "VIEW gone AS")
        )
        database.execute(f"CREATE {written}")
        database.execute(f"CREATE {gone} SELECT {key} FROM before ANTI JOIN after USING ({key})")  # noqa: S608 - declared names
        yield Rows(database, step.table, set(empty.column_names))


@contextmanager
def _at_hand(data: DataDir, step: Step) -> Iterator[tuple[Path, tuple[Path, ...], tuple[Path, ...]]]:
    """A folder of this machine, and in it the files that the step took away and brought, for as long as the block."""
    root = data.table_root
    if isinstance(root, Path):
        yield root, _local(step.removed), _local(step.added)
        return
    data.spill.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=data.spill, prefix="sink-") as name:
        folder = Path(name)
        yield folder, _brought(step.removed, folder / "removed"), _brought(step.added, folder / "added")


def _local(files: "tuple[Place, ...]") -> tuple[Path, ...]:
    return tuple(file for file in files if isinstance(file, Path))


def _brought(files: "tuple[Place, ...]", folder: Path) -> tuple[Path, ...]:
    folder.mkdir()
    here = tuple(folder / f"{number:06}.parquet" for number in range(len(files)))
    for file, target in zip(files, here, strict=True):
        storage.copy(file, target)
    return here


@contextmanager
def _told(table: Table) -> Iterator[None]:
    import duckdb

    try:
        yield
    except duckdb.Error as error:
        raise UnreadableError(f"{table.full_name}: {error}") from error


def behind(data: DataDir, table: Table, at: Position | None) -> int:
    """How many versions of the table a sink at this position has not taken; all that there are without one."""
    log = data.table(table) / "_delta_log"
    versions = (int(path.stem) for path in log.glob("[0-9]*.json"))
    return sum(version > (at.version if at else -1) for version in versions)


def _has_news(folder: "Place", at: Position) -> bool:
    """Whether it is worth opening the table: it has a version after this one, or lacks this one."""
    log = folder / "_delta_log"
    return (log / f"{at.version + 1:020}.json").exists() or not (log / f"{at.version:020}.json").exists()


def _following(folder: "Place", table: Table, at: Position, newest: Position) -> Step:
    """The next version that changes rows, or the newest where none does."""
    for version in range(at.version + 1, newest.version + 1):
        change = delta_log.file_change(folder, version)
        if change is None:
            raise BehindError(f"{table.full_name}: its log has version {version} no longer")
        if change.marked:
            raise BehindError(f"{table.full_name}: version {version} has deletion vectors, which cannot be read here")
        if change.removed or change.added:
            paths = [tuple(folder / name for name in names) for names in (change.removed, change.added)]
            return Step(table, at, Position(at.table_id, version), *paths)
    return Step(table, at, newest, (), ())


def _empty(data: DataDir, table: Table) -> "pa.Table":
    """No row, with the columns that the table has today: an older file may lack some."""
    import pyarrow as pa

    return pa.schema(reader.open_table(data, table).schema().to_arrow()).empty_table()


def _files(paths: tuple[Path, ...]) -> str:
    listed = ", ".join("'" + str(path).replace("'", "''") + "'" for path in paths)
    return f" UNION ALL BY NAME FROM read_parquet([{listed}], union_by_name = true)" if paths else ""
