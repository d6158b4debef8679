"""What one run of ``ward up`` did, as JSON: counts from the tables, latencies from broker timestamps and progress.

Counts are of this run: of records whose Kafka offset is not below the topic's end at its start. The ledger is of the
whole data dir.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from lakehouse import kafka_access
from lakehouse.datadir import DataDir
from lakehouse.pipeline import DEVICE_MESSAGE as BRONZE_FLOW
from lakehouse.pipeline import OBSERVATION as SILVER_FLOW
from lakehouse.progress import Record
from lakehouse.tables import (
    ALERT_EVENT,
    DEAD_LETTER,
    DEVICE_MESSAGE,
    OBSERVATION,
    OBSERVATION_QUARANTINE,
    VITAL_SIGN_MINUTE,
)
from lakehouse.topics import ALERT_EVALUATIONS, CLINICAL_RESOURCE, VITALS
from wardhouse.topics import Offsets

if TYPE_CHECKING:
    import duckdb
    import numpy as np

WARM_UP = timedelta(seconds=60)
"""Left out of the figures that end in ``_warm``: Java compiles its hot paths in the first minute."""
_POINTS_PER_BATCH = 100
_POINTS_OF_A_LINE = 3
_RECEIVED_AT = re.compile(rb'"received_at":(\d+)')

Summary = dict[str, float | int | None]
"""p50, p90, p95, p99, p999 and max in ms, and the count they are of; None where there is nothing to measure."""


@dataclass(frozen=True)
class Use:
    """Processor seconds by component, and messages sent, up to an instant (seconds of a monotonic clock)."""

    at: float
    cpu_s: Mapping[str, float]
    sent: int


@dataclass(frozen=True)
class Run:
    """What ``ward up`` knows of its run. Instants aware, durations in seconds."""

    started_at: datetime
    sending_at: datetime | None
    """When everything was ready and the simulator began; None where it was not asked for, or never came so far."""
    stopped_at: datetime
    """When the last message was sent."""
    interrupted: bool
    landed: bool | None
    landing_s: float | None
    since: Offsets
    """End offsets of every topic at the start."""
    until: Offsets
    topics: Mapping[str, str]
    simulator: Sequence[Record]
    flows: Mapping[str, Sequence[Record]]
    """Progress lines of this run, by flow."""
    cpu_s: Mapping[str, float]
    settled: Use | None
    """After the warm-up, or at the first message where the run was shorter."""
    last: Use | None
    """When the last message was sent."""
    peak_rss_mb: Mapping[str, float]
    """Resident memory by component at the moment of the peak."""
    restarts: Mapping[str, int]
    ledger: Mapping[str, Any] | None = None
    """What ``ward verify`` reports; None where it was not run."""
    settings: Mapping[str, Any] = field(default_factory=dict)


def build(run: Run, data: DataDir, bootstrap: str) -> dict[str, Any]:
    """The report. Reads tables and the topic of evaluations."""
    counts, alerts, alerts_warm, first_alert = _from_tables(run, data)
    evaluations = evaluation_latencies(bootstrap, run.topics[ALERT_EVALUATIONS.name], run.since, run.until)
    warm = _warm_ms(run)
    bronze, silver = (run.flows.get(flow.name, ()) for flow in (BRONZE_FLOW, SILVER_FLOW))
    sent = messages_sent(run.simulator)
    totals = run.ledger["totals"] if run.ledger else {}
    return {
        "messages_sent": sent,
        **counts,
        "duplicates_removed": totals.get("duplicates_removed"),
        "lost": run.ledger["lost"] if run.ledger else None,
        "duplicated": run.ledger["duplicated"] if run.ledger else None,
        "evaluations": len(evaluations),
        "alert_latency_ms": alerts,
        "alert_latency_warm_ms": alerts_warm,
        "evaluation_latency_ms": summary([latency for _, latency in evaluations]),
        "evaluation_latency_warm_ms": summary([latency for at, latency in evaluations if warm and at >= warm]),
        "bronze_latency_ms": batch_latency(bronze),
        "bronze_latency_warm_ms": batch_latency(bronze, warm) if warm else summary(()),
        "gold_latency_ms": batch_latency(silver),
        "gold_latency_warm_ms": batch_latency(silver, warm) if warm else summary(()),
        "cold_start_s": _seconds(run.started_at, run.sending_at),
        "first_alert_s": _seconds(run.started_at, first_alert),
        "peak_rss_mb": round(sum(run.peak_rss_mb.values()), 1),
        "rss_mb_at_peak": {name: round(used, 1) for name, used in run.peak_rss_mb.items()},
        "cpu_s": dict(run.cpu_s),
        "cores": cores(run.settled, run.last),
        "cpu_s_per_million_messages": cpu_per_million(run.settled, run.last),
        "restarts": dict(run.restarts),
        "largest_lag": {flow: largest_lag(lines) for flow, lines in run.flows.items()},
        "lag_growth_per_s": {flow: lag_growth(lines, warm, _ms(run.stopped_at)) for flow, lines in run.flows.items()},
        "gold_delay_growth": delay_growth(silver, warm, _ms(run.stopped_at)),
        "started_at": run.started_at.isoformat(),
        "sending_at": run.sending_at.isoformat() if run.sending_at else None,
        "stopped_at": run.stopped_at.isoformat(),
        "interrupted": run.interrupted,
        "landed": run.landed,
        "landing_s": run.landing_s,
        "ledger": run.ledger,
        "settings": dict(run.settings),
    }


def summary(latencies_ms: "Sequence[float] | np.ndarray[Any, Any]", weights: Sequence[float] | None = None) -> Summary:
    """Percentiles of latencies in ms, each value counting as often as its weight says (once, by default)."""
    import numpy as np

    names = ("p50", "p90", "p95", "p99", "p999", "max")
    if len(latencies_ms) == 0:
        return {**dict.fromkeys(names), "count": 0}
    values = np.asarray(latencies_ms, dtype=float)
    order = np.argsort(values)
    share = np.ones(len(values)) if weights is None else np.asarray(weights, dtype=float)
    cumulated = np.cumsum(share[order])
    at = np.searchsorted(cumulated, np.array([0.5, 0.9, 0.95, 0.99, 0.999, 1.0]) * cumulated[-1] * (1 - 1e-12))
    found = (round(float(value), 1) for value in values[order][at])
    return {**dict(zip(names, found, strict=True)), "count": round(float(cumulated[-1]))}


def batch_latency(lines: Iterable[Record], since_ms: int = 0) -> Summary:
    """From the broker's timestamp to the commit, over the records of all batches that came from ``since_ms`` on.

    A batch tells its oldest and newest record; those between are taken as evenly spread, as a steady stream is.
    """
    import numpy as np

    values: list[float] = []
    weights: list[float] = []
    for line in lines:
        if not line.get("rows") or line.get("newest_received_at") is None:
            continue
        received = np.linspace(line["oldest_received_at"], line["newest_received_at"], _POINTS_PER_BATCH)
        counted = received[received >= since_ms]
        values += (line["committed_at"] - counted).tolist()
        weights += [line["rows"] / _POINTS_PER_BATCH] * len(counted)
    return summary(values, weights)


def messages_sent(lines: Iterable[Record]) -> int:
    """Records that the broker acknowledged, over the runs of a simulator that may have been restarted."""
    newest = {line["run"]: line["acknowledged"] for line in lines}
    return sum(newest.values())


def cores(begin: Use | None, end: Use | None) -> dict[str, float]:
    """Cores that each component kept busy between two instants."""
    if begin is None or end is None or end.at <= begin.at:
        return {}
    return {name: round(used / (end.at - begin.at), 3) for name, used in _used(begin, end).items()}


def cpu_per_million(begin: Use | None, end: Use | None) -> dict[str, float]:
    """Processor seconds that each component took for a million messages, between two instants."""
    if begin is None or end is None or end.sent <= begin.sent:
        return {}
    return {name: round(used * 1e6 / (end.sent - begin.sent), 1) for name, used in _used(begin, end).items()}


def _used(begin: Use, end: Use) -> dict[str, float]:
    return {name: total - begin.cpu_s.get(name, 0.0) for name, total in end.cpu_s.items()}


def largest_lag(lines: Iterable[Record]) -> int | None:
    """The most records that a flow was behind at the end of any batch; None where it does not say."""
    lags = [line["lag"] for line in lines if line.get("lag") is not None]
    return max(lags, default=None)


def lag_growth(lines: Iterable[Record], since_ms: int | None, until_ms: int) -> float | None:
    """Records a second by which a flow fell behind between two instants: a line through its lags, if it told three."""
    return _slope(((_told_ms(line), line["lag"]) for line in lines if line.get("lag") is not None), since_ms, until_ms)


def delay_growth(lines: Iterable[Record], since_ms: int | None, until_ms: int) -> float | None:
    """Seconds a second by which what a flow's batches had newest was older when it was written; as for a lag."""
    delays = (
        (line["committed_at"], (line["committed_at"] - line["newest_received_at"]) / 1000)
        for line in lines
        if line.get("rows") and line.get("newest_received_at") is not None
    )
    return _slope(delays, since_ms, until_ms)


def _slope(points: Iterable[tuple[float, float]], since_ms: int | None, until_ms: int) -> float | None:
    """The slope by the second of a line through values at instants (ms) within a span; None of fewer than three."""
    import numpy as np

    within = [one for one in points if since_ms is not None and since_ms <= one[0] <= until_ms]
    if len(within) < _POINTS_OF_A_LINE:
        return None
    at, value = np.array(within, dtype=float).T
    return round(float(np.polyfit((at - at[0]) / 1000, value, 1)[0]), 4)


def _told_ms(line: Record) -> float:
    """When a line was written: a batch says when it was committed; whoever works record by record, when it tells."""
    return float(line["committed_at"] if "committed_at" in line else _ms(datetime.fromisoformat(line["at"])))


def evaluation_latencies(bootstrap: str, topic: str, since: Offsets, until: Offsets) -> list[tuple[int, int]]:
    """For each evaluation between the offsets: its broker timestamp, and ms since that of the vitals record."""
    from kafka import KafkaConsumer, TopicPartition

    ends = {
        TopicPartition(name, partition): end
        for (name, partition), end in until.items()
        if name == topic and end > since.get((name, partition), 0)
    }
    found: list[tuple[int, int]] = []
    consumer = KafkaConsumer(**kafka_access.client(bootstrap), enable_auto_commit=False, consumer_timeout_ms=10_000)
    try:
        consumer.assign(list(ends))
        for place in ends:
            consumer.seek(place, since.get((place.topic, place.partition), 0))
        while any(consumer.position(place) < end for place, end in ends.items()):
            batches = consumer.poll(timeout_ms=5000, max_records=5000)
            if not batches:
                break
            for place, records in batches.items():
                for record in records:
                    received = _RECEIVED_AT.search(record.value or b"")
                    if received and record.offset < ends[place]:
                        found.append((record.timestamp, record.timestamp - int(received[1])))
    finally:
        consumer.close()
    return found


def _warm_ms(run: Run) -> int | None:
    return _ms(run.sending_at + WARM_UP) if run.sending_at else None


def _ms(instant: datetime) -> int:
    return int(instant.timestamp() * 1000)


def _seconds(begin: datetime, end: datetime | None) -> float | None:
    return round((end - begin).total_seconds(), 1) if end else None


def _from_tables(run: Run, data: DataDir) -> tuple[dict[str, Any], Summary, Summary, datetime | None]:
    """Row counts, alert latencies (all, and after the warm-up), and when the first alert of the run was out."""
    from lakehouse.reader import TableMissingError, connect

    tables = (DEVICE_MESSAGE, OBSERVATION, OBSERVATION_QUARANTINE, DEAD_LETTER, VITAL_SIGN_MINUTE, ALERT_EVENT)
    names = ("bronze_rows", "observations", "quarantined", "dead_letters")
    try:
        connection = connect(data, tables)
    except TableMissingError:
        return {**dict.fromkeys((*names, "alerts_opened"), 0)}, summary(()), summary(()), None
    with connection:
        mine = _of_this_run(run)
        counts = {
            name: _one(connection, f"SELECT count(*) FROM {table.full_name} WHERE {mine}")  # noqa: S608 - our names
            for name, table in zip(names, tables, strict=False)
        }
        events = "FROM gold.alert_event WHERE emitted_at >= ?"
        opened = f"SELECT count(DISTINCT alert_id) {events} AND state = 'active'"
        first = f"SELECT min(emitted_at) {events} AND state = 'active'"
        counts["alerts_opened"] = _one(connection, opened, run.started_at)
        latency = f"SELECT epoch_ms(emitted_at) - epoch_ms(message_received_at) {events} AND message_received_at >= ?"
        all_ms = [row[0] for row in connection.execute(latency, [run.started_at, run.started_at]).fetchall()]
        warm_since = run.sending_at + WARM_UP if run.sending_at else run.stopped_at
        warm_ms = [row[0] for row in connection.execute(latency, [warm_since, run.started_at]).fetchall()]
        return counts, summary(all_ms), summary(warm_ms), _one(connection, first, run.started_at)


def _one(connection: "duckdb.DuckDBPyConnection", sql: str, *values: object) -> Any:
    row = connection.execute(sql, list(values)).fetchone()
    return row[0] if row else None


def _of_this_run(run: Run) -> str:
    """A condition on bronze coordinates; the names come from our own declarations or the site's settings."""
    wanted = {run.topics[topic.name] for topic in (VITALS, CLINICAL_RESOURCE)}
    arms = [
        f'(topic = \'{topic}\' AND "partition" = {partition} AND "offset" >= {run.since.get((topic, partition), 0)})'
        for topic, partition in run.until
        if topic in wanted
    ]
    return " OR ".join(arms) or "false"
