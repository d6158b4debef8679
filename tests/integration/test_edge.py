"""The edge before a real gateway and a real broker: an outage of two hours, and a kill in the middle."""

import asyncio
import os
import re
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from fastapi.testclient import TestClient
from kafka import KafkaConsumer, TopicPartition

from gateway import app, edge, outbox, server
from gateway.refused import Refusals
from gateway.spool import Spool
from gateway.upstream import target
from lakehouse.datadir import DataDir
from lakehouse.topics import VITALS
from tests.fixtures.mqtt import free_port
from tests.fixtures.packs import prompt_pack
from tests.fixtures.stack import WARD
from tests.fixtures.upstream import Clock
from tests.fixtures.vitals import heart_rate, message

PATIENTS = ("mrn/1", "mrn/2", "mrn/3", "mrn/4")
STEP_S = 10

Topics = dict[str, str]


@pytest.fixture
def names(topics: Callable[[], Topics]) -> Topics:
    return topics()


@contextmanager
def upstream(port: int, broker: str, names: Topics, data: DataDir) -> Iterator[None]:
    """The gateway on a port, in a thread: it is gone when the block ends."""
    ready = threading.Event()
    application = app.create_app(data, bootstrap_servers=broker, clock=Clock(), topics=names)
    serving = server.server(application, ready.set)
    listener = server.listen("127.0.0.1", port)
    thread = threading.Thread(target=lambda: asyncio.run(serving.serve([listener])))
    thread.start()
    try:
        assert ready.wait(30)
        yield
    finally:
        serving.should_exit = True
        thread.join(30)
        listener.close()


def landed(broker: str, topic: str) -> list[dict[str, Any]]:
    """Every message on the topic; those of one patient in their order."""
    with closing(KafkaConsumer(bootstrap_servers=broker)) as consumer:
        places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(places)
        consumer.seek_to_beginning()
        ends = consumer.end_offsets(places)
        found: list[dict[str, Any]] = []
        while any(consumer.position(place) < ends[place] for place in places):
            for records in consumer.poll(200).values():
                found += [orjson.loads(one.value) for one in records]
    return found


def until(condition: Callable[[], Any], each: Callable[[], Any] = lambda: None) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        each()
        time.sleep(0.005)


def in_order(found: list[dict[str, Any]]) -> dict[str, list[str]]:
    """The ids of each patient's messages in the order of their topic, each once: as silver takes them."""
    return {
        patient: list(dict.fromkeys(one["message_id"] for one in found if one["patient_id"] == patient))
        for patient in PATIENTS
    }


def test_two_hours_without_upstream_lose_nothing_double_nothing_and_keep_the_order(
    broker: str, names: Topics, data: DataDir, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "_PAUSE_S", 0.01)
    clock, port, sent = Clock(), free_port(), []
    (tmp_path / "key").write_text("ward_key\n")
    said: list[str] = []
    app = edge.create_app(
        DataDir(tmp_path / "edge"),
        target(f"http://127.0.0.1:{port}", tmp_path / "key", None),
        spool=Spool(tmp_path / "spool", 64 * 1024 * 1024, file_bytes=100_000),
        pack=prompt_pack(),
        clock=clock,
        refusals=Refusals(tmp_path / "refused"),
        tell=lambda _: None,
        say=said.append,
        sleep=clock.sleep,
    )
    with TestClient(app, base_url="http://127.0.0.1") as client:

        def post() -> None:
            """What the four monitors say at one instant; the second patient's heart is too fast in the second hour."""
            hour = (clock.now - Clock().now) / timedelta(hours=1)
            messages = [
                message(
                    heart_rate(180.0 if patient == "mrn/2" and 1 < hour < 2 else 72.0),
                    message_id=f"{patient}/{len(sent)}",
                    patient_id=patient,
                    observed_at=f"{clock.now:%Y-%m-%dT%H:%M:%SZ}",
                )
                for patient in PATIENTS
            ]
            assert client.post("/api/iot", json=messages).status_code == 202
            sent.append(messages)
            clock.move(STEP_S)

        def has_everything() -> bool:
            return client.get("/readyz").json()["spool"]["oldest_observed_at"] is None

        with upstream(port, broker, names, data):
            for _ in range(5):
                post()
            until(has_everything, lambda: clock.move(1))
        went = clock.now
        at_ninety_minutes: list[dict[str, Any]] = []
        while clock.now - went < timedelta(hours=2):
            post()
            if not at_ninety_minutes and clock.now - went > timedelta(minutes=90):
                until(lambda: client.get("/api/local/alerts").json()["alerts"])
                at_ninety_minutes = client.get("/api/local/alerts").json()["alerts"]
        away = client.get("/readyz").json()
        with upstream(port, broker, names, data):
            until(has_everything, lambda: clock.move(1))
            post()
            until(has_everything, lambda: clock.move(1))
            until(lambda: not client.get("/api/local/alerts").json()["active"], lambda: clock.move(1))
            last = client.get("/api/local/alerts").json()["last"]["raised"]
            counted = client.get("/metrics").text

    found = landed(broker, names[VITALS.name])
    expected = {patient: [f"{patient}/{number}" for number in range(len(sent))] for patient in PATIENTS}
    assert in_order(found) == expected
    assert max(Counter(one["message_id"] for one in found).values()) == 1
    by_id = {one["message_id"]: one for one in found}
    assert [by_id[one["message_id"]] for messages in sent for one in messages] == [one for many in sent for one in many]
    assert (away["ready"], away["link"]["state"]) == (True, "down")
    assert away["spool"]["oldest_age_s"] >= 7200 - STEP_S
    assert [(one["patient_id"], one["value"]) for one in at_ninety_minutes] == [("mrn/2", 180.0)]
    assert [one["patient_id"] for one in last] == ["mrn/2"]
    assert f'ward_edge_forwarded_total{{outcome="acknowledged"}} {len(sent) * len(PATIENTS)}.0' in counted


class Process:
    """``ward edge`` as a process that a test may kill."""

    def __init__(self, folder: Path, upstream: str) -> None:
        self.url = f"http://127.0.0.1:{free_port()}"
        (folder / "key").write_text("ward_key\n")
        options = {
            "--upstream": upstream,
            "--upstream-key-file": str(folder / "key"),
            "--spool": str(folder / "spool"),
            "--data-dir": str(folder / "edge"),
            "--port": self.url.rpartition(":")[2],
        }
        self._process = subprocess.Popen(
            [WARD, "edge", *(part for pair in options.items() for part in pair)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=dict(os.environ),
        )
        until(self._answers)

    def _answers(self) -> bool:
        assert self._process.poll() is None
        try:
            return httpx.get(f"{self.url}/healthz").status_code == 200
        except httpx.TransportError:
            return False

    def ready(self) -> dict[str, Any]:
        found: dict[str, Any] = httpx.get(f"{self.url}/readyz").json()
        return found

    def forwarded(self) -> float:
        """How many messages upstream has acknowledged to it."""
        found = re.search(
            r'ward_edge_forwarded_total\{outcome="acknowledged"\} (\S+)', httpx.get(f"{self.url}/metrics").text
        )
        return float(found[1]) if found else 0.0

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def stop(self) -> int:
        self._process.terminate()
        return self._process.wait(30)


def test_an_edge_that_is_killed_while_it_forwards_loses_nothing_and_its_successor_goes_on(
    broker: str, names: Topics, data: DataDir, tmp_path: Path
) -> None:
    port, acknowledged = free_port(), dict[str, list[str]]((patient, []) for patient in PATIENTS)

    def post(running: Process, first: int, last: int) -> None:
        with httpx.Client(base_url=running.url, timeout=30) as client:
            for number in range(first, last):
                messages = [
                    message(message_id=f"{one}/{number}/{part}", patient_id=one)
                    for part in range(10)
                    for one in PATIENTS
                ]
                assert client.post("/api/iot", json=messages).status_code == 202
                for one in messages:
                    acknowledged[one["patient_id"]].append(one["message_id"])

    first = Process(tmp_path, f"http://127.0.0.1:{port}")
    post(first, 0, 250)
    with upstream(port, broker, names, data):
        # Of twenty batches one or two are through when it is killed.
        until(lambda: first.forwarded() > 0)
        first.kill()
        went = len(landed(broker, names[VITALS.name]))
        left = sum(file.stat().st_size for file in (tmp_path / "spool").glob("*.spool"))
        second = Process(tmp_path, f"http://127.0.0.1:{port}")
        post(second, 250, 260)
        until(lambda: second.ready()["spool"]["oldest_observed_at"] is None)
        code = second.stop()

    assert (0 < went < 10_000, left > 0, code) == (True, True, 0)
    assert in_order(landed(broker, names[VITALS.name])) == acknowledged
