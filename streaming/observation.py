"""Silver and gold: bronze records to observations, quarantine, dead letters, resources, and the minutes they touch.

One query, and one persisted batch for all tables of values: chained queries would triple lag and Delta's fixed cost.
Each write carries its own identity (flow, checkpoint generation, action; batch id), so that a batch which runs again
after a crash changes nothing.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TYPE_CHECKING

from lakehouse import delta, maintenance, progress
from lakehouse.delta import Write
from lakehouse.pipeline import Flow
from lakehouse.table import Table
from lakehouse.tables import DEAD_LETTER, DEVICE_MESSAGE, OBSERVATION, OBSERVATION_QUARANTINE, VITAL_SIGN_MINUTE
from lakehouse.transforms import message, observation
from lakehouse.transforms.vital_sign_minute import NEEDS, vital_sign_minute
from streaming import clinical_resource, query
from streaming.config import StreamConfig

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

MAX_MIB = 24
"""A batch's bound on bronze bytes (compressed): about 150,000 messages, which a 2 GiB heap takes with room."""

DENSE_ROWS = 1_000
"""A minute with so many of a batch's values is dense: its values are written apart from the stragglers, so that a file
spans few minutes and later batches leave it unread; and its statistics are replaced as a whole, which costs the same
however many keys it has, instead of key by key. Either way gives the same rows."""

MANY_MINUTES = 60
"""Stragglers of what is live touch a few minutes; more are history, of which gold has nothing as a rule."""

JOINED_EACH = 120
"""Batches, an hour of them while they keep up: then the minutes' files, two or so of each batch, are joined. Whoever
reads a patient's day would else open all of them until the night's maintenance."""

_MINUTE = timedelta(minutes=1)
_OUTCOMES = {"good": "observation", "bad": "quarantine", "dead": "dead_letter"}
_COORDINATES = ("topic", "partition", "offset")
_MINUTE_COLUMNS = tuple(column.name for column in VITAL_SIGN_MINUTE.columns)


@dataclass(frozen=True)
class Batch:
    """What a batch holds: ``dense`` and ``sparse`` are the minutes of its good values, ``bad`` of quarantined ones.

    ``dead`` are the minutes in which its dead letters were received: many of them were observed at no known time.
    """

    dead: tuple[datetime, ...]
    bad: tuple[datetime, ...]
    dense: tuple[datetime, ...]
    sparse: tuple[datetime, ...]
    parsed: Mapping[str, int]
    """How much there is of each outcome: values, or records for a dead letter."""


def build(records: "DataFrame") -> "DataFrame":
    """Bronze records to observations, each with the constraints it breaks, and dead letters."""
    return observation.observations(message.parse(records))


def start(spark: "SparkSession", flow: Flow, config: StreamConfig) -> "StreamingQuery":
    """Start the flow on bronze as a stream."""
    records = query.read_table(spark, DEVICE_MESSAGE, flow, config, max_mib=MAX_MIB)
    writer = query.observed(records).writeStream.foreachBatch(write_batch(flow, config))
    return query.start(writer, flow, config)


def write_batch(flow: Flow, config: StreamConfig) -> Callable[["DataFrame", int], None]:
    """The function that lands one batch of bronze records in the flow's tables."""
    identities, number = query.identities(config.data, flow), count(1)
    parsed: Counter[str] = Counter(dict.fromkeys(_OUTCOMES.values(), 0))

    def write(records: "DataFrame", batch_id: int) -> None:
        def identity(action: str) -> Write:
            return identities(action, batch_id)

        messages, resources = clinical_resource.split(records, config)
        clinical_resource.land(resources, config, identity)
        with query.held(build(messages)) as batch:
            parsed.update(_land(batch, config, identity).parsed)
        progress.append(config.data.progress(progress.PARSED), {"at": datetime.now(UTC).isoformat(), "parsed": parsed})
        if next(number) % JOINED_EACH == 0:
            maintenance.join(records.sparkSession, config.data.table(VITAL_SIGN_MINUTE))

    return write


def _land(rows: "DataFrame", config: StreamConfig, identity: Callable[[str], Write]) -> Batch:
    data, batch = config.data, _batch(rows)
    if batch.dead:
        # By key, as all else: a rewind reads what has landed again.
        near, path = delta.within("received_at", batch.dead, _MINUTE), data.table(DEAD_LETTER)
        dead, write = observation.dead_letters(rows), identity("dead_letter")
        delta.insert_missing(dead, DEAD_LETTER, path, write, first_by=("received_at",), within=near)
    if batch.bad:
        insert(observation.quarantined(rows), OBSERVATION_QUARANTINE, batch.bad, config, identity("quarantine"))
    good = observation.accepted(rows)
    if batch.dense or batch.sparse:
        insert(_apart(good, batch), OBSERVATION, (*batch.dense, *batch.sparse), config, identity("observation"))
    if batch.dense:
        replace_minutes(good.sparkSession, batch.dense, config, identity("minute/dense"))
    if batch.sparse:
        mend_minutes(_sparse(good, batch), batch.sparse, config, identity("minute/sparse"))
    return batch


def insert(
    values: "DataFrame", table: Table, minutes: tuple[datetime, ...], config: StreamConfig, write: Write
) -> None:
    """Add the values of these minutes that the table has not; of equal ones, the first that bronze has."""
    near = delta.within("observed_at", minutes, _MINUTE)
    delta.insert_missing(values, table, config.data.table(table), write, first_by=_COORDINATES, within=near)


def replace_minutes(spark: "SparkSession", minutes: tuple[datetime, ...], config: StreamConfig, write: Write) -> None:
    """Derive every statistic of these minutes anew, from all versions that silver has of their values."""
    silver = delta.read(spark, config.data.table(OBSERVATION))
    derived = vital_sign_minute(silver.where(delta.within("observed_at", minutes, _MINUTE)))
    place = delta.within("minute", minutes, _MINUTE)
    delta.replace_where(derived.select(*_MINUTE_COLUMNS), config.data.table(VITAL_SIGN_MINUTE), place, write)


def mend_minutes(values: "DataFrame", minutes: tuple[datetime, ...], config: StreamConfig, write: Write) -> None:
    """Derive the statistics anew that these values touch, key by key; one without a value left has no row.

    A corrected value may name another signal than before: what its other versions counted for is touched too.
    """
    from pyspark.sql import functions as F  # noqa: N812

    key = list(VITAL_SIGN_MINUTE.key)
    # Few patients have stragglers: their rows are all that is looked at after the one pass over these minutes.
    patients = F.broadcast(values.select("patient_id").distinct())
    near = (
        delta.read(values.sparkSession, config.data.table(OBSERVATION))
        .where(delta.within("observed_at", minutes, _MINUTE))
        .select(*NEEDS, F.date_trunc("minute", "observed_at").alias("minute"))
        .join(patients, "patient_id", "left_semi")
        .persist()
    )
    versions = near.join(F.broadcast(values.select("observation_id")), "observation_id", "left_semi")
    touched = versions.where("value IS NOT NULL").select(*key).distinct()
    derived = touched.join(vital_sign_minute(_of_keys(near, touched)), key, "left")
    derived = derived.select(*_MINUTE_COLUMNS).persist()
    try:
        delta.replace_keys(
            derived,
            VITAL_SIGN_MINUTE,
            config.data.table(VITAL_SIGN_MINUTE),
            write,
            gone="s.`count` IS NULL",
            within=delta.within("t.minute", minutes, _MINUTE),
            mostly_new=len(minutes) > MANY_MINUTES,
        )
    finally:
        derived.unpersist()
        near.unpersist()


def _of_keys(near: "DataFrame", touched: "DataFrame") -> "DataFrame":
    """Every version of the observations of which one counts, or counted, for a touched key."""
    from pyspark.sql import functions as F  # noqa: N812

    counted = near.join(F.broadcast(touched), list(VITAL_SIGN_MINUTE.key), "left_semi").select("observation_id")
    return near.join(F.broadcast(counted), "observation_id", "left_semi")


def _apart(good: "DataFrame", batch: Batch) -> "DataFrame":
    """The values of dense minutes and those of sparse ones, in files apart."""
    if not (batch.dense and batch.sparse):
        return good
    return good.where(_in(batch.dense)).union(_sparse(good, batch).coalesce(1))


def _sparse(good: "DataFrame", batch: Batch) -> "DataFrame":
    """The values of sparse minutes, which are those of no dense one: history has sparse minutes by the ten thousand."""
    return good.where(f"NOT ({_in(batch.dense)})") if batch.dense else good


def _batch(rows: "DataFrame") -> Batch:
    """What a batch holds, in the one pass that also parses it."""
    from pyspark.sql import functions as F  # noqa: N812

    kind = F.expr(
        "CASE WHEN dead_letter_reason IS NOT NULL THEN 'dead'"
        " WHEN size(failed_constraints) > 0 THEN 'bad' ELSE 'good' END"
    )
    instant = F.when(F.col("dead_letter_reason").isNotNull(), F.col("received_at")).otherwise(F.col("observed_at"))
    minute = F.unix_seconds(F.date_trunc("minute", instant))
    found = rows.groupBy(kind.alias("kind"), minute.alias("minute")).count().collect()

    def minutes(kind: str, dense: bool | None = None) -> tuple[datetime, ...]:
        of_kind = (row for row in found if row["kind"] == kind)
        wanted = (row for row in of_kind if dense is None or (row["count"] >= DENSE_ROWS) is dense)
        return tuple(sorted(datetime.fromtimestamp(row["minute"], UTC) for row in wanted))

    parsed: Counter[str] = Counter()
    for row in found:
        parsed[_OUTCOMES[row["kind"]]] += row["count"]
    return Batch(minutes("dead"), minutes("bad"), minutes("good", True), minutes("good", False), parsed)


def _in(minutes: tuple[datetime, ...]) -> str:
    """Exactly the values of these minutes."""
    starts = ", ".join(str(int(minute.timestamp())) for minute in minutes)
    return f"unix_seconds(date_trunc('minute', observed_at)) IN ({starts})"
