"""What Prometheus reads of the flows: the newest lines that each appends to its progress on the data dir."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import accumulate
from pathlib import Path
from typing import Any

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from lakehouse import progress
from lakehouse.datadir import DataDir
from lakehouse.pipeline import ALERT_NOTIFY, ALERT_ROUTER, FLOWS
from lakehouse.progress import Record

_APART = frozenset({"latency", "waiting"})
"""What has a metric of its own."""

_GOALS = {
    flow.name: flow.freshness.total_seconds()
    for flow in FLOWS
    if flow.application == "lakehouse" and flow.freshness is not None
}
"""Of flows in batches: the others take records as they come, and are held to their latency."""


class FlowMetrics(Collector):
    """Read anew at each scrape: a gateway that starts knows at once what every flow has said last."""

    def __init__(self, data: DataDir) -> None:
        self._data = data

    def collect(self) -> Iterator[Metric]:
        """Every figure of every flow, and what is made of them."""
        said = {path.stem: path for path in sorted(self._data.progress("x").parent.glob("*.jsonl"))}
        apart = {name: progress.last(said.pop(name)) for name in (progress.PARSED, progress.LEDGER) if name in said}
        newest = {flow: record for flow, path in said.items() if (record := progress.last(path)) is not None}
        yield from _figures(newest)
        yield from _freshness({flow: said[flow] for flow in newest})
        if (router := newest.get(ALERT_ROUTER.name)) is not None:
            yield from _latency(router)
        if (notify := newest.get(ALERT_NOTIFY.name)) is not None:
            yield from _waiting(notify)
        if (parsed := apart.get(progress.PARSED)) is not None:
            yield from _parsed(parsed["parsed"])
        if (proof := apart.get(progress.LEDGER)) is not None:
            yield from _ledger(proof)


def _figures(newest: Mapping[str, Record]) -> Iterator[Metric]:
    families: dict[str, GaugeMetricFamily] = {}
    for flow, record in newest.items():
        for name, value in figures({key: value for key, value in record.items() if key not in _APART}):
            metric = f"ward_flow_{name}"
            if metric not in families:
                families[metric] = GaugeMetricFamily(metric, f"{name} in the newest progress line", labels=["flow"])
            families[metric].add_metric([flow], value)
    yield from families.values()


def figures(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a progress line by name; nested names are joined, and ``at`` becomes seconds since the epoch."""
    for key, value in record.items():
        name = f"{prefix}{_metric_name(key)}"
        if isinstance(value, Mapping):
            yield from figures(value, f"{name}_")
        elif name == "at" and isinstance(value, str):
            yield "at_seconds", _seconds(value)
        elif isinstance(value, int | float):
            yield name, float(value)


def _freshness(said: Mapping[str, Path]) -> Iterator[Metric]:
    goal = GaugeMetricFamily(
        "ward_flow_freshness_goal_seconds", "How old what the flow writes may be, as declared", labels=["flow"]
    )
    fresh = GaugeMetricFamily(
        "ward_flow_fresh_until_seconds",
        "What reached the broker (or the table that is read) until this instant, the flow has written",
        labels=["flow"],
    )
    for flow, path in said.items():
        if flow in _GOALS:
            goal.add_metric([flow], _GOALS[flow])
            until = next((at for line in progress.newest(path) if (at := fresh_until(line)) is not None), None)
            if until is not None:
                fresh.add_metric([flow], until)
    yield goal
    yield fresh


def fresh_until(line: Record) -> float | None:
    """Until when all that had come was written, as one progress line tells it (epoch seconds); None: it does not.

    Nothing was left to read when an idle line was written; a batch has all up to its newest record.
    """
    if line.get("idle"):
        return _seconds(line["at"])
    received_at = line.get("newest_received_at")
    return None if received_at is None else received_at / 1000


def _latency(router: Record) -> Iterator[Metric]:
    if (latency := router.get("latency")) is None:
        return
    bounds = [str(bound / 1000) for bound in latency["bounds_ms"]]
    cumulated = accumulate(latency["counts"])
    yield HistogramMetricFamily(
        "ward_alert_latency_seconds",
        "From a message's arrival at the broker until what it caused stood on the topic alerts",
        buckets=list(zip([*bounds, "+Inf"], cumulated, strict=True)),
        sum_value=latency["sum_ms"] / 1000,
    )


def _waiting(notify: Record) -> Iterator[Metric]:
    family = GaugeMetricFamily("ward_notify_waiting", "Notifications not delivered yet, by channel", labels=["channel"])
    for channel, waiting in notify.get("waiting", {}).items():
        family.add_metric([channel], waiting)
    yield family


def _parsed(counts: Mapping[str, int]) -> Iterator[Metric]:
    family = CounterMetricFamily(
        "ward_parsed",
        "What silver made of bronze since the lakehouse started: observation, quarantine, dead_letter (whole records)",
        labels=["outcome"],
    )
    for outcome, count in counts.items():
        family.add_metric([outcome], count)
    yield family


def _ledger(proof: Record) -> Iterator[Metric]:
    at = GaugeMetricFamily("ward_ledger_proven_at_seconds", "When `ward verify` last proved the ledger")
    at.add_metric([], _seconds(proof["at"]))
    faults = GaugeMetricFamily("ward_ledger_faults", "Rows at fault by the newest proof, by fault", labels=["fault"])
    for fault, count in proof["faults"].items():
        faults.add_metric([fault], count)
    yield at
    yield faults


def _seconds(at: str) -> float:
    return datetime.fromisoformat(at).timestamp()


def _metric_name(text: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in text).lower()
