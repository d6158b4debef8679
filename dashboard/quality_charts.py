"""Charts of data quality. Pure: frames of :mod:`dashboard.quality` in, a chart out."""

from typing import TYPE_CHECKING

from dashboard.palette import LINE, PRIORITIES

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd


def reasons(rows: "pd.DataFrame") -> "alt.Chart":
    """Quarantined values by reason, the commonest first."""
    import altair as alt

    totals = rows.groupby("reason", as_index=False)["values"].sum()
    chart: alt.Chart = (
        alt.Chart(totals, title=_title("Values in quarantine, by reason"))
        .mark_bar(color=LINE)
        .encode(
            y=alt.Y("reason:N", sort="-x", title=None, axis=alt.Axis(labelLimit=200)),
            x=alt.X("values:Q", title="values"),
            tooltip=["reason:N", alt.Tooltip("values:Q", format=",")],
        )
        .properties(height=120 + 28 * len(totals))
    )
    return chart


def budget(rows: "pd.DataFrame", limit: float, most: int = 12) -> "alt.LayerChart":
    """The devices' days with the largest share at fault, against the limit as a dashed line."""
    import altair as alt
    import pandas as pd

    shown = rows.sort_values("share", ascending=False).head(most)
    shown = shown.assign(
        which=[f"{device}, {day}" for device, day in zip(shown["device"], shown["day"], strict=True)],
        verdict=["over the limit" if over else "within" for over in shown["over"]],
    )[["which", "share", "faults", "values", "verdict"]]
    bars = (
        alt.Chart(shown)
        .mark_bar()
        .encode(
            y=alt.Y("which:N", sort="-x", title=None, axis=alt.Axis(labelLimit=220)),
            x=alt.X("share:Q", title="share of values at fault", axis=alt.Axis(format=".1%")),
            color=alt.Color(
                "verdict:N",
                title=None,
                scale=alt.Scale(domain=["within", "over the limit"], range=[LINE, PRIORITIES["high"].colour]),
                legend=alt.Legend(orient="top"),
            ),
            tooltip=["which:N", "values:Q", "faults:Q", alt.Tooltip("share:Q", format=".2%"), "verdict:N"],
        )
    )
    line = (
        alt.Chart(pd.DataFrame({"limit": [limit]}))
        .mark_rule(color=PRIORITIES["high"].colour, strokeDash=[6, 4], strokeWidth=1.5)
        .encode(x="limit:Q", tooltip=alt.Tooltip("limit:Q", format=".0%"))
    )
    return alt.LayerChart(layer=[bars, line]).properties(
        height=150 + 28 * len(shown), title=_title("Error budget: devices and days with the largest share at fault")
    )


def _title(text: str) -> "alt.TitleParams":
    import altair as alt

    return alt.TitleParams(text, anchor="start", fontSize=14, offset=6)
