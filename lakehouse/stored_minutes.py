"""How the minutes of gold are told over a span: by minute, or by hour where it is long."""

from datetime import timedelta
from typing import Literal

Resolution = Literal["minute", "hour"]

BY_HOUR_FROM = timedelta(days=2)
"""Beyond this span points are hours: a chart shows no more of them than 2,880."""

OF_AN_HOUR = (
    # Means weigh by their counts. fsum keeps what a plain sum of doubles loses, whatever the order of rows.
    "sum(count)::BIGINT AS count, min(min) AS min, fsum(mean * count) / sum(count) AS mean, max(max) AS max"
)
"""SQL of DuckDB: the statistics of an hour from those of its minutes."""


def resolution(span: timedelta) -> Resolution:
    """What a point is of, over such a span."""
    return "hour" if span > BY_HOUR_FROM else "minute"
