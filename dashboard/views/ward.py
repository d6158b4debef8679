"""Page Ward: every monitored patient, those in greatest need first, and the open alerts."""

from collections.abc import Callable
from datetime import datetime
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

import pandas as pd  # noqa: TID253 - only a running Streamlit imports this package
import streamlit as st  # noqa: TID253 - as above

from alerting.bands import Arms
from dashboard import live, queries, tiles, ward
from dashboard.access import Visitor
from dashboard.clock import ago, moment, span
from dashboard.news2 import News2
from dashboard.palette import INK_ON_COLOUR, PRIORITIES
from dashboard.views.states import empty, explained
from lakehouse.datadir import DataDir
from lakehouse.reader import TableMissingError

REFRESH_S = 3
"""How often the page renews itself: the live cache is up to two seconds old, and a glance lasts longer."""

_EVERY_UNIT = "All units"
_NO_UNIT = "No unit known"


def page(
    data: DataDir, gateway: live.Gateway, limits: Arms, clock: Callable[[], datetime], zone: ZoneInfo, who: Visitor
) -> None:
    """Render the page; its content renews itself."""
    st.title("Ward")

    @st.fragment(run_every=REFRESH_S)
    def content() -> None:
        with explained():
            _content(data, gateway, limits, clock(), zone, who)

    content()


def _content(data: DataDir, gateway: live.Gateway, limits: Arms, now: datetime, zone: ZoneInfo, who: Visitor) -> None:
    try:
        latest = live.latest(gateway)
        notice = None
    except live.GatewayAwayError:
        latest = queries.latest(data, now, limits)
        notice = (
            "The gateway does not answer, or wants a key that this dashboard has not:"
            " these are the last stored values, up to ninety seconds old."
        )
    try:
        alerts = queries.open_alerts(data, now)
    except TableMissingError:
        alerts = pd.DataFrame(columns=["patient_id", "priority", "title", "state", "unit"])
        notice = "No alert has been stored yet: priorities are missing here until the first one is."
    latest, alerts = (frame[frame["unit"].map(who.sees).astype(bool)] for frame in (latest, alerts))
    everyone = ward.ward_tiles(latest, alerts, _scores(data, now))
    if not everyone:
        empty(
            "No patient is being monitored"
            if who.units is None
            else "No patient of your care units is being monitored",
            f"Nothing was received within the last {span(queries.ON_THE_WARD)}."
            " If devices are sending, look at `ward status`.",
        )
        return
    _summary(everyone, alerts, now, zone)
    if notice:
        st.info(notice)
    chosen = _choose(everyone)
    st.html(tiles.STYLE)
    for unit, group in groupby(sorted(chosen, key=lambda tile: tile.unit or "~"), key=lambda tile: tile.unit):
        members = list(group)
        st.subheader(f"{unit or _NO_UNIT} ({len(members)})")
        st.html(tiles.grid(members, now, zone))
    _alerts(alerts, {tile.patient_id for tile in chosen}, now, zone)


def _scores(data: DataDir, now: datetime) -> dict[str, News2]:
    try:
        return queries.news2(data, now)
    except TableMissingError:
        return {}


def _summary(everyone: list[ward.Tile], alerts: pd.DataFrame, now: datetime, zone: ZoneInfo) -> None:
    newest = max(tile.newest for tile in everyone)
    with st.container(horizontal=True, gap="medium"):
        st.metric("Patients", len(everyone), width="content")
        for priority in PRIORITIES.values():
            count = int((alerts["priority"] == priority.name).sum())
            st.metric(f"{priority.mark} {priority.name.capitalize()} priority alerts", count, width="content")
        st.metric(
            "Newest value", moment(newest, zone, now), help=f"{ago(newest, now)}; times are {zone.key}", width="content"
        )


def _choose(everyone: list[ward.Tile]) -> list[ward.Tile]:
    units = sorted({tile.unit or _NO_UNIT for tile in everyone})
    if len(units) < 2:
        return everyone
    unit = st.segmented_control("Unit", [_EVERY_UNIT, *units], default=_EVERY_UNIT, key="unit")
    if unit in (None, _EVERY_UNIT):
        return everyone
    return [tile for tile in everyone if (tile.unit or _NO_UNIT) == unit]


def _alerts(alerts: pd.DataFrame, patient_ids: set[str], now: datetime, zone: ZoneInfo) -> None:
    shown = alerts[alerts["patient_id"].isin(patient_ids)]
    st.subheader(f"Open alerts ({len(shown)})")
    if shown.empty:
        st.caption("None. An alert appears here once it is stored, within ninety seconds.")
        return
    shown = shown.assign(rank=[PRIORITIES[name].rank for name in shown["priority"]])
    shown = shown.sort_values(["rank", "opened_at"], kind="stable")
    table = pd.DataFrame(
        {
            "Priority": [f"{PRIORITIES[name].mark} {name}" for name in shown["priority"]],
            "Unit": shown["unit"],
            "Bed": shown["bed"],
            "Patient": shown["patient_id"],
            "Alert": shown["title"],
            "Value": shown["value"],
            "Limit": shown["limit_value"],
            "State": shown["state"],
            "Opened": [f"{moment(opened, zone, now)}, {ago(opened, now)}" for opened in shown["opened_at"]],
        }
    )
    numbers: dict[Any, Any] = {name: st.column_config.NumberColumn(format="%.1f") for name in ("Value", "Limit")}
    coloured = table.reset_index(drop=True).style.map(_colour, subset=["Priority"])
    st.dataframe(coloured, hide_index=True, width="stretch", column_config=numbers)


def _colour(text: object) -> str:
    colour = PRIORITIES[str(text).split()[-1]].colour
    return f"background-color: {colour}; color: {INK_ON_COLOUR}; font-weight: 600"
