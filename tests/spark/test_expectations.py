"""Great Expectations over real Delta tables."""

from datetime import UTC, datetime, timedelta

import pytest

from expectations import rules
from expectations.runner import Result, ValidationError, checked_tables, pin, run
from lakehouse import delta
from lakehouse.datadir import DataDir
from lakehouse.reader import TableMissingError
from lakehouse.render import schema
from lakehouse.tables import DEVICE_MESSAGE, OBSERVATION, VALIDATION_RESULT, VITAL_SIGN_MINUTE
from tests.fixtures.delta import append

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


def observation(number: int, **changes) -> dict:
    return {
        "observation_id": number.to_bytes(16, "big"),
        "version": b"v" * 16,
        "patient_id": "mrn/1",
        "device_id": "monitor-1",
        "source": "monitor",
        "code": "8867-4",
        "value": 80.0,
        "unit": "/min",
        "status": "final",
        "observed_at": NOW,
        "received_at": NOW,
        "recorded_at": NOW,
        "recorded_at_inferred": False,
        "source_value": 80.0,
        "message_id": f"m{number}",
        "values_in_message": 1,
        "topic": "vitals",
        "partition": 0,
        "offset": number,
    } | changes


def message(number: int, received_at: datetime) -> dict:
    return {"topic": "vitals", "partition": 0, "offset": number, "received_at": received_at, "value": b"{}"}


@pytest.fixture
def lake(spark, tmp_path):
    """A data dir whose tables hold given rows: without the CHECK constraints that would keep faults out."""

    def make(rows_of: dict) -> DataDir:
        data = DataDir(tmp_path)
        for table, rows in rows_of.items():
            if rows:
                values = [tuple(row.get(column.name) for column in table.columns) for row in rows]
                frame = spark.createDataFrame(values, schema(table.columns))
                frame.coalesce(1).write.format("delta").save(str(data.table(table)))
            else:
                delta.create(spark, table, data.table(table))
        return data

    return make


def failed(results) -> dict:
    return {(r.table_name, r.expectation): r.unexpected_count for r in results if not r.success}


def test_rows_that_keep_every_rule_pass_and_the_results_are_stored(spark, lake):
    empty = {table: [] for table in checked_tables()}
    data = lake(empty | {OBSERVATION: [observation(1), observation(2)], DEVICE_MESSAGE: [message(1, NOW)]})

    results = run(spark, data, NOW, pin(data), run_id="r1")

    assert failed(results) == {}
    stored = spark.read.format("delta").load(str(data.table(VALIDATION_RESULT)))
    assert {Result(*row.asDict().values()).expectation for row in stored.collect()} == {r.expectation for r in results}
    assert stored.where("table_name = 'silver.observation' AND expectation = 'out_of_range'").selectExpr(
        "run_id", "table_version", "success", "unexpected_count", "unix_seconds(checked_at)"
    ).collect() == [("r1", 0, True, 0, int(NOW.timestamp()))]


def test_each_fault_is_counted_under_its_own_name(spark, lake):
    rows = [
        observation(1),
        observation(1),
        observation(2, value=900.0, source_value=900.0),
        observation(3, value=901.0, source_value=901.0),
        observation(4, code="0-0"),
        observation(5, patient_id=None),
        observation(6, status=None),
    ]
    data = lake({OBSERVATION: rows})

    assert failed(run(spark, data, NOW, pin(data, [OBSERVATION]), run_id="r1")) == {
        ("silver.observation", "unknown_status"): 1,
        ("silver.observation", "unknown_code"): 1,
        ("silver.observation", "out_of_range"): 2,
        ("silver.observation", "missing_patient_id"): 1,
        ("silver.observation", "repeated_key"): 1,
    }


def test_a_run_tried_again_adds_its_results_once(spark, lake):
    data = lake({DEVICE_MESSAGE: [message(1, NOW)]})

    first = run(spark, data, NOW, pin(data, [DEVICE_MESSAGE]), run_id="r1")
    run(spark, data, NOW, pin(data, [DEVICE_MESSAGE]), run_id="r1")

    assert spark.read.format("delta").load(str(data.table(VALIDATION_RESULT))).count() == len(first)


def test_a_window_leaves_older_rows_unchecked(spark, lake):
    old = NOW - timedelta(hours=7)
    data = lake({OBSERVATION: [observation(1, code="0-0", received_at=old, observed_at=old), observation(2)]})

    assert failed(run(spark, data, NOW, pin(data, [OBSERVATION]), run_id="r1", window=timedelta(hours=6))) == {}
    assert failed(run(spark, data, NOW, pin(data, [OBSERVATION]), run_id="r2")) == {
        ("silver.observation", "unknown_code"): 1
    }


def test_observations_far_behind_the_messages_they_are_made_from_lag(spark, lake):
    late = message(2, NOW + timedelta(minutes=10))
    data = lake({OBSERVATION: [observation(1)], DEVICE_MESSAGE: [message(1, NOW), late]})

    results = run(spark, data, NOW, pin(data, [DEVICE_MESSAGE, OBSERVATION]), run_id="r1")

    assert failed(results) == {("silver.observation", "lagging"): None}


def test_an_old_intake_is_stale_only_when_it_is_meant_to_run(spark, lake):
    data = lake({DEVICE_MESSAGE: [message(1, NOW)]})
    later = NOW + timedelta(minutes=10)

    assert failed(run(spark, data, later, pin(data, [DEVICE_MESSAGE]), run_id="r1")) == {}
    assert failed(run(spark, data, later, pin(data, [DEVICE_MESSAGE]), run_id="r2", live=True)) == {
        ("bronze.device_message", "stale"): None
    }


@pytest.mark.parametrize(
    ("minutes_ago", "holds"),
    [
        ([190, 150, 130, 100, 70, 50, 30], True),  # 5 in 2 hours 10 minutes, then 2 in the last hour
        ([190, 180, 170, 160, 150, 130, 120, 100, 70, 30], False),  # 9 in 2 hours 10 minutes, then 1
        ([90, 80, 70], True),  # not two hours old
        ([200, 180, 160, 140], False),  # silent
        ([], True),  # nothing to compare with
    ],
)
def test_an_hour_with_less_than_half_the_usual_records_is_thin(spark, minutes_ago, holds):
    rows = [("vitals", NOW - timedelta(minutes=minutes)) for minutes in minutes_ago]
    rows += [("file:backfill", NOW - timedelta(minutes=100))] * 50
    frame = spark.createDataFrame(rows, "topic STRING, received_at TIMESTAMP")

    assert frame.selectExpr(f"{rules.thin('vitals', NOW).holds} AS holds").collect() == [(holds,)]


def hourly(*, since: int, until: int = 0, code: str = "8867-4", unit: str = "/min", add: float = 0.0) -> list[dict]:
    """A minute an hour of 24 patients from ``since`` hours ago on, up to ``until`` hours ago, around 80."""
    return [
        {
            "patient_id": f"mrn/{patient}",
            "code": code,
            "unit": unit,
            "minute": NOON_HOUR - timedelta(hours=ago),
            "count": 1,
            **dict.fromkeys(("min", "mean", "max", "first", "last"), 60.0 + (patient * 7 + ago * 11) % 39 + add),
        }
        for patient in range(24)
        for ago in range(since, until, -1)
    ]


NOON_HOUR = NOW + timedelta(minutes=30)
WEEK = 8 * 24
JUDGED = {"drifted_heart_rate", "shifted_share_heart_rate", "drifted_spo2", "shifted_share_spo2", "incomplete_hours"}


def over_time(spark, data, *rows: dict) -> dict:
    """Of the rules over time that came to a verdict: whether they hold, and what they found."""
    append(data, VITAL_SIGN_MINUTE, *rows)
    results = run(spark, data, NOW, pin(data, [VITAL_SIGN_MINUTE]), run_id="r1", window=timedelta(hours=26))
    return {r.expectation: r for r in results if r.detail and not r.detail.startswith("no verdict: ")}


def test_a_steady_week_passes_the_rules_over_time(spark, tmp_path):
    spo2 = {"code": "59408-5", "unit": "%"}
    judged = over_time(spark, DataDir(tmp_path), *hourly(since=WEEK), *hourly(since=WEEK, **spo2))

    assert {name: r.success for name, r in judged.items()} == dict.fromkeys(JUDGED, True)
    # 24 hours, without the first and the last of each patient.
    assert judged["incomplete_hours"].detail == "528 of 528 patient-hours are whole (100.0%, limit 90%)"
    assert judged["drifted_heart_rate"].detail.startswith("stability index 0.0")
    assert (
        judged["shifted_share_spo2"].detail
        == "50.0% of the minutes of all signals, 50.0% before; limits 25.0% and 100.0%"
    )


def test_a_planted_drift_fails_under_the_signals_name_and_a_planted_gap_as_incomplete(spark, tmp_path):
    spo2 = {"code": "59408-5", "unit": "%"}
    rows = [
        *hourly(since=WEEK, until=24),
        *hourly(since=24, add=40.0),
        *hourly(since=WEEK, until=12, **spo2),
        *hourly(since=8, **spo2),
    ]

    judged = over_time(spark, DataDir(tmp_path), *rows)

    assert {name for name, result in judged.items() if not result.success} == {"drifted_heart_rate", "incomplete_hours"}
    assert set(judged) == JUDGED
    assert "median 79 to 119" in judged["drifted_heart_rate"].detail
    # Four of 22 hours of 24 patients have no SpO2.
    assert judged["incomplete_hours"].unexpected_count == 96
    assert judged["incomplete_hours"].detail.endswith("(81.8%, limit 90%), spo2 short in 96")


def test_a_signal_that_vanishes_fails_by_its_share(spark, tmp_path):
    gone = hourly(since=WEEK, until=24, code="59408-5", unit="%")

    judged = over_time(spark, DataDir(tmp_path), *hourly(since=WEEK), *gone)

    # What no longer comes at all is not expected of an hour, so that it is told once.
    assert {name for name, result in judged.items() if not result.success} == {"shifted_share_spo2"}
    assert judged["shifted_share_spo2"].detail.startswith("0.0% of the minutes of all signals, 50.0% before")


def test_history_of_other_years_has_no_verdict_over_time(spark, tmp_path):
    assert over_time(spark, DataDir(tmp_path), *hourly(since=WEEK + 9_000, until=9_000)) == {}


def test_results_of_an_older_layout_name_the_command_that_adds_the_column(spark, tmp_path):
    import deltalake
    import pyarrow as pa

    data = DataDir(tmp_path)
    append(data, DEVICE_MESSAGE, message(1, NOW))
    deltalake.write_deltalake(data.table(VALIDATION_RESULT), pa.table({"run_id": ["r0"]}))

    with pytest.raises(ValidationError, match=r"lacks table_name, .*, detail: `ward apply"):
        run(spark, data, NOW, pin(data, [DEVICE_MESSAGE]), run_id="r1")


def test_tables_that_were_never_made_are_named(tmp_path):
    with pytest.raises(TableMissingError, match=r"bronze\.device_message is not in .* yet"):
        pin(DataDir(tmp_path))
