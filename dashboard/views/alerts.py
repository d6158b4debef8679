"""Page Alerts: the inbox of outstanding alerts; acknowledge, silence and explain one of them."""

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote
from zoneinfo import ZoneInfo

import pandas as pd  # noqa: TID253 - only a running Streamlit imports this package
import streamlit as st  # noqa: TID253 - as above

from alerting import inbox as alerts
from alerting.answers import explanation, silenced
from alerting.compacted import TopicError
from alerting.in_force import in_force_at, started_with
from alerting.inbox import Row
from alerting.lifecycle import OPEN, State
from alerting.orders import OrderError, why_not_acknowledged_in
from alerting.pack import Pack, PackError
from alerting.stored import Tellings, tellings, transitions
from dashboard import inbox
from dashboard.access import Visitor, looked, ordered
from dashboard.clock import ago, moment, span
from dashboard.desk import Brokers, Desk, DeskAwayError
from dashboard.palette import INK_ON_COLOUR, PRIORITIES
from dashboard.person import ask
from dashboard.views.states import empty, explained
from lakehouse import progress
from lakehouse.caller import Scope
from lakehouse.datadir import DataDir
from lakehouse.pipeline import ALERT_ROUTER
from lakehouse.reader import TableMissingError
from lakehouse.topics import ALERT_RULES

REFRESH_S = 2
_TAKEN_WITHIN_S = 5.0
_ROUTER_QUIET = timedelta(seconds=60)
"""A router tells of itself every five seconds."""

_LASTING = {
    "15 min": timedelta(minutes=15),
    "30 min": timedelta(minutes=30),
    "1 h": timedelta(hours=1),
    "4 h": timedelta(hours=4),
    "12 h": timedelta(hours=12),
}
_ROWS_SHOWN = 500
"""More outstanding alerts than this are no list that anybody reads: filters narrow it."""


@st.cache_resource(show_spinner=False, on_release=lambda desk: desk.close())
def _desk(servers: str, names: tuple[tuple[str, str], ...]) -> Desk:
    """One for all who look at the page."""
    return Desk(Brokers(servers, dict(names))).start()


def page(data: DataDir, brokers: Brokers | None, clock: Callable[[], datetime], zone: ZoneInfo, who: Visitor) -> None:
    """Render the page; its content renews itself."""
    st.title("Alerts")
    desk = _desk(brokers.servers, tuple(sorted(brokers.names.items()))) if brokers else None
    by = ask(who)

    @st.fragment(run_every=REFRESH_S)
    def content() -> None:
        with explained():
            _content(data, brokers, desk, who, by, clock(), zone)

    content()


def _content(
    data: DataDir,
    brokers: Brokers | None,
    desk: Desk | None,
    who: Visitor,
    by: Visitor | None,
    now: datetime,
    zone: ZoneInfo,
) -> None:
    rows, away = _rows(data, desk)
    rows = [row for row in rows if who.sees(row["location_unit"])]
    chosen = _filtered(rows)
    _summary(rows)
    _freshness(data, away, now)
    if not chosen:
        open_ = len(inbox.outstanding(rows))
        advice = f"{open_} are outstanding in all: take filters away to see them." if open_ else "Nothing waits."
        empty("No alert is outstanding here", advice)
    else:
        _table(chosen, now, zone)
    row = _chosen(chosen, rows)
    if row is not None and looked(data, by or who, row["patient_id"], now, "Alerts"):
        _detail(data, brokers, None if away else desk, row, by, now, zone)
    if desk is not None and not away:
        _silences(desk, who, {row["patient_id"] for row in rows})


def _rows(data: DataDir, desk: Desk | None) -> tuple[list[Row], str | None]:
    """The alerts, and why they are not live where they are not. Raises TableMissingError."""
    try:
        if desk is not None:
            return desk.rows(), None
        away = "no broker is known"
    except DeskAwayError as error:
        away = str(error)
    return alerts.from_gold(data), away


def _filtered(rows: list[Row]) -> list[Row]:
    units = sorted({row["location_unit"] or inbox.NO_UNIT for row in rows if row["state"] in OPEN})
    asked = st.query_params.get_all("unit")
    left, middle, right = st.columns(3, vertical_alignment="bottom")
    unit = left.multiselect("Unit", sorted({*units, *asked}), key="unit", bind="query-params", placeholder="all units")
    priority = middle.multiselect(
        "Priority", list(PRIORITIES), key="priority", bind="query-params", placeholder="all priorities"
    )
    state = right.multiselect(
        "State",
        [one.value for one in State if one in OPEN],
        key="state",
        bind="query-params",
        placeholder="all that were told",
    )
    return inbox.outstanding(rows, unit, priority, state)


def _summary(rows: list[Row]) -> None:
    told = inbox.outstanding(rows)
    nobody = [row for row in told if row["state"] in (State.ACTIVE, State.ESCALATED)]
    with st.container(horizontal=True, gap="medium"):
        st.metric("Outstanding", len(told), width="content")
        for priority in PRIORITIES.values():
            count = sum(row["priority"] == priority.name for row in nobody)
            st.metric(f"{priority.mark} {priority.name.capitalize()}, nobody on it", count, width="content")


def _freshness(data: DataDir, away: str | None, now: datetime) -> None:
    if away is not None:
        st.warning(
            f"These are stored alerts, up to ninety seconds old, and nothing can be ordered: {away}.",
            icon=":material/cloud_off:",
        )
        return
    said = progress.last(data.progress(ALERT_ROUTER.name))
    at = datetime.fromisoformat(said["at"]) if said else None
    if at is None or now - at > _ROUTER_QUIET:
        heard = f"was last heard of {ago(at, now)}" if at else "has not been heard of"
        st.warning(
            f"The alert router {heard}: alerts neither open nor close, and orders wait for it. See `ward status`.",
            icon=":material/warning:",
        )
    else:
        st.caption(f"Live: what the router holds, at most two seconds old; renewed every {REFRESH_S} s.")


def _table(rows: list[Row], now: datetime, zone: ZoneInfo) -> None:
    shown = rows[:_ROWS_SHOWN]
    ids = tuple(row["alert_id"] for row in shown)
    # A choice is kept by its alert and never by its line: lines move under the hand. Other lines are another table.
    key = f"inbox-{hash(ids)}"

    def choose() -> None:
        picked = st.session_state[key].selection.rows
        if picked and picked[0] < len(ids):
            st.session_state["alert"] = ids[picked[0]]

    table = inbox.table(shown, now, zone)
    st.dataframe(
        table.style.map(_colour, subset=["Priority"]),
        hide_index=True,
        width="stretch",
        placeholder="",
        height=min(420, 38 + 35 * len(shown)),
        key=key,
        on_select=choose,
        selection_mode="single-row",
    )
    if len(rows) > len(shown):
        st.caption(f"The {len(shown)} most urgent of {len(rows)}: filter by unit, priority or state to see others.")


def _colour(text: object) -> str:
    colour = PRIORITIES[str(text).split()[-1]].colour
    return f"background-color: {colour}; color: {INK_ON_COLOUR}; font-weight: 600"


def _chosen(shown: list[Row], rows: list[Row]) -> Row | None:
    """The alert that is looked at; one that has ended, or that a filter leaves out, stays."""
    by_id = {row["alert_id"]: row for row in rows}
    options = [row["alert_id"] for row in shown]
    kept = st.session_state.get("alert") or st.query_params.get("alert")
    if kept in by_id:
        # By its id, and so not bound to the address by the widget, which would write what people read.
        st.session_state["alert"] = kept
        options = [*options, *({kept} - set(options))]
    if not options:
        return None
    picked = st.selectbox(
        "Alert",
        options,
        index=None,
        key="alert",
        format_func=lambda alert_id: inbox.named(by_id[alert_id]),
        placeholder="choose one here or in the table, to answer or to understand it",
    )
    if picked is None:
        st.query_params.pop("alert", None)
        return None
    st.query_params["alert"] = picked
    return by_id[picked]


def _detail(
    data: DataDir,
    brokers: Brokers | None,
    desk: Desk | None,
    row: Row,
    by: Visitor | None,
    now: datetime,
    zone: ZoneInfo,
) -> None:
    with st.container(border=True):
        priority = PRIORITIES[row["priority"]]
        st.subheader(f"{priority.mark} {row['title']}")
        said = f", by {row['acknowledged_by']}" if row["acknowledged_by"] else ""
        patient = f"[{row['patient_id']}](patient?id={quote(row['patient_id'], safe='')})"
        st.markdown(f"**{inbox.place(row)}**, patient {patient}. State: **{row['state']}**{said}.")
        _told(row)
        if desk is not None:
            _actions(data, desk, row, by)
        story, why = st.tabs(["Life cycle", "Explain"])
        with story:
            _story(data, row["alert_id"], now, zone)
        with why:
            _why(data, brokers, desk, row)


def _told(row: Row) -> None:
    """What the last order about this alert came to, until the next one."""
    alert_id, kind, text = st.session_state.get("ordered", (None, "", ""))
    if alert_id == row["alert_id"]:
        (st.success if kind == "taken" else st.error)(text)


def _actions(data: DataDir, desk: Desk, row: Row, by: Visitor | None) -> None:
    if by is not None and not by.may(Scope.ALERT):
        st.info("You may look at alerts, and not answer them.")
        return
    name = by.name if by else ""
    if by is None:
        st.info("Give your name above to acknowledge or silence: the alert's record says who did.")
    left, right = st.columns(2)
    with left, st.form(f"acknowledge-{row['alert_id']}", clear_on_submit=True):
        note = st.text_input("Comment (optional)", max_chars=1000, key=f"note-{row['alert_id']}")
        reason = why_not_acknowledged_in(State(row["state"]))
        if st.form_submit_button(
            "Acknowledge", type="primary", icon=":material/check:", disabled=by is None or reason is not None
        ):
            _order(data, by, "acknowledge", row, partial(_acknowledge, desk, row, name, note.strip() or None))
        st.caption(f"It {reason}." if reason else "You take it on: it is not escalated further.")
    with right, st.form(f"silence-{row['alert_id']}", clear_on_submit=True):
        why = st.text_input("Reason for silence", max_chars=1000, key=f"reason-{row['alert_id']}")
        what, lasting = st.columns(2)
        whole = what.selectbox("Of", ["this rule", "every rule"], key=f"of-{row['alert_id']}")
        length = lasting.selectbox("For", list(_LASTING), index=1, key=f"for-{row['alert_id']}")
        if st.form_submit_button("Silence", icon=":material/notifications_off:", disabled=by is None):
            rule = row["rule_id"] if whole == "this rule" else None
            _order(data, by, "silence", row, partial(_silence, desk, row, name, why.strip(), _LASTING[length], rule))


def _order(data: DataDir, by: Visitor | None, action: str, row: Row, give: Callable[[], str]) -> None:
    assert by is not None  # noqa: S101 - the buttons are off until there is a name
    try:
        told = ("taken", give())
    except (OrderError, DeskAwayError) as error:
        told = ("refused", f"Nothing was ordered: {error}.")
    try:
        ordered(data, by, action, row["patient_id"], "done" if told[0] == "taken" else "refused")
    except OSError as error:
        told = ("refused", f"{told[1]} It could not be recorded who ordered this: {error}.")
    st.session_state["ordered"] = (row["alert_id"], *told)
    st.rerun(scope="fragment")


def _acknowledge(desk: Desk, row: Row, by: str, note: str | None) -> str:
    desk.acknowledge(row["alert_id"], by, note)
    said = f"{row['title']} of {row['patient_id']} is acknowledged by {by}"
    if desk.is_so(row["alert_id"], State.ACKNOWLEDGED, _TAKEN_WITHIN_S):
        return f"{said}: the router has taken it."
    return f"{said}, but the router has not taken it yet. It takes it when it runs: see `ward status`."


def _silence(desk: Desk, row: Row, by: str, reason: str, lasting: timedelta, rule: str | None) -> str:
    if not reason:
        raise OrderError("a silence needs a reason, for whoever asks why nobody was told")
    made = desk.silence(by, reason, lasting, row["patient_id"], rule)
    what = f"rule {rule}" if rule else "every rule"
    return f"Silence {made.command_id}: {what} of {row['patient_id']} tells nobody for {span(lasting)}, by {by}."


def _silences(desk: Desk, who: Visitor, patients: set[str]) -> None:
    # One that names neither a patient nor a unit is of everybody.
    found = [
        one
        for one in desk.silences_in_force()
        if who.units is None
        or one.patient_id in patients
        or (one.patient_id is None and (one.location_unit is None or who.sees(one.location_unit)))
    ]
    with st.expander(f"Silences in force ({len(found)})"):
        for one in sorted(found, key=lambda silence: silence.until):
            st.text(silenced(one))
        st.caption("`ward alerts unsilence ID` ends one before its time.")


def _story(data: DataDir, alert_id: str, now: datetime, zone: ZoneInfo) -> None:
    events = _events(str(data.root), alert_id)
    if not events:
        st.caption("Its events are not stored yet: they land within ninety seconds.")
        return
    shown = pd.DataFrame(
        {
            "When": [moment(event["observed_at"], zone, now) for event in events],
            "State": [event["state"] for event in events],
            "Why": [str(event["reason"] or "").replace("_", " ") for event in events],
            "Value": [event["value"] for event in events],
            "Limit": [event["limit_value"] for event in events],
            "By": [event["actor"] or event["muted_by"] for event in events],
            "Note": [event["note"] for event in events],
        }
    )
    numbers: dict[Any, Any] = {name: st.column_config.NumberColumn(format="%.1f") for name in ("Value", "Limit")}
    st.dataframe(shown, hide_index=True, width="stretch", placeholder="", column_config=numbers)


def _why(data: DataDir, brokers: Brokers | None, desk: Desk | None, row: Row) -> None:
    events = _events(str(data.root), row["alert_id"])
    if not events:
        st.caption("It can be explained once its events are stored, within ninety seconds.")
        return
    told = _told_of(str(data.root), row["alert_id"])
    silences = desk.silences() if desk else None
    pack = _pack(str(data.root), brokers.servers if desk and brokers else None, brokers)
    lines = explanation(events, told.notifications, told.deliveries, pack=pack, silences=silences, missing=told.missing)
    st.code("\n".join(lines), language=None, wrap_lines=True)
    st.caption(f"The same in a terminal: `ward alerts explain {row['alert_id'][:12]}`; times here are UTC.")


@st.cache_data(ttl=5, show_spinner=False)
def _events(root: str, alert_id: str) -> list[dict[str, Any]]:
    try:
        return transitions(DataDir(Path(root)), alert_id)
    except TableMissingError:
        return []


@st.cache_data(ttl=5, show_spinner=False)
def _told_of(root: str, alert_id: str) -> Tellings:
    return tellings(DataDir(Path(root)), [alert_id])


@st.cache_resource(ttl=60, show_spinner=False)
def _pack(root: str, servers: str | None, _brokers: Brokers | None) -> Pack | None:
    """The pack in force, for the rule's words; None where it cannot be had."""
    data = DataDir(Path(root))
    try:
        if servers is not None and _brokers is not None:
            return in_force_at(servers, _brokers.topic(ALERT_RULES), data).pack
        return started_with(data).pack
    except (PackError, TopicError):
        return None
