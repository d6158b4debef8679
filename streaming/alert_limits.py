"""The alert flow: every parsed message held against the rule pack, Kafka to Kafka, in milliseconds.

Stateless, and only functions that real-time mode runs: no shuffle, no Python, no explode. It shares parsing,
normalisation and constraints with silver, so that what silver quarantines can raise no alarm.
"""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING

from kafka.errors import KafkaError

from alerting import rules_in_force
from alerting.bands import bands_sql
from alerting.compacted import from_beginning, newest
from alerting.pack import Pack, PackError, load
from lakehouse import kafka_access, progress
from lakehouse.checkpoint import newest_whole
from lakehouse.cluster import executors, slots
from lakehouse.pipeline import Flow
from lakehouse.render import first_fault
from lakehouse.tables import OBSERVATION
from lakehouse.topics import ALERT_EVALUATIONS, ALERT_RULES, VITALS
from lakehouse.transforms.message import parse
from lakehouse.transforms.observation import repeats_sql, unit_sql, value_sql, values_in_message_sql
from streaming import kafka
from streaming.config import StreamConfig
from streaming.evaluated import DELIVERY_TIMEOUT_S, Evaluated

if TYPE_CHECKING:
    from pyspark.sql import DataFrame, SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

log = logging.getLogger(__name__)

FETCH_WAIT_MS = 100
LINGER_MS = 10
"""With both, an evaluation takes some tens of milliseconds instead of ten, and the flow a fraction of the processor."""
PROGRESS_S = 5.0
_LOOK_MS = 1_000
_EXECUTORS_LOOK_S = 0.5
_EARLIEST = -2
"""How Spark names the first offset of a partition."""


def _observations(pack: Pack) -> str:
    normalised = f"""transform(message.observations, o -> named_struct(
      'code', o.code, 'value', {value_sql("o.")}, 'value_code', o.value_code, 'unit', {unit_sql("o.")},
      'source_value', o.value, 'status', message.status, 'source', message.source,
      'observed_at', observed_instant, 'received_at', received_at,
      'values_in_message', {values_in_message_sql("message.observations", "o.", "repeats")}))"""
    checked = f"""transform({normalised}, o -> named_struct(
      'code', o.code, 'value', o.value, 'value_code', o.value_code,
      'fault', {first_fault(OBSERVATION.constraints, "o.")}))"""
    valid = f"""transform({checked}, o -> named_struct('code', o.code, 'fault', o.fault,
      'value', CASE WHEN o.fault IS NULL THEN o.value END,
      'value_code', CASE WHEN o.fault IS NULL THEN o.value_code END))"""
    banded = f"""transform({valid}, o -> named_struct('o', o,
      'b', {bands_sql(pack, code="o.code", value="o.value", location_unit="message.location.unit")}))"""
    return f"""transform({banded}, x -> named_struct('code', x.o.code, 'value', x.o.value, 'value_code', x.o.value_code,
      'band', x.b.band, 'rule', x.b.rule, 'limit', x.b.`limit`, 'fault', x.o.fault))"""


def build(records: "DataFrame", pack: Pack) -> "DataFrame":
    """Kafka records to evaluation records (key, value), one for each record that is a message."""
    from pyspark.sql import functions as F  # noqa: N812

    messages = parse(records).where("dead_letter_reason IS NULL")
    evaluated = messages.withColumn("repeats", F.expr(repeats_sql("message.observations"))).selectExpr(
        "partition", "offset", "received_at", "message", "observed_instant", f"{_observations(pack)} AS held"
    )
    quiet = (
        "forall(held, o -> o.band = 'normal' OR (o.value_code IS NOT NULL AND o.fault IS NULL))"
        " AND NOT coalesce(message.device_status.lead_off, false)"
    )
    fields = {
        "quiet": quiet,
        "schema_version": "1",
        "pack": f"'{pack.label}'",
        "message_id": "message.message_id",
        "partition": "partition",
        "offset": "offset",
        "received_at": "unix_millis(received_at)",
        "patient_id": "message.patient_id",
        "encounter_id": "message.encounter_id",
        "device_id": "message.device_id",
        "source": "message.source",
        "location_unit": "message.location.unit",
        "location_bed": "message.location.bed",
        "observed_at": "unix_millis(observed_instant)",
        "status": "message.status",
        "lead_off": "message.device_status.lead_off",
        "battery": "message.device_status.battery",
        "observations": "held",
    }
    body = ", ".join(f"'{name}', {sql}" for name, sql in fields.items())
    return evaluated.selectExpr("message.patient_id AS key", f"to_json(named_struct({body})) AS value")


def start(spark: "SparkSession", flow: Flow, config: StreamConfig) -> "StreamingQuery":
    """Start the flow: in real-time mode where the session has a task slot for each partition, else in micro-batches.

    Each start is a new generation of the checkpoint, behind what is evaluated already. When another pack is applied,
    the query stops, and its application starts it anew: a pack's limits are literals in its plan. So it does when the
    topic gets partitions: real-time mode would look for them when its batch ends, in an hour.
    """
    assert flow.trigger is not None  # noqa: S101 (declared in the pipeline)
    pack = in_force(config)
    partitions = resumption(flow, config)
    since = {config.topic(VITALS): partitions}
    log.info("alert flow: goes on at %s (-2: the first message there is)", kafka.starting(since))
    records = kafka.read(spark, config.bootstrap, [config.topic(VITALS)], fetch_wait_ms=FETCH_WAIT_MS, since=since)
    writer = kafka.write(
        build(records, pack),
        config.bootstrap,
        config.topic(ALERT_EVALUATIONS),
        linger_ms=LINGER_MS,
        delivery_timeout_s=DELIVERY_TIMEOUT_S,
    )
    writer = writer.queryName(flow.name).option("checkpointLocation", str(config.data.next_checkpoint(flow)))
    in_real_time = realtime(spark, config, len(partitions))
    if in_real_time:
        log.info("alert flow: real-time mode, checkpoint every %g s", flow.trigger.total_seconds())
        interval = f"{flow.trigger.total_seconds():g} seconds"
        query = writer.outputMode("update").trigger(realTime=interval).start()  # type: ignore[call-overload]
    else:
        log.warning("alert flow: micro-batches (real-time mode is off, or has fewer task slots than partitions)")
        # An offset log written beside the batch instead of before it: it halves the latency of a micro-batch.
        writer = writer.outputMode("append").option("asyncProgressTrackingEnabled", "true")
        query = writer.trigger(processingTime="0 seconds").start()
    log.info("alert flow: pack %s is in force", pack.label)
    Thread(target=tell, args=(query, flow, config, set(partitions)), name="alert-progress", daemon=True).start()
    Thread(target=stop_when_replaced, args=(query, pack, config), name="alert-pack", daemon=True).start()
    if config.cluster is not None:
        there, whole = partial(executors, spark), partial(realtime, spark, config, len(partitions))
        watched = (query, there, whole if not in_real_time else None)
        Thread(target=stop_when_moved, args=watched, name="alert-executors", daemon=True).start()
    return query  # type: ignore[no-any-return]


def in_force(config: StreamConfig) -> Pack:
    """The pack that was applied last, or the one that the application was started with.

    One that cannot be used leaves that one in force. Raises PackError where it cannot be used either.
    """
    for value in newest(config.bootstrap, config.topic(ALERT_RULES)).values():
        try:
            return rules_in_force.decode(value) or load(config.pack)
        except PackError as error:
            log.error("the pack that was applied cannot be used: %s", error)
    return load(config.pack)


def stop_when_replaced(query: "StreamingQuery", pack: Pack, config: StreamConfig) -> None:
    """Stop the query when another pack is applied."""
    from py4j.protocol import Py4JError

    try:
        while query.isActive:
            try:
                for applied in _applied(query, config):
                    if applied != pack:
                        log.info("alert flow: pack %s is applied: the flow starts anew", applied.label)
                        query.stop()
                        return
            except KafkaError as error:
                log.warning("alert flow: whether another pack is applied cannot be told: %s", error)
                time.sleep(PROGRESS_S)
    except (Py4JError, OSError) as error:
        log.info("the session ended, and with it the look-out for another pack: %s", error)


def _applied(query: "StreamingQuery", config: StreamConfig) -> Iterator[Pack]:
    """The pack in force after each record of ``alert.rules``, from the newest one on, as long as the query runs."""
    servers = {**kafka_access.client(config.bootstrap), "metrics_enabled": False}
    with closing(from_beginning(servers, config.topic(ALERT_RULES))) as consumer:
        while query.isActive:
            records = [one for some in consumer.poll(timeout_ms=_LOOK_MS).values() for one in some]
            if records:
                try:
                    yield rules_in_force.decode(records[-1].value) or load(config.pack)
                except PackError as error:
                    log.error("the pack that was applied cannot be used: %s", error)


def stop_when_moved(
    query: "StreamingQuery", executors: Callable[[], frozenset[str]], realtime: Callable[[], bool] | None
) -> None:
    """Stop the query when it had better start anew on a cluster that has changed.

    In real-time mode (``realtime`` None) when an executor is lost: Spark would give its tasks to others, which repeat
    everything since the batch began, up to an hour of messages, before they come to those of now. In micro-batches,
    when ``realtime`` mode has its slots again.
    """
    from py4j.protocol import Py4JError

    try:
        there = executors()
        while query.isActive:
            if realtime is None and (lost := there - executors()):
                log.warning("alert flow: lost executor %s: the flow starts anew", ", ".join(sorted(lost)))
                query.stop()
            elif realtime is not None and realtime():
                log.info("alert flow: there are task slots for real-time mode: the flow starts anew")
                query.stop()
            time.sleep(_EXECUTORS_LOOK_S)
    except (Py4JError, OSError) as error:
        log.info("the session ended, and with it the look-out for executors: %s", error)


def resumption(flow: Flow, config: StreamConfig) -> dict[int, int]:
    """Where the flow goes on, of each partition of ``vitals``: behind what is committed or delivered, else earliest."""
    commits = (newest_whole(path) for path in config.data.generations(flow))
    last = next((at for at in commits if at is not None), None)
    committed = last.kafka().get(config.topic(VITALS), {}) if last else {}
    with Evaluated(config) as evaluated:
        ends, delivered = evaluated.ends(), evaluated.delivered()
    done = {number: max(committed.get(number, 0), delivered.get(number, 0)) for number in ends}
    return {number: at if 0 < at <= ends[number] else _EARLIEST for number, at in done.items()}


def tell(query: "StreamingQuery", flow: Flow, config: StreamConfig, reads: set[int]) -> None:
    """Keep the flow's progress, as long as its query runs: a real-time batch itself says nothing before its end.

    The query is stopped when ``vitals`` has got partitions that are not among those it ``reads``.
    Records are evaluations; the lag counts what cannot be evaluated too, until something is evaluated after it.
    """
    from py4j.protocol import Py4JError

    try:
        while query.isActive:
            try:
                with Evaluated(config) as evaluated:
                    _tell(query, evaluated, config.data.progress(flow.name), reads)
            except KafkaError as error:
                log.warning("alert flow: how far it is cannot be told: %s", error)
                time.sleep(PROGRESS_S)
    except (Py4JError, OSError) as error:
        log.info("the session ended, and with it the alert flow's progress: %s", error)


def _tell(query: "StreamingQuery", evaluated: Evaluated, path: Path, reads: set[int]) -> None:
    before: tuple[float, int] | None = None
    while query.isActive:
        now, count, newest = time.monotonic(), evaluated.count(), evaluated.newest()
        lag = sum(end - newest.get(number, 0) for number, end in evaluated.ends().items())
        rate = (count - before[1]) / (now - before[0]) if before else None
        progress.append(path, {"at": datetime.now(UTC).isoformat(), "records": count, "rate": rate, "lag": lag})
        before = now, count
        if not evaluated.partitions() <= reads:
            log.info("alert flow: %s has got partitions: the flow starts anew", VITALS.name)
            query.stop()
            return
        time.sleep(PROGRESS_S)


def realtime(spark: "SparkSession", config: StreamConfig, partitions: int) -> bool:
    """Whether real-time mode is asked for and has a task slot for each partition of ``vitals``."""
    there = slots(spark, config.cluster) if config.cluster else spark.sparkContext.defaultParallelism
    return config.realtime and there >= partitions
