from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from dashboard.news2 import News2, Trend, standing, stretches

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


def row(least: int, most: int, hours: float = 0) -> dict[str, Any]:
    """A change of the score, some hours after noon."""
    at = NOON + hours * HOUR
    return {"observed_at": at, "total_min": least, "total_max": most, "risk": "low", "parts": {"spo2": least}}


@pytest.mark.parametrize(
    ("now", "before", "trend"),
    [
        ((5, 5), (4, 4), Trend.UP),
        ((5, 5), (5, 5), Trend.SAME),
        ((3, 3), (5, 5), Trend.DOWN),
        # Of what overlaps nobody knows where it went.
        ((3, 6), (5, 5), None),
        ((3, 6), (3, 6), Trend.SAME),
        ((6, 8), (3, 5), Trend.UP),
        ((5, 5), None, None),
    ],
)
def test_a_trend_is_what_must_have_happened_within_the_hour(
    now: tuple[int, int], before: tuple[int, int] | None, trend: Trend | None
) -> None:
    assert standing(row(*now), before and row(*before)) == News2(*now, "low", trend, {"spo2": now[0]})


def test_a_score_is_told_as_a_number_or_as_what_it_lies_between() -> None:
    assert [News2(5, 5).words, News2(3, 6).words] == ["5", "3 to 6"]


def test_a_change_stands_until_the_next_one_and_ends_where_nobody_confirms_it() -> None:
    found = stretches([row(1, 1, -1), row(2, 2, 1), row(3, 3, 12)], NOON, NOON + 24 * HOUR)

    spans = [((one["begins"] - NOON) / HOUR, (one["ends"] - NOON) / HOUR, one["total_min"]) for one in found]
    assert spans == [(0, 1, 1), (1, 7.25, 2), (12, 18.25, 3)]


def test_what_ended_before_the_span_is_not_in_it() -> None:
    assert stretches([row(1, 1, -10)], NOON, NOON + HOUR) == []
    assert stretches([], NOON, NOON + HOUR) == []
