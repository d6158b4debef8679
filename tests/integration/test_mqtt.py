"""Device messages over a real MQTT broker into a real Kafka; what is acknowledged is there, or is kept."""

import asyncio
import itertools
import logging
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi.testclient import TestClient
from kafka import KafkaConsumer, TopicPartition

from gateway.app import create_app
from gateway.ingest import BrokerUnavailableError
from gateway.live import LatestVitals
from gateway.metrics import Metrics
from gateway.mqtt import Bridge, Intake, Payload, source
from lakehouse.datadir import DataDir
from lakehouse.topics import VITALS
from tests.fixtures.mqtt import PASSWORD, USER, MqttBroker, write_certificate
from tests.fixtures.vitals import message

PAGE = Path(__file__).resolve().parents[2] / "docs" / "integration.md"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)

_wards = itertools.count()


@pytest.fixture(scope="module")
def mqtt(tmp_path_factory: pytest.TempPathFactory, jars: Path) -> Iterator[MqttBroker]:
    running = MqttBroker(tmp_path_factory.mktemp("mqtt") / "artemis", jars)
    running.start()
    yield running
    running.stop()


@dataclass(frozen=True)
class Ward:
    """A topic and a client id of one test, and what Kafka calls its topics."""

    mqtt: MqttBroker
    kafka: str
    names: dict[str, str]
    data: DataDir
    name: str

    @property
    def topic(self) -> str:
        return f"{self.name}/bed-7"

    @contextmanager
    def gateway(
        self, kafka: str | None = None, topic: str = "", ca: Path | None = None, password_file: Path | None = None
    ) -> Iterator[TestClient]:
        """A gateway that reads the ward's topics, once it has tried to subscribe."""
        app = create_app(
            self.data,
            bootstrap_servers=kafka or self.kafka,
            clock=lambda: NOON,
            topics=self.names,
            mqtt_source=source(
                "127.0.0.1",
                self.mqtt.tls_port if ca else self.mqtt.port,
                (topic or f"{self.name}/#",),
                self.name,
                ca=ca,
                user=USER if password_file else None,
                password_file=password_file,
            ),
            answer_within_s=0.3 if kafka else 8.0,
        )
        with TestClient(app, base_url="http://127.0.0.1") as client:
            until(lambda: state(client)["fault"] != "not connected yet")
            yield client

    def publish(self, *payloads: Any) -> None:
        for payload in payloads:
            self.mqtt.publish(self.topic, payload if isinstance(payload, bytes) else orjson.dumps(payload))

    def landed(self) -> list[str]:
        """The message ids on Kafka by now."""
        consumer = KafkaConsumer(bootstrap_servers=self.kafka)
        try:
            topic = self.names[VITALS.name]
            places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
            consumer.assign(places)
            consumer.seek_to_beginning()
            ends = consumer.end_offsets(places)
            found: list[str] = []
            while any(consumer.position(place) < ends[place] for place in places):
                for records in consumer.poll(200).values():
                    found += [orjson.loads(one.value)["message_id"] for one in records]
            return found
        finally:
            consumer.close()

    def left(self) -> list[bytes]:
        return self.mqtt.left(self.name, self.topic)


@pytest.fixture
def ward(mqtt: MqttBroker, broker: str, topics: Callable[[], dict[str, str]], data: DataDir) -> Ward:
    return Ward(mqtt, broker, topics(), data, f"ward-{next(_wards)}")


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 40
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def state(client: TestClient) -> dict[str, Any]:
    """What /readyz says of the connection."""
    found: dict[str, Any] = client.get("/readyz").json()["mqtt"]
    return found


def figure(client: TestClient, line: str) -> float:
    """One figure of /metrics, by its name and labels."""
    found = re.search(rf"^{re.escape(line)} (\S+)$", client.get("/metrics").text, re.MULTILINE)
    return float(found[1]) if found else 0.0


def test_one_message_a_list_and_lines_are_taken_in_order_and_acknowledged(ward: Ward) -> None:
    lines = b"\n".join(orjson.dumps(message(message_id=name)) for name in ("d", "e"))

    with ward.gateway() as gateway:
        ward.publish(message(message_id="a"), [message(message_id="b"), message(message_id="c")], lines)
        until(lambda: len(ward.landed()) == 5)
        connected = figure(gateway, "ward_gateway_mqtt_connected")

    assert ward.landed() == ["a", "b", "c", "d", "e"]
    assert (connected, ward.left()) == (1.0, [])


def test_what_kafka_did_not_take_comes_again_after_a_restart_and_so_does_what_was_sent_meanwhile(ward: Ward) -> None:
    with ward.gateway(kafka="127.0.0.1:1") as gateway:
        ward.publish(message(message_id="a"), message(message_id="b"))
        until(lambda: figure(gateway, 'ward_gateway_messages_total{outcome="unavailable"}'))
    ward.publish(message(message_id="c"))
    nothing = ward.landed()

    with ward.gateway():
        until(lambda: len(ward.landed()) == 3)

    assert (nothing, ward.landed(), ward.left()) == ([], ["a", "b", "c"], [])


def test_what_is_no_message_is_kept_for_people_and_the_rest_of_its_payload_is_taken(
    ward: Ward, caplog: pytest.LogCaptureFixture
) -> None:
    part = [message(message_id="a"), message(message_id="b", status="maybe")]

    with ward.gateway() as gateway, caplog.at_level(logging.WARNING, "gateway.mqtt"):
        ward.publish(part, b"\xff", b"\xff", message(message_id="c"))
        until(lambda: "c" in ward.landed())
        until(lambda: figure(gateway, 'ward_gateway_messages_total{outcome="refused"}') == 3)

    kept = [orjson.loads(file.read_bytes()) for file in ward.data.refused.glob("*.json")]
    assert (ward.landed(), ward.left()) == (["a", "c"], [])
    assert [(one["topic"], one["refused_at"]) for one in kept] == [(ward.topic, "2026-03-01T12:00:00+00:00")] * 2
    by_kind = {"payload" in one: one for one in kept}
    assert orjson.loads(by_kind[True]["payload"]) == part
    assert by_kind[True]["faults"][0].startswith("message 1: ")
    assert by_kind[False]["payload_base64"] == "/w=="
    (first, *_) = [record.getMessage() for record in caplog.records if record.name == "gateway.mqtt"]
    assert first.startswith(f"MQTT: a payload of topic '{ward.topic}' is refused: message 1: ")


def test_a_broker_that_restarts_is_found_again_and_meanwhile_the_gateway_says_so(ward: Ward) -> None:
    with ward.gateway() as gateway:
        ward.publish(message(message_id="a"))
        until(lambda: ward.landed() == ["a"])
        ward.mqtt.stop()
        until(lambda: figure(gateway, "ward_gateway_mqtt_connected") == 0.0)
        away = state(gateway)
        ward.mqtt.start()
        ward.publish(message(message_id="b"))
        until(lambda: len(ward.landed()) == 2)
        back = state(gateway)

    assert (away["connected"], back) == (False, {"connected": True, "fault": None})
    assert away["fault"]
    assert (ward.landed(), ward.left()) == (["a", "b"], [])


def test_a_broker_is_believed_by_its_certificate_alone(ward: Ward, tmp_path: Path) -> None:
    stranger = tmp_path / "certificate.pem"
    write_certificate(stranger, tmp_path / "key.pem")

    with ward.gateway(ca=stranger) as gateway:
        refused = state(gateway)
    with ward.gateway(ca=ward.mqtt.certificate):
        ward.publish(message(message_id="a"))
        until(ward.landed)

    assert (refused["connected"], "certificate verify failed" in refused["fault"]) == (False, True)
    assert ward.left() == []


def test_a_user_is_known_by_the_password_in_its_file_alone(ward: Ward, tmp_path: Path) -> None:
    right, wrong = tmp_path / "right", tmp_path / "wrong"
    right.write_text(f"{PASSWORD}\n")
    wrong.write_text("something else")

    with ward.gateway(password_file=wrong) as gateway:
        refused = state(gateway)
    with ward.gateway(password_file=right):
        ward.publish(message(message_id="a"))
        until(ward.landed)

    assert (refused["connected"], "uthoriz" in refused["fault"]) == (False, True), refused
    assert PASSWORD not in str(refused)
    assert ward.left() == []


class Held(Intake):
    """Says nothing of the first payloads until it is released, and takes no others."""

    def __init__(self) -> None:
        self.released, self.asked = asyncio.Event(), 0

    async def take(self, payloads: Sequence[Payload]) -> list[Payload]:
        self.asked += 1
        if self.asked > 1:
            raise BrokerUnavailableError("Kafka is away")
        await self.released.wait()
        return list(payloads)


class Broken(Intake):
    def __init__(self) -> None:
        pass

    async def take(self, payloads: Sequence[Payload]) -> list[Payload]:
        raise RuntimeError(f"{len(payloads)} too many")


def bridge(ward: Ward) -> Bridge:
    return Bridge(source("127.0.0.1", ward.mqtt.port, (ward.topic,), ward.name), Metrics(ward.data, LatestVitals()))


def test_what_came_on_a_connection_that_is_gone_is_not_acknowledged_on_the_next(ward: Ward) -> None:
    async def run() -> None:
        reading, intake = bridge(ward), Held()
        async with reading.run(intake):
            await asyncio.to_thread(until, lambda: reading.fault is None)
            await asyncio.to_thread(ward.publish, b"a")
            await asyncio.to_thread(until, lambda: intake.asked == 1)
            await asyncio.to_thread(ward.mqtt.stop)
            await asyncio.to_thread(until, lambda: reading.fault is not None)
            await asyncio.to_thread(ward.mqtt.start)
            await asyncio.to_thread(until, lambda: reading.fault is None)
            await asyncio.to_thread(ward.publish, b"b")
            intake.released.set()
            await asyncio.to_thread(until, lambda: intake.asked > 1)

    asyncio.run(run())

    assert ward.left() == [b"a", b"b"]


def test_a_fault_of_our_own_ends_the_connection_and_says_so_and_nothing_is_acknowledged(ward: Ward) -> None:
    async def run() -> str:
        reading = bridge(ward)
        async with reading.run(Broken()):
            await asyncio.to_thread(until, lambda: reading.fault is None)
            await asyncio.to_thread(ward.publish, b"a")
            await asyncio.to_thread(until, lambda: "failed" in (reading.fault or ""))
            await asyncio.to_thread(ward.publish, b"b")
            return reading.fault or ""

    fault = asyncio.run(run())

    assert fault == "the bridge has failed, restart the gateway: RuntimeError('1 too many')"
    assert ward.left() == [b"a", b"b"]


def test_the_example_of_the_documentation_lands(ward: Ward) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    (example,) = (one for one in examples if "1883" in one)

    with ward.gateway(topic="monitors/#"):
        subprocess.run([sys.executable, "-c", example.replace("1883", str(ward.mqtt.port))], check=True)
        until(ward.landed)

    assert ward.landed() == ["monitor-7/2026-03-01T12:00:00Z"]
