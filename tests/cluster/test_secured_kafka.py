"""Every component on brokers that ask for TLS, a password and rights, of which one is killed; `make test-cluster`."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import orjson
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError, TopicAuthorizationFailedError
from typer.testing import CliRunner

from lakehouse import kafka_access
from lakehouse.datadir import DataDir
from lakehouse.topics import ALERT_EVALUATIONS, ALERTS, TOPICS, VITALS
from tests.fixtures.secured_kafka import ADMIN, SecuredKafka
from tests.fixtures.stack import LONGEST_S, WARD, ready
from tests.fixtures.vitals import encoded
from wardhouse import acl
from wardhouse.broker import free_port
from wardhouse.cli import app
from wardhouse.errors import Failure
from wardhouse.settings import Settings
from wardhouse.status import wait_until_landed
from wardhouse.topics import administration, end_offsets, ensure

pytestmark = pytest.mark.cluster
USERS = tuple(acl.USER.format(component=name) for name in acl.rights())


class Ward:
    """Components as processes, each with a user of its own."""

    def __init__(self, data: DataDir, kafka: SecuredKafka) -> None:
        self.data, self._kafka = data, kafka
        self._started: dict[str, subprocess.Popen[bytes]] = {}

    def start(self, name: str, *arguments: str, user: str | None = None) -> None:
        self.data.logs.mkdir(parents=True, exist_ok=True)
        environment = {**os.environ, **self._kafka.environment(f"ward-{user or name}")}
        with (self.data.logs / f"{name}.log").open("ab") as log:
            command = [WARD, *arguments, "--data-dir", str(self.data.root)]
            self._started[name] = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LONGEST_S
        while not condition():
            for name, process in self._started.items():
                assert process.poll() is None, self.said(name)
            assert time.monotonic() < deadline, "".join(map(self.said, self._started))
            time.sleep(0.3)

    def stop(self, *names: str) -> None:
        for name in names:
            process = self._started.pop(name)
            process.terminate()
            assert process.wait(LONGEST_S) == 0, self.said(name)

    def finish(self, name: str) -> int:
        return self._started.pop(name).wait(LONGEST_S)

    def kill(self) -> None:
        for process in self._started.values():
            process.kill()
            process.wait()

    def said(self, name: str) -> str:
        return (self.data.logs / f"{name}.log").read_text()[-3000:]


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory, jars: Path) -> Iterator[SecuredKafka]:
    """Nodes with topics, users and permissions."""
    with (
        SecuredKafka(tmp_path_factory.mktemp("kafka") / "nodes", jars) as running,
        pytest.MonkeyPatch.context() as patch,
    ):
        running.become(patch, ADMIN)
        ensure(running.address)
        running.add_users(USERS)
        runner = CliRunner()
        asked = runner.invoke(app, ["acl"])
        assert asked.exit_code == 2
        assert "missing: ward-router may read topic alert.evaluations" in asked.output
        assert runner.invoke(app, ["acl", "--apply"]).exit_code == 0
        again = runner.invoke(app, ["acl"])
        assert (again.exit_code, again.output) == (0, f"all {len(acl.wanted({}))} permissions are there\n")
        yield running


@pytest.fixture
def ward(data: DataDir, kafka: SecuredKafka, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ward]:
    kafka.become(monkeypatch, "ward-operator")
    running = Ward(data, kafka)
    yield running
    running.kill()


def test_each_component_has_what_it_needs_and_a_killed_broker_costs_nothing(
    data: DataDir, kafka: SecuredKafka, ward: Ward, capsys: pytest.CaptureFixture[str]
) -> None:
    with administration(kafka.address) as client:
        for topic in client.describe_topics([topic.name for topic in TOPICS]):
            assert {len(one["replica_nodes"]) for one in topic["partitions"]} == {3}

    for application in ("alerts", "lakehouse"):
        ward.start(f"stream-{application}", "stream", application, user=application)
    ward.start("router", "router")
    port = free_port()
    ward.start("gateway", "gateway", "--port", str(port), "--mllp-port", "0")
    ward.wait(lambda: all(ready(data, name)() for name in ("stream-alerts", "stream-lakehouse", "router", "gateway")))
    ward.start("simulator", "simulate", "--patients", "40", "--rate", "40", "--faults", "heavy", "--episodes", "60")
    ward.wait(lambda: _count(kafka, ALERT_EVALUATIONS.name) > 400)

    answers = [_post(port, f"before {number}") for number in range(5)]
    evaluated = _count(kafka, ALERT_EVALUATIONS.name)
    kafka.kill(1)
    killed = time.monotonic()
    ward.wait(lambda: _count_if_led(kafka, ALERT_EVALUATIONS.name) > evaluated + 200)
    took = time.monotonic() - killed
    answers += [_post(port, f"after {number}") for number in range(5)]
    ward.wait(lambda: _count_if_led(kafka, ALERTS.name) > 0)
    kafka.start(1)
    ward.stop("simulator")

    assert wait_until_landed(Settings(), data, LONGEST_S), ward.said("stream-lakehouse")
    ward.stop("gateway", "router", "stream-alerts", "stream-lakehouse")
    ward.start("verify", "verify", "--report", str(data.root / "ledger.json"), user="operator")
    assert ward.finish("verify") == 0, ward.said("verify")
    ledger = orjson.loads((data.root / "ledger.json").read_bytes())
    with capsys.disabled():
        sys.stdout.write(f"\n200 evaluations after the kill: {took:.1f} s\n{ledger['totals']}\n")
    assert answers == [202] * 10
    assert (ledger["holds"], ledger["lost"], ledger["duplicated"]) == (True, 0, 0)
    for log in data.logs.glob("*.log"):
        assert not [name for name in USERS if (kafka.password_of(name)) in log.read_text(errors="replace")], log


def test_whoever_has_no_right_or_no_password_is_refused(
    kafka: SecuredKafka, data: DataDir, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    kafka.become(monkeypatch, "ward-simulator")
    with pytest.raises(TopicAuthorizationFailedError):
        _read(kafka, VITALS.name)
    kafka.become(monkeypatch, "ward-router")
    with pytest.raises(TopicAuthorizationFailedError):
        _write(kafka, VITALS.name)
    kafka.become(monkeypatch, "ward-gateway")
    with pytest.raises(TopicAuthorizationFailedError):
        _write(kafka, ALERTS.name)

    wrong = tmp_path / "wrong"
    wrong.write_text("guessed")
    monkeypatch.setenv("KAFKA_SASL_PASSWORD_FILE", str(wrong))
    said = CliRunner().invoke(app, ["status", "--data-dir", str(data.root)]).output
    assert "Traceback" not in said
    done = CliRunner().invoke(app, ["acl", "--data-dir", str(data.root)])
    assert done.exit_code == 1
    assert "lets us in by SASL_SSL as ward-gateway: correct" in done.output

    for name in ("KAFKA_SECURITY_PROTOCOL", "KAFKA_SSL_CA_FILE"):
        with monkeypatch.context() as patch:
            patch.delenv(name)
            with pytest.raises(KafkaError):
                _read(kafka, VITALS.name)


def test_a_quota_slows_a_sender_and_loses_nothing(kafka: SecuredKafka, monkeypatch: pytest.MonkeyPatch) -> None:
    (kafka.place / "admin.properties").write_text(
        "".join(
            f"{name}={_line(value)}\n"
            for name, value in kafka_access.of_process(kafka.environment(ADMIN)).java().items()
        )
    )
    quota = ("--entity-type", "users", "--entity-name", "ward-simulator", "--alter", "--add-config")
    command = ("kafka.admin.ConfigCommand", "--bootstrap-server", kafka.address, "--command-config", "admin.properties")
    kafka.become(monkeypatch, "ward-simulator")
    before, began = _count(kafka, VITALS.name), time.monotonic()
    _write(kafka, VITALS.name, 2_000)
    free = time.monotonic() - began
    kafka.tool(*command, *quota, "producer_byte_rate=50000")

    # Each broker counts by itself over eleven seconds, 550 kB: a megabyte for each of two leaders is more.
    began = time.monotonic()
    _write(kafka, VITALS.name, 2_000)
    assert time.monotonic() - began > free + 3
    assert _count(kafka, VITALS.name) == before + 4_000


def _post(port: int, name: str) -> int:
    body = encoded(message_id=name, patient_id="mrn/posted")
    headers = {"content-type": "application/json"}
    return httpx.post(f"http://127.0.0.1:{port}/api/iot", content=body, headers=headers, timeout=30).status_code


def _count(kafka: SecuredKafka, topic: str) -> int:
    return sum(end_offsets(kafka.address, [topic]).values())


def _count_if_led(kafka: SecuredKafka, topic: str) -> int:
    """As :func:`_count`; 0 while the partitions of a killed broker have no leader."""
    try:
        return _count(kafka, topic)
    except Failure:
        return 0


def _read(kafka: SecuredKafka, topic: str) -> None:
    consumer = KafkaConsumer(**kafka_access.client(kafka.address), bootstrap_timeout_ms=5_000)
    try:
        consumer.assign([TopicPartition(topic, 0)])
        consumer.seek_to_beginning()
        consumer.poll(timeout_ms=5_000)
    finally:
        consumer.close()


def _write(kafka: SecuredKafka, topic: str, count: int = 1) -> None:
    producer = KafkaProducer(**kafka_access.client(kafka.address), max_block_ms=10_000, acks="all")
    try:
        sent = [producer.send(topic, b"x" * 1_000, key=b"%d" % number) for number in range(count)]
        for one in sent:
            one.get(timeout=120)
    finally:
        producer.close()


def _line(text: str) -> str:
    """A value in a file of Java properties."""
    return text.replace("\n", "\\n")
