"""Small real Delta tables with the declared columns."""

from collections.abc import Callable
from typing import Any

import pyarrow as pa
import pytest

from lakehouse.datadir import DataDir
from lakehouse.table import Table

Write = Callable[..., None]

_ARROW = {
    "STRING": pa.string(),
    "DOUBLE": pa.float64(),
    "INT": pa.int32(),
    "BIGINT": pa.int64(),
    "BOOLEAN": pa.bool_(),
    "BINARY": pa.binary(),
    "TIMESTAMP": pa.timestamp("us", "UTC"),
}
_READINGS = pa.list_(
    pa.struct(
        {
            "code": pa.string(),
            "value": pa.float64(),
            "value_code": pa.string(),
            "observed_at": pa.timestamp("us", "UTC"),
            "message_id": pa.string(),
        }
    )
)


@pytest.fixture
def write(data: DataDir) -> Write:
    """Append rows to a declared table; what a row leaves out is null, whatever the declaration says."""

    def append(table: Table, *rows: dict[str, Any]) -> None:
        import deltalake

        schema = pa.schema([(column.name, _ARROW.get(column.type, _READINGS)) for column in table.columns])
        deltalake.write_deltalake(data.table(table), pa.Table.from_pylist(list(rows), schema), mode="append")

    return append
