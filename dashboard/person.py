"""Who acts. Every page that lets somebody act asks here, and nowhere else."""

import streamlit as st  # noqa: TID253 - only a running Streamlit imports this package

from dashboard.access import LOCAL, Visitor

_KEY = "who"


def ask(visitor: Visitor) -> Visitor | None:
    """The visitor by name: as signed in, else as given in a field for as long as the session lasts; None before."""
    if visitor.kind != LOCAL.kind:
        return visitor
    given = st.text_input(
        "Your name",
        key=_KEY,
        placeholder="as the alert's record shall have it",
        max_chars=100,
        persist_state="session",
        width=320,
    ).strip()
    return Visitor(LOCAL.kind, given) if given else None
