"""gold.early_warning_score derived by DuckDB: scores as they were known at an instant, from the observations of then.

What counts, when it is stale and what it scores is declared once, for Spark, which writes gold, and for this
(lakehouse/scores.py, lakehouse/transforms/early_warning_score.py); tests hold the answers of the two equal.
"""

from typing import TYPE_CHECKING, cast

from lakehouse.scores import PARTS, RESTATED_AFTER, SCORES, STALE_AFTER, Score, input_sql
from lakehouse.tables import EARLY_WARNING_SCORE
from lakehouse.transforms.early_warning_score import SAYS, Steps, current_value_sql, steps

if TYPE_CHECKING:
    import duckdb


def scores(observations: "duckdb.DuckDBPyRelation") -> "duckdb.DuckDBPyRelation":
    """The rows of gold.early_warning_score that current observations give, of which none was entered in error."""
    taken = " UNION ALL ".join(map(_taken, SCORES))
    named = ", ".join(column.name for column in EARLY_WARNING_SCORE.columns)
    said = " OR ".join(f"{name} IS DISTINCT FROM lag({name}) OVER before" for name in SAYS)
    older = f"observed_at > lag(observed_at) OVER before + INTERVAL {int(RESTATED_AFTER.total_seconds())} SECONDS"
    found = observations.query(
        "observation_known",
        f"WITH {_inputs()}, {_as_of()}, taken AS ({taken})"  # noqa: S608
        f" SELECT {named} FROM taken"
        " WINDOW before AS (PARTITION BY patient_id, score ORDER BY minute)"
        f" QUALIFY row_number() OVER before = 1 OR {older} OR {said}",
    )
    # DuckDB's stub allows for statements, which answer nothing.
    return cast("duckdb.DuckDBPyRelation", found)


def _inputs() -> str:
    """Of each patient, minute and input the last usable value, as gold.score_input has it."""
    name, number, code = input_sql("code", "value", "value_code")
    return (
        f"given AS (SELECT patient_id, {name} AS input, date_trunc('minute', observed_at) AS minute, observed_at,"  # noqa: S608
        f" observation_id, {number} AS value, {code} AS value_code FROM observation_known),"
        # Of two at one instant oxygen counts before air, then the order of identities: as lakehouse/transforms has it.
        " last_of_minute AS (SELECT patient_id, input, minute, max({'observed_at': observed_at,"
        " 'oxygen': CASE WHEN input = 'on_oxygen' THEN value ELSE 0 END, 'observation_id': observation_id,"
        " 'value': value, 'value_code': value_code}) AS last"
        " FROM given WHERE input IS NOT NULL AND (value IS NOT NULL OR value_code IS NOT NULL)"
        " GROUP BY patient_id, input, minute)"
    )


def _as_of() -> str:
    """A row a minute: of each input what arrived in it (``new_..``) and the last value up to it."""
    arrived = ", ".join(f"max(last) FILTER (input = '{name}') AS new_{name}" for name in STALE_AFTER)
    so_far = ", ".join(f"last_value(new_{name} IGNORE NULLS) OVER so_far AS {name}" for name in STALE_AFTER)
    return (
        f"arrived AS (SELECT patient_id, minute, {arrived} FROM last_of_minute GROUP BY patient_id, minute),"  # noqa: S608
        f" as_of AS (SELECT *, {so_far} FROM arrived WINDOW so_far AS (PARTITION BY patient_id ORDER BY minute))"
    )


def _taken(name: Score) -> str:
    """A row for each minute in which one of the score's inputs arrived."""
    definition = SCORES[name]
    instant = f"greatest({', '.join(f'new_{n}.observed_at' for n in definition.inputs)})"
    current = ", ".join(f"{_current(n)} AS current_{n}" for n in definition.inputs)
    made = steps(definition, {n: current_value_sql(n, f"current_{n}") for n in definition.inputs}, "score_")
    of_instant = f"SELECT *, {instant} AS observed_at FROM as_of WHERE {instant} IS NOT NULL"  # noqa: S608
    of_inputs = f"SELECT *, {current} FROM ({of_instant})"  # noqa: S608
    of_ranges = f"SELECT *, {', '.join(made.ranges)} FROM ({of_inputs})"  # noqa: S608
    of_sums = f"SELECT *, {', '.join(made.sums)} FROM ({of_ranges})"  # noqa: S608
    inputs = f"list_filter([{', '.join(f'current_{n}' for n in definition.inputs)}], lambda one: one IS NOT NULL)"
    return (
        f"SELECT patient_id, '{name}' AS score, minute, observed_at, {_found(made)}, {inputs} AS inputs"  # noqa: S608
        f" FROM ({of_sums})"
    )


def _current(name: str) -> str:
    """The input's last value as an element of ``inputs``, NULL where there is none or it is stale for the score."""
    fields = ", ".join(
        f"'{field}': {name}.{field}" for field in ("value", "value_code", "observed_at", "observation_id")
    )
    stale = f"INTERVAL {int(STALE_AFTER[name].total_seconds())} SECONDS"
    return f"CASE WHEN {name}.observed_at >= observed_at - {stale} THEN {{'input': '{name}', {fields}}} END"


def _found(made: Steps) -> str:
    totals = ", ".join(
        f"CAST({sql} AS {'VARCHAR' if name == 'risk' else 'INTEGER'}) AS {name}" for name, sql in made.found.items()
    )
    parts = ", ".join(f"'{name}': CAST({made.points.get(name, 'NULL')} AS INTEGER)" for name in PARTS)
    return f"{totals}, {{{parts}}} AS parts"
