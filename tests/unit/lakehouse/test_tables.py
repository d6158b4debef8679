import re

from lakehouse.message import schema
from lakehouse.tables import AUDIT_EVENT, OBSERVATION, OBSERVATION_QUARANTINE, STATUSES, TABLES

TYPES = {"DATE", "STRING", "INT", "BIGINT", "DOUBLE", "BOOLEAN", "BINARY", "TIMESTAMP", "ARRAY<STRING>", "ARRAY<INT>"}
NESTED = {
    ("gold.early_warning_score", "parts"),
    ("gold.early_warning_score", "inputs"),
    ("gold.risk_score", "contributions"),
    ("gold.alert_event", "readings"),
}


def test_every_table_has_one_name_and_its_layer_is_one_of_the_five():
    assert len({table.full_name for table in TABLES}) == len(TABLES)
    assert {table.layer for table in TABLES} == {"bronze", "silver", "gold", "quality", "operation"}


def test_every_column_has_a_known_type_and_says_what_it_means():
    assert [(t.full_name, c) for t in TABLES for c in t.columns if not c.comment] == []
    assert {(t.full_name, c.name) for t in TABLES for c in t.columns if c.type not in TYPES} == NESTED


def test_no_part_of_a_key_may_be_null():
    nullable = {(t.full_name, c.name) for t in TABLES for c in t.columns if c.nullable}
    assert [(t.full_name, name) for t in TABLES for name in t.key if (t.full_name, name) in nullable] == []


def test_a_table_is_clustered_by_what_delta_keeps_statistics_of():
    # Delta refuses to cluster by a column beyond the first 32 or without statistics.
    for table in TABLES:
        places = [column.name for column in table.columns[:32]]
        assert [name for name in table.cluster_by if name not in places] == []


def test_raw_bytes_stand_last_so_that_nobody_collects_statistics_of_them():
    for table in TABLES:
        if "value" in (binary := [c.name for c in table.columns if c.type == "BINARY" and c.name in ("key", "value")]):
            assert [c.name for c in table.columns][-2:] == binary


def test_constraints_have_names_of_their_own_and_say_what_is_wrong():
    for table in TABLES:
        names = [constraint.name for constraint in table.constraints]
        assert len(set(names)) == len(names)
        assert [c.name for c in table.constraints if not re.fullmatch("[a-z_]+", c.name) or not c.comment] == []


def test_quarantine_has_the_columns_of_silver_and_the_reasons():
    assert OBSERVATION_QUARANTINE.columns[:-1] == OBSERVATION.columns
    assert OBSERVATION_QUARANTINE.columns[-1].name == "failed_constraints"
    assert OBSERVATION_QUARANTINE.constraints == ()


def test_statuses_are_those_of_the_message_contract():
    assert tuple(schema()["properties"]["status"]["enum"]) == STATUSES


def test_audit_records_are_kept_without_end():
    assert AUDIT_EVENT.retention is None
