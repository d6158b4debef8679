from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pandas as pd

from alerting import pack
from alerting.bands import arms
from dashboard import queries
from lakehouse.datadir import DataDir
from lakehouse.tables import ALERT_EVENT, OBSERVATION, VITAL_SIGN_MINUTE

if TYPE_CHECKING:
    from collections.abc import Callable

    Write = Callable[..., None]

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEART_RATE = "8867-4"


def ago(**span: int) -> datetime:
    return NOON - timedelta(**span)


def minute(patient_id: str, at: datetime, value: float, code: str = HEART_RATE) -> dict[str, Any]:
    statistics = dict.fromkeys(("min", "mean", "max", "first", "last"), value)
    return {"patient_id": patient_id, "code": code, "minute": at, "unit": "/min", "count": 60, **statistics}


def event(alert_id: str, sequence: int, state: str, at: datetime, **more: Any) -> dict[str, Any]:
    return {
        "alert_id": alert_id,
        "sequence": sequence,
        "state": state,
        "rule_id": "heart-rate-high",
        "title": "Heart rate high",
        "pack": "adult@1",
        "priority": "medium",
        "category": "physiological",
        "patient_id": "a/1",
        "code": HEART_RATE,
        "value": 131.0,
        "limit_value": 120.0,
        "observed_at": at,
        "emitted_at": at,
        **more,
    }


def rows(frame: pd.DataFrame) -> list[dict[Any, Any]]:
    return frame.astype(object).where(frame.notna(), None).to_dict("records")


def test_the_latest_value_of_each_signal_comes_with_its_place_and_band(data: DataDir, write: "Write") -> None:
    write(
        VITAL_SIGN_MINUTE,
        minute("a/1", ago(minutes=2), 70.0),
        minute("a/1", ago(minutes=1), 131.0),
        minute("b/2", ago(minutes=1), 70.0),
        minute("left/3", ago(minutes=20), 70.0),
        minute("shifted/4", NOON + timedelta(days=40_000), 70.0),
    )
    write(
        OBSERVATION,
        {"patient_id": "a/1", "location_unit": "ICU", "location_bed": "1", "observed_at": ago(seconds=90)},
        {"patient_id": "a/1", "location_unit": "ICU", "location_bed": "2", "observed_at": ago(seconds=60)},
    )

    found = queries.latest(data, NOON, arms(pack.load()))

    same = {"code": HEART_RATE, "fault": None, "observed_at": ago(minutes=1)}
    assert rows(found.sort_values("patient_id")) == [
        {"patient_id": "a/1", "unit": "ICU", "bed": "2", "value": 131.0, "band": "breach", **same},
        {"patient_id": "b/2", "unit": None, "bed": None, "value": 70.0, "band": "normal", **same},
    ]


def test_open_alerts_are_those_whose_last_transition_left_them_open(data: DataDir, write: "Write") -> None:
    write(
        ALERT_EVENT,
        event("resolved", 0, "active", ago(minutes=9)),
        event("resolved", 1, "resolved", ago(minutes=8)),
        event("open", 0, "pending", ago(minutes=7), value=125.0),
        event("open", 1, "active", ago(minutes=6), value=130.0, location_unit="ICU", location_bed="2"),
    )

    assert rows(queries.open_alerts(data, NOON)) == [
        {
            "alert_id": "open",
            "state": "active",
            "rule_id": "heart-rate-high",
            "title": "Heart rate high",
            "priority": "medium",
            "category": "physiological",
            "patient_id": "a/1",
            "unit": "ICU",
            "bed": "2",
            "code": HEART_RATE,
            "value": 130.0,
            "limit_value": 120.0,
            "emitted_at": ago(minutes=6),
            "opened_at": ago(minutes=7),
        }
    ]


def test_a_trend_holds_one_patients_minutes_within_the_span(data: DataDir, write: "Write") -> None:
    write(
        VITAL_SIGN_MINUTE,
        minute("a/1", ago(hours=2), 60.0),
        minute("a/1", ago(minutes=30), 70.0),
        minute("a/1", NOON, 80.0),
        minute("b/2", ago(minutes=30), 90.0),
    )

    assert rows(queries.trend(data, "a/1", ago(hours=1), NOON)) == [
        {
            "code": HEART_RATE,
            "unit": "/min",
            "minute": ago(minutes=30),
            "count": 60,
            "min": 70.0,
            "mean": 70.0,
            "max": 70.0,
        }
    ]
    assert (queries.newest_minute(data, "a/1"), queries.newest_minute(data, "c/3")) == (NOON, None)
    assert queries.patients(data, NOON)["patient_id"].to_list() == ["a/1", "b/2"]


def test_a_long_trend_has_a_point_an_hour_whose_mean_weighs_by_counts(data: DataDir, write: "Write") -> None:
    write(
        VITAL_SIGN_MINUTE,
        minute("a/1", ago(minutes=70), 50.0) | {"count": 10},
        minute("a/1", ago(minutes=90), 80.0) | {"count": 30},
        minute("a/1", ago(minutes=10), 70.0),
    )

    found = rows(queries.trend(data, "a/1", ago(days=3), NOON))

    assert [(one["minute"], one["count"], one["min"], one["mean"], one["max"]) for one in found] == [
        (ago(hours=2), 40, 50.0, 72.5, 80.0),
        (ago(hours=1), 60, 70.0, 70.0, 70.0),
    ]


def test_alerts_of_a_patient_are_those_open_at_some_time_within_the_span(data: DataDir, write: "Write") -> None:
    write(
        ALERT_EVENT,
        event("before", 0, "active", ago(hours=5)),
        event("before", 1, "resolved", ago(hours=4)),
        event("into", 0, "active", ago(hours=3), value=125.0),
        event("into", 1, "resolved", ago(minutes=30), value=110.0),
        event("open", 0, "active", ago(hours=2)),
        event("after", 0, "active", NOON + timedelta(minutes=1)),
        event("other", 0, "active", ago(minutes=9), patient_id="b/2"),
    )

    found = queries.alerts_of(data, "a/1", ago(hours=1), NOON)

    assert [(row["alert_id"], row["value"], row["started_at"], row["resolved_at"]) for row in rows(found)] == [
        ("into", 125.0, ago(hours=3), ago(minutes=30)),
        ("open", 131.0, ago(hours=2), None),
    ]


def test_an_alert_of_a_shifted_clock_started_with_its_first_transition(data: DataDir, write: "Write") -> None:
    shifted = datetime(2137, 9, 1, 12, tzinfo=UTC)
    # Muting counts by the broker's clock, which is a century behind.
    write(ALERT_EVENT, event("muted", 0, "active", shifted), event("muted", 1, "silenced", NOON))

    found = queries.alerts_of(data, "a/1", shifted - timedelta(hours=1), shifted + timedelta(hours=1))

    assert list(found["started_at"]) == [shifted]
