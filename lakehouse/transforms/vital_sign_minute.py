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

_PLACE = (
    "shiftleft(unix_micros(observed_at) - unix_micros(minute), 37)"
    " | (xxhash64(observation_id) & CAST(137438953471 AS BIGINT))"
)
"""A value's place in its minute as one number, which aggregates faster than a struct: microseconds, then 37 bits of
the observation's hash, so that of two values at one instant the same one is first in every run."""

_MEAN = (
    "coalesce(CASE WHEN max(abs(value)) < 1e9"
    " THEN CAST(try_sum(floor(value * 1e6 + 0.5)) AS DOUBLE) / 1e6 / count(*) END, avg(value))"
)
"""The mean from millionths, which add up exactly: doubles added in another order give another last digit. No signal
with an upper bound comes near the fallback. A value of any size passes through floor and try_sum without an error."""


def vital_sign_minute(observations: "DataFrame") -> "DataFrame":
    """All versions of the observations of some whole minutes to gold.vital_sign_minute rows."""
    from pyspark.sql import functions as F  # noqa: N812

    current = current_versions(observations.select(*NEEDS))
    return (
        current.where("value IS NOT NULL AND status <> 'entered-in-error'")
        .withColumn("minute", F.date_trunc("minute", "observed_at"))
        .withColumn("place", F.expr(_PLACE))
        .groupBy(*KEY)
        .agg(
            F.min("unit").alias("unit"),
            F.count("*").alias("count"),
            F.min("value").alias("min"),
            F.expr(_MEAN).alias("mean"),
            F.max("value").alias("max"),
            F.min_by("value", "place").alias("first"),
            F.max_by("value", "place").alias("last"),
        )
        # A quotient of doubles may leave [min, max] by one unit in the last place.
        .withColumn("mean", F.least(F.greatest("mean", "min"), "max"))
    )
