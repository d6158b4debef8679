from datetime import timedelta

from lakehouse.render import create_table, failed_constraints, first_fault, literal, schema, table_properties
from lakehouse.table import Column, Constraint, Table

READING = Table(
    layer="silver",
    name="reading",
    grain="one patient's reading",
    columns=(
        Column("id", "STRING", "which", nullable=False),
        Column("observed_at", "TIMESTAMP", "when"),
        Column("reasons", "ARRAY<STRING>", "why"),
        Column("raw", "BINARY", "as sent"),
    ),
    key=("id",),
    cluster_by=("observed_at",),
    constraints=(
        Constraint("no_id", "$id <> ''", "the id is empty"),
        Constraint("no_time", "$observed_at IS NOT NULL", "there is no time"),
    ),
    retention=timedelta(days=1),
)


def test_columns_become_a_schema_in_their_order():
    assert schema(READING.columns) == "`id` STRING, `observed_at` TIMESTAMP, `reasons` ARRAY<STRING>, `raw` BINARY"


def test_statistics_are_kept_of_keys_times_and_codes_that_can_be_compared():
    assert table_properties(READING)["delta.dataSkippingStatsColumns"] == "id,observed_at"


def test_a_table_becomes_one_statement_with_its_constraints():
    assert create_table(READING, "/data/reading").splitlines() == [
        "CREATE TABLE IF NOT EXISTS delta.`/data/reading` (",
        "  `id` STRING NOT NULL COMMENT 'which',",
        "  `observed_at` TIMESTAMP COMMENT 'when',",
        "  `reasons` ARRAY<STRING> COMMENT 'why',",
        "  `raw` BINARY COMMENT 'as sent'",
        ") USING DELTA",
        "CLUSTER BY (observed_at)",
        "COMMENT 'one patient\\'s reading'",
        (
            "TBLPROPERTIES ('delta.enableDeletionVectors' = 'false', 'delta.checkpointPolicy' = 'classic',"
            " 'delta.checkpointInterval' = '50', 'delta.dataSkippingStatsColumns' = 'id,observed_at',"
            " 'delta.constraints.no_id' = 'id <> \\'\\'', 'delta.constraints.no_time' = 'observed_at IS NOT NULL')"
        ),
    ]


def test_a_literal_keeps_quotes_and_backslashes():
    assert literal("it's a \\ ") == "'it\\'s a \\\\ '"


def test_faults_are_named_in_declared_order_with_a_prefix_for_lambdas():
    assert failed_constraints(READING.constraints) == (
        "array_compact(array(CASE WHEN NOT (id <> '') THEN 'no_id' END,"
        " CASE WHEN NOT (observed_at IS NOT NULL) THEN 'no_time' END))"
    )
    assert first_fault(READING.constraints, "o.") == (
        "CASE WHEN NOT (o.id <> '') THEN 'no_id' WHEN NOT (o.observed_at IS NOT NULL) THEN 'no_time' END"
    )
