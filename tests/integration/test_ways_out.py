"""What people do about alerts, and live streams: a real broker, a router that runs, a real server and real sockets."""

import re
import shlex
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode

import httpx
import orjson
import pytest
import uvicorn
from fastapi import FastAPI
from kafka import KafkaAdminClient, TopicPartition
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from alerting.router import Topics
from gateway import keys
from gateway.app import create_app
from gateway.server import address, listen, server
from lakehouse.caller import Scope
from lakehouse.datadir import DataDir
from lakehouse.tables import ALERT, EARLY_WARNING_SCORE, VITAL_SIGN_MINUTE
from tests.fixtures.delta import append
from tests.fixtures.marts import write_mart
from tests.fixtures.pages import curl, page, shell
from tests.fixtures.trends import alert, minutes, news2
from tests.integration.test_alert_commands import breach, routing
from tests.integration.test_router import HR, evaluation, read, send, wait_for

MOST_WAITING = 3_000


@pytest.fixture
def made(topics: Callable[[], dict[str, str]]) -> dict[str, str]:
    return topics()


@pytest.fixture
def names(made: dict[str, str]) -> Topics:
    return Topics.of(made)


@dataclass(frozen=True)
class Gateway:
    """A gateway on a port of its own, served as ``ward gateway`` serves it."""

    app: FastAPI
    server: uvicorn.Server
    url: str

    def socket(self, **params: str) -> str:
        """The address of its WebSocket."""
        return f"{self.url.replace('http', 'ws', 1)}/api/live/ws?{urlencode(params)}"

    def listeners(self) -> int:
        """How many listen to the stream."""
        found: int = self.app.state.hub.listeners
        return found


@contextmanager
def serving(app: FastAPI) -> Iterator[Gateway]:
    listener = listen("127.0.0.1", 0)
    ready = threading.Event()
    made = server(app, ready.set)
    thread = threading.Thread(target=made.run, args=([listener],))
    thread.start()
    try:
        assert ready.wait(30)
        yield Gateway(app, made, address(listener))
    finally:
        made.should_exit = True
        thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def gateway(broker: str, made: dict[str, str], data: DataDir) -> Iterator[Gateway]:
    app = create_app(data, bootstrap_servers=broker, clock=lambda: datetime.now(UTC), topics=made)
    with serving(app) as running:
        yield running


@pytest.fixture
def hurried(broker: str, made: dict[str, str], data: DataDir) -> Iterator[Gateway]:
    """One that lets little wait and says often how far it is."""
    limits = {"most_waiting": MOST_WAITING, "heartbeat_s": 0.2}
    app = create_app(data, bootstrap_servers=broker, clock=lambda: datetime.now(UTC), topics=made, **limits)
    with serving(app) as running:
        yield running


@pytest.fixture
def client(gateway: Gateway) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=gateway.url, timeout=30) as made:
        yield made


def test_an_alert_is_acknowledged_once_and_the_router_has_taken_it(
    broker: str, names: Topics, data: DataDir, client: httpx.Client
) -> None:
    with routing(broker, names, data) as router:
        send(broker, names.evaluations, breach(0), breach(1, "hospital/2"))
        wait_for(lambda: len(router.shown) == 2)
        alert_id = router.shown[0]["alert_id"]
        order = {"by": "nurse on duty", "note": "on my way"}
        taken = client.post(f"/api/alerts/{alert_id}/acknowledge", json=order)
        wait_for(lambda: router.shown[-1].get("note") == "on my way")
        again = client.post(f"/api/alerts/{alert_id}/acknowledge", json=order)
        unknown = client.post("/api/alerts/ffff/acknowledge", json=order)
        send(broker, names.evaluations, breach(2, router.shown[0]["patient_id"], value=80.0))
        wait_for(lambda: router.shown[-1]["state"] == "resolved")
    ended = client.post(f"/api/alerts/{alert_id}/acknowledge", json=order)

    body = taken.json()
    assert (taken.status_code, body["alert_id"], sorted(body)) == (
        202,
        alert_id,
        ["alert_id", "command_id", "offset", "partition"],
    )
    event = router.shown[2]
    assert (event["state"], event["actor"], event["alert_id"]) == ("acknowledged", "nurse on duty", alert_id)
    assert (again.status_code, again.json()["detail"]) == (409, f"alert {alert_id} is acknowledged already")
    assert (ended.status_code, ended.json()["detail"]) == (
        404,
        f"alert {alert_id} is not open any more: it is resolved",
    )
    assert unknown.status_code == 404


def test_a_silence_mutes_until_it_is_taken_back(
    broker: str, names: Topics, data: DataDir, client: httpx.Client
) -> None:
    until = datetime.now(UTC) + timedelta(minutes=30)
    order = {"by": "dr on duty", "reason": "dressing", "patient": "hospital/2", "until": until.isoformat()}
    with routing(broker, names, data) as router:
        send(broker, names.evaluations, breach(0), breach(1, "hospital/2"))
        wait_for(lambda: len(router.shown) == 2)
        no_rule = client.post("/api/silences", json={**order, "rule": "pulse"})
        taken = client.post("/api/silences", json={**order, "rule": "heart-rate-high"})
        wait_for(lambda: router.shown[-1]["state"] == "silenced")
        silence_id = taken.json()["silence"]["silence_id"]
        muted = router.shown[-1]
        shown = client.get("/api/silences").json()["silences"]
        ended = client.delete(f"/api/silences/{silence_id}", params={"by": "nurse on duty", "reason": "done"})
        wait_for(lambda: router.shown[-1]["reason"] == "unmuted")
        gone = client.delete(f"/api/silences/{silence_id}", params={"by": "nurse on duty"})

    assert (no_rule.status_code, no_rule.json()["detail"][:12]) == (422, "rule pulse: ")
    assert taken.status_code == 202
    assert (muted["patient_id"], muted["muted_by"]) == ("hospital/2", silence_id)
    assert shown == [taken.json()["silence"]]
    assert {name: value for name, value in shown[0].items() if name not in ("silence_id", "from", "until")} == {
        "by": "dr on duty",
        "reason": "dressing",
        "patient": "hospital/2",
        "rule": "heart-rate-high",
        "unit": None,
    }
    assert (ended.status_code, gone.status_code) == (202, 404)
    assert client.get("/api/silences").json() == {"silences": []}


class Listener:
    """A client of the event stream, as far as a test lets it read."""

    def __init__(self, url: str, last_id: str | None = None, **params: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=30)
        headers = {"last-event-id": last_id} if last_id else {}
        self._request = self._client.stream("GET", "/api/live", params=params, headers=headers)
        answer = self._request.__enter__()
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        self._lines = answer.iter_lines()
        self.comments: list[str] = []
        self.last_id: str | None = last_id
        self.kinds: list[str] = []
        assert self.next()[0] == "ready"

    def next(self) -> tuple[str, dict[str, Any]]:
        """The next event: its kind and data."""
        fields: dict[str, str] = {}
        for line in self._lines:
            if line.startswith(":"):
                self.comments.append(line)
            elif line:
                name, _, value = line.partition(": ")
                fields[name] = value
            else:
                self.last_id = fields.get("id", self.last_id)
                if "data" in fields:
                    return fields["event"], orjson.loads(fields["data"])
                fields = {}
        raise EOFError

    def messages(self, count: int) -> list[str]:
        """The ids of the next messages."""
        return [self.next()[1]["message_id"] for _ in range(count)]

    def heartbeat(self) -> str | None:
        """The id that the next heartbeat tells."""
        while next(self._lines) != ": heartbeat":
            continue
        self.comments.append(": heartbeat")
        self.last_id = next(self._lines).removeprefix("id: ")
        return self.last_id

    def close(self) -> None:
        self._request.__exit__(None, None, None)
        self._client.close()


def vitals(number: int, patient: str | None = None, unit: str | None = None) -> tuple[bytes, bytes]:
    at = int(time.time() * 1000)
    key, value = evaluation(number, at, patient or f"hospital/{number % 7}", (HR, 70.0))
    return key, value if unit is None else orjson.dumps({**orjson.loads(value), "location_unit": unit})


def test_vitals_and_alerts_come_as_they_happen(broker: str, names: Topics, data: DataDir, gateway: Gateway) -> None:
    everything, of_one = Listener(gateway.url), Listener(gateway.url, patient="hospital/2")
    with routing(broker, names, data):
        began = time.monotonic()
        send(broker, names.evaluations, breach(0), breach(1, "hospital/2"))
        heard = [everything.next() for _ in range(4)]
        took = time.monotonic() - began
    own = [of_one.next() for _ in range(2)]
    everything.close()
    of_one.close()

    assert sorted((kind, one["patient_id"]) for kind, one in heard) == [
        ("alert", "hospital/1"),
        ("alert", "hospital/2"),
        ("vitals", "hospital/1"),
        ("vitals", "hospital/2"),
    ]
    assert sorted((kind, one["patient_id"]) for kind, one in own) == [("alert", "hospital/2"), ("vitals", "hospital/2")]
    told = dict(own)
    assert [one["value"] for one in told["vitals"]["readings"]] == [130.0]
    assert (told["alert"]["rule_id"], told["alert"]["state"]) == ("heart-rate-high", "active")
    assert took < 10


def test_whoever_comes_back_with_an_id_misses_nothing_and_hears_nothing_twice(
    broker: str, names: Topics, gateway: Gateway
) -> None:
    first = Listener(gateway.url)
    send(broker, names.evaluations, *(vitals(number) for number in range(40)))
    before = first.messages(25)
    place = first.last_id
    first.close()
    send(broker, names.evaluations, *(vitals(number) for number in range(40, 3000)))

    second = Listener(gateway.url, place)
    # What comes while the past is still being read must come once too.
    with ThreadPoolExecutor(1) as sender:
        sending = sender.submit(send_slowly, broker, names.evaluations, range(3000, 3300))
        after = second.messages(3300 - 25)
        sending.result()
    third = Listener(gateway.url, resume=second.last_id or "")
    send(broker, names.evaluations, vitals(3300))
    last = third.messages(1)
    second.close()
    third.close()

    assert sorted(before + after, key=lambda name: int(name[1:])) == [f"m{number}" for number in range(3300)]
    assert last == ["m3300"]


def send_slowly(broker: str, topic: str, numbers: range) -> None:
    for start in numbers[::10]:
        send(broker, topic, *(vitals(number) for number in range(start, start + 10)))


def test_a_listener_hears_of_its_unit_and_between_events_how_far_was_read(
    broker: str, names: Topics, hurried: Gateway
) -> None:
    listener = Listener(hurried.url, unit="ICU")
    began = listener.last_id
    send(broker, names.evaluations, vitals(0, unit="CCU"))
    wait_for(lambda: listener.heartbeat() != began)
    send(broker, names.evaluations, vitals(1, unit="CCU"), vitals(2, unit="ICU"))
    heard = listener.messages(1)
    listener.close()

    assert heard == ["m2"]
    assert set(listener.comments) == {": heartbeat"}


def test_a_slow_listener_is_dropped_with_a_reason_and_comes_back_for_the_rest(
    broker: str, names: Topics, hurried: Gateway
) -> None:
    total, listener = 30_000, Listener(hurried.url)
    send(broker, names.evaluations, *(vitals(number) for number in range(total)))
    wait_for(lambda: not hurried.listeners())
    heard, reasons = [], []
    while len(heard) < total:
        kind, told = listener.next()
        if kind == "vitals":
            heard.append(told["message_id"])
        else:
            reasons.append((kind, told["reason"]))
            listener.close()
            listener = Listener(hurried.url, listener.last_id)
    listener.close()

    assert set(reasons) == {("dropped", f"too slow: more than {MOST_WAITING} events waited")}
    assert sorted(heard, key=lambda name: int(name[1:])) == [f"m{number}" for number in range(total)]


def test_a_listener_that_takes_nothing_at_all_is_cut_and_nobody_reads_for_nobody(
    broker: str, names: Topics, made: dict[str, str], data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("gateway.stream_routes._STALLED_S", 0.5)
    # So many may wait that none is dropped for that: what fills up is the connection.
    limits = {"most_waiting": 10**6, "heartbeat_s": 0.2}
    app = create_app(data, bootstrap_servers=broker, clock=lambda: datetime.now(UTC), topics=made, **limits)
    with serving(app) as gateway:
        stalled, gone = Listener(gateway.url), Listener(gateway.url)
        gone.close()
        send(broker, names.evaluations, *(vitals(number) for number in range(40_000)))
        wait_for(lambda: not app.state.hub.reads)
        with pytest.raises(httpx.RemoteProtocolError):
            stalled.messages(40_000)
        stalled.close()


def test_what_kafka_no_longer_has_is_said_before_the_rest(broker: str, names: Topics, gateway: Gateway) -> None:
    send(broker, names.evaluations, *(vitals(number) for number in range(20)))

    # An id of a topic that was longer: it was made anew since.
    listener = Listener(gateway.url, "a0.0-a1.0-v0.100-v1.100")
    kind, told = listener.next()
    heard = listener.messages(20)
    listener.close()

    assert (kind, told) == ("lost", {"records": {"v0": None, "v1": None}})
    assert sorted(heard) == sorted(f"m{number}" for number in range(20))


def test_what_kafka_has_thrown_away_is_counted(broker: str, names: Topics, gateway: Gateway) -> None:
    send(broker, names.evaluations, *(vitals(number, "hospital/1") for number in range(20)))
    admin = KafkaAdminClient(bootstrap_servers=broker)
    partition = next(iter(read(broker, names.evaluations))).partition
    admin.delete_records({TopicPartition(names.evaluations, partition): 5})
    admin.close()

    listener = Listener(gateway.url, f"a0.0-a1.0-v{partition}.2-v{1 - partition}.0")
    lost = listener.next()
    heard = listener.messages(15)
    listener.close()

    assert lost == ("lost", {"records": {f"v{partition}": 3}})
    assert heard == [f"m{number}" for number in range(5, 20)]


def test_no_more_listen_than_a_gateway_can_serve(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("gateway.stream.MOST_LISTENERS", 1)
    first = Listener(gateway.url)
    second = httpx.get(f"{gateway.url}/api/live", timeout=30)
    first.close()

    assert (second.status_code, second.json()["detail"], second.headers["retry-after"]) == (
        503,
        "1 listen already",
        "5",
    )


def test_an_id_that_is_none_is_refused(gateway: Gateway) -> None:
    answer = httpx.get(f"{gateway.url}/api/live", params={"resume": "yesterday"})

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")


def test_without_a_broker_nobody_listens_in_vain(data: DataDir) -> None:
    app = create_app(data, bootstrap_servers="127.0.0.1:1", clock=lambda: datetime.now(UTC), answer_within_s=0.3)
    with serving(app) as nowhere:
        fresh = httpx.get(f"{nowhere.url}/api/live", timeout=30)
        again = httpx.get(f"{nowhere.url}/api/live", params={"resume": "v0.1"}, timeout=30)
        with pytest.raises(ConnectionClosed) as closed, connect(nowhere.socket()) as socket:
            socket.recv(timeout=30)

    assert (fresh.status_code, again.status_code) == (503, 503)
    assert closed.value.rcvd is not None
    assert closed.value.rcvd.code == 1013


def test_a_websocket_tells_the_same_and_goes_on_from_an_id(broker: str, names: Topics, gateway: Gateway) -> None:
    with connect(gateway.socket(patient="hospital/2")) as socket:
        ready = orjson.loads(socket.recv(timeout=30))
        send(broker, names.evaluations, vitals(0, "hospital/1"), vitals(1, "hospital/2"))
        first = orjson.loads(socket.recv(timeout=30))
    send(broker, names.evaluations, vitals(2, "hospital/2"))
    with connect(gateway.socket(patient="hospital/2", resume=first["id"])) as socket:
        again = [orjson.loads(socket.recv(timeout=30)) for _ in range(2)]

    assert (ready["event"], ready["data"]) == ("ready", {})
    assert (first["event"], first["data"]["message_id"]) == ("vitals", "m1")
    assert [(one["event"], one["data"].get("message_id")) for one in again] == [("ready", None), ("vitals", "m2")]


def test_a_page_of_another_origin_cannot_listen_and_one_of_this_host_can(gateway: Gateway) -> None:
    with pytest.raises(InvalidStatus) as refused, connect(gateway.socket(), origin="http://attacker.example"):
        pass
    with connect(gateway.socket(), origin="http://127.0.0.1:8501") as socket:
        ready = orjson.loads(socket.recv(timeout=30))
    with pytest.raises(ConnectionClosed) as closed, connect(gateway.socket(resume="yesterday")) as socket:
        socket.recv(timeout=30)

    assert (refused.value.response.status_code, ready["event"]) == (403, "ready")
    assert closed.value.rcvd is not None
    assert (closed.value.rcvd.code, closed.value.rcvd.reason[:22]) == (1008, "'yesterday' is no id o")


def test_a_gateway_that_stops_tells_its_listeners_and_does_not_wait_for_them(
    broker: str, made: dict[str, str], data: DataDir
) -> None:
    app = create_app(data, bootstrap_servers=broker, clock=lambda: datetime.now(UTC), topics=made)
    with serving(app) as gateway:
        listener = Listener(gateway.url)
        gateway.server.should_exit = True
        told = listener.next()
        began = time.monotonic()
    took = time.monotonic() - began
    listener.close()

    assert told == ("dropped", {"reason": "the gateway stops"})
    assert took < 8


EXAMPLES = [one for one in shell(page("integration.md").split("\n## Ways out\n")[1]) if "curl" in one]


def test_the_examples_of_the_documentation_answer(
    broker: str, names: Topics, data: DataDir, gateway: Gateway, client: httpx.Client
) -> None:
    now = datetime.now(UTC)
    append(data, VITAL_SIGN_MINUTE, *minutes("hospital/4711", now - timedelta(minutes=5), 70.0))
    append(data, EARLY_WARNING_SCORE, {**news2("hospital/4711", now, 1, "low"), "total_min": 1, "total_max": 1})
    append(data, ALERT, alert("hospital/4711", now, state="active", changed_at=now, location_unit="ICU"))
    write_mart(data, "icu_stay", {"stay_id": "a/1"}, {"stay_id": "a/2"})
    (live,) = (one for one in EXAMPLES if "/api/live" in one)
    with routing(broker, names, data) as router:
        send(broker, names.evaluations, breach(0, "hospital/4711"))
        wait_for(lambda: len(router.shown) == 1)
        found = {"ALERT_ID": router.shown[0]["alert_id"]}
        answers = []
        for example in EXAMPLES:
            if example is not live:
                for name, value in found.items():
                    example = example.replace(name, value)
                answers.append(curl(client, example))
                found |= {"SILENCE_ID": (answers[-1].json().get("silence") or {}).get("silence_id", "SILENCE_ID")}
    path, _, query = shlex.split(live)[-1].removeprefix("http://127.0.0.1:8000").partition("?")
    listener = Listener(gateway.url, **dict(parse_qsl(query)))
    listener.close()

    assert [answer.status_code for answer in answers] == [200, 200, 202, 202, 202, 200], [one.text for one in answers]
    patients, scores, *_, stays = (answer.json() for answer in answers)
    assert [one["patient_id"] for one in patients["patients"]] == ["hospital/4711"]
    assert scores["current"]["total"] == 1
    assert [row["stay_id"] for row in stays["rows"]] == ["a/1", "a/2"]
    assert path == "/api/live"


def test_the_example_of_the_documentation_reads_a_cohort_as_arrow(data: DataDir, gateway: Gateway) -> None:
    write_mart(data, "icu_stay", {"stay_id": "a/1"}, {"stay_id": "a/2"})
    examples = re.findall(r"^```python\n(.*?)^```", page("integration.md"), re.DOTALL | re.MULTILINE)
    (example,) = (one for one in examples if "format=arrow" in one)
    left: dict[str, Any] = {}

    exec(example.replace("http://127.0.0.1:8000", gateway.url), left)  # noqa: S102 - our own page

    assert sorted(left["stays"]["stay_id"].to_pylist()) == ["a/1", "a/2"]


def test_a_live_stream_ends_when_its_key_is_revoked_and_what_was_asked_is_on_the_topic_audit(
    broker: str, made: dict[str, str], names: Topics, data: DataDir, gateway: Gateway, listening: str
) -> None:
    headers = {"Authorization": f"Bearer {listening}"}
    with httpx.Client(base_url=gateway.url, timeout=30, headers=headers) as client:
        assert client.get("/api/vitals/latest").status_code == 200
        with client.stream("GET", "/api/live") as stream:
            lines = stream.iter_lines()
            assert next(line for line in lines if line.startswith("event: ")) == "event: ready"
            keys.revoke(keys.file_of(data), "listener", datetime.now(UTC))
            send(broker, names.evaluations, breach(0))
            assert [line for line in lines if line.startswith("event: ")] == []
        assert client.get("/api/vitals/latest").status_code == 401

    wait_for(lambda: len(read(broker, made["audit"])) == 3)
    events = [orjson.loads(record.value) for record in read(broker, made["audit"])]
    assert [(one["actor"], one["action"], one["outcome"]) for one in events] == [
        ("listener", "list latest vitals", "done"),
        ("listener", "listen to live events", "done"),
        ("nobody", "list latest vitals", "refused"),
    ]


@pytest.fixture
def listening(data: DataDir) -> str:
    _, token = keys.create(keys.file_of(data), "listener", frozenset({Scope.READ}), datetime.now(UTC))
    return token
