"""What a table declaration is: one frozen value from which everything about the table is made.

The Delta DDL, the Spark schema, the quarantine split, the Great Expectations suite, the dbt source and the page
docs/tables.md all come from these values, through the small functions in :mod:`lakehouse.render`.
"""

import re
from dataclasses import dataclass
from datetime import timedelta

_NAME = re.compile(r"^[a-z][a-z0-9_]*$")


class DeclarationError(ValueError):
    """A declaration contradicts itself; the message names the table and the part."""


@dataclass(frozen=True)
class Column:
    """One column: a Spark DDL type and what it means, with its unit where it has one."""

    name: str
    type: str
    comment: str
    nullable: bool = True


@dataclass(frozen=True)
class Constraint:
    """A rule that every row of a table keeps.

    ``name`` says what is wrong with a row that breaks it (it is the reason a reader finds in quarantine).
    ``holds`` is a SQL condition in which columns carry a dollar sign, ``$value > 0``. It must be NULL-safe: it answers
    true or false, never NULL, since a Delta CHECK refuses NULL while a filter merely forgets the row.
    """

    name: str
    holds: str
    comment: str

    def sql(self, prefix: str = "") -> str:
        """The condition with each column written as ``prefix`` + name (``o.`` inside a lambda over an array)."""
        return re.sub(r"\$(\w+)", lambda match: f"{prefix}{match.group(1)}", self.holds)


@dataclass(frozen=True)
class Table:
    """One Delta table. ``key`` makes writes idempotent.

    ``layer`` is its schema: bronze, silver, gold, quality or operation.
    """

    layer: str
    name: str
    grain: str
    columns: tuple[Column, ...]
    key: tuple[str, ...]
    cluster_by: tuple[str, ...] = ()
    constraints: tuple[Constraint, ...] = ()
    retention: timedelta | None = None
    """How long rows are kept; ``None`` keeps them for good."""

    def __post_init__(self) -> None:
        names = [column.name for column in self.columns]
        if not all(_NAME.match(name) for name in (self.layer, self.name, *names)):
            raise DeclarationError(f"{self.full_name}: names are lower case letters, digits and underscores")
        if len(set(names)) != len(names):
            raise DeclarationError(f"{self.full_name}: a column is declared twice")
        used = {*self.key, *self.cluster_by}
        for constraint in self.constraints:
            used |= set(re.findall(r"\$(\w+)", constraint.holds))
        if missing := used - set(names):
            raise DeclarationError(f"{self.full_name}: not a column of this table: {', '.join(sorted(missing))}")

    @property
    def full_name(self) -> str:
        """Layer and name, ``silver.observation``."""
        return f"{self.layer}.{self.name}"
