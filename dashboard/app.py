"""The dashboard: a Streamlit script with its arguments behind it, ``app.py DATA_DIR GATEWAY_URL``."""

import sys
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from lakehouse.datadir import DataDir

# Streamlit leaves a fifth of a laptop's screen free above the title.
_STYLE = '<style>[data-testid="stMainBlockContainer"] { padding-top: 3.5rem; }</style>'


def render(data: DataDir, gateway: str, clock: Callable[[], datetime]) -> None:
    """Render the page that the address names."""
    import streamlit as st

    from alerting import pack
    from alerting.bands import arms
    from dashboard.clock import zone
    from dashboard.views import patient, trends, ward

    st.set_page_config(page_title="Wardhouse", page_icon=":material/monitor_heart:", layout="wide")
    st.html(_STYLE)
    rules = pack.load()
    here = zone(st.context.timezone)
    pages = [
        st.Page(
            partial(ward.page, data, gateway, arms(rules), clock, here),
            title="Ward",
            icon=":material/bed:",
            url_path="ward",
            default=True,
        ),
        st.Page(
            partial(patient.page, data, rules, clock, here),
            title="Patient",
            icon=":material/show_chart:",
            url_path="patient",
        ),
        st.Page(
            partial(trends.page, data, rules, clock, here),
            title="Trends",
            icon=":material/calendar_view_week:",
            url_path="trends",
        ),
    ]
    st.navigation(pages, position="top").run()


if __name__ == "__main__":
    render(DataDir(Path(sys.argv[1])), sys.argv[2], lambda: datetime.now(UTC))
