"""What every kind of sink can do, and opening one."""

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from lakehouse.sinks.changes import Position, Step
from lakehouse.sinks.declaration import Kind, Sink
from lakehouse.table import Table

if TYPE_CHECKING:
    from lakehouse.sinks.changes import Rows

PROGRESS = "ward_sink_progress"
"""The table, or measurement, in which a sink keeps how far it has each table."""

DRIVERS = {
    Kind.POSTGRESQL: "psycopg",
    Kind.MYSQL: "pymysql",
    Kind.INFLUXDB: "httpx",
    Kind.MONGODB: "pymongo",
    Kind.CASSANDRA: "cassandra",
}


class StoreError(RuntimeError):
    """A database cannot be reached or refuses something; the text is its own, and holds no secret."""


class StoppedError(Exception):
    """Asked to stop in the middle of a step, which leaves no trace in the sink or is taken again."""


def late(table: Table) -> StoreError:
    """Why a step is refused that does not begin where the sink stands."""
    return StoreError(f"{table.full_name}: another ward sink writes here too, or it is to be loaded again")


def usable(server: str, sink: Sink) -> tuple[str, ...]:
    """What a check says of a server, named with its version, that was tried and found good."""
    encrypted = "by TLS" if sink.tls else "without TLS, on this machine"
    return (f"{server} answers {encrypted}", "rights are as they must be")


class Store(Protocol):
    """An open database. Everything raises StoreError; after one, close it and open it anew."""

    def prepare(self) -> None:
        """Make what is missing of the declared tables: nothing is changed or taken away."""

    def position(self, table: Table) -> Position | None:
        """How far the sink has a table; None where it has never been loaded, or is to be loaded again."""

    def apply(self, step: Step, rows: "Rows", pulse: Callable[[int], None]) -> None:
        """Take a step, so that it may be repeated.

        ``pulse`` is told rows as they are written, and may raise StoppedError.
        """

    def forget(self, tables: Iterable[Table]) -> None:
        """Have these tables loaded again: what is there stays until then."""

    def check(self) -> tuple[str, ...]:
        """What is there and works, in words; a StoreError says what does not."""

    def close(self) -> None:
        """Let go of the connection."""


def open_store(sink: Sink) -> Store:
    """Connect to a sink. Raises StoreError, also where the driver is not installed."""
    try:
        import_module(DRIVERS[sink.kind])
    except ImportError as error:
        raise StoreError(f"{sink.kind} needs the package {error.name}: `uv sync --group sinks` installs it") from error
    opened: Store = import_module(f"lakehouse.sinks.{sink.kind}").connect(sink)
    return opened
