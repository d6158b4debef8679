"""What Prometheus reads: the gateway's own counters, and what every flow on the data dir says of itself."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.flow_metrics import FlowMetrics
from gateway.live import LatestVitals
from gateway.spool import Spool
from lakehouse.datadir import DataDir

# Up to the second in which an answer is no longer useful; an acknowledged post takes some ten milliseconds.
SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)


@dataclass(frozen=True)
class Counts:
    """What an outbox counts: records by outcome, and the seconds until they are safe."""

    messages: Counter
    acknowledged: Histogram


class Counted:
    """What every application counts: messages by outcome, requests that the guard refused by status; the registry.

    ``answered`` has the seconds until an answer began, by status.
    """

    registry: CollectorRegistry
    messages: Counter
    refused: Counter
    answered: Histogram


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
        self.answered = Histogram(
            "ward_gateway_answer_seconds",
            "From a request to the beginning of its answer, by status; without /healthz, /readyz and /metrics",
            ["status"],
            buckets=SECONDS,
            registry=self.registry,
        )
        if spool is not None:
            size = Gauge("ward_gateway_spool_bytes", "Records that wait for the broker", registry=self.registry)
            size.set_function(lambda: spool.bytes)
        self.registry.register(_Live(cache))
        self.registry.register(FlowMetrics(data))
        self.registry.register(_Disk(data))


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


class _Disk(Collector):
    def __init__(self, data: DataDir) -> None:
        self._data = data

    def collect(self) -> Iterator[GaugeMetricFamily]:
        if self._data.root.exists():
            disk = shutil.disk_usage(self._data.root)
            yield GaugeMetricFamily("ward_data_dir_free_bytes", "Free space on the data dir's disk", disk.free)
            yield GaugeMetricFamily("ward_data_dir_size_bytes", "Size of the data dir's disk", disk.total)
