"""One Spark application: its declared flows, started, watched, restarted and stopped.

While a pause is asked for (lakehouse/pause.py) the flows that write tables end, each when its batch does, and the
process stays; at the end of the pause they start anew, from their newest generations. The alert flow is never paused.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import import_module
from threading import Event
from typing import TYPE_CHECKING

from kafka.errors import KafkaError

from alerting.compacted import TopicError
from lakehouse import delta, delta_log, lineage, pause
from lakehouse.checkpoint import clear_unfinished, position, require_whole
from lakehouse.cluster import ONE_TASK, Absence, ClusterError, executors, require, too_few
from lakehouse.pipeline import ALERT_LIMITS, FLOWS, Flow
from lakehouse.session import build_session
from lakehouse.tables import TABLES
from lakehouse.topics import VITALS
from streaming.config import StreamConfig
from streaming.evaluated import Evaluated
from streaming.lineage import FlowRuns
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
PAUSED_APPLICATIONS = frozenset({"lakehouse", "waveform"})
"""Those whose flows a pause ends: what writes tables. Alerts go on."""
STOP_WAIT_S = 30.0
"""How long a stop waits for a running batch. Stopping inside one loses nothing either; it only repeats work."""


class StreamError(RuntimeError):
    """A flow failed more often than it may be restarted; the text names the flow and its last error."""


@dataclass
class Running:
    """A started flow, when it was restarted, and the last batch it had ended when a pause was asked for."""

    flow: Flow
    query: "StreamingQuery"
    restarts: list[float] = field(default_factory=list)
    batch_at_pause: int | None = None


def run(
    name: str,
    flows: tuple[Flow, ...],
    config: StreamConfig,
    stop: Event,
    on_ready: Callable[[], None],
    on_pause: Callable[[bool], None] = lambda _: None,
) -> None:
    """Run these flows in one JVM until ``stop`` is set. Raises StreamError when a flow keeps failing.

    Raises ClusterError where a cluster is asked for that cannot run them, KafkaError where no broker answers then,
    LineageError where lineage cannot be sent as asked.
    ``on_pause`` is told when a pause has become effective, and when it is over.
    """
    least, why = least_slots(flows, config)
    if config.cluster is not None and config.cluster.slots < least:
        # Before the seconds that a session takes to start.
        raise ClusterError(too_few(config.cluster, config.cluster.slots, least, why))
    runs = FlowRuns(lineage.sender(), config, lambda: datetime.now(UTC))
    # A real-time task that fails is not tried again, which would repeat what its batch has read: the flow starts anew.
    spark = build_session(
        f"wardhouse-{name}",
        config.jars,
        cores=config.cores,
        memory=config.memory,
        java_options=JAVA_OPTIONS,
        conf={"spark.task.maxFailures": "1"} if ALERT_LIMITS in flows else {},
        cluster=config.cluster,
        lake=None if flows == (ALERT_LIMITS,) else config.data.lake,
    )
    try:
        if config.cluster is not None:
            require(spark, config.cluster, config.data, least, why)
        spark.streams.addListener(progress_listener(config.data))
        create_tables(spark, flows, config)
        application = Application(spark, flows, config, on_pause, runs)
        application.tend(time.monotonic())
        on_ready()
        absence = Absence(config.cluster) if config.cluster else None
        while not stop.wait(1.0):
            application.tend(time.monotonic())
            if absence and (lacks := absence.look(len(executors(spark)), time.monotonic())):
                log.error("tasks wait: %s", lacks)
        finish(application.queries())
        runs.close()
    finally:
        spark.stop()


def least_slots(flows: tuple[Flow, ...], config: StreamConfig) -> tuple[int, str]:
    """Task slots without which these flows would wait for good, and why. Raises KafkaError.

    The alert flow is one stage, without a shuffle: partitions are all that it holds slots for.
    """
    if config.cluster is None or not config.realtime or ALERT_LIMITS not in flows:
        return 1, ONE_TASK
    with Evaluated(config) as evaluated:
        partitions = len(evaluated.partitions())
    others = int(len(flows) > 1)
    why = f"real-time mode holds one for each of the {partitions} partitions of {config.topic(VITALS)}"
    return partitions + others, why + (", and the lakehouse takes one more" if others else "")


class Application:
    """The flows of one session, and which of them run."""

    def __init__(
        self,
        spark: "SparkSession",
        flows: tuple[Flow, ...],
        config: StreamConfig,
        on_pause: Callable[[bool], None],
        runs: FlowRuns,
    ) -> None:
        self._spark, self._flows, self._config, self._on_pause = spark, flows, config, on_pause
        self._runs = runs
        self._running: dict[str, Running] = {}
        self._paused = False

    def tend(self, now: float) -> None:
        """Look after every flow once: start it, start it anew where it failed, or let it end for a pause."""
        wanted = pause.asked(self._config.data)
        for flow in self._flows:
            item = self._running.get(flow.name)
            if wanted and flow.application in PAUSED_APPLICATIONS:
                if item is None or ended(item, self._config):
                    self._running.pop(flow.name, None)
            elif item is None:
                self._running[flow.name] = Running(flow, start(self._spark, flow, self._config))
            else:
                item.batch_at_pause = None
                revive(self._spark, item, self._config, now)
        self._runs.look({item.flow: item.query for item in self._running.values()})
        self._tell(wanted)

    def queries(self) -> list["StreamingQuery"]:
        """Those that run."""
        return [item.query for item in self._running.values()]

    def _tell(self, wanted: pause.Pause | None) -> None:
        running = any(item.flow.application in PAUSED_APPLICATIONS for item in self._running.values())
        paused = wanted is not None and not running
        if paused == self._paused:
            return
        if wanted and paused:
            log.info("paused since %s (%s): `ward stream resume` ends it", wanted.since, wanted.reason)
        else:
            log.info("the pause is over")
        self._paused = paused
        self._on_pause(paused)


def ended(item: Running, config: StreamConfig) -> bool:
    """Stop a flow where it is between two batches; whether it has stopped."""
    if not item.query.isActive:
        return True
    at = position(config.data.checkpoint(item.flow))
    last = at.batch_id if at else -1
    if item.batch_at_pause is None:
        item.batch_at_pause = last
    # Under load the next batch begins at once: then it has hardly begun, and is repeated.
    if item.query.status["isTriggerActive"] and item.batch_at_pause == last:
        return False
    item.query.stop()
    return True


def create_tables(spark: "SparkSession", flows: tuple[Flow, ...], config: StreamConfig) -> None:
    """Create the tables that these flows read or write, where they do not exist yet. Raises LogError.

    Those of flows that go on from them without Spark are made here too: only Spark gives a table its constraints.
    """
    written = {name for flow in flows for name in flow.writes}
    after = (flow for flow in FLOWS if flow.application == "risk" and written.intersection(flow.reads))
    wanted = {name for flow in (*flows, *after) for name in (*flow.reads, *flow.writes, *flow.adds_to)}
    for table in TABLES:
        if table.full_name in wanted:
            delta_log.require_whole(config.data.table(table))
            delta.create(spark, table, config.data.table(table))


def start(spark: "SparkSession", flow: Flow, config: StreamConfig) -> "StreamingQuery":
    """Start one flow by the import path of its declaration.

    Raises CheckpointError where its checkpoint is damaged; the alert flow makes a new one at each start.
    """
    if flow.application in PAUSED_APPLICATIONS:
        require_whole(config.data.checkpoint(flow))
        clear_unfinished(config.data.checkpoint(flow))
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
