"""The whole stack for an hour at a steady rate: what grows.

    python -m bench soak [--duration 60m] [--rate 1000] [--patients 1000] [--json FILE] [--chart FILE.svg]

``ward up`` with simulator, gateway and notifier. Each minute it takes resident memory by component, lag by flow, files
by table, and the latency of that minute's alerts; it ends by itself. For each series it prints where it begins and
ends, and its slope an hour (least squares) with the 95 % interval, after a warm-up. Samples that depend on those before
make the interval too narrow: a slope whose interval leaves 0 out is a reason to look, not a proof.
"""

import argparse
import json
import signal
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from functools import partial
from math import inf, sqrt
from pathlib import Path
from random import Random
from statistics import NormalDist

import numpy as np
import orjson
from kafka import KafkaConsumer, TopicPartition

from bench import charts
from bench.bench_backfill import resident_mb
from bench.bench_notify import receive
from bench.chaos.stack import Load, Stack, load_average
from lakehouse.datadir import DataDir
from lakehouse.flow_status import flow_tails
from lakehouse.topics import ALERTS
from wardhouse.durations import seconds
from wardhouse.topics import end_offsets

WARM_UP_S = 300.0
"""Java has compiled most by then, and every table has its first files; a third of the run where that is less."""
Sample = dict[str, float]
"""One minute: the value of each series, and ``at_s`` since the start."""


@dataclass(frozen=True)
class Trend:
    """One series after the warm-up; ``slope`` an hour, its 95 % interval from ``low`` to ``high``."""

    series: str
    samples: int
    first: float
    last: float
    most: float
    slope: float
    low: float
    high: float

    @property
    def moves(self) -> bool:
        """Whether the interval leaves 0 out."""
        return self.low > 0 or self.high < 0


class Alerts:
    """The latencies of alerts as they come, from now on."""

    def __init__(self, bootstrap: str, topic: str) -> None:
        self._consumer = KafkaConsumer(bootstrap_servers=bootstrap.split(","), enable_auto_commit=False)
        ends = {TopicPartition(*place): end for place, end in end_offsets(bootstrap, [topic]).items()}
        self._consumer.assign(list(ends))
        for place, end in ends.items():
            self._consumer.seek(place, end)

    def close(self) -> None:
        """Leave the broker."""
        self._consumer.close()

    def take(self) -> list[float]:
        """Milliseconds from a message to the alert it caused, of all that came since the last call."""
        took: list[float] = []
        while records := self._consumer.poll(timeout_ms=500):
            for record in (one for some in records.values() for one in some):
                caused_at = orjson.loads(record.value).get("message_received_at")
                if caused_at is not None:
                    took.append(record.timestamp - caused_at)
        return took


def sample(stack: Stack, alerts: Alerts, at_s: float) -> Sample:
    """Everything as it is now; a series without a value is left out."""
    found = {"at_s": round(at_s, 1), **_memory(stack), **_lag(stack.data), **_files(stack.data)}
    if took := alerts.take():
        p50, p99 = np.percentile(took, [50, 99])
        found |= {"alert latency p50, ms": float(p50), "alert latency p99, ms": float(p99)}
    return {**found, "load average": load_average()}


def _memory(stack: Stack) -> Mapping[str, float]:
    parts = {name: stack.processes(name) for name in stack.components() if name != "up"}
    return {f"memory {name}, MB": round(resident_mb(family[0]), 1) for name, family in parts.items() if family}


def _lag(data: DataDir) -> Mapping[str, float]:
    found = {}
    now = datetime.now(UTC)
    for tail, follower in flow_tails(data):
        tail.add(follower.poll())
        lag = tail.status(now).lag
        if lag is not None:
            found[f"lag {tail.flow.name}"] = float(lag)
    return found


def _files(data: DataDir) -> Mapping[str, float]:
    tables = (path.parent for path in data.table_root.glob("*/*/_delta_log"))
    return {
        f"files {table.parent.name}.{table.name}": float(sum(1 for path in table.rglob("*") if path.is_file()))
        for table in sorted(tables)
    }


def trend(series: str, samples: Sequence[Sample]) -> Trend | None:
    """The slope of a series; None of fewer than five samples."""
    points = [(one["at_s"] / 3600, one[series]) for one in samples if series in one]
    if len(points) < 5:
        return None
    x, y = (np.array(column) for column in zip(*points, strict=True))
    if not np.ptp(y):
        # What stands still has no slope, and arithmetic would give it one of 1e-13.
        return Trend(series, len(x), y[0], y[-1], y[0], 0.0, 0.0, 0.0)
    slope, begin = np.polyfit(x, y, 1)
    spread = float(((x - x.mean()) ** 2).sum())
    error = sqrt(float(((y - begin - slope * x) ** 2).sum()) / (len(x) - 2) / spread) if spread else inf
    wide = quantile(len(x) - 2) * error
    return Trend(series, len(x), y[0], y[-1], float(y.max()), float(slope), float(slope - wide), float(slope + wide))


def quantile(freedom: int) -> float:
    """97.5 % of Student's t, by Fisher's expansion: within 2 % from three degrees of freedom on."""
    z = NormalDist().inv_cdf(0.975)
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def trends(samples: Sequence[Sample], duration_s: float) -> list[Trend]:
    """Each series after the warm-up."""
    warm = min(WARM_UP_S, duration_s / 3)
    counted = [one for one in samples if one["at_s"] >= warm]
    names = dict.fromkeys(name for one in counted for name in one if name != "at_s")
    return [found for name in names if (found := trend(name, counted)) is not None]


def run(load: Load, duration_s: float, every_s: float, place: Path) -> list[Sample]:
    """The samples of one run."""
    webhook = receive({})
    stack = Stack(DataDir(place / "ward"), load, webhook.server_port, Random(1))
    found: list[Sample] = []
    with stack, closing(Alerts(stack.bootstrap, stack.settings.topic(ALERTS))) as alerts:
        begun = time.monotonic()
        while (next_s := (len(found) + 1) * every_s) <= duration_s:
            due = begun + next_s
            stack.wait(partial(_is_past, due), 2 * every_s)
            found.append(sample(stack, alerts, time.monotonic() - begun))
        stack.stop()
    webhook.shutdown()
    return found


def _is_past(due: float) -> bool:
    return time.monotonic() >= due


def show(found: Sequence[Trend]) -> None:
    """One line a series; an asterisk where the slope is surely not 0."""
    print(f"{'':38} {'first':>10} {'last':>10} {'most':>10} {'an hour':>11}   95 % interval")
    for one in found:
        interval = f"{one.low:,.1f} to {one.high:,.1f}"
        print(f"{one.series:38} {one.first:10,.1f} {one.last:10,.1f} {one.most:10,.1f} {one.slope:11,.1f} ", end="")
        print(f"{'*' if one.moves else ' '} {interval}")


def main() -> None:
    """Run and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--duration", default="10m", help="60m for the long form")
    parser.add_argument("--every", default="60s", help="how often it looks")
    parser.add_argument("--rate", type=float, default=1000, help="messages a second")
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--json", type=Path, help="write samples and slopes here")
    parser.add_argument("--chart", type=Path, help="draw every series here, as SVG")
    given = parser.parse_args()
    # Whatever ends it, nothing it has started stays behind.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    duration_s, load = seconds(given.duration), Load(given.patients, given.rate, "default")
    with tempfile.TemporaryDirectory(prefix="soak-") as name:
        samples = run(load, duration_s, seconds(given.every), Path(name))
    found = trends(samples, duration_s)
    show(found)
    if given.json is not None:
        document = {"load": asdict(load), "samples": samples, "trends": [asdict(one) for one in found]}
        given.json.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    if given.chart is not None:
        charts.soak(samples, given.chart)


if __name__ == "__main__":
    main()
