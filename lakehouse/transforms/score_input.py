"""Observations to the inputs of early-warning scores: of each patient, input and minute the last usable value.

Grain: one patient, input and minute. Missing data: a minute without a usable value of an input has no row. Values
entered in error do not count; of a corrected value the newest version counts. Which signal gives which input, and how
long it counts, stands in lakehouse/scores.py.
"""

from typing import TYPE_CHECKING

from lakehouse.scores import STALE_AFTER, input_sql
from lakehouse.transforms.observation import current_versions

if TYPE_CHECKING:
    from pyspark.sql import Column, DataFrame

KEY = ("patient_id", "input", "minute")
NEEDS = (
    "observation_id", "version", "patient_id", "code", "value", "value_code", "status", "observed_at", "recorded_at",
    "topic", "partition", "offset",
)  # fmt: skip
"""Columns of silver.observation that inputs are made of."""

_PLACE = "observed_at, IF(input = 'on_oxygen', value, 0D) AS oxygen, observation_id, value, value_code"
"""The order of an input's values in a minute: by instant, oxygen after air, then by identity, so that one value is last
in every run."""


def stale_seconds_sql() -> str:
    """Seconds for which the row's ``input`` counts."""
    arms = " ".join(f"WHEN '{name}' THEN {int(limit.total_seconds())}" for name, limit in STALE_AFTER.items())
    return f"CASE input {arms} END"


def last_of_minute(observations: "DataFrame") -> "DataFrame":
    """Each key that observations touch, with ``last``: its last usable value as a struct, NULL where it has none.

    Each observation stands in one version, or its older versions are marked by the column ``old``: they touch, and do
    not count.
    """
    name, number, code = input_sql("code", "value", "value_code")
    old = "NOT old AND" if "old" in observations.columns else ""
    taken = observations.selectExpr(
        "patient_id",
        f"{name} AS input",
        "date_trunc('MINUTE', observed_at) AS minute",
        "observed_at",
        "observation_id",
        f"{number} AS value",
        f"{code} AS value_code",
        f"{old} status <> 'entered-in-error' AS counts",
    ).where("input IS NOT NULL")
    usable = "counts AND (value IS NOT NULL OR value_code IS NOT NULL)"
    return taken.groupBy(*KEY).agg(_max(f"CASE WHEN {usable} THEN struct({_PLACE}) END"))


def of_all_versions(observations: "DataFrame") -> "DataFrame":
    """:func:`last_of_minute` of all versions of the observations of some patients' whole minutes."""
    current = current_versions(observations).selectExpr("*", "false AS old")
    return last_of_minute(current.unionByName(observations.selectExpr("*", "true AS old")))


def later(kept: "DataFrame", fresh: "DataFrame") -> "DataFrame":
    """The keys of ``fresh``, each with the later ``last`` of ``kept`` (rows of the table) and of its own."""
    both = packed(kept).join(fresh.select(*KEY), list(KEY), "left_semi").unionByName(fresh)
    return both.groupBy(*KEY).agg(_max("last"))


def packed(rows: "DataFrame") -> "DataFrame":
    """Rows of gold.score_input as keys with ``last``."""
    return rows.selectExpr(*KEY, f"struct({_PLACE}) AS last")


def unpacked(lasts: "DataFrame") -> "DataFrame":
    """Keys with ``last`` as rows of gold.score_input, in which all but the key is NULL where there is none."""
    from pyspark.sql import functions as F  # noqa: N812

    rows = lasts.select(*KEY, "last.*")
    stale = F.expr(f"timestamp_micros(unix_micros(observed_at) + {stale_seconds_sql()} * 1000000L)").alias("stale_at")
    return rows.select(*KEY, "observed_at", stale, "value", "value_code", "observation_id")


def _max(sql: str) -> "Column":
    from pyspark.sql import functions as F  # noqa: N812

    return F.max(F.expr(sql)).alias("last")
