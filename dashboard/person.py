"""Who is at the screen. Every page that lets somebody act asks here, and nowhere else."""

import streamlit as st  # noqa: TID253 - only a running Streamlit imports this package

_KEY = "who"


def who() -> str | None:
    """The name that the person gave, for as long as the session lasts; None before."""
    given = st.session_state.get(_KEY)
    return given.strip() or None if isinstance(given, str) else None


def ask() -> str | None:
    """Show the field for the name, and return what is in it."""
    st.text_input(
        "Your name",
        key=_KEY,
        placeholder="as the alert's record shall have it",
        max_chars=100,
        persist_state="session",
        width=320,
    )
    return who()
