import os
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import deltalake
import duckdb
import pyarrow as pa
import pytest

from lakehouse import reader
from lakehouse.datadir import DataDir
from lakehouse.reader import (
    TableEmptyError,
    TableMissingError,
    VersionMissingError,
    open_table,
    query,
    require_rows,
    tables_in,
)
from lakehouse.table import DeclarationError
from lakehouse.tables import ALERT_EVENT, DEAD_LETTER, VITAL_SIGN_MINUTE

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def dead_letters(*rows: tuple[int, datetime, str]) -> pa.Table:
    return pa.table(
        {
            "topic": pa.array(["vitals"] * len(rows)),
            "partition": pa.array([0] * len(rows), pa.int32()),
            "offset": pa.array([row[0] for row in rows], pa.int64()),
            "received_at": pa.array([row[1] for row in rows], pa.timestamp("us", "UTC")),
            "reason": pa.array([row[2] for row in rows]),
            "detail": pa.array([None] * len(rows), pa.string()),
        }
    )


def write(data: DataDir, rows: pa.Table) -> None:
    deltalake.write_deltalake(data.table(DEAD_LETTER), rows, mode="append")


def test_a_query_reads_a_declared_table_by_its_full_name_with_parameters(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    write(data, dead_letters((0, NOON, "not_json"), (1, NOON + timedelta(hours=1), "tombstone")))

    answer = query(data, "SELECT * FROM silver.dead_letter WHERE received_at > $since", {"since": NOON})

    assert answer.to_pylist() == [
        {
            "topic": "vitals",
            "partition": 0,
            "offset": 1,
            "received_at": NOON + timedelta(hours=1),
            "reason": "tombstone",
            "detail": None,
        }
    ]


def test_a_query_sees_what_was_committed_since_the_last_one(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    count = "SELECT count(*) AS n FROM silver.dead_letter"
    write(data, dead_letters((0, NOON, "not_json")))
    before = query(data, count).to_pylist()
    write(data, dead_letters((1, NOON, "not_json")))

    assert (before, query(data, count).to_pylist()) == ([{"n": 1}], [{"n": 2}])


def test_a_condition_closes_the_files_that_statistics_rule_out(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    for day in range(3):
        write(data, dead_letters((day, NOON + timedelta(days=day), "not_json")))
    oldest, *newer = sorted(data.table(DEAD_LETTER).glob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    for path in (oldest, newer[0]):
        path.write_bytes(b"not parquet: opening this file fails")

    answer = query(
        data,
        'SELECT "offset" FROM silver.dead_letter WHERE received_at > $since',
        {"since": NOON + timedelta(hours=36)},
    )

    assert answer.to_pylist() == [{"offset": 2}]


def test_bounds_close_the_files_outside_of_them_and_sql_says_which_rows(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    for day in range(3):
        write(data, dead_letters((day, NOON + timedelta(days=day), "not_json"), (9, NOON + timedelta(days=9), "late")))
    for path in list(data.table(DEAD_LETTER).glob("*.parquet")):
        path.write_bytes(b"not parquet: opening this file fails")
    write(data, dead_letters((11, NOON, "tombstone"), (12, NOON + timedelta(hours=1), "tombstone")))

    answer = query(
        data,
        'SELECT "offset", received_at FROM silver.dead_letter WHERE received_at > $since',
        {"since": NOON},
        {"offset": (10, None), "received_at": (NOON, NOON + timedelta(days=20)), "no_such_column": (1, 2)},
    )

    assert answer.to_pylist() == [{"offset": 12, "received_at": NOON + timedelta(hours=1)}]


def test_within_bounds_a_column_that_is_younger_than_a_file_is_null_there(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    rows = dead_letters((0, NOON, "not_json"))
    write(data, rows.drop(["detail"]))
    for number in (1, 2):
        later = rows.set_column(2, "offset", pa.array([number], pa.int64()))
        deltalake.write_deltalake(data.table(DEAD_LETTER), later, mode="append", schema_mode="merge")
    asked = 'SELECT "offset", detail FROM silver.dead_letter ORDER BY 1'

    assert query(data, asked, bounds={"offset": (0, 1)}).to_pylist() == [
        {"offset": 0, "detail": None},
        {"offset": 1, "detail": None},
    ]
    assert query(data, asked, bounds={"offset": (0, 0)}).to_pylist() == [{"offset": 0, "detail": None}]
    assert query(data, asked, bounds={"offset": (7, 7)}).to_pylist() == []


def test_bounds_are_held_against_the_newest_version_even_of_a_table_that_was_made_anew(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    asked = 'SELECT "offset" FROM silver.dead_letter ORDER BY 1'
    seen = []
    for number in (1, 2):
        write(data, dead_letters((number, NOON, "not_json")))
        seen.append(query(data, asked, bounds={}).to_pylist())
    shutil.rmtree(data.table(DEAD_LETTER))
    for number in (3, 4):
        write(data, dead_letters((number, NOON, "not_json")))
    seen.append(query(data, asked, bounds={}).to_pylist())
    shutil.rmtree(data.table(DEAD_LETTER))

    assert [[row["offset"] for row in rows] for rows in seen] == [[1], [1, 2], [3, 4]]
    with pytest.raises(TableMissingError):
        query(data, asked, bounds={})


def test_a_table_that_is_not_there_yet_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(TableMissingError) as error:
        query(DataDir(tmp_path), "SELECT * FROM gold.alert_event")

    assert error.value.table is ALERT_EVENT
    assert str(error.value) == (
        f"gold.alert_event is not in {tmp_path} yet: `ward apply --data-dir {tmp_path}` makes the tables,"
        f" `ward up --data-dir {tmp_path}` makes and fills them"
    )


def test_an_older_version_opens_and_one_that_never_was_is_a_named_error(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    write(data, dead_letters((0, NOON, "not_json")))
    write(data, dead_letters((1, NOON, "not_json")))

    assert open_table(data, DEAD_LETTER, version=0).to_pyarrow_table().num_rows == 1
    with pytest.raises(VersionMissingError, match=r"silver\.dead_letter cannot be read at version 7"):
        open_table(data, DEAD_LETTER, version=7)


def test_a_table_opens_by_version_and_by_the_time_of_its_commits_as_arrow_and_pandas(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    write(data, dead_letters((0, NOON, "not_json")))
    between = datetime.now(UTC)
    write(data, dead_letters((1, NOON, "tombstone")))
    commit = data.table(DEAD_LETTER) / "_delta_log" / f"{1:020}.json"
    os.utime(commit, (between.timestamp() + 60,) * 2)

    now = reader.open(data, "silver.dead_letter")
    assert now.filter("reason = 'tombstone'").project('"offset", received_at').to_arrow_table().to_pylist() == [
        {"offset": 1, "received_at": NOON}
    ]
    assert list(reader.open(data, DEAD_LETTER, version=0).df()["reason"]) == ["not_json"]
    assert reader.open(data, DEAD_LETTER, at=between).project("reason").fetchall() == [("not_json",)]
    with pytest.raises(VersionMissingError, match=r"silver\.dead_letter cannot be read at 2001"):
        reader.open(data, DEAD_LETTER, at=datetime(2001, 1, 1, tzinfo=UTC))
    with pytest.raises(ValueError, match="a version, or an instant with its zone"):
        reader.open(data, DEAD_LETTER, version=0, at=between)


def test_a_mart_opens_by_its_name_and_one_that_is_not_there_names_what_makes_it(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    deltalake.write_deltalake(data.table_root / "mart" / "stay", pa.table({"hours": [3]}))

    assert reader.tables_there(data) == ("mart.stay",)
    assert reader.open(data, "mart.stay").fetchall() == [(3,)]
    with pytest.raises(TableMissingError, match=r"`ward dbt build --data-dir .*` makes the marts"):
        reader.open(data, "mart.cohort")
    with pytest.raises(DeclarationError, match="names are lower case"):
        reader.open(data, "../secrets")


def test_only_the_tables_that_a_query_names_are_opened() -> None:
    assert tables_in("SELECT * FROM gold.vital_sign_minute v JOIN gold.alert_event USING (patient_id)") == (
        VITAL_SIGN_MINUTE,
        ALERT_EVENT,
    )
    assert tables_in("SELECT 1.5") == ()


def test_a_query_reads_marts_beside_declared_tables(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    write(data, dead_letters((0, NOON, "not_json"), (1, NOON, "tombstone")))
    deltalake.write_deltalake(data.table_root / "mart" / "reason", pa.table({"reason": ["tombstone"], "points": [3]}))

    answer = query(data, 'SELECT "offset", points FROM silver.dead_letter JOIN mart.reason USING (reason)')

    assert answer.to_pylist() == [{"offset": 1, "points": 3}]
    with pytest.raises(TableMissingError, match=r"mart\.icu_stay is not in .* yet: `ward dbt build"):
        query(data, "SELECT * FROM mart.icu_stay")


def test_tables_without_rows_name_what_fills_them(tmp_path: Path) -> None:
    data = DataDir(tmp_path)
    write(data, dead_letters((0, NOON, "not_json")))
    deltalake.write_deltalake(
        data.table(VITAL_SIGN_MINUTE), pa.table({"minute": pa.array([], pa.timestamp("us", "UTC"))})
    )
    deltalake.write_deltalake(data.table_root / "mart" / "icu_stay", pa.table({"stay_id": pa.array([], pa.string())}))

    require_rows(data, DEAD_LETTER)
    with pytest.raises(TableEmptyError, match=r"gold\.vital_sign_minute in .* has no rows: `ward up .*`ward replay`"):
        require_rows(data, DEAD_LETTER, VITAL_SIGN_MINUTE)
    with pytest.raises(TableEmptyError, match=r"mart\.icu_stay in .* has no rows: `ward dbt build"):
        require_rows(data, "mart.icu_stay")
    with pytest.raises(TableMissingError, match=r"gold\.alert_event is not in .* yet"):
        require_rows(data, ALERT_EVENT)


def test_sql_cannot_read_a_file_of_the_machine(tmp_path: Path) -> None:
    secret = tmp_path / "secret.csv"
    secret.write_text("a\n1\n")

    with pytest.raises(duckdb.Error, match="disabled"):
        query(DataDir(tmp_path), "SELECT * FROM read_csv($path)", {"path": str(secret)})


def test_two_readers_spill_beside_each_other_and_leave_nothing_behind(tmp_path):
    spill = tmp_path / "run" / "duckdb"
    with reader.connection(spill) as one, reader.connection(spill) as other:
        for connection in (one, other):
            connection.execute("SET memory_limit = '50MB'")
            connection.execute("SET threads = 1")
            connection.execute(
                "CREATE TABLE numbers AS SELECT range AS n, md5(range::VARCHAR) AS hash FROM range(2000000)"
            )
            assert connection.sql("SELECT count(DISTINCT n) FROM numbers").fetchall() == [(2_000_000,)]
        assert len(list(spill.iterdir())) == 2
    assert list(spill.iterdir()) == []
