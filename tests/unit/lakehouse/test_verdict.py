import math
from datetime import UTC, datetime, timedelta

import pytest

from lakehouse.tables import OBSERVATION
from lakehouse.verdict import broken, duckdb_sql

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
GOOD = {
    "code": "8867-4",
    "value": 72.0,
    "unit": "/min",
    "status": "final",
    "source": "ward",
    "source_value": 72.0,
    "observed_at": NOW,
    "received_at": NOW,
    "values_in_message": 1,
}


@pytest.mark.parametrize(
    ("spark", "duckdb"),
    [
        ("x IN (-99.9D, 0D)", "x IN (-CAST(99.9 AS DOUBLE), CAST(0 AS DOUBLE))"),
        ("abs(x) < double('Infinity')", "abs(x) < CAST('Infinity' AS DOUBLE)"),
        ("x = '10D'", "x = '10D'"),
    ],
)
def test_what_duckdb_spells_otherwise_is_respelled_and_nothing_else(spark: str, duckdb: str) -> None:
    assert duckdb_sql(spark) == duckdb


def test_every_row_is_told_what_it_breaks() -> None:
    rows = [
        GOOD,
        GOOD | {"value": math.nan, "source_value": math.nan},
        GOOD | {"value": 0.0, "source_value": 0.0},
        GOOD | {"unit": None, "observed_at": NOW + timedelta(hours=1)},
        GOOD | {"source": "mimic-iii", "observed_at": NOW + timedelta(days=40_000)},
        GOOD | {"value": 300.0, "source_value": 300.0},
    ]
    assert broken(OBSERVATION, rows) == [
        [],
        ["not_finite"],
        ["sensor_disconnected"],
        ["unknown_unit", "clock_ahead"],
        [],
        ["out_of_range"],
    ]


def test_no_rows_have_no_verdicts() -> None:
    assert broken(OBSERVATION, []) == []
