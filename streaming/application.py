"""One Spark application: the declared flows of ``alerts`` or ``lakehouse``, started, watched, restarted and stopped."""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from importlib import import_module
from threading import Event
from typing import TYPE_CHECKING

from kafka.errors import KafkaError

from alerting.compacted import TopicError
from lakehouse import delta
from lakehouse.pipeline import Flow
from lakehouse.session import build_session
from lakehouse.tables import TABLES
from streaming.config import StreamConfig
from streaming.query import progress_listener

if TYPE_CHECKING:
    from pyspark.sql import SparkSession
    from pyspark.sql.streaming.query import StreamingQuery

log = logging.getLogger(__name__)

JAVA_OPTIONS = "-XX:+UseParallelGC -XX:ParallelGCThreads=2"
"""Young collections of a few milliseconds and no concurrent threads that would take cores from the tasks."""
MAX_RESTARTS = 5
"""Restarts of one flow within ``RESTART_WINDOW_S`` before the application gives up and leaves it to its supervisor."""
RESTART_WINDOW_S = 600.0
STOP_WAIT_S = 30.0
"""How long a stop waits for a running batch. Stopping inside one loses nothing either; it only repeats work."""


class StreamError(RuntimeError):
    """A flow failed more often than it may be restarted; the text names the flow and its last error."""


@dataclass
class Running:
    """A started flow and when it was restarted."""

    flow: Flow
    query: "StreamingQuery"
    restarts: list[float] = field(default_factory=list)


def run(name: str, flows: tuple[Flow, ...], config: StreamConfig, stop: Event, on_ready: Callable[[], None]) -> None:
    """Run these flows in one JVM until ``stop`` is set. Raises StreamError when a flow keeps failing."""
    spark = build_session(
        f"wardhouse-{name}", config.jars, cores=config.cores, memory=config.memory, java_options=JAVA_OPTIONS
    )
    try:
        spark.streams.addListener(progress_listener(config.data))
        create_tables(spark, flows, config)
        running = [Running(flow, start(spark, flow, config)) for flow in flows]
        log.info("running: %s", ", ".join(flow.name for flow in flows))
        on_ready()
        while not stop.wait(1.0):
            for item in running:
                revive(spark, item, config, time.monotonic())
        finish([item.query for item in running])
    finally:
        spark.stop()


def create_tables(spark: "SparkSession", flows: tuple[Flow, ...], config: StreamConfig) -> None:
    """Create the tables that these flows read or write, where they do not exist yet."""
    wanted = {name for flow in flows for name in (*flow.reads, *flow.writes, *flow.adds_to)}
    for table in TABLES:
        if table.full_name in wanted:
            delta.create(spark, table, config.data.table(table))


def start(spark: "SparkSession", flow: Flow, config: StreamConfig) -> "StreamingQuery":
    """Start one flow by the import path of its declaration."""
    module, _, function = flow.build.partition(":")
    query: StreamingQuery = getattr(import_module(module), function)(spark, flow, config)
    return query


def revive(spark: "SparkSession", item: Running, config: StreamConfig, now: float) -> None:
    """Start a flow again that has failed, unless it has done so too often, or one that stopped to be started anew."""
    if item.query.isActive:
        return
    failure = item.query.exception()
    if failure is not None:
        _count(item, str(failure).strip().splitlines()[0], now)
    try:
        item.query = start(spark, item.flow, config)
    except (KafkaError, TopicError) as unreachable:
        # The query that stopped stands for the one that could not start: the next look tries again.
        log.error("flow %s cannot start: %s", item.flow.name, unreachable)


def _count(item: Running, error: str, now: float) -> None:
    item.restarts = [at for at in item.restarts if now - at < RESTART_WINDOW_S] + [now]
    if len(item.restarts) > MAX_RESTARTS:
        raise StreamError(f"flow {item.flow.name} failed {len(item.restarts)} times in ten minutes, last: {error}")
    log.error("flow %s failed and starts again: %s", item.flow.name, error)


def finish(queries: list["StreamingQuery"]) -> None:
    """Stop the queries, each after the batch it is in, where that ends in time."""
    limit = time.monotonic() + STOP_WAIT_S
    for query in queries:
        # A real-time batch lasts as long as its trigger: it repeats from its last boundary, so nothing is waited for.
        while is_micro_batch(query) and query.status["isTriggerActive"] and time.monotonic() < limit:
            time.sleep(0.1)
        query.stop()


def is_micro_batch(query: "StreamingQuery") -> bool:
    """Whether the query's batches end by themselves soon."""
    return query.name != "alert_limits"
