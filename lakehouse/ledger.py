"""The ledger: what was sent, what landed, and the proof that nothing is lost or counted twice.

Pure functions over DataFrames; :mod:`streaming.verify` reads them from Kafka and Delta. Each check counts rows that
should not be: a record of Kafka that bronze has not, a key that stands twice, a parsed value that is neither an
observation nor in quarantine. Counts are recomputed from bronze with the transforms that the stream uses, never taken
from its counters.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pyspark.sql import DataFrame


class Fault(StrEnum):
    """What a count of a check means."""

    LOST = "lost"
    DUPLICATED = "duplicated"
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True)
class Check:
    """One line of the ledger: ``count`` rows are at fault; 0 where it holds."""

    name: str
    fault: Fault
    count: int
    detail: str

    @property
    def holds(self) -> bool:
        """Whether nothing is at fault."""
        return self.count == 0


@dataclass(frozen=True)
class Ledger:
    """Every check, the totals they were made from, and remarks on what cannot be proven (yet)."""

    checks: tuple[Check, ...]
    totals: dict[str, int]
    remarks: tuple[str, ...] = ()

    @property
    def holds(self) -> bool:
        """Whether every check holds."""
        return all(check.holds for check in self.checks)

    def count(self, fault: Fault) -> int:
        """Rows at fault in one way, over all checks."""
        return sum(check.count for check in self.checks if check.fault is fault)

    def as_dict(self) -> dict[str, Any]:
        """The ledger for a JSON report."""
        return {
            "holds": self.holds,
            **{fault.value: self.count(fault) for fault in Fault},
            "totals": self.totals,
            "checks": [asdict(check) for check in self.checks],
            "remarks": list(self.remarks),
        }


def missing(expected: "DataFrame", actual: "DataFrame", key: Iterable[str]) -> int:
    """How many rows of ``expected`` have a key that ``actual`` has not."""
    return expected.join(actual.select(*key), [*key], "left_anti").count()


def repeated(rows: "DataFrame", key: Iterable[str]) -> int:
    """How many rows there are beyond one for each key."""
    from pyspark.sql import functions as F  # noqa: N812

    extra = rows.groupBy(*key).count().where("count > 1").select(F.coalesce(F.sum(F.col("count") - 1), F.lit(0)))
    row = extra.first()
    return int(row[0]) if row else 0
