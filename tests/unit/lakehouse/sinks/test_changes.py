"""What a version of a table changes, row by row."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import deltalake
import pytest

from lakehouse.datadir import DataDir
from lakehouse.reader import TableMissingError
from lakehouse.sinks.changes import BehindError, Position, Rows, Step, behind, next_step, opened
from lakehouse.tables import EARLY_WARNING_SCORE, VITAL_SIGN_MINUTE
from tests.fixtures.delta import append
from tests.fixtures.trends import minutes

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def filled(data: DataDir) -> DataDir:
    append(data, VITAL_SIGN_MINUTE, *minutes("a/1", NOON, 70.0, 71.0), *minutes("a/2", NOON, 80.0))
    return data


def table(data: DataDir) -> deltalake.DeltaTable:
    return deltalake.DeltaTable(data.table(VITAL_SIGN_MINUTE))


def step(data: DataDir, at: Position | None) -> Step:
    found = next_step(data, VITAL_SIGN_MINUTE, at)
    assert found is not None
    return found


def last_values(batches: Iterator[Any]) -> list[tuple[str, float]]:
    return sorted((row["patient_id"], row.get("last")) for batch in batches for row in batch.to_pylist())


def changes(rows: Rows) -> tuple[list[tuple[str, float]], list[tuple[str, Any]], list[tuple[str, Any]]]:
    return last_values(rows.written()), last_values(rows.gone()), last_values(rows.updated())


def test_a_sink_that_has_nothing_gets_the_whole_table(filled: DataDir) -> None:
    whole = step(filled, None)

    assert (whole.before, whole.after.version) == (None, 0)
    with opened(filled, whole) as rows:
        assert changes(rows) == ([("a/1", 70.0), ("a/1", 71.0), ("a/2", 80.0)], [], [])
    assert next_step(filled, VITAL_SIGN_MINUTE, whole.after) is None


def test_of_a_file_that_is_written_anew_only_the_rows_that_differ_have_changed(filled: DataDir) -> None:
    at = step(filled, None).after
    table(filled).update(updates={"last": "99.0"}, predicate="last = 71.0")

    corrected = step(filled, at)

    with opened(filled, corrected) as rows:
        assert changes(rows) == ([("a/1", 99.0)], [], [("a/1", None)])
        (touched,) = (batch.to_pylist() for batch in rows.touched(("patient_id", "code")))
    assert touched == [{"patient_id": "a/1", "code": "8867-4"}]


def test_a_row_that_is_taken_away_is_told_by_its_key(filled: DataDir) -> None:
    at = step(filled, None).after
    table(filled).delete("patient_id = 'a/2'")

    with opened(filled, step(filled, at)) as rows:
        assert changes(rows) == ([], [("a/2", None)], [])


def test_versions_are_taken_one_after_the_other_and_compaction_is_passed_over(filled: DataDir) -> None:
    at = step(filled, None).after
    append(filled, VITAL_SIGN_MINUTE, *minutes("a/3", NOON, 60.0))
    table(filled).optimize.compact()
    append(filled, VITAL_SIGN_MINUTE, *minutes("a/4", NOON, 61.0))

    first = step(filled, at)
    second = step(filled, first.after)

    assert [first.after.version, second.after.version] == [1, 3]
    with opened(filled, second) as rows:
        assert changes(rows) == ([("a/4", 61.0)], [], [])
    assert next_step(filled, VITAL_SIGN_MINUTE, second.after) is None
    assert [behind(filled, VITAL_SIGN_MINUTE, one) for one in (None, at, second.after)] == [4, 3, 0]


def test_compaction_alone_moves_on_without_a_row(filled: DataDir) -> None:
    append(filled, VITAL_SIGN_MINUTE, *minutes("a/3", NOON, 60.0))
    at = step(filled, None).after
    table(filled).optimize.compact()

    compacted = step(filled, at)

    assert (compacted.after.version, compacted.removed, compacted.added) == (2, (), ())


def test_a_table_that_is_not_there_yet_is_named(data: DataDir) -> None:
    with pytest.raises(TableMissingError):
        next_step(data, EARLY_WARNING_SCORE, None)


def test_a_table_that_was_made_anew_is_another(filled: DataDir) -> None:
    at = step(filled, None).after

    with pytest.raises(BehindError, match="it was made anew"):
        next_step(filled, VITAL_SIGN_MINUTE, Position("another", 7))
    assert next_step(filled, VITAL_SIGN_MINUTE, at) is None


def test_a_log_that_no_longer_has_a_version_is_told(filled: DataDir) -> None:
    at = step(filled, None).after
    for number in range(2):
        append(filled, VITAL_SIGN_MINUTE, *minutes(f"a/{number}", NOON + timedelta(hours=1), 60.0))
    table(filled).create_checkpoint()
    (filled.table(VITAL_SIGN_MINUTE) / "_delta_log" / f"{1:020}.json").unlink()
    (filled.table(VITAL_SIGN_MINUTE) / "_delta_log" / f"{0:020}.json").unlink()

    with pytest.raises(BehindError, match="its log has version 1 no longer"):
        next_step(filled, VITAL_SIGN_MINUTE, at)


def test_a_file_that_vacuum_took_is_told(filled: DataDir) -> None:
    at = step(filled, None).after
    table(filled).delete("patient_id = 'a/1'")
    table(filled).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)

    with pytest.raises(BehindError, match="VACUUM has taken 1 files of version 1"), opened(filled, step(filled, at)):
        pass
