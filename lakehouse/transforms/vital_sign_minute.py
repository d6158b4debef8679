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


def vital_sign_minute(observations: "DataFrame") -> "DataFrame":
    """All versions of the observations of some whole minutes to gold.vital_sign_minute rows."""
    from pyspark.sql import functions as F  # noqa: N812

    current = current_versions(observations.where("value IS NOT NULL").select(*NEEDS))
    order = F.struct("observed_at", "observation_id")
    # Doubles added in another order give another last digit; decimals do not. A value too large for one (no signal that
    # has an upper bound) falls back to the plain mean.
    exact = F.expr("CAST(sum(try_cast(value AS DECIMAL(18,6))) AS DOUBLE) / count(*)")
    mean = F.when(F.max("value") < 1e12, exact).otherwise(F.avg("value"))
    return (
        current.where("status <> 'entered-in-error'")
        .withColumn("minute", F.date_trunc("minute", "observed_at"))
        .groupBy(*KEY)
        .agg(
            F.first("unit").alias("unit"),
            F.count("*").alias("count"),
            F.min("value").alias("min"),
            mean.alias("mean"),
            F.max("value").alias("max"),
            F.min_by("value", order).alias("first"),
            F.max_by("value", order).alias("last"),
        )
        # A quotient of doubles may leave [min, max] by one unit in the last place.
        .withColumn("mean", F.least(F.greatest("mean", "min"), "max"))
    )
