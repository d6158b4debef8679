"""NEWS2 of a patient as pages show it: what it can be, where it goes, and how long it stood. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from lakehouse.stored_scores import STANDS

COMPARED_WITH = timedelta(hours=1)
"""How far back a trend looks: the hour after which RCP NEWS2 2017 wants a patient of medium risk seen again."""


class Trend(StrEnum):
    """Where a score goes, as an arrow."""

    UP = "\N{UPWARDS ARROW}"
    SAME = "\N{RIGHTWARDS ARROW}"
    DOWN = "\N{DOWNWARDS ARROW}"


@dataclass(frozen=True)
class News2:
    """What it can be at the least and at the most, one number where every part is known; its risk where that is."""

    least: int
    most: int
    risk: str | None = None
    trend: Trend | None = None
    parts: Mapping[str, int | None] | None = None

    @property
    def words(self) -> str:
        """``5``, or ``3 to 6`` where parts are missing."""
        return f"{self.least}" if self.least == self.most else f"{self.least} to {self.most}"


def standing(now: Mapping[str, Any], before: Mapping[str, Any] | None) -> News2:
    """A row of :func:`lakehouse.stored_scores.current`, beside the patient's row of an hour before."""
    return News2(now["total_min"], now["total_max"], now["risk"], _trend(now, before), now["parts"])


def _trend(now: Mapping[str, Any], before: Mapping[str, Any] | None) -> Trend | None:
    if before is None:
        return None
    if now["total_min"] > before["total_max"]:
        return Trend.UP
    if now["total_max"] < before["total_min"]:
        return Trend.DOWN
    same = (now["total_min"], now["total_max"]) == (before["total_min"], before["total_max"])
    # What overlaps may have gone either way.
    return Trend.SAME if same else None


def stretches(points: Iterable[Mapping[str, Any]], start: datetime, stop: datetime) -> list[dict[str, Any]]:
    """How long each change stood within a span: its row with ``begins`` and ``ends``.

    It stands until the next one, and no longer than a score may stand that nobody has confirmed: then there is a gap.
    """
    rows = list(points)
    nexts = [*(row["observed_at"] for row in rows[1:]), stop]
    # Of no rows there is no last one, which would stand until the end.
    ends = [min(after, row["observed_at"] + STANDS) for row, after in zip(rows, nexts, strict=False)]
    stood = [
        {**row, "begins": max(row["observed_at"], start), "ends": min(end, stop)}
        for row, end in zip(rows, ends, strict=True)
    ]
    return [row for row in stood if row["begins"] < row["ends"]]
