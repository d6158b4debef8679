"""FHIR, HL7 v2 and device messages into a real broker, over real sockets; what is acknowledged is there."""

import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import orjson
import pytest
from fastapi.testclient import TestClient
from kafka import KafkaConsumer, TopicPartition

from gateway.app import create_app
from gateway.server import listen
from gateway.site import Site
from lakehouse.datadir import DataDir
from lakehouse.topics import CLINICAL_RESOURCE, TOPICS, VITALS
from tests.fixtures.pages import curl, page, shell
from tests.fixtures.stack import WARD
from tests.fixtures.vitals import message
from wardhouse.broker import Broker
from wardhouse.topics import ensure

Topics = dict[str, str]
FHIR = {"content-type": "application/fhir+json"}


@pytest.fixture
def names(topics: Callable[[], Topics]) -> Topics:
    return topics()


class Gateway:
    """A gateway on real ports for MLLP; HTTP goes through the application."""

    def __init__(self, client: TestClient, port: int) -> None:
        self.client, self.port = client, port

    def fhir(self, path: str, resource: Any) -> httpx.Response:
        content = resource if isinstance(resource, str) else orjson.dumps(resource)
        answer: httpx.Response = self.client.post(path, content=content, headers=FHIR)
        return answer

    def hl7(self, *messages: bytes) -> list[list[str]]:
        """The MSA of each answer, all messages on one connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=15) as connection:
            return [msa(answer) for answer in ask(connection, *messages)]


@pytest.fixture
def gateway(broker: str, names: Topics, data: DataDir) -> Iterator[Gateway]:
    listener = listen("127.0.0.1", 0)
    app = create_app(
        data,
        bootstrap_servers=broker,
        clock=lambda: datetime.now(UTC),
        topics=names,
        site=Site("hospital", ZoneInfo("Europe/Berlin")),
        mllp_listener=listener,
    )
    with TestClient(app, base_url="http://127.0.0.1") as client:
        yield Gateway(client, listener.getsockname()[1])


def ask(connection: socket.socket, *messages: bytes) -> Iterator[bytes]:
    """Send each message when the one before is answered."""
    for sent in messages:
        connection.sendall(b"\x0b" + sent + b"\x1c\r")
        yield answer_on(connection)


def answer_on(connection: socket.socket) -> bytes:
    answer = b""
    while not answer.endswith(b"\x1c\r"):
        chunk = connection.recv(4096)
        assert chunk, answer
        answer += chunk
    return answer.strip(b"\x0b\x1c\r")


def msa(answer: bytes) -> list[str]:
    return answer.decode().split("\r")[1].split("|")


def everything(broker: str, topic: str) -> list[Any]:
    """All records of a topic by now, as JSON, by partition and offset."""
    consumer = KafkaConsumer(bootstrap_servers=broker)
    try:
        places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(places)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(places)
        found: list[Any] = []
        deadline = time.monotonic() + 20
        while any(consumer.position(place) < ends[place] for place in places):
            assert time.monotonic() < deadline
            found += [orjson.loads(one.value) for records in consumer.poll(200).values() for one in records]
        return found
    finally:
        consumer.close()


def observation(number: int = 1, value: float = 72, **changes: Any) -> dict[str, Any]:
    return {
        "resourceType": "Observation",
        "id": f"o-{number}",
        "status": "final",
        "code": {"coding": [{"system": "http://loinc.org", "code": "8867-4"}]},
        "subject": {"reference": "Patient/4711"},
        "effectiveDateTime": "2026-03-01T12:00:00Z",
        "valueQuantity": {"value": value, "system": "http://unitsofmeasure.org", "code": "/min"},
        **changes,
    }


def hl7(control_id: str, value: str = "72", kind: str = "ORU^R01") -> bytes:
    segments = (
        rf"MSH|^~\&|MON|ICU|WARD|HOSP|20260301130000+0100||{kind}|{control_id}|P|2.6",
        "PID|||4711^^^HOSP^MR||FAMILY^GIVEN||19500203|F",
        "PV1|1|I|ICU^^7||||||||||||||||V-9",
        *(["OBR|1||f-1|x|||20260301130000", f"OBX|1|NM|8867-4^^LN||{value}|bpm|||||F"] if kind[0] == "O" else []),
    )
    return "\r".join(segments).encode()


def test_an_observation_is_created_where_kafka_says(broker: str, names: Topics, gateway: Gateway) -> None:
    answer = gateway.fhir("/fhir/Observation", observation())

    assert (answer.status_code, answer.headers["location"]) == (201, "http://127.0.0.1/fhir/Observation/o-1")
    assert answer.headers["content-type"] == "application/fhir+json"
    (issue,) = answer.json()["issue"]
    assert (issue["severity"], issue["diagnostics"][:32]) == ("information", "acknowledged by Kafka: partition")
    (message,) = everything(broker, names[VITALS.name])
    assert (message["patient_id"], message["observations"][0]["value"]) == ("hospital/4711", 72.0)


def test_a_put_is_a_correction_and_keeps_the_id_of_its_address(gateway: Gateway) -> None:
    corrected = observation(status="corrected")

    assert gateway.client.put("/fhir/Observation/o-1", json=corrected).status_code == 200
    answer = gateway.client.put("/fhir/Observation/o-2", json=corrected)

    assert (answer.status_code, answer.json()["issue"][0]["expression"]) == (400, ["Observation.id"])


def test_a_batch_is_answered_entry_by_entry_and_a_transaction_as_a_whole(
    broker: str, names: Topics, gateway: Gateway
) -> None:
    request = {"method": "POST", "url": "Observation"}
    entries = [
        {"resource": observation(1), "request": request},
        {"resource": observation(2, status="registered"), "request": request},
        {"resource": observation(3), "request": {"method": "PUT", "url": "Observation/o-3"}},
    ]
    bundle = {"resourceType": "Bundle", "type": "transaction", "entry": entries}

    refused = gateway.fhir("/fhir", bundle)
    nothing = everything(broker, names[VITALS.name])
    taken = gateway.fhir("/fhir", {**bundle, "type": "batch"})

    assert (refused.status_code, refused.json()["resourceType"], nothing) == (422, "OperationOutcome", [])
    body = taken.json()
    assert (taken.status_code, body["resourceType"], body["type"]) == (200, "Bundle", "batch-response")
    responses = [entry["response"] for entry in body["entry"]]
    assert [one["status"][:3] for one in responses] == ["201", "422", "200"]
    assert [one.get("location") for one in responses] == ["Observation/o-1", None, "Observation/o-3"]
    assert responses[1]["outcome"]["issue"][0]["code"] == "not-supported"
    assert len(everything(broker, names[VITALS.name])) == 2


@pytest.mark.parametrize(
    ("path", "content", "kind", "status"),
    [
        ("/fhir/Observation", "{", "application/fhir+json", 400),
        ("/fhir/Observation", "{}", "application/fhir+json", 400),
        ("/fhir/Observation", "<Observation/>", "application/fhir+xml", 415),
        ("/fhir/Observation", " " * 1_100_000, "application/fhir+json", 413),
        ("/fhir/Nothing", "{}", "application/fhir+json", 404),
        ("/fhir/Patient", orjson.dumps(observation()).decode(), "application/json", 422),
    ],
)
def test_every_refusal_of_fhir_is_an_operation_outcome(
    gateway: Gateway, path: str, content: str, kind: str, status: int
) -> None:
    answer = gateway.client.post(path, content=content, headers={"content-type": kind})

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/fhir+json")
    assert answer.json()["resourceType"] == "OperationOutcome"


def test_the_capability_statement_and_the_answers_are_valid_fhir(gateway: Gateway) -> None:
    from fhir.resources.R4B import get_fhir_model_class

    batch = {"resourceType": "Bundle", "type": "batch", "entry": [{"request": {"method": "GET", "url": "Patient"}}]}
    answers = [
        gateway.client.get("/fhir/metadata"),
        gateway.fhir("/fhir/Observation", observation()),
        gateway.fhir("/fhir/Observation", {}),
        gateway.fhir("/fhir", batch),
    ]

    kinds = [answer.json()["resourceType"] for answer in answers]
    assert kinds == ["CapabilityStatement", "OperationOutcome", "OperationOutcome", "Bundle"]
    for kind, answer in zip(kinds, answers, strict=True):
        get_fhir_model_class(kind).model_validate_json(answer.content)


def test_the_published_examples_of_fhir_are_taken(shared_data: Path, gateway: Gateway) -> None:
    statuses = {}
    for file in sorted((shared_data / "fhir-r4").glob("*.json")):
        kind = file.name.split("-")[0]
        statuses[file.stem] = gateway.fhir(f"/fhir/{kind}", file.read_text(encoding="utf-8")).status_code

    refused = {"Device-example": 404, "DeviceMetric-example": 404}
    assert statuses == {name: refused.get(name, 201) for name in statuses}
    assert len(statuses) == 11


def test_an_hl7_message_is_acknowledged_when_kafka_has_it(broker: str, names: Topics, gateway: Gateway) -> None:
    answers = gateway.hl7(hl7("M-1"), hl7("M-2", "abc", "ADT^A01"), hl7("M-1"), hl7("M-3", kind="ORM^O01"))

    assert [answer[1:3] for answer in answers] == [["AA", "M-1"], ["AA", "M-2"], ["AA", "M-1"], ["AR", "M-3"]]
    assert answers[3][3].startswith("ORM")
    messages = everything(broker, names[VITALS.name])
    # Sent twice, it is there twice under one id, and counts once.
    assert [sent["message_id"] for sent in messages] == ["hl7/MON/ICU/M-1/0"] * 2
    assert messages[0] == messages[1]
    resources = [one["resource"] for one in everything(broker, names[CLINICAL_RESOURCE.name])]
    assert [(one["resourceType"], one["id"]) for one in resources] == [("Patient", "4711"), ("Encounter", "V-9")]


def test_a_message_may_come_in_pieces_behind_noise_and_several_at_once(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=15) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in (b"noise\x0b", *(hl7("M-1")[at : at + 40] for at in range(0, 400, 40)), b"\x1c"):
            connection.sendall(piece)
            time.sleep(0.005)
        first = msa(answer_on(connection))
        connection.sendall(b"\r\x0b" + hl7("M-2") + b"\x1c\r\x0b" + hl7("M-3") + b"\x1c\r")
        rest = b""
        while rest.count(b"\x1c\r") < 2:
            rest += connection.recv(4096)

    assert first[1:3] == ["AA", "M-1"]
    assert [msa(one)[1:3] for one in rest.split(b"\x1c\r")[:2]] == [["AA", "M-2"], ["AA", "M-3"]]


def test_a_message_that_is_too_long_is_told_so_and_the_connection_closed(gateway: Gateway) -> None:
    with socket.create_connection(("127.0.0.1", gateway.port), timeout=15) as connection:
        connection.sendall(b"\x0b" + hl7("M-1") + b"x" * (1024 * 1024 + 1))
        answer = answer_on(connection)
        connection.settimeout(5)
        closed = is_closed(connection)

    assert closed
    assert msa(answer)[1:] == ["AE", "M-1", "the message is longer than 1048576 bytes"]


def is_closed(connection: socket.socket) -> bool:
    try:
        return connection.recv(1) == b""
    except ConnectionResetError:
        return True  # it was closed while we still sent


def test_real_messages_are_acknowledged_over_one_connection(shared_data: Path, gateway: Gateway) -> None:
    files = sorted((shared_data / "hl7v2").glob("*/*.hl7"))

    answers = gateway.hl7(*(file.read_bytes() for file in files))

    assert {answer[1] for answer in answers} == {"AA"}
    assert len(answers) == 12


def test_lines_of_messages_are_taken_as_a_list_is(broker: str, names: Topics, gateway: Gateway) -> None:
    lines = [orjson.dumps(message(message_id=f"m-{number}")) for number in range(3)]
    headers = {"content-type": "application/x-ndjson"}

    answer = gateway.client.post("/api/iot", content=b"\n".join([*lines, b""]), headers=headers)
    broken = gateway.client.post("/api/iot", content=b"\n".join([*lines, b"{"]), headers=headers)

    assert (answer.status_code, [one["message_id"] for one in answer.json()["messages"]]) == (
        202,
        ["m-0", "m-1", "m-2"],
    )
    assert (broken.status_code, broken.json()["detail"][:26]) == (422, "line 4 of the body is not ")
    assert len(everything(broker, names[VITALS.name])) == 3


def test_without_a_broker_fhir_and_hl7_are_told_to_send_again(data: DataDir) -> None:
    listener = listen("127.0.0.1", 0)
    app = create_app(
        data,
        bootstrap_servers="127.0.0.1:1",
        clock=lambda: datetime.now(UTC),
        mllp_listener=listener,
        answer_within_s=0.3,
    )
    with TestClient(app, base_url="http://127.0.0.1") as client:
        gateway = Gateway(client, listener.getsockname()[1])
        refused = gateway.fhir("/fhir/Observation", observation())
        (answer,) = gateway.hl7(hl7("M-1"))

    assert (refused.status_code, refused.headers["retry-after"]) == (503, "5")
    assert refused.json()["issue"][0]["code"] == "transient"
    assert answer[1:3] == ["AE", "M-1"]
    assert answer[3].endswith("send the same again")


class Process:
    """``ward gateway`` as a process that a test may kill."""

    def __init__(self, data: DataDir, broker: str, spool: Path) -> None:
        environment = {**os.environ, "KAFKA_BOOTSTRAP_SERVERS": broker, "WARD_GATEWAY_SPOOL": str(spool)}
        ports = (free_port(), free_port())
        arguments = ["gateway", "--data-dir", str(data.root), "--port", str(ports[0]), "--mllp-port", str(ports[1])]
        self._process = subprocess.Popen([WARD, *arguments], env=environment, stdout=subprocess.DEVNULL)
        self.url, self.mllp = f"http://127.0.0.1:{ports[0]}", ports[1]
        deadline = time.monotonic() + 60
        while not self.answers():
            assert self._process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


def test_what_was_acknowledged_without_a_broker_is_on_the_topic_after_a_kill(
    data: DataDir, tmp_path: Path, jars: Path
) -> None:
    broker = Broker(DataDir(tmp_path / "kafka"), jars)
    broker.start()
    spool = tmp_path / "spool"
    try:
        ensure(broker.address, TOPICS)
        first = Process(data, broker.address, spool)
        acknowledged = post_all(first, 0, 20)
        broker.stop()
        away = post_all(first, 20, 60)
        with socket.create_connection(("127.0.0.1", first.mllp), timeout=30) as connection:
            (answer,) = ask(connection, hl7("M-1"))
        ready = httpx.get(f"{first.url}/readyz").status_code
        first.kill()
        broker.start()
        second = Process(data, broker.address, spool)
        try:
            deadline = time.monotonic() + 60
            while list(spool.glob("*.spool")):
                assert time.monotonic() < deadline
                time.sleep(0.2)
            after = post_all(second, 60, 70)
        finally:
            second.kill()
        found = [one["message_id"] for one in everything(broker.address, VITALS.name)]
    finally:
        broker.stop()

    assert (acknowledged, away, after) == (list(range(20)), list(range(20, 60)), list(range(60, 70)))
    assert (msa(answer)[1], ready) == ("AA", 200)
    of_posts = [name for name in found if name.startswith("m-")]
    assert set(of_posts) == {f"m-{number}" for number in range(70)}
    # All of one patient, hence of one partition: what the spool held came in its order.
    assert list(dict.fromkeys(of_posts)) == [f"m-{number}" for number in range(70)]
    assert "hl7/MON/ICU/M-1/0" in found


def post_all(gateway: Process, start: int, stop: int) -> list[int]:
    """Post messages one by one; the numbers of those that were acknowledged."""
    with httpx.Client(base_url=gateway.url, timeout=30) as client:
        answers = {n: client.post("/api/iot", json=message(message_id=f"m-{n}")) for n in range(start, stop)}
    return [number for number, answer in answers.items() if answer.status_code == 202]


EXAMPLES = shell(page("integration.md").split("\n## Ways out\n")[0])


@pytest.mark.parametrize("example", [one for one in EXAMPLES if "curl" in one], ids=lambda one: one.split()[1][-30:])
def test_the_examples_of_the_documentation_for_http_are_taken(gateway: Gateway, example: str) -> None:
    answer = curl(gateway.client, example)

    assert answer.status_code in (200, 201, 202), answer.text


def test_the_examples_of_the_documentation_for_hl7_are_acknowledged(gateway: Gateway) -> None:
    examples = re.findall(r"^```python\n(.*?)^```", page("integration.md"), re.DOTALL | re.MULTILINE)
    (example,) = (one for one in examples if "2575" in one)

    done = subprocess.run(
        [sys.executable, "-c", example.replace("2575", str(gateway.port))], capture_output=True, text=True, check=True
    )

    assert "MSA|AA|" in done.stdout
