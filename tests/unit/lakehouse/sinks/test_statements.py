"""Statements and lines that sinks send, without a server."""

from datetime import UTC, datetime

import pyarrow as pa
import pytest

from lakehouse.sinks import cassandra, mongodb, mysql, postgresql, relational
from lakehouse.sinks.declaration import DEFAULT_TABLES
from lakehouse.sinks.flat import together
from lakehouse.sinks.series import PointError, deletion, has_gaps, keeps, line
from lakehouse.table import Column, Table
from lakehouse.tables import ALERT, AUDIT_EVENT, EARLY_WARNING_SCORE, TABLES, VITAL_SIGN_MINUTE

NOON = datetime(2026, 3, 1, 12, 0, 0, 250, tzinfo=UTC)
ALIKE = Table(
    layer="gold",
    name="alike",
    grain="one patient's one",
    columns=(
        Column("patient_id", "STRING", "the patient's id", nullable=False),
        Column("at", "TIMESTAMP", "when", nullable=False),
        Column("value", "DOUBLE", "what"),
        Column("parts", "ARRAY<STRING>", "of what"),
    ),
    key=("patient_id", "at"),
)


def test_a_table_of_postgresql_is_partitioned_by_patient_and_says_what_it_holds() -> None:
    made = postgresql.create_table(ALIKE)

    assert made[0] == (
        'CREATE TABLE "gold"."alike" ("patient_id" text, "at" timestamptz, "value" double precision, "parts" jsonb,'
        ' PRIMARY KEY ("patient_id", "at")) PARTITION BY HASH ("patient_id")'
    )
    assert made[1] == (
        'CREATE TABLE "gold"."alike_0" PARTITION OF "gold"."alike" FOR VALUES WITH (MODULUS 8, REMAINDER 0)'
    )
    assert made[9:11] == (
        "COMMENT ON TABLE \"gold\".\"alike\" IS 'one patient''s one'",
        'COMMENT ON COLUMN "gold"."alike"."patient_id" IS \'the patient\'\'s id\'',
    )
    assert len(made) == 1 + 8 + 1 + 4


def test_a_table_of_mysql_is_partitioned_by_patient_and_says_what_it_holds() -> None:
    assert mysql.create_table(ALIKE, "utf8mb4_nopad_bin") == (
        "CREATE TABLE `gold_alike` (`patient_id` VARCHAR(250) NOT NULL COMMENT 'the patient''s id',"
        " `at` DATETIME(6) NOT NULL COMMENT 'when', `value` DOUBLE COMMENT 'what', `parts` JSON COMMENT 'of what',"
        " PRIMARY KEY (`patient_id`, `at`)) ENGINE = InnoDB DEFAULT CHARSET = utf8mb4 COLLATE = utf8mb4_nopad_bin"
        " COMMENT = 'one patient''s one' PARTITION BY KEY (`patient_id`) PARTITIONS 8"
    )


def test_a_table_of_cassandra_has_the_patient_as_its_partition() -> None:
    assert cassandra.create_table(ALIKE) == (
        'CREATE TABLE IF NOT EXISTS "gold_alike" ("patient_id" text, "at" bigint, "value" double, "parts" text,'
        " PRIMARY KEY (\"patient_id\", \"at\")) WITH comment = 'one patient''s one'"
    )
    assert cassandra.primary_key(EARLY_WARNING_SCORE)[0] == "patient_id"


def test_a_row_of_cassandra_is_written_at_a_time_of_its_own() -> None:
    assert cassandra.insert(ALIKE) == (
        'INSERT INTO "gold_alike" ("patient_id", "at", "value", "parts") VALUES (?, ?, ?, ?) USING TIMESTAMP ?'
    )
    assert cassandra.delete(ALIKE) == ('DELETE FROM "gold_alike" USING TIMESTAMP ? WHERE "patient_id" = ? AND "at" = ?')


def test_a_row_is_a_document_whose_id_is_its_key_to_the_microsecond() -> None:
    row = {"patient_id": "mrn/1", "at": NOON, "value": None, "parts": '["a","b"]'}

    assert mongodb.document(ALIKE, row) == {
        "_id": {"patient_id": "mrn/1", "at": 1_772_366_400_000_250},
        "patient_id": "mrn/1",
        "at": NOON,
        "parts": ["a", "b"],
    }


def test_a_row_takes_the_place_of_the_one_with_its_key() -> None:
    assert postgresql.upsert(ALIKE, "staged") == (
        'INSERT INTO "gold"."alike" ("patient_id", "at", "value", "parts")'
        ' SELECT "patient_id", "at", "value", "parts" FROM staged ON CONFLICT ("patient_id", "at")'
        ' DO UPDATE SET "value" = EXCLUDED."value", "parts" = EXCLUDED."parts"'
    )
    assert mysql.upsert(ALIKE) == (
        "INSERT INTO `gold_alike` (`patient_id`, `at`, `value`, `parts`) VALUES (%s, %s, %s, %s)"
        " ON DUPLICATE KEY UPDATE `value` = VALUES(`value`), `parts` = VALUES(`parts`)"
    )


def test_every_table_that_may_be_copied_can_be_made() -> None:
    for table in TABLES:
        if table.layer in {"silver", "gold"}:
            assert postgresql.create_table(table)[0].startswith("CREATE TABLE")
            assert mysql.create_table(table, "utf8mb4_nopad_bin").startswith("CREATE TABLE")


def test_the_patient_is_part_of_the_key_where_each_row_has_one() -> None:
    assert relational.primary_key(ALERT) == ("alert_id", "patient_id")
    assert relational.primary_key(VITAL_SIGN_MINUTE) == VITAL_SIGN_MINUTE.key
    assert relational.primary_key(AUDIT_EVENT) == AUDIT_EVENT.key


def test_patients_stand_only_where_all_is_there_that_says_how() -> None:
    assert relational.has_status(DEFAULT_TABLES)
    assert not relational.has_status((VITAL_SIGN_MINUTE, EARLY_WARNING_SCORE))


def test_rows_are_copied_as_csv_in_which_null_is_not_an_empty_text() -> None:
    batch = pa.record_batch(
        {
            "text": ['a "b", c', "", None],
            "bytes": pa.array([b"\x01\xff", b"", None], pa.binary()),
            "number": [0.1, float("nan"), None],
            "at": pa.array([NOON, None, None], pa.timestamp("us", "UTC")),
        }
    )

    assert postgresql.csv(batch).decode() == (
        '"a ""b"", c","\\x01ff","0.1","2026-03-01 12:00:00.000250Z"\n"","\\x","nan",\n,,,\n'
    )


def test_a_row_is_a_point_whose_tags_are_its_key() -> None:
    row = {"patient_id": "mrn/1, a=b", "at": NOON, "value": 1.5, "parts": 'of "two"\\'}

    named = "alike,patient_id=mrn/1\\,\\ a\\=b"
    assert line(ALIKE, row) == f'{named} value=1.5,parts="of \\"two\\"\\\\" 1772366400000250'
    assert line(ALIKE, row | {"parts": None, "value": 7}) == f"{named} value=7i 1772366400000250"


def test_a_point_is_taken_away_by_its_key() -> None:
    assert deletion(ALIKE, {"patient_id": "mrn/o'1", "at": NOON}) == (
        'DELETE FROM "alike" WHERE "patient_id" = \'mrn/o\\\'1\' AND time = 1772366400000250u'
    )


@pytest.mark.parametrize("text", ["", "a\nb", "a\\"])
def test_a_key_that_no_tag_can_hold_is_refused(text: str) -> None:
    with pytest.raises(PointError, match="takes no such patient_id"):
        line(ALIKE, {"patient_id": text, "at": NOON, "value": 1.0, "parts": None})


def test_a_number_that_is_none_is_refused() -> None:
    with pytest.raises(PointError, match="takes no such value: nan"):
        line(ALIKE, {"patient_id": "mrn/1", "at": NOON, "value": float("nan"), "parts": None})


def test_series_are_tables_with_an_instant_and_texts_as_their_key() -> None:
    named = [table.name for table in TABLES if table.layer in {"silver", "gold"} and keeps(table)]

    assert named == ["vital_sign_minute", "score_input", "early_warning_score", "rhythm_minute"]
    assert [has_gaps(VITAL_SIGN_MINUTE), has_gaps(EARLY_WARNING_SCORE)] == [False, True]


def test_so_many_go_together() -> None:
    assert list(together("abcde", 2)) == [["a", "b"], ["c", "d"], ["e"]]
    assert list(together((), 2)) == []
