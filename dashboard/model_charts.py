"""Charts of a model of risk. Pure: an evaluation, looks and frames in, a chart out."""

from collections.abc import Sequence
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from dashboard.clock import wall
from dashboard.palette import LINE, PRIORITIES

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

    from lakehouse.models.evaluation import Tenth
    from lakehouse.models.registry import Look

_MOVED = PRIORITIES["high"].colour


def calibration(tenths: Sequence["Tenth"]) -> "alt.LayerChart":
    """The share of events against the mean risk of each tenth of the landmarks; on the dashed line they are equal."""
    import altair as alt
    import pandas as pd

    shown = pd.DataFrame(
        {
            "risk": [100 * one.risk for one in tenths],
            "share": [100 * one.share for one in tenths],
            "landmarks": [one.rows for one in tenths],
        }
    )
    most = 1.05 * max(1.0, float(shown[["risk", "share"]].to_numpy().max()))
    scale = alt.Scale(domain=[0, most])
    x = alt.X("risk:Q", title="risk that was said (%)", scale=scale)
    y = alt.Y("share:Q", title="with the event (%)", scale=scale)
    ends = pd.DataFrame({"risk": [0, most], "share": [0, most]})
    points = alt.Chart(shown).encode(x=x, y=y)
    tooltip = [alt.Tooltip("risk:Q", format=".1f"), alt.Tooltip("share:Q", format=".1f"), "landmarks:Q"]
    layers = [
        alt.Chart(ends).mark_line(color="gray", strokeDash=[6, 4], strokeWidth=1.5).encode(x=x, y=y),
        points.mark_line(color=LINE, strokeWidth=1.8),
        points.mark_circle(color=LINE, size=60, opacity=1).encode(tooltip=tooltip),
    ]
    return alt.LayerChart(layer=layers).properties(height=400, title=_title("Calibration: tenths of the landmarks"))


def moved(drift: "pd.DataFrame", most: int = 15) -> "alt.LayerChart":
    """How far inputs and risk lie from the training, the furthest first; each one's limit is a tick."""
    import altair as alt

    shown = drift.head(most)
    shown = shown.assign(
        what=[name.replace("_", " ") for name in shown["name"]],
        verdict=["! moved" if moved else "as in training" for moved in shown["moved"]],
    )
    y = alt.Y("what:N", sort=None, title=None, axis=alt.Axis(labelLimit=260, labelOverlap=False))
    tooltip = ["what:N", alt.Tooltip("index:Q", format=".3f"), alt.Tooltip("limit:Q", format=".2f"), "verdict:N"]
    base = alt.Chart(shown[["what", "index", "limit", "verdict"]])
    bars = base.mark_bar().encode(
        y=y,
        x=alt.X("index:Q", title="population stability index"),
        color=alt.Color(
            "verdict:N",
            title=None,
            scale=alt.Scale(domain=["as in training", "! moved"], range=[LINE, _MOVED]),
            legend=alt.Legend(orient="top"),
        ),
        tooltip=tooltip,
    )
    ticks = base.mark_tick(color=_MOVED, thickness=2).encode(y=y, x="limit:Q", tooltip=tooltip)
    title = _title("Drift: what has moved furthest from the training")
    return alt.LayerChart(layer=[bars, ticks]).properties(height=130 + 24 * len(shown), title=title)


def looks(found: Sequence["Look"], zone: ZoneInfo) -> "alt.LayerChart":
    """How far the risk had moved at each look; its limit is dashed."""
    import altair as alt
    import pandas as pd

    shown = pd.DataFrame(
        {
            "at": [wall(one.at, zone) for one in found],
            "index": [one.index for one in found],
            "limit": [one.limit for one in found],
            "when": [one.at.astimezone(zone).strftime("%Y-%m-%d %H:%M %Z") for one in found],
        }
    )
    axis = alt.Axis(format="%d %b", labelOverlap=True, tickCount=6)
    base = alt.Chart(shown).encode(x=alt.X("at:T", title=None, axis=axis, scale=alt.Scale(type="utc")))
    y = alt.Y("index:Q", title="stability index", scale=alt.Scale(domainMin=0))
    tooltip = ["when:N", alt.Tooltip("index:Q", format=".3f"), alt.Tooltip("limit:Q", format=".2f")]
    layers = [
        base.mark_line(color=_MOVED, strokeDash=[6, 4], strokeWidth=1.5).encode(y=alt.Y("limit:Q")),
        base.mark_line(color=LINE, strokeWidth=1.8).encode(y=y),
        base.mark_circle(color=LINE, size=50, opacity=1).encode(y=y, tooltip=tooltip),
    ]
    return alt.LayerChart(layer=layers).properties(height=220, title=_title("Drift of the risk, look by look"))


def _title(text: str) -> "alt.TitleParams":
    import altair as alt

    return alt.TitleParams(text, anchor="start", fontSize=14, offset=6)
