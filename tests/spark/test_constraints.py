"""One declaration of a constraint: quarantine, Delta CHECK, plain SQL and DuckDB give one verdict."""

import math
from datetime import datetime, timedelta
from typing import Any

import pytest

from lakehouse import delta, record
from lakehouse.datadir import DataDir
from lakehouse.delta import Write
from lakehouse.render import failed_constraints, first_fault, schema
from lakehouse.scores import PARTS
from lakehouse.table import Table
from lakehouse.tables import (
    ALERT_DELIVERY,
    ALERT_EVENT,
    ALERT_NOTIFICATION,
    AUDIT_EVENT,
    EARLY_WARNING_SCORE,
    OBSERVATION,
    RHYTHM_MINUTE,
    RISK_SCORE,
    SCORE_INPUT,
    VITAL_SIGN_MINUTE,
    WAVEFORM_CHUNK,
)
from lakehouse.verdict import broken
from lakehouse.vocabulary import plausible, signals
from tests.fixtures.vitals import NOW

VALUES: dict[str, Any] = {
    "STRING": "text", "INT": 1, "BIGINT": 1, "DOUBLE": 1.0, "BOOLEAN": False, "BINARY": b"0" * 16, "TIMESTAMP": NOW,
    "ARRAY<STRING>": ["text"], "ARRAY<INT>": [1],
}  # fmt: skip
MINUTE = NOW.replace(second=0)

GOOD = {
    OBSERVATION: {
        "code": "8867-4",
        "value": 72.0,
        "value_code": None,
        "unit": "/min",
        "status": "final",
        "source_value": 72.0,
    },
    VITAL_SIGN_MINUTE: {"minute": MINUTE, "min": 1.0, "mean": 1.5, "max": 2.0},
    SCORE_INPUT: {
        "input": "heart_rate",
        "minute": MINUTE,
        "value_code": None,
        "stale_at": NOW + timedelta(hours=2),
    },
    EARLY_WARNING_SCORE: {
        "score": "news2",
        "risk": "low",
        "parts": dict.fromkeys(PARTS),
        "inputs": [],
    },
    RISK_SCORE: {"risk": 0.25, "role": "shadow", "contributions": []},
    WAVEFORM_CHUNK: {"started_at": NOW - timedelta(seconds=1)},
    RHYTHM_MINUTE: {
        "minute": MINUTE,
        **dict.fromkeys(("noise_share", "flat_share", "saturated_share", "lead_off_share"), 0.0),
    },
    ALERT_EVENT: {"priority": "high", "category": "technical", "sequence": 0},
    ALERT_NOTIFICATION: {"priority": "high", "step": 0},
    ALERT_DELIVERY: {"status": "digested", "attempts": 0},
    AUDIT_EVENT: {"outcome": "refused"},
}
BAD = {
    OBSERVATION: {
        "unknown_status": {"status": None},
        "unknown_code": {"code": "0-0"},
        "missing_value": {"value": None},
        "not_finite": {"value": math.inf},
        "sensor_disconnected": {"value": 0.0, "source_value": 0.0},
        "unknown_unit": {"unit": None},
        "out_of_range": {"value": 300.0, "source_value": 300.0},
        "unknown_value_code": {"code": "67775-7", "value": None, "value_code": "X", "unit": None},
        "clock_ahead": {"observed_at": NOW + timedelta(minutes=5, microseconds=1)},
        "ambiguous_repeat": {"values_in_message": 2},
    },
    VITAL_SIGN_MINUTE: {
        "empty_minute": {"count": 0},
        "unordered_statistics": {"mean": 2.1},
        "not_a_minute": {"minute": MINUTE + timedelta(microseconds=1)},
    },
    SCORE_INPUT: {
        "unknown_input": {"input": "pulse"},
        "no_value": {"value": None},
        "not_of_the_minute": {"minute": MINUTE + timedelta(minutes=1)},
        "stale_at_once": {"stale_at": NOW},
    },
    EARLY_WARNING_SCORE: {
        "unknown_score": {"score": "news3"},
        "unordered_totals": {"total": -1, "total_min": -1, "total_max": -1},
        "unfounded_total": {"total_max": 2},
        "unknown_risk": {"risk": "dire"},
    },
    WAVEFORM_CHUNK: {
        "no_samples": {"samples": 0},
        "no_rate": {"rate": 0.0},
        "unordered_instants": {"started_at": NOW},
        "clock_ahead": {"ended_at": NOW + timedelta(minutes=5, microseconds=1)},
    },
    RHYTHM_MINUTE: {
        "not_a_minute": {"minute": NOW},
        "unordered_counts": {"premature": 2},
        "unordered_intervals": {"mean_rr": None},
        "more_than_a_minute": {"flat_share": 0.1},
    },
    RISK_SCORE: {"no_risk": {"risk": 1.5}, "unknown_role": {"role": "chief"}},
    ALERT_EVENT: {
        "negative_sequence": {"sequence": -1},
        "unknown_priority": {"priority": "dire"},
        "unknown_category": {"category": "odd"},
    },
    ALERT_NOTIFICATION: {"negative_step": {"step": -1}, "unknown_priority": {"priority": "dire"}},
    ALERT_DELIVERY: {"negative_attempts": {"attempts": -1}, "unknown_status": {"status": "lost"}},
    AUDIT_EVENT: {"unknown_outcome": {"outcome": "perhaps"}},
}


def row(table: Table, **changes: Any) -> tuple[Any, ...]:
    usual = {column.name: VALUES.get(column.type) for column in table.columns}
    return tuple((usual | GOOD[table] | changes).values())


@pytest.fixture(scope="module", params=list(GOOD), ids=lambda table: table.full_name)
def made(request, spark, tmp_path_factory):
    """A declared table with constraints, as Delta has it."""
    path = tmp_path_factory.mktemp("constraints") / request.param.name
    delta.create(spark, request.param, path)
    return request.param, path


def test_each_constraint_refuses_one_bad_row_in_delta_under_its_name_as_in_sql(spark, frame, made):
    table, path = made
    assert list(BAD[table]) == [constraint.name for constraint in table.constraints]
    rows = [row(table), *(row(table, **changes) for changes in BAD[table].values())]
    rows = frame(rows, schema(table.columns))

    # Quarantine and the alert flow: names in SQL.
    verdicts = rows.selectExpr(failed_constraints(table.constraints), first_fault(table.constraints)).collect()
    assert [tuple(verdict) for verdict in verdicts] == [([], None), *(([name], name) for name in BAD[table])]

    # Delta.
    for number, name in enumerate(BAD[table]):
        bad = frame([row(table, **BAD[table][name])], schema(table.columns))
        with pytest.raises(Exception, match=r"DELTA_VIOLATE_CONSTRAINT_WITH_VALUES") as refused:
            delta.append(bad, path, Write(name, number))
        assert f"CHECK constraint {name} " in str(refused.value)
    good = frame([row(table)], schema(table.columns))
    delta.append(good, path, Write("good", 0))
    assert delta.read(spark, path).count() == 1


def test_a_missing_value_of_a_column_that_is_never_null_is_refused(frame, made):
    table, path = made
    never = next(column.name for column in table.columns if not column.nullable)
    bad = frame([row(table, **{never: None})], schema(table.columns))
    with pytest.raises(Exception, match=f"NOT NULL constraint violated for column: {never}"):
        delta.append(bad, path, Write("null", 0))


def test_a_constraint_of_observations_answers_true_or_false_whatever_is_null(frame):
    nullable = [column.name for column in OBSERVATION.columns]
    rows = [row(OBSERVATION, **{name: None}) for name in nullable]
    rows += [row(OBSERVATION, **dict.fromkeys(nullable)), row(OBSERVATION, value=math.nan, source_value=None)]
    answers = frame(rows, schema(OBSERVATION.columns)).selectExpr(
        *(f"({c.sql()}) IS NOT NULL AS {c.name}" for c in OBSERVATION.constraints)
    )

    assert [row.asDict() for row in answers.distinct().collect()] == [{c.name: True for c in OBSERVATION.constraints}]


def test_duckdb_gives_the_verdict_of_spark_on_observations(frame):
    names = [column.name for column in OBSERVATION.columns]
    odd = (math.nan, math.inf, -math.inf, -1.0, 0.0, 8388607.0, None)
    rows = [row(OBSERVATION, **changes) for changes in BAD[OBSERVATION].values()]
    rows += [row(OBSERVATION, **{name: None}) for name in names] + [row(OBSERVATION, **dict.fromkeys(names))]
    rows += [row(OBSERVATION, code=signal.code, unit=signal.unit) for signal in signals()]
    rows += [row(OBSERVATION, code=code, value=value, source_value=value) for value in odd for code in ("8867-4", "x")]

    found = (
        frame(rows, schema(OBSERVATION.columns))
        .selectExpr(f"{failed_constraints(OBSERVATION.constraints)} AS failed")
        .collect()
    )

    assert broken(OBSERVATION, [dict(zip(names, one, strict=True)) for one in rows]) == [one.failed for one in found]


def test_the_plausible_ranges_are_those_of_the_vocabulary_at_and_beside_every_bound(frame):
    numeric = [signal for signal in signals() if not signal.coded]
    cases = [
        (signal, value)
        for signal in numeric
        for bound in (signal.above, signal.at_least, signal.below, signal.at_most)
        if bound is not None
        for value in (math.nextafter(bound, -1e9), bound, math.nextafter(bound, 1e9))
    ]
    # 1.5 stands for what was sent, since a value may be a sentinel.
    rows = [row(OBSERVATION, code=s.code, unit=s.unit, value=value, source_value=1.5) for s, value in cases]
    (rule,) = [constraint for constraint in OBSERVATION.constraints if constraint.name == "out_of_range"]

    found = frame(rows, schema(OBSERVATION.columns)).selectExpr(rule.sql()).collect()

    assert [(s.code, value, answer[0]) for (s, value), answer in zip(cases, found, strict=True)] == [
        (s.code, value, plausible(s, value)) for s, value in cases
    ]


def test_a_clock_that_was_moved_for_privacy_is_not_compared_with_ours(frame):
    ahead = {"observed_at": datetime(2150, 1, 1, tzinfo=NOW.tzinfo)}
    rows = [row(OBSERVATION, source=source, **ahead) for source in ("mimic-iii", "mimic-iv", "monitor-csv", "ward")]
    found = (
        frame(rows, schema(OBSERVATION.columns))
        .selectExpr(f"{failed_constraints(OBSERVATION.constraints)} AS failed")
        .collect()
    )
    assert [row.failed for row in found] == [[], [], [], ["clock_ahead"]]


def test_what_is_added_without_spark_is_held_to_the_constraints_too(spark, tmp_path):
    data = DataDir(tmp_path)
    delta.create(spark, RISK_SCORE, data.table(RISK_SCORE))
    names = [column.name for column in RISK_SCORE.columns]
    contribution = {"feature": "age", "value": 70.0, "log_odds": 0.5}
    good = dict(zip(names, row(RISK_SCORE, contributions=[contribution]), strict=True))

    record.add(data, RISK_SCORE, [good])

    (found,) = delta.read(spark, data.table(RISK_SCORE)).collect()
    instants = dict.fromkeys(("landmark_at", "scored_at"), NOW.replace(tzinfo=None))
    assert found.asDict(recursive=True) == good | instants
    for bad in ({"risk": 1.5}, {"role": "chief"}, {"patient_id": None}):
        with pytest.raises(Exception, match=r"no_risk|unknown_role|patient_id|null"):
            record.add(data, RISK_SCORE, [good | bad])
    assert delta.read(spark, data.table(RISK_SCORE)).count() == 1
