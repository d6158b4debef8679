"""Page Trends: a care unit over a week, against another week, for unit managers."""

from collections.abc import Callable
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import altair as alt
import pandas as pd  # noqa: TID253 - only a running Streamlit imports this package
import streamlit as st  # noqa: TID253 - as above
from streamlit.delta_generator import DeltaGenerator  # noqa: TID253 - as above

from alerting.pack import Pack
from dashboard import trend_charts as charts
from dashboard import trend_report, trends
from dashboard.access import Visitor
from dashboard.palette import PRIORITIES
from dashboard.period import Period, last_week, week
from dashboard.trend_charts import pick
from dashboard.trend_report import KEYS, Report
from dashboard.views.states import empty, explained
from lakehouse.datadir import DataDir

KEPT_S = 600
"""How long figures are kept: they read two whole weeks, of which few change within minutes."""

_WEEKS = 26


def page(data: DataDir, pack: Pack, clock: Callable[[], datetime], zone: ZoneInfo, who: Visitor) -> None:
    """Render the page."""
    st.title("Trends")
    with explained():
        now = clock()
        chosen = _choose(data, now, zone, who)
        if chosen is not None:
            _content(data, pack, *chosen, now)


def _weeks(data: DataDir, zone: ZoneInfo) -> list[Period]:
    """The last weeks up to that of the newest value, the newest first. Dates of replayed patients may lie anywhere."""
    spanned = trends.spanned(data)
    if spanned is None:
        return []
    first, newest = spanned
    weeks = [last_week(newest + timedelta(days=7), zone)]
    while len(weeks) < _WEEKS and weeks[-1].start > first:
        weeks.append(weeks[-1].before)
    return weeks


def _choose(data: DataDir, now: datetime, zone: ZoneInfo, who: Visitor) -> tuple[str, Period, Period] | None:
    weeks = _weeks(data, zone)
    if not weeks:
        empty(
            "No value is stored yet", "Start the pipeline with `ward up`; a first week is here within ninety seconds."
        )
        return None
    names = [one.name for one in weeks]
    left, middle, right = st.columns(3, vertical_alignment="bottom")
    # The week that is over, where there is one: half a week is not held against a whole one.
    over = next((number for number, one in enumerate(weeks) if one.stop <= now), 0)
    name = _week_box(middle, "Week", names, zone, index=over)
    shown = week(name, zone)
    others = [other for other in (shown.before.name, *names) if other != name]
    against = _week_box(right, "Against", list(dict.fromkeys(others)), zone)
    known = [unit for unit in _units(str(data.root), name, zone) if who.sees(unit)]
    if not known:
        empty(
            "No care unit is known", "No message, alert or stay names one: docs/reports.md says where units come from."
        )
        return None
    unit = left.selectbox("Unit", known, key="unit", bind="query-params")
    return unit, shown, week(against, zone)


def _week_box(place: DeltaGenerator, label: str, names: list[str], zone: ZoneInfo, index: int = 0) -> str:
    """A choice among weeks, which the address of the page keeps."""
    return place.selectbox(
        label,
        names,
        index=index,
        format_func=lambda text: week(text, zone).words,
        key=label.lower(),
        bind="query-params",
    )


@st.cache_data(ttl=KEPT_S, show_spinner=False)
def _units(root: str, name: str, _zone: ZoneInfo) -> tuple[str, ...]:
    return trends.units(_data(root), week(name, _zone))


@st.cache_data(ttl=KEPT_S, show_spinner="Reading the minutes of two weeks")
def _trends(root: str, unit: str, shown: str, against: str, zone_name: str, _pack: Pack) -> trends.Trends:
    zone = ZoneInfo(zone_name)
    periods = {"reported": week(shown, zone), "before": week(against, zone)}
    return trends.trends(_data(root), periods, _pack.limits, only=unit)


def _data(root: str) -> DataDir:
    from pathlib import Path

    return DataDir(Path(root))


def _content(data: DataDir, pack: Pack, unit: str, shown: Period, against: Period, now: datetime) -> None:
    found = _trends(str(data.root), unit, shown.name, against.name, shown.zone.key, pack)
    frame = found.of(unit)
    lacking = list(trend_report.lacks(found, unit, shown, now))
    if Report(unit, shown, found, pack.label).is_empty:
        empty(
            "Nothing is stored of this unit in this week", f"{trend_report.newest_words(found, shown)} Choose another."
        )
        return
    _summary(frame, against)
    if lacking:
        st.info("What these figures lack:\n" + "\n".join(f"- {text}" for text in lacking))
    _downloads(data, pack, unit, shown, now)
    _hours(frame, shown, against)
    _days(frame, shown, against)
    _rules(frame, pack, against)
    versions = ", ".join(f"{state.table} version {state.version}" for state in found.as_of)
    st.caption(
        f"Days and hours are {shown.zone.key}. Made of {versions}; read again after {KEPT_S // 60} minutes."
        " docs/reports.md says how each figure is made."
    )


def _summary(frame: pd.DataFrame, against: Period) -> None:
    with st.container(horizontal=True, gap="medium"):
        for key in KEYS:
            now, before = trend_report.figure(frame, key), trend_report.figure(frame, key, "before")
            told = trend_report.written(before, key)
            st.metric(
                key.title,
                trend_report.written(now, key),
                f"{against.name}: {told}" if before is not None else None,
                delta_color="off",
                delta_arrow="off",
                width="content",
            )


def _downloads(data: DataDir, pack: Pack, unit: str, shown: Period, now: datetime) -> None:
    """The weekly report, against the week before it whatever the page compares with; made when it is asked for."""

    def report() -> Report:
        return Report(
            unit,
            shown,
            _trends(str(data.root), unit, shown.name, shown.before.name, shown.zone.key, pack),
            pack.label,
        )

    name = Report(unit, shown, _nothing(), pack.label).file_name
    with st.container(horizontal=True):
        st.download_button(
            "Report as PDF",
            lambda: trend_report.pdf(report(), now),
            f"{name}.pdf",
            "application/pdf",
            on_click="ignore",
            icon=":material/picture_as_pdf:",
        )
        st.download_button(
            "Figures as CSV",
            lambda: trend_report.csv(report()),
            f"{name}.csv",
            "text/csv",
            on_click="ignore",
            icon=":material/table:",
        )


def _nothing() -> trends.Trends:
    return trends.Trends(pd.DataFrame(columns=list(trends.COLUMNS)), (), (), (), None)


def _hours(frame: pd.DataFrame, shown: Period, against: Period) -> None:
    """Heatmaps by day and hour, of both weeks."""
    st.subheader("By day and hour")
    signals = {signal.name: signal for signal in trends.VITAL_SIGNS}
    seen = [name for name in signals if not pick(frame, "vital_sign_hour", subject=name).empty]
    what = st.segmented_control(
        "Show",
        ["coverage", "beyond_limits", *seen],
        default="coverage",
        format_func=lambda name: _WHAT.get(name) or signals[name].display,
        key="by_hour",
    )
    what = what or "coverage"
    columns = st.columns(2)
    for column, period, name in zip(columns, (shown, against), ("reported", "before"), strict=True):
        if what in _WHAT:
            rows = pick(frame, what, subject="any", statistic="share", period=name)
            unit, heat, from_zero = "%", charts.SEEN if what == "coverage" else charts.BEYOND, True
        else:
            rows = pick(frame, "vital_sign_hour", subject=what, statistic="median", period=name)
            unit, heat, from_zero = signals[what].unit or "", charts.LEVEL, False
        rows = rows.dropna(subset=["hour"])
        with column:
            if rows.empty:
                st.caption(f"{period.words}: nothing is stored.")
                continue
            chart = charts.heatmap(rows, period.days, title=period.words, unit=unit, heat=heat, from_zero=from_zero)
            st.altair_chart(chart.properties(height=300), width="stretch")


_WHAT = {"coverage": "Minutes with a value", "beyond_limits": "Minutes beyond a limit"}


def _days(frame: pd.DataFrame, shown: Period, against: Period) -> None:
    st.subheader("By day")
    found: list[alt.Chart | alt.LayerChart] = []
    risks = trend_report.by_day(frame, "news2", "share").query("subject != 'any'")
    if not risks.empty:
        title = "NEWS2 risk, share of patient-hours (%)"
        colours = charts.RISK_COLOURS
        found.append(charts.stacked_by_day(risks, shown.days, by="subject", colours=colours, title=title, unit="%"))
    alerts = trend_report.by_day(frame, "alert", "per_patient_day", subject="any").query("detail != 'any'")
    if not alerts.empty:
        tones = {name: priority.colour for name, priority in PRIORITIES.items()}
        title = "Alerts per patient-day, by priority"
        found.append(charts.stacked_by_day(alerts, shown.days, by="detail", colours=tones, title=title, unit="alerts"))
    for signal in trends.VITAL_SIGNS:
        rows = pick(frame, "vital_sign", subject=signal.name).dropna(subset=["day"])
        if not rows.empty:
            covered = charts.value(frame, "coverage", "share", signal.name) or 0
            found.append(
                charts.spread(
                    rows,
                    shown.days,
                    title=f"{signal.display} ({signal.unit})",
                    subtitle=f"a value in {covered:.0f} % of the minutes; dashed: median of {against.name}",
                    before=charts.value(frame, "vital_sign", "median", signal.name, period="before"),
                )
            )
    columns = st.columns(2)
    for number, chart in enumerate(found):
        with columns[number % 2]:
            st.altair_chart(chart.properties(height=270), width="stretch")


def _rules(frame: pd.DataFrame, pack: Pack, against: Period) -> None:
    st.subheader("By rule")
    columns = st.columns(2)
    told = (
        ("alert", "per_patient_day", "Alerts per patient-day", "alerts per patient-day"),
        ("beyond_limits", "share", f"Minutes beyond each limit of {pack.label}", "%"),
    )
    for column, (measure, statistic, title, unit) in zip(columns, told, strict=True):
        now, before = (trend_report.whole(frame, measure, statistic, name) for name in ("reported", "before"))
        with column:
            if now.empty and before.empty:
                st.caption(f"{title}: none.")
                continue
            chart = charts.compared(now, before, title=f"{title}; grey: {against.name}", unit=unit)
            lines = len({*now["subject"], *before["subject"]})
            st.altair_chart(chart.properties(height=110 + 24 * lines), width="stretch")
