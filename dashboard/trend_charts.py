"""Charts of one care unit's figures, for the page Trends and for reports. Pure: rows of the long frame in, a chart out.

Every chart is one view, so that it may be given a size. A day or hour without a figure stays empty.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import TYPE_CHECKING, TypeVar

from dashboard.palette import LINE, PRIORITIES
from dashboard.trends import NOT_KNOWN

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

_BEFORE = "#808080"

RISK_COLOURS: Mapping[str, str] = {
    "low": "#BFD9EC",
    "low-medium": "#56B4E9",
    "medium": PRIORITIES["medium"].colour,
    "high": PRIORITIES["high"].colour,
    NOT_KNOWN: "#D0D0D0",
}
"""Risks of NEWS2, in the order in which they are stacked."""


@dataclass(frozen=True)
class Heat:
    """How a heatmap is coloured: from ``low`` at 0 to ``high`` at ``top``, or at the greatest value."""

    low: str
    high: str
    top: float | None = None


SEEN = Heat("#F4BFD3", "#20618F", 100)
"""Where values are missing stands out; two hues, so that pale is not taken for empty."""
BEYOND = Heat("#EEF1F4", "#C24E00")
"""How much of the time is beyond a limit."""
LEVEL = Heat("#DCE9F3", "#0B4F7D")
"""How high a vital sign is."""


def pick(frame: "pd.DataFrame", measure: str, **equal: str | None) -> "pd.DataFrame":
    """The rows of a measure of the reported period; further columns are held equal, None means empty."""
    found = frame[frame["measure"] == measure]
    for column, value in {"period": "reported", **equal}.items():
        found = found[found[column].isna() if value is None else found[column] == value]
    return found


def value(
    frame: "pd.DataFrame", measure: str, statistic: str, subject: str = "any", **equal: str | None
) -> float | None:
    """One figure of a whole period; None where there is none."""
    found = pick(frame, measure, statistic=statistic, subject=subject, day=None, **equal)["value"]
    return None if found.empty else float(found.iloc[0])


def _days(days: Sequence[date]) -> dict[str, str]:
    """What an axis calls each day, by its text in the frame."""
    return {day.isoformat(): f"{day:%a} {day.day}" for day in days}


_Chart = TypeVar("_Chart", "alt.Chart", "alt.LayerChart")


def _titled(chart: _Chart, title: str, subtitle: str | None = None) -> _Chart:
    import altair as alt

    # A grey that is read on white and on black: themes colour titles, but no subtitles.
    given = alt.TitleParams(title, anchor="start", offset=8, subtitle=subtitle or alt.Undefined, subtitleColor=_BEFORE)
    titled: _Chart = chart.properties(title=given)
    return titled


def _wide(rows: "pd.DataFrame", *by: str) -> "pd.DataFrame":
    """A column for each statistic."""
    wide = rows.pivot_table(index=list(by), columns="statistic", values="value", aggfunc="first").reset_index()
    wide.columns.name = None
    return wide


def _day_axis(days: Sequence[date]) -> "alt.X":
    import altair as alt

    angle = 0 if len(days) <= 10 else -60
    return alt.X(
        "label:O",
        title=None,
        sort=None,
        scale=alt.Scale(domain=list(_days(days).values())),
        axis=alt.Axis(labelAngle=angle),
    )


def _legend(unit: str) -> "alt.Legend":
    """Squares: a gradient is a pattern of the whole page in PDF, and does not move with its chart."""
    import altair as alt

    return alt.Legend(title=unit, type="symbol", symbolType="square", symbolStrokeWidth=0, symbolOpacity=1)


def heatmap(
    rows: "pd.DataFrame", days: Sequence[date], *, title: str, unit: str, heat: Heat, from_zero: bool = True
) -> "alt.Chart":
    """One statistic by day and hour; ``rows`` have both."""
    import altair as alt

    labels = _days(days)
    shown = rows.assign(label=rows["day"].map(labels), hour=rows["hour"].astype(int))[["label", "hour", "value"]]
    top = heat.top if heat.top is not None else float(shown["value"].max()) or 1.0
    bottom = 0.0 if from_zero else float(shown["value"].min())
    scale = alt.Scale(range=[heat.low, heat.high], domain=[bottom, top], interpolate="lab", clamp=True)
    chart: alt.Chart = (
        alt.Chart(shown)
        .mark_rect()
        .encode(
            x=alt.X(
                "hour:O",
                title="hour of the day",
                scale=alt.Scale(domain=list(range(24)), paddingInner=0.06),
                axis=alt.Axis(labelAngle=0, values=list(range(0, 24, 3)), ticks=False, domain=False),
            ),
            y=alt.Y(
                "label:O",
                title=None,
                sort=None,
                scale=alt.Scale(domain=list(labels.values()), paddingInner=0.06),
                axis=alt.Axis(ticks=False, domain=False, labelOverlap=False),
            ),
            color=alt.Color("value:Q", scale=scale, legend=_legend(unit)),
            tooltip=[
                alt.Tooltip("label:N", title="day"),
                alt.Tooltip("hour:O"),
                alt.Tooltip("value:Q", title=unit, format=".1f"),
            ],
        )
    )
    return _titled(chart, title)


def spread(
    rows: "pd.DataFrame", days: Sequence[date], *, title: str, subtitle: str, before: float | None
) -> "alt.LayerChart":
    """A vital sign by day: 5 to 95 % as a line, the middle half as a bar, the median as a dash.

    ``before`` is the median of the whole period before, drawn dashed.
    """
    import altair as alt
    import pandas as pd

    shown = _wide(rows, "day").reindex(columns=["day", "p05", "p25", "median", "p75", "p95"])
    shown = shown.assign(label=shown["day"].map(_days(days)))
    scale = alt.Scale(zero=False, nice=True, padding=4)
    tooltip = [alt.Tooltip("label:N", title="day")] + [
        alt.Tooltip(f"{name}:Q", format=".1f") for name in ("p05", "p25", "median", "p75", "p95")
    ]
    base = alt.Chart(shown).encode(x=_day_axis(days), tooltip=tooltip)
    layers: list[alt.Chart] = [
        base.mark_rule(color=LINE, strokeWidth=1.2).encode(
            y=alt.Y("p05:Q", title=None, scale=scale, axis=alt.Axis(tickCount=4, gridOpacity=0.4, minExtent=26)),
            y2="p95:Q",
        ),
        base.mark_bar(color=LINE, opacity=0.45, size=12).encode(y=alt.Y("p25:Q", scale=scale), y2="p75:Q"),
        base.mark_tick(color=LINE, thickness=2.5, size=18).encode(y=alt.Y("median:Q", scale=scale)),
    ]
    if before is not None:
        layers.append(
            alt.Chart(pd.DataFrame({"before": [before]}))
            .mark_rule(color=_BEFORE, strokeDash=[4, 3])
            .encode(y=alt.Y("before:Q", scale=scale), tooltip=alt.Tooltip("before:Q", format=".1f"))
        )
    return _titled(alt.LayerChart(layer=layers), title, subtitle)


def bars_by_day(rows: "pd.DataFrame", days: Sequence[date], *, title: str) -> "alt.Chart":
    """One statistic by day."""
    import altair as alt

    shown = rows.assign(label=rows["day"].map(_days(days)))[["label", "value"]]
    chart: alt.Chart = (
        alt.Chart(shown)
        .mark_bar(color=LINE, opacity=0.8)
        .encode(
            x=_day_axis(days),
            y=alt.Y("value:Q", title=None, axis=alt.Axis(tickCount=4, gridOpacity=0.4, minExtent=26)),
            tooltip=["label:N", alt.Tooltip("value:Q", format=".1f")],
        )
    )
    return _titled(chart, title)


def stacked_by_day(
    rows: "pd.DataFrame", days: Sequence[date], *, by: str, colours: Mapping[str, str], title: str, unit: str
) -> "alt.Chart":
    """One statistic by day, in parts: ``by`` is the column that names the part."""
    import altair as alt

    parts = list(colours)
    shown = rows.assign(
        label=rows["day"].map(_days(days)), part=rows[by], order=[parts.index(part) for part in rows[by]]
    )[["label", "part", "order", "value"]]
    chart: alt.Chart = (
        alt.Chart(shown)
        .mark_bar()
        .encode(
            x=_day_axis(days),
            y=alt.Y("value:Q", title=None, axis=alt.Axis(tickCount=4, gridOpacity=0.4, minExtent=26)),
            color=alt.Color(
                "part:N",
                scale=alt.Scale(domain=parts, range=list(colours.values())),
                legend=alt.Legend(title=None, orient="bottom", symbolType="square"),
            ),
            order="order:Q",
            tooltip=["label:N", "part:N", alt.Tooltip("value:Q", title=unit, format=".1f")],
        )
    )
    return _titled(chart, title)


def compared(
    rows: "pd.DataFrame", before: "pd.DataFrame", *, title: str, unit: str, order: Sequence[str] | None = None
) -> "alt.LayerChart":
    """One statistic by subject as bars, the greatest first unless ``order`` names them; the period before as a dash."""
    import altair as alt
    import pandas as pd

    both = rows[["subject", "label", "value"]].merge(
        before[["subject", "label", "value"]].rename(columns={"value": "before"}), on=["subject", "label"], how="outer"
    )
    both = both.sort_values(["value", "label"], ascending=[False, True], na_position="last", kind="stable")
    if order is not None:
        both = both.sort_values("subject", key=lambda names: names.map(list(order).index), kind="stable")
    labels = both["label"].to_list()
    y = alt.Y(
        "label:N", title=None, sort=labels, axis=alt.Axis(labelLimit=210, ticks=False, domain=False, labelOverlap=False)
    )
    x_axis = alt.Axis(tickCount=5, gridOpacity=0.4)
    tooltip = [
        alt.Tooltip("label:N", title=" "),
        alt.Tooltip("value:Q", title=unit, format=".2f"),
        alt.Tooltip("before:Q", title="before", format=".2f"),
    ]
    base = alt.Chart(pd.DataFrame(both[["label", "value", "before"]])).encode(y=y, tooltip=tooltip)
    return _titled(
        alt.LayerChart(
            layer=[
                base.mark_bar(color=LINE, opacity=0.8, height={"band": 0.65}).encode(
                    x=alt.X("value:Q", title=unit, axis=x_axis)
                ),
                base.mark_tick(color=_BEFORE, thickness=2.5, size=13).encode(x=alt.X("before:Q")),
            ]
        ),
        title,
    )
