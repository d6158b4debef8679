"""The Spark applications on a standalone cluster, which is broken under load; `make test-cluster` runs it."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import orjson
import pytest

from lakehouse.cluster import Cluster, ClusterError, require, require_slots
from lakehouse.datadir import DataDir
from lakehouse.pipeline import OBSERVATION
from lakehouse.session import build_session
from lakehouse.topics import ALERTS
from streaming.evaluated import Evaluated
from tests.fixtures.spark_cluster import SparkCluster
from tests.fixtures.stack import LONGEST_S, WARD, ready
from tests.fixtures.streams import config_of
from wardhouse.broker import Broker
from wardhouse.settings import Settings
from wardhouse.status import wait_until_landed
from wardhouse.topics import end_offsets, ensure

pytestmark = pytest.mark.cluster


class Ward:
    """Components as processes, on one data dir and one cluster."""

    def __init__(self, data: DataDir, cluster: SparkCluster, bootstrap: str) -> None:
        self._data, self._cluster, self.bootstrap = data, cluster, bootstrap
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str) -> None:
        self._data.logs.mkdir(parents=True, exist_ok=True)
        command = [WARD, *arguments, "--data-dir", str(self._data.root)]
        with (self._data.logs / f"{name}.log").open("ab") as log:
            settings = {"KAFKA_BOOTSTRAP_SERVERS": self.bootstrap, "WARD_SPARK_MASTER": self._cluster.url}
            environment = {**os.environ, **self._cluster.environment, **settings}
            self._started[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def stop(self, name: str) -> int:
        process = self._started.pop(name)
        process.terminate()
        return process.wait(LONGEST_S)

    def finish(self, name: str) -> int:
        """Wait until a command has ended by itself; its exit code."""
        return self._started.pop(name).wait(LONGEST_S)

    def executors(self) -> int:
        return len(self._cluster.executors())

    def kill(self) -> None:
        for process in self._started.values():
            process.kill()
            process.wait()

    def count(self, topic: str) -> int:
        return sum(end_offsets(self.bootstrap, [topic]).values())

    def wait(self, condition: Callable[[], bool]) -> float:
        began = time.monotonic()
        while not condition():
            for name, process in self._started.items():
                assert process.poll() is None, self.said(name)
            assert time.monotonic() - began < LONGEST_S, self.said("stream-alerts") + self.said("stream-lakehouse")
            time.sleep(0.2)
        return time.monotonic() - began

    def wait_until_evaluated(self) -> float:
        """Seconds until every partition has an evaluation of a message that is sent from now on."""
        with Evaluated(config_of(self._data, self.bootstrap)) as evaluated:
            ends = evaluated.ends()
            return self.wait(lambda: all(evaluated.newest().get(number, 0) > end for number, end in ends.items()))

    def wait_for_more(self, topic: str, count: int) -> float:
        """Seconds until a topic has so many records more than now."""
        before = self.count(topic)
        return self.wait(lambda: self.count(topic) >= before + count)

    def said(self, name: str) -> str:
        return (self._data.logs / f"{name}.log").read_text()[-3000:]


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[SparkCluster]:
    with SparkCluster(tmp_path / "spark") as running:
        yield running


@pytest.fixture
def ward(data: DataDir, cluster: SparkCluster, jars: Path) -> Iterator[Ward]:
    with Broker(data, jars) as broker:
        ensure(broker.address)
        running = Ward(data, cluster, broker.address)
        yield running
        running.kill()


def test_nothing_is_lost_or_doubled_while_workers_and_the_master_are_killed_under_load(
    data: DataDir, cluster: SparkCluster, ward: Ward, capsys: pytest.CaptureFixture[str]
) -> None:
    took: dict[str, float] = {}
    for application in ("alerts", "lakehouse"):
        ward.start(f"stream-{application}", "stream", application, "--master", cluster.url)
    ward.start("router", "router")
    took["start"] = ward.wait(lambda: all(ready(data, f"stream-{name}")() for name in ("alerts", "lakehouse")))
    assert len(cluster.executors()) == 4
    ward.start("simulator", "simulate", "--patients", "40", "--rate", "40", "--faults", "heavy", "--episodes", "60")
    ward.wait(lambda: data.checkpoint(OBSERVATION).joinpath("commits").is_dir())
    ward.wait_until_evaluated()

    cluster.kill_worker(0)
    took["worker killed"] = ward.wait_until_evaluated()
    cluster.start_worker()
    cluster.wait_for_workers(2)

    cluster.kill_master()
    took["master killed"] = ward.wait_until_evaluated()
    cluster.start_master()
    cluster.wait_for_workers(2)

    # Whoever remains now came after the first kill, and was told of the applications by the second master.
    cluster.kill_worker(1)
    took["other worker killed"] = ward.wait_until_evaluated()
    ward.wait_for_more(ALERTS.name, 1)
    assert ward.stop("simulator") == 0

    settings = Settings(kafka_bootstrap_servers=ward.bootstrap)
    assert wait_until_landed(settings, data, LONGEST_S), ward.said("stream-lakehouse")
    assert [ward.stop(name) for name in ("router", "stream-alerts", "stream-lakehouse")] == [0, 0, 0]
    # On the cluster too: it reads all tables and topics again.
    ward.start("verify", "verify", "--report", str(data.root / "ledger.json"))
    assert ward.finish("verify") == 0, ward.said("verify")
    ledger = orjson.loads((data.root / "ledger.json").read_bytes())
    with capsys.disabled():
        sys.stdout.write(f"\n{ ({what: round(seconds, 1) for what, seconds in took.items()}) }\n{ledger['totals']}\n")
    assert (ledger["holds"], ledger["lost"], ledger["duplicated"]) == (True, 0, 0)
    assert ledger["totals"]["alerts_opened"] > 0


def test_a_cluster_that_was_asked_for_too_few_slots_is_refused_before_anything_starts(ward: Ward) -> None:
    ward.start("stream-alerts", "stream", "alerts", "--executors", "1", "--executor-cores", "1")

    assert ward.finish("stream-alerts") == 1
    assert "gives 1 task slots, and 2 are needed: real-time mode holds one for each of the 2 partitions" in ward.said(
        "stream-alerts"
    )
    assert not ward.executors()


def test_executors_that_do_not_come_and_a_folder_that_is_not_theirs_are_errors_that_say_so(
    cluster: SparkCluster, jars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in cluster.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    asked = Cluster(cluster.url, 2, 2)
    spark = build_session("refusals", jars, cluster=asked)
    try:
        require(spark, asked, DataDir(tmp_path), least=4)
        assert list((tmp_path / "run").iterdir()) == []
        with pytest.raises(ClusterError, match="gives 4 task slots, and 5 are needed: five partitions"):
            require_slots(spark, replace(asked, executors=3), 5, "five partitions", within_s=2)
        # Each process's own folder under one name, as a path on disks of their own would be.
        with pytest.raises(ClusterError, match=r"not every executor of .* shares the folder /proc/self/cwd/run: .*"):
            require(spark, asked, DataDir(Path("/proc/self/cwd")))
    finally:
        spark.stop()
