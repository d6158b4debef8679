"""MySQL and MariaDB: rows and how far they go in one transaction a step (InnoDB).

A table ``gold.alert`` is the table ``gold_alert`` of the sink's database, since a schema is a database here. Tables are
partitioned by the patient where each row has one. Instants are UTC in DATETIME(6), and texts compare byte by byte, as
they do in the lakehouse. Nothing is cut to fit: the server refuses it instead.
"""

import ssl
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from lakehouse.privacy import PATIENT
from lakehouse.sinks.changes import Position, Rows, Step
from lakehouse.sinks.declaration import Sink
from lakehouse.sinks.flat import flat_name, is_nested
from lakehouse.sinks.relational import (
    LATEST,
    PARTITIONS,
    STATUS,
    Latest,
    has_status,
    is_partitioned,
    latest_of,
    primary_key,
    refresh,
    status_view,
)
from lakehouse.sinks.store import PROGRESS, StoreError, late, usable
from lakehouse.table import Column, Table
from lakehouse.tables import ALERT

if TYPE_CHECKING:
    import pyarrow as pa
    import pymysql

_CONNECT_S = 10
_ANSWER_S = 600
"""A table that is loaded again is emptied by one statement."""
_TYPES = {
    "STRING": "LONGTEXT",
    "DOUBLE": "DOUBLE",
    "INT": "INT",
    "BIGINT": "BIGINT",
    "BOOLEAN": "BOOLEAN",
    "BINARY": "LONGBLOB",
    "TIMESTAMP": "DATETIME(6)",
    "DATE": "DATE",
}
# What is part of a key has a length: three such texts are within InnoDB's 3072 bytes.
_KEY_TYPES = {"STRING": "VARCHAR(250)", "BINARY": "VARBINARY(250)"}
_SESSION = (
    "SET SESSION sql_mode = 'STRICT_ALL_TABLES,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION'",
    "SET SESSION time_zone = '+00:00'",
    # Else two statements of one step could see each other's gaps, and a step waits for those who only read.
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
)

_CHECK = (
    "CREATE TABLE ward_check (one INT PRIMARY KEY)",
    "ALTER TABLE ward_check ADD COLUMN two INT",
    "CREATE INDEX two ON ward_check (two)",
    "CREATE VIEW ward_check_view AS SELECT one FROM ward_check",
    "INSERT INTO ward_check VALUES (1, 1)",
    "UPDATE ward_check SET two = 2",
    "SELECT one FROM ward_check_view",
    "DELETE FROM ward_check",
    "CREATE TEMPORARY TABLE ward_check_touched (one INT)",
)
_CHECK_ENDS = (
    "DROP TEMPORARY TABLE IF EXISTS ward_check_touched",
    "DROP VIEW IF EXISTS ward_check_view",
    "DROP TABLE IF EXISTS ward_check",
)


def quoted(name: str) -> str:
    """A declared name, which has letters, digits and underscores alone."""
    return f"`{name}`"


def sql_type(column: Column, *, key: bool) -> str:
    """The type of a declared column."""
    if is_nested(column.type):
        return "JSON"
    return _KEY_TYPES.get(column.type, _TYPES[column.type]) if key else _TYPES[column.type]


def create_table(table: Table, collation: str) -> str:
    """The statement that makes a table with its partitions and comments."""
    key = primary_key(table)
    columns = ", ".join(_column(column, key=column.name in key) for column in table.columns)
    partitioned = f" PARTITION BY KEY ({quoted(PATIENT)}) PARTITIONS {PARTITIONS}" if is_partitioned(table) else ""
    return (
        f"CREATE TABLE {_name(table)} ({columns}, PRIMARY KEY ({_list(key)}))"
        f" ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = {collation}"
        f" COMMENT = {_literal(table.grain)}{partitioned}"
    )


def create_latest(latest: Latest, collation: str) -> str:
    """The statement that makes the table of latest rows."""
    columns = ", ".join(_column(column, key=column.name in latest.table.key) for column in latest.columns)
    return (
        f"CREATE TABLE {_latest(latest)} ({columns}, PRIMARY KEY ({_list(latest.by)}))"
        f" ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = {collation}"
    )


def upsert(table: Table) -> str:
    """The statement that puts a row in place of the one with its key."""
    names = [column.name for column in table.columns]
    key = primary_key(table)
    sets = ", ".join(f"{quoted(one)} = VALUES({quoted(one)})" for one in names if one not in key)
    values = ", ".join(["%s"] * len(names))
    return (
        f"INSERT INTO {_name(table)} ({_list(names)}) VALUES ({values})"  # noqa: S608 - declared names
        f" ON DUPLICATE KEY UPDATE {sets or f'{quoted(key[0])} = {quoted(key[0])}'}"
    )


def connect(sink: Sink) -> "_MySQL":
    """An open connection. Raises StoreError."""
    import pymysql

    context = ssl.create_default_context(cafile=str(sink.ca) if sink.ca else None) if sink.tls else None
    with _told():
        connection = pymysql.connect(
            host=sink.host,
            port=sink.port,
            database=sink.database,
            user=sink.user,
            password=sink.password,
            charset="utf8mb4",
            autocommit=True,
            connect_timeout=_CONNECT_S,
            read_timeout=_ANSWER_S,
            write_timeout=_ANSWER_S,
            # It would offer to send any file of this machine to a server that asks.
            local_infile=False,
            ssl=context,
            ssl_disabled=not sink.tls,
        )
        store = _MySQL(connection, sink)
        for statement in _SESSION:
            store.execute(statement)
    return store


class _MySQL:
    def __init__(self, connection: "pymysql.Connection[Any]", sink: Sink) -> None:
        self._connection = connection
        self._sink = sink

    def prepare(self) -> None:
        with _told():
            collation = self._collation()
            self.execute(
                f"CREATE TABLE IF NOT EXISTS {PROGRESS} (table_name VARCHAR(250) PRIMARY KEY,"
                " table_id VARCHAR(250) NOT NULL, version BIGINT NOT NULL, at DATETIME(6) NOT NULL)"
                f" ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = {collation}"
            )
            for table in self._sink.tables:
                self._make(table, collation)
            if has_status(self._sink.tables) and not self._columns(STATUS):
                vital_sign, score = (_latest(one) for one in LATEST)
                self.execute(status_view(quoted(STATUS), vital_sign, score, _name(ALERT), quoted))

    def position(self, table: Table) -> Position | None:
        with _told():
            rows = self._rows(
                f"SELECT table_id, version FROM {PROGRESS} WHERE table_name = %s",  # noqa: S608 - a name of ours
                table.full_name,
            )
        return Position(*rows[0]) if rows else None

    def apply(self, step: Step, rows: Rows, pulse: Callable[[int], None]) -> None:
        with _told(), self._transaction():
            self._advance(step)
            if step.before is None:
                self.execute(f"DELETE FROM {_name(step.table)}")  # noqa: S608 - declared names
            self._take(step.table, rows, pulse)
            if latest := latest_of(step.table):
                if step.before is None:
                    self.execute(f"DELETE FROM {_latest(latest)}")  # noqa: S608 - declared names
                self._refresh(latest, rows)

    def forget(self, tables: Iterable[Table]) -> None:
        with _told(), self._transaction():
            for table in tables:
                self.execute(f"DELETE FROM {PROGRESS} WHERE table_name = %s", table.full_name)  # noqa: S608

    def check(self) -> tuple[str, ...]:
        import pymysql

        with _told():
            version = self._rows("SELECT version()")[0][0]
            # DDL cannot be undone here, so that it is tried on things of its own.
            try:
                for statement in (*_CHECK_ENDS, *_CHECK):
                    self._tried(statement)
            finally:
                with suppress(pymysql.MySQLError):
                    for statement in _CHECK_ENDS:
                        self.execute(statement)
        return usable(version, self._sink)

    def close(self) -> None:
        self._connection.close()

    def execute(self, statement: str, *values: Any) -> int:
        """Run one statement: how many rows it concerned."""
        with self._connection.cursor() as cursor:
            concerned: int = cursor.execute(statement, values or None)
            return concerned

    def _tried(self, statement: str) -> None:
        import pymysql

        try:
            self.execute(statement)
        except pymysql.MySQLError as error:
            raise StoreError(f"{' '.join(statement.split()[:2])}: {_text(error)}") from error

    def _make(self, table: Table, collation: str) -> None:
        there = self._columns(flat_name(table))
        latest = latest_of(table)
        if not there:
            self.execute(create_table(table, collation))
            if table == ALERT:
                self.execute(f"CREATE INDEX alert_open ON {_name(table)} (ended_at)")
        # Statements that make things cannot be taken together here: a kill may have come between.
        if latest and not self._columns(f"{table.layer}_{latest.name}"):
            self.execute(create_latest(latest, collation))
        for name, columns in self._beside(table, latest):
            for column in table.columns:
                if column.name not in columns:
                    self.execute(f"ALTER TABLE {name} ADD COLUMN {_column(column, key=False)}")

    def _beside(self, table: Table, latest: Latest | None) -> Iterator[tuple[str, set[str]]]:
        yield _name(table), self._columns(flat_name(table))
        if latest:
            yield _latest(latest), self._columns(f"{table.layer}_{latest.name}")

    def _columns(self, name: str) -> set[str]:
        found = self._rows(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = database() AND table_name = %s",
            name,
        )
        return {column for (column,) in found}

    def _collation(self) -> str:
        """One that tells all texts apart; the two servers name it differently."""
        return "utf8mb4_nopad_bin" if "mariadb" in self._rows("SELECT version()")[0][0].lower() else "utf8mb4_0900_bin"

    def _advance(self, step: Step) -> None:
        """First, so that of two sinks of one database the second waits, and then finds that it is late."""
        name, after = step.table.full_name, step.after
        if step.before is None:
            changed = self.execute(
                f"INSERT IGNORE INTO {PROGRESS} VALUES (%s, %s, %s, utc_timestamp(6))",  # noqa: S608 - a name of ours
                name,
                after.table_id,
                after.version,
            )
        else:
            changed = self.execute(
                f"UPDATE {PROGRESS} SET version = %s, at = utc_timestamp(6)"  # noqa: S608 - a name of ours
                " WHERE table_name = %s AND table_id = %s AND version = %s",
                after.version,
                name,
                step.before.table_id,
                step.before.version,
            )
        if changed != 1:
            raise late(step.table)

    def _take(self, table: Table, rows: Rows, pulse: Callable[[int], None]) -> None:
        same = " AND ".join(f"{quoted(one)} = %s" for one in table.key)
        for batch in rows.gone():
            self._many(f"DELETE FROM {_name(table)} WHERE {same}", batch)  # noqa: S608 - declared names
            pulse(0)
        for batch in rows.written():
            self._many(upsert(table), batch)
            pulse(batch.num_rows)

    def _refresh(self, latest: Latest, rows: Rows) -> None:
        declared = {column.name: column for column in latest.columns}
        columns = ", ".join(_column(declared[name], key=True) for name in latest.by)
        self.execute("DROP TEMPORARY TABLE IF EXISTS touched")
        self.execute(
            f"CREATE TEMPORARY TABLE touched ({columns}, PRIMARY KEY ({_list(latest.by)}))"
            f" DEFAULT CHARSET = utf8mb4 COLLATE = {self._collation()}"
        )
        for batch in rows.touched(latest.by):
            self._many(f"INSERT INTO touched VALUES ({', '.join(['%s'] * len(latest.by))})", batch)  # noqa: S608
        for statement in refresh(latest, "touched", _latest(latest), _name(latest.table), quoted):
            self.execute(statement)

    def _many(self, statement: str, batch: "pa.RecordBatch") -> None:
        with self._connection.cursor() as cursor:
            cursor.executemany(statement, _values(batch))

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._connection.begin()
        try:
            yield
        except BaseException:
            self._connection.rollback()
            raise
        self._connection.commit()

    def _rows(self, query: str, *values: Any) -> Sequence[Any]:
        with self._connection.cursor() as cursor:
            cursor.execute(query, values or None)
            found: Sequence[Any] = cursor.fetchall()
            return found


@contextmanager
def _told() -> Iterator[None]:
    import pymysql

    try:
        yield
    except (pymysql.MySQLError, OSError) as error:
        raise StoreError(_text(error)) from error


def _text(error: Exception) -> str:
    return str(error.args[-1] if error.args else type(error).__name__)


def _values(batch: "pa.RecordBatch") -> list[tuple[Any, ...]]:
    """Rows as the driver writes them: an instant is UTC and says no zone."""
    import pyarrow as pa

    columns = [
        [value and _utc(value) for value in column.to_pylist()]
        if pa.types.is_timestamp(column.type)
        else column.to_pylist()
        for column in batch.columns
    ]
    return list(zip(*columns, strict=True))


def _utc(instant: datetime) -> datetime:
    return instant.astimezone(UTC).replace(tzinfo=None)


def _column(column: Column, *, key: bool) -> str:
    null = " NOT NULL" if key else ""
    return f"{quoted(column.name)} {sql_type(column, key=key)}{null} COMMENT {_literal(column.comment)}"


def _name(table: Table) -> str:
    return quoted(flat_name(table))


def _latest(latest: Latest) -> str:
    return quoted(f"{latest.table.layer}_{latest.name}")


def _list(names: Iterable[str]) -> str:
    return ", ".join(map(quoted, names))


def _literal(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "''")
    return f"'{escaped}'"
