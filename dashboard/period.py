"""The days that a report is about: whole days of one time zone, a week from Monday to Sunday by default."""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from zoneinfo import ZoneInfo

LONGEST_DAYS = 31
"""A report draws a column for each day: more of them are not legible on a page."""


class PeriodError(ValueError):
    """What was asked for is no period; the text says what one looks like."""


@dataclass(frozen=True)
class Period:
    """From the start of ``first`` to the end of ``last``, by the wall clock of ``zone``."""

    first: date
    last: date
    zone: ZoneInfo

    def __post_init__(self) -> None:
        if not 1 <= len(self.days) <= LONGEST_DAYS:
            raise PeriodError(
                f"{self.first} to {self.last}: give a last day that is not before the first one,"
                f" and no more than {LONGEST_DAYS} days"
            )

    @property
    def days(self) -> tuple[date, ...]:
        """Every day, in order."""
        return tuple(self.first + timedelta(days=number) for number in range((self.last - self.first).days + 1))

    @property
    def start(self) -> datetime:
        """The first instant that belongs to it, in UTC."""
        return datetime.combine(self.first, time(), self.zone).astimezone(UTC)

    @property
    def stop(self) -> datetime:
        """The first instant after it, in UTC."""
        return datetime.combine(self.last + timedelta(days=1), time(), self.zone).astimezone(UTC)

    @property
    def before(self) -> "Period":
        """As many days right before it."""
        length = timedelta(days=len(self.days))
        return Period(self.first - length, self.last - length, self.zone)

    @property
    def name(self) -> str:
        """``2026-W47`` for a whole ISO week, otherwise first and last day: ``2026-11-16_2026-11-20``."""
        year, week, weekday = self.first.isocalendar()
        if weekday == 1 and len(self.days) == 7:
            return f"{year}-W{week:02}"
        return f"{self.first}_{self.last}"

    @property
    def words(self) -> str:
        """For a heading: ``Mon 16 to Sun 22 Nov 2026 (2026-W47)``."""
        same = (self.first.year, self.first.month) == (self.last.year, self.last.month)
        first = self.first.strftime("%a %-d" if same else "%a %-d %b %Y")
        week = f" ({self.name})" if "W" in self.name else ""
        return f"{first} to {self.last.strftime('%a %-d %b %Y')}{week}"


def week(text: str, zone: ZoneInfo) -> Period:
    """The ISO week that a text such as 2026-W47 names. Raises PeriodError."""
    found = re.fullmatch(r"(\d{4})-W(\d{2})", text.strip())
    try:
        if found is None:
            raise ValueError(text)
        return _week_from(date.fromisocalendar(int(found[1]), int(found[2]), 1), zone)
    except ValueError as error:
        raise PeriodError(f"{text}: give a week as ISO 8601 writes it, such as 2026-W47") from error


def last_week(now: datetime, zone: ZoneInfo) -> Period:
    """The last week that is over."""
    today = now.astimezone(zone).date()
    return _week_from(today - timedelta(days=today.weekday() + 7), zone)


def _week_from(monday: date, zone: ZoneInfo) -> Period:
    return Period(monday, monday + timedelta(days=6), zone)
