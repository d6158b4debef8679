"""The page Patient as files: charts as PDF and PNG, values and alerts as CSV. Pure: values in, bytes out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from dashboard import paper
from dashboard.palette import LINE, PRIORITIES
from dashboard.paper import INNER, MARGIN, MUTED, Box, Page, Picture, Text
from lakehouse.stored_minutes import resolution
from lakehouse.vocabulary import signal_by_code

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

_HEIGHT = 118.0
_FIRST, _LAST = 104.0, 795.0
"""Where charts and lists begin and end on a page."""
_PNG_WIDTH = 900

CSV_COLUMNS = ("kind", "at", "code", "signal", "unit", "count", "min", "mean", "max", "alert", "priority", "ended_at")
"""A row is a minute or hour of a signal, a change of NEWS2, whose ``mean`` is its total and whose ``min`` and ``max``
are the least and the most that it can be, or an alert, whose ``mean`` is the value that opened it."""


@dataclass(frozen=True)
class Sheet:
    """One patient over a span, as the page has it."""

    patient_id: str
    start: datetime
    stop: datetime
    zone: ZoneInfo
    minutes: "pd.DataFrame"
    alerts: "pd.DataFrame"
    scores: "Sequence[Mapping[str, Any]]"
    """Of :func:`dashboard.news2.stretches`."""
    charts: "Sequence[alt.LayerChart]"

    @property
    def file_name(self) -> str:
        """Without its ending. It holds no identifier: files are passed on."""
        return f"patient-{self.start.astimezone(self.zone):%Y-%m-%dT%H%M}"


def csv(sheet: Sheet) -> bytes:
    """The values, scores and alerts that are shown, in UTF-8, instants in the zone of the page."""
    import pandas as pd

    def told(instant: datetime | None) -> str:
        return "" if pd.isna(instant) or instant is None else instant.astimezone(sheet.zone).isoformat()

    kind = resolution(sheet.stop - sheet.start)
    rows = [
        {**row, "kind": kind, "at": told(row["minute"]), "signal": signal_by_code()[row["code"]].display}
        for row in sheet.minutes.to_dict("records")
    ]
    rows += [
        {
            "kind": "score",
            "at": told(row["begins"]),
            "signal": "NEWS2",
            "min": row["total_min"],
            "mean": row["total"],
            "max": row["total_max"],
            "ended_at": told(row["ends"]),
        }
        for row in sheet.scores
    ]
    rows += [
        {
            "kind": "alert",
            "at": told(row["started_at"]),
            "code": row["code"],
            "mean": row["value"],
            "alert": row["title"],
            "priority": row["priority"],
            "ended_at": told(row["resolved_at"]),
        }
        for row in sheet.alerts.to_dict("records")
    ]
    return pd.DataFrame(rows, columns=list(CSV_COLUMNS)).to_csv(index=False, lineterminator="\n").encode()


def png(sheet: Sheet) -> bytes:
    """The charts, one below the other."""
    import altair as alt

    shown = [chart.properties(width=_PNG_WIDTH) for chart in sheet.charts]
    whole: alt.VConcatChart = alt.VConcatChart(
        vconcat=shown, title=alt.TitleParams(_heading(sheet), anchor="start", subtitle=_span(sheet))
    )
    return paper.drawn(whole.configure(background="white"), "png")


def pdf(sheet: Sheet, made_at: datetime) -> bytes:
    """The charts and the list of alerts on A4."""
    pages = [*_chart_pages(sheet), *_alert_pages(sheet)]
    headed = [_headed(page, sheet, made_at, number, len(pages)) for number, page in enumerate(pages, 1)]
    return paper.pdf(headed, title=_heading(sheet))


def _heading(sheet: Sheet) -> str:
    return f"Patient {sheet.patient_id}"


def _span(sheet: Sheet) -> str:
    return f"{_moment(sheet.start, sheet)} to {_moment(sheet.stop, sheet)}, {sheet.zone.key}"


def _moment(instant: datetime, sheet: Sheet) -> str:
    return instant.astimezone(sheet.zone).strftime("%Y-%m-%d %H:%M %Z")


def _headed(page: Page, sheet: Sheet, made_at: datetime, number: int, pages: int) -> Page:
    texts = [
        Text(MARGIN, 58, _heading(sheet), 18, bold=True),
        Text(MARGIN, 76, _span(sheet), 10),
        Text(MARGIN, 815, f"Made {_moment(made_at, sheet)}. Wardhouse is not a medical device.", 7.5, colour=MUTED),
        Text(MARGIN + INNER, 815, f"page {number} of {pages}", 7.5, colour=MUTED, align="right"),
    ]
    lines = [Box(MARGIN, 86, INNER, 1.2, LINE), Box(MARGIN, 802, INNER, 0.5, "#C8C8C8")]
    return Page([*texts, *page.texts], [*lines, *page.boxes], page.pictures)


def _chart_pages(sheet: Sheet) -> list[Page]:
    on_one = int((_LAST - _FIRST) // (_HEIGHT + 8))
    groups = [sheet.charts[start : start + on_one] for start in range(0, len(sheet.charts), on_one)]
    return [
        Page(
            pictures=[
                Picture(MARGIN, _FIRST + n * (_HEIGHT + 8), INNER, _HEIGHT, chart) for n, chart in enumerate(group)
            ]
        )
        for group in groups
    ]


def _alert_pages(sheet: Sheet) -> list[Page]:
    import pandas as pd

    places = (MARGIN, MARGIN + 70, MARGIN + 280, MARGIN + 390)
    lines = [
        (
            f"{PRIORITIES[row['priority']].mark} {row['priority']}",
            f"{row['title']}" + ("" if pd.isna(row["value"]) else f" ({row['value']:g})"),
            _moment(row["started_at"], sheet),
            "open" if pd.isna(row["resolved_at"]) else _moment(row["resolved_at"], sheet),
        )
        for row in sheet.alerts.to_dict("records")
    ]
    on_one = int((_LAST - _FIRST - 50) // 14)
    pages = []
    for start in range(0, max(len(lines), 1), on_one):
        texts = [Text(MARGIN, _FIRST + 14, f"Alerts in this span ({len(lines)})", 12, bold=True)]
        heads = ("Priority", "Alert", "Started", "Resolved")
        for number, cells in enumerate([heads, *lines[start : start + on_one]]):
            colour = MUTED if number == 0 else paper.INK
            texts += [
                Text(x, _FIRST + 34 + 14 * number, cell, 8.5, colour=colour)
                for x, cell in zip(places, cells, strict=True)
            ]
        pages.append(Page(texts))
    return pages
