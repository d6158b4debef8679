"""The gateway against a real broker: what is acknowledged is on the topic, what is on the topic is on the ward."""

import socket
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson
import pytest
from fastapi.testclient import TestClient
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from gateway.app import create_app
from gateway.ready import READ
from lakehouse.datadir import DataDir
from lakehouse.topics import ALERT_EVALUATIONS, VITALS
from wardhouse.broker import Broker
from wardhouse.topics import ensure

ORIGIN = "http://127.0.0.1"


Topics = dict[str, str]


@pytest.fixture
def names(topics: Callable[[], Topics]) -> Topics:
    return topics()


@pytest.fixture
def client(broker: str, names: Topics, data: DataDir) -> Iterator[TestClient]:
    app = create_app(
        data,
        bootstrap_servers=broker,
        clock=lambda: datetime.now(UTC),
        topics=names,
    )
    with TestClient(app, base_url=ORIGIN) as running:
        yield running


def message(message_id: str, patient_id: str = "ward/1") -> dict[str, Any]:
    return {
        "schema_version": 1,
        "message_id": message_id,
        "patient_id": patient_id,
        "device_id": "monitor-1",
        "source": "test",
        "observed_at": "2026-03-01T12:00:00Z",
        "status": "final",
        "observations": [{"code": "8867-4", "value": 72, "unit": "/min"}],
    }


def record_at(broker: str, topic: str, partition: int, offset: int) -> Any:
    consumer = KafkaConsumer(bootstrap_servers=broker)
    place = TopicPartition(topic, partition)
    consumer.assign([place])
    consumer.seek(place, offset)
    try:
        return eventually(lambda: next((record for records in consumer.poll(500).values() for record in records), None))
    finally:
        consumer.close()


def eventually(look: Callable[[], Any], within_s: float = 10) -> Any:
    deadline = time.monotonic() + within_s
    while not (found := look()) and time.monotonic() < deadline:
        time.sleep(0.05)
    return found


def test_an_accepted_message_is_on_the_topic_where_the_receipt_says_under_its_patients_key(
    broker: str, names: Topics, client: TestClient
) -> None:
    answer = client.post("/api/iot", json=message("m-1"))

    assert answer.status_code == 202
    (receipt,) = answer.json()["messages"]
    record = record_at(broker, names[VITALS.name], receipt["partition"], receipt["offset"])
    assert (receipt["message_id"], record.key, orjson.loads(record.value)) == ("m-1", b"ward/1", message("m-1"))


def test_a_list_is_acknowledged_message_by_message_in_its_order(broker: str, names: Topics, client: TestClient) -> None:
    sent = [message(f"list-{number}", f"ward/{number}") for number in range(20)]

    answer = client.post("/api/iot", json=sent).json()

    assert answer["accepted"] == 20
    assert [receipt["message_id"] for receipt in answer["messages"]] == [one["message_id"] for one in sent]
    last = answer["messages"][-1]
    assert orjson.loads(record_at(broker, names[VITALS.name], last["partition"], last["offset"]).value) == sent[-1]


def test_one_bad_message_in_a_list_is_named_and_nothing_of_the_list_is_sent(client: TestClient) -> None:
    before = client.post("/api/iot", json=message("before", "ward/same")).json()["messages"][0]

    refused = client.post("/api/iot", json=[message("good", "ward/same"), {**message("bad"), "status": "maybe"}])
    after = client.post("/api/iot", json=message("after", "ward/same")).json()["messages"][0]

    assert (refused.status_code, refused.json()["errors"][0]["message_id"]) == (422, "bad")
    assert (after["partition"], after["offset"]) == (before["partition"], before["offset"] + 1)


def test_an_evaluation_is_on_the_ward_within_two_seconds(broker: str, names: Topics, client: TestClient) -> None:
    assert eventually(lambda: client.get("/readyz").status_code == 200)
    evaluation = {
        "quiet": False,
        "schema_version": 1,
        "pack": "adult@1",
        "message_id": "m-1",
        "partition": 0,
        "offset": 0,
        "received_at": 1_772_366_400_100,
        "patient_id": "ward/live",
        "device_id": "monitor-1",
        "source": "test",
        "location_unit": "ICU",
        "location_bed": "3",
        "observed_at": 1_772_366_400_000,
        "status": "final",
        "observations": [
            {"code": "8867-4", "value": 131.0, "band": "breach", "rule": "heart-rate-high", "limit": 120.0}
        ],
    }
    producer = KafkaProducer(bootstrap_servers=broker)
    producer.send(names[ALERT_EVALUATIONS.name], orjson.dumps(evaluation), b"ward/live").get(10)
    producer.close()
    sent = time.monotonic()

    path = "/api/patients/ward/live/vitals/latest"
    assert eventually(lambda: client.get(path).status_code == 200)
    assert time.monotonic() - sent < 2
    assert client.get(path).json() == {
        "patient_id": "ward/live",
        "encounter_id": None,
        "location": {"unit": "ICU", "bed": "3"},
        "device": {"device_id": "monitor-1", "lead_off": False, "battery": None},
        "observed_at": "2026-03-01T12:00:00.000Z",
        "received_at": "2026-03-01T12:00:00.100Z",
        "readings": [
            {
                "code": "8867-4",
                "name": "Heart rate",
                "value": 131.0,
                "unit": "/min",
                "band": "breach",
                "fault": None,
                "observed_at": "2026-03-01T12:00:00.000Z",
            }
        ],
    }
    assert client.get("/api/vitals/latest", params={"unit": "ICU"}).json()["patients"] == [client.get(path).json()]
    assert client.get("/api/vitals/latest", params={"unit": "CCU"}).json() == {"patients": []}


def test_without_a_broker_the_caller_is_told_to_come_back_and_the_gateway_says_it_is_not_ready(data: DataDir) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nowhere = f"127.0.0.1:{closed.getsockname()[1]}"
        app = create_app(data, bootstrap_servers=nowhere, clock=lambda: datetime.now(UTC))
        with TestClient(app, base_url=ORIGIN) as client:
            answer = client.post("/api/iot", json=message("m-1"))
            ready = client.get("/readyz")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert answer.headers["content-type"] == "application/problem+json"
    assert (ready.status_code, ready.json()) == (
        503,
        {
            "ready": False,
            "checks": {"broker": False, "tables": True, "lag": False},
            "tables": {"missing": [table.full_name for table in READ], "unreadable": []},
            "live_lag_records": None,
        },
    )


def test_a_broker_that_comes_back_is_used_again_without_a_restart(data: DataDir, jars: Path) -> None:
    broker = Broker(data, jars)
    broker.start()
    try:
        ensure(broker.address, (VITALS, ALERT_EVALUATIONS))
        app = create_app(data, bootstrap_servers=broker.address, clock=lambda: datetime.now(UTC), answer_within_s=2)
        with TestClient(app, base_url=ORIGIN) as client:
            before = client.post("/api/iot", json=message("before")).status_code
            broker.stop()
            away = client.post("/api/iot", json=message("away")).status_code
            broker.start()
            back = eventually(lambda: client.post("/api/iot", json=message("back")).status_code == 202, within_s=30)
    finally:
        broker.stop()

    assert (before, away, back) == (202, 503, True)
