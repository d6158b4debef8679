import pytest

from lakehouse.table import Column, Constraint, DeclarationError, Table

ID = Column("id", "STRING", "which", nullable=False)


def table(**changes: object) -> Table:
    usual = {"layer": "silver", "name": "reading", "grain": "one reading", "columns": (ID,), "key": ("id",)}
    return Table(**(usual | changes))


def test_a_constraint_writes_its_columns_with_or_without_a_prefix():
    constraint = Constraint("wrong", "coalesce($value > 0 AND $value_code <> '5 $ ', false)", "")
    assert constraint.sql() == "coalesce(value > 0 AND value_code <> '5 $ ', false)"
    assert constraint.sql("o.") == "coalesce(o.value > 0 AND o.value_code <> '5 $ ', false)"


def test_a_table_is_named_by_layer_and_name():
    assert table().full_name == "silver.reading"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"name": "Reading"}, "silver.Reading: names are lower case letters, digits and underscores"),
        ({"layer": "2"}, "2.reading: names are lower case letters, digits and underscores"),
        (
            {"columns": (ID, Column("a b", "INT", ""))},
            "silver.reading: names are lower case letters, digits and underscores",
        ),
        ({"columns": (ID, ID)}, "silver.reading: a column is declared twice"),
        ({"key": ("id", "at")}, "silver.reading: not a column of this table: at"),
        ({"cluster_by": ("day",)}, "silver.reading: not a column of this table: day"),
        (
            {"constraints": (Constraint("wrong", "$low < $high OR $id = ''", ""),)},
            "silver.reading: not a column of this table: high, low",
        ),
    ],
)
def test_a_table_that_contradicts_itself_is_an_error_that_names_table_and_part(changes, error):
    with pytest.raises(DeclarationError) as raised:
        table(**changes)
    assert str(raised.value) == error
