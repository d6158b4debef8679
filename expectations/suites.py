"""From a table declaration to its Great Expectations suite: nothing is written twice.

A rule's name says what is wrong with what breaks it, as a constraint's name does: ``missing_code``, ``repeated_key``.
"""

from typing import TYPE_CHECKING, Any

from lakehouse.table import Table

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite


def suite(table: Table) -> "ExpectationSuite":
    """The suite of one table: every constraint, every NOT NULL column, and the key."""
    from great_expectations import ExpectationSuite
    from great_expectations.expectations import ExpectColumnValuesToNotBeNull

    from expectations.kinds import ExpectEveryRow, ExpectUniqueKey

    constraints = [
        ExpectEveryRow(holds=rule.sql(), description=rule.comment, meta=named(rule.name)) for rule in table.constraints
    ]
    columns = [
        ExpectColumnValuesToNotBeNull(column=column.name, meta=named(f"missing_{column.name}"))
        for column in table.columns
        if not column.nullable
    ]
    key = ExpectUniqueKey(
        columns=list(table.key), description=f"{table.grain}: one row each", meta=named("repeated_key")
    )
    return ExpectationSuite(table.full_name, expectations=[*constraints, *columns, key])


def named(rule: str) -> dict[str, Any]:
    """The ``meta`` of an expectation that carries a rule's name into its result."""
    return {"rule": rule}
