"""What a table contains, as one number that does not depend on the order of its rows or on its files.

A row is the SHA-256 of its columns as JSON; a table the sum of its rows' hashes, each quarter of 64 bits by itself, and
their number. Two equal rows count twice. Doubles are written with the fewest digits that give the same bits back,
instants in UTC to the microsecond, bytes as they are. Rows flow through: memory does not grow with the table.
"""

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import duckdb

ALGORITHM = "sum of SHA-256 of rows as JSON, 4 x 64 bits (1)"
"""Named in each manifest: a digest can be compared with one of the same algorithm only."""

_QUARTERS = tuple(range(1, 65, 16))


@dataclass(frozen=True)
class Content:
    """The number of rows of a table and the digest of what they hold, 64 hexadecimal digits."""

    rows: int
    digest: str


def content(relation: "duckdb.DuckDBPyRelation") -> Content:
    """The content of a relation. Columns count by name and order: bring both sides of a comparison into one."""
    sums = ", ".join(f"coalesce(sum(('0x' || substr(hash, {start}, 16))::UBIGINT), 0)" for start in _QUARTERS)
    hashed = relation.set_alias("_row").project("sha256(to_json(_row)) AS hash")
    rows, *quarters = hashed.aggregate(f"count(*), {sums}").fetchall()[0]
    return Content(rows, sha256(f"{rows} {' '.join(map(str, quarters))}".encode()).hexdigest())
