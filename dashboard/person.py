"""Who acts. Every page that lets somebody act asks here, and nowhere else."""

from dataclasses import replace

import streamlit as st  # noqa: TID253 - only a running Streamlit imports this package

from dashboard.access import Visitor
from lakehouse.caller import Kind

_KEY = "who"


def ask(visitor: Visitor) -> Visitor | None:
    """The visitor by name: as signed in, else as given in a field for as long as the session lasts; None before."""
    if visitor.kind != Kind.LOCAL:
        return visitor
    given = st.text_input(
        "Your name",
        key=_KEY,
        placeholder="as the alert's record shall have it",
        max_chars=100,
        persist_state="session",
        width=320,
    ).strip()
    return replace(visitor, name=given) if given else None
