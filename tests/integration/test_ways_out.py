"""What people do about alerts, and live streams: a real broker, a router that runs, a real server and real sockets."""

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from alerting.router import Topics
from gateway.app import create_app
from gateway.server import address, listen, server
from lakehouse.datadir import DataDir
from tests.integration.test_alert_commands import breach, routing
from tests.integration.test_router import send, wait_for


@pytest.fixture
def made(topics: Callable[[], dict[str, str]]) -> dict[str, str]:
    return topics()


@pytest.fixture
def names(made: dict[str, str]) -> Topics:
    return Topics.of(made)


@pytest.fixture
def url(broker: str, made: dict[str, str], data: DataDir) -> Iterator[str]:
    """A gateway on a port of its own, served as ``ward gateway`` serves it."""
    app = create_app(data, bootstrap_servers=broker, clock=lambda: datetime.now(UTC), topics=made)
    listener = listen("127.0.0.1", 0)
    ready = threading.Event()
    serving = server(app, ready.set)
    thread = threading.Thread(target=serving.run, args=([listener],))
    thread.start()
    assert ready.wait(30)
    yield address(listener)
    serving.should_exit = True
    thread.join(30)
    assert not thread.is_alive()


@pytest.fixture
def client(url: str) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=url, timeout=30) as made:
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
