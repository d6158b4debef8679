"""Observations to minute statistics per patient and signal.

Grain: one patient, LOINC code and minute. Missing data: a minute without a value has no row. Values entered in error
do not count; of a corrected value the newest version counts.
"""

from typing import TYPE_CHECKING

from lakehouse.transforms.observation import current_versions

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

KEY = ("patient_id", "code", "minute")
NEEDS = (
    "observation_id", "version", "patient_id", "code", "value", "unit", "status", "observed_at", "recorded_at", "topic",
    "partition", "offset",
)  # fmt: skip
"""Columns of silver.observation that the statistics are made of: reading no others is most of the speed."""

# One declaration for Spark, which writes gold, and for DuckDB, which derives it as it was known at some instant
# (lakehouse/known_at.py): SQL that both take. What DuckDB has not is taught to it by lakehouse/spark_functions.py.

COUNTS = "value IS NOT NULL AND status <> 'entered-in-error'"
"""Whether a current version counts."""

MINUTE = "date_trunc('minute', observed_at)"

PLACE = (
    "shiftleft(unix_micros(observed_at) - unix_micros(minute), 37)"
    " | (xxhash64(observation_id) & CAST(137438953471 AS BIGINT))"
)
"""A value's place in its minute as one number, which aggregates faster than a struct: microseconds, then 37 bits of
the observation's hash, so that of two values at one instant the same one is first in every run."""

_MEAN = (
    "coalesce(CASE WHEN max(abs(value)) < 1e9"
    " THEN CAST(try_sum(try_cast(floor(value * 1e6 + 0.5) AS BIGINT)) AS DOUBLE) / 1e6 / count(*) END, avg(value))"
)
"""The mean from millionths, which add up exactly: doubles added in another order give another last digit. No signal
with an upper bound comes near the fallback. A value of any size passes through without an error."""

STATISTICS = {
    "unit": "min(unit)",
    "count": "count(*)",
    "min": "min(value)",
    "mean": _MEAN,
    "max": "max(value)",
    "first": "min_by(value, place)",
    "last": "max_by(value, place)",
}
"""The statistics of a key's values, each value with its ``place``."""

MEAN_WITHIN = "least(greatest(mean, min), max)"
"""The mean of a row of statistics: a quotient of doubles may leave [min, max] by one unit in the last place."""


def vital_sign_minute(observations: "DataFrame") -> "DataFrame":
    """All versions of the observations of some whole minutes to gold.vital_sign_minute rows."""
    from pyspark.sql import functions as F  # noqa: N812

    current = current_versions(observations.select(*NEEDS))
    return (
        current.where(COUNTS)
        .withColumn("minute", F.expr(MINUTE))
        .withColumn("place", F.expr(PLACE))
        .groupBy(*KEY)
        .agg(*(F.expr(sql).alias(name) for name, sql in STATISTICS.items()))
        .withColumn("mean", F.expr(MEAN_WITHIN))
    )
