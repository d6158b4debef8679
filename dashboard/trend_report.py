"""The trend report of one care unit, as CSV and PDF. Pure: figures in, bytes out.

Both are made of the same rows: every figure that a page shows is a row of the CSV, which has the counts behind shares
as well. The CSV depends on the tables alone; the PDF also says when it was made.
"""

import re
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Literal
from zlib import crc32

from alerting.words import count, span
from dashboard import paper
from dashboard import trend_charts as charts
from dashboard.palette import LINE, PRIORITIES
from dashboard.paper import INNER, MARGIN, MUTED, Box, Page, Picture, Text
from dashboard.period import Period
from dashboard.trend_charts import BEYOND, RISK_COLOURS, SEEN, pick, value
from dashboard.trends import AWAY, MEASURES, NOT_KNOWN, VITAL_SIGNS, Trends

if TYPE_CHECKING:
    import pandas as pd

_HALF = (INNER - 16) / 2
_ON_THE_PAGE_ONLY = ("vital_sign_hour",)
"""Measures of the page Trends that no report draws."""

_TOP = 118.0
"""Where the content of a page begins, below its heading."""
_BOTTOM = 795.0
"""Where it must end."""


@dataclass(frozen=True)
class Report:
    """What one report is about."""

    unit: str
    period: Period
    trends: Trends
    pack: str
    """Label of the rule pack whose limits are held against the minutes."""

    @property
    def file_name(self) -> str:
        """Without its ending; the same for the same unit and period."""
        return f"trend-{_slug(self.unit)}-{self.period.name}"

    @property
    def frame(self) -> "pd.DataFrame":
        """The figures of the unit that a report has."""
        own = self.trends.of(self.unit)
        return own[~own["measure"].isin(_ON_THE_PAGE_ONLY)].reset_index(drop=True)

    @property
    def is_empty(self) -> bool:
        """Whether nothing at all is known of the unit in the period."""
        own = self.frame
        return own[(own["period"] == "reported") & own["measure"].isin(("census", "alert"))].empty


def _slug(unit: str) -> str:
    """The unit as part of a file name. What no file name can hold is replaced, and a check sum keeps units apart."""
    slug = re.sub(r"[^\w]+", "-", unit).strip("-")
    return slug if slug == unit else f"{slug}-{crc32(unit.encode()):08x}".lstrip("-")


def csv(report: Report) -> bytes:
    """The figures as CSV in UTF-8, with a heading line."""
    return report.frame.to_csv(index=False, lineterminator="\n").encode()


def letter(report: Report, now: datetime) -> str:
    """The report in a few lines, for the mail that brings it. No patient is named."""
    lines = [f"{report.unit}, {report.period.words}; days are {report.period.zone.key}.", ""]
    if report.is_empty:
        return "\n".join([*lines, "Nothing is stored of this unit in this period."])
    for key in KEYS:
        now_is, before = figure(report.frame, key), figure(report.frame, key, "before")
        lines.append(f"{key.title}: {written(now_is, key)}, {changed(now_is, before, key)}")
    return "\n".join([*lines, "", *lacks(report.trends, report.unit, report.period, now)]).rstrip()


def pdf(report: Report, made_at: datetime) -> bytes:
    """The report on A4."""
    contents = list(_empty(report) if report.is_empty else _contents(report, made_at))
    headed = [_headed(page, report, made_at, number, len(contents)) for number, page in enumerate(contents, 1)]
    return paper.pdf(headed, title=f"{report.unit}, {report.period.words}: trends of vital signs and alerts")


def _headed(page: Page, report: Report, made_at: datetime, number: int, pages: int) -> Page:
    zone = report.period.zone
    texts = [
        # A long name is written smaller: it shares the line.
        Text(MARGIN, 58, report.unit, min(20, 700 / len(report.unit)), bold=True),
        Text(MARGIN + INNER, 58, "Vital signs and alerts", 10, colour=MUTED, align="right"),
        Text(MARGIN, 78, report.period.words, 11),
        Text(MARGIN + INNER, 78, f"days and hours are {zone.key}", 8, colour=MUTED, align="right"),
        Text(
            MARGIN, 815, f"Made {_stamp(made_at, report.period)}. Wardhouse is not a medical device.", 7.5, colour=MUTED
        ),
        Text(MARGIN + INNER, 815, f"page {number} of {pages}", 7.5, colour=MUTED, align="right"),
    ]
    lines = [Box(MARGIN, 88, INNER, 1.2, LINE), Box(MARGIN, 802, INNER, 0.5, "#C8C8C8")]
    return Page([*texts, *page.texts], [*lines, *page.boxes], page.pictures)


def _stamp(instant: datetime, period: Period) -> str:
    return instant.astimezone(period.zone).strftime("%Y-%m-%d %H:%M %Z")


def _empty(report: Report) -> Iterator[Page]:
    yield Page(
        [
            Text(MARGIN, _TOP + 10, "Nothing is stored of this unit in this period.", 12, bold=True),
            Text(MARGIN, _TOP + 30, newest_words(report.trends, report.period)),
            Text(
                MARGIN, _TOP + 46, "If patients lay there, `ward status` shows which flow lags, `ward quarantine list`"
            ),
            Text(MARGIN, _TOP + 59, "what was refused; `ward report trend` may be run again at any time."),
            *_states(report, _TOP + 92),
        ]
    )


def _contents(report: Report, made_at: datetime) -> Iterator[Page]:
    yield _summary(report, made_at)
    if not pick(report.frame, "vital_sign").empty:
        yield _vital_signs(report)
        yield _scores_and_limits(report)
    last, y = (Page(), _TOP) if pick(report.frame, "alert").empty else _alerts(report)
    texts, end = _explained(report, y)
    if end > _BOTTOM:
        yield last
        last, texts = Page(), _explained(report, _TOP)[0]
    yield Page([*last.texts, *texts], last.boxes, last.pictures)


# Page 1 ---------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Key:
    """One figure of the summary: where it is in the frame, how it is written."""

    title: str
    measure: str
    statistic: str
    suffix: str
    decimals: int = 1
    detail: str | None = None
    points: bool = False
    """Whether a change is told in points (of a share) and not in per cent."""


KEYS = (
    Key("Patients", "census", "patients", "", 0),
    Key("Patient-days", "census", "patient_days", ""),
    Key("Minutes with a value", "coverage", "share", " %", points=True),
    Key("Hours with NEWS2 5 or more", "news2", "share_5", " %", points=True),
    Key("Alerts per patient-day", "alert", "per_patient_day", "", detail="any"),
    Key("Median time to acknowledge", "acknowledgement", "median", "", 0, "any"),
)
"""What a unit manager looks at first."""


def figure(frame: "pd.DataFrame", key: Key, period: str = "reported") -> float | None:
    """One figure of the summary; None where there is none."""
    return value(frame, key.measure, key.statistic, period=period, detail=key.detail)


def written(number: float | None, key: Key) -> str:
    """A figure of the summary in words: a duration where it is one, a dash where there is none."""
    if number is None:
        return "\N{EN DASH}"
    if key.measure == "acknowledgement":
        return span(round(number))
    return f"{number:,.{key.decimals}f}{key.suffix}"


def changed(now: float | None, before: float | None, key: Key) -> str:
    """How a figure stands against the period before, in words."""
    if now is None or before is None:
        return "no figure before" if now is not None else "no figure"
    told = f"before {written(before, key)}"
    if key.points:
        return f"{told} ({now - before:+.1f} points)"
    return told if before == 0 else f"{told} ({100 * (now - before) / before:+.0f} %)"


def _summary(report: Report, made_at: datetime) -> Page:
    frame, days = report.frame, report.period.days
    texts: list[Text] = []
    boxes: list[Box] = []
    width, height = (INNER - 2 * 10) / 3, 58.0
    for number, key in enumerate(KEYS):
        x, y = MARGIN + (number % 3) * (width + 10), 104 + (number // 3) * (height + 10)
        now, before = figure(frame, key), figure(frame, key, "before")
        boxes.append(Box(x, y, width, height, "#F1F5F9"))
        texts += [
            Text(x + 9, y + 15, key.title, 8, colour=MUTED),
            Text(x + 9, y + 36, written(now, key), 16, bold=True),
            Text(x + 9, y + 50, changed(now, before, key), 7.5, colour=MUTED),
        ]
    hours = pick(frame, "coverage", subject="any", statistic="share").dropna(subset=["hour"])
    pictures = []
    if not hours.empty:
        title = "Minutes with a value, of those in which patients were there (%); empty: nobody was"
        chart = charts.heatmap(hours, days, title=title, unit="%", heat=SEEN)
        pictures.append(Picture(MARGIN, 248, INNER, 180, chart))
    pictures += _days_of(frame, days)
    texts += [Text(MARGIN, 608, "What these figures lack", 10, bold=True)]
    texts += [
        Text(MARGIN, 625 + 13 * line, text)
        for line, text in enumerate(lacks(report.trends, report.unit, report.period, made_at))
    ]
    return Page(texts, boxes, pictures)


def _days_of(frame: "pd.DataFrame", days: Sequence[date]) -> list[Picture]:
    """Patients and alerts by day, side by side."""
    stayed = by_day(frame, "census", "patient_days")
    alerts = by_day(frame, "alert", "per_patient_day", subject="any")
    alerts = alerts[alerts["detail"] != "any"]
    found = []
    if not stayed.empty:
        found.append(charts.bars_by_day(stayed, days, title="Patient-days by day"))
    if not alerts.empty:
        colours = {name: priority.colour for name, priority in PRIORITIES.items()}
        found.append(
            charts.stacked_by_day(
                alerts, days, by="detail", colours=colours, title="Alerts per patient-day, by priority", unit="alerts"
            )
        )
    return [Picture(MARGIN + (_HALF + 16) * n, 436, _HALF, 150, chart) for n, chart in enumerate(found)]


def by_day(frame: "pd.DataFrame", measure: str, statistic: str, **equal: str | None) -> "pd.DataFrame":
    """One statistic of each day of the reported period."""
    rows = pick(frame, measure, statistic=statistic, **equal)
    return rows[rows["day"].notna() & rows["hour"].isna()]


def lacks(trends: Trends, unit: str, period: Period, now: datetime) -> Iterator[str]:
    """What the figures of a unit lack, and what is stale, a sentence each."""
    frame = trends.of(unit)
    if now < period.stop:
        yield "The period is not over: days to come are empty, and figures will change."
    if trends.newest is None or trends.newest < min(now, period.stop) - AWAY:
        yield f"{newest_words(trends, period)} Is the pipeline running? `ward status` tells."
    if days := value(frame, "missing", "days_without_values"):
        yield f"{count(int(days), 'day')} of {len(period.days)} without any value of this unit."
    if patients := value(frame, "missing", "patients_without_values"):
        yield f"{count(int(patients), 'patient')} with a stay on the unit and without any value."
    if gaps := value(frame, "gap", "gaps"):
        longest = value(frame, "gap", "longest") or 0
        minutes = value(frame, "gap", "minutes") or 0
        yield (
            f"{count(int(gaps), 'gap')} of more than 15 min without any value,"
            f" {span(60 * minutes)} in all, the longest {span(60 * longest)}."
        )
    if unknown := value(frame, "news2", "share", NOT_KNOWN):
        yield f"{unknown:.0f} % of the patient-hours have no NEWS2 total: an input was missing or stale."
    if value(frame, "census", "patients", period="before") is None:
        yield "The period before has no values of this unit: there is nothing to compare with."
    for table in trends.absent:
        yield f"The table {table} is not there: what comes from it is left out."


def newest_words(trends: Trends, period: Period) -> str:
    """How new the newest value is, in a sentence."""
    if trends.newest is None:
        return "No value of any unit is stored from these days or later."
    return f"The newest value of any unit is of {_stamp(trends.newest, period)}."


# Further pages --------------------------------------------------------------------------------------------------------


def _vital_signs(report: Report) -> Page:
    frame, days = report.frame, report.period.days
    pictures: list[Picture] = []
    for signal in VITAL_SIGNS:
        rows = pick(frame, "vital_sign", subject=signal.name)
        rows = rows[rows["day"].notna() & (rows["statistic"] != "minutes")]
        if rows.empty:
            continue
        column, row = len(pictures) % 2, len(pictures) // 2
        chart = charts.spread(
            rows,
            days,
            title=f"{signal.display} ({signal.unit})",
            subtitle=f"a value in {value(frame, 'coverage', 'share', signal.name) or 0:.0f} % of the minutes",
            before=value(frame, "vital_sign", "median", signal.name, period="before"),
        )
        pictures.append(Picture(MARGIN + column * (_HALF + 16), _TOP + 24 + row * 158, _HALF, 148, chart))
    texts = [
        Text(MARGIN, _TOP, "Vital signs by day", 12, bold=True),
        Text(
            MARGIN,
            _TOP + 15,
            "Means of minutes of all patients: dash median, bar middle half, line 5 to 95 %; dashed: median of the"
            f" {_before(report.period)}.",
            8,
            colour=MUTED,
        ),
    ]
    return Page(texts, (), pictures)


def _before(period: Period) -> str:
    return "week before" if "W" in period.name else f"{count(len(period.days), 'day')} before"


def _scores_and_limits(report: Report) -> Page:
    frame, days = report.frame, report.period.days
    texts = [Text(MARGIN, _TOP, "Early warning score and limits", 12, bold=True)]
    pictures = []
    y = _TOP + 12
    if not (risks := by_day(frame, "news2", "share").query("subject != 'any'")).empty:
        title = "NEWS2 risk, share of patient-hours by day (%)"
        chart = charts.stacked_by_day(risks, days, by="subject", colours=RISK_COLOURS, title=title, unit="%")
        pictures.append(Picture(MARGIN, y, INNER * 0.62, 190, chart))
        texts += _risk_table(frame, MARGIN + INNER * 0.62 + 18, y + 18)
        y += 204
    hours = pick(frame, "beyond_limits", subject="any", statistic="share").dropna(subset=["hour"])
    if not hours.empty:
        chart = charts.heatmap(
            hours, days, title="Minutes beyond any limit, share of minutes (%)", unit="%", heat=BEYOND
        )
        pictures.append(Picture(MARGIN, y, INNER, 170, chart))
        y += 184
    pictures += _bars(
        frame, "beyond_limits", "share", f"Minutes beyond each limit of pack {report.pack}; grey: before", "%", y
    )
    return Page(texts, (), pictures)


def _risk_table(frame: "pd.DataFrame", x: float, y: float) -> list[Text]:
    """Shares of the whole period against the period before."""
    right, far = MARGIN + INNER - 52, MARGIN + INNER
    texts = [
        Text(x, y, "whole period", 8, colour=MUTED),
        Text(right, y, "share", 8, colour=MUTED, align="right"),
        Text(far, y, "points", 8, colour=MUTED, align="right"),
    ]
    told = [(risk.capitalize(), "share", risk) for risk in RISK_COLOURS]
    told += [("Total 5 or more *", "share_5", "any"), ("Total 7 or more *", "share_7", "any")]
    for line, (label, statistic, subject) in enumerate(told, 1):
        now = value(frame, "news2", statistic, subject)
        before = value(frame, "news2", statistic, subject, period="before")
        at = y + 15 * line
        texts.append(Text(x, at, label))
        texts.append(Text(right, at, "\N{EN DASH}" if now is None else f"{now:.1f} %", align="right"))
        if now is not None and before is not None:
            texts.append(Text(far, at, f"{now - before:+.1f}", align="right"))
    return [*texts, Text(x, y + 15 * (len(told) + 1), "* of hours with a total", 7.5, colour=MUTED)]


def _bars(frame: "pd.DataFrame", measure: str, statistic: str, title: str, unit: str, y: float) -> list[Picture]:
    """A statistic of the whole period by subject, against the period before, as high as it has subjects."""
    now, before = (whole(frame, measure, statistic, period) for period in ("reported", "before"))
    if now.empty and before.empty:
        return []
    lines = len({*now["subject"], *before["subject"]})
    return [Picture(MARGIN, y, INNER, 44 + 15.5 * lines, charts.compared(now, before, title=title, unit=unit))]


def whole(frame: "pd.DataFrame", measure: str, statistic: str, period: str) -> "pd.DataFrame":
    """A statistic of a whole period, of each subject by itself."""
    rows = pick(frame, measure, statistic=statistic, day=None, period=period)
    return rows[rows["subject"] != "any"]


def _alerts(report: Report) -> tuple[Page, float]:
    """The page, and where it has room."""
    frame = report.frame
    texts = [Text(MARGIN, _TOP, "Alerts", 12, bold=True)]
    columns = (MARGIN, MARGIN + 190, MARGIN + 290, MARGIN + 390, MARGIN + INNER)
    heads = ("priority", "alerts", "acknowledged", "median time", "90 % within")
    for x, head in zip(columns, heads, strict=True):
        texts.append(Text(x, _TOP + 20, head, 8, colour=MUTED, align="left" if x == MARGIN else "right"))
    y = _TOP + 35
    for priority in (*PRIORITIES, "any"):
        told = {
            name: value(frame, "acknowledgement", name, detail=priority)
            for name in ("alerts", "acknowledged", "share", "median", "p90")
        }
        if told["alerts"] is None:
            continue
        cells = (
            f"{PRIORITIES[priority].mark} {priority}" if priority in PRIORITIES else "all",
            f"{told['alerts']:,.0f}",
            f"{told['acknowledged']:,.0f} ({told['share']:.0f} %)",
            *("\N{EN DASH}" if told[name] is None else span(round(told[name] or 0)) for name in ("median", "p90")),
        )
        for x, cell in zip(columns, cells, strict=True):
            align: Literal["left", "right"] = "left" if x == MARGIN else "right"
            texts.append(Text(x, y, cell, 9, bold=priority == "any", align=align))
        y += 15
    title = "Alerts per patient-day by rule; grey: before"
    pictures = _bars(frame, "alert", "per_patient_day", title, "alerts per patient-day", y + 6)
    return Page(texts, (), pictures), y + 36 + sum(picture.height for picture in pictures)


def _explained(report: Report, y: float) -> tuple[list[Text], float]:
    """How the figures are made, from ``y`` down, and where that ends."""
    lines = [
        "A patient is on the unit from the first to the last minute with a value; after 12 hours without one they are",
        "taken to be gone. Gold minutes know no unit: of each patient and hour it is the one that most messages of",
        "that hour name, else that of the hour nearest by, else that of the stay.",
        "",
    ]
    for measure in MEASURES:
        if measure.name not in _ON_THE_PAGE_ONLY:
            lines += textwrap.wrap(f"{measure.name}: {measure.meaning}.", 118)
    lines += [f"{report.file_name}.csv has every figure that is drawn here, and the counts behind shares."]
    texts = [Text(MARGIN, y, "How the figures are made", 12, bold=True)]
    texts += [Text(MARGIN, y + 18 + 12 * number, line, 8) for number, line in enumerate(lines)]
    below = y + 30 + 12 * len(lines)
    return [*texts, *_states(report, below)], below + 8 + 13 * len(report.trends.as_of)


def _states(report: Report, y: float) -> list[Text]:
    """The tables that were read."""
    lines = [Text(MARGIN, y, "Made of these tables", 10, bold=True)]
    for number, state in enumerate(report.trends.as_of, 1):
        lines += [
            Text(MARGIN, y + 3 + 13 * number, state.table),
            Text(MARGIN + 190, y + 3 + 13 * number, f"version {state.version}"),
            Text(MARGIN + 280, y + 3 + 13 * number, f"as of {_stamp(state.committed_at, report.period)}"),
        ]
    return lines
