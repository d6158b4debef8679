"""Columns as other databases take them: lists and structs become JSON texts, everything else stays.

In JSON, instants are RFC 3339 in UTC and bytes are hexadecimal digits.
"""

from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

from lakehouse.table import Column, Table

if TYPE_CHECKING:
    import pyarrow as pa

_T = TypeVar("_T")

_MICROSECOND = 1_000_000


def flat_name(table: Table) -> str:
    """What a table is called where names have no schema: ``gold_alert``."""
    return f"{table.layer}_{table.name}"


def is_nested(type_: str) -> bool:
    """Whether a column of this type becomes JSON."""
    return type_.startswith(("ARRAY<", "STRUCT<"))


def flat_sql(columns: Iterable[Column], there: Callable[[str], bool]) -> str:
    """A SELECT list of DuckDB for these columns; one that the table does not have yet is NULL."""
    return ", ".join(_flat(column) if there(column.name) else f'NULL AS "{column.name}"' for column in columns)


def microseconds(instant: datetime) -> int:
    """Since the epoch, exactly."""
    whole = int(instant.replace(microsecond=0).timestamp())
    return whole * _MICROSECOND + instant.microsecond


def key_value(value: Any) -> Any:
    """A value of a key where the database's own instants have milliseconds: two rows must not become one."""
    return microseconds(value) if isinstance(value, datetime) else value


def row_by_row(batches: "Iterable[pa.RecordBatch]") -> Iterator[dict[str, Any]]:
    """The rows of batches, each by the names of its columns; texts of JSON stay texts."""
    for batch in batches:
        yield from batch.to_pylist()


def together(items: Iterable[_T], most: int) -> Iterator[list[_T]]:
    """The items in lists of so many; the last may have fewer."""
    left = iter(items)
    while some := list(islice(left, most)):
        yield some


def _flat(column: Column) -> str:
    quoted = f'"{column.name}"'
    return (
        f"CAST(to_json({_readable(quoted, column.type)}) AS VARCHAR) AS {quoted}" if is_nested(column.type) else quoted
    )


def _readable(value: str, type_: str) -> str:
    """The value with its instants and bytes as texts. Structs hold no structs."""
    if type_.startswith("ARRAY<"):
        inner = type_[len("ARRAY<") : -1]
        return f"list_transform({value}, lambda one: {_readable('one', inner)})"
    if type_.startswith("STRUCT<"):
        fields = (field.split(": ") for field in type_[len("STRUCT<") : -1].split(", "))
        packed = ", ".join(f"{name} := {_readable(f'{value}.{name}', kind)}" for name, kind in fields)
        return f"CASE WHEN {value} IS NOT NULL THEN struct_pack({packed}) END"
    if type_ == "BINARY":
        return f"lower(hex({value}))"
    if type_ == "TIMESTAMP":
        return f"strftime({value} AT TIME ZONE 'UTC', '%Y-%m-%dT%H:%M:%S.%fZ')"
    return value
