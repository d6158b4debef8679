"""The dbt project over real Delta tables: as `ward dbt` runs it, in the session of the tests."""

import json
from datetime import UTC, datetime

import pytest

from bench.mimic_code import ANSWERS, compare
from lakehouse import spool
from lakehouse.known_at import as_known_at
from lakehouse.render import schema
from lakehouse.sources.registry import source_named
from lakehouse.sources.source import Selection, Tally
from lakehouse.table import Table
from lakehouse.tables import ENCOUNTER, OBSERVATION, PATIENT
from lakehouse.transforms import clinical_resource, observation
from streaming import backfill
from streaming import observation as flow
from wardhouse.commands import dbt

TWELVE = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
def project(spark, data, monkeypatch):
    """A data dir with the tables that models read, named in the session's catalog; dbt finds it by the environment."""
    for name, value in dbt.environment(data).items():
        monkeypatch.setenv(name, value)
    dbt.register(spark, data)
    yield data
    for name in ("silver", "gold", "mart"):
        spark.sql(f"DROP SCHEMA IF EXISTS {name} CASCADE")


def value(number: int, observed_at: str, heart_rate: float, **changes) -> dict:
    at = datetime.fromisoformat(observed_at).replace(tzinfo=UTC)
    return {
        "observation_id": number.to_bytes(16, "big"),
        "version": b"v" * 16,
        "patient_id": "mrn/1",
        "encounter_id": "stay/1",
        "device_id": "monitor-1",
        "source": "monitor",
        "code": "8867-4",
        "value": heart_rate,
        "unit": "/min",
        "status": "final",
        "observed_at": at,
        "received_at": at,
        "recorded_at": at,
        "recorded_at_inferred": False,
        "source_value": heart_rate,
        "message_id": f"m{number}",
        "values_in_message": 1,
        "topic": "vitals",
        "partition": 0,
        "offset": number,
    } | changes


def resource(**columns) -> dict:
    return {
        "version": b"v" * 16,
        "patient_id": "mrn/1",
        "resource": "{}",
        "source": "hospital",
        "recorded_at": TWELVE,
        "recorded_at_inferred": False,
        "received_at": TWELVE,
        "topic": "clinical.resource",
        "partition": 0,
        "offset": 0,
    } | columns


def write(spark, data, table: Table, rows: list[dict]) -> None:
    values = [tuple(row.get(column.name) for column in table.columns) for row in rows]
    frame = spark.createDataFrame(values, schema(table.columns)).coalesce(1)
    frame.write.format("delta").mode("append").save(str(data.table(table)))


def mart(data, name: str, *columns: str) -> list[tuple]:
    import deltalake

    rows = deltalake.DeltaTable(data.table_root / "mart" / name).to_pyarrow_table(columns=list(columns)).to_pylist()
    return sorted(tuple(row.values()) for row in rows)


def hourly(data) -> list[tuple]:
    return mart(data, "vital_sign_hourly", "patient_id", "code", "hour", "unit", "count", "min", "mean", "max")


def test_a_build_tests_the_models_and_leaves_tables_that_readers_open_without_spark(spark, project):
    write(
        spark,
        project,
        OBSERVATION,
        [
            value(1, "2026-03-01T12:10:00", 80.0),
            value(2, "2026-03-01T12:20:00", 90.0),
            value(2, "2026-03-01T12:20:00", 100.0, version=b"w" * 16, status="corrected", offset=9),
            value(3, "2026-03-01T12:30:00", 200.0, status="entered-in-error"),
        ],
    )
    write(spark, project, PATIENT, [resource(gender="female", birth_year=1966)])
    admission = {"encounter_id": "admission/1", "status": "finished", "class": "IMP", "started_at": TWELVE}
    stay = {"encounter_id": "stay/1", "status": "finished", "class": "ACUTE", "started_at": TWELVE}
    write(
        spark,
        project,
        ENCOUNTER,
        [resource(**admission, died=False), resource(**stay, part_of="admission/1", ended_at=TWELVE.replace(hour=18))],
    )

    assert dbt.invoke(["build"]) == 0
    assert hourly(project) == [("mrn/1", "8867-4", TWELVE, "/min", 2, 80.0, 90.0, 100.0)]
    assert mart(project, "icu_stay", "stay_id", "age", "length_of_stay_days") == [("stay/1", 60, 0.25)]
    assert mart(project, "first_day_vital_sign", "stay_id", "heart_rate_mean", "spo2_mean") == [("stay/1", 90.0, None)]
    assert mart(project, "deterioration_label", "landmark_at", "heart_rate") == [(TWELVE.replace(hour=16), 100.0)]

    write(spark, project, OBSERVATION, [value(4, "2026-03-01T13:00:00", 70.0)])

    assert dbt.invoke(["run", "--select", "vital_sign_hourly"]) == 0
    assert hourly(project) == [
        ("mrn/1", "8867-4", TWELVE, "/min", 2, 80.0, 90.0, 100.0),
        ("mrn/1", "8867-4", TWELVE.replace(hour=13), "/min", 1, 70.0, 70.0, 70.0),
    ]


def test_a_failing_data_test_and_an_unknown_command_have_dbts_exit_codes(spark, project):
    spark.sql("ALTER TABLE silver.observation DROP CONSTRAINT unknown_unit")
    write(spark, project, OBSERVATION, [value(1, "2026-03-01T12:10:00", 80.0, unit=None)])

    assert dbt.invoke(["build", "--select", "vital_sign_hourly", "--exclude", "test_type:unit"]) == 1
    assert dbt.invoke(["bild"]) == 2


def test_the_macro_as_known_at_gives_what_the_reader_gives(spark, project, capsys):
    later = {"version": b"w" * 16, "recorded_at": datetime(2026, 3, 1, 13, tzinfo=UTC)}
    write(
        spark,
        project,
        OBSERVATION,
        [
            value(1, "2026-03-01T12:10:00", 80.0),
            value(1, "2026-03-01T12:10:00", 90.0, status="corrected", **later),
            value(2, "2026-03-01T12:20:00", 100.0),
            value(2, "2026-03-01T12:20:00", 100.0, status="entered-in-error", **later),
            value(3, "2026-03-01T12:30:00", 60.0),
            value(3, "2026-03-01T12:30:00", 50.0, version=b"w" * 16, offset=9),
        ],
    )
    known = "{{ as_known_at(source('silver', 'observation'), \"timestamp '%s'\") }}"
    question = f"select message_id, value from {known} order by 1"
    asked = ["show", "--quiet", "--output", "json", "--inline"]
    for at, rows in (("12:59", [("m1", 80.0), ("m2", 100.0), ("m3", 50.0)]), ("13:00", [("m1", 90.0), ("m3", 50.0)])):
        instant = f"2026-03-01T{at}:00Z"
        capsys.readouterr()

        assert dbt.invoke([*asked, question % instant]) == 0

        shown = json.loads(capsys.readouterr().out)["show"]
        assert [(row["message_id"], row["value"]) for row in shown] == rows
        read = as_known_at(project, OBSERVATION, datetime.fromisoformat(instant))
        assert read.project("message_id, value").order("message_id").fetchall() == rows


@pytest.mark.parametrize(
    ("source", "rows"),
    [
        # Rows in both, and rows that only we or only they have; these hold no value. docs/cohorts.md says why.
        ("mimic-iii", [(9791, 0, 14), (73, 3, 0), (1974, 0, 1), (76, 0, 0)]),
        ("mimic-iv", [(10193, 0, 7), (71, 0, 0)]),
    ],
)
def test_vital_signs_and_coma_scores_of_mimics_demos_equal_mimic_codes(spark, project, shared_data, source, rows):
    land(spark, project, source, shared_data / f"{source}-demo")

    assert dbt.invoke(["run", "--select", "+first_day_vital_sign", "vital_sign", "+first_day_coma_score"]) == 0

    found = [
        compare(answer, project.table_root / "mart", shared_data / "mimic-code-results")
        for answer in ANSWERS
        if answer.source == source
    ]
    assert [each for each in found if not each.equal] == []
    assert [(each.rows_in_both, each.only_ours_without_value, each.only_theirs_without_value) for each in found] == rows


def land(spark, data, source: str, folder) -> None:
    """The edition's values and resources in silver, by the transforms of the flows and without their streams."""
    reader = source_named(source)
    values = spool.parts(reader.events(folder, Selection(), Tally()), source, {}, data)
    resources = spool.resource_parts(reader.resources(folder, Selection(), Tally()), source, {}, data)
    for part in values:
        rows = observation.accepted(flow.build(backfill.build(spark.createDataFrame(part))))
        rows.write.format("delta").mode("append").save(str(data.table(OBSERVATION)))
    for part in resources:
        parsed = clinical_resource.parse(backfill.build(spark.createDataFrame(part)))
        for table in (PATIENT, ENCOUNTER):
            rows = clinical_resource.resources(parsed, table)
            rows.write.format("delta").mode("append").save(str(data.table(table)))
