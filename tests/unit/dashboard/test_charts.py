from datetime import UTC, datetime, timedelta
from typing import Any

import pandas as pd
import pytest

from dashboard.charts import Limit, stretches, trend
from dashboard.clock import zone
from dashboard.palette import PRIORITIES

NOON = datetime(2026, 7, 1, 12, tzinfo=UTC)


def minutes(*offsets: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "minute": pd.to_datetime([NOON + timedelta(minutes=offset) for offset in offsets]),
            "count": 60,
            "min": 60.0,
            "mean": 70.0,
            "max": 80.0,
        }
    )


def no_alerts() -> pd.DataFrame:
    return pd.DataFrame(columns=["priority", "started_at", "resolved_at", "value", "title"])


def spec(**more: Any) -> dict[str, Any]:
    chart = trend(
        more.pop("shown", minutes(0, 1)),
        more.pop("limits", []),
        more.pop("alerts", no_alerts()),
        title="Heart rate",
        unit="/min",
        zone=zone("Europe/London"),
        start=NOON,
        stop=NOON + timedelta(hours=1),
    )
    return dict(chart.to_dict())


def test_a_gap_parts_the_line_and_a_cuff_that_measures_seldom_still_gives_one() -> None:
    assert stretches(minutes(0, 1, 2, 7, 8))["stretch"].to_list() == [0, 0, 0, 1, 1]
    assert stretches(minutes(0, 15, 30, 46))["stretch"].to_list() == [0, 0, 0, 0]
    assert stretches(minutes(0, 2))["stretch"].to_list() == [0, 0]
    assert stretches(minutes(5))["stretch"].to_list() == [0]


def test_times_are_those_of_the_readers_zone_on_a_utc_scale() -> None:
    x = spec()["layer"][0]["encoding"]["x"]

    assert x["scale"] == {"type": "utc", "domain": ["2026-07-01T13:00:00+00:00", "2026-07-01T14:00:00+00:00"]}


@pytest.mark.parametrize(
    ("end", "shown_end"),
    [
        (NOON + timedelta(minutes=30), "2026-07-01T13:30:00"),
        (NOON + timedelta(hours=9), "2026-07-01T14:00:00"),
        (None, "2026-07-01T14:00:00"),
    ],
)
def test_each_limit_is_a_dashed_line_in_its_priority_and_each_alert_a_mark_with_a_line_to_its_end(
    end: datetime | None, shown_end: str
) -> None:
    started = pd.DataFrame(
        {
            "priority": ["high"],
            "started_at": pd.to_datetime([NOON - timedelta(hours=2)]),
            "resolved_at": pd.to_datetime([end], utc=True),
            "value": [39.0],
            "title": ["Heart rate low"],
        }
    )
    described = spec(limits=[Limit(120, "Heart rate high", "medium")], alerts=started)

    limit, line, alert = described["layer"][3:]
    assert (limit["mark"]["color"], limit["mark"]["strokeDash"]) == (PRIORITIES["medium"].colour, [6, 4])
    assert (alert["mark"]["fill"], alert["mark"]["shape"]) == (PRIORITIES["high"].colour, "square")
    assert (line["mark"]["type"], line["mark"]["color"]) == ("rule", PRIORITIES["high"].colour)
    assert line["encoding"]["x2"] == {"field": "end"}
    (mark,) = described["datasets"][alert["data"]["name"]]
    assert mark["end"].startswith(shown_end)
    assert mark["time"].startswith("2026-07-01T13:00:00"), "an alert from before the span is marked at its start"
    assert (mark["value"], mark["when"]) == (39.0, "2026-07-01 11:00:00 BST")
