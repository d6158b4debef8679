"""The lakehouse as it was known at an instant T: only what had been recorded by then, and what follows from that.

Of each observation the newest version with ``recorded_at <= T`` counts; one entered in error by then is gone. What is
derived from observations is derived anew from these versions, by the declaration that gold is made with. Events count
from when the broker had them. Nothing that is recorded after T changes the answer; tests prove it.

``recorded_at`` is what the source says. Where it says nothing, it is ``observed_at`` (``recorded_at_inferred``): such a
value counts from when it was observed, however late it came. What had *arrived* by some instant is another question,
and Delta answers it: :func:`lakehouse.reader.open` with ``at``.
"""

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lakehouse import reader, spark_functions
from lakehouse.datadir import DataDir
from lakehouse.table import Table
from lakehouse.tables import ALERT_DELIVERY, ALERT_EVENT, ALERT_NOTIFICATION, OBSERVATION, VITAL_SIGN_MINUTE
from lakehouse.transforms import vital_sign_minute as minute
from lakehouse.transforms.observation import NEWEST_FIRST

if TYPE_CHECKING:
    import duckdb

EVENTS = (ALERT_EVENT, ALERT_NOTIFICATION, ALERT_DELIVERY)
"""Tables whose rows never change: a row is known from its ``emitted_at`` on."""


class NotBitemporalError(LookupError):
    """A table does not say when its rows became known; the text says what can be read instead."""

    def __init__(self, table: Table) -> None:
        super().__init__(
            f"{table.full_name} does not say when its rows became known: lakehouse.reader.open(data, table, at=...)"
            " reads it as it had been committed by an instant"
        )


def as_known_at(
    data: DataDir, table: Table, at: datetime | None, *, version: int | None = None
) -> "duckdb.DuckDBPyRelation":
    """The rows of silver.observation, gold.vital_sign_minute or an event table, as they were known ``at`` an instant.

    With ``None`` all counts that is known. ``version`` is the Delta version of the table that is read (silver.observation for the minutes). The relation has the
    table's columns; see :func:`lakehouse.reader.open` for what to do with it. Raises NotBitemporalError, ValueError for
    an instant without a zone, and what the reader raises.
    """
    if at is not None and at.tzinfo is None:
        raise ValueError("as known at an instant: it needs its zone")
    if table in EVENTS:
        return reader.open(data, table, version=version).filter(_by("emitted_at", at))
    if table not in (OBSERVATION, VITAL_SIGN_MINUTE):
        raise NotBitemporalError(table)
    known = known_sql("versions", at)
    connection = reader.connection(data.spill)
    spark_functions.teach(connection)
    connection.register("versions", reader.open_table(data, OBSERVATION, version).to_pyarrow_dataset())
    return connection.sql(observations_sql(known) if table is OBSERVATION else minutes_sql(known))


def _by(column: str, at: datetime | None) -> str:
    return "true" if at is None else f"{column} <= TIMESTAMPTZ '{at.astimezone(UTC).isoformat(sep=' ')}'"


def known_sql(versions: str, at: datetime | None = None) -> str:
    """SELECT: of each observation of ``versions`` (a relation) the newest version known by then; with none, the newest."""
    newest = ", ".join(f'"{name}" DESC' for name in NEWEST_FIRST)
    return (
        f"SELECT * FROM {versions} WHERE {_by('recorded_at', at)}"
        f" QUALIFY row_number() OVER (PARTITION BY observation_id ORDER BY {newest}) = 1"
    )


def observations_sql(known: str) -> str:
    """SELECT: the observations of which the known version was not entered in error."""
    return f"SELECT * FROM ({known}) WHERE status <> 'entered-in-error'"


def minutes_sql(known: str) -> str:
    """SELECT: the rows of gold.vital_sign_minute that known versions of observations give."""
    key = ", ".join(f'"{name}"' for name in minute.KEY)
    statistics = ", ".join(f'{sql} AS "{name}"' for name, sql in minute.STATISTICS.items())
    columns = ", ".join(f'"{column.name}"' for column in VITAL_SIGN_MINUTE.columns)
    return (
        f"WITH counted AS (SELECT *, {minute.MINUTE} AS minute FROM ({known}) WHERE {minute.COUNTS}),"
        f" placed AS (SELECT *, {minute.PLACE} AS place FROM counted),"
        f" derived AS (SELECT {key}, {statistics} FROM placed GROUP BY ALL)"
        f" SELECT {columns} FROM (SELECT * REPLACE ({minute.MEAN_WITHIN} AS mean) FROM derived)"
    )
