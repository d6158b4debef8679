"""A Spark cluster on this machine: what one and two executors take of a backlog, lakehouse and alerts each by itself.

Fills a broker of its own while no stream runs, then starts ``ward stream lakehouse``, and after it ``ward stream
alerts``, on a standalone master with two workers. Prints one JSON object: ``python -m bench cluster``. Run it with
nothing else on the machine. Broker, drivers and executors share its processors, so that two executors can never take
twice what one does: the ratio shows what distributing costs, and only CPU seconds a message carry over to larger
machines.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import psutil
import pyarrow as pa
from kafka import KafkaConsumer, TopicPartition

from bench.bench_catch_up import batches, pile_up
from bench.chaos.stack import WARD, until
from lakehouse.datadir import DataDir
from lakehouse.pipeline import OBSERVATION
from lakehouse.reader import open_table
from lakehouse.tables import DEVICE_MESSAGE as BRONZE
from lakehouse.tables import OBSERVATION as SILVER
from lakehouse.topics import ALERT_EVALUATIONS, VITALS
from tests.fixtures.spark_cluster import SparkCluster
from wardhouse.broker import Broker
from wardhouse.settings import Settings
from wardhouse.status import wait_until_stored
from wardhouse.topics import end_offsets

LIMIT_S = 900.0


@dataclass(frozen=True)
class Shape:
    """Executors of an application, and the task slots of each."""

    executors: int
    cores: int

    def __str__(self) -> str:
        return f"{self.executors} x {self.cores}"


LAKEHOUSE = (Shape(1, 1), Shape(2, 1), Shape(1, 2))
"""One core, two cores on two executors, two cores on one."""
ALERTS = (Shape(1, 2), Shape(2, 1))
"""Real-time mode holds a slot for each of two partitions: fewer are refused."""


def measure(place: Path, shape: Shape, patients: int, messages: int, applications: set[str]) -> dict[str, Any]:
    """Figures of one shape, by application."""
    data, found = DataDir(place / "ward"), {}
    with Broker(data, Settings().jars.resolve()) as broker, SparkCluster(place / "spark", cores=2) as cluster:
        pile_up(data, broker, patients, messages)
        if "lakehouse" in applications and shape in LAKEHOUSE:
            with _streaming("lakehouse", shape, cluster, broker.address, data) as processes:
                found["lakehouse"] = _stored(cluster, processes, broker.address, data, messages)
        if "alerts" in applications and shape in ALERTS:
            with _streaming("alerts", shape, cluster, broker.address, data) as processes:
                found["alerts"] = _evaluated(cluster, processes, broker.address)
    return found


@contextmanager
def _streaming(
    application: str, shape: Shape, cluster: SparkCluster, bootstrap: str, data: DataDir
) -> Iterator[psutil.Process]:
    asked = ("--master", cluster.url, "--executors", str(shape.executors), "--executor-cores", str(shape.cores))
    stream = subprocess.Popen(
        [WARD, "stream", application, *asked, "--data-dir", data.root],
        env={**os.environ, **cluster.environment, "KAFKA_BOOTSTRAP_SERVERS": bootstrap},
        stderr=subprocess.DEVNULL,
    )
    try:
        yield psutil.Process(stream.pid)
    finally:
        stream.terminate()
        stream.wait()


def _stored(
    cluster: SparkCluster, driver: psutil.Process, bootstrap: str, data: DataDir, messages: int
) -> dict[str, Any]:
    ends = end_offsets(bootstrap, Settings().topics().values())
    if not wait_until_stored(Settings(), data, ends, LIMIT_S):
        sys.exit(f"not everything was stored within {LIMIT_S:g} s")
    done = batches(data.progress(OBSERVATION.name))
    return {
        # Spark counts each pass of a batch as records read: what was sent is what counts.
        "messages_per_s": round(messages / sum(one["seconds"] for one in done)),
        **_cpu_s(cluster, driver, messages),
        "bytes_a_message": _bytes(data, messages),
        "batches": done,
    }


def _bytes(data: DataDir, messages: int) -> dict[str, int]:
    """What a message takes on the disk. Minutes are few here, since a backlog is of few of them."""
    found = {"kafka": sum(file.stat().st_size for file in data.kafka.glob("log/vitals-*/*.log"))}
    for table in (BRONZE, SILVER):
        files = pa.table(open_table(data, table).get_add_actions(flatten=True))
        found[table.full_name] = sum(files["size_bytes"].to_pylist())
    return {name: round(size / messages) for name, size in found.items()}


def _evaluated(cluster: SparkCluster, driver: psutil.Process, bootstrap: str) -> dict[str, Any]:
    def count() -> int:
        return sum(end_offsets(bootstrap, [ALERT_EVALUATIONS.name]).values())

    seen = [0, 0, 0]

    def quiet() -> bool:
        time.sleep(2)
        seen.append(count())
        return seen[-1] > 0 and seen[-1] == seen[-3]

    if not until(quiet, LIMIT_S):
        sys.exit(f"not everything was evaluated within {LIMIT_S:g} s")
    messages = sum(end_offsets(bootstrap, [VITALS.name]).values())
    return {"messages_per_s": round(_pace(bootstrap)), **_cpu_s(cluster, driver, messages)}


def _pace(bootstrap: str) -> float:
    """Evaluations a second, after the first half in which Java compiles: of records with the broker's timestamps."""
    ends = end_offsets(bootstrap, [ALERT_EVALUATIONS.name])
    with closing(KafkaConsumer(bootstrap_servers=bootstrap, enable_auto_commit=False)) as consumer:
        spans = []
        for (topic, number), end in ends.items():
            place = TopicPartition(topic, number)
            began, ended = (_timestamp(consumer, place, at) for at in (end // 2, end - 1))
            spans.append((end - end // 2) / (ended - began) * 1000)
    return sum(spans)


def _timestamp(consumer: KafkaConsumer, place: TopicPartition, offset: int) -> int:
    consumer.assign([place])
    consumer.seek(place, offset)
    while True:
        for records in consumer.poll(timeout_ms=500, max_records=1).values():
            return int(records[0].timestamp)


def _cpu_s(cluster: SparkCluster, driver: psutil.Process, messages: int) -> dict[str, float]:
    """Processor time since their start, compiling of everything included, for a million messages."""
    parts = {"driver": [driver, *driver.children(recursive=True)], "executors": cluster.executors()}
    return {
        f"{part}_cpu_s_per_million": round(sum(sum(one.cpu_times()[:2]) for one in processes) / messages * 1e6)
        for part, processes in parts.items()
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--messages", type=int, default=300_000, help="the backlog of each run")
    parser.add_argument("--patients", type=int, default=1000)
    parser.add_argument("--repeat", type=int, default=3, help="runs of each shape; figures are medians")
    parser.add_argument("--only", choices=("lakehouse", "alerts"), help="one application; both if not given")
    given = parser.parse_args()
    applications = {given.only} if given.only else {"lakehouse", "alerts"}
    wanted = [shape for shape in LAKEHOUSE if "lakehouse" in applications or shape in ALERTS]
    runs: dict[str, dict[str, list[dict[str, Any]]]] = {name: {} for name in sorted(applications)}
    # Round by round: what else happens on the machine meets each shape.
    for shape in wanted * given.repeat:
        with tempfile.TemporaryDirectory() as place:
            for name, figures in measure(Path(place), shape, given.patients, given.messages, applications).items():
                runs[name].setdefault(str(shape), []).append(figures)
                print(f"{name} {shape}: {figures['messages_per_s']} messages/s", file=sys.stderr, flush=True)
    paces = {
        name: {shape: round(median(one["messages_per_s"] for one in found)) for shape, found in shapes.items()}
        for name, shapes in runs.items()
    }
    ratios = {
        name: {shape: round(pace / next(iter(found.values())), 2) for shape, pace in found.items()}
        for name, found in paces.items()
    }
    shown = {"processors": os.cpu_count(), "load_average": os.getloadavg()[0]}
    print(json.dumps({**shown, "messages_per_s": paces, "to_the_first": ratios, "runs": runs}, indent=2))


if __name__ == "__main__":
    main()
