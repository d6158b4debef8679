"""Every column of every table is classified, so that a new one cannot leave by default."""

from pathlib import Path

import pytest
import yaml

from lakehouse.privacy import NEVER, PRIVACY, Privacy, PrivacyError, exportable, may_leave
from lakehouse.table import Table
from lakehouse.tables import TABLES

LEAVING = [table for table in TABLES if may_leave(table.full_name)]


def marts() -> dict[str, list[str]]:
    """Columns by mart, as their models declare them."""
    files = Path("dbt_project/models/marts").glob("**/*.yml")
    models = [model for file in files for model in yaml.safe_load(file.read_text()).get("models", ())]
    return {f"mart.{model['name']}": [column["name"] for column in model["columns"]] for model in models}


@pytest.mark.parametrize("mart", [name for name in marts() if may_leave(name)])
def test_every_column_of_a_mart_that_may_leave_is_classified(mart: str) -> None:
    assert exportable(mart, marts()[mart]).columns


@pytest.mark.parametrize("table", LEAVING, ids=lambda table: table.full_name)
def test_every_column_of_a_table_that_may_leave_is_classified(table: Table) -> None:
    found = exportable(table.full_name, [column.name for column in table.columns])

    assert not found.aggregate
    assert found.columns["patient_id"] is Privacy.PSEUDONYM


@pytest.mark.parametrize("table", LEAVING, ids=lambda table: table.full_name)
def test_what_a_type_gives_away_is_never_kept(table: Table) -> None:
    for column in table.columns:
        if "TIMESTAMP" in column.type or "BINARY" in column.type:
            assert PRIVACY[column.name] is not Privacy.KEPT, column.name


def test_what_the_clock_of_the_stack_says_is_left_out() -> None:
    # It is one for all patients. What a table of patients means by the same name may be the patient's own.
    for column in ("received_at", "message_received_at", "emitted_at", "decided_at", "ended_at", "changed_at"):
        assert PRIVACY[column] is Privacy.DROPPED, column
    stay = exportable("silver.encounter", ["patient_id", "started_at", "ended_at", "received_at"])
    assert [*stay.columns.values()] == [Privacy.PSEUDONYM, Privacy.SHIFTED, Privacy.SHIFTED, Privacy.DROPPED]


def test_raw_messages_and_what_nobody_could_read_never_leave() -> None:
    staying = {table.full_name for table in TABLES if not may_leave(table.full_name)}

    assert {"bronze.device_message", "silver.dead_letter", "gold.audit_event"} <= staying
    assert {name.split(".")[0] for name in staying} == {*NEVER, "silver", "gold"}
    with pytest.raises(PrivacyError, match="never leaves"):
        exportable("bronze.device_message", ["patient_id"])


def test_a_column_that_nobody_has_classified_keeps_its_table_from_leaving() -> None:
    with pytest.raises(PrivacyError, match=r"mart\.stay has columns that nobody has classified .*: surname"):
        exportable("mart.stay", ["patient_id", "surname"])


def test_a_table_that_neither_has_nor_counts_patients_does_not_leave() -> None:
    with pytest.raises(PrivacyError, match="nothing says whom a row is about"):
        exportable("mart.codes", ["code", "count"])
    assert exportable("mart.codes", ["code", "patients"]).aggregate


def test_no_column_is_classified_twice() -> None:
    from lakehouse import privacy

    names = [name for of_kind in privacy._COLUMNS.values() for name in of_kind]
    assert sorted(names) == sorted(set(names))
