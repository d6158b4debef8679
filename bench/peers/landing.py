"""Landing raw records in a Delta table, for engines without a Delta sink: pyarrow and deltalake, one commit a call."""

from collections.abc import Iterable
from typing import NamedTuple


class Landed(NamedTuple):
    """One Kafka record as it is kept. ``received_at`` in epoch ms."""

    partition: int
    offset: int
    received_at: int
    key: bytes | None
    value: bytes


def land(table: str, records: Iterable[Landed]) -> None:
    """Append records to the table at this path, as one commit; makes the table where there is none."""
    import pyarrow as pa
    from deltalake import write_deltalake

    columns = list(zip(*records, strict=True))
    if not columns:
        return
    types = (pa.int32(), pa.int64(), pa.int64(), pa.binary(), pa.binary())
    arrays = [pa.array(values, type=kind) for values, kind in zip(columns, types, strict=True)]
    write_deltalake(table, pa.table(dict(zip(Landed._fields, arrays, strict=True))), mode="append")
