"""Page Data quality: quarantine and error budget, age of tables, lag of flows, the newest checks."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd  # noqa: TID253 - only a running Streamlit imports this package
import streamlit as st  # noqa: TID253 - as above

from dashboard import quality, quality_charts
from dashboard.clock import ago, moment, span
from dashboard.quality import Flows
from dashboard.views.states import empty, explained
from lakehouse import quarantine
from lakehouse.datadir import DataDir
from lakehouse.quarantine import DEFAULT_LIMIT, NO_FAULT, DeviceDay
from lakehouse.reader import TableMissingError

REFRESH_S = 5
KEPT_S = 300
"""The error budget reads every value of the period."""
PERIODS = {"24 hours": timedelta(days=1), "7 days": timedelta(days=7)}


def page(data: DataDir, clock: Callable[[], datetime], zone: ZoneInfo) -> None:
    """Render the page; what tells of the running stack renews itself."""
    st.title("Data quality")

    @st.fragment(run_every=REFRESH_S)
    def running() -> None:
        now = clock()
        left, right = st.columns(2)
        with left:
            _flows(data, now)
        with right:
            _freshness(data, now, zone)

    running()
    with explained():
        _quarantine(data, clock(), zone)
    _checks(data, clock(), zone)


@st.cache_resource(show_spinner=False)
def _followed(root: str) -> Flows:
    return Flows(DataDir(Path(root)))


def _flows(data: DataDir, now: datetime) -> None:
    st.subheader("Flows")
    found = _followed(str(data.root)).status(now)
    heard = [flow for flow in found if flow.at is not None]
    if not heard:
        empty("No flow has run on this data dir", "Start the pipeline with `ward up`, or fill it with `ward backfill`.")
        return
    st.dataframe(
        pd.DataFrame(
            {
                "Flow": [flow.flow for flow in found],
                "Lag": [None if flow.lag is None else float(flow.lag) for flow in found],
                "Records/s": [flow.rate for flow in found],
                "Heard": ["never" if flow.at is None else ago(flow.at, now) for flow in found],
                "State": [flow.error or ("idle" if flow.idle else "") for flow in found],
            }
        ),
        hide_index=True,
        width="stretch",
        placeholder="",
        height=38 + 35 * len(found),
        column_config={
            "Lag": st.column_config.NumberColumn(format="%d", help="Records behind its source"),
            "Records/s": st.column_config.NumberColumn(format="%.1f"),
        },
    )
    st.caption(f"By what each flow last said of itself; renewed every {REFRESH_S} s.")


def _freshness(data: DataDir, now: datetime, zone: ZoneInfo) -> None:
    st.subheader("Tables")
    found = quality.freshness(data)
    st.dataframe(
        pd.DataFrame(
            {
                "Table": [one.table for one in found],
                "Written": [_when(one.written_at, now, zone) for one in found],
                "May be": [None if one.may_be is None else span(one.may_be) for one in found],
                "": ["! older" if one.is_late(now) else "" for one in found],
                "Flow": [one.flow for one in found],
            }
        ),
        hide_index=True,
        width="stretch",
        placeholder="",
        height=420,
    )
    st.caption(
        "Marked where its flow has written nothing for four times as long as it may be. Where nothing is sent that is"
        " no fault: the flow then has no lag."
    )


def _when(instant: datetime | None, now: datetime, zone: ZoneInfo) -> str:
    return "never" if instant is None else f"{moment(instant, zone, now)}, {ago(instant, now)}"


@st.cache_data(ttl=KEPT_S, show_spinner="Reading what devices sent")
def _budget(root: str, since: datetime, until: datetime) -> list[DeviceDay]:
    return quarantine.error_budget(DataDir(Path(root)), since, until)


def _quarantine(data: DataDir, now: datetime, zone: ZoneInfo) -> None:
    st.subheader("Quarantine")
    chosen = st.segmented_control(
        "Period", list(PERIODS), default="24 hours", key="period", bind="query-params", required=True
    )
    # To five minutes, as long as it is kept.
    until = now - timedelta(minutes=now.minute % 5, seconds=now.second, microseconds=now.microsecond)
    until += timedelta(minutes=5)
    days = _budget(str(data.root), until - PERIODS[chosen or "24 hours"], until)
    if not days:
        empty("Nothing was received in this period", "Choose a longer one, or look at the flows above.")
        return
    table = quality.budget(days, DEFAULT_LIMIT)
    over = int(table["over"].sum())
    with st.container(horizontal=True, gap="medium"):
        st.metric("Values received", f"{sum(day.observations for day in days):,}", width="content")
        st.metric("In quarantine", f"{sum(day.quarantined for day in days):,}", width="content")
        st.metric("At fault", f"{sum(day.faults for day in days):,}", width="content")
        st.metric("Device days over the limit", over, width="content")
    st.caption(
        f"The limit is {DEFAULT_LIMIT:.0%} of a device's values of a day (UTC)."
        f" Not held against it: {', '.join(NO_FAULT)}."
        f" Read at {moment(now, zone, now)}, and again after {KEPT_S // 60} minutes."
    )
    if table.empty:
        empty("Nothing is in quarantine", "Every value that came in this period could be used.")
        return
    left, right = st.columns(2)
    with left:
        st.altair_chart(quality_charts.reasons(quality.reasons(days)), width="stretch")
    with right:
        st.altair_chart(quality_charts.budget(table, DEFAULT_LIMIT), width="stretch")
    shown = table.assign(share=100 * table["share"], over=["! over" if over else "" for over in table["over"]])
    shown.columns = ["Day (UTC)", "Source", "Device", "Values", "Quarantined", "At fault", "Share", "Limit", "Reasons"]
    st.dataframe(
        shown,
        hide_index=True,
        width="stretch",
        column_config={"Share": st.column_config.NumberColumn(format="%.2f %%")},
    )
    st.caption("`ward quarantine list`, `show`, `fix` and `replay` look into them, mend them and send them again.")


def _checks(data: DataDir, now: datetime, zone: ZoneInfo) -> None:
    st.subheader("Checks")
    try:
        found = quality.newest_run(data)
    except TableMissingError:
        found = pd.DataFrame()
    if found.empty:
        empty(
            "No table has been checked yet",
            "`ward quality run` holds every table against what it promises; the DAG `data_quality` does so each hour.",
        )
        return
    failed = found[~found["success"]]
    at = found["checked_at"].max()
    with st.container(horizontal=True, gap="medium"):
        st.metric("Rules checked", len(found), width="content")
        st.metric("Broken", len(failed), width="content")
        st.metric("Checked", moment(at, zone, now), help=ago(at, now), width="content")
    if failed.empty:
        st.success(f"All {len(found)} rules of {found['table_name'].nunique()} tables hold.", icon=":material/check:")
    else:
        columns = {"table_name": "Table", "expectation": "Rule", "unexpected_count": "Rows", "detail": "Found"}
        st.dataframe(failed[list(columns)].rename(columns=columns), hide_index=True, width="stretch")
    st.caption("Every rule and the runs before, as a site: `ward quality docs` builds it and prints where it is.")
