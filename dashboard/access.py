"""Who looks at the pages, whom they may see there, and the record of it."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import sha256

import streamlit as st  # noqa: TID253 - only a running Streamlit imports this package

from dashboard.views.states import empty
from lakehouse.audit import Event, Outcome, note
from lakehouse.caller import Caller, Kind, Scope
from lakehouse.claims import Provider, caller_of
from lakehouse.datadir import DataDir
from lakehouse.link import LinkError, patient_of

_SAME_LOOK = timedelta(minutes=15)
"""A page renews itself with each click: within this time it is one look."""


class Entry(StrEnum):
    """Who may come in: everybody on this machine, who signs in, or who has a link; a link opens each of them."""

    OPEN = "open"
    LOGIN = "login"
    LINK = "link"


@dataclass(frozen=True)
class Visitor(Caller):
    """``patient_id`` is the one patient whose page a link opens; None: all pages."""

    patient_id: str | None = None


LOCAL = Visitor(Kind.LOCAL, "local", frozenset(Scope))
"""Whoever is on this machine, where nobody has to sign in."""


def visitor(data: DataDir, entry: Entry, provider: Provider | None, now: datetime) -> Visitor | None:
    """Who looks; None where nobody may, and the page says so. ``provider`` says what claims of who signs in mean."""
    token = st.query_params.get("link")
    if token is not None:
        return _by_link(data, token, now)
    if entry is Entry.OPEN:
        return LOCAL
    if entry is Entry.LINK:
        empty("A link is needed", "This dashboard shows single patients by links that `ward link` makes.")
        return None
    if provider is not None and st.user.is_logged_in:
        st.sidebar.button("Sign out", on_click=st.logout)
        found = caller_of(st.user.to_dict(), provider)
        return Visitor(found.kind, found.name, found.scopes, found.units)
    empty("Please sign in", "Patients are shown to who is known here.")
    st.button("Sign in", on_click=st.login, type="primary")
    return None


def _by_link(data: DataDir, token: str, now: datetime) -> Visitor | None:
    # Tells links apart without opening anything.
    name = sha256(token.encode()).hexdigest()[:12]
    try:
        patient_id = patient_of(data, token, now)
        return Visitor(Kind.LINK, name, frozenset({Scope.READ}), patient_id=patient_id)
    except LinkError as error:
        _keep(data, Visitor(Kind.LINK, name, frozenset()), "open a link", None, "refused", now, str(error))
        empty("This link opens nothing", f"{str(error).capitalize()}.")
        return None


def looked(data: DataDir, who: Visitor, patient_id: str, now: datetime, page: str = "Patient") -> bool:
    """Record that somebody looks at a patient on a page; whether they may be shown, which takes a record."""
    return _keep(data, who, f"look at the page {page}", patient_id, "done", now)


def ordered(data: DataDir, who: Visitor, action: str, patient_id: str | None, outcome: Outcome) -> None:
    """Record an order about a patient's alerts. Raises OSError where that cannot be."""
    note(data, Event("dashboard", who.kind, who.name, action, outcome, patient_id))


def _keep(
    data: DataDir,
    who: Visitor,
    action: str,
    patient_id: str | None,
    outcome: Outcome,
    now: datetime,
    detail: str | None = None,
) -> bool:
    looks = st.session_state.setdefault("looks", {})
    same = (who, action, patient_id, detail)
    if same in looks and now - looks[same] < _SAME_LOOK:
        return True
    try:
        note(data, Event("dashboard", who.kind, who.name, action, outcome, patient_id, detail=detail))
    except OSError:
        empty("It cannot be recorded that you look", "So nothing is shown: the disk of this stack takes no record.")
        return False
    looks[same] = now
    return True
