"""Who may do what: tests go through the routes of the application, so that a new one is covered without a word here."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import httpx
import orjson
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.routing import Mount, WebSocketRoute
from starlette.websockets import WebSocketDisconnect

from gateway import keys, scopes
from gateway.app import create_app
from gateway.guard import Access
from gateway.keys import Keys
from gateway.rate import Bucket, Limiter, Rate, take
from gateway.scopes import RULES, Free, Rule, UndeclaredRouteError
from lakehouse.audit import Outcome
from lakehouse.caller import LOCAL, Caller, Kind, Scope
from lakehouse.datadir import DataDir
from lakehouse.deidentify import Key, pseudonym
from lakehouse.tables import ALERT, ALERT_EVENT, AUDIT_OUTCOMES, EARLY_WARNING_SCORE, ENCOUNTER, VITAL_SIGN_MINUTE
from tests.fixtures.delta import append
from tests.fixtures.marts import write_mart
from tests.fixtures.trends import alert, minutes, stay

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NO_BROKER = "127.0.0.1:1"
PSEUDONYMS = Key(b"0123456789abcdef0123456789abcdef")
PATIENT = "ward/1"
PARAMETERS = {"patient_id:path": PATIENT, "alert_id": "a1", "silence_id": "s1", "resource_id": "r1", "name": "icu_stay"}


class Clock:
    now = NOON

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


Made = Callable[..., dict[str, str]]


@pytest.fixture
def key(data: DataDir, clock: Clock) -> Made:
    """Call it with a name and scopes for the headers of a fresh key."""

    def make(
        name: str, *given: Scope, units: set[str] | None = None, lasting: timedelta | None = None
    ) -> dict[str, str]:
        ends = clock.now + lasting if lasting else None
        limits = frozenset(units) if units else None
        _, token = keys.create(keys.file_of(data), name, frozenset(given), clock.now, limits, ends)
        return {"Authorization": f"Bearer {token}"}

    return make


@pytest.fixture
def client(data: DataDir, clock: Clock) -> Iterator[TestClient]:
    access = Access(Keys(keys.file_of(data), clock), rate=Rate(1000, 1000), strangers=Rate(1000, 1000))
    app = create_app(
        data, bootstrap_servers=NO_BROKER, clock=clock, access=access, pseudonyms=PSEUDONYMS, answer_within_s=0.05
    )
    with TestClient(app, base_url="http://127.0.0.1") as running:
        yield running


def fill(client: TestClient, data: DataDir) -> None:
    """One patient in ICU, in every table that is read."""
    append(data, VITAL_SIGN_MINUTE, *minutes(PATIENT, NOON - timedelta(minutes=9), 70.0))
    append(data, ENCOUNTER, stay(PATIENT, "ICU", NOON))
    append(
        data,
        EARLY_WARNING_SCORE,
        {"patient_id": PATIENT, "score": "news2", "observed_at": NOON, "total_min": 1, "total_max": 1},
    )
    one = alert(PATIENT, NOON, state="active", changed_at=NOON, location_unit="ICU")
    append(data, ALERT, {**one, "alert_id": "a1"})
    append(data, ALERT_EVENT, {"alert_id": "a1", "sequence": 0, "patient_id": PATIENT, "state": "active"})
    at = int(NOON.timestamp() * 1000)
    evaluation = {
        "patient_id": PATIENT, "device_id": "m", "observed_at": at, "received_at": at, "status": "final",
        "location_unit": "ICU", "observations": [],
    }  # fmt: skip
    client.app.state.services.cache.take(orjson.dumps(evaluation))  # type: ignore[attr-defined]


def asked(app: Any) -> list[tuple[str, str, Rule]]:
    """Method, address and rule of every route but those of WebSockets."""
    found = []
    for route in app.routes:
        for name in scopes.names(route):
            method, path = name.split(" ", 1)
            for parameter, value in PARAMETERS.items():
                path = path.replace(f"{{{parameter}}}", value)
            if not isinstance(route, WebSocketRoute):
                found.append((method, f"{path}/x.js" if isinstance(route, Mount) else path, RULES[name]))
    return found


def call(client: TestClient, method: str, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    body: dict[str, Any] = {"json": {}} if method in ("POST", "PUT") else {}
    query = {"by": "me"} if method == "DELETE" else None
    answer: httpx.Response = client.request(method, path, headers=headers, params=query, **body)
    return answer


def test_every_route_declares_what_it_needs_and_nothing_else_is_declared(client: TestClient) -> None:
    app = client.app
    assert isinstance(app, FastAPI)
    # What the edge alone has is in tests/unit/gateway/test_edge.py.
    of_the_edge = {"GET /api/local/alerts"}
    assert {name for route in app.routes for name in scopes.names(route)} == set(RULES) - of_the_edge


def test_an_application_with_a_route_that_declares_nothing_does_not_start(client: TestClient) -> None:
    app = client.app
    assert isinstance(app, FastAPI)
    app.get("/api/new")(lambda: "patients")
    with pytest.raises(UndeclaredRouteError, match="GET /api/new"):
        scopes.check(app.routes)


def test_before_the_first_key_whoever_is_on_this_machine_needs_none(client: TestClient) -> None:
    assert client.get("/api/vitals/latest").json() == {"patients": []}


def test_without_a_key_that_holds_only_health_and_readiness_are_answered(
    client: TestClient, key: Made, clock: Clock, data: DataDir
) -> None:
    expired = key("short", Scope.ADMIN, lasting=timedelta(hours=1))
    revoked = key("gone", Scope.ADMIN)
    assert [client.get("/api/alerts", headers=one).status_code for one in (expired, revoked)] == [503, 503]
    clock.now += timedelta(hours=1)
    keys.revoke(keys.file_of(data), "gone", clock.now)

    for headers in (None, expired, revoked, {"Authorization": "Bearer ward_x"}, {"X-API-Key": "x"}):
        routes = asked(client.app)
        answered = [path for method, path, _ in routes if call(client, method, path, headers).status_code != 401]
        assert answered == ["/healthz", "/readyz"]
    assert client.get("/nothing/here").status_code == 401


@pytest.mark.parametrize("scope", list(Scope))
def test_a_key_opens_the_routes_of_its_scope_and_no_other(client: TestClient, key: Made, scope: Scope) -> None:
    headers = key("one", scope)
    routes = asked(client.app)
    closed = {path for method, path, _ in routes if call(client, method, path, headers).status_code == 403}
    needed = {path for _, path, rule in routes if not isinstance(rule.needs, Free) and rule.needs is not scope}
    assert closed == (set() if scope is Scope.ADMIN else needed)


def test_a_key_of_another_unit_learns_nothing_of_a_patient_on_any_route(
    client: TestClient, key: Made, data: DataDir
) -> None:
    fill(client, data)
    whole, other = key("whole", Scope.READ), key("other", Scope.READ, units={"CCU"})
    told = set()
    for method, path, rule in asked(client.app):
        if rule.needs is Scope.READ and path not in ("/api/live", "/api/silences"):
            answer = call(client, method, path, whole)
            assert answer.status_code == 200, answer.text
            told |= {path} if PATIENT in answer.text else set()
            hidden = call(client, method, path, other)
            asks = call(client, method, f"{path}?patient={PATIENT}", other)
            assert (hidden.status_code, asks.status_code) in ((200, 404), (404, 404)), path
            assert PATIENT not in hidden.text + asks.text
            assert (hidden.status_code == 404) is (PATIENT in path or "a1" in path)
    assert len(told) == 10  # each of these routes tells of the patient whoever may see them


def test_a_key_of_the_unit_sees_its_patients_by_where_they_are_now(
    client: TestClient, key: Made, data: DataDir
) -> None:
    fill(client, data)
    headers = key("icu", Scope.READ, units={"ICU", "CCU"})
    lists = ("/api/patients", "/api/vitals/latest", "/api/alerts", "/api/scores")
    assert [PATIENT in client.get(path, headers=headers).text for path in lists] == [True] * 4
    discharged = {**stay("ward/2", "ICU, 4", NOON), "status": "finished"}
    append(data, ENCOUNTER, stay("ward/3", "CCU, 7", NOON), discharged)
    append(data, VITAL_SIGN_MINUTE, *minutes("ward/2", NOON, 70.0), *minutes("ward/3", NOON, 70.0))
    client.app.state.services.places._stays = None  # type: ignore[attr-defined]
    known = client.get("/api/patients", headers=headers).json()["patients"]
    assert [one["patient_id"] for one in known] == [PATIENT, "ward/3"]


def test_a_silence_must_stay_within_the_units_of_the_key(client: TestClient, key: Made, data: DataDir) -> None:
    fill(client, data)
    headers = key("ccu", Scope.ALERT, units={"CCU"})
    order = {"by": "me", "reason": "why", "for": 60}
    answers = [
        client.post("/api/silences", json={**order, **what}, headers=headers).status_code
        for what in ({"rule": "spo2-low"}, {"unit": "ICU"}, {"patient": PATIENT}, {"unit": "CCU"})
    ]
    assert answers == [403, 403, 403, 503]  # the last would go to the broker, which is away


def test_research_sees_pseudonyms_and_shifted_dates_only(client: TestClient, key: Made, data: DataDir) -> None:
    row = {"patient_id": PATIENT, "stay_id": "stay/1", "care_unit": "ICU", "age": 93, "started_at": NOON}
    write_mart(data, "icu_stay", row)
    write_mart(data, "alert_burden", {"care_unit": "ICU"})
    research, admin = key("paper", Scope.RESEARCH), key("admin", Scope.ADMIN)
    limited = key("limited", Scope.ADMIN, units={"ICU"})

    (seen,) = client.get("/api/cohorts/icu_stay", headers=research).json()["rows"]
    table = client.get("/api/cohorts/icu_stay?format=csv", headers=research).text
    (plain,) = client.get("/api/cohorts/icu_stay", headers=admin).json()["rows"]

    assert (seen["patient_id"], seen["age"]) == (pseudonym(PSEUDONYMS, "patient_id", PATIENT), 90)
    assert (PATIENT in table, seen["patient_id"] in table) == (False, True)
    assert seen["started_at"][:10] != "2026-03-01"
    assert plain["patient_id"] == PATIENT
    assert PATIENT not in client.get("/api/cohorts/icu_stay", headers=limited).text
    assert client.get("/api/cohorts/alert_burden", headers=research).status_code == 403
    names = [one["name"] for one in client.get("/api/cohorts", headers=research).json()["cohorts"]]
    assert names == ["icu_stay"]


def test_a_websocket_takes_a_key_as_a_subprotocol_and_refuses_what_a_request_is_refused(
    client: TestClient, key: Made
) -> None:
    token = key("screen", Scope.READ, units={"CCU"})["Authorization"].removeprefix("Bearer ")
    sender = key("monitor", Scope.INGEST)["Authorization"].removeprefix("Bearer ")
    url = "ws://127.0.0.1/api/live/ws"
    for address, offered in ((url, ["wardhouse"]), (url, ["wardhouse", f"bearer.{sender}"])):
        with pytest.raises(WebSocketDisconnect), client.websocket_connect(address, subprotocols=offered):
            pass
    offered = ["wardhouse", f"bearer.{token}"]
    with (
        pytest.raises(WebSocketDisconnect),
        client.websocket_connect(f"{url}?patient={PATIENT}", subprotocols=offered),
    ):
        pass
    with client.websocket_connect(url, subprotocols=offered) as socket:
        assert socket.accepted_subprotocol == "wardhouse"


def test_a_file_of_keys_that_cannot_be_read_lets_nobody_in(client: TestClient, key: Made, data: DataDir) -> None:
    headers = key("one", Scope.READ)
    keys.file_of(data).write_text("[{]")
    assert client.get("/api/vitals/latest", headers=headers).status_code == 503
    assert client.get("/healthz").status_code == 200


def test_a_key_is_kept_as_a_hash_in_a_file_of_its_owner(data: DataDir, clock: Clock) -> None:
    made, token = keys.create(keys.file_of(data), "one", frozenset({Scope.READ}), clock.now)
    path = keys.file_of(data)
    assert (path.stat().st_mode & 0o777, path.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    assert token not in path.read_text()
    assert keys.read(path) == (made,)
    assert len(token) == len("ward_") + 43


def test_a_name_has_one_key_at_a_time(data: DataDir, clock: Clock) -> None:
    path, scope = keys.file_of(data), frozenset({Scope.READ})
    keys.create(path, "one", scope, clock.now, expires_at=clock.now + timedelta(hours=1))
    with pytest.raises(keys.KeyRefusedError, match="there is a key one already"):
        keys.create(path, "one", scope, clock.now)
    later = clock.now + timedelta(hours=2)
    second, _ = keys.create(path, "one", scope, later)
    assert keys.revoke(path, "one", later).key_id == second.key_id
    with pytest.raises(keys.KeyRefusedError, match="must expire in the future"):
        keys.create(path, "two", scope, later, expires_at=later)
    with pytest.raises(keys.KeyRefusedError, match="a name has up to 64"):
        keys.create(path, "two words", scope, later)
    with pytest.raises(keys.KeyRefusedError, match="a key needs a scope"):
        keys.create(path, "two", frozenset(), later)


def test_who_has_signed_in_may_stay_until_their_token_is_over(data: DataDir, clock: Clock) -> None:
    known = Keys(keys.file_of(data), clock)
    user = Caller(Kind.USER, "nurse", frozenset({Scope.READ}), expires_at=NOON + timedelta(minutes=5))

    assert known.still(user)
    clock.now = NOON + timedelta(minutes=5)
    assert not known.still(user)
    assert known.still(LOCAL)


def test_a_bucket_lets_a_burst_through_and_then_what_trickles_in() -> None:
    rate = Rate(per_second=2, burst=2)
    bucket: Bucket | None = None
    waits = []
    for now in (0.0, 0.0, 0.0, 0.25, 0.5, 10.0, 10.0, 10.0):
        bucket, wait = take(bucket, rate, now)
        waits.append(wait)
    assert waits == [0, 0, 0.5, 0.25, 0, 0, 0, 0.5]


def test_who_calls_too_often_is_told_when_to_come_again_and_others_go_on(
    data: DataDir, key: Made, clock: Clock
) -> None:
    first, second = key("first", Scope.READ), key("second", Scope.READ)
    access = Access(Keys(keys.file_of(data), clock), rate=Rate(0.5, 2), strangers=Rate(0.5, 1))
    app = create_app(data, bootstrap_servers=NO_BROKER, clock=clock, access=access, answer_within_s=0.05)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        answers = [client.get("/api/vitals/latest", headers=one) for one in (first, first, first, second, {}, {})]
    assert [one.status_code for one in answers] == [200, 200, 429, 200, 401, 429]
    assert answers[2].headers["retry-after"] == "2"


def test_the_limiter_forgets_who_has_not_called_for_longest() -> None:
    limiter = Limiter(lambda: 0.0)
    rate = Rate(1, 1)
    assert [limiter.wait("first", rate) for _ in range(2)] == [0, 1]
    for number in range(10_000):
        limiter.wait(str(number), rate)
    assert limiter.wait("first", rate) == 0


def recorded(client: TestClient) -> list[tuple[Any, ...]]:
    """What waits for the broker: who, what, how it ended, about whom."""
    batch = client.app.state.services.trail._outbox._spool.oldest(500)  # type: ignore[attr-defined]
    events = [orjson.loads(record.value) for record in batch.records]
    names = ("actor_kind", "actor", "action", "outcome", "patient_id", "location_unit")
    return [tuple(event.get(name) for name in names) for event in events]


def test_each_read_order_and_refusal_is_one_record_without_values_and_secrets(
    client: TestClient, key: Made, data: DataDir
) -> None:
    fill(client, data)
    screen, other = key("screen", Scope.READ), key("other", Scope.READ, Scope.ALERT, units={"CCU"})
    client.get(f"/api/patients/{PATIENT}/vitals/latest", headers=screen)
    client.get("/api/patients?unit=ICU", headers=screen)
    client.get("/api/alerts/a1", headers=screen)
    client.get("/api/alerts/a1", headers=other)
    client.get(f"/api/patients/{PATIENT}/scores", headers=other)
    client.get("/api/patients/nobody/1/vitals/latest", headers=screen)
    client.post("/api/iot", json={}, headers=screen)
    client.get("/api/vitals/latest")
    client.post("/api/silences", json={"by": "me", "reason": "r", "for": 60, "unit": "CCU"}, headers=other)
    client.get("/metrics", headers=screen)

    assert recorded(client) == [
        ("key", "screen", "read latest vitals", "done", PATIENT, None),
        ("key", "screen", "list patients", "done", None, "ICU"),
        ("key", "screen", "read an alert", "done", PATIENT, None),
        ("key", "other", "read an alert", "refused", PATIENT, None),
        ("key", "other", "read scores", "refused", PATIENT, None),
        ("key", "screen", "read latest vitals", "failed", "nobody/1", None),
        ("key", "screen", "send device messages", "refused", None, None),
        ("nobody", "nobody", "list latest vitals", "refused", None, None),
        ("key", "other", "silence alerts", "failed", None, "CCU"),
    ]
    kept = b"".join(file.read_bytes() for file in (data.access / "audit-spool").glob("*.spool"))
    assert b"ward_" not in kept


def test_what_cannot_be_recorded_is_not_shown(
    client: TestClient, data: DataDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(client, data)
    spool = client.app.state.services.trail._outbox._spool  # type: ignore[attr-defined]
    monkeypatch.setattr(spool, "_limit", 0)
    answer = client.get(f"/api/patients/{PATIENT}/vitals/latest")
    assert answer.status_code == 503
    assert PATIENT not in answer.text
    assert "cannot be recorded" in answer.json()["detail"]


def test_tables_name_outcomes_as_they_are() -> None:
    assert get_args(Outcome) == AUDIT_OUTCOMES
