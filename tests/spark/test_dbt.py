"""The dbt project over real Delta tables: as `ward dbt` runs it, in the session of the tests."""

import json
from datetime import UTC, datetime

import pytest

from lakehouse import delta
from lakehouse.known_at import as_known_at
from lakehouse.render import schema
from lakehouse.tables import OBSERVATION
from wardhouse.commands import dbt


@pytest.fixture
def project(spark, data, monkeypatch):
    """A data dir with the table that models read, named in the session's catalog; dbt finds it by the environment."""
    for name, value in dbt.environment(data).items():
        monkeypatch.setenv(name, value)
    delta.create(spark, OBSERVATION, data.table(OBSERVATION))
    dbt.register(spark, data)
    yield data
    for name in ("silver", "mart"):
        spark.sql(f"DROP SCHEMA IF EXISTS {name} CASCADE")


def observation(number: int, observed_at: str, value: float, **changes) -> dict:
    at = datetime.fromisoformat(observed_at).replace(tzinfo=UTC)
    return {
        "observation_id": number.to_bytes(16, "big"),
        "version": b"v" * 16,
        "patient_id": "mrn/1",
        "device_id": "monitor-1",
        "source": "monitor",
        "code": "8867-4",
        "value": value,
        "unit": "/min",
        "status": "final",
        "observed_at": at,
        "received_at": at,
        "recorded_at": at,
        "recorded_at_inferred": False,
        "source_value": value,
        "message_id": f"m{number}",
        "values_in_message": 1,
        "topic": "vitals",
        "partition": 0,
        "offset": number,
    } | changes


def write(spark, data, rows: list[dict]) -> None:
    values = [tuple(row.get(column.name) for column in OBSERVATION.columns) for row in rows]
    frame = spark.createDataFrame(values, schema(OBSERVATION.columns)).coalesce(1)
    frame.write.format("delta").mode("append").save(str(data.table(OBSERVATION)))


def hourly(data) -> list[tuple]:
    import deltalake

    table = deltalake.DeltaTable(data.table_root / "mart" / "vital_sign_hourly").to_pyarrow_table()
    rows = table.select(["patient_id", "code", "hour", "unit", "count", "min", "mean", "max"]).to_pylist()
    return sorted(tuple(row.values()) for row in rows)


def test_a_build_tests_the_models_and_leaves_a_table_that_readers_open_without_spark(spark, project):
    twelve, thirteen = datetime(2026, 3, 1, 12, tzinfo=UTC), datetime(2026, 3, 1, 13, tzinfo=UTC)
    write(
        spark,
        project,
        [
            observation(1, "2026-03-01T12:10:00", 80.0),
            observation(2, "2026-03-01T12:20:00", 90.0),
            observation(2, "2026-03-01T12:20:00", 100.0, version=b"w" * 16, status="corrected", offset=9),
            observation(3, "2026-03-01T12:30:00", 200.0, status="entered-in-error"),
        ],
    )

    assert dbt.invoke(["build"]) == 0
    assert hourly(project) == [("mrn/1", "8867-4", twelve, "/min", 2, 80.0, 90.0, 100.0)]

    write(spark, project, [observation(4, "2026-03-01T13:00:00", 70.0)])

    assert dbt.invoke(["run"]) == 0
    assert hourly(project) == [
        ("mrn/1", "8867-4", twelve, "/min", 2, 80.0, 90.0, 100.0),
        ("mrn/1", "8867-4", thirteen, "/min", 1, 70.0, 70.0, 70.0),
    ]


def test_a_failing_data_test_and_an_unknown_command_have_dbts_exit_codes(spark, project):
    spark.sql("ALTER TABLE silver.observation DROP CONSTRAINT unknown_unit")
    write(spark, project, [observation(1, "2026-03-01T12:10:00", 80.0, unit=None)])

    assert dbt.invoke(["build", "--exclude", "test_type:unit"]) == 1
    assert dbt.invoke(["bild"]) == 2


def test_the_macro_as_known_at_gives_what_the_reader_gives(spark, project, capsys):
    later = {"version": b"w" * 16, "recorded_at": datetime(2026, 3, 1, 13, tzinfo=UTC)}
    write(
        spark,
        project,
        [
            observation(1, "2026-03-01T12:10:00", 80.0),
            observation(1, "2026-03-01T12:10:00", 90.0, status="corrected", **later),
            observation(2, "2026-03-01T12:20:00", 100.0),
            observation(2, "2026-03-01T12:20:00", 100.0, status="entered-in-error", **later),
            observation(3, "2026-03-01T12:30:00", 60.0),
            observation(3, "2026-03-01T12:30:00", 50.0, version=b"w" * 16, offset=9),
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
