"""Early-warning scores of patients over time; bands, missing-data rule and staleness limits: lakehouse/scores.py.

Grain: one patient, score and instant at which the score says something new. A score is taken in each minute in which
one of its inputs arrived, at the instant of the newest of them, from the last value of each input that is not stale at
that instant. Missing data: what is missing or stale leaves its part open between the least and the most it can be.
"""

from collections.abc import Iterator, Mapping
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


def scored(rows: "DataFrame", definition: Definition, columns: Mapping[str, str]) -> "DataFrame":
    """The rows with ``total``, ``total_min``, ``total_max``, ``risk`` and ``parts`` (a struct of points by part).

    ``columns`` has an expression for each input that the rows have: numbers, codes as text, truths as BOOLEAN.
    """
    known = dict(columns)
    for name, value in definition.defaults:
        known[name] = f"coalesce({columns[name]}, {value})" if name in columns else str(value)
    names = [part.name for part in definition.parts]
    ends = {part.name: range_sql(part, known) for part in definition.parts}
    # Columns by themselves, not structs: Spark would put the whole expression wherever a field of a struct is used.
    ranges = (
        f"{end} AS `{which}_{name}`" for name, pair in ends.items() for which, end in zip(_ENDS, pair, strict=True)
    )
    low, high = (" + ".join(f"`{which}_{name}`" for name in names) for which in _ENDS)
    single_low, single_high = (
        " OR ".join(f"`{which}_{name}` = {definition.single_points or 0}" for name in names) for which in _ENDS
    )
    kept = tuple(f"`{name}`" for name in rows.columns)
    points = tuple(f"CASE WHEN `low_{n}` = `high_{n}` THEN `low_{n}` END AS `points_{n}`" for n in names)
    sums = (
        f"{low} AS total_min",
        f"{high} AS total_max",
        f"{single_low} AS single_low",
        f"{single_high} AS single_high",
    )
    least, most = risk_sql(definition, "total_min", "single_low"), risk_sql(definition, "total_max", "single_high")
    parts = ", ".join(f"'{n}', `points_{n}`" for n in names)
    found = (
        "CASE WHEN total_min = total_max THEN total_min END AS total",
        "total_min",
        "total_max",
        f"CASE WHEN ({least}) = ({most}) THEN {least} END AS risk",
        f"named_struct({parts}) AS parts",
    )
    return rows.selectExpr("*", *ranges).selectExpr(*kept, *points, *sums).selectExpr(*kept, *found)


_SPAN = ("patient_id", "start", "end")
_SAYS = ("total", "total_min", "total_max", "risk", "parts")


def early_warning_score(inputs: "DataFrame") -> "DataFrame":
    """Rows of gold.score_input, in spans of a patient's time, to the rows of gold.early_warning_score in these spans.

    A row has the ``start`` and ``end`` (its last minute) of the span it is given for. A span has all rows of its time,
    and of the time before it those that are not stale ``RESTATED_AFTER`` before its start; one row may be in several.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    scores = _taken(_as_of(_carried(inputs)))
    before = Window.partitionBy(*_SPAN, "score").orderBy("minute")
    said = scores.withColumn("says", F.struct(*_SAYS)).select(
        "*", F.lag("says").over(before).alias("said"), F.lag("observed_at").over(before).alias("said_at")
    )
    older = f"observed_at > said_at + INTERVAL {int(RESTATED_AFTER.total_seconds())} SECONDS"
    news = said.where(f"minute >= start AND (said IS NULL OR {older} OR NOT (says <=> said))")
    return news.select("patient_id", "score", "observed_at", *_SAYS, "inputs")


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
    """A row for each score that is taken in a minute."""
    kept = (*_SPAN, "minute")
    for name, definition in SCORES.items():
        minutes = _with_score(minutes, name, definition)
    return minutes.selectExpr(*kept, f"inline(array_compact(array({', '.join(f'score_{name}' for name in SCORES)})))")


def _with_score(minutes: "DataFrame", name: Score, definition: Definition) -> "DataFrame":
    """The minutes with a score as a struct ``score_NAME``, NULL where none of its inputs arrived."""
    newest = ", ".join(f"new_{n}.observed_at" for n in definition.inputs)
    at = minutes.selectExpr("*", f"greatest({newest}) AS at")
    current = at.selectExpr("*", *(f"{_current(n)} AS now_{n}" for n in definition.inputs))
    known = scored(current, definition, {n: _value(n) for n in definition.inputs})
    parts = ", ".join(f"'{n}', {points}" for n, points in _points(definition))
    used = ", ".join(f"now_{n}" for n in definition.inputs)
    row = (
        f"'score', '{name}', 'observed_at', at, 'total', total, 'total_min', total_min, 'total_max', total_max,"
        f" 'risk', risk, 'parts', named_struct({parts}), 'inputs', array_compact(array({used}))"
    )
    found = f"CASE WHEN at IS NOT NULL THEN named_struct({row}) END AS score_{name}"
    return known.selectExpr(*(f"`{column}`" for column in minutes.columns), found)


def _points(definition: Definition) -> Iterator[tuple[str, str]]:
    own = {part.name for part in definition.parts}
    return ((name, f"parts.{name}" if name in own else "CAST(NULL AS INT)") for name in PARTS)


def _current(name: str) -> str:
    """The input's last value as an element of ``inputs``, NULL where there is none or it is stale at ``at``."""
    seconds = int(STALE_AFTER[name].total_seconds())
    fields = ", ".join(
        f"'{field}', {name}.{field}" for field in ("value", "value_code", "observed_at", "observation_id")
    )
    return (
        f"CASE WHEN {name}.observed_at >= at - INTERVAL {seconds} SECONDS"
        f" THEN named_struct('input', '{name}', {fields}) END"
    )


def _value(name: str) -> str:
    """The value as the score's own rules take it."""
    if name == "consciousness":
        return f"now_{name}.value_code"
    return f"(now_{name}.value = 1D)" if name == "on_oxygen" else f"now_{name}.value"
