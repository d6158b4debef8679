"""Proof over a whole data dir: Kafka against bronze, bronze against silver, silver against gold, events against gold.

Only what the flows say they have committed is claimed: a batch that was under way when a process died runs again at
the next start, and is named in a remark until then.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lakehouse import delta, kafka_access, render
from lakehouse.checkpoint import KafkaOffsets, Position, position
from lakehouse.datadir import DataDir
from lakehouse.ledger import Check, Fault, Ledger, missing, repeated
from lakehouse.pipeline import ALERT_EVENT as ALERT_EVENT_FLOW
from lakehouse.pipeline import AUDIT_EVENT as AUDIT_EVENT_FLOW
from lakehouse.pipeline import DEVICE_MESSAGE as DEVICE_MESSAGE_FLOW
from lakehouse.pipeline import OBSERVATION as OBSERVATION_FLOW
from lakehouse.pipeline import WAVEFORM_CHUNK as WAVEFORM_CHUNK_FLOW
from lakehouse.pipeline import WAVEFORM_MESSAGE as WAVEFORM_MESSAGE_FLOW
from lakehouse.table import Table
from lakehouse.tables import (
    ALERT_EVENT,
    AUDIT_EVENT,
    DEAD_LETTER,
    DEVICE_MESSAGE,
    OBSERVATION,
    OBSERVATION_QUARANTINE,
    VITAL_SIGN_MINUTE,
    WAVEFORM_CHUNK,
    WAVEFORM_DEAD_LETTER,
    WAVEFORM_MESSAGE,
)
from lakehouse.topics import ALERT_EVALUATIONS, ALERTS, AUDIT, CLINICAL_RESOURCE, VITALS, WAVEFORM, Topic
from lakehouse.transforms import message, observation
from lakehouse.transforms.clinical_resource import TABLES as RESOURCE_TABLES
from lakehouse.transforms.clinical_resource import parse as parse_resources
from lakehouse.transforms.clinical_resource import resources as resources_of
from lakehouse.transforms.vital_sign_minute import vital_sign_minute
from streaming import alert_event, audit, audit_event, clinical_resource, kafka, query
from streaming.config import StreamConfig

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession

COORDINATES = ("topic", "partition", "offset")


@dataclass(frozen=True)
class Broker:
    """What the broker holds of our topics: first retained offset and the one after the last, by topic and partition."""

    first: KafkaOffsets
    end: KafkaOffsets


def broker_offsets(config: StreamConfig) -> Broker:
    """First and end offsets of the topics the ledger speaks of. Raises KafkaError where no broker answers."""
    from kafka import KafkaConsumer, TopicPartition

    topics = (VITALS, CLINICAL_RESOURCE, WAVEFORM, ALERT_EVALUATIONS, ALERTS, AUDIT)
    names = [config.topic(topic) for topic in topics]
    consumer = KafkaConsumer(**kafka_access.client(config.bootstrap), enable_auto_commit=False)
    try:
        places = [TopicPartition(name, p) for name in names for p in sorted(consumer.partitions_for_topic(name) or ())]
        first, end = consumer.beginning_offsets(places), consumer.end_offsets(places)
    finally:
        consumer.close()
    return Broker(
        *({name: {t.partition: at[t] for t in places if t.topic == name} for name in names} for at in (first, end))
    )


_TABLES = (
    *(VITAL_SIGN_MINUTE, ALERT_EVENT, AUDIT_EVENT, OBSERVATION, OBSERVATION_QUARANTINE, DEAD_LETTER, *RESOURCE_TABLES),
    # Last: on a running stack it then has all that the others were made of.
    DEVICE_MESSAGE,
)


def verify(spark: "SparkSession", config: StreamConfig, broker: Broker) -> Ledger:
    """Every check over the data dir. It reads tables and topics whole and changes neither."""
    data = config.data
    bronze_at = position(data.checkpoint(DEVICE_MESSAGE_FLOW))
    silver_at = position(data.checkpoint(OBSERVATION_FLOW))
    alerts_at = position(data.checkpoint(ALERT_EVENT_FLOW))
    audit_at = position(data.checkpoint(AUDIT_EVENT_FLOW))
    tables = {table.full_name: _read(spark, table, data) for table in _TABLES}
    bronze = tables[DEVICE_MESSAGE.full_name]
    checks = _landed(spark, config, broker, (VITALS, CLINICAL_RESOURCE), bronze, bronze_at)
    totals = {"bronze_rows": bronze.count()}
    silver_checks, silver_totals = _parsed(
        spark, config, tables, silver_at, _between(*_waiting(config, broker, bronze_at))
    )
    checks += silver_checks
    totals |= silver_totals
    if silver_at is None or not silver_at.in_flight:
        checks.append(_derived(tables))
    evaluated, evaluation_totals = _evaluated(spark, config, broker, bronze)
    checks += evaluated
    for kept, at in ((_ALERTS, alerts_at), (_AUDIT, audit_at)):
        checks += _kept_once(spark, config, broker, kept, tables[kept.table.full_name], at)
    waveform_checks, waveform_totals = _waveforms(spark, config, broker)
    checks += waveform_checks
    totals |= evaluation_totals | _event_totals(tables) | waveform_totals
    positions = {"device_message": bronze_at, "observation": silver_at, "alert_event": alerts_at}
    positions["audit_event"] = audit_at
    remarks = list(_remarks(broker, config, bronze, positions))
    if pending := evaluation_totals["evaluations_pending"]:
        remarks.append(f"{pending} messages wait to be evaluated: `ward stream alerts` does it")
    return Ledger(tuple(checks), totals, tuple(remarks))


def _read(spark: "SparkSession", table: Table, data: DataDir) -> "DataFrame":
    """A table; an empty one where no flow that writes it has ever run, as of a data dir that only has history."""
    from delta.tables import DeltaTable

    path = data.table(table)
    if not DeltaTable.isDeltaTable(spark, str(path)):
        return spark.createDataFrame([], render.schema(table.columns))
    return delta.read(spark, path)


def _landed(
    spark: "SparkSession",
    config: StreamConfig,
    broker: Broker,
    topics: tuple[Topic, ...],
    bronze: "DataFrame",
    at: Position | None,
    subject: str = "bronze",
) -> list[Check]:
    """Kafka against bronze, between the first retained offset and the one bronze has committed."""
    names = [config.topic(topic) for topic in topics]
    once = repeated(bronze, COORDINATES)
    checks = [Check(f"{subject}: one row a record", Fault.DUPLICATED, once, "topic, partition, offset")]
    committed = at.kafka() if at else {}
    until = {
        name: {p: max(o, broker.first[name].get(p, 0)) for p, o in committed.get(name, {}).items()} for name in names
    }
    until = {name: partitions for name, partitions in until.items() if partitions}
    if not until:
        return checks
    since = {name: {p: broker.first[name][p] for p in partitions} for name, partitions in until.items()}
    retained = records(spark, config.bootstrap, since, until).select(*COORDINATES)
    claimed = bronze.where(_between(since, until))
    return [
        *checks,
        Check(f"{subject}: every record that Kafka retains", Fault.LOST, missing(retained, bronze, COORDINATES), ""),
        Check(
            f"{subject}: no record that Kafka has not", Fault.UNEXPLAINED, missing(claimed, retained, COORDINATES), ""
        ),
    ]


def _waiting(config: StreamConfig, broker: Broker, at: Position | None) -> tuple[KafkaOffsets, KafkaOffsets]:
    """From where and up to where Kafka holds what bronze has not reached yet: it is neither landed nor lost."""
    committed = at.kafka() if at else {}
    until = {name: broker.end[name] for name in (config.topic(VITALS), config.topic(CLINICAL_RESOURCE))}
    since = {
        name: {p: max(committed.get(name, {}).get(p, 0), broker.first[name][p]) for p in ends}
        for name, ends in until.items()
    }
    return since, until


def _parsed(
    spark: "SparkSession",
    config: StreamConfig,
    tables: Mapping[str, "DataFrame"],
    at: Position | None,
    waiting: str = "false",
) -> tuple[list[Check], dict[str, int]]:
    """Bronze against silver, up to the bronze version silver has committed; parsed again by the same transforms.

    ``waiting`` is the condition on coordinates of what Kafka holds for bronze still.
    """
    messages, resources = clinical_resource.split(tables[DEVICE_MESSAGE.full_name], config)
    with query.held(parse_resources(resources)) as parsed:
        checks = _resources(tables, parsed, _done(spark, config, parsed, at))
        # Parsing is what this costs: once, and only what the checks need of it is kept.
        needed = (*COORDINATES, "received_at", "dead_letter_reason", "dead_letter_detail")
        values = observation.observations(message.parse(messages)).select(*OBSERVATION.key, *needed)
        dead = parsed.where("dead_letter_reason IS NOT NULL").select(*needed)
        with query.held(values.unionByName(dead, allowMissingColumns=True)) as everything:
            done = _done(spark, config, everything, at)
            found, totals = _compared(spark, config, tables, everything, done, waiting)
    return [*found, *checks], totals


def _resources(tables: Mapping[str, "DataFrame"], everything: "DataFrame", done: "DataFrame") -> list[Check]:
    """The same of resources: ``everything`` that bronze gives, and what of it silver has ``done``."""
    lost = duplicated = unexplained = 0
    for table in RESOURCE_TABLES:
        kept, key = tables[table.full_name], table.key
        lost += missing(resources_of(done, table).select(*key).distinct(), kept, key)
        duplicated += repeated(kept, key)
        unexplained += missing(kept, resources_of(everything, table), key)
    return [
        Check("silver: every resource is in its table", Fault.LOST, lost, "patients, encounters, others"),
        Check("silver: one row a version of a resource", Fault.DUPLICATED, duplicated, ""),
        Check("silver: no resource that bronze has not", Fault.UNEXPLAINED, unexplained, ""),
    ]


def _compared(
    spark: "SparkSession",
    config: StreamConfig,
    tables: Mapping[str, "DataFrame"],
    everything: "DataFrame",
    done: "DataFrame",
    waiting: str,
) -> tuple[list[Check], dict[str, int]]:
    """``everything`` that bronze gives, and what of it silver has ``done``, against silver's tables."""
    key = OBSERVATION.key
    rows = _values(done).select(*key)
    expected = rows.distinct().persist()
    dead = observation.dead_letters(done).select(*COORDINATES)
    good, bad, dead_letter = (tables[table.full_name] for table in (OBSERVATION, OBSERVATION_QUARANTINE, DEAD_LETTER))
    kept = good.select(*key).union(bad.select(*key))
    every_key = _values(everything).select(*key)
    checks = [
        Check(
            "silver: every parsed value is an observation or in quarantine",
            Fault.LOST,
            missing(expected, kept, key),
            "",
        ),
        Check(
            "silver: every record that cannot be parsed is a dead letter",
            Fault.LOST,
            missing(dead, dead_letter, COORDINATES),
            "",
        ),
        Check("silver: one row a version", Fault.DUPLICATED, repeated(good, key), "observation_id, version"),
        Check("silver: one quarantined row a version", Fault.DUPLICATED, repeated(bad, key), "observation_id, version"),
        Check("silver: one dead letter a record", Fault.DUPLICATED, repeated(dead_letter, COORDINATES), ""),
        Check("silver: nothing that bronze has not", Fault.UNEXPLAINED, missing(kept, every_key, key), ""),
        Check(
            "silver: no dead letter that bronze has not",
            Fault.UNEXPLAINED,
            missing(dead_letter, observation.dead_letters(everything), COORDINATES),
            "",
        ),
    ]
    parsed, distinct = rows.count(), expected.count()
    totals = {
        "observations": good.count(),
        "quarantined": bad.count(),
        "dead_letters": dead_letter.count(),
        "duplicates_removed": parsed - distinct,
    }
    sent = audit.truth(spark, config)
    if sent is not None:
        checks += audit.audit(sent.where(f"NOT ({waiting})"), tables[DEVICE_MESSAGE.full_name], done, tables)
    expected.unpersist()
    return checks, totals


def _done(
    spark: "SparkSession", config: StreamConfig, parsed: "DataFrame", at: Position | None, table: Table = DEVICE_MESSAGE
) -> "DataFrame":
    """Those of the parsed rows whose bronze version silver has committed."""
    version = at.delta_version() if at else None
    if version is None or version < 0:
        return parsed.limit(0)
    bronze = delta.read(spark, config.data.table(table), version)
    return parsed.join(bronze.select(*COORDINATES), list(COORDINATES), "left_semi")


def _values(rows: "DataFrame") -> "DataFrame":
    return rows.where("dead_letter_reason IS NULL")


def _derived(tables: Mapping[str, "DataFrame"]) -> Check:
    """Silver against gold: every minute derived anew and compared, row for row."""
    columns = [column.name for column in VITAL_SIGN_MINUTE.columns]
    fresh = vital_sign_minute(tables[OBSERVATION.full_name]).select(*columns)
    kept = tables[VITAL_SIGN_MINUTE.full_name].select(*columns)
    differing = fresh.exceptAll(kept).count() + kept.exceptAll(fresh).count()
    return Check("gold: every minute equals what silver gives", Fault.UNEXPLAINED, differing, "derived anew, both ways")


def _evaluated(
    spark: "SparkSession", config: StreamConfig, broker: Broker, bronze: "DataFrame"
) -> tuple[list[Check], dict[str, int]]:
    """Every parsed message has an evaluation, up to the last one that was evaluated.

    What came later waits for the alert flow and is counted as pending. Where retention has taken evaluations, only
    what follows the first retained one is claimed.
    """
    from pyspark.sql import functions as F  # noqa: N812

    name = config.topic(ALERT_EVALUATIONS)
    coordinates = F.from_json(F.col("value").cast("string"), "`partition` INT, `offset` BIGINT").alias("of")
    held = records(spark, config.bootstrap, {name: broker.first[name]}, {name: broker.end[name]})
    evaluations = held.select(coordinates).select("of.*").persist()
    once = evaluations.distinct()
    low = F.min("offset") if any(broker.first[name].values()) else F.lit(0)
    span = once.groupBy("partition").agg(low.alias("low"), F.max("offset").alias("high"))
    parsed = message.parse(bronze.where(F.col("topic") == config.topic(VITALS))).where("dead_letter_reason IS NULL")
    spanned = parsed.select("partition", "offset").join(F.broadcast(span), "partition", "left").persist()
    due = spanned.where("offset BETWEEN low AND high")
    lost = missing(due, once, ("partition", "offset"))
    totals = {
        "evaluations": once.count(),
        "evaluations_repeated": evaluations.count() - once.count(),
        "evaluations_pending": spanned.where("high IS NULL OR offset > high").count(),
    }
    spanned.unpersist()
    evaluations.unpersist()
    return [Check("alerts: every parsed message is evaluated", Fault.LOST, lost, "by partition and offset")], totals


@dataclass(frozen=True)
class _Kept:
    """A topic of which a table keeps each record once: how a row is made, and what a record is called."""

    topic: Topic
    table: Table
    build: Callable[["DataFrame"], "DataFrame"]
    subject: str
    record: str


_ALERTS = _Kept(ALERTS, ALERT_EVENT, alert_event.build, "alerts", "transition")
_AUDIT = _Kept(AUDIT, AUDIT_EVENT, audit_event.build, "audit", "record of the audit")


def _kept_once(
    spark: "SparkSession", config: StreamConfig, broker: Broker, kept: _Kept, landed: "DataFrame", at: Position | None
) -> list[Check]:
    """A topic against the table that keeps it, up to the offset its flow has committed."""
    name, key, word = config.topic(kept.topic), kept.table.key, kept.record
    twice = repeated(landed, key)
    checks = [Check(f"{kept.subject}: one row a {word}", Fault.DUPLICATED, twice, ", ".join(key))]
    committed = (at.kafka() if at else {}).get(name, {})
    until = {p: max(offset, broker.first[name][p]) for p, offset in committed.items()}
    if not until:
        return checks
    since = {p: broker.first[name][p] for p in until}
    events = kept.build(records(spark, config.bootstrap, {name: since}, {name: until}))
    sent = events.where(render.whole(kept.table)).select(*key).distinct()
    unreadable = events.where(f"NOT coalesce({render.whole(kept.table)}, false)").count()
    return [
        *checks,
        Check(f"{kept.subject}: every {word} is landed", Fault.LOST, missing(sent, landed, key), ""),
        Check(f"{kept.subject}: every record is a {word}", Fault.UNEXPLAINED, unreadable, "left in the topic"),
    ]


_SAID_OF_A_CHUNK = "patient_id STRING, device_id STRING, signal STRING, started_at STRING"


def _waveforms(spark: "SparkSession", config: StreamConfig, broker: Broker) -> tuple[list[Check], dict[str, int]]:
    """The topic of waveforms against bronze and silver; nothing where none was ever landed.

    Samples are not unpacked again: a record is there by its own coordinates, or, sent twice, by what it says of lead
    and instant.
    """
    from delta.tables import DeltaTable

    data = config.data
    if not DeltaTable.isDeltaTable(spark, str(data.table(WAVEFORM_CHUNK))):
        return [], {}
    chunks, dead = delta.read(spark, data.table(WAVEFORM_CHUNK)), delta.read(spark, data.table(WAVEFORM_DEAD_LETTER))
    bronze = delta.read(spark, data.table(WAVEFORM_MESSAGE))
    checks = _landed(
        spark, config, broker, (WAVEFORM,), bronze, position(data.checkpoint(WAVEFORM_MESSAGE_FLOW)), "waveforms"
    )
    said = bronze.selectExpr(*COORDINATES, f"from_json(CAST(value AS STRING), '{_SAID_OF_A_CHUNK}') AS said")
    named = said.selectExpr(
        *COORDINATES,
        *("said.patient_id", "said.device_id", "said.signal AS lead"),
        "try_cast(said.started_at AS TIMESTAMP) AS started_at",
    )
    done = _done(spark, config, named, position(data.checkpoint(WAVEFORM_CHUNK_FLOW)), WAVEFORM_MESSAGE)
    kept = chunks.select(*COORDINATES).union(dead.select(*COORDINATES))
    elsewhere = done.join(kept, [*COORDINATES], "left_anti")
    lost = missing(elsewhere, chunks, ("patient_id", "device_id", "lead", "started_at"))
    return [
        *checks,
        Check("waveforms: every record is a chunk or a dead letter", Fault.LOST, lost, ""),
        Check("waveforms: one row a chunk", Fault.DUPLICATED, repeated(chunks, WAVEFORM_CHUNK.key), ""),
        Check("waveforms: one dead letter a record", Fault.DUPLICATED, repeated(dead, COORDINATES), ""),
        Check("waveforms: nothing that bronze has not", Fault.UNEXPLAINED, missing(kept, bronze, COORDINATES), ""),
    ], {"waveform_chunks": chunks.count(), "waveform_dead_letters": dead.count()}


def _event_totals(tables: Mapping[str, "DataFrame"]) -> dict[str, int]:
    alerts = tables[ALERT_EVENT.full_name]
    return {
        "alert_events": alerts.count(),
        "alerts_opened": alerts.where("state = 'active'").select("alert_id").distinct().count(),
        "audit_events": tables[AUDIT_EVENT.full_name].count(),
    }


def records(spark: "SparkSession", bootstrap: str, since: KafkaOffsets, until: KafkaOffsets) -> "DataFrame":
    """The records of Kafka between two offsets of each partition, as a read_committed consumer sees them."""
    options = {
        **kafka.reaching(bootstrap),
        "assign": json.dumps({topic: sorted(partitions) for topic, partitions in until.items()}),
        "startingOffsets": kafka.starting(since),
        "endingOffsets": kafka.starting(until),
        "kafka.isolation.level": "read_committed",
        "failOnDataLoss": "false",
    }
    return kafka.as_records(spark.read.format("kafka").options(**options).load())


def _between(since: KafkaOffsets, until: KafkaOffsets) -> str:
    arms = [
        f"(topic = '{topic}' AND partition = {p} AND offset >= {since[topic][p]} AND offset < {offset})"
        for topic, partitions in until.items()
        for p, offset in partitions.items()
    ]
    return " OR ".join(arms)


def _remarks(
    broker: Broker, config: StreamConfig, bronze: "DataFrame", positions: Mapping[str, Position | None]
) -> tuple[str, ...]:
    remarks = [
        f"flow {name} has a batch under way: it runs again at the next start"
        for name, at in positions.items()
        if at and at.in_flight
    ]
    remarks += [f"flow {name} has committed nothing yet" for name, at in positions.items() if at is None]
    since, until = _waiting(config, broker, positions["device_message"])
    if waiting := sum(end - since[name][p] for name, ends in until.items() for p, end in ends.items()):
        remarks.append(f"{waiting} offsets of Kafka wait for bronze: `ward stream lakehouse` lands them")
    for topic in (config.topic(VITALS), config.topic(CLINICAL_RESOURCE)):
        for partition, first in broker.first[topic].items():
            if first:
                below = bronze.where(f"topic = '{topic}' AND partition = {partition} AND offset < {first}").count()
                if first > below:
                    gap = first - below
                    remarks.append(f"{topic}-{partition}: {gap} offsets that retention took are not in bronze: lost")
    return tuple(remarks)
