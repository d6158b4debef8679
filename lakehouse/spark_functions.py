"""The few functions of Spark that declared SQL uses and DuckDB has not, taught to a DuckDB connection.

A transform that is declared as SQL text then gives the same bits in both; tests hold the two equal.
"""

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    import duckdb
    from numpy.typing import NDArray

_MACROS = (
    # Spark's floor answers a BIGINT and its try_sum NULL where that overflows; DuckDB sums into 128 bits.
    "CREATE MACRO try_sum(x) AS try_cast(sum(x) AS BIGINT)",
    "CREATE MACRO unix_micros(x) AS epoch_us(x)",
    "CREATE MACRO shiftleft(x, n) AS x << n",
)

_ID_BYTES = 16
_SEED = 42
"""Spark's."""
_P1, _P2, _P3, _P4, _P5 = (
    np.uint64(prime)
    for prime in (
        11400714785074694791,
        14029467366897019727,
        1609587929392839161,
        9650029242287828579,
        2870177450012600261,
    )
)


def teach(connection: "duckdb.DuckDBPyConnection") -> None:
    """Add try_sum, unix_micros, shiftleft, and xxhash64 of 16 bytes."""
    from duckdb.func import ARROW

    for macro in _MACROS:
        connection.execute(macro)
    connection.create_function("xxhash64", _xxhash64, ["BLOB"], "BIGINT", type=ARROW)


def xxhash64(words: "NDArray[np.uint64]") -> "NDArray[np.int64]":
    """XXH64 as Spark has it (seed 42) of 16 bytes each: ``words`` is (n, 2), little-endian.

    The way of inputs below 32 bytes in https://github.com/Cyan4973/xxHash/blob/dev/doc/xxhash_spec.md.
    """
    found = np.full(len(words), np.uint64(_SEED + _ID_BYTES) + _P5, np.uint64)
    for lane in words.T:
        found = _rotated(found ^ _rotated(lane * _P2, 31) * _P1, 27) * _P1 + _P4
    found = (found ^ (found >> np.uint64(33))) * _P2
    found = (found ^ (found >> np.uint64(29))) * _P3
    return (found ^ (found >> np.uint64(32))).view(np.int64)


def _rotated(words: "NDArray[np.uint64]", bits: int) -> "NDArray[np.uint64]":
    return (words << np.uint64(bits)) | (words >> np.uint64(64 - bits))


def _xxhash64(ids: pa.ChunkedArray) -> pa.Array:
    packed = b"".join(ids.cast(pa.binary(_ID_BYTES)).to_pylist())
    return pa.array(xxhash64(np.frombuffer(packed, "<u8").reshape(-1, 2)))
