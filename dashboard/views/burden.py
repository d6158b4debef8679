"""Page Alarm burden: alarms by day, rule, unit and bed, and what another limit or delay would have done."""

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pandas as pd  # noqa: TID253 - only a running Streamlit imports this package
import streamlit as st  # noqa: TID253 - as above

from alerting import lab
from alerting.kinds import LimitRule
from alerting.lab import Summary
from alerting.pack import Pack
from alerting.words import lasting
from dashboard import burden, burden_charts
from dashboard.access import Visitor
from dashboard.burden import Burden
from dashboard.clock import moment
from dashboard.views.states import empty, explained
from dashboard.what_if import ANSWERED_AFTER_S, Asked, Job, changed
from lakehouse.datadir import DataDir

KEPT_S = 120
PERIODS = {
    "1 hour": timedelta(hours=1),
    "24 hours": timedelta(days=1),
    "7 days": timedelta(days=7),
    "28 days": timedelta(days=28),
}
_STEP = timedelta(minutes=1)
_BEDS_SHOWN = 200


def page(data: DataDir, pack: Pack, clock: Callable[[], datetime], zone: ZoneInfo, who: Visitor) -> None:
    """Render the page."""
    st.title("Alarm burden")
    with explained():
        now = clock()
        # To the minute: within it every look is at the same period, so that what is kept serves again.
        stop = now.replace(second=0, microsecond=0) + _STEP
        chosen = st.segmented_control(
            "Period", list(PERIODS), default="24 hours", key="period", bind="query-params", required=True
        )
        start = stop - PERIODS[chosen or "24 hours"]
        _content(data, pack, start, stop, now, zone, who)


@st.cache_data(ttl=KEPT_S, show_spinner="Counting alarms and bed-days")
def _burden(root: str, start: datetime, stop: datetime) -> Burden:
    return burden.burden(DataDir(Path(root)), start, stop)


def _content(
    data: DataDir, pack: Pack, start: datetime, stop: datetime, now: datetime, zone: ZoneInfo, who: Visitor
) -> None:
    found = _burden(str(data.root), start, stop)
    st.caption(
        f"From {moment(start, zone, now)} to {moment(stop, zone, now)}, days are {zone.key}."
        " An alarm is an alert that became active; stored alerts are up to ninety seconds old."
    )
    if found.alarms.empty and not found.bed_days:
        empty("Nothing was stored in this period", "Choose a longer one, or look at `ward status`.")
        return
    _summary(found)
    if found.alarms.empty:
        empty("No alarm in this period", "Beds were watched, and nothing was told of any of them.")
    else:
        _counts(found, zone, who)
    _what_if(data, pack, start, stop)


def _summary(found: Burden) -> None:
    rate = found.per_bed_day
    with st.container(horizontal=True, gap="medium"):
        st.metric("Alarms", f"{len(found.alarms):,}", width="content")
        st.metric("Bed-days watched", f"{found.bed_days:,.2f}", width="content")
        st.metric("Per bed and day", "not known" if rate is None else f"{rate:,.1f}", width="content")
        st.metric("Published", burden.PUBLISHED, width="content")
    st.caption(
        f"{burden.PUBLISHED}: audible alarms per bed and day in 77 adult intensive care beds"
        f" ([{burden.SOURCE}]({burden.SOURCE_URL})). Those were every sound of a monitor; here several values beyond a"
        " limit are one alarm. A rate from less than a day of beds says little."
    )


def _counts(found: Burden, zone: ZoneInfo, who: Visitor) -> None:
    seen = found.alarms[found.alarms["unit"].map(who.sees).astype(bool)]
    units = sorted(seen["unit"].unique())
    chosen = st.multiselect("Unit", units, key="unit", bind="query-params", placeholder="all units")
    alarms = burden.of_units(seen, chosen)
    left, right = st.columns(2)
    with left:
        st.altair_chart(burden_charts.by_day(burden.by_day(alarms, zone)), width="stretch")
        if found.per_bed_day is not None:
            st.altair_chart(burden_charts.beside(found.per_bed_day, burden.PUBLISHED), width="stretch")
    with right:
        rules = burden.by(alarms, "title", "priority")
        st.altair_chart(burden_charts.ranked(rules, "title", "Alarms by rule"), width="stretch")
    by_unit, by_rule, by_bed = st.tabs(["By unit", "By rule", "By bed"])
    for tab, columns in ((by_unit, ("unit",)), (by_rule, ("rule_id", "priority")), (by_bed, ("unit", "bed"))):
        with tab:
            _table(burden.by(alarms, *columns).head(_BEDS_SHOWN))


def _table(rows: pd.DataFrame) -> None:
    names = {"unit": "Unit", "bed": "Bed", "rule_id": "Rule", "priority": "Priority", "alarms": "Alarms"}
    shown = rows.assign(share=100 * rows["share"]).rename(columns={**names, "share": "Share"})
    st.dataframe(
        shown,
        hide_index=True,
        width="stretch",
        column_config={"Share": st.column_config.NumberColumn(format="%.0f %%")},
    )


def _what_if(data: DataDir, pack: Pack, start: datetime, stop: datetime) -> None:
    st.subheader("What if")
    rules = {rule.id: rule for rule in pack.rules if isinstance(rule, LimitRule)}
    which = st.selectbox("Rule", list(rules), format_func=lambda name: rules[name].title, key="rule", width=320)
    rule = rules[which]
    st.caption(f"Now, in {pack.label}: {lasting(rule)}. Source: {rule.reference}")
    with st.form(f"what-if-{which}"):
        left, middle, right = st.columns(3, vertical_alignment="bottom")
        limit = left.number_input(f"Limit ({rule.signal})", value=float(rule.limit), step=1.0, key=f"limit-{which}")
        delay = middle.number_input(
            "Delay in seconds", value=float(rule.delay_s), min_value=0.0, step=5.0, key=f"delay-{which}"
        )
        asked = right.form_submit_button("Compare", type="primary", icon=":material/compare_arrows:")
    if asked:
        _start(data, pack, which, limit, delay, start, stop)
    _watch()


def _start(data: DataDir, pack: Pack, rule: str, limit: float, delay: float, start: datetime, stop: datetime) -> None:
    if (before := st.session_state.pop("what_if", None)) is not None:
        before.stop()
    try:
        other = changed(pack, rule, limit, delay)
    except ValueError as error:
        st.error(f"The rule cannot be changed so: {error}")
        return
    st.session_state["what_if"] = Job(Asked(data.root, start, stop, (pack, other)))


def _watch() -> None:
    job: Job | None = st.session_state.get("what_if")
    if job is None:
        st.caption("Both are tried on the last value of each stored minute, by the engine that raises alerts.")
        return
    job.poll()
    if not job.is_over:
        _progress()
    elif job.error is not None:
        st.error(f"Nothing was compared: {job.error}")
    else:
        _result(job.found)


@st.fragment(run_every=1)
def _progress() -> None:
    job: Job | None = st.session_state.get("what_if")
    if job is None:
        return
    job.poll()
    if job.is_over:
        st.rerun()
    st.progress(job.share, text=f"Trying two packs on what is stored: {job.share:.0%}. You may leave this page.")
    if st.button("Stop", key="stop_what_if"):
        job.stop()
        del st.session_state["what_if"]
        st.rerun()


def _result(found: tuple[Summary, ...]) -> None:
    now, then = found
    if not now.evaluations:
        empty("There is nothing to compare", "No minute is stored in this period: choose a longer one.")
        return
    less = 1 - then.notifications / now.notifications if now.notifications else None
    if less is not None:
        st.markdown(f"**{then.pack}** tells {abs(less):.0%} {'less' if less >= 0 else 'more'} often than {now.pack}.")
    counts = pd.DataFrame(
        {"pack": one.pack, "rule": rule, "alerts": count / one.bed_days}
        for one in found
        for rule, count in one.by_rule.items()
        if one.bed_days
    )
    left, right = st.columns(2)
    with left:
        titles = ["", now.pack, then.pack]
        st.dataframe(pd.DataFrame(list(lab.table(found)), columns=titles), hide_index=True, width="stretch")
    with right:
        if not counts.empty:
            st.altair_chart(burden_charts.compared(counts), width="stretch")
    st.caption(
        f"Every alert is taken to be acknowledged {ANSWERED_AFTER_S:g} s after it was told. Minutes hide what happens"
        " within them, so that a delay below a minute changes little here; what an alert is worth, minutes cannot say:"
        " `ward alerts simulate` tries packs on labelled episodes."
    )
