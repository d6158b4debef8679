"""Charts of the alarm burden. Pure: frames of :mod:`dashboard.burden` in, a chart out."""

from typing import TYPE_CHECKING, Any

from dashboard.palette import LINE, PRIORITIES

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

_GREY = "#808080"


def _priority() -> "alt.Color":
    import altair as alt

    names = list(PRIORITIES)
    colours = [PRIORITIES[name].colour for name in names]
    legend = alt.Legend(orient="top", labelExpr=_marked(names))
    return alt.Color("priority:N", title=None, scale=alt.Scale(domain=names, range=colours), legend=legend)


def _marked(names: list[str]) -> str:
    """Each priority's mark before its name: a colour alone tells not everybody."""
    marks = ", ".join(f"'{name}': '{PRIORITIES[name].mark} {name}'" for name in names)
    return f"({{{marks}}})[datum.value]"


def by_day(days: "pd.DataFrame") -> "alt.Chart":
    """A bar a day, stacked by priority, the gravest at the bottom."""
    import altair as alt

    shown = days.assign(rank=[PRIORITIES[name].rank for name in days["priority"]])
    chart: alt.Chart = (
        alt.Chart(shown, title=_title("Alarms by day"))
        .mark_bar(size=26)
        .encode(
            x=alt.X("day:O", title=None, axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("alarms:Q", title="alarms", axis=alt.Axis(tickMinStep=1)),
            color=_priority(),
            order=alt.Order("rank:Q"),
            tooltip=["day:O", "priority:N", "alarms:Q"],
        )
        .properties(height=260)
    )
    return chart


def ranked(rows: "pd.DataFrame", what: str, title: str, most: int = 12) -> "alt.Chart":
    """The groups with the most alarms as lying bars, by priority; ``what`` is the column that names a group."""
    import altair as alt

    totals = rows.groupby(what)["alarms"].sum().sort_values(ascending=False)
    kept = list(totals.index[:most])
    shown = rows[rows[what].isin(kept)].assign(
        rank=[PRIORITIES[n].rank for n in rows[rows[what].isin(kept)]["priority"]]
    )
    chart: alt.Chart = (
        alt.Chart(shown, title=_title(title))
        .mark_bar()
        .encode(
            y=alt.Y(f"{what}:N", sort=kept, title=None, axis=alt.Axis(labelLimit=190)),
            x=alt.X("alarms:Q", title="alarms", axis=alt.Axis(tickMinStep=1)),
            color=_priority(),
            order=alt.Order("rank:Q"),
            tooltip=[f"{what}:N", "priority:N", "alarms:Q"],
        )
        .properties(height=150 + 26 * len(kept))
    )
    return chart


def beside(here: float, published: float) -> "alt.Chart":
    """Alarms per bed and day here, and as published."""
    rows = [{"where": "here", "alarms": here}, {"where": "published", "alarms": float(published)}]
    return _bars(rows, "where", [LINE, _GREY], "Alarms per bed and day").properties(height=140)


def compared(counts: "pd.DataFrame") -> "alt.Chart":
    """Alarms per bed and day by ``rule`` under each ``pack``; a pair of bars a rule."""
    import altair as alt

    packs = list(dict.fromkeys(counts["pack"]))
    chart: alt.Chart = (
        alt.Chart(counts, title=_title("Alerts per bed and day, by rule"))
        .mark_bar()
        .encode(
            y=alt.Y("rule:N", title=None, sort="-x", axis=alt.Axis(labelLimit=190)),
            yOffset=alt.YOffset("pack:N", sort=packs),
            x=alt.X("alerts:Q", title=None),
            color=alt.Color(
                "pack:N",
                title=None,
                sort=packs,
                scale=alt.Scale(domain=packs, range=[_GREY, LINE]),
                legend=alt.Legend(orient="top", labelLimit=260),
            ),
            tooltip=["rule:N", "pack:N", alt.Tooltip("alerts:Q", format=".2f")],
        )
        .properties(height=150 + 40 * counts["rule"].nunique())
    )
    return chart


def _bars(rows: list[dict[str, Any]], what: str, colours: list[str], title: str) -> "alt.Chart":
    import altair as alt

    names = [row[what] for row in rows]
    chart: alt.Chart = (
        alt.Chart(alt.InlineData(values=rows), title=_title(title))
        .mark_bar()
        .encode(
            y=alt.Y(f"{what}:N", sort=names, title=None),
            x=alt.X("alarms:Q", title=None),
            color=alt.Color(f"{what}:N", scale=alt.Scale(domain=names, range=colours), legend=None),
            tooltip=[f"{what}:N", alt.Tooltip("alarms:Q", format=".1f")],
        )
    )
    return chart


def _title(text: str) -> "alt.TitleParams":
    import altair as alt

    return alt.TitleParams(text, anchor="start", fontSize=14, offset=6)
