"""``ward bridge`` with a real schema registry, which is away for a while, and a bridge that is killed."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import httpx
import orjson
import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.admin import NewTopic

from gateway import ingest
from lakehouse.datadir import DataDir
from lakehouse.topics import MAX_RECORD_BYTES, VITALS
from tests.fixtures import registered
from tests.fixtures.servers import Process, apicurio, registry_of
from tests.fixtures.stack import LONGEST_S, WARD
from tests.fixtures.vitals import message
from wardhouse.broker import Broker
from wardhouse.topics import administration, end_offsets, ensure

pytestmark = pytest.mark.cluster
TOPIC = "monitors.registered"
LARGE = b"{" + b"x" * MAX_RECORD_BYTES
GARBAGE = (b"{}", b"", b"\0\0", registered.head(4711) + b"of a schema that nobody registered")


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Process]:
    with apicurio(tmp_path / "apicurio") as running:
        yield running


@pytest.fixture
def bootstrap(data: DataDir, jars: Path) -> Iterator[str]:
    with Broker(data, jars) as broker:
        ensure(broker.address)
        with administration(broker.address) as client:
            more = {"max.message.bytes": str(2 * MAX_RECORD_BYTES)}
            client.create_topics([NewTopic(TOPIC, 2, 1, topic_configs=more)])
        yield broker.address


class Bridge:
    """``ward bridge`` as a process; ``said`` is what it wrote on standard error."""

    def __init__(self, data: DataDir, bootstrap: str, registry: str) -> None:
        self._command = [WARD, "bridge", TOPIC, "--registry", registry, "--data-dir", str(data.root)]
        self._environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": bootstrap}
        self._log = data.root / "bridge.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=log)

    def end(self, how: signal.Signals) -> int:
        assert self._process is not None
        self._process.send_signal(how)
        return self._process.wait(LONGEST_S)

    @property
    def said(self) -> str:
        return self._log.read_text()

    def wait(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + LONGEST_S
        while not condition():
            assert self._process is not None
            assert self._process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.1)


@pytest.fixture
def bridge(data: DataDir, bootstrap: str, registry: Process) -> Iterator[Bridge]:
    running = Bridge(data, bootstrap, registry_of(registry))
    yield running
    if running._process is not None:
        running.end(signal.SIGKILL)


def test_what_a_topic_holds_becomes_messages_though_registry_and_bridge_are_killed(
    data: DataDir, bootstrap: str, registry: Process, bridge: Bridge
) -> None:
    numbers = _register(registry)
    registry.kill()
    sent = _send(bootstrap, numbers, 0, 2_000)
    bridge.start()
    bridge.wait(lambda: "what comes waits: the registry does not answer" in bridge.said)
    assert _count(bootstrap) == 0
    registry.start()
    assert _register(registry) == numbers

    bridge.wait(lambda: _count(bootstrap) > 0)
    bridge.end(signal.SIGKILL)
    sent |= _send(bootstrap, numbers, 2_000, 2_100)
    bridge.start()
    _send_plainly(bootstrap, (*GARBAGE, LARGE))
    found: list[bytes] = []
    bridge.wait(lambda: _reads_all(bootstrap, found, len(sent), len(GARBAGE)))

    assert set(GARBAGE) == {value for value in found if not value.startswith(b'{"')}
    messages = [orjson.loads(value) for value in found if value.startswith(b'{"')]
    assert {one["message_id"]: one for one in messages} == sent
    assert ingest.check(messages)[1] == []
    (refused,) = [orjson.loads(file.read_bytes()) for file in data.refused.iterdir()]
    assert (refused["topic"], refused["payload_bytes"]) == (TOPIC, len(LARGE))
    assert "the registry answers again" in bridge.said
    assert "sent on as it came, a dead letter: " in bridge.said
    assert bridge.end(signal.SIGTERM) == 0
    assert "Traceback" not in bridge.said


def test_a_topic_that_is_not_there_and_a_registry_that_is_none_are_told(
    data: DataDir, bootstrap: str, registry: Process
) -> None:
    environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": bootstrap}
    command = [WARD, "bridge", "nowhere", "--registry", registry_of(registry), "--data-dir", str(data.root)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LONGEST_S, check=False)
    assert (done.returncode, "has no topic nowhere" in done.stderr, done.stderr.count("\n")) == (1, True, 1)

    other = Bridge(data, bootstrap, f"http://127.0.0.1:{registry.port}/nothing")
    _send(bootstrap, {"avro": 1, "protobuf": 2}, 0, 1)
    other.start()
    try:
        other.wait(lambda: _count(bootstrap) == 1)
        assert ": the registry has no schemas/ids/1 (said once a minute)" in other.said
    finally:
        other.end(signal.SIGKILL)


def _register(registry: Process) -> dict[str, int]:
    def number(subject: str, kind: str, text: str) -> int:
        asked = {"schemaType": kind, "schema": text}
        answer = httpx.post(f"{registry_of(registry)}/subjects/{subject}/versions", json=asked, timeout=30)
        return int(answer.raise_for_status().json()["id"])

    return {
        "avro": number("avro-value", "AVRO", registered.AVRO),
        "protobuf": number("protobuf-value", "PROTOBUF", registered.PROTOBUF),
    }


def _send(bootstrap: str, numbers: dict[str, int], begin: int, end: int) -> dict[str, object]:
    """Send messages with these numbers in their ids, of both kinds by turns; them by id."""
    messages = [message(message_id=f"m{number}", patient_id=f"mrn/{number % 20}") for number in range(begin, end)]
    writers = (
        lambda one: registered.avro(numbers["avro"], one),
        lambda one: registered.protobuf(numbers["protobuf"], one),
    )
    _send_plainly(bootstrap, [writers[at % 2](one) for at, one in enumerate(messages)])
    return {str(one["message_id"]): one for one in messages}


def _send_plainly(bootstrap: str, values: "tuple[bytes, ...] | list[bytes]") -> None:
    with closing(
        KafkaProducer(bootstrap_servers=bootstrap, acks="all", max_request_size=2 * MAX_RECORD_BYTES)
    ) as producer:
        for future in [producer.send(TOPIC, value) for value in values]:
            future.get(timeout=30)


def _count(bootstrap: str) -> int:
    return sum(end_offsets(bootstrap, [VITALS.name]).values())


def _reads_all(bootstrap: str, found: list[bytes], messages: int, others: int) -> bool:
    """Whether so many different messages and other records have come; what has come is in ``found`` then."""
    with closing(KafkaConsumer(VITALS.name, bootstrap_servers=bootstrap, auto_offset_reset="earliest")) as consumer:
        found.clear()
        while came := consumer.poll(timeout_ms=2_000):
            found += [record.value for records in came.values() for record in records]
    plain = {value for value in found if value.startswith(b'{"')}
    return (len(plain), len(set(found) - plain)) == (messages, others)
