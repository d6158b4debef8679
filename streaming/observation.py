"""Silver and gold: bronze records to observations, quarantine, dead letters, and the minutes they touch.

One query and one persisted batch for all four tables: chained queries would triple the lag and Delta's fixed cost.
Each write carries its own identity (flow, checkpoint generation, action; batch id), so that a batch which runs again
after a crash changes nothing.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from lakehouse import delta
from lakehouse.delta import Write
from lakehouse.pipeline import Flow
from lakehouse.tables import DEAD_LETTER, DEVICE_MESSAGE, OBSERVATION, OBSERVATION_QUARANTINE, VITAL_SIGN_MINUTE
from lakehouse.topics import CLINICAL_RESOURCE
from lakehouse.transforms import message, observation
from lakehouse.transforms.vital_sign_minute import vital_sign_minute
from streaming import query
from streaming.config import StreamConfig

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

MAX_BYTES = "24m"
"""A batch's bound on bronze bytes (compressed): about 150,000 messages, which a 2 GiB heap takes with room."""

DENSE_KEYS = 500
"""A minute with this many touched (patient, code) keys is replaced as a whole; one with fewer is mended key by key.
Replacing costs the same however many keys it has; mending grows with them. Both give the same rows."""

_MINUTE = timedelta(minutes=1)
_HOUR = timedelta(hours=1)


@dataclass(frozen=True)
class Batch:
    """Which kinds of rows a batch holds, and the hours in which its observations were made."""

    good: bool
    bad: bool
    dead: bool
    hours: tuple[datetime, ...]


@dataclass(frozen=True)
class Minutes:
    """The minutes that a batch touches, by how their statistics are best derived anew."""

    dense: tuple[datetime, ...]
    sparse: tuple[datetime, ...]


def build(records: "DataFrame") -> "DataFrame":
    """Bronze records to observations, each with the constraints it breaks, and dead letters."""
    return observation.observations(message.parse(records))


def start(spark: "SparkSession", flow: Flow, config: StreamConfig) -> "StreamingQuery":
    """Start the flow on bronze as a stream."""
    records = (
        spark.readStream.format("delta")
        .option("maxBytesPerTrigger", MAX_BYTES)
        # Retention deletes from bronze what is old; that is no news for silver.
        .option("skipChangeCommits", "true")
        .load(str(config.data.table(DEVICE_MESSAGE)))
    )
    writer = query.observed(records).writeStream.foreachBatch(write_batch(flow, config))
    return query.start(writer, flow, config)


def write_batch(flow: Flow, config: StreamConfig) -> Callable[["DataFrame", int], None]:
    """The function that lands one batch of bronze records in the flow's four tables."""
    identities = query.identities(config.data, flow)

    def write(records: "DataFrame", batch_id: int) -> None:
        def identity(action: str) -> Write:
            return identities(action, batch_id)

        # Backfilled files are topics of their own and hold the same messages.
        rows = build(records.where(records.topic != config.topic(CLINICAL_RESOURCE))).persist()
        try:
            _land(rows, config, identity)
        finally:
            rows.unpersist()

    return write


def _land(rows: "DataFrame", config: StreamConfig, identity: Callable[[str], Write]) -> None:
    data, batch = config.data, _batch(rows)
    if batch.dead:
        delta.append(observation.dead_letters(rows), data.table(DEAD_LETTER), identity("dead_letter"))
    near = delta.within("t.observed_at", batch.hours, _HOUR)
    if batch.bad:
        bad, path = observation.once(observation.quarantined(rows)), data.table(OBSERVATION_QUARANTINE)
        delta.insert_missing(bad, OBSERVATION_QUARANTINE, path, identity("quarantine"), near)
    if batch.good:
        good = observation.accepted(rows)
        delta.insert_missing(
            observation.once(good), OBSERVATION, data.table(OBSERVATION), identity("observation"), near
        )
        derive_minutes(good, config, identity)


def derive_minutes(observations: "DataFrame", config: StreamConfig, identity: Callable[[str], Write]) -> None:
    """Derive anew exactly the minutes that these observations touch, from all versions that silver has of them."""
    from pyspark.sql import functions as F  # noqa: N812

    keys = observations.where("value IS NOT NULL").select(
        "patient_id", "code", F.date_trunc("minute", "observed_at").alias("minute")
    )
    touched = keys.distinct().persist()
    try:
        minutes = _minutes(touched)
        path = config.data.table(VITAL_SIGN_MINUTE)
        silver = delta.read(observations.sparkSession, config.data.table(OBSERVATION))
        columns = [column.name for column in VITAL_SIGN_MINUTE.columns]
        if minutes.dense:
            whole = vital_sign_minute(silver.where(delta.within("observed_at", minutes.dense, _MINUTE)))
            place = delta.within("minute", minutes.dense, _MINUTE)
            delta.replace_where(whole.select(*columns), path, place, identity("minute/dense"))
        if minutes.sparse:
            late = touched.where(F.col("minute").isin(list(minutes.sparse)))
            of_minutes = silver.where(delta.within("observed_at", minutes.sparse, _MINUTE)).withColumn(
                "minute", F.date_trunc("minute", "observed_at")
            )
            of_keys = of_minutes.join(F.broadcast(late), ["patient_id", "code", "minute"], "left_semi")
            derived = late.join(vital_sign_minute(of_keys), ["patient_id", "code", "minute"], "left")
            near = delta.within("t.minute", minutes.sparse, _MINUTE)
            delta.replace_keys(
                derived.select(*columns),
                VITAL_SIGN_MINUTE,
                path,
                identity("minute/sparse"),
                gone="s.`count` IS NULL",
                within=near,
            )
    finally:
        touched.unpersist()


def _batch(rows: "DataFrame") -> Batch:
    """What a batch holds, in the one pass that also parses it."""
    from pyspark.sql import functions as F  # noqa: N812

    kind = F.expr(
        "CASE WHEN dead_letter_reason IS NOT NULL THEN 'dead'"
        " WHEN size(failed_constraints) > 0 THEN 'bad' ELSE 'good' END"
    )
    hour = F.unix_seconds(F.date_trunc("hour", "observed_at"))
    found = rows.groupBy(kind.alias("kind"), hour.alias("hour")).count().collect()
    kinds = {row["kind"] for row in found}
    hours = {row["hour"] for row in found if row["kind"] != "dead"}
    return Batch("good" in kinds, "bad" in kinds, "dead" in kinds, tuple(_utc(hour) for hour in sorted(hours)))


def _minutes(touched: "DataFrame") -> Minutes:
    from pyspark.sql import functions as F  # noqa: N812

    counts = touched.groupBy(F.unix_seconds("minute").alias("at")).count().collect()
    return Minutes(
        dense=tuple(sorted(_utc(row["at"]) for row in counts if row["count"] >= DENSE_KEYS)),
        sparse=tuple(sorted(_utc(row["at"]) for row in counts if row["count"] < DENSE_KEYS)),
    )


def _utc(seconds: int) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
