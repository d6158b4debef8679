"""The ways out over small real tables; what needs a broker is in tests/integration/test_ways_out.py."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import deltalake
import orjson
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fastapi.testclient import TestClient
from pyarrow import csv

from gateway import cohorts
from gateway.app import create_app
from gateway.ready import MOST_LAG
from gateway.spool import Spool
from lakehouse.datadir import DataDir
from lakehouse.reader import table_named
from lakehouse.tables import ALERT, ALERT_EVENT, EARLY_WARNING_SCORE, ENCOUNTER, VITAL_SIGN_MINUTE
from tests.fixtures.delta import append
from tests.fixtures.marts import write_mart
from tests.fixtures.trends import alert, minutes, stay

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NO_BROKER = "127.0.0.1:1"


@pytest.fixture
def client(data: DataDir) -> Iterator[TestClient]:
    app = create_app(data, bootstrap_servers=NO_BROKER, clock=lambda: NOON, answer_within_s=0.2)
    with TestClient(app, base_url="http://127.0.0.1") as running:
        yield running


def evaluation(patient_id: str, observed_at: datetime, unit: str) -> bytes:
    at = int(observed_at.timestamp() * 1000)
    reading = {"code": "8867-4", "band": "normal", "value": 70.0}
    return orjson.dumps(
        {
            "patient_id": patient_id,
            "device_id": "monitor-1",
            "observed_at": at,
            "received_at": at,
            "status": "final",
            "location_unit": unit,
            "observations": [reading],
        }
    )


def known(patient_id: str, unit: str | None, bed: str | None, last_seen: str | None, alerts: int) -> dict[str, Any]:
    place = {"unit": unit, "bed": bed}
    return {"patient_id": patient_id, "location": place, "last_seen": last_seen, "open_alerts": alerts}


def test_patients_are_those_heard_of_within_a_day_or_with_an_open_alert(client: TestClient, data: DataDir) -> None:
    append(data, VITAL_SIGN_MINUTE, *minutes("ward/2", NOON - timedelta(minutes=9), 70.0, 71.0))
    append(data, VITAL_SIGN_MINUTE, *minutes("ward/old", NOON - timedelta(days=2), 70.0))
    opened = [
        alert("ward/2", NOON, state="active", changed_at=NOON, location_unit="ICU", location_bed="7"),
        alert("ward/3", NOON, state="acknowledged", changed_at=NOON, location_unit="CCU"),
        alert("ward/old", NOON, state="resolved", changed_at=NOON, location_unit="ICU"),
    ]
    append(data, ALERT, *opened)
    client.app.state.services.cache.take(evaluation("ward/1", NOON, "ICU"))  # type: ignore[attr-defined]

    everybody = client.get("/api/patients").json()
    of_unit = client.get("/api/patients", params={"unit": "ICU", "limit": 1, "offset": 1}).json()

    second = known("ward/2", "ICU", "7", "2026-03-01T11:52:00.000Z", 1)
    assert everybody == {
        "total": 3,
        "limit": 100,
        "offset": 0,
        "patients": [
            known("ward/1", "ICU", None, "2026-03-01T12:00:00.000Z", 0),
            second,
            known("ward/3", "CCU", None, None, 1),
        ],
    }
    assert of_unit == {"total": 2, "limit": 1, "offset": 1, "patients": [second]}
    far = [
        client.get("/api/patients", params={"since": f"2026-0{month}-01T11:00:00Z"}).status_code for month in (1, 2, 4)
    ]
    assert far == [422, 200, 422]


def test_a_stay_is_told_by_its_newest_version_and_one_entered_in_error_not_at_all(
    client: TestClient, data: DataDir
) -> None:
    versions = [
        stay("ward/1", "ICU", NOON - timedelta(days=2)),
        {**stay("ward/1", "ICU", NOON - timedelta(days=2), NOON), "status": "finished", "recorded_at": NOON},
        {**stay("ward/1", "CCU", NOON), "encounter_id": "later"},
        {**stay("ward/1", "CCU", NOON), "encounter_id": "wrong", "status": "entered-in-error"},
        stay("ward/2", "CCU", NOON),
    ]
    append(data, ENCOUNTER, *versions)

    found = client.get("/api/patients/ward/1/encounters").json()["encounters"]

    shown = [(one["encounter_id"], one["status"], one["started_at"], one["ended_at"]) for one in found]
    assert shown == [
        ("later", "in-progress", "2026-03-01T12:00:00Z", None),
        ("stay of ward/1", "finished", "2026-02-27T12:00:00Z", "2026-03-01T12:00:00Z"),
    ]


def test_hours_weigh_their_minutes_by_count_and_keep_first_last_least_and_most(
    client: TestClient, data: DataDir
) -> None:
    start = NOON - timedelta(hours=1)
    rows = list(minutes("ward/1", start, 70.0, 100.0)) + list(minutes("ward/1", NOON, 60.0))
    rows[0] = {**rows[0], "count": 3, "min": 65.0, "first": 66.0}
    rows[1] = {**rows[1], "count": 1, "max": 110.0, "last": 101.0}
    append(data, VITAL_SIGN_MINUTE, *rows)

    path = "/api/patients/ward/1/vitals/series"
    answer = client.get(path, params={"resolution": "hour", "to": "2026-03-01T13:00:00Z"}).json()

    assert (answer["resolution"], answer["series"][0]["points"]) == (
        "hour",
        [
            {
                "hour": "2026-03-01T11:00:00Z",
                "count": 4,
                "min": 65.0,
                "mean": (3 * 70.0 + 100.0) / 4,
                "max": 110.0,
                "first": 66.0,
                "last": 101.0,
            },
            {"hour": "2026-03-01T12:00:00Z", "count": 60, **dict.fromkeys(("min", "mean", "max", "first", "last"), 60)},
        ],
    )


@pytest.mark.parametrize(
    ("start", "resolution"), [("2026-02-27T12:00:00Z", "minute"), ("2026-02-27T11:59:00Z", "hour")]
)
def test_beyond_two_days_a_series_is_by_hour_unless_asked_otherwise(
    client: TestClient, data: DataDir, start: str, resolution: str
) -> None:
    append(data, VITAL_SIGN_MINUTE, *minutes("ward/1", NOON - timedelta(hours=1), 70.0))

    path = "/api/patients/ward/1/vitals/series"

    assert client.get(path, params={"from": start}).json()["resolution"] == resolution
    assert client.get(path, params={"from": start, "resolution": "minute"}).json()["resolution"] == "minute"


def news2(patient_id: str, at: datetime, total: int | None, least: int, most: int, **parts: int) -> dict[str, Any]:
    return {
        "patient_id": patient_id,
        "score": "news2",
        "observed_at": at,
        "total": total,
        "total_min": least,
        "total_max": most,
        "risk": None if total is None else "low",
        "parts": parts,
    }


def test_scores_come_with_what_stood_at_the_start_and_what_stands_now(client: TestClient, data: DataDir) -> None:
    rows = [
        news2("ward/1", NOON - timedelta(hours=5), 1, 1, 1, heart_rate=1),
        news2("ward/1", NOON - timedelta(hours=4), 2, 2, 2, heart_rate=2),
        news2("ward/1", NOON - timedelta(hours=2), None, 2, 5, heart_rate=2, spo2=0),
        news2("ward/2", NOON - timedelta(hours=7), 9, 9, 9),
        {**news2("ward/2", NOON - timedelta(hours=1), 1, 1, 1), "score": "qsofa"},
    ]
    append(data, EARLY_WARNING_SCORE, *rows)

    params = {"from": "2026-03-01T09:00:00Z", "to": "2026-03-01T11:00:00Z"}
    answer = client.get("/api/patients/ward/1/scores", params=params).json()
    gone = client.get("/api/patients/ward/2/scores").json()

    newest = answer["current"]
    assert {name: newest[name] for name in ("observed_at", "total", "total_min", "total_max", "risk")} == {
        "observed_at": "2026-03-01T10:00:00Z",
        "total": None,
        "total_min": 2,
        "total_max": 5,
        "risk": None,
    }
    assert (newest["parts"]["heart_rate"], newest["parts"]["spo2"], newest["parts"]["temperature"]) == (2, 0, None)
    assert "gcs" not in newest["parts"]
    assert [point["observed_at"] for point in answer["points"]] == ["2026-03-01T08:00:00Z", "2026-03-01T10:00:00Z"]
    assert answer["points"][-1] == newest
    assert (gone["current"], [point["total"] for point in gone["points"]]) == (None, [9])


def test_current_scores_are_those_of_the_worst_first_and_of_a_unit(client: TestClient, data: DataDir) -> None:
    rows = [
        news2("ward/1", NOON - timedelta(hours=1), 1, 1, 1),
        news2("ward/2", NOON - timedelta(hours=1), None, 0, 7),
        news2("ward/3", NOON - timedelta(hours=1), 5, 5, 5),
    ]
    append(data, EARLY_WARNING_SCORE, *rows)
    for name in ("ward/1", "ward/2"):
        client.app.state.services.cache.take(evaluation(name, NOON, "ICU"))  # type: ignore[attr-defined]

    everybody = client.get("/api/scores").json()["scores"]
    of_unit = client.get("/api/scores", params={"unit": "ICU"}).json()

    assert [one["patient_id"] for one in everybody] == ["ward/2", "ward/3", "ward/1"]
    assert (of_unit["total"], [one["patient_id"] for one in of_unit["scores"]]) == (2, ["ward/2", "ward/1"])


@pytest.mark.parametrize(
    "path",
    ["/api/patients", "/api/patients/ward/1/encounters", "/api/patients/ward/1/scores", "/api/scores"],
)
def test_a_table_that_has_not_been_made_is_a_problem_that_names_it(client: TestClient, path: str) -> None:
    answer = client.get(path)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "60")
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"].endswith("has not been made yet")


def transition(alert_id: str, sequence: int, state: str, **more: Any) -> dict[str, Any]:
    at = NOON + timedelta(seconds=sequence)
    return {"alert_id": alert_id, "sequence": sequence, "state": state, "emitted_at": at, "rule_id": "r", **more}


def write_alerts(data: DataDir) -> None:
    rows = [
        alert("ward/1", NOON, state="active", priority="high", location_unit="ICU"),
        alert("ward/2", NOON, state="acknowledged", priority="low", location_unit="ICU"),
        alert("ward/3", NOON, state="resolved", priority="high", location_unit="CCU"),
        alert("ward/4", NOON, state="escalated", priority="medium", location_unit="CCU"),
    ]
    named = [
        {**row, "alert_id": f"a{number}", "changed_at": NOON + timedelta(minutes=number)}
        for number, row in enumerate(rows, 1)
    ]
    append(data, ALERT, *named)


@pytest.mark.parametrize(
    ("params", "ids", "total"),
    [
        ({}, ["a4", "a3", "a2", "a1"], 4),
        ({"state": "open"}, ["a4", "a2", "a1"], 3),
        ({"state": ["active", "resolved"]}, ["a3", "a1"], 2),
        ({"unit": "ICU", "priority": "high"}, ["a1"], 1),
        ({"patient": "ward/4"}, ["a4"], 1),
        ({"limit": 2, "offset": 1}, ["a3", "a2"], 4),
        ({"offset": 9}, [], 4),
    ],
)
def test_alerts_are_listed_by_what_is_asked_for_the_last_changed_first(
    client: TestClient, data: DataDir, params: dict[str, Any], ids: list[str], total: int
) -> None:
    write_alerts(data)

    answer = client.get("/api/alerts", params=params).json()

    assert ([one["alert_id"] for one in answer["alerts"]], answer["total"]) == (ids, total)


def test_an_alert_is_told_with_its_transitions_in_their_order(client: TestClient, data: DataDir) -> None:
    write_alerts(data)
    events = [
        transition("a2", 1, "acknowledged", reason="acknowledged", actor="nurse on duty"),
        transition("a2", 0, "active", reason="breach", value=121.0),
        transition("a1", 0, "active"),
    ]
    append(data, ALERT_EVENT, *events)

    found = client.get("/api/alerts/a2").json()

    assert (found["alert_id"], found["state"], found["changed_at"]) == ("a2", "acknowledged", "2026-03-01T12:02:00Z")
    assert found["transitions"] == [
        {"sequence": 0, "state": "active", "reason": "breach", "value": 121.0, "emitted_at": "2026-03-01T12:00:00Z"},
        {
            "sequence": 1,
            "state": "acknowledged",
            "reason": "acknowledged",
            "actor": "nurse on duty",
            "emitted_at": "2026-03-01T12:00:01Z",
        },
    ]
    assert client.get("/api/alerts/nothing").status_code == 404


SILENCE = {"by": "dr on duty", "reason": "dressing", "unit": "ICU", "for": "PT30M"}


@pytest.mark.parametrize(
    ("path", "body", "said"),
    [
        ("/api/alerts/a1/acknowledge", {}, "Field required"),
        ("/api/alerts/a1/acknowledge", {"by": " "}, "at least 1 character"),
        ("/api/alerts/a1/acknowledge", {"by": "nurse", "who": "nurse"}, "not permitted"),
        ("/api/silences", {**SILENCE, "unit": None}, "give patient, rule, unit"),
        ("/api/silences", {**SILENCE, "reason": ""}, "at least 1 character"),
        ("/api/silences", {**SILENCE, "for": None}, "give for or until"),
        ("/api/silences", {**SILENCE, "until": "2026-03-01T13:00:00Z"}, "give for or until"),
        ("/api/silences", {**SILENCE, "for": -5}, "greater than"),
        ("/api/silences", {**SILENCE, "for": None, "until": "2020-01-01T00:00:00Z"}, "must end after it begins"),
        ("/api/silences", {**SILENCE, "for": "PT25H"}, 'of more than 24 h is forgotten by who made it: confirm with "'),
    ],
)
def test_an_order_that_cannot_be_is_told_why(client: TestClient, path: str, body: dict[str, Any], said: str) -> None:
    answer = client.post(path, json=body)

    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert said in answer.text.replace('\\"', '"')


def test_an_order_is_taken_as_json_alone_so_that_no_web_page_can_give_one_unasked(client: TestClient) -> None:
    answer = client.post("/api/silences", content=orjson.dumps(SILENCE), headers={"content-type": "text/plain"})

    assert answer.status_code == 415


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/api/alerts/a1/acknowledge", {"by": "nurse on duty"}),
        ("POST", "/api/silences", SILENCE),
        ("DELETE", "/api/silences/s1?by=nurse", None),
        ("GET", "/api/silences", None),
    ],
)
def test_without_a_broker_nothing_is_ordered_spool_or_not(
    data: DataDir, tmp_path: Path, method: str, path: str, body: dict[str, Any] | None
) -> None:
    spool = Spool(tmp_path / "spool", 1024 * 1024)
    app = create_app(data, bootstrap_servers=NO_BROKER, clock=lambda: NOON, answer_within_s=0.2, spool=spool)
    with TestClient(app, base_url="http://127.0.0.1") as client:
        answer = client.request(method, path, json=body)

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
    assert "a command does not wait on the spool" in answer.json()["detail"]
    assert [one.stat().st_size for one in (tmp_path / "spool").glob("*.spool") if one.stat().st_size] == []


def test_analytics_average_each_signal_and_count_what_alerts_ask_of_a_unit(client: TestClient, data: DataDir) -> None:
    rows = list(minutes("ward/1", NOON - timedelta(hours=3), 70.0, 100.0)) + list(minutes("ward/2", NOON, 60.0))
    rows[0] = {**rows[0], "count": 3, "min": 65.0}
    append(data, VITAL_SIGN_MINUTE, *rows, *minutes("ward/2", NOON - timedelta(minutes=1), 80.0, code="9279-1"))
    early = NOON - timedelta(hours=13)
    told = [
        alert("ward/1", early, 30.0, location_unit="ICU", state="acknowledged", changed_at=NOON),
        alert("ward/2", early, 90.0, location_unit="ICU", state="resolved", ended_at=NOON, changed_at=NOON),
        alert("ward/3", early, location_unit="ICU", priority="high", state="active", changed_at=NOON),
        alert("ward/3", NOON - timedelta(hours=1), category="technical", state="active", changed_at=NOON),
        alert("ward/4", None, location_unit="ICU", state="pending", changed_at=NOON),
        alert("ward/5", NOON - timedelta(days=3), location_unit="ICU", state="active", changed_at=NOON),
    ]
    append(data, ALERT, *({**row, "alert_id": str(number)} for number, row in enumerate(told)))

    answer = client.get("/api/analytics").json()
    of_one = client.get("/api/analytics", params={"patient": "ward/3", "unit": "unknown"}).json()

    heart_rate = {"patient_id": "ward/1", "code": "8867-4", "unit": "/min", "count": 63, "min": 65.0, "max": 100.0}
    assert answer["averages"] == [
        {**heart_rate, "mean": pytest.approx((3 * 70 + 60 * 100) / 63, rel=1e-15)},
        {
            **heart_rate,
            "patient_id": "ward/2",
            "code": "9279-1",
            "count": 60,
            **dict.fromkeys(("min", "mean", "max"), 80.0),
        },
    ]
    unknown = {
        "unit": "unknown",
        "day": "2026-03-01",
        "alerts": 1,
        "patients": 1,
        "high_priority": 0,
        "technical": 1,
        "acknowledged": 0,
        "median_seconds_to_acknowledge": None,
        "still_open": 1,
    }
    assert answer["alert_burden"] == [
        {
            "unit": "ICU",
            "day": "2026-02-28",
            "alerts": 3,
            "patients": 3,
            "high_priority": 1,
            "technical": 0,
            "acknowledged": 2,
            "median_seconds_to_acknowledge": 60.0,
            "still_open": 2,
        },
        unknown,
    ]
    assert of_one["alert_burden"] == [unknown]
    assert of_one["averages"] == []


def sepsis(stay: int, score: str, total: int) -> dict[str, Any]:
    return {"stay_id": f"a/{stay}", "score": score, "patient_id": "a", "onset_at": NOON, "total_min": total}


def write_sepsis(data: DataDir) -> None:
    # Out of order, in several files: the order of a page is not that of the files.
    write_mart(data, "cohort_suspected_sepsis", sepsis(2, "sirs", 2), sepsis(1, "sirs", 3))
    write_mart(data, "cohort_suspected_sepsis", sepsis(1, "qsofa", 2))


def test_cohorts_are_the_marts_and_nothing_else(client: TestClient, data: DataDir) -> None:
    assert client.get("/api/cohorts").json() == {"cohorts": []}
    write_sepsis(data)
    write_alerts(data)

    (found,) = client.get("/api/cohorts").json()["cohorts"]

    assert (found["name"], found["rows"], found["version"]) == ("cohort_suspected_sepsis", 3, 1)
    assert found["columns"][:2] == [{"name": "stay_id", "type": "string"}, {"name": "score", "type": "string"}]


@pytest.mark.parametrize("name", ["alert", "..", "%2e%2e", "gold.alert", "Cohort", "..%2fgold%2falert", "nothing"])
def test_what_is_no_cohort_is_not_found(client: TestClient, data: DataDir, name: str) -> None:
    write_sepsis(data)
    write_alerts(data)

    assert client.get(f"/api/cohorts/{name}").status_code == 404


def test_pages_of_a_cohort_are_in_the_order_of_its_key_and_of_one_version(client: TestClient, data: DataDir) -> None:
    write_sepsis(data)
    path = "/api/cohorts/cohort_suspected_sepsis"

    first = client.get(path, params={"limit": 2}).json()
    write_mart(data, "cohort_suspected_sepsis", sepsis(0, "sirs", 2))
    second = client.get(path, params={"limit": 2, "offset": 2, "version": first["version"]}).json()
    newest = client.get(path).json()

    keys = [(row["stay_id"], row["score"]) for row in (*first["rows"], *second["rows"])]
    assert keys == [("a/1", "qsofa"), ("a/1", "sirs"), ("a/2", "sirs")]
    assert (first["total"], first["rows"][0]["onset_at"]) == (3, "2026-03-01T12:00:00Z")
    assert (newest["total"], newest["version"], client.get(path, params={"version": 9}).status_code) == (4, 2, 404)


@pytest.mark.parametrize(
    ("params", "accept", "kind"),
    [
        ({}, "application/vnd.apache.arrow.stream", "application/vnd.apache.arrow.stream"),
        ({"format": "arrow"}, "application/json", "application/vnd.apache.arrow.stream"),
        ({}, "text/csv;q=0.9, application/vnd.apache.parquet", "application/vnd.apache.parquet"),
        ({}, "text/*", "text/csv"),
        ({"format": "csv"}, "*/*", "text/csv"),
    ],
)
def test_a_whole_cohort_comes_as_the_kind_of_file_that_is_asked_for(
    client: TestClient, data: DataDir, params: dict[str, str], accept: str, kind: str
) -> None:
    write_sepsis(data)

    answer = client.get("/api/cohorts/cohort_suspected_sepsis", params=params, headers={"accept": accept})

    assert (answer.status_code, answer.headers["content-type"].split(";")[0]) == (200, kind)
    table = READ[kind](pa.BufferReader(answer.content))
    assert sorted(zip(*(table[name].to_pylist() for name in ("stay_id", "score", "total_min")), strict=True)) == [
        ("a/1", "qsofa", 2),
        ("a/1", "sirs", 3),
        ("a/2", "sirs", 2),
    ]


READ: dict[str, Callable[[pa.BufferReader], pa.Table]] = {
    "application/vnd.apache.arrow.stream": lambda file: pa.ipc.open_stream(file).read_all(),
    "application/vnd.apache.parquet": pq.read_table,
    "text/csv": csv.read_csv,
}


def test_a_kind_that_cannot_be_made_is_told_those_that_can(client: TestClient, data: DataDir) -> None:
    write_sepsis(data)

    answer = client.get("/api/cohorts/cohort_suspected_sepsis", headers={"accept": "image/png, text/csv;q=0"})

    assert (answer.status_code, answer.json()["detail"][:34]) == (406, "accept one of application/json, ap")


@pytest.mark.parametrize("kind", sorted(READ))
def test_a_file_is_made_piece_by_piece_so_that_memory_does_not_grow_with_it(data: DataDir, kind: str) -> None:
    table = table_named("mart.large")
    rows = 300_000
    numbers = pa.table(
        {"id": range(rows), "text": [f"row {number * 2654435761 % 2**32:>20}" for number in range(rows)]}
    )
    deltalake.write_deltalake(data.table(table), numbers)

    pieces = list(cohorts.whole(data, "large", 0, kind))

    assert len(pieces) >= 15
    assert max(map(len, pieces)) < sum(map(len, pieces)) / 10
    found = READ[kind](pa.BufferReader(b"".join(pieces)))
    assert found.sort_by("id")["text"].to_pylist() == numbers["text"].to_pylist()


def test_readiness_tells_broker_tables_and_lag(client: TestClient, data: DataDir) -> None:
    append(data, VITAL_SIGN_MINUTE, *minutes("ward/1", NOON, 70.0))
    append(data, ENCOUNTER, stay("ward/1", "ICU", NOON))
    (data.table(ENCOUNTER) / "_delta_log" / f"{0:020}.json").write_text("no log")
    running = client.app.state.services  # type: ignore[attr-defined]
    running.cache.lag = MOST_LAG
    at_most = client.get("/readyz").json()["checks"]["lag"]
    running.cache.lag = MOST_LAG + 1

    answer = client.get("/readyz")

    assert (answer.status_code, at_most) == (503, True)
    assert answer.json() == {
        "ready": False,
        "checks": {"broker": False, "tables": False, "lag": False},
        "tables": {
            "missing": ["gold.early_warning_score", "gold.alert", "gold.alert_event"],
            "unreadable": ["silver.encounter"],
        },
        "live_lag_records": MOST_LAG + 1,
    }
