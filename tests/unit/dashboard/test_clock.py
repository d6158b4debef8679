from datetime import UTC, datetime, timedelta

import pytest

from dashboard.clock import ago, moment, span, wall, zone

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)
LONDON = zone("Europe/London")


def test_a_moment_names_its_zone_and_its_date_when_it_is_not_today() -> None:
    assert moment(NOON, LONDON, NOON) == "13:00 BST"
    assert moment(NOON - timedelta(days=1), LONDON, NOON) == "2026-06-30 13:00 BST"
    assert moment(NOON, zone(None), NOON) == "12:00 UTC"


@pytest.mark.parametrize("name", [None, "", "Mars/Olympus", "../etc/passwd"])
def test_a_zone_that_is_not_known_is_utc(name: str | None) -> None:
    assert zone(name).key == "UTC"


def test_a_span_is_told_in_its_largest_whole_unit() -> None:
    lengths = [timedelta(seconds=0.4), timedelta(seconds=59), timedelta(minutes=119), timedelta(days=2, hours=3)]

    assert [span(length) for length in lengths] == ["0 s", "59 s", "1 h", "2 d"]
    assert (ago(NOON - timedelta(minutes=3), NOON), ago(NOON + timedelta(days=1), NOON)) == (
        "3 min ago",
        "ahead of now",
    )


def test_a_wall_clock_is_labelled_utc_so_that_every_browser_shows_it_alike() -> None:
    assert wall(NOON, LONDON) == datetime(2026, 7, 1, 13, tzinfo=UTC)
