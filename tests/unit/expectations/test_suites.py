import pytest

from expectations.suites import suite
from lakehouse.table import Column, Constraint, Table
from lakehouse.tables import TABLES

READING = Table(
    layer="silver",
    name="reading",
    grain="one reading",
    columns=(Column("id", "STRING", "", nullable=False), Column("value", "DOUBLE", "")),
    key=("id",),
    constraints=(Constraint("negative", "coalesce($value >= 0, false)", "the value is below zero"),),
)


def test_a_table_is_checked_for_its_constraints_its_missing_values_and_its_key():
    made = suite(READING)

    assert made.name == "silver.reading"
    assert [(e.expectation_type, e.meta["rule"], e.configuration.kwargs, e.description) for e in made.expectations] == [
        ("expect_every_row", "negative", {"holds": "coalesce(value >= 0, false)"}, "the value is below zero"),
        ("expect_column_values_to_not_be_null", "missing_id", {"column": "id"}, None),
        ("expect_unique_key", "repeated_key", {"columns": ["id"]}, "one reading: one row each"),
    ]


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.full_name)
def test_every_declared_table_has_a_suite_whose_rules_have_names_of_their_own(table):
    names = [expectation.meta["rule"] for expectation in suite(table).expectations]

    assert len(names) == len(set(names))
    assert set(names) >= {*(constraint.name for constraint in table.constraints), "repeated_key"}
