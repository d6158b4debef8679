"""The ways out over small real tables; what needs a broker is in tests/integration/test_ways_out.py."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from fastapi.testclient import TestClient

from gateway.app import create_app
from lakehouse.datadir import DataDir
from lakehouse.tables import ALERT, EARLY_WARNING_SCORE, ENCOUNTER, VITAL_SIGN_MINUTE
from tests.fixtures.delta import append
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
