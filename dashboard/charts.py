"""Charts. Pure: a frame and values in, a chart out."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from dashboard.clock import wall
from dashboard.palette import ARTEFACT, LINE, PRIORITIES, UNUSUAL
from lakehouse.models.anomaly import Finding, Kind
from lakehouse.scores import NEWS2

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

_HEIGHT = 150
_SHORTEST_GAP = timedelta(minutes=2)
_RISK_PRIORITIES = {"high": "high", "medium": "medium"}
_MARKS = {"high": "square", "medium": "triangle-up", "low": "circle"}


@dataclass(frozen=True)
class Limit:
    """A rule's limit of one signal."""

    value: float
    title: str
    priority: str


def stretches(minutes: "pd.DataFrame") -> "pd.DataFrame":
    """The minutes of one signal, ascending, with a number for each ``stretch`` that has no gap in it.

    A gap is longer than two minutes, and than three times the usual distance, so that a cuff that measures every
    quarter of an hour still gives a line.
    """
    import pandas as pd

    distance = minutes["minute"].diff()
    gap = max(pd.Timedelta(_SHORTEST_GAP), 3 * distance.median()) if len(minutes) > 1 else pd.Timedelta(_SHORTEST_GAP)
    return minutes.assign(stretch=(distance > gap).cumsum())


def trend(
    minutes: "pd.DataFrame",
    limits: Iterable[Limit],
    alerts: "pd.DataFrame",
    *,
    title: str,
    unit: str | None,
    zone: ZoneInfo,
    start: datetime,
    stop: datetime,
    findings: Sequence[Finding] = (),
) -> "alt.LayerChart":
    """One signal over a span: mean as a line, min to max as a band, limits dashed, each alert from its mark to its end.

    ``minutes`` may be hours as well: the distance of points decides what a gap is. Of ``findings`` an unusual stretch
    is tinted from top to bottom, an artefact is a strip at the foot.
    """
    import altair as alt
    import pandas as pd

    shown = stretches(minutes)
    shown = shown.assign(
        time=[wall(instant, zone) for instant in shown["minute"]],
        when=[instant.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z") for instant in shown["minute"]],
    )
    x = _x(zone, start, stop, "time")
    y_axis = alt.Axis(tickCount=4, gridOpacity=0.4, minExtent=32)
    y_title = f"{title} ({unit})" if unit else title
    tooltip = [
        alt.Tooltip("when:N", title="minute"),
        alt.Tooltip("mean:Q", format=".1f"),
        alt.Tooltip("min:Q", format=".1f"),
        alt.Tooltip("max:Q", format=".1f"),
        alt.Tooltip("count:Q", title="values"),
    ]
    base = alt.Chart(shown[["time", "when", "stretch", "count", "min", "mean", "max"]]).encode(x=x, detail="stretch:N")
    scale = alt.Scale(zero=False, nice=True, padding=8)
    layers: list[alt.Chart] = [
        *_found(findings, zone, start, stop),
        base.mark_area(color=LINE, opacity=0.22, clip=True).encode(
            y=alt.Y("min:Q", title=None, scale=scale, axis=y_axis), y2="max:Q"
        ),
        base.mark_line(color=LINE, strokeWidth=1.8, clip=True).encode(y=alt.Y("mean:Q", scale=scale)),
        # A single minute between two gaps makes no line; points also carry the tooltip.
        base.mark_circle(color=LINE, size=14, clip=True).encode(y=alt.Y("mean:Q", scale=scale), tooltip=tooltip),
    ]
    for limit in limits:
        row = pd.DataFrame({"limit": [limit.value], "rule": [f"{limit.title}: {limit.value:g}"]})
        layers.append(
            alt.Chart(row)
            .mark_rule(color=PRIORITIES[limit.priority].colour, strokeDash=[6, 4], strokeWidth=1.5, clip=True)
            .encode(y=alt.Y("limit:Q", scale=scale), tooltip=alt.Tooltip("rule:N", title="limit"))
        )
    for priority, started in alerts.groupby("priority"):
        marks = pd.DataFrame(
            {
                "time": [wall(max(instant, start), zone) for instant in started["started_at"]],
                "end": [wall(stop if pd.isna(end) else min(end, stop), zone) for end in started["resolved_at"]],
                "value": started["value"].to_list(),
                "alert": started["title"].to_list(),
                "when": [i.astimezone(zone).strftime("%Y-%m-%d %H:%M:%S %Z") for i in started["started_at"]],
            }
        )
        colour, y = PRIORITIES[str(priority)].colour, alt.Y("value:Q", scale=scale)
        layers += [
            alt.Chart(marks).mark_rule(color=colour, strokeWidth=4, clip=True).encode(x=x, x2="end:T", y=y),
            alt.Chart(marks)
            .mark_point(
                shape=_MARKS[str(priority)], color="black", fill=colour, size=90, opacity=1, strokeWidth=1, clip=True
            )
            .encode(x=x, y=y, tooltip=["alert:N", alt.Tooltip("when:N", title="opened")]),
        ]
    return _titled(alt.LayerChart(layer=layers), y_title)


def _found(findings: Sequence[Finding], zone: ZoneInfo, start: datetime, stop: datetime) -> Iterator["alt.Chart"]:
    import altair as alt
    import pandas as pd

    for unusual in (True, False):
        rows = [one for one in findings if (one.kind is Kind.UNUSUAL) == unusual]
        if not rows:
            continue
        shown = pd.DataFrame(
            {
                "begins": [wall(max(one.begin, start), zone) for one in rows],
                "ends": [wall(min(one.end, stop), zone) for one in rows],
                "finding": [one.words for one in rows],
            }
        )
        mark = alt.Chart(shown).encode(
            x=_x(zone, start, stop, "begins"), x2="ends:T", tooltip=alt.Tooltip("finding:N", title="finding")
        )
        if unusual:
            yield mark.mark_rect(color=UNUSUAL, opacity=0.3, clip=True)
        else:
            # In pixels of what the chart has left beside title and axis.
            foot = alt.Y(value=alt.ExprRef("height - 6"))
            yield mark.encode(y=foot, y2=alt.value("height")).mark_rect(color=ARTEFACT, clip=True)


def news2(points: Sequence[Mapping[str, Any]], *, zone: ZoneInfo, start: datetime, stop: datetime) -> "alt.LayerChart":
    """NEWS2 over a span: a line where it is known, a band where parts are missing, the thresholds of its risks dashed.

    ``points`` are of :func:`dashboard.news2.stretches`.
    """
    import altair as alt
    import pandas as pd

    columns = ["begins", "ends", "least", "most", "risk", "when"]
    rows = [
        (
            wall(one["begins"], zone),
            wall(one["ends"], zone),
            one["total_min"],
            one["total_max"],
            one["risk"] or "open",
            one["observed_at"].astimezone(zone).strftime("%Y-%m-%d %H:%M %Z"),
        )
        for one in points
    ]
    shown = alt.Chart(pd.DataFrame(rows, columns=columns))
    x = _x(zone, start, stop, "begins")
    y = alt.Y(
        "least:Q", title=None, scale=alt.Scale(domain=[0, 20]), axis=alt.Axis(values=[0, 5, 10, 15, 20], minExtent=32)
    )
    tooltip = [alt.Tooltip("when:N", title="since"), "least:Q", "most:Q", "risk:N"]
    layers: list[alt.Chart] = [
        shown.transform_filter("datum.least < datum.most")
        .mark_rect(color=LINE, opacity=0.22, clip=True)
        .encode(x=x, x2="ends:T", y=y, y2="most:Q", tooltip=tooltip),
        shown.transform_filter("datum.least == datum.most")
        .mark_rule(color=LINE, strokeWidth=2.5, clip=True)
        .encode(x=x, x2="ends:T", y=y, tooltip=tooltip),
    ]
    for total, risk in NEWS2.risks:
        if risk in _RISK_PRIORITIES:
            row = pd.DataFrame({"least": [total], "rule": [f"{risk} risk from {total}"]})
            colour = PRIORITIES[_RISK_PRIORITIES[risk]].colour
            layers.append(
                alt.Chart(row)
                .mark_rule(color=colour, strokeDash=[6, 4], strokeWidth=1.5)
                .encode(y=y, tooltip=alt.Tooltip("rule:N", title="threshold"))
            )
    return _titled(alt.LayerChart(layer=layers), "NEWS2")


def risk(points: Sequence[Mapping[str, Any]], *, zone: ZoneInfo, start: datetime, stop: datetime) -> "alt.LayerChart":
    """The risk that the model in service gave over a span, in per cent; ``points`` are rows of gold.risk_score.

    A line joins what is less than an hour apart: where nothing new was heard, nothing was said.
    """
    import altair as alt
    import pandas as pd

    frame = pd.DataFrame(
        {
            "begins": [wall(one["landmark_at"], zone) for one in points],
            "percent": [one["risk"] * 100 for one in points],
            "model": [f"version {one['model_version']}" for one in points],
            "when": [one["landmark_at"].astimezone(zone).strftime("%Y-%m-%d %H:%M %Z") for one in points],
        }
    )
    frame["stretch"] = (frame["begins"].diff() > timedelta(hours=1)).cumsum().astype(str) + frame["model"]
    shown = alt.Chart(frame).encode(
        x=_x(zone, start, stop, "begins"),
        y=alt.Y("percent:Q", title=None, scale=alt.Scale(domainMin=0), axis=alt.Axis(minExtent=32)),
        detail="stretch:N",
    )
    tooltip = [alt.Tooltip("when:N", title="at"), alt.Tooltip("percent:Q", format=".1f"), "model:N"]
    layers = [
        shown.mark_line(color=LINE, strokeWidth=2.5, clip=True),
        shown.mark_point(color=LINE, size=18, filled=True, clip=True).encode(tooltip=tooltip),
    ]
    return _titled(alt.LayerChart(layer=layers), "Risk by the model in service (%)")


def _x(zone: ZoneInfo, start: datetime, stop: datetime, column: str) -> "alt.X":
    import altair as alt

    return alt.X(
        f"{column}:T",
        title=None,
        scale=alt.Scale(type="utc", domain=[wall(start, zone).isoformat(), wall(stop, zone).isoformat()]),
        axis=alt.Axis(grid=False, labelOverlap=True, tickCount=8, format=_time_format(stop - start)),
    )


def _titled(chart: "alt.LayerChart", title: str) -> "alt.LayerChart":
    import altair as alt

    return chart.properties(height=_HEIGHT, title=alt.TitleParams(title, anchor="start", fontSize=14, offset=6))


def _time_format(span: timedelta) -> str:
    return "%H:%M" if span <= timedelta(days=1) else "%d %b %H:%M"
