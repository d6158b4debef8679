"""The report of a unit: what its pages and its CSV say, held against each other."""

import csv
import io
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from alerting import pack
from dashboard import trend_report
from dashboard.period import week
from dashboard.trend_report import KEYS, Report, changed, lacks, letter, written
from dashboard.trends import COLUMNS, MEASURES, Trends, trends
from lakehouse.datadir import DataDir
from lakehouse.tables import ALERT, EARLY_WARNING_SCORE, ENCOUNTER, OBSERVATION, VITAL_SIGN_MINUTE
from tests.fixtures.trends import alert, at, minutes, news2, stay, told

Write = Callable[..., None]
PACK = pack.load()
PERIOD = week("2026-W10", ZoneInfo("UTC"))
MADE_AT = PERIOD.stop + timedelta(hours=6)
SPO2 = "59408-5"


@pytest.fixture
def filled(data: DataDir, write: Write) -> DataDir:
    """Two weeks of one unit, and another unit without anything in them."""
    for start in (at(), at(-7)):
        write(
            VITAL_SIGN_MINUTE,
            *minutes("a", start + timedelta(hours=8), *[70.0, 130.0] * 60),
            *minutes("a", start + timedelta(hours=11), *[75.0] * 60),
            *minutes("a", start + timedelta(hours=8), *[97.0] * 120, code=SPO2),
        )
        write(OBSERVATION, *(told("a", "ICU", start + timedelta(hours=hour)) for hour in range(8, 12)))
        write(EARLY_WARNING_SCORE, news2("a", start + timedelta(hours=8), 5, "medium"))
    write(ALERT, alert("a", at(hour=8), 90.0), alert("a", at(hour=9), priority="high"), alert("a", at(-7, 8), 30.0))
    write(ALERT, alert("b", at(-60), location_unit="QUIET"))
    write(ENCOUNTER, stay("silent", "ICU 2", at(1)))
    return data


def figures_of(data: DataDir) -> Trends:
    return trends(data, {"reported": PERIOD, "before": PERIOD.before}, PACK.limits)


def report(data: DataDir, unit: str = "ICU") -> Report:
    return Report(unit, PERIOD, figures_of(data), PACK.label)


def pages(content: bytes) -> list[str]:
    from pypdf import PdfReader

    return [" ".join(page.extract_text().split()) for page in PdfReader(io.BytesIO(content)).pages]


def drawn(found: Report) -> list[dict[str, Any]]:
    """The charts of every page, as Vega-Lite."""
    contents = trend_report._contents(found, MADE_AT)
    return [picture.chart.to_dict() for page in contents for picture in page.pictures]


def test_the_same_tables_give_the_same_csv_byte_by_byte_with_the_documented_columns(filled: DataDir) -> None:
    first, second = trend_report.csv(report(filled)), trend_report.csv(report(filled))

    assert first == second
    rows = list(csv.DictReader(io.StringIO(first.decode())))
    assert list(rows[0]) == list(COLUMNS)
    assert {row["care_unit"] for row in rows} == {"ICU"}
    assert {
        "care_unit": "ICU",
        "period": "reported",
        "measure": "vital_sign",
        "subject": "heart_rate",
        "label": "Heart rate",
        "detail": "",
        "day": "2026-03-02",
        "hour": "",
        "statistic": "median",
        "value": "75.0",
        "unit": "/min",
    } in rows


def test_every_figure_that_a_chart_draws_is_a_row_of_the_csv(filled: DataDir) -> None:
    found = report(filled)
    told_in_csv = {float(row["value"]) for row in csv.DictReader(io.StringIO(trend_report.csv(found).decode()))}
    figures = ("value", "before", "p05", "p25", "median", "p75", "p95")

    shown = [
        row[name]
        for chart in drawn(found)
        for rows in chart["datasets"].values()
        for row in rows
        for name in figures
        if row.get(name) is not None
    ]

    assert len(drawn(found)) == 9
    assert len(shown) == 33
    assert set(shown) <= told_in_csv


def test_pages_are_text_with_title_period_state_of_the_tables_and_numbers(filled: DataDir) -> None:
    made = pages(trend_report.pdf(report(filled), MADE_AT))

    assert len(made) == 4
    for number, text in enumerate(made, 1):
        assert "ICU" in text
        assert "Mon 2 to Sun 8 Mar 2026 (2026-W10)" in text
        assert "Made 2026-03-09 06:00 UTC. Wardhouse is not a medical device." in text
        assert f"page {number} of 4" in text
    assert "Minutes with a value" in made[0]
    assert "75.0 %" in made[0]
    assert "before 75.0 % (+0.0 points)" in made[0]
    assert "6 days of 7 without any value of this unit." in made[0]
    assert "1 patient with a stay on the unit and without any value." in made[0]
    assert "Heart rate (/min)" in made[1]
    assert "Total 5 or more * 100.0 %" in made[2]
    assert "1 min 30 s" in made[3]
    assert "gold.vital_sign_minute version 1 as of " in made[3]


def test_a_unit_without_anything_in_the_week_gets_a_page_that_says_so_and_what_to_look_at(filled: DataDir) -> None:
    found = report(filled, "QUIET")

    (page,) = pages(trend_report.pdf(found, MADE_AT))

    assert found.is_empty
    assert trend_report.csv(found).decode() == ",".join(COLUMNS) + "\n"
    assert "Nothing is stored of this unit in this period." in page
    assert "The newest value of any unit is of 2026-03-02 11:59 UTC." in page
    assert "`ward status`" in page
    assert "Nothing is stored of this unit in this period." in letter(found, MADE_AT)


def test_a_week_that_lasts_and_tables_that_are_stale_or_absent_are_told(data: DataDir, write: Write) -> None:
    write(VITAL_SIGN_MINUTE, *minutes("a", at(hour=8), 70.0))
    write(OBSERVATION, told("a", "ICU", at(hour=8)))

    said = list(lacks(figures_of(data), "ICU", PERIOD, at(3)))

    assert said == [
        "The period is not over: days to come are empty, and figures will change.",
        "The newest value of any unit is of 2026-03-02 08:00 UTC. Is the pipeline running? `ward status` tells.",
        "6 days of 7 without any value of this unit.",
        "100 % of the patient-hours have no NEWS2 total: an input was missing or stale.",
        "The period before has no values of this unit: there is nothing to compare with.",
        "The table gold.early_warning_score is not there: what comes from it is left out.",
        "The table gold.alert is not there: what comes from it is left out.",
        "The table silver.encounter is not there: what comes from it is left out.",
    ]


def test_a_letter_tells_the_key_figures_against_the_week_before_and_names_no_patient(filled: DataDir) -> None:
    lines = letter(report(filled), MADE_AT).splitlines()

    assert lines[:8] == [
        "ICU, Mon 2 to Sun 8 Mar 2026 (2026-W10); days are UTC.",
        "",
        "Patients: 1, before 1 (+0 %)",
        "Patient-days: 0.2, before 0.2 (+0 %)",
        "Minutes with a value: 75.0 %, before 75.0 % (+0.0 points)",
        "Hours with NEWS2 5 or more: 100.0 %, before 100.0 % (+0.0 points)",
        "Alerts per patient-day: 12.0, before 6.0 (+100 %)",
        "Median time to acknowledge: 1 min 30 s, before 30 s (+200 %)",
    ]


def test_a_figure_without_one_to_compare_with_says_so() -> None:
    alerts = next(key for key in KEYS if key.measure == "alert")

    assert [written(None, alerts), written(1234.56, alerts)] == ["\N{EN DASH}", "1,234.6"]
    assert changed(None, 2.0, alerts) == "no figure"
    assert changed(2.0, None, alerts) == "no figure before"
    assert changed(2.0, 0.0, alerts) == "before 0.0"


@pytest.mark.parametrize(
    ("unit", "name"),
    [
        ("ICU", "trend-ICU-2026-W10"),
        ("Oddział", "trend-Oddział-2026-W10"),
        ("Surgical ICU (SICU)", "trend-Surgical-ICU-SICU-10dee373-2026-W10"),
        ("../etc", "trend-etc-db306e33-2026-W10"),
    ],
)
def test_files_are_named_by_unit_and_week_and_no_two_units_share_a_name(unit: str, name: str) -> None:
    nothing = Trends(None, (), (), (), None)  # type: ignore[arg-type]

    assert Report(unit, PERIOD, nothing, PACK.label).file_name == name


def test_the_page_on_reports_names_every_column_measure_and_statistic_of_the_csv() -> None:
    page = Path("docs/reports.md").read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in page.splitlines() if line.startswith("| `")}

    assert {name for line in page.splitlines() for name in line.split("`")[1::2]} >= set(COLUMNS)
    for measure in MEASURES:
        if measure.name != "vital_sign_hour":
            assert all(f"`{statistic}`" in rows[measure.name] for statistic in measure.statistics), measure.name
