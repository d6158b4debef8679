"""The lakehouse as it was known at an instant T: only what had been recorded by then, and what follows from that.

Of each observation the newest version with ``recorded_at <= T`` counts; one entered in error by then is gone. What is
derived from observations is derived anew from these versions, by the declaration that gold is made with. Events count
from when the broker had them. Nothing that is recorded after T changes the answer; tests prove it.

``recorded_at`` is what the source says. Where it says nothing, it is ``observed_at`` (``recorded_at_inferred``): such a
value counts from when it was observed, however late it came. What had *arrived* by some instant is another question,
and Delta answers it: :func:`lakehouse.reader.open` with ``at``.
"""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from lakehouse import reader, spark_functions
from lakehouse.datadir import DataDir
from lakehouse.known_scores import scores
from lakehouse.table import Table
from lakehouse.tables import (
    ALERT_DELIVERY,
    ALERT_EVENT,
    ALERT_NOTIFICATION,
    EARLY_WARNING_SCORE,
    OBSERVATION,
    VITAL_SIGN_MINUTE,
)
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
    """The rows of silver.observation, of minutes or scores in gold, or of events, as they were known ``at`` an instant.

    With ``None`` all counts that is known. ``version`` is the Delta version of the table that is read, which for
    minutes and scores is silver.observation. The relation has the table's columns; :func:`lakehouse.reader.open` says
    what to do with it. Raises NotBitemporalError, ValueError for an instant without a zone, and what the reader raises.
    """
    if at is not None and at.tzinfo is None:
        raise ValueError("as known at an instant: it needs its zone")
    if table in EVENTS:
        return reader.open(data, table, version=version).filter(_by("emitted_at", at))
    if table not in _OF_OBSERVATIONS:
        raise NotBitemporalError(table)
    connection = reader.connection(data.spill)
    spark_functions.teach(connection)
    versions = connection.from_arrow(reader.open_table(data, OBSERVATION, version).to_pyarrow_dataset())
    return _OF_OBSERVATIONS[table](known(versions, at))


def _by(column: str, at: datetime | None) -> str:
    return "true" if at is None else f"{column} <= TIMESTAMPTZ '{at.astimezone(UTC).isoformat(sep=' ')}'"


def known(versions: "duckdb.DuckDBPyRelation", at: datetime | None) -> "duckdb.DuckDBPyRelation":
    """Of each observation the newest of its versions that was known by then; with None, the newest of all."""
    newest = ", ".join(f'"{name}" DESC' for name in NEWEST_FIRST)
    nth = f"row_number() OVER (PARTITION BY observation_id ORDER BY {newest}) AS nth"
    return versions.filter(_by("recorded_at", at)).project(f"*, {nth}").filter("nth = 1").project("* EXCLUDE (nth)")


def observations(current: "duckdb.DuckDBPyRelation") -> "duckdb.DuckDBPyRelation":
    """Those current versions that were not entered in error."""
    return current.filter("status <> 'entered-in-error'")


def minutes(current: "duckdb.DuckDBPyRelation") -> "duckdb.DuckDBPyRelation":
    """The rows of gold.vital_sign_minute that current versions give; for a connection that knows Spark's functions."""
    key = ", ".join(f'"{name}"' for name in minute.KEY)
    statistics = ", ".join(f'{sql} AS "{name}"' for name, sql in minute.STATISTICS.items())
    columns = ", ".join(f'"{column.name}"' for column in VITAL_SIGN_MINUTE.columns)
    return (
        current.filter(minute.COUNTS)
        .project(f"*, {minute.MINUTE} AS minute")
        .project(f"*, {minute.PLACE} AS place")
        .aggregate(f"{key}, {statistics}", key)
        .project(f"* REPLACE ({minute.MEAN_WITHIN} AS mean)")
        .project(columns)
    )


_OF_OBSERVATIONS: "Mapping[Table, Callable[[duckdb.DuckDBPyRelation], duckdb.DuckDBPyRelation]]" = {
    OBSERVATION: observations,
    VITAL_SIGN_MINUTE: minutes,
    EARLY_WARNING_SCORE: lambda current: scores(observations(current)),
}
"""What follows from the current versions of observations."""
