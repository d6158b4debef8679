"""From a table declaration to its Great Expectations suite: nothing is written twice.

A rule's name says what is wrong with what breaks it, as a constraint's name does: ``missing_code``, ``repeated_key``.
"""

from datetime import datetime
from typing import TYPE_CHECKING, Any

from expectations import completeness, drift
from lakehouse.table import Table
from lakehouse.tables import VITAL_SIGN_MINUTE
from lakehouse.vocabulary import signals

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


def history(now: datetime) -> "ExpectationSuite":
    """The suite of gold.vital_sign_minute over time: drift of each signal with a number, and whole patient-hours."""
    from great_expectations import ExpectationSuite

    from expectations.kinds import ExpectSteadyShare, ExpectSteadyValues, ExpectWholeHours

    compared = drift.query(now)
    numeric = [signal for signal in signals() if not signal.coded]
    made: list[Any] = [
        ExpectWholeHours(
            query=completeness.query(now),
            description="patient-hours of the last day have the minutes that their devices usually send",
            meta=named("incomplete_hours"),
        )
    ]
    for signal in numeric:
        of = {"query": compared, "code": signal.code, "unit": signal.unit}
        made.append(
            ExpectSteadyValues(
                **of,
                description=f"{signal.display} of the last day is distributed as in the week before",
                meta=named(f"drifted_{signal.name}"),
            )
        )
        made.append(
            ExpectSteadyShare(
                **of,
                description=f"{signal.display} is as large a part of all minutes as in the week before",
                meta=named(f"shifted_share_{signal.name}"),
            )
        )
    return ExpectationSuite(f"{VITAL_SIGN_MINUTE.full_name} over time", expectations=made)
