"""Early-warning scores of patients over time; bands, missing-data rule and staleness limits: lakehouse/scores.py.

Grain: one patient, score and instant at which the score says something new. A score is taken in each minute in which
one of its inputs arrived, at the instant of the newest of them, from the last value of each input that is not stale at
that instant. Missing data: what is missing or stale leaves its part open between the least and the most it can be.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse.scores import (
    PARTS,
    RESTATED_AFTER,
    SCORES,
    STALE_AFTER,
    Definition,
    Score,
    range_sql,
    risk_sql,
)

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

_ENDS = ("low", "high")


@dataclass(frozen=True)
class Steps:
    """A score as SQL in three steps, each on top of the one before, for Spark and DuckDB alike.

    ``found`` has an expression by result column, and ``points`` one by part. Steps, since Spark would else put a whole
    expression wherever it is used, which it still does with the fields of a struct: so each is a column by itself.
    """

    ranges: tuple[str, ...]
    sums: tuple[str, ...]
    found: Mapping[str, str]
    points: Mapping[str, str]


def steps(definition: Definition, columns: Mapping[str, str], prefix: str = "") -> Steps:
    """The steps of a score over ``columns`` (as :func:`scored`); what they add carries ``prefix``."""
    known = dict(columns)
    for name, value in definition.defaults:
        known[name] = f"coalesce({columns[name]}, {value})" if name in columns else str(value)
    names = [part.name for part in definition.parts]
    ends = {part.name: range_sql(part, known) for part in definition.parts}
    low, high = ([f"{prefix}{which}_{name}" for name in names] for which in _ENDS)
    points = {name: f"{prefix}points_{name}" for name in names}
    single, least, most = definition.single_points or 0, f"{prefix}total_min", f"{prefix}total_max"
    risks = [
        risk_sql(definition, total, f"{prefix}single_{which}")
        for which, total in zip(_ENDS, (least, most), strict=True)
    ]
    return Steps(
        ranges=tuple(
            f"{end} AS {prefix}{which}_{name}"
            for name, pair in ends.items()
            for which, end in zip(_ENDS, pair, strict=True)
        ),
        sums=(
            f"{' + '.join(low)} AS {least}",
            f"{' + '.join(high)} AS {most}",
            *(
                f"{' OR '.join(f'{end} = {single}' for end in ends_of)} AS {prefix}single_{which}"
                for which, ends_of in zip(_ENDS, (low, high), strict=True)
            ),
            *(
                f"CASE WHEN {a} = {b} THEN {a} END AS {own}"
                for a, b, own in zip(low, high, points.values(), strict=True)
            ),
        ),
        found={
            "total": f"CASE WHEN {least} = {most} THEN {least} END",
            "total_min": least,
            "total_max": most,
            "risk": f"CASE WHEN ({risks[0]}) = ({risks[1]}) THEN {risks[0]} END",
        },
        points=points,
    )


def scored(rows: "DataFrame", definition: Definition, columns: Mapping[str, str]) -> "DataFrame":
    """The rows with ``total``, ``total_min``, ``total_max``, ``risk`` and ``parts`` (a struct of points by part).

    ``columns`` has an expression for each input that the rows have: numbers, codes as text, truths as BOOLEAN.
    """
    made = steps(definition, columns, "score_")
    parts = ", ".join(f"'{name}', {own}" for name, own in made.points.items())
    found = (f"{sql} AS {name}" for name, sql in {**made.found, "parts": f"named_struct({parts})"}.items())
    kept = (f"`{name}`" for name in rows.columns)
    return rows.selectExpr("*", *made.ranges).selectExpr("*", *made.sums).selectExpr(*kept, *found)


_SPAN = ("patient_id", "start", "end")
SAYS = ("total", "total_min", "total_max", "risk", "parts")
"""Columns of which one differs from the row before, where a row is news."""


def early_warning_score(inputs: "DataFrame") -> "DataFrame":
    """Rows of gold.score_input, in spans of a patient's time, to the rows of gold.early_warning_score in these spans.

    A row has the ``start`` and ``end`` (its last minute) of the span it is given for. A span has all rows of its time,
    and of the time before it those that are not stale ``RESTATED_AFTER`` before its start; one row may be in several.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    scores = _taken(_as_of(_carried(inputs)))
    before = Window.partitionBy(*_SPAN, "score").orderBy("minute")
    said = scores.withColumn("says", F.struct(*SAYS)).select(
        "*", F.lag("says").over(before).alias("said"), F.lag("observed_at").over(before).alias("said_at")
    )
    older = f"observed_at > said_at + INTERVAL {int(RESTATED_AFTER.total_seconds())} SECONDS"
    news = said.where(f"minute >= start AND (said IS NULL OR {older} OR NOT (says <=> said))")
    return news.select("patient_id", "score", "observed_at", *SAYS, "inputs")


def _carried(inputs: "DataFrame") -> "DataFrame":
    """Of what is before a span, only the last value of each input: it says all there is to know of that time."""
    from pyspark.sql import functions as F  # noqa: N812

    key = [*_SPAN, "input"]
    past = inputs.where("minute < start")
    last = past.groupBy(*key).agg(F.max("minute").alias("minute"))
    return inputs.where("minute >= start AND minute <= end").unionByName(
        past.join(last, [*key, "minute"], "left_semi").select(*inputs.columns)
    )


def _as_of(inputs: "DataFrame") -> "DataFrame":
    """A row a minute: of each input what arrived in it (``new_..``) and the last value up to it, as structs."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    arrived = inputs.groupBy(*_SPAN, "minute").agg(
        *(
            F.max(F.expr(f"CASE WHEN input = '{n}' THEN struct(observed_at, value, value_code, observation_id) END"))
            .alias(f"new_{n}")
            for n in STALE_AFTER
        )
    )  # fmt: skip
    so_far = Window.partitionBy(*_SPAN).orderBy("minute")
    return arrived.select("*", *(F.last(f"new_{n}", ignorenulls=True).over(so_far).alias(n) for n in STALE_AFTER))


def _taken(minutes: "DataFrame") -> "DataFrame":
    """A row for each score that is taken in a minute. All scores go step by step together: each step costs planning."""
    instants = [
        f"greatest({', '.join(f'new_{n}.observed_at' for n in definition.inputs)}) AS {name}_at"
        for name, definition in SCORES.items()
    ]
    current = [f"{_current(n, name)} AS {name}_{n}" for name, of in SCORES.items() for n in of.inputs]
    made = {
        name: steps(definition, {n: current_value_sql(n, f"{name}_{n}") for n in definition.inputs}, f"{name}_")
        for name, definition in SCORES.items()
    }
    ranges = (sql for one in made.values() for sql in one.ranges)
    sums = (sql for one in made.values() for sql in one.sums)
    rows = ", ".join(_row(name, definition, made[name]) for name, definition in SCORES.items())
    known = minutes.selectExpr("*", *instants).selectExpr("*", *current)
    summed = known.selectExpr("*", *ranges).selectExpr("*", *sums)
    return summed.selectExpr(*_SPAN, "minute", f"inline(array_compact(array({rows})))")


def _row(name: Score, definition: Definition, made: Steps) -> str:
    """The row of a score as a struct, NULL where none of its inputs arrived."""
    parts = ", ".join(f"'{n}', {made.points.get(n, 'CAST(NULL AS INT)')}" for n in PARTS)
    inputs = f"array_compact(array({', '.join(f'{name}_{n}' for n in definition.inputs)}))"
    fields = {**made.found, "parts": f"named_struct({parts})", "inputs": inputs}
    row = ", ".join(f"'{field}', {sql}" for field, sql in fields.items())
    return f"CASE WHEN {name}_at IS NOT NULL THEN named_struct('score', '{name}', 'observed_at', {name}_at, {row}) END"


def _current(name: str, score: Score) -> str:
    """The input's last value as an element of ``inputs``, NULL where there is none or it is stale for the score."""
    seconds = int(STALE_AFTER[name].total_seconds())
    fields = ", ".join(
        f"'{field}', {name}.{field}" for field in ("value", "value_code", "observed_at", "observation_id")
    )
    return (
        f"CASE WHEN {name}.observed_at >= {score}_at - INTERVAL {seconds} SECONDS"
        f" THEN named_struct('input', '{name}', {fields}) END"
    )


def current_value_sql(name: str, current: str) -> str:
    """The value of an element of ``inputs`` as the score's own rules take it, as SQL."""
    if name == "consciousness":
        return f"{current}.value_code"
    return f"({current}.value = 1)" if name == "on_oxygen" else f"{current}.value"
