"""What Prometheus reads: the gateway's own counters, and the last progress line of every flow on the data dir."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.live import LatestVitals
from gateway.spool import Spool
from lakehouse import progress
from lakehouse.datadir import DataDir

# Up to the second in which an answer is no longer useful; an acknowledged post takes some ten milliseconds.
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Counts:
    """What an outbox counts: records by outcome, and the seconds until they are safe."""

    messages: Counter
    acknowledged: Histogram


class Counted:
    """What every application counts: messages by outcome, requests that the guard refused by status; the registry."""

    registry: CollectorRegistry
    messages: Counter
    refused: Counter


class Metrics(Counted):
    """The counters of one gateway and the registry in which it all is found."""

    def __init__(self, data: DataDir, cache: LatestVitals, spool: Spool | None = None) -> None:
        self.registry = CollectorRegistry()
        self.messages = Counter(
            "ward_gateway_messages",
            "Messages and resources, by outcome: accepted (spooled ones too), refused (what breaks a contract),"
            " unavailable (no broker), spooled (no broker, but the spool took them)",
            ["outcome"],
            registry=self.registry,
        )
        self.acknowledged = Histogram(
            "ward_gateway_acknowledge_seconds",
            "From the request's last byte to the broker's acknowledgement",
            buckets=SECONDS,
            registry=self.registry,
        )
        self.audit = Counts(
            Counter(
                "ward_gateway_audit_records",
                "Audit records, by outcome: accepted (spooled ones too), unavailable (nothing was shown), spooled",
                ["outcome"],
                registry=self.registry,
            ),
            Histogram(
                "ward_gateway_audit_seconds",
                "What an answer waits until its audit record is safe",
                buckets=SECONDS,
                registry=self.registry,
            ),
        )
        self.refused = Counter(
            "ward_gateway_refused", "Requests that the guard refused, by status", ["status"], registry=self.registry
        )
        if spool is not None:
            size = Gauge("ward_gateway_spool_bytes", "Records that wait for the broker", registry=self.registry)
            size.set_function(lambda: spool.bytes)
        self.registry.register(_Live(cache))
        self.registry.register(_Progress(data))


class _Live(Collector):
    def __init__(self, cache: LatestVitals) -> None:
        self._cache = cache

    def collect(self) -> Iterator[GaugeMetricFamily]:
        yield GaugeMetricFamily("ward_gateway_live_patients", "Patients in the live cache", len(self._cache))
        if self._cache.lag is not None:
            yield GaugeMetricFamily(
                "ward_gateway_live_lag_records",
                "Records of alert.evaluations not yet in the live cache",
                self._cache.lag,
            )


class _Progress(Collector):
    def __init__(self, data: DataDir) -> None:
        self._data = data

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families: dict[str, GaugeMetricFamily] = {}
        for path in sorted(self._data.progress("x").parent.glob("*.jsonl")):
            record = progress.last(path)
            for name, value in figures(record or {}):
                metric = f"ward_flow_{name}"
                if metric not in families:
                    families[metric] = GaugeMetricFamily(metric, f"{name} in the newest progress line", labels=["flow"])
                families[metric].add_metric([path.stem], value)
        yield from families.values()


def figures(record: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of a progress line by name; nested names are joined, and ``at`` becomes seconds since the epoch."""
    for key, value in record.items():
        name = f"{prefix}{_metric_name(key)}"
        if isinstance(value, Mapping):
            yield from figures(value, f"{name}_")
        elif name == "at" and isinstance(value, str):
            yield "at_seconds", datetime.fromisoformat(value).timestamp()
        elif isinstance(value, int | float):
            yield name, float(value)


def _metric_name(text: str) -> str:
    return "".join(letter if letter.isascii() and letter.isalnum() else "_" for letter in text).lower()
