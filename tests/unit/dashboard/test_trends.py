"""Figures of care units, each from a few rows whose answer is known."""

from collections.abc import Callable
from datetime import timedelta
from zoneinfo import ZoneInfo

import pytest

from alerting import pack
from dashboard.period import Period, week
from dashboard.trends import COLUMNS, MEASURES, Trends, spanned, trends, units
from lakehouse.datadir import DataDir
from lakehouse.reader import TableMissingError
from lakehouse.tables import ALERT, EARLY_WARNING_SCORE, ENCOUNTER, OBSERVATION, VITAL_SIGN_MINUTE
from tests.fixtures.trends import alert, at, figures, minutes, news2, stay, told

Write = Callable[..., None]
UTC_WEEK = week("2026-W10", ZoneInfo("UTC"))
LIMITS = tuple(rule for rule in pack.load().limits if rule.id == "heart-rate-high")


def made(data: DataDir, period: Period = UTC_WEEK, only: str | None = None) -> Trends:
    return trends(data, {"reported": period, "before": period.before}, LIMITS, only=only)


def test_patients_and_their_days_are_counted_where_most_messages_of_an_hour_say_that_they_lie(
    data: DataDir, write: Write
) -> None:
    write(VITAL_SIGN_MINUTE, *minutes("a", at(hour=8), *[70.0] * 120), *minutes("b", at(1, 8), *[70.0] * 30))
    write(
        OBSERVATION,
        told("a", "ICU", at(hour=8)),
        told("a", "ICU", at(hour=9)),
        told("a", "MED", at(hour=9, minute=30)),
        told("a", "MED", at(hour=9, minute=40)),
        told("b", "ICU", at(1, 8)),
    )

    found = made(data)

    assert found.units == ("ICU", "MED")
    assert figures(found.of("ICU"), "census") == {
        (None, "patients"): 2.0,
        (None, "patient_days"): 0.0625,
        ("2026-03-02", "patients"): 1.0,
        ("2026-03-02", "patient_days"): 0.0417,
        ("2026-03-03", "patients"): 1.0,
        ("2026-03-03", "patient_days"): 0.0208,
    }
    assert figures(found.of("MED"), "census", day=None) == {("patients",): 1.0, ("patient_days",): 0.0417}


def test_an_hour_that_names_no_unit_takes_that_of_the_hour_nearest_by_then_that_of_the_stay(
    data: DataDir, write: Write
) -> None:
    write(
        VITAL_SIGN_MINUTE,
        *minutes("carried", at(hour=8), *[70.0] * 180),
        *minutes("staying", at(hour=8), *[70.0] * 60),
        *minutes("nowhere", at(hour=8), *[70.0] * 60),
    )
    write(OBSERVATION, told("carried", "ICU", at(hour=9)))
    write(ENCOUNTER, stay("staying", "ICU 4", at(-1)), stay("carried", "MED 1", at(-1)))

    found = made(data)

    assert figures(found.frame, "census", day=None, statistic="patient_days") == {
        ("ICU", "patient_days"): 0.1667,
        ("unknown", "patient_days"): 0.0417,
    }


def test_vital_signs_have_median_and_spread_by_day_and_hours_of_their_own(data: DataDir, write: Write) -> None:
    write(VITAL_SIGN_MINUTE, *minutes("a", at(hour=8), *map(float, range(60, 101))))
    write(OBSERVATION, told("a", "ICU", at(hour=8)))

    found = made(data).of("ICU")

    spread = {"p05": 62.0, "p25": 70.0, "median": 80.0, "p75": 90.0, "p95": 98.0, "minutes": 41.0}
    assert figures(found, "vital_sign") == {
        (day, name): value for day in (None, "2026-03-02") for name, value in spread.items()
    }
    assert figures(found, "vital_sign_hour") == {("median",): 80.0, ("minutes",): 41.0}
    assert set(found[found["measure"] == "vital_sign"]["unit"]) == {"/min", "min"}


def test_coverage_is_of_the_time_between_first_and_last_value_and_a_long_absence_is_no_gap(
    data: DataDir, write: Write
) -> None:
    # An hour, half an hour missing, half an hour; gone for longer than twelve hours, back for an hour.
    write(
        VITAL_SIGN_MINUTE,
        *minutes("a", at(hour=8), *[70.0] * 60),
        *minutes("a", at(hour=9, minute=30), *[70.0] * 30),
        *minutes("a", at(hour=23), *[70.0] * 60),
    )
    write(OBSERVATION, told("a", "ICU", at(hour=8)), told("a", "ICU", at(hour=23)))

    found = made(data).of("ICU")

    assert figures(found, "coverage", subject="any", statistic="share") == {
        (None, None, "share"): 83.3333,
        ("2026-03-02", None, "share"): 83.3333,
        ("2026-03-02", 8, "share"): 100.0,
        ("2026-03-02", 9, "share"): 50.0,
        ("2026-03-02", 23, "share"): 100.0,
    }
    assert figures(found, "gap", day=None) == {("gaps",): 1.0, ("minutes",): 30.0, ("longest",): 30.0}


def test_minutes_beyond_a_limit_are_held_against_the_limit_of_the_unit(data: DataDir, write: Write) -> None:
    write(VITAL_SIGN_MINUTE, *minutes("a", at(hour=8), 119.0, 120.0, 121.0, 140.0))
    write(OBSERVATION, told("a", "ICU", at(hour=8)))

    found = made(data).of("ICU")

    assert figures(found, "beyond_limits", day=None) == {
        ("any", "minutes"): 2.0,
        ("any", "share"): 50.0,
        ("heart-rate-high", "minutes"): 2.0,
        ("heart-rate-high", "share"): 50.0,
    }


def test_each_patient_hour_has_the_risk_that_stands_at_its_end_for_as_long_as_a_score_stands(
    data: DataDir, write: Write
) -> None:
    write(VITAL_SIGN_MINUTE, *minutes("a", at(hour=8), *[70.0] * 60 * 9))
    write(OBSERVATION, *(told("a", "ICU", at(hour=hour)) for hour in range(8, 17)))
    # Low in the hour of 8, high from that of 9 on for six hours, then nothing that anybody confirmed.
    write(EARLY_WARNING_SCORE, news2("a", at(hour=8, minute=10), 2, "low"), news2("a", at(hour=9), 7, "high"))
    write(EARLY_WARNING_SCORE, news2("b", at(hour=9), 9, "high"))

    found = made(data).of("ICU")

    assert figures(found, "news2", day=None) == {
        ("low", "hours"): 1.0,
        ("low", "share"): 11.1111,
        ("high", "hours"): 6.0,
        ("high", "share"): 66.6667,
        ("not known", "hours"): 2.0,
        ("not known", "share"): 22.2222,
        ("any", "hours"): 7.0,
        ("any", "median"): 7.0,
        ("any", "share_5"): 85.7143,
        ("any", "share_7"): 85.7143,
    }


def test_alerts_that_told_somebody_are_counted_by_patient_day_with_the_time_to_take_them_on(
    data: DataDir, write: Write
) -> None:
    write(VITAL_SIGN_MINUTE, *minutes("a", at(hour=0), *[70.0] * 720))
    write(OBSERVATION, told("a", "ICU", at(hour=0)))
    write(
        ALERT,
        alert("a", at(hour=1), 60.0),
        alert("a", at(hour=2), 120.0, priority="high", rule_id="spo2-low", title="SpO2 low"),
        alert("a", at(hour=3)),
        alert("a", at(hour=4), location_unit="MED"),
        alert("never-told", None),
        alert("a", at(-7)),
    )

    found = made(data)

    whole = figures(found.of("ICU"), "alert", day=None, statistic="per_patient_day")
    assert whole == {
        ("any", "any", "per_patient_day"): 6.0,
        ("any", "high", "per_patient_day"): 2.0,
        ("any", "medium", "per_patient_day"): 4.0,
        ("heart-rate-high", "medium", "per_patient_day"): 4.0,
        ("spo2-low", "high", "per_patient_day"): 2.0,
    }
    assert figures(found.of("ICU"), "acknowledgement", detail="any") == {
        ("alerts",): 3.0,
        ("acknowledged",): 2.0,
        ("share",): 66.6667,
        ("median",): 90.0,
        ("p90",): 114.0,
    }
    # Without patients there is nothing to divide by, and no figure is made up.
    assert figures(found.of("MED"), "alert", day=None, subject="any", detail="any") == {("alerts",): 1.0}
    labels = found.frame[found.frame["measure"] == "alert"].groupby("subject")["label"].unique().map(list).to_dict()
    assert labels == {"any": ["All alerts"], "heart-rate-high": ["Heart rate high"], "spo2-low": ["SpO2 low"]}


def test_what_is_missing_is_counted_days_without_values_and_patients_who_stay_without_any(
    data: DataDir, write: Write
) -> None:
    write(VITAL_SIGN_MINUTE, *minutes("a", at(hour=8), 70.0))
    write(OBSERVATION, told("a", "ICU", at(hour=8)))
    write(
        ENCOUNTER,
        stay("a", "ICU 1", at(-1)),
        stay("silent", "ICU 2", at(2)),
        stay("gone", "ICU 3", at(-9), at(-8)),
        stay("cancelled", "ICU 3", at(2)) | {"status": "cancelled"},
    )

    found = made(data)

    assert figures(found.of("ICU"), "missing") == {("days_without_values",): 6.0, ("patients_without_values",): 1.0}
    assert found.absent == ("gold.early_warning_score", "gold.alert")
    assert [(state.table, state.version) for state in found.as_of] == [
        ("gold.vital_sign_minute", 0),
        ("silver.observation", 0),
        ("silver.encounter", 0),
    ]
    assert found.newest == at(hour=8)


def test_days_and_hours_are_those_of_the_zone_also_on_the_day_that_clocks_change(data: DataDir, write: Write) -> None:
    # In London clocks went forward on Sunday 29 March 2026 at one o'clock.
    sunday = at(27)
    write(
        VITAL_SIGN_MINUTE,
        *minutes("a", sunday + timedelta(minutes=30), *[70.0] * 60),
        *minutes("a", sunday + timedelta(hours=23), 70.0),
    )
    write(OBSERVATION, told("a", "ICU", sunday), told("a", "ICU", sunday + timedelta(hours=1)))

    found = made(data, week("2026-W13", ZoneInfo("Europe/London"))).of("ICU")

    assert figures(found, "vital_sign_hour", statistic="minutes") == {(0, "minutes"): 30.0, (2, "minutes"): 30.0}
    assert set(found["day"].dropna()) == {"2026-03-29"}


def test_periods_stand_side_by_side_and_one_unit_has_the_same_figures_alone_as_among_all(
    data: DataDir, write: Write
) -> None:
    write(
        VITAL_SIGN_MINUTE,
        *minutes("a", at(hour=8), 70.0, 72.0),
        *minutes("a", at(-7, 8), 90.0),
        *minutes("b", at(hour=8), 50.0),
        *minutes("moved", at(hour=8), 71.0),
        *minutes("moved", at(hour=9), 60.0),
    )
    write(OBSERVATION, told("a", "ICU", at(hour=8)), told("a", "ICU", at(-7, 8)), told("b", "MED", at(hour=8)))
    write(OBSERVATION, told("moved", "ICU", at(hour=8)), told("moved", "MED", at(hour=9)))
    write(ALERT, alert("a", at(hour=8)), alert("b", at(hour=8)))
    write(ENCOUNTER, stay("c", "ICU 4", at(1)), stay("b", "ICU 5", at(1)))

    everybody, alone = made(data), made(data, only="ICU")

    assert alone.units == everybody.units == ("ICU", "MED")
    assert alone.frame.to_csv() == everybody.of("ICU").to_csv()
    # The silence of whom moved is of the unit where it began.
    assert figures(alone.frame, "gap", day=None) == {("gaps",): 1.0, ("minutes",): 59.0, ("longest",): 59.0}
    assert figures(alone.frame, "missing", statistic="patients_without_values") == {("patients_without_values",): 1.0}
    medians = alone.frame.query("measure == 'vital_sign' and statistic == 'median' and day.isna()")
    assert dict(zip(medians["period"], medians["value"], strict=True)) == {"reported": 71.0, "before": 90.0}


def test_units_are_known_of_alerts_stays_and_the_newest_day_also_where_the_period_has_none(
    data: DataDir, write: Write
) -> None:
    write(VITAL_SIGN_MINUTE, *minutes("a", at(hour=8), 70.0))
    write(OBSERVATION, told("a", "NEW", at(40)), told("a", "OLD", at(30)))
    write(ALERT, alert("a", at(-50), location_unit="ALERTED"))
    write(ENCOUNTER, stay("b", "STAYED", at(-50), at(-49)))

    assert units(data, UTC_WEEK) == ("ALERTED", "NEW", "STAYED", "unknown")


def test_every_row_is_of_a_declared_measure_and_column(data: DataDir, write: Write) -> None:
    write(VITAL_SIGN_MINUTE, *minutes("a", at(hour=8), 70.0), *minutes("a", at(hour=9), 70.0))
    write(OBSERVATION, told("a", "ICU", at(hour=8)))
    write(ALERT, alert("a", at(hour=8), 5.0))
    write(EARLY_WARNING_SCORE, news2("a", at(hour=8), 1, "low"))

    frame = made(data).frame

    assert tuple(frame.columns) == tuple(COLUMNS)
    found = {(measure, statistic) for measure, statistic in zip(frame["measure"], frame["statistic"], strict=True)}
    assert found == {(measure.name, statistic) for measure in MEASURES for statistic in measure.statistics}
    assert frame["unit"].notna().all()


def test_without_minutes_there_is_nothing_to_report_and_an_empty_table_has_no_span(data: DataDir, write: Write) -> None:
    with pytest.raises(TableMissingError, match=r"gold\.vital_sign_minute is not in"):
        made(data)

    write(VITAL_SIGN_MINUTE)

    assert spanned(data) is None
    assert (made(data).units, len(made(data).frame)) == ((), 0)
