"""Cassandra: each row written over the one with its key, at a time that is the version of the table.

Cassandra keeps, of two writes, the one with the later time, whichever comes first; nothing here needs transactions. A
step's rows are written, then how far they go (a lightweight transaction), and a step that was cut off is taken again. A
step of an earlier version that comes late changes no row that a later one has written.

A table ``gold.alert`` is the table ``gold_alert`` of the sink's keyspace. The first column of a key, the patient's
where it has one, is the partition.
"""

import ssl
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from lakehouse.privacy import PATIENT
from lakehouse.sinks.changes import Position, Rows, Step
from lakehouse.sinks.declaration import Sink
from lakehouse.sinks.flat import flat_name, is_nested, key_value, row_by_row, together
from lakehouse.sinks.store import PROGRESS, StoreError, late, usable
from lakehouse.table import Column, Table

if TYPE_CHECKING:
    import pyarrow as pa
    from cassandra.cluster import Cluster, Session
    from cassandra.query import PreparedStatement

_CONNECT_S = 10.0
_ANSWER_S = 60.0
_ROWS = 2_000
"""Sent before it is asked again whether to stop."""
_AT_ONCE = 128
"""Rows on their way at a time: the driver's own advice is about a hundred for each node."""
_SAID = 300
"""Characters of an answer that an error repeats."""
_TYPES = {
    "STRING": "text",
    "DOUBLE": "double",
    "INT": "int",
    "BIGINT": "bigint",
    "BOOLEAN": "boolean",
    "BINARY": "blob",
    "TIMESTAMP": "timestamp",
    "DATE": "date",
}
# As flat.key_value gives them.
_KEY_TYPES = {"TIMESTAMP": "bigint"}
_CHECK = "ward_sink_check"


def connect(sink: Sink) -> "_Cassandra":
    """A session of the cluster that the host belongs to. Raises StoreError where it does not answer."""
    from cassandra import ConsistencyLevel
    from cassandra.auth import PlainTextAuthProvider
    from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
    from cassandra.policies import DCAwareRoundRobinPolicy, TokenAwarePolicy

    profile = ExecutionProfile(
        # The data centre of the host that is named.
        load_balancing_policy=TokenAwarePolicy(DCAwareRoundRobinPolicy()),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL,
        request_timeout=_ANSWER_S,
    )
    cluster = Cluster(
        [sink.host],
        sink.port,
        auth_provider=PlainTextAuthProvider(sink.user, sink.password),
        ssl_context=ssl.create_default_context(cafile=str(sink.ca) if sink.ca else None) if sink.tls else None,
        # Else the driver holds the certificate against the address of the node.
        ssl_options={"server_hostname": sink.host} if sink.tls else None,
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        connect_timeout=_CONNECT_S,
        control_connection_timeout=_CONNECT_S,
    )
    try:
        with _told():
            session = cluster.connect()
            session.set_keyspace(sink.database)
            return _Cassandra(cluster, session, sink)
    except BaseException:
        cluster.shutdown()
        raise


def quoted(name: str) -> str:
    """A declared name, which has letters, digits and underscores alone."""
    return f'"{name}"'


def primary_key(table: Table) -> tuple[str, ...]:
    """The table's key; the first column is the partition, the patient's where the key has it."""
    return tuple(sorted(table.key, key=lambda name: name != PATIENT))


def create_table(table: Table) -> str:
    """The statement that makes a table where there is none."""
    columns = ", ".join(f"{quoted(column.name)} {sql_type(table, column)}" for column in table.columns)
    grain = table.grain.replace("'", "''")
    return (
        f"CREATE TABLE IF NOT EXISTS {_name(table)} ({columns}, PRIMARY KEY ({_list(primary_key(table))}))"
        f" WITH comment = '{grain}'"
    )


def sql_type(table: Table, column: Column) -> str:
    """The type of a declared column."""
    if is_nested(column.type):
        return "text"
    return _KEY_TYPES.get(column.type, _TYPES[column.type]) if column.name in table.key else _TYPES[column.type]


def insert(table: Table) -> str:
    """The statement that writes a row over the one with its key, at the time of its last parameter."""
    names = [column.name for column in table.columns]
    given = ", ".join("?" * len(names))
    return f"INSERT INTO {_name(table)} ({_list(names)}) VALUES ({given}) USING TIMESTAMP ?"  # noqa: S608 - declared names


def delete(table: Table) -> str:
    """The statement that takes a row away, at the time of its first parameter."""
    same = " AND ".join(f"{quoted(name)} = ?" for name in table.key)
    return f"DELETE FROM {_name(table)} USING TIMESTAMP ? WHERE {same}"  # noqa: S608 - declared names


class _Cassandra:
    def __init__(self, cluster: "Cluster", session: "Session", sink: Sink) -> None:
        self._cluster = cluster
        self._session = session
        self._sink = sink

    def prepare(self) -> None:
        with _told():
            self._session.execute(
                f"CREATE TABLE IF NOT EXISTS {PROGRESS} (table_name text PRIMARY KEY, table_id text, version bigint)"
            )
            for table in self._sink.tables:
                self._session.execute(create_table(table))
                self._add_columns(table)

    def position(self, table: Table) -> Position | None:
        from cassandra import ConsistencyLevel
        from cassandra.query import SimpleStatement

        # What a lightweight transaction has begun is finished first.
        asked = SimpleStatement(
            f"SELECT table_id, version FROM {PROGRESS} WHERE table_name = %s",  # noqa: S608 - a name of ours
            consistency_level=ConsistencyLevel.LOCAL_SERIAL,
        )
        with _told():
            row = self._session.execute(asked, (table.full_name,)).one()
        return Position(*row) if row else None

    def apply(self, step: Step, rows: Rows, pulse: Callable[[int], None]) -> None:
        if self.position(step.table) != step.before:
            raise late(step.table)
        with _told():
            if step.before is None:
                self._session.execute(f"TRUNCATE {_name(step.table)}")
            else:
                self._remove(step, rows.gone(), pulse)
            self._write(step, rows.written(), pulse)
            self._advance(step)

    def forget(self, tables: Iterable[Table]) -> None:
        with _told():
            for table in tables:
                self._session.execute(f"DELETE FROM {PROGRESS} WHERE table_name = %s IF EXISTS", (table.full_name,))  # noqa: S608

    def check(self) -> tuple[str, ...]:
        with _told():
            version = self._session.execute("SELECT release_version FROM system.local").one()[0]
            for statement in (
                f"DROP TABLE IF EXISTS {_CHECK}",
                f"CREATE TABLE {_CHECK} (one int PRIMARY KEY)",
                f"ALTER TABLE {_CHECK} ADD two int",
                f"INSERT INTO {_CHECK} (one) VALUES (1) IF NOT EXISTS",  # noqa: S608 - a name of ours
                f"SELECT one FROM {_CHECK}",  # noqa: S608 - a name of ours
                f"DELETE FROM {_CHECK} WHERE one = 1 IF EXISTS",  # noqa: S608 - a name of ours
                f"TRUNCATE {_CHECK}",
                f"DROP TABLE {_CHECK}",
            ):
                self._session.execute(statement)
        return usable(f"Cassandra {version}", self._sink)

    def close(self) -> None:
        self._cluster.shutdown()

    def _add_columns(self, table: Table) -> None:
        there = self._cluster.metadata.keyspaces[self._sink.database].tables[flat_name(table)].columns
        for column in table.columns:
            if column.name not in there:
                added = f"{quoted(column.name)} {sql_type(table, column)}"
                self._session.execute(f"ALTER TABLE {_name(table)} ADD {added}")

    def _remove(self, step: Step, keys: "Iterator[pa.RecordBatch]", pulse: Callable[[int], None]) -> None:
        table, time = step.table, _time_of(step)
        statement = self._session.prepare(delete(table))
        for some in together(row_by_row(keys), _ROWS):
            self._send(statement, [(time, *_values(table, table.key, key)) for key in some])
            pulse(0)

    def _write(self, step: Step, rows: "Iterator[pa.RecordBatch]", pulse: Callable[[int], None]) -> None:
        table, time = step.table, _time_of(step)
        names = [column.name for column in table.columns]
        statement = self._session.prepare(insert(table))
        for some in together(row_by_row(rows), _ROWS):
            self._send(statement, [(*_values(table, names, row), time) for row in some])
            pulse(len(some))

    def _send(self, statement: "PreparedStatement", values: list[tuple[Any, ...]]) -> None:
        from cassandra.concurrent import execute_concurrent_with_args

        execute_concurrent_with_args(self._session, statement, values, concurrency=_AT_ONCE)

    def _advance(self, step: Step) -> None:
        name, before, after = step.table.full_name, step.before, step.after
        if before is None:
            done = self._session.execute(
                f"INSERT INTO {PROGRESS} (table_name, table_id, version) VALUES (%s, %s, %s) IF NOT EXISTS",  # noqa: S608
                (name, after.table_id, after.version),
            )
        else:
            done = self._session.execute(
                f"UPDATE {PROGRESS} SET table_id = %s, version = %s"  # noqa: S608 - a name of ours
                " WHERE table_name = %s IF table_id = %s AND version = %s",
                (after.table_id, after.version, name, before.table_id, before.version),
            )
        if not done.was_applied:
            raise late(step.table)


def _time_of(step: Step) -> int:
    """The time at which Cassandra is to believe that a step's rows were written: a later version's is later."""
    return step.after.version + 1


def _values(table: Table, names: Iterable[str], row: Mapping[str, Any]) -> Iterator[Any]:
    return (key_value(row[name]) if name in table.key else row[name] for name in names)


@contextmanager
def _told() -> Iterator[None]:
    from cassandra import DriverException
    from cassandra.cluster import NoHostAvailable
    from cassandra.connection import ConnectionException

    try:
        yield
    except NoHostAvailable as error:
        reasons = "; ".join(str(reason) for reason in error.errors.values()) if isinstance(error.errors, dict) else ""
        raise StoreError(f"Cassandra does not answer: {_short(reasons or str(error))}") from error
    except (ConnectionException, DriverException, OSError) as error:
        raise StoreError(f"Cassandra: {_short(str(error)) or type(error).__name__}") from error


def _short(text: str) -> str:
    return " ".join(text.split())[:_SAID]


def _name(table: Table) -> str:
    return quoted(flat_name(table))


def _list(names: Iterable[str]) -> str:
    return ", ".join(map(quoted, names))
