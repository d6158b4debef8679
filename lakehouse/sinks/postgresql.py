"""PostgreSQL: rows and how far they go in one transaction a step, rows by COPY.

Tables are named as declared, in schemas ``silver`` and ``gold``. They are partitioned by the patient's hash where each
row has one. Readers see a step whole or not at all, also where a table is loaded again.
"""

import io
import ssl
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lakehouse.privacy import PATIENT
from lakehouse.sinks.changes import Position, Rows, Step
from lakehouse.sinks.declaration import Sink
from lakehouse.sinks.flat import is_nested
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
    import psycopg
    import pyarrow as pa

_CONNECT_S = 10
_TYPES = {
    "STRING": "text",
    "DOUBLE": "double precision",
    "INT": "integer",
    "BIGINT": "bigint",
    "BOOLEAN": "boolean",
    "BINARY": "bytea",
    "TIMESTAMP": "timestamptz",
    "DATE": "date",
}


def quoted(name: str) -> str:
    """A declared name, which has letters, digits and underscores alone."""
    return f'"{name}"'


def sql_type(type_: str) -> str:
    """The type of a column that is declared with this one."""
    return "jsonb" if is_nested(type_) else _TYPES[type_]


def create_table(table: Table) -> tuple[str, ...]:
    """Statements that make a table with its partitions and comments."""
    name = _name(table)
    columns = ", ".join(f"{quoted(column.name)} {sql_type(column.type)}" for column in table.columns)
    partitioned = f" PARTITION BY HASH ({quoted(PATIENT)})" if is_partitioned(table) else ""
    parts = (
        f"CREATE TABLE {_schema(table)}.{quoted(f'{table.name}_{number}')} PARTITION OF {name}"
        f" FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {number})"
        for number in range(PARTITIONS if partitioned else 0)
    )
    return (
        f"CREATE TABLE {name} ({columns}, PRIMARY KEY ({_list(primary_key(table))})){partitioned}",
        *parts,
        f"COMMENT ON TABLE {name} IS {_literal(table.grain)}",
        *(_comment(table, column) for column in table.columns),
    )


def upsert(table: Table, staged: str) -> str:
    """The statement that takes rows from a staging table: a row in place of the one with its key."""
    names = [column.name for column in table.columns]
    key = primary_key(table)
    sets = ", ".join(f"{quoted(one)} = EXCLUDED.{quoted(one)}" for one in names if one not in key)
    return (
        f"INSERT INTO {_name(table)} ({_list(names)}) SELECT {_list(names)} FROM {staged}"  # noqa: S608 - declared names
        f" ON CONFLICT ({_list(key)}) DO {f'UPDATE SET {sets}' if sets else 'NOTHING'}"
    )


def csv(batch: "pa.RecordBatch") -> bytes:
    """Rows as COPY reads them: NULL is empty, an empty text is quoted, bytes are hexadecimal digits."""
    import pyarrow as pa
    import pyarrow.csv as pc

    columns = [_digits(column) if pa.types.is_binary(column.type) else column for column in batch.columns]
    out = io.BytesIO()
    options = pc.WriteOptions(include_header=False, quoting_style="all_valid")
    pc.write_csv(pa.RecordBatch.from_arrays(columns, names=batch.schema.names), out, options)
    return out.getvalue()


def connect(sink: Sink) -> "_PostgreSQL":
    """An open connection. Raises StoreError."""
    import psycopg

    verified = str(sink.ca or ssl.get_default_verify_paths().cafile)
    tls: dict[str, Any] = {"sslmode": "verify-full", "sslrootcert": verified} if sink.tls else {"sslmode": "disable"}
    with _told():
        connection = psycopg.connect(
            host=sink.host,
            port=sink.port,
            dbname=sink.database,
            user=sink.user,
            password=sink.password or None,
            connect_timeout=_CONNECT_S,
            application_name="wardhouse",
            # A connection that nobody ends would hold its transaction, and readers of the rows behind it.
            keepalives_idle=30,
            autocommit=True,
            options="-c timezone=UTC",
            **tls,
        )
    return _PostgreSQL(connection, sink)


class _PostgreSQL:
    def __init__(self, connection: "psycopg.Connection[Any]", sink: Sink) -> None:
        self._connection = connection
        self._sink = sink

    def prepare(self) -> None:
        with _told(), self._connection.transaction():
            self._prepare()

    def position(self, table: Table) -> Position | None:
        with _told():
            row = self._connection.execute(
                f"SELECT table_id, version FROM ward.{PROGRESS} WHERE table_name = %s",  # noqa: S608 - a name of ours
                (table.full_name,),
            ).fetchone()
        return Position(*row) if row else None

    def apply(self, step: Step, rows: Rows, pulse: Callable[[int], None]) -> None:
        with _told(), self._connection.transaction():
            self._advance(step)
            if step.before is None:
                self._load(step.table, rows, pulse)
            else:
                self._change(step.table, rows, pulse)

    def forget(self, tables: Iterable[Table]) -> None:
        with _told(), self._connection.transaction():
            for table in tables:
                self._execute(f"DELETE FROM ward.{PROGRESS} WHERE table_name = %s", table.full_name)  # noqa: S608

    def check(self) -> tuple[str, ...]:
        with _told():
            version = self._connection.execute("SHOW server_version").fetchone()
            # Everything is made and undone again: whatever a right is missing for says so.
            with self._connection.transaction(force_rollback=True):
                self._prepare()
                for table in self._sink.tables:
                    self._execute(f"DELETE FROM {_name(table)} WHERE false")  # noqa: S608 - declared names
                self._execute("CREATE TEMP TABLE ward_check (one int) ON COMMIT DROP")
        return usable(f"PostgreSQL {version[0] if version else ''}", self._sink)

    def close(self) -> None:
        self._connection.close()

    def _prepare(self) -> None:
        self._execute(f"CREATE SCHEMA IF NOT EXISTS {quoted('ward')}")
        self._execute(
            f"CREATE TABLE IF NOT EXISTS ward.{PROGRESS} (table_name text PRIMARY KEY, table_id text NOT NULL,"
            " version bigint NOT NULL, at timestamptz NOT NULL)"
        )
        for table in self._sink.tables:
            self._execute(f"CREATE SCHEMA IF NOT EXISTS {_schema(table)}")
            self._make(table)
        if has_status(self._sink.tables) and not self._columns("gold", STATUS):
            self._execute(_status())
            self._execute(f"COMMENT ON VIEW gold.{STATUS} IS 'one patient as it stands'")

    def _make(self, table: Table) -> None:
        there = self._columns(table.layer, table.name)
        if not there:
            for statement in create_table(table):
                self._execute(statement)
            if latest := latest_of(table):
                self._execute(f"CREATE TABLE {_latest(latest)} (LIKE {_name(table)}, PRIMARY KEY ({_list(latest.by)}))")
            if table == ALERT:
                self._execute(f"CREATE INDEX alert_open ON {_name(table)} (patient_id) WHERE ended_at IS NULL")
            return
        for column in table.columns:
            if column.name not in there:
                added = f"ADD COLUMN {quoted(column.name)} {sql_type(column.type)}"
                self._execute(f"ALTER TABLE {_name(table)} {added}")
                self._execute(_comment(table, column))
                if latest := latest_of(table):
                    self._execute(f"ALTER TABLE {_latest(latest)} {added}")

    def _columns(self, schema: str, name: str) -> set[str]:
        found = self._connection.execute(
            "SELECT attname FROM pg_attribute a JOIN pg_class c ON c.oid = attrelid"
            " JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE nspname = %s AND relname = %s AND attnum > 0 AND NOT attisdropped",
            (schema, name),
        )
        return {name for (name,) in found}

    def _advance(self, step: Step) -> None:
        """First, so that of two sinks of one database the second waits, and then finds that it is late."""
        name, after = step.table.full_name, step.after
        if step.before is None:
            changed = self._execute(
                f"INSERT INTO ward.{PROGRESS} VALUES (%s, %s, %s, now()) ON CONFLICT DO NOTHING",  # noqa: S608
                name,
                after.table_id,
                after.version,
            )
        else:
            changed = self._execute(
                f"UPDATE ward.{PROGRESS} SET version = %s, at = now()"  # noqa: S608 - a name of ours
                " WHERE table_name = %s AND table_id = %s AND version = %s",
                after.version,
                name,
                step.before.table_id,
                step.before.version,
            )
        if changed != 1:
            raise late(step.table)

    def _load(self, table: Table, rows: Rows, pulse: Callable[[int], None]) -> None:
        self._execute(f"DELETE FROM {_name(table)}")  # noqa: S608 - declared names
        self._copy(_name(table), [column.name for column in table.columns], rows.written(), pulse)
        if latest := latest_of(table):
            self._execute(f"DELETE FROM {_latest(latest)}")  # noqa: S608 - declared names
            self._refresh(latest, rows)

    def _change(self, table: Table, rows: Rows, pulse: Callable[[int], None]) -> None:
        names = [column.name for column in table.columns]
        self._execute(f"CREATE TEMP TABLE staged (LIKE {_name(table)}) ON COMMIT DROP")
        self._copy("staged", names, rows.written(), pulse)
        self._execute(f"CREATE TEMP TABLE gone ON COMMIT DROP AS SELECT {_list(table.key)} FROM staged LIMIT 0")  # noqa: S608
        self._copy("gone", table.key, rows.gone(), lambda _: pulse(0))
        same = " AND ".join(f"t.{quoted(one)} = g.{quoted(one)}" for one in table.key)
        self._execute(f"DELETE FROM {_name(table)} t USING gone g WHERE {same}")  # noqa: S608 - declared names
        self._execute(upsert(table, "staged"))
        if latest := latest_of(table):
            self._refresh(latest, rows)
        self._execute("DROP TABLE staged, gone")

    def _refresh(self, latest: Latest, rows: Rows) -> None:
        self._execute(
            f"CREATE TEMP TABLE touched ON COMMIT DROP AS SELECT {_list(latest.by)} FROM {_latest(latest)} LIMIT 0"  # noqa: S608
        )
        self._copy("touched", latest.by, rows.touched(latest.by), lambda _: None)
        for statement in refresh(latest, "touched", _latest(latest), _name(latest.table), quoted):
            self._execute(statement)
        self._execute("DROP TABLE touched")

    def _copy(
        self, to: str, names: Iterable[str], batches: "Iterator[pa.RecordBatch]", pulse: Callable[[int], None]
    ) -> None:
        statement: Any = f"COPY {to} ({_list(names)}) FROM STDIN (FORMAT csv)"
        with self._connection.cursor() as cursor, cursor.copy(statement) as copy:
            for batch in batches:
                copy.write(csv(batch))
                pulse(batch.num_rows)

    def _execute(self, statement: Any, *values: Any) -> int:
        return self._connection.execute(statement, values or None).rowcount


@contextmanager
def _told() -> Iterator[None]:
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise StoreError(" ".join(str(error).split()) or type(error).__name__) from error


def _status() -> str:
    vital_sign, score = (_latest(one) for one in LATEST)
    return status_view(f"gold.{STATUS}", vital_sign, score, _name(ALERT), quoted)


def _digits(column: "pa.Array") -> "pa.Array":
    import pyarrow as pa

    return pa.array([None if value is None else f"\\x{value.hex()}" for value in column.to_pylist()], pa.string())


def _schema(table: Table) -> str:
    return quoted(table.layer)


def _name(table: Table) -> str:
    return f"{quoted(table.layer)}.{quoted(table.name)}"


def _latest(latest: Latest) -> str:
    return f"{quoted(latest.table.layer)}.{quoted(latest.name)}"


def _list(names: Iterable[str]) -> str:
    return ", ".join(map(quoted, names))


def _comment(table: Table, column: Column) -> str:
    return f"COMMENT ON COLUMN {_name(table)}.{quoted(column.name)} IS {_literal(column.comment)}"


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"
