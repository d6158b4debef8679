"""Silver to the scores of patients over time: first each minute's inputs, then what they change.

A batch touches inputs in minutes. gold.score_input gets the last usable value of each; then the scores of the patients
are derived anew from the first touched minute to where it cannot matter any more. What is written depends on the tables
and the batch alone, so that any order of late, corrected and withdrawn values ends in the same rows, and each write has
its own identity, so that a batch which runs again changes nothing.
"""

from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lakehouse import delta
from lakehouse.delta import Range, Write
from lakehouse.pipeline import Flow
from lakehouse.scores import RESTATED_AFTER
from lakehouse.tables import EARLY_WARNING_SCORE, OBSERVATION, SCORE_INPUT
from lakehouse.transforms import score_input
from lakehouse.transforms.early_warning_score import early_warning_score
from lakehouse.transforms.score_input import KEY, NEEDS, stale_seconds_sql
from streaming import query
from streaming.config import StreamConfig
from streaming.recent import Recent

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

MAX_MIB = 48
"""A batch's bound on silver bytes (compressed) for each heap: some 1,500,000 observations, four minutes at 1,000
messages/s."""

FEW_MINUTES = 60
"""Up to so many minutes are replaced as a whole, the rows of other patients among them: it costs the same however many
rows change. More of them are mended key by key. Either way gives the same rows."""

_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)
_AFTERMATH = RESTATED_AFTER + _MINUTE
"""For so long after a score that changed, the next one may be left out, or not, for another reason than before."""

_INPUT_COLUMNS = tuple(column.name for column in SCORE_INPUT.columns)
_SCORE_COLUMNS = tuple(column.name for column in EARLY_WARNING_SCORE.columns)
_IN_SPAN = "observed_at >= start AND observed_at < end + INTERVAL 60 SECONDS"


def start(spark: "SparkSession", flow: Flow, config: StreamConfig) -> "StreamingQuery":
    """Start the flow on silver as a stream."""
    observations = query.read_table(spark, OBSERVATION, flow, config, max_mib=MAX_MIB)
    writer = query.observed(observations).writeStream.foreachBatch(write_batch(flow, config))
    return query.start(writer, flow, config)


def write_batch(flow: Flow, config: StreamConfig) -> Callable[["DataFrame", int], None]:
    """The function that lands one batch of new rows of silver in the flow's two tables."""
    identities = query.identities(config.data, flow)
    recent = Recent(config.data.table(SCORE_INPUT))

    def write(observations: "DataFrame", batch_id: int) -> None:
        batch = observations.select(*NEEDS)
        minutes = _minutes(batch)
        if not minutes:
            return
        with ExitStack() as stack:
            hold = _holder(stack)
            kept = hold(_inputs_in(batch.sparkSession, minutes, config))
            changed = hold(_changed(batch, kept, minutes, config, hold))
            _land_inputs(changed, kept, minutes, config, identities("score_input", batch_id))
            _land_scores(changed, recent, config, identities("early_warning_score", batch_id), hold)

    return write


Hold = Callable[["DataFrame"], "DataFrame"]


def _holder(stack: ExitStack) -> Hold:
    """Work a frame out once and keep it until the batch ends."""
    return lambda rows: stack.enter_context(query.held(rows))


def _minutes(batch: "DataFrame") -> tuple[datetime, ...]:
    """The minutes in which a batch has values of signals that give an input, or gave one before they were corrected."""
    from pyspark.sql import functions as F  # noqa: N812

    minute = F.unix_seconds(F.date_trunc("minute", "observed_at")).alias("minute")
    return tuple(sorted(_instant(row["minute"]) for row in batch.select(minute).distinct().collect()))


def _changed(
    batch: "DataFrame", kept: "DataFrame", minutes: tuple[datetime, ...], config: StreamConfig, hold: Hold
) -> "DataFrame":
    """Each touched key of gold.score_input with its last usable value from now on, NULL where it has none left.

    Of an observation that silver has in one version only, nothing can be said but that it counts: the later of it and
    of what the table has is last. Minutes of a patient in which one has several versions are read anew from silver.
    """
    from pyspark.sql import functions as F  # noqa: N812

    silver = delta.read(batch.sparkSession, config.data.table(OBSERVATION)).where(
        delta.within("observed_at", minutes, _MINUTE)
    )
    hashed = F.xxhash64("observation_id").alias("hash")
    several = hold(silver.select(hashed).groupBy("hash").count().where("count > 1").select("hash"))
    if several.isEmpty():
        return score_input.later(kept, hold(score_input.last_of_minute(batch)))
    place = ["patient_id", "minute"]
    timed = batch.withColumn("minute", F.date_trunc("minute", "observed_at"))
    doubtful = (
        timed.withColumn("hash", hashed).join(F.broadcast(several), "hash", "left_semi").select(*place).distinct()
    )
    doubtful = F.broadcast(hold(doubtful))
    simple = score_input.last_of_minute(timed.join(doubtful, place, "left_anti"))
    again = silver.select(*NEEDS).withColumn("minute", F.date_trunc("minute", "observed_at"))
    again = score_input.of_all_versions(again.join(doubtful, place, "left_semi").select(*NEEDS))
    return score_input.later(kept.join(doubtful, place, "left_anti"), hold(simple.unionByName(again)))


def _inputs_in(spark: "SparkSession", minutes: tuple[datetime, ...], config: StreamConfig) -> "DataFrame":
    """What gold.score_input has of these minutes, and at times more."""
    rows = delta.read(spark, config.data.table(SCORE_INPUT)).where(delta.within("minute", minutes, _MINUTE))
    return rows.select(*_INPUT_COLUMNS)


def _land_inputs(
    changed: "DataFrame", kept: "DataFrame", minutes: tuple[datetime, ...], config: StreamConfig, write: Write
) -> None:
    """Put what changed into gold.score_input."""
    path = config.data.table(SCORE_INPUT)
    if len(minutes) > FEW_MINUTES:
        near = delta.within("t.minute", minutes, _MINUTE)
        gone = "s.observed_at IS NULL"
        delta.replace_keys(
            score_input.unpacked(changed), SCORE_INPUT, path, write, gone=gone, within=near, mostly_new=True
        )
        return
    others = kept.join(changed.select(*KEY), list(KEY), "left_anti")
    rows = score_input.unpacked(changed).where("observed_at IS NOT NULL").unionByName(others)
    delta.replace_where(_apart(rows), path, delta.within("minute", minutes, _MINUTE), write)


def _apart(rows: "DataFrame") -> "DataFrame":
    """What counts for long in files apart: they are few, and looking back far then reads no others."""
    brief = f"{stale_seconds_sql()} <= {int(6 * _HOUR.total_seconds())}"
    return rows.where(brief).coalesce(1).union(rows.where(f"NOT ({brief})").coalesce(1))


def _land_scores(changed: "DataFrame", recent: Recent, config: StreamConfig, write: Write, hold: Hold) -> None:
    """Derive the scores anew that these inputs may change, and put them in place of those there are."""
    from pyspark.sql import functions as F  # noqa: N812

    touched = hold(changed.groupBy("patient_id").agg(F.min("minute").alias("start"), F.max("minute").alias("newest")))
    if touched.isEmpty():
        return
    known = hold(recent.changed(changed))
    near = hold(recent.served(known, touched))
    given, spans, looked_up = _in_spans(known.select(*_INPUT_COLUMNS), near), near, None
    far = hold(changed.select(*KEY).join(F.broadcast(near), "patient_id", "left_anti"))
    if not far.isEmpty():
        looked_up = hold(_looked_up(far, config))
        spans = hold(near.unionByName(_spans(far, looked_up)))
        given = given.unionByName(_in_spans(looked_up, spans.join(F.broadcast(near), "patient_id", "left_anti")))
    derived = hold(early_warning_score(given).select(*_SCORE_COLUMNS))
    _replace_scores(derived, spans, config, write)
    recent.renew(known, touched, looked_up)


def _looked_up(keys: "DataFrame", config: StreamConfig) -> "DataFrame":
    """The rows of gold.score_input around these touched keys of it: all that they can matter together with."""
    from pyspark.sql import functions as F  # noqa: N812

    hours = keys.selectExpr("unix_seconds(date_trunc('HOUR', minute)) AS hour", f"{stale_seconds_sql()} AS stale")
    ranges = delta.merged(
        (_instant(row.hour) - RESTATED_AFTER, _instant(row.hour + row.stale) + _HOUR + 2 * _AFTERMATH)
        for row in hours.distinct().collect()
    )
    table = delta.read(keys.sparkSession, config.data.table(SCORE_INPUT)).select(*_INPUT_COLUMNS)
    patients = F.broadcast(keys.select("patient_id").distinct())
    return table.where(delta.between("stale_at", ranges, until="minute")).join(patients, "patient_id", "left_semi")


def _spans(keys: "DataFrame", inputs: "DataFrame") -> "DataFrame":
    """The spans of a patient's time (first and last minute) in which a change of these keys can matter.

    A value matters until the next one of its input: at that minute the score is what it was. Where none comes, it
    matters until it is stale, and the score after that may or may not be news.
    """
    from pyspark.sql import Window
    from pyspark.sql import functions as F  # noqa: N812

    one = Window.partitionBy("patient_id", "input").orderBy(F.unix_seconds("minute").desc())
    both = keys.selectExpr(*KEY, "CAST(NULL AS TIMESTAMP) AS here").unionByName(
        inputs.selectExpr(*KEY, "minute AS here")
    )
    # Looking back from the newest: a window that grows costs one step a row, one that shrinks starts anew each time.
    after = both.withColumn("next", F.min("here").over(one.rangeBetween(Window.unboundedPreceding, -1)))
    stale = f"timestamp_micros(unix_micros(minute) + ({stale_seconds_sql()} + 60) * 1000000L)"
    aftermath = f"INTERVAL {int(_AFTERMATH.total_seconds())} SECONDS"
    spans = after.where("here IS NULL").selectExpr(
        "patient_id", "minute AS start", f"CASE WHEN next <= {stale} THEN next ELSE {stale} + {aftermath} END AS end"
    )
    by_start = Window.partitionBy("patient_id").orderBy("start")
    so_far = by_start.rowsBetween(Window.unboundedPreceding, -1)
    apart = F.coalesce((F.col("start") > F.max("end").over(so_far)).cast("int"), F.lit(0))
    numbered = spans.withColumn("apart", apart).withColumn("nth", F.sum("apart").over(by_start))
    return (
        numbered.groupBy("patient_id", "nth").agg(F.min("start").alias("start"), F.max("end").alias("end")).drop("nth")
    )


def _in_spans(inputs: "DataFrame", spans: "DataFrame") -> "DataFrame":
    """The inputs of each span and those that are carried into it."""
    from pyspark.sql import functions as F  # noqa: N812

    restated = f"INTERVAL {int(RESTATED_AFTER.total_seconds())} SECONDS"
    return inputs.join(F.broadcast(spans), "patient_id").where(f"minute <= end AND stale_at >= start - {restated}")


def _replace_scores(derived: "DataFrame", spans: "DataFrame", config: StreamConfig, write: Write) -> None:
    """Put the derived rows in place of all rows of these spans."""
    from pyspark.sql import functions as F  # noqa: N812

    path, spark = config.data.table(EARLY_WARNING_SCORE), derived.sparkSession
    bounds = spans.selectExpr("unix_seconds(start) AS start", "unix_seconds(end) AS end").distinct().collect()
    ranges = delta.merged((_instant(row.start), _instant(row.end) + _MINUTE) for row in bounds)
    existing = delta.read(spark, path).where(delta.between("observed_at", ranges)).select(*_SCORE_COLUMNS)
    spans = F.broadcast(spans.withColumnRenamed("patient_id", "of"))
    within = F.expr(f"patient_id = of AND {_IN_SPAN}")
    if sum(_minutes_of(one) for one in ranges) <= FEW_MINUTES:
        others = existing.join(spans, within, "left_anti")
        rows = derived.unionByName(others).coalesce(1)
        delta.replace_where(rows, path, delta.between("observed_at", ranges), write)
        return
    key = list(EARLY_WARNING_SCORE.key)
    gone = existing.join(spans, within, "left_semi").select(*key).join(derived.select(*key), key, "left_anti")
    rows = derived.unionByName(gone, allowMissingColumns=True)
    near = delta.between("t.observed_at", ranges)
    delta.replace_keys(rows, EARLY_WARNING_SCORE, path, write, gone="s.total_min IS NULL", within=near, mostly_new=True)


def _minutes_of(span: Range) -> float:
    return (span[1] - span[0]) / _MINUTE


def _instant(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
