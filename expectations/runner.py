"""Check every declared table and keep the answers in quality.validation_result.

The engine is Spark, through Great Expectations' DataFrame source: constraints are Spark SQL, so that the very text that
Delta enforces and the quarantine splits by is what is checked here; a pandas batch would have to hold the table in
memory, and DuckDB would need every condition in a second dialect. Each table is read at one pinned Delta version.
"""

from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from expectations import rules
from expectations.suites import history, suite
from lakehouse import delta, pipeline, reader
from lakehouse.datadir import DataDir
from lakehouse.render import schema
from lakehouse.table import Table
from lakehouse.tables import (
    DEAD_LETTER,
    DEVICE_MESSAGE,
    OBSERVATION,
    OBSERVATION_QUARANTINE,
    TABLES,
    VALIDATION_RESULT,
    VITAL_SIGN_MINUTE,
)

if TYPE_CHECKING:
    from great_expectations import ExpectationSuite
    from pyspark.sql import DataFrame, SparkSession

_INSTANT = {
    "bronze.device_message": "received_at",
    "silver.observation": "received_at",
    "silver.observation_quarantine": "received_at",
    "silver.dead_letter": "received_at",
    "gold.vital_sign_minute": "minute",
    "gold.score_input": "minute",
    "gold.early_warning_score": "observed_at",
    "gold.alert_event": "emitted_at",
    "gold.alert_notification": "emitted_at",
    "gold.alert_delivery": "emitted_at",
    "gold.audit_event": "emitted_at",
}
"""The column that says how recent a row is; a table without one is always checked whole."""


class ValidationError(RuntimeError):
    """An expectation could not be evaluated, which is neither success nor failure."""


@dataclass(frozen=True)
class Result:
    """One expectation in one run: a row of quality.validation_result, in its column order."""

    run_id: str
    table_name: str
    table_version: int
    expectation: str
    success: bool
    unexpected_count: int | None
    checked_at: datetime
    detail: str | None = None


def run(
    spark: "SparkSession",
    data: DataDir,
    now: datetime,
    versions: Mapping[Table, int],
    *,
    run_id: str,
    topic: str = "vitals",
    live: bool = False,
    window: timedelta | None = None,
) -> tuple[Result, ...]:
    """Check each table of ``versions`` at its version, append the results, and return them.

    ``live`` holds the intake (``topic``, by its site name) against the clock as well. ``window`` checks only rows newer
    than that before ``now``. Raises ValidationError where a rule cannot be evaluated.
    """
    frames = {table: delta.read(spark, data.table(table), version) for table, version in versions.items()}
    _require_columns(data)
    by_hand = _rules(frames, now, topic, live=live)
    results = tuple(
        Result(
            run_id, table.full_name, versions[table], outcome.name, outcome.holds, outcome.unexpected, now, outcome.said
        )
        for table, frame in frames.items()
        for outcome in (
            *_validate(table, _recent(table, frame, now, window), _suite(table, by_hand.get(table, ()))),
            # Over time: it has a window of its own.
            *(_validate(table, frame, history(now)) if table == VITAL_SIGN_MINUTE else ()),
        )
    )
    _append(spark, data, run_id, results)
    return results


def _require_columns(data: DataDir) -> None:
    """See that results can be kept before minutes are spent on them."""
    if VALIDATION_RESULT.full_name in reader.tables_there(data):
        have = {field.name for field in reader.open_table(data, VALIDATION_RESULT).schema().fields}
        if missing := [column.name for column in VALIDATION_RESULT.columns if column.name not in have]:
            raise ValidationError(
                f"{VALIDATION_RESULT.full_name} lacks {', '.join(missing)}: `ward apply --data-dir {data.root}` adds it"
            )


def checked_tables() -> tuple[Table, ...]:
    """The tables that the flow ``data_quality`` reads, in the order of their declaration."""
    reads = pipeline.flow_named("data_quality").reads
    return tuple(table for table in TABLES if table.full_name in reads)


def pin(data: DataDir, tables: Iterable[Table] | None = None) -> dict[Table, int]:
    """The newest Delta version of each of the tables, of none of all that are checked. Raises TableMissingError."""
    return {table: reader.open_table(data, table).version() for table in tables or checked_tables()}


def to_check(data: DataDir, *, live: bool) -> tuple[Table, ...]:
    """The tables to check: all, or, where no stream is meant to run, those there are of them, as of history alone."""
    there = reader.tables_there(data)
    return tuple(table for table in checked_tables() if live or table.full_name in there)


def _recent(table: Table, frame: "DataFrame", now: datetime, window: timedelta | None) -> "DataFrame":
    instant = _INSTANT.get(table.full_name)
    if window is None or instant is None:
        return frame
    return frame.where(f"{instant} > TIMESTAMP '{(now - window).isoformat()}'")


def _rules(
    frames: dict[Table, "DataFrame"], now: datetime, topic: str, *, live: bool
) -> dict[Table, tuple[rules.Rule, ...]]:
    """The hand-written rules of each table."""
    by_hand: dict[Table, tuple[rules.Rule, ...]] = {}
    if live:
        intake = pipeline.flow_named("device_message")
        by_hand[DEVICE_MESSAGE] = (rules.stale(intake, topic, now), rules.thin(topic, now))
    if DEVICE_MESSAGE in frames and OBSERVATION in frames:
        beside = [_newest(frames[table], topic) for table in (OBSERVATION_QUARANTINE, DEAD_LETTER) if table in frames]
        by_hand[OBSERVATION] = (
            rules.lagging(
                pipeline.flow_named("observation"),
                topic,
                newest_read=_newest(frames[DEVICE_MESSAGE], topic),
                newest_beside=max((at for at in beside if at is not None), default=None),
            ),
        )
    return by_hand


def _newest(frame: "DataFrame", topic: str) -> datetime | None:
    from pyspark.sql import functions

    newest = frame.where(functions.col("topic") == topic).agg(functions.max(functions.unix_micros("received_at")))
    micros = newest.collect()[0][0]
    return None if micros is None else datetime.fromtimestamp(micros / 1_000_000, UTC)


class _Outcome(NamedTuple):
    name: str
    holds: bool
    unexpected: int | None
    said: str | None


def _suite(table: Table, by_hand: Iterable[rules.Rule]) -> "ExpectationSuite":
    expectations = suite(table)
    for rule in by_hand:
        expectations.add_expectation(rules.expectation(rule))
    return expectations


def _validate(table: Table, frame: "DataFrame", expectations: "ExpectationSuite") -> Iterable[_Outcome]:
    """What became of each of the expectations."""
    import great_expectations

    context = great_expectations.get_context(mode="ephemeral")
    context.variables.progress_bars = {"globally": False}
    asset = context.data_sources.add_spark(table.layer, persist=False).add_dataframe_asset(table.name)
    batch = asset.add_batch_definition_whole_dataframe(table.full_name).get_batch({"dataframe": frame})
    # No examples of unexpected values: they would be read by a query each, and are of patients.
    validated = batch.validate(expectations, result_format={"result_format": "BASIC", "partial_unexpected_count": 0})
    return [_outcome(table, result) for result in validated.results]


def _outcome(table: Table, result: Any) -> _Outcome:
    name = result.expectation_config.meta["rule"]
    if result.exception_info.get("raised_exception"):
        raise ValidationError(f"{table.full_name}: {name} cannot be checked: {result.exception_info}")
    observed = result.result.get("observed_value")
    said = observed if isinstance(observed, str) else None
    return _Outcome(name, bool(result.success), result.result.get("unexpected_count"), said)


def _append(spark: "SparkSession", data: DataDir, run_id: str, results: tuple[Result, ...]) -> None:
    path = data.table(VALIDATION_RESULT)
    delta.create(spark, VALIDATION_RESULT, path)
    rows = spark.createDataFrame([astuple(result) for result in results], schema(VALIDATION_RESULT.columns))
    # A run writes once: an Airflow task that is tried again under the same run id adds nothing twice.
    delta.append(rows, path, delta.Write(app_id=f"data_quality/{run_id}", version=0))
