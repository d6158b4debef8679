"""The latest inputs of each patient, kept in memory between batches: what most batches need of gold.score_input.

It holds copies of rows of the table and never anything else: what it cannot serve is read from there, and a process
begins with none. Reading back hours of every patient's minutes for each batch would cost more than all else in it.
"""

from datetime import timedelta
from typing import TYPE_CHECKING

from lakehouse import delta
from lakehouse.scores import RESTATED_AFTER
from lakehouse.tables import SCORE_INPUT
from lakehouse.transforms import score_input
from lakehouse.transforms.score_input import KEY
from streaming import query

if TYPE_CHECKING:
    from pyspark.sql import DataFrame

    from lakehouse.storage import Place

DEPTH = 16
"""Minutes of one input that are kept: a value may be a quarter of an hour late before the table is read for it."""

UNSEEN = 288
"""Batches after which a patient of whom nothing came is forgotten: a day, at one each five minutes."""

CURRENT = timedelta(hours=1)
"""A patient is taken up whose values are so near to the newest of the batch; others are history that comes in."""

_COLUMNS = tuple(column.name for column in SCORE_INPUT.columns)


class Recent:
    """Rows of gold.score_input by patient.

    Beside them stand ``since``, the first minute from which on a patient's scores can be derived from what is here, and
    ``unseen``, the batches that went by without the patient. Of each patient every row is here that is newer than
    ``since``, and of each input the last one before.
    """

    def __init__(self, path: "Place") -> None:
        self._path = path
        self._kept: DataFrame | None = None

    def changed(self, changed: "DataFrame") -> "DataFrame":
        """The rows and ``since`` of the touched patients, as they are after the change of these keys.

        A patient of whom a value is withdrawn is not among them: the one before it may have been left behind.
        """
        from pyspark.sql import functions as F  # noqa: N812

        rows = score_input.unpacked(changed)
        if self._kept is None:
            return rows.where("false").selectExpr(*_COLUMNS, "CAST(NULL AS TIMESTAMP) AS since")
        touched = changed.groupBy("patient_id").agg(F.expr("bool_or(last IS NULL)").alias("gone")).where("NOT gone")
        known = self._kept.join(F.broadcast(touched.select("patient_id")), "patient_id", "left_semi")
        since = known.groupBy("patient_id").agg(F.max("since").alias("since"))
        same = known.select(*_COLUMNS).join(changed.select(*KEY), list(KEY), "left_anti")
        return same.unionByName(rows.where("observed_at IS NOT NULL")).join(F.broadcast(since), "patient_id")

    def served(self, known: "DataFrame", touched: "DataFrame") -> "DataFrame":
        """The spans (``start`` to ``end``) of the touched patients whose scores can be derived from these rows."""
        from pyspark.sql import functions as F  # noqa: N812

        ends = known.groupBy("patient_id").agg(F.max("since").alias("since"), F.max("minute").alias("last"))
        able = touched.join(F.broadcast(ends), "patient_id").where("since IS NULL OR start >= since")
        return able.selectExpr("patient_id", "start", "greatest(newest, last) AS end")

    def renew(self, known: "DataFrame", touched: "DataFrame", looked_up: "DataFrame | None") -> None:
        """Keep what is known after a batch, and take up current patients from what it looked up in the table."""
        from pyspark.sql import functions as F  # noqa: N812

        rows = known if looked_up is None else known.unionByName(self._taken_up(known, touched, looked_up))
        rows = rows.selectExpr("*", "0 AS unseen")
        if self._kept is not None:
            others = self._kept.where(f"unseen < {UNSEEN}").withColumn("unseen", F.expr("unseen + 1"))
            rows = rows.unionByName(others.join(F.broadcast(touched), "patient_id", "left_anti"))
        kept, self._kept = self._kept, query.keep(_newest(rows))
        if kept is not None:
            query.release(kept)

    def _taken_up(self, known: "DataFrame", touched: "DataFrame", looked_up: "DataFrame") -> "DataFrame":
        """The looked-up rows of patients who are not known, where these are all rows that count from ``start`` on."""
        from pyspark.sql import functions as F  # noqa: N812

        (newest,) = touched.agg(F.max("newest")).collect()[0]
        patients = touched.where(F.col("start") >= F.lit(newest - CURRENT)).select("patient_id", "start")
        patients = patients.join(F.broadcast(known.select("patient_id").distinct()), "patient_id", "left_anti")
        # What is looked up reaches further than this beyond a value: at least the shortest staleness limit on top.
        table = delta.read(touched.sparkSession, self._path).where(F.col("minute") > F.lit(newest + RESTATED_AFTER))
        later = table.join(F.broadcast(patients), "patient_id", "left_semi").select("patient_id").distinct()
        patients = patients.join(F.broadcast(later), "patient_id", "left_anti").withColumnRenamed("start", "since")
        return looked_up.join(F.broadcast(patients), "patient_id").select(*_COLUMNS, "since")


def _newest(rows: "DataFrame") -> "DataFrame":
    """The newest ``DEPTH`` rows of each input; ``since`` moves on where more are left behind."""
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    by_input = Window.partitionBy("patient_id", "input").orderBy(F.col("minute").desc())
    numbered = rows.withColumn("nth", F.row_number().over(by_input)).withColumn("newer", F.lag("minute").over(by_input))
    # The oldest row that stays is the last before ``since``.
    left = F.expr(f"CASE WHEN nth = {DEPTH + 1} THEN newer + INTERVAL 60 SECONDS END")
    since = F.max(F.greatest("since", left)).over(Window.partitionBy("patient_id"))
    return numbered.withColumn("since", since).where(f"nth <= {DEPTH}").drop("nth", "newer")
