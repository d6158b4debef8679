from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd

from dashboard import tiles
from dashboard.clock import zone
from dashboard.news2 import News2, Trend
from dashboard.ward import Reading, Tile, ward_tiles

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HEART_RATE, SPO2, SYSTOLIC, DIASTOLIC = "8867-4", "59408-5", "8480-6", "8462-4"


def latest(*rows: tuple[str, str | None, str | None, str, Any, str]) -> pd.DataFrame:
    return pd.DataFrame(
        [
            {
                "patient_id": patient_id,
                "unit": unit,
                "bed": bed,
                "code": code,
                "value": value,
                "band": band,
                "fault": None,
                "observed_at": pd.Timestamp(NOON),
            }
            for patient_id, unit, bed, code, value, band in rows
        ]
    )


def alerts(*rows: tuple[str, str, str]) -> pd.DataFrame:
    return pd.DataFrame([(*row, "active") for row in rows], columns=["patient_id", "priority", "title", "state"])


def reading(code: str, value: float | str | None, band: str = "normal", fault: str | None = None) -> Reading:
    return Reading(code, value, band, fault, NOON)


def test_one_tile_a_patient_holds_the_readings_and_the_open_alerts_gravest_first() -> None:
    found = ward_tiles(
        latest(("a/1", "ICU", "3", HEART_RATE, 131.0, "breach"), ("a/1", "ICU", "3", SPO2, float("nan"), "none")),
        alerts(("a/1", "medium", "Heart rate high"), ("a/1", "high", "SpO2 low"), ("gone/9", "high", "SpO2 low")),
        {"a/1": News2(4, 6)},
    )

    assert found == [
        Tile(
            "a/1",
            "ICU",
            "3",
            {HEART_RATE: reading(HEART_RATE, 131.0, "breach"), SPO2: reading(SPO2, None, "none")},
            (("high", "SpO2 low", "active"), ("medium", "Heart rate high", "active")),
            News2(4, 6),
        )
    ]


def test_tiles_are_sorted_by_need_and_then_by_place() -> None:
    found = ward_tiles(
        latest(
            ("calm/2", "ICU", "2", HEART_RATE, 70.0, "normal"),
            ("calm/1", "ICU", "1", HEART_RATE, 70.0, "normal"),
            ("scored/1", "ICU", "9", HEART_RATE, 70.0, "normal"),
            ("beyond/1", "ICU", "9", HEART_RATE, 125.0, "breach"),
            ("low/1", "ICU", "8", HEART_RATE, 70.0, "normal"),
            ("high/1", "ICU", "7", HEART_RATE, 70.0, "normal"),
            ("high/2", "ICU", "6", HEART_RATE, 70.0, "normal"),
        ),
        alerts(
            ("low/1", "low", "Temperature high"),
            ("high/1", "high", "SpO2 low"),
            ("high/2", "high", "SpO2 low"),
            ("high/2", "low", "Temperature high"),
        ),
        {"scored/1": News2(2, 5), "calm/1": News2(0, 0)},
    )

    assert [tile.patient_id for tile in found] == [
        *("high/2", "high/1", "low/1", "scored/1", "beyond/1", "calm/1", "calm/2")
    ]


def test_a_ward_without_patients_has_no_tiles() -> None:
    assert ward_tiles(latest(), alerts(), {}) == []


def test_a_tile_shows_its_numbers_its_alerts_in_words_and_what_is_wrong_with_a_newer_value() -> None:
    tile = Tile(
        "hosp/<b>1",
        "ICU",
        "3",
        {
            HEART_RATE: reading(HEART_RATE, 131.4, "breach"),
            SPO2: reading(SPO2, 97.0, fault="sensor_disconnected"),
            SYSTOLIC: reading(SYSTOLIC, 121.0),
            DIASTOLIC: reading(DIASTOLIC, 74.6),
        },
        (("medium", "Heart rate high", "acknowledged"), ("low", "Temperature high", "active")),
        News2(5, 5, "medium", Trend.UP),
    )

    html = tiles.tile_html(tile, NOON + timedelta(seconds=2), zone("UTC"))

    assert 'href="patient?id=hosp%2F%3Cb%3E1"' in html
    assert "hosp/&lt;b&gt;1" in html
    assert "<b>" not in html
    assert (
        'class="ward-alert ward-medium" title="medium priority, acknowledged">!! Heart rate high \N{CHECK MARK}<'
        in html
    )
    assert 'title="low priority, active">! Temperature high<' in html
    assert 'title="NEWS2 5, medium risk, risen within the hour">' in html
    assert '<span class="ward-margin">5 \N{UPWARDS ARROW}</span> <span class="ward-muted">medium risk</span>' in html
    assert 'title="HR 131, beyond a limit"' in html
    assert "97<sup>?</sup>" in html
    assert "newer value unusable: sensor disconnected" in html
    assert "121/75" in html
    assert '>Temp</span><span class="ward-value">\N{EN DASH}<' in html
    assert "12:00 UTC, 2 s ago" in html


def test_an_old_value_is_shown_with_its_age() -> None:
    html = tiles.tile_html(
        Tile("a/1", None, None, {HEART_RATE: reading(HEART_RATE, 70.0)}), NOON + timedelta(minutes=6), zone("UTC")
    )

    assert 'title="HR 70, 6 min ago"' in html
    assert "ward-stale" in html
    assert "NEWS2" not in html
    assert "No bed known" in html
