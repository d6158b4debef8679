"""What the page Patient shows, as files."""

import csv
import io
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pandas as pd
import pytest

from dashboard import charts, patient_sheet
from dashboard.patient_sheet import CSV_COLUMNS, Sheet

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
LONDON = ZoneInfo("Europe/London")


@pytest.fixture
def sheet() -> Sheet:
    minutes = pd.DataFrame(
        {
            "code": "8867-4",
            "unit": "/min",
            "minute": pd.to_datetime([NOON, NOON + timedelta(minutes=1)]),
            "count": 60,
            "min": 60.0,
            "mean": 70.0,
            "max": 80.0,
        }
    )
    alerts = pd.DataFrame(
        {
            "code": ["8867-4"],
            "title": ["Heart rate high"],
            "priority": ["medium"],
            "started_at": pd.to_datetime([NOON]),
            "resolved_at": pd.to_datetime([None], utc=True),
            "value": [131.0],
        }
    )
    start, stop = NOON - timedelta(hours=1), NOON + timedelta(hours=1)
    chart = charts.trend(
        minutes, [], alerts, title="Heart rate", unit="/min", zone=LONDON, start=start, stop=stop
    )  # fmt: skip
    scores = [{"begins": NOON, "ends": stop, "total_min": 3, "total": None, "total_max": 6}]
    return Sheet("mrn/1", start, stop, LONDON, minutes, alerts, scores, [chart] * 6)


def test_the_csv_has_every_minute_and_alert_with_instants_of_the_pages_zone(sheet: Sheet) -> None:
    rows = list(csv.DictReader(io.StringIO(patient_sheet.csv(sheet).decode())))

    assert list(rows[0]) == list(CSV_COLUMNS)
    told = [{name: value for name, value in row.items() if value} for row in rows]
    assert told[1:] == [
        {
            "kind": "minute",
            "at": "2026-07-01T13:01:00+01:00",
            "code": "8867-4",
            "signal": "Heart rate",
            "unit": "/min",
            "count": "60.0",
            "min": "60.0",
            "mean": "70.0",
            "max": "80.0",
        },
        {
            "kind": "score",
            "at": "2026-07-01T13:00:00+01:00",
            "signal": "NEWS2",
            "min": "3.0",
            "max": "6.0",
            "ended_at": "2026-07-01T14:00:00+01:00",
        },
        {
            "kind": "alert",
            "at": "2026-07-01T13:00:00+01:00",
            "code": "8867-4",
            "mean": "131.0",
            "alert": "Heart rate high",
            "priority": "medium",
        },
    ]


def test_the_pdf_has_the_charts_five_a_page_and_the_alerts_behind_them_as_text(sheet: Sheet) -> None:
    from pypdf import PdfReader

    pages = [page.extract_text() for page in PdfReader(io.BytesIO(patient_sheet.pdf(sheet, NOON))).pages]

    assert [page.count("Heart rate (/min)") for page in pages] == [5, 1, 0]
    for number, page in enumerate(pages, 1):
        assert "Patient mrn/1" in page
        assert "2026-07-01 12:00 BST to 2026-07-01 14:00 BST, Europe/London" in page
        assert f"page {number} of 3" in page
    assert "!! medium" in pages[2]
    assert "Heart rate high (131)" in pages[2]
    assert "open" in pages[2]


def test_the_png_is_a_picture_of_all_charts_and_no_file_name_tells_who_it_is_of(sheet: Sheet) -> None:
    from PIL import Image

    picture = Image.open(io.BytesIO(patient_sheet.png(sheet)))

    assert picture.format == "PNG"
    assert picture.width > 1800
    assert picture.height > 6 * 2 * 150
    assert sheet.file_name == "patient-2026-07-01T1200"
