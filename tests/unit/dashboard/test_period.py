from datetime import UTC, date, datetime
from zoneinfo import ZoneInfo

import pytest

from dashboard.period import Period, PeriodError, last_week, week

LONDON = ZoneInfo("Europe/London")


def test_a_week_runs_from_monday_to_sunday_by_the_wall_clock_of_its_zone() -> None:
    shown = week("2026-W13", LONDON)

    assert (shown.first, shown.last, shown.name) == (date(2026, 3, 23), date(2026, 3, 29), "2026-W13")
    assert shown.words == "Mon 23 to Sun 29 Mar 2026 (2026-W13)"
    # Clocks go forward on its Sunday: it has an hour less.
    assert (shown.start, shown.stop) == (
        datetime(2026, 3, 23, tzinfo=UTC),
        datetime(2026, 3, 29, 23, tzinfo=UTC),
    )
    assert shown.before == week("2026-W12", LONDON)


def test_days_that_are_no_week_are_named_by_the_first_and_the_last() -> None:
    shown = Period(date(2026, 2, 27), date(2026, 3, 1), LONDON)

    assert (shown.name, shown.words) == ("2026-02-27_2026-03-01", "Fri 27 Feb 2026 to Sun 1 Mar 2026")
    assert shown.before == Period(date(2026, 2, 24), date(2026, 2, 26), LONDON)


def test_the_last_week_is_the_last_that_is_over_where_the_reader_is() -> None:
    monday_in_london = datetime(2026, 7, 5, 23, 30, tzinfo=UTC)

    assert last_week(monday_in_london, LONDON).name == "2026-W27"
    assert last_week(monday_in_london, ZoneInfo("UTC")).name == "2026-W26"


@pytest.mark.parametrize("text", ["2026-W54", "2026W10", "W10", "2026-10", ""])
def test_what_is_no_week_is_refused_with_what_one_looks_like(text: str) -> None:
    with pytest.raises(PeriodError, match=f"^{text}: give a week as ISO 8601 writes it, such as 2026-W47$"):
        week(text, LONDON)


@pytest.mark.parametrize("last", [date(2026, 2, 28), date(2026, 4, 1)])
def test_a_period_ends_no_sooner_than_it_begins_and_within_a_month(last: date) -> None:
    with pytest.raises(PeriodError, match="no more than 31 days"):
        Period(date(2026, 3, 1), last, LONDON)
