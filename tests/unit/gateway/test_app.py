"""The gateway's routes without a broker; what needs one is in tests/integration/test_gateway.py."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa
import pytest
from fastapi.testclient import TestClient

from gateway.app import create_app
from gateway.fhir import TYPES
from lakehouse import progress
from lakehouse.datadir import DataDir
from lakehouse.tables import VITAL_SIGN_MINUTE

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NO_BROKER = "127.0.0.1:1"


@pytest.fixture
def client(data: DataDir) -> Iterator[TestClient]:
    app = create_app(data, bootstrap_servers=NO_BROKER, clock=lambda: NOON, max_body_bytes=2000, answer_within_s=0.2)
    with TestClient(app, base_url="http://127.0.0.1") as running:
        yield running


def write_minutes(data: DataDir, *rows: tuple[str, str, datetime, float]) -> None:
    import deltalake

    columns: dict[str, Any] = {
        "patient_id": [row[0] for row in rows],
        "code": [row[1] for row in rows],
        "minute": pa.array([row[2] for row in rows], pa.timestamp("us", "UTC")),
        "unit": ["/min" for _ in rows],
        "count": pa.array([60 for _ in rows], pa.int64()),
        **{name: [row[3] for row in rows] for name in ("min", "mean", "max", "first", "last")},
    }
    deltalake.write_deltalake(data.table(VITAL_SIGN_MINUTE), pa.table(columns), mode="append")


def point(minute: str, value: float) -> dict[str, Any]:
    return {"minute": minute, "count": 60, **dict.fromkeys(("min", "mean", "max", "first", "last"), value)}


def test_a_message_that_breaks_the_contract_is_told_what_is_wrong_with_it(client: TestClient) -> None:
    answer = client.post("/api/iot", json={"schema_version": 1, "message_id": "m-1"})

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    body = answer.json()
    detail = body["errors"][0].pop("detail")
    assert "must contain" in detail
    assert body == {
        "type": "about:blank",
        "title": "Unprocessable Entity",
        "status": 422,
        "detail": "1 of 1 messages break the contract vitals.v1; nothing was sent",
        "errors": [{"index": 0, "message_id": "m-1"}],
    }


def test_a_body_over_the_limit_is_refused_whether_or_not_it_says_so_beforehand(client: TestClient) -> None:
    headers = {"content-type": "application/json"}

    announced = client.post("/api/iot", content=b" " * 2001, headers=headers)
    chunked = client.post("/api/iot", content=iter([b" " * 1500, b" " * 501]), headers=headers)

    assert [announced.status_code, chunked.status_code] == [413, 413]


def test_only_json_is_taken_so_that_no_web_page_can_post_unasked(client: TestClient) -> None:
    assert client.post("/api/iot", content=b"{}", headers={"content-type": "text/plain"}).status_code == 415


def test_a_request_under_another_host_name_is_refused(client: TestClient) -> None:
    assert client.get("/healthz", headers={"host": "attacker.example"}).status_code == 400
    assert client.get("/healthz", headers={"host": "localhost:8000"}).json() == {"status": "ok"}


def test_an_unknown_address_is_a_problem_too(client: TestClient) -> None:
    answer = client.get("/api/nothing")

    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json() == {
        "type": "about:blank",
        "title": "Not Found",
        "status": 404,
        "detail": "GET /api/nothing: Not Found",
    }


def test_a_patient_of_whom_nothing_was_received_is_not_found(client: TestClient) -> None:
    assert client.get("/api/patients/ward/1/vitals/latest").status_code == 404


def test_a_series_holds_the_minutes_of_one_patient_within_the_span(client: TestClient, data: DataDir) -> None:
    write_minutes(
        data,
        ("ward/1", "8867-4", NOON - timedelta(minutes=2), 70.0),
        ("ward/1", "8867-4", NOON - timedelta(minutes=1), 71.0),
        ("ward/1", "9279-1", NOON - timedelta(minutes=1), 16.0),
        ("ward/1", "8867-4", NOON - timedelta(days=2), 60.0),
        ("ward/1", "8867-4", NOON, 72.0),
        ("ward/2", "8867-4", NOON - timedelta(minutes=1), 90.0),
    )

    everything = client.get("/api/patients/ward/1/vitals/series").json()
    one_signal = client.get(
        "/api/patients/ward/1/vitals/series",
        params={"code": "8867-4", "from": "2026-03-01T13:00:00+01:00", "to": "2026-03-01T12:30:00Z"},
    ).json()

    assert everything == {
        "patient_id": "ward/1",
        "from": "2026-02-28T12:00:00Z",
        "to": "2026-03-01T12:00:00Z",
        "resolution": "minute",
        "series": [
            {
                "code": "8867-4",
                "unit": "/min",
                "points": [point("2026-03-01T11:58:00Z", 70.0), point("2026-03-01T11:59:00Z", 71.0)],
            },
            {"code": "9279-1", "unit": "/min", "points": [point("2026-03-01T11:59:00Z", 16.0)]},
        ],
    }
    assert one_signal["series"] == [{"code": "8867-4", "unit": "/min", "points": [point("2026-03-01T12:00:00Z", 72.0)]}]


@pytest.mark.parametrize(
    ("params", "status"),
    [
        ({"from": "2026-03-01T12:00:00Z", "to": "2026-03-01T12:00:00Z"}, 422),
        ({"from": "2026-01-01T00:00:00Z", "to": "2026-03-01T12:00:00Z", "resolution": "minute"}, 422),
        ({"from": "2025-02-01T00:00:00Z", "to": "2026-03-01T12:00:00Z"}, 422),
        ({"resolution": "second"}, 422),
        ({"from": "2026-03-01T11:00:00"}, 422),
        ({"from": "yesterday"}, 422),
        ({}, 503),
    ],
)
def test_a_span_that_cannot_be_answered_is_refused_and_a_missing_table_says_come_back(
    client: TestClient, params: dict[str, str], status: int
) -> None:
    answer = client.get("/api/patients/ward/1/vitals/series", params=params)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


def test_metrics_hold_the_counters_and_the_last_progress_of_each_flow(client: TestClient, data: DataDir) -> None:
    progress.append(data.progress("observation"), {"at": "2026-03-01T11:59:00Z", "input_rows": 1})
    progress.append(
        data.progress("observation"), {"at": "2026-03-01T12:00:00Z", "input_rows": 7, "duration_ms": {"total": 1500}}
    )
    progress.append(data.progress("alert_router"), {"at": "2026-03-01T12:00:00Z", "lag": 3})
    client.post("/api/iot", json={})

    lines = client.get("/metrics").text.splitlines()

    assert {
        'ward_gateway_messages_total{outcome="refused"} 1.0',
        "ward_gateway_live_patients 0.0",
        f'ward_flow_at_seconds{{flow="observation"}} {NOON.timestamp()!r}',
        'ward_flow_input_rows{flow="observation"} 7.0',
        'ward_flow_duration_ms_total{flow="observation"} 1500.0',
        'ward_flow_lag{flow="alert_router"} 3.0',
    } - {line.replace("1.7723664e+09", "1772366400.0") for line in lines} == set()


def test_every_answer_is_counted_by_its_status_but_for_what_machines_ask(client: TestClient) -> None:
    client.post("/api/iot", json={})
    client.get("/healthz", headers={"host": "attacker.example"})
    client.get("/healthz")
    client.get("/api/nothing")
    client.get("/api/nothing", headers={"host": "attacker.example"})

    lines = client.get("/metrics").text.splitlines()

    assert {line for line in lines if line.startswith("ward_gateway_answer_seconds_count")} == {
        f'ward_gateway_answer_seconds_count{{status="{status}"}} 1.0' for status in (400, 404, 422)
    }


def test_an_error_that_nobody_caught_counts_as_an_answer_that_failed(data: DataDir) -> None:
    app = create_app(data, bootstrap_servers=NO_BROKER, clock=lambda: NOON, answer_within_s=0.2)
    with TestClient(app, base_url="http://127.0.0.1", raise_server_exceptions=False) as client:
        cache = app.state.services.cache
        whole, cache._patients = cache._patients, None  # an error of our own, which no request can bring about
        failed = client.get("/api/patients/ward/1/vitals/latest").status_code
        cache._patients = whole
        lines = client.get("/metrics").text.splitlines()

    assert failed == 500
    assert 'ward_gateway_answer_seconds_count{status="500"} 1.0' in lines


def test_the_interface_describes_the_message_contract(client: TestClient) -> None:
    post = client.get("/openapi.json").json()["paths"]["/api/iot"]["post"]

    assert post["requestBody"]["content"]["application/json"]["schema"]["oneOf"][0]["$id"] == "urn:wardhouse:vitals:1"


def test_the_interface_names_each_way_in_once_with_what_it_takes(client: TestClient) -> None:
    paths = client.get("/openapi.json").json()["paths"]

    names = [operation["operationId"] for path in paths.values() for operation in path.values()]
    takes = {path: sorted(one["post"]["requestBody"]["content"]) for path, one in paths.items() if "post" in one}
    fhir = ["application/fhir+json", "application/json"]
    assert len(names) == len(set(names))
    assert takes == {
        "/api/iot": ["application/json", "application/x-ndjson"],
        "/api/alerts/{alert_id}/acknowledge": ["application/json"],
        "/api/silences": ["application/json"],
        "/fhir": fhir,
        **{f"/fhir/{kind}": fhir for kind in TYPES},
    }


def test_the_page_of_the_interface_loads_nothing_from_another_host(client):
    page = client.get("/docs").text
    loaded = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert "swagger-ui" in page
    assert loaded
    assert [address for address in loaded if client.get(address).status_code != 200] == []
    assert [address for address in loaded if not address.startswith("/")] == []
