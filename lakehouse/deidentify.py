"""De-identified rows: keyed pseudonyms, instants moved by whole days of each patient, grouped ages, no small cells.

Everything keyed comes from HMAC-SHA256 with one secret: the same key gives the same pseudonyms and shifts in every
export, and nobody without it can make or undo them. The key itself is never in what is written.
"""

import hmac
from dataclasses import dataclass
from datetime import datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from lakehouse.privacy import COUNT, PATIENT, Exportable, Privacy

if TYPE_CHECKING:
    import duckdb

MOST_DAYS = 365
"""An instant is moved by 1 to 365 days, back or forth."""
SMALL_CELL = 11
"""Rows of an aggregate table about fewer patients than this are left out (as US Medicare's data rules have it)."""
OLDEST_AGE = 89
"""The oldest age that stands for itself (45 CFR 164.514(b)(2)(i)(C))."""
_KEY_BYTES = 32
_DIGITS = 32
"""Hexadecimal digits of a pseudonym: 128 bits, so that two of a billion identifiers do not share one."""


class KeyFileError(ValueError):
    """The key file cannot serve; the text says what to do."""


@dataclass(frozen=True, repr=False)
class Key:
    """The secret. It has no text form, so that no log or message shows it."""

    secret: bytes

    def __post_init__(self) -> None:
        if len(self.secret) < _KEY_BYTES:
            raise KeyFileError(
                f"the key has {len(self.secret)} bytes, it needs {_KEY_BYTES}: `openssl rand -hex 32 > FILE` makes one"
            )

    def mac(self, purpose: str, value: bytes) -> bytes:
        """HMAC-SHA256 of a value for a purpose; values of two purposes never share a text."""
        return hmac.new(self.secret, purpose.encode() + b"\x00" + value, sha256).digest()


def read_key(path: Path) -> Key:
    """The key of a file: its bytes without white space at both ends. Raises KeyFileError."""
    try:
        return Key(path.read_bytes().strip())
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read: {error.strerror}") from error


def pseudonym(key: Key, column: str, value: str | bytes) -> str:
    """The pseudonym of an identifier: 32 hexadecimal digits. ``column`` keeps apart what columns name alike."""
    return key.mac(column, value.encode() if isinstance(value, str) else value).hex()[:_DIGITS]


def shift_days(key: Key, patient_id: str) -> int:
    """The days by which all instants of a patient are moved: -365 to 365, never 0, each as likely as the others."""
    drawn = int.from_bytes(key.mac("days", patient_id.encode())[:8]) % (2 * MOST_DAYS)
    return drawn - MOST_DAYS if drawn < MOST_DAYS else drawn - MOST_DAYS + 1


def teach(connection: "duckdb.DuckDBPyConnection", key: Key) -> None:
    """Give a DuckDB connection ``pseudonym(column, value)`` and ``shift_days(patient_id)`` under a key."""
    from duckdb.func import ARROW

    def pseudonyms(columns: pa.ChunkedArray, values: pa.ChunkedArray) -> pa.Array:
        column = columns[0].as_py() if len(columns) else ""
        return _of_each(values, lambda value: pseudonym(key, column, value), pa.string())

    def days(patients: pa.ChunkedArray) -> pa.Array:
        return _of_each(patients, lambda patient: shift_days(key, patient), pa.int32())

    connection.create_function("pseudonym", pseudonyms, ["VARCHAR", "BLOB"], "VARCHAR", type=ARROW)
    connection.create_function("shift_days", days, ["VARCHAR"], "INTEGER", type=ARROW)


def _of_each(values: pa.ChunkedArray, function: Any, kind: pa.DataType) -> pa.Array:
    """The function of each value, worked out once for values that repeat. DuckDB keeps NULLs to itself."""
    coded = pa.chunked_array(values).combine_chunks().dictionary_encode()
    made = pa.array([function(value) for value in coded.dictionary.to_pylist()], kind)
    return made.take(coded.indices)


def deidentified(rows: "duckdb.DuckDBPyRelation", table: Exportable, at: datetime) -> "duckdb.DuckDBPyRelation":
    """The rows de-identified, in an order that tells nothing; for a connection that knows the key's functions.

    ``at`` is the snapshot's instant, from which ages at birth dates count. Tables lie in the order of their instants:
    kept in it, one patient's true dates would place all others'.
    """
    types = dict(zip(rows.columns, map(str, rows.types), strict=True))
    kept = {name: privacy for name, privacy in table.columns.items() if privacy is not Privacy.DROPPED}
    made = (f'{_column(name, privacy, table, types[name], at)} AS "{name}"' for name, privacy in kept.items())
    instants = [name for name, privacy in kept.items() if privacy is Privacy.SHIFTED]
    enough = rows.filter(f'"{COUNT}" >= {SMALL_CELL}') if table.aggregate else rows
    found = enough.project(", ".join(made))
    order = ", ".join(f'"{name}"' for name in (*([] if table.aggregate else [PATIENT]), *instants))
    return found.order(order) if order else found


def _column(name: str, privacy: Privacy, table: Exportable, kind: str, at: datetime) -> str:
    column = f'"{name}"'
    match privacy:
        case Privacy.PSEUDONYM:
            return _pseudonym(name, kind)
        case Privacy.AGE:
            return f"CASE WHEN {column} > {OLDEST_AGE} THEN {OLDEST_AGE + 1} ELSE {column} END"
        # An aggregate has no patient by whom to move: the year may stay, nothing below it.
        case Privacy.SHIFTED if table.aggregate:
            return f"CAST(date_trunc('year', {column}) AS {kind})"
        case Privacy.SHIFTED:
            return _shifted(column, kind)
        case Privacy.BIRTH if kind == "INTEGER":
            return f"CASE WHEN {column} > {at.year - OLDEST_AGE - 1} THEN {column} END"
        case Privacy.BIRTH:
            young = f"{column} > (DATE '{at:%Y-%m-%d}' - INTERVAL {OLDEST_AGE + 1} YEARS)"
            return f"CASE WHEN {young} THEN {_shifted(column, kind)} END"
        case _:
            return column


def _shifted(column: str, kind: str) -> str:
    return f'CAST({column} + to_days(shift_days("{PATIENT}")) AS {kind})'


def _pseudonym(name: str, kind: str) -> str:
    # A list names each of what its column's singular names.
    one = name.removesuffix("s") if kind.endswith("[]") else name
    if kind.endswith("[]"):
        return f"list_transform(\"{name}\", lambda one: pseudonym('{one}', {_bytes('one', kind)}))"
    return f"pseudonym('{one}', {_bytes(name, kind)})"


def _bytes(name: str, kind: str) -> str:
    return f'"{name}"' if kind == "BLOB" else f'encode("{name}")'
