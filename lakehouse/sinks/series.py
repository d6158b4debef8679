"""Rows as points of a time series: InfluxDB's line protocol, without a connection.

A table that has an instant in its key is a measurement of its name. The instant is the point's time, in microseconds;
the rest of the key is its tags, and all other columns are fields. So a row that is written again is the same point.
"""

from collections.abc import Mapping
from datetime import datetime
from math import isfinite
from typing import Any

from lakehouse.sinks.flat import microseconds
from lakehouse.table import Table

Value = str | int | float | bool | datetime | None

_IN_NAMES = str.maketrans({",": r"\,", " ": r"\ ", "=": r"\="})
_IN_TEXTS = str.maketrans({"\\": r"\\", '"': r"\""})


class PointError(ValueError):
    """A row cannot be a point; the text says why."""


def time_column(table: Table) -> str | None:
    """The instant in a table's key."""
    types = {column.name: column.type for column in table.columns}
    return next((name for name in table.key if types[name] == "TIMESTAMP"), None)


def keeps(table: Table) -> bool:
    """Whether the table can be kept as series: an instant and texts are its key."""
    types = {column.name: column.type for column in table.columns}
    return time_column(table) is not None and all(types[name] in {"TIMESTAMP", "STRING"} for name in table.key)


def tags(table: Table) -> tuple[str, ...]:
    """The columns that are tags."""
    return tuple(name for name in table.key if name != time_column(table))


def has_gaps(table: Table) -> bool:
    """Whether a field may be NULL, which is a point without it."""
    return any(column.nullable for column in table.columns if column.name not in table.key)


def line(table: Table, row: Mapping[str, Value]) -> str:
    """One row as a line. NULL is a field that is not there. Raises PointError."""
    named = "".join(f",{_name(tag)}={_tag(tag, row[tag])}" for tag in tags(table))
    fields = ",".join(
        f"{_name(name)}={_field(name, value)}"
        for name, value in row.items()
        if name not in table.key and value is not None
    )
    time = row[time_column(table) or ""]
    if not isinstance(time, datetime):
        raise PointError(f"{table.full_name}: a row has no instant")
    return f"{_name(table.name)}{named} {fields} {microseconds(time)}"


def deletion(table: Table, key: Mapping[str, Value]) -> str:
    """The statement that takes the point of one key away."""
    conditions = [f'"{tag}" = {_quoted(_tag_text(tag, key[tag]))}' for tag in tags(table)]
    time = key[time_column(table) or ""]
    if not isinstance(time, datetime):
        raise PointError(f"{table.full_name}: a key has no instant")
    return f'DELETE FROM "{table.name}" WHERE {" AND ".join(conditions)} AND time = {microseconds(time)}u'  # noqa: S608


def _name(text: str) -> str:
    return text.translate(_IN_NAMES)


def _tag(name: str, value: Value) -> str:
    return _tag_text(name, value).translate(_IN_NAMES)


def _tag_text(name: str, value: Value) -> str:
    # The protocol has no way to write these: a line would end in the middle, or a comma lose its escape.
    if not isinstance(value, str) or not value or "\n" in value or value.endswith("\\"):
        raise PointError(f"InfluxDB takes no such {name}: {value!r}")
    return value


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _field(name: str, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return f"{value}i"
    if isinstance(value, float):
        if not isfinite(value):
            raise PointError(f"InfluxDB takes no such {name}: {value}")
        return repr(value)
    text = value.isoformat() if isinstance(value, datetime) else str(value)
    return f'"{text.translate(_IN_TEXTS)}"'
